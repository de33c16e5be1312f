"""What newcomers get wrong in a request for an explanation: each protocol refuses it and names the field."""

from __future__ import annotations

import base64
import json

import grpc
import pytest
from support.models import SAMPLES

from predictor.oip import inference_pb2 as pb

WINE = json.loads((SAMPLES / "wine" / "examples" / "wine.json").read_text())
PICTURE = base64.b64encode((SAMPLES / "digits" / "examples" / "3.png").read_bytes()).decode()
TEXT = "Wait for the lock."
NO_MEAN = (
    "must be zero or a number; got 'mean'; only pictures have a mean of their own: "
    "send typical values instead, as an object by input"
)


def tensors(model, instance):
    if model == "wine":
        return [
            {"name": name, "datatype": "FP32", "shape": [1], "data": [value]}
            for name, value in instance.items()
        ]
    name = {"digits": "image", "docstrings": "text"}[model]
    return [{"name": name, "datatype": "BYTES", "shape": [1], "data": [instance]}]


def over_grpc(server, model, instance, wish):
    request = pb.ModelInferRequest(model_name=model)
    for item in tensors(model, instance):
        tensor = request.inputs.add(name=item["name"], datatype=item["datatype"], shape=item["shape"])
        if item["datatype"] == "BYTES":
            tensor.contents.bytes_contents.append(item["data"][0].encode())
        else:
            tensor.contents.fp32_contents.extend(item["data"])
    request.parameters["explain"].string_param = json.dumps(wish)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(request.SerializeToString(), timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return caught.value.details()


def over_v2(server, model, instance, parameters):
    body = {"inputs": tensors(model, instance), "parameters": parameters}
    return refused(server.post(f"/v2/models/{model}/explain", body))


def refused(answer):
    assert answer.status == 400, answer.body
    return answer.json().get("error") or answer.json()["message"]


@pytest.mark.parametrize(
    ("model", "instance", "wish", "flat", "message"),
    [
        ("wine", WINE, {"baseline": "mean"}, {"baseline": "mean"}, f"@baseline for 'alcohol' {NO_MEAN}"),
        (
            "wine",
            WINE,
            {"baseline": {"ash": "mean"}},
            {"baseline": '{"ash": "mean"}'},
            f"@baseline.ash {NO_MEAN}",
        ),
        (
            "digits",
            PICTURE,
            {"method": "occlusion", "args": {"window": 99}},
            {"method": "occlusion", "window": 99},
            "@args.window must be at most 28, the shorter side of the picture; got 99",
        ),
        (
            "digits",
            PICTURE,
            {"method": "occlusion", "args": {"window": 5, "stride": 6}},
            {"method": "occlusion", "window": 5, "stride": "6"},
            "@args.stride must be at most 5, the window; got 6",
        ),
        (
            "docstrings",
            "",
            {"method": "integrated_gradients"},
            {"method": "integrated_gradients"},
            "Input 'text' holds no word, so there is nothing to explain",
        ),
        (
            "docstrings",
            " ?! ",
            {"method": "feature_ablation"},
            {"method": "feature_ablation"},
            "Input 'text' holds no word, so there is nothing to explain",
        ),
    ],
    ids=["mean", "mean of one", "window", "stride", "empty", "no word"],
)
def test_every_protocol_names_the_field_as_it_was_written(samples, model, instance, wish, flat, message):
    nested = message.replace("@", "explain.")
    legacy = samples.post(f"/explanations/{model}", {"data": instance, "explain": wish})
    assert refused(legacy) == nested
    v1 = samples.post(f"/v1/models/{model}:explain", {"instances": [instance], "explain": wish})
    assert refused(v1) == nested
    assert over_v2(samples, model, instance, {"explain": json.dumps(wish)}) == nested
    assert over_v2(samples, model, instance, flat) == message.replace("@args.", "@").replace(
        "@", "parameters."
    )
    assert over_grpc(samples, model, instance, wish) == nested


@pytest.mark.parametrize(
    ("model", "instances", "message"),
    [
        (
            "wine",
            [WINE, {**WINE, "ash": "much"}],
            "instances[1]: Invalid input type for 'ash': expected number",
        ),
        ("wine", [{"data": WINE, "target": 7}, WINE], "instances[0]: target must be from 0 to 2; got 7"),
        ("docstrings", [TEXT, TEXT, "..."], "instances[2]: Input 'text' holds no word, so there is "),
    ],
    ids=["value", "target", "text"],
)
@pytest.mark.parametrize("wishes", [{"explain": {}}, {}], ids=["rich", "plain"])
def test_v1_says_which_of_several_instances_it_is(samples, model, instances, message, wishes):
    answer = samples.post(f"/v1/models/{model}:explain", {"instances": instances, **wishes})
    assert refused(answer).startswith(message)


def test_what_all_instances_have_in_common_is_no_instances_mistake(samples):
    body = {"instances": [WINE, WINE], "explain": {"target": 9}}
    answer = samples.post("/v1/models/wine:explain", body)
    assert refused(answer) == "explain.target must be from 0 to 2; got 9"
    body = {"instances": [{"data": WINE, "target": 9}]}
    assert refused(samples.post("/v1/models/wine:explain", body)) == "target must be from 0 to 2; got 9"


def test_v2_says_which_of_several_rows_it_is(samples):
    inputs = [{"name": "text", "datatype": "BYTES", "shape": [2], "data": [TEXT, ""]}]
    answer = samples.post("/v2/models/docstrings/explain", {"inputs": inputs})
    assert refused(answer).startswith("row 1 of the inputs: Input 'text' holds no word")


def test_a_baseline_by_input_is_json_in_its_flat_parameter(samples):
    wishes = {"baseline": json.dumps({"alcohol": 13.5, "ash": 2.5}), "method": "feature_ablation"}
    body = {"inputs": tensors("wine", WINE), "parameters": wishes}
    flat = samples.post("/v2/models/wine/explain", body).json()
    nested = {"baseline": {"alcohol": 13.5, "ash": 2.5}, "method": "feature_ablation"}
    whole = {**body, "parameters": {"explain": json.dumps(nested)}}
    assert flat["outputs"] == samples.post("/v2/models/wine/explain", whole).json()["outputs"]
    wrong = over_v2(samples, "wine", WINE, {"baseline": "[1,"})
    assert wrong.startswith("parameters.baseline is not JSON")
