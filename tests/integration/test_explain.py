"""Explanations over every route that has them, on the real server with the sample models."""

from __future__ import annotations

import base64
import concurrent.futures
import io
import json
import os
import re
import shutil
import signal
import struct
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image
from support import wire
from support.explain_load import check_mixed
from support.explain_wires import WIRES
from support.models import REPOSITORY, SAMPLES
from support.processes import wait_until
from support.server import Server, free_port

from predictor.oip import inference_pb2 as pb

ORACLE = REPOSITORY / "tests" / "oracle" / "archives"
PICTURE = (SAMPLES / "digits" / "examples" / "3.png").read_bytes()
WINE = json.loads((SAMPLES / "wine" / "examples" / "wine.json").read_text())


def test_torchserves_route(samples):
    answer = samples.post("/explanations/digits", PICTURE).json()
    assert len(answer) == 1
    assert len(answer[0]) == 28
    answer = samples.post(
        "/explanations/docstrings/1.0", b"wait for the lock", headers=[("Content-Type", "text/plain")]
    )
    assert answer.json()["words"] == ["wait", "for", "the", "lock"]
    answer = samples.post("/explanations/wine", {"data": WINE, "target": 2}).json()
    assert list(answer) == list(WINE)


def test_a_picture_by_content_negotiation(samples):
    answer = samples.post("/explanations/digits", PICTURE, headers=[("Accept", "image/png")])
    assert answer.header("content-type") == "image/png"
    assert answer.header("x-explain-target") == "3"
    assert Image.open(io.BytesIO(answer.body)).size == (336, 336)


def test_a_page_by_content_negotiation(samples):
    answer = samples.post("/v1/models/wine:explain", {"instances": [WINE]}, headers=[("Accept", "text/html")])
    assert answer.header("content-type") == "text/html; charset=utf-8"
    assert b"<svg" in answer.body


def test_v1(samples):
    picture = base64.b64encode(PICTURE).decode()
    instances = [{"data": picture, "target": target} for target in (3, 5)]
    plain = samples.post("/v1/models/digits:explain", {"instances": instances}).json()
    assert set(plain) == {"explanations"}
    assert plain["explanations"][0] != plain["explanations"][1]
    rich = samples.post(
        "/v1/models/digits:explain", {"instances": instances, "explain": {"method": "saliency"}}
    ).json()
    assert rich["predictions"] == [3, 3]
    assert [item["target"]["index"] for item in rich["explanations"]] == [3, 5]


def test_v2(samples):
    inputs = [
        {"name": name, "datatype": "FP32", "shape": [2], "data": [value, value]}
        for name, value in WINE.items()
    ]
    body = {"inputs": inputs, "parameters": {"method": "integrated_gradients", "n_steps": "16", "target": 1}}
    answer = samples.post("/v2/models/wine/explain", body).json()
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["attributions.alcohol"]["shape"] == [2]
    assert outputs["target"]["data"] == [1, 1]
    total = sum(outputs[f"attributions.{name}"]["data"][0] for name in WINE)
    gain = outputs["output"]["data"][0] - outputs["baseline_output"]["data"][0]
    assert total - gain == pytest.approx(outputs["delta"]["data"][0], abs=1e-4)
    bad = samples.post("/v2/models/wine/explain", {**body, "parameters": {"steps": 3}})
    assert bad.status == 400
    assert "parameters.steps is unknown; allowed are method" in bad.json()["error"]
    for parameters, text in (
        ({"n_steps": "0"}, "parameters.n_steps must"),
        ({"target": 9}, "parameters.target must"),
    ):
        bad = samples.post("/v2/models/wine/explain", {**body, "parameters": parameters})
        assert (bad.status, bad.json()["error"][: len(text)]) == (400, text)


def test_v2_says_which_words_its_numbers_are_of(samples):
    text = "Wait for the lock."
    inputs = [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}]
    answer = samples.post("/v2/models/docstrings/explain", {"inputs": inputs}).json()
    outputs = {output["name"]: output for output in answer["outputs"]}
    weights, words = outputs["attributions.text"], outputs["words.text"]
    assert weights["shape"] == words["shape"] == [1, 128]
    assert words["data"][:5] == ["wait", "for", "the", "lock", ""]
    assert [bool(weight) for weight in weights["data"]] == [bool(word) for word in words["data"]]
    only = {"inputs": inputs, "outputs": [{"name": "words.text"}]}
    assert [
        output["name"] for output in samples.post("/v2/models/docstrings/explain", only).json()["outputs"]
    ] == ["words.text"]


def test_v2_binary(samples):
    picture = struct.pack("<I", len(PICTURE)) + PICTURE
    inputs = [
        {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(picture)}}
    ]
    head = json.dumps(
        {"inputs": inputs, "parameters": {"binary_data_output": True, "method": "saliency"}}
    ).encode()
    answer = samples.post(
        "/v2/models/digits/versions/1.0/explain",
        head + picture,
        headers=[("Inference-Header-Content-Length", str(len(head)))],
    )
    assert answer.status == 200
    described = json.loads(answer.body[: int(answer.header("inference-header-content-length"))])
    assert described["outputs"][0]["name"] == "attributions.image"
    assert described["outputs"][0]["shape"] == [1, 1, 28, 28]
    assert described["outputs"][0]["parameters"]["binary_data_size"] == 28 * 28 * 4


def test_v2_answers_the_outputs_that_are_asked_for(samples):
    inputs = [
        {"name": name, "datatype": "FP32", "shape": [1], "data": [value]} for name, value in WINE.items()
    ]
    wanted = ["delta", "attributions.proline", "sensitivity", "target"]
    body = {
        "inputs": inputs,
        "outputs": [{"name": name} for name in wanted],
        "parameters": {"metrics": "sensitivity", "tolerance": "0.01", "target": "cultivar_1"},
    }
    answer = samples.post("/v2/models/wine/explain", body).json()
    assert [output["name"] for output in answer["outputs"]] == wanted
    assert answer["outputs"][3] == {"name": "target", "datatype": "INT64", "shape": [1], "data": [1]}
    body["outputs"] = [{"name": "attributions.color"}]
    refused = samples.post("/v2/models/wine/explain", body)
    assert refused.status == 400
    assert "Unknown output: 'attributions.color'. Expected: attributions.alcohol, " in refused.json()["error"]
    body.update(outputs=[{"name": "delta"}], parameters={"method": "saliency"})
    assert samples.post("/v2/models/wine/explain", body).status == 400, "saliency has no delta"


def test_v2_draws_the_picture_that_is_asked_for(samples):
    data = base64.b64encode(PICTURE).decode()
    body = {
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [data]}],
        "outputs": [
            {"name": "image", "parameters": {"binary_data": True}},
            {"name": "attributions.image", "parameters": {"binary_data": True}},
            {"name": "predicted"},
        ],
    }
    answer = samples.post("/v2/models/digits/explain", body)
    size = int(answer.header("inference-header-content-length"))
    picture, attributions, predicted = json.loads(answer.body[:size])["outputs"]
    assert (picture["datatype"], picture["shape"], predicted["data"]) == ("BYTES", [1], [3])
    tail = answer.body[size:]
    (length,) = struct.unpack_from("<I", tail)
    assert Image.open(io.BytesIO(tail[4 : 4 + length])).size == (336, 336)
    assert picture["parameters"]["binary_data_size"] == 4 + length
    assert len(tail) == 4 + length + attributions["parameters"]["binary_data_size"]


def test_what_a_model_offers(samples):
    offered = samples.get("/v1/models/wine/explain").json()
    assert offered["default_method"] == "integrated_gradients"
    assert "grad_cam" not in [method["name"] for method in offered["methods"]]
    digits = samples.get("/v1/models/digits/explain").json()
    assert "grad_cam" in [method["name"] for method in digits["methods"]]
    assert samples.get("/v1/models/nothing/explain").status == 404


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"data": WINE, "target": 3}, "target must be from 0 to 2; got 3"),
        (
            {"data": WINE, "explain": {"method": "magic"}},
            "explain.method must be one of integrated_gradients",
        ),
        ({"data": WINE, "explain": {"args": {"steps": 1}}}, "explain.args.steps is unknown"),
        ({"data": {"alcohol": 1}, "target": 0}, "Missing required input: 'malic_acid'"),
    ],
)
def test_mistakes_are_named(samples, body, message):
    answer = samples.post("/explanations/wine", body)
    assert answer.status == 400
    assert answer.json()["message"].startswith(message)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """TorchServe's image_classifier, which knows nothing of rich explanations; an own worker explains."""
    store = tmp_path_factory.mktemp("archives")
    shutil.copy(ORACLE / "models" / "classifier.mar", store)
    port = free_port()
    with Server(store, "--explain-workers", "1", "--grpc-port", str(port)) as running:
        running.wait_log("classifier 1.0: explaining worker 0 is ready")
        running.grpc_port = port
        yield running


def test_an_image_classifier_of_torchserve_is_explained_without_its_help(archives):
    offered = archives.get("/v1/models/classifier/explain").json()
    assert offered["default_method"] == "integrated_gradients"
    wish = {"method": "integrated_gradients", "return": ["prediction", "delta", "image"]}
    parts = [("data", PICTURE, "3.png", None), ("explain", json.dumps(wish).encode(), None, None)]
    body, content_type = wire.multipart(*parts)
    answer = archives.post("/explanations/classifier", body, content_type=content_type).json()
    best = next(iter(archives.post("/predictions/classifier", PICTURE).json()))
    assert answer["prediction"]["label"] == answer["target"]["label"] == best
    assert abs(answer["relative_delta"]) < 0.05
    assert answer["inputs"][0]["image"]["content_type"] == "image/png"
    drawn = archives.post("/explanations/classifier", PICTURE, headers=[("Accept", "image/png")])
    assert drawn.header("content-type") == "image/png"
    legacy = archives.post("/explanations/classifier", PICTURE).json()
    assert len(legacy) == 3, "TorchServe's own answer: channels of pixels"


def test_an_image_classifier_of_torchserve_is_explained_over_v2_and_grpc(archives):
    picture = base64.b64encode(PICTURE).decode()
    wish = {"method": "integrated_gradients", "target": 2, "args": {"n_steps": 8}, "reduce": "none"}
    plain = archives.post(
        "/v1/models/classifier:explain", {"instances": [{"data": picture}], "explain": wish}
    ).json()
    expected = np.array(plain["explanations"][0]["inputs"][0]["attributions"])
    inputs = [{"name": "photo", "datatype": "BYTES", "shape": [1], "data": [picture]}]
    wishes = {"method": "integrated_gradients", "target": 2, "n_steps": 8}
    answer = archives.post("/v2/models/classifier/explain", {"inputs": inputs, "parameters": wishes}).json()
    rest = {item["name"]: item for item in answer["outputs"]}
    assert rest["attributions.photo"]["shape"] == [1, *expected.shape]
    request = pb.ModelInferRequest(model_name="classifier")
    request.inputs.add(name="photo", datatype="BYTES", shape=[1]).contents.bytes_contents.append(PICTURE)
    request.parameters["explain"].string_param = json.dumps({"method": "integrated_gradients", "target": 2})
    request.parameters["n_steps"].int64_param = 8
    with grpc.insecure_channel(f"127.0.0.1:{archives.grpc_port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        found = pb.ModelInferResponse.FromString(call(request.SerializeToString(), timeout=60))
    over_grpc = {item.name: item.contents.fp32_contents for item in found.outputs}
    assert [item.name for item in found.outputs] == list(rest)
    for values in (rest["attributions.photo"]["data"], over_grpc["attributions.photo"]):
        np.testing.assert_allclose(np.reshape(values, expected.shape), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="sessions are not scheduled as groups")
def test_own_workers_give_way_as_a_group(archives):
    """Each worker has a session of its own, and among such groups a process's own niceness does not count."""
    groups = [Path(f"/proc/{pid}/autogroup").read_text().split()[-1] for pid in archives.workers()]
    assert sorted(groups) == ["0", "10"]


def test_own_workers_die_alone(archives):
    workers = {pid: archives.get("/ping").json()["status"] for pid in archives.workers()}
    assert len(workers) == 2, "one of each kind"
    log = archives.log()
    explaining = [int(pid) for pid in re.findall(r"explaining worker 0 is ready .*?\(pid (\d+)\)", log)]
    for pid in explaining:
        os.kill(pid, signal.SIGKILL)
        assert archives.get("/v2/health/ready").status == 200
        assert archives.post("/predictions/classifier", PICTURE).status == 200
    wait_until(lambda: archives.log().count("explaining worker 1 is ready") == 1, 60, "it is back")
    assert archives.post("/explanations/classifier", PICTURE).status == 200


def test_predictions_and_explanations_side_by_side(samples):
    """Many clients at once, each with its own model, method and target: nobody gets another's answer."""
    methods = [
        "integrated_gradients",
        "saliency",
        "deep_lift",
        "kernel_shap",
        "shapley_exact",
        "gradient_shap",
    ]

    def one(number):
        target, method = number % 3, methods[number % len(methods)]
        if number % 4 == 0:
            return samples.post("/predictions/wine", WINE).json()["label"] == "cultivar_0"
        wish = {"method": method, "target": target}
        answer = samples.post("/v1/models/wine:explain", {"instances": [WINE], "explain": wish}).json()
        (found,) = answer["explanations"]
        return (found["method"], found["target"]["index"]) == (method, target)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(96)))


def test_64_clients_mix_predictions_and_all_methods_for_a_few_seconds(samples):
    mixed = check_mixed(samples, clients=64, seconds=4, keys=1)
    assert min(mixed.counts.values()) > 0, mixed.counts
    assert {wire for _, _, wire in mixed.counts} == set(WIRES)


def test_predictions_are_answered_while_their_worker_explains(samples):
    """It has one worker, and the explanation takes many passes: predictions need not wait for its end."""
    picture = base64.b64encode(PICTURE).decode()
    wish = {"method": "kernel_shap", "args": {"n_samples": 8000}, "return": ["attributions"]}
    document = {"instances": [{"data": picture}], "explain": wish}
    (alone,) = samples.post("/v1/models/digits:explain", document).json()["explanations"]
    between = 0
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        explaining = pool.submit(samples.post, "/v1/models/digits:explain", document)
        while True:
            label = samples.post("/predictions/digits", PICTURE).json()["label"]
            assert label == "3"
            if explaining.done():
                break
            between += 1
    (beside,) = explaining.result().json()["explanations"]
    assert between > 4, "more than may have come before the explanation, and after it"
    assert beside["inputs"][0]["attributions"] == alone["inputs"][0]["attributions"]
