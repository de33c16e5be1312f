"""What is known of the request that the running task answers.

Routing, the registry and the model each know a part of what a metric's labels tell; they note it here
instead of handing it through every protocol. Every request runs in a task of its own, so a context
variable holds it.
"""

from __future__ import annotations

import time
from contextvars import ContextVar


class RequestRecord:
    """One request, from its head to its answer.

    Attributes:
        protocol: which one answers it.
        model: name of the model that was found, "" while none was; never a name that a client made up.
        version: its version.
        asked_version: the version that the client named, "default" if it named none.
        verb: predict, explain or describe once it has been given to a model, "" before.
        started: clock at its beginning, in seconds (`time.monotonic`).
        queued: seconds that it waited for a worker to start on it.
    """

    __slots__ = ("asked_version", "model", "protocol", "queued", "started", "verb", "version")

    def __init__(self, protocol: str = "other") -> None:
        """Begin to measure."""
        self.protocol = protocol
        self.model = self.version = self.verb = ""
        self.asked_version = "default"
        self.started = time.monotonic()
        self.queued = 0.0

    def found(self, model: str, version: str, asked_version: str | None) -> None:
        """Note the model that the request names."""
        self.model = model
        self.version = version
        self.asked_version = asked_version or "default"


CURRENT: ContextVar[RequestRecord | None] = ContextVar("request", default=None)
