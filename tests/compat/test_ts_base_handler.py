from __future__ import annotations

import sys
from collections import OrderedDict

import pytest
import torch
from ts.torch_handler.base_handler import BaseHandler

MODEL = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 3)

    def forward(self, x):
        return self.linear(x)
"""

ROWS = [[1.0, 2.0], [3.0, 4.0]]


@pytest.fixture
def net(tmp_path):
    """Write model.py and its weights, and return the model."""
    (tmp_path / "model.py").write_text(MODEL)
    scope: dict[str, object] = {"__name__": "elsewhere"}
    exec(MODEL, scope)
    torch.manual_seed(0)
    model = scope["Net"]().eval()
    torch.save(model.state_dict(), tmp_path / "w.pt")
    return model


def loaded(context, **model):
    handler = BaseHandler()
    handler.initialize(context(**model))
    return handler


def expected(net):
    with torch.no_grad():
        return net(torch.tensor(ROWS)).tolist()


def answer(handler, context):
    return handler.handle(ROWS, context(headers=({}, {})))


def test_attributes_before_loading():
    handler = BaseHandler()
    assert (handler.model, handler.mapping, handler.device, handler.context, handler.manifest) == (None,) * 5
    assert (handler.initialized, handler.explain, handler.target, handler.profiler_args) == (
        False,
        False,
        0,
        {},
    )
    assert (handler.model_pt_path, handler.map_location) == (None, None)


def test_eager(net, context):
    handler = loaded(context, modelFile="model.py", serializedFile="w.pt")
    assert answer(handler, context) == expected(net)
    assert handler.initialized
    assert not handler.model.training
    assert (handler.map_location, str(handler.get_device())) == ("cpu", "cpu")
    assert handler.mapping is None


def test_eager_without_weights(net, context):
    assert len(answer(loaded(context, modelFile="model.py"), context)) == 2


def test_eager_with_safetensors(net, context, tmp_path):
    from safetensors.torch import save_file

    save_file(net.state_dict(), tmp_path / "w.safetensors")
    assert answer(loaded(context, modelFile="model.py", serializedFile="w.safetensors"), context) == expected(
        net
    )


def test_the_model_file_is_the_handlers_own_import(net, context, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    from model import Net

    assert isinstance(loaded(context, modelFile="model.py", serializedFile="w.pt").model, Net)


def test_a_module_of_the_same_name_does_not_hide_the_model_file(net, context, monkeypatch):
    monkeypatch.setitem(sys.modules, "model", sys)
    assert type(loaded(context, modelFile="model.py", serializedFile="w.pt").model).__name__ == "Net"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript(net, context, tmp_path):
    torch.jit.trace(net, torch.tensor(ROWS)).save(tmp_path / "s.pt")
    assert answer(loaded(context, serializedFile="s.pt"), context) == expected(net)


def test_exported_program(net, context, tmp_path):
    torch.export.save(torch.export.export(net, (torch.tensor(ROWS),)), tmp_path / "m.pt2")
    assert answer(loaded(context, serializedFile="m.pt2"), context) == expected(net)


def test_compiled_package_and_library_are_told_apart(context, tmp_path, monkeypatch):
    import zipfile

    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("m/data/aotinductor/model/x.so", b"")
    seen = []
    monkeypatch.setattr(
        torch._inductor, "aoti_load_package", lambda *args, **kwargs: seen.append((args, kwargs))
    )
    loaded(context, serializedFile="m.pt2")
    assert seen == [((str(tmp_path / "m.pt2"),), {"device_index": -1})]


@pytest.mark.parametrize(
    ("model", "error", "text"),
    [
        ({}, RuntimeError, "No model weights could be loaded"),
        (
            {"serializedFile": "w.pth"},
            RuntimeError,
            "No model weights could be loaded: w.pth needs a modelFile",
        ),
        ({"modelFile": "gone.py"}, RuntimeError, "Missing the model.py file"),
        (
            {"modelFile": "two.py"},
            ValueError,
            "Expected only one class as model definition in two.py, found: A, B",
        ),
        ({"modelFile": "none.py"}, ValueError, "found: none"),
    ],
)
def test_what_cannot_be_loaded(net, context, tmp_path, model, error, text):
    (tmp_path / "two.py").write_text("class A: pass\nclass B: pass\n")
    (tmp_path / "none.py").write_text("from collections import OrderedDict\n")
    with pytest.raises(error, match=text):
        loaded(context, **model)


class Evil:
    """Unpickling it calls a function, which weights must never do."""

    def __reduce__(self):
        return OrderedDict.fromkeys, (["ran"],)


def test_weights_that_are_more_than_tensors_need_the_switch(net, context, tmp_path, monkeypatch):
    torch.save({"linear.weight": Evil()}, tmp_path / "evil.pt")
    model = {"modelFile": "model.py", "serializedFile": "evil.pt"}
    with pytest.raises(RuntimeError, match=r"evil.pt holds Python objects.*handler: \{weights_only: false\}"):
        loaded(context, **model)
    # With either switch the file is unpickled, and then it is torch that finds no tensors in it.
    with pytest.raises(RuntimeError, match=r"Missing key|size mismatch|Error"):
        BaseHandler().initialize(context(config={"handler": {"weights_only": False}}, **model))
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(RuntimeError) as caught:
        loaded(context, **model)
    assert "weights_only: false" not in str(caught.value)
    with pytest.raises(RuntimeError, match="weights_only: false"):
        BaseHandler().initialize(context(config={"handler": {"weights_only": True}}, **model))


def test_labels(net, context, tmp_path):
    (tmp_path / "index_to_name.json").write_text('{"0": ["n01", "cat"]}')
    assert loaded(context, modelFile="model.py").mapping == {"0": "cat"}


@pytest.mark.parametrize(
    ("pt2", "arguments"),
    [
        (
            {"compile": {"enable": True, "backend": "eager", "mode": "default"}},
            {"backend": "eager", "mode": "default"},
        ),
        ({"compile": {"enable": True}}, {}),
        ({"compile": {"enable": False, "backend": "eager"}}, None),
        ({"compile": {"backend": "eager"}}, None),
        ({"export": {"aot_compile": True}}, None),
        ("eager", {"backend": "eager"}),
        ({"backend": "eager"}, {"backend": "eager"}),
        ("no_such_backend", None),
    ],
)
def test_compile_settings(net, context, monkeypatch, pt2, arguments):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda model, **options: calls.append(options) or model)
    config = {"pt2": pt2}
    BaseHandler().initialize(context(config=config, modelFile="model.py"))
    assert calls == ([] if arguments is None else [arguments])
    assert config == {"pt2": pt2}


def test_the_configuration_is_not_changed(net, context):
    config = {"pt2": {"compile": {"enable": False, "backend": "eager"}}}
    BaseHandler().initialize(context(config=config, modelFile="model.py"))
    assert config == {"pt2": {"compile": {"enable": False, "backend": "eager"}}}


def test_a_wrong_compile_setting_is_refused(net, context):
    with pytest.raises(ValueError, match="pt2"):
        BaseHandler().initialize(context(config={"pt2": 3}, modelFile="model.py"))


class Explaining(BaseHandler):
    seen: tuple[object, ...] = ()

    def get_insights(self, data, raw, target):
        self.seen = (data, raw, target)
        return ["insight"]

    def preprocess(self, data):
        return "prepared"

    def describe_handle(self):
        return {"about": "me"}


@pytest.mark.parametrize(
    ("target", "expected_target"),
    [(None, 0), (3, 3), (bytearray(b"3"), 3), (b"3", 3), ("3", 3), ([1, 2], [1, 2]), ("", 0), (b"-1", -1)],
)
def test_explain(context, target, expected_target):
    handler = Explaining()
    row = {"body": "raw"} if target is None else {"body": "raw", "target": target}
    assert handler.handle([row], context(headers=({"explain": "True"},))) == ["insight"]
    assert handler.seen == ("prepared", "raw", expected_target)
    assert handler.explain


def test_describe(context):
    assert Explaining().handle([{}], context(headers=({"describe": "True"},))) == [{"about": "me"}]


def test_handler_time_is_measured(net, context):
    made = context(headers=({}, {}))
    loaded(context, modelFile="model.py").handle(ROWS, made)
    (metric,) = made.metrics.drain()
    assert (metric["name"], metric["type"], metric["unit"]) == ("HandlerTime", "gauge", "Milliseconds")


def test_steps_are_timed_when_the_configuration_asks(net, context):
    made = context(headers=({}, {}), config={"handler": {"profile": True}})
    loaded(context, modelFile="model.py").handle(ROWS, made)
    names = {metric["name"] for metric in made.metrics.drain()}
    assert names == {"HandlerTime", "ts_handler_preprocess", "ts_handler_inference", "ts_handler_postprocess"}


@pytest.mark.filterwarnings("ignore")
def test_profiler(net, context, tmp_path, monkeypatch):
    monkeypatch.setenv("ENABLE_TORCH_PROFILER", "TRUE")
    handler = loaded(context, modelFile="model.py", serializedFile="w.pt")
    traces = []
    handler.profiler_args = {
        "on_trace_ready": traces.append,
        "activities": [torch.profiler.ProfilerActivity.CPU],
    }
    assert answer(handler, context) == expected(net)
    assert len(traces) == 1


class FakeSession:
    def get_inputs(self):
        return [type("Input", (), {"name": "x"})]

    def run(self, names, feed):
        return [feed["x"] * 2]


def test_onnx_sessions_run_without_an_override(context):
    handler = BaseHandler()
    handler.model = FakeSession()
    assert handler.handle(ROWS, context(headers=({}, {}))) == [[2.0, 4.0], [6.0, 8.0]]


def test_onnx_without_onnxruntime_says_so(context, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeError, match="needs onnxruntime"):
        loaded(context, serializedFile="m.onnx")


def test_user_handlers_may_derive_from_abc_as_well(context):
    from abc import ABC

    class Mine(BaseHandler, ABC):
        def handle(self, data, context):
            return data

    assert Mine().handle([1], None) == [1]
