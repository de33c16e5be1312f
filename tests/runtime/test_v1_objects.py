"""V1's instances that are objects, explained as `:predict` takes them; the handlers declare no inputs."""

from __future__ import annotations

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
