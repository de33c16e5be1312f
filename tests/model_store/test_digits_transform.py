"""The digit reader's transform takes any picture, and the network then reads it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from model_store import training
from model_store.digits.model import DigitNet
from model_store.digits.transform import BOX, SIZE, to_tensor

STORE = Path(training.__file__).parent
MNIST = STORE.parents[1] / "shared" / "data" / "torchserve" / "mnist"
EXAMPLES = sorted((STORE / "digits" / "examples").iterdir())


@pytest.fixture(scope="module")
def network() -> DigitNet:
    """Return the committed network."""
    model = DigitNet()
    model.load_state_dict(torch.load(STORE / "digits" / training.WEIGHTS, weights_only=True))
    model.eval()
    return model


def read(network: DigitNet, image: Image.Image) -> int:
    """Return the digit that the network sees in `image`."""
    with torch.no_grad():
        return int(network(to_tensor(image)[None]).argmax(1))


def printed(
    digit: int, size: tuple[int, int] = (600, 400), ink: str = "navy", paper: str = "ivory"
) -> Image.Image:
    """Return a picture of a digit in Pillow's own font, off the centre."""
    image = Image.new("RGB", size, paper)
    font = ImageFont.load_default(size[1] * 0.6)
    ImageDraw.Draw(image).text((size[0] * 0.55, size[1] * 0.1), str(digit), fill=ink, font=font)
    return image


def weird() -> dict[str, Image.Image]:
    """Return pictures of unusual sizes, modes and contents."""
    three = printed(3)
    jpeg = io.BytesIO()
    three.convert("CMYK").save(jpeg, "JPEG")
    transparent = Image.new("RGBA", (80, 80), (0, 0, 0, 0))
    transparent.paste((20, 20, 20, 255), (30, 10, 50, 70))
    deep = np.zeros((50, 40), dtype=np.uint16)
    deep[10:40, 18:24] = 60_000
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return {
        "one pixel": Image.new("L", (1, 1), 255),
        "wide": Image.new("RGB", (5000, 10), "white"),
        "wide with ink": printed(1, (5000, 10)),
        "tall": Image.effect_noise((10, 5000), 50),
        "huge": printed(3, (6000, 4000)),
        "rgba": three.convert("RGBA"),
        "transparent": transparent,
        "all transparent": Image.new("RGBA", (9, 9), (0, 0, 0, 0)),
        "palette": three.convert("P"),
        "palette with transparency": transparent.convert("PA").convert("P"),
        "grey with alpha": three.convert("LA"),
        "one bit": printed(3, ink="black", paper="white").convert("1"),
        "dithered": three.convert("1"),
        "16 bit": Image.fromarray(deep),
        "32 bit": Image.fromarray(deep.astype(np.int32)),
        "float": Image.fromarray(deep.astype(np.float32) / 65535),
        "not a number": Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)),
        "cmyk jpeg": Image.open(io.BytesIO(jpeg.getvalue())),
        "hsv": three.convert("HSV"),
        "ycbcr": three.convert("YCbCr"),
        "noise": Image.fromarray(noise),
        "black": Image.new("L", (28, 28), 0),
        "grey": Image.new("L", (28, 28), 127),
    }


@pytest.mark.parametrize("kind", weird())
def test_any_picture_becomes_a_tensor_of_the_declared_shape(kind: str) -> None:
    tensor = to_tensor(weird()[kind])
    assert tensor.shape == (1, SIZE, SIZE)
    assert tensor.dtype == torch.float32
    assert tensor.isfinite().all()
    assert 0 <= float(tensor.min()) <= float(tensor.max()) <= 1


@pytest.mark.parametrize("kind", ["one pixel", "wide", "all transparent", "not a number", "black", "grey"])
def test_blank_paper_becomes_zeros(kind: str) -> None:
    assert not to_tensor(weird()[kind]).any()


@pytest.mark.parametrize(
    "kind", ["huge", "rgba", "palette", "grey with alpha", "one bit", "cmyk jpeg", "hsv"]
)
def test_the_mode_and_the_size_do_not_matter(kind: str, network: DigitNet) -> None:
    assert read(network, weird()[kind]) == 3


@pytest.mark.parametrize("kind", ["transparent", "16 bit", "32 bit", "float"])
def test_a_bar_keeps_its_shape_in_every_depth(kind: str) -> None:
    rows, columns = to_tensor(weird()[kind])[0].nonzero(as_tuple=True)
    assert int(rows.max() - rows.min()) + 1 == BOX
    assert int(columns.max() - columns.min()) + 1 <= BOX // 2


@pytest.mark.parametrize(
    ("ink", "paper"), [("white", "black"), ("black", "white"), ("red", "green"), ("#777", "#aaa")]
)
def test_the_colours_do_not_matter(ink: str, paper: str) -> None:
    assert torch.allclose(to_tensor(printed(5, ink=ink, paper=paper)), to_tensor(printed(5)), atol=0.05)


@pytest.mark.parametrize("digit", range(10))
def test_printed_digits_are_read(digit: int, network: DigitNet) -> None:
    assert read(network, printed(digit)) == digit


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_read(path: Path, network: DigitNet) -> None:
    with Image.open(path) as image:
        assert read(network, image) == int(path.stem)


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"no MNIST pictures at {MNIST}")
@pytest.mark.parametrize("digit", range(10))
def test_mnist_digits_are_read(digit: int, network: DigitNet) -> None:
    with Image.open(MNIST / f"{digit}.png") as image:
        assert read(network, image) == digit
