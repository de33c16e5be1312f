from __future__ import annotations

import pytest

from predictor.handlers.context import Context, RequestProcessor


@pytest.fixture
def context():
    made = Context(
        "mnist", "/models/mnist", {"model": {}}, 4, None, metrics="metrics", model_yaml_config={"a": 1}
    )
    made.request_ids = {0: "first", 1: "second"}
    made.request_processor = [
        RequestProcessor({"Content-Type": "text/plain"}),
        RequestProcessor({"seq": "7"}),
    ]
    return made


def test_what_the_model_is(context):
    assert context.model_name == "mnist"
    assert context.manifest == {"model": {}}
    assert context.metrics == "metrics"
    assert context.model_yaml_config == {"a": 1}
    assert context.stopping_criteria is None
    assert context.system_properties == {
        "model_dir": "/models/mnist",
        "gpu_id": None,
        "batch_size": 4,
        "server_name": "MMS",
        "server_version": "0.12.0",
        "limit_max_image_pixels": True,
    }


def test_before_the_first_batch():
    fresh = Context("m", "/m", None, 1, 0, "0.12.0", False)
    assert fresh.get_request_id() is None
    assert fresh.request_processor is None
    fresh.set_response_status(500, "no")  # handlers call it while they load; it must not raise
    with pytest.raises(TypeError):
        fresh.get_request_header(0, "a")


def test_request_ids_and_headers(context):
    assert (context.get_request_id(), context.get_request_id(1), context.get_request_id(2)) == (
        "first",
        "second",
        None,
    )
    assert context.get_request_header(0, "Content-Type") == "text/plain"
    assert context.get_request_header(0, "content-type") is None
    assert context.get_all_request_header(1) == {"seq": "7"}
    with pytest.raises(IndexError):
        context.get_request_header(2, "a")


def test_status_of_one_answer_and_of_all(context):
    assert context.get_response_status(0) == (200, None)
    context.set_response_status(201, "Made", 1)
    assert [context.get_response_status(idx) for idx in (0, 1)] == [(200, None), (201, "Made")]
    context.set_all_response_status(503, "Busy")
    assert [context.get_response_status(idx) for idx in (0, 1)] == [(503, "Busy")] * 2
    context.set_response_status()
    assert context.get_response_status(0) == (200, "")


def test_response_headers(context):
    context.set_response_header(0, "x", "1")
    context.set_response_content_type(1, "image/png")
    assert context.get_response_headers(0) == {"x": "1"}
    assert context.get_response_content_type(0) is None
    assert context.get_response_content_type(1) == "image/png"
    assert context.request_processor[0].get_response_header("x") == "1"
    assert context.request_processor[0].get_response_header("y") is None


def test_sequence_header_names_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("TS_REQUEST_SEQUENCE_ID", "seq")
    context = Context("m", "/m", {}, 1, None)
    context.request_processor = [RequestProcessor({"seq": "7"}), RequestProcessor({})]
    assert [context.get_sequence_id(idx) for idx in (0, 1)] == ["7", None]
    assert context.header_key_sequence_start == "ts_request_sequence_start"
    assert context.header_key_sequence_end == "ts_request_sequence_end"


def test_handlers_may_hang_things_on_it(context):
    context.cache = {"a": 1}
    assert context.cache == {"a": 1}


def test_equality():
    one, two = (Context("m", "/m", {}, 1, None) for _ in range(2))
    assert one == two
    two.cache = {}
    assert one != two
    assert one != "m"
