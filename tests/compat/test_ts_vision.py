from __future__ import annotations

import base64
import io

import pytest
import torch
from PIL import Image
from ts.handler_utils.image_transforms import CenterCrop, Compose, Normalize, Resize, ToTensor
from ts.torch_handler.image_classifier import ImageClassifier
from ts.torch_handler.image_segmenter import ImageSegmenter
from ts.torch_handler.object_detector import ObjectDetector


def picture(width: int, height: int, mode: str = "RGB") -> bytes:
    image = Image.linear_gradient("L").resize((width, height)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def ready(handler, model=None):
    handler.model, handler.device = model, torch.device("cpu")
    return handler


class Mean(torch.nn.Module):
    """Answers `classes` logits that grow with the class and the brightness."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x):
        return (x.mean((1, 2, 3))[:, None] + 1) * torch.arange(self.classes)


def test_top_five_best_first(context):
    handler = ready(ImageClassifier(), Mean(8))
    (answer,) = handler.handle([{"data": picture(300, 260)}], context())
    assert list(answer) == ["7", "6", "5", "4", "3"]
    assert list(answer.values()) == sorted(answer.values(), reverse=True)
    handler.mapping = {str(number): f"class {number}" for number in range(8)}
    handler.set_max_result_classes(1)
    assert handler.get_max_result_classes() == 1
    (answer,) = handler.handle([{"body": bytearray(picture(300, 260))}], context())
    assert list(answer) == ["class 7"]


def test_fewer_classes_than_five(context):
    (answer,) = ready(ImageClassifier(), Mean(3)).handle([{"data": picture(230, 230)}], context())
    assert len(answer) == 3


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA", "CMYK"])
def test_any_kind_of_image_is_prepared(mode):
    buffer = io.BytesIO()
    Image.new(mode, (40, 30)).save(buffer, "TIFF")
    assert ready(ImageClassifier()).preprocess([{"data": buffer.getvalue()}]).shape == (1, 3, 224, 224)


def test_all_forms_of_a_payload_are_one_image():
    data = picture(240, 300)
    text = base64.b64encode(data).decode()
    handler = ready(ImageClassifier())
    rows = [{"data": data}, {"body": bytearray(data)}, {"body": text}, {"data": {"b64": text}}]
    batch = handler.preprocess(rows)
    assert all(torch.equal(image, batch[0]) for image in batch)
    assert torch.equal(handler.preprocess([{"data": batch[0].tolist()}])[0], batch[0])


def test_a_handlers_own_transform_gets_the_image_as_it_is():
    class Mnist(ImageClassifier):
        image_processing = Compose([ToTensor(), Normalize((0.1307,), (0.3081,))])

    assert ready(Mnist()).preprocess([{"data": picture(28, 28, "L")}]).shape == (1, 1, 28, 28)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((300, 400), (256, 341)), ((400, 300), (341, 256)), ((256, 999), (256, 999)), ((31, 57), (256, 470))],
)
def test_resize_takes_the_shorter_side(size, expected):
    assert Resize(256)(Image.new("RGB", size)).size == expected


def test_center_crop_cuts_the_middle_and_pads_with_black():
    image = Image.new("L", (5, 2), 255)
    image.putpixel((2, 0), 100)
    pixels = ToTensor()(CenterCrop(3)(image))
    assert pixels.shape == (1, 3, 3)
    assert (pixels[0] * 255).round().tolist() == [[255, 100, 255], [255, 255, 255], [0, 0, 0]]


def test_to_tensor_scales_bytes_only():
    assert ToTensor()(Image.new("L", (1, 1), 255)).tolist() == [[[1.0]]]
    assert ToTensor()(Image.new("1", (1, 1), 1)).tolist() == [[[1.0]]]
    assert ToTensor()(Image.new("I", (1, 1), 70000)).tolist() == [[[70000]]]
    assert ToTensor()(Image.new("F", (1, 1), 0.5)).tolist() == [[[0.5]]]
    assert ToTensor()(Image.new("RGB", (2, 3))).shape == (3, 3, 2)


def test_normalize_leaves_its_input_alone():
    image = torch.ones(3, 1, 1)
    assert Normalize([0.5, 1, 0], [0.5, 1, 2])(image).flatten().tolist() == [1.0, 0.0, 0.5]
    assert image.flatten().tolist() == [1, 1, 1]


def test_segmenter_keeps_the_best_class(context):
    class Net(torch.nn.Module):
        def forward(self, x):
            return {"out": torch.tensor([[[[0.0, 5.0]], [[5.0, 0.0]]]]).expand(len(x), -1, -1, -1)}

    (answer,) = ready(ImageSegmenter(), Net()).handle([{"data": picture(230, 230)}], context())
    assert [[round(value, 3) for value in pixel] for pixel in answer[0]] == [[1.0, 0.993], [0.0, 0.993]]


class Detector(torch.nn.Module):
    def forward(self, images):
        row = {
            "boxes": torch.tensor([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]),
            "labels": torch.tensor([1, 2]),
            "scores": torch.tensor([0.5, 0.25]),
        }
        return [row for _ in images]


@pytest.mark.parametrize("sizes", [[(8, 8), (8, 8)], [(8, 8), (9, 8)]])
def test_detector_takes_images_of_any_size_together(context, sizes):
    handler = ready(ObjectDetector(), Detector())
    handler.mapping = {"1": "cat", "2": "dog"}
    answers = handler.handle([{"data": picture(*size)} for size in sizes], context(headers=({}, {})))
    assert answers == [[{"cat": [0.0, 1.0, 2.0, 3.0], "score": 0.5}]] * 2
    handler.threshold = 0.1
    assert len(handler.handle([{"data": picture(8, 8)}], context())[0]) == 2


def test_insights_have_the_shape_of_the_input(context):
    pytest.importorskip("captum")
    handler = ready(ImageClassifier(), Mean(8))
    rows = [{"data": torch.rand(3, 4, 4).tolist(), "target": b"2"}]
    answer = handler.handle(rows, context(headers=({"explain": "True"},)))
    assert torch.tensor(answer).shape == (1, 3, 4, 4)


def test_the_pixel_limit_is_lifted_only_when_told(context, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    (tmp_path / "model.py").write_text("import torch\nclass M(torch.nn.Module): pass\n")
    made = context(modelFile="model.py")
    ImageClassifier().initialize(made)
    assert Image.MAX_IMAGE_PIXELS == 1000
    made.system_properties["limit_max_image_pixels"] = False
    ImageClassifier().initialize(made)
    assert Image.MAX_IMAGE_PIXELS is None


def test_densenet_handler_takes_and_gives_tensors(context):
    from ts.torch_handler.densenet_handler import DenseNetHandler

    def saved(value):
        buffer = io.BytesIO()
        torch.save(value, buffer)
        return buffer.getvalue()

    handler = ready(DenseNetHandler(), lambda x: x * 2)
    rows = [{"data": saved(torch.ones(2))}, {"body": saved(torch.zeros(2))}]
    answers = handler.handle(rows, context(headers=({}, {})))
    assert [answer.tolist() for answer in answers] == [[[2.0, 2.0]], [[0.0, 0.0]]]
    with pytest.raises(Exception, match=r"[Ww]eights"):
        handler.handle([{"data": saved(ValueError("a pickle"))}], context())
