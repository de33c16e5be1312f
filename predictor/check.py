"""`predictor check PATH`: try an archive out as the server would, and say in plain words what is wrong."""

from __future__ import annotations

import asyncio
import io
import logging
import mimetypes
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from predictor.archives.archive import ModelArchive, open_archive
from predictor.archives.errors import ArchiveError
from predictor.configuration import Configuration
from predictor.errors import PredictorError
from predictor.ipc.messages import Envelope, InferenceRequest, TensorSpec, Verb
from predictor.serving.model import ServedModel
from predictor.serving.store import ModelStore
from predictor.settings import Settings
from predictor.telemetry.logging import configure_logging
from predictor.torchserve.models import LoadModels

_SHOWN_BYTES = 400
# TorchServe's handlers for pictures, which declare nothing.
_TAKE_PICTURES = {"image_classifier", "image_segmenter", "object_detector"}
# Parts of a worker's complaint, and what usually helps.
_ADVICE = {
    "No module named": (
        "Install the package beside the server, or list it in requirements.txt and serve with "
        "--install-py-dep-per-model."
    ),
    "weights_only": (
        "The weights file holds more than tensors. Save a state dict, or, if you trust the file, put "
        "`handler: {weights_only: false}` into model-config.yaml."
    ),
    "exactly one class": "Keep one handler class in the handler file and move helpers to another module.",
    "must define exactly one": "Keep one nn.Module class in the model file; move others to another module.",
    "is not in the archive": "Pack the file: torch-model-archiver --serialized-file / --extra-files.",
    "took too long": "Raise startupTimeout (loading) or responseTimeout (answering) in model-config.yaml.",
}


def check(
    path: Path,
    example: Path | None,
    content_type: str,
    say: Callable[[str], None] | None = None,
    log_level: str = "",
) -> int:
    """Check one archive or model folder; returns 0 if nothing speaks against serving it, 1 if something does.

    Args:
        path: the archive.
        example: a file to send; None uses the first one in the model's `examples` folder, or makes one
            where the model says what it takes.
        content_type: of the example, "" to guess it from the file's name.
        say: called with each line of the report; prints by default.
        log_level: of the worker's log; "" for its errors, with the end of each stack trace.
    """
    say = say or _print
    configure_logging("text" if log_level else "brief", log_level or "error")
    # What this process has to tell stands in the report.
    logging.getLogger().setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="predictor-check-") as scratch:
        try:
            archive = open_archive(path, Path(scratch))
        except ArchiveError as error:
            say(f"✗ {error}")
            return 1
        say(
            f"✓ opened {archive.name} {archive.version} (handler: {archive.manifest.handler or 'none named'})"
        )
        for problem in archive.problems():
            say(f"! {problem}")
        return asyncio.run(_try(archive, Path(scratch), example, content_type, say))


async def _try(
    archive: ModelArchive, scratch: Path, example: Path | None, content_type: str, say: Callable[[str], None]
) -> int:
    """Load the archive in a worker and send it a request."""
    # The environment holds the workers' format, which is no setting's.
    settings = Settings(model_store=archive.source, workers=1, log_format="text")
    try:
        model = ModelStore(Configuration(settings, LoadModels(True)), scratch).make(archive)
    except ValueError as error:
        say(f"✗ model-config.yaml: {error}")
        return 1
    await model.start()
    try:
        await model.settled()
        if not model.ready:
            say(f"✗ {model.failure}")
            _advise(model.failure, say)
            return 1
        say(f"✓ loaded on {model.device}")
        return await _ask(model, example, content_type, say)
    finally:
        model.kill()
        await model.stop()


async def _ask(
    model: ServedModel, example: Path | None, content_type: str, say: Callable[[str], None]
) -> int:
    example = example or _shipped_example(model.archive)
    if example is not None:
        body = example.read_bytes()
        content_type = content_type or mimetypes.guess_type(example.name)[0] or ""
        say(f"  sending {example} ({len(body)} bytes{', ' + content_type if content_type else ''})")
    else:
        made_up = _made_up(model)
        if made_up is None:
            say("  not tried: no example in its folder examples/; give one with --input FILE")
            return 0
        body, content_type, what = made_up
        say(f"  no example in its folder examples/, so it is sent {what}")
    request = InferenceRequest("check", Verb.PREDICT, Envelope.TORCHSERVE, [], content_type, "", body=body)
    try:
        result = await model.infer(request)
    except PredictorError as error:
        say(f"✗ {error.message}")
        _advise(error.message, say)
        if example is None:
            say("  It may need another kind of request: pass one with --input FILE.")
        return 1
    say(f"✓ answered {result.status}, {len(result.body)} bytes: {_shown(result.body)}")
    return 0 if result.status < 400 else 1


def _shipped_example(archive: ModelArchive) -> Path | None:
    folder = archive.directory / "examples"
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    return files[0] if files else None


def _made_up(model: ServedModel) -> tuple[bytes, str, str] | None:
    """Return body, type and description of what a model takes; None where nothing says what that is."""
    inputs = model.info.inputs
    if inputs and all(spec.kind == "tensor" for spec in inputs):
        import orjson

        return orjson.dumps({spec.name: _zeros(spec) for spec in inputs}), "application/json", "zeros"
    if inputs and inputs[0].kind == "text":
        return b"This is a sentence.", "text/plain", "a sentence"
    if not inputs and model.archive.manifest.handler not in _TAKE_PICTURES:
        return None
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (224, 224), (128, 128, 128)).save(buffer, "PNG")
    return buffer.getvalue(), "image/png", "a grey picture of 224 by 224"


def _zeros(spec: TensorSpec) -> object:
    value: object = 0
    for size in reversed(spec.shape):
        value = [value] * max(1, size)
    return value


def _advise(text: str, say: Callable[[str], None]) -> None:
    for part, advice in _ADVICE.items():
        if part in text:
            say(f"  {advice}")


def _shown(body: bytes) -> str:
    text = body[:_SHOWN_BYTES].decode("utf-8", "replace")
    shown = " ".join(text.split())
    return shown + (" ..." if len(body) > _SHOWN_BYTES else "")


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
