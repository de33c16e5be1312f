"""V2 on handlers that know nothing of it: what TorchServe's envelope kservev2 did, and batches right."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_fakes import make_service, run
from v2_fakes import grpc, read_grpc, read_rest, rest

from predictor.errors import InvalidInput
from predictor.ipc.messages import Verb
from predictor.oip import inference_pb2 as pb

SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "torchserve" / "requests"


def _bytes(*values, name="x", shape=None):
    return {"name": name, "datatype": "BYTES", "shape": shape or [len(values)], "data": list(values)}


def _numbers(shape, *values, name="x", datatype="FP32"):
    return {"name": name, "datatype": datatype, "shape": shape, "data": list(values)}


class Handler:
    """Answers each row with a function of it, and keeps the rows."""

    def __init__(self, function=lambda row: row["data"]):
        self.batches = []
        self.headers = []
        self.function = function

    def __call__(self, data, context):
        self.batches.append(data)
        self.headers += [context.get_all_request_header(position) for position in range(len(data))]
        return [self.function(row) for row in data]


def _run(function, *requests):
    handler = Handler(function)
    return handler, run(make_service(handler, max_response_size=10**6), *requests)


def _outputs(answer):
    _, (result,) = _run(lambda row: answer, rest({"inputs": [_bytes("a")]}))
    return read_rest(result)[0]["outputs"]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (dt.datetime(2026, 11, 21, tzinfo=dt.timezone.utc), "2026-11-21T00:00:00+00:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ({"a": 'x"'}, '{"a":"x\\""}'),
    ],
)
def test_what_json_writes_as_a_text_is_one(answer, text):
    assert _outputs(answer) == [{"name": "x", "datatype": "BYTES", "shape": [1], "data": [text]}]


def test_each_input_is_a_row_as_in_torchserve():
    entry = {**_numbers([1, 2, 2], 1, 2, 3, 4, name="n"), "parameters": {"top": 3}}
    handler, (result,) = _run(
        lambda row: row["data"], rest({"id": "i", "inputs": [_bytes("aGk=", name="b"), entry]})
    )
    assert handler.batches == [
        [
            {"name": "b", "datatype": "BYTES", "shape": [1], "data": "aGk="},
            {
                "name": "n",
                "datatype": "FP32",
                "shape": [1, 2, 2],
                "data": [[[1, 2], [3, 4]]],
                "parameters": {"top": 3},
            },
        ]
    ]
    document, _ = read_rest(result)
    assert document == {
        "model_name": "m",
        "model_version": "1.0",
        "id": "i",
        "outputs": [
            {"name": "b", "datatype": "BYTES", "shape": [1], "data": ["aGk="]},
            {"name": "n", "datatype": "FP64", "shape": [1, 2, 2], "data": [1, 2, 3, 4]},
        ],
    }


def test_rows_of_several_requests_share_a_call_and_find_their_way_back():
    handler, results = _run(
        lambda row: f"<{row['data']}>",
        rest({"id": "1", "inputs": [_bytes("a", "b", "c")]}),
        rest({"inputs": [_bytes("d", name="one"), _bytes("e", "f", name="two")]}),
    )
    assert [len(batch) for batch in handler.batches] == [6]
    (output,) = read_rest(results[0])[0]["outputs"]
    assert (output["shape"], output["data"]) == ([3], ["<a>", "<b>", "<c>"])
    one, two = read_rest(results[1])[0]["outputs"]
    assert (one["name"], one["data"], two["name"], two["data"]) == ("one", ["<d>"], "two", ["<e>", "<f>"])


def test_texts_are_the_same_through_json_bytes_and_grpc():
    binary = {"name": "x", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 12}}
    tail = b"\x02\0\0\0hi\x02\0\0\0\xff\xfe"
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype="BYTES", shape=[2]).contents.bytes_contents.extend(
        [b"hi", b"\xff\xfe"]
    )
    handler, (first, second) = _run(lambda row: row["data"], rest({"inputs": [binary]}, tail), grpc(message))
    assert [row["data"] for row in handler.batches[0]] == ["hi", b"\xff\xfe"] * 2
    assert read_rest(first)[1]["x"].array.tolist() == [b"hi", b"\xff\xfe"]
    answer, _ = read_grpc(second)
    assert list(answer.outputs[0].contents.bytes_contents) == [b"hi", b"\xff\xfe"]


@pytest.mark.parametrize(
    ("answer", "datatype", "shape", "data"),
    [
        (3, "INT64", [1], [3]),
        (2.5, "FP64", [1], [2.5]),
        (True, "BOOL", [1], [True]),
        ("text", "BYTES", [1], ["text"]),
        (b"text", "BYTES", [1], ["text"]),
        (bytearray(b"text"), "BYTES", [1], ["text"]),
        ([1, 2], "INT64", [2], [1, 2]),
        ([[1.0], [2.0]], "FP64", [2, 1], [1, 2]),
        (["a", "b"], "BYTES", [2], ["a", "b"]),
        ([["a"], ["b"]], "BYTES", [2, 1], ["a", "b"]),
        ([], "FP64", [0], []),
        ({"cat": 0.5}, "BYTES", [1], ['{"cat":0.5}']),
        ([{"a": 1}, {"b": 2}], "BYTES", [2], ['{"a":1}', '{"b":2}']),
        ([[1], [2, 3]], "BYTES", [2], ["[1]", "[2,3]"]),
        ([1, "a"], "BYTES", [2], ["1", "a"]),
        (None, "BYTES", [1], ["null"]),
        (np.float32(1.5), "FP32", [1], [1.5]),
        (np.arange(3, dtype=np.uint8), "UINT8", [3], [0, 1, 2]),
        (np.array(["a"]), "BYTES", [1], ["a"]),
        (torch.tensor([1.5, 2.5], requires_grad=True), "FP32", [2], [1.5, 2.5]),
        (torch.tensor([1.5], dtype=torch.bfloat16), "FP32", [1], [1.5]),
        ({"t": torch.tensor([1])}, "BYTES", [1], ['{"t":[1]}']),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_answers_become_tensors(answer, datatype, shape, data):
    assert _outputs(answer) == [{"name": "x", "datatype": datatype, "shape": shape, "data": data}]


def test_answers_to_several_elements_are_stacked():
    _, (result,) = _run(lambda row: [len(row["data"]), 0], rest({"inputs": [_bytes("a", "bb")]}))
    (output,) = read_rest(result)[0]["outputs"]
    assert (output["shape"], output["data"]) == ([2, 2], [1, 0, 2, 0])


def test_outputs_take_the_names_that_the_client_asks_for():
    document = {"inputs": [_bytes("a")], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
    _, (result,) = _run(lambda row: 1.5, rest(document))
    assert read_rest(result)[1]["y"].array.tolist() == [1.5]
    document = {"inputs": [_bytes("a")], "outputs": [{"name": "y"}, {"name": "z"}]}
    _, (result,) = _run(lambda row: 1.5, rest(document))
    assert (result.status, result.error) == (400, "InvalidInput")


def test_an_answer_without_json_form_is_the_handlers_fault():
    _, (result,) = _run(lambda row: object(), rest({"inputs": [_bytes("a")]}))
    assert result.error == "InvalidOutput"


def test_one_bad_element_is_an_error_of_its_request_alone():
    def answer(row):
        return InvalidInput("no") if row["data"] == "bad" else row["data"]

    _, results = _run(answer, rest({"inputs": [_bytes("a", "bad")]}), rest({"inputs": [_bytes("b")]}))
    assert [result.error for result in results] == ["InvalidInput", ""]


def test_empty_texts_and_bfloat16():
    _, (result,) = _run(lambda row: 1, rest({"inputs": [_bytes(shape=[0])]}))
    assert (result.status, result.message) == (400, "Input 'x' is empty")
    entry = {"name": "x", "datatype": "BF16", "shape": [1], "parameters": {"binary_data_size": 2}}
    handler, _ = _run(lambda row: 1, rest({"inputs": [entry]}, b"\xc0\x3f"))
    assert handler.batches[0][0]["data"] == [1.5]


def test_handlers_see_headers_and_the_verb():
    handler, _ = _run(lambda row: 1, rest({"inputs": [_bytes("a")]}, verb=Verb.EXPLAIN))
    assert handler.headers[0]["explain"] == "True"


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="TorchServe's sample requests are not here")
def test_torchserves_sample_requests():
    for name in ("mnist_v2_bytes", "mnist_v2_tensor"):
        body = (SAMPLES / f"{name}.json").read_bytes()
        handler, (result,) = _run(lambda row: 7, rest(body))
        sent = json.loads(body)
        data = sent["inputs"][0]["data"]
        expected = data[0] if "bytes" in name else np.array(data, dtype=np.float32).tolist()
        assert handler.batches[0][0]["data"] == expected
        document, _ = read_rest(result)
        assert document["id"] == sent["id"]
        assert document["outputs"] == [
            {"name": sent["inputs"][0]["name"], "datatype": "INT64", "shape": [1], "data": [7]}
        ]


# parameters of answers


class Telling:
    """Sets the parameters that a test wants, and answers its rows."""

    def __init__(self, *told):
        self.told = told

    def __call__(self, data, context):
        for index, parameters, *output in self.told:
            context.set_response_parameters(index, parameters, *output)
        return [row["data"] for row in data]


def _told(*told, inputs=2, wanted=(), make=rest):
    entries = [_numbers([1], 1.0, name=f"x{number}") for number in range(inputs)]
    document = {"inputs": entries, "outputs": [{"name": name} for name in wanted]}
    return run(make_service(Telling(*told), max_response_size=10**6), make(document))[0]


def test_a_handler_sets_parameters_of_its_answer_and_of_its_outputs():
    result = _told(
        (0, {"a": True, "b": 3}),
        (1, {"b": np.int64(4), "c": np.float32(0.5), "d": "é"}),
        (0, {"unit": "m"}, "x1"),
        (0, {"unit": "s"}, "another"),
    )
    document, _ = read_rest(result)
    assert document["parameters"] == {"a": True, "b": 4, "c": 0.5, "d": "é"}
    assert [output.get("parameters") for output in document["outputs"]] == [None, {"unit": "m"}]


def test_parameters_go_with_outputs_in_bytes():
    wanted = [{"name": "x", "parameters": {"binary_data": True}}]
    request = rest({"inputs": [_numbers([1], 1.0)], "outputs": wanted})
    (result,) = run(make_service(Telling((0, {"unit": "m"}, "x")), max_response_size=10**6), request)
    (output,) = read_rest(result)[0]["outputs"]
    assert output["parameters"] == {"unit": "m", "binary_data_size": 8}


@pytest.mark.parametrize(
    "value", [True, False, 0, -(2**63), 2**63 - 1, 2**63, 2**64 - 1, -0.5, 1e300, "", "é"]
)
def test_a_parameter_is_the_same_over_grpc_and_rest(value):
    (over_rest,) = run(
        make_service(Telling((0, {"p": value}), (0, {"p": value}, "x")), max_response_size=10**6),
        rest({"inputs": [_numbers([1], 1.0)]}),
    )
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(1)
    (over_grpc,) = run(
        make_service(Telling((0, {"p": value}), (0, {"p": value}, "x")), max_response_size=10**6),
        grpc(message),
    )
    document, _ = read_rest(over_rest)
    assert document["parameters"]["p"] == document["outputs"][0]["parameters"]["p"] == value
    answer = pb.ModelInferResponse.FromString(over_grpc.body)
    for field in (answer.parameters["p"], answer.outputs[0].parameters["p"]):
        found = getattr(field, field.WhichOneof("parameter_choice"))
        assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "parameters",
    [
        {"p": None},
        {"p": [1]},
        {"p": b"x"},
        {"p": 1j},
        {"p": np.arange(2)},
        {"p": float("nan")},
        {"p": np.float32("inf")},
        {"p": 2**64},
        {"p": -(2**63) - 1},
        {"p": "\ud800"},
        {"\ud800": 1},
        {1: 1},
        {"binary_data_size": 1},
    ],
    ids=repr,
)
def test_what_is_no_parameter_is_the_handlers_mistake(parameters):
    result = _told((0, parameters))
    assert (result.status, result.error) == (500, "HandlerFailed")


def test_rows_of_one_call_keep_their_parameters_apart():
    handler = Telling((0, {"of": 0}), (2, {"of": 2}), (1, {"more": 1}))
    requests = [rest({"inputs": [_numbers([1], 1.0)]}), rest({"inputs": [_bytes("a", "b")]})]
    first, second = run(make_service(handler, max_response_size=10**6), *requests)
    assert read_rest(first)[0]["parameters"] == {"of": 0}
    assert read_rest(second)[0]["parameters"] == {"more": 1, "of": 2}


# parameters that must not be ignored


@pytest.mark.parametrize("parameter", ["shared_memory_region", "classification"])
@pytest.mark.parametrize("key", ["inputs", "outputs"])
def test_extensions_of_triton_that_are_not_there_are_refused(parameter, key):
    document = {"inputs": [_numbers([1], 1.0)], "outputs": [{"name": "x"}]}
    document[key][0]["parameters"] = {parameter: 1}
    message = pb.ModelInferRequest(model_name="m")
    entry = message.inputs.add(name="x", datatype="FP32", shape=[1])
    entry.contents.fp32_contents.append(1)
    entry = message.outputs.add(name="x") if key == "outputs" else entry
    entry.parameters[parameter].int64_param = 1
    _, results = _run(lambda row: 1, rest(document), grpc(message))
    for result in results:
        assert (result.status, result.error) == (400, "InvalidInput")
        assert f"Tensor 'x': parameter '{parameter}' is not supported" in result.message
