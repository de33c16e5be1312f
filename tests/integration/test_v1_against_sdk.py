"""V1 with KServe's SDK as the oracle: the same request to both servers, the same answer."""

from __future__ import annotations

import base64
import datetime as dt
import json

import pytest
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent, from_http

EVENT = [("ce-specversion", "1.0"), ("ce-id", "e-1"), ("ce-source", "/tests"), ("ce-type", "test.request")]
ROWS = {"instances": [[1.5, 2], {"a": "b"}, "text", None, True]}
STRUCTURED = {
    "specversion": "1.0",
    "id": "e-2",
    "source": "/tests",
    "type": "test.request",
    "time": "2026-11-21T00:00:00Z",
    "data": ROWS,
}
VERBS = {"predict": "predictions", "explain": "explanations"}


def _both(sdk, ours, path, body, **options):
    return sdk.post(path, body, **options), ours.post(path, body, **options)


def _is_fresh(event):
    assert len(event["id"]) == 36
    age = dt.datetime.now(dt.timezone.utc) - dt.datetime.fromisoformat(event["time"])
    assert abs(age.total_seconds()) < 60


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "", "application/octet-stream"]
)
def test_binary_events(sdk, like_sdk, verb, content_type):
    path = f"/v1/models/echo:{verb}"
    theirs, mine = _both(
        sdk, like_sdk, path, json.dumps(ROWS).encode(), headers=EVENT, content_type=content_type
    )
    for response in (theirs, mine):
        assert response.status == 200, response
        assert response.header("content-type") == "application/json"
        assert response.json() == {VERBS[verb]: ROWS["instances"]}
    names = ("specversion", "source", "type")
    answered = {name: mine.header(f"ce-{name}") for name in names}
    assert answered == {
        "specversion": "1.0",
        "source": "io.kserve.inference.echo",
        "type": "io.kserve.inference.response",
    }
    if verb == "predict":  # the SDK's explain echoes the request's headers instead
        assert answered == {name: theirs.header(f"ce-{name}") for name in names}
        assert {name for name, _ in mine.headers if name.startswith("ce-")} == {
            name for name, _ in theirs.headers if name.startswith("ce-")
        }
    assert mine.header("ce-id") != "e-1"
    _is_fresh({"id": mine.header("ce-id"), "time": mine.header("ce-time")})


@pytest.mark.parametrize("verb", VERBS)
def test_structured_events(sdk, like_sdk, verb):
    path = f"/v1/models/echo:{verb}"
    responses = _both(sdk, like_sdk, path, STRUCTURED, content_type="application/cloudevents+json")
    events = []
    for response in responses:
        assert response.status == 200, response
        assert response.header("content-type") == "application/cloudevents+json"
        assert response.header("ce-id") is None
        event = response.json()
        _is_fresh(event)
        events.append({name: value for name, value in event.items() if name not in ("id", "time")})
    assert events[0] == events[1]
    assert events[1]["data"] == {VERBS[verb]: ROWS["instances"]}


def test_an_event_that_does_not_say_so_is_unwrapped_and_answered_plainly(sdk, like_sdk):
    for content_type in ("application/json", ""):
        theirs, mine = _both(
            sdk,
            like_sdk,
            "/v1/models/echo:predict",
            json.dumps(STRUCTURED).encode(),
            content_type=content_type,
        )
        assert theirs.json() == mine.json() == {"predictions": ROWS["instances"]}
        assert mine.header("content-type") == "application/json"


@pytest.mark.parametrize(
    "event",
    [
        {name: value for name, value in STRUCTURED.items() if name != "time"},
        {
            **{name: value for name, value in STRUCTURED.items() if name != "data"},
            "data_base64": base64.b64encode(json.dumps(ROWS).encode()).decode(),
        },
    ],
    ids=["without time", "with data_base64"],
)
def test_events_that_the_sdk_does_not_read(sdk, like_sdk, event):
    path, media_type = "/v1/models/echo:predict", "application/cloudevents+json; charset=utf-8"
    theirs, mine = _both(sdk, like_sdk, path, json.dumps(event).encode(), content_type=media_type)
    assert theirs.json() != {"predictions": ROWS["instances"]}
    assert "data" not in theirs.json()
    assert mine.json()["data"] == {"predictions": ROWS["instances"]}


@pytest.mark.parametrize("convert", [to_binary, to_structured])
def test_events_of_the_cloudevents_package(like_sdk, convert):
    attributes = {"type": "t", "source": "/s", "extra": "100 % ü", "datacontenttype": "application/json"}
    headers, body = convert(CloudEvent(attributes, ROWS))
    pairs = [(name, value.encode().decode("latin-1")) for name, value in headers.items()]
    response = like_sdk.post("/v1/models/echo:predict", body, headers=pairs)
    assert response.status == 200, response
    answer = from_http(dict(response.headers), response.body)
    assert answer.data == {"predictions": ROWS["instances"]}
    assert answer["source"] == "io.kserve.inference.echo"


@pytest.mark.parametrize(
    ("headers", "body", "media_type", "text"),
    [
        ([*EVENT[1:], ("ce-specversion", "0.2")], ROWS, "application/json", "unknown specversion '0.2'"),
        (EVENT, b"{", "application/json", "Invalid JSON"),
        ([], {"data": ROWS}, "application/cloudevents+json", "'specversion' is missing"),
        ([], {**STRUCTURED, "id": 5}, "application/cloudevents+json", "'id' is missing or no string"),
        ([], [STRUCTURED], "application/cloudevents+json", "must be a JSON object"),
        ([], {**STRUCTURED, "data": [1]}, "application/cloudevents+json", "must be a JSON object"),
        ([], [STRUCTURED], "application/cloudevents-batch+json", "must be a JSON object"),
    ],
)
def test_events_that_are_wrong(like_sdk, headers, body, media_type, text):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = like_sdk.post("/v1/models/echo:predict", data, headers=headers, content_type=media_type)
    assert response.status == 400, response
    assert text in response.json()["error"]
    assert response.header("ce-id") is None


def test_three_of_the_four_headers_are_no_event(sdk, like_sdk):
    theirs, mine = _both(sdk, like_sdk, "/v1/models/echo:predict", ROWS, headers=EVENT[1:])
    assert theirs.json() == mine.json()
    assert (theirs.header("ce-id"), mine.header("ce-id")) == (None, None)


# everything that is no event


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/models/echo:predict", ROWS),
        ("/v1/models/echo:predict", {"inputs": [1, [2, [3]]]}),
        ("/v1/models/echo:predict", {"instances": [{"x": [[1, 2]], "y": "z"}], "signature_name": "s"}),
        ("/v1/models/echo:predict", {"instances": ["ü", "\u0000", "\U0001f600", 1e300, -0.0, 2**53]}),
        ("/v1/models/echo:explain", ROWS),
        ("/v1/models/nope:predict", ROWS),
        ("/v1/models/nope:explain", ROWS),
        ("/v1/models/sleeping:predict", ROWS),
        ("/v1/models/echo:predict", b"{"),
        ("/v1/models/echo:predict", b"\xff"),
    ],
)
def test_the_same_answer(sdk, like_sdk, path, body):
    theirs, mine = _both(sdk, like_sdk, path, body)
    assert mine.status == theirs.status
    if theirs.status == 200:
        assert mine.json() == theirs.json()
        assert mine.header("content-type") == theirs.header("content-type") == "application/json"
    else:
        assert list(mine.json()) == list(theirs.json()) == ["error"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/echo", "/v1/models/nope", "/v1/models/sleeping"])
def test_models_and_their_readiness(sdk, like_sdk, path):
    theirs, mine = sdk.get(path), like_sdk.get(path)
    if path == "/v1/models":
        assert set(theirs.json()["models"]) & set(mine.json()["models"]) >= {"echo", "list", "sleeping"}
    elif theirs.status == 200:
        assert mine.json() == theirs.json()
    assert mine.status == theirs.status


def test_numbers_that_json_does_not_know(sdk, like_sdk):
    """NaN in a request is read, as Python's clients write it; in an answer it is null."""
    body = b'{"instances": [NaN, [Infinity, -Infinity], 1]}'
    theirs, mine = _both(sdk, like_sdk, "/v1/models/echo:predict", body, content_type="application/json")
    assert theirs.status == 400
    assert mine.json() == {"predictions": [None, [None, None], 1]}
