"""V2 with KServe's SDK as the oracle: the same request to both servers, the same answer.

What differs is what `test_sdk_defects.py` shows: the SDK's nulls, its statuses, and what it reads wrongly.
"""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

LENGTH = "Inference-Header-Content-Length"
ECHO = "/v2/models/echo/infer"
VALUES = {
    "BOOL": [True, False, True, True],
    "UINT8": [0, 1, 254, 255],
    "UINT16": [0, 1, 2, 2**16 - 1],
    "UINT32": [0, 1, 2, 2**32 - 1],
    "UINT64": [0, 1, 2, 2**53],
    "INT8": [-128, -1, 0, 127],
    "INT16": [-(2**15), -1, 0, 2**15 - 1],
    "INT32": [-(2**31), -1, 0, 2**31 - 1],
    "INT64": [-(2**53), -1, 0, 2**53],
    "FP32": [0.5, -1.25, 3.4e38, 0.1],
    "FP64": [0.5, -1.25, 1.7e308, 0.1],
    "BYTES": ["", "a", "ü", "\U0001f600 text"],
}
NUMPY = {"BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64"}


def _tensor(name, datatype, shape, values, **more):
    return {"name": name, "datatype": datatype, "shape": shape, "data": values, **more}


def _both(sdk, ours, body, path=ECHO, **options):
    return sdk.post(path, body, **options), ours.post(path, body, **options)


def _plain(document):
    """Return a JSON answer without the SDK's nulls and without the version, which the SDK never has."""
    outputs = [
        {key: value for key, value in output.items() if value is not None} for output in document["outputs"]
    ]
    known = {key: value for key, value in document.items() if value is not None and key != "model_version"}
    return {**known, "outputs": outputs}


def _binary(datatype, values):
    if datatype == "BYTES":
        texts = [value.encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.array(values, NUMPY.get(datatype, datatype.lower())).tobytes()


def _binary_request(entries, *, outputs=None, parameters=None):
    """Return a body and its headers; each entry is (name, datatype, shape, values)."""
    tails = [_binary(datatype, values) for _, datatype, _, values in entries]
    document = {
        "id": "b-1",
        "inputs": [
            {
                "name": name,
                "datatype": datatype,
                "shape": shape,
                "parameters": {"binary_data_size": len(tail)},
            }
            for (name, datatype, shape, _), tail in zip(entries, tails, strict=True)
        ],
    }
    if outputs is not None:
        document["outputs"] = outputs
    if parameters is not None:
        document["parameters"] = parameters
    head = json.dumps(document).encode()
    return head + b"".join(tails), [(LENGTH, str(len(head)))]


def _split(response):
    """Return a binary answer's document and the bytes of its tensors."""
    length = int(response.header(LENGTH))
    return json.loads(response.body[:length]), response.body[length:]


@pytest.mark.parametrize("datatype", VALUES)
@pytest.mark.parametrize("shape", [[4], [2, 2], [1, 4, 1]], ids=str)
def test_json(sdk, like_sdk, datatype, shape):
    request = {"id": "j-1", "inputs": [_tensor("x", datatype, shape, VALUES[datatype])]}
    theirs, mine = _both(sdk, like_sdk, request)
    assert mine.status == theirs.status == 200, (theirs, mine)
    assert mine.header("content-type") == theirs.header("content-type") == "application/json"
    answer = _plain(mine.json())
    assert answer["id"] == "j-1"
    if datatype == "BYTES":  # a handler is given the elements one by one, and so they come back
        assert answer["outputs"][0]["data"] == _plain(theirs.json())["outputs"][0]["data"]
    elif datatype == "FP32":
        expected = np.float32(_plain(theirs.json())["outputs"][0].pop("data"))
        np.testing.assert_array_equal(np.float32(answer["outputs"][0].pop("data")), expected)
    else:
        assert answer == _plain(theirs.json())


@pytest.mark.parametrize("datatype", [*VALUES, "FP16"])
def test_binary(sdk, like_sdk, datatype):
    values = VALUES.get(datatype, [0.5, -1.25, 65504.0, 0.1])
    entry = ("x", datatype, [4], values)
    body, headers = _binary_request([entry], parameters={"binary_data_output": True})
    theirs, mine = _both(sdk, like_sdk, body, headers=headers)
    assert mine.status == 200, mine
    document, tail = _split(mine)
    assert tail == _binary(datatype, values)
    their_document, their_tail = _split(theirs)
    assert tail == their_tail
    assert _plain(document) == _plain(their_document)


def test_several_tensors_of_both_kinds(sdk, like_sdk):
    entries = [("a", "FP32", [2], [1, 2]), ("b", "INT64", [1, 2], [3, 4]), ("c", "BYTES", [1], ["x"])]
    body, headers = _binary_request(entries)
    theirs, mine = _both(sdk, like_sdk, body, headers=headers)
    assert mine.status == theirs.status == 200, (theirs, mine)
    assert _plain(mine.json()) == _plain(theirs.json())


@pytest.mark.parametrize("flag", [True, False, None])
def test_outputs_are_asked_for_one_by_one(sdk, like_sdk, flag):
    entries = [("a", "FP32", [2], [1, 2]), ("b", "INT64", [1, 2], [3, 4])]
    wanted = [
        {"name": name, **({} if flag is None else {"parameters": {"binary_data": flag}})}
        for name in ("a", "b")
    ]
    body, headers = _binary_request(entries, outputs=wanted)
    theirs, mine = _both(sdk, like_sdk, body, headers=headers)
    assert mine.status == theirs.status == 200, (theirs, mine)
    if flag:
        assert _split(mine)[1] == _split(theirs)[1]
        assert _plain(_split(mine)[0]) == _plain(_split(theirs)[0])
    else:
        assert _plain(mine.json()) == _plain(theirs.json())


def test_parameters_are_taken(sdk, like_sdk):
    parameters = {"flag": True, "count": 3, "text": "t"}
    request = {
        "id": "p-1",
        "parameters": parameters,
        "inputs": [_tensor("x", "FP32", [2], [1, 2], parameters=parameters)],
        "outputs": [{"name": "x", "parameters": parameters}],
    }
    theirs, mine = _both(sdk, like_sdk, request)
    assert mine.status == theirs.status == 200, (theirs, mine)
    assert _plain(mine.json())["outputs"] == _plain(theirs.json())["outputs"]


@pytest.mark.parametrize(
    "path", ["/v2/models/echo/ready", "/v2/models/nope/ready", "/v2/models/sleeping/ready"]
)
def test_questions(sdk, like_sdk, path):
    theirs, mine = sdk.get(path), like_sdk.get(path)
    assert mine.status == theirs.status
    if mine.status == 200:
        assert mine.json() == theirs.json()


def test_names_and_metadata(sdk, like_sdk):
    assert set(sdk.get("/v2/models").json()["models"]) & set(like_sdk.get("/v2/models").json()["models"])
    assert set(sdk.get("/v2").json()) == set(like_sdk.get("/v2").json())
    theirs, mine = (server.get("/v2/models/echo").json() for server in (sdk, like_sdk))
    assert set(mine) == set(theirs)
    assert (mine["name"], mine["inputs"], mine["outputs"]) == ("echo", [], [])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/models/nope/infer", {"id": "1", "inputs": [_tensor("x", "FP32", [1], [1])]}),
        ("/v2/models/sleeping/infer", {"id": "1", "inputs": [_tensor("x", "FP32", [1], [1])]}),
    ],
)
def test_the_same_refusals(sdk, like_sdk, path, body):
    theirs, mine = _both(sdk, like_sdk, body, path, content_type="application/json")
    assert list(mine.json()) == ["error"]
    assert mine.status == theirs.status
