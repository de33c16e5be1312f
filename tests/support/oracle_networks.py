"""The weights of the oracle's archives: tiny, and the same at every recording."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from support.oracle_corpus import HANDLERS


class TinyClassifier(nn.Module):
    """Colours of an image in four quarters, to six classes."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(12, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [batch, 6]."""
        return self.fc(self.pool(x).flatten(1))


def linear(folder: Path) -> Path:
    """Write the state dict of handlers/linear_net.py."""
    return _state(folder / "linear.pth", "linear_net", "LinearNet")


def digits(folder: Path) -> Path:
    """Write the state dict of handlers/digit_net.py."""
    return _state(folder / "digits.pt", "digit_net", "DigitNet")


def segment(folder: Path) -> Path:
    """Write the state dict of handlers/segment_net.py."""
    return _state(folder / "segment.pth", "segment_net", "SegmentNet")


def detect(folder: Path) -> Path:
    """Write the state dict of handlers/detect_net.py."""
    return _state(folder / "detect.pth", "detect_net", "DetectNet")


def text(folder: Path) -> Path:
    """Write the state dict of handlers/text_net.py, and the vocabulary beside it."""
    words = [
        "the",
        "a",
        "cat",
        "sat",
        "on",
        "mat",
        "not",
        "good",
        "bad",
        "it",
        "is",
        "was",
        "do",
        "did",
        ".",
        "!",
    ]
    vocabulary = {word: number for number, word in enumerate(words)}
    pairs = [("the", "cat"), ("cat", "sat"), ("it", "is"), ("is", "not"), ("not", "good"), ("did", "not")]
    vocabulary |= {" ".join(pair): len(words) + number for number, pair in enumerate(pairs)}
    torch.save(vocabulary, folder / "source_vocab.pt")
    return _state(folder / "text.pth", "text_net", "TextNet")


def scripted_linear(folder: Path) -> Path:
    """Write a TorchScript module, four numbers to three."""
    sys.path.insert(0, str(HANDLERS))
    from linear_net import LinearNet

    return _script(folder / "model.pt", LinearNet)


def scripted_classifier(folder: Path) -> Path:
    """Write a TorchScript image classifier."""
    return _script(folder / "classifier.pt", TinyClassifier)


def _state(path: Path, module: str, name: str) -> Path:
    sys.path.insert(0, str(HANDLERS))
    torch.save(_seeded(getattr(__import__(module), name)).state_dict(), path)
    return path


def _script(path: Path, network: Any) -> Path:
    torch.jit.script(_seeded(network)).save(str(path))
    return path


def _seeded(network: Any) -> nn.Module:
    torch.manual_seed(7)
    made: nn.Module = network()
    return made.eval()
