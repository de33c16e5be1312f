"""The command: looks at the server again and again, and draws, or prints for scripts."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.live import Live

from predictor.top.client import Client, ServerGone
from predictor.top.rates import ModelRates, compare
from predictor.top.screen import draw
from predictor.top.snapshot import NotOurs, Snapshot, read_index, read_metrics
from predictor.trust.errors import TrustError
from predictor.trust.role import Role
from predictor.trust.token_file import first_token, is_token

TOKEN_VARIABLE = "PREDICTOR_TOKEN"  # noqa: S105 - a name, not one
_WIDTH_WITHOUT_TERMINAL = 200

_EPILOG = """\
Rates and latencies are those of the last interval; with --once of one interval, or with --interval 0 of
the time since the server's start. WORKERS tells processes, then b(usy), s(tarting), d(raining) and how
often one was started again, r. The token is also read from the environment: PREDICTOR_TOKEN.
"""


class Watch:
    """Successive looks at one server.

    Attributes:
        now: the last one that succeeded, None before.
        rows: what happened between it and the one before.
        problem: why the last look failed, "" if it did not.
    """

    def __init__(self, client: Client) -> None:
        """Watch the server that `client` asks."""
        self._client = client
        self.now: Snapshot | None = None
        self.rows: list[ModelRates] = []
        self.problem = ""

    def look(self) -> bool:
        """Ask the server; returns whether it answered."""
        try:
            text = self._client.metrics()
            now = read_index(self._client.index()) if text is None else read_metrics(text)
        except (ServerGone, NotOurs) as error:
            self.problem = str(error)
            return False
        self.rows = compare(self.now, now)
        self.now, self.problem = now, ""
        return True

    def as_json(self) -> dict[str, Any]:
        """Return the last look for scripts."""
        now = self.now
        if now is None or self.problem:
            return {"error": self.problem, "models": []}
        gpus = [
            {
                "gpu": number,
                "name": gpu.name,
                "utilization": gpu.utilization,
                "memory_used_bytes": int(gpu.used),
                "memory_total_bytes": int(gpu.total),
            }
            for number, gpu in sorted(now.gpus.items())
        ]
        return {
            "version": now.version,
            "ready": now.ready,
            "cpu_percent": now.cpu,
            "memory_percent": now.memory,
            "models": [row.as_json() for row in self.rows],
            "gpus": gpus,
        }


def main(argv: Sequence[str], sleep: Callable[[float], None] = time.sleep) -> int:
    """Run the command with the words that follow `top`; returns its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        token = _token(arguments)
    except TrustError as error:
        print(f"predictor top: {error}", file=sys.stderr)
        return 2
    watch = Watch(Client(arguments.url, token, arguments.ca_file))
    try:
        if arguments.once or not (arguments.json or sys.stdout.isatty()):
            return _once(watch, arguments, sleep)
        if arguments.json:
            return _stream(watch, arguments, sleep)
        return _live(watch, arguments, sleep)
    except (KeyboardInterrupt, BrokenPipeError):
        # Ctrl-C is how one leaves; a closed pipe is how `| head` does.
        _forget_output()
        return 0


def _once(watch: Watch, arguments: argparse.Namespace, sleep: Callable[[float], None]) -> int:
    """Print one look, with the rates of one interval."""
    answered = watch.look()
    if answered and arguments.interval:
        sleep(arguments.interval)
        answered = watch.look()
    if arguments.json:
        print(json.dumps(watch.as_json(), indent=2))
    elif answered:
        # What is read by a program, or through a pipe, is not cut to the width of a terminal.
        console = Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)
        console.print(draw(watch.now, watch.rows, arguments.url, width=console.width))
    if not answered:
        print(f"predictor top: {watch.problem}", file=sys.stderr)
    return 0 if answered else 1


def _stream(watch: Watch, arguments: argparse.Namespace, sleep: Callable[[float], None]) -> int:
    """Print a line of JSON at every look, until somebody has enough."""
    while True:
        watch.look()
        print(json.dumps(watch.as_json()), flush=True)
        sleep(arguments.interval or 1.0)


def _live(watch: Watch, arguments: argparse.Namespace, sleep: Callable[[float], None]) -> int:
    """Draw on the whole terminal, until Ctrl-C."""
    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            watch.look()
            picture = draw(
                watch.now,
                watch.rows,
                arguments.url,
                watch.problem,
                width=console.width,
                height=console.height,
            )
            live.update(picture, refresh=True)
            sleep(arguments.interval or 1.0)


def _token(arguments: argparse.Namespace) -> str:
    """Return the token that was given; of a file the first that a client may look with.

    Raises:
        TrustError: there is none in the file, or it is not one; the text never shows it.
    """
    if arguments.token_file is not None:
        return first_token(arguments.token_file, Role.INFERENCE)
    source = "--token" if arguments.token else TOKEN_VARIABLE
    token: str = (arguments.token or os.environ.get(TOKEN_VARIABLE, "")).strip()
    if token and not is_token(token):
        raise TrustError(f"{source} is not a token (letters, digits and -._~+/ with = at its end)")
    return token


def _forget_output() -> None:
    """Keep the interpreter from complaining about a closed pipe when it flushes at its end."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="predictor top",
        description="Watch a running server: models, workers, queues, rates, latencies, GPUs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--url", type=_url, default="http://127.0.0.1:8080", help="the server [%(default)s]")
    parser.add_argument(
        "--interval", type=_interval, default=2.0, metavar="S", help="seconds between looks [2]"
    )
    parser.add_argument("--once", action="store_true", help="print once and exit; 1 if the server is gone")
    parser.add_argument(
        "--json", action="store_true", help="print JSON, a line for each look; one with --once"
    )
    parser.add_argument("--token", default="", help="sent as a bearer token; others can see it in `ps`")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file that holds the token, or the server's own"
    )
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="authorities to trust, PEM")
    return parser


def _url(text: str) -> str:
    text = text if "://" in text else f"http://{text}"
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is no address of a server: http://host:port")
    return text.rstrip("/")


def _interval(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError("seconds, 0 to 3600")
    return value
