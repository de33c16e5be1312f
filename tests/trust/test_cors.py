"""Which origins are answered, and with what."""

from __future__ import annotations

import pytest

from predictor.trust.cors import Cors, is_preflight, make_cors

_A, _B = "https://a.example", "https://b.example"


@pytest.mark.parametrize(
    ("origins", "origin", "allowed", "varies"),
    [
        ("*", _A, "*", False),
        ("*", "", "*", False),
        (f"{_A}, *", _B, "*", False),
        # One origin is sent as it is, as TorchServe does; the browser compares.
        (_A, _A, _A, False),
        (_A, _B, _A, False),
        (f"{_A},{_B}", _A, _A, True),
        (f"{_A} , {_B}", _B, _B, True),
        (f"{_A},{_B}", "https://evil.example", None, True),
        (f"{_A},{_B}", "", None, True),
    ],
)
def test_origins(origins, origin, allowed, varies):
    headers = dict(Cors(origins).response_headers(origin))
    assert headers.get("access-control-allow-origin") == allowed
    assert ("vary" in headers) is varies


def test_what_is_not_configured_is_not_sent():
    assert make_cors("", "", "") is None
    assert Cors("*").response_headers(_A) == [("access-control-allow-origin", "*")]
    assert Cors("*", "GET, PUT", "x-a").response_headers(_A)[1:] == [
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "x-a"),
    ]


@pytest.mark.parametrize(
    ("method", "names", "expected"),
    [
        ("OPTIONS", ["Origin", "Access-Control-Request-Method"], True),
        ("OPTIONS", ["origin", "access-control-request-method"], True),
        ("OPTIONS", ["origin"], False),
        ("OPTIONS", ["access-control-request-method"], False),
        ("POST", ["origin", "access-control-request-method"], False),
    ],
)
def test_preflights(method, names, expected):
    assert is_preflight(method, [(name, "x") for name in names]) is expected
