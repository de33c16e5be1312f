"""TorchServe's rules for bodies: never an exception, whatever the client sends."""

from __future__ import annotations

import json
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_fakes import V1, request

from predictor.ipc.messages import Verb
from predictor.runtime.rows import decode_row, request_headers


def _row(body, content_type="", **options):
    return decode_row(request(body, content_type=content_type, **options))[0]


def _form(*parts, boundary="XX"):
    """Write a form of (name, data, file name or None, content type or None)."""
    lines = []
    for name, data, filename, content_type in parts:
        disposition = f'form-data; name="{name}"' + (
            f'; filename="{filename}"' if filename is not None else ""
        )
        lines += [f"--{boundary}".encode(), f"Content-Disposition: {disposition}".encode()]
        lines += [f"Content-Type: {content_type}".encode()] if content_type else []
        lines += [b"", data]
    return b"\r\n".join([*lines, f"--{boundary}--".encode(), b""])


_MULTIPART = "multipart/form-data; boundary=XX"


@pytest.mark.parametrize("content_type", ["", "application/octet-stream", "image/png", "application/x+json"])
def test_a_body_of_no_known_type_is_a_bytearray(content_type):
    row = _row(b"\x00\xff", content_type)
    assert row == {"body": bytearray(b"\x00\xff")}
    assert type(row["body"]) is bytearray


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_json(content_type):
    assert _row(b'{"a": [1, NaN]}', content_type)["body"]["a"][0] == 1


@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b"[" * 100_000, b'{"a":' * 100_000])
def test_what_is_not_json_stays_bytes(body):
    assert _row(body, "application/json") == {"body": bytearray(body)}


def test_the_case_of_a_media_type_matters():
    assert isinstance(_row(b"1", "Application/JSON")["body"], bytearray)


def test_text():
    assert _row("\u00fc".encode(), "text/plain; charset=utf-8") == {"body": "\u00fc"}
    assert _row(b"\xff", "text/plain") == {"body": bytearray(b"\xff")}


def test_nothing_is_decoded_when_that_is_off():
    row, types = decode_row(request(b"1", content_type="application/json"), decode=False)
    assert row == {"body": bytearray(b"1")}
    assert types == {"body": "application/json"}


def test_a_form_has_one_key_for_each_part_and_the_last_of_a_name_wins():
    body = _form(("a", b"1", None, None), ("b", b"2", "f.bin", None), ("a", b"3", None, None))
    assert _row(body, _MULTIPART) == {"a": bytearray(b"3"), "b": bytearray(b"2")}


def test_only_files_keep_their_type():
    body = _form(
        ("file", b'{"a": 1}', "f.json", "application/json; charset=utf-8"),
        ("text", b"hello", "f.txt", "text/plain"),
        ("field", b'{"a": 1}', None, "application/json"),
    )
    row, types = decode_row(request(body, content_type=_MULTIPART))
    assert row == {"file": {"a": 1}, "text": "hello", "field": bytearray(b'{"a": 1}')}
    assert types == {"file": "application/json", "text": "text/plain", "field": ""}


@pytest.mark.parametrize(
    "body",
    [b"", b"--XX--\r\n", b"garbage", b"--XX\r\nno header\r\n--XX--", _form(("a", b"1", None, None))[:-20]],
)
def test_a_form_that_is_empty_or_broken_has_no_keys(body):
    assert _row(body, _MULTIPART) == {}


def test_a_form_without_a_boundary_is_a_raw_body():
    assert _row(b"abc", "multipart/form-data") == {"body": bytearray(b"abc")}


def test_a_form_of_thousands_of_parts_is_cut():
    body = _form(*((f"p{number}", b"", None, None) for number in range(1500)))
    assert len(_row(body, _MULTIPART)) <= 1000


def test_urlencoded():
    row = _row(b"a=1&b=%20x+y&a=2&empty=&c=%C3%BC", "application/x-www-form-urlencoded; charset=utf-8")
    assert row == {
        "a": bytearray(b"2"),
        "b": bytearray(b" x y"),
        "empty": bytearray(),
        "c": bytearray("\u00fc".encode()),
    }


def test_urlencoded_bytes_survive():
    assert _row(b"a=%FF%00\xfe", "application/x-www-form-urlencoded") == {"a": bytearray(b"\xff\x00\xfe")}


def test_too_many_fields_are_none():
    assert _row(b"&".join([b"a=1"] * 5000), "application/x-www-form-urlencoded") == {}


def test_query_parameters_become_fields_where_the_route_says_so():
    row = _row(b"x", fields=[("model_name", "m"), ("a", "\u00fc")])
    assert row == {"model_name": bytearray(b"m"), "a": bytearray("\u00fc".encode()), "body": bytearray(b"x")}


_NAMES = st.text("abcdefghijklmnopqrstuvwxyz_-.", min_size=1, max_size=8)


@given(st.dictionaries(_NAMES, st.binary(max_size=60), max_size=5))
def test_any_form_comes_back_as_it_was_sent(fields):
    fields = {name: data for name, data in fields.items() if b"--XX" not in data}
    body = _form(*((name, data, None, None) for name, data in fields.items()))
    assert _row(body, _MULTIPART) == {name: bytearray(data) for name, data in fields.items()}


@given(st.dictionaries(_NAMES, st.binary(min_size=1, max_size=60), max_size=5))
def test_any_urlencoded_fields_come_back_as_they_were_sent(fields):
    assert _row(urlencode(fields), "application/x-www-form-urlencoded") == {
        name: bytearray(data) for name, data in fields.items()
    }


_CONTENT_TYPES = [
    _MULTIPART,
    'multipart/form-data; boundary="',
    f"multipart/form-data; boundary={'x' * 500}",
    "multipart/form-data; boundary=\x00\xff",
    "multipart/",
    "application/x-www-form-urlencoded",
    "application/json",
    "text/x",
    ";",
    "\x00",
    "a;b=c",
]


@given(
    st.binary(max_size=300) | st.text(max_size=100).map(lambda text: quote_plus(text).encode()),
    st.sampled_from(_CONTENT_TYPES),
)
def test_nothing_that_a_client_sends_raises(body, content_type):
    row, types = decode_row(request(body, content_type=content_type))
    assert row.keys() == types.keys()


@given(st.binary(max_size=200), st.integers(0, 200))
def test_a_mutilated_form_never_raises(data, cut):
    body = _form(("a", data, "f", "text/plain"), ("b", b"2", None, None))
    position = cut % len(body)
    decode_row(request(body[:position] + data[:3] + body[position + 1 :], content_type=_MULTIPART))


def test_headers_that_a_handler_sees():
    made = request(
        b"12345",
        content_type="text/plain",
        headers=[("Content-Type", "text/plain"), ("X-A", "1"), ("x-a", "2"), ("X-A", "3"), ("Expect", "100")],
        url_path="a/b",
    )
    assert request_headers(made, {"body": "text/plain"}) == {
        "body": {"content-type": "text/plain"},
        "explain": "False",
        "url_path": "a/b",
        "Content-Type": "text/plain",
        "X-A": "3",
        "x-a": "2",
        "content-length": "5",
    }


def test_headers_of_explanations_and_of_other_routes():
    assert request_headers(request(verb=Verb.EXPLAIN), {})["explain"] == "True"
    assert request_headers(request(verb=Verb.DESCRIBE), {})["describe"] == "True"
    assert "explain" not in request_headers(request(envelope=V1), {})
    assert "url_path" not in request_headers(request(envelope=V1), {})


def test_a_length_that_the_client_sent_is_not_replaced():
    headers = request_headers(request(b"1", headers=[("Content-Length", "1")]), {})
    assert headers["Content-Length"] == "1"
    assert "content-length" not in headers


def test_json_values_are_what_python_reads():
    values = {"a": None, "b": [1.5, "x", True], "c": {"d": 10**30}}
    assert _row(json.dumps(values), "application/json")["body"] == values
