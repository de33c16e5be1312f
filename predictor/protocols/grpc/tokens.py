"""Tokens over gRPC: the metadata entry `authorization`, with the text of the HTTP header.

TorchServe's services refuse with PERMISSION_DENIED, as TorchServe does; all others with UNAUTHENTICATED.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from predictor.errors import InvalidToken
from predictor.trust.access import role_of_rpc
from predictor.trust.guard import Guard

_TORCHSERVE = "/org.pytorch.serve.grpc."


class TokenInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpcio ships no types
    """Lets a call pass if it brings a token for its method, before its message is looked at."""

    def __init__(self, guard: Guard) -> None:
        """Ask `guard`."""
        self._guard = guard

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Return the method's handler, or one that refuses."""
        role = role_of_rpc(details.method)
        if role is None or self._guard.admits(role, _authorization(details.invocation_metadata)):
            return await continuation(details)
        torchserve = details.method.startswith(_TORCHSERVE)
        return _PERMISSION_DENIED if torchserve else _UNAUTHENTICATED


def _authorization(metadata: Any) -> str:
    """Return the last `authorization` entry, "" if there is none."""
    found = ""
    for name, value in metadata or ():
        if name == "authorization" and isinstance(value, str):
            found = value
    return found


def _refusal(status: grpc.StatusCode) -> Any:
    """Return a handler that reads nothing; on the wire it fits calls of every kind."""

    async def refuse(requests: AsyncIterator[bytes], context: Any) -> None:
        await context.abort(status, InvalidToken().message)

    return grpc.stream_stream_rpc_method_handler(refuse)


_PERMISSION_DENIED = _refusal(grpc.StatusCode.PERMISSION_DENIED)
_UNAUTHENTICATED = _refusal(grpc.StatusCode.UNAUTHENTICATED)
