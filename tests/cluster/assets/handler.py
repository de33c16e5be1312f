"""A model whose ways of failing a test can choose; it needs no torch."""

import os
import pathlib
import time

_MARK = pathlib.Path("/tmp/dead-for-good")


def _server() -> str:
    """Tell this container's server from the one after a restart, which finds the same /tmp."""
    return pathlib.Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[19]


class Handler:
    def initialize(self, context):
        if os.environ.get("BROKEN"):
            raise RuntimeError("this version is broken")
        if _MARK.exists() and _MARK.read_text() == _server():
            raise RuntimeError("the device is gone")

    def handle(self, data, context):
        bodies = [row.get("body") or row.get("data") for row in data]
        bodies = [body if isinstance(body, dict) else {} for body in bodies]
        if any(body.get("die") for body in bodies):
            _MARK.write_text(_server())
            os._exit(1)
        time.sleep(max(body.get("seconds", 0) for body in bodies))
        return [
            {"revision": os.environ.get("REVISION", ""), "pod": os.environ.get("HOSTNAME")} for _ in bodies
        ]
