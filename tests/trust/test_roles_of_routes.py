"""Which role a route asks for; the walk over the real routes is in tests/integration/test_tokens.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.trust.access import Port, role_of_route, role_of_rpc
from predictor.trust.role import Role

_METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "X"])
_WORDS = st.sampled_from(
    [
        *("", "v1", "v2", "models", "m", "m:predict", "versions", "ready", "infer", "explain", "health"),
        *("ping", "repository", "index", "load", "predictions", "ui", "docs", "a.css", "examples", "invoke"),
        *("metrics", "token"),
    ]
)
_PATHS = st.one_of(
    st.text(max_size=40),
    st.lists(_WORDS, max_size=6).map(lambda words: "".join(f"/{word}" for word in words)),
).map(lambda path: path.rstrip("/"))


@given(st.sampled_from(list(Port)), _METHODS, _PATHS)
def test_every_path_has_an_answer_and_what_runs_a_model_is_never_public(port, method, path):
    role = role_of_route(port, method, path)
    if port is Port.METRICS:
        assert role is None
        return
    if port is Port.MANAGEMENT:
        assert role is not Role.INFERENCE
    segments = path.split("/")[1:]
    runs = segments[:1] in (["predictions"], ["explanations"], ["predict"], ["invocations"])
    runs = runs or (segments[-1:] == ["predict"] and segments[0] not in ("ping", "health"))
    runs = runs or (segments[:2] == ["v2", "models"] and segments[-1] in ("infer", "explain"))
    if runs or path.endswith((":predict", ":explain")):
        assert role is not None or segments[:1] in (["ping"], ["health"]) or segments[:2] == ["v2", "health"]


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "", None),
        ("POST", "", Role.INFERENCE),
        ("OPTIONS", "", None),
        ("OPTIONS", "/predictions/m", Role.INFERENCE),
        ("POST", "/v1/models/m", Role.INFERENCE),
        ("GET", "/v1/models/m", None),
        ("GET", "/models", Role.MANAGEMENT),
        ("GET", "/models/m", Role.MANAGEMENT),
        ("POST", "/models/m/invoke", Role.INFERENCE),
        ("PUT", "/models/m/1.0/set-default", Role.MANAGEMENT),
        ("POST", "/v2/repository/index", Role.INFERENCE),
        ("POST", "/v2/repository/models/m/unload", Role.MANAGEMENT),
        ("GET", "/ui/ui.css", None),
        ("GET", "/ui/models", Role.INFERENCE),
        ("GET", "/ui/models/x.css", Role.INFERENCE),
        ("GET", "/docs/docs.js", None),
        ("GET", "/token", None),
    ],
)
def test_routes_of_the_main_port(method, path, role):
    assert role_of_route(Port.INFERENCE, method, path) is role


@pytest.mark.parametrize(
    ("method", "role"),
    [
        ("/grpc.health.v1.Health/Check", None),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", None),
        ("/inference.GRPCInferenceService/ServerReady", None),
        ("/inference.GRPCInferenceService/ModelInfer", Role.INFERENCE),
        ("/inference.GRPCInferenceService/RepositoryIndex", Role.INFERENCE),
        ("/inference.GRPCInferenceService/RepositoryModelUnload", Role.MANAGEMENT),
        ("/org.pytorch.serve.grpc.inference.InferenceAPIsService/Ping", None),
        ("/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions", Role.INFERENCE),
        ("/org.pytorch.serve.grpc.management.ManagementAPIsService/ListModels", Role.MANAGEMENT),
        ("/some.Other/Ping", Role.INFERENCE),
        ("//", Role.INFERENCE),
        ("", Role.INFERENCE),
    ],
)
def test_grpc_methods(method, role):
    assert role_of_rpc(method) is role


@given(st.text(max_size=60))
def test_any_grpc_method_has_an_answer(method):
    assert role_of_rpc(method) in (*Role, None)
