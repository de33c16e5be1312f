"""The management protocol over operations that only note what they are asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV30SpecValidator
from protocol_fakes import FakeModel, call, parsed, registry

from predictor.errors import InvalidInput
from predictor.protocols import openapi
from predictor.protocols.management import ManagementProtocol
from predictor.protocols.managing import (
    ModelManagement,
    read_bool,
    read_int,
    register_parameters,
)
from predictor.serving.errors import ModelControlOff

TRANSCRIPTS = Path(__file__).parents[3] / "shared" / "data" / "torchserve" / "transcripts"


class _Policy:
    min_workers = 1


class _Model:
    name, version, policy = "m", "1.0", _Policy()


class FakeManager:
    """Notes every change; `registry` is real."""

    def __init__(self, *names):
        models = [FakeModel(name) for name in names]
        for model in models:
            model.url = f"{model.name}.mar"
        self.registry = registry(*models)
        self.seen = []

    async def register(self, wish):
        self.seen.append(wish)
        return _Model

    async def scale(self, *arguments, wait):
        self.seen.append((*arguments, wait))

    async def unregister(self, *arguments):
        self.seen.append(arguments)

    async def set_default(self, *arguments):
        self.seen.append(arguments)


@pytest.fixture
def manager():
    return FakeManager("a", "b", "c")


def _protocol(manager, enabled=True, **options):
    return ManagementProtocol(ModelManagement(manager, enabled), **options)


async def _status(protocol, method, path, query="", **more):
    response = await call(protocol, method, path, query=query, **more)
    return response.status, parsed(response).get("status") or parsed(response).get("message")


async def test_parameters_of_the_query_and_of_a_body_of_json(manager):
    protocol = _protocol(manager)
    query = "url=x.mar&model_name=n&batch_size=4&max_batch_delay=20&response_timeout=abc&initial_workers=2"
    await call(protocol, "POST", "/models", query=query + "&synchronous=-1&s3_sse_kms=TRUE")
    wish = manager.seen[0]
    assert (wish.url, wish.name, wish.wait, wish.kms) == ("x.mar", "n", False, True)
    assert (wish.wishes.batch_size, wish.wishes.max_batch_delay, wish.wishes.response_timeout) == (
        4,
        20,
        None,
    )
    body = json.dumps({"url": "y.mar", "batch_size": 2, "initial_workers": "3", "synchronous": True}).encode()
    json_type = [("Content-Type", "application/json; charset=utf-8")]
    await call(protocol, "POST", "/models", body, headers=json_type)
    wish = manager.seen[1]
    assert (wish.url, wish.wait, wish.wishes.batch_size, wish.wishes.workers) == ("y.mar", True, 2, 3)
    for wrong in (b"{", b"[]", b"[" * 100_000):
        response = await call(protocol, "POST", "/models", wrong, headers=json_type)
        assert (response.status, parsed(response)["type"]) == (400, "BadRequestException")


async def test_texts_and_defaults_of_scaling(manager):
    protocol = _protocol(manager)
    assert await _status(protocol, "PUT", "/models/a") == (202, "Processing worker updates...")
    assert await _status(protocol, "PUT", "/models/a/1.0", "min_worker=2&max_worker=5&synchronous=true") == (
        200,
        "Workers scaled to 2 for model: a, version: 1.0",
    )
    await call(protocol, "PUT", "/models/a", query="min_worker=nan&max_worker=3&number_gpu=-1&timeout=0")
    assert manager.seen == [("a", None, 1, 1, False), ("a", "1.0", 2, 5, True), ("a", None, 1, 3, False)]


async def test_what_changes_the_set_of_models_is_off_unless_switched_on(manager):
    own_port = _protocol(manager, enabled=False)
    shared_port = _protocol(manager, enabled=False, may_scale=False)
    for protocol in (own_port, shared_port):
        for method, path in (("POST", "/models"), ("DELETE", "/models/a"), ("DELETE", "/models/a/1.0")):
            response = await call(protocol, method, path, query="url=x.mar")
            assert (response.status, parsed(response)["type"]) == (405, "MethodNotAllowedException")
            assert "Requested method is not allowed" in parsed(response)["message"]
        assert (await call(protocol, "GET", "/models")).status == 200
    for method, path in (("PUT", "/models/a"), ("PUT", "/models/a/1.0/set-default")):
        assert (await call(own_port, method, path)).status in (200, 202)
        assert (await call(shared_port, method, path)).status == 405
    assert len(manager.seen) == 2
    assert ModelControlOff().message == "Model API disabled"


async def test_pages_of_the_list(manager):
    protocol = _protocol(manager)

    async def page(query):
        answer = parsed(await call(protocol, "GET", "/models", query=query))
        return [model["modelName"] for model in answer["models"]], answer.get("nextPageToken")

    assert await page("") == (["a", "b", "c"], None)
    assert await page("limit=2") == (["a", "b"], "2")
    assert await page("limit=2&next_page_token=2") == (["c"], None)
    assert await page("limit=0") == ([], "0")
    assert await page("limit=abc&next_page_token=-4") == (["a", "b", "c"], None)
    assert await page("limit=101") == (["a", "b", "c"], None)
    assert await page("next_page_token=999") == ([], None)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 405),
        ("GET", "/nope", 404),
        ("GET", "/models/a/1.0/set-default", 404),
        ("GET", "/models/a/1.0/2.0/3.0", 404),
        ("PATCH", "/models/a", 405),
        ("PUT", "/models", 405),
        ("POST", "/workflows", 404),
        ("OPTIONS", "/models/nope", 404),
    ],
)
async def test_other_paths_and_methods(manager, method, path, status):
    assert (await call(_protocol(manager), method, path)).status == status


@pytest.mark.parametrize("name", ["url", "model_name", "handler", "runtime"])
@pytest.mark.parametrize("text", ["a\nb", "a\0", "\ud800"])
async def test_texts_that_no_answer_could_carry_are_refused(manager, name, text):
    """A name with half of a character would break every later answer that lists it."""
    body = json.dumps({"url": "x.mar", name: text}).encode()
    response = await call(
        _protocol(manager), "POST", "/models", body, headers=[("Content-Type", "application/json")]
    )
    assert response.status == 400
    assert parsed(response)["message"].startswith(name)
    assert manager.seen == []


_NAMES = ("url", "model_name", "batch_size", "initial_workers", "max_batch_delay", "synchronous", "other")
_VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text()))


@given(st.dictionaries(st.sampled_from(_NAMES), _VALUES))
def test_any_parameters_are_read_or_refused(values):
    try:
        found = register_parameters(values)
    except InvalidInput:
        return
    assert found.batch_size is None or isinstance(found.batch_size, int)
    assert found.model_name.encode("utf-8").decode("utf-8") == found.model_name


def test_numbers_and_truth_as_java_reads_them():
    assert [read_int(text) for text in ("7", "-1", "+5", "1.5", "", None, True, 2**31, [1])] == [
        7,
        -1,
        5,
        *[None] * 6,
    ]
    assert [read_bool(text, False) for text in ("true", "TRUE", "1", "yes", None, True)] == [
        True,
        True,
        False,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("file", "document"),
    [
        ("openapi_management.json", openapi.management_api()),
        ("openapi_model_management.json", openapi.model_management_api("mnist")),
    ],
)
def test_everything_of_torchserves_document_is_in_ours(file, document):
    ours = json.loads(json.dumps(document))
    OpenAPIV30SpecValidator(ours).validate()
    if not (TRANSCRIPTS / file).exists():
        pytest.skip("the transcripts lie beside the repository, not in it")
    theirs = json.loads((TRANSCRIPTS / file).read_text())
    for path, operations in theirs["paths"].items():
        if path == "/metrics":  # has an address of its own
            continue
        for method, operation in operations.items():
            mine = ours["paths"][path][method]
            assert mine["operationId"] == operation["operationId"]
            names = {parameter["name"] for parameter in mine["parameters"]}
            assert {parameter["name"] for parameter in operation["parameters"]} <= names
            # 210 and 408 are statuses that no TorchServe of our day answers.
            assert set(operation["responses"]) - {"202", "210", "408"} <= set(mine["responses"]), path
