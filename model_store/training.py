"""What the sample models' training scripts share: determinism, seeds and the files they write."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

WEIGHTS = "model.pt"
METRICS = "metrics.json"


def make_deterministic(seed: int) -> None:
    """Seed torch and pin it to one thread and to deterministic kernels.

    Sums over several threads are added up in no fixed order, so two threads are already enough to make
    two runs end in different weights.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)


def output_folder(default: Path) -> Path:
    """Return the folder named by ``--out``, or `default`: where a training script leaves its files."""
    parser = argparse.ArgumentParser(description="Train this sample model and write its files.")
    parser.add_argument("--out", type=Path, default=default, help="folder for the files (%(default)s)")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    return out


@torch.no_grad()
def accuracy(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of rows of `inputs` whose largest logit is at the index in `labels`, from 0 to 1."""
    training = model.training
    model.eval()
    share = (model(inputs).argmax(1) == labels).double().mean()
    model.train(training)
    return float(share)


def majority_share(labels: torch.Tensor) -> float:
    """Return what always answering the most frequent of `labels` would score, from 0 to 1."""
    return float(torch.bincount(labels).max()) / len(labels)


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python and of `packages`, which the stated figures hold for."""
    from importlib.metadata import version

    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def save(model: nn.Module, metrics: Mapping[str, object], folder: Path) -> None:
    """Write the state dict (for ``torch.load(weights_only=True)``) and `metrics`, and print them."""
    torch.save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / WEIGHTS)
    text = json.dumps(metrics, indent=2) + "\n"
    (folder / METRICS).write_text(text, encoding="utf-8")
    print(text, end="")
