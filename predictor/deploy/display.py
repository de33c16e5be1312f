"""What is seen while waiting: a live view on a terminal, a line for each change elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from predictor.deploy.diagnosis import condition
from predictor.deploy.waiting import Object, Snapshot

_SIGNS = {"True": "✓", "False": "✗"}


class Progress:
    """Shows snapshots; a context manager."""

    def __init__(self, console: Console, name: str) -> None:
        """Show the way of the service `name` on `console`."""
        self._console = console
        self._name = name
        self._spinner = Spinner("dots")
        self._live = Live(console=console, transient=True, refresh_per_second=8)
        self._last = ""

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, seen: Snapshot) -> None:
        """Show a new snapshot."""
        if self._console.is_terminal:
            self._live.update(self._view(seen))
            return
        line = _line(seen)
        if line != self._last:
            self._last = line
            self._console.print(Text(f"{self._name}: {line}"), soft_wrap=True)

    def _view(self, seen: Snapshot) -> Group:
        self._spinner.update(text=Text(f"{self._name} is on its way, {_duration(seen.elapsed)}", "bold"))
        table = Table.grid(padding=(0, 2))
        for one in (seen.service.get("status") or {}).get("conditions") or []:
            sign = _SIGNS.get(str(one.get("status")), "…")
            table.add_row(Text(sign), Text(str(one["type"])), Text(str(one.get("reason") or ""), "dim"))
        for pod in seen.pods:
            table.add_row(Text("·"), Text(str(pod["metadata"]["name"])), Text(pod_state(pod), "dim"))
        reasons = [Padding(Text(finding.text, "yellow"), (0, 0, 0, 2)) for finding in seen.findings[:4]]
        return Group(self._spinner, Padding(table, (0, 0, 0, 2)), *reasons)


def pod_state(pod: Object) -> str:
    """Return one or two words for the state of a pod."""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for one in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        reason = ((one.get("state") or {}).get("waiting") or {}).get("reason")
        if reason:
            return str(reason)
    if condition(pod, "Ready").get("status") == "True":
        return "Ready"
    return str(status.get("phase") or "Unknown")


def _line(seen: Snapshot) -> str:
    if seen.done:
        return "ready"
    if seen.findings:
        return seen.findings[0].text
    states = sorted({pod_state(pod) for pod in seen.pods})
    return f"not ready yet; pods: {', '.join(states) or 'none'}"


def _duration(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
