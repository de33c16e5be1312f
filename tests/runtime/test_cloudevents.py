from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_fakes import V1, request

from predictor.errors import InvalidInput
from predictor.explain.result import Page
from predictor.runtime.cloudevents import Event, binary_event, structured_event
from predictor.runtime.envelopes import decode, encode

STRUCTURED = "application/cloudevents+json"
ATTRIBUTES = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
HEADERS = [(f"CE-{name.title()}", value) for name, value in ATTRIBUTES.items()]


def _answer(made, answers, model="m"):
    asked = request(envelope=V1)
    asked.model = (model, "1.0")
    body, headers = encode(asked, made, answers, False)
    return body, dict(headers)


def test_names_of_headers_have_no_case_and_values_are_unquoted():
    event = binary_event(request(headers=[*HEADERS, ("ce-extra", "100%25%20%C3%BC"), ("Accept", "x")]))
    assert event is not None
    assert event.attributes == {**ATTRIBUTES, "extra": "100% ü"}


def test_a_model_with_an_odd_name_stands_quoted_in_the_header_and_plain_in_the_document():
    binary = decode(request('{"instances": [1]}', V1, headers=HEADERS), None)
    assert _answer(binary, [1], 'ü "%')[1]["ce-source"] == "io.kserve.inference.%C3%BC%20%22%25"
    made = decode(
        request(json.dumps({**ATTRIBUTES, "data": {"inputs": [1]}}), V1, content_type=STRUCTURED), None
    )
    body, _ = _answer(made, [1], 'ü "%')
    assert json.loads(body)["source"] == 'io.kserve.inference.ü "%'


def test_the_environment_chooses_type_and_source_and_merges(monkeypatch):
    monkeypatch.setenv("CE_MERGE", "true")
    monkeypatch.setenv("CE_TYPE", "my.type")
    monkeypatch.setenv("CE_SOURCE", "my.source")
    made = decode(
        request(
            json.dumps(
                {**ATTRIBUTES, "subject": "x", "datacontenttype": "text/plain", "data": {"inputs": [1]}}
            ),
            V1,
            content_type=STRUCTURED,
        ),
        None,
    )
    event = json.loads(_answer(made, [1])[0])
    assert (event["type"], event["source"], event["subject"]) == ("my.type", "my.source", "x")
    assert event["id"] != "1"
    assert "datacontenttype" not in event


def test_a_picture_in_an_event():
    page = Page(b"\x89PNG", [("content-type", "image/png"), ("x-note", "n")])
    binary = decode(request('{"instances": [1]}', V1, headers=HEADERS), None)
    body, headers = _answer(binary, [page])
    assert (body, headers["content-type"], headers["ce-specversion"]) == (b"\x89PNG", "image/png", "1.0")
    structured = Event(ATTRIBUTES, structured=True)
    body, pairs = structured.wrap("m", page.body, page.headers)
    assert pairs == [("content-type", STRUCTURED), ("x-note", "n")]
    event = json.loads(body)
    assert event["datacontenttype"] == "image/png"
    assert base64.b64decode(event["data_base64"]) == b"\x89PNG"


@pytest.mark.parametrize(
    ("content_type", "headers"),
    [("image/png", []), ("application/json", [("ce-content-type", "application/avro")])],
)
def test_the_data_of_a_binary_event_may_be_anything(content_type, headers):
    made = decode(request(b"\x89PNG", V1, content_type=content_type, headers=[*HEADERS, *headers]), None)
    assert made.rows == [{"data": b"\x89PNG"}]
    assert json.loads(_answer(made, ["a"])[0]) == {"predictions": ["a"]}


def test_base64_that_is_none():
    for value in ("!", 5, None):
        with pytest.raises(InvalidInput, match="data_base64"):
            structured_event(request(content_type=STRUCTURED), {**ATTRIBUTES, "data_base64": value})


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
_NAMES = st.sampled_from([*ATTRIBUTES, "time", "data", "data_base64", "datacontenttype", "instances"])


@given(st.dictionaries(_NAMES, _JSON | st.sampled_from(["1.0", "0.3", {"instances": [1]}])) | _JSON)
def test_any_document_is_an_event_or_a_client_error(document):
    body = json.dumps(document)
    for content_type in (STRUCTURED, "application/json"):
        try:
            made = decode(request(body, V1, content_type=content_type), None)
        except InvalidInput:
            continue
        assert made.rows
        assert (made.event is not None) == (content_type == STRUCTURED)
