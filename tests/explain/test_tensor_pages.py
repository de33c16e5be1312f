"""Pages of models whose inputs are tensors: neither pictures, nor texts, nor columns with names."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from predictor.errors import NotAcceptable
from predictor.explain.explainer import Explainer
from predictor.handlers.declaration import Signature
from predictor.handlers.signature import SignatureHandler


class Weighted(nn.Module):
    """Adds up its inputs, each number times its place."""

    def forward(self, *inputs):
        numbers = torch.cat([tensor.reshape(len(tensor), -1) for tensor in inputs], dim=1)
        return numbers @ torch.arange(1.0, numbers.shape[1] + 1).unsqueeze(1)


def weighted(**shapes):
    inputs = [{"name": name, "shape": list(shape)} for name, shape in shapes.items()]
    handler = SignatureHandler()
    handler.signature = Signature({"inputs": inputs, "outputs": [{"name": "sum", "shape": [1]}]})
    handler.model, handler.device = Weighted().eval(), torch.device("cpu")
    return Explainer(handler, {})


def bars(page):
    """Return the names, and what stands beside them, of the bars of a page."""
    return [re.sub(r"<[^>]*>", "", text) for text in re.findall(r"<text[^>]*>(.*?)</text>", page)]


@pytest.mark.parametrize("accept", ["text/html", "image/svg+xml"])
def test_the_numbers_of_a_tensor_are_drawn_as_bars(accept):
    row = {"features": [1.0, 0.0, -2.5, 4.0], "explain": {}}
    (page,) = weighted(features=(4,)).explain([row], [accept])
    text = page.body.decode()
    shown = " ".join(bars(text))
    for name, value in [("features[3]", "4"), ("features[2]", "-2.5"), ("features[0]", "1")]:
        assert f"{name}" in shown
        assert f"{value} instead of 0" in shown
    assert shown.index("features[3]") < shown.index("features[2]") < shown.index("features[0]")


def test_of_many_numbers_the_strongest_are_drawn_and_it_is_said_how_many_there_are():
    row = {"grid": torch.ones(20, 10).tolist(), "one": 3.0, "explain": {"top_k": 5}}
    (page,) = weighted(grid=(20, 10), one=()).explain([row], ["text/html"])
    text = page.body.decode()
    assert "5 strongest of 201" in text
    assert "grid[19, 9]" in text
    assert ">one<" in text
    assert "grid[0, 0]" not in text


def test_what_is_refused_names_a_form_that_there_is():
    explainer = weighted(features=(4,))
    row = {"features": [1.0, 2.0, 3.0, 4.0], "explain": {}}
    (refused,) = explainer.explain([row], ["image/png"])
    assert isinstance(refused, NotAcceptable)
    assert "image/svg+xml" in refused.message
    (page,) = explainer.explain([row], ["image/svg+xml"])
    assert page.body.startswith(b"<svg")
