"""V2 on signature models: what goes in comes out, whichever way, and requests share a forward pass."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_fakes import run
from v2_fakes import (
    as_binary,
    as_json,
    grpc,
    identity,
    make_signature_service,
    read_grpc,
    read_rest,
    rest,
)
from v2_strategies import JSON_NUMBERS, NUMPY, same, tensors

from predictor.handlers.tensors import Tensor
from predictor.oip import inference_pb2 as pb
from predictor.runtime.tensors import to_bytes
from predictor.runtime.v2_grpc import _CONTENTS

NUMBERS = [*NUMPY, "BF16"]
_DTYPES = {**NUMPY, "BF16": "bfloat16"}


def _service_for(tensor):
    return identity(_DTYPES[tensor.datatype], tensor.array.shape[1:])


def _with_batch_axis(tensor):
    return Tensor("x", tensor.datatype, tensor.array if tensor.array.ndim else tensor.array[None])


@settings(max_examples=200, deadline=None)
@given(tensors(NUMBERS))
def test_any_numbers_come_back_from_rest_as_bytes(tensor):
    tensor = _with_batch_axis(tensor)
    service, _ = _service_for(tensor)
    described, data = as_binary(tensor)
    document = {"inputs": [described], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
    _, outputs = read_rest(
        run(service, rest(document, data, length=None if data else len(json.dumps(document).encode())))[0]
    )
    assert same(outputs["y"], tensor)


@settings(max_examples=200, deadline=None)
@given(tensors(JSON_NUMBERS, finite=True))
def test_any_numbers_come_back_from_rest_as_json(tensor):
    tensor = _with_batch_axis(tensor)
    service, _ = _service_for(tensor)
    _, outputs = read_rest(run(service, rest({"inputs": [as_json(tensor)]}))[0])
    assert same(outputs["y"], tensor)


@settings(max_examples=200, deadline=None)
@given(tensors(NUMBERS), st.booleans())
def test_any_numbers_come_back_from_grpc(tensor, raw):
    tensor = _with_batch_axis(tensor)
    service, _ = _service_for(tensor)
    message = pb.ModelInferRequest(model_name="m")
    item = message.inputs.add(name="x", datatype=tensor.datatype, shape=tensor.array.shape)
    if raw or tensor.datatype not in _CONTENTS:
        message.raw_input_contents.append(to_bytes(tensor))
    else:
        getattr(item.contents, _CONTENTS[tensor.datatype]).extend(tensor.array.reshape(-1).tolist())
    answer, outputs = read_grpc(run(service, grpc(message))[0])
    assert same(outputs["y"], tensor) or (not raw and np.isnan(tensor.array.astype(float)).any())
    assert bool(answer.raw_output_contents) == bool(message.raw_input_contents)


PAIR = {
    "inputs": [{"name": "a", "dtype": "float32", "shape": [2]}, {"name": "b", "dtype": "int64", "shape": []}],
    "outputs": [
        {"name": "sum", "dtype": "float32", "shape": [2]},
        {"name": "twice", "dtype": "int64", "shape": []},
    ],
}


def _pair():
    return make_signature_service(PAIR, lambda a, b: (a + b[:, None], 2 * b))


def _a(rows, start=0.0):
    values = (np.arange(2 * rows, dtype=np.float32) + start).reshape(rows, 2)
    return as_json(Tensor("a", "FP32", values))


def _b(*values):
    return as_json(Tensor("b", "INT64", np.array(values, dtype=np.int64)))


def test_requests_of_several_rows_share_one_forward_pass():
    service, model = _pair()
    results = run(
        service,
        rest({"id": "one", "inputs": [_a(2), _b(1, 2)]}, request_id="r-1"),
        rest({"inputs": [_b(7), _a(1, 10)]}, request_id="r-2"),
        rest({"inputs": [_a(3)]}),
        rest({"inputs": [_a(3, 5), _b(0, 0, 1)], "outputs": [{"name": "twice"}]}),
    )
    assert model.calls == [[(6, 2), (6,)]]
    first, outputs = read_rest(results[0])
    assert (first["id"], first["model_name"], first["model_version"]) == ("one", "m", "1.0")
    assert outputs["sum"].array.tolist() == [[1, 2], [4, 5]]
    assert outputs["twice"].array.tolist() == [2, 4]
    second, outputs = read_rest(results[1])
    assert second["id"] == "r-2"
    assert outputs["sum"].array.tolist() == [[17, 18]]
    assert (results[2].error, results[2].message) == ("InvalidInput", "Missing required input: 'b'")
    _, outputs = read_rest(results[3])
    assert {name: tensor.array.tolist() for name, tensor in outputs.items()} == {"twice": [0, 0, 2]}


def test_rest_and_grpc_share_a_batch():
    service, model = identity("float32", [1])
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=[np.float32(3).tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    tensor = Tensor("x", "FP32", np.array([[1], [2]], dtype=np.float32))
    results = run(service, rest({"inputs": [as_json(tensor)]}), grpc(message))
    assert model.calls == [[(3, 1)]]
    assert read_rest(results[0])[1]["y"].array.tolist() == [[1], [2]]
    assert read_grpc(results[1])[1]["y"].array.tolist() == [[3]]


def test_requests_of_other_shapes_are_computed_apart():
    service, model = identity("float32", [-1])
    sizes = [(1, 2), (2, 3), (3, 2)]
    requests = [
        rest({"inputs": [as_json(Tensor("x", "FP32", np.full(size, size[0], dtype=np.float32)))]})
        for size in sizes
    ]
    results = run(service, *requests)
    assert sorted(model.calls) == [[(2, 3)], [(4, 2)]]
    assert [read_rest(result)[1]["y"].array.shape for result in results] == sizes


def test_a_model_may_write_into_its_inputs():
    def spoil(x):
        x += 1
        return x

    section = {"inputs": [{"name": "x", "shape": [1]}], "outputs": [{"name": "y", "shape": [1]}]}
    service, _ = make_signature_service(section, spoil)
    described, data = as_binary(Tensor("x", "FP32", np.zeros((1, 1), dtype=np.float32)))
    request = rest({"inputs": [described]}, data)
    for _ in range(2):
        assert read_rest(run(service, request)[0])[1]["y"].array.tolist() == [[1]]


def test_one_example_may_come_without_the_batch_axis():
    service, model = _pair()
    inputs = [
        {"name": "a", "datatype": "FP32", "shape": [2], "data": [1, 2]},
        {"name": "b", "datatype": "INT64", "shape": [], "data": 5},
    ]
    _, outputs = read_rest(run(service, rest({"inputs": inputs}))[0])
    assert model.calls == [[(1, 2), (1,)]]
    assert outputs["sum"].array.shape == (1, 2)


def test_a_lone_input_fits_by_any_name_and_a_column_of_scalars_may_be_n_by_1():
    service, _ = identity("float32", [])
    tensor = Tensor("input-0", "FP32", np.array([[1], [2]], dtype=np.float32))
    assert read_rest(run(service, rest({"inputs": [as_json(tensor)]}))[0])[1]["y"].array.tolist() == [1, 2]


def test_numbers_are_cast_where_nothing_is_lost():
    service, _ = identity("float32", [])
    for datatype, values in (("INT64", [3]), ("UINT8", [3]), ("FP64", [3.5]), ("INT8", [-3])):
        entry = {"name": "x", "datatype": datatype, "shape": [1], "data": values}
        output = read_rest(run(service, rest({"inputs": [entry]}))[0])[1]["y"]
        assert (output.datatype, output.array.tolist()) == ("FP32", values)
    described, data = as_binary(Tensor("x", "BF16", np.array([0x3FC0], dtype="<u2")))
    assert read_rest(run(service, rest({"inputs": [described]}, data))[0])[1]["y"].array.tolist() == [1.5]


def test_packed_scalars_come_as_columns_or_as_one_tensor():
    section = {
        "inputs": [{"name": name, "shape": []} for name in "abc"],
        "pack_inputs": True,
        "outputs": [{"name": "y", "shape": [3]}],
    }
    service, model = make_signature_service(section, lambda x: x)
    columns = [
        {"name": name, "datatype": "FP32", "shape": [2], "data": [i, i + 10]} for i, name in enumerate("abc")
    ]
    whole = {"name": "x", "datatype": "FP64", "shape": [1, 3], "data": [7, 8, 9]}
    first, second = run(service, rest({"inputs": columns[::-1]}), rest({"inputs": [whole]}))
    assert model.calls == [[(3, 3)]]
    assert read_rest(first)[1]["y"].array.tolist() == [[0, 1, 2], [10, 11, 12]]
    assert read_rest(second)[1]["y"].array.tolist() == [[7, 8, 9]]


def test_a_classifier_answers_labels():
    section = {
        "inputs": [{"name": "x", "shape": [2]}],
        "outputs": [{"name": "probabilities", "shape": [2]}],
        "classes": ["no", "yes"],
    }
    service, _ = make_signature_service(section, lambda x: x)
    entry = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [0, 100, 100, 0]}
    _, outputs = read_rest(run(service, rest({"inputs": [entry]}))[0])
    assert outputs["label"].array.tolist() == ["yes", "no"]
    assert outputs["score"].array.tolist() == [1, 1]
    assert outputs["probabilities"].array.shape == (2, 2)


def test_half_precision_outputs_are_sent_as_bytes_unasked():
    section = {
        "inputs": [{"name": "x", "shape": []}],
        "outputs": [{"name": "y", "dtype": "float16", "shape": []}],
    }
    service, _ = make_signature_service(section, lambda x: x.half())
    entry = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1.5]}
    result = run(service, rest({"inputs": [entry]}))[0]
    assert ("content-type", "application/octet-stream") in result.headers
    output = read_rest(result)[1]["y"]
    assert (output.datatype, output.array.tolist()) == ("FP16", [1.5])


def test_binary_output_for_all_but_one():
    service, _ = _pair()
    document = {
        "inputs": [_a(1), _b(1)],
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "twice", "parameters": {"binary_data": False}}, {"name": "sum"}],
    }
    answer, outputs = read_rest(run(service, rest(document))[0])
    assert [item["name"] for item in answer["outputs"]] == ["twice", "sum"]
    assert answer["outputs"][0]["data"] == [2]
    assert answer["outputs"][1]["parameters"] == {"binary_data_size": 8}
    assert outputs["sum"].array.tolist() == [[1, 2]]


def test_nan_and_infinity_as_python_writes_them():
    service, _ = identity("float32", [])
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [3], "data": [NaN, -Infinity, 1]}]}'
    result = run(service, rest(body))[0]
    assert b'"data":[null,null,1.0]' in result.body


GOOD = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff", "JSON"),
        (b"[" * 100_000, "object"),
        (b'{"inputs":' * 50_000, "array"),
        (b'{"inputs": [{"data": ' + b"[" * 100_000, "JSON"),
        (b'{"x": ' * 100_000, "JSON"),
        (b'{"a": NaN', "JSON"),
        (b"[NaN]", "object"),
        (b'{"inputs": [NaN]}', "inputs"),
        ([], "object"),
        ({}, "inputs"),
        ({"inputs": []}, "'inputs' is empty"),
        ({"inputs": {}}, "inputs"),
        ({"inputs": [1]}, "inputs"),
        ({"inputs": [{**GOOD, "name": 1}]}, "name"),
        ({"inputs": [{**GOOD, "shape": 1}]}, "shape"),
        ({"inputs": [{**GOOD, "shape": ["1"]}]}, "shape"),
        ({"inputs": [{**GOOD, "shape": [-1, 1]}]}, "'x'"),
        ({"inputs": [{**GOOD, "shape": [2, 1]}]}, "'x'"),
        ({"inputs": [{**GOOD, "shape": [1, 2], "data": [1, 2]}]}, "expected \\[-1, 1\\], got \\[1, 2\\]"),
        ({"inputs": [{**GOOD, "datatype": "FP31"}]}, "FP31"),
        ({"inputs": [{**GOOD, "datatype": "BOOL", "data": [True]}]}, "expected FP32, got BOOL"),
        ({"inputs": [{**GOOD, "datatype": "BYTES", "data": ["a"]}]}, "expected FP32, got BYTES"),
        ({"inputs": [{**GOOD, "data": None}]}, "neither"),
        ({"inputs": [GOOD, GOOD]}, "same name"),
        ({"inputs": [GOOD, {**GOOD, "name": "y"}]}, "Unknown input: 'y'"),
        ({"inputs": [GOOD], "outputs": [{"name": "z"}]}, "Unknown output: 'z'. Expected: y"),
        ({"inputs": [GOOD], "outputs": 1}, "outputs"),
        ({"inputs": [GOOD], "id": 1}, "id"),
        ({"inputs": [GOOD], "parameters": {"binary_data_output": 1}}, "binary_data_output"),
        ({"inputs": [GOOD], "parameters": {"nested": {}}}, "parameters"),
        ({"inputs": [{**GOOD, "parameters": {"binary_data_size": 4}}]}, "both"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_requests_that_are_wrong(document, text):
    service, model = identity("float32", [1])
    (result,) = run(service, rest(document))
    assert (result.status, result.error) == (400, "InvalidInput")
    assert re.search(text, result.message), result.message
    assert not model.calls


@pytest.mark.parametrize(
    ("size", "tail", "length"),
    [
        (4, b"abc", None),
        (4, b"abcde", None),
        (3, b"abc", None),
        (-4, b"abcd", None),
        (2**70, b"abcd", None),
        (4.5, b"abcd", None),
        (True, b"abcd", None),
        ("4", b"abcd", None),
        (4, b"abcd", "x"),
        (4, b"abcd", "-1"),
        (4, b"abcd", "1e1"),
        (4, b"abcd", "99999"),
        (4, b"abcd", "9" * 50),
        (4, b"abcd", "٤"),
        (4, b"abcd", 3),
    ],
)
def test_lengths_that_lie(size, tail, length):
    service, model = identity("float32", [1])
    entry = {"name": "x", "datatype": "FP32", "shape": [1, 1], "parameters": {"binary_data_size": size}}
    (result,) = run(service, rest({"inputs": [entry]}, tail, length=length))
    assert (result.status, result.error) == (400, "InvalidInput"), result
    assert not model.calls


def test_wrong_messages_over_grpc():
    service, model = identity("float32", [1])
    entry = {"name": "x", "datatype": "FP32", "shape": [1, 1]}

    def message(*, raw=(), **changes):
        built = pb.ModelInferRequest(model_name="m", raw_input_contents=raw)
        built.inputs.add(**{**entry, **changes})
        return built

    both = message(raw=[b"abcd"])
    both.inputs[0].contents.fp32_contents.append(1)
    wrong_field = message()
    wrong_field.inputs[0].contents.int_contents.append(1)
    two_fields = message()
    two_fields.inputs[0].contents.fp32_contents.append(1)
    two_fields.inputs[0].contents.int_contents.append(1)
    out_of_range = message(datatype="INT8")
    out_of_range.inputs[0].contents.int_contents.append(1000)
    requests = [
        b"\xff\xff",
        message(raw=[b"abcd"]).SerializeToString()[:-2],
        pb.ModelInferRequest(model_name="m"),
        message(),
        message(raw=[b"abc"]),
        message(raw=[b"abcd", b"abcd"]),
        message(raw=[b"abcd"], shape=[-1, 1]),
        message(raw=[b"abcd"], shape=[2**62, 2**62]),
        message(raw=[b"abcd"], shape=[1] * 40),
        message(raw=[b"abcd"], datatype="FP31"),
        message(datatype="FP16"),
        both,
        wrong_field,
        two_fields,
        out_of_range,
    ]
    for result in run(service, *(grpc(request) for request in requests)):
        assert (result.status, result.error) == (400, "InvalidInput"), result
    assert not model.calls


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutilated_messages_are_refused_or_answered(data):
    service, _ = identity("float32", [-1])
    message = pb.ModelInferRequest(model_name="m", id="i", raw_input_contents=[b"abcdefgh"])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    described, tail = as_binary(Tensor("x", "FP32", np.zeros((1, 2), dtype=np.float32)))
    over_rest = data.draw(st.booleans())
    good = rest({"inputs": [described]}, tail) if over_rest else grpc(message)
    body = bytearray(good.body)
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255)), max_size=4)
    ):
        body[position] = value
    good.body = bytes(body[: data.draw(st.integers(0, len(body)))])
    (result,) = run(service, good)
    assert result.error in ("", "InvalidInput"), result


def test_a_model_whose_output_has_another_batch_size_is_at_fault():
    section = {"inputs": [{"name": "x", "shape": [1]}], "outputs": [{"name": "y", "shape": [1]}]}
    service, _ = make_signature_service(section, lambda x: x[:0])
    (result,) = run(service, rest({"inputs": [GOOD]}))
    assert result.error == "InvalidOutput"
    service, _ = make_signature_service(section, lambda x: torch.tensor(1.0))
    (result,) = run(service, rest({"inputs": [GOOD]}))
    assert result.error == "InvalidOutput"


def test_the_answers_id_is_the_clients_or_the_one_it_finds_in_the_log():
    service, _ = identity("float32", [1])
    asked = rest({"inputs": [GOOD]}, request_id="mine.0123456789ab")
    asked.headers.append(("X-Request-Id", "mine"))
    own, by_header, by_server = run(
        service,
        rest({"id": "own", "inputs": [GOOD]}),
        asked,
        rest({"inputs": [GOOD]}, request_id="made-here"),
    )
    assert [read_rest(result)[0]["id"] for result in (own, by_header, by_server)] == [
        "own",
        "mine",
        "made-here",
    ]


def test_a_bare_tensor_that_nvidias_client_may_send_is_refused():
    service, _ = identity("float32", [1])
    request = rest({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]})
    request.headers = [*request.headers, ("Inference-Header-Content-Length", "0")]
    (result,) = run(service, request)
    assert result.error == "InvalidInput"
    assert "from 1 to" in result.message


def test_bytes_behind_the_json_without_the_header_that_tells_its_length():
    service, _ = identity("float32", [1])
    entry = {"name": "x", "datatype": "FP32", "shape": [1, 1], "parameters": {"binary_data_size": 4}}
    request = rest({"inputs": [entry]}, b"abcd")
    request.headers = [pair for pair in request.headers if "length" not in pair[0].lower()]
    (result,) = run(service, request)
    assert result.error == "InvalidInput"
    assert "inference-header-content-length" in result.message


@pytest.mark.parametrize("field", ["name", "shape", "datatype", "data", "parameters", "extra"])
def test_half_a_surrogate_pair_beside_a_constant_is_the_clients_mistake(field):
    service, _ = identity("float32", [1])
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [float("nan")], field: "\ud800"}
    (result,) = run(service, rest({"inputs": [tensor], "more": float("nan")}))
    assert (result.status, result.error) == (400, "InvalidInput")
