from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.api_models import problems
from support.manifests import MANIFESTS, load

from predictor import __version__
from predictor.deploy.errors import WrongInput
from predictor.deploy.manifest import Deployment, inference_service


def _service(**changes):
    return inference_service(
        Deployment(**{"name": "digits", "namespace": "default", "model": "s3://b/m.mar", **changes})
    )


def _container(service):
    (container,) = service["spec"]["predictor"]["containers"]
    return container


def test_a_container_of_its_own_on_a_gpu():
    service = _service()
    assert problems(service) == []
    container = _container(service)
    assert container["image"] == f"predictor:{__version__}-gpu"
    assert container["resources"]["limits"] == {"memory": "4Gi", "nvidia.com/gpu": "1"}
    assert {"name": "STORAGE_URI", "value": "s3://b/m.mar"} in container["env"]
    assert container["args"] == ["--model-store=/mnt/models", "--model-name=digits"]
    assert [port["name"] for port in container["ports"]] == ["http1", "h2c"]


def test_on_the_cpu_there_is_no_word_of_gpus():
    service = _service(gpus=0)
    assert "gpu" not in str(service)


def test_another_resource_for_a_part_of_a_gpu():
    resources = _container(_service(gpu_resource="nvidia.com/mig-1g.10gb", gpus=2))["resources"]
    assert resources["requests"]["nvidia.com/mig-1g.10gb"] == "2"
    assert "nvidia.com/gpu" not in resources["requests"]


def test_a_model_inside_the_image():
    container = _container(_service(model="/models/digits", image="me/digits:1"))
    assert container["args"][0] == "--model-store=/models/digits"
    assert container["image"] == "me/digits:1"
    assert "env" not in container


def test_through_a_runtime():
    service = _service(runtime="predictor", arguments=["--workers=2"], environment={"A": "1"})
    assert problems(service) == []
    predictor = service["spec"]["predictor"]
    assert "containers" not in predictor
    assert predictor["model"]["runtime"] == "predictor"
    assert predictor["model"]["storageUri"] == "s3://b/m.mar"
    assert predictor["model"]["args"] == ["--workers=2"]
    assert "image" not in predictor["model"], "the runtime's own"
    assert "name" not in predictor["model"]


def test_knative_is_asked_for_nothing_that_it_refuses():
    service = _service(mode="Knative", min_replicas=0)
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"
    assert "terminationGracePeriodSeconds" not in service["spec"]["predictor"]
    assert len(_container(service)["ports"]) == 1
    assert service["spec"]["predictor"]["minReplicas"] == 0


def test_everything_else_that_can_be_said():
    service = _service(
        service_account="models",
        pull_secrets=["registry"],
        environment={"PREDICTOR_WORKERS": "2", "EMPTY": ""},
        arguments=["--batch-size=8"],
        min_replicas=2,
        max_replicas=5,
        cpu="500m",
        memory="1Gi",
        namespace="models",
    )
    assert problems(service) == []
    predictor = service["spec"]["predictor"]
    assert predictor["serviceAccountName"] == "models"
    assert predictor["imagePullSecrets"] == [{"name": "registry"}]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 5)
    container = _container(service)
    assert container["args"][-1] == "--batch-size=8"
    assert {"name": "PREDICTOR_WORKERS", "value": "2"} in container["env"]
    assert container["resources"]["requests"]["cpu"] == "500m"
    assert "cpu" not in container["resources"]["limits"]
    assert service["metadata"]["namespace"] == "models"
    assert "automountServiceAccountToken" not in predictor, "an account that is named may be there for it"


def test_the_pod_gets_no_token_of_an_account_that_nobody_named():
    for changes in ({}, {"runtime": "predictor"}):
        assert _service(**changes)["spec"]["predictor"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("file", "asked"),
    [
        ("gpu.yaml", {"name": "samples-gpu"}),
        ("cpu.yaml", {"name": "samples-cpu", "gpus": 0, "min_replicas": 2, "max_replicas": 4}),
    ],
)
def test_the_examples_are_what_the_command_makes(file, asked):
    (written,) = load(MANIFESTS / "inferenceservices" / file)
    made = _service(model="/mnt/models", **asked)
    assert made["spec"] == written["spec"]
    assert made["metadata"]["annotations"] == written["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "Digits"}, "'Digits' cannot be a name"),
        ({"name": "1st"}, "a letter first"),
        ({"name": "a" * 54}, "at most 53 characters"),
        ({"name": "a-"}, "cannot be a name"),
        ({"model": "model.mar"}, "--model model.mar: neither a URI nor an absolute path"),
        ({"model": "README.md"}, "--model README.md is on this machine, where the cluster cannot read it"),
        ({"model": "ftp://x/y"}, "--model ftp://x/y: KServe fetches s3://"),
        ({"model": "s3://"}, "--model s3://: KServe fetches"),
        ({"min_replicas": 0}, "--min-replicas 0 needs --mode Knative"),
        ({"min_replicas": -1}, "--min-replicas -1"),
        ({"max_replicas": 0}, "--max-replicas 0 is less than --min-replicas 1"),
        ({"min_replicas": 3, "max_replicas": 2}, "--max-replicas 2 is less than --min-replicas 3"),
        ({"gpus": -1}, "--gpus -1"),
        ({"runtime": "predictor", "model": "/models"}, "--runtime needs a --model that KServe can fetch"),
        ({"environment": {"1A": "x"}}, "--env 1A: not the name of an environment variable"),
        ({"environment": {"PYTHONPATH": "x"}}, "KServe's webhook refuses it"),
        ({"cpu": "two"}, "--cpu two"),
        ({"memory": "4 GB"}, "--memory 4 GB"),
    ],
)
def test_what_no_cluster_would_take(changes, said):
    with pytest.raises(WrongInput, match=said):
        _service(**changes)


@settings(max_examples=25, deadline=None)
@given(
    name=st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True),
    model=st.sampled_from(["s3://b/m", "pvc://c/p", "/models"]),
    gpus=st.integers(0, 8),
    mode=st.sampled_from(["Standard", "Knative"]),
    replicas=st.integers(1, 9),
    environment=st.dictionaries(
        st.from_regex(r"[A-Z_]{1,9}", fullmatch=True), st.text(max_size=9), max_size=3
    ),
    arguments=st.lists(st.text(max_size=9), max_size=3),
)
def test_whatever_is_asked_only_known_fields_are_set(
    name, model, gpus, mode, replicas, environment, arguments
):
    service = _service(
        name=name,
        model=model,
        gpus=gpus,
        mode=mode,
        min_replicas=replicas,
        environment=environment,
        arguments=arguments,
    )
    assert problems(service) == []
    assert _container(service)["args"][2:] == arguments
