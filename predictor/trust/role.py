"""What a token lets its bearer do."""

from __future__ import annotations

import enum


class Role(enum.Enum):
    """One kind of key in TorchServe's key file; the values are its names there."""

    INFERENCE = "inference"
    MANAGEMENT = "management"
    # Renews the two others, and nothing else.
    API = "API"


ROUTE_ROLES = (Role.INFERENCE, Role.MANAGEMENT)
"""The roles that routes ask for."""
