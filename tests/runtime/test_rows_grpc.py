from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.errors import InvalidInput
from predictor.ipc.messages import Envelope, InferenceRequest, Verb
from predictor.runtime.envelopes import decode
from predictor.torchserve.protos import PREDICTIONS_TYPE
from predictor.torchserve.protos.inference_pb2 import PredictionsFields, PredictionsRequest

_FIELDS = st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=30)), max_size=6)


def _request(body, headers=()):
    return InferenceRequest(
        "r-1",
        Verb.PREDICT,
        Envelope.TORCHSERVE,
        headers=list(headers),
        content_type=PREDICTIONS_TYPE,
        body=body,
    )


def _decode(body, headers=()):
    return decode(_request(body, headers), None)


@given(_FIELDS)
def test_fields_are_bytearrays_in_their_order_and_the_last_of_a_name_wins(fields):
    body = PredictionsFields(
        model_name="m", input=[PredictionsFields.Field(key=key, value=value) for key, value in fields]
    ).SerializeToString()
    decoded = _decode(body)
    assert decoded.rows == [dict(fields)]
    assert list(decoded.rows[0]) == list(dict(fields))
    assert all(type(value) is bytearray for value in decoded.rows[0].values())
    assert decoded.headers == {key: {"content-type": ""} for key, _ in fields}


@given(st.dictionaries(st.text(max_size=8), st.binary(max_size=30), max_size=5))
def test_a_message_of_a_client_holds_the_same_fields(fields):
    body = PredictionsRequest(model_name="m", input=fields, sequence_id="s").SerializeToString()
    assert _decode(body).rows == [fields]


def test_the_headers_of_a_sequence_are_seen():
    decoded = _decode(b"", [("ts_request_sequence_id", "s1")])
    assert (decoded.rows, decoded.headers) == ([{}], {"ts_request_sequence_id": "s1"})


@given(st.binary(max_size=60))
def test_no_bytes_do_worse_than_being_refused(body):
    try:
        rows = _decode(body).rows
    except InvalidInput:
        return
    assert len(rows) == 1


def test_bytes_that_are_no_message():
    with pytest.raises(InvalidInput, match="PredictionsRequest"):
        _decode(b"\xff\xff")
