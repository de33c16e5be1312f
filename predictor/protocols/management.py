"""TorchServe's management API over HTTP: paths, parameters, statuses.

The source is a running TorchServe 0.12. What is done and said is in `managing`, which the gRPC service
shares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from predictor.errors import InvalidInput, MethodNotAllowed, PredictorError, ResourceNotFound
from predictor.http.messages import HttpRequest, HttpResponse
from predictor.protocols import openapi
from predictor.protocols.managing import (
    Answer,
    ModelManagement,
    read_bool,
    read_int,
    register_parameters,
)
from predictor.protocols.pretty import pretty_json, render_error

_JSON = "application/json"


class ManagementProtocol:
    """Answers `/models...`, and the other paths of TorchServe's management port."""

    label = "management"

    def __init__(self, management: ModelManagement, *, may_scale: bool = True) -> None:
        """Offer what `management` does.

        Args:
            management: the operations.
            may_scale: whether workers and default versions may be changed although the set of models
                may not, as TorchServe lets clients on its management port.
        """
        self._management = management
        self._may_scale = may_scale

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request; see the table of paths in the contract."""
        first, *rest = request.segments or [""]
        if first == "models":
            return await self._models(request, [part for part in rest if part])
        if not first:
            if request.method != "OPTIONS":
                raise MethodNotAllowed
            return pretty_json(openapi.management_api())
        if first == "api-description" and not rest:
            return pretty_json(openapi.management_api())
        if first == "workflows" and not rest and request.method == "GET":
            return pretty_json({"workflows": []})
        raise ResourceNotFound

    def render_error(self, error: PredictorError) -> HttpResponse:
        """Return TorchServe's error body."""
        return render_error(error)

    async def _models(self, request: HttpRequest, rest: list[str]) -> HttpResponse:
        if not rest:
            return await self._collection(request)
        name, version = rest[0], rest[1] if len(rest) > 1 else None
        if len(rest) == 3 and rest[2] == "set-default" and request.method == "PUT":
            self._require_scaling()
            return _answer(await self._management.set_default(name, rest[1]))
        if len(rest) > 2:
            raise ResourceNotFound
        return await self._one(request, name, version)

    async def _collection(self, request: HttpRequest) -> HttpResponse:
        query = dict(request.query())
        if request.method == "GET":
            page = self._management.list_models(
                read_int(query.get("limit")), read_int(query.get("next_page_token"))
            )
            return pretty_json(page)
        if request.method == "POST":
            self._management.require_control()
            return _answer(await self._management.register(register_parameters(_parameters(request))))
        raise MethodNotAllowed

    async def _one(self, request: HttpRequest, name: str, version: str | None) -> HttpResponse:
        query = dict(request.query())
        if request.method == "GET":
            customized = read_bool(query.get("customized"), False)
            return pretty_json(await self._management.describe(name, version, customized=customized))
        if request.method == "PUT":
            self._require_scaling()
            answer = await self._management.scale(
                name,
                version,
                read_int(query.get("min_worker")),
                read_int(query.get("max_worker")),
                synchronous=read_bool(query.get("synchronous"), False),
            )
            return _answer(answer)
        if request.method == "DELETE":
            return _answer(await self._management.unregister(name, version))
        if request.method == "OPTIONS":
            model = self._management.registry.get(name, version)
            return pretty_json(openapi.model_management_api(model.name))
        raise MethodNotAllowed

    def _require_scaling(self) -> None:
        if not self._may_scale:
            self._management.require_control()


def _parameters(request: HttpRequest) -> Mapping[str, Any]:
    """Return the parameters of the query, or those of a body of JSON.

    Raises:
        InvalidInput: the body is not a JSON object.
    """
    if request.header("content-type").partition(";")[0].strip() != _JSON or not request.body:
        return dict(request.query())
    try:
        document = json.loads(bytes(request.body))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"Failed to parse JSON string: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInput("The body must be a JSON object of parameters")
    return {**dict(request.query()), **document}


def _answer(answer: Answer) -> HttpResponse:
    return pretty_json({"status": answer.text}, answer.status)
