"""What `/metrics` tells, read with prometheus_client's parser."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence

from prometheus_client.parser import text_string_to_metric_families

from support import wire
from support.processes import wait_until


class Scrape:
    """One answer of `/metrics`.

    Attributes:
        text: as it came.
        families: type by name, as the text says.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        lines = [line.split(" ") for line in text.splitlines() if line.startswith("# TYPE ")]
        self.families = {words[2]: words[3] for words in lines}
        assert len(self.families) == len(lines), "a family is told twice"
        self._samples = [
            sample._replace(name=self._as_told(sample.name))
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]
        keys = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in self._samples]
        assert len(keys) == len(set(keys)), "a series is told twice"

    def _as_told(self, name: str) -> str:
        """Undo that the parser ends every counter in `_total`."""
        plain = name.removesuffix("_total")
        return name if name in self.families or plain not in self.families else plain

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of the samples `name` that have these labels; 0 when there is none."""
        return sum(value for _, value in self.samples(name, **labels))

    def value(self, name: str, **labels: str) -> float:
        """Return the one sample `name` that has these labels."""
        found = self.samples(name, **labels)
        assert len(found) == 1, f"{len(found)} samples of {name} with {labels}"
        return found[0][1]

    def samples(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of every sample `name` that has these labels."""
        return [
            (sample.labels, sample.value)
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]


def scrape(port: int, names: Sequence[str] = ()) -> Scrape:
    """Ask the server on `port`."""
    query = urllib.parse.urlencode([("name[]", name) for name in names])
    response = wire.request(port, "GET", f"/metrics?{query}" if query else "/metrics")
    assert response.status == 200, response
    assert response.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    return Scrape(response.body.decode())


def in_flight(port: int, model: str) -> int:
    """Return how many requests of a model wait, or are held by workers."""
    name = "predictor_requests_in_flight"
    return int(scrape(port, [name]).sum(name, model=model))


def accepted(port: int, model: str) -> int:
    """Return how many requests of a model the server has taken: they wait, run, or have ended."""
    names = ["predictor_requests_in_flight", "predictor_requests_total"]
    found = scrape(port, names)
    return int(sum(found.sum(name, model=model) for name in names))


def ended(port: int, model: str, *statuses: str) -> int:
    """Return how many requests of a model have ended with one of `statuses`."""
    name = "predictor_requests_total"
    found = scrape(port, [name])
    return int(sum(found.sum(name, model=model, status=status) for status in statuses))


def left(port: int, model: str) -> int:
    """Return how many requests of a model their clients have left, or waited for no longer."""
    return ended(port, model, "499", "CANCELLED", "DEADLINE_EXCEEDED")


def wait_in_flight(port: int, model: str, count: int) -> None:
    """Wait until so many requests of a model wait, or are held by workers."""
    wait_until(lambda: in_flight(port, model) == count, 60, f"{count} requests of {model} are in flight")
