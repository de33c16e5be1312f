"""Write docs/torchserve-config.md from the table of TorchServe's keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from predictor.torchserve.keys import GROUPS, MODEL_KEYS, Key, Status

PAGE = Path(__file__).resolve().parent.parent / "docs" / "torchserve-config.md"

_OTHER_VARIABLES = (
    ("TS_CONFIG_FILE", "The properties file; wins over `--ts-config`."),
    ("TS_OPEN_INFERENCE_PROTOCOL", "No effect: V2 needs no switch here."),
    ("TEMP", "Where archives are unpacked, unless TMPDIR says otherwise."),
    (
        "LOG_LOCATION",
        "Snapshots lie in its folder `config`. The log goes to standard error, which systemd collects.",
    ),
    ("METRICS_LOCATION", "No effect: metrics are scraped from `/metrics`, not written to files."),
    ("JAVA_HOME", "No effect: there is no Java here."),
    ("TS_MODEL_SERVER_HOME", "No effect: it is where TorchServe is installed."),
)

_COMMAND = """\
## The `torchserve` command

All of TorchServe's flags are accepted. What differs:

* `--stop` always waits until the server is gone, for up to 60 s, so that a start may follow at once.
  TorchServe waits only with `--foreground`.
* `Model server started.` is written when every model has loaded or failed, not when the port opens.
* The process id lies in `.predictor-torchserve-UID.pid` in the temporary folder, locked while the server
  lives; a file left behind by a crash is not mistaken for a server, and a TorchServe may run beside it.
* Snapshots of the configuration are written to `logs/config` (or below LOG_LOCATION), the last one is
  started with when no file is given, and `--ncs` turns both off, all as in TorchServe. Only the last 50 are
  kept.
* The daemon writes no log files. Its output goes where TorchServe's goes too, to the terminal it was
  started from; redirect it to keep it. It has its own session and outlives that terminal.
* `--log-config`, `--cpp-log-config`, `--plugins-path` and `--workflow-store` are reported and have no
  effect.
* The management API and the metrics have TorchServe's ports, 8081 and 8082 on 127.0.0.1, unless the file
  says otherwise; KServe's gRPC then is on 9000. In KServe's layout the two ports change places.
* Flags that TorchServe does not have are handed to `predictor serve` (`--port 8099`), which reports those
  that it does not know either.
* `--version` says 0.12.0, the TorchServe whose contract is kept, and this project's version.
"""

_INTRODUCTION = """\
# TorchServe's `config.properties` here

Give the file to `torchserve --start --ts-config FILE` or `predictor serve --config FILE`, as it is. What
the command line says wins over the file. At start the log has one line for each key that is not simply
applied.

The file is read as Java reads it, with one difference: it may be UTF-8. `$$NAME$$` in a value stands for
the environment variable NAME; one that is not set stops the start, with file and line. With
`enable_envvars_config=true` the variables of the table's last column override the file; TS_ALLOWED_URLS
does so only with `use_env_allowed_urls=true` as well. A number that is none stops the start, with file
and line; so does broken JSON. A true/false that is neither counts as false, as in TorchServe, and is
reported.

A folder in KServe's layout (`config/config.properties` beside `model-store/`) is found by itself when
it is given as `model_store`. Such files often name port 8085, where TorchServe stood behind KServe's
Python server; the runtime manifests of this project set the port by flag, which wins.

| what it does here | meaning |
|---|---|
| mapped | sets the setting named beside it (`docs/settings.md`) |
| read | decides what the remark says |
| planned | is checked and reported, has no effect yet; the setting it will have is named |
| no effect | for the reason given |
"""


def render() -> str:
    """Return the page."""
    lines = [_INTRODUCTION]
    for heading, keys in GROUPS.items():
        lines += [
            f"## {heading}",
            "",
            "| key | kind | TorchServe's default | here | variable |",
            "|---|---|---|---|---|",
        ]
        lines += [_row(key) for key in keys]
        lines.append("")
    lines += ["## Other environment variables", "", "| variable | here |", "|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in _OTHER_VARIABLES]
    lines += ["", "## Models in `models` and `model_snapshot`", "", *_model_lines()]
    lines += ["", _COMMAND]
    return "\n".join(lines)


def _row(key: Key) -> str:
    cells = (f"`{key.name}`", key.kind.value, key.default, _effect(key), key.variable or "-")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _effect(key: Key) -> str:
    if key.status is Status.NO_EFFECT:
        return f"no effect, because {key.remark}"
    names = ", ".join(f"`{name}`" for name in key.settings)
    head = f"{key.status.value}: {names}." if names else f"{key.status.value}:"
    return f"{head} {key.remark}".rstrip()


def _model_lines() -> Iterator[str]:
    yield "Both are JSON: model name, version, then any of the following. `model_snapshot` puts the whole"
    yield 'under `"models"`, beside `"name"` and `"modelCount"`. A value that is no positive whole number'
    yield "is reported and left out."
    yield ""
    yield "| key | meaning |"
    yield "|---|---|"
    for name, text in MODEL_KEYS.items():
        yield f"| `{name}` | {text} |"


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
