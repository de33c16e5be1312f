"""The server's certificate while it runs: loaded at the start, replaced without closing a connection."""

from __future__ import annotations

import logging
import secrets
import ssl
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

from predictor.trust.errors import TrustError
from predictor.trust.identity import Identity, TlsFiles, load_identity
from predictor.trust.self_signed import self_signed
from predictor.trust.watch import WatchedFiles

logger = logging.getLogger(__name__)


class _Changing(ssl.SSLContext):
    """A context that leaves every connection to another one, sessions and tickets included.

    Choosing a context in `sni_callback` would not do: OpenSSL resumes sessions of the first one.
    """

    current: ssl.SSLContext

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin a connection as it is now; both of asyncio's loops call this for each."""
        return self.current.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


class Certificates:
    """The identity that new connections see.

    Attributes:
        identity: the current one; gRPC asks for it with every handshake.
        context: for asyncio's servers, the same for the whole run; it hands each connection on to a
            context made for the current identity.
    """

    def __init__(self, files: TlsFiles, host: str = "") -> None:
        """Load the identity, or make one that nobody can check where no file is named.

        Args:
            files: what it consists of.
            host: where the server listens, for a certificate that is made.

        Raises:
            TrustError: the files cannot be used.
        """
        self._files = files
        self.identity = load_identity(files) if files else self_signed(host)
        self.context = _Changing(ssl.PROTOCOL_TLS_SERVER)
        self.context.current = make_context(self.identity)
        if not files:
            logger.warning(
                "TLS with a certificate made for this run: clients cannot check whom they talk to; "
                "see tls_certificate_file and tls_key_file"
            )
        self._tell()

    def watched(self) -> WatchedFiles:
        """Return what notices that the files have changed; a certificate that was made stays."""
        return WatchedFiles("TLS certificate", self._files.paths, self.reload)

    def reload(self) -> None:
        """Load the files again; connections that are open keep what they have.

        Raises:
            TrustError: they cannot be used; the old identity stays.
        """
        identity = load_identity(self._files)
        # A fresh context: the old one would keep a certificate of another key type, and the sessions of
        # clients whose authority is no longer trusted.
        self.context.current = make_context(identity)
        self.identity = identity
        self._tell()

    def _tell(self) -> None:
        identity = self.identity
        logger.info("TLS certificate of %s, good until %s", identity.subject, identity.expires.date())


def make_context(identity: Identity) -> ssl.SSLContext:
    """Return a context for a server.

    Raises:
        TrustError: OpenSSL refuses key or certificates, an RSA key that is too short for instance.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        _load_chain(context, identity)
        if identity.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=identity.client_ca.decode("ascii"))
    except ssl.SSLError as error:
        raise TrustError(f"TLS: OpenSSL does not take key or certificate: {error.reason or error}") from error
    except OSError as error:
        raise TrustError(
            f"TLS: no temporary file for the encrypted key: {error.strerror or error}"
        ) from error
    return context


def _load_chain(context: ssl.SSLContext, identity: Identity) -> None:
    """Give OpenSSL key and certificates, which Python can do by file only.

    The key is encrypted with a password that is forgotten at once, so that no disk ever holds it bare.
    """
    password = secrets.token_bytes(32).hex()
    encrypted = identity.encrypted_key(BestAvailableEncryption(password.encode("ascii")))
    with tempfile.TemporaryDirectory(prefix="predictor-tls-") as folder:
        file = Path(folder, "identity.pem")
        file.write_bytes(encrypted + identity.chain)
        context.load_cert_chain(file, password=password)
