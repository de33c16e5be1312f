"""Write docs/settings.md, and the chart's schema of `settings`, from the settings themselves."""

from __future__ import annotations

import json
import typing
from pathlib import Path

from pydantic.fields import FieldInfo

from predictor.settings import ENV_PREFIX, Settings

_ROOT = Path(__file__).resolve().parent.parent
PAGE = _ROOT / "docs" / "settings.md"
CHART_SCHEMA = _ROOT / "charts" / "predictor" / "values.schema.json"
# Those that the chart sets itself, by values of their own: two places for one thing would contradict.
OF_THE_CHART = (
    "host",
    "port",
    "grpc_port",
    "unix_socket",
    "model_name",
    "drain_delay",
    "grace_period",
    "token_file",
    "started_line",
)
_INTRODUCTION = f"""\
# Settings

Written by `python scripts/render_settings.py` from `predictor/settings.py`; change it there.

Each setting can be given on the command line of `predictor serve`, in the environment, or in the file
named with `--config`: YAML by the names below, or TorchServe's `config.properties`
([torchserve-config.md](torchserve-config.md)). The command line wins over the environment, the
environment over the file, the file over the default.

| | a number | a switch |
|---|---|---|
| command line | `--max-batch-delay 5` | `--access-log`, `--no-access-log` |
| environment | `{ENV_PREFIX}MAX_BATCH_DELAY=5` | `{ENV_PREFIX}ACCESS_LOG=false` |
| YAML file | `max_batch_delay: 5` | `access_log: false` |

A flag that is not known is reported and ignored; a wrong value stops the start with exit status 2 and
names the setting. What a model's own `model-config.yaml` says about workers, batches and timeouts wins
over these settings, for that model.
"""


def render() -> str:
    """Return the page: one table for each heading of the settings."""
    headings: dict[str, list[str]] = {}
    for name, field in Settings.model_fields.items():
        extra = typing.cast("dict[str, typing.Any]", field.json_schema_extra)
        headings.setdefault(str(extra["group"]), []).append(_row(name, field))
    tables = [
        "\n".join([f"\n## {heading}\n", "| setting | values | default | |", "|---|---|---|---|", *rows])
        for heading, rows in headings.items()
    ]
    return _INTRODUCTION + "\n".join(tables) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    default = {True: "yes", False: "no"}[field.default] if isinstance(field.default, bool) else field.default
    shown = f"`{default}`" if default not in ("", None) else ""
    return f"| `{name}` | {_values(field)} | {shown} | {field.description} |"


def _values(field: FieldInfo) -> str:
    """Say what a setting may be: its choices, or its kind with its limits."""
    if typing.get_origin(field.annotation) is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(field.annotation))
    kinds: dict[object, str] = {
        int: "integer",
        float: "number",
        bool: "yes or no",
        str: "text",
        Path: "path",
        Path | None: "path",
    }
    limits = [
        f"{words} {value:g}"
        for limit in field.metadata
        for key, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most"))
        if (value := getattr(limit, key, None)) is not None
    ]
    options = [kind for kind in typing.get_args(field.annotation) if kind is not type(None)]
    kind = options[0] if options else field.annotation
    return ", ".join([kinds[kind], *limits])


def render_chart_schema() -> str:
    """Return the chart's values.schema.json with what `settings` may hold brought up to date."""
    schema = json.loads(CHART_SCHEMA.read_text(encoding="utf-8"))
    properties = {
        name: {"description": field.description, **_schema(field)}
        for name, field in Settings.model_fields.items()
        if name not in OF_THE_CHART
    }
    schema["definitions"]["settings"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    return json.dumps(schema, indent=2) + "\n"


def _schema(field: FieldInfo) -> dict[str, typing.Any]:
    """Return a JSON schema of a setting's value as YAML holds it."""
    if typing.get_origin(field.annotation) is typing.Literal:
        return {"enum": list(typing.get_args(field.annotation))}
    kinds: dict[object, str] = {int: "integer", float: "number", bool: "boolean"}
    options = [kind for kind in typing.get_args(field.annotation) if kind is not type(None)]
    kind = options[0] if options else field.annotation
    limits = {
        key: value
        for limit in field.metadata
        for name, key in (("ge", "minimum"), ("gt", "exclusiveMinimum"), ("le", "maximum"))
        if (value := getattr(limit, name, None)) is not None
    }
    return {"type": kinds.get(kind, "string"), **limits}


def main() -> None:
    """Write both files."""
    PAGE.write_text(render(), encoding="utf-8")
    CHART_SCHEMA.write_text(render_chart_schema(), encoding="utf-8")


if __name__ == "__main__":
    main()
