"""Explanations in bfloat16: where the device has it, and with a delta that is true of what was computed."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
import torch
from explain_fakes import SmallCnn, examples, images, make, run, subject

from predictor.errors import InvalidInput
from predictor.explain import precision
from predictor.explain.attribution import attribute
from predictor.explain.budget import Budget, Limits
from predictor.explain.giving_way import as_before_explaining
from predictor.explain.methods import METHODS, find_method
from predictor.explain.precision import autocast_dtype, computes_bfloat16, full_precision

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


def test_tf32_is_off_only_meanwhile(monkeypatch):
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    try:
        for flag in flags:
            flag.allow_tf32 = True
        with contextlib.suppress(ValueError), full_precision():
            assert [flag.allow_tf32 for flag in flags] == [False, False]
            with as_before_explaining():  # predictions, while this explanation gives way
                assert [flag.allow_tf32 for flag in flags] == [True, True]
            assert [flag.allow_tf32 for flag in flags] == [False, False]
            raise ValueError
        assert [flag.allow_tf32 for flag in flags] == [True, True]
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


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
