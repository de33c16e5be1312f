"""What explanations cost: against Captum called directly, and what they do to predictions beside them.

    python -m benchmarks.explanations [--rounds 5] [--seconds 4]

In the first table both sides of a line run in turn, in one process with one thread, and CPU time is counted,
which says most on a machine that others use, too. The second is wall time. Figures are medians of the rounds;
only ratios mean anything.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import captum.attr as captum
import torch
from PIL import Image
from torch import nn

from predictor.explain.attribution import attribute
from predictor.explain.budget import Budget, Limits
from predictor.explain.examples import Examples, Subject
from predictor.explain.layout import ChannelsLast
from predictor.explain.memory import keep_freed_memory
from predictor.explain.methods import find_method
from predictor.explain.shadow import kind_of, shadow_copy
from predictor.handlers.modules import load_module

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from support.explain_load import measure_beside
from support.models import SAMPLES, link_sample
from support.server import Server

Run = Callable[[], object]
_EXPLAINERS = 8


class Block(nn.Module):
    """Two convolutions and a way around them, as in a ResNet-18."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        """Take `channels`, give `out`."""
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()
        )
        self.second = nn.Sequential(nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out))
        self.around = (
            nn.Conv2d(channels, out, 1, stride, bias=False)
            if stride > 1 or out != channels
            else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [rows, out, ...]."""
        return torch.relu(self.second(self.first(x)) + self.around(x))


def resnet() -> nn.Module:
    """Return a network of the size of a ResNet-18, with random weights."""
    torch.manual_seed(0)
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    blocks = []
    for channels, out, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
        blocks += [Block(channels, out, stride), Block(out, out, 1)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)).eval()


def digits() -> nn.Module:
    """Return the sample model, which is trained: adaptive steps depend on that."""
    manifest = {"serializedFile": "model.pt", "modelFile": "model.py"}
    return load_module(SAMPLES / "digits", manifest, torch.device("cpu")).eval()


def table_network() -> nn.Module:
    """Return a network for 13 columns."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3)).eval()


def ours(model: nn.Module, example: torch.Tensor, method: str, **args: object) -> Run:
    """Return a run of our method."""
    module = shadow_copy(model)
    call = ChannelsLast(module)
    call(example)  # tries the layout
    subject = Subject(call, kind_of(model), module)
    groups = torch.arange(example[0].numel()).reshape(example.shape)
    examples = Examples(
        (example,), (torch.zeros_like(example),), (), (groups,), torch.tensor([[1]]), torch.arange(1), (0,)
    )
    found = find_method(method)
    return lambda: attribute(found, subject, examples, Budget(Limits(), 1), found.arguments(args))


def compare(rounds: int) -> None:
    """Print the first table."""
    torch.set_num_threads(1)
    keep_freed_memory()  # for both sides, since both are in this process
    print(f"{'':44}{'ours':>9}{'Captum':>9}{'ratio':>7}   ms of CPU, medians of {rounds}")
    method = "integrated_gradients"
    three = Image.open(SAMPLES / "digits" / "examples" / "3.png").convert("L").resize((28, 28))
    ink = 1 - torch.tensor(list(three.tobytes()), dtype=torch.float32).reshape(1, 1, 28, 28) / 255
    for name, model, example in (
        ("digits", digits(), ink),
        ("ResNet-18", resnet(), torch.rand(1, 3, 224, 224)),
    ):
        peer = captum.IntegratedGradients(model)
        theirs = lambda peer=peer, example=example: peer.attribute(example, target=1, n_steps=50)  # noqa: E731
        line(f"{name}: {method}, 50 steps", ours(model, example, method, n_steps=50), theirs, rounds)
        if name == "digits":
            line(f"{name}: the same, adaptive", ours(model, example, method), theirs, rounds)
    table, row = table_network(), torch.rand(1, 13)
    shap = captum.KernelShap(table)
    estimate = lambda: shap.attribute(row, target=1, n_samples=200)  # noqa: E731
    line(
        "13 columns: exact Shapley, Captum: 200 samples", ours(table, row, "shapley_exact"), estimate, rounds
    )


def line(name: str, run: Run, peer: Run, rounds: int) -> None:
    """Time both in turn and print one line."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for which, call in enumerate((run, peer)):
            started = time.process_time()
            call()
            if number:  # the first round warms up
                times[which].append(1000 * (time.process_time() - started))
    mine, theirs = (statistics.median(found) for found in times)
    print(f"{name:44}{mine:9.1f}{theirs:9.1f}{theirs / mine:7.1f}", flush=True)


def beside(rounds: int, seconds: float) -> None:
    """Print the second table."""
    print(f"\npredictions of digits, one client, beside {_EXPLAINERS} that explain: ms, medians of {rounds}")
    with tempfile.TemporaryDirectory() as folder:
        link_sample(Path(folder), "digits")
        for name, flags in (("shared worker", ()), ("own worker", ("--explain-workers", "1"))):
            with Server(Path(folder), *flags) as server:
                if flags:
                    server.wait_log("explaining worker 0 is ready")
                found = {
                    count: [asyncio.run(measure_beside(server.port, count, seconds)) for _ in range(rounds)]
                    for count in (0, _EXPLAINERS)
                }
            p50, p99, loaded50, loaded99 = (
                statistics.median(times[index] for times in found[count])
                for count in (0, _EXPLAINERS)
                for index in (0, 1)
            )
            print(
                f"{name:16} alone p50 {p50:.1f} p99 {p99:.1f}; beside p50 {loaded50:.1f} p99 {loaded99:.1f}; "
                f"ratios {loaded50 / p50:.1f} and {loaded99 / p99:.1f}",
                flush=True,
            )


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Captum warns of its own hooks
        compare(options.rounds)
    beside(options.rounds, options.seconds)


if __name__ == "__main__":
    main()
