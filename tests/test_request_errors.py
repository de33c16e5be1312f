"""The hierarchy of errors that a client may see."""

from __future__ import annotations

import inspect

import pytest

from predictor import errors
from predictor.errors import HandlerFailed, HandlerStatus, InvalidInput, PredictorError, error_from_worker

_ALL = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, PredictorError) and cls is not PredictorError
]


def _make(cls):
    """Make an error of a class with whatever its constructor asks for."""
    parameters = inspect.signature(cls).parameters.values()
    wanted = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    return cls(**dict.fromkeys(wanted, "text"))


@pytest.mark.parametrize("cls", _ALL)
def test_every_error_knows_what_each_protocol_says(cls):
    error = _make(cls)
    assert 400 <= error.status <= 599
    assert error.torchserve_status is None or 400 <= error.torchserve_status <= 599
    assert error.torchserve_type.endswith("Exception")
    assert error.message
    assert error.torchserve_message
    assert str(error) == error.message


@pytest.mark.parametrize("cls", errors._SENT_BY_WORKERS)
def test_what_a_worker_sends_arrives_as_it_was(cls):
    error = error_from_worker(cls.__name__, "text", 418)
    assert type(error) is cls
    assert error.message == "text"


def test_only_a_handlers_own_status_travels():
    assert error_from_worker("HandlerStatus", "x", 418).status == 418
    assert error_from_worker("InvalidInput", "x", 200).status == 400


@pytest.mark.parametrize("name", ["", "KeyError", "QueueFull", "PredictorError"])
def test_a_name_that_no_worker_may_send(name):
    assert type(error_from_worker(name, "x", 200)) is HandlerFailed


@pytest.mark.parametrize("status", [0, 200, 399, 600, -1])
def test_a_handlers_error_is_an_error(status):
    assert HandlerStatus("x", status).status == 500


def test_clients_mistakes_are_theirs():
    assert InvalidInput("x").status == 400
    assert errors.PayloadTooLarge("x").status == 413
