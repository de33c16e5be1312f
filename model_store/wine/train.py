"""Train the wine classifier on scikit-learn's bundled wine data: ``python -m model_store.wine.train``.

178 wines of three cultivars. 45 of them are held out, stratified by cultivar; because 45 are few, the
same training is also cross-validated over five folds, and both figures are written.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import StratifiedKFold, train_test_split
from torch import nn

from model_store import training
from model_store.wine.model import WineNet

SEED = 11
STEPS = 300
HELD_OUT = 45
FOLDS = 5


def load() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the measurements, float32 [178, 13], and the cultivars, int64 [178]."""
    wine = load_wine()
    return torch.tensor(wine.data, dtype=torch.float32), torch.tensor(wine.target)


def split() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the row numbers to train on [133] and those held out [45]."""
    _, labels = load()
    rows = np.arange(len(labels))
    train_rows, test_rows = train_test_split(rows, test_size=HELD_OUT, stratify=labels, random_state=SEED)
    return torch.tensor(train_rows), torch.tensor(test_rows)


def held_out() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the held-out measurements [45, 13] and their cultivars [45]."""
    (features, labels), (_, rows) = load(), split()
    return features[rows], labels[rows]


def train(features: torch.Tensor, labels: torch.Tensor, steps: int = STEPS) -> WineNet:
    """Return the network after `steps` over all of `features`, whose mean and scale it keeps."""
    training.make_deterministic(SEED)
    model = WineNet().train()
    model.mean.copy_(features.mean(dim=0))
    model.scale.copy_(features.std(dim=0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(features), labels, label_smoothing=0.05).backward()
        optimizer.step()
    return model.eval()


def cross_validated() -> float:
    """Return the accuracy over five stratified folds, each predicted by a network that did not see it."""
    features, labels = load()
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(features, labels)
    right = 0.0
    for seen, unseen in folds:
        model = train(features[seen], labels[seen])
        right += training.accuracy(model, features[unseen], labels[unseen]) * len(unseen)
    return right / len(labels)


def write_example(folder: Path) -> None:
    """Write the first held-out wine to `folder` as the JSON object that a request carries."""
    features, _ = held_out()
    names = [name.replace("/", "_") for name in load_wine().feature_names]
    wine = {name: round(value, 2) for name, value in zip(names, features[0].tolist(), strict=True)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "wine.json").write_text(json.dumps(wine, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Train, measure on the held-out wines and write the weights, the figures and the example."""
    folder = training.output_folder(Path(__file__).parent)
    (features, labels), (train_rows, test_rows) = load(), split()
    model = train(features[train_rows], labels[train_rows])
    metrics = {
        "accuracy": round(training.accuracy(model, features[test_rows], labels[test_rows]), 4),
        "cross_validated_accuracy": round(cross_validated(), 4),
        "majority_baseline": round(training.majority_share(labels[test_rows]), 4),
        "split": {
            "train": len(train_rows),
            "held_out": len(test_rows),
            "how": "stratified by cultivar, seeded",
        },
        "seed": SEED,
        "versions": training.versions("torch", "scikit-learn", "numpy"),
    }
    training.save(model, metrics, folder)
    write_example(folder / "examples")


if __name__ == "__main__":
    main()
