"""The command `torch-model-archiver`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from predictor.archives.errors import ArchiveError
from predictor.archives.writer import FORMATS, RUNTIMES, ArchiverOptions, package_model


def build_parser(prog: str = "torch-model-archiver") -> argparse.ArgumentParser:
    """Return the parser; its options are the fields of `ArchiverOptions`."""
    parser = argparse.ArgumentParser(prog=prog, description="Pack a model into an archive.")
    parser.add_argument("--model-name", required=True, help="name of the model and of the archive")
    parser.add_argument(
        "--handler", required=True, help="a built-in handler's name, or a Python file, or file:function"
    )
    parser.add_argument("-v", "--version", required=True, help="the model's version")
    parser.add_argument(
        "--serialized-file", help="weights (.pt, .pth) or a whole model (.pt, .pt2, .onnx, .so)"
    )
    parser.add_argument(
        "--model-file", help="Python file with the model's class, exactly one, for a state dict"
    )
    parser.add_argument("--extra-files", help="comma-separated files, folders and patterns")
    parser.add_argument("--runtime", choices=RUNTIMES, default="python", help="default: %(default)s")
    parser.add_argument("--export-path", type=Path, help="folder for the archive (default: the current one)")
    parser.add_argument(
        "--archive-format",
        choices=tuple(FORMATS),
        default="default",
        help="default: a zip, <name>.mar; zip-store: the same without compression; tgz: <name>.tar.gz; "
        "no-archive: a folder <name>",
    )
    parser.add_argument("-f", "--force", action="store_true", help="overwrite an existing archive")
    parser.add_argument("-r", "--requirements-file", help="requirements.txt of the model")
    parser.add_argument("-c", "--config-file", help="model-config.yaml of the model")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = "torch-model-archiver") -> int:
    """Pack a model as the arguments say; returns 0, or 1 after writing why not to standard error.

    `prog` is what its usage calls the command.
    """
    logging.basicConfig(format="%(levelname)s - %(message)s")
    values = vars(build_parser(prog).parse_args(argv))
    values["export_path"] = values["export_path"] or Path.cwd()
    try:
        package_model(ArchiverOptions(**values))
    except ArchiveError as error:
        sys.stderr.write(f"ERROR - {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
