"""The sample models over every protocol, against the same models called in Python."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import direct, load
from support.server import Server
from support.wire import Response, multipart

TOLERANCE = 1e-5
SENTENCES = [
    "Return the absolute value of a floating point number.",
    "Open a file for reading and return a stream.",
    "Wait until the lock is released by another thread.",
    "Connect to a remote socket at the given address.",
    "Délivre un résumé — with a dash, 1,000 numbers and an émoji \N{SNAKE}.",
]


def same(answer: dict[str, Any], expected: dict[str, Any]) -> None:
    assert answer["label"] == expected["label"]
    assert answer["score"] == pytest.approx(expected["score"], abs=TOLERANCE)
    assert answer["probabilities"] == pytest.approx(expected["probabilities"], abs=TOLERANCE)


def answer(response: Response) -> Any:
    assert response.status == 200, response
    assert (response.header("content-type") or "").startswith("application/json")
    return response.json()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# Every way to send a picture, and where the answer stands in what comes back.
WAYS: dict[str, Callable[[Server, bytes], Any]] = {
    "raw": lambda server, data: answer(server.send("PUT", "/predictions/digits", body=data)),
    "form": lambda server, data: answer(
        server.post("/predictions/digits", *_form(("data", data, "d.png", "image/png")))
    ),
    "named form": lambda server, data: answer(
        server.post("/predictions/digits", *_form(("image", data, "d.png", "image/png")))
    ),
    "json": lambda server, data: answer(server.post("/predictions/digits", {"image": b64(data)})),
    "v1 text": lambda server, data: _first(
        server.post("/v1/models/digits:predict", {"instances": [b64(data)]})
    ),
    "v1 data": lambda server, data: _first(
        server.post("/v1/models/digits:predict", {"instances": [{"data": b64(data)}]})
    ),
    "v1 b64": lambda server, data: _first(
        server.post("/v1/models/digits:predict", {"instances": [{"image": {"b64": b64(data)}}]})
    ),
    "named": lambda server, data: answer(server.post("/predict/digits", {"image": b64(data)})),
}


def _form(*parts: Any) -> tuple[bytes, list, str]:
    body, content_type = multipart(*parts)
    return body, [], content_type


def _first(response: Response) -> Any:
    (only,) = answer(response)["predictions"]
    return only


@pytest.fixture(autouse=True)
def post_with_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `server.post(path, body, headers, content_type)` take what `_form` returns."""

    def post(
        self: Server, path: str, body: object = b"", headers: Any = (), content_type: str = ""
    ) -> Response:
        return self.send("POST", path, body=body, headers=headers, content_type=content_type)

    monkeypatch.setattr(Server, "post", post)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("picture", direct.pictures(), ids=lambda path: path.name)
def test_a_digit_is_the_same_everywhere(samples: Server, picture: Path, way: str) -> None:
    data = picture.read_bytes()
    same(WAYS[way](samples, data), direct.digits(data))


def test_torchserves_mnist_pictures_are_read_right(samples: Server) -> None:
    found = sorted(direct.MNIST.glob("*.png"))
    if not found:
        pytest.skip("the pictures of TorchServe's example are not here")
    labels = [
        answer(samples.send("PUT", "/predictions/digits", body=path.read_bytes()))["label"] for path in found
    ]
    right = sum(label == path.stem for label, path in zip(labels, found, strict=True))
    assert right >= 9, labels


def test_a_picture_of_any_size_and_format(samples: Server) -> None:
    picture = Image.open(direct.pictures()[0]).convert("RGB").resize((640, 480))
    for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"):
        buffer = io.BytesIO()
        picture.save(buffer, kind)
        same(WAYS["raw"](samples, buffer.getvalue()), direct.digits(buffer.getvalue()))


def test_wine_over_every_protocol(samples: Server) -> None:
    wine = direct.wine_example()
    expected = direct.wine(wine)
    values = list(wine.values())
    same(answer(samples.post("/predictions/wine", wine)), expected)
    same(answer(samples.post("/predictions/wine", values)), expected)
    same(answer(samples.post("/predictions/wine", json.dumps(wine).encode())), expected)
    same(answer(samples.post("/predict/wine", wine)), expected)
    same(answer(samples.post("/predict/wine", json.dumps(wine).encode())), expected)
    same(_first(samples.post("/v1/models/wine:predict", {"instances": [wine]})), expected)
    same(_first(samples.post("/v1/models/wine:predict", {"instances": [values]})), expected)
    same(_first(samples.post("/v1/models/wine:predict", {"inputs": [wine]})), expected)


def test_docstrings_over_every_protocol(samples: Server) -> None:
    for text in SENTENCES:
        expected = direct.docstrings(text)
        same(answer(samples.post("/predictions/docstrings", text, content_type="text/plain")), expected)
        same(answer(samples.post("/predictions/docstrings", {"text": text})), expected)
        same(answer(samples.post("/predictions/docstrings", text.encode())), expected)
        same(_first(samples.post("/v1/models/docstrings:predict", {"instances": [text]})), expected)
        same(answer(samples.post("/predict/docstrings", {"text": text})), expected)


def test_batches_of_named_inputs_keep_their_axis(samples: Server) -> None:
    result = answer(samples.post("/predict/docstrings", {"text": SENTENCES}))
    expected = [direct.docstrings(text) for text in SENTENCES]
    assert result["label"] == [each["label"] for each in expected]
    for row, each in zip(result["probabilities"], expected, strict=True):
        assert row == pytest.approx(each["probabilities"], abs=TOLERANCE)
    wine = direct.wine_example()
    one = answer(samples.post("/predict/wine", {name: [value] for name, value in wine.items()}))
    assert one["label"] == [direct.wine(wine)["label"]]


def test_v1_rows_come_back_in_order(samples: Server) -> None:
    wines = random_wines(50)
    rows = answer(samples.post("/v1/models/wine:predict", {"instances": wines}))["predictions"]
    for row, wine in zip(rows, wines, strict=True):
        same(row, direct.wine(wine))


def test_two_thousand_mixed_requests_at_once(samples: Server) -> None:
    run_mixed_load(samples, 2_000, clients=48)


def run_mixed_load(server: Server, count: int, clients: int) -> None:
    """Send `count` requests of all kinds; every one must get its own answer, equal to the model's own."""
    chance = random.Random(7)
    pictures = [path.read_bytes() for path in direct.pictures()]
    wines = random_wines(200)
    texts = [" ".join(chance.sample(" ".join(SENTENCES).split(), 8)) for _ in range(200)]
    makers = {
        "digits": (lambda: chance.choice(pictures), direct.digits),
        "wine": (lambda: chance.choice(wines), direct.wine),
        "docstrings": (lambda: chance.choice(texts), direct.docstrings),
    }
    requests, expected = [], []
    for number in range(count):
        name = chance.choice(list(makers))
        make, compute = makers[name]
        values = [make() for _ in range(chance.choice([1, 1, 1, 3]))]
        request = _mixed_request(name, values, chance)
        request["headers"] = [("x-request-id", f"mixed-{number}")]
        requests.append(request)
        expected.append(
            [compute(value) for value in values[: 1 if "instances" not in str(request["body"])[:20] else 3]]
        )
    outcomes = asyncio.run(load.fire(server.port, requests, clients=clients, keep_alive=(True, False, True)))
    assert len(outcomes) == count
    lost = [outcome.error for outcome in outcomes if outcome.response is None]
    assert lost == []
    for number, (outcome, wanted) in enumerate(zip(outcomes, expected, strict=True)):
        response = outcome.response
        assert response is not None
        assert response.header("x-request-id") == f"mixed-{number}"
        result = answer(response)
        rows = result.get("predictions", [result])
        for row, each in zip(rows, wanted, strict=True):
            same(row, each)


def _mixed_request(name: str, values: list[Any], chance: random.Random) -> dict[str, Any]:
    field = {"digits": "image", "docstrings": "text"}.get(name)
    plain = [b64(value) if isinstance(value, bytes) else value for value in values]
    way = chance.choice(["torchserve", "v1", "named"])
    if way == "v1":
        return {"method": "POST", "path": f"/v1/models/{name}:predict", "body": {"instances": plain}}
    if way == "named":
        return {
            "method": "POST",
            "path": f"/predict/{name}",
            "body": {field: plain[0]} if field else plain[0],
        }
    body = values[0].encode() if isinstance(values[0], str) else values[0]
    return {"method": chance.choice(["POST", "PUT"]), "path": f"/predictions/{name}", "body": body}


def random_wines(count: int) -> list[dict[str, float]]:
    chance = random.Random(3)
    example = direct.wine_example()
    return [
        {name: round(value * chance.uniform(0.5, 1.5), 3) for name, value in example.items()}
        for _ in range(count)
    ]


# -- values that cannot be used


def texts_of_error(response: Response) -> str:
    document = response.json()
    return str(document.get("message") or document.get("error") or document.get("detail"))


def truncated() -> bytes:
    data = direct.pictures()[0].read_bytes()
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    "body", [b"", b"\x00\xff garbage \x80" * 20, truncated()], ids=["empty", "garbage", "truncated"]
)
def test_what_is_no_picture(samples: Server, body: bytes) -> None:
    before = samples.log().count("Traceback")
    wrong = [
        samples.send("PUT", "/predictions/digits", body=body),
        samples.post("/predictions/digits", *_form(("data", body, "d.png", "image/png"))),
        samples.post("/predictions/digits", {"image": b64(body)}),
        samples.post("/v1/models/digits:predict", {"instances": [{"image": {"b64": b64(body)}}]}),
        samples.post("/v1/models/digits:predict", {"instances": [b64(body)]}),
        samples.post("/predict/digits", {"image": b64(body)}),
    ]
    for response in wrong:
        assert response.status == 400, response
        assert "'image'" in texts_of_error(response)
    assert samples.log().count("Traceback") == before


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"{bad", None),
        (b"", None),
        (b"[]", None),
        (b"3", None),
        (b"null", None),
        ({}, "alcohol"),
        ({"alcohol": 1}, "malic_acid"),
        ({"surprise": 1}, "surprise"),
        ({"alcohol": "a lot"}, "alcohol"),
        ({"alcohol": True}, "alcohol"),
        ({"alcohol": None}, "alcohol"),
        ({"alcohol": {"a": 1}}, "alcohol"),
        ({"alcohol": [[1.0]]}, "alcohol"),
        ({"alcohol": [1.0, 2.0]}, None),
        (b'{"alcohol": ' + b"[" * 5000 + b"]" * 5000 + b"}", None),
    ],
)
def test_values_that_are_no_wine(samples: Server, body: Any, named: str | None) -> None:
    before = samples.log().count("Traceback")
    if isinstance(body, dict) and body and named != "malic_acid":
        body = {**direct.wine_example(), **body}
    document = json.dumps(body).encode() if isinstance(body, dict) else body
    wrong = [
        samples.post("/predictions/wine", document, content_type="application/json"),
        samples.post("/predict/wine", document, content_type="application/json"),
        samples.post("/v1/models/wine:predict", b'{"instances": [%b]}' % document),
        samples.post("/predictions/wine", document),
    ]
    for response in wrong:
        assert response.status == 400, response
        assert named is None or f"'{named}'" in texts_of_error(response), response
    assert samples.log().count("Traceback") == before


@pytest.mark.parametrize("text", [5, None, True, ["a", 1], {"a": "b"}, "\ud800"])
def test_values_that_are_no_text(samples: Server, text: Any) -> None:
    before = samples.log().count("Traceback")
    for path in ("/predictions/docstrings", "/predict/docstrings"):
        response = samples.post(path, {"text": text})
        if text == "\ud800" and response.status == 200:
            continue
        assert response.status == 400, response
        assert "'text'" in texts_of_error(response) or text == "\ud800"
    assert samples.log().count("Traceback") == before


def test_one_bad_row_of_a_v1_request_is_the_clients_mistake(samples: Server) -> None:
    wine = direct.wine_example()
    response = samples.post("/v1/models/wine:predict", {"instances": [wine, {"alcohol": "x"}, wine]})
    assert response.status == 400, response


def test_numbers_beyond_all_bounds(samples: Server) -> None:
    before = samples.log().count("Traceback")
    for number in ("1e400", "-1e400", "NaN", "Infinity", "1e39", "9" * 30, "9" * 5000):
        wine = json.dumps(direct.wine_example()).replace("13.87", number).encode()
        for path, body in (
            ("/predictions/wine", wine),
            ("/predict/wine", wine),
            ("/v1/models/wine:predict", b'{"instances": [%b]}' % wine),
        ):
            response = samples.post(path, body, content_type="application/json")
            assert response.status in (200, 400), response
            if response.status == 200 and path != "/predictions/wine":
                assert b"NaN" not in response.body
    assert samples.log().count("Traceback") == before


@pytest.mark.parametrize("side", [10_000, 50_000])
def test_bombs_are_refused(samples: Server, side: int) -> None:
    """Pillow itself refuses twice its limit of 89 million pixels; between the two it only warns."""
    buffer = io.BytesIO()
    Image.new("L", (28, 28)).save(buffer, "PNG")
    head = b"IHDR" + struct.pack(">II", side, side) + buffer.getvalue()[24:29]
    data = buffer.getvalue()[:12] + head + struct.pack(">I", zlib.crc32(head)) + buffer.getvalue()[33:]
    response = samples.send("PUT", "/predictions/digits", body=data)
    assert response.status == 413, response


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr", "HSV"]
)
def test_pictures_of_every_mode(samples: Server, mode: str) -> None:
    for size in ((1, 1), (1, 300), (300, 1), (28, 28)):
        picture = Image.new(mode, size)
        for kind in ("PNG", "TIFF"):
            buffer = io.BytesIO()
            try:
                picture.save(buffer, kind)
            except (OSError, ValueError, KeyError):
                continue
            response = samples.send("PUT", "/predictions/digits", body=buffer.getvalue())
            assert response.status == 200, (mode, size, kind, response)


def test_broken_pictures_are_the_clients_mistake(samples: Server) -> None:
    """Pictures with bytes changed at random are read or refused, and never break the model."""
    before = samples.log().count("Traceback")
    chance = random.Random(11)
    picture = Image.open(direct.pictures()[0]).convert("L").resize((40, 40))
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "ICO", "PPM", "TGA", "PCX"):
        buffer = io.BytesIO()
        picture.save(buffer, kind)
        for _ in range(25):
            data = bytearray(buffer.getvalue())
            for _ in range(chance.randint(1, 8)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            response = samples.send("PUT", "/predictions/digits", body=bytes(data))
            assert response.status in (200, 400, 413), (kind, response)
    assert samples.log().count("Traceback") == before
