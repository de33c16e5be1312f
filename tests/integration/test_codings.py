"""Compressed requests and answers over the wire, with other people's clients."""

from __future__ import annotations

import gzip
import json
import zlib

import numpy as np
import pytest
import requests
from support.models import make_model
from support.processes import peak_bytes
from support.server import Server
from support.v2_store import make_echo

CODERS = {"gzip": gzip.compress, "deflate": zlib.compress}
LENGTH = "Inference-Header-Content-Length"
ROWS = np.arange(3000, dtype=np.float32).reshape(1, -1)
ROUTES = {
    "/v1/models/echo:predict": ({"instances": [{"x": ROWS[0].tolist()}]}, "predictions"),
    "/v2/models/echo/infer": (
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3000], "data": ROWS.tolist()}]},
        "outputs",
    ),
    "/predict/echo": ({"x": ROWS.tolist()}, "y"),
    "/predictions/echo": ({"x": ROWS[0].tolist()}, "y"),
}


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """A server that compresses answers from 1000 bytes on and takes requests of a million."""
    store = tmp_path_factory.mktemp("coded")
    make_echo(store, "echo", "float32", 1)
    make_model(store, "probe")
    with Server(store, "--compress-from", "1000", "--max-request-size", "1000000") as running:
        yield running


def _post(server, path, body, *headers):
    return server.post(path, body, headers=headers, content_type="application/json")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("coding", CODERS)
def test_a_compressed_request_is_answered_like_a_plain_one(coded, path, coding):
    document, key = ROUTES[path]
    body = json.dumps(document).encode()
    plain = _post(coded, path, body)
    packed = _post(coded, path, CODERS[coding](body), ("Content-Encoding", coding), ("x-request-id", "mine"))
    assert plain.status == packed.status == 200, packed
    assert plain.json()[key] == packed.json()[key]
    assert (packed.header("content-encoding"), packed.header("vary")) == (None, "Accept-Encoding")


@pytest.mark.parametrize("coding", CODERS)
def test_the_length_of_the_json_is_that_of_the_inflated_one(coded, coding):
    entry = {"name": "x", "datatype": "FP32", "shape": [1, 3000], "parameters": {"binary_data_size": 12000}}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    answer = _post(
        coded,
        "/v2/models/echo/infer",
        CODERS[coding](head + ROWS.tobytes()),
        ("Content-Encoding", coding),
        ("Accept-Encoding", coding),
        (LENGTH, str(len(head))),
    )
    assert (answer.status, answer.header("content-encoding")) == (200, coding), answer
    assert len(answer.body) == int(answer.header("content-length")) < 12000
    body = gzip.decompress(answer.body) if coding == "gzip" else zlib.decompress(answer.body)
    assert body[int(answer.header(LENGTH)) :] == ROWS.tobytes()


@pytest.mark.parametrize("path", ROUTES)
def test_an_answer_is_compressed_for_a_client_that_always_asks(coded, path):
    document, key = ROUTES[path]
    url = f"http://127.0.0.1:{coded.port}{path}"
    packed = requests.post(url, json=document, timeout=60)
    plain = requests.post(url, json=document, headers={"Accept-Encoding": "identity"}, timeout=60)
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.json()[key] == plain.json()[key]
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])


def test_a_handler_of_torchserve_gets_the_body_as_it_came(coded):
    body = gzip.compress(b'{"a": 1}')
    report = _post(coded, "/predictions/probe", body, ("Content-Encoding", "gzip")).json()
    assert (report["params"]["body"]["type"], report["params"]["body"]["len"]) == ("bytearray", len(body))
    assert report["headers"]["Content-Encoding"] == "gzip"


def test_a_handler_on_v1_gets_the_inflated_body_and_no_word_of_its_coding(coded):
    body = gzip.compress(b'{"instances": ["hi"]}')
    answer = _post(coded, "/v1/models/probe:predict", body, ("Content-Encoding", "gzip"))
    (report,) = answer.json()["predictions"]
    assert report["params"]["data"]["value"] == "hi"
    lower = {name.lower(): value for name, value in report["headers"].items()}
    assert "content-encoding" not in lower
    assert lower["content-length"] == "21"


@pytest.mark.parametrize("path", ROUTES)
def test_what_cannot_be_inflated_is_refused(coded, path):
    whole = gzip.compress(json.dumps(ROUTES[path][0]).encode())
    for body in (whole[:-1], whole[:100], b"plain", whole + b"x"):
        answer = _post(coded, path, body, ("Content-Encoding", "gzip"))
        assert answer.status == 400
        assert "Content-Encoding is gzip" in str(answer.json())
    answer = _post(coded, path, whole, ("Content-Encoding", "br"))
    assert (answer.status, answer.header("accept-encoding")) == (415, "gzip, deflate")
    assert "gzip, deflate" in str(answer.json())
    answer = _post(coded, path, whole, ("Content-Encoding", "gzip"), ("Content-Encoding", "gzip"))
    assert answer.status == 415


def test_a_bomb_is_refused_and_costs_no_memory(coded, linux):
    bomb = gzip.compress(bytes(200_000_000))
    assert len(bomb) < 1_000_000
    before = peak_bytes(coded.pid)
    for path in ROUTES:
        assert _post(coded, path, bomb, ("Content-Encoding", "gzip")).status == 413
    assert peak_bytes(coded.pid) - before < 50_000_000
