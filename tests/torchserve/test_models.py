from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.torchserve.models import (
    DeclaredModel,
    LoadModels,
    ModelRequest,
    parse_load_models,
    parse_model_declarations,
)
from predictor.torchserve.properties import PropertiesError, Property


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["all"], LoadModels(everything=True)),
        (["ALL"], LoadModels(everything=True)),
        (["none"], LoadModels()),
        ([""], LoadModels()),
        ([], LoadModels()),
        (["a.mar"], LoadModels(requests=(ModelRequest("a.mar"),))),
        (["a.mar, b=c.mar"], LoadModels(requests=(ModelRequest("a.mar"), ModelRequest("c.mar", "b")))),
        (["a.mar", "b=c.mar"], LoadModels(requests=(ModelRequest("a.mar"), ModelRequest("c.mar", "b")))),
        (["b = c.mar ,"], LoadModels(requests=(ModelRequest("c.mar", "b"),))),
        (["https://x/a.mar?v=1"], LoadModels(requests=(ModelRequest("https://x/a.mar?v=1"),))),
        (["m=https://x/a.mar?v=1"], LoadModels(requests=(ModelRequest("https://x/a.mar?v=1", "m"),))),
        (["all", "b=c.mar"], LoadModels(everything=True, requests=(ModelRequest("c.mar", "b"),))),
    ],
)
def test_load_models_as_torchserve_reads_it(parts, expected):
    assert parse_load_models(parts) == expected


names = st.text(st.characters(categories=["L", "N"]), min_size=1).filter(
    lambda name: name.lower() not in ("all", "none")
)
requests = st.builds(ModelRequest, names.map(lambda name: name + ".mar"), st.none() | names)


@given(st.builds(LoadModels, st.just(value=False), st.lists(requests).map(tuple)))
def test_load_models_reads_what_it_writes(load_models):
    assert parse_load_models([str(load_models)]) == load_models


def declarations(document, key="models"):
    return parse_model_declarations(Property(key, json.dumps(document), "f:7"))


def test_every_number_of_a_declaration():
    values = {
        "defaultVersion": True,
        "marName": "noop.mar",
        "minWorkers": 1,
        "maxWorkers": 2,
        "batchSize": 4,
        "maxBatchDelay": 50,
        "responseTimeout": 100,
        "startupTimeout": 110,
    }
    models, problems = declarations({"noop": {"1.0": values, "2.0": {}}})
    assert models == (
        DeclaredModel("noop", "1.0", "noop.mar", True, 1, 2, 4, 50, 100, 110),
        DeclaredModel("noop", "2.0", "noop.mar"),
    )
    assert problems == ()


def test_a_snapshot_has_its_models_one_level_deeper():
    document = {"name": "startup.cfg", "modelCount": 9, "models": {"m": {"1.0": {"defaultVersion": "true"}}}}
    assert declarations(document, "model_snapshot") == ((DeclaredModel("m", "1.0", "m.mar", True),), ())
    assert declarations({}, "model_snapshot") == ((), ())


@pytest.mark.parametrize("value", ["4", 4.0, 4])
def test_numbers_may_be_written_as_gson_takes_them(value):
    assert declarations({"m": {"1": {"batchSize": value}}})[0][0].batch_size == 4


@pytest.mark.parametrize("value", [True, "x", 0, -1, 2**31, [1], {}, float("inf"), float("nan")])
def test_other_numbers_are_left_out_and_reported(value):
    (model,), (problem,) = declarations({"m": {"1": {"batchSize": value}}})
    assert model == DeclaredModel("m", "1", "m.mar")
    assert problem.startswith('models (f:7): "m" "1": batchSize ')


def test_null_is_not_given_and_zero_has_a_meaning_for_some():
    (model,), problems = declarations({"m": {"1": {"minWorkers": 0, "maxBatchDelay": 0, "maxWorkers": None}}})
    assert (model.min_workers, model.max_batch_delay, model.max_workers, problems) == (0, 0, None, ())


def test_what_has_no_effect_or_meaning_is_reported():
    _, problems = declarations({"m": {"1": {"parallelLevel": 1, "batchsize": 2}}})
    assert len(problems) == 2
    assert "parallelLevel has no effect, because" in problems[0]
    assert "batchsize is not known" in problems[1]


@pytest.mark.parametrize("text", ["{", "[]", '{"m": 1}', '{"m": {"1": []}}', "[" * 100_000, '"m"', "null"])
@pytest.mark.parametrize("key", ["models", "model_snapshot"])
def test_broken_declarations_name_file_and_line(text, key):
    if key == "model_snapshot" and text.startswith('{"'):
        text = f'{{"models": {text}}}'
    with pytest.raises(PropertiesError, match="^f:7: "):
        parse_model_declarations(Property(key, text, "f:7"))
