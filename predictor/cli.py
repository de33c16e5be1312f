"""The command line: `predictor serve`, and the commands around archives."""

from __future__ import annotations

import argparse
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from predictor import __version__
from predictor.configuration import resolve
from predictor.settings import ENV_PREFIX, Settings, SettingsError

_SERVE_EPILOG = f"""\
Every setting is also read from the environment as {ENV_PREFIX}NAME ({ENV_PREFIX}MAX_BATCH_DELAY) and
from the file given with --config: YAML (max_batch_delay: 5) or TorchServe's config.properties, which is
found by itself in KServe's layout (config/config.properties beside model-store/). The command line
wins over the environment, the environment over the file. A flag that is not known is reported and
ignored, because Kubernetes appends flags of its own.

  predictor serve                                   the models in ./model_store
  predictor serve --model-store my_model.mar        one archive
  predictor serve --host 0.0.0.0 --workers 2 --batch-size 16
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["archive"]:
        from predictor.archives.archiver_cli import main as archive

        return archive(words[1:], prog="predictor archive")
    if words[:1] == ["top"]:
        from predictor.top.command import main as top

        return top(words[1:])
    if words[:1] in (["deploy"], ["status"], ["delete"]):
        from predictor.deploy.command import main as deploy

        return deploy(words)
    arguments, unknown = _parser().parse_known_args(words)
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
        usage="predictor serve [--model-store PATH] [--port N] [OPTION ...]",
        description="Serve the models of a folder, an archive, or one model folder.",
        epilog=_SERVE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_settings(serve)
    serve.set_defaults(run=_serve)
    _add_check(commands)
    # The archiver parses its own flags, which are torch-model-archiver's.
    commands.add_parser("archive", help="write a .mar file, as torch-model-archiver does", add_help=False)
    # These too parse their own flags, so that nothing of Kubernetes is loaded to serve.
    commands.add_parser("top", help="watch a running server in the terminal", add_help=False)
    commands.add_parser("deploy", help="serve a model in a Kubernetes cluster", add_help=False)
    commands.add_parser("status", help="show what is deployed there", add_help=False)
    commands.add_parser("delete", help="delete a service from there", add_help=False)
    return parser


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = commands.add_parser(
        "check",
        help="try an archive out and explain what is wrong with it",
        description="Open an archive or a model folder, load it in a worker, and send it one request.",
        allow_abbrev=False,
    )
    check.add_argument("path", type=Path, help=".mar file or model folder")
    check.add_argument(
        "--input", type=Path, metavar="FILE", help="what to send; the model's example by default"
    )
    check.add_argument("--content-type", default="", metavar="TYPE", help="of the input; guessed by default")
    check.add_argument(
        "--log-level",
        default="",
        choices=["debug", "info", "warning", "error"],
        help="show the worker's log with whole stack traces; by default the end of each",
    )
    check.set_defaults(run=_check)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Give `parser` one flag for each setting, under the headings that the settings name."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings as YAML, or TorchServe's config.properties"
    )
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, field in Settings.model_fields.items():
        extra = typing.cast(dict[str, Any], field.json_schema_extra)
        heading = str(extra["group"])
        group = groups.get(heading) or groups.setdefault(heading, parser.add_argument_group(heading))
        options: dict[str, Any] = {"dest": name, "default": None}
        if field.annotation is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif typing.get_origin(field.annotation) is typing.Literal:
            options["choices"] = typing.get_args(field.annotation)
        else:
            options["metavar"] = _metavar(field.annotation)
        group.add_argument(
            f"--{name.replace('_', '-')}", help=_help(field.description, field.default), **options
        )
        if "_" in name:
            # KServe spells its flags with underscores, and appends some of them.
            group.add_argument(f"--{name}", help=argparse.SUPPRESS, **options)


def _help(description: str | None, default: Any) -> str:
    shown = {True: "yes", False: "no"}.get(default, default) if isinstance(default, bool) else default
    return f"{description} [{shown}]".replace("%", "%%") if shown != "" else f"{description}"


def _metavar(annotation: Any) -> str:
    return {int: "N", float: "N", Path: "PATH"}.get(annotation, "TEXT")


def _serve(arguments: argparse.Namespace, unknown: list[str]) -> int:
    flags = {name: getattr(arguments, name) for name in Settings.model_fields}
    try:
        configuration = resolve(
            {name: flag for name, flag in flags.items() if flag is not None}, arguments.config
        )
    except SettingsError as error:
        print(f"predictor serve: {error}", file=sys.stderr)
        return 2
    # kserve parses the command line of the process when it is imported; it must not see ours.
    sys.argv = sys.argv[:1]
    from predictor.server import serve

    return serve(configuration, unknown)


def _check(arguments: argparse.Namespace, unknown: list[str]) -> int:
    if unknown:
        print(f"predictor check: unknown arguments: {' '.join(unknown)}", file=sys.stderr)
        return 2
    from predictor.check import check

    return check(arguments.path, arguments.input, arguments.content_type, log_level=arguments.log_level)
