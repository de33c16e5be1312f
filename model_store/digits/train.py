"""Train the digit reader on scikit-learn's bundled digits: ``python -m model_store.digits.train``.

The data are 1,797 handwritten digits of 8x8 pixels and 17 grey levels. They do not say who wrote what,
but neighbours look to be by one hand; so the last 360 are held out as a block, not rows at random. The
people wrote a 1 with a flag and a foot, a 4 with a short stem and a 7 with a bar; other common forms are
added as four drawings. Each epoch redraws every shape with another size, slant, position, stroke and
resolution, and all go through the transform that serves requests.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from sklearn.datasets import load_digits
from torch import nn

from model_store import training
from model_store.digits.model import DigitNet
from model_store.digits.transform import to_tensor

SEED = 7
EPOCHS = 60
BATCH = 64
HELD_OUT = 360
PEAK_RATE = 3e-3
DRAWING = 64
"""Side in pixels of the sheet on which a training digit is redrawn."""
BEND = 6.0
"""Largest shift of the drawing's parts against each other, in pixels of the sheet."""
EXAMPLES = ("0.png", "3.png", "5.png", "7.jpg", "8.png")

Grey = NDArray[np.uint8]
Stroke = tuple[tuple[float, float], ...]

DRAWN: tuple[tuple[int, tuple[Stroke, ...]], ...] = (
    (1, (((0.5, 0.0), (0.5, 1.0)),)),
    (1, (((0.25, 0.3), (0.55, 0.0), (0.55, 1.0)),)),
    (4, (((0.3, 0.0), (0.1, 0.5), (0.8, 0.5)), ((0.8, 0.0), (0.65, 1.0)))),
    (7, (((0.15, 0.05), (0.85, 0.05), (0.4, 1.0)),)),
)
"""Forms the data lack, as pen strokes (x, y): the 1 without a foot, the long-stemmed 4, the bare 7."""
COPIES = 25


def load() -> tuple[Grey, torch.Tensor]:
    """Return the digits as uint8 [1797, 8, 8], light ink on black, and their labels, int64 [1797]."""
    digits = load_digits()
    return (digits.images * (255 / 16)).round().astype(np.uint8), torch.tensor(digits.target)


def held_out() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the held-out digits, unchanged but for the transform, [360, 1, 28, 28], and their labels."""
    images, labels = load()
    return torch.stack([to_tensor(Image.fromarray(image)) for image in images[-HELD_OUT:]]), labels[
        -HELD_OUT:
    ]


def redraw(digit: Grey, random: np.random.Generator) -> Image.Image:
    """Return a square `digit` drawn anew at a random scale, slant and stroke width, sometimes as it is."""
    if random.random() < 0.15:
        return Image.fromarray(digit)
    margin = np.pad(digit, len(digit) // 4)
    sheet = Image.fromarray(margin).resize((DRAWING, DRAWING), Image.Resampling.BICUBIC)
    sheet = sheet.transform(sheet.size, Image.Transform.AFFINE, _affine(random), Image.Resampling.BILINEAR)
    sheet = sheet.filter(ImageFilter.GaussianBlur(random.uniform(0, 2)))
    levels = _bend(np.asarray(sheet, dtype=np.float32) / np.float32(255), random)
    # A steep ramp around a random level turns the soft 8x8 shape into a pen stroke, thin or thick.
    levels = (levels - random.uniform(0.2, 0.6)) * random.choice([2.0, 5.0, 20.0]) + 0.5
    if levels.max() <= 0.5:
        return Image.fromarray(digit)
    drawn = Image.fromarray((levels.clip(0, 1) * 255).astype(np.uint8))
    side = int(random.integers(10, DRAWING + 1))
    return drawn.resize((side, side), Image.Resampling.BOX)


def _affine(random: np.random.Generator) -> tuple[float, ...]:
    """Return the coefficients of a random rotation, shear and stretch about the sheet's centre."""
    angle, shear = random.uniform(-0.25, 0.25), random.uniform(-0.45, 0.45)
    wide, high = random.uniform(0.8, 1.5), random.uniform(0.85, 1.15)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.array([[wide, shear], [0, high]])
    centre = np.array([DRAWING / 2, DRAWING / 2])
    offset = centre - matrix @ centre + random.uniform(-2, 2, size=2)
    return (*matrix[0].tolist(), float(offset[0]), *matrix[1].tolist(), float(offset[1]))


def _bend(levels: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Shift the pixels of a square picture by a smooth random field, as one hand differs from another."""
    side = len(levels)
    coarse = random.uniform(-BEND, BEND, size=(2, 3, 3)).astype(np.float32)
    down, across = (Image.fromarray(field).resize((side, side), Image.Resampling.BICUBIC) for field in coarse)
    rows, columns = np.mgrid[:side, :side]
    rows, columns = np.round(rows + np.asarray(down)), np.round(columns + np.asarray(across))
    bent: NDArray[np.float32] = levels[
        rows.clip(0, side - 1).astype(int), columns.clip(0, side - 1).astype(int)
    ]
    return bent


def draw(strokes: tuple[Stroke, ...]) -> Grey:
    """Return `strokes`, given on a unit square, as a light drawing, uint8 [32, 32]."""
    sheet = Image.new("L", (32, 32))
    for stroke in strokes:
        ImageDraw.Draw(sheet).line([(31 * x, 31 * y) for x, y in stroke], fill=255, width=4, joint="curve")
    return np.asarray(sheet)


def shapes(count: int | None = None) -> tuple[list[Grey], torch.Tensor]:
    """Return what is redrawn in each epoch: the first `count` training digits, and DRAWN several times."""
    images, labels = load()
    seen, seen_labels = list(images[:-HELD_OUT][:count]), labels[:-HELD_OUT][:count]
    drawn = [draw(strokes) for _, strokes in DRAWN for _ in range(COPIES)]
    drawn_labels = torch.tensor([label for label, _ in DRAWN for _ in range(COPIES)])
    return seen + drawn, torch.cat([seen_labels, drawn_labels])


def train(epochs: int = EPOCHS, count: int | None = None) -> DigitNet:
    """Return the network after `epochs` over the first `count` training digits (None: all of them)."""
    training.make_deterministic(SEED)
    random = np.random.default_rng(SEED)
    images, labels = shapes(count)
    model = DigitNet().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=1e-2)
    steps = epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=PEAK_RATE, total_steps=steps)
    for _ in range(epochs):
        drawn = torch.stack([to_tensor(redraw(image, random)) for image in images])
        for rows in torch.randperm(len(drawn)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(drawn[rows]), labels[rows], label_smoothing=0.02).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def write_examples(folder: Path) -> None:
    """Write the first held-out digit of some labels to `folder`, dark on light, named by its label."""
    images, labels = load()
    images, labels = images[-HELD_OUT:], labels[-HELD_OUT:]
    folder.mkdir(parents=True, exist_ok=True)
    for name in EXAMPLES:
        digit = images[int((labels == int(name[0])).nonzero()[0])]
        drawn = Image.fromarray(255 - np.pad(digit, 1)).resize((DRAWING, DRAWING), Image.Resampling.BICUBIC)
        drawn.save(folder / name)


def main() -> None:
    """Train, measure on the held-out digits and write the weights, the figures and the examples."""
    folder = training.output_folder(Path(__file__).parent)
    model = train()
    inputs, labels = held_out()
    metrics = {
        "accuracy": round(training.accuracy(model, inputs, labels), 4),
        "majority_baseline": round(training.majority_share(labels), 4),
        "split": {
            "train": 1797 - HELD_OUT,
            "held_out": HELD_OUT,
            "how": "the last 360 in the data set's order",
        },
        "seed": SEED,
        "versions": training.versions("torch", "scikit-learn", "numpy", "pillow"),
    }
    training.save(model, metrics, folder)
    write_examples(folder / "examples")


if __name__ == "__main__":
    main()
