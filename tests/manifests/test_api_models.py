"""The strict check itself: a typo in a manifest is found, and what is right is left alone."""

from __future__ import annotations

import copy

import pytest
from support.api_models import problems

_SERVICE = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "a", "labels": {"b": "c"}},
    "spec": {
        "predictor": {
            "minReplicas": 1,
            "containers": [
                {
                    "name": "kserve-container",
                    "image": "i",
                    "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                    "resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "2"}},
                    "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
                }
            ],
            "deploymentStrategy": {"type": "Recreate"},
        }
    },
}


def _changed(path, value):
    document = copy.deepcopy(_SERVICE)
    *way, last = path
    place = document
    for step in way:
        place = place[step]
    place[last] = value
    return document


def test_what_is_right():
    assert problems(_SERVICE) == []


_CONTAINER = ("spec", "predictor", "containers", 0)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            ("spec", "predictor", "minReplica"),
            1,
            "spec.predictor.minReplica: unknown field, did you mean minReplicas",
        ),
        ((*_CONTAINER, "imge"), "i", "spec.predictor.containers[0].imge: unknown field, did you mean image"),
        (
            (*_CONTAINER, "readinessProbe", "httpGet", "ports"),
            1,
            "readinessProbe.httpGet.ports: unknown field",
        ),
        (
            (*_CONTAINER, "ports", 0, "containerPort"),
            "8080",
            "ports[0].containerPort: expected int, got '8080'",
        ),
        ((*_CONTAINER, "ports"), {}, "ports: expected a list, got dict"),
        ((*_CONTAINER, "resources", "limits"), [], "resources.limits: expected a map, got list"),
        ((*_CONTAINER, "resources"), "a lot", "resources: expected an object, got 'a lot'"),
        (("spec", "predictor", "minReplicas"), True, "minReplicas: expected int, got True"),
        (("metadata", "labels", "b"), 1, "metadata.labels.b: expected str, got 1"),
        (("metadata", "name"), "", "metadata.name: is required"),
        (("kind",), "InferenceServcie", "no such kind"),
        (("spec", "predictor", "deploymentStrategy", "typ"), "x", "deploymentStrategy.typ: unknown field"),
    ],
)
def test_a_typo_is_found(path, value, said):
    found = problems(_changed(path, value))
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize("document", [None, [], "text", {"kind": "Pod"}])
def test_what_is_no_manifest(document):
    assert problems(document) == ["not a Kubernetes object: apiVersion and kind are required"]
