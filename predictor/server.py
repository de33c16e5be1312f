"""The server process: KServe's ModelServer around our application, from start to drain.

KServe gives the FastAPI app, the model repository and the data plane; its defaults that do not suit a
server of other people's models (0.0.0.0, the stdlib loop, four log lines a request, a port that closes
before readiness turns false) are replaced here, and each replacement says why.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from kserve import ModelServer
from kserve import metrics as kserve_metrics
from kserve.model_server import app as kserve_app
from prometheus_client import REGISTRY

from predictor import __version__
from predictor.addresses import parse_allowed_urls
from predictor.applications import make_applications
from predictor.configuration import Configuration
from predictor.grpc_listeners import GrpcListeners, managed_over_grpc
from predictor.ipc.allocator import keep_freed_blocks
from predictor.ipc.arena import Arena
from predictor.listeners import (
    HttpServer,
    Listener,
    ListenError,
    close,
    configure,
    http_server,
    listen,
    managed_over_http,
    needs_tls,
)
from predictor.metrics import Metrics
from predictor.model import TorchModel
from predictor.protection import Protection
from predictor.protocols.grpc.access import count_calls, log_calls
from predictor.protocols.grpc.server import GrpcError
from predictor.serving.manager import ModelManager
from predictor.serving.registry import Registry
from predictor.serving.reload import Reloader
from predictor.serving.sources import Sources
from predictor.serving.store import ModelStore
from predictor.settings import Settings
from predictor.startup import describe_start
from predictor.telemetry.logging import AccessLog, configure_logging
from predictor.telemetry.torchserve import MetricsFileError
from predictor.torchserve.snapshots import SnapshotWriter
from predictor.trust.errors import TrustError
from predictor.trust.watch import watch

logger = logging.getLogger(__name__)

# Somebody at a terminal does not wait for a load balancer; clients that are at it get their answers.
_INTERRUPT_DELAY = 0.3
_EXIT_OK = 0
_EXIT_FAILURE = 1
# Seconds that gRPC may take to send the last answers once no model works any more.
_LAST_ANSWERS = 1.0


class PredictorServer(ModelServer):  # type: ignore[misc]  # kserve ships no type information
    """KServe's ModelServer over our registry, routes and life cycle.

    Attributes:
        exit_code: status of the process, once `start` has returned.
    """

    def __init__(
        self,
        settings: Settings,
        store: ModelStore,
        registry: Registry,
        listeners: list[Listener],
        metrics: Metrics,
        protection: Protection,
        snapshots: SnapshotWriter | None = None,
        hang_ups: Sequence[int] = (),
    ) -> None:
        """Prepare to serve `registry`, the models of `store`, on `listeners`, the main one first.

        Changes to the models are measured by `metrics`, and noted by `snapshots`. `hang_ups` are the
        SIGHUPs since the store was opened, those included that come until the loop listens itself.
        """
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
        self._manager = _manager(settings, store, registry)
        self._manager.changed.append(self._register_models)
        self._snapshots = snapshots
        self._manager.changed.append(lambda: self._snapshot("snapshot"))
        self._reloader = Reloader(self._manager, store)
        self._hang_ups = hang_ups
        self._reload_asked = False
        self._reloading: asyncio.Task[None] | None = None
        self._listeners = listeners
        self._protection = protection
        self._stop = asyncio.Event()
        self._signals = 0
        self._http: list[HttpServer] = []
        self.exit_code = _EXIT_OK
        log_format = _log_format(settings)
        self._access_log = AccessLog(log_format) if settings.access_log else None
        self.metrics = metrics
        observers = [count_calls(metrics.requests)]
        if self._access_log is not None:
            observers.append(log_calls(self._access_log))
        self._grpc = GrpcListeners(settings, self._manager, protection, observers)
        self._applications = make_applications(
            listeners, settings, self._manager, protection, metrics, self._access_log, kserve_app, store.arena
        )

    def setup_event_loop(self) -> None:
        """Choose uvloop, and put our application and connection class into the REST server.

        KServe calls this between building the REST server and running the loop, which makes it the
        one place where both can be changed; its own version configures a loop that never runs.
        """
        if sys.platform != "win32":
            import uvloop

            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        main, *others = zip(self._applications, self._listeners, strict=True)
        certificates = self._protection.certificates
        tls = certificates.context if certificates is not None else None
        configure(self._rest_server.config, *main, tls)
        self._rest_server._server = HttpServer(self._rest_server.config, main[1])
        self._http = [self._rest_server._server]
        self._http += [http_server(self.settings, *pair, tls) for pair in others]

    def register_signal_handler(self) -> None:
        """Leave signals to `_serve`, which can wait."""

    async def _serve(self) -> None:
        """Serve until a signal comes, then drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload)
        self._reload_asked = bool(self._hang_ups)
        self._register_models()
        self.metrics.start()
        for unused in self.servers:
            unused.close()
        try:
            await self._grpc.start()
        except GrpcError as error:
            logger.error("%s", error)
            self.exit_code = _EXIT_FAILURE
            return
        http = asyncio.ensure_future(self._serve_http())
        starting = asyncio.ensure_future(self._start_models())
        starting.add_done_callback(_log_failure)
        watching = asyncio.ensure_future(watch(self._protection.watched))
        watching.add_done_callback(_log_failure)
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([http, stopping], return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()
        await self._drain()
        await http
        watching.cancel()
        if self._access_log is not None:
            self._access_log.flush()

    async def _serve_http(self) -> None:
        """Serve every listener until told to exit; KServe's REST server stands around the main one."""
        await asyncio.gather(self._rest_server.start(), *(server.serve() for server in self._http[1:]))

    async def _start_models(self) -> None:
        """Start every model, wait until each is loaded or has failed, and say what is served."""
        await asyncio.gather(*(model.start() for model in self.registry.models()))
        await asyncio.gather(*(model.settled() for model in self.registry.models()))
        self.registry.started = True
        self._snapshot("startup")
        if self._reload_asked:
            self._on_reload()
        main, *others = self._listeners
        further = {listener.name: listener.url for listener in others}
        for line in describe_start(self.registry, main.url, self._grpc.described(), further):
            logger.info(line)
        if self.settings.started_line:
            sys.stdout.write(self.settings.started_line + "\n")
            sys.stdout.flush()

    def _snapshot(self, kind: str) -> Future[None] | None:
        """Note what is served now, in a thread; None where nobody wants that."""
        return self._snapshots.write(self.registry, kind) if self._snapshots is not None else None

    def _register_models(self) -> None:
        """Bring KServe's repository in line with our registry."""
        for name in list(self.registered_models.get_models()):
            self.registered_models.unload(name)
        for name in self.registry.names():
            self.register_model(TorchModel(self.registry.default(name)))

    def _on_reload(self) -> None:
        """SIGHUP: look at the model store again; a signal during that makes it look once more."""
        self._reload_asked = True
        if self.registry.started and self.registry.accepting and self._reloading is None:
            self._reloading = asyncio.ensure_future(self._reload())

    async def _reload(self) -> None:
        try:
            while self._reload_asked:
                self._reload_asked = False
                logger.info("SIGHUP: reading the model store again")
                await asyncio.to_thread(self._protection.check_files)
                await self._reloader.run()
        finally:
            self._reloading = None

    def _on_signal(self, number: int) -> None:
        """Begin to drain; a second signal stops without waiting."""
        self._signals += 1
        if self._signals == 1:
            self.registry.accepting = False
            for application in self._applications:
                application.closing = True
            delay = self.settings.drain_delay
            if number == signal.SIGINT:
                delay = min(delay, _INTERRUPT_DELAY)
            logger.info("%s: draining", signal.Signals(number).name)
            asyncio.get_running_loop().call_later(delay, self._stop.set)
            return
        logger.warning("%s again: stopping at once", signal.Signals(number).name)
        self._stop.set()
        for server in self._http:
            server.force_exit = True
        for model in self.registry.models():
            model.kill()

    async def _drain(self) -> None:
        """Close the ports, let accepted requests finish, then end the workers."""
        for server in self._http:
            server.should_exit = True
        self._grpc.close(self.settings.grace_period)
        deadline = asyncio.get_running_loop().time() + self.settings.grace_period
        await asyncio.gather(*(_wait_closed(server, deadline) for server in self._http))
        await self._manager.close()
        last = self._snapshot("shutdown")
        await asyncio.gather(*(model.stop() for model in self.registry.models()))
        if last is not None:
            await asyncio.wrap_future(last)
        await self.metrics.stop()
        await self._grpc.stop(_LAST_ANSWERS)
        logger.info("stopped")


async def _wait_closed(server: HttpServer, deadline: float) -> None:
    """Wait until every connection is closed, until `deadline` (loop time) at most."""
    while server.server_state.connections and not server.force_exit:
        if asyncio.get_running_loop().time() > deadline:
            logger.warning("%d connections are still open", len(server.server_state.connections))
            server.force_exit = True
        await asyncio.sleep(0.02)


def _log_failure(task: asyncio.Task[None]) -> None:
    """Say what ended a task that nobody waits for."""
    if not task.cancelled() and task.exception() is not None:
        logger.error("a task of the server has ended", exc_info=task.exception())


def serve(configuration: Configuration, unknown_flags: list[str]) -> int:
    """Run the server until it is told to stop; returns the exit status of the process.

    Args:
        configuration: the settings, and which models to serve how.
        unknown_flags: what the command line held besides settings; reported and ignored.
    """
    keep_freed_blocks()
    settings = configuration.settings
    configure_logging(_log_format(settings), settings.log_level)
    for noisy in ("uvicorn", "kserve", "asyncio", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if unknown_flags:
        logger.warning("ignoring unknown arguments: %s", " ".join(unknown_flags))
    for problem in configuration.problems:
        logger.warning(problem)
    try:
        listeners = listen(settings)
    except ListenError as error:
        logger.error("%s", error)
        return _EXIT_FAILURE
    try:
        protection = Protection(settings, needs_tls(settings))
    except TrustError as error:
        logger.error("%s", error)
        close(listeners)
        return _EXIT_FAILURE
    if protection.guard is None:
        _warn_of_open_doors(settings)
    scratch = Path(tempfile.mkdtemp(prefix="predictor-"))
    arena = Arena.where_possible()
    try:
        return _serve_store(configuration, ModelStore(configuration, scratch, arena), listeners, protection)
    finally:
        if arena is not None:
            arena.close()
        close(listeners)
        shutil.rmtree(scratch, ignore_errors=True)


def _serve_store(
    configuration: Configuration, store: ModelStore, listeners: list[Listener], protection: Protection
) -> int:
    settings = configuration.settings
    hang_ups: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: hang_ups.append(number))
    opened = store.open()
    for problem in opened.problems:
        logger.error(problem)
    registry = store.registry(opened.archives)
    if not registry.names() and opened.wanted:
        logger.error("no model to serve in %s", settings.model_store)
        return _EXIT_FAILURE
    try:
        metrics = Metrics(settings, registry)
    except MetricsFileError as error:
        logger.error("%s", error)
        return _EXIT_FAILURE
    _leave_histograms_to_us()
    logger.info("predictor %s: loading %s", __version__, ", ".join(registry.names()) or "no model")
    snapshots = _snapshots(configuration, store)
    server = PredictorServer(settings, store, registry, listeners, metrics, protection, snapshots, hang_ups)
    # What has been imported stays: looking through all of it now and then would hold up requests.
    gc.collect()
    gc.freeze()
    server.start([])
    return server.exit_code


def _leave_histograms_to_us() -> None:
    """Take KServe's own histograms out of its registry: nothing fills them, and ours have their names."""
    for histogram in (
        kserve_metrics.PRE_HIST_TIME,
        kserve_metrics.PREDICT_HIST_TIME,
        kserve_metrics.EXPLAIN_HIST_TIME,
        kserve_metrics.POST_HIST_TIME,
    ):
        REGISTRY.unregister(histogram)


def _manager(settings: Settings, store: ModelStore, registry: Registry) -> ModelManager:
    allowed = parse_allowed_urls(settings.allowed_urls)
    sources = Sources(store.folder, store.scratch, allowed, settings.max_archive_size)
    return ModelManager(registry, store, sources, settings.unregister_model_timeout)


def _snapshots(configuration: Configuration, store: ModelStore) -> SnapshotWriter | None:
    folder = configuration.settings.snapshot_folder
    return SnapshotWriter(folder, configuration.properties, store.folder) if folder else None


def _warn_of_open_doors(settings: Settings) -> None:
    """Say where strangers may change models, as long as no token is asked for."""
    for address in (managed_over_http(settings), managed_over_grpc(settings)):
        if address:
            logger.warning("whoever reaches %s may change models or workers; see token_file", address)


def _log_format(settings: Settings) -> str:
    if settings.log_format != "auto":
        return settings.log_format
    return "text" if sys.stderr.isatty() else "json"
