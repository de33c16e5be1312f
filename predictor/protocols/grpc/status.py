"""Which gRPC status an error of ours has."""

from __future__ import annotations

import grpc

from predictor.errors import OutOfResources, PayloadTooLarge, PredictorError, ResponseTooLarge

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
