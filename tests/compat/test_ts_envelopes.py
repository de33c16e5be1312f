from __future__ import annotations

import json

import pytest
from ts.torch_handler.request_envelope.body import BodyEnvelope
from ts.torch_handler.request_envelope.json import JSONEnvelope
from ts.torch_handler.request_envelope.kserve import KServeEnvelope
from ts.torch_handler.request_envelope.kservev2 import KServev2Envelope


def echo(rows, context):
    return rows


def test_body(context):
    assert BodyEnvelope(echo).handle([{"body": b"a"}, {"data": "b"}], context()) == [b"a", "b"]


def test_nothing_is_wrapped_while_loading():
    assert KServeEnvelope(lambda data, context: None).handle(None, "context") is None


def test_json_decodes_base64_and_keeps_requests_apart(context):
    seen = []

    def handle(rows, context):
        seen.extend(rows)
        return list(range(len(rows)))

    bodies = [{"instances": [{"b64": "aGk="}, {"x": {"b64": "aGk="}, "y": 1}]}, {"instances": [3]}]
    answers = JSONEnvelope(handle).handle([{"body": body} for body in bodies], context())
    assert seen == [b"hi", {"x": b"hi", "y": 1}, 3]
    assert answers == ['{"predictions": [0, 1]}', '{"predictions": [2]}']


def test_json_takes_fields_and_bytes(context):
    envelope = JSONEnvelope(echo)
    assert envelope.handle([{"instances": [1]}], context()) == ['{"predictions": [1]}']
    assert envelope.handle([{"body": b'{"instances": [1]}'}], context()) == ['{"predictions": [1]}']


@pytest.mark.parametrize(("explain", "key"), [("True", "explanations"), ("False", "predictions")])
def test_kserve_answers_every_request_of_a_batch(context, explain, key):
    rows = [{"body": {"instances": [1, 2]}}, {"body": b'{"instances": [3]}'}, {"data": {"instances": [4, 5]}}]
    answers = KServeEnvelope(echo).handle(rows, context(headers=({"explain": explain},) * 3))
    assert answers == [{key: [1, 2]}, {key: [3]}, {key: [4, 5]}]


def test_one_request_gets_whatever_the_handler_answers(context):
    answer = KServeEnvelope(lambda rows, context: ["one for all"]).handle(
        [{"body": {"instances": [1, 2]}}], context()
    )
    assert answer == [{"predictions": ["one for all"]}]


def test_answers_that_cannot_be_told_apart_are_an_error(context):
    rows = [{"body": {"instances": [1, 2]}}, {"body": {"instances": [3]}}]
    with pytest.raises(ValueError, match="1 items for 3 rows"):
        KServeEnvelope(lambda rows, context: ["one"]).handle(rows, context())


@pytest.mark.parametrize("envelope", [KServeEnvelope, KServev2Envelope, JSONEnvelope])
def test_a_request_without_rows_is_an_error(context, envelope):
    with pytest.raises(KeyError):
        envelope(echo).handle([{"body": {"x": 1}}], context())


def v2(name="a", datatype="FP32", shape=(2, 2), data=(1, 2, 3, 4), **more):
    return {
        "inputs": [{"name": name, "shape": list(shape), "datatype": datatype, "data": list(data)}],
        **more,
    }


def test_v2_reshapes_inputs_and_names_outputs(context):
    rows, names = [], []

    def handle(data, context):
        rows.extend(data)
        names.extend(context.input_names)
        return [[[1.5, 2.5]], "text", True]

    first = v2(id="mine")
    first["inputs"] += v2("b", "BYTES", [1], ["hey"])["inputs"]
    bodies = [{"body": first}, {"body": json.dumps(v2("c", "INT64", [1], [7])).encode()}]
    answers = KServev2Envelope(handle).handle(bodies, context(headers=({}, {})))
    assert [row["data"] for row in rows] == [[[1, 2], [3, 4]], "hey", [7]]
    assert names == ["a", "b", "c"]
    assert answers == [
        {
            "id": "mine",
            "model_name": "m",
            "model_version": "1.0",
            "outputs": [
                {"name": "a", "datatype": "FP64", "data": [1.5, 2.5], "shape": [1, 2]},
                {"name": "b", "datatype": "BYTES", "data": ["text"], "shape": [1]},
            ],
        },
        {
            "id": "id1",
            "model_name": "m",
            "model_version": "1.0",
            "outputs": [{"name": "c", "datatype": "BOOL", "data": [True], "shape": [1]}],
        },
    ]
    json.dumps(answers)
