"""Names of a handler's numbers, which are targets whether or not the numbers are probabilities."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from predictor.errors import InvalidInput
from predictor.explain.explainer import Explainer
from predictor.explain.foreign import ForeignExplainer
from predictor.explain.joined import WishfulRows
from predictor.explain.result import Page
from predictor.handlers.declaration import Signature
from predictor.handlers.signature import SignatureHandler

HOUSE = {"rooms": 3, "area": 80.0}


def costs(rows):
    """Answer two numbers of a house by name, which are no probabilities."""
    return [
        {"price": 100.0 * row["data"]["rooms"] + row["data"]["area"], "tax": -2.0 * row["data"]["area"]}
        for row in rows
    ]


def ask(wish, accept="", predict=costs, instance=None, data=HOUSE):
    return ForeignExplainer(instance, predict, {}).explain({"data": data, "explain": wish}, accept)


@pytest.mark.parametrize(
    ("target", "index", "shares"),
    [("price", 0, [300.0, 80.0]), ("tax", 1, [0.0, -160.0]), (1, 1, [0.0, -160.0]), ("1", 1, [0.0, -160.0])],
)
def test_a_name_is_a_target_and_no_class(target, index, shares):
    answer = ask({"target": target})
    assert answer["target"] == {"index": index, "label": ("price", "tax")[index]}
    assert [item["attribution"] for item in answer["features"]] == pytest.approx(shares)
    assert answer["prediction"] == {
        "output": pytest.approx(sum(shares)),
        "baseline_output": 0.0,
        "kind": "value",
    }


def test_names_that_there_are_not_are_refused_with_those_that_there_are():
    refused = ask({"target": "rent"})
    assert isinstance(refused, InvalidInput)
    assert refused.message == "explain.target must be one of price, tax, or 'predicted'; got 'rent'"
    refused = ask({"output": "probability"})
    assert isinstance(refused, InvalidInput)
    assert refused.message == "explain.output must be 'logit': this model is no classifier"


def test_a_page_asks_about_the_named_number():
    page = ask({"target": "tax"}, "text/html")
    assert isinstance(page, Page)
    assert b"<h1>Why is &#x27;tax&#x27; -160?</h1>" in page.body
    assert b"</span> speaks for a higher 'tax'" in page.body
    assert b"The value is -160 here, and 0 at the baseline" in page.body
    assert ("x-explain-target-label", "tax") in page.headers


def test_probabilities_keep_their_class_and_its_score():
    answer = ask({"target": "b"}, predict=lambda rows: [{"a": 0.75, "b": 0.25}] * len(rows))
    assert answer["target"] == {"index": 1, "label": "b"}
    assert answer["prediction"] == {
        "index": 0,
        "label": "a",
        "score": 0.75,
        "output": 0.25,
        "baseline_output": 0.25,
        "kind": "probability",
    }


class Estimator:
    """A handler of three steps, whose model answers a tensor and whose answers have names."""

    def __init__(self, name_them):
        self.model = nn.Linear(2, 2)
        self.model.load_state_dict(
            {"weight": torch.tensor([[100.0, 1.0], [0.0, -2.0]]), "bias": torch.zeros(2)}
        )
        self.name_them = name_them

    def preprocess(self, data):
        return torch.tensor([list(row["data"].values()) for row in data])

    def handle(self, data):
        return [self.name_them(row) for row in self.model(self.preprocess(data)).detach()]


def by_name(row):
    return {"price": float(row[0]), "tax": float(row[1])}


def chances(row):
    return dict(zip(("cheap", "dear"), torch.softmax(row, 0).tolist(), strict=True))


def squared(row):
    return {"price": float(row[0]) ** 2, "tax": float(row[1])}


def test_the_outputs_of_a_model_have_the_names_that_the_handler_answers():
    handler = Estimator(by_name)
    answer = ask({"target": "tax"}, instance=handler, predict=handler.handle)
    assert answer["method"] == "integrated_gradients"
    assert answer["target"] == {"index": 1, "label": "tax"}
    assert answer["inputs"][0]["attributions"].tolist() == pytest.approx([0.0, -160.0], rel=1e-4)
    assert answer["prediction"]["kind"] == "value"
    assert "score" not in answer["prediction"]


def test_the_outputs_of_a_classifier_have_the_names_of_their_probabilities():
    handler = Estimator(chances)
    answer = ask({"target": "dear"}, instance=handler, predict=handler.handle)
    assert answer["target"] == {"index": 1, "label": "dear"}
    assert answer["prediction"]["label"] == "cheap"
    assert answer["prediction"]["kind"] == "logit"


def test_names_of_what_the_handler_makes_of_its_models_outputs_are_explained_from_its_answers():
    handler = Estimator(squared)
    answer = ask({"target": "price"}, instance=handler, predict=handler.handle)
    assert answer["method"] == "feature_ablation"
    assert answer["target"] == {"index": 0, "label": "price"}
    whole = 380.0**2
    shares = [item["attribution"] for item in answer["features"]]
    assert shares == pytest.approx([whole - 80.0**2, whole - 300.0**2])


@pytest.mark.parametrize("name_them", [squared, lambda row: [1.0, 2.0]], ids=["named", "list"])
def test_a_name_of_nothing_is_the_targets_mistake_and_not_the_methods(name_them):
    handler = Estimator(name_them)
    wish = {"method": "integrated_gradients", "target": "rent"}
    refused = ask(wish, instance=handler, predict=handler.handle)
    assert isinstance(refused, InvalidInput)
    assert refused.message.startswith("explain.target must be an index")


class Zoo:
    """A classifier of three classes, whose answers have their names."""

    def __init__(self, names, write):
        self.model = nn.Linear(3, 3, bias=False)
        self.model.load_state_dict({"weight": torch.eye(3)})
        self.names = names
        self.write = write

    def preprocess(self, data):
        return torch.tensor([row["data"] for row in data])

    def handle(self, data):
        chances = torch.softmax(self.model(self.preprocess(data)).detach(), 1).tolist()
        return [self.write(dict(zip(self.names, row, strict=True))) for row in chances]


def best_first(answer):
    return dict(sorted(answer.items(), key=lambda item: -item[1]))


def rounded(answer):
    return {name: round(chance, 4) for name, chance in best_first(answer).items()}


@pytest.mark.parametrize("data", [[1.0, 3.0, 2.0], [20.0, -5.0, 0.0], [-5.0, 0.0, 20.0]])
def test_names_in_the_order_of_their_chances_are_those_of_their_outputs(data):
    """All chances but one are about 0, where the model is sure, and yet each belongs to one class."""
    handler = Zoo(["dog", "cat", "bird"], best_first)
    for index, name in enumerate(handler.names):
        answer = ask({"target": name}, instance=handler, predict=handler.handle, data=data)
        assert answer["method"] == "integrated_gradients"
        assert answer["target"] == {"index": index, "label": name}
        shares = [data[index] if place == index else 0.0 for place in range(3)]
        assert answer["inputs"][0]["attributions"].tolist() == pytest.approx(shares)


def test_names_of_chances_that_rounding_made_alike_are_explained_from_the_answers():
    handler = Zoo(["dog", "cat", "bird"], rounded)
    answer = ask({"target": "dog"}, instance=handler, predict=handler.handle, data=[20.0, -5.0, 0.0])
    assert (answer["method"], answer["target"]) == ("feature_ablation", {"index": 0, "label": "dog"})


@pytest.mark.parametrize(("target", "index"), [("1", 0), ("0", 1), (1, 1), ("2", 2)])
def test_a_name_that_looks_like_an_index_is_a_name(target, index):
    handler = Zoo(["1", "0", "9"], best_first)
    answer = ask({"target": target}, instance=handler, predict=handler.handle, data=[1.0, 3.0, 2.0])
    assert answer["method"] == "integrated_gradients"
    assert answer["target"]["index"] == index


def test_names_over_v2():
    def answers(rows):
        return [json.dumps({"price": sum(row["data"]), "tax": -row["data"][0]}) for row in rows]

    row = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1.0, 2.0]}
    request = WishfulRows([row], {"target": "tax"}, ())
    table = ForeignExplainer(None, answers, {}).explain_tensors(request)
    assert table["target"].array.tolist() == [1]
    assert table["attributions.x"].array.tolist() == [[-1.0, 0.0]]


class House(nn.Module):
    """A model of two numbers, in the form that `answer` makes of them."""

    def __init__(self, answer):
        super().__init__()
        self.linear = nn.Linear(2, 2, bias=False)
        self.linear.load_state_dict({"weight": torch.tensor([[100.0, 1.0], [0.0, -2.0]])})
        self.answer = answer

    def forward(self, columns):
        return self.answer(self.linear(columns))


def declared(answer, *outputs):
    """Return the explainer of a model that declares what it answers."""
    signature = Signature(
        {
            "inputs": [{"name": "rooms"}, {"name": "area"}],
            "pack_inputs": True,
            "outputs": [{"name": name} for name in outputs],
        }
    )
    handler = SignatureHandler()
    handler.model, handler.signature, handler.device = House(answer).eval(), signature, torch.device("cpu")
    return Explainer(handler, {})


@pytest.mark.parametrize(
    "answer",
    [
        lambda found: (found[:, 0], found[:, 1]),
        lambda found: (found[:, :1], found[:, 1]),
        lambda found: {"tax": found[:, 1:], "price": found[:, 0]},
    ],
    ids=["tuple", "columns", "mapping"],
)
@pytest.mark.parametrize("method", ["integrated_gradients", "shapley_exact", "saliency", "gradient_shap"])
def test_declared_outputs_of_one_number_are_targets(answer, method):
    found = declared(answer, "price", "tax")
    wish = {"method": method, "target": "tax"}
    (one,) = found.explain([{"data": HOUSE, "explain": wish}], [""])
    assert one["target"] == {"index": 1, "label": "tax"}
    assert one["prediction"] == {"output": -160.0, "baseline_output": 0.0, "kind": "value"}
    slope = [0.0, 2.0] if method == "saliency" else [0.0, -160.0]
    assert [item["attribution"] for item in one["features"]] == pytest.approx(slope, rel=1e-4)
    assert found.model.describe()["labels"] == ["price", "tax"]


def test_the_one_number_of_a_model_is_called_as_it_is_declared():
    found = declared(lambda both: both[:, 0], "price")
    (one,) = found.explain([{"data": HOUSE, "explain": {}}], [""])
    assert one["target"] == {"index": 0, "label": "price"}
    assert found.model.describe()["labels"] == [], "there is nothing to choose"
    (page,) = found.explain([{"data": HOUSE, "explain": {}}], ["text/html"])
    assert b"Why is &#x27;price&#x27; 380?" in page.body


def test_names_that_do_not_fit_what_the_model_answers_are_no_targets():
    """Who declares no shape declares single numbers, which these are not: their first is explained."""
    found = declared(lambda both: (both, both.sum(dim=1)), "both", "sum")
    (one,) = found.explain([{"data": HOUSE, "explain": {"target": 1}}], [""])
    assert one["target"] == {"index": 1, "label": None}
    (refused,) = found.explain([{"data": HOUSE, "explain": {"target": "sum"}}], [""])
    assert isinstance(refused, InvalidInput)
    assert "an index (this model has no labels)" in refused.message


@pytest.mark.parametrize(
    "stop", [lambda tax: tax.long(), lambda tax: tax.detach()], ids=["whole numbers", "detached"]
)
def test_gradients_of_an_output_that_has_none_are_refused_beside_one_that_has(stop):
    found = declared(lambda both: (both[:, 0], stop(both[:, 1])), "price", "tax")

    def explained(method, target):
        (one,) = found.explain([{"data": HOUSE, "explain": {"method": method, "target": target}}], [""])
        return one

    for method in ("integrated_gradients", "saliency", "gradient_shap", "input_x_gradient"):
        refused = explained(method, "tax")
        assert isinstance(refused, InvalidInput)
        assert "has no gradients" in refused.message
        assert explained(method, "price")["target"] == {"index": 0, "label": "price"}
    shares = [item["attribution"] for item in explained("shapley_exact", "tax")["features"]]
    assert shares == pytest.approx([0.0, -160.0])
