"""`predictor deploy` and the manifests on a real API server with KServe's kinds, and real pods.

Nobody acts on an InferenceService there: `support/kserve_controller.py` plays KServe's controller. So these
are for a cluster without KServe's own.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from kubernetes import client, config
from support.chart import cluster_home
from support.cluster import tool_installed
from support.kserve_controller import Controller
from support.manifests import MANIFESTS, ROOT, load

from predictor.deploy import command
from predictor.deploy.cluster import Cluster
from predictor.deploy.errors import ClusterError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

# A machine with two cores starts a server and a worker beside everything else.
_PATIENCE = "400"
_SMALL = ["--gpus", "0", "--cpu", "100m", "--memory", "1Gi", "--timeout", _PATIENCE]


def _kubeconfig() -> str:
    """Return the file of the cluster that the fixture `cluster` speaks of."""
    return str(cluster_home() / "kubeconfig") if tool_installed() else os.environ["KUBECONFIG"]


@pytest.fixture(scope="module")
def admin(cluster):
    """A client that may do everything; skips where the cluster does not have KServe's kinds."""
    file = _kubeconfig()
    try:
        Cluster(kubeconfig=file).services()
    except ClusterError as error:
        pytest.skip(f"no cluster with KServe's kinds: {error}")
    settings = client.Configuration()
    config.load_kube_config(file, client_configuration=settings)
    return client.ApiClient(settings)


@pytest.fixture(scope="module")
def namespace(admin):
    name = f"predictor-deploy-{secrets.token_hex(3)}"
    core = client.CoreV1Api(admin)
    core.create_namespace({"metadata": {"name": name}})
    with Controller(admin, name):
        yield name
    core.delete_namespace(name)


@pytest.fixture
def predictor(namespace, monkeypatch, capsys):
    """Run a command in the namespace; returns its exit status, stdout and stderr."""
    monkeypatch.setenv("KUBECONFIG", _kubeconfig())

    def run(*words):
        status = command.main([*words, "--namespace", namespace])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture(scope="module")
def server_image(cluster):
    """The image of this version, which the node holds."""
    return cluster.image


def test_every_manifest_is_admitted(admin, namespace):
    custom = client.CustomObjectsApi(admin)
    plurals = {"InferenceService": "inferenceservices", "ClusterServingRuntime": "clusterservingruntimes"}
    checked = 0
    for path in [*MANIFESTS.glob("inferenceservices/*.yaml"), *MANIFESTS.glob("runtimes/*/runtime.yaml")]:
        for document in load(path):
            if document["kind"] not in plurals:
                continue  # there is no schema of an InferenceGraph at hand
            group, version = document["apiVersion"].split("/")
            name = document["metadata"]["name"]
            options = {
                "field_manager": "test",
                "dry_run": "All",
                "_content_type": "application/apply-patch+yaml",
                "_preload_content": False,
            }
            place = (plurals[document["kind"]], name, document)
            if document["kind"] == "InferenceService":
                answer = custom.patch_namespaced_custom_object(group, version, namespace, *place, **options)
            else:
                answer = custom.patch_cluster_custom_object(group, version, *place, **options)
            # What the schema does not know is dropped without a word by older API servers.
            assert _contains(json.loads(answer.data)["spec"], document["spec"]), path
            checked += 1
    assert checked >= 11


def _contains(larger, smaller):
    if isinstance(smaller, dict):
        return isinstance(larger, dict) and all(
            key in larger and _contains(larger[key], value) for key, value in smaller.items()
        )
    if isinstance(smaller, list):
        return len(larger) == len(smaller) and all(map(_contains, larger, smaller))
    return larger == smaller


def test_a_wrong_value_is_refused_by_the_schema(predictor, monkeypatch):
    from predictor.deploy import deploying

    made = deploying.inference_service

    def wrong(asked):
        service = made(asked)
        service["spec"]["predictor"]["minReplicas"] = "one"
        return service

    monkeypatch.setattr(deploying, "inference_service", wrong)
    status, _, err = predictor("deploy", "wrong", "--model", "/mnt/models", "--no-wait")
    assert status == 1
    assert "spec.predictor.minReplicas" in err
    assert "wrong" not in predictor("status")[1]


def test_a_dry_run_on_the_server_keeps_nothing(predictor):
    status, out, _ = predictor("deploy", "dry", "--model", "s3://b/m", "--dry-run=server")
    assert status == 0
    assert yaml.safe_load(out)["metadata"]["uid"]
    assert predictor("status", "dry")[0] == 1


def test_an_image_that_is_nowhere(predictor):
    words = ["--model", "/mnt/models", "--image", "predictor:no-such-version", *_SMALL]
    status, _, err = predictor("deploy", "absent", *words)
    assert status == 1
    assert "absent cannot become ready:" in err
    assert "the image cannot be pulled (ImagePullBackOff)" in err
    predictor("delete", "absent")


def test_no_gpu_in_the_cluster(predictor, server_image):
    words = [
        "--model",
        "/mnt/models",
        "--image",
        server_image,
        "--gpu-resource",
        "example.com/none",
        "--cpu",
        "100m",
    ]
    status, _, err = predictor("deploy", "lonely", *words, "--memory", "256Mi", "--timeout", "15")
    assert status == 1
    assert "lonely is not ready after 15 s:" in err
    assert "finds no node" in err
    assert "Insufficient example.com/none" in err
    predictor("delete", "lonely")


def test_a_server_that_cannot_start_shows_its_last_words(predictor, server_image):
    words = ["--model", "/mnt/models", "--image", server_image, "--arg=--port=nonsense", *_SMALL]
    status, _, err = predictor("deploy", "crashing", *words)
    assert status == 1
    assert "crashing cannot become ready:" in err
    assert "exit status 2" in err
    assert "predictor serve: --port" in err
    predictor("delete", "crashing")


def test_a_service_from_nothing_to_an_answer_and_an_update_that_fails(predictor, server_image, namespace):
    words = ["--model", "/mnt/models", "--image", server_image, "--arg=--models=digits", *_SMALL]
    status, out, err = predictor("deploy", "digits", *words)
    assert status == 0, err
    assert "digits in " + namespace + ": created" in err
    answer = _paste(_commands(out))
    assert answer["name"] == "digits"
    assert answer["inputs"]

    assert "unchanged" in predictor("deploy", "digits", *words)[2]
    status, out, _ = predictor("status", "digits")
    assert status == 0
    assert "Ready" in out

    # KServe goes on saying Ready, because the version before serves on; the command does not.
    status, _, err = predictor("deploy", "digits", *words, "--image", "predictor:no-such-version")
    assert status == 1
    assert "the image cannot be pulled" in err
    assert _paste(_commands(out))["name"] == "digits", "the version before serves on"
    assert predictor("delete", "digits")[0] == 0


def _commands(out):
    return [line for line in out.splitlines() if line.startswith(("kubectl", "curl"))]


def _paste(lines):
    """Do what the printed lines say, as a person who pastes them into a shell; only the port is another."""
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl to paste the port-forward with")
    forward, curl = lines
    forward = forward.removesuffix(" &").replace("8080:80", ":80")
    environment = {**os.environ, "KUBECONFIG": _kubeconfig()}
    with subprocess.Popen(
        shlex.split(forward), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            port = process.stdout.readline().split(" -> ")[0].rpartition(":")[2]
            command = shlex.split(curl.replace(":8080", f":{port}"))
            result = subprocess.run(
                [*command, "-sS"], capture_output=True, text=True, timeout=60, check=False
            )
            assert result.returncode == 0, result.stderr
            return json.loads(result.stdout)
        finally:
            process.terminate()


@pytest.fixture
def taken_over(admin, server_image):
    """The take-over beside a runtime like KServe's own, of priority 2, that could run nothing."""
    custom = client.CustomObjectsApi(admin)
    (ours,) = load(MANIFESTS / "runtimes" / "takeover" / "runtime.yaml")
    ours["spec"]["containers"][0]["image"] = server_image
    theirs = {
        "apiVersion": ours["apiVersion"],
        "kind": ours["kind"],
        "metadata": {"name": "kserve-torchserve"},
        "spec": {
            "supportedModelFormats": [{"name": "pytorch", "version": "1", "autoSelect": True, "priority": 2}],
            "containers": [{"name": "kserve-container", "image": "predictor:no-such-version"}],
        },
    }
    place = ("serving.kserve.io", "v1alpha1", "clusterservingruntimes")
    made = []
    try:
        for runtime in (theirs, ours):
            custom.create_cluster_custom_object(*place, runtime)
            made.append(runtime["metadata"]["name"])
        yield
    finally:
        for name in made:
            custom.delete_cluster_custom_object(*place, name)


def test_the_take_over_runtime_serves_what_was_laid_out_for_torchserve(
    admin, namespace, predictor, server_image, taken_over
):
    """KServe's TorchServe layout, and arguments that TorchServe took, on a read-only file system."""
    archive = ROOT / "tests" / "oracle" / "archives" / "plain" / "function.mar"
    snapshot = {"function": {"1.0": {"defaultVersion": True, "marName": "function.mar", "minWorkers": 1}}}
    properties = (
        "inference_address=http://0.0.0.0:8085\nmanagement_address=http://0.0.0.0:8085\n"
        "metrics_address=http://0.0.0.0:8082\nenable_envvars_config=true\ninstall_py_dep_per_model=true\n"
        "model_store=/mnt/models/model-store\nmodel_snapshot="
        + json.dumps({"name": "startup.cfg", "modelCount": 1, "models": snapshot})
    )
    paths = {"archive": "model-store/function.mar", "properties": "config/config.properties"}
    client.CoreV1Api(admin).create_namespaced_config_map(
        namespace,
        {
            "metadata": {"name": "layout", "annotations": {"paths": json.dumps(paths)}},
            "data": {"properties": properties},
            "binaryData": {"archive": base64.b64encode(archive.read_bytes()).decode()},
        },
    )
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "old", "annotations": {"test/models": "layout"}},
        "spec": {
            "predictor": {
                "pytorch": {
                    "storageUri": "gs://bucket/old",
                    "args": ["--disable-token-auth", "--enable-model-api"],
                    "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
                }
            }
        },
    }
    client.CustomObjectsApi(admin).create_namespaced_custom_object(
        "serving.kserve.io", "v1beta1", namespace, "inferenceservices", service
    )
    status, out, deadline = 1, "", time.monotonic() + float(_PATIENCE)
    while status and time.monotonic() < deadline:
        status, out, _ = predictor("status", "old")
        time.sleep(2)
    assert status == 0, out
    forward, curl = _commands(out)
    assert _paste([forward, curl])["name"] == "old", "the service's name answers too"
    served = _paste([forward, curl.replace("/v2/models/old", "/v1/models/function")])
    assert served == {"name": "function", "ready": True}, "the name that the snapshot gives it"
    assert predictor("delete", "old")[0] == 0


def test_the_deployers_role_suffices_and_reaches_no_other_namespace(admin, namespace, tmp_path, capsys):
    _apply_rbac(admin, namespace)
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(_as_deployer(admin, namespace)))
    known = ["--kubeconfig", str(file), "--namespace", namespace]
    assert command.main(["deploy", "small", "--model", "/m", "--no-wait", *known]) == 0
    assert command.main(["status", "small", *known]) == 1
    assert "not seen" not in capsys.readouterr().out, "pods, deployments and events may be read"
    assert command.main(["delete", "small", *known]) == 0
    assert command.main(["status", "--kubeconfig", str(file), "--namespace", "default"]) == 1
    err = capsys.readouterr().err
    assert "is forbidden" in err
    assert "manifests/rbac/deployer.yaml" in err


def _apply_rbac(admin, namespace):
    core, rbac = client.CoreV1Api(admin), client.RbacAuthorizationV1Api(admin)
    create = {
        "ServiceAccount": core.create_namespaced_service_account,
        "Role": rbac.create_namespaced_role,
        "RoleBinding": rbac.create_namespaced_role_binding,
    }
    for document in load(MANIFESTS / "rbac" / "deployer.yaml"):
        document["metadata"]["namespace"] = namespace
        for subject in document.get("subjects", []):
            subject["namespace"] = namespace
        create[document["kind"]](namespace, document)


def _as_deployer(admin, namespace):
    """Return a kubeconfig with the service account's token."""
    core = client.CoreV1Api(admin)
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3600},
    }
    answer = core.create_namespaced_service_account_token(
        "predictor-deployer", namespace, request, _preload_content=False
    )
    kubeconfig = yaml.safe_load(Path(_kubeconfig()).read_text())
    kubeconfig["users"] = [
        {"name": "deployer", "user": {"token": json.loads(answer.data)["status"]["token"]}}
    ]
    for context in kubeconfig["contexts"]:
        context["context"]["user"] = "deployer"
    return kubeconfig


def test_from_a_pod_with_the_deployers_account(admin, namespace, server_image):
    """In-cluster: no kubeconfig, the pod's own token and namespace."""
    core = client.CoreV1Api(admin)
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "inside"},
        "spec": {
            "serviceAccountName": "predictor-deployer",
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": server_image, "args": ["predictor", "status"]}],
        },
    }
    core.create_namespaced_pod(namespace, body, _preload_content=False)
    for _ in range(120):
        phase = json.loads(core.read_namespaced_pod("inside", namespace, _preload_content=False).data)[
            "status"
        ]["phase"]
        if phase in ("Succeeded", "Failed"):
            break
        time.sleep(1)
    log = bytes(core.read_namespaced_pod_log("inside", namespace, _preload_content=False).data).decode()
    assert phase == "Succeeded", log
    assert namespace in log
