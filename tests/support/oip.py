"""What the published document of the Open Inference Protocol says of its messages, as a table of our own.

The facts (names, types, what is required, which operation answers with what) are those of
specification/protocol/open_inference_rest.yaml of kserve/open-inference-protocol at commit 18d5991. Nothing
else of that document is here.
"""

_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_SHAPE = {"type": "array", "items": {"type": "integer"}}


def _named(name):
    return {"$ref": f"#/components/schemas/{name}"}


def _list_of(name):
    return {"type": "array", "items": _named(name)}


def _object(required="", **properties):
    # OpenAPI 3.0 wants at least one name in `required`.
    return {"type": "object", "properties": properties} | ({"required": required.split()} if required else {})


_PARAMETERS = _named("parameters")
_TENSOR = {"name": _TEXT, "shape": _SHAPE, "datatype": _TEXT}
_DATA = {"parameters": _PARAMETERS, "data": _named("tensor_data")}

_SCHEMAS = {
    "metadata_server_response": _object(
        "name version extensions", name=_TEXT, version=_TEXT, extensions=_TEXTS
    ),
    "metadata_server_error_response": _object("error", error=_TEXT),
    "metadata_model_response": _object(
        "name platform",
        name=_TEXT,
        versions=_TEXTS,
        platform=_TEXT,
        inputs=_list_of("metadata_tensor"),
        outputs=_list_of("metadata_tensor"),
    ),
    "metadata_tensor": _object("name datatype shape", **_TENSOR),
    "inference_request": _object(
        "inputs",
        id=_TEXT,
        parameters=_PARAMETERS,
        inputs=_list_of("request_input"),
        outputs=_list_of("request_output"),
    ),
    "parameters": _object(),
    "request_input": _object("name shape datatype data", **_TENSOR, **_DATA),
    "request_output": _object("name", name=_TEXT, parameters=_PARAMETERS),
    "tensor_data": {
        "type": "array",
        "items": {
            "anyOf": [
                _named("tensor_data"),
                {"type": "number"},
                {"type": "string"},
                {"type": "boolean"},
            ]
        },
    },
    "response_output": _object("name shape datatype data", **_TENSOR, **_DATA),
    "inference_response": _object(
        "model_name outputs",
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        parameters=_PARAMETERS,
        outputs=_list_of("response_output"),
    ),
    "inference_error_response": _object(error=_TEXT),
}


def _operation(**answers):
    """An operation; `s200` and `s400` name the schemas of those answers, None is one without a body."""
    return {
        "responses": {
            status[1:]: {"content": {"application/json": {"schema": _named(name)}}} if name else {}
            for status, name in answers.items()
        }
    }


_MODEL = "/v2/models/${MODEL_NAME}/versions/${MODEL_VERSION}"

DOCUMENT = {
    "paths": {
        "/v2/health/live": {"get": _operation(s200=None)},
        "/v2/health/ready": {"get": _operation(s200=None)},
        "/v2/": {"get": _operation(s200="metadata_server_response", s400="metadata_server_error_response")},
        _MODEL: {"get": _operation(s200="metadata_model_response")},
        f"{_MODEL}/ready": {"get": _operation(s200=None)},
        f"{_MODEL}/infer": {"post": _operation(s200="inference_response", s400="inference_error_response")},
    },
    "components": {"schemas": _SCHEMAS},
}
