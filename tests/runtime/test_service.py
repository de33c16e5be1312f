from __future__ import annotations

import http
import json

import numpy as np
import pytest
from runtime_fakes import NAMED, TORCHSERVE, V1, Parts, make_service, request, run

from predictor.errors import InvalidInput
from predictor.ipc.frames import FrameDecoder, encode_frame
from predictor.ipc.messages import Envelope, FromWorker, InferenceResult, Results


class PredictionException(Exception):
    """As in ts.utils.util: found by its name, because the class is the handler's own import."""

    def __init__(self, message, error_code=500):
        super().__init__(message)
        self.message = message
        self.error_code = error_code


def _texts(*bodies, envelope=TORCHSERVE):
    return [request(body, envelope, content_type="text/plain", request_id=f"id-{body}") for body in bodies]


def _bodies(results):
    return [result.error or result.body.decode() for result in results]


def _travel(results):
    """Check that the results can be sent to the front end as they are."""
    (message,) = FrameDecoder(FromWorker).feed(encode_frame(Results(1, results)))
    assert message.results == results


class Handler:
    """Answers each row with its body; fails for a whole batch that holds `poison`."""

    def __init__(self, error=None):
        self.calls = []
        self.error = error or ValueError("secret")

    def __call__(self, data, context):
        bodies = [row["body"] for row in data]
        self.calls.append(bodies)
        if "poison" in bodies:
            raise self.error
        return bodies


def test_one_call_for_a_batch():
    handler = Handler()
    results = run(make_service(handler), *_texts("a", "b", "c"))
    assert _bodies(results) == ["a", "b", "c"]
    assert handler.calls == [["a", "b", "c"]]


def test_a_failing_batch_is_halved_until_the_culprit_stands_alone():
    handler = Handler()
    results = run(make_service(handler), *_texts("a", "b", "c", "poison", "d", "e", "f", "g"))
    assert _bodies(results) == ["a", "b", "c", "HandlerFailed", "d", "e", "f", "g"]
    assert len(handler.calls) == 7
    assert results[3].status == 500


def test_the_clients_text_does_not_hold_the_exceptions(caplog):
    (result,) = run(make_service(Handler()), *_texts("poison"))
    assert "secret" not in result.message
    assert "ValueError" in result.message
    assert "secret" in caplog.text
    assert "id-poison" in caplog.text


@pytest.mark.parametrize(
    ("error", "name", "status", "message"),
    [
        (PredictionException("too dark", 418), "HandlerStatus", 418, "too dark"),
        (PredictionException("plain"), "HandlerStatus", 500, "plain"),
        (PredictionException("odd", 42), "HandlerStatus", 500, "odd"),
        (PredictionException("odd", "abc"), "HandlerStatus", 500, "odd"),
        (MemoryError(), "OutOfResources", 507, "model 'm' ran out of memory"),
        (
            RuntimeError("CUDA error: device-side assert"),
            "OutOfResources",
            507,
            "model 'm' ran out of memory",
        ),
        (RuntimeError("out of memory"), "OutOfResources", 507, "model 'm' ran out of memory"),
        (SystemExit(3), "HandlerFailed", 500, "model 'm' failed: SystemExit"),
        (InvalidInput("field 'x'"), "InvalidInput", 400, "field 'x'"),
        (RecursionError(), "HandlerFailed", 500, "model 'm' failed: RecursionError"),
    ],
)
def test_what_exceptions_mean(error, name, status, message):
    results = run(make_service(Handler(error)), *_texts("a", "poison"))
    assert _bodies(results) == ["a", name]
    assert (results[1].status, results[1].message) == (status, message)


def test_running_out_of_memory_halves_the_batch():
    def handle(data, context):
        if len(data) > 2:
            raise RuntimeError("CUDA out of memory")
        return [row["body"] for row in data]

    results = run(make_service(handle), *_texts(*"abcdefgh"))
    assert _bodies(results) == list("abcdefgh")


@pytest.mark.parametrize("answers", [None, "text", {"a": 1}, ("a", "b"), 5])
def test_what_is_no_list(answers):
    results = run(make_service(lambda data, context: answers), *_texts("a", "b"))
    assert [result.message for result in results] == ["Invalid model predict output"] * 2


@pytest.mark.parametrize("count", [0, 1, 3])
def test_wrong_lengths(count):
    def handle(data, context):
        return ["x"] * count if len(data) == 2 else ["x"] * 2

    results = run(make_service(handle), *_texts("a", "b"))
    assert [result.message for result in results] == ["number of batch response mismatched"] * 2


def test_a_request_that_cannot_be_decoded_is_answered_alone():
    handler = Handler()

    def handle(data, context):
        return handler([{"body": row["data"]} for row in data], context)

    requests = [
        request('{"instances": ["a"]}', V1),
        request("nonsense", V1),
        request('{"instances": ["b"]}', V1),
    ]
    results = run(make_service(handle), *requests)
    assert results[1].error == "InvalidInput"
    assert results[1].status == 400
    assert handler.calls == [["a", "b"]]


def test_rows_of_several_requests_find_their_way_back():
    def handle(data, context):
        return [row["data"] * 10 for row in data]

    requests = [request(json.dumps({"instances": rows}), V1) for rows in ([1, 2], [3], [4, 5, 6])]
    results = run(make_service(handle), *requests)
    assert [json.loads(result.body)["predictions"] for result in results] == [[10, 20], [30], [40, 50, 60]]


def test_one_answer_that_cannot_be_sent_does_not_hurt_the_others():
    answers = ["a", object(), "b"]
    results = run(make_service(lambda data, context: answers), *_texts("1", "2", "3"))
    assert _bodies(results) == ["a", "InvalidOutput", "b"]
    assert results[1].message == "Unsupported model output data type."


def test_an_answer_that_is_too_large():
    service = make_service(lambda data, context: ["x" * 11, "ok"], max_response_size=10)
    assert _bodies(run(service, *_texts("1", "2"))) == ["ResponseTooLarge", "ok"]


def test_status_headers_and_phrase_are_each_requests_own():
    def handle(data, context):
        context.set_response_status(201, "Made", idx=1)
        context.set_response_header(1, "X-A", "1")
        context.set_response_content_type(2, "image/png")
        context.set_response_header(2, "number", 5)
        return ["a", "b", "c"]

    first, second, third = run(make_service(handle), *_texts("1", "2", "3"))
    assert (first.status, first.phrase, first.headers) == (200, "", [])
    assert (second.status, second.phrase, second.headers) == (201, "Made", [("X-A", "1")])
    assert third.headers == [("content-type", "image/png"), ("number", "5")]


def test_nothing_of_one_batch_is_left_for_the_next():
    def handle(data, context):
        if data[0]["body"] == "first":
            context.set_all_response_status(404, "None")
            context.set_response_header(0, "X-A", "1")
        return ["x"] * len(data)

    service = make_service(handle)
    assert run(service, *_texts("first"))[0].status == 404
    (second,) = run(service, *_texts("second"))
    assert (second.status, second.headers) == (200, [])


def test_the_handlers_content_type_replaces_ours():
    def handle(data, context):
        context.set_response_header(0, "Content-Type", "application/x-mine")
        return [1]

    (result,) = run(make_service(handle), request('{"instances": [1]}', V1))
    assert result.headers == [("Content-Type", "application/x-mine")]


def test_what_the_handler_sees_of_its_requests():
    seen = {}

    def handle(data, context):
        seen["ids"] = dict(context.request_ids)
        seen["header"] = context.get_request_header(1, "X-Name")
        seen["explain"] = context.get_request_header(0, "explain")
        return [None] * len(data)

    requests = [
        request("a", request_id="one"),
        request("b", request_id="two", headers=[("X-Name", "second")]),
    ]
    run(make_service(handle), *requests)
    assert seen == {"ids": {0: "one", 1: "two"}, "header": "second", "explain": "False"}


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (http.HTTPStatus.NOT_FOUND, 404),
        (np.int64(404), 404),
        ("404", 404),
        (404.0, 404),
        ("nonsense", 200),
        (None, 200),
        (99999, 200),
        (-1, 200),
    ],
)
def test_odd_statuses_travel_as_numbers(status, sent):
    def handle(data, context):
        context.set_response_status(status, None, 0)
        return ["x"]

    results = run(make_service(handle), *_texts("a"))
    assert results[0].status == sent
    _travel(results)


def test_odd_phrases_and_headers_can_travel():
    def handle(data, context):
        context.set_response_status(200, 5, 0)
        context.set_response_header(0, 7, None)
        context.set_response_header(0, "lone", "\ud800")
        return ["x"]

    _travel(run(make_service(handle), *_texts("a")))


@pytest.mark.parametrize("envelope", [TORCHSERVE, V1, NAMED])
def test_lone_surrogates_can_travel(envelope):
    body = '{"instances": ["x"], "text": "x"}'
    service = make_service(lambda data, context: ["\ud800"] * len(data))
    _travel(run(service, request(body, envelope, content_type="application/json")))
    service = make_service(lambda data, context: [InvalidInput("Unknown input: '\ud800'")] * len(data))
    results = run(service, request(body, envelope, content_type="application/json"))
    assert results[0].error == "InvalidInput"
    _travel(results)


def test_parts_sent_ahead_go_to_their_own_request():
    def handle(data, context):
        for index in range(2):
            context.cl_socket.send_chunk(
                context.get_request_id(index), index, f"part {index}".encode(), 200, "", {"a": index}
            )
        return ["end 0", "end 1"]

    parts = Parts()
    results = make_service(handle).run(_texts("x", "y"), parts)
    assert [(position, part.body) for position, part in parts.sent] == [(0, b"part 0"), (1, b"part 1")]
    assert parts.sent[1][1].headers == [("a", "1")]
    assert _bodies(results) == ["end 0", "end 1"]


def test_after_a_part_a_batch_is_not_run_again():
    calls = []

    def handle(data, context):
        calls.append(len(data))
        context.cl_socket.send_chunk(context.get_request_id(0), 0, b"part", 200, "", {})
        raise ValueError

    results = run(make_service(handle), *_texts("x", "y"))
    assert calls == [2]
    assert _bodies(results) == ["HandlerFailed"] * 2


def test_protocols_that_cannot_stream_get_the_parts_joined():
    def handle(data, context):
        for index, row in enumerate(data):
            context.cl_socket.send_chunk(
                context.get_request_id(index), index, f"{row['data']} and ".encode(), 200, "", {}
            )
        return ["end"] * len(data)

    parts = Parts()
    (result,) = make_service(handle).run([request('{"instances": ["a", "b"]}', V1)], parts)
    assert parts.sent == []
    assert json.loads(result.body) == {"predictions": ["a and end", "b and end"]}


def test_every_request_has_an_answer_of_the_right_type():
    results = run(make_service(Handler()), *_texts(*"abc"))
    assert all(isinstance(result, InferenceResult) for result in results)
    assert Envelope.TORCHSERVE is TORCHSERVE
