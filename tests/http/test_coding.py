"""Coded bodies: what is inflated, what is refused, and which answers are compressed."""

from __future__ import annotations

import contextlib
import gzip
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from predictor.errors import InvalidInput, PayloadTooLarge, UnsupportedCoding
from predictor.http import coding
from predictor.http.coding import accepted, compress, inflate
from predictor.http.messages import HttpRequest, HttpResponse, json_response

LIMIT = 4_000_000


def bare(body):
    """Deflate without a header, as some clients understand `deflate`."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()


def _window(name, body):
    return 31 if name == "gzip" else 15 if coding._has_zlib_header(memoryview(body)) else -15


CODERS = {"gzip": gzip.compress, "X-GZip": gzip.compress, "deflate": zlib.compress, " Deflate ": bare}


def request(body=b"", *headers):
    made = HttpRequest("POST", "/v2/models/m/infer", "", list(headers), "id")
    made.body = body
    return made


async def inflated(body, name, limit=LIMIT):
    asked = request(body, ("Content-Encoding", name), ("Content-Length", "1"), ("X-Other", "kept"))
    await inflate(asked, limit)
    return asked


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize("size", [0, 1, 1000, 64 * 1024, 64 * 1024 + 1, 3_000_001])
async def test_a_body_is_what_it_was(name, size):
    body = bytes(range(251)) * (size // 251) + b"x" * (size % 251)
    asked = await inflated(CODERS[name](body), name)
    assert asked.body == body
    assert asked.headers == [("X-Other", "kept")]
    assert asked.header("content-encoding") == asked.header("content-length") == ""


@given(st.sampled_from(sorted(CODERS)), st.lists(st.binary(), min_size=1, max_size=4), st.integers(1, 50))
async def test_any_body_is_what_it_was_in_steps_of_any_size(name, parts, size):
    body = b"".join(parts) * 3
    stream = coding._Stream(
        CODERS[name](body), coding._coding_of(request(b"", ("Content-Encoding", name))), LIMIT
    )
    while not stream.step(size):
        continue
    assert stream.inflated() == body


@given(st.sampled_from(["gzip", "deflate"]), st.binary())
@example("gzip", b"\x1f\x8b")
@example("deflate", b"\x78")
async def test_whatever_comes_is_inflated_or_refused(name, body):
    asked = request(body, ("Content-Encoding", name))
    with contextlib.suppress(InvalidInput, PayloadTooLarge):
        await inflate(asked, 1000)
        # What is inflated is so for zlib, too, as far as that goes: it stops at the end of a stream.
        assert asked.body.startswith(zlib.decompressobj(_window(name, body)).decompress(body))


@given(st.sampled_from(sorted(CODERS)), st.binary(min_size=1), st.data())
async def test_a_part_of_a_body_is_refused(name, body, data):
    coded = CODERS[name](body)
    cut = data.draw(st.integers(1, len(coded) - 1))
    with pytest.raises(InvalidInput, match="Content-Encoding is (gzip|deflate), but the body") as refused:
        await inflated(coded[:cut], name)
    assert refused.value.status == 400


async def test_strung_together_members_are_one_body():
    assert (
        await inflated(gzip.compress(b"a") + gzip.compress(b"") + gzip.compress(b"b"), "gzip")
    ).body == b"ab"
    with pytest.raises(InvalidInput, match="more than 1000 members"):
        await inflated(gzip.compress(b"") * 1001, "gzip")


@pytest.mark.parametrize("name", CODERS)
async def test_what_follows_the_end_is_refused(name):
    with pytest.raises(InvalidInput, match="cannot be inflated"):
        await inflated(CODERS[name](b"body") + b"more", name)


@pytest.mark.parametrize("name", CODERS)
async def test_the_limit_is_that_of_the_inflated_body(name):
    assert len((await inflated(CODERS[name](bytes(1000)), name, 1000)).body) == 1000
    with pytest.raises(PayloadTooLarge, match="more than 1000 bytes"):
        await inflated(CODERS[name](bytes(1001)), name, 1000)


@pytest.mark.parametrize("name", ["gzip", "deflate"])
async def test_of_a_bomb_little_more_than_the_limit_is_ever_inflated(name, monkeypatch):
    written = []
    step = coding._Stream.step

    def watched(stream, size):
        done = step(stream, size)
        written.append(stream._size)
        return done

    monkeypatch.setattr(coding._Stream, "step", watched)
    with pytest.raises(PayloadTooLarge):
        await inflated(CODERS[name](bytes(100_000_000)), name, LIMIT)
    assert max(written) <= LIMIT
    assert len(written) < 50


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["br"], "'br' is unknown; known are gzip, deflate"),
        (["gzip, deflate"], "names 2 codings"),
        (["gzip", "gzip"], "names 2 codings"),
        (["gzip" + ", gzip" * 1000], "names 1001 codings"),
        (["*"], "unknown"),
        (["gzip;q=1"], "unknown"),
    ],
)
async def test_other_codings_are_refused(values, message):
    asked = request(b"x", *(("content-encoding", value) for value in values))
    with pytest.raises(UnsupportedCoding, match=message) as refused:
        await inflate(asked, LIMIT)
    assert (refused.value.status, refused.value.known) == (415, ("gzip", "deflate"))


@pytest.mark.parametrize("value", ["", "identity", " Identity ,", ","])
async def test_no_coding_at_all(value):
    asked = request(b"as it is", ("Content-Encoding", value))
    await inflate(asked, 1)
    assert asked.body == b"as it is"


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", ""),
        ("gzip", "gzip"),
        ("GZip", "gzip"),
        ("x-gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate, gzip", "gzip"),
        ("gzip;q=0.5, deflate", "deflate"),
        ("gzip ; Q = 0.5 , deflate;q=0.6", "deflate"),
        ("gzip;q=0", ""),
        ("gzip;q=0, *", "deflate"),
        ("*", "gzip"),
        ("*;q=0", ""),
        ("*;q=0, deflate", "deflate"),
        ("identity", ""),
        ("identity, gzip;q=0.5", ""),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        ("identity;q=0", ""),
        ("identity;q=0, *;q=0.1", "gzip"),
        ("br, zstd", ""),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", "gzip"),
        ("gzip;q=2", ""),
        ("gzip;q=nan", ""),
        ("gzip;q=", ""),
        (";q=1, gzip", "gzip"),
    ],
)
def test_what_a_client_accepts(header, coding):
    assert accepted(header) == coding


@given(st.text(alphabet="gzipdeflatx-*;q=0.5, "))
def test_any_accept_header_has_an_answer(header):
    assert accepted(header) in ("", "gzip", "deflate")


UNDO = {"gzip": gzip.decompress, "deflate": zlib.decompress}


@pytest.mark.parametrize("name", UNDO)
@pytest.mark.parametrize("size", [1000, 1_000_000])
async def test_an_answer_is_compressed_for_who_asks(name, size):
    response = json_response(b"7" * size)
    await compress(request(b"", ("Accept-Encoding", name)), response, 1000)
    assert len(response.body) < size
    assert UNDO[name](response.body) == b"7" * size
    assert response.headers[1:] == [("Vary", "Accept-Encoding"), ("Content-Encoding", name)]


async def never():
    yield b""


@pytest.mark.parametrize(
    ("response", "asks", "varies"),
    [
        (HttpResponse(200, b"7" * 999), "gzip", True),
        (HttpResponse(200, b"7" * 1000), "", True),
        (HttpResponse(200, b"7" * 1000, [("Content-Type", "image/png")]), "gzip", True),
        (HttpResponse(200, b"7" * 1000, [("content-encoding", "br")]), "gzip", False),
        (HttpResponse(200, b"7" * 1000, stream=never()), "gzip", False),
        (HttpResponse(413, b"7" * 1000, bare=True), "gzip", False),
    ],
    ids=["small", "unasked", "picture", "coded", "stream", "bare"],
)
async def test_other_answers_are_not(response, asks, varies):
    before = response.body
    await compress(request(b"", ("Accept-Encoding", asks)), response, 1000)
    assert response.body == before
    assert (("Vary", "Accept-Encoding") in response.headers) is varies
    assert ("Content-Encoding", "gzip") not in response.headers
