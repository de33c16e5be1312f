"""The chart on a real cluster: admitted, scheduled, updated, scaled, broken, mended and taken away.

Requests come from a pod of the cluster through the Service, as a client's do. Where a test says that none
is lost, `test_without_the_drain_requests_are_lost` shows that the same load would have seen it.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time

import pytest
import yaml
from support.chart import CHART, template
from support.cluster import ASSETS, TOOL, Load, is_ready, run, tool_environment, wait_until
from support.server import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

_PROBE = {
    "gpu": {"enabled": False},
    "replicas": 2,
    "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
    "probes": {"readiness": {"periodSeconds": 1}, "liveness": {"periodSeconds": 5}},
    "extraVolumes": [
        {
            "name": "probe",
            "configMap": {
                "name": "probe",
                "items": [
                    {"key": "handler.py", "path": "probe/handler.py"},
                    {"key": "config", "path": "probe/model-config.yaml"},
                    {"key": "manifest", "path": "probe/MAR-INF/MANIFEST.json"},
                ],
            },
        }
    ],
    "extraVolumeMounts": [{"name": "probe", "mountPath": "/mnt/models"}],
    "tests": {"enabled": False},
}
_UNDRAINED = {
    "drain": {"preStopSeconds": 0, "delaySeconds": 0, "gracePeriodSeconds": 0},
    "terminationGracePeriodSeconds": 1,
}


def _revision(number, **values):
    return {**_PROBE, "extraEnv": [{"name": "REVISION", "value": str(number)}], **values}


@pytest.fixture(scope="module")
def probe(cluster):
    """The model of these tests, as a ConfigMap, and a release that serves it in two pods."""
    manifest = {
        "modelName": "probe",
        "modelVersion": "1.0",
        "handler": "handler.py",
        "configFile": "model-config.yaml",
    }
    data = {
        "handler.py": (ASSETS / "handler.py").read_text(),
        "config": "batchSize: 8\nmaxRetryTimeoutInSec: 3\n",
        "manifest": json.dumps({"runtime": "python", "model": manifest}),
    }
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe"}, "data": data})
    cluster.release("rel", _revision(1))
    cluster.wait_pods("rel", 2)
    yield cluster
    cluster.helm("uninstall", "rel", check=False)


def _name(cluster, kind="deployment"):
    return f"{kind}/rel-predictor"


def _busy(cluster):
    return Load(cluster, "rel-predictor", {"seconds": 0.05})


def test_a_typo_is_refused_before_anything_is_made(cluster):
    for values in ({"replica": 2}, {"settings": {"btach_size": 2}}, {"gpu": {"count": "one"}}):
        done = cluster.release("typo", values, check=False)
        assert done.returncode != 0
    assert cluster.get("deployments")["items"] == []
    assert "typo" not in cluster.helm("list", "--all", "-q").stdout


@pytest.mark.parametrize(
    "values",
    [
        {"mode": "inferenceService", "model": {"storageUri": "gs://bucket/model"}},
        {"mode": "servingRuntime"},
        {"mode": "servingRuntime", "servingRuntime": {"clusterScoped": True}},
        {"networkPolicy": {"enabled": True}, "podDisruptionBudget": {"enabled": True}},
    ],
    ids=lambda values: values.get("mode", "deployment") + ("/cluster" if "servingRuntime" in values else ""),
)
def test_the_api_server_admits_it(cluster, values):
    if cluster.own or _has_kserve(cluster):
        rendered = cluster.release("admitted", values, "--dry-run").stdout
        assert "kind: " in rendered
        documents = [d for d in template(values, "--kube-version", "1.20.2") if d["kind"] != "Pod"]
        for document in documents:
            document["metadata"].pop("namespace", None)
            if document["kind"] == "PodDisruptionBudget":
                continue  # its version is the cluster's, which --dry-run above has asked for
            cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(document))
    else:
        pytest.skip("the cluster has no KServe kinds")


def test_the_api_server_refuses_a_wrong_field_and_a_wrong_value(cluster):
    if not (cluster.own or _has_kserve(cluster)):
        pytest.skip("the cluster has no KServe kinds")
    (service,) = [d for d in template({"mode": "inferenceService"}) if d["kind"] == "InferenceService"]
    service["metadata"].pop("namespace")
    for spoil in ({"minReplica": 1}, {"minReplicas": "one"}):
        wrong = {**service, "spec": {"predictor": {**service["spec"]["predictor"], **spoil}}}
        done = run("kubectl", "-n", cluster.namespace, "apply", "--dry-run=server", "-f", "-",
                   stdin=yaml.safe_dump(wrong), check=False)  # fmt: skip
        assert done.returncode != 0
        assert next(iter(spoil)) in done.stderr


def _has_kserve(cluster):
    return "inferenceservices.serving.kserve.io" in run("kubectl", "get", "crd", "-o", "name").stdout


def test_pods_wait_for_a_gpu_and_start_when_the_node_has_one(cluster):
    if not cluster.own:
        pytest.skip("how many GPUs a node has is set only on the cluster tool's")
    run(str(TOOL), "gpus", "0")
    cluster.release("samples", {})  # the defaults, as a user meets them
    try:
        wait_until(lambda: "Insufficient nvidia.com/gpu" in str(cluster.pods("samples")), 60)
        time.sleep(5)
        assert cluster.ready_pods("samples") == []
        run(str(TOOL), "gpus", "1")
        cluster.wait_pods("samples", 1)
        tested = cluster.helm("test", "samples")
        assert "Phase:          Succeeded" in tested.stdout
        _follow_the_notes(cluster, "samples")
    finally:
        cluster.helm("uninstall", "samples")
        run(str(TOOL), "gpus", "0")


def _follow_the_notes(cluster, release):
    """Do what NOTES.txt says, with another port than 8080."""
    notes = cluster.helm("get", "notes", release).stdout
    commands = re.findall(r"^  ((?:kubectl|curl|helm) .*)$", notes, re.MULTILINE)
    forward = next(command for command in commands if "port-forward" in command)
    port = str(free_port())
    with subprocess.Popen(
        ["bash", "-c", "exec " + forward.rstrip("& ").replace("8080:", f"{port}:")],
        env=tool_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert b"Forwarding" in process.stdout.readline()
            said = [
                run("bash", "-c", command.replace("127.0.0.1:8080", f"127.0.0.1:{port}")).stdout
                for command in commands
                if command != forward and "helm test" not in command
            ]
        finally:
            process.kill()
    assert any('"ready":true' in text for text in said)
    assert any('"label":"concurrency"' in text for text in said)


def test_a_rolling_update_loses_no_request(probe):
    with _busy(probe) as load:
        probe.release("rel", _revision(2), "--wait", "--timeout", "15m")
        probe.wait_pods("rel", 2)  # the old ones have gone
    assert load.report["lost"] == 0, load.report
    revisions = {key.split()[0] for key in load.report["by"]}
    assert revisions == {"1", "2"}, "the load did not see both versions: it proves nothing"


def test_scaling_down_and_up_loses_no_request(probe):
    with _busy(probe) as load:
        for replicas in (1, 2):
            probe.kubectl("scale", _name(probe), f"--replicas={replicas}")
            probe.wait_pods("rel", replicas)
    assert load.report["lost"] == 0, load.report


def test_draining_a_node_loses_no_request(probe):
    if not probe.own:
        pytest.skip("nodes are drained only on the cluster tool's cluster")
    probe.release("rel", _revision(2, podDisruptionBudget={"enabled": True}), "--wait", "--timeout", "15m")
    before = {pod["metadata"]["name"] for pod in probe.pods("rel")}
    (node,) = [
        item["metadata"]["name"]
        for item in json.loads(run("kubectl", "get", "nodes", "-o", "json").stdout)["items"]
    ]
    with _busy(probe) as load:
        # There is one node: it may take pods again as soon as the first has been evicted. The budget then
        # keeps the second one until the first one's successor is ready.
        drain = threading.Thread(
            target=lambda: run(
                "kubectl", "drain", node, "--force", "--delete-emptydir-data", "--ignore-daemonsets",
                "--pod-selector=app.kubernetes.io/instance=rel", "--timeout=600s", check=False,
            )
        )  # fmt: skip
        drain.start()
        wait_until(lambda: len({p["metadata"]["name"] for p in probe.pods("rel")} & before) < 2, 60)
        run("kubectl", "uncordon", node)
        drain.join(600)
        run("kubectl", "uncordon", node)
        probe.wait_pods("rel", 2)
    assert not {pod["metadata"]["name"] for pod in probe.pods("rel")} & before, "the drain has evicted nobody"
    assert load.report["lost"] == 0, load.report


def test_without_the_drain_requests_are_lost(probe):
    probe.release("rel", _revision(3, **_UNDRAINED), "--wait", "--timeout", "15m")
    probe.wait_pods("rel", 2)
    with Load(probe, "rel-predictor", {"seconds": 1.5}) as load:
        probe.release("rel", _revision(4, **_UNDRAINED), "--wait", "--timeout", "15m")
        probe.wait_pods("rel", 2)
    assert load.report["lost"] > 0, load.report
    probe.release("rel", _revision(5), "--wait", "--timeout", "15m")
    probe.wait_pods("rel", 2)


def test_slow_requests_are_finished(probe):
    with Load(probe, "rel-predictor", {"seconds": 4}) as load:
        probe.release("rel", _revision(6), "--wait", "--timeout", "15m")
        probe.wait_pods("rel", 2)
    assert load.report["lost"] == 0, load.report


def test_a_broken_version_never_becomes_ready_and_the_old_one_serves_on(probe):
    broken = _revision(7)
    broken["extraEnv"] = [*broken["extraEnv"], {"name": "BROKEN", "value": "yes"}]
    with _busy(probe) as load:
        done = probe.release("rel", broken, "--wait", "--timeout", "30s", check=False)
        assert done.returncode != 0
        assert len(probe.ready_pods("rel")) == 2
    assert load.report["lost"] == 0, load.report
    assert {key.split()[0] for key in load.report["by"]} == {"6"}
    probe.helm("rollback", "rel", "--wait", "--timeout", "15m")
    probe.wait_pods("rel", 2)


def test_a_pod_whose_worker_died_for_good_turns_unready_and_is_restarted(probe):
    victim = probe.ready_pods("rel")[0]
    address = probe.get("pod", victim)["status"]["podIP"]
    ask = (
        "import json, sys, urllib.request, urllib.error\n"
        "body = sys.argv[2].encode() if len(sys.argv) > 2 else None\n"
        "headers = {'Content-Type': 'application/json'}\n"
        "request = urllib.request.Request(sys.argv[1], data=body, headers=headers)\n"
        "try: answer = urllib.request.urlopen(request, timeout=60)\n"
        "except urllib.error.HTTPError as error: answer = error\n"
        "print(answer.status, answer.read().decode())"
    )

    def tell(path, *body):
        return probe.kubectl(
            "exec", victim, "--", "python", "-c", ask, f"http://{address}:8080{path}", *body, check=False
        )

    assert tell("/v2/health/live").startswith("200")
    assert not tell("/predictions/probe", '{"die": true}').startswith("200")
    wait_until(lambda: not is_ready(probe.get("pod", victim)), 60)
    assert tell("/v2/health/ready").startswith("503")
    with _busy(probe) as load:
        wait_until(lambda: _restarts(probe, victim) == 1, 120)
    assert load.report["lost"] == 0, load.report
    assert victim not in {key.split()[1] for key in load.report["by"]} or is_ready(probe.get("pod", victim))
    wait_until(lambda: is_ready(probe.get("pod", victim)))
    assert "Liveness probe failed" in probe.kubectl("describe", "pod", victim)


def _restarts(cluster, pod):
    return cluster.get("pod", pod)["status"]["containerStatuses"][0]["restartCount"]


def test_upgrade_and_rollback_change_what_serves(probe):
    probe.release("rel", _revision(8, settings={"batch_size": 4}), "--wait", "--timeout", "15m")
    assert probe.get("configmap", "rel-predictor-settings")["data"] == {"PREDICTOR_BATCH_SIZE": "4"}
    probe.helm("rollback", "rel", "--wait", "--timeout", "15m")
    probe.wait_pods("rel", 2)
    variables = probe.pods("rel")[0]["spec"]["containers"][0]["env"]
    assert {"name": "REVISION", "value": "8"} not in variables
    assert "rel-predictor-settings" not in probe.kubectl("get", "configmaps", "-o", "name")


def test_helm_4_renders_what_a_server_side_apply_takes(probe):
    helm4 = tool_environment().get("CLUSTER_HOME", "") + "/bin/helm4"
    if run("bash", "-c", f"test -x {helm4}", check=False).returncode:
        pytest.skip("the cluster tool's helm4 is not installed")
    for mode in ("deployment", "inferenceService", "servingRuntime"):
        run(helm4, "lint", str(CHART), "--set", f"mode={mode}")
        text = run(
            helm4, "template", "four", str(CHART), "--set", f"mode={mode}", "-n", probe.namespace
        ).stdout
        probe.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=text)


def test_uninstalled_nothing_is_left(cluster):
    everything = {
        "settings": {"batch_size": 2},
        "configProperties": "job_queue_size=50",
        "token": {"value": "secret"},
        "networkPolicy": {"enabled": True},
        "podDisruptionBudget": {"enabled": True},
        "autoscaling": {"enabled": True, "cpuPercent": 80},
        "monitoring": {"dashboard": {"enabled": True}},
        "replicas": 0,
    }
    kinds = (
        "all,configmaps,secrets,serviceaccounts,networkpolicies,poddisruptionbudgets,horizontalpodautoscalers"
    )

    def names():
        found = cluster.kubectl("get", kinds, "-o", "name").split()
        return {name for name in found if not name.startswith("pod/load-")}

    cluster.helm("uninstall", "rel", check=False)
    wait_until(lambda: not [name for name in names() if "rel-predictor" in name])
    before = names()
    cluster.release("all", everything)
    assert len(names() - before) >= 8
    cluster.helm("uninstall", "all")
    wait_until(lambda: names() == before, 180, lambda: str(names() ^ before))
