"""The server process: KServe's ModelServer around our application, from start to drain.

KServe gives the FastAPI app, the model repository and the data plane; its defaults that do not suit a
server of other people's models (0.0.0.0, the stdlib loop, four log lines a request, a port that closes
before readiness turns false) are replaced here, and each replacement says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from kserve import ModelServer
from kserve.model_server import app as kserve_app

from predictor import __version__
from predictor.http.application import Application
from predictor.http.connection import Connection
from predictor.model import TorchModel
from predictor.protocols.routes import find_protocol
from predictor.serving.model import ServedModel, WorkerOptions
from predictor.serving.registry import Registry
from predictor.serving.store import OpenedStore, open_store, resolve_policy
from predictor.settings import Settings
from predictor.startup import describe_start
from predictor.telemetry.logging import AccessLog, configure_logging

logger = logging.getLogger(__name__)

_EXIT_OK = 0
_EXIT_FAILURE = 1


class _HttpServer(uvicorn.Server):
    """Uvicorn's server, on a socket that is open already, leaving signals to us.

    Uvicorn raises the signal again after a graceful stop, which would make the exit status non-zero.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        self._listener = listener

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await super().serve([self._listener])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class PredictorServer(ModelServer):  # type: ignore[misc]  # kserve ships no type information
    """KServe's ModelServer over our registry, routes and life cycle."""

    def __init__(self, settings: Settings, registry: Registry, listener: socket.socket) -> None:
        """Prepare to serve `registry` on `listener`, a bound socket."""
        # Without a handler of its own, kserve would install its log format over ours.
        logging.getLogger("kserve").addHandler(logging.NullHandler())
        super().__init__(
            http_port=settings.port,
            workers=1,
            enable_grpc=False,
            enable_latency_logging=False,
            timeout_keep_alive=settings.keep_alive,
            grace_period=int(settings.grace_period),
        )
        self.settings = settings
        self.registry = registry
        self._listener = listener
        self._stop = asyncio.Event()
        self._signals = 0
        self._http: _HttpServer | None = None
        log_format = _log_format(settings)
        self._access_log = AccessLog(log_format) if settings.access_log else None
        self.application = Application(
            find_protocol(registry, settings.default_model),
            kserve_app,
            settings.max_request_size,
            self._access_log,
        )

    def setup_event_loop(self) -> None:
        """Choose uvloop, and put our application and connection class into the REST server.

        KServe calls this between building the REST server and running the loop, which makes it the
        one place where both can be changed; its own version configures a loop that never runs.
        """
        if sys.platform != "win32":
            import uvloop

            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        config = self._rest_server.config
        config.app = self.application
        config.http = Connection
        config.lifespan = "off"
        config.access_log = False
        config.date_header = False
        self._http = _HttpServer(config, self._listener)
        self._rest_server._server = self._http

    def register_signal_handler(self) -> None:
        """Leave signals to `_serve`, which can wait."""

    async def _serve(self) -> None:
        """Serve until a signal comes, then drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        http = asyncio.ensure_future(self._rest_server.start())
        for unused in self.servers:
            unused.close()
        await asyncio.gather(*(model.start() for model in self.registry.models()))
        starting = asyncio.ensure_future(self._announce())
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([http, stopping], return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()
        await self._drain()
        await http
        if self._access_log is not None:
            self._access_log.flush()

    async def _announce(self) -> None:
        """Wait until every model is loaded or has failed, and say what is served."""
        await asyncio.gather(*(model.settled() for model in self.registry.models()))
        self.registry.started = True
        host, port = self._listener.getsockname()[:2]
        for line in describe_start(self.registry, host, port):
            logger.info(line)

    def _on_signal(self, number: int) -> None:
        """Begin to drain; a second signal stops without waiting."""
        self._signals += 1
        if self._signals == 1:
            self.registry.accepting = False
            self.application.closing = True
            delay = self.settings.drain_delay if number == signal.SIGTERM else 0.0
            logger.info("%s: draining", signal.Signals(number).name)
            asyncio.get_running_loop().call_later(delay, self._stop.set)
            return
        logger.warning("%s again: stopping at once", signal.Signals(number).name)
        self._stop.set()
        if self._http is not None:
            self._http.force_exit = True
        for model in self.registry.models():
            model.kill()

    async def _drain(self) -> None:
        """Close the port, let accepted requests finish, then end the workers."""
        if self._http is not None:
            self._http.should_exit = True
            while self._http.server_state.connections and not self._http.force_exit:
                await asyncio.sleep(0.02)
        await asyncio.gather(*(model.stop() for model in self.registry.models()))
        logger.info("stopped")


def serve(settings: Settings, unknown_flags: list[str]) -> int:
    """Run the server until it is told to stop; returns the exit status of the process.

    Args:
        unknown_flags: what the command line held besides settings; reported and ignored.
    """
    configure_logging(_log_format(settings), settings.log_level)
    for noisy in ("uvicorn", "kserve", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if unknown_flags:
        logger.warning("ignoring unknown arguments: %s", " ".join(unknown_flags))
    try:
        listener = socket.create_server((settings.host, settings.port), backlog=2048, reuse_port=False)
    except OSError as error:
        logger.error("cannot listen on %s:%d: %s", settings.host, settings.port, error.strerror or error)
        return _EXIT_FAILURE
    scratch = Path(tempfile.mkdtemp(prefix="predictor-"))
    try:
        return _serve_store(settings, open_store(settings, scratch), listener)
    finally:
        listener.close()
        shutil.rmtree(scratch, ignore_errors=True)


def _serve_store(settings: Settings, store: OpenedStore, listener: socket.socket) -> int:
    for problem in store.problems:
        logger.error(problem)
    if not store.archives:
        logger.error("no model to serve in %s", settings.model_store)
        return _EXIT_FAILURE
    logger.info(
        "predictor %s: loading %s", __version__, ", ".join(archive.name for archive in store.archives)
    )
    registry = build_registry(settings, store)
    if not registry.names():
        return _EXIT_FAILURE
    server = PredictorServer(settings, registry, listener)
    for model in registry.models():
        server.register_model(TorchModel(model))
    server.start([])
    return _EXIT_OK


def build_registry(settings: Settings, store: OpenedStore) -> Registry:
    """Put the opened archives under their names and versions, ready to be started.

    A model whose numbers contradict each other is reported and left out.
    """
    registry = Registry()
    options = WorkerOptions(
        decode_input=settings.decode_input,
        limit_max_image_pixels=settings.limit_max_image_pixels,
        max_response_size=settings.max_response_size,
        stop_grace=settings.grace_period,
    )
    for archive in store.archives:
        try:
            policy = resolve_policy(archive.config, settings, len(store.archives))
        except ValueError as error:
            logger.error("model %s is not served: %s", archive.name, error)
            continue
        registry.add(ServedModel(archive, policy, options))
    if settings.model_name and len(registry.names()) == 1:
        registry.alias(settings.model_name, registry.names()[0])
    return registry


def _log_format(settings: Settings) -> str:
    if settings.log_format != "auto":
        return settings.log_format
    return "text" if sys.stderr.isatty() else "json"
