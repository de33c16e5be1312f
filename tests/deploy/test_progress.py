"""What is seen while waiting, on a terminal and elsewhere."""

from __future__ import annotations

import io

from rich.console import Console
from support.kube_api import container, pod

from predictor.deploy.diagnosis import Finding
from predictor.deploy.display import Progress, pod_state
from predictor.deploy.waiting import Snapshot


def _snapshot(*findings, done=False):
    service = {
        "metadata": {"name": "digits"},
        "status": {
            "conditions": [{"type": "PredictorReady", "status": "False", "reason": "MinimumReplicas"}]
        },
    }
    pods = [pod("digits-1", container({"waiting": {"reason": "ContainerCreating"}}))]
    return Snapshot(service, pods, findings, done, 75.0)


def test_elsewhere_a_line_for_each_change():
    out = io.StringIO()
    with Progress(Console(file=out, highlight=False, width=40), "digits") as progress:
        for seen in (_snapshot(), _snapshot(), _snapshot(Finding("[x] is wrong " * 9)), _snapshot(done=True)):
            progress.show(seen)
    assert out.getvalue().splitlines() == [
        "digits: not ready yet; pods: ContainerCreating",
        "digits: " + "[x] is wrong " * 9,
        "digits: ready",
    ]


def test_on_a_terminal_a_live_view_that_leaves_nothing_behind():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, height=30, color_system=None)
    with Progress(console, "digits") as progress:
        progress.show(_snapshot(Finding("the image cannot be pulled")))
        progress._live.refresh()
        shown = out.getvalue()
    for part in ("digits is on its way, 1:15", "✗  PredictorReady", "ContainerCreating", "cannot be pulled"):
        assert part in shown
    assert out.getvalue().endswith("\x1b[2K"), "the view is taken away again"


def test_the_state_of_a_pod_in_a_word():
    ready = pod("a", container({"running": {}}, ok=True), phase="Running")
    ready["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    assert pod_state(ready) == "Ready"
    assert pod_state(pod("a", container({"running": {}}), phase="Running")) == "Running"
    assert pod_state(pod("a", deletionTimestamp="2026-11-21T09:00:00Z")) == "Terminating"
    assert pod_state({"metadata": {}}) == "Unknown"
