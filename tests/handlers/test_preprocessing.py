from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from predictor.handlers.inputs import SignatureError
from predictor.handlers.preprocessing import Preprocessing
from predictor.ipc.messages import TensorSpec


def _image(*shape):
    return TensorSpec("image", "float32", shape, "image")


def _picture(width, height):
    """A picture whose red is its column and whose green is its row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.arange(width)
    pixels[..., 1] = np.arange(height)[:, None]
    return Image.fromarray(pixels)


def test_nothing_said_scales_to_what_is_declared():
    tensor = Preprocessing(None).picture(_image(3, 5, 4), _picture(4, 5))
    assert tensor.shape == (3, 5, 4)
    np.testing.assert_allclose(tensor[0, 0] * 255, range(4), atol=1e-5)
    assert Preprocessing({}).picture(_image(1, 8, 9), _picture(4, 5)).shape == (1, 8, 9)
    assert Preprocessing({}).picture(_image(3, -1, -1), _picture(4, 5)).shape == (3, 5, 4)


def test_resize_is_width_and_height():
    made = Preprocessing({"resize": [6, 4]})
    assert made.picture(_image(3, -1, -1), _picture(40, 40)).shape == (3, 4, 6)


def test_imagenets_normalization():
    tensor = Preprocessing({"normalize": "imagenet"}).picture(
        _image(3, 2, 2), Image.new("RGB", (2, 2), "white")
    )
    expected = (1 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(tensor[:, 0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("name", [{"normalize": "custom"}, {}])
def test_a_normalization_of_ones_own(name):
    section = {**name, "custom": {"mean": [0.5], "std": [0.25]}}
    tensor = Preprocessing(section).picture(_image(1, 2, 2), Image.new("L", (2, 2), 255))
    assert tensor[0, 0, 0] == 2.0


def test_the_middle_is_cut_out():
    section = {"custom": {"resize": [8, 6], "crop": [4, 2]}}
    tensor = Preprocessing(section).picture(_image(3, 2, 4), _picture(8, 6))
    np.testing.assert_allclose(tensor[0, 0] * 255, [2, 3, 4, 5], atol=1e-4)
    np.testing.assert_allclose(tensor[1, :, 0] * 255, [2, 3], atol=1e-4)
    without = Preprocessing({"resize": [8, 6]}).picture(_image(3, 2, 4), _picture(8, 6))
    np.testing.assert_array_equal(without, tensor)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ([], "preprocessing: Expected `object`"),
        ({"resize": 5}, "resize"),
        ({"resize": [0, 5]}, "must be positive"),
        ({"max_length": -1}, "must be positive"),
        ({"rotate": 90}, "rotate"),
        ({"normalize": "clip"}, "unknown 'clip'; known are imagenet, custom"),
        ({"normalize": "custom"}, "needs mean and std"),
        ({"custom": {"mean": [1.0]}}, "of the same length"),
        ({"custom": {"mean": [1.0], "std": [0.0]}}, "std not zero"),
    ],
)
def test_a_section_that_cannot_be_used_is_named(section, message):
    with pytest.raises(SignatureError, match=message):
        Preprocessing(section)


@pytest.mark.parametrize(
    ("section", "shape", "message"),
    [
        ({"normalize": "imagenet"}, (1, 2, 2), "3 channels, 'image' has 1"),
        ({"resize": [2, 2]}, (3, 2, 4), r"\[2, 2\], too small for 'image'"),
    ],
)
def test_a_section_that_does_not_fit_the_model(section, shape, message):
    with pytest.raises(SignatureError, match=message):
        Preprocessing(section).check([_image(*shape)])
