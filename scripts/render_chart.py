"""Write charts/predictor/README.md from the chart's values.yaml.

The comment above a key of values.yaml is its description. A key whose children have comments is a heading
for them; any other stands in the table with its default.
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import yaml

CHART = Path(__file__).resolve().parent.parent / "charts" / "predictor"
VALUES = CHART / "values.yaml"
PAGE = CHART / "README.md"
_KEY = re.compile(r"( *)([A-Za-z][A-Za-z0-9]*):(?: .*)?")
_MAX_DEFAULT = 60
_INTRODUCTION = """\
# Helm chart: predictor

Written by `python scripts/render_chart.py` from `values.yaml`; change it there.

Serves PyTorch models on Kubernetes, on NVIDIA GPUs unless told otherwise, in one of three modes:

    helm install digits charts/predictor                                       # Deployment and Service
    helm install digits charts/predictor --set mode=inferenceService           # KServe, this model alone
    helm install torch charts/predictor --set mode=servingRuntime \\
      --set servingRuntime.clusterScoped=true                                  # KServe, for all models

No registry hosts the image yet. Build it (`make image`, [docs/image.md](../../docs/image.md)), push it to
yours, and name that in `image.repository`; or load it into the nodes as `predictor`. Without a GPU add
`--set gpu.enabled=false`. `helm test RELEASE` asks the server whether it serves.

What is refused before it reaches the cluster: unknown values, wrong types and ranges (by
`values.schema.json`), settings that the server does not have, and values that contradict each other.

## How a pod ends

    deleted ── preStopSeconds ──> SIGTERM ── delaySeconds ──> port closed ── gracePeriodSeconds ──> SIGKILL
      still serves everything       unready, still serves       finishes what it has

The grace period of the pod is the sum of the three and 10 s more, unless `terminationGracePeriodSeconds`
says otherwise. KServe gives the pods of a serving runtime 30 s in all: there the server's own grace period
is shortened to fit. Knative ends pods its own way and gets none of this.

## Scaling on the queue

`autoscaling.queueDepth` is about requests that wait in a pod (`predictor_queue_depth`). With
`engine: keda` KEDA asks Prometheus for the sum over all pods; with `engine: hpa` prometheus-adapter has to
offer the metric for pods. In mode `inferenceService` KServe makes the autoscaler: its HPA knows CPU only,
its KEDA both.

## Values

"""


class Value(typing.NamedTuple):
    """One key of values.yaml: its path, the comment above it, and what it is by default."""

    path: tuple[str, ...]
    comment: str
    default: object


def read_values(text: str) -> list[Value]:
    """Return every key that has a comment, and every leaf, in the order of the file."""
    values: list[Value] = []
    tree, quoted = yaml.safe_load(text), -1
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if line.lstrip().startswith("# "):
            comment.append(line.strip()[2:])
            continue
        match = _KEY.fullmatch(line)
        below_documented = quoted >= 0 and indent > quoted
        if match is None or (below_documented and not comment):
            comment = comment if line.strip() else []
            continue
        path = [*path[: indent // 2], match.group(2)]
        values.append(Value(tuple(path), " ".join(comment), _look_up(tree, path)))
        quoted = indent if comment else -1
        comment = []
    return [value for value in values if value.comment or not isinstance(value.default, dict)]


def _look_up(tree: object, path: list[str]) -> object:
    for name in path:
        tree = typing.cast("dict[str, object]", tree)[name]
    return tree


def render() -> str:
    """Return the page."""
    rows = [f"| `{'.'.join(value.path)}` | {_default(value)} | {value.comment} |" for value in _shown()]
    return _INTRODUCTION + "\n".join(["| value | default | |", "|---|---|---|", *rows]) + "\n"


def _shown() -> Iterator[Value]:
    yield from read_values(VALUES.read_text(encoding="utf-8"))


def _default(value: Value) -> str:
    shown = json.dumps(value.default, separators=(", ", ": "))
    return f"`{shown}`" if len(shown) <= _MAX_DEFAULT else "see `values.yaml`"


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
