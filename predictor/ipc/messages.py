"""The messages between the front end and a worker, as msgspec structs.

A worker's life on the wire:

    front end -> Load            worker -> Loaded | LoadFailed
    front end -> Batch ...       worker -> (Chunk | Progress)* Results, in the order of the batches;
                                 those of a batch that gives way (GivesWay) after those sent behind it
    front end -> Cancel          (requests of a batch that has not started are skipped)
    front end -> Stop            worker finishes what it has been sent, then exits 0

Both ends are always of the same release, so the structs are array-like: no field names travel.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec


class Verb(enum.Enum):
    """What a request asks of the model. Verbs never share a batch."""

    # As a key of dictionaries, several times in each request; Enum's own hash is a function in Python.
    __hash__ = object.__hash__

    PREDICT = "predict"
    EXPLAIN = "explain"
    DESCRIBE = "describe"


class Envelope(enum.Enum):
    """How a worker turns a body into rows, and what the handler returned into a body."""

    __hash__ = object.__hash__

    TORCHSERVE = "torchserve"
    V1 = "v1"
    NAMED = "named"
    V2 = "v2"


class InferenceRequest(msgspec.Struct, array_like=True):
    """One request, as bytes: everything that depends on the model is decoded in the worker.

    Attributes:
        request_id: the id that the log, the handler and the client see.
        verb: predict, explain or describe.
        envelope: the rules by which `body` becomes rows.
        headers: names and values as the client sent them, in order, case kept.
        content_type: value of the Content-Type header, "" when there was none.
        url_path: what follows the version in TorchServe's path; None on routes that do not tell it.
        fields: query parameters, on the routes that make data fields of them.
        body: the raw bytes, in anything that has a buffer: large ones come as a memoryview.
        model: name and version for answers that repeat them (V2, V1's CloudEvents), "" on other routes.
        shared: offset and length of the body in the worker's arena; without one, length 0, it is `body`.
    """

    request_id: str
    verb: Verb
    envelope: Envelope
    headers: list[tuple[str, str]] = []
    content_type: str = ""
    url_path: str | None = None
    fields: list[tuple[str, str]] = []
    body: bytes = b""
    model: tuple[str, str] = ("", "")
    shared: tuple[int, int] = (0, 0)


class InferenceResult(msgspec.Struct, array_like=True):
    """A worker's answer to one request.

    Attributes:
        status: HTTP status that the handler chose, 200 unless it did.
        phrase: reason phrase that the handler chose, or "".
        headers: response headers that the handler set, in order.
        body: the encoded answer.
        error: class name of a `PredictorError`, "" when the request was answered.
        message: the error's text for the client.
    """

    status: int = 200
    phrase: str = ""
    headers: list[tuple[str, str]] = []
    body: bytes = b""
    error: str = ""
    message: str = ""


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named input or output of a model.

    Attributes:
        name: as it appears in requests and answers.
        dtype: numpy's name (float32, int64, ...), or "string".
        shape: per example, without the batch axis; -1 for an axis of any length, [] for a scalar.
        kind: tensor, image or text.
        description: one line for people.
        required: whether a request must have it.
        ranked: False where the model's file tells neither shape nor dtype; then `shape` is (), and a
            request's tensors are taken as they come, with a batch axis.
    """

    name: str
    dtype: str = "float32"
    shape: tuple[int, ...] = ()
    kind: str = "tensor"
    description: str = ""
    required: bool = True
    ranked: bool = True


class ModelInfo(msgspec.Struct, frozen=True):
    """What a worker knows of its model once it is loaded.

    Attributes:
        handler: the handler's name.
        description: one sentence about the model, or "".
        inputs: named inputs; empty where the handler alone knows them.
        outputs: named outputs; likewise.
        classes: labels of a classifier, in the order of its outputs.
        explain: the methods that explain it, as `GET /v1/models/{model}/explain` tells them; empty where
            the handler alone knows.
    """

    handler: str = ""
    description: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    classes: tuple[str, ...] = ()
    explain: dict[str, Any] = {}


class Load(msgspec.Struct, tag=True, array_like=True):
    """Load this model.

    Attributes:
        directory: absolute path of the unpacked model, which becomes the working directory.
        manifest: MAR-INF/MANIFEST.json as it was written.
        config: model-config.yaml as it was written.
        gpu_id: index of the CUDA device, None for the CPU.
        threads: intra-op threads for torch, 0 to leave torch's own choice.
        max_response_size: bytes.
        service_envelope: TorchServe's envelope for its own routes, "" for none.
        stateful: the handler keeps state between the requests of a sequence.
        extra_paths: folders whose packages the handler may import, after the model's own.
        log_metrics: what the handler reports is logged in TorchServe's form.
        continuous: each batch is one request, which stays alive until its stopping criterion is met.
        niceness: added to the process's own; it then gives way to others.
        explain_timeout: seconds after which a worker that explains is ended, 0 for none.
        explain_max_rows: rows that an explanation may send through the model, 0 for by its size.
    """

    model_name: str
    model_version: str
    directory: str
    manifest: dict[str, Any]
    config: dict[Any, Any]
    gpu_id: int | None
    batch_size: int
    threads: int
    decode_input: bool
    limit_max_image_pixels: bool
    max_response_size: int
    service_envelope: str = ""
    continuous: bool = False
    stateful: bool = False
    extra_paths: list[str] = []
    niceness: int = 0
    explain_timeout: float = 0.0
    explain_max_rows: int = 0
    log_metrics: bool = False


class Batch(msgspec.Struct, tag=True, array_like=True):
    """Answer these requests, which all have the same verb and envelope."""

    id: int
    requests: list[InferenceRequest]


class Cancel(msgspec.Struct, tag=True, array_like=True):
    """The clients at these positions of a batch have gone: skip them if they have not started."""

    batch_id: int
    positions: list[int]


class Stop(msgspec.Struct, tag=True, array_like=True):
    """Finish what was sent before this, then exit."""


class Loaded(msgspec.Struct, tag=True, array_like=True):
    """The model is ready for batches.

    Attributes:
        device: for people, such as "cpu" or "cuda:0 (NVIDIA H200)".
        seconds: what loading took.
    """

    device: str
    seconds: float
    info: ModelInfo


class LoadFailed(msgspec.Struct, tag=True, array_like=True):
    """The model cannot be loaded; `reason` is for the operator, `out_of_memory` for the status."""

    reason: str
    out_of_memory: bool = False


class Chunk(msgspec.Struct, tag=True, array_like=True):
    """An intermediate part of a streamed answer; the last part comes with `Results`."""

    batch_id: int
    position: int
    result: InferenceResult


class Timing(msgspec.Struct, array_like=True):
    """When a worker began with a batch, and what it spent on it, in seconds.

    Attributes:
        started: `time.monotonic()`, which is the same clock in every process of a machine.
    """

    started: float
    decode: float
    inference: float
    encode: float


class Measured(msgspec.Struct, array_like=True):
    """What a handler has told `context.metrics` under one name and labels since the last batch.

    Attributes:
        kind: counter, gauge or histogram.
        unit: spelled out, as TorchServe does.
        values: of a counter what is to be added, of a gauge the last value, of a histogram all of them.
    """

    name: str
    kind: str
    unit: str
    labels: list[tuple[str, str]]
    values: list[float]


class Results(msgspec.Struct, tag=True, array_like=True):
    """Answers to a batch, in its order; None for a request that was skipped as cancelled.

    Attributes:
        timing: None where the worker did not work on the batch.
        measured: what the handler has measured itself.
    """

    batch_id: int
    results: list[InferenceResult | None]
    timing: Timing | None = None
    measured: list[Measured] = []


class Progress(msgspec.Struct, tag=True, array_like=True):
    """The handler is about to be called once more for a batch: the time limit starts anew."""

    batch_id: int


class GivesWay(msgspec.Struct, tag=True, array_like=True):
    """A batch of explanations has begun that lets predictions sent behind it go first, between its passes."""

    batch_id: int


ToWorker = Load | Batch | Cancel | Stop
FromWorker = Loaded | LoadFailed | Chunk | Progress | GivesWay | Results
