"""Thousands of requests that are wrong: each gets its error, nothing breaks, nothing grows."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from support import load
from support.processes import resident_bytes
from support.server import Server
from support.wire import Connection

MEGABYTE = 1 << 20

pytestmark = pytest.mark.usefixtures("linux")


def bad_request(chance: random.Random) -> dict[str, Any]:
    """Return one of many kinds of requests that no protocol takes."""
    garbage = chance.randbytes(chance.choice([0, 1, 50, 5_000]))
    name = f"m{chance.randrange(10**9)}"
    path, body = chance.choice(
        [
            ("/predictions/digits", garbage),
            ("/predictions/digits", b"\x89PNG\r\n\x1a\n" + garbage),
            ("/predictions/wine", garbage),
            ("/predictions/wine", b'{"alcohol": '),
            (f"/predictions/{name}", garbage),
            (f"/predictions/wine/{name}", garbage),
            (f"/{name}/{name}", garbage),
            ("/v1/models/wine:predict", garbage),
            ("/v1/models/wine:predict", b'{"instances": [{}]}'),
            (f"/v1/models/{name}:predict", b'{"instances": [1]}'),
            (f"/v1/models/wine:{chance.choice(['predict', 'explain'])}", hostile_json(chance, "instances")),
            ("/v2/models/wine/infer", garbage),
            *((f"/v2/models/{model}/infer", hostile_tensor(chance)) for model in ("wine", "digits")),
            (f"/v2/models/{name}/infer", garbage),
            ("/predict/wine", hostile_json(chance, "alcohol")),
            ("/predict/wine", b'{"alcohol": 1}'),
            ("/predict/wine", b'{"%b": 1}' % name.encode()),
            (f"/predict/{name}", b"{}"),
            ("/predict", b"{}"),
        ]
    )
    headers = [("x-request-id", f"bad-{name}"), (f"X-{name}", "1")]
    if "/v2/" in path and chance.random() < 0.5:
        length = chance.choice(["-1", "x", str(10**30), str(len(body) + 1), "1"])
        headers.append(("Inference-Header-Content-Length", length))
    return {"method": "POST", "path": path, "body": body, "headers": headers}


def hostile_json(chance: random.Random, key: str) -> bytes:
    """Return a JSON object whose value is nested, not finite, huge, or no UTF-8."""
    deep = b"[" * 2_000 + b"]" * 2_000
    long = b"[" + b"9" * 400 + b"]"
    value = chance.choice([deep, long, b"[NaN]", b"[1e999]", b'["\xff"]', b'[{"a": {}}]'])
    return b'{"%b": %b}' % (key.encode(), value)


def hostile_tensor(chance: random.Random) -> bytes:
    """Return a V2 request whose shape, lengths or elements are not what they claim."""
    entry: dict[str, Any] = {
        "name": chance.choice(["image", "alcohol", "x"]),
        "datatype": chance.choice(["FP32", "BYTES", "FP64", "INT8", "nope"]),
        "shape": chance.choice([[-1, -1], [2**62, 2**62], [1] * 50, [0, 2**62], [3], []]),
    }
    if chance.random() < 0.5:
        entry["data"] = chance.choice([[], [[[]]], ["a", 1], [1e308, 2], {"a": 1}, None])
    else:
        entry["parameters"] = {"binary_data_size": chance.choice([-1, 0, 5, 2**40, "5", True])}
    return json.dumps({"inputs": [entry] * chance.choice([0, 1, 2])}).encode()


def send_bad_requests(server: Server, count: int, seed: int) -> None:
    chance = random.Random(seed)
    requests = [bad_request(chance) for _ in range(count)]
    outcomes = asyncio.run(load.fire(server.port, requests, clients=16, keep_alive=(True, False)))
    assert [outcome.error for outcome in outcomes if outcome.response is None] == []
    for request, outcome in zip(requests, outcomes, strict=True):
        response = outcome.response
        assert response is not None
        assert 400 <= response.status < 500, (request, response)
        assert set(response.json()) in ({"code", "type", "message"}, {"error"}, {"detail"})


def send_oversize(server: Server, count: int) -> None:
    for _ in range(count):
        with Connection(server.port) as connection:
            connection.send(b"POST /predictions/digits HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
            part = b"%x\r\n%b\r\n" % (MEGABYTE, b"x" * MEGABYTE)
            for _ in range(7):
                connection.send(part)
            assert connection.response().status == 413


def test_thousands_of_bad_requests_leave_nothing_behind(samples: Server) -> None:
    check_flat(samples, rounds=3, requests=1_000, oversize=5)


def check_flat(server: Server, rounds: int, requests: int, oversize: int) -> None:
    """Send bad requests in rounds; after the first, neither process may grow, and no crash is logged."""
    before = server.log().count("Traceback")
    workers = server.workers()
    sizes = []
    for number in range(rounds):
        send_bad_requests(server, requests, seed=number)
        send_oversize(server, oversize)
        sizes.append([resident_bytes(pid) for pid in (server.pid, *workers)])
    growth = [last - first for first, last in zip(sizes[0], sizes[-1], strict=True)]
    # Six rounds were seen within 177 MB +- 7: the allocator keeps the room of a body or two (6.5 MB each).
    # Keeping the oversize bodies of two rounds would cost 65.
    assert max(growth) < 40 * MEGABYTE, growth
    assert server.workers() == workers
    assert server.log().count("Traceback") == before
    assert server.get("/v2/health/ready").status == 200
