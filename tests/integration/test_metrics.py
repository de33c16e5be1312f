"""`/metrics` of a real server: every request is counted once, whatever it was and however it ended."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from support import wire
from support.models import link_sample, make_model
from support.processes import wait_until
from support.scrape import accepted, scrape
from support.server import Server, free_port

from predictor.oip import inference_pb2 as pb
from predictor.torchserve.protos import inference_pb2 as ts

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = {"instances": [{"data": "x"}]}


@pytest.fixture(scope="module")
def metered(tmp_path_factory):
    """A server with `probe` (two versions), `batcher`, `streamer`, `measuring` and `wine`, and all ports."""
    store = tmp_path_factory.mktemp("metered")
    make_model(store, "probe", maxRetryTimeoutInSec=60)
    make_model(store, "probe", version="2.0", folder="probe_v2")
    make_model(store, "batcher", batchSize=4, maxBatchDelay=400, jobQueueSize=4)
    make_model(store, "streamer", "streamer")
    make_model(store, "measuring", "measuring")
    link_sample(store, "wine")
    grpc_port, metrics_port = free_port(), free_port()
    flags = ["--grpc-port", str(grpc_port), "--metrics-address", f"http://127.0.0.1:{metrics_port}"]
    flags += ["--max-request-size", "100000", "--system-metrics-interval", "0.5"]
    with Server(store, *flags) as server:
        server.grpc_port, server.metrics_port = grpc_port, metrics_port
        yield server


def _settled(server, name, expected, *, within=60, **labels):
    """Scrape until a sum is what it should be: a request is counted just after its client has its answer."""
    deadline = time.monotonic() + within
    while True:
        found = scrape(server.port)
        if found.sum(name, **labels) == expected or time.monotonic() > deadline:
            assert found.sum(name, **labels) == expected, found.samples(name, **labels)
            return found
        time.sleep(0.05)


def _requests(server, before, expected, **labels):
    name = "predictor_requests_total"
    return _settled(server, name, before.sum(name, **labels) + expected, **labels)


def _infer(server, model, version=""):
    channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
    with channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        tensor = pb.ModelInferRequest.InferInputTensor(name="data", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(b"x")
        request = pb.ModelInferRequest(model_name=model, model_version=version, inputs=[tensor])
        try:
            call(request)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"


def _torchserve_method(channel, kind, name):
    return getattr(channel, kind)(
        f"/org.pytorch.serve.grpc.inference.InferenceAPIsService/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=ts.PredictionResponse.FromString,
    )


@contextlib.contextmanager
def _held(server, folder):
    """Keep the worker of `probe` busy until the block ends."""
    release = folder / "release"
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.post, "/predictions/probe", {"cmd": "wait", "for": str(release)})
        try:
            _settled(server, "predictor_requests_in_flight", 1, model="probe", version="1.0")
            yield
        finally:
            release.touch()
        assert answer.result().status == 200


def test_torchserves_grpc_is_counted_streams_refusals_and_clients_that_leave(metered, tmp_path):
    before = scrape(metered.port)
    with grpc.insecure_channel(f"127.0.0.1:{metered.grpc_port}") as channel:
        predict = _torchserve_method(channel, "unary_unary", "Predictions")
        stream = _torchserve_method(channel, "unary_stream", "StreamPredictions")
        for _ in range(3):
            predict(ts.PredictionsRequest(model_name="probe", input={"data": b"x"}))
            parts = stream(
                ts.PredictionsRequest(model_name="streamer", model_version="1.0", input={"data": b"x"})
            )
            assert len(list(parts)) > 1
            with pytest.raises(grpc.RpcError):
                predict(ts.PredictionsRequest(model_name="nobody"))
        with _held(metered, tmp_path):
            left = predict.future(ts.PredictionsRequest(model_name="probe", input={"data": b"x"}))
            _settled(metered, "predictor_requests_in_flight", 2, model="probe", version="1.0")
            left.cancel()
            _requests(metered, before, 1, protocol="grpc-torchserve", model="probe", status="CANCELLED")
        labels = {"protocol": "grpc-torchserve", "verb": "predict", "status": "OK"}
        _requests(metered, before, 3, **labels, model="probe")
        after = _requests(metered, before, 3, **labels, model="streamer")
        _requests(metered, before, 3, protocol="grpc-torchserve", model="", status="INTERNAL")
    name, labels = "ts_inference_requests_total", {"model_name": "streamer", "model_version": "1.0"}
    assert after.sum(name, **labels) - before.sum(name, **labels) == 3
    assert "nobody" not in after.text


def test_counts_equal_the_requests_sent_over_every_protocol(metered):
    before = scrape(metered.port)
    v2 = {"inputs": [{"name": "data", "datatype": "BYTES", "shape": [1], "data": ["x"]}]}
    for _ in range(3):
        assert metered.post("/predictions/probe", b"x").status == 200
        assert metered.post("/v1/models/probe:predict", ROW).status == 200
        assert metered.post("/v2/models/probe/versions/2.0/infer", v2).status == 200
        assert metered.post("/predict/wine", _wine()).status == 200
        assert _infer(metered, "probe") == "OK"
    for protocol, model, version, status in (
        ("torchserve", "probe", "1.0", "200"),
        ("v1", "probe", "1.0", "200"),
        ("v2", "probe", "2.0", "200"),
        ("named", "wine", "1.0", "200"),
        ("grpc-v2", "probe", "1.0", "OK"),
    ):
        labels = {"protocol": protocol, "model": model, "version": version, "verb": "predict"}
        after = _requests(metered, before, 3, **labels, status=status)
        name = "predictor_request_duration_seconds_count"
        assert after.sum(name, **labels) - before.sum(name, **labels) == 3
    after = scrape(metered.port)
    for version, count in (("default", 9), ("2.0", 3)):
        labels = {"model_name": "probe", "model_version": version}
        name = "ts_inference_requests_total"
        assert after.sum(name, **labels) - before.sum(name, **labels) == count
        assert after.sum("ts_inference_latency_microseconds", **labels) > 0


def test_stages_and_kserves_histograms_count_every_inference(metered):
    before = scrape(metered.port)
    for _ in range(5):
        metered.post("/v1/models/wine:predict", {"instances": [_wine()]})
    after = _requests(metered, before, 5, model="wine")
    for stage in ("queue", "batch_wait", "decode", "inference", "encode"):
        labels = {"model": "wine", "verb": "predict", "stage": stage}
        name = "predictor_stage_duration_seconds_count"
        assert after.sum(name, **labels) - before.sum(name, **labels) == 5, stage
    for phase in ("preprocess", "predict", "postprocess"):
        name = f"request_{phase}_seconds_count"
        assert after.sum(name, model_name="wine") - before.sum(name, model_name="wine") == 5
    # The stages of a request do not take longer than the request.
    stages = after.sum("predictor_stage_duration_seconds_sum", model="wine", verb="predict")
    assert stages <= after.sum("predictor_request_duration_seconds_sum", model="wine", verb="predict")


def test_the_stages_are_what_the_handler_did(metered):
    before = scrape(metered.port)
    metered.post("/predictions/probe", {"cmd": "sleep", "s": 0.5})
    after = _requests(metered, before, 1, model="probe")
    name = "predictor_stage_duration_seconds_sum"
    spent = after.sum(name, model="probe", stage="inference") - before.sum(
        name, model="probe", stage="inference"
    )
    assert 0.5 <= spent < 50
    assert after.value("HandlerTime", ModelName="probe") >= 500
    assert after.value("PredictionTime", ModelName="probe") >= after.value("HandlerTime", ModelName="probe")


def test_refused_requests_are_counted_without_a_series_for_what_the_client_made_up(metered):
    before = scrape(metered.port)
    for number in range(20):
        assert metered.post(f"/predictions/nobody{number}", b"x").status == 404
        assert metered.post(f"/v1/models/nobody{number}:predict", ROW).status == 404
        assert _infer(metered, f"nobody{number}") == "NOT_FOUND"
    assert metered.post("/predictions/probe", b"x" * 100_001).status == 413
    assert metered.post("/v1/models/probe:predict", b"{").status == 400
    assert metered.send("PUT", "/v1/models/probe:predict").status == 405
    with wire.Connection(metered.port) as connection:
        connection.send(b"not http\r\n\r\n")
        assert connection.response().status == 400
    after = _requests(metered, before, 20, protocol="torchserve", status="404", model="")
    _requests(metered, before, 20, protocol="v1", status="404", model="")
    _requests(metered, before, 20, protocol="grpc-v2", status="NOT_FOUND", model="")
    _requests(metered, before, 1, protocol="torchserve", status="413")
    _requests(metered, before, 1, protocol="v1", status="400", model="probe")
    _requests(metered, before, 1, protocol="v1", status="405")
    _requests(metered, before, 1, protocol="other", status="400")
    assert "nobody" not in after.text
    assert after.sum("Requests4XX") - before.sum("Requests4XX") == 64


def test_a_client_that_leaves_is_counted_once(metered, tmp_path):
    before = scrape(metered.port)
    release = tmp_path / "release"
    with wire.Connection(metered.port) as connection:
        order = {"cmd": "wait", "for": str(release)}
        connection.send(wire.encode("POST", "/predictions/probe", body=order))
        _settled(metered, "predictor_requests_in_flight", 1, model="probe", version="1.0")
    after = _requests(metered, before, 1, model="probe", status="499")
    release.touch()
    name = "ts_inference_requests_total"
    assert after.sum(name, model_name="probe") - before.sum(name, model_name="probe") == 1
    _settled(metered, "predictor_requests_in_flight", 0, model="probe", version="1.0")


def test_a_streamed_answer_is_one_request(metered):
    before = scrape(metered.port)
    response = metered.post("/predictions/streamer", b"x")
    assert response.chunks is not None
    assert len(response.chunks) > 1
    after = _requests(metered, before, 1, model="streamer", status="200")
    name, labels = "predictor_stage_duration_seconds_count", {"model": "streamer", "stage": "inference"}
    assert after.sum(name, **labels) - before.sum(name, **labels) == 1


def test_batches_queues_and_refusals(metered, tmp_path):
    before = scrape(metered.port)
    assert before.value("predictor_queue_capacity", model="batcher") == 4
    release = tmp_path / "release"
    wait = {"cmd": "wait", "for": str(release)}
    taken = accepted(metered.port, "batcher") + 30
    with ThreadPoolExecutor(30) as pool:
        asked = [pool.submit(metered.post, "/predictions/batcher", wait) for _ in range(30)]
        try:
            wait_until(lambda: accepted(metered.port, "batcher") == taken, 60, "all have come")
        finally:
            release.touch()
        statuses = [each.result().status for each in asked]
    answered, refused = statuses.count(200), statuses.count(503)
    assert answered + refused == 30
    assert answered >= 4
    assert refused
    after = _requests(metered, before, answered, model="batcher", status="200")
    _requests(metered, before, refused, model="batcher", status="503")
    assert after.sum("predictor_batch_size_sum", model="batcher") == answered
    assert after.sum("predictor_batch_size_count", model="batcher") < answered
    assert after.value("predictor_queue_depth", model="batcher") == 0
    # A lone request waits for others although the worker is free: that is no time in the queue.
    metered.post("/predictions/batcher", b"x")
    last = _requests(metered, after, 1, model="batcher", status="200")

    def grown(stage):
        name = "predictor_stage_duration_seconds_sum"
        labels = {"model": "batcher", "stage": stage}
        return last.sum(name, **labels) - after.sum(name, **labels)

    assert grown("batch_wait") >= 0.39
    assert grown("queue") < grown("batch_wait")


def test_metrics_of_handlers(metered):
    before = scrape(metered.port)
    for part in ("a", "a", "b"):
        assert metered.post("/predictions/measuring", {"part": part}).status == 200
    after = _settled(metered, "SeenRows", before.sum("SeenRows") + 6)
    host = {"Hostname": socket.gethostname()}
    assert after.families["SeenRows"] == "counter"
    assert [labels for labels, _ in after.samples("SeenRows")] == [
        {"ModelName": "measuring", "Level": "Model", **host}
    ]
    assert after.value("OwnTime", ModelName="measuring") == 12.5
    assert after.families["OwnTime"] == "gauge"
    assert after.value("OwnSize", Part="b") == 3
    assert after.value("OwnShare", **host) == 50
    assert after.value("OwnErrors", Level="Error") - before.sum("OwnErrors") == 3
    assert after.families["Lengths"] == "histogram"
    assert after.sum("Lengths_count", ModelName="measuring") - before.sum("Lengths_count") == 3


def test_a_handler_cannot_spoil_the_page(metered):
    for order in (
        {"name": "predictor_queue_depth"},
        {"name": "process_open_fds"},
        {"name": 'bad name"}\n'},
        {"name": "OwnTime"},
        {"odd": True},
    ):
        assert metered.post("/predictions/measuring", order).status == 200
    found = _settled(metered, "bad_name___", 1)
    assert "Odd" not in found.families
    assert found.families["predictor_queue_depth"] == "gauge"
    assert found.families["OwnTime"] == "gauge"


def test_workers_their_memory_and_their_restarts(metered):
    before = scrape(metered.port)
    assert before.value("predictor_workers", model="probe", version="2.0", state="ready") == 1
    assert before.value("predictor_model_state", model="probe", version="2.0", state="ready") == 1
    found = _settled(metered, "predictor_ready", 1)
    memory = found.value("predictor_worker_memory_bytes", model="probe", version="2.0")
    assert 20e6 < memory < 4e9
    metered.post("/predictions/probe/2.0", {"cmd": "exit"})
    labels = {"model": "probe", "version": "2.0"}
    restarts = "predictor_worker_restarts_total"
    _settled(metered, restarts, before.value(restarts, **labels) + 2, **labels)
    _settled(metered, "predictor_workers", 1, within=120, **labels, state="ready")


def test_the_metrics_port_tells_the_same_and_nothing_else(metered):
    theirs = scrape(metered.metrics_port)
    assert theirs.families == scrape(metered.port).families
    assert wire.request(metered.metrics_port, "POST", "/metrics").status == 200
    root = wire.request(metered.metrics_port, "GET", "/")
    assert (root.status, root.json()["type"]) == (405, "MethodNotAllowedException")
    described = wire.request(metered.metrics_port, "OPTIONS", "/").json()
    assert list(described["paths"]) == ["/metrics"]
    assert wire.request(metered.metrics_port, "POST", "/predictions/probe", body=b"x").status == 404


def test_the_filter_of_names(metered):
    found = scrape(metered.port, ["Requests2XX", "predictor_queue_depth", "process_open_fds"])
    assert set(found.families) == {"Requests2XX", "predictor_queue_depth", "process_open_fds"}
    assert scrape(metered.port, ["nothing"]).text == ""


def test_every_family_is_documented_and_every_documented_family_exists(metered):
    metered.post("/predictions/probe", b"x")
    metered.post("/v1/models/wine:explain", {"instances": [_wine()]})
    found = scrape(metered.port)
    documented = dict(
        re.findall(r"^\| `([A-Za-z_0-9]+)` \| (counter|gauge|histogram) \|", DOCS.read_text(), re.M)
    )
    handlers = {"SeenRows", "OwnTime", "OwnSize", "OwnShare", "OwnErrors", "Lengths", "bad_name___"}
    told = {name: kind for name, kind in found.families.items() if name not in handlers}
    process = {name for name in told if name.startswith(("process_", "python_"))}
    gpu = {name for name in documented if "gpu" in name.lower()}
    assert {name: documented.get(name) for name in told.keys() - process} == {
        name: told[name] for name in told.keys() - process
    }
    assert documented.keys() - gpu - told.keys() == set()


def test_without_metrics_and_in_log_mode(tmp_path):
    make_model(tmp_path / "store", "measuring", "measuring")
    flags = ["--metrics-mode", "log", "--log-format", "text"]
    with Server(tmp_path / "store", *flags) as server:
        server.post("/predictions/measuring", b"x")
        server.wait_log("ts_inference_requests_total.Count:1.0|#model_name:measuring,model_version:default|#")
        found = scrape(server.port)
        log = server.log()
    assert not [name for name in found.families if name in ("Requests2XX", "SeenRows", "QueueTime")]
    assert found.sum("predictor_requests_total", model="measuring") == 1
    for line in (
        r"SeenRows\.Count:2\|#ModelName:measuring,Level:Model\|#hostname:.+,requestID:[-0-9a-f]+,timestamp:\d+",
        r"Requests2XX\.Count:1\.0\|#Level:Host\|#hostname:.+,timestamp:\d+",
        r"PredictionTime\.Milliseconds:[\d.]+\|#ModelName:measuring,Level:Model\|#hostname:",
        r"MemoryUsed\.Megabytes:[\d.]+\|#Level:Host\|#hostname:",
    ):
        assert re.search(line, log), line


def test_the_metrics_file_chooses_and_the_page_can_be_turned_off(tmp_path):
    make_model(tmp_path / "store", "measuring", "measuring")
    config = tmp_path / "metrics.yaml"
    config.write_text(
        json.dumps(
            {
                "ts_metrics": {
                    "counter": [{"name": "Requests2XX", "unit": "Count", "dimensions": ["Level"]}]
                },
                "model_metrics": {
                    "counter": [{"name": "SeenRows", "unit": "count", "dimensions": ["ModelName", "Level"]}]
                },
            }
        )
    )
    with Server(tmp_path / "store", "--metrics-config", str(config)) as server:
        server.post("/predictions/measuring", b"x")
        found = _settled(server, "SeenRows", 2)
    camel = {name for name in found.families if name[0].isupper() or name.startswith("ts_")}
    assert camel == {"Requests2XX", "SeenRows"}
    with Server(tmp_path / "store", "--no-enable-metrics-api") as server:
        assert server.get("/metrics").status == 404


def test_a_metrics_file_that_cannot_be_used_is_named(tmp_path):
    make_model(tmp_path / "store", "measuring", "measuring")
    with Server(tmp_path / "store", "--metrics-config", "/nowhere.yaml", wait=False) as server:
        assert server.wait_exit() == 1
        assert "/nowhere.yaml" in server.log()


# Prometheus itself


# TorchServe's names, which cannot be others: promtool wants snake case, seconds, and `_total` at counters.
_LINT_OF_TORCHSERVES_NAMES = re.compile(
    r"^([A-Z]\w+|ts_\w+_microseconds) (metric names should be written in 'snake_case'"
    r"|label names should be written in 'snake_case'|counter metrics should have \"_total\""
    r"|use base unit)"
)


def _program(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here (Debian: apt-get install prometheus)")
    return found


def test_promtool_has_nothing_to_say_but_of_torchserves_names(metered):
    metered.post("/predictions/probe", b"x")
    text = "\n".join(
        line
        for line in scrape(metered.port).text.splitlines()
        if not re.search(r"\b(SeenRows|Own\w+|Lengths|bad_name___)", line)
    )
    result = subprocess.run(
        [_program("promtool"), "check", "metrics"],
        input=text + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = result.stderr.splitlines()
    assert complaints, result
    assert not [line for line in complaints if not _LINT_OF_TORCHSERVES_NAMES.match(line)]


def test_prometheus_scrapes_what_was_sent(metered, tmp_path):
    program, port = _program("prometheus"), free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "scrape_configs:\n- job_name: predictor\n  scrape_interval: 2s\n  scrape_timeout: 2s\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{metered.metrics_port}']}}]\n"
    )
    before = scrape(metered.port)
    for _ in range(7):
        metered.post("/predictions/probe", b"x")
    expected = _requests(metered, before, 7, model="probe").sum("predictor_requests_total", model="probe")
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        query = 'sum(predictor_requests_total{model="probe"})'
        assert _ask(port, query) == expected, (tmp_path / "log").read_text()
        assert _ask(port, 'sum(up{job="predictor"})') == 1
        rate = (
            'histogram_quantile(0.99, sum by (le) (predictor_stage_duration_seconds_bucket{stage="queue"}))'
        )
        assert _ask(port, rate) >= 0
    finally:
        process.terminate()
        process.wait(60)
    assert process.returncode in (0, -signal.SIGTERM)


def _ask(port, query):
    """Ask Prometheus for one number, waiting for its first scrapes."""
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                result = json.load(response)["data"]["result"]
        except OSError:
            result = []
        if result:
            return float(result[0]["value"][1])
        time.sleep(0.2)
    return None


def _wine():
    folder = Path(__file__).parents[2] / "model_store" / "wine" / "examples"
    return json.loads(min(folder.iterdir()).read_text())
