"""JSON with NaN and Infinity in it is read like any other JSON."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.errors import InvalidInput
from predictor.runtime.json_text import dump_json, load_json, parse_constants

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_VALUES)
def test_a_constant_beside_it_changes_no_value(value):
    plain = json.dumps(value)
    try:
        expected = orjson.loads(plain)
    except orjson.JSONDecodeError:  # half of a surrogate pair, or an infinity
        return
    (same, _) = load_json(f"[{plain}, NaN]".encode())
    assert same == expected
    assert type(same) is type(expected)


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\uDFFF": 1}', '[["\\ud800a"]]'])
@pytest.mark.parametrize("constant", ["1", "NaN", "-Infinity"])
def test_half_a_surrogate_pair_is_refused_either_way(text, constant):
    with pytest.raises(InvalidInput, match="Invalid JSON"):
        load_json(f"[{constant}, {text}]".encode())


@pytest.mark.parametrize("text", [b'["\xed\xa0\x80", NaN]', b"\xef\xbb\xbf[NaN]", "[NaN]".encode("utf-16")])
def test_only_utf_8_is_read(text):
    with pytest.raises(InvalidInput, match="Invalid JSON"):
        load_json(text)


@pytest.mark.parametrize("text", ['["\\ud83d\\ude00", NaN]', '["\\\\ud800", NaN]', '["é", "\\u00e9", NaN]'])
def test_other_escapes_are_read(text):
    assert parse_constants(text.encode())[0] == json.loads(text)[0]


@given(_VALUES)
def test_whatever_was_read_can_be_answered(value):
    text = f"[{json.dumps(value)}, NaN]".encode()
    try:
        read = load_json(text)
    except InvalidInput:
        return
    assert dump_json(read).endswith(b",null]")
