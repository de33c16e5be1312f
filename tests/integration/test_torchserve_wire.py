"""TorchServe's inference API on the wire, held against what its transcripts show."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import re
import time
import uuid
from collections.abc import Iterable

import pytest
from support import wire
from support.models import make_model
from support.server import Server
from support.wire import Connection, Response, chunked, connections, multipart

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR not really a picture \x00\xff"
NO_CACHE = {
    "pragma": "no-cache",
    "cache-control": "no-cache; no-store, must-revalidate, private",
    "expires": "Thu, 01 Jan 1970 00:00:00 UTC",
}
NOT_FOUND = "Requested resource is not found, please refer to API document."
NOT_ALLOWED = "Requested method is not allowed, please refer to API document."
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def check_prediction(response: Response, status: int = 200, phrase: str = "") -> None:
    """A prediction: empty phrase, the common headers and nothing else but what the handler set."""
    assert (response.version, response.status, response.phrase) == ("HTTP/1.1", status, phrase), response
    check_common(response, "keep-alive" if status < 400 else "close")


def check_common(response: Response, connection: str) -> None:
    assert response.header("x-request-id")
    for name, value in NO_CACHE.items():
        assert response.header(name) == value
    assert response.header("content-length") == str(len(response.body))
    assert response.header("connection") == connection


def check_error(response: Response, status: int, kind: str, message: str) -> None:
    phrases = {400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error"}
    phrases |= {503: "Service Unavailable", 507: "Insufficient Storage"}
    assert (response.status, response.phrase) == (status, phrases.get(status, response.phrase)), response
    check_common(response, "close")
    assert response.header("content-type") == "application/json"
    assert response.body.endswith(b"}\n")
    assert list(response.json().items()) == [("code", status), ("type", kind), ("message", message)]


def seen(response: Response) -> dict:
    """What the probe handler saw, after checking the envelope of its answer."""
    check_prediction(response)
    assert response.header("content-type") is None
    report = response.json()
    assert response.body == json.dumps(report, indent=2).encode()
    return report


# -- health and description


@pytest.mark.parametrize("path", ["/ping", "/ping/x", "/ping/"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_ping(server: Server, method: str, path: str) -> None:
    response = server.send(method, path)
    assert (response.status, response.phrase) == (200, "OK")
    check_common(response, "keep-alive")
    assert response.header("content-type") == "application/json"
    assert response.json() == {"status": "Healthy"}


def test_head_of_ping_has_the_length_and_no_body(server: Server) -> None:
    with Connection(server.port) as connection:
        response = connection.request("HEAD", "/ping")
        assert response.status == 200
        assert response.header("content-length") == str(len(server.get("/ping").body))
        # Were there a body, the next response would not begin where this one ends.
        assert connection.request("GET", "/ping").json() == {"status": "Healthy"}


@pytest.mark.parametrize(("method", "path"), [("OPTIONS", "/"), ("GET", "/api-description")])
def test_api_description(server: Server, method: str, path: str) -> None:
    response = server.send(method, path)
    assert (response.status, response.phrase) == (200, "OK")
    check_common(response, "keep-alive")
    document = response.json()
    assert document["openapi"] == "3.0.1"
    assert {"/", "/ping", "/api-description"} <= set(document["paths"])
    assert any(path.startswith("/predictions/{model_name}") for path in document["paths"])


def test_options_of_a_model_describes_it(server: Server) -> None:
    document = server.send("OPTIONS", "/predictions/probe").json()
    assert document["openapi"] == "3.0.1"
    assert "probe" in json.dumps(document["info"])


def test_root_is_kserves_liveness(server: Server) -> None:
    assert server.get("/").json() == {"status": "alive"}
    check_error(server.post("/"), 405, "MethodNotAllowedException", NOT_ALLOWED)


# -- what the handler receives


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_raw_body_with_expect_like_curl_upload(server: Server, method: str) -> None:
    response = server.send(method, "/predictions/probe", body=PNG, headers=[("Expect", "100-continue")])
    assert response.interim == [100]
    report = seen(response)
    assert report["params"] == {
        "body": {"type": "bytearray", "len": len(PNG), "head": PNG[:100].decode("latin-1")}
    }
    assert report["headers"]["body"] == {"content-type": ""}
    assert report["headers"]["Content-Length"] == str(len(PNG))
    assert report["headers"]["explain"] == "False"
    assert report["headers"]["url_path"] == ""
    assert "Expect" not in report["headers"]
    assert report["batch_len"] == 1


def test_expect_is_answered_before_the_body_is_sent(server: Server) -> None:
    with Connection(server.port) as connection:
        head = wire.encode(
            "PUT", "/predictions/probe", headers=[("Content-Length", "3"), ("Expect", "100-continue")]
        )
        connection.send(head)
        assert connection.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(b"abc")
        assert seen(connection.response())["params"]["body"]["head"] == "abc"


def test_expect_is_answered_even_when_an_error_follows(server: Server) -> None:
    response = server.send("PUT", "/predictions/nope", body=b"abc", headers=[("Expect", "100-continue")])
    assert response.interim == [100]
    check_error(response, 404, "ModelNotFoundException", "Model not found: nope")


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
def test_any_method_without_a_body(server: Server, method: str) -> None:
    report = seen(server.send(method, "/predictions/probe"))
    assert report["params"] == {"body": {"type": "bytearray", "len": 0, "head": ""}}
    assert report["headers"]["content-length"] == "0"


def test_head_runs_the_model_and_sends_no_body(server: Server) -> None:
    with Connection(server.port) as connection:
        response = connection.request("HEAD", "/predictions/probe")
        assert response.status == 200
        assert int(response.header("content-length") or 0) > 100
        assert seen(connection.request("GET", "/predictions/probe"))


def test_one_file_part(server: Server) -> None:
    body, content_type = multipart(("data", PNG, "3.png", "image/png"))
    report = seen(server.post("/predictions/probe", body, content_type=content_type))
    assert report["params"]["data"] == {
        "type": "bytearray", "len": len(PNG), "head": PNG[:100].decode("latin-1")
    }  # fmt: skip
    assert set(report["params"]) == {"data"}
    assert report["headers"]["data"] == {"content-type": "image/png"}
    assert report["headers"]["Content-Type"] == content_type


def test_several_parts_where_only_files_keep_their_type(server: Server) -> None:
    body, content_type = multipart(
        ("data", PNG, "3.png", "image/png"),
        ("target", b"3", None, None),
        ("meta", b'{"a":1}', None, "application/json"),
        ("doc", b'{"a":1}', "doc.json", "application/json"),
        ("note", "héllo".encode(), "note.txt", "text/plain; charset=utf-8"),
    )
    report = seen(server.post("/predictions/probe", body, content_type=content_type))
    assert report["params"]["target"] == {"type": "bytearray", "len": 1, "head": "3"}
    assert report["params"]["meta"] == {"type": "bytearray", "len": 7, "head": '{"a":1}'}
    assert report["params"]["doc"] == {"type": "dict", "value": {"a": 1}}
    assert report["params"]["note"] == {"type": "str", "value": "héllo"}
    assert report["headers"]["target"] == {"content-type": ""}
    assert report["headers"]["meta"] == {"content-type": ""}
    assert report["headers"]["doc"] == {"content-type": "application/json"}


def test_repeated_part_keeps_the_last(server: Server) -> None:
    body, content_type = multipart(("data", b"one", None, None), ("data", b"two", None, None))
    report = seen(server.post("/predictions/probe", body, content_type=content_type))
    assert report["params"] == {"data": {"type": "bytearray", "len": 3, "head": "two"}}


def test_form_without_boundary_is_a_raw_body(server: Server) -> None:
    report = seen(server.post("/predictions/probe", b"abc", content_type="multipart/form-data"))
    assert report["params"] == {"body": {"type": "bytearray", "len": 3, "head": "abc"}}
    assert report["headers"]["body"] == {"content-type": "multipart/form-data"}


def test_form_without_parts_is_an_empty_row(server: Server) -> None:
    report = seen(server.post("/predictions/probe", b"abc", content_type="multipart/form-data; boundary=zz"))
    assert report["params"] == {}
    assert "body" not in report["headers"]


def test_urlencoded_fields(server: Server) -> None:
    body = b"data=hello+world&x=1%202&x=3"
    report = seen(server.post("/predictions/probe", body, content_type="application/x-www-form-urlencoded"))
    assert report["params"] == {
        "data": {"type": "bytearray", "len": 11, "head": "hello world"},
        "x": {"type": "bytearray", "len": 1, "head": "3"},
    }
    assert report["headers"]["x"] == {"content-type": ""}


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_json(server: Server, content_type: str) -> None:
    report = seen(server.post("/predictions/probe", b'{"a": [1,2]}', content_type=content_type))
    assert report["params"] == {"body": {"type": "dict", "value": {"a": [1, 2]}}}
    assert report["headers"]["body"] == {"content-type": "application/json"}
    assert report["headers"]["Content-Type"] == content_type


@pytest.mark.parametrize(
    "body", [b"{bad", b"", b"[" * 100_000, b"\xff\xfe"], ids=["bad", "empty", "deep", "bytes"]
)
def test_bad_json_reaches_the_handler_as_bytes(server: Server, body: bytes) -> None:
    report = seen(server.post("/predictions/probe", body, content_type="application/json"))
    assert report["params"] == {
        "body": {"type": "bytearray", "len": len(body), "head": body[:100].decode("latin-1")}
    }


def test_text(server: Server) -> None:
    report = seen(server.post("/predictions/probe", "héllo", content_type="text/plain"))
    assert report["params"] == {"body": {"type": "str", "value": "héllo"}}
    report = seen(server.post("/predictions/probe", b"h\xffllo", content_type="text/plain"))
    assert report["params"]["body"]["type"] == "bytearray"


@pytest.mark.parametrize("content_type", ["", "application/octet-stream", "application/x+json", "image/png"])
def test_other_types_are_bytes(server: Server, content_type: str) -> None:
    report = seen(server.post("/predictions/probe", b"raw", content_type=content_type))
    assert report["params"] == {"body": {"type": "bytearray", "len": 3, "head": "raw"}}
    assert report["headers"]["body"] == {"content-type": content_type}


def test_query_parameters_of_predictions_are_dropped(server: Server) -> None:
    report = seen(server.post("/predictions/probe?a=1&b=2", "hi", content_type="text/plain"))
    assert report["params"] == {"body": {"type": "str", "value": "hi"}}


def test_headers_keep_their_case_and_the_last_of_repeated_ones(server: Server) -> None:
    headers = [("X-My-Header", "V"), ("x-lower", "w"), ("X-R", "1"), ("X-R", "2")]
    report = seen(server.post("/predictions/probe", "hi", headers=headers, content_type="text/plain"))
    assert {name: report["headers"].get(name) for name in ("X-My-Header", "x-lower", "X-R")} == {
        "X-My-Header": "V",
        "x-lower": "w",
        "X-R": "2",
    }
    assert "x-my-header" not in report["headers"]


def test_chunked_upload(server: Server) -> None:
    headers = [("Transfer-Encoding", "chunked")]
    body = chunked(b"h", b"i")
    report = seen(server.post("/predictions/probe", body, headers=headers, content_type="text/plain"))
    assert report["params"] == {"body": {"type": "str", "value": "hi"}}
    assert report["headers"]["content-length"] == "2"
    assert "Transfer-Encoding" not in report["headers"]


def test_compressed_request_is_handed_over_as_it_is(server: Server) -> None:
    body = gzip.compress(b"hi")
    headers = [("Content-Encoding", "gzip"), ("Accept-Encoding", "gzip")]
    response = server.post("/predictions/probe", body, headers=headers, content_type="text/plain")
    assert response.header("content-encoding") is None
    assert seen(response)["params"]["body"]["len"] == len(body)


def test_body_that_comes_in_pieces(server: Server) -> None:
    with Connection(server.port) as connection:
        request = wire.encode("POST", "/predictions/probe", "slowly", content_type="text/plain")
        for byte in request:
            connection.send(bytes([byte]))
        assert seen(connection.response())["params"]["body"]["value"] == "slowly"


def test_module_level_handler(server: Server) -> None:
    body, content_type = multipart(("data", b"hello", None, None))
    response = server.post("/predictions/plain", body, content_type=content_type)
    check_prediction(response)
    assert response.body == b"hello"


# -- request ids


def test_request_id_is_made_when_there_is_none(server: Server) -> None:
    first, second = server.get("/predictions/probe"), server.get("/predictions/probe")
    ids = [first.header("x-request-id"), second.header("x-request-id")]
    assert all(UUID4.fullmatch(value or "") for value in ids)
    assert ids[0] != ids[1]
    assert first.json()["request_id"] == ids[0]


@pytest.mark.parametrize(
    "path", ["/predictions/probe", "/predictions/nope", "/ping", "/v1/models", "/predict/wine"]
)
def test_request_id_of_the_client_is_honoured(server: Server, path: str) -> None:
    wanted = f"client-{uuid.uuid4()}"
    response = server.get(path, headers=[("X-Request-Id", wanted)])
    assert response.header("x-request-id") == wanted
    if path == "/predictions/probe":
        assert response.json()["request_id"].startswith(f"{wanted}.")  # unique, though clients repeat theirs
        assert response.json()["headers"]["X-Request-Id"] == wanted


def test_request_id_that_cannot_be_used_is_replaced(server: Server) -> None:
    for bad in ("x" * 5000, "h\xe9"):
        assert UUID4.fullmatch(
            server.get("/ping", headers=[("x-request-id", bad)]).header("x-request-id") or ""
        )


def test_request_id_stands_in_the_log_once(server: Server) -> None:
    wanted = f"logged-{uuid.uuid4()}"
    server.get("/predictions/probe", headers=[("x-request-id", wanted)])
    server.wait_log(wanted)
    lines = [line for line in server.log().splitlines() if wanted in line]
    assert len(lines) == 1
    entry = json.loads(lines[0])
    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/predictions/probe", 200)


# -- versions and paths


def test_version(server: Server) -> None:
    assert seen(server.post("/predictions/probe/1.0", b"x"))["version"] == "1.0"
    assert seen(server.post("/predictions/probe/2.0", b"x"))["version"] == "2.0"
    assert seen(server.post("/predictions/probe", b"x"))["version"] == "1.0"
    check_error(
        server.post("/predictions/probe/9.9", b"x"),
        404,
        "ModelVersionNotFoundException",
        "Model version: 9.9 does not exist for model: probe",
    )


@pytest.mark.parametrize(
    ("path", "url_path"),
    [
        ("/predictions/probe/1.0/foo/bar", "foo/bar"),
        ("/predictions/probe/", ""),
        ("/predictions/pro%62e", ""),
        ("/predictions/probe/1.0/a%20b", "a b"),
    ],
)
def test_path_forms(server: Server, path: str, url_path: str) -> None:
    assert seen(server.post(path, b"x"))["headers"]["url_path"] == url_path


@pytest.mark.parametrize(("path", "name"), [("/predictions/nope", "nope"), ("/predictions/a%20b", "a b")])
def test_unknown_model(server: Server, path: str, name: str) -> None:
    check_error(server.post(path, b"hi"), 404, "ModelNotFoundException", f"Model not found: {name}")


@pytest.mark.parametrize("path", ["/predictions", "/predictions/", "/foo", "/foo/bar", "/models"])
def test_unknown_path(server: Server, path: str) -> None:
    check_error(server.get(path), 404, "ResourceNotFoundException", NOT_FOUND)


def test_explanations_tell_the_handler(server: Server) -> None:
    assert seen(server.post("/explanations/probe", b"x"))["headers"]["explain"] == "True"
    assert seen(server.post("/explanations/probe/2.0", b"x"))["version"] == "2.0"
    check_error(
        server.post("/explanations/nope", b"x"), 404, "ModelNotFoundException", "Model not found: nope"
    )


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/probe/predict?q=1", {"q": "1"}),
        ("/probe/1.0/predict?q=1", {"q": "1"}),
        ("/models/probe/invoke?z=9", {"z": "9"}),
        ("/invocations?model_name=probe&z=9", {"model_name": "probe", "z": "9"}),
    ],
)
def test_legacy_paths_make_fields_of_query_parameters(server: Server, path: str, fields: dict) -> None:
    report = seen(server.post(path, "hi", content_type="text/plain"))
    expected = {
        name: {"type": "bytearray", "len": len(value), "head": value} for name, value in fields.items()
    }
    assert report["params"] == {**expected, "body": {"type": "str", "value": "hi"}}
    assert not {"explain", "url_path"} & set(report["headers"])
    assert all(report["headers"][name] == {"content-type": ""} for name in fields)


def test_invocations_of_nothing(server: Server) -> None:
    assert server.post("/invocations", b"x").status == 400
    check_error(
        server.post("/invocations?model_name=nope", b"x"),
        404,
        "ModelNotFoundException",
        "Model not found: nope",
    )


# -- what the handler returns


def order(server: Server, model: str = "probe", **order: object) -> Response:
    return server.post(f"/predictions/{model}", order)


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ("text é", "text é".encode()),
        (7, b"7"),
        (1.5, b"1.5"),
        (None, b"null"),
        (True, b"true"),
        ("", b""),
        ([1, {"a": "é"}], b'[\n  1,\n  {\n    "a": "\\u00e9"\n  }\n]'),
        ({"b": 1, "a": 2}, b'{\n  "b": 1,\n  "a": 2\n}'),
    ],
)
def test_return_values(server: Server, value: object, body: bytes) -> None:
    response = order(server, cmd="return", value=value)
    check_prediction(response)
    assert response.header("content-type") is None
    assert response.body == body


@pytest.mark.parametrize(
    ("kind", "body"), [("bytes", b"\x00\xff"), ("bytearray", b"\x00\xfe"), ("nan", b"NaN")]
)
def test_special_return_values(server: Server, kind: str, body: bytes) -> None:
    response = order(server, cmd="special", kind=kind)
    check_prediction(response)
    assert response.body == body


def test_tensor_is_saved(server: Server) -> None:
    torch = pytest.importorskip("torch")
    response = order(server, cmd="special", kind="tensor")
    check_prediction(response)
    assert torch.load(io.BytesIO(response.body), weights_only=True).tolist() == [1.5, 2.5]


@pytest.mark.parametrize("kind", ["object", "set", "recursive"])
def test_value_without_a_form(server: Server, kind: str) -> None:
    response = order(server, cmd="special", kind=kind)
    check_error(response, 503, "InternalServerException", "Unsupported model output data type.")


@pytest.mark.parametrize("kind", ["none", "dict"])
def test_handler_that_returns_no_list(server: Server, kind: str) -> None:
    response = order(server, cmd="whole", **{"as": kind})
    check_error(response, 503, "InternalServerException", "Invalid model predict output")


@pytest.mark.parametrize("kind", ["short", "long"])
def test_handler_that_returns_the_wrong_number(server: Server, kind: str) -> None:
    response = order(server, cmd="whole", **{"as": kind})
    check_error(response, 503, "InternalServerException", "number of batch response mismatched")


def test_exception_stays_in_the_log(server: Server) -> None:
    secret = f"secret-{uuid.uuid4()}"
    check_error(order(server, cmd="raise", text=secret), 503, "InternalServerException", "Prediction failed")
    server.wait_log(secret)


def test_sys_exit_is_a_failure_like_any_other(server: Server) -> None:
    workers = server.workers()
    check_error(order(server, cmd="sys_exit"), 503, "InternalServerException", "Prediction failed")
    assert server.workers() == workers


@pytest.mark.parametrize("text", [None, "CUDA error: an illegal memory access"])
def test_out_of_memory(server: Server, text: str | None) -> None:
    response = order(server, cmd="raise", text=text) if text else order(server, cmd="memory_error")
    check_error(response, 507, "InternalServerException", "Out of resources")


@pytest.mark.parametrize(
    ("code", "phrase"),
    [
        (404, "Not Found"),
        (418, "Client Error (418)"),
        (503, "Service Unavailable"),
        (599, "Server Error (599)"),
        (500, "Internal Server Error"),
    ],
)
def test_prediction_exception(server: Server, code: int, phrase: str) -> None:
    response = order(server, cmd="prediction_exception", message="naïve cat", code=code)
    check_error(response, code, "InternalServerException", "naïve cat")
    assert response.phrase == phrase


@pytest.mark.parametrize(
    ("code", "given", "phrase"), [(201, "Made", "Made"), (202, "", ""), (404, "Gone fishing", "Gone fishing")]
)
def test_status_of_the_handler(server: Server, code: int, given: str, phrase: str) -> None:
    response = order(server, cmd="status", code=code, phrase=given, body={"a": 1})
    check_prediction(response, code, phrase)
    assert response.json() == {"a": 1}


@pytest.mark.parametrize("code", [204, 304])
def test_statuses_without_a_body(server: Server, code: int) -> None:
    with Connection(server.port) as connection:
        connection.send(wire.encode("POST", "/predictions/probe", {"cmd": "status", "code": code}))
        response = connection.response()
        assert response.status == code
        assert code != 204 or response.header("content-length") is None
        # A body that no client reads would be taken for the next response.
        assert connection.request("GET", "/ping").json() == {"status": "Healthy"}


@pytest.mark.parametrize(("code", "phrase"), [("404", ""), (404, 7), (None, None), (1_000, ""), (10, "")])
def test_status_that_is_none_does_not_kill_the_worker(server: Server, code: object, phrase: object) -> None:
    workers = server.workers()
    response = order(server, cmd="status", code=code, phrase=phrase)
    assert 200 <= response.status <= 599
    assert order(server, cmd="return", value=1).body == b"1"
    assert server.workers() == workers


def test_headers_of_the_handler(server: Server) -> None:
    headers = [("X-Mine", "1"), ("Content-Type", "image/png"), ("number", 7)]
    response = order(server, cmd="header", headers=headers)
    check_prediction(response)
    assert ("X-Mine", "1") in response.headers
    assert response.header("content-type") == "image/png"
    assert response.header("number") == "7"


def test_headers_that_a_handler_cannot_set(server: Server) -> None:
    names = (
        "x-request-id",
        "Pragma",
        "Cache-Control",
        "Expires",
        "Content-Length",
        "Connection",
        "Transfer-Encoding",
    )
    response = order(server, cmd="header", headers=[(name, "999") for name in names])
    check_prediction(response)
    assert response.header("transfer-encoding") is None


def test_header_value_cannot_end_the_header(server: Server) -> None:
    response = order(
        server, cmd="header", headers=[("X-Mine", "1\r\nX-Evil: 2\r\n\r\nbody"), ("a\r\nX-Evil", "3")]
    )
    check_prediction(response)
    assert response.header("x-evil") is None
    assert response.body == b"with a header"


def test_header_name_that_is_no_text_does_not_kill_the_worker(server: Server) -> None:
    workers = server.workers()
    assert order(server, cmd="header", headers=[(7, "seven"), ("ok", None)]).status in (200, 500, 503)
    assert server.workers() == workers


def test_what_a_handler_prints_is_not_an_answer(server: Server) -> None:
    assert order(server, cmd="print").body == b"printed"
    server.wait_log("printed by the handler")
    assert order(server, cmd="return", value=1).body == b"1"


def test_answer_over_the_limit(server: Server) -> None:
    response = order(server, cmd="big", n=1_990_000)
    assert (response.status, len(response.body)) == (200, 1_990_000)
    assert order(server, cmd="big", n=2_000_001).status == 500
    assert order(server, cmd="return", value=1).body == b"1"


def test_streamed_answer(tmp_path_factory: pytest.TempPathFactory) -> None:
    store = tmp_path_factory.mktemp("streaming")
    make_model(store, "stream", "streamer")
    with Server(store) as server:
        response = server.post("/predictions/stream", b"x", timeout=60)
        assert (response.status, response.phrase) == (200, "")
        assert response.chunks == [b"hello", b"hello", b"hello", b"hello world "]
        assert response.header("ts_stream_next") == "true"
        assert response.header("content-length") is None


def test_handler_finds_itself_at_home(server: Server) -> None:
    answer = order(server, cmd="info").json()
    assert answer["cwd"] == answer["path0"]
    assert answer["cwd"].endswith("/probe")
    assert answer["properties"]["server_name"] == "'MMS'"
    assert answer["properties"]["gpu_id"] == "None"
    assert answer["config"] == {"maxRetryTimeoutInSec": 60}


# -- batches


def test_statuses_and_headers_go_to_their_own_request(server: Server) -> None:
    orders = [
        {"cmd": "status", "code": 201, "phrase": "Made", "body": "a"},
        {"cmd": "header", "headers": [["X-Only", "b"]], "body": "b"},
        {"cmd": "return", "value": "c"},
        {"cmd": "status", "code": 404, "phrase": "", "body": "d"},
    ]
    with connections(server.port, len(orders)) as opened:
        for connection, each in zip(opened, orders, strict=True):
            connection.send(wire.encode("POST", "/predictions/batcher", each))
        answers = [connection.response() for connection in opened]
    assert [(answer.status, answer.body) for answer in answers] == [
        (201, b"a"),
        (200, b"b"),
        (200, b"c"),
        (404, b"d"),
    ]
    assert [answer.header("x-only") for answer in answers] == [None, "b", None, None]


def test_one_bad_item_among_sixteen(server: Server) -> None:
    kinds = {3: {"cmd": "raise"}, 7: {"cmd": "special", "kind": "object"}, 11: {"cmd": "status", "code": 418}}
    for bad_position, bad in kinds.items():
        with connections(server.port, 16) as opened:
            for position, connection in enumerate(opened):
                each = bad if position == bad_position else {"cmd": "tag", "tag": position}
                connection.send(wire.encode("POST", "/predictions/batcher", each))
            answers = [connection.response() for connection in opened]
        assert answers.pop(bad_position).status == (418 if bad["cmd"] == "status" else 503)
        expected = [position for position in range(16) if position != bad_position]
        assert [answer.json()["tag"] for answer in answers] == expected


# -- the connection


def test_keep_alive_and_pipelining(server: Server) -> None:
    with Connection(server.port) as connection:
        tags = list(range(5))
        connection.send(
            b"".join(wire.encode("POST", "/predictions/probe", {"cmd": "tag", "tag": tag}) for tag in tags)
        )
        assert [connection.response().json()["tag"] for _ in tags] == tags
        assert connection.request("GET", "/ping").status == 200


def test_pipelined_requests_of_different_kinds_are_answered_in_order(server: Server) -> None:
    with Connection(server.port) as connection:
        connection.send(
            wire.encode("POST", "/predictions/probe", {"cmd": "sleep", "s": 0.2, "tag": "first"})
            + wire.encode("GET", "/ping")
            + wire.encode("GET", "/v1/models/probe")
        )
        assert connection.response().json()["tag"] == "first"
        assert connection.response().json() == {"status": "Healthy"}
        assert connection.response().json()["name"] == "probe"


def test_error_closes_the_connection(server: Server) -> None:
    with Connection(server.port) as connection:
        connection.request("GET", "/predictions/nope")
        assert connection.closed_by_server()


def test_client_may_ask_to_close(server: Server) -> None:
    with Connection(server.port) as connection:
        response = connection.request("GET", "/ping", headers=[("Connection", "close")])
        assert response.header("connection") == "close"
        assert connection.closed_by_server()


def test_http_1_0(server: Server) -> None:
    with Connection(server.port) as connection:
        connection.send(
            b"POST /predictions/probe HTTP/1.0\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi"
        )
        response = connection.response()
        check_prediction(response)
        assert connection.request("GET", "/ping").status == 200
    with Connection(server.port) as connection:
        connection.send(b"GET /ping HTTP/1.0\r\n\r\n")
        response = connection.response()
        assert (response.version, response.status) == ("HTTP/1.1", 200)


def test_upgrade_is_ignored(server: Server) -> None:
    headers = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"),
    ]
    assert server.get("/ping", headers=headers).json() == {"status": "Healthy"}
    report = seen(server.post("/predictions/probe", "body", headers=headers, content_type="text/plain"))
    assert report["params"]["body"]["value"] == "body"


@pytest.mark.parametrize(
    "garbage",
    [
        b"NOT A REQUEST\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /ping HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET /ping HTTP/9.9\r\n\r\n",
        b"POST /ping HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /ping HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"\x00" * 64,
    ],
    ids=["words", "tls", "header", "version", "negative-length", "two-lengths", "zeros"],
)
def test_garbage(server: Server, garbage: bytes) -> None:
    with Connection(server.port) as connection:
        connection.send(garbage)
        response = connection.response()
        check_error(response, 400, "BadRequestException", "Invalid HTTP message.")
        assert connection.closed_by_server()


def test_request_smuggling_is_refused(server: Server) -> None:
    with Connection(server.port) as connection:
        connection.send(
            b"POST /predictions/probe HTTP/1.1\r\nHost: a\r\n"
            b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\nG"
        )
        assert connection.response().status == 400
        assert connection.closed_by_server()


def send_until_refused(connection: Connection, parts: Iterable[bytes]) -> int:
    """Send parts until the server does not listen any more; returns how many were sent."""
    sent = 0
    try:
        for part in parts:
            connection.send(part)
            sent += 1
            time.sleep(0)
    except ConnectionError:
        pass
    return sent


def test_endless_head_is_refused(server: Server) -> None:
    with Connection(server.port) as connection:
        connection.send(b"GET /ping HTTP/1.1\r\nHost: a\r\n")
        sent = send_until_refused(connection, (b"X-%d: %s\r\n" % (n, b"y" * 2000) for n in range(2000)))
        assert sent < 2000
    assert server.get("/ping").status == 200


# -- bodies over the limit

TOO_LARGE = 6_553_501


def check_too_large(response: Response) -> None:
    assert (response.status, response.phrase, response.body) == (413, "Request Entity Too Large", b"")
    assert response.header("content-length") == "0"
    assert {name.lower() for name, _ in response.headers} <= {"content-length", "connection"}


def test_body_at_the_limit(server: Server) -> None:
    response = server.post("/predictions/probe", b"x" * (TOO_LARGE - 1))
    assert response.json()["params"]["body"]["len"] == TOO_LARGE - 1


def test_oversize_with_expect_is_refused_before_the_body(server: Server) -> None:
    with Connection(server.port) as connection:
        headers = [("Content-Length", str(TOO_LARGE)), ("Expect", "100-continue")]
        connection.send(wire.encode("POST", "/predictions/probe", headers=headers))
        response = connection.response()
        assert response.interim == []
        check_too_large(response)
        assert connection.closed_by_server()


def test_oversize_without_expect(server: Server) -> None:
    with Connection(server.port) as connection:
        connection.send(wire.encode("POST", "/predictions/probe", b"x" * TOO_LARGE))
        check_too_large(connection.response())
        assert connection.closed_by_server()


def test_oversize_in_chunks(server: Server) -> None:
    with Connection(server.port) as connection:
        connection.send(wire.encode("POST", "/predictions/probe", headers=[("Transfer-Encoding", "chunked")]))
        part = b"x" * 1_000_000
        for _ in range(7):
            connection.send(b"%x\r\n%b\r\n" % (len(part), part))
        check_too_large(connection.response())
        assert connection.closed_by_server()


def test_client_that_never_stops_sending_is_cut_off(server: Server) -> None:
    with Connection(server.port, timeout=60) as connection:
        connection.send(wire.encode("POST", "/predictions/probe", headers=[("Content-Length", str(10**12))]))
        send_until_refused(connection, itertools.repeat(b"x" * 1_000_000))
    assert server.get("/ping").status == 200


def test_oversize_on_the_other_protocols(server: Server) -> None:
    headers = [("Content-Length", str(TOO_LARGE))]
    v1 = server.post("/v1/models/wine:predict", headers=headers)
    assert (v1.status, list(v1.json())) == (413, ["error"])
    named = server.post("/predict/wine", headers=headers)
    assert (named.status, list(named.json())) == (413, ["detail"])
