"""Handlers that know nothing of explanations: those of TorchServe, and functions that only answer."""

from __future__ import annotations

import base64
import io
import json
import math
import warnings

import captum.attr as captum
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from predictor.errors import InvalidInput, PredictorError
from predictor.explain.adopting import Adopting
from predictor.explain.answers import AnswerReader
from predictor.explain.foreign import ForeignExplainer
from predictor.explain.result import Page
from predictor.explain.taking_apart import take_apart


class Quarters(nn.Module):
    """Brightness of the four quarters of a picture, to three classes."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.linear = nn.Linear(16, 3)

    def forward(self, x):
        return self.linear(self.pool(torch.relu(self.convolution(x))).flatten(1))


def network():
    torch.manual_seed(7)
    return Quarters().eval()


def png(size=(12, 12), mode="RGB", seed=0):
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class Vision:
    """A handler as TorchServe's are: three steps, a model, labels."""

    mapping = {"0": ["n0", "ash"], "1": ["n1", "birch"], "2": ["n2", "cedar"]}

    def __init__(self, model):
        self.model = model
        self.calls = 0

    def preprocess(self, data):
        payload = data[0].get("data") or data[0].get("body")
        picture = np.asarray(Image.open(io.BytesIO(payload)).convert("RGB"), dtype=np.float32) / 255
        return torch.from_numpy(picture.transpose(2, 0, 1)).unsqueeze(0)

    def inference(self, data):
        with torch.inference_mode():
            return self.model(data)

    def handle(self, data):
        self.calls += 1
        answers = []
        for row in data:
            chances = torch.softmax(self.inference(self.preprocess([row])), dim=1)[0]
            answers.append({label: float(chance) for label, chance in zip("abc", chances, strict=True)})
        return answers


def explainer(instance, predict=None, **settings):
    return ForeignExplainer(instance, predict or getattr(instance, "handle", None), settings)


@pytest.fixture(params=["eager", "script", "trace", "export", "compiled"])
def handler(request):
    model, example = network(), torch.rand(1, 3, 12, 12)
    made = {
        "eager": lambda: model,
        "script": lambda: torch.jit.script(model),
        "trace": lambda: torch.jit.trace(model, example),
        "export": lambda: torch.export.export(
            model, (torch.rand(2, 3, 12, 12),), dynamic_shapes=({0: torch.export.Dim("rows")},)
        ).module(),
        "compiled": lambda: torch.compile(model, backend="eager"),
    }[request.param]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Vision(made())


def test_what_follows_preprocessing_is_explained_as_captum_would(handler):
    wish = {"method": "integrated_gradients", "target": "birch", "args": {"n_steps": 20}, "reduce": "none"}
    answer = explainer(handler).explain({"data": png(), "explain": wish}, "")
    tensor = handler.preprocess([{"data": png()}])
    theirs = captum.IntegratedGradients(network()).attribute(tensor, target=1, n_steps=20)[0]
    np.testing.assert_allclose(answer["inputs"][0]["attributions"], theirs.numpy(), atol=1e-5)
    assert answer["target"] == {"index": 1, "label": "birch"}
    assert handler.calls == 0, "its answers were not needed"


@pytest.mark.parametrize(
    "method", ["saliency", "occlusion", "feature_ablation", "kernel_shap", "grad_cam", "deep_lift"]
)
def test_other_methods_and_pictures(method):
    found = explainer(Vision(network()))
    answer = found.explain({"data": png(), "explain": {"method": method, "return": ["image"]}}, "")
    assert answer["method"] == method
    assert Image.open(io.BytesIO(base64.b64decode(answer["inputs"][0]["image"]["data"]))).format == "PNG"
    page = found.explain({"body": png()}, "image/png")
    assert isinstance(page, Page)
    assert method in [one["name"] for one in found.describe()["methods"]]


def test_one_copy_of_the_model_serves_all_inputs_of_a_shape():
    found = explainer(Vision(network()))
    for seed in (1, 2):
        answer = found.explain({"data": png(seed=seed), "explain": {"reduce": "none"}}, "")
        tensor = Vision(None).preprocess([{"data": png(seed=seed)}])
        total = np.sum(answer["inputs"][0]["attributions"])
        gain = answer["prediction"]["output"] - answer["prediction"]["baseline_output"]
        assert total == pytest.approx(gain, rel=0.02)
        label = ("ash", "birch", "cedar")[int(network()(tensor).argmax())]
        assert answer["prediction"]["label"] == label
    found.explain({"data": png((16, 12)), "explain": {}}, "")
    assert len(found._explainers) == 2


def test_a_model_that_is_no_module_is_called_as_the_handler_calls_it():
    class Session(Vision):
        def inference(self, data):
            return [network()(data).detach().numpy()]  # as an ONNX session answers

    found = explainer(Session(object()))
    answer = found.explain({"data": png(), "explain": {"method": "feature_ablation", "target": 2}}, "")
    ours = np.asarray(answer["inputs"][0]["attributions"])
    squares = torch.arange(12) * 7 // 12
    theirs = captum.FeatureAblation(network()).attribute(
        Vision(None).preprocess([{"data": png()}]),
        target=2,
        feature_mask=(squares.unsqueeze(1) * 7 + squares).expand(1, 3, 12, 12),
    )
    np.testing.assert_allclose(ours, theirs[0, 0].numpy(), atol=1e-5)
    refused = found.explain({"data": png(), "explain": {"method": "saliency"}}, "")
    assert isinstance(refused, InvalidInput)
    assert "a function without gradients" in refused.message


def test_a_tensor_that_the_handler_brings_to_its_model_only_later_is_brought_there():
    adopted = Adopting(Vision(network().to("meta")), None).by_tensor({"data": png()})
    assert adopted.device.type == "meta"
    assert adopted.tensors["input"].device.type == "meta"


def test_a_picture_is_taken_apart_where_only_answers_can_be_had():
    vision = Vision(network())
    found = explainer(None, vision.handle)
    assert found.describe()["default_method"] == "feature_ablation"
    assert "integrated_gradients" not in [method["name"] for method in found.describe()["methods"]]
    answer = found.explain({"data": png(), "explain": {"target": "b"}}, "")
    assert answer["prediction"]["kind"] == "probability"
    assert answer["method"] == "feature_ablation"
    dark = np.asarray(Image.open(io.BytesIO(png()))).copy()
    dark[:2, :2] = 0  # the first of 7 x 7 squares
    buffer = io.BytesIO()
    Image.fromarray(dark).save(buffer, "PNG")
    before, after = (vision.handle([{"data": data}])[0]["b"] for data in (png(), buffer.getvalue()))
    assert answer["inputs"][0]["attributions"][0][0] == pytest.approx(before - after, abs=1e-5)


def test_a_picture_in_base64_comes_back_in_base64():
    seen = []

    def answers(rows):
        seen.extend(row["data"] for row in rows)
        return [{"bright": float(np.asarray(_opened(row["data"])).mean()) / 255} for row in rows]

    found = explainer(None, answers)
    given = base64.b64encode(png(mode="L")).decode()
    answer = found.explain({"data": given, "explain": {"args": {"grid": 2}}}, "")
    assert np.asarray(answer["inputs"][0]["attributions"]).min() > 0, "every part adds brightness"
    assert all(isinstance(data, str) for data in seen)


def _opened(text):
    return Image.open(io.BytesIO(base64.b64decode(text)))


@pytest.mark.parametrize("payload", ["a good day", b"a good day", bytearray(b"a good day")])
def test_words_are_left_out_where_only_answers_can_be_had(payload):
    def answers(rows):
        texts = [row["body"] if isinstance(row["body"], str) else row["body"].decode() for row in rows]
        return [[1.0 if "good" in text else 0.0, 0.5] for text in texts]

    wish = {"method": "shapley_exact", "target": 0}
    answer = explainer(None, answers).explain({"body": payload, "explain": wish}, "")
    (part,) = answer["inputs"]
    assert part["words"] == ["a", "good", "day"]
    assert part["importances"] == pytest.approx([0, 1, 0])
    assert part["offsets"] == [[0, 1], [2, 6], [7, 10]]


def test_a_handler_that_cannot_answer_an_empty_text():
    def answers(rows):
        return [[len(row["data"].split()) / len(row["data"].strip())] for row in rows]

    found = explainer(None, answers)
    answer = found.explain({"data": "a bc", "explain": {}}, "")
    assert answer["inputs"][0]["importances"] == pytest.approx([2 / 4 - 1 / 2, 2 / 4 - 1 / 1])
    assert np.isnan(answer["prediction"]["baseline_output"])
    refused = found.explain({"data": "a bc", "explain": {"method": "kernel_shap"}}, "")
    assert isinstance(refused, InvalidInput)
    assert "text without words" in refused.message


def test_numbers_by_name():
    def answers(rows):
        return [2.0 * row["data"]["x"] - row["data"]["n"] for row in rows]

    row = {"data": {"x": 1.5, "n": 3}, "explain": {"method": "shapley_exact"}}
    answer = explainer(None, answers).explain(row, "")
    assert [(item["name"], item["attribution"]) for item in answer["features"]] == [
        ("x", pytest.approx(3.0)),
        ("n", pytest.approx(-3.0)),
    ]


def test_lists_of_numbers():
    answer = explainer(None, lambda rows: [json.dumps({"scores": [sum(row["data"][0])]}) for row in rows])
    found = answer.explain({"data": [[1, 2, 3]], "explain": {}}, "")
    assert np.asarray(found["inputs"][0]["attributions"]).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("payload", "answer", "message"),
    [
        ({"x": 1}, "ash", "no number, no list of numbers"),
        ({"x": 1}, {"label": "ash"}, "no number"),
        ({"x": 1}, [], "no number"),
        ({"x": "red", "y": 1, "z": None}, 1.0, "must be numbers by name, .*; 'x', 'z' is no number"),
        ({"x": {"y": 1}}, 1.0, "'x' is no number"),
        ({"x": True}, 1.0, "'x' is no number"),
        ({}, 1.0, "an empty object is no number"),
        (True, 1.0, "neither a picture, nor a text, nor numbers"),
        (b"\xff\xfe\x00", 1.0, "neither a picture"),
        ("   ", 1.0, "The input holds no word, so there is nothing to explain"),
        ({"review": "  "}, 1.0, "Input 'review' holds no word"),
        (None, 1.0, "neither 'data' nor 'body'"),
    ],
)
def test_what_cannot_be_explained_is_said(payload, answer, message):
    found = explainer(None, lambda rows: [answer] * len(rows))
    with pytest.raises(PredictorError, match=message):
        found.explain({"data": payload, "explain": {}}, "")


def test_only_an_explain_object_or_a_picture_is_ours():
    found = explainer(None, lambda rows: [0.0])
    assert found.wants({"data": 1, "explain": {}}, "")
    assert found.wants({"body": {"data": 1, "explain": {"method": "saliency"}}}, "")
    assert found.wants({"data": b"x", "explain": b'{"method": "saliency"}'}, "")
    assert found.wants({"data": 1}, "image/png")
    assert not found.wants({"data": 1, "target": 3}, "application/json")
    assert not found.wants({"data": 1, "explain": b"yes"}, "*/*")
    assert not found.wants({"data": 1, "explain": True}, "")
    assert not found.wants([1, 2], "image/png")


def test_answers_that_leave_classes_out_count_as_nothing():
    reader = AnswerReader({"ash": 0.7, "birch": 0.2})
    assert reader.are_probabilities
    assert reader.read({"cedar": 0.9, "ash": 0.1}) == [0.1, 0.0]
    assert not AnswerReader({"x": 3.0, "y": -1.0}).are_probabilities


_NUMBERS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(-9, 9, width=32), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("number", [10**39, 10**400, -(10**39), 1e39, math.inf, math.nan])
def test_numbers_beyond_float32_are_refused(number):
    with pytest.raises(InvalidInput):
        take_apart({"a": number, "b": 1})


@given(_NUMBERS | st.binary(max_size=40))
def test_anything_is_taken_apart_and_put_together_again_or_refused(payload):
    try:
        pieces = take_apart(payload)
    except InvalidInput:
        return
    tensors = list(pieces.tensors.values())
    again = pieces.write([torch.stack(tensors)] if pieces.packed else tensors)
    if isinstance(payload, dict):
        assert list(again) == list(payload)
        for name, value in payload.items():
            check_put_together(value, again[name])
    else:
        check_put_together(payload, again)


def check_put_together(value, again):
    """Check that a part of an input, in pieces and written down again, is what it was."""
    if isinstance(value, (str, bytes)) and again != value:
        check_put_together(json.loads(value), json.loads(again))
    elif isinstance(value, (str, bytes)):
        assert type(again) in (str, bytes, bytearray)
    else:
        pairs = zip(*(list(v.values()) if isinstance(v, dict) else [v] for v in (value, again)), strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(np.asarray(other, float), np.asarray(one, float), rtol=1e-6)


@given(_NUMBERS)
def test_any_answer_is_read_or_refused(answer):
    try:
        reader = AnswerReader(answer)
    except InvalidInput:
        return
    assert reader.scores([answer, answer]).shape[0] == 2
