"""What can be wrong with the files that this package reads."""

from __future__ import annotations


class TrustError(Exception):
    """A file cannot be read, written or used; the text names it, and never shows what is secret in it."""
