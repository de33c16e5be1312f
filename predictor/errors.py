"""One hierarchy for everything that can go wrong with a request.

The flow of a request, and which error belongs to which step:

    http/       the bytes                     PayloadTooLarge, RequestTimeout, UnsupportedCoding
                the token                     InvalidToken
    protocols/  the route                     ResourceNotFound, MethodNotAllowed
    serving/    the model                     ModelNotFound, ModelVersionNotFound, ModelNotReady
                the queue                     QueueFull, DeadlineExceeded, ShuttingDown
                the worker process            WorkerDied, ResponseTimeout
                the set of models             those of predictor.serving.errors
    runtime/    the client's values           InvalidInput
                the handler's code            HandlerFailed, HandlerStatus, OutOfResources
                the handler's answer          InvalidOutput, ResponseTooLarge

Each class knows its HTTP status; protocols that disagree with it (TorchServe answers 503 where the
others answer 500) find their own status beside it. Messages are fit for a client: they never hold a
stack trace, which goes to the log together with the request id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

NOT_ALLOWED = "Requested method is not allowed, please refer to API document."
"""TorchServe's text for every 405."""


class PredictorError(Exception):
    """Base of all errors that a client may see.

    Attributes:
        status: HTTP status of every protocol but TorchServe's.
        torchserve_status: HTTP status on TorchServe's routes, where it differs.
        torchserve_type: the `type` in TorchServe's error body.
    """

    status: int = 500
    torchserve_status: int | None = None
    torchserve_type: ClassVar[str] = "InternalServerException"

    def __init__(self, message: str) -> None:
        """Remember `message`, which is shown to the client as it is."""
        super().__init__(message)
        self.message = message

    @property
    def torchserve_message(self) -> str:
        """The text that TorchServe's clients match on, where it is another."""
        return self.message


class InvalidInput(PredictorError):
    """The client's values cannot be used; the message names the field."""

    status = 400
    torchserve_type = "BadRequestException"


class NotAcceptable(InvalidInput):
    """The answer has no such form as the client asks for; the message names those that it has."""

    status = 406


class UnsupportedCoding(InvalidInput):
    """The body has a content coding that this server does not read."""

    status = 415

    def __init__(self, message: str, known: Sequence[str]) -> None:
        """Remember the `known` ones for the Accept-Encoding header, which goes with the answer."""
        super().__init__(f"{message}; known are {', '.join(known)}")
        self.known = known


class InvalidToken(PredictorError):
    """The route asks for a token, and the request brought none that counts for it."""

    status = 401
    torchserve_status = 400
    torchserve_type = "InvalidKeyException"

    def __init__(self, failed: str = "Authorization") -> None:
        """Use TorchServe's text, in which "Authorization" or "Authentication" has failed."""
        super().__init__(f"Token {failed} failed. Token either incorrect, expired, or not provided correctly")


class PayloadTooLarge(PredictorError):
    """The body, or what it expands to, is over the limit."""

    status = 413
    torchserve_type = "BadRequestException"


class WorkTooLarge(PayloadTooLarge):
    """What a small request asks for, or unpacks to, is over a limit; it is told so, unlike a large one."""


class RequestTimeout(PredictorError):
    """The client stopped in the middle of its body."""

    status = 408
    torchserve_type = "BadRequestException"


class ResourceNotFound(PredictorError):
    """No route has this path."""

    status = 404
    torchserve_type = "ResourceNotFoundException"

    def __init__(
        self, message: str = "Requested resource is not found, please refer to API document."
    ) -> None:
        """Use TorchServe's text unless the route has a better one."""
        super().__init__(message)


class MethodNotAllowed(PredictorError):
    """The route exists, but not for this method."""

    status = 405
    torchserve_type = "MethodNotAllowedException"

    def __init__(self, allowed: tuple[str, ...] = ()) -> None:
        """Remember the `allowed` methods for the Allow header."""
        super().__init__(NOT_ALLOWED)
        self.allowed = allowed


class ModelNotFound(PredictorError):
    """No model has this name."""

    status = 404
    torchserve_type = "ModelNotFoundException"

    def __init__(self, model: str, served: Sequence[str] = ()) -> None:
        """Name the missing `model`, and for those who can be told more, the `served` ones."""
        self.model = model
        known = f" (served: {', '.join(served)})" if served else ""
        super().__init__(f"Model not found: {model}{known}")

    @property
    def torchserve_message(self) -> str:
        """TorchServe's text, which names the missing model alone."""
        return f"Model not found: {self.model}"


class ModelVersionNotFound(PredictorError):
    """The model exists, but not in this version."""

    status = 404
    torchserve_type = "ModelVersionNotFoundException"

    def __init__(self, model: str, version: str) -> None:
        """Name the `model` and the missing `version`."""
        super().__init__(f"Model version: {version} does not exist for model: {model}")


class Unavailable(PredictorError):
    """The server cannot take the request now; `retry_after` (seconds) says when it may."""

    status = 503
    torchserve_type = "ServiceUnavailableException"

    def __init__(self, message: str, model: str, retry_after: int = 1) -> None:
        """Name the `model` and the time in seconds after which a retry makes sense."""
        super().__init__(message)
        self.model = model
        self.retry_after = retry_after

    @property
    def torchserve_message(self) -> str:
        """TorchServe has one text for every reason not to take a request."""
        return (
            f'Model "{self.model}" has no worker to serve inference request. '
            "Please use scale workers API to add workers. "
            "If this is a sequence inference, please check if it is closed, or expired; "
            "or exceeds maxSequenceJobQueueSize"
        )


class ModelNotReady(Unavailable):
    """The model has no worker that could answer, and will not have one soon."""


class QueueFull(Unavailable):
    """As many requests wait as the model's queue may hold."""


class ShuttingDown(Unavailable):
    """The server stops and takes no new work."""


class DeadlineExceeded(PredictorError):
    """The request waited past its own time limit and was never started."""

    status = 504


class ResponseTimeout(PredictorError):
    """The handler took longer than `responseTimeout`; its worker was replaced."""

    status = 504
    torchserve_status = 500

    @property
    def torchserve_message(self) -> str:
        """TorchServe's text; the cause is in the log."""
        return "Worker died."


class WorkerDied(PredictorError):
    """The worker process ended while it held the request, and no retry was left."""

    @property
    def torchserve_message(self) -> str:
        """TorchServe's text; the cause is in the log."""
        return "Worker died."


class WorkerKilled(WorkerDied):
    """As `WorkerDied`, by a SIGKILL that was not ours: the kernel was out of memory, as a rule."""

    status = 507


class HandlerFailed(PredictorError):
    """The handler raised."""

    torchserve_status = 503

    @property
    def torchserve_message(self) -> str:
        """TorchServe's text; the exception itself is in the log."""
        return "Prediction failed"


class HandlerStatus(PredictorError):
    """The handler raised `ts.utils.util.PredictionException` with a status of its own."""

    def __init__(self, message: str, status: int = 500) -> None:
        """Carry the handler's `message` and HTTP `status`."""
        super().__init__(message)
        self.status = status if 400 <= status <= 599 else 500


class OutOfResources(PredictorError):
    """The worker ran out of memory, on the host or on the GPU."""

    status = 507

    @property
    def torchserve_message(self) -> str:
        """TorchServe's text; the allocation that failed is in the log."""
        return "Out of resources"


class InvalidOutput(PredictorError):
    """The handler's answer cannot be sent: not a list, of the wrong length, or not serialisable."""

    torchserve_status = 503


class ResponseTooLarge(PredictorError):
    """The handler's answer is over `max_response_size`."""


_SENT_BY_WORKERS: tuple[type[PredictorError], ...] = (
    InvalidInput,
    NotAcceptable,
    PayloadTooLarge,
    WorkTooLarge,
    HandlerFailed,
    HandlerStatus,
    OutOfResources,
    InvalidOutput,
    ResponseTooLarge,
)
_BY_NAME = {cls.__name__: cls for cls in _SENT_BY_WORKERS}


def error_from_worker(name: str, message: str, status: int) -> PredictorError:
    """Rebuild the error that a worker named in its answer.

    Args:
        name: the class name, one of those a worker may send.
        message: the text for the client.
        status: the HTTP status, used by `HandlerStatus` alone.
    """
    if name == HandlerStatus.__name__:
        return HandlerStatus(message, status)
    return _BY_NAME.get(name, HandlerFailed)(message)
