"""Train the topic classifier on Python's own docstrings: ``python -m model_store.docstrings.train``.

A fifth of the docstrings is held out, whole docstrings at a time. Their modules were seen in training,
and a module has its own words; so a second figure is measured by five trainings that each leave out a
fifth of the *modules*. That one says more about text from elsewhere.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from model_store import training
from model_store.docstrings.corpus import TOPICS, Example, build
from model_store.docstrings.model import WORDS, TopicNet
from model_store.docstrings.words import encode, tokenize

SEED = 5
EPOCHS = 12
BATCH = 64
PEAK_RATE = 1e-2
PARTS = 5
HIDDEN_WORDS = 0.2
"""Share of words replaced by the unknown word in training, lest the network lean on any one."""
SAMPLE = 100
LABELS = sorted(TOPICS)
EXAMPLE = "Wait until another thread releases the lock, or until the timeout has passed.\n"


def split(examples: Sequence[Example], key: str, part: int) -> tuple[list[Example], list[Example]]:
    """Return (train, held out); the examples that share the attribute `key` stay together, by `part` of 5."""
    values = sorted({getattr(example, key) for example in examples})
    random.Random(SEED).shuffle(values)  # noqa: S311 - a split, not a secret
    held = set(values[part::PARTS])
    return (
        [example for example in examples if getattr(example, key) not in held],
        [example for example in examples if getattr(example, key) in held],
    )


def vocabulary(examples: Sequence[Example]) -> dict[str, int]:
    """Return word -> number from 2 on, for the words in most of `examples`, at least in two."""
    counts = Counter(word for example in examples for word in {word for word, _, _ in tokenize(example.text)})
    ranked = sorted((-count, word) for word, count in counts.items() if count > 1)
    return {word: number for number, (_, word) in enumerate(ranked[: WORDS - 2], start=2)}


def tensors(examples: Sequence[Example], numbers: dict[str, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the word numbers, int64 [n, 128], and the labels, int64 [n]."""
    labels = torch.tensor([LABELS.index(example.topic) for example in examples])
    return torch.stack([encode(example.text, numbers) for example in examples]), labels


def train(ids: torch.Tensor, labels: torch.Tensor, epochs: int = EPOCHS) -> TopicNet:
    """Return the network after `epochs` over word numbers `ids` [n, 128]."""
    training.make_deterministic(SEED)
    model = TopicNet().train()
    nn.init.normal_(model.embedding.weight, std=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.05)
    steps = epochs * -(-len(ids) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=PEAK_RATE, total_steps=steps)
    for _ in range(epochs):
        hidden = (torch.rand(ids.shape) < HIDDEN_WORDS) & (ids != 0)
        seen = ids.masked_fill(hidden, 1)
        for rows in torch.randperm(len(ids)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(seen[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        model.embedding.weight[0] = 0
    return model.eval()


def unseen_modules(examples: Sequence[Example]) -> float:
    """Return the accuracy on modules that the network did not see, over five trainings."""
    right = 0.0
    for part in range(PARTS):
        seen, unseen = split(examples, "module", part)
        numbers = vocabulary(seen)
        right += training.accuracy(train(*tensors(seen, numbers)), *tensors(unseen, numbers)) * len(unseen)
    return right / len(examples)


def main() -> None:
    """Train, measure and write the weights, the vocabulary, the figures, a sample and the example."""
    folder = training.output_folder(Path(__file__).parent)
    examples = build()
    seen, unseen = split(examples, "docstring", 0)
    sample = random.Random(SEED).sample(unseen, SAMPLE)  # noqa: S311 - no secret either
    numbers = vocabulary(seen)
    model = train(*tensors(seen, numbers))
    inputs, labels = tensors(unseen, numbers)
    metrics = {
        "accuracy": round(training.accuracy(model, inputs, labels), 4),
        "unseen_modules_accuracy": round(unseen_modules(examples), 4),
        "sample_accuracy": round(training.accuracy(model, *tensors(sample, numbers)), 4),
        "majority_baseline": round(training.majority_share(labels), 4),
        "split": {"train": len(seen), "held_out": len(unseen), "how": "paragraphs; by docstring, seeded"},
        "topics": Counter(example.topic for example in examples),
        "seed": SEED,
        "versions": training.versions("torch", "scikit-learn"),
    }
    training.save(model, metrics, folder)
    pairs = [{"text": example.text, "topic": example.topic} for example in sample]
    (folder / "held_out_sample.json").write_text(json.dumps(pairs, indent=1) + "\n", encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(numbers, indent=0) + "\n", encoding="utf-8")
    (folder / "examples").mkdir(exist_ok=True)
    (folder / "examples" / "sentence.txt").write_text(EXAMPLE, encoding="utf-8")


if __name__ == "__main__":
    main()
