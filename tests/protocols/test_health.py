from __future__ import annotations

import pytest
from protocol_fakes import FakeModel, call, parsed, registry

from predictor.protocols.health import HealthProtocol


@pytest.fixture
def model():
    return FakeModel("m")


@pytest.fixture
def models(model):
    return registry(model)


@pytest.fixture
def protocol(models):
    return HealthProtocol(models)


async def test_alive(protocol):
    assert parsed(await call(protocol, "GET", "/")) == {"status": "alive"}


async def test_live_means_that_no_model_has_been_given_up(protocol, model):
    response = await call(protocol, "GET", "/v2/health/live")
    assert (response.status, parsed(response)) == (200, {"live": True})
    model.ready = False
    assert (await call(protocol, "GET", "/v2/health/live")).status == 200
    model.healthy = False
    response = await call(protocol, "GET", "/v2/health/live")
    assert (response.status, parsed(response)) == (503, {"live": False})


async def test_ready_means_that_every_model_answers_and_the_door_is_open(protocol, models, model):
    assert (await call(protocol, "GET", "/v2/health/ready")).status == 200
    models.accepting = False
    assert (await call(protocol, "GET", "/v2/health/ready")).status == 503
    models.accepting = True
    model.ready = False
    response = await call(protocol, "GET", "/v2/health/ready")
    assert (response.status, parsed(response)) == (503, {"ready": False})


async def test_other_paths_and_methods(protocol):
    assert (await call(protocol, "GET", "/v2/health")).status == 404
    assert (await call(protocol, "POST", "/v2/health/live")).status == 405
