"""Minutes of heavy load, for `make stress` (pytest -m stress); plain test runs leave this folder out.

The same claims as in tests/integration, with more of everything: 40,000 mixed requests against the sample
models, workers that are killed all the time, hundreds of vanishing clients, tens of thousands of bad
requests, and many ends of the server in the middle of its work. Takes about ten minutes on two cores.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.test_bad_requests import check_flat
from integration.test_samples import run_mixed_load
from support import load, wire
from support.explain_load import check_mixed
from support.models import link_sample, make_model, read_journal
from support.processes import children, is_running, is_zombie, open_files, resident_bytes, wait_until
from support.server import Server, free_port
from support.wire import connections

pytestmark = [pytest.mark.stress, pytest.mark.timeout(900), pytest.mark.usefixtures("linux")]
MEGABYTE = 1 << 20
logger = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    store = tmp_path_factory.mktemp("samples")
    for name in ("digits", "wine", "docstrings"):
        assert link_sample(store, name), f"{name} is not trained"
    with Server(store, "--queue-size", "1000") as running:
        yield running


def test_forty_thousand_mixed_requests(samples: Server) -> None:
    run_mixed_load(samples, 4_000, clients=64)
    before = [resident_bytes(pid) for pid in (samples.pid, *samples.workers())]
    for clients in (200, 16, 400, 64):
        run_mixed_load(samples, 9_000, clients=clients)
    after = [resident_bytes(pid) for pid in (samples.pid, *samples.workers())]
    assert max(new - old for old, new in zip(before, after, strict=True)) < 64 * MEGABYTE


def test_thirty_thousand_bad_requests(samples: Server) -> None:
    check_flat(samples, rounds=6, requests=5_000, oversize=20)


def test_workers_that_are_killed_all_the_time(tmp_path: Path) -> None:
    """No client sees a failure while one of three workers is killed every few seconds, at any moment."""
    make_model(tmp_path, "m", minWorkers=3, maxWorkers=3, batchSize=8, jobQueueSize=5_000)
    chance = random.Random(5)
    with Server(tmp_path) as server:
        files = len(open_files(server.pid))
        done = threading.Event()

        def kill() -> None:
            while not done.wait(chance.uniform(3, 5)):
                alive = [pid for pid in server.workers() if is_running(pid)]
                if len(alive) == 3:  # two deaths of one request are its end; one at a time is nobody's
                    os.kill(chance.choice(alive), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            requests = [
                {
                    "method": "POST",
                    "path": "/predictions/m",
                    "body": {"cmd": "tag", "tag": number, "s": 0.003},
                }
                for number in range(20_000)
            ]
            outcomes = asyncio.run(load.fire(server.port, requests, clients=48, keep_alive=(True, False)))
        finally:
            done.set()
            killer.join()
        assert [outcome.error for outcome in outcomes if outcome.response is None] == []
        answers = [outcome.response for outcome in outcomes if outcome.response is not None]
        assert [answer.body for answer in answers if answer.status != 200] == []
        assert [answer.json()["tag"] for answer in answers] == list(range(20_000))
        wait_until(lambda: sum(map(is_running, server.workers())) == 3, 60, "all workers are back")
        wait_until(lambda: len(open_files(server.pid)) <= files, 30, f"no more than {files} open files")
        assert not [pid for pid in children(server.pid) if is_zombie(pid)]


def test_hundreds_of_vanishing_clients(tmp_path: Path) -> None:
    """Waves of clients that leave at random moments: those that stay get their own answers."""
    make_model(tmp_path / "store", "m", batchSize=4, handler={"journal": str(tmp_path / "journal")})
    chance = random.Random(9)
    with Server(tmp_path / "store", "--queue-size", "1000") as server:
        for wave in range(20):
            with connections(server.port, 60) as clients:
                for number, client in enumerate(clients):
                    order = {"cmd": "tag", "tag": f"{wave}-{number}", "s": 0.02}
                    client.send(wire.encode("POST", "/predictions/m", order))
                time.sleep(chance.uniform(0, 0.3))
                leaving = set(chance.sample(range(60), 40))
                for number in leaving:
                    if chance.random() < 0.5:
                        linger = struct.pack("ii", 1, 0)
                        clients[number].socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    clients[number].socket.close()
                for number, client in enumerate(clients):
                    if number not in leaving:
                        assert client.response().json()["tag"] == f"{wave}-{number}"
        computed = [entry["tag"] for entry in read_journal(tmp_path / "journal")]
        assert len(computed) == len(set(computed)), "something was computed twice"
        assert len(computed) < 20 * 50, "what nobody waited for was computed all the same"
        assert "Traceback" not in server.log()


def test_twenty_ends_under_load(tmp_path: Path) -> None:
    """SIGTERM at random moments: what was accepted is answered, the exit status is 0, nobody is left."""
    make_model(tmp_path, "m", minWorkers=2, maxWorkers=2, batchSize=2, jobQueueSize=1_000)
    chance = random.Random(13)
    for _ in range(20):
        with Server(tmp_path) as server, connections(server.port, 40) as clients:
            workers = server.workers()
            for number, client in enumerate(clients):
                order = {"cmd": "sleep", "s": chance.uniform(0, 0.1), "tag": number}
                client.send(wire.encode("POST", "/predictions/m", order))
            time.sleep(chance.uniform(0.1, 0.5))
            server.signal(signal.SIGTERM)
            assert [client.response().json()["tag"] for client in clients] == list(range(40))
            assert server.wait_exit() == 0
            assert not any(is_running(pid) for pid in workers)


def test_a_minute_of_predictions_and_all_methods(tmp_path: Path) -> None:
    """64 clients; explanations on the workers of predictions, and on their own: no wrong answer or shape.

    Every method, protocol and kind of sample; what predictions took is logged, for people to judge.
    """
    for name in ("digits", "wine", "docstrings"):
        assert link_sample(tmp_path, name), f"{name} is not trained"
    for flags in ((), ("--explain-workers", "1")):
        port = free_port()
        more = ("--grpc-port", str(port), "--queue-size", "1000", "--explain-queue-size", "15", *flags)
        with Server(tmp_path, *more) as server:
            server.grpc_port = port
            if flags:
                wait_until(
                    lambda: server.log().count("explaining worker 0 is ready") == 3, 60, "all are ready"
                )
            alone = check_mixed(server, clients=64, seconds=10, only_predict=True)
            mixed = check_mixed(server, clients=64, seconds=60)
            workers = "own" if flags else "shared"
            logger.info("%s workers: %s; only predictions: %s", workers, mixed, alone)
            assert min(mixed.counts.values()) > 0, mixed.counts
            assert "Traceback" not in server.log()
