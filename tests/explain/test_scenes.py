"""Boxes around objects and masks of classes, as numbers that can be explained."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from predictor.errors import InvalidInput
from predictor.explain.foreign import ForeignExplainer
from predictor.explain.scenes import scene_reader

DOG = {"dog": [0.0, 0.0, 10.0, 10.0], "score": 0.9}
CAT = {"cat": [20.0, 0.0, 30.0, 10.0], "score": 0.6}


def test_a_box_keeps_the_score_of_what_overlaps_it():
    reader = scene_reader([DOG, CAT])
    assert reader.labels == ("dog 0", "cat 1")
    assert reader.read([DOG, CAT]) == pytest.approx([0.9, 0.6])
    half = {"dog": [0.0, 0.0, 10.0, 5.0], "score": 0.8}
    assert reader.read([half]) == pytest.approx([0.4, 0.0])
    elsewhere = {"dog": [20.0, 0.0, 30.0, 10.0], "score": 1.0}
    assert reader.read([elsewhere, half]) == pytest.approx([0.4, 0.0])
    assert reader.read([]) == [0.0, 0.0]


def test_two_boxes_of_a_class_are_told_apart():
    other = {"dog": [0.0, 20.0, 10.0, 30.0], "score": 0.5}
    reader = scene_reader([DOG, other])
    assert reader.labels == ("dog 0", "dog 1")
    assert reader.read([other]) == pytest.approx([0.0, 0.5])


def test_torchvisions_form():
    answer = {"boxes": [[0, 0, 10, 10]], "labels": [17], "scores": [0.9]}
    reader = scene_reader(answer)
    assert (reader.labels, reader.read(answer)) == (("17 0",), [0.9])


def test_a_class_keeps_the_share_of_its_pixels():
    mask = [[[3.0, 0.9]] * 4, [[3.0, 0.9]] * 2 + [[7.0, 0.8]] * 2]
    reader = scene_reader(mask)
    assert reader.labels == ("3", "7")
    assert reader.read(mask) == [1.0, 1.0]
    changed = [[[3.0, 0.9]] * 4, [[7.0, 0.9]] * 3 + [[0.0, 0.8]]]
    assert reader.read(changed) == pytest.approx([4 / 6, 0.5])
    assert reader.read([]) == [0.0, 0.0]
    assert reader.read(mask * 2) == [0.0, 0.0], "a mask of another size"


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        "dog",
        None,
        0.5,
        [0.1, 0.9],
        {"dog": 0.9, "cat": 0.1},
        [[0.1, 0.9]],
        [{"dog": [0, 0, 1], "score": 0.5}],
        [{"dog": [0, 0, 1, 1], "score": "high"}],
        [{"dog": [0, 0, 1, 1], "box": [0, 0, 1, 1]}],
        {"boxes": [[0, 0, 1]], "labels": [1], "scores": [0.5]},
        [[[0.5, 0.9]]],
        [[[1.0, 0.9]], [[1.0]]],
    ],
    ids=str,
)
def test_what_is_neither(answer):
    assert scene_reader(answer) is None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.sampled_from(["score", "dog", ""]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["dog", "score", "boxes", "labels", "scores"]), inner, max_size=3)
    ),
    max_leaves=20,
)


@given(ANYTHING)
def test_no_answer_is_too_strange(answer):
    reader = scene_reader(answer)
    if reader is not None:
        assert len(reader.read(answer)) == len(reader.labels)
    for known in (scene_reader([DOG, CAT]), scene_reader([[[3.0, 0.9]]])):
        values = known.read(answer)
        assert len(values) == len(known.labels)


def _picture(*dots):
    pixels = np.zeros((28, 28), dtype=np.uint8)
    for left, top in dots:
        pixels[top : top + 4, left : left + 4] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _pixels(row):
    return np.asarray(Image.open(io.BytesIO(row["data"])), dtype=np.float32) / 255


def detect(rows):
    """Find the bright square at either of two places, as surely as it is bright."""
    answers = []
    for row in rows:
        pixels, found = _pixels(row), []
        for left, top in ((4, 4), (20, 16)):
            score = float(pixels[top : top + 4, left : left + 4].mean())
            if score > 0.1:
                found.append({"dot": [left, top, left + 4, top + 4], "score": score})
        answers.append(sorted(found, key=lambda item: -item["score"]))
    return answers


def segment(rows):
    """Say for every pixel whether it is bright."""
    return [np.stack([_pixels(row) > 0.5, np.ones((28, 28))], axis=2).astype(float).tolist() for row in rows]


def test_a_detector_is_explained_box_by_box():
    found = ForeignExplainer(None, detect, {})
    picture = _picture((4, 4), (20, 16))
    for target, (left, top) in (("dot 0", (4, 4)), ("dot 1", (20, 16))):
        answer = found.explain({"data": picture, "explain": {"target": target}}, "")
        assert answer["target"]["label"] == target
        assert answer["prediction"]["output"] == pytest.approx(1.0)
        assert answer["prediction"]["kind"] == "score"
        weights = np.asarray(answer["inputs"][0]["attributions"])
        inside = np.zeros_like(weights, dtype=bool)
        inside[top : top + 4, left : left + 4] = True
        assert weights[inside] == pytest.approx(1.0)
        assert weights[~inside] == pytest.approx(0.0)
    refused = found.explain({"data": picture, "explain": {"target": "dot"}}, "")
    assert refused.message.startswith("explain.target must be one of dot 0, dot 1")


def test_a_segmenter_is_explained_class_by_class():
    found = ForeignExplainer(None, segment, {})
    answer = found.explain({"data": _picture((4, 4)), "explain": {"target": "1"}}, "")
    weights = np.asarray(answer["inputs"][0]["attributions"])
    assert weights[4:8, 4:8] == pytest.approx(1.0)
    assert weights.sum() == pytest.approx(16.0)
    best = found.explain({"data": _picture((4, 4)), "explain": {}}, "")
    assert best["target"]["label"] == "0", "the class of the largest area"
    assert best["prediction"]["kind"] == "share"


def test_a_picture_in_which_nothing_is_found_cannot_be_explained():
    with pytest.raises(InvalidInput, match="explain: the handler's answer is no number"):
        ForeignExplainer(None, detect, {}).explain({"data": _picture(), "explain": {}}, "")
