"""What explanations cost: against Captum called directly, and what they do to predictions beside them.

    python -m benchmarks.explanations [--rounds 5] [--seconds 4]

In the first two tables both sides of a line run in turn, in one process with one thread, and CPU time is
counted, which says most on a machine that others use, too. The third is wall time. Only ratios mean anything.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import functools
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import captum.attr as captum
import torch
from PIL import Image
from torch import nn

from model_store.digits.train import held_out
from predictor.explain.attribution import attribute
from predictor.explain.budget import Budget, Limits
from predictor.explain.calling import Order
from predictor.explain.examples import Attributed, Examples, Subject
from predictor.explain.layout import ChannelsLast
from predictor.explain.memory import keep_freed_memory
from predictor.explain.methods import find_method
from predictor.explain.shadow import kind_of, shadow_copy
from predictor.explain.shortcut import Shortcut
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


def load(name: str) -> nn.Module:
    """Return a sample model, which is trained: adaptive steps depend on that."""
    manifest = {"serializedFile": "model.pt", "modelFile": "model.py"}
    return load_module(SAMPLES / name, manifest, torch.device("cpu")).eval()


def table_network() -> nn.Module:
    """Return a network for 13 columns."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3)).eval()


def picture() -> torch.Tensor:
    """Return a handwritten three, [1, 1, 28, 28]."""
    three = Image.open(SAMPLES / "digits" / "examples" / "3.png").convert("L").resize((28, 28))
    return 1 - torch.tensor(list(three.tobytes()), dtype=torch.float32).reshape(1, 1, 28, 28) / 255


def wine() -> torch.Tensor:
    """Return the measurements of one wine, [1, 13]."""
    measured = json.loads((SAMPLES / "wine" / "examples" / "wine.json").read_text())
    return torch.tensor([[float(value) for value in measured.values()]])


class Ours:
    """One model with one example, as a worker explains it."""

    def __init__(self, model: nn.Module, example: torch.Tensor, baseline: torch.Tensor | None = None) -> None:
        """Try what suits the model, as the first request does."""
        module = shadow_copy(model)
        plain = ChannelsLast(module)
        route = Shortcut(module, kind_of(model), plain).route(example)
        self._explain(Order((0,), frozenset()).subject(plain, route, kind_of(model), module), example)
        self.baseline = torch.zeros_like(example) if baseline is None else baseline

    def _explain(self, subject: Subject, example: torch.Tensor, *extras: torch.Tensor) -> None:
        self.subject, self.example, self.extras = subject, example, extras

    @classmethod
    def of_words(cls, network: Any, words: torch.Tensor) -> Ours:
        """Explain the embeddings of words, int64 [1, positions]."""
        found = cls.__new__(cls)
        module: Any = shadow_copy(network)
        subject = Subject(module.from_embeddings, kind_of(network), module)
        found._explain(subject, module.embedding(words).detach(), words != 0)
        found.baseline = module.embedding(torch.zeros_like(words)).detach()
        return found

    def run(self, method: str = "integrated_gradients", target: int = 1, **args: object) -> Attributed:
        """Explain once."""
        groups = torch.arange(self.example[0].numel()).reshape(self.example.shape)
        examples = Examples(
            inputs=(self.example,),
            baselines=(self.baseline,),
            extras=self.extras,
            groups=(groups,),
            targets=torch.tensor([[target]]),
            owners=torch.arange(1),
            seeds=(0,),
        )
        found = find_method(method)
        return attribute(found, self.subject, examples, Budget(Limits(), 1), found.arguments(args))

    def __call__(self, **args: Any) -> Run:
        """Return a run."""
        return functools.partial(self.run, **args)


def pairs() -> Iterator[tuple[str, Ours, Run]]:
    """Yield what is compared: a name, ours, and Captum as it comes, with its 50 steps."""
    photograph = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for name, model, example in (("digits", load("digits"), picture()), ("ResNet-18", resnet(), photograph)):
        peer = captum.IntegratedGradients(model)
        yield name, Ours(model, example), functools.partial(peer.attribute, example, target=1)
    model, row = load("wine"), wine()
    typical = cast(torch.Tensor, model.mean).unsqueeze(0)
    peer = captum.IntegratedGradients(model)
    yield "wine", Ours(model, row, typical), functools.partial(peer.attribute, row, typical, target=1)
    network: Any = load("docstrings")
    words = torch.zeros(1, 128, dtype=torch.int64)
    words[0, :12] = torch.arange(2, 14)
    layer = captum.LayerIntegratedGradients(network, network.embedding)
    theirs = functools.partial(layer.attribute, words, torch.zeros_like(words), target=1)
    yield "docstrings", Ours.of_words(network, words), theirs


def compare(rounds: int) -> None:
    """Print the first table."""
    print(
        f"CPU time in ms, medians of {rounds} rounds; exact Shapley beside Captum's KernelSHAP of 200 samples"
    )
    print(f"{'':44}{'ours':>9}{'Captum':>9}{'ratio':>7}{'of least':>9}{'apart':>10}")
    for name, mine, theirs in pairs():
        line(f"{name}: integrated gradients, 50 steps", mine(n_steps=50), theirs, rounds)
        line(f"{name}: the same, 'auto'", mine(), theirs, rounds)
        line(f"{name}: the same, 16 steps", mine(n_steps=16), theirs, rounds)
    table, row = table_network(), torch.rand(1, 13)
    shap = captum.KernelShap(table)
    estimate = functools.partial(shap.attribute, row, target=1, n_samples=200)
    line("13 columns: exact Shapley", Ours(table, row)(method="shapley_exact"), estimate, rounds)


def faster(count: int) -> None:
    """Print the second table: how far the faster settings are from the integral, on digits held out."""
    model = load("digits")
    digits = held_out()[0][:: 360 // count]
    targets = model(digits).argmax(dim=1).tolist()
    peer = captum.IntegratedGradients(model)
    settings: dict[str, dict[str, object]] = {
        "50 steps": {"n_steps": 50},
        "'auto', tolerance 0.01": {},
        "'auto', tolerance 0.05": {"tolerance": 0.05},
        "16 steps": {"n_steps": 16},
    }
    spent: dict[str, float] = collections.defaultdict(float)
    apart: dict[str, list[float]] = collections.defaultdict(list)
    rows: dict[str, int] = collections.defaultdict(int)
    mine = Ours(model, digits[:1])
    for digit, target in zip(digits.split(1), targets, strict=True):
        mine.example = digit
        integral = mine.run(target=target, n_steps=500).values[0][:, 0]
        started = time.process_time()
        found = peer.attribute(digit, target=target)
        spent["Captum"] += time.process_time() - started
        apart["Captum"].append(distance(found, integral))
        for name, args in settings.items():
            started = time.process_time()
            attributed = mine.run(target=target, **args)
            spent[name] += time.process_time() - started
            apart[name].append(distance(attributed.values[0][:, 0], integral))
            rows[name] += (attributed.n_steps or [0])[0]
    print(f"\n{len(digits)} digits: CPU time of Captum's 50 steps over ours; distance from 500 steps")
    for name, distances in apart.items():
        median, worst = statistics.median(distances), max(distances)
        steps = f"steps {rows[name] / len(digits):5.1f}" if name in rows else ""
        ratio = spent["Captum"] / spent[name]
        print(f"{name:24}{ratio:6.1f}  distance {median:.3f}, at most {worst:.3f}  {steps}", flush=True)


def distance(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Return the length of the difference as a share of the length of `exact`."""
    return float((found - exact).norm() / exact.norm())


def line(name: str, run: Run, peer: Run, rounds: int) -> None:
    """Time both in turn and print one line: medians, their ratio, that of the least, and how far apart."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for which, call in enumerate((run, peer)):
            started = time.process_time()
            call()
            if number:  # the first round warms up
                times[which].append(1000 * (time.process_time() - started))
    mine, theirs = (statistics.median(found) for found in times)
    least = min(times[1]) / min(times[0])
    apart = distance(cast(Attributed, run()).values[0][:, 0], cast(torch.Tensor, peer()).detach())
    print(f"{name:44}{mine:9.1f}{theirs:9.1f}{theirs / mine:7.1f}{least:9.1f}{apart:10.1e}", flush=True)


def beside(rounds: int, seconds: float) -> None:
    """Print the third table."""
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
    """Run all three."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Captum warns of its own hooks
        torch.set_num_threads(1)
        keep_freed_memory()  # for both sides, since both are in this process
        compare(options.rounds)
        faster(60)
    beside(options.rounds, options.seconds)


if __name__ == "__main__":
    main()
