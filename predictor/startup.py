"""What the log says once the models are loaded: what is served, where, on which device, how to try it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from predictor.serving.model import ModelState, ServedModel
from predictor.serving.registry import Registry

_MAX_EXAMPLES = 3
_UNIX = "unix:"


def describe_start(
    registry: Registry,
    url: str,
    grpc: Sequence[tuple[str, str]] = (),
    others: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Yield the lines of the start-up summary.

    Args:
        registry: the models.
        url: of the main port, as `Listener.url` has it.
        grpc: host and port of each gRPC port, and what it is for.
        others: the URLs of further HTTP listeners, by name.
    """
    curl = "curl"
    where = url
    if url.startswith(_UNIX):
        curl = f"curl --unix-socket {shlex.quote(url.removeprefix(_UNIX))}"
        url = "http://localhost"
    models = registry.models()
    width = max((len(model.name) for model in models), default=0)
    yield f"serving {len(models)} model{'' if len(models) == 1 else 's'} on {where}"
    for model in models:
        yield f"  {model.name:<{width}}  {model.version}  {_state(model)}"
    yield f"  TorchServe {url}/predictions/MODEL"
    yield f"  KServe     {url}/v1/models/MODEL:predict, {url}/v2/models/MODEL/infer"
    for address, purpose in grpc:
        yield f"  gRPC       {address} ({purpose})"
    yield f"  named      {url}/predict/MODEL"
    yield f"  web page   {url}/ui"
    for name, other in (others or {}).items():
        yield f"  {name:<10} {other}"
    examples = [line for model in models if model.ready for line in _example(model, curl, url)][
        :_MAX_EXAMPLES
    ]
    if examples:
        yield "try it:"
        yield from (f"  {line}" for line in examples)


def _state(model: ServedModel) -> str:
    if model.state is not ModelState.READY:
        return f"not ready: {model.failure or model.state.value.lower()}"
    policy = model.policy
    workers = sum(worker.alive for worker in model.workers)
    return (
        f"ready on {model.device}, {workers} worker{'s' if workers > 1 else ''}, "
        f"batches of up to {policy.batch_size}  {model.info.description}"
    ).rstrip()


def _example(model: ServedModel, curl: str, url: str) -> Iterator[str]:
    """Yield a curl line for the first example that ships in the model's folder."""
    folder = model.archive.directory / "examples"
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    if not files:
        return
    file, name = _short(files[0]), quote(model.name, safe="")
    if files[0].suffix == ".json":
        yield f"{curl} -H 'Content-Type: application/json' -d {shlex.quote(f'@{file}')} {url}/predict/{name}"
    else:
        yield f"{curl} -T {shlex.quote(str(file))} {url}/predictions/{name}"


def _short(path: Path) -> Path:
    """Return `path` relative to the current directory where that works."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path.resolve()
