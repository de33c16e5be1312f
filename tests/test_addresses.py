from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.addresses import Address, parse_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("http://0.0.0.0", Address("0.0.0.0", 80)),
        ("HTTPS://host", Address("host", 443, tls=True)),
        (" https://host:8443/ ", Address("host", 8443, tls=True)),
        ("http://[::1]:80", Address("::1", 80)),
        ("unix:/tmp/ts.sock", Address(unix=Path("/tmp/ts.sock"))),
    ],
)
def test_addresses(text, expected):
    assert parse_address(text) == expected


def test_each_address_has_its_own_usual_port():
    assert parse_address("http://x", "management_address").port == 8081
    assert parse_address("https://x", "metrics_address").port == 8445


@given(st.from_regex(r"https?://([a-z0-9.]{1,20}|\[[0-9a-f:]{2,20}\]):[0-9]{1,4}", fullmatch=True))
def test_an_address_is_written_as_it_is_read(text):
    address = parse_address(text)
    assert parse_address(str(address)) == address


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_value_error(text):
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert 0 <= address.port <= 65_535
    assert address.unix or address.host


def test_which_addresses_mean_one_socket():
    main = Address("127.0.0.1", 8080)
    assert main.is_same_socket(Address("localhost", 8080))
    assert not main.is_same_socket(Address("127.0.0.1", 8081))
    assert not main.is_same_socket(Address("0.0.0.0", 8080))
    assert not Address("127.0.0.1", 0).is_same_socket(Address("127.0.0.1", 0))
    assert not main.is_same_socket(Address(unix=Path("/a")))
    assert Address(unix=Path("/a")).is_same_socket(Address(unix=Path("/a")))


@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "[::1]"), ("10.1.2.3", "10.1.2.3")],
)
def test_an_address_that_can_be_opened(host, shown):
    assert str(Address(host, 8080).reachable) == f"http://{shown}:8080"
    assert str(Address(unix=Path("/a")).reachable) == "unix:/a"
