"""One server for all tests that only ask it questions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.models import link_sample, make_model
from support.sdk import SdkServer
from support.server import Server, free_port
from support.v2_store import make_sdk_store


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with `probe` (batch size 1, versions 1.0 and 2.0), `batcher` (16), `plain` and `wine`."""
    store = tmp_path_factory.mktemp("store")
    make_model(store, "probe", maxRetryTimeoutInSec=60)
    make_model(store, "probe", version="2.0", folder="probe_v2")
    make_model(store, "batcher", batchSize=16, maxBatchDelay=300)
    make_model(store, "plain", "module_level")
    link_sample(store, "wine")
    with Server(store, "--max-response-size", "2000000") as running:
        yield running


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the trained sample models, `digits`, `wine`, `docstrings`; gRPC on `grpc_port`."""
    store = tmp_path_factory.mktemp("samples")
    missing = [name for name in ("digits", "wine", "docstrings") if not link_sample(store, name)]
    if missing:
        pytest.skip(f"no trained weights for {', '.join(missing)}")
    port = free_port()
    with Server(store, "--model-name", "ignored", "--grpc-port", str(port)) as running:
        running.grpc_port = port
        yield running


@pytest.fixture(scope="session")
def sdk() -> Iterator[SdkServer]:
    """A server on KServe's own SDK: `echo`, `list`, `picture` and `sleeping`, see `sdk_app.py`."""
    with SdkServer() as running:
        yield running


@pytest.fixture(scope="session")
def like_sdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Our server with the same models (and `float32`, `wine`), its gRPC on `grpc_port`."""
    store = tmp_path_factory.mktemp("like-sdk")
    make_sdk_store(store)
    port = free_port()
    with Server(store, "--grpc-port", str(port), "--max-request-size", "8000000", wait=False) as running:
        running.wait_started()
        running.grpc_port = port
        yield running
