"""Every answer of every V2 route against two documents: the one we serve, and what the published one says."""

from __future__ import annotations

import json
import re

import pytest
from openapi_schema_validator import OAS30Validator
from support.oip import DOCUMENT as PUBLISHED

from predictor.protocols.openapi.v2 import SCHEMAS

LENGTH = "Inference-Header-Content-Length"
FLOATS = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}]}
NAMED = {"id": "42", **FLOATS, "outputs": [{"name": "y"}], "parameters": {"a": 1, "b": True, "c": "d"}}
NOT_FINITE = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [None, 1]}]}
TEXTS = {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [2], "data": ["a", "ü"]}]}
BINARY = {**FLOATS, "parameters": {"binary_data_output": True}}
WRONG = [
    b"",
    b"{",
    b"\xff",
    {},
    {"inputs": []},
    {"inputs": [{}]},
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1], "data": [1]}]},
    {"inputs": [{"name": "x", "datatype": "FP99", "shape": [1], "data": [1]}]},
    {**FLOATS, "outputs": [{"name": "nope"}]},
]

# Method, path, body, status; each is checked against the operation of its path.
ASKED = [
    ("GET", "/v2", None, 200),
    ("GET", "/v2/health/live", None, 503),  # a model has been given up
    ("GET", "/v2/health/ready", None, 503),
    ("GET", "/v2/models", None, 200),
    *(("GET", f"/v2/models/{name}", None, 200) for name in ("echo", "float32", "wine", "sleeping")),
    ("GET", "/v2/models/nope", None, 404),
    ("GET", "/v2/models/wine/versions/1.0", None, 200),
    ("GET", "/v2/models/wine/versions/9", None, 404),
    ("GET", "/v2/models/echo/ready", None, 200),
    ("GET", "/v2/models/sleeping/ready", None, 503),
    ("GET", "/v2/models/nope/ready", None, 404),
    ("GET", "/v2/models/echo/versions/1.0/ready", None, 200),
    ("GET", "/v2/models/echo/versions/9/ready", None, 404),
    ("POST", "/v2/models/float32/infer", FLOATS, 200),
    ("POST", "/v2/models/float32/versions/1.0/infer", NAMED, 200),
    ("POST", "/v2/models/float32/infer", NOT_FINITE, 200),
    ("POST", "/v2/models/float32/infer", BINARY, 200),
    ("POST", "/v2/models/echo/infer", TEXTS, 200),
    ("POST", "/v2/models/wine/infer", "wine", 200),
    ("POST", "/v2/models/wine/explain", "wine", 200),
    ("POST", "/v2/models/wine/versions/1.0/explain", "wine", 200),
    *(("POST", "/v2/models/float32/infer", body, 400) for body in WRONG),
    *(("POST", "/v2/models/wine/explain", body, 400) for body in WRONG[:4]),
    ("POST", "/v2/models/nope/infer", FLOATS, 404),
    ("POST", "/v2/models/nope/explain", FLOATS, 404),
    ("POST", "/v2/models/float32/versions/9/infer", FLOATS, 404),
    ("POST", "/v2/models/sleeping/infer", FLOATS, 503),
    ("POST", "/v2/models/float32/infer", b"x" * 8_100_000, 413),
    ("GET", "/v2/repository/index", None, 200),
    ("POST", "/v2/repository/index", {"ready": True}, 200),
    ("POST", "/v2/repository/index", b"{", 400),
    ("POST", "/v2/repository/models/echo/load", {}, 403),
    ("POST", "/v2/repository/models/echo/unload", {}, 403),
]
_IDS = [f"{position}-{method} {path}" for position, (method, path, _, _) in enumerate(ASKED)]


def _wine():
    values = [13.2, 1.78, 2.14, 11.2, 100.0, 2.65, 2.76, 0.26, 1.28, 4.38, 1.05, 3.4, 1050.0]
    return {"inputs": [{"name": "all", "datatype": "FP32", "shape": [1, 13], "data": values}]}


def _operation(document, method, path):
    """Return the operation of a document that answers `path`, None if there is none."""
    for template, operations in document["paths"].items():
        pattern = re.sub(r"\$?\{\w+\}", "[^/]+", template.rstrip("/"))
        if re.fullmatch(pattern, path) and method.lower() in operations:
            return operations[method.lower()]
    return None


def _document_of(response):
    """Return the JSON of an answer, that before the tensors' bytes if there are any."""
    length = response.header(LENGTH)
    return json.loads(response.body[: int(length)] if length else response.body)


def _check(document, schema, value):
    OAS30Validator({**schema, "components": document["components"]}).validate(value)


def _ask(server, method, path, body):
    body = _wine() if body == "wine" else body
    if body is None:
        return server.send(method, path)
    return server.send(method, path, body=body, content_type="application/json")


@pytest.fixture(scope="module")
def document(like_sdk):
    return like_sdk.send("OPTIONS", "/").json()


@pytest.mark.parametrize(("method", "path", "body", "status"), ASKED, ids=_IDS)
def test_our_document(like_sdk, document, method, path, body, status):
    response = _ask(like_sdk, method, path, body)
    assert response.status == status, response
    answers = _operation(document, method, path)["responses"]
    assert str(status) in answers, f"{status} is not told"
    content = answers[str(status)]["content"]
    media_type = response.header("content-type")
    assert media_type in content
    schema = content["application/json"]["schema"]
    _check(document, schema, _document_of(response))
    for header in answers[str(status)].get("headers", {}):
        assert response.header(header) or header == LENGTH


@pytest.mark.parametrize(
    ("body", "good"),
    [
        (SCHEMAS["V2InferenceRequest"]["example"], True),
        *((body, True) for body in (FLOATS, NAMED, NOT_FINITE, TEXTS, BINARY)),
        *((body, False) for body in WRONG[3:6]),
        ({**FLOATS, "more": 1}, False),
    ],
)
def test_the_document_tells_good_requests_from_bad_ones(document, body, good):
    schema = _operation(document, "POST", "/v2/models/m/infer")["requestBody"]["content"]["application/json"]
    assert OAS30Validator({**schema["schema"], "components": document["components"]}).is_valid(body) is good


def test_a_wrong_answer_would_be_seen(document):
    """The SDK's answers, with null for what is absent, are not valid."""
    schema = _operation(document, "POST", "/v2/models/m/infer")["responses"]["200"]["content"]
    output = {"name": "y", "datatype": "FP32", "shape": [1], "data": [1.5]}
    good = {"model_name": "m", "model_version": "1", "id": "1", "outputs": [output]}
    validator = OAS30Validator({**schema["application/json"]["schema"], "components": document["components"]})
    assert validator.is_valid(good)
    for wrong in (
        {**good, "model_version": None},
        {**good, "parameters": None},
        {**good, "outputs": [{**output, "parameters": {"a": [1]}}]},
        {**good, "outputs": [{**output, "datatype": "FP99"}]},
        {**good, "outputs": [{**output, "shape": ["1"]}]},
        {**good, "outputs": [{**output, "data": {"a": 1}}]},
        {key: value for key, value in good.items() if key != "model_name"},
    ):
        assert not validator.is_valid(wrong), wrong


# the published document


def _published_schema(method, path, status):
    """Return what the published document says of an answer's body, None if nothing."""
    # It has paths with a version only; those without one have the same answers, and so has explaining.
    full = re.sub(r"^(/v2/models/[^/]+)(?!/versions/)(/\w+)?$", r"\1/versions/1.0\2", path)
    operation = _operation(PUBLISHED, method, full.replace("/explain", "/infer"))
    answer = operation and operation["responses"].get(str(status if status == 200 else 400))
    return answer["content"]["application/json"]["schema"] if answer and "content" in answer else None


def test_our_answers_fit_the_published_document(like_sdk):
    checked = 0
    for method, path, body, status in ASKED:
        schema = _published_schema(method, path, status)
        # NaN as null, and tensors in bytes, which have no data, are extensions.
        if schema is None or body in (NOT_FINITE, BINARY):
            continue
        _check(PUBLISHED, schema, _document_of(_ask(like_sdk, method, path, body)))
        checked += 1
    assert checked > 25


def test_everything_published_is_in_our_document(document):
    for template, operations in PUBLISHED["paths"].items():
        path = re.sub(r"\$\{\w+\}", "x", template.rstrip("/"))
        for method in set(operations) & {"get", "post"}:
            assert _operation(document, method, path), path
    names = {
        "metadata_server_response": "V2ServerMetadata",
        "metadata_model_response": "V2ModelMetadata",
        "metadata_tensor": "V2TensorMetadata",
        "inference_request": "V2InferenceRequest",
        "request_input": "V2RequestInput",
        "request_output": "V2RequestOutput",
        "inference_response": "V2InferenceResponse",
        "response_output": "V2ResponseOutput",
    }
    schemas, theirs = document["components"]["schemas"], PUBLISHED["components"]["schemas"]
    for name, mine in names.items():
        assert set(theirs[name]["properties"]) == set(schemas[mine]["properties"]), name
        # What they require and we do not: the data of a tensor, which may be bytes.
        assert set(theirs[name]["required"]) - set(schemas[mine]["required"]) <= {"data"}, name
