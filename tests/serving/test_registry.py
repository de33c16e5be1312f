from __future__ import annotations

import pytest
from serving_fakes import archive

from predictor.errors import ModelNotFound, ModelVersionNotFound
from predictor.serving.model import ModelState, ServedModel
from predictor.serving.policy import ServingPolicy
from predictor.serving.pool import WorkerOptions
from predictor.serving.registry import Registry


def _model(name, version="1.0"):
    return ServedModel(archive(name, version), ServingPolicy(), WorkerOptions())


@pytest.fixture
def registry():
    return Registry()


def test_unknown_names(registry):
    with pytest.raises(ModelNotFound, match="Model not found: nope"):
        registry.get("nope")
    with pytest.raises(ModelNotFound):
        registry.get("")


def test_the_first_version_is_the_default_until_another_is_made_it(registry):
    one, two, three = _model("m", "1.0"), _model("m", "2.0"), _model("m", "3.0")
    registry.add(one)
    registry.add(two)
    assert registry.get("m") is one
    assert registry.get("m", "2.0") is two
    registry.add(three, default=True)
    assert registry.get("m") is three


def test_an_unknown_version(registry):
    registry.add(_model("m"))
    with pytest.raises(ModelVersionNotFound, match=r"Model version: 9.9 does not exist for model: m"):
        registry.get("m", "9.9")


def test_a_version_that_is_there_already_is_replaced(registry):
    registry.add(_model("m"))
    again = _model("m")
    registry.add(again)
    assert registry.get("m") is again
    assert registry.models() == [again]


def test_an_alias_means_the_model_in_all_its_versions(registry):
    one, two = _model("m", "1.0"), _model("m", "2.0")
    registry.add(one)
    registry.add(two)
    registry.alias("isvc", "m")
    assert registry.get("isvc") is one
    assert registry.get("isvc", "2.0") is two
    assert registry.names() == ["m"]


def test_a_model_of_that_very_name_beats_an_alias(registry):
    other = _model("isvc")
    registry.add(_model("m"))
    registry.alias("isvc", "m")
    registry.add(other)
    assert registry.get("isvc") is other


def test_an_alias_of_nothing(registry):
    registry.alias("isvc", "m")
    with pytest.raises(ModelNotFound, match="isvc"):
        registry.get("isvc")


def test_names_are_sorted_and_models_follow_them(registry):
    models = [_model("b", "1"), _model("a", "1"), _model("b", "0")]
    for model in models:
        registry.add(model)
    assert registry.names() == ["a", "b"]
    assert registry.models() == [models[1], models[0], models[2]]


def test_readiness_needs_the_start_to_be_over_and_the_door_open(registry, monkeypatch):
    registry.add(_model("m"))
    monkeypatch.setattr(ServedModel, "ready", property(lambda self: True))
    assert not registry.ready
    registry.started = True
    assert registry.ready
    registry.accepting = False
    assert not registry.ready


def test_one_model_that_is_not_ready_makes_the_server_unready(registry, monkeypatch):
    registry.started = True
    registry.add(_model("a"))
    registry.add(_model("b"))
    states = {"a": ModelState.READY, "b": ModelState.RECOVERING}
    monkeypatch.setattr(ServedModel, "state", property(lambda self: states[self.name]))
    assert not registry.ready


def test_a_model_that_is_added_later_does_not_turn_requests_for_the_others_away(registry):
    registry.add(_model("later"))
    assert registry.get("later").state is ModelState.LOADING
    assert not registry.ready
    registry.started = True
    assert registry.ready


def test_what_has_which_name_and_version(registry):
    one, two = _model("m", "1.0"), _model("m", "2.0")
    registry.add(one)
    registry.add(two)
    registry.alias("alias", "m")
    assert registry.versions("alias") == [one, two]
    assert registry.has("m", "2.0")
    assert not registry.has("alias", "2.0")
    assert registry.is_default(one)
    registry.set_default(two)
    assert registry.get("m") is two
    assert not registry.is_default(one)


def test_ping_is_good_only_after_the_start(registry, monkeypatch):
    monkeypatch.setattr(ServedModel, "healthy", property(lambda self: True))
    registry.add(_model("m"))
    assert registry.healthy
    assert not registry.serving
    registry.started = True
    assert registry.serving
    monkeypatch.setattr(ServedModel, "healthy", property(lambda self: False))
    assert not registry.serving
