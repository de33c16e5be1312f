from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch

from predictor.errors import InvalidOutput
from predictor.explain.shadow import ModelKind, kind_of
from predictor.handlers.context import Context
from predictor.handlers.fixed_rows import FixedRows
from predictor.handlers.formats import load_model
from predictor.handlers.inputs import SignatureError
from predictor.handlers.modules import ModelFileError
from predictor.handlers.signature import SignatureHandler
from predictor.handlers.tensors import Table, Tensor
from predictor.ipc.messages import TensorSpec

# TorchScript is deprecated, and what many archives hold; the compiler has warnings of its own.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),
]

CPU = torch.device("cpu")
ROWS = torch.arange(12, dtype=torch.float32).reshape(4, 3)


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x)


class Named(Linear):
    def forward(self, x):
        return {"y": self.linear(x), "total": x.sum(-1)}


class Optional(Linear):
    def forward(self, x, scale: torch.Tensor | None = None):
        y = self.linear(x)
        return y if scale is None else y * scale


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Linear().eval()


def _save_script(module, path):
    torch.jit.script(module).save(str(path))


def _export(module, rows=2, dynamic=True):
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    return torch.export.export(module, (torch.zeros(rows, 3),), dynamic_shapes=shapes)


def _handler(folder, file, **config):
    manifest = {"model": {"serializedFile": file}}
    handler = SignatureHandler()
    handler.initialize(Context("m", str(folder), manifest, 8, None, model_yaml_config=config))
    return handler


def _answer(handler, **arrays):
    table = Table((name, Tensor(name, "FP32", array)) for name, array in arrays.items())
    context = Context("m", "/m", {}, 8, None)
    (answer,) = handler.handle([table], context)
    if isinstance(answer, Exception):
        raise answer
    return {name: tensor.array for name, tensor in answer.items()}


def test_torchscript_tells_the_names_of_its_inputs(tmp_path, model):
    _save_script(model, tmp_path / "model.pt")
    handler = _handler(tmp_path, "model.pt")
    assert handler.signature.inputs == (TensorSpec("x", ranked=False),)
    answers = _answer(handler, x=ROWS.numpy())
    np.testing.assert_allclose(answers["output"], model(ROWS).detach().numpy())


def test_a_row_sent_without_its_batch_axis_gets_a_reason(tmp_path, model):
    _save_script(model, tmp_path / "model.pt")
    handler = _handler(tmp_path, "model.pt")
    rows, single = handler.signature.split({"x": [0.5, -2.0, 1.0]})
    assert len(rows) == 3
    assert not single
    with pytest.raises(InvalidOutput, match=r"'output' has the shape \[2\] for a batch of 3"):
        handler.handle(rows, Context("m", "/m", {}, 8, None))


def test_torchscript_without_a_tensor_in_its_schema_needs_a_declaration(tmp_path):
    class Flag(torch.nn.Module):
        def forward(self, x, flag: bool):
            return x if flag else -x

    _save_script(Flag(), tmp_path / "model.pt")
    with pytest.raises(SignatureError, match="no 'signature' section"):
        _handler(tmp_path, "model.pt")


def test_optional_inputs_may_be_left_out(tmp_path):
    model = Optional().eval()
    _save_script(model, tmp_path / "model.pt")
    handler = _handler(tmp_path, "model.pt")
    assert [spec.required for spec in handler.signature.inputs] == [True, False]
    scale = np.full((4, 1), 2, dtype=np.float32)
    plain = _answer(handler, x=ROWS.numpy())["output"]
    np.testing.assert_allclose(_answer(handler, x=ROWS.numpy(), scale=scale)["output"], 2 * plain, rtol=1e-6)
    context = Context("m", "/m", {}, 8, None)
    rows = [{"x": ROWS[0].tolist()}, {"x": ROWS[1].tolist(), "scale": [2.0]}, {"x": ROWS[2].tolist()}]
    answers = handler.handle(rows, context)
    expected = [plain[0], 2 * plain[1], plain[2]]
    np.testing.assert_allclose([answer["output"] for answer in answers], expected, rtol=1e-5)


def test_an_exported_program_tells_everything(tmp_path):
    model = Named().eval()
    torch.export.save(_export(model), tmp_path / "model.pt2")
    handler = _handler(tmp_path, "model.pt2", signature={"description": "adds"})
    assert handler.signature.description == "adds"
    assert handler.signature.inputs == (TensorSpec("x", "float32", (3,)),)
    assert handler.signature.outputs == (TensorSpec("y", "float32", (2,)), TensorSpec("total", "float32", ()))
    answers = _answer(handler, x=ROWS.numpy())
    np.testing.assert_allclose(answers["y"], model(ROWS)["y"].detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(answers["total"], ROWS.sum(-1).numpy())


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_program_made_for_one_batch_size_takes_any(tmp_path, model, rows):
    torch.export.save(_export(model, rows, dynamic=False), tmp_path / "model.pt2")
    handler = _handler(tmp_path, "model.pt2")
    assert isinstance(handler.model, FixedRows)
    assert kind_of(handler.model) is ModelKind.EXPORTED
    told = handler.info().explain
    assert told["default_method"] == "integrated_gradients"
    assert not {"deep_lift", "grad_cam"} & {method["name"] for method in told["methods"]}
    for size in (0, 1, 3, 4):
        answers = _answer(handler, x=ROWS[:size].numpy())
        np.testing.assert_allclose(answers["output"], model(ROWS[:size]).detach().numpy(), rtol=1e-5)


def test_an_aotinductor_package_needs_a_declaration(tmp_path, model):
    package = tmp_path / "model.pt2"
    torch._inductor.aoti_compile_and_package(_export(model), package_path=str(package))
    with pytest.raises(SignatureError, match="no 'signature' section"):
        _handler(tmp_path, "model.pt2")
    signature = {"inputs": [{"name": "x", "shape": [3]}], "outputs": [{"name": "y", "shape": [2]}]}
    handler = _handler(tmp_path, "model.pt2", signature=signature)
    np.testing.assert_allclose(_answer(handler, x=ROWS.numpy())["y"], model(ROWS).detach().numpy(), rtol=1e-5)
    told = handler.info().explain
    assert told["default_method"] == "shapley_exact"
    assert {method["name"] for method in told["methods"]} == {
        *("feature_ablation", "shapley_exact", "kernel_shap")
    }
    ((explanation,),) = (handler.explainer.explain([{"x": [1.0, 2.0, 3.0], "explain": {"target": 0}}], [""]),)
    weights = model.linear.weight[0].detach().numpy()
    attributions = explanation["inputs"][0]["attributions"]
    np.testing.assert_allclose(attributions, weights * [1.0, 2.0, 3.0], rtol=1e-4)


def _write_onnx(path, batch):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Cast", ["a"], ["whole"], to=7)],
        "g",
        [helper.make_tensor_value_info(name, 1, [batch, 3]) for name in "ab"],
        [
            helper.make_tensor_value_info("sum", 1, [batch, 3]),
            helper.make_tensor_value_info("whole", 7, [batch, 3]),
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


@pytest.mark.parametrize("batch", ["batch", 2, None])
def test_onnx_tells_everything(tmp_path, batch):
    _write_onnx(tmp_path / "model.onnx", batch)
    handler = _handler(tmp_path, "model.onnx")
    assert handler.signature.inputs == (TensorSpec("a", "float32", (3,)), TensorSpec("b", "float32", (3,)))
    assert [spec.dtype for spec in handler.signature.outputs] == ["float32", "int64"]
    assert kind_of(handler.model) is ModelKind.CALLABLE
    answers = _answer(handler, b=ROWS.numpy(), a=ROWS.numpy() + 0.5)
    np.testing.assert_allclose(answers["sum"], 2 * ROWS.numpy() + 0.5)
    assert answers["whole"].tolist() == ROWS.long().tolist()


def test_a_declaration_wins_over_the_file(tmp_path, model):
    torch.export.save(_export(model), tmp_path / "model.pt2")
    handler = _handler(tmp_path, "model.pt2", signature={"classes": ["a", "b"]})
    assert [spec.name for spec in handler.signature.outputs] == ["label", "score", "output"]
    assert set(_answer(handler, x=ROWS.numpy())) == {"label", "score", "probabilities"}


def test_files_that_are_no_models(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "weights.safetensors").write_bytes(b"")
    (tmp_path / "text.pt").write_text("text")
    (tmp_path / "text.onnx").write_text("text")
    torch.save(model, tmp_path / "pickle.pt")
    with zipfile.ZipFile(tmp_path / "broken.pt2", "w") as archive:
        archive.writestr("m/archive_format", "pt2")
    with zipfile.ZipFile(tmp_path / "broken.pt", "w") as archive:
        archive.writestr("m/code/x.py", "")
    pytest.importorskip("onnxruntime")
    for name, text in (
        ("weights.pt", "holds weights alone"),
        ("weights.safetensors", "holds weights alone"),
        ("pickle.pt", "holds weights alone"),
        ("text.pt", "is not a TorchScript program"),
        ("text.onnx", "cannot be loaded by ONNX Runtime"),
        ("broken.pt2", "cannot be loaded as an exported program"),
        ("broken.pt", "cannot be loaded as TorchScript"),
        ("missing.pt", "is not in the archive"),
    ):
        with pytest.raises(ModelFileError, match=text):
            load_model(tmp_path, {"serializedFile": name}, CPU)


def test_state_dicts_and_safetensors_go_into_the_class_beside_them(tmp_path, model):
    from safetensors.torch import save_file

    code = (
        "import torch\nclass M(torch.nn.Linear):\n    def __init__(self):\n        super().__init__(3, 2)\n"
    )
    (tmp_path / "model.py").write_text(code)
    state = model.linear.state_dict()
    torch.save(state, tmp_path / "model.pt")
    save_file(state, tmp_path / "model.safetensors")
    for name in ("model.pt", "model.safetensors"):
        loaded = load_model(tmp_path, {"modelFile": "model.py", "serializedFile": name}, CPU)
        torch.testing.assert_close(loaded.module(ROWS), model(ROWS))
        assert not loaded.module.training


def test_the_answer_is_named_by_the_model_where_nobody_declares(tmp_path):
    _save_script(_Pair(), tmp_path / "model.pt")
    answers = _answer(_handler(tmp_path, "model.pt"), x=ROWS.numpy())
    assert list(answers) == ["output_0", "output_1"]
    assert json.dumps(answers["output_1"].tolist()) == json.dumps((-ROWS).tolist())


class _Pair(torch.nn.Module):
    def forward(self, x):
        return x, -x


def test_gpux_yml_is_a_signature(tmp_path):
    _write_onnx(tmp_path / "net.onnx", "batch")
    (tmp_path / "gpux.yml").write_text(
        "inputs:\n  a: {type: float32, shape: [1, 3]}\n  b: {type: float32, shape: [1, 3]}\n"
        "outputs:\n  sum: {type: float32, shape: [1, 3]}\n  whole: {type: int64, shape: [1, 3]}\n"
    )
    handler = _handler(tmp_path, "net.onnx")
    assert [spec.shape for spec in handler.signature.inputs] == [(3,), (3,)]
    assert _answer(handler, a=ROWS.numpy(), b=ROWS.numpy())["whole"].tolist() == ROWS.long().tolist()
