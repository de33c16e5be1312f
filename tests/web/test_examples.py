"""Which files of a model's folder the page may show."""

from __future__ import annotations

import pytest

from predictor.web import examples


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model" / "examples"
    folder.mkdir(parents=True)
    (tmp_path / "model" / "secret.png").write_bytes(b"secret")
    return folder.parent


def test_pictures_values_and_text(model):
    folder = model / "examples"
    (folder / "a.PNG").write_bytes(b"picture")
    (folder / "b.json").write_text('{"x": 1}')
    (folder / "c.txt").write_text("  Grüße\n", encoding="utf-8")
    assert examples.list_examples(model) == [
        {"name": "a.PNG", "kind": "image"},
        {"name": "b.json", "kind": "json", "value": {"x": 1}},
        {"name": "c.txt", "kind": "text", "value": "Grüße"},
    ]
    picture = examples.read_picture(model, "a.PNG")
    assert picture is not None
    assert (picture.body, picture.content_type) == (b"picture", "image/png")


def test_what_cannot_be_shown_is_left_out(model):
    folder = model / "examples"
    (folder / "broken.json").write_text("{")
    (folder / "nan.json").write_text('{"x": NaN}')
    (folder / "latin1.txt").write_bytes(b"\xe9")
    (folder / "large.txt").write_bytes(b"x" * 70_000)
    (folder / "script.svg").write_text("<svg/>")
    (folder / "code.py").write_text("")
    (folder / "folder.txt").mkdir()
    (folder / "dangling.txt").symlink_to("nowhere")
    assert examples.list_examples(model) == []


def test_a_dozen_is_enough(model):
    for number in range(20):
        (model / "examples" / f"{number:02}.png").write_bytes(b"")
    assert [example["name"] for example in examples.list_examples(model)] == [
        f"{n:02}.png" for n in range(12)
    ]


def test_no_folder_no_examples(model):
    (model / "examples").rmdir()
    assert examples.list_examples(model) == []
    assert examples.read_picture(model, "a.png") is None


@pytest.mark.parametrize(
    "name", ["../secret.png", "..", "", ".png", "x\0.png", "link.png", "sub/inner.png", "/etc/hostname.png"]
)
def test_nothing_outside_the_folder_can_be_read(model, name):
    (model / "examples" / "link.png").symlink_to(model / "secret.png")
    (model / "examples" / "sub").mkdir()
    (model / "examples" / "sub" / "inner.png").write_bytes(b"deeper")
    assert examples.read_picture(model, name) is None


def test_a_value_is_not_read_through_a_link(model):
    (model / "secret.txt").write_text("secret")
    (model / "examples" / "link.txt").symlink_to(model / "secret.txt")
    assert examples.list_examples(model) == []


def test_a_picture_that_is_too_large(model):
    (model / "examples" / "a.png").write_bytes(b"x" * (4 * 1024 * 1024 + 1))
    assert examples.read_picture(model, "a.png") is None
