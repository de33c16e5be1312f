"""Programs that were exported for batches of one size only, explained as the eager model is."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from predictor.explain.explainer import Explainer
from predictor.explain.foreign import ForeignExplainer
from predictor.handlers.declaration import Signature
from predictor.handlers.fixed_rows import FixedRows, takes_any_rows
from predictor.handlers.signature import SignatureHandler

ARGS = {
    "integrated_gradients": {"n_steps": 10},
    "saliency": {"noise_samples": 3},
    "input_x_gradient": {},
    "gradient_shap": {"n_samples": 5},
    "feature_ablation": {"grid": 3},
    "occlusion": {"window": 4, "stride": 3},
    "kernel_shap": {"n_samples": 12, "grid": 2},
    "shapley_exact": {"grid": 2},
}


class Reader(nn.Module):
    """A network that asks how many rows it is given, which an export takes for a constant."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 3, 3, padding=1)
        self.linear = nn.Linear(3 * 8 * 8, 4)

    def forward(self, picture):
        hidden = torch.relu(self.convolution(picture))
        return self.linear(hidden.reshape(picture.shape[0], -1))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return Reader().eval()


@pytest.fixture(scope="module", params=[1, 3])
def exported(request, network):
    """Return the program as a handler gets it, from its file; and the rows that it was made for."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(network, (torch.rand(request.param, 1, 8, 8),)), file)
        file.seek(0)
        return torch.export.load(file).module(), request.param


class Vision:
    """A handler as TorchServe's are: it makes a tensor, and its model takes it."""

    def __init__(self, model):
        self.model = model

    def preprocess(self, data):
        return torch.tensor([row["data"] for row in data])

    def handle(self, data):
        raise AssertionError("its answers are not needed")


def picture(seed=0):
    return torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(seed))


def by_handler(model, wish):
    handler = Vision(model)
    found = ForeignExplainer(handler, handler.handle, {})
    return found.explain({"data": picture().tolist(), "explain": wish}, "")


def by_signature(model, wish):
    handler = SignatureHandler()
    handler.model, handler.device = model, torch.device("cpu")
    section = {"inputs": [{"name": "input", "shape": [1, 8, 8], "kind": "image"}], "classes": list("abcd")}
    handler.signature = Signature(section)
    rows = [{"input": picture(seed).tolist(), "explain": wish} for seed in (0, 1)]
    return Explainer(handler, {}).explain(rows, [""] * len(rows))[0]


@pytest.mark.parametrize("method", ARGS)
@pytest.mark.parametrize("ask", [by_handler, by_signature])
def test_the_numbers_are_those_of_the_eager_model(exported, network, method, ask):
    program, _ = exported
    wish = {"method": method, "target": 2, "args": ARGS[method], "reduce": "none", "seed": 5}
    model = program if ask is by_handler else takes_any_rows(program)
    found, expected = ask(model, wish), ask(network, wish)
    ours, theirs = (np.asarray(answer["inputs"][0]["attributions"]) for answer in (found, expected))
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
    assert found["prediction"]["output"] == pytest.approx(expected["prediction"]["output"], abs=1e-5)


def test_steps_until_the_delta_is_small(exported, network):
    wish = {"target": 1, "args": {"tolerance": 0.3}}
    found, expected = by_handler(exported[0], wish), by_handler(network, wish)
    assert found["n_steps"] == expected["n_steps"]
    assert found["delta"] == pytest.approx(expected["delta"], abs=1e-5)


def test_only_what_is_made_for_one_batch_size_is_wrapped(exported, network):
    program, rows = exported
    wrapped = takes_any_rows(program)
    assert isinstance(wrapped, FixedRows)
    assert wrapped.rows == rows
    assert takes_any_rows(network) is network
    assert takes_any_rows(wrapped) is wrapped
    traced = torch.fx.symbolic_trace(nn.Linear(2, 2))
    assert takes_any_rows(traced) is traced
    shapes = ({0: torch.export.Dim("rows")},)
    free = torch.export.export(nn.Linear(2, 2), (torch.rand(3, 2),), dynamic_shapes=shapes).module()
    assert takes_any_rows(free) is free


class OneByOne(Vision):
    """A handler whose `inference` calls what is no module, and takes one row at a time."""

    def __init__(self, network):
        super().__init__(object())
        self.network = network

    def inference(self, tensor):
        if len(tensor) > 1:
            raise ValueError("batches of one, please")
        return self.network(tensor).detach().numpy()


def test_an_inference_that_takes_one_row_at_a_time(network):
    wish = {"method": "feature_ablation", "target": 3, "args": {"grid": 2}}
    handler = OneByOne(network)
    found = ForeignExplainer(handler, handler.handle, {})
    answer = found.explain({"data": picture().tolist(), "explain": wish}, "")
    expected = by_handler(network, wish)
    ours, theirs = (np.asarray(some["inputs"][0]["attributions"]) for some in (answer, expected))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
