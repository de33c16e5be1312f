"""`make kind-test`: the script's own requests, with this server where the gateway would be."""

from __future__ import annotations

import shutil

import pytest
from support.kind import StandIns


@pytest.fixture
def stand_ins(tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    programs = StandIns(tmp_path, "curl")
    programs.say("kubectl", "http://samples-default.example.com")
    return programs


def test_every_request_is_answered_as_the_script_expects(stand_ins, samples):
    result = stand_ins.run("test", INGRESS=f"http://127.0.0.1:{samples.port}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 6
    assert "requests for samples-default.example.com" in result.stderr
    assert "all answered" in result.stderr


def test_an_answer_of_something_else_fails(stand_ins, server):
    """This server has no digits."""
    result = stand_ins.run("test", INGRESS=f"http://127.0.0.1:{server.port}")
    assert result.returncode == 1
    assert "TorchServe, a picture: /predictions/digits answered" in result.stderr


def test_nobody_at_the_gateway(stand_ins):
    result = stand_ins.run("test", INGRESS="http://127.0.0.1:1")
    assert result.returncode == 1
    assert "ready: /v2/health/ready answered" in result.stderr
