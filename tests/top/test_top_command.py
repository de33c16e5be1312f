"""The command, as scripts use it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from top_fakes import FakeClient, page

from predictor.top.client import Client, ServerGone
from predictor.top.command import Watch, main


@pytest.fixture
def server():
    """A server that wants a token, and answers with `pages` in turn; its address is `url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.headers["Authorization"] != "Bearer secret":
                self.send_error(401)
                return
            if self.server.pages is None:
                self.answer(404, "") if self.path == "/metrics" else self.answer(200, _INDEX)
                return
            self.answer(200, self.server.pages.pop(0) if len(self.server.pages) > 1 else self.server.pages[0])

        def answer(self, status, text):
            body = text.encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.pages = [page(requests=10), page(requests=30)]
        listening.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


_INDEX = json.dumps([{"name": "digits", "version": "1.0", "state": "READY"}])


def _run(*words):
    slept = []
    return main(words, slept.append), slept


def test_once_prints_the_rates_of_one_interval(server, capsys, monkeypatch):
    monkeypatch.setenv("PREDICTOR_TOKEN", "secret")
    status, slept = _run("--once", "--url", server.url, "--interval", "3")
    assert (status, slept) == (0, [3.0])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"predictor 9.9 {server.url}")
    assert lines[-1].startswith("digits")


def test_without_a_terminal_it_prints_once(server, capsys, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    status, _ = _run("--url", server.url, "--token-file", str(tmp_path / "token"))
    assert status == 0
    assert "digits" in capsys.readouterr().out


def test_json_for_scripts(server, capsys):
    status, _ = _run("--once", "--json", "--url", server.url, "--token", "secret", "--interval", "0")
    document = json.loads(capsys.readouterr().out)
    assert status == 0
    assert document["version"] == "9.9"
    (model,) = document["models"]
    assert model["model"] == "digits"
    assert model["requests_total"] == 10
    assert model["requests_per_second"] is None


def test_a_line_of_json_for_each_look(server, capsys):
    looks = []

    def stop(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    assert main(["--json", "--url", server.url, "--token", "secret", "--interval", "1.5"], stop) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["models"][0]["requests_total"] for line in lines] == [10, 30, 30]
    assert looks == [1.5, 1.5, 1.5]


def test_the_servers_own_token_file_will_do(server, tmp_path):
    file = tmp_path / "tokens"
    file.write_text("# who may do what\n\nmanagement: other\ninference: secret\nthird\n")
    assert _run("--once", "--url", server.url, "--token-file", str(file), "--interval", "0")[0] == 0


@pytest.mark.parametrize("text", ["good\nbad token\n", "management: secret", "# nothing\n", "r: secret"])
def test_an_unusable_token_file_is_told_without_its_tokens(server, tmp_path, capsys, text):
    file = tmp_path / "tokens"
    file.write_text(text)
    assert _run("--once", "--url", server.url, "--token-file", str(file))[0] == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "token_file" in line
    assert "bad" not in line
    assert "secret" not in line


def test_an_unusable_token_is_not_shown(server, capsys, monkeypatch):
    monkeypatch.setenv("PREDICTOR_TOKEN", "my\nsecret")
    assert _run("--once", "--url", server.url)[0] == 2
    assert capsys.readouterr().err.startswith("predictor top: PREDICTOR_TOKEN is not a token")


def test_a_wrong_token_is_explained(server, capsys):
    status, _ = _run("--once", "--url", server.url, "--token", "wrong")
    captured = capsys.readouterr()
    assert status == 1
    assert "401" in captured.err
    assert "--token-file" in captured.err
    assert "wrong" not in captured.out + captured.err


def test_a_server_without_metrics_tells_states(server, capsys):
    server.pages = None
    status, _ = _run("--once", "--url", server.url, "--token", "secret")
    assert status == 0
    assert "only states are known" in capsys.readouterr().out


def test_no_server_at_all(capsys):
    assert _run("--once", "--json", "--url", "127.0.0.1:1")[0] == 1
    captured = capsys.readouterr()
    assert "Connection refused" in captured.err
    assert json.loads(captured.out) == {
        "error": "http://127.0.0.1:1 does not answer: Connection refused",
        "models": [],
    }


@pytest.mark.parametrize(
    "words",
    [
        ["--url", "ftp://x"],
        ["--url", "http://"],
        ["--interval", "-1"],
        ["--interval", "soon"],
        ["--token-file", "/nowhere/token"],
        ["--nonsense"],
    ],
)
def test_wrong_words_are_refused(words, capsys):
    try:
        status = main(words)
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert capsys.readouterr().err


def test_a_server_that_goes_away_and_comes_back():
    gone = ServerGone("http://x does not answer")
    watch = Watch(FakeClient(page(requests=10), gone, gone, page(requests=40)))
    assert watch.look()
    assert not watch.look()
    assert (watch.problem, watch.rows[0].model) == ("http://x does not answer", "digits")
    assert not watch.look()
    assert watch.look()
    assert watch.problem == ""
    assert watch.rows[0].requests > 0


def test_an_answer_that_is_no_metrics():
    watch = Watch(FakeClient("<html>hello</html>"))
    assert not watch.look()
    assert watch.problem


def test_an_authority_that_cannot_be_read(tmp_path):
    with pytest.raises(ServerGone):
        Client("https://127.0.0.1:1", ca_file=tmp_path / "none.pem").metrics()
