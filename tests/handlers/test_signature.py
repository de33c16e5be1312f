"""The native handler on tiny modules, and pictures by people who mean harm."""

from __future__ import annotations

import base64
import io
import json
import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from predictor.errors import InvalidInput, PayloadTooLarge, PredictorError
from predictor.handlers.context import Context
from predictor.handlers.declaration import Signature
from predictor.handlers.inputs import SignatureError
from predictor.handlers.modules import ModelFileError, load_module
from predictor.handlers.pictures import open_image
from predictor.handlers.signature import SignatureHandler

_SUM = """
import torch
class Sum(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(()))
    def forward(self, *tensors):
        return sum(t.float().reshape(len(t), -1).sum(1) for t in tensors) * self.scale
"""


def _handler(tmp_path, signature, source=_SUM, cls=SignatureHandler, state=None):
    (tmp_path / "model.py").write_text(source)
    torch.save({"scale": torch.tensor(2.0)} if state is None else state, tmp_path / "model.pt")
    manifest = {"model": {"modelFile": "model.py", "serializedFile": "model.pt"}}
    context = Context("m", str(tmp_path), manifest, 8, None, model_yaml_config={"signature": signature})
    handler = cls()
    handler.initialize(context)
    return handler


@pytest.fixture
def tabular(tmp_path):
    inputs = [{"name": "a", "shape": [2]}, {"name": "b"}]
    return _handler(tmp_path, {"description": "sums", "inputs": inputs, "outputs": [{"name": "y"}]})


def _failures(answers):
    return [type(answer).__name__ if isinstance(answer, PredictorError) else answer for answer in answers]


def test_rows_by_name(tabular):
    assert tabular.handle([{"a": [1, 2], "b": 3}, {"a": [0, 0], "b": 1}], None) == [{"y": 12.0}, {"y": 2.0}]


@pytest.mark.parametrize(
    "row",
    [
        {"body": {"a": [1, 2], "b": 3}},
        {"data": {"a": [1, 2], "b": 3}},
        {"body": bytearray(b'{"a": [1, 2], "b": 3}')},
        {"body": '{"a": [1, 2], "b": 3}'},
        {"body": [[1, 2], 3]},
        {"a": bytearray(b"[1, 2]"), "b": bytearray(b"3")},
    ],
)
def test_the_same_row_in_all_its_forms(tabular, row):
    assert tabular.handle([row], None) == [{"y": 12.0}]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "Missing required input: 'a'"),
        ({"other": 1}, "Missing required input: 'a'"),
        ({"a": [1, 2]}, "Missing required input: 'b'"),
        ({"a": [1, 2], "b": 3, "c": 4}, "Unknown input: 'c'"),
        ({"a": [1, 2, 3], "b": 3}, r"Invalid shape for 'a': expected \[-1, 2\], got \[1, 3\]"),
        ({"body": bytearray(b"\x89PNG")}, "The body is not JSON"),
        ({"body": [1, 2, 3]}, "Expected an object with a, b"),
        ({"body": 5}, "Expected an object with a, b"),
    ],
)
def test_one_bad_row_is_answered_alone(tabular, row, message):
    good = {"a": [1, 2], "b": 3}
    answers = tabular.handle([good, row, good], None)
    assert answers[0] == answers[2] == {"y": 12.0}
    with pytest.raises(InvalidInput, match=message):
        raise answers[1]


def test_only_bad_rows(tabular):
    assert _failures(tabular.handle([{}, {}], None)) == ["InvalidInput", "InvalidInput"]


def test_what_it_says_of_itself(tabular):
    info = tabular.info()
    assert (info.handler, info.description) == ("SignatureHandler", "sums")
    assert [spec.name for spec in info.inputs] == ["a", "b"]
    assert info.classes == ()


def test_a_batch_equals_its_rows(tabular):
    rows = [{"a": [float(i), 0.5], "b": -i} for i in range(9)]
    assert tabular.handle(rows, None) == [tabular.handle([row], None)[0] for row in rows]


def test_packed_inputs(tmp_path):
    inputs = [{"name": name} for name in "abc"]
    handler = _handler(tmp_path, {"inputs": inputs, "pack_inputs": True, "outputs": [{"name": "y"}]})
    (packed,) = handler.collate([handler.example({"a": 1, "b": 2, "c": 3})] * 2)
    assert packed.tolist() == [[1.0, 2.0, 3.0]] * 2
    assert handler.handle([{"a": 1, "b": 2, "c": 3}], None) == [{"y": 12.0}]
    assert handler.handle([{"body": [1, 2, 3]}], None) == [{"y": 12.0}]


_CLASSIFIER = """
import torch
class Logits(torch.nn.Module):
    def forward(self, x):
        return x.float()
"""


def test_a_classifier(tmp_path):
    signature = {"inputs": [{"name": "x", "shape": [3]}], "classes": ["a", "b", 7]}
    handler = _handler(tmp_path, signature, _CLASSIFIER, state={})
    first, second = handler.handle([{"x": [0, 9, 0]}, {"x": [0, 0, 5]}], None)
    assert first["label"] == "b"
    assert second["label"] == "7"
    assert first["score"] == max(first["probabilities"])
    assert sum(first["probabilities"]) == pytest.approx(1)
    assert [spec.name for spec in handler.info().outputs] == ["label", "score"]


_TWO_OUTPUTS = """
import torch
class Two(torch.nn.Module):
    def forward(self, x):
        return x + 1, x.sum(1)
"""


def test_several_outputs(tmp_path):
    signature = {"inputs": [{"name": "x", "shape": [2]}], "outputs": [{"name": "y"}, {"name": "z"}]}
    handler = _handler(tmp_path, signature, _TWO_OUTPUTS, state={})
    assert handler.handle([{"x": [1, 2]}], None) == [{"y": [2.0, 3.0], "z": 3.0}]


def test_text_needs_a_transform_of_the_models_own(tmp_path):
    class Letters(SignatureHandler):
        def transform(self, name, value):
            return torch.tensor([len(value)])

    signature = {"inputs": [{"name": "t", "kind": "text"}], "outputs": [{"name": "y"}]}
    handler = _handler(tmp_path, signature, cls=Letters)
    rows = [{"t": "abc"}, {"body": "abcd"}, {"data": b"\xc3\xa9"}, {"t": b"\xff"}, {"t": 5}]
    answers = handler.handle(rows, None)
    assert _failures(answers) == [{"y": 6.0}, {"y": 8.0}, {"y": 2.0}, "InvalidInput", "InvalidInput"]
    with pytest.raises(SignatureError, match="transform"):
        SignatureHandler.transform(handler, "t", "text")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (None, "has no 'signature' section"),
        ([], "has no 'signature' section"),
        ({}, "signature.inputs"),
        ({"inputs": []}, "signature.inputs is empty"),
        ({"inputs": [{"name": "x"}]}, "signature.outputs is empty"),
        ({"inputs": [{"name": "x", "shape": [2]}], "pack_inputs": True, "classes": ["a"]}, "pack_inputs"),
    ],
)
def test_a_signature_that_cannot_be_used(section, message):
    with pytest.raises(SignatureError, match=message):
        Signature(section)


# files


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({}, "names no serializedFile"),
        ({"serializedFile": "missing.pt"}, "missing.pt is not in the archive"),
        ({"serializedFile": "model.pt", "modelFile": "missing.py"}, "missing.py is not in the archive"),
        ({"serializedFile": "model.pt", "modelFile": "none.py"}, "exactly one nn.Module class, found 0"),
        (
            {"serializedFile": "model.pt", "modelFile": "other.py"},
            "model.pt does not fit the class in other.py",
        ),
        ({"serializedFile": "code.pt", "modelFile": "model.py"}, "holds more than tensors"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, manifest, message):
    (tmp_path / "model.py").write_text(_SUM)
    (tmp_path / "none.py").write_text("x = 1\n")
    (tmp_path / "other.py").write_text(_SUM.replace("self.scale", "self.other"))
    torch.save({"scale": torch.tensor(2.0)}, tmp_path / "model.pt")
    torch.save({"scale": SignatureHandler()}, tmp_path / "code.pt")
    with pytest.raises(ModelFileError, match=message):
        load_module(tmp_path, manifest, torch.device("cpu"))


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "model.py").write_text(_SUM)
    save_file({"scale": torch.tensor(3.0)}, tmp_path / "model.safetensors")
    manifest = {"serializedFile": "model.safetensors", "modelFile": "model.py"}
    module = load_module(tmp_path, manifest, torch.device("cpu"))
    assert module(torch.ones(1, 2)).item() == 6.0
    assert not module.training


# pictures


def _picture(form="PNG", size=(6, 4), mode="RGB"):
    buffer = io.BytesIO()
    Image.new(mode, size, 200 if mode == "L" else (200, 10, 10)).save(buffer, form)
    return buffer.getvalue()


@pytest.fixture
def vision(tmp_path):
    inputs = [{"name": "image", "kind": "image", "shape": [3, 2, 2]}]
    return _handler(tmp_path, {"inputs": inputs, "outputs": [{"name": "y"}]})


def test_pictures_of_any_size_and_form(vision):
    encoded = base64.b64encode(_picture()).decode()
    same = [
        {"body": bytearray(_picture())},
        {"data": _picture()},
        {"image": bytearray(_picture())},
        {"image": encoded},
        {"body": {"image": encoded}},
        {"body": f"data:image/png;base64,{encoded}"},
        {"body": bytearray(_picture(size=(50, 3)))},
        {"image": _picture("BMP")},
    ]
    answers = vision.handle(same, None)
    expected = 2 * 4 * (200 + 10 + 10) / 255
    assert [answer["y"] for answer in answers] == pytest.approx([expected] * len(same), abs=1e-3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "F"])
def test_pictures_of_any_mode(vision, mode):
    buffer = io.BytesIO()
    Image.new(mode, (3, 3)).save(buffer, "TIFF")
    (answer,) = vision.handle([{"body": buffer.getvalue()}], None)
    assert set(answer) == {"y"}


def test_a_picture_as_numbers(vision):
    tensor = torch.ones(3, 2, 2).tolist()
    assert vision.handle([{"image": tensor}, {"body": json.dumps(tensor).encode()}], None)[0] == {"y": 24.0}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "'image': it is empty"),
        (b"nonsense", "'image': not a picture"),
        (_picture()[:40], "'image'"),
        (_picture("JPEG", (100, 100))[:400], "'image'"),
    ],
)
def test_what_is_not_a_picture(data, message):
    with pytest.raises(InvalidInput, match=message):
        open_image("image", data)


def test_a_picture_with_too_many_pixels(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(PayloadTooLarge, match="too many pixels"):
        open_image("image", _picture())


def test_a_file_that_claims_to_be_huge():
    data = bytearray(_picture("BMP"))
    data[18:26] = (60_000).to_bytes(4, "little") * 2
    with pytest.raises(PayloadTooLarge):
        open_image("image", bytes(data))


def test_formats_that_start_other_programs_are_not_opened():
    # Pillow renders EPS by running Ghostscript on what the client sent.
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(InvalidInput, match="not a picture in a known format"):
        open_image("image", eps)


@pytest.mark.skipif(not features.check("avif"), reason="this build of Pillow has no AVIF")
def test_a_broken_avif_is_the_clients_mistake():
    data = _picture("AVIF", (32, 32))
    with pytest.raises(InvalidInput, match="'image'"):
        open_image("image", data.replace(b"iloc", b"xxxx"))


_FORMS = [
    "PNG",
    "JPEG",
    "GIF",
    "BMP",
    "TIFF",
    "WEBP",
    "PPM",
    "ICO",
    "TGA",
    "PCX",
    "DDS",
    "JPEG2000",
    "SGI",
    "ICNS",
    "AVIF",
]
_SEEDS = []
for _form in _FORMS:
    try:
        _SEEDS.append(_picture(_form, (32, 32)))
    except (KeyError, OSError):
        continue  # this build of Pillow does not write it


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(_SEEDS),
    st.lists(st.tuples(st.integers(0, 100_000), st.binary(min_size=1, max_size=4)), max_size=6),
    st.integers(0, 100_000),
)
def test_mutilated_pictures_are_pictures_or_the_clients_mistake(seed, changes, length):
    data = bytearray(seed)
    for anywhere, replacement in changes:
        position = anywhere % len(data)
        data[position : position + len(replacement)] = replacement
    data = data[: max(1, length % (2 * len(data)))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what it can repair
        try:
            picture = open_image("image", bytes(data))
        except (InvalidInput, PayloadTooLarge):
            return
        assert picture.size > (0, 0)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_picture_or_the_clients_mistake(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((InvalidInput, PayloadTooLarge)):
            open_image("image", data)
