"""V1's instances that are objects, explained as `:predict` takes them; the handlers declare no inputs."""

from __future__ import annotations

import base64
import json

import pytest
from runtime_fakes import V1, make_service, request, run

from predictor.ipc.messages import Verb


def rent(data, context):
    """Answer a number from the columns of each row, wherever they are."""
    answers = []
    for row in data:
        columns = row if isinstance(row.get("data"), (int, float, type(None))) else row["data"]
        answers.append(sum(weight * columns.get(name, 0) for name, weight in WEIGHTS.items()))
    return answers


WEIGHTS = {"rooms": 100.0, "area": 2.0, "target": -5.0, "data": 7.0}


def explain(handle, instances, **wishes):
    document = {"instances": instances, "explain": wishes}
    (answer,) = run(make_service(handle), request(json.dumps(document), V1, verb=Verb.EXPLAIN))
    return answer


def shares(answer, index=0):
    assert answer.status == 200, answer.message
    found = json.loads(answer.body)["explanations"][index]
    return {item["name"]: item["attribution"] for item in found["features"]}


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: {"data": one}], ids=["bare", "wrapped"])
def test_an_object_is_explained_bare_and_wrapped(wrap):
    answer = explain(rent, [wrap({"rooms": 3, "area": 50}), wrap({"area": 20, "rooms": 1})])
    assert shares(answer) == pytest.approx({"rooms": 300, "area": 100})
    assert shares(answer, 1) == pytest.approx({"area": 40, "rooms": 100})


def test_an_instance_may_bring_its_own_wish():
    (answer,) = run(
        make_service(rent),
        request(
            json.dumps({"instances": [{"rooms": 3, "explain": {"method": "shapley_exact"}}]}),
            V1,
            verb=Verb.EXPLAIN,
        ),
    )
    assert shares(answer) == pytest.approx({"rooms": 300})
    assert json.loads(answer.body)["explanations"][0]["method"] == "shapley_exact"


@pytest.mark.parametrize("instance", [{"data": 3, "rooms": 1}, {"rooms": 1, "data": 3.0}])
def test_one_of_several_numbers_may_be_called_data(instance):
    assert shares(explain(rent, [instance])) == pytest.approx({"data": 21, "rooms": 100})


@pytest.mark.parametrize(
    ("instance", "field"),
    [
        ({"rooms": 3, "target": 0}, "target may be"),
        ({"data": {"rooms": 3, "target": 0}}, "data.target may be"),
    ],
)
def test_a_target_among_the_values_is_ambiguous(instance, field):
    answer = explain(rent, [instance])
    assert (answer.status, answer.message[: len(field)]) == (400, field)
    assert "explain.target" in answer.message
    assert shares(explain(rent, [instance], target=0)) == {"rooms": 300, "target": 0}


def test_a_target_among_the_values_counts_where_the_output_is_named():
    assert shares(explain(rent, [{"rooms": 3, "target": 2}], target="predicted")) == {
        "rooms": 300,
        "target": -10,
    }
    wrapped = {"data": {"rooms": 3, "target": 2}, "target": 0}
    assert shares(explain(rent, [wrapped])) == {"rooms": 300, "target": -10}
    answer = explain(rent, [{"data": {"rooms": 3}, "target": 1}])
    assert (answer.status, answer.message) == (400, "target must be from 0 to 0; got 1")


def test_the_only_text_of_an_object_is_taken_apart():
    answer = explain(lambda data, context: [len(row["review"]) for row in data], [{"review": "no good"}])
    assert answer.status == 200, answer.message
    (part,) = json.loads(answer.body)["explanations"][0]["inputs"]
    assert (part["name"], part["words"]) == ("review", ["no", "good"])
    assert part["importances"] == [3, 5]


def test_what_is_neither_numbers_nor_one_text_is_refused_by_name():
    answer = explain(lambda data, context: [1.0] * len(data), [{"title": "no", "stars": 3}])
    assert answer.status == 400
    assert "'title' is no number" in answer.message


@pytest.mark.parametrize(
    "instance",
    [
        {"datatype": "FP32", "shape": ["a", "b"], "data": [1]},
        {"datatype": "FP32", "shape": [None, 2], "data": [1, 2]},
        {"datatype": 3, "shape": [1, 2], "data": [1]},
    ],
)
def test_keys_that_tensors_of_v2_have_may_stand_for_anything(instance):
    answer = explain(lambda data, context: [float(sum(row["data"])) for row in data], [instance])
    assert answer.status == 200, answer.message
    (part,) = json.loads(answer.body)["explanations"][0]["inputs"]
    assert part["attributions"] == [float(number) for number in instance["data"]]


@pytest.mark.parametrize("data", [5, "", [], {}])
def test_what_only_looks_like_a_tensor_of_v2_is_read_as_it_is(data):
    instance = {"datatype": "FP32", "shape": [1, 2], "data": data}
    answer = explain(lambda data, context: [1.0] * len(data), [instance])
    assert answer.status == 400, answer.message


@pytest.mark.parametrize(
    "instance",
    [{"data": {"id": 2**62 + 1, "rate": 0.1}}, {"data": [2**63 - 1, 3]}, {"data": [[0.1], [123456789.5]]}],
)
def test_what_a_variant_leaves_is_what_the_client_wrote(instance):
    seen = []

    def handle(data, context):
        seen.extend(row["data"] for row in data)
        return [1.0] * len(data)

    assert explain(handle, [instance]).status == 200
    whole, *variants = seen
    assert whole == instance["data"]
    assert variants.count(whole) >= 1, "the input itself is asked about once more, beside its variants"
    written = [numbers(variant) for variant in variants]
    assert all(given in (now, 0) for one in written for given, now in zip(one, numbers(whole), strict=True))


@pytest.mark.parametrize("value", ["no good", {"b64": base64.b64encode(b"no good").decode()}])
@pytest.mark.parametrize("wrap", [lambda value: {"review": value}, lambda value: {"data": value}])
def test_variants_are_of_the_type_that_the_whole_has(value, wrap):
    seen = []

    def handle(data, context):
        seen.extend(next(item for name, item in row.items() if name != "explain") for row in data)
        return [1.0] * len(data)

    assert explain(handle, [wrap(value)]).status == 200
    assert len(seen) > 2
    assert {type(item) for item in seen} == {str if isinstance(value, str) else bytes}


def numbers(payload):
    """Return the numbers of an object, or of nested lists, in their order."""
    if isinstance(payload, (dict, list)):
        values = payload.values() if isinstance(payload, dict) else payload
        return [number for value in values for number in numbers(value)]
    return [payload]


@pytest.mark.parametrize("data", [[1e300], [[3.5e38]], 1e300])
def test_numbers_that_no_float32_holds_are_refused(data):
    answer = explain(lambda data, context: [1.0] * len(data), [{"data": data}])
    assert answer.status == 400
    assert "nor numbers of a float32" in answer.message


def test_a_forms_target_is_the_output_whatever_its_input_is_called():
    form = "".join(
        f'--X\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (("review", "no good"), ("target", "b"), ("explain", "{}"))
    )
    service = make_service(lambda data, context: [{"a": 0.0, "b": 1.0 * len(row["review"])} for row in data])
    body = request(f"{form}--X--\r\n", content_type="multipart/form-data; boundary=X", verb=Verb.EXPLAIN)
    (answer,) = run(service, body)
    assert answer.status == 200, answer.message
    found = json.loads(answer.body)
    assert found["target"] == {"index": 1, "label": "b"}
    assert found["inputs"][0]["importances"] == [3, 5]


def test_the_wish_of_an_instance_may_be_a_text():
    document = {"instances": [{"rooms": 3, "target": 2, "explain": json.dumps({"target": 0})}]}
    (answer,) = run(make_service(rent), request(json.dumps(document), V1, verb=Verb.EXPLAIN))
    assert shares(answer) == {"rooms": 300, "target": -10}


@pytest.mark.parametrize("field", ["instances", "inputs"])
def test_the_row_that_is_refused_is_named_as_the_client_called_the_rows(field):
    document = {field: [{"rooms": 1}, {"title": "no", "stars": 3}], "explain": {}}
    (answer,) = run(make_service(rent), request(json.dumps(document), V1, verb=Verb.EXPLAIN))
    assert answer.status == 400
    assert answer.message.startswith(f"{field}[1]: ")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ('"\\ud800 a"', "The input"),
        ('{"x": "\\ud800 a"}', "Input 'x'"),
        ('{"\\ud800": 1}', "The name of an input"),
        ('{"\\ud800": "a b"}', "The name of an input"),
    ],
)
def test_half_a_surrogate_pair_is_refused(data, what):
    """TorchServe's JSON may hold some, an answer may not."""
    body = request(f'{{"data": {data}, "explain": {{}}}}', content_type="application/json", verb=Verb.EXPLAIN)
    (answer,) = run(make_service(lambda data, context: [1.0] * len(data)), body)
    assert (answer.status, answer.message) == (
        400,
        f"{what} holds half of a surrogate pair, which is no character",
    )
