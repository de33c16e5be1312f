"""KServe's routes and the named ones on the wire: V1, health, `/predict`, `/info`."""

from __future__ import annotations

import pytest
from support import direct
from support.server import Server


def test_v1_lists_models_and_their_readiness(server: Server) -> None:
    assert server.get("/v1/models").json() == {"models": ["batcher", "plain", "probe", "wine"]}
    response = server.get("/v1/models/probe")
    assert (response.status, response.json()) == (200, {"name": "probe", "ready": True})
    assert response.header("content-type") == "application/json"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models/nope", 404),
        ("POST", "/v1/models/nope:predict", 404),
        ("POST", "/v1/models/probe:frobnicate", 404),
        ("GET", "/v1/models/probe:predict", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/v1/models/probe", 405),
        ("DELETE", "/v1/models/probe", 405),
    ],
)
def test_v1_errors(server: Server, method: str, path: str, status: int) -> None:
    response = server.send(method, path, body=b'{"instances": [1]}')
    assert response.status == status
    assert list(response.json()) == ["error"]
    assert isinstance(response.json()["error"], str)
    assert (response.header("allow") is not None) == (status == 405)


def test_v1_rows_reach_the_handler_one_by_one(server: Server) -> None:
    body = {"instances": [{"data": 1}, {"x": "y"}, 7, {"b64": "aGk="}]}
    rows = server.post("/v1/models/batcher:predict", body).json()["predictions"]
    assert [row["params"] for row in rows] == [
        {"data": {"type": "int", "value": 1}},
        {"x": {"type": "str", "value": "y"}},
        {"data": {"type": "int", "value": 7}},
        {"data": {"type": "bytes", "len": 2, "head": "hi"}},
    ]
    assert {row["batch_len"] for row in rows} == {4}
    assert {row["headers"]["explain"] for row in rows} == {"False"}
    assert len({row["request_id"] for row in rows}) == 1


def test_v1_explanations(server: Server) -> None:
    rows = server.post("/v1/models/probe:explain", {"instances": [1]}).json()
    assert list(rows) == ["explanations"]
    assert rows["explanations"][0]["headers"]["explain"] == "True"


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "", "APPLICATION/JSON", "application/x+json"],
)
def test_v1_media_types(server: Server, content_type: str) -> None:
    response = server.post("/v1/models/probe:predict", b'{"instances": [1]}', content_type=content_type)
    assert response.status == 200, response


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{bad",
        b"[]",
        b"3",
        b"{}",
        b'{"instances": 3}',
        b'{"instances": {}}',
        b'{"instances": []}',
        b"\xff",
        b'{"instances": [{"b64": "!"}]}',
        b"[" * 200_000,
    ],
    ids=lambda body: body[:30].decode("latin-1"),
)
def test_v1_bodies_that_are_wrong(server: Server, body: bytes) -> None:
    response = server.post("/v1/models/probe:predict", body, content_type="application/json")
    assert response.status == 400, response
    assert list(response.json()) == ["error"]
    assert response.header("content-type") == "application/json"


def test_v1_refuses_a_picture_without_json(server: Server) -> None:
    response = server.post("/v1/models/probe:predict", b"\x89PNG", content_type="image/png")
    assert response.status in (400, 415)


def test_v1_failure_of_the_handler_names_the_model(server: Server) -> None:
    response = server.post(
        "/v1/models/probe:predict", {"instances": [{"data": {"cmd": "raise", "text": "secret"}}]}
    )
    assert response.status == 500
    assert "probe" in response.json()["error"]
    assert b"secret" not in response.body


def test_health(server: Server) -> None:
    assert server.get("/v2/health/live").json() == {"live": True}
    assert server.get("/v2/health/ready").json() == {"ready": True}
    assert server.get("/v2/health/nothing").status == 404
    assert server.post("/v2/health/live").status == 405
    assert server.send("HEAD", "/v2/health/live").status == 200


def test_named_health_and_info(server: Server) -> None:
    health = server.get("/health").json()
    assert health["status"] == "healthy"
    assert health["models"] == ["batcher", "plain", "probe", "wine"]
    assert server.get("/health/wine").json() == {"status": "healthy", "model": "wine"}
    info = server.get("/info/wine").json()
    assert (info["name"], info["version"]) == ("wine", "1.0")
    assert [spec["name"] for spec in info["inputs"]] == list(direct.wine_example())
    assert {spec["type"] for spec in info["inputs"]} == {"float32"}
    assert "probabilities" in [spec["name"] for spec in info["outputs"]]
    assert server.get("/info/nope").status == 404


def detail(response) -> str:
    assert list(response.json()) == ["detail"]
    text = response.json()["detail"]
    assert isinstance(text, str)
    return text


def test_predict_needs_to_know_which_model(server: Server) -> None:
    response = server.post("/predict", {"a": 1})
    assert response.status == 404
    assert all(name in detail(response) for name in ("batcher", "plain", "probe", "wine"))
    response = server.post("/predict/nope", {"a": 1})
    assert response.status == 404
    assert "nope" in detail(response)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{bad", "Invalid JSON: "),
        (b"[1]", "Request body must be a JSON object"),
        (b"null", "Request body must be a JSON object"),
        (b"{}", "Missing required input: 'alcohol'"),
    ],
)
def test_predict_errors(server: Server, body: bytes, text: str) -> None:
    response = server.post("/predict/wine", body)
    assert response.status == 400
    assert detail(response).startswith(text)


def test_predict_names_the_input_at_fault(server: Server) -> None:
    wine = direct.wine_example()
    for body, text in (
        ({**wine, "y": 1}, f"Unknown input: 'y'. Expected: {', '.join(wine)}"),
        ({**wine, "hue": "x"}, "Invalid input type for 'hue': expected number"),
        ({**wine, "hue": True}, "'hue'"),
    ):
        response = server.post("/predict/wine", body)
        assert response.status == 400
        assert text in detail(response)


def test_predict_of_a_handler_of_its_own(server: Server) -> None:
    answer = server.post("/predict/probe", {"a": [1]}).json()
    assert answer["params"] == {"body": {"type": "dict", "value": {"a": [1]}}}
    assert server.post("/predict/probe", {"cmd": "return", "value": [1, 2]}).json() == {"output": [1, 2]}
    assert server.post("/predict/probe", {"cmd": "special", "kind": "nan"}).json() == {"output": None}
    failed = server.post("/predict/probe", {"cmd": "raise"})
    assert failed.status == 500
    assert detail(failed).startswith("Inference failed: ")


def test_predict_wants_post(server: Server) -> None:
    response = server.get("/predict/wine")
    assert response.status == 405
    assert detail(response)
