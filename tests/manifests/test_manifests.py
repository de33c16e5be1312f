"""Every manifest and every overlay: fields, values, and the agreements that hold between them."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from support.api_models import problems
from support.manifests import MANIFESTS, ROOT, load

from predictor import __version__
from predictor.settings import Settings

_OVERLAYS = sorted(path.parent for path in MANIFESTS.rglob("kustomization.yaml"))
_PLAIN = sorted(
    path
    for path in MANIFESTS.rglob("*.yaml")
    if path.name != "kustomization.yaml"
    and path not in {MANIFESTS / "overlays/gpu/gpu.yaml", MANIFESTS / "overlays/kind/small.yaml"}
)


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _documents():
    return [
        pytest.param(document, id=f"{_id(path)}:{document['kind']}")
        for path in _PLAIN
        for document in load(path)
    ]


def _pod_specs(document):
    """Yield what becomes a pod: (its specification, its containers)."""
    spec = document.get("spec") or {}
    if document["kind"] == "ClusterServingRuntime":
        yield spec, spec["containers"]
    if document["kind"] == "InferenceService" and "containers" in spec["predictor"]:
        yield spec["predictor"], spec["predictor"]["containers"]


@pytest.mark.parametrize("document", _documents())
def test_only_known_fields_of_the_right_type(document):
    assert problems(document) == []


@pytest.mark.parametrize("folder", _OVERLAYS, ids=_id)
def test_overlays_build_and_hold_only_known_fields(folder, kustomize):
    documents = kustomize(folder)
    assert documents
    for document in documents:
        assert problems(document) == [], document["metadata"]["name"]


def test_everything_obeys_the_schemas_of_kubernetes_and_kserve(validate, kustomize):
    # There is no schema of an InferenceGraph in shared/data/crds; the models above know its fields.
    documents = [one for path in _PLAIN for one in load(path) if one["kind"] != "InferenceGraph"]
    documents += [document for folder in _OVERLAYS for document in kustomize(folder)]
    broken = copy.deepcopy(_runtime(documents))
    broken["metadata"]["name"] = "broken"
    broken["spec"]["supportedModelFormats"][0]["autoselect"] = True
    problems = validate([*documents, broken])
    assert len(problems) == 1, problems
    assert problems[0].endswith('unknown field "autoselect", did you mean "autoSelect"?')


@pytest.mark.parametrize("document", _documents())
def test_a_pod_may_do_little_and_stops_in_time(document):
    settings = Settings()
    for spec, containers in _pod_specs(document):
        for container in containers:
            assert container["name"] == "kserve-container"
            security = container["securityContext"]
            assert security["runAsNonRoot"]
            assert security["runAsUser"] == 1000
            assert security["readOnlyRootFilesystem"]
            assert not security["allowPrivilegeEscalation"]
            assert security["capabilities"]["drop"] == ["ALL"]
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
            assert {"name": "tmp", "emptyDir": {}} in spec["volumes"]
            environment = {one["name"]: one["value"] for one in container.get("env", [])}
            assert "PYTHONPATH" not in environment, "KServe's webhook refuses it"
            grace = float(environment.get("PREDICTOR_GRACE_PERIOD", settings.grace_period))
            delay = float(environment.get("PREDICTOR_DRAIN_DELAY", settings.drain_delay))
            assert delay + grace + 5 <= spec.get("terminationGracePeriodSeconds", 30)


@pytest.mark.parametrize("document", _documents())
def test_probes_ask_the_servers_health_routes(document):
    for _, containers in _pod_specs(document):
        for container in containers:
            paths = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
            assert paths == {
                "startupProbe": "/v2/health/ready",
                "readinessProbe": "/v2/health/ready",
                "livenessProbe": "/v2/health/live",
            }
            assert {container[name]["httpGet"]["port"] for name in paths} == {8080}
            startup = container["startupProbe"]
            assert startup["periodSeconds"] * startup["failureThreshold"] >= 600, "large models load slowly"


def test_images_are_of_this_version():
    for path in _PLAIN:
        for document in load(path):
            for _, containers in _pod_specs(document):
                for container in containers:
                    assert container["image"] in (
                        f"predictor:{__version__}",
                        f"predictor:{__version__}-gpu",
                    ), path
    for folder in _OVERLAYS:
        for image in yaml.safe_load((folder / "kustomization.yaml").read_text()).get("images", []):
            assert image["newTag"] in (__version__, f"{__version__}-gpu"), folder


def _runtime(documents):
    return next(one for one in documents if one["kind"] == "ClusterServingRuntime")


@pytest.mark.parametrize(("device", "tag"), [("cpu", __version__), ("gpu", f"{__version__}-gpu")])
def test_the_take_over_wins_against_kserves_own_runtime(kustomize, device, tag):
    runtime = _runtime(kustomize(MANIFESTS / "overlays" / f"takeover-{device}"))
    formats = runtime["spec"]["supportedModelFormats"]
    assert {(one["name"], one["version"], one["autoSelect"], one["priority"]) for one in formats} == {
        ("pytorch", "1", True, 3),
        ("pytorch", "2", True, 3),
    }
    assert runtime["spec"]["protocolVersions"] == ["v1", "v2", "grpc-v2"]
    (container,) = runtime["spec"]["containers"]
    assert container["image"] == f"predictor:{tag}"
    assert "nvidia.com/gpu" not in container["resources"]["limits"], (
        "services ask for what they asked for before"
    )
    # With this label KServe's controller would change the image's tag by itself.
    assert "serving.kserve.io/server-type" not in runtime["metadata"].get("labels", {})


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_other_runtime_takes_only_what_names_it(kustomize, device):
    runtime = _runtime(kustomize(MANIFESTS / "overlays" / device))
    assert runtime["metadata"]["name"] == "predictor"
    assert not any(one["autoSelect"] for one in runtime["spec"]["supportedModelFormats"])
    (container,) = runtime["spec"]["containers"]
    assert container["resources"]["limits"].get("nvidia.com/gpu") == ("1" if device == "gpu" else None)
    assert container["resources"]["requests"].get("nvidia.com/gpu") == ("1" if device == "gpu" else None)


def test_the_two_runtimes_differ_in_nothing_else():
    (one,), (other,) = (
        load(MANIFESTS / "runtimes" / name / "runtime.yaml") for name in ("coexist", "takeover")
    )
    for runtime in (one, other):
        del runtime["metadata"]["name"], runtime["spec"]["supportedModelFormats"]
    assert one == other


def test_services_name_runtimes_that_are_there():
    names = {"predictor", "predictor-takeover"}
    for path in _PLAIN:
        for document in load(path):
            predictor = (document.get("spec") or {}).get("predictor") or {}
            runtime = (predictor.get("model") or {}).get("runtime")
            assert runtime is None or runtime in names, path


def test_knative_services_set_nothing_that_knative_refuses():
    for path in _PLAIN:
        for document in load(path):
            annotations = document["metadata"].get("annotations") or {}
            if annotations.get("serving.kserve.io/deploymentMode") != "Knative":
                continue
            predictor = document["spec"]["predictor"]
            assert "terminationGracePeriodSeconds" not in predictor
            assert len((predictor.get("model") or {}).get("ports", [])) <= 1


def test_the_deployers_role_is_for_one_namespace_and_cannot_read_secrets():
    documents = load(MANIFESTS / "rbac" / "deployer.yaml")
    assert {one["kind"] for one in documents} == {"ServiceAccount", "Role", "RoleBinding"}
    (role,) = (one for one in documents if one["kind"] == "Role")
    resources = {resource for rule in role["rules"] for resource in rule["resources"]}
    assert resources == {"inferenceservices", "pods", "pods/log", "events", "deployments"}
    assert not any("*" in rule["verbs"] for rule in role["rules"])
