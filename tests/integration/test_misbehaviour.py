"""Handlers, clients and stores that misbehave in ways found by a hostile review."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import wait_until
from support.server import Server
from support.wire import Connection

HANDLERS = {
    "criteria_list": """
class Handler:
    def initialize(self, context):
        self.seen = {}

    def handle(self, data, context):
        criteria, answers = [], []
        for position, _ in enumerate(data):
            key = context.get_request_id(position)
            self.seen[key] = self.seen.get(key, 0) + 1
            count = self.seen[key]
            answers.append(f"{count} ")
            criteria.append(lambda answer, count=count: count >= 3)
        context.stopping_criteria = criteria
        return answers
""",
    "popper": """
def handle(data, context):
    if data is None:
        return None
    bodies = [row.pop("body") for row in data]
    if any(b"bad" in body for body in bodies):
        raise ValueError("bad")
    return [bytes(body) for body in bodies]
""",
    "stateful": """
class Handler:
    def initialize(self, context):
        self.sums = {}

    def handle(self, data, context):
        answers = []
        for position, row in enumerate(data):
            key = context.get_sequence_id(position)
            self.sums[key] = self.sums.get(key, 0) + int(bytes(row["body"]))
            answers.append(str(self.sums[key]))
        return answers
""",
    "streamer": """
import threading, time
from ts.handler_utils.utils import send_intermediate_predict_response

def late(ids, context):
    time.sleep(0.4)
    send_intermediate_predict_response(["SECRET"], ids, "late", 200, context)

def handle(data, context):
    if data is None:
        return None
    body = bytes(data[0].get("body") or b"")
    if body == b"late":
        threading.Thread(target=late, args=(dict(context.request_ids), context), daemon=True).start()
    elif body == b"sleep":
        time.sleep(0.8)
    else:
        send_intermediate_predict_response(["part "], context.request_ids, "part", 200, context)
    return ["end"]
""",
    "headers": """
def handle(data, context):
    if data is None:
        return None
    authorization = context.get_request_header(0, "Authorization")
    return [{"id": context.get_request_id(0), "authorization": authorization}]
""",
    "forker": """
import multiprocessing, time

class Handler:
    def initialize(self, context):
        fork = multiprocessing.get_context("fork")
        self.child = fork.Process(target=time.sleep, args=(120,), daemon=True)
        self.child.start()

    def handle(self, data, context):
        return ["ok"] * len(data)
""",
    "cancelled": """
import asyncio

def handle(data, context):
    if data is None:
        return None
    raise asyncio.CancelledError
""",
}
CONFIGS = {
    "criteria_list": "continuousBatching: true\nbatchSize: 4\n",
    "popper": "batchSize: 4\nmaxBatchDelay: 400\n",
    "stateful": "sequenceBatching: true\nmaxNumSequence: 2\nbatchSize: 2\n",
    "unsendable": "handler: {seed: 123456789012345678901234567890}\n",
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with all of the handlers above, and one model whose config no message can carry."""
    store = tmp_path_factory.mktemp("odd")
    for name, code in {**HANDLERS, "unsendable": HANDLERS["headers"]}.items():
        folder = store / name
        folder.mkdir()
        (folder / "handler.py").write_text(code)
        if name in CONFIGS:
            (folder / "model-config.yaml").write_text(CONFIGS[name])
    with Server(store, wait=False) as running:
        running.wait_started()
        yield running


def test_a_model_that_cannot_be_described_to_its_worker_stops_no_other(odd: Server):
    assert odd.get("/v1/models/headers").status == 200
    refused = odd.post("/v1/models/unsendable:predict", b'{"instances": [1]}')
    assert refused.status == 503
    assert "could not be started" in refused.json()["error"]


def test_stopping_criteria_may_be_a_list(odd: Server):
    assert odd.post("/predictions/criteria_list", b"x").body == b"1 2 3 "


def test_a_handler_may_take_its_rows_apart(odd: Server):
    answers: dict[bytes, int] = {}

    def ask(body: bytes) -> None:
        headers = [("Content-Type", "application/octet-stream")]
        answers[body] = odd.post("/predictions/popper", body, headers=headers).status

    threads = [threading.Thread(target=ask, args=(body,)) for body in (b"a", b"b", b"bad", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {b"a": 200, b"b": 200, b"c": 200, b"bad": 503}


def test_requests_without_a_sequence_do_not_use_up_the_places(odd: Server):
    headers = [("Content-Type", "application/octet-stream")]
    for _ in range(5):
        assert odd.post("/predictions/stateful", b"1", headers=headers).body == b"1"


def test_a_failing_neighbour_does_not_apply_state_twice(odd: Server):
    async def ask(name: str, body: bytes) -> tuple[int, bytes]:
        headers = [("Content-Type", "application/octet-stream"), ("ts_request_sequence_id", name)]
        response = await asyncio.to_thread(odd.post, "/predictions/stateful", body, headers=headers)
        return response.status, response.body

    async def together() -> list[tuple[int, bytes]]:
        return list(await asyncio.gather(ask("s1", b"1"), ask("s2", b"oops")))

    first, _ = asyncio.run(together())
    follow_up = asyncio.run(ask("s1", b"0"))
    assert first[0] == 503 or first == (200, b"1")
    assert follow_up[1] in (b"0", b"1")


def test_a_late_part_reaches_nobody(odd: Server):
    headers = [("Content-Type", "application/octet-stream")]
    assert odd.post("/predictions/streamer", b"late", headers=headers).body == b"end"
    assert odd.post("/predictions/streamer", b"sleep", headers=headers).body == b"end"


def test_head_of_a_stream_leaves_the_connection_usable(odd: Server):
    with Connection(odd.port) as connection:
        head = connection.request("HEAD", "/predictions/streamer", body=b"x")
        assert (head.status, head.body) == (200, b"")
        assert connection.request("GET", "/v1/models/headers").json() == {"name": "headers", "ready": True}


def test_http_1_0_gets_a_stream_without_chunks(odd: Server):
    with socket.create_connection(("127.0.0.1", odd.port), timeout=60) as connection:
        connection.sendall(b"POST /predictions/streamer HTTP/1.0\r\nContent-Length: 1\r\n\r\nx")
        raw = b"".join(iter(lambda: connection.recv(4096), b""))
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body == b"part end"


def test_trailers_are_no_headers(odd: Server):
    with Connection(odd.port) as connection:
        connection.send(
            b"POST /predictions/headers HTTP/1.1\r\nHost: x\r\nAuthorization: real\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nAuthorization: trailer\r\n\r\n"
        )
        assert connection.response("POST").json()["authorization"] == "real"


def send_trailers(connection: Connection) -> None:
    for _ in range(20_000):
        connection.send(b"x-trailer: " + b"y" * 1000 + b"\r\n")
        time.sleep(0.001)


def test_endless_trailers_are_refused(odd: Server):
    with Connection(odd.port) as connection:
        connection.send(b"POST /predictions/headers HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        with pytest.raises(ConnectionError):  # reset or broken pipe, whichever comes first
            send_trailers(connection)


def test_two_requests_with_the_clients_id_are_two_to_the_handler(odd: Server):
    headers = [("x-request-id", "same")]
    first, second = (odd.post("/predictions/headers", b"x", headers=headers) for _ in range(2))
    assert first.header("x-request-id") == second.header("x-request-id") == "same"
    assert first.json()["id"] != second.json()["id"]
    assert first.json()["id"].startswith("same.")


def test_a_worker_that_dies_is_noticed_though_its_child_lives(odd: Server):
    assert odd.post("/predictions/forker", b"x").status == 200
    worker = next(pid for pid in odd.workers() if (odd_children := _children(pid)) and odd_children)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: worker not in odd.workers(), 60, "the dead worker to be noticed")
    assert odd.post("/predictions/forker", b"x").status == 200


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(number) for number in path.read_text().split()] if path.exists() else []


def test_an_exception_that_is_no_exception_is_the_requests_error(odd: Server):
    workers = set(odd.workers())
    assert odd.post("/predictions/cancelled", b"x").status == 503
    assert workers <= set(odd.workers())


def test_a_reload_with_half_a_copy_keeps_what_is_served(tmp_path: Path):
    store = tmp_path / "store"
    (store / "kept").mkdir(parents=True)
    (store / "kept" / "handler.py").write_text(HANDLERS["headers"])
    archive = shutil.make_archive(str(tmp_path / "m"), "zip", store / "kept")
    shutil.copy(archive, store / "zipped.mar")
    with Server(store) as server:
        assert server.post("/predictions/zipped", b"x").status == 200
        whole = (store / "zipped.mar").read_bytes()
        (store / "zipped.mar").write_bytes(whole[: len(whole) // 2])
        server.signal(signal.SIGHUP)
        server.wait_log("cut short")
        assert server.post("/predictions/zipped", b"x").status == 200
        store.rename(tmp_path / "away")
        server.signal(signal.SIGHUP)
        server.wait_log("nothing is changed")
        assert server.post("/predictions/kept", b"x").status == 200
        (tmp_path / "away").rename(store)
        (store / "zipped.mar").write_bytes(whole)
        (store / "kept" / "handler.py").write_text(
            "def handle(data, context):\n    return ['new'] * len(data or [])\n"
        )
        server.signal(signal.SIGHUP)
        wait_until(lambda: server.post("/predictions/kept", b"x").body == b"new", 60, "the new handler")
        assert json.loads(server.get("/v1/models").body) == {"models": ["kept", "zipped"]}
