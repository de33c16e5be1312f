"""What Helm makes of the chart, in every mode and with many values, checked strictly."""

from __future__ import annotations

import copy
import json
import re
import shutil

import jsonschema
import pytest
import yaml
from support import api_models
from support.chart import (
    CHART,
    NO_HELM,
    HelmError,
    container,
    environment,
    find,
    helm,
    pod_spec,
    run_helm,
    schema_problems,
    template,
    validator,
)

pytestmark = pytest.mark.skipif(helm() is None, reason=NO_HELM)

_EVERYTHING = {
    "nameOverride": "torch",
    "commonLabels": {"team": "vision"},
    "image": {"repository": "registry.example:5000/models/predictor", "tag": "7"},
    "imagePullSecrets": [{"name": "registry"}],
    "gpu": {"resource": "nvidia.com/mig-1g.5gb", "count": 2},
    "settings": {"batch_size": 16, "max_request_size": 6553500, "access_log": False, "max_batch_delay": 2.5},
    "args": ["--workers=2"],
    "resources": {"limits": {"cpu": 4, "memory": "8Gi"}},
    "tmp": {"sizeLimit": ""},
    "shm": {"sizeLimit": "1Gi"},
    "nodeSelector": {"accelerator": "a100"},
    "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "models", "effect": "NoExecute"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]
            }
        }
    },
    "podLabels": {"tier": "serving"},
    "podAnnotations": {"example.com/owner": "me"},
    "extraEnv": [
        {"name": "PREDICTOR_DEVICE", "value": "cuda"},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ],
    "extraEnvFrom": [{"secretRef": {"name": "more"}}],
    "extraVolumes": [{"name": "cache", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "cache", "mountPath": "/cache"}],
}
_OF_PODS = {
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "priorityClassName": "high",
    "runtimeClassName": "nvidia",
    "extraInitContainers": [{"name": "warm", "image": "busybox:1", "command": ["true"]}],
    "networkPolicy": {
        "enabled": True,
        "from": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
        "restrictEgress": True,
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
    },
    "podDisruptionBudget": {"enabled": True, "maxUnavailable": "50%"},
    "configProperties": "job_queue_size=50\ninference_address=http://0.0.0.0:8085\n",
    "token": {"value": "secret"},
    "monitoring": {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
}
_CASES = {
    "deployment": {},
    "deployment, CPU": {"gpu": {"enabled": False}},
    "deployment, everything": {
        **_EVERYTHING,
        **_OF_PODS,
        "autoscaling": {"enabled": True, "cpuPercent": 70},
        "monitoring": {"serviceMonitor": {"enabled": True}, "dashboard": {"enabled": True}},
        "model": {"storageUri": "s3://bucket/models", "name": "mine"},
        "service": {"type": "NodePort", "annotations": {"a": "b"}},
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}},
    },
    "deployment, claim, KEDA, existing secret": {
        "model": {"pvc": {"claimName": "models", "subPath": "digits"}},
        "autoscaling": {"enabled": True, "engine": "keda", "minReplicas": 0, "cpuPercent": 50},
        "token": {"existingSecret": "tokens", "key": "all"},
        "grpc": {"enabled": False},
        "serviceAccount": {"create": False, "name": "mine"},
    },
    "deployment, claim by URI": {"model": {"storageUri": "pvc://models/a/b"}},
    "inference service": {"mode": "inferenceService"},
    "inference service, everything": {
        "mode": "inferenceService",
        **_EVERYTHING,
        **_OF_PODS,
        "model": {"storageUri": "gs://bucket/models"},
        "autoscaling": {"enabled": True, "engine": "keda", "cpuPercent": 60},
        "inferenceService": {"timeout": 60, "annotations": {"a": "b"}},
    },
    "inference service, Knative": {
        "mode": "inferenceService",
        "inferenceService": {"deploymentMode": "Knative", "canaryTrafficPercent": 10},
        "autoscaling": {"enabled": True, "minReplicas": 0},
        "networkPolicy": {"enabled": True},
    },
    "inference service, claim, HPA": {
        "mode": "inferenceService",
        "model": {"pvc": {"claimName": "models"}},
        "autoscaling": {"enabled": True, "cpuPercent": 60},
    },
    "runtime": {"mode": "servingRuntime", "configProperties": "job_queue_size=50"},
    "cluster runtime, everything": {
        "mode": "servingRuntime",
        "servingRuntime": {"clusterScoped": True},
        **_EVERYTHING,
    },
}
# What the chart uses of other operators' kinds, by their published API references.
_LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
_ENDPOINTS = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["port"],
        "additionalProperties": False,
        "properties": {
            "port": {"type": "string"},
            "path": {"type": "string"},
            "interval": {"type": "string"},
            "scheme": {"enum": ["http", "https"]},
            "tlsConfig": {"type": "object", "additionalProperties": {"type": "boolean"}},
        },
    },
}
_SELECTOR = {"type": "object", "required": ["matchLabels"], "properties": {"matchLabels": _LABELS}}


def _closed(**properties):
    return {"type": "object", "additionalProperties": False, "properties": properties}


_FOREIGN = {
    "ServiceMonitor": _closed(selector=_SELECTOR, endpoints=_ENDPOINTS),
    "PodMonitor": _closed(selector=_SELECTOR, podMetricsEndpoints=_ENDPOINTS),
    "ScaledObject": _closed(
        scaleTargetRef=_closed(name={"type": "string"}),
        minReplicaCount={"type": "integer"},
        maxReplicaCount={"type": "integer"},
        advanced=_closed(horizontalPodAutoscalerConfig=_closed(behavior={"type": "object"})),
        triggers={
            "type": "array",
            "minItems": 1,
            "items": _closed(
                type={"enum": ["prometheus", "cpu"]},
                metricType={"enum": ["AverageValue", "Utilization"]},
                metadata=_LABELS,
            ),
        },
    ),
}


@pytest.fixture(scope="module")
def rendered():
    return {name: template(values) for name, values in _CASES.items()}


def _is_foreign(document):
    return document["kind"] in _FOREIGN


@pytest.mark.parametrize("case", _CASES)
def test_every_field_exists_and_has_its_type(rendered, case):
    for document in rendered[case]:
        if _is_foreign(document):
            jsonschema.validate(document["spec"], _FOREIGN[document["kind"]])
        else:
            assert api_models.problems(document) == [], document["kind"]


@pytest.mark.skipif(validator() is None, reason="the cluster tool of ../shared is not installed")
def test_the_schemas_of_kubernetes_and_kserve_agree(rendered):
    documents = [document for case in rendered.values() for document in case if not _is_foreign(document)]
    assert schema_problems(documents) == ""


@pytest.mark.parametrize(
    ("case", "spoil", "words"),
    [
        ("deployment", lambda spec: spec.update(tolleration=[]), "tolleration"),
        ("deployment", lambda spec: spec["containers"][0].update(ports="8080"), "ports"),
        ("inference service", lambda spec: spec.update(minReplica=1), "minReplica"),
        ("runtime", lambda spec: spec["supportedModelFormats"][0].update(autoSelect="yes"), "autoSelect"),
    ],
)
def test_the_checks_find_a_wrong_field_and_a_wrong_value(rendered, case, spoil, words):
    documents = copy.deepcopy(rendered[case])
    spoil(pod_spec(documents))
    found = [problem for document in documents for problem in api_models.problems(document)]
    assert any(words in problem for problem in found), found


@pytest.mark.skipif(validator() is None, reason="the cluster tool of ../shared is not installed")
def test_the_schemas_find_a_wrong_field_and_a_wrong_value_too(rendered):
    documents = copy.deepcopy([*rendered["deployment"], *rendered["inference service"]])
    pod_spec(documents)["containers"][0]["ports"][0]["containerPort"] = "http"
    find(documents, "InferenceService")["spec"]["predictor"]["minReplica"] = 1
    found = schema_problems(documents)
    assert "minReplica" in found
    assert "containerPort" in found


@pytest.mark.parametrize("case", _CASES)
def test_objects_have_names_of_their_own_and_the_releases_namespace(rendered, case):
    names = [(document["kind"], document["metadata"]["name"]) for document in rendered[case]]
    assert len(names) == len(set(names))
    for document in rendered[case]:
        expected = None if document["kind"] == "ClusterServingRuntime" else "models"
        assert document["metadata"].get("namespace") == expected, document["kind"]


@pytest.mark.parametrize("case", _CASES)
def test_every_pod_is_locked_down_and_probed(rendered, case):
    found = container(rendered[case])
    assert found["name"] == "kserve-container"
    if "runtime" in case:
        assert "ports" not in found
    else:
        assert found["ports"][0] == {"name": "http1", "containerPort": 8080, "protocol": "TCP"}
    both = {**pod_spec(rendered[case]).get("securityContext", {}), **found["securityContext"]}
    # A runtime's fields have no place for the pod's own: its container says all of it.
    assert (found["securityContext"] if "runtime" in case else both).items() >= {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }.items()
    paths = {kind: found[kind]["httpGet"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {
        "startupProbe": {"path": "/v2/health/ready", "port": 8080},
        "readinessProbe": {"path": "/v2/health/ready", "port": 8080},
        "livenessProbe": {"path": "/v2/health/live", "port": 8080},
    }
    assert {"name": "tmp", "mountPath": "/tmp"} in found["volumeMounts"]
    mounted = {mount["name"] for mount in found["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod_spec(rendered[case])["volumes"]}


def test_gpus_are_asked_for_unless_told_otherwise(rendered):
    resources = container(rendered["deployment"])["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == "1"
    assert container(rendered["deployment"])["image"].endswith("-gpu")
    assert pod_spec(rendered["deployment"])["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_on_the_cpu_nothing_speaks_of_gpus(rendered):
    documents = rendered["deployment, CPU"]
    assert "nvidia" not in str(documents)
    assert environment(documents)["PREDICTOR_DEVICE"] == "cpu"
    assert not container(documents)["image"].endswith("-gpu")


def test_a_mig_slice_is_a_resource_of_its_own(rendered):
    documents = rendered["deployment, everything"]
    assert container(documents)["resources"]["limits"]["nvidia.com/mig-1g.5gb"] == "2"
    assert "nvidia.com/gpu" not in str(documents)


def test_settings_reach_the_server_as_they_were_written(rendered):
    config = next(
        d for d in rendered["deployment, everything"] if d["metadata"]["name"].endswith("-settings")
    )
    assert config["data"] == {
        "PREDICTOR_BATCH_SIZE": "16",
        "PREDICTOR_MAX_REQUEST_SIZE": "6553500",
        "PREDICTOR_ACCESS_LOG": "false",
        "PREDICTOR_MAX_BATCH_DELAY": "2.5",
    }
    assert {"configMapRef": {"name": config["metadata"]["name"]}} in container(
        rendered["deployment, everything"]
    )["envFrom"]


def test_a_cluster_runtime_carries_its_settings_itself(rendered):
    assert environment(rendered["cluster runtime, everything"])["PREDICTOR_MAX_REQUEST_SIZE"] == "6553500"
    assert [document["kind"] for document in rendered["cluster runtime, everything"]] == [
        "ClusterServingRuntime"
    ]


def test_extra_variables_win_over_the_charts(rendered):
    assert environment(rendered["cluster runtime, everything"])["PREDICTOR_DEVICE"] == "cuda"
    cpu = template({"gpu": {"enabled": False}, "extraEnv": [{"name": "PREDICTOR_DEVICE", "value": "auto"}]})
    assert environment(cpu)["PREDICTOR_DEVICE"] == "auto"


@pytest.mark.parametrize("case", ["deployment", "inference service"])
def test_the_grace_period_covers_the_drain(rendered, case):
    documents = rendered[case]
    variables = environment(documents)
    before = float(container(documents)["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = float(variables["PREDICTOR_DRAIN_DELAY"]) + float(variables["PREDICTOR_GRACE_PERIOD"])
    assert pod_spec(documents)["terminationGracePeriodSeconds"] > before + drain


def test_a_runtimes_pods_are_done_before_kubernetes_default(rendered):
    variables = environment(rendered["runtime"])
    drain = float(variables["PREDICTOR_DRAIN_DELAY"]) + float(variables["PREDICTOR_GRACE_PERIOD"])
    assert 5 + drain < 30
    assert "terminationGracePeriodSeconds" not in pod_spec(rendered["runtime"])


def test_the_models_come_from_where_they_were_said_to_be(rendered):
    fetch = pod_spec(rendered["deployment, everything"])["initContainers"][0]
    assert fetch["args"] == ["s3://bucket/models", "/mnt/models"]
    for case, claim, path in (
        ("deployment, claim, KEDA, existing secret", "models", "digits"),
        ("deployment, claim by URI", "models", "a/b"),
    ):
        (volume,) = [v for v in pod_spec(rendered[case])["volumes"] if v["name"] == "models"]
        (mount,) = [m for m in container(rendered[case])["volumeMounts"] if m["name"] == "models"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim
        assert (mount["mountPath"], mount["subPath"], mount["readOnly"]) == ("/mnt/models", path, True)
    assert environment(rendered["inference service, everything"])["STORAGE_URI"] == "gs://bucket/models"


def test_a_token_reaches_the_server_as_a_file(rendered):
    documents = rendered["deployment, claim, KEDA, existing secret"]
    (volume,) = [v for v in pod_spec(documents)["volumes"] if v["name"] == "token"]
    assert volume["secret"] == {"secretName": "tokens", "items": [{"key": "all", "path": "token"}]}
    assert environment(documents)["PREDICTOR_TOKEN_FILE"] == "/etc/predictor-token/token"
    assert find(rendered["deployment, everything"], "Secret")["stringData"] == {"token": "secret"}


def test_a_server_with_tls_is_probed_and_scraped_with_it():
    documents = template({"settings": {"tls": True}, "monitoring": {"serviceMonitor": {"enabled": True}}})
    schemes = [
        container(documents)[probe]["httpGet"]["scheme"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    ]
    assert schemes == ["HTTPS"] * 3
    assert find(documents, "ServiceMonitor")["spec"]["endpoints"][0]["scheme"] == "https"


def test_tls_by_config_properties_is_seen_and_a_setting_wins_over_it():
    file = "a=1\n inference_address = https://0.0.0.0:8443\n"
    documents = template({"configProperties": file})
    assert container(documents)["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    metadata = find(documents, "Deployment")["spec"]["template"]["metadata"]
    assert metadata["annotations"]["prometheus.io/scheme"] == "https"
    plain = template({"configProperties": file, "settings": {"tls": False}})
    assert "scheme" not in container(plain)["readinessProbe"]["httpGet"]
    other = template({"configProperties": "#inference_address=https://0.0.0.0:8443"})
    assert "scheme" not in container(other)["readinessProbe"]["httpGet"]


def test_labels_and_annotations_of_ones_own_come_once_and_leave_selectors_alone():
    own = {"app.kubernetes.io/name": "mine", "team": "vision"}
    documents = template(
        {
            "commonLabels": own,
            "podLabels": own,
            "podAnnotations": {"prometheus.io/port": "9090"},
            "monitoring": {
                "serviceMonitor": {"enabled": True, "labels": {"team": "prometheus"}},
                "podMonitor": {"enabled": True, "labels": own},
                "dashboard": {"enabled": True, "labels": own},
            },
        }
    )
    spec = find(documents, "Deployment")["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert labels.items() >= spec["selector"]["matchLabels"].items()
    assert labels["team"] == "vision"
    assert spec["template"]["metadata"]["annotations"]["prometheus.io/port"] == "9090"
    service = {
        "mode": "inferenceService",
        "inferenceService": {"annotations": {"serving.kserve.io/deploymentMode": "Knative"}},
    }
    annotations = find(template(service), "InferenceService")["metadata"]["annotations"]
    assert annotations["serving.kserve.io/deploymentMode"] == "Standard"


def test_no_key_comes_twice():
    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            assert len(keys) == len(set(keys)), keys
            return super().construct_mapping(node, deep)

    values = "commonLabels.team=a,monitoring.podMonitor.enabled=true,monitoring.podMonitor.labels.team=b"
    more = r"podAnnotations.prometheus\.io/port=1,podLabels.app\.kubernetes\.io/name=c"
    text = run_helm("template", "rel", str(CHART), "--set-string", more, "--set", values)
    assert len(list(yaml.load_all(text, Strict))) > 3


def test_config_properties_may_begin_with_spaces():
    text = "  job_queue_size=50\nworkers=2\n\n"
    (found,) = [d for d in template({"configProperties": text}) if d["kind"] == "ConfigMap"]
    assert found["data"]["config.properties"].rstrip() == text.rstrip()


@pytest.mark.parametrize("mode", ["deployment", "servingRuntime"])
def test_a_device_of_the_settings_is_the_one_that_serves(mode):
    documents = template({"mode": mode, "gpu": {"enabled": False}, "settings": {"device": "auto"}})
    configured = [d["data"]["PREDICTOR_DEVICE"] for d in documents if d["kind"] == "ConfigMap"]
    assert [environment(documents).get("PREDICTOR_DEVICE", *configured)] == ["auto"]


def test_the_names_of_releases_become_names_of_services():
    text = run_helm("template", "my.app--" + "x" * 36 + "-y", str(CHART), "--set", "gpu.enabled=false")
    names = {d["metadata"]["name"] for d in yaml.safe_load_all(text) if d and d["kind"] == "Service"}
    assert names == {"my-app--" + "x" * 36}
    with pytest.raises(HelmError, match="begins with a letter"):
        run_helm("template", "1st", str(CHART))


def test_the_torchserve_command_may_have_8081_for_its_management():
    """The server moves gRPC away only where nobody names its port."""
    documents = template({"args": ["torchserve", "--start"]})
    assert "PREDICTOR_GRPC_PORT" not in environment(documents)


def test_the_queue_of_a_release_is_not_that_of_another_whose_name_is_longer():
    for mode, pods in (
        ("deployment", "rel-predictor-7d4b-x2x9z"),
        ("inferenceService", "rel-predictor-predictor-7d-x"),
    ):
        documents = template({"mode": mode, "autoscaling": {"enabled": True, "engine": "keda"}})
        query = re.search(r'pod=~\\?"([^"\\]*)', json.dumps(documents).replace('\\"', '"')).group(1)
        assert re.fullmatch(query, pods)
        assert not re.fullmatch(
            query,
            "rel-predictor-two-7d4b-x2x9z" if mode == "deployment" else "rel-predictor-two-predictor-7d-x",
        )


def test_knative_gets_one_port_and_its_own_way_of_ending(rendered):
    documents = rendered["inference service, Knative"]
    assert [port["name"] for port in container(documents)["ports"]] == ["http1"]
    assert environment(documents)["PREDICTOR_GRPC_PORT"] == "0"
    assert "lifecycle" not in container(documents)
    assert "terminationGracePeriodSeconds" not in pod_spec(documents)
    assert pod_spec(documents)["minReplicas"] == 0


def test_knative_is_asked_by_the_name_that_its_ingress_knows(rendered):
    (test,) = [d for d in rendered["inference service, Knative"] if d["kind"] == "Pod"]
    assert 'host = "rel-predictor-predictor.models"' in test["spec"]["containers"][0]["args"][0]


def test_autoscalers_look_at_the_queue(rendered):
    hpa = find(rendered["deployment, everything"], "HorizontalPodAutoscaler")["spec"]
    assert hpa["metrics"][0]["pods"]["metric"]["name"] == "predictor_queue_depth"
    assert "replicas" not in find(rendered["deployment, everything"], "Deployment")["spec"]
    scaled = find(rendered["deployment, claim, KEDA, existing secret"], "ScaledObject")["spec"]
    assert "predictor_queue_depth{" in scaled["triggers"][0]["metadata"]["query"]
    service = find(rendered["inference service, everything"], "InferenceService")["spec"]["predictor"]
    assert "predictor_queue_depth{" in service["autoScaling"]["metrics"][0]["external"]["metric"]["query"]


def test_a_runtime_names_the_model_after_the_inference_service(rendered):
    assert "--model-name={{.Name}}" in container(rendered["runtime"])["args"]
    assert "--config=/etc/predictor/config.properties" in container(rendered["runtime"])["args"]


def test_another_command_gets_no_flags_of_ours():
    documents = template(
        {
            "configProperties": "job_queue_size=5",
            "args": ["torchserve", "--start", "--model-store=/mnt/models"],
        }
    )
    assert container(documents)["args"][0] == "torchserve"
    assert environment(documents)["TS_CONFIG_FILE"] == "/etc/predictor/config.properties"


def test_dashboards_come_along_word_for_word(tmp_path):
    chart = tmp_path / "predictor"
    shutil.copytree(CHART, chart)
    (chart / "dashboards").mkdir(exist_ok=True)
    # Grafana's braces are not Helm's.
    text = json.dumps({"title": "t", "legendFormat": "{{model}} {{ .Values }}"}, indent=1)
    (chart / "dashboards" / "extra.json").write_text(text)
    documents = template({"monitoring": {"dashboard": {"enabled": True}}}, chart=chart)
    (found,) = [d for d in documents if d["metadata"]["name"].endswith("-dashboard-extra")]
    assert json.loads(found["data"]["extra.json"]) == json.loads(text)
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_a_changed_setting_changes_the_pods():
    def pods(value):
        return find(template({"settings": {"batch_size": value}}), "Deployment")["spec"]["template"]

    assert pods(2) == pods(2)
    assert pods(2) != pods(3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"gpu": {"cuont": 2}}, "cuont"),
        ({"settings": {"btach_size": 4}}, "btach_size"),
        ({"replicas": "two"}, "replicas"),
        ({"model": {"storageUri": "s3://a/b", "pvc": {"claimName": "c"}}}, "two places for the models"),
        ({"token": {"value": "a", "existingSecret": "b"}}, "two places for the token"),
        ({"terminationGracePeriodSeconds": 30}, "cuts the drain short"),
        ({"strategy": {"maxSurge": 0, "maxUnavailable": 0}}, "no pod could be replaced"),
        ({"autoscaling": {"enabled": True, "minReplicas": 5}}, "above"),
        ({"autoscaling": {"enabled": True, "minReplicas": 0}}, "one pod at least"),
        ({"autoscaling": {"enabled": True, "queueDepth": 0}}, "needs queueDepth or cpuPercent"),
        ({"mode": "servingRuntime", "model": {"storageUri": "s3://a/b"}}, "belongs to the InferenceService"),
        (
            {"mode": "servingRuntime", "servingRuntime": {"clusterScoped": True}, "token": {"value": "a"}},
            "one namespace",
        ),
        ({"settings": {"management_address": "http://0.0.0.0:8081"}}, "takes port 8081"),
        ({"configProperties": "a=1\nmetrics_address=http://127.0.0.1:8081\nb=2"}, "takes port 8081"),
        ({"settings": {"unix_socket": "/tmp/s"}}, "unix_socket"),
        (
            {"mode": "inferenceService", "inferenceService": {"canaryTrafficPercent": 10}},
            "no effect in Standard mode",
        ),
        ({"mode": "inferenceService", "monitoring": {"serviceMonitor": {"enabled": True}}}, "podMonitor"),
        ({"mode": "inferenceService", "autoscaling": {"enabled": True}}, "knows no queue"),
    ],
)
def test_helm_refuses_what_cannot_work(values, words):
    with pytest.raises(HelmError, match=words):
        template(values)


@pytest.mark.parametrize("mode", ["deployment", "inferenceService", "servingRuntime"])
def test_lint_finds_nothing(mode):
    run_helm("lint", "--strict", str(CHART), "--set", f"mode={mode}")
