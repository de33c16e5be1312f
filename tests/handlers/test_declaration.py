from __future__ import annotations

import pytest

from predictor.handlers.declaration import Signature, parse_specs
from predictor.handlers.inputs import SignatureError
from predictor.ipc.messages import TensorSpec


def test_reading_a_declaration():
    section = [
        {"name": "x", "dtype": "int64", "shape": [-1, 3], "description": "d"},
        {"name": "t", "kind": "text"},
    ]
    assert parse_specs(section, "inputs") == (
        TensorSpec("x", "int64", (-1, 3), "tensor", "d"),
        TensorSpec("t", kind="text"),
    )


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (None, "signature.inputs must be a list"),
        ({"x": 1}, "signature.inputs must be a list"),
        (["x"], r"signature.inputs\[0\]"),
        ([{"dtype": "float32"}], r"signature.inputs\[0\].*name"),
        ([{"name": "x", "shape": "big"}], r"signature.inputs\[0\].*shape"),
        ([{"name": "x", "kind": "sound"}], r"kind must be one of tensor, image, text"),
        ([{"name": "x"}, {"name": "y", "dtype": "float99"}], r"inputs\[1\].dtype: unknown dtype 'float99'"),
        ([{"name": "x", "dtype": "complex64"}], "not numeric"),
        ([{"name": "x", "dtype": "string"}], "dtype"),
    ],
)
def test_a_declaration_that_cannot_be_used_is_named(section, message):
    with pytest.raises(SignatureError, match=message):
        parse_specs(section, "inputs")


def test_an_output_may_be_text():
    assert parse_specs([{"name": "y", "dtype": "string"}], "outputs")[0].dtype == "string"


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        ([{"name": "price"}, {"name": "tax", "shape": [1]}], ("price", "tax")),
        ([{"name": "price"}, {"name": "parts", "shape": [3]}], ()),
        ([{"name": "price"}, {"name": "any", "shape": [-1]}], ()),
        ([{"name": "price"}, {"name": "text", "dtype": "string"}], ()),
        ([{"name": "unknown", "ranked": False}], ()),
    ],
)
def test_names_of_outputs_that_are_single_numbers_are_labels(outputs, labels):
    section = {"inputs": [{"name": "x"}], "outputs": outputs}
    assert Signature(section).labels == labels
    assert Signature({**section, "classes": ["a", "b"]}).labels == ("a", "b")
