"""Handlers that know nothing of explanations, explained over V2: tensors in, tensors out."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from predictor.errors import InvalidInput
from predictor.explain.foreign import ForeignExplainer
from predictor.explain.joined import WishfulRows
from predictor.handlers.context import Context
from predictor.ipc.messages import Envelope, InferenceRequest, Verb
from predictor.oip.datatypes import HEADER_LENGTH
from predictor.runtime.loader import LoadedHandler
from predictor.runtime.service import Service

WEIGHTS = torch.tensor([[1.0, 0.0, -1.0], [2.0, 3.0, 0.5]])


class Rows:
    """A handler of tensors as TorchServe's base_handler is: three steps around a linear model."""

    def __init__(self):
        self.model = nn.Linear(3, 2, bias=False).eval()
        self.model.weight.data.copy_(WEIGHTS)

    def preprocess(self, data):
        (row,) = data
        return torch.tensor(row["data"])

    def handle(self, data, context):
        if context.get_request_header(0, "explain") == "True":
            return [["its own"]] * len(data)
        return [self.model(self.preprocess([row])).tolist() for row in data]


class Brightness:
    """A handler that only answers: the mean of a picture, in base64."""

    def handle(self, data, context):
        return [{"bright": _mean(row["data"]), "dark": 1 - _mean(row["data"])} for row in data]


class Words:
    """A handler that only answers: whether the text says `good`."""

    def handle(self, data, context):
        return [{"praise": 0.9 if "good" in row["data"] else 0.2} for row in data]


class Sums:
    """A handler that only answers, numbers to numbers."""

    def handle(self, data, context):
        return [[float(np.sum(row["data"])), 0.0] for row in data]


def _mean(text):
    return float(np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))).mean()) / 255


def _png(size, value):
    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size), value, dtype=np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _ask(handler, *inputs, outputs=(), **parameters):
    document = {"inputs": list(inputs), "parameters": parameters}
    if outputs:
        document["outputs"] = [{"name": name} for name in outputs]
    context = Context("m", "/m", {"model": {}}, 4, None, model_yaml_config={})
    service = Service(
        LoadedHandler(handler.handle, handler, "own"), context, decode_input=True, max_response_size=1_000_000
    )
    body = json.dumps(document).encode()
    request = InferenceRequest("id", Verb.EXPLAIN, Envelope.V2, content_type="application/json", body=body)
    (result,) = service.run([request], lambda position, part: None)
    if result.error:
        return result.status, result.message
    head = next((int(size) for name, size in result.headers if name == HEADER_LENGTH), len(result.body))
    return {item["name"]: item for item in json.loads(result.body[:head])["outputs"]}


def _tensor(name, data):
    return {"name": name, "datatype": "FP32", "shape": list(np.shape(data)), "data": data}


def _bytes(name, *values):
    return {"name": name, "datatype": "BYTES", "shape": [len(values)], "data": list(values)}


def test_without_a_wish_the_handler_answers_for_itself():
    found = _ask(Rows(), _tensor("x", [[1.0, 2.0, 4.0]]))
    assert found["x"]["data"] == ["its own"]
    found = _ask(Rows(), _tensor("x", [[1.0, 2.0, 4.0]]), priority=3)
    assert found["x"]["data"] == ["its own"], "a parameter that is none of ours"


def test_all_rows_of_a_tensor_are_explained():
    rows = [[1.0, 2.0, 4.0], [0.0, 5.0, 2.0]]
    found = _ask(Rows(), _tensor("x", rows), method="integrated_gradients", target=1, n_steps=4)
    assert list(found) == ["attributions.x", "target", "predicted", "output", "baseline_output", "delta"]
    assert found["attributions.x"]["shape"] == [2, 3]
    np.testing.assert_allclose(
        np.reshape(found["attributions.x"]["data"], (2, 3)), np.array(rows) * WEIGHTS[1].numpy(), atol=1e-5
    )
    assert found["target"]["data"] == [1, 1]
    np.testing.assert_allclose(found["output"]["data"], [10.0, 16.0], atol=1e-5)


def test_several_inputs_are_explained_one_by_one():
    inputs = _tensor("x", [[1.0, 2.0, 4.0]]), _tensor("y", [[0.0, 0.0, 2.0], [1.0, 1.0, 1.0]])
    found = _ask(Rows(), *inputs, explain='{"method": "feature_ablation", "target": 0}')
    assert found["attributions.x"]["shape"] == [1, 3]
    assert found["attributions.y"]["data"] == [0.0, 0.0, -2.0, 1.0, 0.0, -1.0]
    assert found["output"]["data"] == [-3.0, -2.0, 0.0]


def test_numbers_are_taken_apart_where_only_answers_can_be_had():
    found = _ask(Sums(), _tensor("x", [[1.0, 2.0, 4.0]]), target=0)
    assert (found["attributions.x"]["shape"], found["attributions.x"]["data"]) == ([1, 3], [1.0, 2.0, 4.0])
    found = _ask(Sums(), _tensor("x", [1.0, 2.0, 4.0]), target=0)
    assert found["attributions.x"]["shape"] == [1, 3], "a single axis is one example"


def test_pictures_are_taken_apart_and_drawn():
    pictures = _bytes("photo", _png(14, 255), _png(14, 51))
    found = _ask(Brightness(), pictures, target="bright", outputs=["image", "attributions.photo", "output"])
    assert list(found) == ["image", "attributions.photo", "output"]
    assert found["attributions.photo"]["shape"] == [2, 1, 14, 14]
    np.testing.assert_allclose(found["output"]["data"], [1.0, 0.2], atol=1e-3)
    assert (found["image"]["datatype"], found["image"]["shape"]) == ("BYTES", [2])


def test_pictures_of_different_sizes_make_no_tensor():
    status, message = _ask(Brightness(), _bytes("photo", _png(14, 255), _png(21, 255)), target="bright")
    assert status == 400
    assert message.startswith("attributions.photo: the examples differ in shape")


def test_words_are_filled_up_to_the_longest_text():
    found = _ask(Words(), _bytes("text", "a good day", "bad"), method="feature_ablation")
    assert found["attributions.text"]["shape"] == found["words.text"]["shape"] == [2, 3]
    assert found["words.text"]["data"] == ["a", "good", "day", "bad", "", ""]
    np.testing.assert_allclose(found["attributions.text"]["data"], [0.0, 0.7, 0.0, 0.0, 0.0, 0.0], atol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"target": 5}, "parameters.target must be from 0 to 1; got 5"),
        ({"method": "magic"}, "parameters.method must be one of"),
        ({"method": "saliency", "n_steps": 5}, "parameters.n_steps is unknown; allowed are"),
        ({"top_k_targets": 2}, "parameters.top_k_targets must be 1"),
        ({"explain": "{"}, "parameters.explain is not JSON"),
    ],
)
def test_mistakes_are_named(parameters, message):
    status, text = _ask(Rows(), _tensor("x", [[1.0, 2.0, 4.0]]), **parameters)
    assert (status, text[: len(message)]) == (400, message)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (" ", "Input 'review' holds no word, so there is nothing to explain"),
        (b"\xff\x00", "Input 'review' is neither a picture, nor a text, nor numbers"),
    ],
)
def test_an_input_that_cannot_be_taken_apart_is_named(value, message):
    row = {"name": "review", "datatype": "BYTES", "shape": [1], "data": value}
    found = ForeignExplainer(None, lambda rows: [0.5] * len(rows), {})
    with pytest.raises(InvalidInput, match=message):
        found.explain_tensors(WishfulRows([row], {"target": 0}, ()))


def test_an_output_that_is_not_there_is_named():
    status, text = _ask(Rows(), _tensor("x", [[1.0, 2.0, 4.0]]), outputs=["attributions.y"], target=0)
    assert status == 400
    assert text.startswith("Unknown output: 'attributions.y'. Expected: attributions.x, target")
