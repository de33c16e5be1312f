"""HTTPS and gRPC over TLS, certificates that change under load, and sockets that are files."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
import urllib.request

import grpc
import pytest
from support.certificates import Authority
from support.models import make_model
from support.server import Server, free_port

_PASSWORD = "changed it"


class _Secure(Server):
    """A server that speaks TLS everywhere; it is asked by `https`, not by the methods of its class."""

    def __init__(self, store, authority, *flags, **options):
        self.authority = authority
        self.management_port, self.grpc_port = free_port(), free_port()
        super().__init__(
            store,
            "--tls",
            "--grpc-tls",
            f"--management-address=https://127.0.0.1:{self.management_port}",
            f"--grpc-port={self.grpc_port}",
            *flags,
            wait=False,
            **options,
        )

    def __enter__(self):
        super().__enter__()
        self.wait_started()
        return self

    def context(self, authority=None):
        return ssl.create_default_context(cadata=(authority or self.authority).pem.decode())

    @contextlib.contextmanager
    def https(self, port=None, context=None):
        connection = http.client.HTTPSConnection(
            "localhost", port or self.port, context=context or self.context(), timeout=60
        )
        try:
            yield connection
        finally:
            connection.close()

    def fetch(self, path, port=None, body=None, context=None):
        """Ask on a connection of its own; returns status, body and the certificate's serial number."""
        with self.https(port, context) as connection:
            connection.connect()
            serial = int(connection.sock.getpeercert()["serialNumber"], 16)
            connection.request("POST" if body is not None else "GET", path, body)
            answer = connection.getresponse()
            return answer.status, answer.read(), serial

    def grpc_channel(self, *pair):
        credentials = grpc.ssl_channel_credentials(self.authority.pem, *pair)
        return grpc.secure_channel(
            f"localhost:{self.grpc_port}",
            credentials,
            # Channels of one process share connections otherwise, and would show no new certificate.
            options=[("grpc.use_local_subchannel_pool", 1)],
        )

    def grpc_lives(self, channel):
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        return live(b"", timeout=60) == b"\x08\x01"


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def store(folder):
    return make_model(folder / "store", "probe").parent


@pytest.fixture(scope="module")
def secure(folder, store, authority):
    certificate, key = authority.issue("first", "rsa").write(folder)
    files = [f"--tls-certificate-file={certificate}", f"--tls-key-file={key}"]
    with _Secure(store, authority, *files) as running:
        yield running


def test_every_listener_speaks_tls_and_says_so(secure):
    status, body, _ = secure.fetch("/predictions/probe", body=b"x")
    assert status == 200
    assert json.loads(body)["model"] == "probe"
    assert secure.fetch("/models", secure.management_port)[0] == 200
    assert f"https://127.0.0.1:{secure.port}" in secure.log()
    assert f"https://127.0.0.1:{secure.management_port}" in secure.log()
    with secure.grpc_channel() as channel:
        assert secure.grpc_lives(channel)


def test_large_bodies_get_through(secure):
    status, body, _ = secure.fetch("/predictions/probe", body=b"x" * 5_000_000)
    assert status == 200
    assert json.loads(body)["params"]["body"]["len"] == 5_000_000


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_what_is_not_tls_gets_no_answer(secure, kind):
    port = secure.port if kind == "http" else secure.grpc_port
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        plain.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"HTTP" not in plain.recv(100)
    assert secure.fetch("/ping")[0] == 200


def test_old_protocols_are_refused(secure):
    context = secure.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        secure.fetch("/ping", context=context)
    context = secure.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert secure.fetch("/ping", context=context)[0] == 200


def test_a_new_certificate_counts_at_once_and_costs_no_request(secure, folder, authority):
    """As cert-manager does it: the files are replaced while requests come."""
    stop = threading.Event()
    answers, failures = [], []

    def ask(keep_open):
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(secure.https()) if keep_open else None
            while not stop.is_set():
                try:
                    if connection is None:
                        answers.append(secure.fetch("/predictions/probe", body=b"x")[0])
                    else:
                        connection.request("POST", "/predictions/probe", b"x")
                        answer = connection.getresponse()
                        answer.read()
                        answers.append(answer.status)
                except (OSError, http.client.HTTPException) as error:
                    failures.append(error)

    threads = [threading.Thread(target=ask, args=(keep_open,)) for keep_open in (True, True, False)]
    with secure.grpc_channel() as old_channel:
        assert secure.grpc_lives(old_channel)
        for thread in threads:
            thread.start()
        second = authority.issue("second", "ec")
        second.write(folder)
        deadline = time.monotonic() + 60
        while secure.fetch("/ping")[2] != second.serial:
            assert time.monotonic() < deadline, "the new certificate was not taken"
            time.sleep(0.1)
        assert secure.fetch("/models", secure.management_port)[2] == second.serial
        time.sleep(0.5)
        stop.set()
        for thread in threads:
            thread.join()
        assert secure.grpc_lives(old_channel)
    assert failures == []
    assert set(answers) == {200}
    assert _grpc_serial(secure) == second.serial


def test_a_broken_certificate_changes_nothing(secure, folder):
    serial = secure.fetch("/ping")[2]
    (folder / "server.crt").write_text("not a certificate")
    secure.wait_log("TLS certificate changed and cannot be used, the old content stays")
    assert secure.fetch("/ping")[2] == serial
    with secure.grpc_channel() as channel:
        assert secure.grpc_lives(channel)


def _grpc_serial(secure):
    from cryptography import x509

    context = secure.context()
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", secure.grpc_port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return x509.load_der_x509_certificate(connection.getpeercert(True)).serial_number


def test_torchserves_configuration_with_a_keystore_and_client_certificates(tmp_path, store, authority):
    """`config.properties` as TorchServe reads it, and client certificates, which it does not have."""
    issued = authority.issue("server", "rsa")
    port, management, grpc_port = free_port(), free_port(), free_port()
    config = tmp_path / "config.properties"
    config.write_text(
        f"inference_address=https://127.0.0.1:{port}\n"
        f"management_address=https://127.0.0.1:{management}\n"
        f"keystore={issued.keystore(tmp_path / 'keystore.p12', _PASSWORD)}\n"
        f"keystore_pass={_PASSWORD}\nkeystore_type=PKCS12\nenable_grpc_ssl=true\n"
        f"model_store={store}\nload_models=all\n"
    )
    client = authority.issue("client").write(tmp_path, "client")
    flags = [f"--config={config}", f"--grpc-port={grpc_port}"]
    flags.append(f"--tls-client-ca-file={authority.write(tmp_path / 'ca.crt')}")
    with Server(store, *flags, port=0, wait=False) as running:
        running.wait_started()
        assert _PASSWORD not in running.log()
        context = ssl.create_default_context(cadata=authority.pem.decode())
        for each in (port, management):
            with pytest.raises(OSError):  # noqa: PT011 - which one is OpenSSL's choice
                urllib.request.urlopen(f"https://localhost:{each}/ping", context=context, timeout=60)
        context.load_cert_chain(*client)
        with urllib.request.urlopen(f"https://localhost:{port}/ping", context=context, timeout=60) as answer:
            assert answer.status == 200
        pair = client[1].read_bytes(), client[0].read_bytes()
        for own, allowed in ((pair, True), ((), False)):
            credentials = grpc.ssl_channel_credentials(authority.pem, *own)
            with grpc.secure_channel(f"localhost:{grpc_port}", credentials) as channel:
                live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
                if allowed:
                    assert live(b"", timeout=60) == b"\x08\x01"
                else:
                    with pytest.raises(grpc.RpcError):
                        live(b"", timeout=60)


def test_torchserves_configuration_without_any_certificate(tmp_path, store):
    """TorchServe makes one for itself, and its clients check nothing (`curl --insecure`)."""
    port = free_port()
    config = tmp_path / "config.properties"
    config.write_text(f"inference_address=https://127.0.0.1:{port}\nmodel_store={store}\nload_models=all\n")
    with Server(store, f"--config={config}", "--grpc-port=0", port=0, wait=False) as running:
        running.wait_started()
        assert "clients cannot check whom they talk to" in running.log()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/ping", context=context, timeout=60) as answer:
            assert answer.status == 200


# Sockets that are files


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


def _ask(path, method="GET", target="/ping", body=None):
    connection = _UnixConnection(path)
    connection.request(method, target, body)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data


def test_socket_files_for_inference_and_management(tmp_path, store):
    main, management = tmp_path / "main.sock", tmp_path / "management.sock"
    # As a server that was killed leaves it.
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(main))
    flags = [f"--unix-socket={main}", f"--management-address=unix:{management}"]
    with Server(store, *flags, port=0, wait=False) as running:
        running.wait_started()
        assert _ask(main, "POST", "/predictions/probe", b"x")[0] == 200
        assert _ask(management, target="/models")[0] == 200
        assert f"unix:{main}" in running.log()
        running.process.terminate()
        assert running.wait_exit() == 0
    assert not main.exists()
    assert not management.exists()
