from __future__ import annotations

import socket

import pytest
from support.server import free_port

from predictor.listeners import (
    Listener,
    ListenError,
    Role,
    close,
    grpc_port,
    listen,
    managed_over_http,
    needs_tls,
)
from predictor.settings import Settings, SettingsError, load_settings


@pytest.fixture
def bound():
    """Bind what settings ask for, and close it afterwards."""
    found: list[Listener] = []

    def bind(**settings: object) -> list[Listener]:
        found.extend(listen(Settings(port=0, **settings)))
        return found

    yield bind
    close(found)


def test_one_socket_unless_told_otherwise(bound):
    (main,) = bound()
    assert main.roles == {Role.MAIN}
    assert main.name == "main"
    assert main.port > 0


def test_each_address_has_a_socket_of_its_own(bound):
    names = [
        listener.name
        for listener in bound(management_address="http://127.0.0.1:0", metrics_address="http://127.0.0.1:0")
    ]
    assert names == ["main", "management", "metrics"]


def test_equal_addresses_share_a_socket():
    port = free_port()
    listeners = listen(
        Settings(
            port=port,
            management_address=f"http://localhost:{port}",
            metrics_address=f"http://127.0.0.1:{port}",
        )
    )
    close(listeners)
    assert [listener.roles for listener in listeners] == [set(Role)]


def test_a_port_in_use_is_named_with_its_setting():
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{taken} \(metrics_address\): Address already"):
            listen(Settings(port=0, metrics_address=f"http://127.0.0.1:{taken}"))
        with pytest.raises(ListenError, match=rf"cannot listen on 127\.0\.0\.1:{taken}: Address already"):
            listen(Settings(port=taken))
        with pytest.raises(ListenError, match=r"in use; --port chooses another$"):
            listen(Settings(port=taken))


def test_a_wrong_address_is_refused_with_the_name_of_the_setting():
    with pytest.raises(SettingsError, match=r"--management-address: .*'8081' is not an address"):
        load_settings({"management_address": "8081"})


@pytest.mark.parametrize(
    ("settings", "port"),
    [
        ({}, 8081),
        ({"management_address": "http://127.0.0.1:8081"}, 9000),
        ({"metrics_address": "http://127.0.0.1:8081"}, 9000),
        ({"port": 8081}, 9000),
        ({"management_address": "http://127.0.0.1:8081", "grpc_port": 8081}, 8081),
        ({"management_address": "http://127.0.0.1:8081", "grpc_port": 0}, 0),
        ({"management_address": "http://127.0.0.1:8082"}, 8081),
    ],
)
def test_kserves_grpc_gives_way_to_torchserves_management_port(settings, port):
    assert grpc_port(Settings(**settings)) == port


def test_a_socket_file_that_a_killed_server_left_is_replaced_and_goes_in_the_end(tmp_path):
    path = tmp_path / "main.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    (listener,) = listen(Settings(unix_socket=path))
    assert listener.url == f"unix:{path}"
    assert listener.port == 0
    with pytest.raises(ListenError, match=rf"cannot listen on unix:{path}: Address already in use"):
        listen(Settings(unix_socket=path))
    close([listener])
    assert not path.exists()


def test_another_file_is_not_taken_for_a_socket(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ListenError, match="Address already in use"):
        listen(Settings(unix_socket=path))
    with pytest.raises(ListenError, match="No such file"):
        listen(Settings(unix_socket=tmp_path / "nowhere" / "s"))
    assert path.read_text() == "data"


def test_one_port_cannot_be_both_with_tls_and_without():
    with pytest.raises(ListenError, match=r"http://127\.0\.0\.1:9 and https://127\.0\.0\.1:9"):
        listen(Settings(port=9, management_address="https://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"tls": True}, True),
        ({"grpc_tls": True}, True),
        ({"metrics_address": "https://127.0.0.1:9"}, True),
        ({"metrics_address": "unix:/m", "unix_socket": "/s", "tls": True}, False),
    ],
)
def test_whether_anything_speaks_tls(settings, expected):
    assert needs_tls(Settings(**settings)) is expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ""),
        ({"host": "0.0.0.0"}, ""),
        ({"enable_model_api": True}, ""),
        ({"host": "::1", "enable_model_api": True}, ""),
        ({"host": "0.0.0.0", "enable_model_api": True}, "http://0.0.0.0:8080"),
        ({"management_address": "http://127.0.0.1:8081", "host": "0.0.0.0"}, ""),
        ({"management_address": "http://0.0.0.0:8081"}, "http://0.0.0.0:8081"),
        (
            {"management_address": "http://[::1]:8081", "host": "0.0.0.0", "enable_model_api": True},
            "http://0.0.0.0:8080",
        ),
        ({"management_address": "unix:/m", "host": "0.0.0.0"}, ""),
    ],
)
def test_from_where_models_may_be_changed(settings, expected):
    assert managed_over_http(Settings(**settings)) == expected
