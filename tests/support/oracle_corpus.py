"""The archives of the oracle tests: what goes into each, and which server serves it.

`support.oracle_record` has the real torch-model-archiver pack them into tests/oracle/archives, one folder
for each model store, and they are committed as it made them.
"""

from __future__ import annotations

import dataclasses
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
}

_FRONT_END = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 1, "maxBatchDelay": 50, "responseTimeout": 60}

CORPUS: tuple[Archive, ...] = (
    Archive("plain", "probe", "probe.py", texts={"notes.txt": "a note\n"}),
    Archive("plain", "module", "module_level.py"),
    Archive("plain", "function", "entry.py:score_rows"),
    Archive("plain", "classic", "classic.py", format="tgz"),
    Archive("plain", "answers", "answers.py", format="no-archive"),
    Archive("plain", "statuses", "statuses.py", config=_FRONT_END),
    Archive("plain", "failing", "failing.py"),
    Archive("plain", "failing_module", "failing.py:handle_rows", format="zip-store"),
)
