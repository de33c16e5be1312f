from __future__ import annotations

from pathlib import Path

import pytest

from predictor.configuration import resolve
from predictor.listeners import grpc_port
from predictor.settings import SettingsError


@pytest.fixture
def layout(tmp_path):
    """A folder as KServe mounts it for TorchServe, at a place that the file does not know."""
    (tmp_path / "config").mkdir()
    (tmp_path / "model-store").mkdir()
    (tmp_path / "config" / "config.properties").write_text(
        "inference_address=http://127.0.0.1:8085\nmodel_store=/mnt/elsewhere/model-store\njob_queue_size=7\n"
    )
    return tmp_path


def test_kserves_layout_is_read_where_a_flag_names_the_folder(layout):
    settings = resolve({"model_store": layout}, None).settings
    assert (settings.model_store, settings.queue_size) == (layout / "model-store", 7)


def test_kserves_layout_is_read_where_the_environment_names_the_folder(layout, monkeypatch):
    monkeypatch.setenv("PREDICTOR_MODEL_STORE", str(layout))
    settings = resolve({}, None).settings
    assert (settings.model_store, settings.queue_size) == (layout / "model-store", 7)


def test_kserves_layout_is_read_where_it_is_the_default_folder(layout, monkeypatch, tmp_path_factory):
    # The image's working directory holds `model_store`, a link to /mnt/models.
    home = tmp_path_factory.mktemp("home")
    (home / "model_store").symlink_to(layout)
    monkeypatch.chdir(home)
    settings = resolve({}, None).settings
    assert settings.model_store.resolve() == layout / "model-store"
    assert settings.queue_size == 7


def test_the_images_address_wins_over_the_layouts(layout, monkeypatch):
    monkeypatch.setenv("PREDICTOR_HOST", "0.0.0.0")
    monkeypatch.setenv("PREDICTOR_PORT", "8080")
    settings = resolve({"model_store": layout}, None).settings
    assert (settings.host, settings.port) == ("0.0.0.0", 8080)


_MANAGED = "management_address=http://0.0.0.0:8081\nmetrics_address=http://0.0.0.0:8081\n"


def _ports(configuration):
    """Return the ports of gRPC and of the management API."""
    settings = configuration.settings
    return grpc_port(settings), int(settings.management_address.rpartition(":")[2])


def test_in_kserves_layout_grpc_is_where_kserve_looks_for_it(layout):
    with (layout / "config" / "config.properties").open("a") as file:
        file.write(_MANAGED)
    configuration = resolve({"model_store": layout, "port": 8080}, None)
    assert _ports(configuration) == (8081, 9000)
    assert configuration.settings.metrics_address == "http://0.0.0.0:9000"
    assert configuration.problems[-2:] == (
        "management_address is http://0.0.0.0:9000, because KServe looks for gRPC on port 8081",
        "metrics_address is http://0.0.0.0:9000, because KServe looks for gRPC on port 8081",
    )
    # As `torchserve --ts-config` names it, and wherever gRPC was told to be.
    file = layout / "config" / "config.properties"
    assert _ports(resolve({"grpc_port": 8081, "port": 8080}, file)) == (8081, 9000)


@pytest.mark.parametrize(
    ("flags", "ports"),
    [
        ({"management_address": "http://0.0.0.0:8081"}, (9000, 8081)),
        ({"grpc_port": 0}, (0, 8081)),
        ({"grpc_port": 8033}, (8033, 8081)),
        # There is one port for everything, and a Service finds that.
        ({"port": 8081}, (9000, 8081)),
    ],
)
def test_who_was_asked_for_by_a_flag_stays_where_it_is(layout, flags, ports):
    with (layout / "config" / "config.properties").open("a") as file:
        file.write(_MANAGED)
    assert _ports(resolve({"model_store": layout, "port": 8080} | flags, None)) == ports


def test_outside_of_kserves_layout_torchserves_port_counts(properties):
    assert _ports(resolve({}, properties(_MANAGED))) == (9000, 8081)


@pytest.fixture
def properties(tmp_path):
    """Write a TorchServe configuration."""

    def write(text: str):
        file = tmp_path / "config.properties"
        file.write_text(text)
        return file

    return write


def test_what_shares_the_main_address_moves_with_it(properties):
    """KServe's files have one port for inference and management, its runtimes give another by flag."""
    file = properties("inference_address=http://0.0.0.0:8085\nmanagement_address=http://0.0.0.0:8085\n")
    assert resolve({}, file).settings.management_address == "http://0.0.0.0:8085"
    assert resolve({"port": 8080}, file).settings.management_address == "http://0.0.0.0:8080"


def test_an_address_of_its_own_stays_where_it_is(properties):
    file = properties("inference_address=http://0.0.0.0:8085\nmetrics_address=http://0.0.0.0:8082\n")
    settings = resolve({"port": 8080}, file).settings
    assert (settings.metrics_address, settings.management_address) == ("http://0.0.0.0:8082", "")


def test_a_snapshot_is_read_like_the_file_it_was_made_from(tmp_path):
    file = tmp_path / "20260101000000001-snapshot.cfg"
    file.write_text('job_queue_size=7\nmodel_snapshot={"models":{"m":{"1.0":{"minWorkers":2}}}}\n')
    configuration = resolve({}, file)
    assert configuration.settings.queue_size == 7
    assert configuration.declared[0].restored
    assert str(configuration.load) == "m=m.mar"
    assert configuration.properties == file


def test_a_store_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    # By hand: tests often run as root, who may read everything.
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(SettingsError, match=r"model store .*: cannot be read by user \d+: Permission denied"):
        resolve({"model_store": tmp_path}, None)
