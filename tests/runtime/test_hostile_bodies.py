"""Bodies that lie, on every protocol that decodes them: answered, or refused as the client's mistake."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runtime_fakes import NAMED, V1, make_service, request, run
from v2_fakes import make_signature_service, rest

from predictor.oip.datatypes import DATATYPES

_DATATYPES = st.sampled_from([*DATATYPES.values(), "FP8", "", "fp32", "\u0000"])
_SIZES = st.sampled_from([-(2**64), -2, -1, 0, 1, 2, 3, 2**31, 2**62, 2**63, 2**64, 1.5, True, None, "2", []])
_SHAPES = st.lists(_SIZES, max_size=4) | st.sampled_from([None, 5, "x", [1] * 40, [0, 2**62], [2**62, 0]])
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from([1e309, -0.0, 2**63, "NaN", "\ud800"])
)
_DATA = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)
_NAMES = st.sampled_from(["x", "t", "", "y", "\u0000"])
_LENGTHS = st.sampled_from([-1, 0, 3, 8, 2**31, 2**63, 1.0, True, None, "8"])
_PARAMETERS = st.dictionaries(
    st.sampled_from(["binary_data_size", "binary_data", "binary_data_output", "a"]),
    _LENGTHS | _DATA,
    max_size=3,
)
_TENSORS = st.fixed_dictionaries(
    {"name": _NAMES, "shape": _SHAPES, "datatype": _DATATYPES},
    optional={"data": _DATA, "parameters": _PARAMETERS},
)
_DOCUMENTS = st.fixed_dictionaries(
    {"inputs": st.lists(_TENSORS | _DATA, max_size=3)},
    optional={
        "id": _DATA,
        "parameters": _PARAMETERS,
        "outputs": st.lists(st.fixed_dictionaries({"name": _NAMES}, optional={"parameters": _PARAMETERS})),
        "more": _DATA,
    },
)
_DEEP = [b"[" * 100_000, b'{"inputs":' * 50_000, b'{"instances":[' + b"[" * 5_000 + b"]" * 5_000 + b"]}"]
_SIGNATURE = {
    "inputs": [
        {"name": "x", "dtype": "float32", "shape": [-1]},
        {"name": "n", "dtype": "int8", "required": False},
    ],
    "outputs": [{"name": "y"}],
}


@pytest.fixture(scope="module")
def services():
    """A model with a signature, and a handler that knows none."""
    native, _ = make_signature_service(_SIGNATURE, lambda x, *_: x.sum(1))
    return native, make_service(
        lambda data, context: [str(row)[:50] for row in data], max_response_size=10**6
    )


def _encoded(document):
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _check(service, asked):
    (result,) = run(service, asked)
    assert result.status == 200 or 400 <= result.status < 500, (asked.body[:300], result)


@given(_DOCUMENTS, st.binary(max_size=20), st.none() | st.sampled_from([-1, 0, 5, 10**9]))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_v2(services, document, tail, length):
    for service in services:
        _check(service, rest(_encoded(document), tail, length=length))


@given(_DATA | st.dictionaries(st.sampled_from(["x", "n", "z", "instances", "inputs"]), _DATA, max_size=3))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_v1_and_named_inputs(services, document):
    for service in services:
        _check(service, request(_encoded(document), NAMED))
        _check(service, request(_encoded({"instances": [document]}), V1))
        _check(service, request(_encoded({"inputs": document}), V1))


@given(st.data())
def test_one_byte_that_is_wrong(services, data):
    good = _encoded({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 1e3]}]})
    position = data.draw(st.integers(0, len(good) - 1))
    wrong = good[:position] + data.draw(st.binary(max_size=2)) + good[position + 1 :]
    for service in services:
        _check(service, rest(wrong))
        _check(service, request(wrong, V1))
        _check(service, request(wrong, NAMED))


@pytest.mark.parametrize("body", [b"", b"\x00", b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b"nan", *_DEEP])
def test_what_is_no_json_or_too_deep(services, body):
    for service in services:
        _check(service, rest(body))
        _check(service, request(body, V1))
        _check(service, request(body, NAMED))


@pytest.mark.parametrize("shape", [[2**62, 0], [0, 2**62], [2**40, 0, 2**20]])
def test_an_empty_tensor_cannot_be_huge(services, shape):
    native, _ = services
    for entry in ({"data": []}, {"parameters": {"binary_data_size": 0}}):
        document = {"inputs": [{"name": "x", "datatype": "FP32", "shape": shape, **entry}]}
        (result,) = run(native, rest(document))
        assert result.status == 400
        assert "'x'" in result.message
