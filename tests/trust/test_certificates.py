"""Certificates from files, and new ones while connections are open."""

from __future__ import annotations

import asyncio
import socket
import ssl
import stat
import tempfile
from types import SimpleNamespace

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from support.certificates import Authority

from predictor.trust.certificates import Certificates, make_context
from predictor.trust.errors import TrustError
from predictor.trust.identity import Identity, TlsFiles, load_identity

_PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def authority():
    return Authority()


def _files(folder, issued, client_ca=None):
    certificate, key = issued.write(folder)
    return TlsFiles(certificate, key, client_ca=client_ca)


def _run(main):
    return uvloop.run(main)


class _Served:
    """An echo server over TLS on uvloop, as the real server has it."""

    def __init__(self, context):
        self._context = context

    async def __aenter__(self):
        async def echo(reader, writer):
            while data := await reader.read(100):
                writer.write(data)
            writer.close()

        self._server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc):
        self._server.close()
        await self._server.wait_closed()

    async def connect(self, authority, *, sni="localhost", minimum=None, maximum=None, client=None):
        context = ssl.create_default_context(cadata=authority.pem.decode())
        context.check_hostname = sni is not None
        if minimum:
            context.minimum_version = minimum
        if maximum:
            context.maximum_version = maximum
        if client:
            context.load_cert_chain(*client)
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=sni or "")


def _serial(writer):
    return int(writer.get_extra_info("peercert")["serialNumber"], 16)


async def _echo(reader, writer, data=b"hello"):
    writer.write(data)
    return await asyncio.wait_for(reader.readexactly(len(data)), 10)


@pytest.mark.parametrize("kinds", [("ec", "ec"), ("rsa", "ec"), ("ec", "rsa")])
@pytest.mark.parametrize("sni", ["localhost", None])
def test_a_new_certificate_counts_for_new_connections_and_open_ones_stay(tmp_path, authority, kinds, sni):
    first, second = (authority.issue(kind, kind) for kind in kinds)
    certificates = Certificates(_files(tmp_path, first))

    async def main():
        async with _Served(certificates.context) as served:
            old = await served.connect(authority, sni=sni)
            assert _serial(old[1]) == first.serial
            second.write(tmp_path)
            certificates.reload()
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                new = await served.connect(authority, sni=sni, minimum=version, maximum=version)
                assert _serial(new[1]) == second.serial
                assert await _echo(*new) == b"hello"
                new[1].close()
            assert await _echo(*old) == b"hello"
            old[1].close()

    _run(main())


def test_nothing_older_than_tls_1_2(tmp_path, authority):
    context = make_context(load_identity(_files(tmp_path, authority.issue("server"))))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_only_clients_of_the_authority_are_let_in_also_after_it_was_replaced(tmp_path, authority):
    others = Authority("others")
    client, stranger = authority.issue("client"), others.issue("stranger")
    ca = authority.write(tmp_path / "ca.crt")
    certificates = Certificates(_files(tmp_path, authority.issue("server"), ca))
    pairs = {name: issued.write(tmp_path, name) for name, issued in (("c", client), ("s", stranger))}

    async def passes(served, pair):
        try:
            connection = await served.connect(authority, client=pair)
            answer = await _echo(*connection)
        except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
            return False
        connection[1].close()
        return answer == b"hello"

    async def main():
        async with _Served(certificates.context) as served:
            before = [await passes(served, pair) for pair in (pairs["c"], pairs["s"], None)]
            others.write(tmp_path / "ca.crt")
            certificates.reload()
            after = [await passes(served, pair) for pair in (pairs["c"], pairs["s"], None)]
            return before, after

    assert _run(main()) == ([True, False, False], [False, True, False])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_outlives_the_authority_that_let_its_client_in(tmp_path, authority, version):
    ca = authority.write(tmp_path / "ca.crt")
    pair = authority.issue("client").write(tmp_path, "client")
    certificates = Certificates(_files(tmp_path, authority.issue("server"), ca))
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(*pair)

    def talk(port, session=None):
        """Return the session, and whether it was an old one; a ticket comes with the first answer."""
        with (
            socket.create_connection(("127.0.0.1", port), 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as client,
        ):
            client.sendall(b"hello")
            if not client.recv(5):
                raise ConnectionResetError
            return client.session, client.session_reused

    async def main():
        async with _Served(certificates.context) as served:
            session, _ = await asyncio.to_thread(talk, served.port)
            _, reused = await asyncio.to_thread(talk, served.port, session)
            Authority("others").write(tmp_path / "ca.crt")
            certificates.reload()
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.to_thread(talk, served.port, session)
            return reused

    assert _run(main())


def test_a_keystore_has_the_same_identity_as_pem_files(tmp_path, authority):
    issued = authority.issue("server", "rsa")
    keystore = issued.keystore(tmp_path / "server.p12", _PASSWORD)
    from_pem = load_identity(_files(tmp_path, issued))
    # TorchServe's order: a keystore counts before the two files.
    other = authority.issue("other")
    both = TlsFiles(*other.write(tmp_path, "other"), keystore=keystore, password=_PASSWORD)
    from_keystore = load_identity(both)
    assert from_keystore.key == from_pem.key
    assert from_keystore.chain == issued.pem + authority.pem
    assert both.paths == (keystore,)
    make_context(from_keystore)


def test_a_bad_reload_keeps_the_old_certificate_and_the_next_good_one_counts(tmp_path, authority, caplog):
    caplog.set_level("INFO")
    first, second = authority.issue("first"), authority.issue("second")
    certificates = Certificates(_files(tmp_path, first))
    watched = certificates.watched()
    assert not watched.check()
    # As cert-manager's files look to one who reads between two writes: new certificate, old key.
    (tmp_path / "server.crt").write_bytes(second.pem)
    assert not watched.check()
    assert certificates.identity.chain == first.pem
    assert "not that of the first certificate" in caplog.text
    (tmp_path / "server.key").write_bytes(second.key_pem)
    assert watched.check()
    assert certificates.identity.chain == second.pem


def _wrong_files(folder, authority):
    issued, other = authority.issue("server"), authority.issue("other")
    certificate, key = issued.write(folder)
    _, other_key = other.write(folder, "other")
    garbage = folder / "garbage"
    garbage.write_bytes(b"\x00\xff no PEM")
    encrypted = folder / "encrypted.key"
    encrypted.write_bytes(
        issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    )
    keystore = issued.keystore(folder / "server.p12", _PASSWORD)
    missing = folder / "missing"
    return {
        "no key": (TlsFiles(certificate), "TLS needs tls_certificate_file and tls_key_file"),
        "no certificate": (TlsFiles(key=key), "TLS needs"),
        "only clients'": (TlsFiles(client_ca=certificate), "TLS needs"),
        "missing": (TlsFiles(missing, key), "tls_certificate_file .*missing: No such file"),
        "garbage": (TlsFiles(garbage, key), "tls_certificate_file .*not a certificate"),
        "garbage key": (TlsFiles(certificate, garbage), "tls_key_file .*not a private key"),
        "swapped": (TlsFiles(key, certificate), "tls_certificate_file .*not a certificate"),
        "encrypted": (TlsFiles(certificate, encrypted), "encrypted"),
        "other key": (TlsFiles(certificate, other_key), "not that of the first certificate"),
        "password": (TlsFiles(keystore=keystore, password="wrong"), "tls_keystore_password is wrong"),
        "no password": (TlsFiles(keystore=keystore), "tls_keystore_password is wrong"),
        "no keystore": (TlsFiles(keystore=certificate, password="x"), "not PKCS#12"),
        "client ca": (
            TlsFiles(certificate, key, client_ca=garbage),
            "tls_client_ca_file .*not a certificate",
        ),
        "folder": (TlsFiles(folder, key), "Is a directory"),
    }


def test_files_that_cannot_be_used_are_named(tmp_path, authority):
    for name, (files, message) in _wrong_files(tmp_path, authority).items():
        with pytest.raises(TrustError, match=message) as caught:
            Certificates(files)
        assert _PASSWORD not in str(caught.value), name


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.1", "models.example", "bücher.example", "x" * 64, ""]
)
def test_without_files_there_is_a_certificate_for_this_run_and_a_warning(caplog, host):
    certificates = Certificates(TlsFiles(), host)
    assert "clients cannot check whom they talk to" in caplog.text
    certificate = x509.load_pem_x509_certificate(certificates.identity.chain)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    texts = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    assert {"localhost", "127.0.0.1", "::1", socket.gethostname()} <= set(texts)
    assert (host in texts) is (host in ("192.0.2.1", "models.example"))
    assert not certificates.watched().check()
    other = Certificates(TlsFiles(), host)
    assert other.identity.key != certificates.identity.key


def test_a_client_that_was_given_that_certificate_may_check_it():
    certificates = Certificates(TlsFiles())
    trusting = SimpleNamespace(pem=certificates.identity.chain)

    async def main():
        async with _Served(certificates.context) as served:
            connection = await served.connect(trusting)
            assert await _echo(*connection) == b"hello"
            connection[1].close()
            with pytest.raises(ssl.SSLCertVerificationError):
                await served.connect(Authority("others"))

    _run(main())


def test_a_full_disk_is_no_crash(tmp_path, authority, monkeypatch):
    certificates = Certificates(_files(tmp_path, authority.issue("first")))
    before = certificates.identity

    def refuse(**options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(TrustError, match="No space left on device"):
        certificates.reload()
    assert certificates.identity is before


def test_the_key_is_never_bare_on_a_disk_and_never_in_a_repr(tmp_path, authority, monkeypatch):
    issued = authority.issue("server")
    identity = load_identity(_files(tmp_path, issued))
    written = []
    real = ssl.SSLContext.load_cert_chain

    def spy(self, file, *args, **kwargs):
        written.append((file.read_bytes(), stat.S_IMODE(file.parent.stat().st_mode)))
        return real(self, file, *args, **kwargs)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)
    make_context(identity)
    ((content, mode),) = written
    assert b"ENCRYPTED PRIVATE KEY" in content
    assert issued.key_pem not in content
    assert mode == 0o700
    assert "PRIVATE" not in repr(identity)
    assert isinstance(identity, Identity)
