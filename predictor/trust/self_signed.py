"""A certificate that the server makes for itself where it was given none for TLS, as TorchServe does.

It keeps what is said from those who only listen; whom they talk to, clients cannot tell by it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import socket
from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from predictor.trust.identity import Identity

# For clocks that differ; and longer than any process runs, because nobody replaces it.
_EARLIER = dt.timedelta(days=1)
_LATER = dt.timedelta(days=3650)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ANYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - recognised, not bound


def self_signed(host: str) -> Identity:
    """Return a fresh key with a certificate of its own, which is in memory only.

    Args:
        host: where the server listens; the certificate names it, this machine, and its loopback addresses.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.timezone.utc)
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "predictor, self-signed")])
    texts = dict.fromkeys((*_LOOPBACK, host, socket.gethostname()))
    names = [name for text in texts if text not in _ANYWHERE for name in _general_names(text)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(own)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + _LATER)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, SHA256())
    )
    return Identity(
        chain=certificate.public_bytes(Encoding.PEM),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        client_ca=None,
        subject=own.rfc4514_string(),
        expires=certificate.not_valid_after_utc,
    )


def _general_names(text: str) -> Iterator[x509.GeneralName]:
    """Yield what a certificate calls a host; nothing for a name that it cannot hold."""
    try:
        yield x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        # Host names may be in any script, certificates know ASCII; Linux allows a character more than DNS.
        with contextlib.suppress(UnicodeError):
            yield x509.DNSName(text.encode("idna").decode("ascii"))
