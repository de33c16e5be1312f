"""Start, stop, signals and settings of the server process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support import load, wire
from support.models import REPOSITORY, make_model, read_journal
from support.processes import is_running, wait_until
from support.scrape import accepted
from support.server import Server, free_port
from support.wire import Connection, connections

pytestmark = pytest.mark.usefixtures("linux")
WATCH = Path(__file__).parent.parent / "support" / "watch"


def store_with(tmp_path: Path, **config: Any) -> Path:
    """A store with one model, `m`, that notes what it computes in tmp_path/journal."""
    make_model(tmp_path / "store", "m", handler={"journal": str(tmp_path / "journal")}, **config)
    return tmp_path / "store"


def sleep(seconds: float, tag: str) -> bytes:
    return wire.encode("POST", "/predictions/m", {"cmd": "sleep", "s": seconds, "tag": tag})


def tags(tmp_path: Path) -> list[str]:
    return [entry["tag"] for entry in read_journal(tmp_path / "journal")]


def ended(pids: list[int]) -> bool:
    return not any(is_running(pid) for pid in pids)


# -- start


def test_models_that_cannot_be_loaded_leave_the_others_served(tmp_path: Path) -> None:
    store = store_with(tmp_path)
    retry = {"maxRetryTimeoutInSec": 3}
    make_model(store, "broken", handler={"load_error": "the weights are of last year"}, **retry)
    make_model(store, "endless", handler={"load_seconds": 600}, startupTimeout=4, maxRetryTimeoutInSec=300)
    (store / "corrupt.mar").write_bytes(b"this is no archive")
    with Server(store, wait=False) as server:
        server.wait_status("/v2/health/live", 200)
        assert server.get("/v2/health/ready").status == 503
        assert server.get("/ping").json() == {"status": "Unhealthy"}, "healthy before anything is loaded"
        server.wait_started()
        log = server.log()
        assert "corrupt.mar" in log
        assert "the weights are of last year" in log
        assert "loading took too long" in log
        assert server.post("/predictions/m", {"cmd": "tag", "tag": 1}).json()["tag"] == 1
        assert server.get("/v1/models/m").json()["ready"] is True
        for name in ("broken", "endless"):
            refused = server.post(f"/predictions/{name}", b"x")
            assert (refused.status, refused.json()["type"]) == (503, "ServiceUnavailableException")
            assert int(refused.header("retry-after") or 0) >= 1
            state = server.get(f"/v1/models/{name}")
            assert state.status == 503
        assert server.post("/v1/models/broken:predict", {"instances": [1]}).status == 503
        assert server.post("/predict/broken", {"a": 1}).status == 503
        assert server.get("/health").status == 503
        ready = server.get("/v2/health/ready")
        assert (ready.status, ready.json()) == (503, {"ready": False})
        # Once a model has been given up: unhealthy for TorchServe's clients, to be restarted for Kubernetes.
        server.wait_status("/ping", 500)
        assert server.get("/ping").json() == {"status": "Unhealthy"}
        assert server.get("/v2/health/live").status == 503
        assert server.post("/predictions/m", {"cmd": "tag", "tag": 2}).json()["tag"] == 2


def test_ping_is_healthy_while_workers_are_restarted(tmp_path: Path) -> None:
    with Server(store_with(tmp_path, maxRetryTimeoutInSec=60)) as server:
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        seen = []
        wait_until(lambda: not is_running(worker), 60, "the worker is dead")
        while server.get("/v2/health/ready").status != 200:
            seen.append(server.get("/ping").status)
            time.sleep(0.1)
        assert set(seen) <= {200}


def run(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "predictor", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_starts_that_fail_say_why(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    nothing = run("serve", "--model-store", str(empty), "--port", str(free_port()))
    assert nothing.returncode == 1
    assert str(empty) in nothing.stderr
    missing = run("serve", "--model-store", str(tmp_path / "missing"), "--port", str(free_port()))
    assert missing.returncode == 1
    assert "missing" in missing.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        occupied = run("serve", "--model-store", str(store_with(tmp_path)), "--port", port)
    assert occupied.returncode == 1
    assert port in occupied.stderr
    wrong = run("serve", "--port", "banana")
    assert wrong.returncode == 2
    assert "--port" in wrong.stderr
    wrong = run("serve", environment={"PREDICTOR_QUEUE_SIZE": "0"})
    assert wrong.returncode == 2
    assert "PREDICTOR_QUEUE_SIZE" in wrong.stderr
    for each in (nothing, missing, occupied, wrong):
        assert "Traceback" not in each.stderr


def test_help_names_every_setting() -> None:
    shown = run("serve", "--help")
    assert shown.returncode == 0
    for flag in ("--model-store", "--host", "--port", "--max-batch-delay", "--drain-delay", "--config"):
        assert flag in shown.stdout
    assert "PREDICTOR_" in shown.stdout


# -- settings


def test_precedence_of_settings(tmp_path: Path) -> None:
    """Flags win over the environment, the environment over the file; what is unknown is only reported."""
    port = free_port()
    config = tmp_path / "settings.yaml"
    config.write_text(
        json.dumps(
            {"port": 1, "max_request_size": 50, "model_name": "from_the_file", "max_response_size": 500}
        )
    )
    environment = {
        "PREDICTOR_PORT": "2",
        "PREDICTOR_MAX_REQUEST_SIZE": "1000",
        "PREDICTOR_TEST_WATCH": str(tmp_path / "watch.json"),
        "PYTHONPATH": str(WATCH),
    }
    flags = (
        "--config",
        str(config),
        "--port",
        str(port),
        "--frobnicate=7",
        "--enable-latency-logging",
        "yes",
    )
    server = Server(store_with(tmp_path), *flags, environment=environment, port=port)
    with server:
        assert server.post("/predictions/m", b"x" * 1000).status == 200
        assert server.post("/predictions/m", b"x" * 1001).status == 413
        assert server.post("/predictions/from_the_file", {"cmd": "big", "n": 500}).status == 200
        assert server.post("/predictions/from_the_file", {"cmd": "big", "n": 501}).status == 500
        log = server.log()
        assert "--frobnicate=7" in log
        assert "--enable-latency-logging" in log
        lines = [line for line in log.splitlines() if "frobnicate" in line]
        assert len(lines) == 1
        assert "warning" in lines[0].lower()
        # The same server shows what its front end is made of.
        wait_until((tmp_path / "watch.json").exists, 60, "the watcher has reported")
        wait_until(
            lambda: json.loads((tmp_path / "watch.json").read_text())["loops"], 60, "a loop is running"
        )
        report = json.loads((tmp_path / "watch.json").read_text())
        assert report == {"loops": ["uvloop.Loop"], "torch": False, "kserve": True}


# -- stop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_every_accepted_request_is_answered(tmp_path: Path, number: signal.Signals) -> None:
    """Under load: readiness turns false, what was accepted is answered, then the process exits with 0."""
    store = store_with(tmp_path, minWorkers=2, maxWorkers=2, jobQueueSize=1000)
    with (
        Server(store, environment={"PREDICTOR_DRAIN_DELAY": "5"}) as server,
        connections(server.port, 21) as (idle, *waiting),
    ):
        workers = server.workers()
        assert idle.request("GET", "/ping").status == 200
        for position, connection in enumerate(waiting):
            connection.send(sleep(0.1, f"waiting-{position}"))
        outcomes: list[load.Outcome] = []
        stop = threading.Event()
        loader = threading.Thread(target=lambda: outcomes.extend(asyncio.run(keep_asking(server.port, stop))))
        if number == signal.SIGTERM:
            loader.start()
        # Ctrl-C has no drain delay: what is still on its way to the server would be refused.
        sent = 20 if number == signal.SIGINT else 30
        wait_until(lambda: accepted(server.port, "m") >= sent, 60, "the server has taken what was sent")
        server.signal(number)
        if number == signal.SIGTERM:
            server.wait_status("/v2/health/ready", 503)
            stop.set()  # a load balancer stops now; what still comes before it notices is welcome
            assert server.get("/ping").status in (200, 500)
            late = server.post("/predictions/m", {"cmd": "tag", "tag": "late"})
            assert late.json()["tag"] == "late"
            assert late.header("connection") == "close"
            loader.join()
        for position, connection in enumerate(waiting):
            response = connection.response()
            assert (response.status, response.json()["tag"]) == (200, f"waiting-{position}")
        assert idle.closed_by_server()
        assert server.wait_exit() == 0
        assert [
            outcome for outcome in outcomes if not outcome.response or outcome.response.status != 200
        ] == []
        assert number == signal.SIGINT or len(outcomes) >= 10
        assert ended(workers)
        assert "Traceback" not in server.log()
        assert sorted(tag for tag in tags(tmp_path) if tag.startswith("waiting")) == sorted(
            f"waiting-{position}" for position in range(20)
        )


async def keep_asking(port: int, stop: threading.Event) -> list[load.Outcome]:
    """Send requests from ten clients until `stop` is set, as clients do that look at readiness."""
    outcomes: list[load.Outcome] = []

    async def run(number: int) -> None:
        client = load.Client(port)
        while not stop.is_set():
            body = {"cmd": "tag", "tag": f"asked-{number}", "s": 0.005}
            outcomes.append(await load.attempt(client, method="POST", path="/predictions/m", body=body))
            await asyncio.sleep(0.01)
        client.close()

    await asyncio.gather(*(run(number) for number in range(10)))
    return outcomes


def test_second_signal_stops_at_once(tmp_path: Path) -> None:
    with Server(store_with(tmp_path)) as server:
        workers = server.workers()
        with Connection(server.port) as connection:
            connection.send(sleep(60, "long"))
            wait_until(lambda: "long" in tags(tmp_path), 60, "the request runs")
            server.signal(signal.SIGTERM)
            server.wait_log("SIGTERM: draining")
            assert is_running(server.pid)
            server.signal(signal.SIGTERM)
            server.wait_exit(45)  # the request takes 60 s
        wait_until(lambda: ended(workers), 60, "the workers have ended")


def test_grace_period_ends(tmp_path: Path) -> None:
    """Neither a handler that never ends nor a client that never finishes its upload keeps a pod alive."""
    with Server(store_with(tmp_path), "--grace-period", "2") as server:
        workers = server.workers()
        with Connection(server.port) as running, Connection(server.port) as uploading:
            running.send(sleep(120, "for ever"))
            uploading.send(
                wire.encode("POST", "/predictions/m", headers=[("Content-Length", "100")]) + b"only this"
            )
            wait_until(lambda: "for ever" in tags(tmp_path), 60, "the request runs")
            server.signal(signal.SIGTERM)
            server.wait_exit()
        wait_until(lambda: ended(workers), 60, "the workers have ended")


def test_sigterm_while_models_are_loading(tmp_path: Path) -> None:
    make_model(
        tmp_path / "store", "slow", handler={"load_seconds": 600, "load_marker": str(tmp_path / "marker")}
    )
    with Server(tmp_path / "store", "--grace-period", "2", wait=False) as server:
        server.wait_status("/v2/health/live", 200)
        wait_until((tmp_path / "marker").exists, 60, "the model is being loaded")
        workers = server.workers()
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        wait_until(lambda: ended(workers), 60, "the workers have ended")


def test_workers_end_with_a_killed_front_end(tmp_path: Path) -> None:
    store = store_with(tmp_path)
    make_model(store, "other")
    with Server(store) as server:
        workers = server.workers()
        assert len(workers) == 2
        with Connection(server.port) as connection:
            connection.send(sleep(60, "stuck"))
            wait_until(lambda: "stuck" in tags(tmp_path), 60, "one of them is busy")
            server.signal(signal.SIGKILL)
            assert server.wait_exit() == -signal.SIGKILL
        wait_until(lambda: ended(workers), 60, "the workers have ended")


def test_worker_that_dies_while_draining_is_replaced(tmp_path: Path) -> None:
    with Server(store_with(tmp_path)) as server, connections(server.port, 5) as waiting:
        (worker,) = server.workers()
        for position, connection in enumerate(waiting):
            connection.send(sleep(0.3, f"drained-{position}"))
        wait_until(
            lambda: tags(tmp_path) and accepted(server.port, "m") == 5, 60, "one request runs, four wait"
        )
        server.signal(signal.SIGTERM)
        os.kill(worker, signal.SIGKILL)
        answers = [connection.response() for connection in waiting]
        assert [answer.status for answer in answers] == [200] * 5
        assert server.wait_exit() == 0
