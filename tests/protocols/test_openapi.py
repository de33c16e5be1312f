from __future__ import annotations

import json
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV30SpecValidator
from protocol_fakes import FakeModel, registry

from predictor import __version__
from predictor.errors import PredictorError
from predictor.http.messages import HttpRequest
from predictor.ipc.messages import ModelInfo, TensorSpec
from predictor.protocols import openapi
from predictor.protocols.metrics import MetricsProtocol
from predictor.protocols.routes import find_protocol

# What TorchServe 0.12's own document holds: path, method, operation, parameters, statuses.
_TORCHSERVE = [
    ("/", "options", "apiDescription", [], ["200", "500"]),
    ("/ping", "get", "ping", [], ["200", "500"]),
    ("/v1/models/{model_name}:predict", "post", None, ["model_name"], ["200", "404", "500", "503"]),
    ("/v2/models/{model_name}/infer", "post", None, ["model_name"], ["200", "404", "500", "503"]),
    ("/predictions/{model_name}", "post", "predictions", ["model_name"], ["200", "404", "500", "503"]),
    (
        "/predictions/{model_name}/{model_version}",
        "post",
        "version_predictions",
        ["model_name", "model_version"],
        ["200", "404", "500", "503"],
    ),
    ("/api-description", "get", "api-description", [], ["200", "500"]),
    ("/metrics", "get", "metrics", ["name[]"], ["200", "500"]),
]
_IMAGE = TensorSpec("image", "float32", (1, 2, 3), "image", "a picture")
_CLASSES = (
    TensorSpec("label", "string", (), "text"),
    TensorSpec("score", "float32", ()),
    TensorSpec("probabilities", "float32", (10,)),
)


def _json(document):
    return json.loads(json.dumps(document))


def _check(document):
    OpenAPIV30SpecValidator(document).validate()
    names = [
        operation["operationId"]
        for operations in document["paths"].values()
        for operation in operations.values()
    ]
    assert len(names) == len(set(names))


@pytest.fixture(scope="module")
def server():
    return _json(openapi.inference_api())


def _model(name="m", version="1.0", **info):
    return _json(openapi.model_api(FakeModel(name, version, ModelInfo(**info))))


def test_the_servers_document_is_valid(server):
    _check(server)
    assert server["openapi"] == "3.0.1"
    assert server["info"]["version"] == __version__


@pytest.mark.parametrize(("path", "method", "name", "parameters", "statuses"), _TORCHSERVE)
def test_everything_of_torchserves_document_is_in_ours(server, path, method, name, parameters, statuses):
    operation = server["paths"][path][method]
    assert operation["operationId"] == name or name is None
    assert [parameter["name"] for parameter in operation["parameters"]] == parameters
    assert set(statuses) <= set(operation["responses"])


def test_it_is_what_torchserve_really_said(server):
    transcript = Path(__file__).parents[3] / "shared/data/torchserve/transcripts/openapi_inference.json"
    if not transcript.exists():
        pytest.skip("the transcript is not on this machine")
    theirs = json.loads(transcript.read_text())["paths"]
    found = {
        (path, method): (
            [parameter["name"] for parameter in operation["parameters"]],
            set(operation["responses"]),
        )
        for path, operations in theirs.items()
        for method, operation in operations.items()
    }
    assert found == {
        (path, method): (parameters, set(statuses)) for path, method, _, parameters, statuses in _TORCHSERVE
    }


def test_no_sentence_is_torchserves(server):
    transcript = Path(__file__).parents[3] / "shared/data/torchserve/transcripts/openapi_inference.json"
    if not transcript.exists():
        pytest.skip("the transcript is not on this machine")

    def descriptions(value):
        if isinstance(value, dict):
            if isinstance(value.get("description"), str):
                yield value["description"]
            for item in value.values():
                yield from descriptions(item)
        elif isinstance(value, list):
            for item in value:
                yield from descriptions(item)

    theirs = set(descriptions(json.loads(transcript.read_text())))
    ours = set(descriptions(server)) | set(descriptions(_model(inputs=(_IMAGE,), outputs=_CLASSES)))
    assert {text for text in theirs & ours if len(text.split()) > 3} == set()


async def test_every_path_of_the_document_is_served(server):
    find = find_protocol(registry(FakeModel("m")), metrics=MetricsProtocol(lambda names: b""))
    for path, operations in server["paths"].items():
        concrete = path.replace("{model_name}", "m").replace("{model_version}", "1.0")
        for method in operations:
            protocol = find(method.upper(), concrete)
            assert protocol is not None
            request = HttpRequest(method.upper(), concrete, "", [], "id")
            try:
                status = (await protocol.handle(request)).status
            except PredictorError as error:  # loading and unloading, which are off
                status = error.status
            assert status == (403 if path.endswith("load") else 200), (method, concrete)
            assert {"200", str(status)} <= operations[method]["responses"].keys(), (method, concrete)


def test_a_model_without_a_signature():
    document = _model("mnist")
    _check(document)
    assert document["info"]["title"] == "RESTful API for: mnist"
    assert document["info"]["version"] == "1.0.0"
    operation = document["paths"]["/predictions/mnist"]["post"]
    assert operation["operationId"] == "mnist"
    assert operation["requestBody"]["content"] == {"*/*": {"schema": {"type": "string", "format": "binary"}}}
    assert {"200", "500"} <= set(operation["responses"])


@pytest.mark.parametrize(
    ("version", "shown"), [("1.0", "1.0.0"), ("2", "2.0.0"), ("1.2.3", "1.2.3"), ("2024-beta", "2024-beta")]
)
def test_versions(version, shown):
    assert _model(version=version)["info"]["version"] == shown


@pytest.mark.parametrize("name", ["a b", "{m}", "a/b", "m:predict", "\u00fc"])
def test_odd_names_of_models(name):
    _check(_model(name))


def test_an_image_classifier():
    document = _model(
        "digits", description="Reads digits.", inputs=(_IMAGE,), outputs=_CLASSES, classes=("0",)
    )
    _check(document)
    assert document["info"]["description"] == "Reads digits."
    body = document["paths"]["/predictions/digits"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data", "image/*"}
    image = body["application/json"]["schema"]["oneOf"][0]["properties"]["image"]
    encoded, tensor = image["oneOf"]
    assert encoded == {"type": "string", "format": "byte"}
    sizes = []
    while tensor["type"] == "array":
        assert tensor["minItems"] == tensor["maxItems"]
        sizes.append(tensor["minItems"])
        tensor = tensor["items"]
    assert sizes == [1, 2, 3]
    assert tensor == {"type": "number", "format": "float"}
    answer = document["paths"]["/predictions/digits"]["post"]["responses"]["200"]["content"]
    properties = answer["application/json"]["schema"]["properties"]
    assert properties["label"] == {"type": "string"}
    assert properties["score"] == {"type": "number", "format": "float", "nullable": True}
    assert properties["probabilities"]["maxItems"] == 10


def test_named_inputs_one_by_one_or_as_a_batch():
    inputs = (TensorSpec("ids", "int64", (-1,)), TensorSpec("flag", "bool", ()))
    document = _model(inputs=inputs, outputs=(TensorSpec("y", "float64", ()),))
    _check(document)
    one, many = document["paths"]["/predict/m"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]["oneOf"]
    assert one["required"] == ["ids", "flag"]
    assert one["properties"] == {
        "ids": {"type": "array", "items": {"type": "integer", "format": "int64"}},
        "flag": {"type": "boolean"},
    }
    assert many["properties"]["flag"] == {"type": "array", "items": {"type": "boolean"}}
    returned = document["paths"]["/predict/m"]["post"]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    assert [schema["properties"]["y"]["type"] for schema in returned["oneOf"]] == ["number", "array"]


def test_v1_takes_a_list_of_examples():
    document = _model(inputs=(TensorSpec("text", kind="text"),), outputs=_CLASSES)
    _check(document)
    operation = document["paths"]["/v1/models/m:predict"]["post"]
    instances = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]["instances"]
    named, bare = instances["items"]["oneOf"]
    assert named["properties"] == {"text": {"type": "string"}}
    assert bare == {"type": "string"}
    predictions = operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"][
        "predictions"
    ]
    assert predictions["items"]["required"] == ["label", "score", "probabilities"]
    assert "text/plain" in document["paths"]["/predictions/m"]["post"]["requestBody"]["content"]
