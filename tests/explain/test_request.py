from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.errors import InvalidInput
from predictor.explain.methods import METHODS, find_method
from predictor.explain.request import ExplainRequest, ImageStyle, check_target, parse_request
from predictor.explain.wishes import read_undeclared

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = [
    "method",
    "target",
    "top_k_targets",
    "baseline",
    "output",
    "args",
    "return",
    "reduce",
    "top_k",
    "seed",
]


def test_defaults():
    request = parse_request({})
    assert request == ExplainRequest(
        METHODS["integrated_gradients"], METHODS["integrated_gradients"].arguments({})
    )
    assert request.args["n_steps"] == "auto"


def test_everything():
    request = parse_request(
        {
            "method": "saliency",
            "target": "cat",
            "top_k_targets": 2,
            "baseline": {"alcohol": 13},
            "output": "probability",
            "args": {"abs": False, "noise_samples": 3},
            "return": ["image", "prediction"],
            "reduce": "none",
            "top_k": 3,
            "seed": 4,
            "image": {"style": "heatmap", "sign": "positive", "alpha": 1, "clip_percentile": 90, "size": 0},
            "metrics": ["infidelity"],
        }
    )
    assert request.args == {
        "abs": False,
        "precision": "float32",
        "noise_samples": 3,
        "noise_stdev": 0.1,
        "noise_type": "smoothgrad",
    }
    assert request.returns == ("image", "prediction")
    assert request.image == ImageStyle("heatmap", "positive", 1.0, 90.0, 0)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "'explain' must be an object"),
        ({"methd": 1}, "explain.methd is unknown; allowed are method, args, target"),
        ({"n_steps": 16}, "(arguments of the method go into explain.args)"),
        ({"method": "lrp"}, "explain.method must be one of integrated_gradients, saliency"),
        ({"method": ["saliency"]}, "explain.method must be one of"),
        ({"target": 1.5}, "explain.target must be a class index, a label or 'predicted'; got 1.5"),
        ({"target": True}, "explain.target must be"),
        ({"target": None}, "explain.target must be"),
        ({"top_k_targets": 0}, "explain.top_k_targets must be a whole number from 1 to 20"),
        ({"output": "logits"}, "explain.output must be one of logit, probability"),
        ({"args": 3}, "explain.args must be an object"),
        (
            {"args": {"steps": 3}},
            "explain.args.steps is unknown; integrated_gradients takes: n_steps, tolerance",
        ),
        (
            {"args": {"n_steps": "many"}},
            "explain.args.n_steps must be 'auto' or a whole number from 1 to 1000",
        ),
        ({"args": {"n_steps": 1e9}}, "explain.args.n_steps must be"),
        ({"args": {"n_steps": 10**9}}, "explain.args.n_steps must be"),
        ({"args": {"n_steps": True}}, "explain.args.n_steps must be"),
        ({"args": {"tolerance": float("nan")}}, "explain.args.tolerance must be a number from 1e-06 to 1"),
        ({"args": {"method": "riemann_trapezoid"}}, "explain.args.method is unknown"),
        ({"method": "saliency", "args": {"abs": 1}}, "explain.args.abs must be true or false; got 1"),
        ({"method": "grad_cam", "args": {"layer": 3}}, "explain.args.layer must be a text"),
        ({"method": "grad_cam", "args": {"interpolate": "area"}}, "'bilinear' or 'nearest'"),
        ({"return": "image"}, "explain.return must be a list of attributions, prediction"),
        ({"return": ["images"]}, "explain.return must be one of attributions"),
        ({"reduce": "sum"}, "explain.reduce must be one of none, channel_sum"),
        ({"seed": -1}, "explain.seed must be a whole number from 0"),
        ({"image": 1}, "explain.image must be an object"),
        ({"image": {"colour": 1}}, "explain.image.colour is unknown; allowed are style, sign, alpha"),
        ({"image": {"alpha": 2}}, "explain.image.alpha must be a number from 0 to 1"),
        ({"metrics": ["speed"]}, "explain.metrics must be one of infidelity, sensitivity"),
    ],
)
def test_bad_values_are_named_with_those_that_are_allowed(document, message):
    with pytest.raises(InvalidInput) as error:
        parse_request(document)
    assert message.replace("; got 1", ", got 1") in error.value.message.replace("; got 1", ", got 1")


@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), JSON, max_size=4))
def test_whatever_comes_is_parsed_or_refused(document):
    try:
        request = parse_request(document)
    except InvalidInput:
        return
    assert request.method.name in METHODS


def test_targets_of_forms():
    assert check_target("target", bytearray(b" 3\n")) == "3"
    assert check_target("target", 3) == 3


def test_every_method_describes_itself():
    for name in METHODS:
        described = find_method(name).describe(13)
        assert described["cost"]["forward_rows"] >= 1
        assert described["summary"].endswith(".")
        for parameter in described["parameters"]:
            find_method(name).arguments(
                {parameter["name"]: parameter["default"]} if parameter["default"] else {}
            )


_VALUES = st.one_of(st.none(), st.integers(-9, 9), st.text(max_size=4), st.lists(st.integers(), max_size=2))
_NAMES = st.sampled_from(["data", "body", "explain", "target", "rooms", "area"])
_ROWS = st.dictionaries(_NAMES, _VALUES | st.dictionaries(_NAMES, _VALUES, max_size=3), max_size=4)


@given(_ROWS)
def test_of_a_row_only_wishes_are_taken(row):
    """Whatever a handler without declared inputs is sent: nothing but `explain` and `target` gets lost."""
    before = copy.deepcopy(row)
    try:
        wish = read_undeclared(row, "")
    except InvalidInput:
        return
    assert row == before, "the row is the handler's"
    values = dict(wish.row)
    for name, value in values.items():
        given = row.get(name)
        if isinstance(given, dict) and isinstance(value, dict):
            assert {key: given[key] for key in value} == value
            assert set(given) - set(value) <= {"explain", "target"}
    if not isinstance(row.get("body"), dict):
        assert set(row) - set(values) <= {"explain", "target"}
        assert "target" not in values or "target" in (row.get("explain") or {})
