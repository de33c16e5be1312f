"""Large bodies, which go past the parser to their place: whole, alone, and no byte of what follows them."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.http_client import Client

import predictor.http.exchange
from predictor.errors import InvalidInput, InvalidToken
from predictor.http.body import IN_PLACE_FROM_BYTES, SLOW_SECONDS
from predictor.http.gate import Gate
from predictor.http.messages import HttpResponse

SCRATCH = 32 * 1024
LARGE = 4 * SCRATCH
LIMIT = 8 * SCRATCH


@pytest.fixture
async def client():
    made = Client(LIMIT)
    made.protocol.response = lambda request: HttpResponse(200, b"%d" % len(request.body))
    yield made
    made.close()


def post(body, *headers):
    head = ["POST /p HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def pattern(size, start=1):
    return bytes((start + index // 251 + index) % 256 for index in range(size))


async def test_a_large_body_is_received_in_place(client):
    body = pattern(LARGE)
    message = post(body)
    await client.send(message[: LARGE // 2])
    assert client.receiver.connection.in_place is not None
    assert len(client.receiver.get_buffer(-1)) == len(message) - LARGE // 2
    await client.send(message[LARGE // 2 :])
    assert client.receiver.connection.in_place is None
    (request,) = client.protocol.seen
    assert request.body == body


async def test_it_goes_where_the_server_wants_it():
    taken = []

    def take(length):
        taken.append(memoryview(bytearray(length)))
        return taken[-1]

    client = Client(LIMIT, take=take)
    body = pattern(LARGE)
    await client.send(post(body))
    (request,) = client.protocol.seen
    assert request.body is taken[0]
    assert taken[0] == body
    client.close()


@pytest.fixture
async def places():
    """A client whose large bodies are put into memory that this notes."""
    noted = []

    def take(length):
        place = memoryview(bytearray(length))
        noted.append(weakref.ref(place))
        return place

    made = Client(LIMIT, take=take)
    gc.disable()
    yield made, noted
    gc.enable()
    made.close()


async def test_the_place_of_a_refused_body_is_free_as_soon_as_the_client_has_been_told(places):
    async def refuse(request):
        raise InvalidInput(f"{len(request.body)} bytes too many")

    client, noted = places
    client.protocol.response = refuse
    answer = await client.send(post(pattern(LARGE)))
    client.protocol.seen.clear()
    assert answer.endswith(b"bytes too many")
    assert [place() for place in noted] == [None]


@pytest.mark.parametrize("part", [0.5, 1.0])
async def test_the_place_of_a_body_is_free_as_soon_as_its_client_has_gone(places, part):
    async def wait(request):
        await asyncio.Event().wait()

    client, noted = places
    client.protocol.response = wait
    message = post(pattern(LARGE))
    await client.send(message[: int(len(message) * part)])
    assert noted[0]() is not None
    client.receiver.connection_lost(None)
    await client.turn()
    client.protocol.seen.clear()
    assert [place() for place in noted] == [None]


@pytest.mark.usefixtures("instantly")
async def test_a_slow_body_leaves_its_place_to_others_and_arrives_whole(places):
    client, noted = places
    body = pattern(LARGE)
    message = post(body)
    await client.send(message[: LARGE // 2])
    await asyncio.sleep(SLOW_SECONDS / 2)
    assert noted[0]() is not None
    await asyncio.sleep(SLOW_SECONDS)
    assert noted[0]() is None
    answer = await client.send(message[LARGE // 2 :])
    assert answer.endswith(b"\r\n\r\n" + body)


async def test_without_such_a_place_it_has_memory_of_its_own():
    client = Client(LIMIT, take=lambda length: None)
    body = pattern(LARGE)
    await client.send(post(body))
    assert client.protocol.seen[0].body == body
    client.close()


async def test_the_next_request_on_the_connection_is_parsed_again(client):
    for number in range(3):
        answer = await client.send(post(pattern(LARGE, number)))
        assert answer.endswith(b"\r\n\r\n%d" % LARGE)
        assert (await client.send(post(b"small"))).endswith(b"\r\n\r\n5")
    assert [bytes(request.body) for request in client.protocol.seen[::2]] == [
        pattern(LARGE, number) for number in range(3)
    ]


async def test_a_chunked_body_goes_through_the_parser(client):
    part = pattern(SCRATCH)
    head = b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    await client.send(head, *(b"%x\r\n%b\r\n" % (len(part), part) for _ in range(3)))
    assert client.receiver.connection.in_place is None
    await client.send(b"0\r\n\r\n")
    assert client.protocol.seen[0].body == 3 * part


async def test_a_request_with_both_kinds_of_length_is_refused(client):
    head = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await client.send(head + b"5\r\nhello\r\n0\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    assert client.protocol.seen == []


async def test_a_client_that_waits_for_leave_to_send(client):
    body = pattern(LARGE)
    message = post(body, "Expect: 100-continue")
    assert await client.send(message[:-LARGE]) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await client.send(body)).startswith(b"HTTP/1.1 200 ")
    assert client.protocol.seen[0].body == body


async def test_half_of_a_large_body_reaches_no_model(client):
    await client.send(post(pattern(LARGE))[: LARGE // 2])
    client.receiver.connection_lost(None)
    await client.turn()
    assert client.protocol.seen == []
    assert client.take() == b""
    assert not client.receiver.connection.tasks


@pytest.mark.usefixtures("instantly")
async def test_a_body_that_stops_is_answered_and_heard_out(client, monkeypatch):
    monkeypatch.setattr(predictor.http.exchange, "_BODY_SECONDS", 0.02)
    client.protocol.render_error = lambda error: HttpResponse(error.status)
    message = post(pattern(LARGE))
    await client.send(message[: LARGE // 2])
    await asyncio.sleep(0.2)
    answer = client.take()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer
    assert client.protocol.seen == []
    await client.send(message[LARGE // 2 :])
    assert client.transport.closing


@pytest.mark.usefixtures("instantly")
async def test_a_slow_body_that_goes_on_is_waited_for(client, monkeypatch):
    monkeypatch.setattr(predictor.http.exchange, "_BODY_SECONDS", 0.1)
    message = post(pattern(LARGE))
    for start in range(0, len(message), SCRATCH // 2):
        await client.send(message[start : start + SCRATCH // 2])
        await asyncio.sleep(0.03)
    assert client.protocol.seen[0].body == pattern(LARGE)


async def test_a_body_that_nobody_wants_is_not_read():
    class Closed(Gate):
        def admit(self, request):
            raise InvalidToken

    def take(length):
        raise AssertionError("no place is needed")

    client = Client(LIMIT, gate=Closed(), take=take)
    message = post(pattern(LARGE))
    room = memoryview(client.receiver.get_buffer(-1))
    room[:] = message[: len(room)]
    client.receiver.buffer_updated(len(room))
    assert not client.transport.reading
    await client.turn()
    assert client.take().startswith(b"HTTP/1.1 401 ")
    client.close()


_SIZES = st.sampled_from([0, 5, 1000, SCRATCH - 100, SCRATCH, IN_PLACE_FROM_BYTES + 1, 2 * SCRATCH, LARGE])


@settings(deadline=None, max_examples=40)
@given(
    st.lists(_SIZES, min_size=1, max_size=6),
    st.lists(st.integers(3000, LARGE), min_size=1, max_size=5),
)
def test_bodies_arrive_whole_and_in_order_however_they_are_cut(sizes, cuts):
    bodies = [pattern(size, number) for number, size in enumerate(sizes)]
    stream = b"".join(map(post, bodies))

    async def converse():
        client = Client(LIMIT)
        client.protocol.response = lambda request: HttpResponse(200, b"%d" % len(request.body))
        start, turn = 0, 0
        while start < len(stream):
            size = cuts[turn % len(cuts)]
            await client.send(stream[start : start + size])
            start, turn = start + size, turn + 1
        await client.turn()
        client.close()
        return [bytes(request.body) for request in client.protocol.seen]

    assert asyncio.run(converse()) == bodies
