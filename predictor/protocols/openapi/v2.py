"""The part of the server's document that is V2, exact: the tests check every answer against it.

Field names, types and what is required are those of the Open Inference Protocol's published document
(open_inference_rest.yaml); beyond it stand the extensions for binary tensors and for the model repository,
and null for a number that JSON cannot say.
"""

from __future__ import annotations

from predictor.oip.datatypes import DATATYPES, HEADER_LENGTH
from predictor.protocols.openapi.parts import (
    BINARY,
    KSERVE_ERROR,
    TEXT,
    Json,
    answer,
    array,
    body,
    closed,
    errors,
    json_answer,
    json_body,
    kserve_inference,
    operation,
    path_parameter,
    reference,
)

_BOOLEAN: Json = {"type": "boolean"}
_INTEGER: Json = {"type": "integer"}
_NAME = path_parameter("model_name", "Name of the model.")
_VERSION = path_parameter("model_version", "Version of the model.")
_DATATYPE: Json = {"type": "string", "enum": sorted(set(DATATYPES.values()))}
_SHAPE = array(_INTEGER)
_ELEMENT: Json = {
    "anyOf": [reference("V2TensorData"), {"type": "number", "nullable": True}, TEXT, _BOOLEAN],
}
_PARAMETER: Json = {"anyOf": [_BOOLEAN, {"type": "number"}, TEXT]}
_TENSOR: dict[str, Json] = {
    "name": TEXT,
    "datatype": _DATATYPE,
    "shape": _SHAPE,
    "parameters": reference("V2Parameters"),
    "data": reference("V2TensorData"),
}
# Its elements stand in `data`, or behind the JSON where `parameters.binary_data_size` says so.
_TENSOR_REQUIRED = ("name", "datatype", "shape")

# What the page of the API offers to be sent.
_EXAMPLE: Json = {
    "id": "1",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0.1, 0.2, 0.3, 0.4]}],
}

SCHEMAS: Json = {
    "V2Parameters": {"type": "object", "additionalProperties": _PARAMETER},
    "V2TensorData": array(_ELEMENT),
    "V2RequestInput": closed(_TENSOR, _TENSOR_REQUIRED),
    "V2RequestOutput": closed({"name": TEXT, "parameters": reference("V2Parameters")}, ("name",)),
    "V2InferenceRequest": {
        **closed(
            {
                "id": TEXT,
                "parameters": reference("V2Parameters"),
                "inputs": {**array(reference("V2RequestInput")), "minItems": 1},
                "outputs": array(reference("V2RequestOutput")),
            },
            ("inputs",),
        ),
        "example": _EXAMPLE,
    },
    "V2ResponseOutput": closed(_TENSOR, _TENSOR_REQUIRED),
    "V2InferenceResponse": closed(
        {
            "model_name": TEXT,
            "model_version": TEXT,
            "id": TEXT,
            "parameters": reference("V2Parameters"),
            "outputs": array(reference("V2ResponseOutput")),
        },
        ("model_name", "model_version", "id", "outputs"),
    ),
    "V2TensorMetadata": closed({"name": TEXT, "datatype": _DATATYPE, "shape": _SHAPE}),
    "V2ModelMetadata": closed(
        {
            "name": TEXT,
            "versions": array(TEXT),
            "platform": TEXT,
            "inputs": array(reference("V2TensorMetadata")),
            "outputs": array(reference("V2TensorMetadata")),
        }
    ),
    "V2ServerMetadata": closed({"name": TEXT, "version": TEXT, "extensions": array(TEXT)}),
    "V2ModelReady": closed({"name": TEXT, "ready": _BOOLEAN}),
    "V2IndexEntry": closed(
        {
            "name": TEXT,
            "version": TEXT,
            "state": {"type": "string", "enum": ["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]},
            "reason": TEXT,
        }
    ),
}
_LENGTH_HEADER: Json = {
    "Inference-Header-Content-Length": {
        "description": "Bytes of JSON at the beginning of the body; the tensors follow.",
        "schema": _INTEGER,
    }
}
_REQUEST = body(
    {"application/json": reference("V2InferenceRequest"), "application/octet-stream": BINARY},
    f"Named input tensors as JSON, or with their bytes behind it and the header {HEADER_LENGTH}.",
)


def v2_paths() -> Json:
    """Return the paths under `/v2`."""
    return {**_server(), **_models(), **_repository()}


def _server() -> Json:
    return {
        "/v2": {
            "get": operation(
                "v2_metadata",
                "Name, version and extensions of the server.",
                {"200": json_answer("The server's metadata.", reference("V2ServerMetadata"))},
                tag="v2",
            )
        },
        "/v2/health/live": {"get": operation("live", "Liveness.", _state("live"), tag="health")},
        "/v2/health/ready": {
            "get": operation("ready", "Readiness of all models.", _state("ready"), tag="health")
        },
        "/v2/models": {
            "get": operation(
                "v2_models",
                "The names of all models.",
                {"200": json_answer("The names.", closed({"models": array(TEXT)}))},
                tag="v2",
            )
        },
    }


def _models() -> Json:
    """Return each model's paths, without and with a version."""
    paths: Json = {}
    for prefix, suffix, parameters in (
        ("/v2/models/{model_name}", "", [_NAME]),
        ("/v2/models/{model_name}/versions/{model_version}", "_version", [_NAME, _VERSION]),
    ):
        ready = json_answer("Whether it would answer.", reference("V2ModelReady"))
        metadata = json_answer("The model's metadata.", reference("V2ModelMetadata"))
        questions = (
            ("", "v2_model", "What the model takes and gives.", {"200": metadata}),
            ("/ready", "v2_ready", "Say whether the model would answer now.", {"200": ready, "503": ready}),
        )
        for path, identifier, does, responses in questions:
            paths[prefix + path] = {
                "get": operation(
                    identifier + suffix,
                    does,
                    {**responses, **errors(KSERVE_ERROR, "404")},
                    parameters=parameters,
                    tag="v2",
                )
            }
        for path, identifier, does in (
            ("/infer", "v2_predictions", "Run the model by the Open Inference Protocol."),
            ("/explain", "v2_explanations", "Explain the model's answer, in tensors."),
        ):
            paths[prefix + path] = {
                "post": operation(
                    identifier + suffix,
                    does,
                    kserve_inference(_inference()),
                    parameters=parameters,
                    body=_REQUEST,
                    tag="v2",
                )
            }
    return paths


def _inference() -> Json:
    tensors = answer(
        "Named output tensors.",
        {"application/json": reference("V2InferenceResponse"), "application/octet-stream": BINARY},
    )
    return {**tensors, "headers": _LENGTH_HEADER}


def _repository() -> Json:
    index = {"200": json_answer("Every version of every model.", array(reference("V2IndexEntry")))}
    asks = json_body({"type": "object", "properties": {"ready": _BOOLEAN}}, "Only those that are ready?")
    does = "The models, their versions and states."
    paths: Json = {
        "/v2/repository/index": {
            "get": operation("v2_index", does, index, tag="v2"),
            "post": operation(
                "v2_index_post",
                does,
                {**index, **errors(KSERVE_ERROR, "400")},
                body={**asks, "required": False},
                tag="v2",
            ),
        }
    }
    for action in ("load", "unload"):
        paths[f"/v2/repository/models/{{model_name}}/{action}"] = {
            "post": operation(
                f"v2_{action}",
                f"Ask the server to {action} a model, where model control is on.",
                {
                    "200": json_answer("It is done.", closed({"name": TEXT, action: _BOOLEAN})),
                    **errors(KSERVE_ERROR, "400", "403", "404", "500", "507"),
                },
                parameters=[_NAME],
                tag="v2",
            )
        }
    return paths


def _state(key: str) -> Json:
    state = closed({key: _BOOLEAN})
    return {"200": json_answer("Yes.", state), "503": json_answer("No.", state)}
