"""The pieces that both documents are put together from: schemas, answers, operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]

OPENAPI_VERSION = "3.0.1"
BINARY: Json = {"type": "string", "format": "binary"}
TEXT: Json = {"type": "string"}
ANYTHING: Json = {}

_MESSAGE: Json = {"type": "string", "description": "What went wrong."}


_TOKEN: Json = {
    "type": "http",
    "scheme": "bearer",
    "description": "Where the server asks for tokens (settings token_file and token_authorization).",
}


def document(
    title: str, version: str, paths: Json, description: str = "", schemas: Json | None = None
) -> Json:
    """Return a whole document.

    Args:
        paths: each path's operations by method.
        schemas: what `reference` names, beside the forms of errors.
    """
    info = {"title": title, "version": version}
    if description:
        info["description"] = description
    components = {"schemas": {**_ERRORS, **(schemas or {})}, "securitySchemes": {"token": _TOKEN}}
    return {
        "openapi": OPENAPI_VERSION,
        "info": info,
        "paths": paths,
        "components": components,
        # Without one, or with one: the document is the same whether or not the server asks for tokens.
        "security": [{}, {"token": []}],
    }


def reference(name: str) -> Json:
    """Return what stands for a schema that the document's components hold under `name`."""
    return {"$ref": f"#/components/schemas/{name}"}


def operation(
    identifier: str,
    description: str,
    responses: Json,
    *,
    parameters: list[Json] | None = None,
    body: Json | None = None,
    tag: str = "",
    deprecated: bool = False,
) -> Json:
    """Return one operation; `identifier` is its name in generated clients, `tag` their class."""
    result: Json = {"description": description, "operationId": identifier, "parameters": parameters or []}
    if tag:
        result["tags"] = [tag]
    if body is not None:
        result["requestBody"] = body
    if deprecated:
        result["deprecated"] = True
    return {**result, "responses": responses}


def obj(properties: Mapping[str, Json] | None = None, required: Sequence[str] | None = None) -> Json:
    """Return the schema of an object; all `properties` must be there unless `required` names them.

    Without any it is an object of unknown content.
    """
    if not properties:
        return {"type": "object"}
    names = list(properties) if required is None else list(required)
    return {"type": "object", "required": names, "properties": dict(properties)}


def closed(properties: Mapping[str, Json], required: Sequence[str] | None = None) -> Json:
    """Return the schema of an object with these `properties` and no others; see `obj`."""
    return {**obj(properties, required), "additionalProperties": False}


def array(items: Json, size: int = -1) -> Json:
    """Return the schema of a list of `size` items, of any number when it is -1."""
    schema: Json = {"type": "array", "items": items}
    return schema if size < 0 else {**schema, "minItems": size, "maxItems": size}


def one_of(*schemas: Json) -> Json:
    """Return the schema of a value that fits one of `schemas`."""
    return schemas[0] if len(schemas) == 1 else {"oneOf": list(schemas)}


def path_parameter(name: str, description: str) -> Json:
    """Return a parameter that stands in the path."""
    return {"in": "path", "name": name, "description": description, "required": True, "schema": TEXT}


def query_parameter(name: str, description: str) -> Json:
    """Return an optional parameter of the query string."""
    return {"in": "query", "name": name, "description": description, "required": False, "schema": TEXT}


def content(schemas: Mapping[str, Json]) -> Json:
    """Return the content of a body: a schema for each media type."""
    return {media_type: {"schema": schema} for media_type, schema in schemas.items()}


def json_body(schema: Json, description: str) -> Json:
    """Return a required request body of JSON."""
    return body({"application/json": schema}, description)


def body(schemas: Mapping[str, Json], description: str) -> Json:
    """Return a required request body that may come in any of several media types."""
    return {"description": description, "content": content(schemas), "required": True}


def answer(description: str, schemas: Mapping[str, Json] | None = None) -> Json:
    """Return a response; without `schemas` its body is empty or says nothing."""
    return (
        {"description": description}
        if schemas is None
        else {"description": description, "content": content(schemas)}
    )


def json_answer(description: str, schema: Json) -> Json:
    """Return a response of JSON."""
    return answer(description, {"application/json": schema})


# One schema for each form of error body, shared by all operations so that generated clients share a class.
_ERRORS = {
    "TorchServeError": obj(
        {
            "code": {"type": "integer", "description": "HTTP status."},
            "type": {"type": "string", "description": "Kind of the error, by TorchServe's name."},
            "message": _MESSAGE,
        }
    ),
    "KServeError": closed({"error": _MESSAGE}),
    "NamedError": obj({"detail": _MESSAGE}),
}
TORCHSERVE_ERROR, KSERVE_ERROR, NAMED_ERROR = map(reference, _ERRORS)
_MEANINGS = {
    "400": "The request cannot be used; the message names what is wrong with it.",
    "403": "This server does not do that on request.",
    "404": "There is no such model, or not in this version.",
    "405": "The set of models may not be changed through this server.",
    "409": "This name and version are taken.",
    "413": "The body is larger than the server accepts.",
    "415": "The body has another Content-Encoding than gzip or deflate.",
    "500": "The model or the server failed.",
    "503": "The model cannot take the request now; Retry-After says when to come again.",
    "504": "The model took too long.",
    "507": "The model ran out of memory.",
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}


def errors(schema: Json, *statuses: str) -> Json:
    """Return the responses for `statuses`, with one schema of error bodies."""
    found: Json = {}
    for status in statuses:
        found[status] = json_answer(_MEANINGS[status], schema)
        if status == "413" and schema is TORCHSERVE_ERROR:
            found[status] = answer(_MEANINGS[status])
        if status == "503":
            found[status]["headers"] = _RETRY_AFTER
    return found


def torchserve_inference(success: Json) -> Json:
    """Return the responses of a route of TorchServe's that runs a model."""
    return {"200": success, **errors(TORCHSERVE_ERROR, "400", "404", "413", "415", "500", "503", "507")}


def kserve_inference(success: Json) -> Json:
    """Return the responses of a route of KServe's that runs a model."""
    return {"200": success, **errors(KSERVE_ERROR, "400", "404", "413", "415", "500", "503", "504", "507")}


def named_inference(success: Json) -> Json:
    """Return the responses of `/predict`."""
    return {"200": success, **errors(NAMED_ERROR, "400", "404", "413", "415", "500", "503", "504", "507")}
