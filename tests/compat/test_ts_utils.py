from __future__ import annotations

import io
import json
import pickle
import types

import pytest
import torch
from ts.handler_utils.utils import encode_output, import_class, send_intermediate_predict_response
from ts.protocol import otf_message_handler
from ts.service import Service
from ts.utils.util import (
    CLEANUP_REGEX,
    PredictionException,
    check_valid_pt2_backend,
    get_yaml_config,
    list_classes_from_module,
    load_label_mapping,
    map_class_to_label,
)


class Socket:
    def __init__(self):
        self.sent = []

    def send_chunk(self, *chunk):
        self.sent.append(chunk)


def test_a_chunk_per_request(context):
    made = context(headers=({}, {}))
    made.cl_socket = Socket()
    made.set_response_header(0, "a", "b")
    made.set_response_status(201, "Made", 1)
    send_intermediate_predict_response(["x", {"y": 1}], made.request_ids, "ok", 200, made)
    assert made.cl_socket.sent == [
        ("id0", 0, b"x", 200, "", {"a": "b", "ts_stream_next": "true"}),
        ("id1", 1, b'{\n  "y": 1\n}', 201, "Made", {"ts_stream_next": "true"}),
    ]


def test_the_old_name_warns_and_works(context):
    made = context()
    made.cl_socket = Socket()
    with pytest.warns(PendingDeprecationWarning, match="moved to ts.handler_utils.utils"):
        otf_message_handler.send_intermediate_predict_response(["x"], made.request_ids, "ok", 200, made)
    assert len(made.cl_socket.sent) == 1


def test_only_the_first_process_of_a_group_sends(context, monkeypatch):
    made = context()
    made.cl_socket = Socket()
    monkeypatch.setenv("LOCAL_RANK", "1")
    send_intermediate_predict_response(["x"], made.request_ids, "ok", 200, made)
    assert made.cl_socket.sent == []


def test_outputs_as_bytes():
    assert encode_output(b"\xff") == encode_output(bytearray(b"\xff")) == b"\xff"
    assert encode_output("é") == b"\xc3\xa9"
    assert encode_output(None) == b"null"
    assert encode_output([1, "é"]) == b'[\n  1,\n  "\\u00e9"\n]'
    assert torch.load(io.BytesIO(encode_output(torch.ones(2)))).tolist() == [1, 1]
    with pytest.raises(PredictionException, match="Unsupported model output data type") as caught:
        encode_output({1, 2})
    assert caught.value.error_code == 503


def test_import_class():
    assert import_class("collections.OrderedDict").__name__ == "OrderedDict"
    assert import_class("OrderedDict", "collections").__name__ == "OrderedDict"
    assert import_class("abc.Mapping", "collections").__name__ == "Mapping"
    for name in ("", "Alone", "collections.Nope", "no_such_module.A"):
        with pytest.raises(ImportError):
            import_class(name)


def test_prediction_exception():
    error = pickle.loads(pickle.dumps(PredictionException("no cat", 418)))
    assert (error.message, error.error_code, str(error)) == ("no cat", 418, "no cat : 418")
    assert PredictionException("x").error_code == 500


def test_list_classes_from_module():
    module = types.ModuleType("mine")
    module.Own = type("Own", (dict,), {"__module__": "mine"})
    module.Foreign = dict
    assert list_classes_from_module(module) == [module.Own]
    assert list_classes_from_module(module, dict) == [module.Own]
    assert list_classes_from_module(module, list) == []


@pytest.mark.parametrize(
    ("content", "mapping"),
    [
        ({"0": "cat"}, {"0": "cat"}),
        ({"0": ["n01", "cat"]}, {"0": "cat"}),
        ({"object_type_names": ["a", "b"]}, {"0": "a", "1": "b"}),
    ],
)
def test_label_files(tmp_path, content, mapping):
    (tmp_path / "index_to_name.json").write_text(json.dumps(content))
    assert load_label_mapping(str(tmp_path / "index_to_name.json")) == mapping


@pytest.mark.parametrize("content", [[1], {"0": 1}, {"0": []}, {"0": [1]}])
def test_wrong_label_files(tmp_path, content):
    (tmp_path / "l.json").write_text(json.dumps(content))
    with pytest.raises(Exception, match="must be"):
        load_label_mapping(str(tmp_path / "l.json"))


def test_no_label_file_is_a_warning(tmp_path, caplog):
    assert load_label_mapping(str(tmp_path / "none.json")) is None
    assert "none.json" in caplog.text


def test_map_class_to_label():
    assert map_class_to_label([[0.1, 0.2]]) == [{"0": 0.1, "1": 0.2}]
    assert map_class_to_label([[0.1, 0.2]], {"4": "a", "5": "b"}, [[5, 4]]) == [{"b": 0.1, "a": 0.2}]
    assert map_class_to_label([[0.1], [0.2]], None, [[7], [8]]) == [{"7": 0.1}, {"8": 0.2}]
    for arguments in (((0.1,),), ([[0.1]], ["a"])):
        with pytest.raises(Exception, match="must be"):
            map_class_to_label(*arguments)
    with pytest.raises(KeyError):
        map_class_to_label([[0.1]], {"1": "a"})


def test_backends():
    assert check_valid_pt2_backend("inductor")
    assert check_valid_pt2_backend("openvino")
    assert not check_valid_pt2_backend("no_such_backend")


def test_cleanup_regex():
    assert CLEANUP_REGEX.sub("", "<b>a</b> &amp; &#39;b&#x27;") == "a  b"


def test_yaml_config(tmp_path):
    (tmp_path / "a.yaml").write_text("handler: {a: 1}")
    (tmp_path / "empty.yaml").write_text("")
    assert get_yaml_config(str(tmp_path / "a.yaml")) == {"handler": {"a": 1}}
    assert get_yaml_config(str(tmp_path / "empty.yaml")) == {}


def test_service(tmp_path):
    (tmp_path / "c.yaml").write_text("handler: {a: 1}")
    service = Service("m", str(tmp_path), {"model": {"configFile": "c.yaml"}}, print, None, 2)
    assert service.context.model_yaml_config == {"handler": {"a": 1}}
    assert service.context.system_properties["server_version"] == "0.12.0"
    message = {
        "requestId": b"r1",
        "headers": [{"name": b"h", "value": b"v"}],
        "parameters": [{"name": "data", "contentType": "text/plain", "value": "x"}],
    }
    processors, data, ids = Service.retrieve_data_for_inference([message])
    assert (data, ids) == ([{"data": "x"}], {0: "r1"})
    assert processors[0].get_request_properties() == {"data": {"content-type": "text/plain"}, "h": "v"}
    with pytest.raises(ValueError, match="no requests"):
        Service.retrieve_data_for_inference(None)


def test_mock_context(tmp_path):
    from ts.torch_handler.base_handler import BaseHandler
    from ts.torch_handler.unit_tests.test_utils.mock_context import MockContext

    (tmp_path / "model.py").write_text(
        "import torch\nclass M(torch.nn.Module):\n    def forward(self, x):\n        return x.argmax(1)\n"
    )
    torch.save({}, tmp_path / "model.pt")
    context = MockContext(model_dir=str(tmp_path), model_name="mnist")
    handler = BaseHandler()
    handler.initialize(context)
    assert handler.handle([[1, 2, 3], [9, 1, 2]], context) == [2, 0]
    assert context.get_request_header(1, "explain") is False


def test_launcher_commands(monkeypatch, capsys):
    from ts import launcher

    class Process:
        stdout = io.StringIO("starting\nModel server started.\nlater\n")

    calls = []
    monkeypatch.setattr(launcher.subprocess, "run", lambda command, **_: calls.append(command))
    monkeypatch.setattr(launcher.subprocess, "Popen", lambda command, **_: calls.append(command) or Process())
    lines = launcher.start("store", "c.properties", True, None, True, "all", True)
    assert calls == [
        ["torchserve", "--stop", "--foreground"],
        ["torchserve", "--start", "--model-store", "store", "--ts-config", "c.properties", "--models", "all",
         "--no-config-snapshots", "--disable-token-auth", "--enable-model-api"],
    ]  # fmt: skip
    assert [lines.get(timeout=60), lines.get(timeout=60)] == ["later\n", None]
