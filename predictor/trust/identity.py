"""Who this server is to its TLS clients: a private key with its certificates, and whose clients it trusts.

From PEM files or a PKCS#12 keystore; both are turned into PEM in memory, so that HTTP and gRPC show the
same certificate, read at the same moment.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    pkcs12,
)

from predictor.trust.errors import TrustError
from predictor.trust.files import read_file


@dataclasses.dataclass(frozen=True)
class TlsFiles:
    """Where an identity comes from.

    Attributes:
        certificate: PEM, the server's own first, then those between it and the root.
        key: PEM, not encrypted.
        keystore: PKCS#12 with key and certificates; counts before the two above, as in TorchServe.
        password: of the keystore.
        client_ca: PEM, authorities whose clients are let in, and no others; None lets everybody in.
    """

    certificate: Path | None = None
    key: Path | None = None
    keystore: Path | None = None
    password: str = dataclasses.field(default="", repr=False)
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are read."""
        own = (self.keystore,) if self.keystore is not None else (self.certificate, self.key)
        return tuple(path for path in (*own, self.client_ca) if path is not None)

    def __bool__(self) -> bool:
        """Say whether any file is named."""
        return bool(self.paths)


@dataclasses.dataclass(frozen=True)
class Identity:
    """What TLS needs, in memory.

    Attributes:
        chain: PEM, the server's certificate first.
        key: PEM, not encrypted.
        client_ca: PEM, None to let every client in.
        subject: whose certificate it is.
        expires: until when it counts.
    """

    chain: bytes
    key: bytes = dataclasses.field(repr=False)
    client_ca: bytes | None
    subject: str
    expires: datetime

    def encrypted_key(self, encryption: KeySerializationEncryption) -> bytes:
        """Return the key as PEM that only a password opens."""
        key = load_pem_private_key(self.key, None)
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def load_identity(files: TlsFiles) -> Identity:
    """Read key and certificates.

    Raises:
        TrustError: a file is missing, unreadable or something else, or they do not belong together.
    """
    if files.keystore is not None:
        key, chain, source = *_from_keystore(files.keystore, files.password), str(files.keystore)
    elif files.certificate is not None and files.key is not None:
        chain, key = _certificates(files.certificate, "tls_certificate_file"), _key(files.key)
        source = f"{files.certificate} and {files.key}"
    else:
        raise TrustError("TLS needs tls_certificate_file and tls_key_file, or tls_keystore_file")
    if _public(key.public_key()) != _public(chain[0].public_key()):
        raise TrustError(f"{source}: the private key is not that of the first certificate")
    client_ca = None
    if files.client_ca is not None:
        client_ca = _pem(_certificates(files.client_ca, "tls_client_ca_file"))
    return Identity(
        chain=_pem(chain),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        client_ca=client_ca,
        subject=chain[0].subject.rfc4514_string(),
        expires=chain[0].not_valid_after_utc,
    )


def _from_keystore(path: Path, password: str) -> tuple[PrivateKeyTypes, list[x509.Certificate]]:
    try:
        key, own, further = pkcs12.load_key_and_certificates(
            read_file(path, "tls_keystore_file"), password.encode("utf-8") if password else None
        )
    except (ValueError, UnsupportedAlgorithm):
        # The library's text does not tell a wrong password from a broken file either.
        raise TrustError(
            f"tls_keystore_file {path}: not PKCS#12, or tls_keystore_password is wrong"
        ) from None
    if key is None or own is None:
        raise TrustError(f"tls_keystore_file {path}: no private key with a certificate in it")
    return key, [own, *further]


def _key(path: Path) -> PrivateKeyTypes:
    data = read_file(path, "tls_key_file")
    try:
        return load_pem_private_key(data, None)
    except TypeError:
        raise TrustError(f"tls_key_file {path}: encrypted; use a key without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise TrustError(f"tls_key_file {path}: not a private key in PEM form") from None


def _certificates(path: Path, setting: str) -> list[x509.Certificate]:
    data = read_file(path, setting)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise TrustError(f"{setting} {path}: not a certificate in PEM form") from None


def _pem(certificates: list[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def _public(key: object) -> bytes:
    """Return a public key in the form in which two can be compared."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]
