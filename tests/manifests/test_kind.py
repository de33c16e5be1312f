"""The kind cluster: its configuration, and that the script takes the steps it should.

kind's own parser cannot be had from the registries that tests may use, so the fields are held against the
documented ones (https://pkg.go.dev/sigs.k8s.io/kind/pkg/apis/config/v1alpha4). The programs are stand-ins
that note how they were called; tests/integration/test_kind_requests.py sends the real requests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from support.kind import SCRIPT, StandIns
from support.manifests import ROOT, load

from predictor import __version__

_FIELDS = {
    "": {
        "kind",
        "apiVersion",
        "name",
        "nodes",
        "networking",
        "featureGates",
        "runtimeConfig",
        "kubeadmConfigPatches",
    }
    | {"kubeadmConfigPatchesJSON6902", "containerdConfigPatches", "containerdConfigPatchesJSON6902"},
    "nodes": {"role", "image", "labels", "extraMounts", "extraPortMappings", "kubeadmConfigPatches"}
    | {"kubeadmConfigPatchesJSON6902"},
    "extraPortMappings": {"containerPort", "hostPort", "listenAddress", "protocol"},
    "extraMounts": {"hostPath", "containerPath", "readOnly", "selinuxRelabel", "propagation"},
}


def _unknown(value, place=""):
    if isinstance(value, list):
        return [problem for item in value for problem in _unknown(item, place)]
    if not isinstance(value, dict) or place not in _FIELDS:
        return []
    found = [f"{place}.{key}" for key in value if key not in _FIELDS[place]]
    return found + [problem for key, item in value.items() for problem in _unknown(item, key)]


@pytest.fixture
def configuration():
    return yaml.safe_load((ROOT / "kind-config.yaml").read_text())


def test_only_known_fields(configuration):
    assert configuration["apiVersion"] == "kind.x-k8s.io/v1alpha4"
    assert configuration["kind"] == "Cluster"
    assert _unknown(configuration) == []
    configuration["nodes"][0]["extraPortMapping"] = []
    assert _unknown(configuration) == ["nodes.extraPortMapping"]


def test_the_node_is_pinned_by_digest(configuration):
    (node,) = configuration["nodes"]
    assert re.fullmatch(r"kindest/node:v1\.\d+\.\d+@sha256:[0-9a-f]{64}", node["image"])


def test_the_gateway_is_reached_from_this_machine_only(configuration):
    (mapping,) = configuration["nodes"][0]["extraPortMappings"]
    assert mapping["listenAddress"] == "127.0.0.1"
    proxy = next(one for one in load(ROOT / "scripts/kind/gateway.yaml") if one["kind"] == "EnvoyProxy")
    service = proxy["spec"]["provider"]["kubernetes"]["envoyService"]
    assert service["type"] == "NodePort"
    (port,) = service["patch"]["value"]["spec"]["ports"]
    assert port == {"port": 80, "nodePort": mapping["containerPort"]}
    assert f":{mapping['hostPort']}}}" in SCRIPT.read_text(), "INGRESS"


def test_the_gateways_parts_name_each_other():
    of = {one["kind"]: one for one in load(ROOT / "scripts/kind/gateway.yaml")}
    assert of["Gateway"]["spec"]["gatewayClassName"] == of["GatewayClass"]["metadata"]["name"]
    reference = of["GatewayClass"]["spec"]["parametersRef"]
    assert (reference["name"], reference["namespace"]) == (
        of["EnvoyProxy"]["metadata"]["name"],
        of["EnvoyProxy"]["metadata"]["namespace"],
    )
    gateway = of["Gateway"]["metadata"]
    assert f"kserveGateway={gateway['namespace']}/{gateway['name']}" in SCRIPT.read_text()


def test_shellcheck_is_content():
    home = Path(os.environ.get("CLUSTER_HOME", Path.home() / ".cache" / "cluster"))
    program = shutil.which("shellcheck") or shutil.which("shellcheck", path=home / "venv" / "bin")
    if program is None:
        pytest.skip("there is no shellcheck")
    result = subprocess.run([program, str(SCRIPT)], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout


@pytest.fixture
def stand_ins(tmp_path):
    return StandIns(tmp_path)


def test_up_installs_everything_pinned_and_in_order(stand_ins):
    result = stand_ins.run("up")
    assert result.returncode == 0, result.stderr
    calls = stand_ins.calls()
    assert calls[0] == "kind version"
    create = next(call for call in calls if call.startswith("kind create"))
    assert create == "kind create cluster --name predictor --config kind-config.yaml --wait 180s"
    charts = [call for call in calls if call.startswith("helm")]
    assert [call.split(" --install ")[1].split()[0] for call in charts] == [
        "cert-manager",
        "envoy-gateway",
        "kserve-crd",
        "kserve",
    ]
    for call in charts:
        assert re.search(r" --version v\d+\.\d+\.\d+ ", call), call
        assert "--kube-context kind-predictor" in call
    assert "deploymentMode=Standard" in charts[-1]
    gateway = "kubectl --context kind-predictor apply -f scripts/kind/gateway.yaml"
    assert calls.index(charts[2]) < calls.index(gateway) < calls.index(charts[3])


def test_no_other_cluster_is_ever_touched(stand_ins):
    for command in ("up", "deploy", "test"):
        stand_ins.run(command)
    assert all("--context kind-predictor" in call for call in stand_ins.calls() if call.startswith("kubectl"))


def test_up_again_makes_no_second_cluster(stand_ins):
    stand_ins.say("kind", "predictor")
    assert stand_ins.run("up").returncode == 0
    assert not any(call.startswith("kind create") for call in stand_ins.calls())


def test_another_version_of_kind_is_told(stand_ins):
    stand_ins.say("kind", "kind v0.20.0 go1.20 linux/amd64")
    assert "written for kind v0.31.0, this is: kind v0.20.0" in stand_ins.run("up").stderr


def test_a_tool_that_is_missing_is_named(stand_ins):
    stand_ins.remove("helm", "kind")
    result = stand_ins.run("up")
    assert result.returncode == 1
    assert "not on PATH: kind helm" in result.stderr
    assert stand_ins.calls() == []


def test_load_takes_the_image_of_this_version_to_the_node(stand_ins):
    assert stand_ins.run("load").returncode == 0
    expected = f"kind load docker-image predictor:{__version__} --name predictor"
    assert stand_ins.calls()[-1] == expected
    stand_ins.fail("docker")
    result = stand_ins.run("load")
    assert result.returncode == 1
    assert f"docker has no image predictor:{__version__}: make image" in result.stderr


def test_deploy_applies_the_overlay_and_waits(stand_ins):
    assert stand_ins.run("deploy").returncode == 0
    apply, wait = stand_ins.calls()
    assert apply.endswith("apply -k manifests/overlays/kind")
    assert "wait --for=condition=Ready inferenceservice/samples" in wait


def test_deploy_shows_why_it_did_not_come_up(stand_ins):
    stand_ins.fail("kubectl", "wait")
    result = stand_ins.run("deploy")
    assert result.returncode == 1
    assert "samples did not become ready" in result.stderr
    shown = " ".join(stand_ins.calls())
    for part in ("describe inferenceservice samples", "get pods", "get events", "logs -l"):
        assert part in shown


def test_requests_need_a_service(stand_ins):
    result = stand_ins.run("test")
    assert result.returncode == 1
    assert "samples has no URL: make kind-deploy" in result.stderr


def test_down(stand_ins):
    assert stand_ins.run("down").returncode == 0
    assert stand_ins.calls() == ["kind delete cluster --name predictor"]


def test_what_it_does_not_know(stand_ins):
    result = stand_ins.run("dance")
    assert result.returncode == 1
    assert "usage: kind.sh up | load | deploy | test | down" in result.stderr


def test_make_has_a_target_for_each_step():
    text = (ROOT / "Makefile").read_text()
    for step in ("up", "load", "deploy", "test", "down"):
        assert f"\nkind-{step}:" in text
        assert f"\t@exec scripts/kind/kind.sh {step}\n" in text
    shown = subprocess.run(
        ["make", "-s", "-C", str(ROOT), "help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "kind-up " in shown.stdout
