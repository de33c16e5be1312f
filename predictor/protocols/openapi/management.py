"""The management API's document, and the part of it that one model has.

Paths, operation names, parameters and statuses are those of TorchServe's own documents; what those say
of answers is brought up to what the answers hold.
"""

from __future__ import annotations

from predictor import __version__
from predictor.protocols.openapi.parts import (
    TEXT,
    TORCHSERVE_ERROR,
    Json,
    array,
    document,
    errors,
    json_answer,
    obj,
    operation,
    path_parameter,
    query_parameter,
)

_INTEGER: Json = {"type": "integer"}
_NUMBER: Json = {"type": "number"}
_BOOLEAN: Json = {"type": "boolean"}
_NAME = path_parameter("model_name", "Name of the model.")
_VERSION = path_parameter("model_version", "Version of the model; `all` describes every one.")
_STATUS = obj({"status": TEXT})
_TAG = "management"
_NUMBERS = (
    "minWorkers",
    "maxWorkers",
    "batchSize",
    "maxBatchDelay",
    "responseTimeout",
    "startupTimeout",
    "maxRetryTimeoutInSec",
    "clientTimeoutInMills",
    "parallelLevel",
    "sequenceMaxIdleMSec",
    "sequenceTimeoutMSec",
    "maxNumSequence",
    "maxSequenceJobQueueSize",
)


def management_api() -> Json:
    """Return the document of the whole management API."""
    described = json_answer("An OpenAPI 3.0.1 document.", obj())
    description = {
        "options": operation(
            "apiDescription",
            "This document.",
            {"200": described, **errors(TORCHSERVE_ERROR, "500")},
            tag=_TAG,
        )
    }
    deprecated = {
        "get": operation(
            "api-description",
            "This document.",
            {"200": described, **errors(TORCHSERVE_ERROR, "500")},
            tag=_TAG,
            deprecated=True,
        )
    }
    paths = {
        "/": description,
        "/models": _collection(),
        **_one_model(),
        "/api-description": deprecated,
    }
    return document(
        "PyTorch predictor: management",
        __version__,
        paths,
        "TorchServe's management API: models and workers.",
    )


def model_management_api(name: str) -> Json:
    """Return what the management API offers for the model `name`."""
    return document(f"RESTful Management API for: {name}", __version__, _one_model())


def _collection() -> Json:
    page = obj(
        {"nextPageToken": TEXT, "models": array(obj({"modelName": TEXT, "modelUrl": TEXT}))}, ["models"]
    )
    return {
        "get": operation(
            "listModels",
            "The names of the models, and where they come from, by pages.",
            {"200": json_answer("One page.", page), **errors(TORCHSERVE_ERROR, "500")},
            parameters=[
                _query("limit", "Models on the page.", _INTEGER, 100),
                query_parameter("next_page_token", "What the page before gave as nextPageToken."),
            ],
            tag=_TAG,
        ),
        "post": operation(
            "registerModel",
            "Serve a further model, or a further version of one. The parameters may be JSON in the body too.",
            {
                **_changed("Registered; with `synchronous`, its workers have loaded it."),
                **errors(TORCHSERVE_ERROR, "400", "404", "405", "409", "500", "507"),
            },
            parameters=_registration(),
            tag=_TAG,
        ),
    }


def _registration() -> list[Json]:
    url = query_parameter("url", "A file or folder of the model store, an allowed path, or an allowed URL.")
    runtime = {**TEXT, "enum": ["python", "python3"]}
    return [
        {**url, "required": True},
        query_parameter("model_name", "What to serve it as; its own name by default."),
        query_parameter("handler", "What to run instead of its own handler."),
        _query("runtime", "The only runtime is Python.", runtime),
        _query("batch_size", "Requests in one batch, at most.", _INTEGER, 1),
        _query("max_batch_delay", "Milliseconds to wait for a batch to fill.", _INTEGER),
        _query("response_timeout", "Seconds that its handler may take for one batch.", _INTEGER, 120),
        _query("startup_timeout", "Seconds that a worker may take to load.", _INTEGER, 120),
        _query("initial_workers", "Workers to start.", _INTEGER, 0),
        _query("synchronous", "Answer once the workers have loaded it.", _BOOLEAN, True),
        _query("s3_sse_kms", "The object in S3 is encrypted with a key of its key service.", _BOOLEAN, False),
    ]


def _one_model() -> Json:
    return {
        "/models/{model_name}": _operations("", [_NAME], "the default version"),
        "/models/{model_name}/{model_version}": _operations("version_", [_NAME, _VERSION], "one version"),
        "/models/{model_name}/{model_version}/set-default": {
            "put": operation(
                "setDefault",
                "Let requests that name no version go to this one.",
                {
                    "200": json_answer("It is the default now.", _STATUS),
                    **errors(TORCHSERVE_ERROR, "404", "500"),
                },
                parameters=[_NAME, _VERSION],
                tag=_TAG,
            )
        },
    }


def _operations(prefix: str, parameters: list[Json], which: str) -> Json:
    customized = _query("customized", "Ask its handler too.", _BOOLEAN, False)
    wait = [
        _query("synchronous", "Answer once it is done.", _BOOLEAN, False),
        _query("timeout", "Accepted, without effect.", _INTEGER, -1),
    ]
    workers = [
        _query("min_worker", "Workers that must live.", _INTEGER, 1),
        _query("max_worker", "Workers that may live; as many by default.", _INTEGER),
        _query("number_gpu", "Accepted, without effect.", _INTEGER, 0),
        *wait,
    ]
    return {
        "get": operation(
            f"{prefix}describeModel",
            f"Describe {which}.",
            {
                "200": json_answer("A list of versions.", array(_model())),
                **errors(TORCHSERVE_ERROR, "404", "500"),
            },
            parameters=[*parameters, customized],
            tag=_TAG,
        ),
        "put": operation(
            f"{prefix}setAutoScale",
            f"Set the number of workers of {which}; no request is lost.",
            {
                **_changed("There are as many workers now."),
                **errors(TORCHSERVE_ERROR, "400", "404", "500", "507"),
            },
            parameters=[*parameters, *workers],
            tag=_TAG,
        ),
        "delete": operation(
            f"{prefix}unregisterModel",
            f"Stop serving {which}, once what it has accepted is answered.",
            {
                "200": json_answer("It is not served any more.", _STATUS),
                **errors(TORCHSERVE_ERROR, "403", "404", "405", "500"),
            },
            parameters=[*parameters, *wait],
            tag=_TAG,
        ),
    }


def _model() -> Json:
    texts = ("modelName", "modelVersion", "modelUrl", "runtime", "parallelType", "deviceType")
    flags = ("continuousBatching", "useJobTicket", "useVenv", "stateful", "loadedAtStartup")
    worker = {
        **dict.fromkeys(("id", "startTime", "status", "gpuUsage"), TEXT),
        **dict.fromkeys(("memoryUsage", "pid"), _INTEGER),
        "gpu": _BOOLEAN,
    }
    required = {
        **dict.fromkeys(texts, TEXT),
        **dict.fromkeys(_NUMBERS, _NUMBER),
        **dict.fromkeys(flags, _BOOLEAN),
        "workers": array(obj(worker)),
        "jobQueueStatus": obj(dict.fromkeys(("remainingCapacity", "pendingRequests"), _INTEGER)),
    }
    return obj({**required, "customizedMetadata": obj()}, list(required))


def _changed(description: str) -> Json:
    return {
        "200": json_answer(description, _STATUS),
        "202": json_answer("It is being done.", _STATUS),
    }


def _query(name: str, description: str, schema: Json, default: object = None) -> Json:
    parameter = query_parameter(name, description)
    return {**parameter, "schema": schema if default is None else {**schema, "default": default}}
