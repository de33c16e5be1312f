"""TorchServe's management API on a port of its own, against the recorded answers of a TorchServe 0.12."""

from __future__ import annotations

import concurrent.futures
import http.server
import json
import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import grpc
import pytest
from support import wire
from support.archives import make_archive
from support.processes import open_files, wait_until
from support.server import Server, free_port
from support.wire import Response

from predictor.oip import inference_pb2 as pb

DESCRIBED = [
    "modelName",
    "modelVersion",
    "modelUrl",
    "runtime",
    "minWorkers",
    "maxWorkers",
    "batchSize",
    "maxBatchDelay",
    "responseTimeout",
    "startupTimeout",
    "maxRetryTimeoutInSec",
    "clientTimeoutInMills",
    "parallelType",
    "parallelLevel",
    "deviceType",
    "continuousBatching",
    "useJobTicket",
    "useVenv",
    "stateful",
    "sequenceMaxIdleMSec",
    "sequenceTimeoutMSec",
    "maxNumSequence",
    "maxSequenceJobQueueSize",
    "loadedAtStartup",
    "workers",
    "jobQueueStatus",
]


class Managed(Server):
    """A server whose management API has a port of its own."""

    def __init__(self, store: Path, scratch: Path, *flags: str) -> None:
        """Serve no model of `store` yet; archives are unpacked below `scratch`."""
        self.management = free_port()
        self.store = store
        self._scratch = scratch
        self.grpc = free_port()
        address = f"http://127.0.0.1:{self.management}"
        arguments = ("--management-address", address, "--grpc-port", str(self.grpc), *flags)
        super().__init__(store, *arguments, environment={"TMPDIR": str(scratch)})

    def manage(self, method: str, path: str, **options: Any) -> Response:
        return wire.request(self.management, method, path, timeout=60, **options)

    def status(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        """Send a request; returns its status, and the sentence it is answered with."""
        response = self.manage(method, path, **options)
        body = response.json()
        return response.status, body.get("status") or f"{body['type']}: {body['message']}"

    def scratch(self) -> list[str]:
        """Return what lies in the folder that archives are unpacked into."""
        (folder,) = self._scratch.glob("predictor-*")
        return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with archives, for a store and for a web server."""
    folder = tmp_path_factory.mktemp("archives")
    make_archive(folder, "one.mar", "m", "managed", version="1.0")
    make_archive(folder, "two.mar", "m", "managed", version="2.0")
    make_archive(folder, "minded.mar", "minded", "managed", config="minWorkers: 1\nresponseTimeout: 7\n")
    make_archive(folder, "bad.mar", "bad", "managed", config="handler: {load_error: no luck}\n")
    (folder / "corrupt.mar").write_bytes(b"PK\x03\x04 this is no archive")
    return folder


@pytest.fixture(scope="module")
def web(archives: Path) -> Iterator[str]:
    """A web server with the archives at /files, and redirects to them and elsewhere."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(archives))

        def do_GET(self) -> None:
            target = {"/files/away.mar": "/files/one.mar", "/files/evil.mar": "/secret/one.mar"}.get(
                self.path
            )
            if target:
                self.send_response(302)
                self.send_header("Location", target)
                self.end_headers()
                return
            self.path = self.path.rpartition("/")[2]
            super().do_GET()

        def log_message(self, *arguments: Any) -> None:
            """Keep quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory, archives: Path, web: str) -> Iterator[Managed]:
    store = tmp_path_factory.mktemp("store")
    for archive in archives.iterdir():
        (store / archive.name).write_bytes(archive.read_bytes())
    allowed = f"file://{archives}/.*,{web}/files/.*"
    flags = (
        "--models",
        "none",
        "--enable-model-api",
        "--allowed-urls",
        allowed,
        "--max-archive-size",
        "9999",
    )
    with Managed(store, tmp_path_factory.mktemp("scratch"), *flags) as running:
        yield running


def _status(managed: Managed, name: str) -> dict[str, Any]:
    """Return what the server says of the default version of a model."""
    (described,) = managed.manage("GET", f"/models/{name}").json()
    return described


def test_what_is_refused_leaves_nothing_behind(managed, web):
    store = sorted(managed.store.iterdir())
    refusals = {
        "/models": (400, "BadRequestException: Parameter url is required."),
        "/models?url=": (404, "ModelNotFoundException: empty url"),
        "/models?url=nope.mar": (404, "ModelNotFoundException: Model not found at: nope.mar"),
        "/models?url=../x.mar": (
            404,
            "ModelNotFoundException: Relative path is not allowed in url: ../x.mar",
        ),
        "/models?url=/etc/passwd": (
            404,
            "ModelNotFoundException: Given URL /etc/passwd does not match any allowed URL(s)",
        ),
        f"/models?url={'x' * 5000}": (404, f"ModelNotFoundException: Model not found at: {'x' * 5000}"),
        "/models?url=one.mar&initial_workers=1000000000": (
            400,
            "BadRequestException: initial_workers cannot be more than 256.",
        ),
        "/models?url=one.mar&runtime=foo": (400, "BadRequestException: Invalid RuntimeType value: foo"),
        "/models?url=corrupt.mar": (500, "InternalServerException: Failed to save model: corrupt.mar"),
        "/models?url=file://one.mar": (500, "InternalServerException: Model file already exists one.mar"),
        f"/models?url={web}/files/one.mar": (
            500,
            "InternalServerException: Model file already exists one.mar",
        ),
        f"/models?url={web}/files/missing.mar": (
            400,
            f"DownloadArchiveException: Failed to download archive from: {web}/files/missing.mar",
        ),
        f"/models?url={web}/secret/x.mar": (
            404,
            f"ModelNotFoundException: Given URL {web}/secret/x.mar does not match any allowed URL(s)",
        ),
        f"/models?url={web}/files/evil.mar": (
            404,
            f"ModelNotFoundException: Given URL {web}/secret/one.mar does not match any allowed URL(s)",
        ),
    }
    for path, expected in refusals.items():
        assert managed.status("POST", path) == expected, path
    assert managed.manage("GET", "/models").json() == {"models": []}
    assert sorted(managed.store.iterdir()) == store
    assert managed.scratch() in ([], ["downloads"])


def test_a_model_that_cannot_be_loaded_leaves_nothing_behind(managed):
    expected = (500, "InternalServerException: Failed to start workers for model bad version: 1.0")
    assert managed.status("POST", "/models?url=bad.mar&initial_workers=1") == expected
    assert managed.status("GET", "/models/bad")[0] == 404
    assert managed.status("POST", "/models?url=bad.mar&initial_workers=1") == expected
    wait_until(lambda: not managed.workers(), 60, "no worker is left")
    assert managed.scratch() in ([], ["downloads"])
    assert "no luck" in managed.log()


def test_the_life_of_a_model(managed):
    """Register, describe, call, scale, add a version, make it the default, unregister."""
    assert managed.status("POST", "/models?url=one.mar") == (
        200,
        (
            'Model "m" Version: 1.0 registered with 0 initial workers. '
            "Use scale workers API to add workers for the model."
        ),
    )
    assert managed.post("/predictions/m", b"").status == 503
    assert managed.get("/v2/health/ready").status == 200
    assert managed.status("POST", "/models?url=one.mar") == (
        409,
        "ConflictStatusException: Model version 1.0 is already registered for model m",
    )
    (described,) = managed.manage("GET", "/models/m").json()
    assert list(described) == DESCRIBED
    assert (described["modelUrl"], described["loadedAtStartup"], described["workers"]) == (
        "one.mar",
        False,
        [],
    )
    assert managed.status("PUT", "/models/m?min_worker=1") == (202, "Processing worker updates...")
    assert managed.status("PUT", "/models/m?min_worker=1&synchronous=true") == (
        200,
        "Workers scaled to 1 for model: m",
    )
    assert managed.post("/predictions/m", b"").body == b"1.0"
    (described,) = managed.manage("GET", "/models/m").json()
    (worker,) = described["workers"]
    assert (worker["status"], worker["pid"]) == ("READY", managed.workers()[0])
    assert worker["memoryUsage"] > 10_000_000

    assert managed.status("POST", "/models?url=two.mar&initial_workers=1&batch_size=3&max_batch_delay=5") == (
        200,
        'Model "m" Version: 2.0 registered with 1 initial workers',
    )
    assert managed.post("/predictions/m", b"").body == b"1.0"
    assert managed.post("/predictions/m/2.0", b"").body == b"2.0"
    both = managed.manage("GET", "/models/m/all").json()
    assert [(each["modelVersion"], each["batchSize"], each["maxBatchDelay"]) for each in both] == [
        ("1.0", 1, 0),
        ("2.0", 3, 5),
    ]
    assert managed.status("DELETE", "/models/m") == (
        403,
        "InvalidModelVersionException: Cannot remove default version for model m",
    )
    assert managed.status("PUT", "/models/m/2.0/set-default") == (
        200,
        'Default version successfully updated for model "m" to "2.0"',
    )
    assert managed.post("/predictions/m", b"").body == b"2.0"
    (asked,) = managed.manage("GET", "/models/m/1.0?customized=true").json()
    assert asked["customizedMetadata"] == {"version": "1.0", "rows": "[{}]"}
    assert managed.status("DELETE", "/models/m/1.0") == (200, 'Model "m" unregistered')
    assert managed.status("PUT", "/models/m/2.0?min_worker=0&synchronous=true") == (
        200,
        "Workers scaled to 0 for model: m, version: 2.0",
    )
    assert managed.workers() == []
    assert managed.status("DELETE", "/models/m") == (200, 'Model "m" unregistered')
    assert managed.status("DELETE", "/models/m") == (404, "ModelNotFoundException: Model not found: m")
    assert managed.scratch() in ([], ["downloads"])


def test_what_a_removed_model_has_accepted_is_answered(managed, tmp_path):
    managed.status("POST", "/models?url=one.mar&model_name=slow&initial_workers=1")
    release = tmp_path / "release"
    form = [("content-type", "application/x-www-form-urlencoded")]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = [
            pool.submit(managed.post, "/predictions/slow", f"for={release}&x=1", headers=form)
            for _ in range(3)
        ]
        try:
            wait_until(
                lambda: _status(managed, "slow")["jobQueueStatus"]["pendingRequests"] == 1, 60, "one waits"
            )
            removal = pool.submit(managed.status, "DELETE", "/models/slow")
            wait_until(lambda: managed.manage("GET", "/models/slow").status == 404, 60, "it is removed")
        finally:
            release.touch()
        assert removal.result()[0] == 200
        assert [answer.result().body for answer in answers] == [b"1.0"] * 3
    assert managed.post("/predictions/slow", b"").status == 404
    assert managed.workers() == []


def change_under_load(managed: Managed, rounds: int, clients: int = 6) -> int:
    """Replace and scale a model while it is called; returns how many requests were answered, all of them."""
    assert managed.status("POST", "/models?url=one.mar&model_name=busy&initial_workers=1")[0] == 200
    stop = threading.Event()

    def ask() -> int:
        count = 0
        with wire.Connection(managed.port) as connection:
            while not stop.is_set():
                response = connection.request("POST", "/predictions/busy")
                assert (response.status, response.body in (b"1.0", b"2.0")) == (200, True), response
                count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        answered = [pool.submit(ask) for _ in range(clients)]
        try:
            for number in range(rounds):
                new, old = (("two", "2.0"), "1.0") if number % 2 == 0 else (("one", "1.0"), "2.0")
                for method, path in (
                    ("POST", f"/models?url={new[0]}.mar&model_name=busy&initial_workers=1"),
                    ("PUT", f"/models/busy/{new[1]}/set-default"),
                    ("DELETE", f"/models/busy/{old}"),
                    ("PUT", "/models/busy?min_worker=2&synchronous=true"),
                    ("PUT", "/models/busy?min_worker=1&synchronous=true"),
                ):
                    status, text = managed.status(method, path)
                    assert status == 200, text
        finally:
            stop.set()
        total = sum(each.result() for each in answered)
    assert managed.status("DELETE", "/models/busy")[0] == 200
    return total


def test_nothing_is_lost_and_nothing_is_left_while_a_model_is_replaced_and_scaled(managed):
    before = (managed.workers(), len(open_files(managed.pid)), managed.scratch())
    assert change_under_load(managed, rounds=1) > 10
    wait_until(
        lambda: (managed.workers(), len(open_files(managed.pid)), managed.scratch()) == before,
        60,
        f"as before: {before}",
    )


def test_downloads_go_where_a_restart_finds_them_and_leave_with_their_model(managed, web, archives):
    (managed.store / "one.mar").rename(managed.store / "kept.mar")
    try:
        body = {"url": f"{web}/files/away.mar", "model_name": "fetched", "initial_workers": 0}
        json_type = [("content-type", "application/json")]
        status, _ = managed.status("POST", "/models", body=json.dumps(body).encode(), headers=json_type)
        assert status == 200
        assert (managed.store / "away.mar").read_bytes() == (archives / "one.mar").read_bytes()
        assert managed.manage("GET", "/models").json()["models"] == [
            {"modelName": "fetched", "modelUrl": body["url"]}
        ]
        again = f"/models?url={web}/files/away.mar&model_name=other"
        assert managed.status("POST", again)[1].endswith("Model file already exists away.mar")
        assert managed.status("DELETE", "/models/fetched")[0] == 200
        assert not (managed.store / "away.mar").exists()
    finally:
        (managed.store / "kept.mar").rename(managed.store / "one.mar")


def test_a_path_outside_the_store_must_be_allowed(managed, archives, tmp_path):
    assert managed.status("POST", f"/models?url={archives}/one.mar&model_name=path")[0] == 200
    assert managed.status("POST", f"/models?url=file://{archives}/one.mar&model_name=file")[0] == 200
    make_archive(tmp_path, "x.mar", "x", "managed")
    assert managed.status("POST", f"/models?url={tmp_path}/x.mar") == (
        404,
        f"ModelNotFoundException: Given URL {tmp_path}/x.mar does not match any allowed URL(s)",
    )
    assert managed.manage("GET", "/models?limit=1").json()["nextPageToken"] == "1"
    page = managed.manage("GET", "/models?limit=1&next_page_token=1").json()
    assert [model["modelName"] for model in page["models"]] == ["path"]
    for name in ("path", "file"):
        assert managed.status("DELETE", f"/models/{name}")[0] == 200
    assert (archives / "one.mar").exists()


def test_a_models_own_config_beats_the_parameters(managed):
    assert managed.status("POST", "/models?url=minded.mar&response_timeout=99&synchronous=false") == (
        202,
        "Processing worker updates...",
    )
    (described,) = managed.manage("GET", "/models/minded").json()
    assert (described["responseTimeout"], described["minWorkers"]) == (7, 1)
    assert described["workers"][0]["status"] == "UNLOADING"
    assert managed.get("/v2/health/ready").status == 200
    wait_until(lambda: _status(managed, "minded")["workers"][0]["status"] == "READY", 60, "it is ready")
    assert managed.status("DELETE", "/models/minded")[0] == 200


def test_v2_loads_and_unloads_what_the_store_has(managed):
    assert managed.post("/v2/repository/models/nope/load").status == 404
    loaded = managed.post("/v2/repository/models/minded/load")
    assert (loaded.status, loaded.json()) == (200, {"name": "minded", "load": True})
    pid = managed.workers()
    assert managed.post("/v2/repository/models/minded/load").status == 200
    assert managed.workers() == pid
    index = managed.post("/v2/repository/index").json()
    assert [(entry["name"], entry["state"]) for entry in index] == [("minded", "READY")]
    unloaded = managed.post("/v2/repository/models/minded/unload")
    assert (unloaded.status, unloaded.json()) == (200, {"name": "minded", "unload": True})
    assert managed.workers() == []
    assert managed.post("/v2/repository/models/corrupt/load").status == 400


def test_v2_does_so_over_grpc_too(managed):
    with grpc.insecure_channel(f"127.0.0.1:{managed.grpc}") as channel:

        def call(method, message):
            path = f"/inference.GRPCInferenceService/{method}"
            return channel.unary_unary(path, type(message).SerializeToString)(message, timeout=60)

        call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="minded"))
        assert managed.post("/predictions/minded").body == b"1.0"
        call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="minded"))
        assert managed.workers() == []
        with pytest.raises(grpc.RpcError) as caught:
            call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="minded"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        # Triton's clients name the model in another field.
        call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(triton_model_name="minded"))
        assert managed.post("/predictions/minded").body == b"1.0"
        call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(triton_model_name="minded"))
        assert managed.workers() == []


@pytest.mark.parametrize("name", ["config", "file:1/model.pt"])
def test_v2_loads_no_other_model_than_the_stores(managed, name):
    answer = managed.post("/v2/repository/models/minded/load", {"parameters": {name: "{}"}})
    assert (answer.status, f"'{name}' is not supported" in answer.json()["error"]) == (400, True)
    message = pb.RepositoryModelLoadRequest(model_name="minded", parameters={name: {}})
    with grpc.insecure_channel(f"127.0.0.1:{managed.grpc}") as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/RepositoryModelLoad")
        with pytest.raises(grpc.RpcError, match=f"'{name}' is not supported") as refused:
            method(message.SerializeToString(), timeout=60)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert managed.workers() == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 405),
        ("GET", "/ping", 404),
        ("POST", "/predictions/m", 404),
        ("PUT", "/models", 405),
        ("DELETE", "/models", 405),
        ("PATCH", "/models/m", 405),
        ("GET", "/v1/models/m", 404),
        ("GET", "/token", 404),
        ("GET", "/workflows", 200),
        ("OPTIONS", "/", 200),
        ("GET", "/api-description", 200),
    ],
)
def test_other_paths_of_the_management_port(managed, method, path, status):
    assert managed.manage(method, path).status == status


def test_a_start_goes_on_where_the_last_one_ended(archives, tmp_path):
    """Two models of one archive, one default version moved: all of it is in the snapshots."""
    snapshots = tmp_path / "logs"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    flags = ("--enable-model-api", "--snapshot-folder", str(snapshots))
    with Managed(archives, scratch, "--models", "none", *flags) as first:
        for query in ("url=one.mar", "url=two.mar&batch_size=5", "url=one.mar&model_name=other"):
            assert first.status("POST", f"/models?{query}")[0] == 200
        assert first.status("PUT", "/models/m/2.0/set-default")[0] == 200
        served = [first.manage("GET", f"/models/{name}/all").json() for name in ("m", "other")]
    last = max(snapshots.iterdir())
    assert last.name.endswith("-shutdown.cfg")
    with Managed(archives, scratch, "--config", str(last), *flags) as second:
        restored = [second.manage("GET", f"/models/{name}/all").json() for name in ("m", "other")]
        assert second.manage("GET", "/models/m").json()[0]["modelVersion"] == "2.0"
    for before, after in zip(chain(*served), chain(*restored), strict=True):
        assert {**before, "loadedAtStartup": True} == after


def test_the_main_port_offers_the_same(managed):
    assert managed.get("/models").json() == managed.manage("GET", "/models").json()
