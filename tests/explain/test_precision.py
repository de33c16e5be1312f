"""Explanations in bfloat16: where the device has it, and with a delta that is true of what was computed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools

import pytest
import torch
from explain_fakes import FunctionalMlp, SmallCnn, examples, images, make, run, subject
from torch import nn

from predictor.errors import InvalidInput
from predictor.explain import precision
from predictor.explain.attribution import attribute
from predictor.explain.budget import Budget, Limits
from predictor.explain.giving_way import as_before_explaining
from predictor.explain.methods import METHODS, find_method
from predictor.explain.precision import autocast_dtype, computes_bfloat16, full_precision
from predictor.explain.shadow import is_recurrent
from predictor.handlers.formats import FixedRows

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"bf16": True, "neon": True}, True),
        ({"avx512_f": True, "avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_the_processor_says_what_it_has(monkeypatch, features, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert computes_bfloat16(CPU) is expected


def test_a_torch_that_cannot_tell_has_none(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not computes_bfloat16(CPU)
    assert not computes_bfloat16(torch.device("meta"))


def test_float32_is_the_model_s_own(monkeypatch):
    assert autocast_dtype({}, CPU) is None
    assert autocast_dtype({"precision": "float32"}, CPU) is None
    monkeypatch.setattr(precision, "computes_bfloat16", lambda device: True)
    assert autocast_dtype({"precision": "bfloat16"}, CPU) is torch.bfloat16


def test_methods_of_gradients_and_no_others_take_it():
    takers = {
        name
        for name, method in METHODS.items()
        if "precision" in [parameter.name for parameter in method.parameters]
    }
    assert takers == {"integrated_gradients", "saliency", "input_x_gradient", "gradient_shap"}


@pytest.fixture
def flags(monkeypatch):
    """As on a machine with a GPU; what is set is forgotten afterwards."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    before, readable = precision._Flags.now(), read_flags()
    yield read_flags
    before.set()
    assert read_flags() == readable


def read_flags():
    """Return what can be read of them; None stands for an error."""
    backends = torch.backends
    newer = [(place, "fp32_precision") for place in precision._places()]
    older = [
        (backends.cuda.matmul, "allow_tf32"),
        (backends.cudnn, "allow_tf32"),
        (backends.cudnn, "enabled"),
    ]
    found = []
    for place, name in (*older, *newer):
        try:
            found.append(getattr(place, name))
        except RuntimeError:
            found.append(None)
    return found


def test_tf32_is_off_only_meanwhile(flags):
    older = (torch.backends.cuda.matmul, torch.backends.cudnn)
    for flag in older:
        flag.allow_tf32 = True
    with contextlib.suppress(ValueError), full_precision():
        assert [flag.allow_tf32 for flag in older] == [False, False]
        with as_before_explaining():  # predictions, while this explanation gives way
            assert [flag.allow_tf32 for flag in older] == [True, True]
        assert [flag.allow_tf32 for flag in older] == [False, False]
        raise ValueError
    assert [flag.allow_tf32 for flag in older] == [True, True]


@pytest.mark.skipif(not precision._places(), reason="before PyTorch 2.9 there is one family of flags")
@pytest.mark.parametrize(
    "chosen",
    [
        ("cuda.matmul.fp32_precision", "tf32"),
        ("cudnn.conv.fp32_precision", "ieee"),
        ("fp32_precision", "tf32"),
        ("cuda.matmul.allow_tf32", True),
        ("cudnn.allow_tf32", False),
        ("", "high"),
        ("", "medium"),
    ],
    ids=str,
)
def test_whichever_flags_a_model_sets_they_are_as_before(flags, chosen):
    name, value = chosen
    everywhere = torch.backends.fp32_precision
    try:
        if name:
            *path, last = name.split(".")
            setattr(functools.reduce(getattr, path, torch.backends), last, value)
        else:
            torch.set_float32_matmul_precision(value)
        before = flags()
        for _ in range(2):
            with full_precision():
                inside = flags()
                assert inside[3:] == ["ieee"] * 4
                with as_before_explaining():
                    assert flags() == before
                with full_precision():
                    assert flags() == inside
                assert flags() == inside
            assert flags() == before
    finally:
        torch.backends.fp32_precision = everywhere


def test_cudnn_is_left_to_models_without_recurrent_layers(flags):
    for recurrent, expected in ((False, True), (True, False)):
        with full_precision(recurrent):
            assert torch.backends.cudnn.enabled is expected
            with as_before_explaining():
                assert torch.backends.cudnn.enabled
        assert torch.backends.cudnn.enabled


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.linear = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, steps):
        return self.linear(self.cells(steps)[0][:, -1])


def exported(operation):
    """Return what `torch.export` makes of a model that calls one operation, without its seconds."""
    graph = torch.fx.Graph()
    graph.output(graph.call_function(operation, (graph.placeholder("steps"),)))
    return torch.fx.GraphModule(nn.Module(), graph)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_recurrent_layers_are_found_in_every_kind_of_model():
    model = make(Recurrent)
    traced = torch.jit.trace(model, torch.rand(2, 5, 3))
    programs = [exported(operation) for operation in (torch.ops.aten.gru.input, torch.ops.aten.lstm.data)]
    scripts = [torch.jit.script(model), traced, torch.jit.freeze(traced)]
    for kind in (model, *scripts, *programs):
        assert is_recurrent(kind)
        assert is_recurrent(FixedRows(kind, 2))
    plain = make(FunctionalMlp)
    for kind in (
        plain,
        torch.jit.trace(plain, torch.rand(2, 6)),
        exported(torch.ops.aten.relu.default),
        print,
    ):
        assert not is_recurrent(kind)


def test_every_output_that_an_answer_tells_is_computed_without_tf32(sample, flags):
    torch.backends.cudnn.allow_tf32 = True
    digits, seen = sample("digits"), []
    model = digits.handler.explainer.model.module
    handle = model.register_forward_pre_hook(
        lambda *_: seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cudnn.enabled))
    )
    try:
        wish = {"method": "feature_ablation", "metrics": ["infidelity"]}
        assert "metrics" in digits.ask({"image": digits.file("3.png"), "explain": wish})[0]
    finally:
        handle.remove()
    assert set(seen) == {(False, True)}


@pytest.mark.parametrize("method", ["integrated_gradients", "saliency"])
def test_bfloat16_is_near_and_not_the_same(method):
    model, targets = make(SmallCnn), torch.tensor([0, 3, 4])
    chosen, batch = find_method(method), examples(images(), targets)
    args = chosen.arguments({"n_steps": 20} if method == "integrated_gradients" else {"abs": False})
    coarse = dataclasses.replace(subject(model), autocast=torch.bfloat16)
    found = attribute(chosen, coarse, batch, Budget(Limits(), 3), args).values[0][:, 0]
    exact = run(method, model, batch, **args).values[0][:, 0]
    assert found.dtype == torch.float32
    assert 1e-4 < float((found - exact).norm() / exact.norm()) < 0.05


def test_the_answer_s_delta_is_that_of_its_own_outputs(sample, monkeypatch):
    monkeypatch.setattr(precision, "computes_bfloat16", lambda device: True)
    digits = sample("digits")
    row = {"image": digits.file("3.png")}
    answers = []
    for args in ({}, {"precision": "bfloat16"}):
        wish = {"args": {"n_steps": 50, **args}, "target": "3", "reduce": "none"}
        answers.append(digits.ask({**row, "explain": wish})[0])
    exact, coarse = answers
    outputs = coarse["prediction"]
    assert outputs["output"] != exact["prediction"]["output"]
    assert outputs["output"] == pytest.approx(exact["prediction"]["output"], rel=0.02)
    total = float(torch.tensor(coarse["inputs"][0]["attributions"]).double().sum())
    assert total - (outputs["output"] - outputs["baseline_output"]) == pytest.approx(
        coarse["delta"], abs=1e-4
    )
    assert abs(coarse["delta"]) > abs(exact["delta"]) or coarse["delta"] != exact["delta"]


def test_a_processor_without_it_refuses_and_names_the_argument(sample, monkeypatch):
    monkeypatch.setattr(precision, "computes_bfloat16", lambda device: False)
    digits = sample("digits")
    row = {"image": digits.file("3.png"), "explain": {"args": {"precision": "bfloat16"}}}
    answer = digits.ask(row)[0]
    assert isinstance(answer, InvalidInput)
    assert "explain.args.precision" in str(answer)
    bad = {**row, "explain": {"args": {"precision": "float16"}}}
    assert "'float32' or 'bfloat16'" in str(digits.ask(bad)[0])
