"""What counting and measuring one request costs the front end, beside the same with prometheus_client.

    python -m benchmarks.metrics_cost

The least of many rounds is shown, because a shared machine only ever adds.
"""

from __future__ import annotations

import asyncio
import timeit

import prometheus_client

from predictor.ipc.messages import Envelope, InferenceRequest, InferenceResult, Results, Timing, Verb
from predictor.serving.job import Job
from predictor.serving.meter import ModelMeter
from predictor.serving.worker import SentBatch
from predictor.telemetry.families import SECONDS
from predictor.telemetry.record import CURRENT, RequestRecord
from predictor.telemetry.requests import RequestMeter

ROUNDS, LOOPS = 60, 500


def least(function) -> float:
    """Return microseconds of one call, in the fastest round."""
    return min(timeit.repeat(function, number=LOOPS, repeat=ROUNDS)) / LOOPS * 1e6


def main() -> None:
    requests, model = RequestMeter(), ModelMeter("m")
    loop = asyncio.new_event_loop()
    job = Job(InferenceRequest("id", Verb.PREDICT, Envelope.V1), loop)
    batch = SentBatch(0, [job])
    results = Results(0, [InferenceResult()], Timing(batch.taken_at, 0.001, 0.002, 0.001))

    def ours() -> None:
        record = RequestRecord()
        CURRENT.set(record)
        record.protocol = "v1"
        record.found("m", "1.0", None)
        record.verb = "predict"
        job.record = record
        model.answered(batch, results)
        requests.finished(record, "200", 200)

    registry = prometheus_client.CollectorRegistry()
    counters = [
        prometheus_client.Counter(f"c{n}", "x", ["m"], registry=registry).labels("m") for n in range(5)
    ]
    histograms = [
        prometheus_client.Histogram(f"h{n}", "x", ["m"], registry=registry, buckets=SECONDS).labels("m")
        for n in range(10)
    ]
    gauges = [prometheus_client.Gauge(f"g{n}", "x", ["m"], registry=registry).labels("m") for n in range(4)]

    def theirs() -> None:
        for counter in counters:
            counter.inc()
        for histogram in histograms:
            histogram.observe(0.002)
        for gauge in gauges:
            gauge.set(0.002)

    print(f"ours: {least(ours):.1f} us a request in a batch of its own")
    print(f"the same series in prometheus_client, labels resolved before: {least(theirs):.1f} us")
    loop.close()


if __name__ == "__main__":
    main()
