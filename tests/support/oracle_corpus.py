"""The archives of the oracle tests: what goes into each, and which server serves it.

`support.oracle_record` has the real torch-model-archiver pack them into tests/oracle/archives, one folder
for each model store, and they are committed as it made them.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

ORACLE = Path(__file__).resolve().parent.parent / "oracle"
HANDLERS = ORACLE / "handlers"
ARCHIVES = ORACLE / "archives"
RECORDINGS = ORACLE / "recordings"


@dataclasses.dataclass(frozen=True)
class Archive:
    """One archive, in terms of torch-model-archiver's flags.

    Attributes:
        store: folder of `ARCHIVES` that it lies in.
        handler: name of a built-in handler, or a file of `HANDLERS`, with `:function` if it has one.
        config: content of model-config.yaml.
        extra: files and folders of `HANDLERS` for --extra-files, and texts to write, by file name.
        network: function of `support.oracle_networks` that writes weights; it returns their file name.
        model_file: file of `HANDLERS` with the network's class.
        format: for --archive-format.
    """

    store: str
    name: str
    handler: str
    version: str = "1.0"
    config: dict[str, Any] | None = None
    extra: tuple[str, ...] = ()
    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    network: str = ""
    model_file: str = ""
    requirements: str = ""
    format: str = "default"

    @property
    def file(self) -> str:
        """Name of the archive in its store; further versions need another than the archiver gives."""
        suffix = {"default": ".mar", "zip-store": ".mar", "tgz": ".tar.gz", "no-archive": ""}[self.format]
        return (self.name if self.version == "1.0" else f"{self.name}-{self.version}") + suffix


@dataclasses.dataclass(frozen=True)
class Group:
    """One run of a server: a model store and the settings it runs with.

    Attributes:
        properties: lines of TorchServe's config.properties.
        flags: the same for `predictor serve`.
    """

    store: str
    properties: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


GROUPS: dict[str, Group] = {
    "plain": Group("plain"),
    "models": Group("models"),
    "body": Group("enveloped", ("service_envelope=body",), ("--service-envelope", "body")),
    "json": Group("enveloped", ("service_envelope=json",), ("--service-envelope", "json")),
    "kserve": Group("enveloped", ("service_envelope=kserve",), ("--service-envelope", "kserve")),
    "kservev2": Group("enveloped", ("service_envelope=kservev2",), ("--service-envelope", "kservev2")),
}

_FRONT_END = {
    "minWorkers": 1,
    "maxWorkers": 1,
    "batchSize": 1,
    "maxBatchDelay": 50,
    "responseTimeout": 60,
    "startupTimeout": 90,
    "deviceType": "cpu",
    "maxRetryTimeoutInSec": 60,
    "clientTimeoutInMills": 0,
    "jobQueueSize": 50,
    "useJobTicket": False,
}
_BATCHED = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 4, "maxBatchDelay": 3000}
_NAMES = {"0": "red", "1": "green", "2": "blue", "3": "grey", "4": "black", "5": "white"}
_IMAGES = {"network": "scripted_classifier"}
_DIGITS = {"model_file": "digit_net.py", "network": "digits"}


def _labels(mapping: object) -> dict[str, str]:
    return {"index_to_name.json": json.dumps(mapping)}


CORPUS: tuple[Archive, ...] = (
    Archive("plain", "probe", "probe.py", texts={"notes.txt": "a note\n"}),
    Archive("plain", "module", "module_level.py"),
    Archive("plain", "function", "entry.py:score_rows"),
    Archive("plain", "classic", "classic.py", format="tgz"),
    Archive("plain", "answers", "answers.py", format="no-archive"),
    Archive("plain", "statuses", "statuses.py", config=_FRONT_END),
    Archive("plain", "failing", "failing.py"),
    Archive("plain", "failing_module", "failing.py:handle_rows", format="zip-store"),
    Archive(
        "plain",
        "packaged",
        "packaged.py",
        extra=("library",),
        texts={"words.json": '["one", "two"]', "plain.txt": "plain text\n"},
        format="tgz",
    ),
    Archive(
        "plain",
        "configured",
        "configured.py",
        config={
            **_FRONT_END,
            "handler": {"greeting": "Grüezi", "list": [1, 2.5, None, True], "nested": {"a": {"b": "c"}}},
            "unknown": "key",
        },
    ),
    Archive("plain", "metering", "metering.py"),
    Archive("plain", "chatty", "chatty.py"),
    Archive(
        "plain",
        "cached",
        "cached.py",
        config={"handler": {"max_length": 4, "profile": True}},
        texts={"setup_config.json": '{"do_lower_case": true}', "vocab.json": '{"a": 1, "b": 2, "c": 3}'},
    ),
    Archive("plain", "wants_more", "with_requirements.py", requirements="no-such-package-anywhere==9.9\n"),
    Archive("plain", "versioned", "versioned_1.py"),
    Archive("plain", "versioned", "versioned_2.py", version="2.0"),
    Archive("plain", "versioned", "versioned_2.py", version="10.0-beta"),
    Archive("plain", "profiled", "profiled.py", config={"handler": {"profile": True}}),
    Archive("plain", "utilities", "utilities.py", config={"a": [1, "b"]}),
    Archive("plain", "name.with-odd_chars", "versioned_1.py"),
    Archive("models", "eager", "eager.py", model_file="linear_net.py", network="linear"),
    Archive("models", "scripted", "scripted.py", network="scripted_linear"),
    Archive("models", "classifier", "image_classifier", texts=_labels(_NAMES), **_IMAGES),
    Archive(
        "models",
        "classifier_lists",
        "image_classifier",
        texts=_labels({key: ["n0" + key, name] for key, name in _NAMES.items()}),
        **_IMAGES,
    ),
    Archive(
        "models",
        "classifier_objects",
        "image_classifier",
        texts=_labels({"object_type_names": list(_NAMES.values())}),
        **_IMAGES,
    ),
    Archive("models", "classifier_bare", "image_classifier", format="no-archive", **_IMAGES),
    Archive(
        "models", "segmenter", "image_segmenter", model_file="segment_net.py", network="segment", format="tgz"
    ),
    Archive(
        "models",
        "detector",
        "object_detector",
        model_file="detect_net.py",
        network="detect",
        texts=_labels({"1": "cat", "2": "dog"}),
    ),
    Archive(
        "models",
        "texter",
        "text_classifier",
        model_file="text_net.py",
        network="text",
        texts=_labels({"0": "bad", "1": "good", "2": "neither"}),
    ),
    Archive("models", "digits", "digits.py", **_DIGITS),
    Archive("models", "digits_plain", "digits_plain.py", **_DIGITS),
    Archive("models", "dying", "dying.py", config={"responseTimeout": 2, "maxRetryTimeoutInSec": 60}),
    Archive("models", "batching", "batching.py", config=_BATCHED),
    Archive(
        "models",
        "micro",
        "micro.py",
        config={
            **_BATCHED,
            "micro_batching": {
                "micro_batch_size": 3,
                "parallelism": {"preprocess": 2, "inference": 1, "postprocess": 2},
            },
        },
    ),
    Archive("models", "streaming", "streaming.py"),
    Archive(
        "models",
        "stateful",
        "stateful.py",
        config={
            **_BATCHED,
            "maxBatchDelay": 50,
            "deviceType": "cpu",
            "sequenceBatching": True,
            "sequenceMaxIdleMSec": 60000,
            "maxNumSequence": 4,
            "maxSequenceJobQueueSize": 10,
        },
    ),
    Archive("models", "continuous", "continuous.py", config={**_BATCHED, "continuousBatching": True}),
    Archive("enveloped", "rows", "enveloped.py"),
    Archive("enveloped", "batched_rows", "enveloped.py", config=_BATCHED),
    Archive("enveloped", "numbers", "base_handler", network="scripted_linear"),
    Archive("enveloped", "pictures", "image_classifier", texts=_labels(_NAMES), **_IMAGES),
    Archive("enveloped", "explained", "scripted.py", network="scripted_linear"),
)
