"""Calls of TorchServe's gRPC inference API: what a real TorchServe answered is in recordings/grpc.json.

    cd tests && python -m support.grpc_cases --torchserve PORT      records what is there

serves for that a store made by `make_grpc_store`, on which TorchServe 0.12 runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import queue
import shutil
import sys
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.rpc.error_details_pb2 import ErrorInfo

from support.models import make_model
from support.oracle_corpus import ARCHIVES, RECORDINGS
from support.torchserve_stubs import INFERENCE, Stub

RECORDING = RECORDINGS / "grpc.json"
_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Request:
    """One PredictionsRequest; an `order` is for the handler `remote`."""

    model: str = "remote"
    version: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    sequence: str | None = None
    order: dict[str, Any] | None = None

    def message(self, stub: Stub) -> Any:
        message = stub.types["PredictionsRequest"](model_name=self.model, model_version=self.version)
        for key, value in self.fields:
            message.input[key] = value.encode("latin-1")
        if self.order is not None:
            message.input["order"] = json.dumps(self.order).encode()
        if self.sequence is not None:
            message.sequence_id = self.sequence
        return message


@dataclasses.dataclass(frozen=True)
class Case:
    """A call, and the id of a line in docs/torchserve.md if ours is different on purpose.

    Attributes:
        requests: sent one after the other, each once the one before is answered.
    """

    name: str
    method: str
    requests: tuple[Request, ...]
    differs: str = ""


def _one(name: str, /, *, differs: str = "", **request: Any) -> Case:
    return Case(name, "Predictions", (Request(**request),), differs)


def _order(name: str, /, *, differs: str = "", **order: Any) -> Case:
    return _one(name, order=order, differs=differs)


def _sequence(name: str, *requests: Request, differs: str = "") -> Case:
    return Case(name, "StreamPredictions2", requests, differs)


def _number(number: Any, sequence: str | None, model: str = "stateful", **flags: str) -> Request:
    fields = [("data", str(number)), *((f"ts_request_sequence_{key}", text) for key, text in flags.items())]
    return Request(model, fields=tuple(fields), sequence=sequence)


CASES = (
    Case("ping", "Ping", ()),
    _one("one field", fields=(("data", '{"a": 1}'),)),
    _one("two fields", fields=(("data", "x"), ("body", "\x00\xff"))),
    _one("no field"),
    _one("version", version="1.0", fields=(("data", "x"),)),
    _one("no model", model=""),
    _one("unknown model", model="zz"),
    _one("unknown version", version="9"),
    _order("text", do="return", value="words"),
    _order("number", do="return", value=7),
    _order("none", do="return", value=None),
    _order("dict", do="return", value={"a": [1, 2.5, None]}),
    _order("bytes", do="special", kind="bytes"),
    _order("nan", do="special", kind="nan"),
    _order("object", do="special", kind="object"),
    _order("raise", do="raise", text="the secret text"),
    _order("memory", do="memory"),
    *(
        _order(f"exception {code}", do="exception", message=f"told {code}", code=code)
        for code in (400, 401, 403, 404, 409, 413, 416, 418, 429, 499, 500, 501, 503, 504, 599)
    ),
    _order("status", do="status", code=418, phrase="Teapot"),
    _order("status 500", do="status", code=500),
    _order("header", do="header", name="X-Trace", value="abc"),
    _order("not a list", do="whole", value={"a": 1}),
    _order("too few", do="whole", value=[]),
    _order("exit", do="exit"),
    Case("parts", "StreamPredictions", (Request(order={"do": "parts", "parts": ["a", "b"], "last": "c"}),)),
    Case("stream of an unknown model", "StreamPredictions", (Request("zz"),)),
    Case("stream of no model", "StreamPredictions", (Request(""),)),
    _sequence("sequence", *(_number(n, "s1") for n in (1, 2)), differs="grpc-sequence-end"),
    _sequence("no sequence", _number(1, None)),
    _sequence("empty sequence", _number(1, "")),
    _sequence("begun sequence", _number(1, None, start="true"), differs="grpc-sequence-start"),
    _sequence("sequence of an unknown model", _number(1, "s3", "zz"), differs="grpc-sequence-errors"),
    _sequence("sequence of no model", _number(1, "s4", ""), differs="grpc-sequence-errors"),
    _sequence("stateless sequence", _number(1, "s5", "remote"), differs="grpc-sequence-errors"),
    # TorchServe's worker does not recover from each of these by itself.
    Case("stream of one", "StreamPredictions", (Request(fields=(("data", "x"),)),), "grpc-plain-stream"),
    _order("parts at once", do="parts", parts=["a", "b"], last="c", differs="grpc-parts"),
)


def ask(port: int, case: Case) -> list[Any]:
    """Send a case; returns the answers, each as text, or as an error's code and details."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = Stub(channel, INFERENCE)
        try:
            if case.method == "Ping":
                return [stub.Ping(Empty(), timeout=_SECONDS).health]
            messages = [request.message(stub) for request in case.requests]
            if case.method == "StreamPredictions2":
                return _in_turn(stub, messages)
            answer = getattr(stub, case.method)(messages[0], timeout=_SECONDS)
            return [_told(answer)] if case.method == "Predictions" else _collect(answer)
        except grpc.RpcError as error:
            return [_failed(error)]


def _in_turn(stub: Stub, messages: list[Any]) -> list[Any]:
    """Send each message once the one before is answered."""
    waiting: queue.Queue[Any] = queue.Queue()
    call = stub.StreamPredictions2(iter(waiting.get, None), timeout=_SECONDS)
    answers: list[Any] = []
    try:
        for message in messages:
            waiting.put(message)
            answers.append(_told(next(call)))
        waiting.put(None)
        answers += [_told(answer) for answer in call]
    except StopIteration:
        answers.append("the stream has ended")
    except grpc.RpcError as error:
        answers.append(_failed(error))
    finally:
        waiting.put(None)
    return answers


def _collect(call: Any) -> list[Any]:
    answers: list[Any] = []
    try:
        answers += [_told(answer) for answer in call]
    except grpc.RpcError as error:
        answers.append(_failed(error))
    return answers


def _told(answer: Any) -> Any:
    if not answer.HasField("status"):
        return answer.prediction.decode("latin-1")
    reasons = [ErrorInfo.FromString(detail.value).reason for detail in answer.status.details]
    return {"code": answer.status.code, "message": answer.status.message, "reasons": reasons}


def _failed(error: Any) -> dict[str, str]:
    return {"status": error.code().name, "details": error.details()}


def make_grpc_store(store: Path) -> None:
    """Fill `store` with what the cases ask."""
    make_model(store, "remote", "remote", batchSize=1, responseTimeout=60, maxBatchDelay=50)
    shutil.copy(ARCHIVES / "models" / "stateful.mar", store)


def main() -> None:
    """Record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torchserve", type=int, metavar="PORT", required=True)
    port = parser.parse_args().torchserve
    lines = [f" {json.dumps(case.name)}: {json.dumps(ask(port, case))}" for case in CASES]
    RECORDING.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    sys.stdout.write(f"{len(CASES)} cases recorded\n")


if __name__ == "__main__":
    main()
