"""The application through plain ASGI, as any server or test client would call it."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import uuid

import pytest

from predictor.errors import HandlerFailed, InvalidInput, PayloadTooLarge, PredictorError
from predictor.http.application import Application
from predictor.http.coding import CodedProtocol
from predictor.http.messages import HttpResponse, json_response
from predictor.telemetry.logging import AccessLog


class Echo:
    """Answers with what it got, or does what the test says."""

    def __init__(self):
        self.seen = []
        self.act = None

    async def handle(self, request):
        self.seen.append(request)
        if self.act is not None:
            return await self.act(request) if asyncio.iscoroutinefunction(self.act) else self.act(request)
        return json_response(request.body or b"null")

    def render_error(self, error):
        if isinstance(error, PayloadTooLarge):
            return HttpResponse(413, close=True, bare=True)
        return json_response(json.dumps({"error": error.message}).encode(), error.status)


async def _fallback(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            status = 499
            break
        body += message.get("body", b"")
        if not message.get("more_body"):
            status = 200
            break
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"fallback:" + body})


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
def log():
    return io.StringIO()


@pytest.fixture
def app(echo, log):
    def find(method, path):
        return None if path.startswith("/kserve") else echo

    made = Application(find, _fallback, max_request_size=10, access_log=AccessLog("json", log))
    yield made
    made._access_log._timer = None


class Answer:
    def __init__(self, messages):
        start, *rest = messages
        self.status = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        self.chunks = [message.get("body", b"") for message in rest]
        self.body = b"".join(self.chunks)
        self.complete = not rest[-1].get("more_body", False)


async def _call(app, path="/echo", method="POST", body=(b"",), headers=(), query=b""):
    sent = []
    parts = list(body)
    messages = [
        {"type": "http.request", "body": part, "more_body": index < len(parts) - 1}
        for index, part in enumerate(parts)
    ] + [{"type": "http.disconnect"}]
    source = iter(messages)

    async def receive():
        return next(source)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        "client": ("10.0.0.1", 5),
    }
    await app(scope, receive, send)
    return Answer(sent)


def _lines(app, log):
    app._access_log.flush()
    return [json.loads(line) for line in log.getvalue().splitlines()]


async def test_a_request_as_a_protocol_sees_it(app, echo):
    await _call(
        app,
        "/a/b/",
        "PUT",
        body=(b"12", b"34"),
        headers=[("Content-Type", "text/plain"), ("content-type", "last/one")],
        query=b"x=1&y=%20z&e=",
    )
    (request,) = echo.seen
    assert (request.method, request.path, request.segments) == ("PUT", "/a/b", ["a", "b"])
    assert request.body == b"1234"
    assert request.header("content-type") == "last/one"
    assert request.header("missing") == ""
    assert request.query() == [("x", "1"), ("y", " z"), ("e", "")]


async def test_the_root_has_no_segments(app, echo):
    await _call(app, "/", "GET")
    assert echo.seen[0].path == ""
    assert echo.seen[0].segments == []
    assert echo.seen[0].query() == []


async def test_headers_that_go_with_every_answer(app):
    answer = await _call(app, body=(b"7",))
    uuid.UUID(answer.headers.pop("x-request-id"))
    assert answer.headers == {
        "content-type": "application/json",
        "content-length": "1",
        "pragma": "no-cache",
        "cache-control": "no-cache; no-store, must-revalidate, private",
        "expires": "Thu, 01 Jan 1970 00:00:00 UTC",
    }


async def test_a_protocol_cannot_override_them(app, echo):
    mine = ["X-Request-Id", "Pragma", "cache-control", "Expires", "Content-Length", "Connection"]
    echo.act = lambda request: HttpResponse(200, b"ab", [(name, "mine") for name in mine])
    answer = await _call(app)
    assert "mine" not in answer.headers.values()
    assert answer.headers["content-length"] == "2"


async def test_the_clients_request_id_is_kept_and_returned(app, echo):
    answer = await _call(app, headers=[("X-Request-Id", "abc-1")])
    assert answer.headers["x-request-id"] == "abc-1"
    assert echo.seen[0].request_id == "abc-1"


@pytest.mark.parametrize("bad", ["", "x" * 129, "é"])
async def test_an_unusable_request_id_is_replaced(app, bad):
    answer = await _call(app, headers=[("x-request-id", bad)])
    uuid.UUID(answer.headers["x-request-id"])


async def test_a_body_at_the_limit_is_accepted(app):
    assert (await _call(app, body=(b"0123456789",))).status == 200


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ((b"01234567890",), []),
        ((b"01234", b"56789", b"0"), []),
        ((b"",), [("content-length", "11")]),
    ],
    ids=["whole", "in parts", "declared"],
)
async def test_a_body_past_the_limit_is_refused(app, echo, body, headers):
    answer = await _call(app, body=body, headers=headers)
    assert answer.status == 413
    assert answer.headers == {"content-length": "0"}
    assert echo.seen == []


async def test_a_declared_length_past_the_limit_is_refused_before_anything_is_read(app):
    async def receive():
        raise AssertionError("the body was read")

    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/echo",
        "headers": [(b"content-length", b"99999")],
        "query_string": b"",
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == 413


class CodedEcho(Echo, CodedProtocol):
    """As `Echo`, for bodies that may come coded."""


@pytest.mark.parametrize(
    ("echo", "compress_from", "seen", "answer"),
    [
        (Echo(), 1, "coded", "coded"),
        (CodedEcho(), 0, "plain", "plain"),
        (CodedEcho(), 1, "plain", "coded"),
    ],
)
async def test_only_some_protocols_take_codings_and_only_some_servers_answer_in_them(
    echo, compress_from, seen, answer
):
    made = Application(lambda method, path: echo, _fallback, 100, None, compress_from=compress_from)
    texts = {"plain": b"x" * 90, "coded": gzip.compress(b"x" * 90)}
    headers = [("content-encoding", "gzip"), ("accept-encoding", "gzip")]
    response = await _call(made, body=[texts["coded"]], headers=headers)
    assert echo.seen[0].body == texts[seen]
    is_coded = seen == "plain" and answer == "coded"
    assert response.headers.get("content-encoding") == ("gzip" if is_coded else None)
    assert (gzip.decompress(response.body) if is_coded else response.body) == texts[seen]


async def test_the_limit_is_that_of_the_inflated_body_too(log):
    made = Application(lambda method, path: CodedEcho(), _fallback, 100, None)
    body = gzip.compress(b"x" * 101)
    response = await _call(made, body=[body], headers=[("content-encoding", "gzip")])
    assert response.status == 413


async def test_an_unknown_coding_is_refused_with_the_known_ones(log):
    made = Application(lambda method, path: CodedEcho(), _fallback, 100, None)
    response = await _call(made, body=[b"x"], headers=[("content-encoding", "br")])
    assert (response.status, response.headers["accept-encoding"]) == (415, "gzip, deflate")


async def test_errors_are_rendered_by_the_protocol(app, echo):
    def refuse(request):
        raise InvalidInput("field 'x' is missing")

    echo.act = refuse
    answer = await _call(app)
    assert answer.status == 400
    assert json.loads(answer.body) == {"error": "field 'x' is missing"}


async def test_a_surprise_is_a_500_that_says_nothing_to_the_client_and_all_to_the_log(app, echo, caplog):
    def explode(request):
        raise RuntimeError("secret path /etc/x")

    echo.act = explode
    answer = await _call(app, headers=[("x-request-id", "req-9")])
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert "secret path" in caplog.text
    assert "req-9" in caplog.text


async def test_streams(app, echo):
    async def parts():
        yield b"two"
        yield b"three"

    echo.act = lambda request: HttpResponse(200, b"one", stream=parts())
    answer = await _call(app)
    assert answer.body == b"onetwothree"
    assert answer.complete
    assert "content-length" not in answer.headers


async def test_a_stream_that_breaks_off_is_not_completed(app, echo):
    async def parts():
        yield b"two"
        raise HandlerFailed("broken")

    echo.act = lambda request: HttpResponse(200, b"one", stream=parts())
    with pytest.raises(PredictorError):
        await _call(app)


async def test_a_client_that_leaves_while_it_sends(app, echo, log):
    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        raise AssertionError("there is nobody to answer")

    scope = {"type": "http", "method": "POST", "path": "/echo", "headers": [], "query_string": b""}
    with pytest.raises(asyncio.CancelledError):
        await app(scope, receive, send)
    assert echo.seen == []
    assert _lines(app, log)[0]["status"] == 499


async def test_paths_that_nobody_claims_go_to_kserve(app, log):
    answer = await _call(app, "/kserve", body=(b"abc",))
    assert answer.body == b"fallback:abc"
    assert _lines(app, log)[0]["status"] == 200


async def test_for_kserve_a_body_past_the_limit_ends_as_if_the_client_had_left(app):
    answer = await _call(app, "/kserve", body=(b"01234", b"56789", b"0"))
    assert answer.status == 499
    assert answer.body == b"fallback:0123456789"


async def test_other_kinds_of_connection_go_to_kserve():
    seen = []

    async def fallback(scope, receive, send):
        seen.append(scope["type"])

    app = Application(lambda method, path: None, fallback, 10, None)
    await app({"type": "lifespan"}, None, None)
    assert seen == ["lifespan"]


async def test_one_line_for_each_request(app, log):
    await _call(app, headers=[("x-request-id", "r1")])
    await _call(app, "/")
    first, second = _lines(app, log)
    assert first["method"] == "POST"
    assert (first["path"], first["status"], first["request_id"]) == ("/echo", 200, "r1")
    assert first["client"] == "10.0.0.1"
    assert first["ms"] >= 0
    assert second["path"] == "/"


async def test_no_log_when_it_is_off(echo):
    app = Application(lambda method, path: echo, _fallback, 10, None)
    assert (await _call(app)).status == 200


async def test_a_server_that_will_stop_asks_clients_to_come_back(app, echo):
    responses = []

    def keep(request):
        responses.append(HttpResponse(200, b""))
        return responses[-1]

    echo.act = keep
    await _call(app)
    app.closing = True
    await _call(app)
    assert [response.close for response in responses] == [False, True]
