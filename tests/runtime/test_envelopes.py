from __future__ import annotations

import base64
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime_fakes import NAMED, V1, request

from predictor.errors import InvalidInput, InvalidOutput, PredictorError
from predictor.handlers.declaration import Signature
from predictor.ipc.messages import Verb
from predictor.runtime.envelopes import Decoded, decode, dump_json, encode, load_json

_TEXT = Signature({"inputs": [{"name": "text", "kind": "text"}], "outputs": [{"name": "y"}]})


def _encode(answers, envelope, *, native=False, single=True, verb=Verb.PREDICT):
    made = Decoded([{}] * len(answers), {}, single)
    return encode(request(envelope=envelope, verb=verb), made, answers, native)


# V1


@pytest.mark.parametrize(
    ("instance", "row"),
    [
        ([1, 2], {"data": [1, 2]}),
        ("text", {"data": "text"}),
        ({"data": 1, "target": 2}, {"data": 1, "target": 2}),
        ({"b64": "QUI="}, {"data": b"AB"}),
        ({"image": {"b64": "QUI="}, "n": 1}, {"image": b"AB", "n": 1}),
        ({"b64": 5}, {"b64": 5}),
        (None, {"data": None}),
    ],
)
def test_rows_of_v1_instances(instance, row):
    made = decode(request(json.dumps({"instances": [instance]}), V1), None)
    assert made.rows == [row]


def test_v1_accepts_inputs_as_well():
    assert decode(request('{"inputs": [1, 2]}', V1), None).rows == [{"data": 1}, {"data": 2}]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "Invalid JSON"),
        ("{", "Invalid JSON"),
        ("[1]", "must be a JSON object"),
        ("{}", "'instances'"),
        ('{"instances": 5}', "to be a list"),
        ('{"instances": {"a": 1}}', "to be a list"),
        ('{"instances": []}', "is empty"),
        ('{"instances": [{"b64": "?"}]}', "not base64"),
        ('{"instances": [{"b64": "\u00e9"}]}', "not base64"),
        ('{"instances": ' + "[" * 100_000, "Invalid JSON"),
        ('{"NaN": ' + "[" * 100_000, "Invalid JSON"),
    ],
)
def test_bad_v1_bodies(body, message):
    with pytest.raises(InvalidInput, match=message):
        decode(request(body, V1), None)


def test_v1_answers():
    body, headers = _encode([{"a": 1}, None], V1, single=False)
    assert json.loads(body) == {"predictions": [{"a": 1}, None]}
    assert headers == [("content-type", "application/json")]
    body, _ = _encode([[1]], V1, verb=Verb.EXPLAIN, single=False)
    assert json.loads(body) == {"explanations": [[1]]}


# named


def test_named_inputs_of_a_signature():
    made = decode(request('{"text": "a"}', NAMED), _TEXT)
    assert (made.rows, made.single) == ([{"text": "a"}], True)
    made = decode(request('{"text": ["a", "b"]}', NAMED), _TEXT)
    assert (made.rows, made.single) == ([{"text": "a"}, {"text": "b"}], False)


def test_without_a_signature_the_object_is_the_body():
    assert decode(request('{"x": 1}', NAMED), None).rows == [{"body": {"x": 1}}]


@pytest.mark.parametrize("body", ["", "nope", "[1]", "5", "null"])
def test_bad_named_bodies(body):
    with pytest.raises(InvalidInput):
        decode(request(body, NAMED), _TEXT)


def test_named_answers():
    assert json.loads(_encode([{"y": 1}], NAMED)[0]) == {"y": 1}
    assert json.loads(_encode([[1]], NAMED)[0]) == {"output": [1]}
    assert json.loads(_encode([{"y": 1}, {"y": 2}], NAMED, single=False)[0]) == {"y": [1, 2]}
    assert json.loads(_encode([1, 2], NAMED, single=False)[0]) == {"output": [1, 2]}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=10,
    )
)
def test_no_json_document_raises_anything_but_invalid_input(value):
    for key in ("text", "instances", "inputs"):
        for document in ({key: value}, value):
            for envelope in (V1, NAMED):
                try:
                    made = decode(request(json.dumps(document), envelope), _TEXT)
                except InvalidInput:
                    continue
                assert made.rows


# TorchServe


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"raw", b"raw"),
        (bytearray(b"raw"), b"raw"),
        ("t\u00e9xt", "t\u00e9xt".encode()),
        (7, b"7"),
        (1.5, b"1.5"),
        (None, b"null"),
        (float("nan"), b"NaN"),
        ({"a": ["\u00e9"]}, b'{\n  "a": [\n    "\\u00e9"\n  ]\n}'),
    ],
)
def test_torchserve_answers(answer, body):
    from predictor.ipc.messages import Envelope

    assert _encode([answer], Envelope.TORCHSERVE) == (body, [])


def test_a_tensor_is_saved():
    import io

    from predictor.ipc.messages import Envelope

    body, _ = _encode([torch.arange(3)], Envelope.TORCHSERVE)
    assert torch.equal(torch.load(io.BytesIO(body), weights_only=True), torch.arange(3))


def test_native_answers_say_that_they_are_json():
    from predictor.ipc.messages import Envelope

    assert _encode([{}], Envelope.TORCHSERVE, native=True)[1] == [("content-type", "application/json")]


@pytest.mark.parametrize("answer", [object(), {1, 2}, {"a": np.zeros(2)}])
def test_what_torchserve_cannot_send(answer):
    from predictor.ipc.messages import Envelope

    with pytest.raises(InvalidOutput, match="Unsupported model output data type"):
        _encode([answer], Envelope.TORCHSERVE)


def test_an_error_among_the_answers_is_the_requests_answer():
    with pytest.raises(PredictorError, match="bad row"):
        _encode([{}, InvalidInput("bad row")], V1, single=False)


# JSON


def test_reading_json():
    assert load_json(b'{"a": 1}') == {"a": 1}
    assert math.isnan(load_json(b"[NaN]")[0])
    assert load_json(b"[-Infinity]") == [-math.inf]
    with pytest.raises(InvalidInput, match="Invalid JSON"):
        load_json(b"NaN]")


def test_writing_json():
    value = {
        "array": np.float32([[1, 2]]),
        "scalar": np.int64(3),
        "tensor": torch.tensor([1.5, float("inf")]),
        "bytes": b"text",
        "binary": b"\xff",
        "nan": float("nan"),
        5: "five",
    }
    assert json.loads(dump_json(value)) == {
        "array": [[1, 2]],
        "scalar": 3,
        "tensor": [1.5, None],
        "bytes": "text",
        "binary": base64.b64encode(b"\xff").decode(),
        "nan": None,
        "5": "five",
    }


def test_what_has_no_json_form():
    nested: list[object] = []
    nested.append(nested)
    for value in (object(), nested, {"a": {1}}, "\ud800"):
        with pytest.raises(InvalidOutput):
            dump_json(value)
