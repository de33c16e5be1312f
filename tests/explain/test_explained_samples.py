"""The sample models, asked as clients ask, and held against Captum called directly."""

from __future__ import annotations

import io
import json
import warnings

import captum.attr as captum
import numpy as np
import pytest
import torch
from PIL import Image

from predictor.errors import InvalidInput, NotAcceptable, PayloadTooLarge
from predictor.explain.methods import METHODS
from predictor.explain.result import Page
from predictor.handlers.tensors import Table, Tensor

ALL = list(METHODS)


def close(ours, theirs, tolerance=1e-5):
    torch.testing.assert_close(
        torch.as_tensor(np.array(ours)).float(),
        theirs.detach().float().reshape(np.shape(ours)),
        atol=tolerance,
        rtol=tolerance,
    )


@pytest.fixture
def wine(sample):
    return sample("wine")


@pytest.fixture
def digits(sample):
    return sample("digits")


@pytest.fixture
def docstrings(sample):
    return sample("docstrings")


@pytest.fixture
def row(wine):
    return json.loads(wine.file("wine.json"))


def _vector(wine, row):
    return torch.tensor([[row[spec.name] for spec in wine.handler.signature.inputs]])


def _typical(wine):
    config = wine.handler.explainer.model.config.baseline
    return torch.tensor([[config[spec.name] for spec in wine.handler.signature.inputs]])


# ------------------------------------------------------------------------- TorchServe's shapes ---


def test_a_picture_as_torchserve_answers_it(digits):
    picture = digits.file("3.png")
    (answer,) = digits.ask({"body": bytearray(picture)})
    tensor = digits.handler.example({"body": picture})["image"].unsqueeze(0)
    close(answer, captum.IntegratedGradients(digits.handler.model).attribute(tensor, target=0, n_steps=15))
    assert answer.shape == (1, 28, 28)


def test_each_row_of_a_batch_has_its_own_target(digits):
    rows = [{"data": digits.file("3.png"), "target": target} for target in (3, bytearray(b"5"), "7", 3)]
    answers = digits.ask(*rows)
    tensor = digits.handler.example({"data": rows[0]["data"]})["image"].unsqueeze(0)
    method = captum.IntegratedGradients(digits.handler.model)
    for answer, target in zip(answers, (3, 5, 7, 3), strict=True):
        close(answer, method.attribute(tensor, target=target, n_steps=15))


def test_features_by_name(wine, row):
    (answer,) = wine.ask({"data": row, "target": 2})
    theirs = captum.IntegratedGradients(wine.handler.model).attribute(
        _vector(wine, row), _typical(wine), target=2, n_steps=15
    )
    close(list(answer.values()), theirs[0])
    assert list(answer) == [spec.name for spec in wine.handler.signature.inputs]


def test_words_and_importances(docstrings):
    text = docstrings.file("sentence.txt").decode()
    (answer,) = docstrings.ask({"body": text, "target": 1})
    model = docstrings.handler.model
    ids = docstrings.handler.example({"body": text})["text"].unsqueeze(0)
    present = ids != 0

    def forward(embedded):
        return model.from_embeddings(embedded, present.expand(len(embedded), -1))

    embedded = model.embedding(ids).detach()
    theirs = captum.IntegratedGradients(forward).attribute(embedded, target=1, n_steps=15).sum(dim=2)[0]
    theirs = theirs[: len(answer["words"])]
    close(answer["importances"], theirs / theirs.norm())
    assert answer["words"][:3] == ["wait", "until", "another"]
    assert abs(answer["delta"]) < 1e-4


# --------------------------------------------------------------------------------- rich answers ---


def test_a_rich_answer(wine, row):
    (answer,) = wine.ask(
        {
            **row,
            "explain": {
                "method": "shapley_exact",
                "return": ["attributions", "prediction", "delta", "top_features", "image", "html"],
                "top_k": 3,
                "metrics": ["infidelity"],
            },
        }
    )
    assert answer["target"] == {"index": 0, "label": "cultivar_0"}
    assert answer["prediction"]["label"] == "cultivar_0"
    assert answer["features"][0]["value"] == 13.87
    assert answer["features"][0]["baseline"] == 12.98
    assert len(answer["top_features"]) == 3
    assert abs(answer["delta"]) < 1e-5
    assert answer["image"]["content_type"] == "image/svg+xml"
    assert answer["html"].startswith("<!doctype html>")
    assert answer["metrics"]["infidelity"] >= 0
    assert answer["cost"]["forward_rows"] >= 2**13
    total = sum(feature["attribution"] for feature in answer["features"])
    assert total == pytest.approx(
        answer["prediction"]["output"] - answer["prediction"]["baseline_output"], abs=1e-5
    )


def test_measures_of_quality(digits, wine, docstrings, row):
    wish = {"method": "integrated_gradients", "metrics": ["infidelity", "sensitivity"]}
    for model, given in (
        (digits, {"data": digits.file("5.png")}),
        (wine, row),
        (docstrings, {"data": "a b"}),
    ):
        first, again = model.ask(*[{**given, "explain": wish}] * 2)
        assert set(first["metrics"]) == {"infidelity", "sensitivity"}
        assert first["metrics"] == pytest.approx(again["metrics"], rel=1e-3)
        assert 0 < first["metrics"]["sensitivity"] < 2
    ablated = {"method": "feature_ablation", "metrics": ["sensitivity"]}
    (answer,) = digits.ask({"data": digits.file("5.png"), "explain": ablated})
    assert answer["metrics"]["sensitivity"] > 0


def test_the_cost_of_measuring_is_counted_before(sample):
    small = sample("digits", explain={"max_rows": 200})
    given = {"data": small.file("3.png"), "explain": {"args": {"n_steps": 50}}}
    assert isinstance(small.ask(given)[0], dict)
    given["explain"]["metrics"] = ["sensitivity"]
    (answer,) = small.ask(given)
    assert isinstance(answer, PayloadTooLarge)
    assert "explain.metrics" in answer.message


@pytest.mark.parametrize(
    "method", ["integrated_gradients", "deep_lift", "gradient_shap", "kernel_shap", "feature_ablation"]
)
def test_attributions_are_those_of_captum(wine, row, method):
    args = {"integrated_gradients": {"n_steps": 20}}.get(method, {})
    (answer,) = wine.ask({**row, "explain": {"method": method, "args": args, "target": 1}})
    inputs, typical = _vector(wine, row), _typical(wine)
    model = wine.handler.model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = {
            "integrated_gradients": lambda: captum.IntegratedGradients(model).attribute(
                inputs, typical, 1, n_steps=20
            ),
            "deep_lift": lambda: captum.DeepLift(model).attribute(inputs, typical, 1),
            "feature_ablation": lambda: captum.FeatureAblation(model).attribute(inputs, typical, 1),
        }.get(method)
        if theirs:
            close([feature["attribution"] for feature in answer["features"]], theirs()[0])


@pytest.mark.parametrize("method", ALL)
def test_every_method_on_every_sample_is_offered_or_refused(digits, wine, docstrings, row, method):
    for model, given in (
        (digits, {"data": digits.file("5.png")}),
        (wine, dict(row)),
        (docstrings, {"data": "wait for the lock"}),
    ):
        (answer,) = model.ask({**given, "explain": {"method": method}})
        offered = method in [one["name"] for one in model.handler.explainer.model.describe()["methods"]]
        if offered:
            assert answer["method"] == method
            assert answer["cost"]["forward_rows"] > 0
        else:
            assert isinstance(answer, InvalidInput)
            assert "Valid methods: " in answer.message


def test_a_method_for_tables_does_not_fit_a_long_text(docstrings):
    (answer,) = docstrings.ask({"data": "lock " * 20, "explain": {"method": "shapley_exact"}})
    assert isinstance(answer, InvalidInput)
    assert "this example has 20" in answer.message


@pytest.mark.parametrize(
    "method", ["integrated_gradients", "feature_ablation", "shapley_exact", "kernel_shap"]
)
def test_a_text_without_words_beside_one_with(docstrings, method):
    wish = {"method": method, "return": ["attributions", "top_features"]}
    texts = ("?!", "lock", "Open the file")
    blank, one, three = docstrings.ask(*({"data": text, "explain": wish} for text in texts))
    assert isinstance(blank, InvalidInput)
    assert blank.message == "Input 'text' holds no word, so there is nothing to explain"
    assert one["inputs"][0]["words"] == ["lock"]
    assert three["inputs"][0]["words"] == ["open", "the", "file"]
    assert all(three["inputs"][0]["importances"])


def test_tensors_without_rows(digits):
    table = Table({"image": Tensor("image", "FP32", np.zeros((0, 1, 28, 28), dtype=np.float32))})
    with pytest.raises(InvalidInput, match="no rows"):
        digits.handler.explainer.explain_table(table)


def test_probabilities_and_logits(wine, row):
    logit, chance = wine.ask({**row, "explain": {}}, {**row, "explain": {"output": "probability"}})
    assert logit["prediction"]["kind"] == "logit"
    assert chance["prediction"]["output"] == pytest.approx(chance["prediction"]["score"], abs=1e-6)
    assert logit["prediction"]["score"] == pytest.approx(chance["prediction"]["score"], abs=1e-6)


def test_several_targets(digits):
    (answer,) = digits.ask(
        {"data": digits.file("3.png"), "explain": {"top_k_targets": 3, "method": "saliency"}}
    )
    assert answer["targets"][0]["target"]["label"] == "3"
    scores = [one["target"]["index"] for one in answer["targets"]]
    assert len(set(scores)) == 3
    (second,) = digits.ask(
        {"data": digits.file("3.png"), "target": scores[1], "explain": {"method": "saliency"}}
    )
    close(
        answer["targets"][1]["inputs"][0]["attributions"], torch.tensor(second["inputs"][0]["attributions"])
    )


def test_shares_of_features_are_counted_once(digits, docstrings):
    """Every pixel of a square has the attribution of its square, and the delta is still right."""
    (answer,) = digits.ask({"data": digits.file("3.png"), "explain": {"method": "kernel_shap"}})
    assert abs(answer["delta"]) < 1e-4
    (answer,) = docstrings.ask({"data": "wait for the lock", "explain": {"method": "shapley_exact"}})
    assert abs(answer["delta"]) < 1e-4
    found = answer["inputs"][0]
    gain = answer["prediction"]["output"] - answer["prediction"]["baseline_output"]
    assert sum(found["importances"]) == pytest.approx(gain, abs=1e-4)
    assert found["offsets"] == [[0, 4], [5, 8], [9, 12], [13, 17]]


def test_one_bad_row_is_answered_alone(wine, row):
    good, bad, worse = wine.ask(
        dict(row), {**row, "target": 3}, {**row, "explain": {"baseline": {"color": 1}}}
    )
    assert isinstance(good, dict)
    assert bad.message == "target must be from 0 to 2; got 3"
    assert worse.message.startswith("explain.baseline.color is no input; inputs are alcohol")


@pytest.mark.parametrize("target", [-1, 3, "cultivar_9", "-1", "", 1.5, True, [0]])
def test_targets_that_are_none(wine, row, target):
    (answer,) = wine.ask({**row, "target": target})
    assert isinstance(answer, InvalidInput)
    assert "target must be" in answer.message


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("noise", "must be zero, mean, blur, a number, or nested lists of numbers; got 'noise'"),
        ([1, 2], "must have the shape [1, 28, 28], got [2]"),
        ([[1], [2, 3]], "numbers only"),
        (float("nan"), "finite"),
        (1e39, "too large for float32"),
        ({"picture": 0}, "is no input"),
        ({"image": None}, "explain.baseline.image must be zero, mean, blur, a number"),
    ],
)
def test_baselines_that_are_none(digits, baseline, message):
    (answer,) = digits.ask({"data": digits.file("3.png"), "explain": {"baseline": baseline}})
    assert isinstance(answer, InvalidInput)
    assert message in answer.message


@pytest.mark.parametrize(
    "baseline", ["zero", "mean", "blur", 0.5, {"image": 1}, np.ones((1, 28, 28)).tolist()]
)
def test_baselines(digits, baseline):
    (answer,) = digits.ask({"data": digits.file("3.png"), "explain": {"baseline": baseline}})
    assert "delta" in answer


@pytest.mark.parametrize(("wish", "beside"), [({"target": 3}, {}), ({}, {"target": "3"})])
def test_a_target_beside_the_most_probable_ones_is_refused(digits, wish, beside):
    wish = {"top_k_targets": 3, "method": "saliency", **wish}
    (refused,) = digits.ask({"data": digits.file("3.png"), "explain": wish, **beside})
    assert isinstance(refused, InvalidInput)
    assert "target must be 'predicted' beside explain.top_k_targets; got" in refused.message
    wish["target"] = "predicted"
    (answer,) = digits.ask({"data": digits.file("3.png"), "explain": wish})
    assert len(answer["targets"]) == 3


def test_each_target_tells_whether_its_own_delta_came_below_the_tolerance(digits):
    def ask(**args):
        wish = {"top_k_targets": 3, "args": args}
        return digits.ask({"data": digits.file("3.png"), "explain": wish})[0]["targets"]

    gaps = sorted(item["relative_delta"] for item in ask(n_steps=8))
    tolerance = (gaps[0] + gaps[-1]) / 2
    told = [
        (item["converged"], item["relative_delta"] <= tolerance)
        for item in ask(max_steps=8, tolerance=tolerance)
    ]
    assert sorted(told) == sorted((gap <= tolerance, gap <= tolerance) for gap in gaps)
    assert {converged for converged, _ in told} == {True, False}


def test_an_explanation_that_costs_too_much(sample, row):
    small = sample("wine", explain={"max_rows": 100})
    (answer,) = small.ask({**row, "explain": {"method": "shapley_exact"}})
    assert isinstance(answer, PayloadTooLarge)
    assert isinstance(small.ask({**row, "explain": {"method": "saliency"}})[0], dict)


def test_rows_are_answered_alike_alone_and_together(digits):
    rows = [
        {"data": digits.file(name), "explain": {"method": method, "seed": seed}}
        for seed, name in enumerate(("3.png", "5.png", "8.png"))
        for method in ("integrated_gradients", "gradient_shap", "occlusion")
    ]
    together = digits.ask(*rows)
    for row, answer in zip(rows, together, strict=True):
        (alone,) = digits.ask(row)
        close(alone["inputs"][0]["attributions"], torch.tensor(answer["inputs"][0]["attributions"]))
        assert alone["target"] == answer["target"]


def test_predictions_are_untouched_by_explanations(digits):
    before = digits.handler.handle([{"data": digits.file("3.png")}], None)
    for method in ALL[:6]:
        digits.ask({"data": digits.file("3.png"), "explain": {"method": method}})
    assert digits.handler.handle([{"data": digits.file("3.png")}], None) == before


# ------------------------------------------------------------------------------------- drawings ---


def test_pictures(digits):
    for style, size in (("overlay", (336, 336)), ("side_by_side", (1024, 336)), ("heatmap", (336, 336))):
        wish = {"image": {"style": style}}
        (page,) = digits.ask({"data": digits.file("3.png"), "explain": wish}, accept="image/png")
        assert isinstance(page, Page)
        assert Image.open(io.BytesIO(page.body)).size == size
        assert ("x-explain-target-label", "3") in page.headers


def test_a_page_holds_no_markup_of_the_clients(docstrings):
    text = "wait <script>alert(1)</script> & \"lock\" 'x'"
    (page,) = docstrings.ask({"data": text}, accept="text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
    body = page.body.decode()
    assert "<script" not in body
    assert "&lt;" in body
    assert ">lock</mark>" in body
    assert dict(page.headers)["content-type"] == "text/html; charset=utf-8"


def test_a_form_that_a_model_does_not_have(wine, digits, row):
    (answer,) = wine.ask(row, accept="image/png")
    assert isinstance(answer, NotAcceptable)
    assert answer.status == 406
    assert digits.ask({"data": digits.file("3.png")}, accept="image/svg+xml")[0].status == 406
    (chart,) = wine.ask(row, accept="image/svg+xml")
    assert chart.body.startswith(b"<svg")
