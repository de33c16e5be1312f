"""The server's certificate for gRPC, asked for anew with every handshake."""

from __future__ import annotations

from typing import Any

import grpc

from predictor.trust.certificates import Certificates
from predictor.trust.identity import Identity


def server_credentials(certificates: Certificates) -> Any:
    """Return credentials that follow `certificates` as they change."""
    known = certificates.identity

    def fetch() -> Any:
        # gRPC keeps what it has unless it is given something; called from its own threads, one at a time.
        nonlocal known
        current = certificates.identity
        if current is known:
            return None
        known = current
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(known), fetch, require_client_authentication=known.client_ca is not None
    )


def _configuration(identity: Identity) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(identity.key, identity.chain)], root_certificates=identity.client_ca
    )
