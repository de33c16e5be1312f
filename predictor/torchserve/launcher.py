"""The `torchserve` command: TorchServe's command line, starting and stopping this server.

Without `--foreground` it leaves a daemon and returns. The daemon keeps the terminal's standard output
and error, as TorchServe's does, because scripts wait there for `Model server started.`; it has a session
of its own, so that closing the terminal does not end it. It writes no logs to files: the file system is
often read-only, and who wants a file redirects the output.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from predictor import __version__
from predictor.addresses import SPARE_PORT
from predictor.settings import ENV_PREFIX, USUAL_PORT, SettingsError
from predictor.torchserve.config import TorchServeConfig, is_in_kserve_layout, load_torchserve_config
from predictor.torchserve.keys import KEYS
from predictor.torchserve.models import LoadModels, parse_load_models
from predictor.torchserve.pidfile import PidFile, default_path
from predictor.torchserve.properties import find_config_file
from predictor.torchserve.snapshots import last_snapshot, snapshot_folder

TORCHSERVE_VERSION = "0.12.0"
"""The TorchServe whose command line and file this is."""

STARTED_LINE = "Model server started."
"""What scripts wait for on standard output."""

SERVER_COMMAND: tuple[str, ...] = (sys.executable, "-m", "predictor")
"""What a daemon runs, before the arguments of `serve_arguments`."""

_STOP_SECONDS = 60.0
_TOKENS_VARIABLE = f"{ENV_PREFIX}TOKEN_AUTHORIZATION"
_EXIT_OK = 0
_EXIT_FAILURE = 1

_IDLE_FLAGS = {
    "log_config": "it configures Log4j, and there is no Java here; see log_format and log_level",
    "cpp_log_config": KEYS["cpp_log_config"].remark,
    "workflow_store": KEYS["workflow_store"].remark,
    "plugins_path": KEYS["plugins_path"].remark,
}
"""Flags that are accepted without an effect, and why."""

_ADDRESSES = {"management_address": "http://127.0.0.1:8081", "metrics_address": "http://127.0.0.1:8082"}
"""Where TorchServe listens besides its inference address, unless its file says otherwise."""


@dataclass(frozen=True)
class LaunchOptions:
    """What the command line says.

    `snapshots` is the folder for them, None for none; `extra` are flags that TorchServe does not have, for
    `predictor serve`.
    """

    foreground: bool = False
    model_store: Path | None = None
    models: LoadModels | None = None
    ts_config: Path | None = None
    disable_token_auth: bool = False
    enable_model_api: bool = False
    snapshots: Path | None = None
    extra: tuple[str, ...] = ()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `torchserve` command; returns its exit status."""
    arguments, unknown = _parser().parse_known_args(argv)
    if arguments.version:
        _say(f"TorchServe Version is {TORCHSERVE_VERSION}")
        _say(f"served by predictor {__version__}")
        return _EXIT_OK
    pid_file = PidFile(default_path())
    if arguments.stop:
        return _stop(pid_file)
    for name, reason in _IDLE_FLAGS.items():
        if getattr(arguments, name):
            _warn(f"--{name.replace('_', '-')} has no effect here, because {reason}")
    return _start(_options(arguments, unknown), pid_file)


def serve_arguments(options: LaunchOptions, config: TorchServeConfig) -> list[str]:
    """Return the arguments of `predictor` that do what TorchServe's would.

    TorchServe loads nothing unless told to, `predictor serve` everything, hence `--models=none`. It asks
    for tokens unless told not to, `predictor serve` only if told to.
    """
    arguments = ["serve", f"--started-line={STARTED_LINE}"]
    if config.path is not None:
        arguments.append(f"--config={config.path}")
    if options.model_store is not None:
        arguments.append(f"--model-store={options.model_store}")
    if options.models is not None and not config.snapshot:
        arguments.append(f"--models={options.models}")
    elif config.load_models is None:
        arguments.append("--models=none")
    if options.snapshots is not None:
        arguments.append(f"--snapshot-folder={options.snapshots}")
    arguments += [
        f"--{name.replace('_', '-')}={address}"
        for name, address in _addresses(config).items()
        if name not in config.settings and ENV_PREFIX + name.upper() not in os.environ
    ]
    if options.disable_token_auth:
        arguments.append("--no-token-authorization")
    elif "token_authorization" not in config.settings and _TOKENS_VARIABLE not in os.environ:
        arguments.append("--token-authorization")
    if options.enable_model_api:
        arguments.append("--enable-model-api")
    arguments += _grpc_ports(options, config)
    if not options.foreground:
        # The delay lets Kubernetes take a pod out of its Service, and a pod runs in the foreground.
        arguments.append("--drain-delay=0")
    return [*arguments, *options.extra]


def _addresses(config: TorchServeConfig) -> dict[str, str]:
    """Return where to listen besides the inference address, unless told otherwise."""
    if config.path is None or not is_in_kserve_layout(config.path):
        return _ADDRESSES
    # KServe looks for gRPC on 8081.
    return _ADDRESSES | {"management_address": f"http://127.0.0.1:{SPARE_PORT}"}


def _grpc_ports(options: LaunchOptions, config: TorchServeConfig) -> list[str]:
    """Return the arguments that open TorchServe's gRPC ports; with a file the server knows by itself."""
    if config.path is not None:
        return []
    names = ["inference", "management"] if options.enable_model_api else ["inference"]
    return [f"--grpc-{name}-port={USUAL_PORT}" for name in names]


def _parser() -> argparse.ArgumentParser:
    # No abbreviations: Kubernetes appends flags of its own, and they must not be taken for one of these.
    parser = argparse.ArgumentParser(
        prog="torchserve",
        description="Start and stop a model server, with TorchServe's command line.",
        epilog="Other flags are handed to `predictor serve`, see there.",
        allow_abbrev=False,
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("-v", "--version", action="store_true", help="print the version")
    action.add_argument("--start", action="store_true", help="start the server (also without this flag)")
    action.add_argument("--stop", action="store_true", help="stop the server, and wait until it has stopped")
    parser.add_argument("--foreground", action="store_true", help="stay, instead of leaving a daemon")
    parser.add_argument(
        "--model-store", type=Path, metavar="PATH", help="folder of archives and model folders"
    )
    parser.add_argument(
        "--models", nargs="+", metavar="MODEL", help="what to load: all, or archive.mar and name=archive.mar"
    )
    parser.add_argument("--ts-config", type=Path, metavar="FILE", help="config.properties")
    parser.add_argument(
        "--disable-token-auth", "--dt", action="store_true", help="answer without asking for tokens"
    )
    parser.add_argument(
        "--enable-model-api",
        "--model-api-enabled",
        action="store_true",
        help="let clients add and remove models",
    )
    parser.add_argument(
        "--no-config-snapshots",
        "--ncs",
        action="store_true",
        help="write no snapshots of the configuration, and start with none",
    )
    idle = parser.add_argument_group("accepted, without effect")
    idle.add_argument("--log-config", metavar="FILE")
    idle.add_argument("--cpp-log-config", metavar="FILE")
    idle.add_argument("--workflow-store", metavar="PATH")
    idle.add_argument("--plugins-path", "--ppath", metavar="PATH")
    return parser


def _options(arguments: argparse.Namespace, unknown: Sequence[str]) -> LaunchOptions:
    return LaunchOptions(
        foreground=arguments.foreground,
        model_store=arguments.model_store,
        models=parse_load_models(arguments.models) if arguments.models else None,
        ts_config=arguments.ts_config,
        disable_token_auth=arguments.disable_token_auth,
        enable_model_api=arguments.enable_model_api,
        snapshots=None if arguments.no_config_snapshots else snapshot_folder(os.environ, Path.cwd()),
        extra=tuple(unknown),
    )


def _start(options: LaunchOptions, pid_file: PidFile) -> int:
    try:
        snapshot = last_snapshot(options.snapshots) if options.snapshots is not None else None
        file = find_config_file(options.ts_config, os.environ, Path.cwd(), snapshot)
        config = load_torchserve_config(file, os.environ)
    except SettingsError as error:
        return _fail(str(error))
    store = options.model_store or config.settings.get("model_store")
    if store is None:
        return _fail("--model-store is missing, and so is model_store in config.properties")
    if not store.exists():
        return _fail(f"model store {store} does not exist")
    if options.models is not None and config.snapshot:
        _warn(f"--models does not count, because model_snapshot in {config.path} says what to load")
    return _run(options.foreground, serve_arguments(options, config), pid_file)


def _run(foreground: bool, arguments: list[str], pid_file: PidFile) -> int:
    try:
        acquired = pid_file.acquire()
    except OSError as error:
        if not foreground:
            return _fail(f"{pid_file.path}: {error.strerror or error}")
        # In a container the file system may be read-only, and nobody calls `--stop`.
        _warn(f"{pid_file.path}: {error.strerror or error}; torchserve --stop will not find this server")
        return _serve(arguments)
    if not acquired:
        process = pid_file.running_process()
        return _fail(f"TorchServe is already running (process {process or '?'}); torchserve --stop ends it")
    if not foreground:
        return _leave_daemon(arguments, pid_file)
    pid_file.write(os.getpid())
    try:
        return _serve(arguments)
    finally:
        pid_file.release(ended=True)


def _serve(arguments: list[str]) -> int:
    # Its imports (kserve, uvicorn) cost a second or more, which `--stop` and `--version` need not pay.
    from predictor import cli

    return cli.main(arguments)


def _leave_daemon(arguments: list[str], pid_file: PidFile) -> int:
    try:
        daemon = subprocess.Popen(
            [*SERVER_COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=(pid_file.descriptor,),
            start_new_session=True,
        )
    except OSError as error:
        pid_file.release(ended=True)
        return _fail(f"cannot start {SERVER_COMMAND[0]}: {error.strerror or error}")
    pid_file.write(daemon.pid)
    pid_file.release(ended=False)
    # It is meant to outlive this process, which must not be taken for a child forgotten.
    daemon.returncode = 0
    # Without the words that scripts wait for: it does not serve yet.
    with contextlib.suppress(OSError):
        text = f"TorchServe is starting (process {daemon.pid}): it serves once /ping answers"
        print(text, flush=True)  # noqa: T201 - unlike `_say` it bears a standard output that is closed
    return _EXIT_OK


def _stop(pid_file: PidFile) -> int:
    process = pid_file.running_process()
    if process is None:
        _say("TorchServe is not running.")
        return _EXIT_OK
    try:
        stopped = pid_file.stop(_STOP_SECONDS)
    except OSError as error:
        return _fail(f"process {process} cannot be stopped: {error.strerror or error}")
    if not stopped:
        return _fail(f"process {process} has not stopped in {_STOP_SECONDS:.0f} s")
    _say("TorchServe has stopped.")
    return _EXIT_OK


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _warn(text: str) -> None:
    sys.stderr.write(f"torchserve: {text}\n")


def _fail(text: str) -> int:
    _warn(text)
    return _EXIT_FAILURE


if __name__ == "__main__":
    sys.exit(main())
