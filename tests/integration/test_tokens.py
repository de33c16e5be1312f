"""A server that asks for tokens: who gets in where, over every protocol, and what leaks."""

from __future__ import annotations

import contextlib
import json
import re
import time

import grpc
import psutil
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from support import wire
from support.models import make_model, read_journal
from support.server import Server, free_port

_REFUSED = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"
_SECRET = "s3cret-token-of-the-operator"
_ORIGIN = "https://app.example.com"

# What a stranger may have, written down apart from the code that decides it. Everything else is closed.
_PUBLIC = {
    ("get", "/"),
    ("options", "/"),
    ("get", "/api-description"),
    ("get", "/ping"),
    ("get", "/metrics"),
    ("get", "/health"),
    ("get", "/health/{model_name}"),
    ("get", "/v2/health/live"),
    ("get", "/v2/health/ready"),
    ("get", "/v1/models/{model_name}"),
    ("get", "/v2/models/{model_name}/ready"),
    ("get", "/v2/models/{model_name}/versions/{model_version}/ready"),
    ("get", "/openapi.json"),
    ("get", "/ui"),
    ("get", "/docs"),
}
_TORCHSERVE = "org.pytorch.serve.grpc"
_PUBLIC_RPCS = {
    ("inference.GRPCInferenceService", "ServerLive"),
    ("inference.GRPCInferenceService", "ServerReady"),
    ("inference.GRPCInferenceService", "ModelReady"),
    (f"{_TORCHSERVE}.inference.InferenceAPIsService", "Ping"),
    (f"{_TORCHSERVE}.openinference.GRPCInferenceService", "ServerLive"),
    (f"{_TORCHSERVE}.openinference.GRPCInferenceService", "ServerReady"),
    (f"{_TORCHSERVE}.openinference.GRPCInferenceService", "ModelReady"),
}
_PUBLIC_SERVICES = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")


class _Guarded(Server):
    """A server with tokens; `keys()` reads its key file."""

    def __init__(self, folder, *flags, **options):
        self.key_file = folder / "key_file.json"
        self.token_file = folder / "tokens"
        self.journal = folder / "journal"
        self.token_file.write_text(f"{_SECRET}\n")
        self.management_port, self.metrics_port = free_port(), free_port()
        self.grpc_port, self.grpc_inference_port, self.grpc_management_port = (free_port() for _ in range(3))
        super().__init__(
            make_model(folder / "store", "probe", handler={"journal": str(self.journal)}).parent,
            "--token-authorization",
            f"--token-key-file={self.key_file}",
            f"--token-file={self.token_file}",
            f"--management-address=http://127.0.0.1:{self.management_port}",
            f"--metrics-address=http://127.0.0.1:{self.metrics_port}",
            f"--grpc-port={self.grpc_port}",
            f"--grpc-inference-port={self.grpc_inference_port}",
            f"--grpc-management-port={self.grpc_management_port}",
            "--enable-model-api",
            f"--cors-allowed-origin={_ORIGIN}",
            "--cors-allowed-headers=authorization, content-type",
            *flags,
            **options,
        )

    def key(self, role):
        return json.loads(self.key_file.read_text())[role]["key"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with _Guarded(tmp_path_factory.mktemp("guarded")) as running:
        yield running


def _bearer(token):
    return [("Authorization", f"Bearer {token}")]


def _is_refused(response):
    if not response.body:
        return response.status == 401 or (response.status == 400 and response.header("connection") == "close")
    if response.status == 401:
        return _REFUSED in response.body.decode() and response.header("www-authenticate") == "Bearer"
    return response.status == 400 and "InvalidKeyException" in response.body.decode()


def _routes(document):
    for path, operations in document["paths"].items():
        yield from ((method, path) for method in operations if method in _METHODS)


def _filled(path):
    path = path.replace("{model_name}", "probe").replace("{model_version}", "1.0")
    return re.sub(r"\{\w+\}", "x", path)


# Every route of every protocol


@pytest.fixture(scope="module")
def documents(guarded):
    """The OpenAPI documents, by port."""
    return {
        guarded.port: guarded.get("/openapi.json").json(),
        guarded.management_port: wire.request(guarded.management_port, "OPTIONS", "/").json(),
    }


def test_every_documented_route_is_closed_but_for_those_named_here(guarded, documents):
    document = documents[guarded.port]
    routes = set(_routes(document))
    # The document lists one method of routes that take any.
    routes |= {(method, path) for _, path in routes for method in _METHODS} - {("options", "/")}
    open_routes = set()
    for method, path in sorted(routes):
        response = wire.request(guarded.port, method.upper(), _filled(path))
        if not _is_refused(response):
            open_routes.add(("get" if method == "head" else method, path))
    any_method = {(method, path) for method in _METHODS for path in ("/ping", "/metrics")}
    assert open_routes - any_method <= _PUBLIC
    assert {("post", "/predictions/{model_name}"), ("post", "/v1/models/{model_name}:predict")} <= routes
    assert read_journal(guarded.journal) == []


def test_the_management_port_is_closed_as_a_whole(guarded, documents):
    document = documents[guarded.management_port]
    for method, path in set(_routes(document)) - _PUBLIC - {("get", "/token")}:
        for token in ("", guarded.key("inference"), guarded.key("API")):
            headers = _bearer(token) if token else []
            response = wire.request(guarded.management_port, method.upper(), _filled(path), headers=headers)
            assert _is_refused(response), (method, path)


@pytest.mark.parametrize(
    "path",
    [
        "/predictions/probe",
        "//predictions/probe",
        "/predictions/probe/",
        "/%70redictions/probe",
        "/predictions%2Fprobe",
        "/predictions/probe/1.0/health",
        "/explanations/probe",
        "/probe/predict",
        "/probe/1.0/predict",
        "/invocations",
        "/models/probe/invoke",
        "/predict",
        "/predict/probe",
        "/predict/probe/ready",
        "/info",
        "/info/probe",
        "/v1/models",
        "/v1/models/",
        "/v1/models/probe:predict",
        "/v1/models/probe%3Apredict",
        "/v1/models/probe:explain",
        "/v1/models/probe/explain",
        "/v2",
        "/v2/models",
        "/v2/models/probe",
        "/v2/models/ready",
        "/v2/models/probe/infer",
        "/v2/models/probe/explain",
        "/v2/models/probe/versions/ready",
        "/v2/models/probe/versions/1.0/infer",
        "/v2/repository/index",
        "/v2/repository/models/probe/load",
        "/ui/models",
        "/ui/examples/probe/x.png",
        "/ui/../predictions/probe",
        "/docs/..%2Fpredictions/probe",
        "/models",
        "/models/probe",
        "/workflows",
        "/metrics/x",
        "/no/such/path",
    ],
)
def test_a_stranger_is_refused_whatever_the_method_and_however_it_is_spelt(guarded, path):
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        assert _is_refused(guarded.send(method, path)), method
    assert read_journal(guarded.journal) == []


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer wrong",
        "Basic czNjcmV0",
        f"Token {_SECRET}",
        f"Bearer {_SECRET} x",
        f"Bearer{_SECRET}",
    ],
)
def test_what_is_no_token_does_not_count(guarded, header):
    response = guarded.post("/predictions/probe", "x", headers=[("Authorization", header)])
    assert response.json() == {"code": 400, "type": "InvalidKeyException", "message": _REFUSED}
    assert response.header("connection") == "close"
    response = guarded.post("/v1/models/probe:predict", {}, headers=[("Authorization", header)])
    assert (response.status, response.json()) == (401, {"error": _REFUSED})


def test_with_a_token_everything_answers(guarded):
    for token in (_SECRET, guarded.key("inference")):
        headers = [*_bearer(token), ("X-Other", "1")]
        seen = guarded.post("/predictions/probe", "x", headers=headers).json()["headers"]
        # As in TorchServe, handlers see the headers as the client sent them.
        assert seen["Authorization"] == f"Bearer {token}"
        assert guarded.get("/v1/models", headers=headers).json() == {"models": ["probe"]}
        assert guarded.get("/health", headers=headers).json()["model"] == "probe"
        body = {"instances": [1]}
        assert guarded.post("/v1/models/probe:predict", body, headers=headers).status == 200
    guarded.journal.unlink()


def test_keys_open_what_they_are_for_and_nothing_else(guarded):
    def statuses(token):
        headers = _bearer(token)
        return (
            guarded.get("/v1/models", headers=headers).status,
            guarded.post("/v2/repository/models/probe/load", headers=headers).status,
        )

    inference = statuses(guarded.key("inference"))
    management = statuses(guarded.key("management"))
    assert inference == (200, 401)
    assert management[0] == 401
    assert management[1] != 401
    assert statuses(guarded.key("API")) == (401, 401)
    assert statuses(_SECRET)[0] == 200
    assert statuses(_SECRET)[1] != 401


def test_probes_and_metrics_answer_strangers_and_name_no_model(guarded):
    probes = ["/ping", "/", "/health", "/v2/health/live", "/v2/health/ready", "/metrics"]
    probes += ["/v1/models/probe", "/v2/models/probe/ready", "/v2/models/probe/versions/1.0/ready"]
    for path in probes:
        assert guarded.get(path).status == 200, path
        assert path == "/metrics" or wire.request(guarded.port, "HEAD", path).status == 200, path
    assert guarded.get("/health").json() == {"status": "healthy"}
    for path in ("/v1/models/other", "/v2/models/other/ready", "/health/other"):
        response = guarded.get(path)
        assert response.status == 404
        assert b"probe" not in response.body
    assert wire.request(guarded.metrics_port, "GET", "/metrics").status == 200
    assert guarded.get("/ui").status == 200
    assert guarded.get("/openapi.json").status == 200


def test_a_refused_body_is_not_read(guarded):
    with wire.Connection(guarded.port) as connection:
        connection.send(
            b"POST /v2/models/probe/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 6000000\r\n\r\n{"
        )
        response = connection.response()
        assert response.status == 401
        assert response.header("connection") == "close"


# TorchServe's /token


def _token(guarded, key, kind="inference", method="GET", port=None):
    path = f"/token?type={kind}"
    return wire.request(port or guarded.management_port, method, path, headers=_bearer(key))


def test_the_api_key_renews_the_others(guarded):
    for kind in ("inference", "management"):
        old = {role: guarded.key(role) for role in ("inference", "management", "API")}
        response = _token(guarded, guarded.key("API"), kind)
        assert (response.status, response.body) == (200, b"\n")
        assert {role for role, key in old.items() if guarded.key(role) != key} == {kind}
        if kind == "inference":
            assert guarded.get("/v1/models", headers=_bearer(old[kind])).status == 401
            assert guarded.get("/v1/models", headers=_bearer(guarded.key(kind))).status == 200


@pytest.mark.parametrize("kind", ["inference", "management", "API", "", "x"])
def test_only_the_api_key_does(guarded, kind):
    expected = {
        "code": 400,
        "type": "InvalidKeyException",
        "message": "Token Authentication failed. Token either incorrect, expired, or not provided correctly",
    }
    before = guarded.key_file.read_bytes()
    for key in ("wrong", guarded.key("inference"), guarded.key("management"), _SECRET):
        assert _token(guarded, key, kind).json() == expected
    if kind not in ("inference", "management"):
        assert _token(guarded, guarded.key("API"), kind).json() == expected
    assert guarded.key_file.read_bytes() == before


def test_token_is_on_the_management_port_alone_and_reads_only(guarded):
    assert _token(guarded, guarded.key("API"), method="POST").status == 405
    assert _token(guarded, guarded.key("API"), port=guarded.port).status == 404


# gRPC


@contextlib.contextmanager
def _channel(guarded, port="grpc_port"):
    with grpc.insecure_channel(f"127.0.0.1:{getattr(guarded, port)}") as channel:
        yield channel


def _services(channel):
    """Ask reflection, without a token, for every method of every service."""
    ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    request = reflection_pb2.ServerReflectionRequest
    (names,) = ask(iter([request(list_services="")]))
    for service in names.list_services_response.service:
        (found,) = ask(iter([request(file_containing_symbol=service.name)]))
        for serialised in found.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(serialised)
            for each in file.service:
                if f"{file.package}.{each.name}" == service.name:
                    yield from ((service.name, method) for method in each.method)


def _call(channel, service, method, metadata=()):
    """Call a method with an empty message; returns its status code and details."""
    kinds = ("unary", "stream")
    kind = f"{kinds[method.client_streaming]}_{kinds[method.server_streaming]}"
    callable_ = getattr(channel, kind)(f"/{service}/{method.name}")
    message = iter([b""]) if method.client_streaming else b""
    try:
        answer = callable_(message, timeout=60, metadata=metadata)
        if method.server_streaming:
            list(answer)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


@pytest.mark.parametrize(
    ("port", "service", "name"),
    [
        ("grpc_port", "inference.GRPCInferenceService", "ModelInfer"),
        ("grpc_inference_port", f"{_TORCHSERVE}.inference.InferenceAPIsService", "StreamPredictions2"),
        ("grpc_management_port", f"{_TORCHSERVE}.management.ManagementAPIsService", "RegisterModel"),
    ],
)
def test_every_grpc_method_is_closed_but_for_those_named_here(guarded, port, service, name):
    with _channel(guarded, port) as channel:
        methods = list(_services(channel))
        assert (service, name) in {(found, method.name) for found, method in methods}
        for found, method in methods:
            if found in _PUBLIC_SERVICES:
                continue
            code, details = _call(channel, found, method)
            refusal = grpc.StatusCode.UNAUTHENTICATED
            if found.startswith(_TORCHSERVE):
                refusal = grpc.StatusCode.PERMISSION_DENIED
            public = (found, method.name) in _PUBLIC_RPCS
            assert ((code, details) == (refusal, _REFUSED)) is not public, (found, method.name)
            assert "probe" not in details
            with_token = _call(channel, found, method, [("authorization", f"Bearer {_SECRET}")])
            assert with_token[1] != _REFUSED, (found, method.name)


def test_torchserves_grpc_keys_are_for_their_service(guarded):
    with _channel(guarded, "grpc_management_port") as channel:
        service = f"{_TORCHSERVE}.management.ManagementAPIsService"
        methods = {method.name: method for found, method in _services(channel) if found == service}
        for role, allowed in (("management", True), ("inference", False), ("API", False)):
            # As TorchServe's client sends it.
            metadata = [("protocol", "gRPC"), ("authorization", f"Bearer {guarded.key(role)}")]
            code, details = _call(channel, service, methods["ListModels"], metadata)
            assert (details != _REFUSED) is allowed, role
            assert (code is grpc.StatusCode.PERMISSION_DENIED) is not allowed, role


def test_grpc_keys_are_for_their_role_and_strangers_learn_no_names(guarded):
    with _channel(guarded) as channel:
        methods = {method.name: method for service, method in _services(channel) if service.startswith("inf")}
        service = "inference.GRPCInferenceService"

        def code(name, key):
            # As TorchServe's client sends it.
            metadata = [("protocol", "gRPC"), ("session_id", "1"), ("authorization", f"Bearer {key}")]
            return _call(channel, service, methods[name], metadata)[0]

        unauthenticated = grpc.StatusCode.UNAUTHENTICATED
        assert code("RepositoryIndex", guarded.key("inference")) is grpc.StatusCode.OK
        assert code("RepositoryIndex", guarded.key("management")) is unauthenticated
        assert code("RepositoryModelLoad", guarded.key("inference")) is unauthenticated
        assert code("RepositoryModelLoad", guarded.key("management")) is not unauthenticated
        assert code("RepositoryIndex", guarded.key("API")) is unauthenticated
        assert _call(channel, service, methods["ModelReady"]) == (
            grpc.StatusCode.NOT_FOUND,
            "Model not found: ",
        )
        health = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert health(b"", timeout=60) == b"\x08\x01"


# Other origins


def test_every_answer_to_a_browser_says_which_page_may_read_it(guarded):
    origin = [("Origin", _ORIGIN)]
    with_token = [*origin, *_bearer(_SECRET)]
    answers = [
        guarded.get("/ping", headers=origin),
        guarded.get("/metrics", headers=origin),
        guarded.get("/v1/models", headers=origin),
        guarded.get("/v1/models", headers=with_token),
        guarded.post("/predictions/none", "x", headers=with_token),
        guarded.post("/predictions/probe", {"cmd": "raise"}, headers=with_token),
        guarded.get("/ui", headers=origin),
        wire.request(guarded.management_port, "GET", "/models", headers=origin),
        wire.request(guarded.metrics_port, "GET", "/metrics", headers=origin),
        guarded.send(
            "POST", "/predictions/probe", headers=[*with_token, ("Content-Length", "99999999")], body=b""
        ),
    ]
    assert [answer.status for answer in answers][:5] == [200, 200, 401, 200, 404]
    assert answers[-1].status == 413
    for answer in answers:
        assert answer.header("access-control-allow-origin") == _ORIGIN
        assert answer.header("access-control-allow-headers") == "authorization, content-type"
        assert answer.header("access-control-allow-methods") is None
    guarded.journal.unlink()


def test_a_preflight_needs_no_token_and_reaches_no_model(guarded):
    asks = [("Origin", _ORIGIN), ("Access-Control-Request-Method", "POST")]
    response = guarded.send("OPTIONS", "/predictions/probe", headers=asks)
    assert (response.status, response.body) == (204, b"")
    assert response.header("access-control-allow-origin") == _ORIGIN
    assert response.header("access-control-allow-headers") == "authorization, content-type"
    assert response.header("connection") == "keep-alive"
    assert _is_refused(guarded.send("OPTIONS", "/predictions/probe", headers=asks[:1]))
    assert read_journal(guarded.journal) == []


# What leaks, and what changes while the server runs


def test_tokens_of_the_file_are_replaced_while_the_server_runs(guarded):
    def wait(token, status):
        deadline = time.monotonic() + 60
        while guarded.get("/v1/models", headers=_bearer(token)).status != status:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    guarded.token_file.write_text(f"inference:newer-token\n{_SECRET}\n")
    wait("newer-token", 200)
    guarded.token_file.write_text(f"not a token\n{_SECRET}\n")
    deadline = time.monotonic() + 60
    while "the old content stays" not in guarded.log():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert guarded.get("/v1/models", headers=_bearer("newer-token")).status == 200
    guarded.token_file.write_text(f"{_SECRET}\n")
    wait("newer-token", 401)


def test_no_token_reaches_the_log_or_an_answer(guarded):
    """Runs last: the log holds what all tests above have caused."""
    secrets = [_SECRET, "newer-token", *(guarded.key(role) for role in ("inference", "management", "API"))]
    for token in secrets:
        headers = [*_bearer(token), ("X-Request-Id", "mine")]
        for path in (
            "/predictions/none",
            "/v1/models/none:predict",
            "/v2/models/none/infer",
            "/predict/none",
        ):
            response = guarded.post(path, {"cmd": "raise"}, headers=headers)
            assert token not in f"{response.headers} {response.body!r}"
        # A handler that fails, and a token where it does not belong.
        response = guarded.post(f"/predictions/probe?token={token}", {"cmd": "raise"}, headers=headers)
        assert token not in f"{response.headers} {response.body!r}"
    guarded.get("/v1/models", headers=[("X-Request-Id", "the-last-of-all")])
    guarded.wait_log("the-last-of-all")
    log = guarded.log()
    assert "/predictions/none" in log
    assert "key_file.json" in log
    assert [token for token in secrets if token in log] == []


# Without any setting


def _connections(process):
    # psutil 6 has given it another name.
    listed = getattr(process, "net_connections", None) or process.connections
    return listed("inet")


def test_by_default_only_this_machine_is_listened_to_and_nothing_changes_models(server):
    process = psutil.Process(server.pid)
    listening = [
        connection.laddr
        for each in (process, *process.children(recursive=True))
        for connection in _connections(each)
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {address.port for address in listening} == {server.port}
    for method, path in (
        ("POST", "/models?url=probe.mar"),
        ("DELETE", "/models/probe"),
        ("PUT", "/models/probe?min_worker=9"),
        ("POST", "/v2/repository/models/probe/load"),
        ("POST", "/v2/repository/models/probe/unload"),
        ("GET", "/token?type=management"),
    ):
        assert server.send(method, path).status in (403, 404, 405), path
    assert server.post("/predictions/probe", "x").status == 200
    assert server.get("/ping", headers=[("Origin", _ORIGIN)]).header("access-control-allow-origin") is None


# When the settings cannot be met


def test_a_server_that_cannot_guard_does_not_serve(tmp_path):
    store = make_model(tmp_path, "probe").parent
    with Server(store, "--token-file=/no/such/file", wait=False) as refusing:
        assert refusing.wait_exit() == 1
        assert "token_file /no/such/file: No such file or directory" in refusing.log()
