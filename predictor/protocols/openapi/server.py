"""The server's document: every path that is served, whatever models are loaded.

Paths, operation names, parameters and statuses of TorchServe's own document are all in it, so that
what was generated from that one is found here too. Two things differ: operation names are unique, as
the standard asks (TorchServe says `predictions` three times), and `/v1/...` answers as KServe does.
"""

from __future__ import annotations

from predictor import __version__
from predictor.protocols.openapi.parts import (
    ANYTHING,
    BINARY,
    KSERVE_ERROR,
    NAMED_ERROR,
    TEXT,
    TORCHSERVE_ERROR,
    Json,
    answer,
    array,
    body,
    document,
    errors,
    json_answer,
    json_body,
    kserve_inference,
    named_inference,
    obj,
    operation,
    path_parameter,
    query_parameter,
    torchserve_inference,
)
from predictor.protocols.openapi.v2 import SCHEMAS, v2_paths

_NAME = path_parameter("model_name", "Name of the model.")
_VERSION = path_parameter("model_version", "Version of the model.")
_DOCUMENT = {
    "200": json_answer("An OpenAPI 3.0.1 document.", obj({"openapi": TEXT, "info": obj(), "paths": obj()})),
    **errors(TORCHSERVE_ERROR, "500"),
}
_RAW_BODY = body({"*/*": BINARY}, "Whatever the model's handler takes: raw bytes, JSON, or a form.")
_RAW_ANSWER = torchserve_inference(answer("Whatever the model's handler returns.", {"*/*": BINARY}))
_INFO = obj(
    {
        "name": TEXT,
        "version": TEXT,
        "format": TEXT,
        "description": TEXT,
        "inputs": array(obj()),
        "outputs": array(obj()),
        "classes": array(TEXT),
    }
)


def metrics_api() -> Json:
    """Return the document of the port that serves metrics alone."""
    return document(
        "PyTorch predictor: metrics", __version__, {"/metrics": inference_api()["paths"]["/metrics"]}
    )


def inference_api() -> Json:
    """Return the document of everything that is served on the HTTP port."""
    return document(
        "PyTorch predictor for KServe",
        __version__,
        {**_general(), **_torchserve(), **_legacy(), **_v1(), **v2_paths(), **_named()},
        "TorchServe's inference API, KServe's protocols and named inputs, on one port.",
        SCHEMAS,
    )


def _general() -> Json:
    describe = "This document."
    runs = json_answer("The server runs.", obj({"status": TEXT}))
    names = query_parameter("name[]", "Only the metrics of this name; may be repeated.")
    return {
        "/": {
            "get": operation("alive", "Say that the server runs.", {"200": runs}, tag="health"),
            "options": operation("apiDescription", describe, _DOCUMENT, tag="torchserve"),
        },
        "/api-description": {
            "get": operation("api-description", describe, _DOCUMENT, tag="torchserve", deprecated=True)
        },
        "/ping": {
            "get": operation(
                "ping",
                "Say whether every model has the workers it must have.",
                {
                    "200": json_answer("Healthy.", obj({"status": TEXT})),
                    "500": json_answer("Unhealthy, or not started yet.", obj({"status": TEXT})),
                },
                tag="torchserve",
            )
        },
        "/metrics": {
            "get": operation(
                "metrics",
                "Metrics in the text format of Prometheus.",
                {"200": answer("The metrics.", {"text/plain": TEXT}), **errors(TORCHSERVE_ERROR, "500")},
                parameters=[names],
                tag="torchserve",
            )
        },
    }


def _torchserve() -> Json:
    return {
        "/predictions/{model_name}": {
            **_raw("predictions", "Run the model in its default version.", _NAME),
            "options": operation(
                "modelDescription",
                "The document of one model.",
                _DOCUMENT,
                parameters=[_NAME],
                tag="torchserve",
            ),
        },
        "/predictions/{model_name}/{model_version}": _raw(
            "version_predictions", "Run one version of the model.", _NAME, _VERSION
        ),
        "/explanations/{model_name}": _raw("explanations", "Explain the model's answer.", _NAME),
        "/explanations/{model_name}/{model_version}": _raw(
            "version_explanations", "Explain the answer of one version of the model.", _NAME, _VERSION
        ),
    }


def _raw(identifier: str, description: str, *parameters: Json) -> Json:
    """Return `post`, and `put`, which uploads of single files use, for a route of raw bodies."""
    names = {"post": identifier, "put": f"{identifier}_put"}
    return {
        method: operation(
            name, description, _RAW_ANSWER, parameters=list(parameters), body=_RAW_BODY, tag="torchserve"
        )
        for method, name in names.items()
    }


def _legacy() -> Json:
    """Return the old paths, on which query parameters become fields of the handler's data."""
    model = query_parameter("model_name", "The model; needed unless there is only one.")
    routes: list[tuple[str, str, list[Json]]] = [
        ("/{model_name}/predict", "legacy_predict", [_NAME]),
        ("/{model_name}/{model_version}/predict", "legacy_version_predict", [_NAME, _VERSION]),
        ("/models/{model_name}/invoke", "invoke", [_NAME]),
        ("/invocations", "invocations", [model]),
    ]
    description = "Run the model; query parameters are data too."
    return {
        path: {
            "post": operation(
                identifier,
                description,
                _RAW_ANSWER,
                parameters=parameters,
                body=_RAW_BODY,
                tag="torchserve",
                deprecated=True,
            )
        }
        for path, identifier, parameters in routes
    }


def _v1() -> Json:
    readiness = json_answer("Whether it would answer.", obj({"name": TEXT, "ready": {"type": "boolean"}}))
    return {
        "/v1/models": {
            "get": operation(
                "listModels",
                "The names of all models.",
                {"200": json_answer("The names.", obj({"models": array(TEXT)}))},
                tag="v1",
            )
        },
        "/v1/models/{model_name}": {
            "get": operation(
                "modelReady",
                "Say whether the model would answer now.",
                {"200": readiness, "503": readiness, **errors(KSERVE_ERROR, "404")},
                parameters=[_NAME],
                tag="v1",
            )
        },
        "/v1/models/{model_name}:predict": _v1_verb(
            "v1_predictions", "Run the model on instances.", "predictions"
        ),
        "/v1/models/{model_name}:explain": _v1_verb("v1_explanations", "Explain answers.", "explanations"),
    }


def _v1_verb(identifier: str, description: str, key: str) -> Json:
    responses = kserve_inference(json_answer("One item for each instance.", obj({key: array(ANYTHING)})))
    instances = json_body(obj({"instances": array(ANYTHING)}), "The inputs, one item for each example.")
    return {
        "post": operation(identifier, description, responses, parameters=[_NAME], body=instances, tag="v1")
    }


def _named() -> Json:
    inputs = json_body(obj(), "An object of input names and values: one example, or a batch of them.")
    outputs = named_inference(json_answer("An object of output names and values.", obj()))
    healthy = {
        "200": json_answer(
            "Ready.", obj({"status": TEXT, "model": TEXT, "models": array(TEXT)}, ["status", "model"])
        ),
        **errors(NAMED_ERROR, "404", "503"),
    }
    described = {"200": json_answer("Name, inputs and outputs.", _INFO), **errors(NAMED_ERROR, "404")}
    routes: list[tuple[str, str, str, str, Json, Json | None]] = [
        ("/predict", "predict", "Run a model on named inputs", "post", outputs, inputs),
        ("/health", "health", "Say whether the model is ready", "get", healthy, None),
        ("/info", "info", "Describe the model", "get", described, None),
    ]
    paths: Json = {}
    for path, identifier, does, method, responses, given in routes:
        paths[path] = {
            method: operation(
                identifier, f"{does}: the default, or the only one.", responses, body=given, tag="named"
            )
        }
        paths[f"{path}/{{model_name}}"] = {
            method: operation(
                f"{identifier}_model", f"{does}.", responses, parameters=[_NAME], body=given, tag="named"
            )
        }
    return paths
