"""Texts to models that take tokens, through `gpux.yml` and a tokenizer in the model's folder."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
import yaml

from predictor.errors import InvalidInput, PredictorError
from predictor.handlers.context import Context
from predictor.handlers.inputs import SignatureError
from predictor.handlers.signature import SignatureHandler
from predictor.handlers.tensors import Table, Tensor

tokenizers = pytest.importorskip("tokenizers", reason="predictor[text] is not installed")

WORDS = ["[PAD]", "[UNK]", "i", "love", "this", "product"]
TOKENS = [{"name": name, "type": "int64", "shape": [1, 4]} for name in ("input_ids", "attention_mask")]
# Answers the tokens themselves and how many there are, so that a test sees what the model was given.
_TOKENS = """
import torch
class Net(torch.nn.Module):
    def forward(self, input_ids, attention_mask):
        return input_ids.float(), attention_mask.sum(1).float()
"""
_TEXT = """
import torch
class Net(torch.nn.Module):
    def forward(self, text):
        return text.float(), (text > 0).sum(1).float()
"""
OUTPUTS = [
    {"name": "ids", "type": "float32", "shape": [1, -1]},
    {"name": "count", "type": "float32", "shape": [1]},
]


def _write(folder, inputs=TOKENS, code=_TOKENS, brings_tokenizer=True, **preprocessing):
    (folder / "model.py").write_text(code)
    torch.save({}, folder / "model.pt")
    document = {"inputs": inputs, "outputs": OUTPUTS}
    if preprocessing:
        document["preprocessing"] = preprocessing
    (folder / "gpux.yml").write_text(yaml.safe_dump(document))
    if brings_tokenizer:
        vocabulary = tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]")
        made = tokenizers.Tokenizer(vocabulary)
        made.normalizer = tokenizers.normalizers.Lowercase()
        made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        made.save(str(folder / "tokenizer.json"))


def _load(folder):
    manifest = {"model": {"modelFile": "model.py", "serializedFile": "model.pt"}}
    handler = SignatureHandler()
    handler.initialize(Context("m", str(folder), manifest, 8, None, model_yaml_config={}))
    return handler


def _handler(folder, inputs=TOKENS, code=_TOKENS, **preprocessing):
    _write(folder, inputs, code, **{"tokenizer": "bert-base-uncased", **preprocessing})
    return _load(folder)


LOVE = {"ids": [2, 3, 4, 5], "count": 4}


@pytest.mark.parametrize(
    "row",
    [
        {"text": "I love this product"},
        {"data": "I love this product"},
        {"body": bytearray(b"I love this product")},
        {"body": bytearray(b' {"text": "I love this product"}')},
        {"data": {"text": "I love this product"}},
        {"input_ids": [2, 3, 4, 5], "attention_mask": [1, 1, 1, 1]},
        {"body": b'{"input_ids": [2, 3, 4, 5], "attention_mask": [1, 1, 1, 1]}'},
    ],
    ids=str,
)
def test_a_text_or_its_tokens(tmp_path, row):
    assert _handler(tmp_path).handle([row], None) == [LOVE]


def test_texts_are_filled_up_and_cut_to_the_declared_length(tmp_path):
    rows = [{"text": "love"}, {"text": "i i i i i i"}, {"text": ""}, {"text": "\U0001f600"}]
    answers = _handler(tmp_path).handle(rows, None)
    assert answers == [
        {"ids": [3, 0, 0, 0], "count": 1},
        {"ids": [2, 2, 2, 2], "count": 4},
        {"ids": [0, 0, 0, 0], "count": 0},
        {"ids": [1, 0, 0, 0], "count": 1},
    ]


def test_max_length_and_rows_of_any_length(tmp_path):
    inputs = [{"name": name, "type": "int64", "shape": [1, -1]} for name in ("input_ids", "attention_mask")]
    answers = _handler(tmp_path, inputs, max_length=2).handle([{"text": "i love this"}, {"text": "i"}], None)
    assert answers == [{"ids": [2, 3], "count": 2}, {"ids": [2], "count": 1}]


def test_named_inputs_are_split_by_the_text(tmp_path):
    handler = _handler(tmp_path)
    assert "'text' in place of its tokens" in handler.info().description
    signature = handler.signature
    assert signature.split({"text": "a"}) == ([{"text": "a"}], True)
    assert signature.split({"text": ["a", "b"]}) == ([{"text": "a"}, {"text": "b"}], False)
    for wrong in ({"text": ["a"], "input_ids": [1]}, {"text": 5}, {"text": []}):
        with pytest.raises(InvalidInput):
            signature.split(wrong)


def _table(**tensors):
    return Table((name, Tensor(name, datatype, array)) for name, (datatype, array) in tensors.items())


@pytest.mark.parametrize("name", ["text", "anything"])
@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_tensors_of_texts(tmp_path, name, shape):
    handler = _handler(tmp_path)
    texts = np.array([b"i love", "this"], dtype=object).reshape(shape)
    (answer,) = handler.handle([_table(**{name: ("BYTES", texts)})], Context("m", "/m", {}, 8, None))
    assert answer["ids"].array.tolist() == [[2, 3, 0, 0], [4, 0, 0, 0]]
    ids = np.array([[2, 3, 4, 5]])
    tokens = _table(input_ids=("INT64", ids), attention_mask=("INT64", np.ones_like(ids)))
    (answer,) = handler.handle([tokens], Context("m", "/m", {}, 8, None))
    assert answer["ids"].array.tolist() == ids.tolist()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": 5}, "Invalid input type for 'text': expected string"),
        ({"text": "a", "input_ids": [1, 2, 3, 4]}, "Unknown input: 'input_ids'"),
        ({"text": b"\xff"}, "not UTF-8"),
        ({"input_ids": [1, 2, 3, 4]}, "Missing required input: 'attention_mask'"),
    ],
)
def test_rows_that_are_wrong(tmp_path, row, message):
    (answer,) = _handler(tmp_path).handle([row], None)
    assert isinstance(answer, PredictorError)
    assert message in answer.message


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (("FP32", np.zeros(2, np.float32)), "is a text: BYTES of shape"),
        (("BYTES", np.array([["a", "b"]], dtype=object)), "is a text: BYTES of shape"),
        (("BYTES", np.array([], dtype=object)), "is empty"),
        (("BYTES", np.array([b"\xff"], dtype=object)), "not UTF-8"),
    ],
)
def test_tensors_that_are_wrong(tmp_path, tensor, message):
    (answer,) = _handler(tmp_path).handle([_table(text=tensor)], Context("m", "/m", {}, 8, None))
    assert isinstance(answer, InvalidInput)
    assert message in answer.message


def test_a_declared_text_that_the_model_takes_as_one_tensor(tmp_path):
    handler = _handler(tmp_path, [{"name": "text", "type": "string"}], _TEXT)
    assert handler.handle([{"text": "I love"}, {"text": "this"}], None) == [
        {"ids": [2, 3], "count": 2},
        {"ids": [4], "count": 1},
    ]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_declared_text_before_a_file_that_takes_tokens(tmp_path):
    class Net(torch.nn.Module):
        def forward(self, input_ids, attention_mask):
            return input_ids.float(), attention_mask.sum(1).float()

    _write(tmp_path, [{"name": "review", "type": "string"}], tokenizer="./tokenizer.json")
    torch.jit.script(Net()).save(str(tmp_path / "net.pt"))
    handler = SignatureHandler()
    manifest = {"model": {"serializedFile": "net.pt"}}
    handler.initialize(Context("m", str(tmp_path), manifest, 8, None, model_yaml_config={}))
    assert handler.signature.text == "review"
    assert handler.handle([{"review": "I love"}], None) == [{"ids": [2, 3], "count": 2}]


def test_a_tokenizers_own_padding_is_kept(tmp_path):
    _write(tmp_path, tokenizer="any")
    document = json.loads((tmp_path / "tokenizer.json").read_text())
    document["padding"] = {
        "strategy": "BatchLongest",
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 5,
        "pad_type_id": 0,
        "pad_token": "product",
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    assert _load(tmp_path).handle([{"text": "i"}], None) == [{"ids": [2, 5, 5, 5], "count": 1}]


def test_nothing_is_downloaded(tmp_path):
    _write(tmp_path, brings_tokenizer=False, tokenizer="bert-base-uncased")
    with pytest.raises(SignatureError, match="'bert-base-uncased'.* has no tokenizer.json.* nothing"):
        _load(tmp_path)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [("{}", "x", "tokenizer.json is not a tokenizer"), (None, "../../etc/passwd", "has no tokenizer.json")],
)
def test_files_that_are_no_tokenizer(tmp_path, content, name, message):
    folder = tmp_path / "m"
    folder.mkdir()
    _write(folder, brings_tokenizer=False, tokenizer=name)
    if content is not None:
        (folder / "tokenizer.json").write_text(content)
    with pytest.raises(SignatureError, match=message):
        _load(folder)


def test_a_missing_library_is_said_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(SignatureError, match="pip install tokenizers"):
        _handler(tmp_path)


def test_no_input_that_takes_a_text(tmp_path):
    with pytest.raises(SignatureError, match="no input is a text, or called input_ids"):
        _handler(tmp_path, [{"name": "x", "type": "float32", "shape": [1, 4]}])
