"""Write docs/settings.md from the settings themselves; `--check` says whether it is up to date."""

from __future__ import annotations

import sys
import typing
from pathlib import Path

from pydantic.fields import FieldInfo

from predictor.settings import ENV_PREFIX, Settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
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


def main() -> int:
    """Write the page, or compare it; returns the exit status."""
    page = render()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") == page:
        return 0
    print(f"{PAGE.name} is not up to date: run python scripts/render_settings.py")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
