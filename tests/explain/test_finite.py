"""Inputs and outputs that are no finite numbers: said in words, example by example, whatever the method."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from predictor.errors import InvalidInput
from predictor.explain.adopted import Adopted, AdoptedSignature
from predictor.explain.explainer import Explainer
from predictor.explain.methods import METHODS
from predictor.explain.tables import in_words_of
from predictor.ipc.messages import TensorSpec

SPEC = TensorSpec("row", shape=(3,))
METHODS_OF_ROWS = [name for name in METHODS if name not in ("grad_cam", "occlusion")]
BAD = [math.nan, math.inf, -math.inf]


class _Rows(Adopted):
    """Takes its example from the row."""

    def example(self, row):
        return {"row": torch.tensor(row["data"], dtype=torch.float32)}


class Linear(nn.Module):
    """Weighs three numbers, by modules that every method knows."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.relu = nn.ReLU()
        self.out = nn.Linear(2, 2)

    def forward(self, row):
        return self.out(self.relu(self.linear(row)))


class Missing(nn.Module):
    """Takes NaN for a number that is not known."""

    def forward(self, row):
        return torch.nan_to_num(row, nan=0.5).cumsum(dim=1)


class Logarithm(nn.Module):
    """Has no finite output at zero."""

    def forward(self, row):
        return torch.log(row.abs()).sum(dim=1, keepdim=True).expand(-1, 2)


class Root(nn.Module):
    """Has an infinite slope at zero."""

    def forward(self, row):
        return row.abs().sqrt().sum(dim=1, keepdim=True).expand(-1, 2)


def _explainer(model):
    torch.manual_seed(0)
    return Explainer(_Rows(model().eval(), AdoptedSignature((SPEC,)), torch.device("cpu"), {}), {})


def _explain(model, *rows, **wish):
    document = {"target": 1, **wish}
    return _explainer(model).explain([{"data": row, "explain": document} for row in rows], [""] * len(rows))


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("method", METHODS_OF_ROWS)
def test_an_input_that_is_no_number_is_named_and_the_others_are_explained(method, bad):
    first, second, third = _explain(Linear, [1.0, 2.0, 3.0], [1.0, bad, 3.0], [3.0, 2.0, 1.0], method=method)
    assert isinstance(second, InvalidInput)
    assert second.message.startswith("Input 'row' holds NaN or infinity")
    for good in (first, third):
        assert torch.isfinite(torch.from_numpy(good["inputs"][0]["attributions"])).all()


def test_a_model_that_knows_what_nan_means_is_explained_by_methods_that_can():
    (found,) = _explain(Missing, [1.0, math.nan, 3.0], method="feature_ablation", target=2)
    assert found["inputs"][0]["attributions"].tolist() == [1.0, 0.5, 3.0]
    (refused,) = _explain(Missing, [1.0, math.nan, 3.0], method="integrated_gradients", target=2)
    assert "Input 'row' holds NaN" in refused.message
    assert "feature_ablation may" in refused.message


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_shap", "shapley_exact", "kernel_shap"])
def test_a_baseline_without_an_output_is_named(method):
    (refused,) = _explain(Logarithm, [1.0, 2.0, 3.0], method=method)
    assert isinstance(refused, InvalidInput)
    assert "explain.baseline" in refused.message
    (found,) = _explain(Logarithm, [1.0, 2.0, 3.0], method=method, baseline=1.0)
    assert math.isfinite(found["prediction"]["baseline_output"])


def test_an_infinite_slope_is_said():
    (refused,) = _explain(Root, [1.0, 0.0, 3.0], method="saliency")
    assert refused.message.startswith("explain.method 'saliency' finds no finite numbers")
    (found,) = _explain(Root, [1.0, 4.0, 0.0], method="feature_ablation")
    assert found["inputs"][0]["attributions"].tolist() == [1.0, 2.0, 0.0]


@pytest.mark.parametrize("target", [-1, 2, "x", 1.5, True, None, []], ids=str)
def test_a_wrong_target_is_named_as_it_was_written(target):
    (inside,) = _explain(Linear, [1.0, 2.0, 3.0], target=target)
    assert inside.message.startswith("explain.target must be")
    rows = [{"data": [1.0, 2.0, 3.0], "target": target, "explain": {}}]
    (beside,) = _explainer(Linear).explain(rows, [""])
    if target is not None:  # which is none at all
        assert beside.message.startswith("target must be")


@pytest.mark.parametrize(
    ("parameters", "said", "expected"),
    [
        ({"n_steps": 0}, "explain.args.n_steps must be 'auto'", "parameters.n_steps must be 'auto'"),
        ({"method": "x"}, "explain.method must be one of", "parameters.method must be one of"),
        ({"explain": "{}"}, "explain.args.n_steps must be", "explain.args.n_steps must be"),
        ({"target": 1}, "explain.targets is unknown", "explain.targets is unknown"),
        ({"top_k": 0}, "use explain.top_k, or explain.seed", "use parameters.top_k, or explain.seed"),
    ],
)
def test_fields_are_named_as_they_were_written(parameters, said, expected):
    with pytest.raises(InvalidInput) as caught, in_words_of(parameters):
        raise InvalidInput(said)
    assert caught.value.message == expected
