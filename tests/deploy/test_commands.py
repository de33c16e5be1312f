"""The commands from end to end, with the real client against an API server on a real socket."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import yaml
from support.kube_api import container, pod, ready, status_object, waiting

from predictor.deploy import command
from predictor.deploy import waiting as module

_MODEL = ("--model", "s3://bucket/digits.mar")


def test_a_service_is_made_awaited_and_called(api, predictor):
    api.steps = [waiting, waiting, ready]
    status, out, err = predictor("deploy", "digits", *_MODEL)
    assert status == 0
    assert "digits in default: created" in err
    assert "digits is ready" in err
    assert out.splitlines() == [
        "URL                 http://digits-default.models.test",
        "inside the cluster  http://digits-predictor.default.svc.cluster.local",
        "",
        "# what it takes and answers",
        "curl http://digits-default.models.test/v2/models/digits",
    ]
    ((_, path, query, headers, body),) = api.sent("PATCH")
    assert path == "/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices/digits"
    assert headers["content-type"] == "application/apply-patch+yaml"
    assert headers["authorization"] == "Bearer secret"
    assert (query["fieldManager"], query["fieldValidation"]) == ("predictor", "Strict")
    assert query["force"].lower() == "false"
    assert body["spec"]["predictor"]["containers"][0]["name"] == "kserve-container"


def test_the_same_again_changes_nothing_and_another_image_does(api, predictor):
    api.steps = [ready]
    assert "created" in predictor("deploy", "digits", *_MODEL)[2]
    assert "unchanged" in predictor("deploy", "digits", *_MODEL)[2]
    assert "digits in default: changed" in predictor("deploy", "digits", *_MODEL, "--image", "me/d:2")[2]
    assert api.services["default", "digits"]["metadata"]["generation"] == 2


def test_a_change_is_not_ready_while_only_the_version_before_is(api, predictor):
    """KServe still says Ready: of what it had seen before."""
    api.steps = [ready]
    predictor("deploy", "digits", *_MODEL)

    def not_yet(api, service):
        service["status"]["observedGeneration"] = 1

    def rolling(api, service):
        ready(api, service)
        api.deployments = [_deployment(updated=0)]

    def finished(api, service):
        api.deployments = [_deployment(updated=1)]

    # One look is the command's own before it applies.
    api.looks, api.steps = 0, [not_yet, not_yet, rolling, rolling, finished]
    status, _, _ = predictor("deploy", "digits", *_MODEL, "--image", "me/d:2")
    assert status == 0
    assert api.looks >= 5


def _deployment(updated):
    return {
        "metadata": {"name": "digits-predictor", "generation": 2},
        "spec": {"replicas": 1},
        "status": {
            "observedGeneration": 2,
            "replicas": 1,
            "updatedReplicas": updated,
            "availableReplicas": 1,
        },
    }


def test_an_image_that_cannot_be_pulled(api, predictor):
    state = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "predictor:0"'}}
    api.pods = [pod("digits-predictor-1", container(state))]
    api.steps = [waiting]
    status, out, err = predictor("deploy", "digits", *_MODEL)
    assert status == 1
    assert out == ""
    assert "digits cannot become ready:" in err
    assert "container kserve-container of pod digits-predictor-1: the image cannot be pulled" in err
    assert 'Back-off pulling image "predictor:0"' in err
    assert "--image names another image" in err
    assert "predictor delete digits -n default --context test" in err
    assert ("default", "digits") in api.services, "it is left for a look"


def test_a_container_that_crashes_shows_its_last_words(api, predictor):
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    last = {"exitCode": 1, "reason": "Error"}
    api.pods = [pod("digits-predictor-1", container(state, restarts=2, last=last))]
    api.logs["digits-predictor-1", "kserve-container", True] = (
        "model digits: [bold]no such file[/bold]\n" + 99 * '{"path": "/v2/health/ready", "status": 503}\n'
    )
    api.steps = [waiting]
    status, _, err = predictor("deploy", "digits", *_MODEL)
    assert status == 1
    assert "has ended 2 times (exit status 1)" in err
    assert "The end of the log of kserve-container in digits-predictor-1:" in err
    assert "  model digits: [bold]no such file[/bold]" in err
    assert "/v2/health/ready" not in err, "probes are no news"


def test_memory_that_does_not_suffice(api, predictor):
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    last = {"exitCode": 137, "reason": "OOMKilled"}
    api.pods = [pod("digits-predictor-1", container(state, restarts=3, last=last))]
    api.steps = [waiting]
    _, _, err = predictor("deploy", "digits", *_MODEL)
    assert "has ended 3 times (exit status 137, OOMKilled)" in err
    assert "It needs more memory than it may take: --memory." in err
    assert "(not seen: cannot read the log of digits-predictor-1: no such log)" in err


def test_no_runtime_for_it(api, predictor):
    def refused(api, service):
        waiting(api, service)
        service["status"]["modelStatus"] = {
            "transitionStatus": "InvalidSpec",
            "lastFailureInfo": {
                "reason": "RuntimeNotRecognized",
                "message": "Waiting for runtime to become available",
            },
        }

    api.steps = [refused]
    status, _, err = predictor("deploy", "digits", *_MODEL, "--runtime", "predictor")
    assert status == 1
    assert "KServe: RuntimeNotRecognized: Waiting for runtime to become available" in err
    assert "kubectl apply -k manifests/overlays/gpu" in err


def test_what_kserve_says_is_said_once(api, predictor):
    def refused(api, service):
        waiting(api, service)
        condition = {"status": "False", "reason": "Minimum", "message": "Deployment has no pods."}
        service["status"]["conditions"] = [
            {**condition, "type": kind} for kind in ("PredictorReady", "Ready")
        ]

    api.steps = [refused]
    _, _, err = predictor("deploy", "digits", *_MODEL, "--timeout", "0.2")
    told = err.partition("is not ready after")[2]
    assert told.count("Deployment has no pods.") == 1
    assert "- KServe: PredictorReady: Minimum: Deployment has no pods." in told


def test_no_gpu_in_time(api, predictor):
    lonely = pod("digits-predictor-1")
    lonely["status"]["containerStatuses"] = []
    lonely["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient nvidia.com/gpu."}
    ]
    api.pods = [lonely]
    event = {
        "reason": "FailedScheduling",
        "message": "0/1 nodes are available",
        "lastTimestamp": "2026-11-21T10:00:00Z",
    }
    about = {"kind": "Pod", "name": "digits-predictor-1"}
    api.events = [
        {**event, "involvedObject": about},
        {**event, "involvedObject": {"kind": "Pod", "name": "another"}, "message": "not ours"},
        {
            **event,
            "involvedObject": about,
            "message": "of a pod before",
            "lastTimestamp": "2026-11-20T10:00:00Z",
        },
    ]
    api.steps = [waiting]
    status, _, err = predictor("deploy", "digits", *_MODEL, "--timeout", "0.3")
    assert status == 1
    assert re.search(r"digits is not ready after \d+ s:", err)
    assert "pod digits-predictor-1 finds no node: 0/1 nodes: Insufficient nvidia.com/gpu." in err
    assert "--gpus 0 serves on the CPU" in err
    assert "event about digits-predictor-1: FailedScheduling: 0/1 nodes are available" in err
    assert "not ours" not in err
    assert "of a pod before" not in err


def test_nobody_takes_notice(api, predictor):
    status, _, err = predictor("deploy", "digits", *_MODEL, "--timeout", "0.2")
    assert status == 1
    assert "nothing in the cluster has taken notice of it" in err
    assert "Is KServe's controller running?" in err


def test_the_pods_of_the_version_before_are_not_blamed(api, predictor):
    state = {"waiting": {"reason": "ImagePullBackOff", "message": "old"}}
    old = pod("digits-predictor-old", container(state))
    new = pod("digits-predictor-new", container({"running": {}}), phase="Running")
    new["metadata"]["creationTimestamp"] = "2026-11-21T09:30:00Z"
    api.pods = [old, new]
    api.steps = [waiting]
    _, _, err = predictor("deploy", "digits", *_MODEL, "--timeout", "0.3")
    assert "ImagePullBackOff" not in err
    assert "container kserve-container of pod digits-predictor-new runs, and is not ready yet" in err


def test_a_service_that_is_deleted_meanwhile(api, predictor):
    def vanish(api, service):
        api.services.clear()

    api.steps = [waiting, vanish]
    status, _, err = predictor("deploy", "digits", *_MODEL)
    assert status == 1
    assert "there is no InferenceService digits" in err


def test_one_may_be_forbidden_to_look_at_pods(api, predictor):
    message = 'pods is forbidden: User "me" cannot list resource "pods"'
    api.refusals["GET", "/pods"] = (403, message)
    api.steps = [waiting, ready]
    assert predictor("deploy", "digits", *_MODEL)[0] == 0
    api.looks, api.steps = 0, [waiting]
    _, _, err = predictor("deploy", "digits", *_MODEL, "--timeout", "0.2")
    assert f"(not seen: cannot list pods: {message})" in err


def test_an_api_server_that_is_away_for_a_moment(api, predictor, monkeypatch):
    slept = []

    def away(api, service):
        api.refusals["GET", "/inferenceservices/digits"] = (503, "etcd leader changed")

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 4:
            api.refusals.clear()

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    api.steps = [away, ready]
    assert predictor("deploy", "digits", *_MODEL)[0] == 0
    assert len(slept) == 4


def test_not_waiting(api, predictor):
    status, out, err = predictor("deploy", "digits", *_MODEL, "--no-wait")
    assert (status, out) == (0, "")
    assert "created" in err


def test_the_namespace_is_the_contexts_or_the_one_that_is_named(api, predictor):
    for words, namespace in (([], "default"), (["--context", "other"], "others"), (["-n", "third"], "third")):
        predictor("deploy", "digits", *_MODEL, "--no-wait", *words)
        assert (namespace, "digits") in api.services
        assert api.services[namespace, "digits"]["metadata"]["namespace"] == namespace


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        (
            403,
            'inferenceservices.serving.kserve.io "digits" is forbidden: User "me" cannot patch',
            ['User "me" cannot patch', "manifests/rbac/deployer.yaml"],
        ),
        (401, "Unauthorized", ["Unauthorized", "log in again"]),
        (404, "404 page not found\n", ["404 page not found", "KServe is not installed"]),
        (
            404,
            status_object(404, 'namespaces "default" not found', {"name": "default", "kind": "namespaces"}),
            ['namespaces "default" not found', "kubectl create namespace default"],
        ),
        (409, 'Apply failed with 1 conflict: conflict with "kubectl"', ["conflict", "--force-conflicts"]),
        (400, 'admission webhook "x.kserve" denied the request: no', ["denied the request: no"]),
        (500, "", ["500 Internal Server Error"]),
    ],
)
def test_a_cluster_that_refuses(api, predictor, status, reason, said):
    api.refusals["PATCH", "/digits"] = (status, reason)
    code, out, err = predictor("deploy", "digits", *_MODEL)
    assert (code, out) == (1, "")
    assert err.startswith("predictor deploy: cannot apply InferenceService digits: ")
    for part in said:
        assert part in err


def test_a_cluster_without_kserve(api, predictor):
    api.refusals["GET", "/inferenceservices/digits"] = (404, "404 page not found\n")
    status, _, err = predictor("deploy", "digits", *_MODEL)
    assert status == 1
    assert "KServe is not installed there" in err
    assert api.sent("PATCH") == []


def test_conflicts_can_be_forced(api, predictor):
    predictor("deploy", "digits", *_MODEL, "--no-wait", "--force-conflicts")
    assert api.sent("PATCH")[0][2]["force"].lower() == "true"


def test_nothing_listens(api, predictor):
    address = api.address
    api.close()
    status, _, err = predictor("status")
    assert status == 1
    assert f"nothing answers as an API server at {address}" in err
    assert "refused" in err


@pytest.mark.parametrize(
    "text", ["{", "", "[]", "text", "contexts: 5\ncurrent-context: a", "\x00", "current-context: {}", None]
)
def test_a_kubeconfig_that_is_none(predictor, tmp_path, text):
    file = tmp_path / "broken"
    if text is not None:
        file.write_text(text)
    status, _, err = predictor("status", "--kubeconfig", str(file))
    assert status == 1
    assert f"cannot use the kubeconfig {file}: " in err
    assert "kubectl config get-contexts" in err


def test_a_context_that_is_none(predictor):
    status, _, err = predictor("status", "--context", "nowhere")
    assert status == 1
    assert "nowhere" in err


def test_no_cluster_at_all(monkeypatch, tmp_path, capsys):
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command.main(["status"]) == 1
    err = capsys.readouterr().err
    assert "no cluster: there is no ~/.kube/config" in err
    assert "make kind-up" in err
    assert "--dry-run" not in err
    assert command.main(["deploy", "digits", *_MODEL]) == 1
    assert "--dry-run=client" in capsys.readouterr().err


def test_a_number_that_is_none_is_told_in_one_line(capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(["deploy", "digits", *_MODEL, "--gpus", "x"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("predictor deploy: argument --gpus: invalid int value: 'x'")


def test_the_manifest_alone_needs_no_cluster(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command.main(["deploy", "digits", *_MODEL, "--dry-run=client"]) == 0
    manifest = yaml.safe_load(capsys.readouterr().out)
    assert manifest["kind"] == "InferenceService"
    assert "namespace" not in manifest["metadata"], "`kubectl -n` could not apply it elsewhere"


def test_a_line_of_a_log_is_not_a_screenful(api, predictor):
    last = {"exitCode": 1, "reason": "Error"}
    api.pods = [
        pod(
            "digits-predictor-1",
            container({"waiting": {"reason": "CrashLoopBackOff"}}, restarts=3, last=last),
        )
    ]
    api.steps = [waiting]
    long = "x" * 100_000
    api.logs["digits-predictor-1", "kserve-container", True] = f"one\n{long}\ntwo"
    _, _, err = predictor("deploy", "digits", *_MODEL)
    assert "  one\n" in err
    assert "  two\n" in err
    assert "99500 characters more" in err
    assert len(err) < 5000


@pytest.mark.parametrize("seconds", ["nan", "-1", "soon"])
def test_a_timeout_is_a_number_of_seconds(seconds, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(["deploy", "digits", *_MODEL, "--dry-run=client", "--timeout", seconds])
    assert "--timeout" in capsys.readouterr().err


def test_a_dry_run_on_the_server_keeps_nothing(api, predictor):
    status, out, _ = predictor("deploy", "digits", *_MODEL, "--dry-run=server")
    assert status == 0
    assert yaml.safe_load(out)["metadata"]["creationTimestamp"]
    assert "managedFields" not in out
    assert api.services == {}
    assert api.sent("PATCH")[0][2]["dryRun"] == "All"


@pytest.mark.parametrize(
    "words",
    [
        ["deploy", "digits", "--model", "here.mar"],
        ["deploy", "Digits", *_MODEL],
        ["deploy", "digits", *_MODEL, "--env", "NOVALUE"],
        ["deploy", "digits", *_MODEL, "--gpu-resource", "gpu"],
    ],
)
def test_a_wrong_command_line_is_told_before_anything_is_sent(api, predictor, words):
    status, _, err = predictor(*words)
    assert status == 2
    assert err.startswith("predictor deploy: ")
    assert api.requests == []


def test_status_of_all(api, predictor):
    status, out, _ = predictor("status")
    assert (status, out) == (0, "There is no InferenceService in default.\n")
    api.steps = [ready]
    predictor("deploy", "digits", *_MODEL)
    predictor("deploy", "wine", *_MODEL, "--no-wait")
    status, out, _ = predictor("status")
    heading, digits, wine = (line.split() for line in out.splitlines())
    assert heading == ["NAME", "READY", "AGE", "RUNTIME", "URL"]
    assert (digits[0], digits[1], digits[-1]) == ("digits", "yes", "http://digits-default.models.test")
    assert (wine[0], wine[1], wine[-1]) == ("wine", "unknown", "-")
    status, out, _ = predictor("status", "--output", "json")
    assert {one["metadata"]["name"] for one in json.loads(out)} == {"digits", "wine"}


def test_status_of_one(api, predictor):
    api.steps = [ready]
    predictor("deploy", "digits", *_MODEL)
    api.pods = [pod("digits-predictor-1", container({"running": {}}, ok=True), phase="Running")]
    status, out, _ = predictor("status", "digits")
    assert status == 0
    assert "http://digits-default.models.test" in out
    assert "digits-predictor-1  Running" in out
    api.steps = [waiting]
    api.pods = [
        pod("digits-predictor-1", container({"waiting": {"reason": "ImagePullBackOff", "message": "m"}}))
    ]
    status, out, _ = predictor("status", "digits")
    assert status == 1
    assert "the image cannot be pulled" in out
    assert predictor("status", "other")[0] == 1


def test_delete(api, predictor):
    predictor("deploy", "digits", *_MODEL, "--no-wait")
    status, out, _ = predictor("delete", "digits")
    assert status == 0
    assert out.startswith("digits is deleted from default")
    assert api.services == {}
    status, _, err = predictor("delete", "digits")
    assert status == 1
    assert "there is no InferenceService digits in default" in err
    assert predictor("delete", "digits", "--ignore-missing")[0] == 0


def test_ctrl_c_leaves_the_service_and_says_so(api, tmp_path):
    """In a process of its own, as a person would press it."""
    api.steps = [waiting]
    environment = {**os.environ, "KUBECONFIG": str(api.kubeconfig(tmp_path))}
    words = [sys.executable, "-m", "predictor", "deploy", "digits", *_MODEL]
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert api.looked.wait(120), "it never began to wait"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Not waiting any longer. It stays in the cluster" in err
    assert "predictor delete digits -n default --context test" in err
    assert "Traceback" not in err
    assert ("default", "digits") in api.services
