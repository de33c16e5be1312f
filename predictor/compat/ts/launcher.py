"""Starting and stopping a server from a test script, through the `torchserve` command."""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Iterable, Mapping
from typing import IO, Any, cast
from urllib.parse import urlencode
from urllib.request import Request, urlopen

MANAGEMENT_ADDRESS = "http://localhost:8081"
STARTED = "Model server started"
MAX_LINES = 1000


def stop(wait: bool = True) -> None:
    """Stop the running server; with `wait` return when it is gone."""
    subprocess.run(["torchserve", "--stop", *(["--foreground"] if wait else [])], check=False)  # noqa: S607


def start(
    model_store: str | None = None,
    snapshot_file: str | None = None,
    no_config_snapshots: bool = False,
    plugin_folder: str | None = None,
    disable_token: bool = False,
    models: str | None = None,
    enable_model_api: bool = False,
) -> queue.Queue[str | None]:
    """Stop a running server, start one, and return when it has started or ended.

    The queue gets the lines the server prints from then on (the newest are dropped while it is full) and
    None at the end; they are printed as well.
    """
    stop()
    options = {
        "--model-store": model_store,
        "--plugins-path": plugin_folder,
        "--ts-config": snapshot_file,
        "--models": models,
    }
    flags = {
        "--no-config-snapshots": no_config_snapshots,
        "--disable-token-auth": disable_token,
        "--enable-model-api": enable_model_api,
    }
    command = ["torchserve", "--start"]
    command += [part for name, value in options.items() if value for part in (name, str(value))]
    command += [name for name, wanted in flags.items() if wanted]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    output = cast(IO[str], process.stdout)  # PIPE was asked for
    for line in output:
        print(line.strip())  # noqa: T201
        if STARTED in line:
            break
    lines: queue.Queue[str | None] = queue.Queue(maxsize=MAX_LINES)
    threading.Thread(target=_pump, args=(output, lines), daemon=True).start()
    return lines


def _pump(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stream:
        print(line.strip())  # noqa: T201
        if not lines.full():
            lines.put_nowait(line)
    if lines.full():
        lines.get_nowait()
    lines.put_nowait(None)


def register_model_with_params(params: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Any:
    """POST /models with these query parameters; returns a `requests.Response` where requests is installed.

    Without requests it returns urllib's response and raises urllib's HTTPError for a status above 399.
    """
    pairs = list(params.items()) if isinstance(params, Mapping) else list(params)
    url = f"{MANAGEMENT_ADDRESS}/models"
    try:
        import requests  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        return urlopen(Request(f"{url}?{urlencode(pairs)}", method="POST"))  # noqa: S310 - a constant http address
    return requests.post(url, params=pairs, timeout=600)


def register_model(model_name: str, url: str) -> Any:
    """Register an archive of the model store with one worker and wait until it is loaded."""
    parameters = {"model_name": model_name, "url": url, "initial_workers": "1", "synchronous": "true"}
    return register_model_with_params(parameters)
