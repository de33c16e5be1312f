"""What the log says once the models are loaded: what is served, where, on which device, how to try it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from predictor.serving.model import ModelState, ServedModel
from predictor.serving.registry import Registry

_MAX_EXAMPLES = 3


def describe_start(
    registry: Registry,
    host: str,
    port: int,
    grpc_port: int = 0,
    others: Mapping[str, tuple[str, int]] | None = None,
) -> Iterator[str]:
    """Yield the lines of the start-up summary.

    Args:
        registry: the models.
        host: address of the main port.
        port: that port.
        grpc_port: 0 where gRPC is off.
        others: further HTTP listeners by name, each with its host and port.
    """
    url = f"http://{_reachable(host)}:{port}"
    models = registry.models()
    width = max((len(model.name) for model in models), default=0)
    yield f"serving {len(models)} model{'' if len(models) == 1 else 's'} on {url}"
    for model in models:
        yield f"  {model.name:<{width}}  {model.version}  {_state(model)}"
    yield f"  TorchServe {url}/predictions/MODEL"
    yield f"  KServe     {url}/v1/models/MODEL:predict, {url}/v2/models/MODEL/infer"
    if grpc_port:
        yield f"  gRPC       {_reachable(host)}:{grpc_port} (KServe V2)"
    yield f"  named      {url}/predict/MODEL"
    yield f"  web page   {url}/ui"
    for name, (where, number) in (others or {}).items():
        yield f"  {name:<10} http://{_reachable(where)}:{number}"
    examples = [line for model in models if model.ready for line in _example(model, url)][:_MAX_EXAMPLES]
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


def _example(model: ServedModel, url: str) -> Iterator[str]:
    """Yield a curl line for the first example that ships in the model's folder."""
    folder = model.archive.directory / "examples"
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    if not files:
        return
    file, name = _short(files[0]), quote(model.name, safe="")
    if files[0].suffix == ".json":
        yield f"curl -H 'Content-Type: application/json' -d {shlex.quote(f'@{file}')} {url}/predict/{name}"
    else:
        yield f"curl -T {shlex.quote(str(file))} {url}/predictions/{name}"


def _short(path: Path) -> Path:
    """Return `path` relative to the current directory where that works."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path.resolve()


def _reachable(host: str) -> str:
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - recognised, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
