"""From what was asked for to an InferenceService."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from predictor import __version__
from predictor.deploy.errors import WrongInput

MODELS_FOLDER = "/mnt/models"
CONTAINER = "kserve-container"
MANAGED_BY = {"app.kubernetes.io/managed-by": "predictor"}
# The drain delay and the grace period of the server's settings, and time for workers to stop.
TERMINATION_SECONDS = 45

# What KServe's storage initializer fetches, by scheme.
_SCHEMES = ("s3", "gs", "hf", "pvc", "https", "http", "oci", "hdfs", "webhdfs", "abfs", "abfss")
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
# KServe appends up to "-predictor" and a namespace to the name, and a label of DNS has 63 characters.
_LONGEST_NAME = 53
_QUANTITY = re.compile(r"(\d+\.?\d*|\.\d+)(m|[kMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")
_RESOURCE = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?/[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")

Mode = Literal["Standard", "Knative"]


@dataclasses.dataclass(frozen=True)
class Deployment:
    """What `predictor deploy` was asked for.

    Attributes:
        name: of the InferenceService, and a further name of its model.
        namespace: of the InferenceService; empty for that of whoever applies it.
        model: a URI for KServe's storage initializer, or an absolute path inside the image.
        image: of the server; empty for the one of this version.
        runtime: a ServingRuntime or ClusterServingRuntime to run in, instead of a container of its own.
        gpus: of `gpu_resource` for each replica; 0 serves on the CPU.
        cpu: CPUs, as a Kubernetes quantity.
        memory: as a Kubernetes quantity.
        mode: how KServe runs it.
        environment: further variables by name.
        arguments: further arguments of `predictor serve`.
        pull_secrets: names of Secrets for the image's registry.
    """

    name: str
    namespace: str
    model: str
    image: str = ""
    runtime: str = ""
    gpus: int = 1
    gpu_resource: str = "nvidia.com/gpu"
    cpu: str = "2"
    memory: str = "4Gi"
    min_replicas: int = 1
    max_replicas: int | None = None
    mode: Mode = "Standard"
    service_account: str = ""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    arguments: Sequence[str] = ()
    pull_secrets: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse what no cluster would take, before one is asked.

        Raises:
            WrongInput: naming the argument.
        """
        if not _LABEL.fullmatch(self.name) or len(self.name) > _LONGEST_NAME:
            raise WrongInput(
                f"{self.name!r} cannot be a name in a cluster: a letter first, then a-z, 0-9 and -, "
                f"at most {_LONGEST_NAME} characters"
            )
        _check_model(self.model)
        self._check_amounts()
        if self.runtime and not self.in_storage:
            raise WrongInput("--runtime needs a --model that KServe can fetch (s3://, gs://, hf://, pvc://)")
        for name in self.environment:
            if not _VARIABLE.fullmatch(name):
                raise WrongInput(f"--env {name}: not the name of an environment variable")
            if name == "PYTHONPATH":
                raise WrongInput("--env PYTHONPATH: KServe's webhook refuses it")

    def _check_amounts(self) -> None:
        for flag, quantity in (("--cpu", self.cpu), ("--memory", self.memory)):
            if not _QUANTITY.fullmatch(quantity):
                raise WrongInput(f"{flag} {quantity}: expected an amount such as 500m, 2, 512Mi, 4Gi")
        if not _RESOURCE.fullmatch(self.gpu_resource):
            raise WrongInput(
                f"--gpu-resource {self.gpu_resource}: expected a name such as nvidia.com/gpu, with its domain"
            )
        for flag, number in (("--gpus", self.gpus), ("--min-replicas", self.min_replicas)):
            if number < 0:
                raise WrongInput(f"{flag} {number}: expected 0 or more")
        if self.min_replicas == 0 and self.mode != "Knative":
            raise WrongInput("--min-replicas 0 needs --mode Knative: only Knative starts a pod for a request")
        if self.max_replicas is not None and self.max_replicas < max(self.min_replicas, 1):
            raise WrongInput(
                f"--max-replicas {self.max_replicas} is less than --min-replicas {self.min_replicas}"
            )

    @property
    def in_storage(self) -> bool:
        """Whether the model has to be fetched; otherwise it is in the image."""
        return "://" in self.model

    @property
    def server_image(self) -> str:
        """The image that runs."""
        return self.image or f"predictor:{__version__}{'-gpu' if self.gpus else ''}"


def _check_model(model: str) -> None:
    scheme, separator, rest = model.partition("://")
    if separator:
        if scheme not in _SCHEMES or not rest:
            raise WrongInput(f"--model {model}: KServe fetches {', '.join(s + '://' for s in _SCHEMES)}")
        return
    if not model.startswith("/"):
        here = " is on this machine, where the cluster cannot read it" if Path(model).exists() else ""
        raise WrongInput(
            f"--model {model}{here or ': neither a URI nor an absolute path'}",
            "Upload it and give its URI (s3://, gs://, hf://, pvc://CLAIM/PATH, https://), or build it into "
            "an image and give its absolute path in there with --image.",
        )


def inference_service(wanted: Deployment) -> dict[str, Any]:
    """Return the InferenceService as the JSON object that the API server takes.

    Built from KServe's API models, which know every field; importing them loads KServe's SDK.
    """
    from kserve import models
    from kubernetes import client

    annotations = {"serving.kserve.io/deploymentMode": wanted.mode, **_scraping()}
    predictor: dict[str, Any] = {
        # The server asks nothing of the API server; an account that is named may be there for its token.
        "automount_service_account_token": None if wanted.service_account else False,
        "min_replicas": wanted.min_replicas,
        "max_replicas": wanted.max_replicas,
        "service_account_name": wanted.service_account or None,
        "image_pull_secrets": [client.V1LocalObjectReference(name=name) for name in wanted.pull_secrets]
        or None,
    }
    if wanted.mode == "Standard":
        # Knative gives the grace period itself, and refuses one in the pod's template.
        predictor["termination_grace_period_seconds"] = TERMINATION_SECONDS
    if wanted.runtime:
        predictor["model"] = _model_spec(wanted)
    else:
        predictor["containers"] = [_container(wanted)]
        predictor["volumes"] = [client.V1Volume(name="tmp", empty_dir=client.V1EmptyDirVolumeSource())]
    service = models.V1beta1InferenceService(
        api_version="serving.kserve.io/v1beta1",
        kind="InferenceService",
        metadata=client.V1ObjectMeta(
            name=wanted.name,
            namespace=wanted.namespace or None,
            labels=MANAGED_BY,
            annotations=annotations,
        ),
        spec=models.V1beta1InferenceServiceSpec(predictor=models.V1beta1PredictorSpec(**predictor)),
    )
    result: dict[str, Any] = _json(service)
    return result


def _json(value: Any) -> Any:
    """Return an API model as JSON, without what was not set (for some of KServe's names: an empty text).

    The client's own serializer does not know KServe's models any more since it builds on pydantic
    (release 37); both still carry the map from attributes to fields.
    """
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    fields = getattr(value, "attribute_map", None)
    if fields is None:
        return value
    found = ((field, getattr(value, attribute)) for attribute, field in fields.items())
    return {field: _json(item) for field, item in found if item not in (None, "")}


def _scraping() -> dict[str, str]:
    """Standard mode scrapes nothing that does not ask for it."""
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "8080",
        "prometheus.io/path": "/metrics",
    }


def _model_spec(wanted: Deployment) -> Any:
    from kserve import models
    from kubernetes import client

    return models.V1beta1ModelSpec(
        model_format=models.V1beta1ModelFormat(name="pytorch"),
        runtime=wanted.runtime,
        storage_uri=wanted.model,
        image=wanted.image or None,
        args=list(wanted.arguments) or None,
        env=[client.V1EnvVar(name=name, value=value) for name, value in wanted.environment.items()] or None,
        resources=_resources(wanted),
    )


def _container(wanted: Deployment) -> Any:
    from kubernetes import client

    variables = dict(wanted.environment)
    if wanted.in_storage:
        # For a container of one's own, this is how KServe is told what to put under /mnt/models.
        variables["STORAGE_URI"] = wanted.model
    store = MODELS_FOLDER if wanted.in_storage else wanted.model
    return client.V1Container(
        name=CONTAINER,
        image=wanted.server_image,
        image_pull_policy="IfNotPresent",
        args=[f"--model-store={store}", f"--model-name={wanted.name}", *wanted.arguments],
        env=[client.V1EnvVar(name=name, value=value) for name, value in variables.items()] or None,
        ports=_ports(wanted.mode),
        startup_probe=_probe("ready", period_seconds=5, failure_threshold=120),
        readiness_probe=_probe("ready", period_seconds=5, failure_threshold=2),
        liveness_probe=_probe("live", period_seconds=10, failure_threshold=3),
        resources=_resources(wanted),
        security_context=client.V1SecurityContext(
            run_as_non_root=True,
            run_as_user=1000,
            read_only_root_filesystem=True,
            allow_privilege_escalation=False,
            capabilities=client.V1Capabilities(drop=["ALL"]),
            seccomp_profile=client.V1SeccompProfile(type="RuntimeDefault"),
        ),
        # Archives are unpacked there: everything else is read-only.
        volume_mounts=[client.V1VolumeMount(name="tmp", mount_path="/tmp")],  # noqa: S108
    )


def _ports(mode: Mode) -> list[Any]:
    """HTTP first: it becomes the Service's port 80. Knative allows one port only."""
    from kubernetes import client

    http = client.V1ContainerPort(name="http1", container_port=8080, protocol="TCP")
    grpc = client.V1ContainerPort(name="h2c", container_port=8081, protocol="TCP")
    return [http] if mode == "Knative" else [http, grpc]


def _probe(what: str, **times: Any) -> Any:
    from kubernetes import client

    return client.V1Probe(
        http_get=client.V1HTTPGetAction(path=f"/v2/health/{what}", port=8080), timeout_seconds=5, **times
    )


def _resources(wanted: Deployment) -> Any:
    from kubernetes import client

    amounts = {"cpu": wanted.cpu, "memory": wanted.memory}
    if wanted.gpus:
        amounts[wanted.gpu_resource] = str(wanted.gpus)
    # CPU is not limited: a worker that is throttled is slow without any need.
    limits = {name: amount for name, amount in amounts.items() if name != "cpu"}
    return client.V1ResourceRequirements(requests=amounts, limits=limits)
