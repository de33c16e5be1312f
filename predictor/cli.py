"""The command line: `predictor serve`, and the commands around archives."""

from __future__ import annotations

import argparse
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from predictor import __version__
from predictor.settings import ENV_PREFIX, Settings, SettingsError, load_settings

_SERVE_EPILOG = f"""\
Every setting is also read from the environment as {ENV_PREFIX}NAME ({ENV_PREFIX}MAX_BATCH_DELAY) and
from the YAML file given with --config (max_batch_delay: 5). The command line wins over the
environment, the environment over the file. A flag that is not known is reported and ignored, because
Kubernetes appends flags of its own.

  predictor serve                                   the models in ./model_store
  predictor serve --model-store my_model.mar        one archive
  predictor serve --host 0.0.0.0 --workers 2 --batch-size 16
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    arguments, unknown = _parser().parse_known_args(argv)
    if arguments.command is None:
        _parser().print_help()
        return 2
    return typing.cast(int, arguments.run(arguments, unknown))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="predictor",
        description="Serve PyTorch models with TorchServe's and KServe's protocols on one port.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"predictor {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="serve models",
        description="Serve the models of a folder, an archive, or one model folder.",
        epilog=_SERVE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_settings(serve)
    serve.set_defaults(run=_serve)
    return parser


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Give `parser` one flag for each setting, under the headings that the settings name."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, field in Settings.model_fields.items():
        extra = typing.cast(dict[str, Any], field.json_schema_extra)
        heading = str(extra["group"])
        group = groups.get(heading) or groups.setdefault(heading, parser.add_argument_group(heading))
        flags = list(dict.fromkeys([f"--{name.replace('_', '-')}", f"--{name}"]))
        options: dict[str, Any] = {
            "dest": name,
            "default": None,
            "help": _help(field.description, field.default),
        }
        if field.annotation is bool:
            group.add_argument(*flags, action=argparse.BooleanOptionalAction, **options)
        elif typing.get_origin(field.annotation) is typing.Literal:
            group.add_argument(*flags, choices=typing.get_args(field.annotation), **options)
        else:
            group.add_argument(*flags, metavar=_metavar(field.annotation), **options)


def _help(description: str | None, default: Any) -> str:
    shown = {True: "yes", False: "no"}.get(default, default) if isinstance(default, bool) else default
    return f"{description} [{shown}]".replace("%", "%%") if shown != "" else f"{description}"


def _metavar(annotation: Any) -> str:
    return {int: "N", float: "N", Path: "PATH"}.get(annotation, "TEXT")


def _serve(arguments: argparse.Namespace, unknown: list[str]) -> int:
    flags = {name: getattr(arguments, name) for name in Settings.model_fields}
    try:
        settings = load_settings(
            {name: value for name, value in flags.items() if value is not None}, arguments.config
        )
    except SettingsError as error:
        print(f"predictor serve: {error}", file=sys.stderr)
        return 2
    # kserve parses the command line of the process when it is imported; it must not see ours.
    sys.argv = sys.argv[:1]
    from predictor.server import serve

    return serve(settings, unknown)
