"""gRPC calls in the access log and the metrics, beside the requests over HTTP.

A message over the size limit is refused inside gRPC's core, before anything of ours hears of it: it is
the one kind of call that is neither logged nor counted.
"""

from __future__ import annotations

import grpc

from predictor.protocols.grpc.calls import CallRecord, Observer
from predictor.protocols.grpc.status import http_of_status
from predictor.telemetry.logging import AccessEntry, AccessLog
from predictor.telemetry.requests import RequestMeter

# Asked several times a minute; not worth a line when all is well.
_PROBES = ("/grpc.health.v1.Health/", "/grpc.reflection.")
_PROBE_METHODS = frozenset({"Ping", "ServerLive", "ServerReady"})


def log_calls(log: AccessLog) -> Observer:
    """Return what writes a line for each call into `log`."""

    def add(record: CallRecord) -> None:
        if not _is_quiet(record):
            log.add(_entry(record))

    return add


def count_calls(meter: RequestMeter) -> Observer:
    """Return what counts each call in `meter`; those of health and reflection are not counted."""

    def count(record: CallRecord) -> None:
        if not record.method.startswith(_PROBES):
            meter.finished(record.request, record.status.name, http_of_status(record.status))

    return count


def _is_quiet(record: CallRecord) -> bool:
    """Return whether this is a probe that found what it hoped for, or a watcher that has gone."""
    is_probe = record.method.startswith(_PROBES) or record.method.rpartition("/")[2] in _PROBE_METHODS
    return is_probe and record.status in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED)


def _entry(record: CallRecord) -> AccessEntry:
    return AccessEntry(
        method="GRPC",
        path=record.method,
        status=http_of_status(record.status),
        seconds=record.seconds,
        request_id=record.request_id,
        client=record.client,
        reason=record.reason,
        grpc_status=record.status.name,
        model=record.request.model,
    )
