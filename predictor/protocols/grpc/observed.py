"""Counts the calls of a gRPC service, whatever service it is.

A message over the size limit is refused inside gRPC's core, before anything of ours hears of it: it is
the one kind of request that is not counted.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from predictor.telemetry.record import CURRENT, RequestRecord
from predictor.telemetry.requests import RequestMeter

# The nearest status in HTTP's terms, for TorchServe's counts by class; others are 5xx.
_CLIENTS_FAULT = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
}
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


class ObservedHandler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio ships no types
    """A generic handler whose calls are counted when they end."""

    def __init__(self, handler: Any, protocol: str, meter: RequestMeter) -> None:
        """Pass calls on to `handler`.

        Args:
            protocol: the label that they are counted under.
            meter: what counts them.
        """
        self._handler = handler
        self._protocol = protocol
        self._meter = meter
        self._methods: dict[str, Any] = {}

    def service(self, handler_call_details: Any) -> Any:
        """Return what answers a call, None where the service has no such method."""
        name = handler_call_details.method
        if name not in self._methods:
            method = self._handler.service(handler_call_details)
            if method is None:
                return None
            self._methods[name] = self._observed(method)
        return self._methods[name]

    def _observed(self, method: Any) -> Any:
        kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
        changed = {kind: self._wrap(function) for kind in kinds if (function := getattr(method, kind))}
        return method._replace(**changed)

    def _wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isasyncgenfunction(function):

            async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
                call = _Call(self._protocol, self._meter, context)
                with call:
                    async for answer in function(request, context):
                        yield answer

            return stream

        async def answer(request: Any, context: Any) -> Any:
            with _Call(self._protocol, self._meter, context):
                return await function(request, context)

        return answer


class _Call:
    """One call, counted when the block that it stands around is left."""

    def __init__(self, protocol: str, meter: RequestMeter, context: Any) -> None:
        self._record = RequestRecord(protocol)
        self._meter = meter
        self._context = context

    def __enter__(self) -> None:
        CURRENT.set(self._record)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        status = self._status(kind)
        if status is grpc.StatusCode.OK:
            http = 200
        else:
            http = 400 if status in _CLIENTS_FAULT else 500
        self._meter.finished(self._record, status.name, http)

    def _status(self, kind: type[BaseException] | None) -> grpc.StatusCode:
        if kind is not None and issubclass(kind, (asyncio.CancelledError, GeneratorExit)):
            return grpc.StatusCode.CANCELLED
        code = self._context.code()
        status = code if isinstance(code, grpc.StatusCode) else _BY_NUMBER.get(code or 0, grpc.StatusCode.OK)
        if kind is not None and status is grpc.StatusCode.OK:
            return grpc.StatusCode.UNKNOWN
        return status
