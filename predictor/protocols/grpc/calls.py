"""What all gRPC methods share: a record of each call, and errors that become statuses."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from predictor.errors import InvalidInput, PredictorError, Unavailable
from predictor.telemetry.record import CURRENT, RequestRecord

logger = logging.getLogger(__name__)

Context = Any  # grpc.aio.ServicerContext: grpcio ships no types
Method = Callable[[Any, Context], Awaitable[Any]]
Render = Callable[[PredictorError], "tuple[grpc.StatusCode, str]"]

_MAX_REQUEST_ID = 128
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclasses.dataclass
class CallRecord:
    """One call, for the log and for metrics.

    Attributes:
        method: full name, such as `/inference.GRPCInferenceService/ModelInfer`.
        request_id: the client's x-request-id, or one made here.
        chosen: whether the client chose it.
        client: address of the peer.
        request: what routing, the registry and the model note of it.
        status: how the call ended.
        seconds: from the call's head to its end.
        reason: why it was refused, "" if it was not.
    """

    method: str
    request_id: str
    chosen: bool = False
    client: str = ""
    request: RequestRecord = dataclasses.field(default_factory=RequestRecord)
    status: grpc.StatusCode = grpc.StatusCode.OK
    seconds: float = 0.0
    reason: str = ""


Observer = Callable[[CallRecord], None]

_current: ContextVar[CallRecord | None] = ContextVar("call", default=None)


def current_call() -> CallRecord:
    """Return the record of the call that is being answered."""
    record = _current.get()
    return record if record is not None else CallRecord("", str(uuid.uuid4()))


class CallRecorder(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpcio ships no types
    """The outermost interceptor: tells its observers of every call once it has ended."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        """Tell `observers`, in their order."""
        self._observers = observers

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> grpc.RpcMethodHandler | None:
        """Wrap the handler of one call; there is none where nobody knows the method."""
        asked = _asked_id(details.invocation_metadata)
        record = CallRecord(details.method, asked or str(uuid.uuid4()), bool(asked))
        record.request.protocol = _protocol(details.method)
        _current.set(record)
        CURRENT.set(record.request)
        handler = await continuation(details)
        if handler is None:
            record.status = grpc.StatusCode.UNIMPLEMENTED
            self._tell(record)
            return None
        return self._wrapped(handler, record)

    def _wrapped(self, handler: Any, record: CallRecord) -> Any:
        """Return a handler that does the same and is recorded."""
        kinds = {
            (False, False): (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
            (False, True): (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
            (True, False): (handler.stream_unary, grpc.stream_unary_rpc_method_handler),
            (True, True): (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
        }
        behaviour, kind = kinds[handler.request_streaming, handler.response_streaming]

        async def answer(request: Any, context: Context) -> Any:
            with self._recorded(record, context):
                return await behaviour(request, _Watched(context, record))

        async def generate(request: Any, context: Context) -> AsyncIterator[Any]:
            with self._recorded(record, context):
                async for item in behaviour(request, _Watched(context, record)):
                    yield item

        recorded = generate if inspect.isasyncgenfunction(behaviour) else answer
        return kind(recorded, handler.request_deserializer, handler.response_serializer)

    @contextlib.contextmanager
    def _recorded(self, record: CallRecord, context: Context) -> Iterator[None]:
        started = time.perf_counter()
        record.client = _address(context.peer())
        try:
            yield
            record.status = _CODES.get(context.code() or 0, grpc.StatusCode.UNKNOWN)
        except asyncio.CancelledError:
            # The server's own cancelling and the client's look the same here, but for the clock.
            left = context.time_remaining()
            late = left is not None and left <= 0
            record.status = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            raise
        except BaseException:
            if record.status is grpc.StatusCode.OK:
                record.status = grpc.StatusCode.UNKNOWN
            raise
        finally:
            record.seconds = time.perf_counter() - started
            self._tell(record)

    def _tell(self, record: CallRecord) -> None:
        for observer in self._observers:
            observer(record)


class _Watched:
    """A context that notes with what a call is aborted, which grpcio's own does not tell."""

    def __init__(self, context: Context, record: CallRecord) -> None:
        self._context = context
        self._record = record

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def abort(self, code: grpc.StatusCode, details: str = "", *trailing_metadata: Any) -> None:
        self._record.status = code
        self._record.reason = self._record.reason or details
        await self._context.abort(code, details, *trailing_metadata)


def guarded(method: Method, render: Render) -> Method:
    """Return `method` with our errors turned into statuses by `render`, and others into a bare INTERNAL."""

    async def guarded_method(request: Any, context: Context) -> Any:
        try:
            return await method(request, context)
        except PredictorError as error:
            current_call().reason = error.message
            if isinstance(error, Unavailable):
                context.set_trailing_metadata((("retry-after", str(error.retry_after)),))
            return await context.abort(*render(error))
        except grpc.aio.AbortError:
            raise
        except Exception:
            logger.exception("gRPC request %s: %s", current_call().request_id, current_call().method)
            return await context.abort(grpc.StatusCode.INTERNAL, "Internal server error")

    return guarded_method


def parse(request_type: type[Any], body: bytes) -> Any:
    """Parse a message here, where a malformed one is the client's mistake and not an internal error.

    Raises:
        InvalidInput: it is no such message.
    """
    try:
        return request_type.FromString(body)
    except DecodeError as error:
        raise InvalidInput(f"The message is not a {request_type.DESCRIPTOR.name}") from error


def metadata_of(headers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return a handler's response headers as metadata: lower case, and printable ASCII only."""
    return tuple(
        (name.lower(), value)
        for name, value in headers
        if value.isascii() and value.isprintable() and _is_metadata_key(name.lower())
    )


def _is_metadata_key(name: str) -> bool:
    reserved = name.startswith("grpc-") or name.endswith("-bin") or name in ("content-type", "content-length")
    return bool(name) and not reserved and name.replace("-", "").replace("_", "").replace(".", "").isalnum()


def _protocol(method: str) -> str:
    """Return what metrics call the service of a method."""
    service = method.strip("/").partition("/")[0]
    if service.endswith(".GRPCInferenceService"):
        return "grpc-v2"
    return "grpc-torchserve" if service.startswith("org.pytorch.serve.") else "other"


def _asked_id(metadata: Any) -> str:
    """Return the client's x-request-id if it sent a usable one, else ""."""
    for name, value in metadata or ():
        if (
            name == "x-request-id"
            and isinstance(value, str)
            and 0 < len(value) <= _MAX_REQUEST_ID
            and value.isascii()
        ):
            return value
    return ""


def _address(peer: str) -> str:
    """Return the address in `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    address = unquote(peer.partition(":")[2])
    return address.rpartition(":")[0].strip("[]") or address
