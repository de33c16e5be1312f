from __future__ import annotations

import json
import struct

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from v2_strategies import ALL, JSON_NUMBERS, NUMPY, same, tensors

from predictor.errors import InvalidInput
from predictor.handlers.tensors import Tensor, narrow_to_bf16, widen_bf16
from predictor.runtime.tensors import from_bytes, from_json, to_bytes, to_json


def _dumps(value) -> msgspec.Raw:
    return msgspec.Raw(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


@given(tensors())
def test_any_tensor_survives_the_binary_form(tensor):
    data = to_bytes(tensor)
    assert same(from_bytes("t", tensor.datatype, tensor.array.shape, data), tensor)
    assert same(from_bytes("t", tensor.datatype, tensor.array.shape, memoryview(data)), tensor)


@given(tensors([*JSON_NUMBERS, "BYTES"], finite=True, text=True))
def test_any_tensor_survives_json_flat_and_nested(tensor):
    flat = _dumps(to_json(tensor))
    assert same(from_json("t", tensor.datatype, tensor.array.shape, flat), tensor)
    if tensor.datatype == "BYTES":
        nested = _dumps(
            np.vectorize(bytes.decode, otypes=[object])(tensor.array).tolist() if tensor.array.size else []
        )
    else:
        nested = _dumps(tensor.array.tolist())
    assert same(from_json("t", tensor.datatype, tensor.array.shape, nested), tensor)
    assert same(from_json("t", tensor.datatype, tensor.array.shape, json.loads(bytes(nested))), tensor)


def test_json_has_no_nan_so_null_stands_for_it():
    array = np.array([1.5, np.nan, np.inf], dtype=np.float32)
    assert bytes(_dumps(to_json(Tensor("t", "FP32", array)))) == b"[1.5,null,null]"
    back = from_json("t", "FP32", [2], msgspec.Raw(b"[1.5, null]"))
    assert np.isnan(back.array[1])


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_precision_has_no_json_form(datatype):
    assert to_json(Tensor("t", datatype, np.zeros(2, dtype="<u2"))) is None
    with pytest.raises(InvalidInput, match="no JSON form"):
        from_json("t", datatype, [1], msgspec.Raw(b"[1]"))


def test_bytes_that_are_no_text_have_no_json_form():
    assert to_json(Tensor("t", "BYTES", np.array([b"\xff"], dtype=object))) is None


@pytest.mark.parametrize("data", [b'"abc"', b'["abc"]', b'[["abc"]]'])
def test_torchserves_clients_send_bytes_of_shape_minus_one(data):
    tensor = from_json("t", "BYTES", [-1], msgspec.Raw(data))
    assert (tensor.array.tolist(), tensor.array.shape) == (["abc"], (1,))


@pytest.mark.parametrize("datatype", ALL)
@pytest.mark.parametrize(
    "shape",
    [[-1], [2, -1], [2**63], [2**62, 2**62], [10**30], [1] * 33, [3], [10**9, 10**9]],
    ids=str,
)
def test_shapes_that_lie(datatype, shape):
    data = struct.pack("<I", 2) + b"ab" if datatype == "BYTES" else b"\0" * 2
    with pytest.raises(InvalidInput, match="'t'"):
        from_bytes("t", datatype, shape, data)
    if datatype != "BYTES":
        with pytest.raises(InvalidInput, match="'t'"):
            from_json("t", datatype, shape, msgspec.Raw(b"[1]"))


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT8", "[128]"),
        ("INT8", "[-129]"),
        ("UINT8", "[-1]"),
        ("UINT64", "[-1]"),
        ("UINT64", "[18446744073709551616]"),
        ("INT64", "[9223372036854775808]"),
        ("INT32", "[1.5]"),
        ("INT32", "[true]"),
        ("INT32", "[null]"),
        ("INT32", '["1"]'),
        ("FP32", "[true]"),
        ("FP32", '["1"]'),
        ("FP32", "[1e39]"),
        ("FP64", "[1e999]"),
        ("BOOL", "[1]"),
        ("BOOL", "[null]"),
        ("BYTES", "[1]"),
        ("BYTES", "[null]"),
        ("FP32", "{}"),
        ("FP32", '[{"a": 1}]'),
        ("FP32", "[[1], 2]"),
        ("FP32", "[1, [2]]"),
        ("FP32", "[[1], [2, 3]]"),
        ("BYTES", '[["a"], ["b", "c"]]'),
        ("FP32", "[" * 40 + "1" + "]" * 40),
        ("FP32", "[" * 100_000),
        ("FP32", "[1] 2"),
        ("FP33", "[1]"),
        ("", "[1]"),
        ("fp32", "[1]"),
    ],
)
def test_data_that_is_not_of_its_datatype(datatype, data):
    with pytest.raises(InvalidInput, match="'t'"):
        from_json("t", datatype, [1], msgspec.Raw(data.encode()))


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        (b"\x05\0\0\0ab", [1]),
        (b"\xff\xff\xff\xffab", [1]),
        (b"\x02\0\0\0ab", [2]),
        (b"\x02\0\0\0ab\0\0\0\0\0", [2]),
        (b"\x02\0\0\0ab\0", [1]),
        (b"\x02\0\0", [1]),
        (b"", [1]),
        (b"\0\0\0\0", [0]),
    ],
)
def test_elements_whose_lengths_lie(data, shape):
    with pytest.raises(InvalidInput, match="'t'"):
        from_bytes("t", "BYTES", shape, data)


@given(st.sampled_from(ALL), st.lists(st.integers(-2, 2**65), max_size=4), st.binary(max_size=40))
def test_no_claim_about_bytes_does_worse_than_being_refused(datatype, shape, data):
    try:
        tensor = from_bytes("t", datatype, shape, data)
    except InvalidInput:
        return
    assert list(tensor.array.shape) == shape


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
)


@given(st.sampled_from(ALL), st.lists(st.integers(-2, 5), max_size=3), _JSON)
def test_no_json_does_worse_than_being_refused(datatype, shape, value):
    text = json.dumps(value).encode()
    for data in (msgspec.Raw(text), json.loads(text)):
        try:
            tensor = from_json("t", datatype, shape, data)
        except InvalidInput:
            continue
        assert tensor.array.ndim == len(shape)


@given(tensors(["FP32"]))
def test_bfloat16_is_rounded_to_the_nearest(tensor):
    import torch

    expected = torch.from_numpy(np.array(tensor.array)).to(torch.bfloat16).float().numpy()
    assert widen_bf16(narrow_to_bf16(tensor.array)).tobytes() == expected.tobytes()


def test_every_datatype_is_known_to_numpy():
    assert {np.dtype(dtype).name for dtype in NUMPY.values()} == set(NUMPY.values())
