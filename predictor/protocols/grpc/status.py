"""Which gRPC status an error of ours has."""

from __future__ import annotations

import grpc

from predictor.errors import OutOfResources, PayloadTooLarge, PredictorError, ResponseTooLarge, Unavailable

_BY_HTTP = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
# TorchServe's own table, where it differs.
_BY_HTTP_IN_TORCHSERVE = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    416: grpc.StatusCode.OUT_OF_RANGE,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_TO_HTTP = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
# Where TorchServe keeps its exceptions; in `http` unless it stands here.
_JAVA_PACKAGES = {
    "DownloadArchiveException": "archive",
    "InvalidKeyException": "archive.model",
    "ModelException": "archive.model",
    "ModelNotFoundException": "archive.model",
    "ModelVersionNotFoundException": "archive.model",
}
_BY_CLASS = (PayloadTooLarge, OutOfResources, ResponseTooLarge)


def status_of(error: PredictorError) -> grpc.StatusCode:
    """Return the status of an error."""
    if isinstance(error, _BY_CLASS):
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    return status_of_http(error.status)


def status_of_http(status: int) -> grpc.StatusCode:
    """Return the gRPC status for an HTTP status that is not a success."""
    default = grpc.StatusCode.INVALID_ARGUMENT if 400 <= status < 500 else grpc.StatusCode.INTERNAL
    return _BY_HTTP.get(status, default)


def torchserve_status_of_http(status: int) -> grpc.StatusCode:
    """Return what TorchServe's gRPC services answer where its HTTP API answers `status`, no success."""
    default = grpc.StatusCode.FAILED_PRECONDITION if 400 <= status < 500 else grpc.StatusCode.INTERNAL
    return _BY_HTTP_IN_TORCHSERVE.get(status, default)


def torchserve_status(error: PredictorError) -> tuple[grpc.StatusCode, str]:
    """Return status and details of an error as TorchServe's gRPC services have them."""
    text = error.torchserve_message
    if isinstance(error, Unavailable) and not error.model:
        text = error.message
    status = torchserve_status_of_http(error.torchserve_status or error.status)
    return status, torchserve_details(text, error.torchserve_type)


def torchserve_details(text: str, java_class: str) -> str:
    """Return `text` with the name of a Java class, package included, on a line of its own."""
    return f"{text}\norg.pytorch.serve.{_JAVA_PACKAGES.get(java_class, 'http')}.{java_class}"


def http_of_status(status: grpc.StatusCode) -> int:
    """Return the HTTP status that says the same, for logs and metrics of both kinds of requests."""
    return _TO_HTTP.get(status, 500)
