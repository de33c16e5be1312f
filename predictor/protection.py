"""All that stands between this server and strangers, put together from the settings."""

from __future__ import annotations

import logging

from predictor.http.gate import Gate
from predictor.settings import Settings
from predictor.trust.access import Port
from predictor.trust.certificates import Certificates
from predictor.trust.cors import make_cors
from predictor.trust.guard import Guard, Tokens
from predictor.trust.identity import TlsFiles
from predictor.trust.key_file import KeyFile
from predictor.trust.token_file import TokenFile
from predictor.trust.watch import WatchedFiles

logger = logging.getLogger(__name__)


class Protection:
    """Tokens, TLS and CORS of one server.

    Attributes:
        keys: TorchServe's key file, None where it is not asked for.
        guard: knows all tokens; None where none is asked for.
        certificates: None where nothing speaks TLS.
        watched: the files that are read again when they change.
    """

    def __init__(self, settings: Settings, needs_tls: bool) -> None:
        """Read the files that the settings name, and write the key file.

        Args:
            settings: all settings.
            needs_tls: whether a listener speaks TLS.

        Raises:
            TrustError: a file cannot be used.
        """
        self.watched: list[WatchedFiles] = []
        self.certificates = self._load_certificates(settings) if needs_tls else None
        self.keys: KeyFile | None = None
        sources: list[Tokens] = []
        if settings.token_file is not None:
            tokens = TokenFile(settings.token_file)
            self.watched.append(WatchedFiles("token_file", (settings.token_file,), tokens.reload))
            sources.append(tokens)
            logger.info("asking for the tokens of %s", settings.token_file)
        if settings.token_authorization:
            self.keys = KeyFile(settings.token_key_file, settings.token_expiration)
            self.keys.write()
            sources.append(self.keys)
            logger.info("asking for tokens, which are in %s", self.keys.path)
        self.guard = Guard(sources) if sources else None
        self._cors = make_cors(
            settings.cors_allowed_origin, settings.cors_allowed_methods, settings.cors_allowed_headers
        )

    def gate(self, port: Port) -> Gate:
        """Return what a listener asks about each request."""
        return Gate(port, self.guard, self._cors)

    def check_files(self) -> None:
        """Read again what has changed, now."""
        for files in self.watched:
            files.check()

    def _load_certificates(self, settings: Settings) -> Certificates:
        certificates = Certificates(
            TlsFiles(
                certificate=settings.tls_certificate_file,
                key=settings.tls_key_file,
                keystore=settings.tls_keystore_file,
                password=settings.tls_keystore_password,
                client_ca=settings.tls_client_ca_file,
            ),
            settings.host,
        )
        self.watched.append(certificates.watched())
        return certificates
