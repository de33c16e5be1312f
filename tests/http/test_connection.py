"""One HTTP/1.1 connection, its bytes in and out through a fake transport."""

from __future__ import annotations

import asyncio

import pytest
from support.http_client import Client

from predictor.errors import HandlerFailed
from predictor.http.connection import MAX_HEAD_BYTES
from predictor.http.messages import HttpResponse


@pytest.fixture
async def client():
    made = Client()
    yield made
    made.close()


def _parse(data):
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines), body


def _get(path="/", *headers, version="1.1"):
    return "\r\n".join([f"GET {path} HTTP/{version}", "Host: x", *headers, "", ""]).encode("latin-1")


def _post(body, *headers):
    head = ["POST /p HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


async def test_names_of_headers_keep_the_clients_spelling(client):
    await client.send(_get("/", "X-MiXed: One", "x-mixed: Two", "X-Latin: \xe9"))
    (request,) = client.protocol.seen
    assert ("X-MiXed", "One") in request.headers
    assert ("x-mixed", "Two") in request.headers
    assert ("X-Latin", "\xe9") in request.headers
    assert request.header("x-mixed") == "Two"


async def test_one_request_in_many_pieces(client):
    data = _post(b"hello")
    answer = await client.send(*(data[i : i + 1] for i in range(len(data))))
    assert _parse(answer)[2] == b"hello"


async def test_requests_on_one_connection_are_answered_in_order(client):
    answer = await client.send(_post(b"one") + _post(b"two") + _post(b"three"))
    positions = [answer.index(body) for body in (b"one", b"two", b"three")]
    assert positions == sorted(positions)
    assert not client.transport.closing


async def test_keeping_and_closing(client):
    assert _parse(await client.send(_get()))[1]["connection"] == "keep-alive"
    assert _parse(await client.send(_get("/", "Connection: close")))[1]["connection"] == "close"
    assert client.transport.closing


async def test_http_1_0_with_keep_alive(client):
    first, headers, _ = _parse(await client.send(_get("/", "Connection: keep-alive", version="1.0")))
    assert first == "HTTP/1.1 200 OK"
    assert headers["connection"] == "keep-alive"
    assert not client.transport.closing


async def test_a_response_may_end_the_connection(client):
    client.protocol.response = lambda request: HttpResponse(503, b"", close=True)
    assert _parse(await client.send(_get()))[1]["connection"] == "close"
    assert client.transport.closing


async def test_a_server_that_stops_closes_after_the_answer(client):
    client.app.closing = True
    assert _parse(await client.send(_get()))[1]["connection"] == "close"
    assert client.transport.closing


@pytest.mark.parametrize(
    ("status", "phrase", "line"),
    [
        (200, None, "200 OK"),
        (200, "", "200 "),
        (201, "Made", "201 Made"),
        (413, None, "413 Request Entity Too Large"),
        (418, None, "418 Client Error (418)"),
        (422, None, "422 Unprocessable Entity"),
        (507, None, "507 Insufficient Storage"),
        (599, None, "599 Server Error (599)"),
    ],
)
async def test_reason_phrases_are_torchserves(client, status, phrase, line):
    client.protocol.response = lambda request: HttpResponse(status, b"x", phrase=phrase)
    assert _parse(await client.send(_get()))[0] == f"HTTP/1.1 {line}"


@pytest.mark.parametrize("evil", ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "\r\n\r\nbody"])
async def test_nobody_can_add_headers_through_a_phrase_a_name_or_a_value(client, evil):
    client.protocol.response = lambda request: HttpResponse(
        200, b"ok", [("x-value", evil), (evil, "value")], phrase=evil
    )
    answer = await client.send(_get())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert body == b"ok"
    assert not any(line.lower().startswith(b"x-evil") for line in head.replace(b"\r", b"\n").split(b"\n"))


async def test_characters_that_no_header_can_hold_are_replaced(client):
    client.protocol.response = lambda request: HttpResponse(200, b"ok", [("x", "\u20ac")], phrase="\u20ac")
    first, headers, _ = _parse(await client.send(_get()))
    assert first == "HTTP/1.1 200 ?"
    assert headers["x"] == "?"


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body(client, status):
    client.protocol.response = lambda request: HttpResponse(status, b"ignored")
    _, headers, body = _parse(await client.send(_get()))
    assert body == b""
    assert headers.get("content-length") == {204: None, 304: "7"}[status]


async def test_head_has_the_length_but_not_the_body(client):
    client.protocol.response = lambda request: HttpResponse(200, b"12345")
    _, headers, body = _parse(await client.send(_get().replace(b"GET", b"HEAD", 1)))
    assert headers["content-length"] == "5"
    assert body == b""


async def test_streams_are_chunked(client):
    async def parts():
        yield b"two"
        yield b""
        yield b"three"

    client.protocol.response = lambda request: HttpResponse(200, b"one", stream=parts())
    _, headers, body = _parse(await client.send(_get()))
    assert headers["transfer-encoding"] == "chunked"
    assert "content-length" not in headers
    assert body == b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"
    assert not client.transport.closing


async def test_a_stream_that_breaks_off_ends_without_its_last_chunk(client):
    async def parts():
        yield b"two"
        raise HandlerFailed("broken")

    client.protocol.response = lambda request: HttpResponse(200, b"one", stream=parts())
    answer = await client.send(_get())
    assert answer.endswith(b"3\r\ntwo\r\n")
    assert client.transport.closing


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01", b"GIMME / HTTP/1.1\r\n\r\n", b"GET / HTTP/9\r\n\r\n"]
)
async def test_what_is_not_http_gets_torchserves_answer(client, garbage):
    first, headers, body = _parse(await client.send(garbage))
    assert first == "HTTP/1.1 400 Bad Request"
    assert headers["connection"] == "close"
    assert int(headers["content-length"]) == len(body)
    assert b'"Invalid HTTP message."' in body
    assert client.transport.closing


async def test_a_head_without_end_is_refused(client):
    client.connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n")
    for _ in range(MAX_HEAD_BYTES // 1000 + 1):
        if client.transport.closing:
            break
        client.connection.data_received(b"X-A: " + b"a" * 993 + b"\r\n")
    assert client.take().startswith(b"HTTP/1.1 400 ")
    assert client.transport.closing


async def test_a_large_body_does_not_count_as_head(client):
    body = b"b" * 900
    for _ in range(100):
        assert _parse(await client.send(_post(body)))[2] == body


async def test_a_body_past_the_limit_is_refused_at_once_and_heard_out(client):
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"
    first, headers, body = _parse(await client.send(head + b"part"))
    assert first == "HTTP/1.1 413 Request Entity Too Large"
    assert headers == {"content-length": "0", "connection": "close"}
    assert body == b""
    assert not client.transport.closing, "the client may still be sending, and must be able to read"
    await client.send(b"x" * 4996)
    assert client.transport.closing


async def test_expect_100_continue(client):
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    assert await client.send(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert _parse(await client.send(b"hello"))[2] == b"hello"


async def test_expect_100_continue_past_the_limit(client):
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n"
    assert (await client.send(head)).startswith(b"HTTP/1.1 413 ")


async def test_a_chunked_body(client):
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert _parse(await client.send(head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"))[2] == b"abcde"


async def test_an_offer_of_another_protocol_is_ignored(client):
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAAA")
    first, _, body = _parse(await client.send(_post(b"hello", *offer)))
    assert first == "HTTP/1.1 200 OK"
    assert body == b"hello"


async def test_a_client_that_goes_away_withdraws_its_request(client):
    cancelled = []

    async def slow():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    client.protocol.response = lambda request: slow()
    await client.send(_get())
    client.connection.connection_lost(None)
    await client.turn()
    assert cancelled == [True]
    assert client.take() == b""


@pytest.mark.parametrize("headers", [["Content-Length: 9"], ["Transfer-Encoding: chunked"]])
async def test_half_a_body_reaches_no_model(client, headers):
    head = "\r\n".join(["POST /p HTTP/1.1", "Host: x", *headers, "", ""]).encode()
    await client.send(head, b"3\r\nabc\r\n")
    client.connection.connection_lost(None)
    await client.turn()
    assert client.protocol.seen == []
    assert client.take() == b""


async def test_percent_signs_in_paths_are_decoded(client):
    await client.send(_get("/pro%62e/a%20b?x=%31"))
    (request,) = client.protocol.seen
    assert request.segments == ["probe", "a b"]
    assert request.query() == [("x", "1")]
