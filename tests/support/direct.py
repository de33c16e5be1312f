"""The sample models called in Python, without a server: what every protocol's answers are held against."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml
from PIL import Image

from support.models import REPOSITORY, SAMPLES

MNIST = REPOSITORY.parent / "shared" / "data" / "torchserve" / "mnist"


def pictures() -> list[Path]:
    """Return every picture of a digit that is at hand: the examples, and TorchServe's where present."""
    examples = [
        path for path in sorted((SAMPLES / "digits" / "examples").iterdir()) if path.suffix != ".json"
    ]
    return examples + sorted(MNIST.glob("*.png"))


def wine_example() -> dict[str, float]:
    """Return the example that ships with the wine model: thirteen named numbers, in the model's order."""
    example: dict[str, float] = json.loads((SAMPLES / "wine" / "examples" / "wine.json").read_text())
    return example


@torch.inference_mode()
def wine(features: Mapping[str, float]) -> dict[str, Any]:
    """Classify one wine."""
    return _classify("wine", torch.tensor([list(features.values())], dtype=torch.float32))


@torch.inference_mode()
def digits(picture: bytes) -> dict[str, Any]:
    """Read one digit from the bytes of a picture file."""
    transform = _module("digits", "transform").to_tensor
    return _classify("digits", transform(Image.open(io.BytesIO(picture)))[None])


@torch.inference_mode()
def docstrings(text: str) -> dict[str, Any]:
    """Find the topic of one sentence."""
    words = _module("docstrings", "words")
    return _classify("docstrings", words.encode(text, words.load_vocabulary())[None])


def _classify(name: str, batch: torch.Tensor) -> dict[str, Any]:
    config = yaml.safe_load((SAMPLES / name / "model-config.yaml").read_text())
    (probabilities,) = torch.softmax(_network(name)(batch), dim=-1).tolist()
    score = max(probabilities)
    label = str(config["signature"]["classes"][probabilities.index(score)])
    return {"label": label, "score": score, "probabilities": probabilities}


@cache
def _network(name: str) -> torch.nn.Module:
    module = _module(name, "model")
    (cls,) = (
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, torch.nn.Module) and item.__module__ == module.__name__
    )
    network: torch.nn.Module = cls()
    network.load_state_dict(torch.load(SAMPLES / name / "model.pt", weights_only=True))
    return network.eval()


@cache
def _module(model: str, file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"direct_{model}_{file}", SAMPLES / model / f"{file}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
