from __future__ import annotations

import pytest
import torch
from ts.handler_utils.text_utils import get_tokenizer, ngrams_iterator
from ts.torch_handler.contractions import CONTRACTION_MAP, expand_contractions
from ts.torch_handler.text_classifier import TextClassifier

MODEL = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.EmbeddingBag(9, 4)
        self.out = torch.nn.Linear(4, 2)

    def forward(self, text, offsets):
        return self.out(self.embedding(text, offsets))
"""


@pytest.fixture
def handler(tmp_path, context):
    (tmp_path / "model.py").write_text(MODEL)
    words = ["i", "would", "go", "i would", "would go", "there"]
    torch.save({word: index for index, word in enumerate(words)}, tmp_path / "source_vocab.pt")
    made = TextClassifier()
    made.initialize(context(modelFile="model.py"))
    made.mapping = {"0": "no", "1": "yes"}
    return made


def test_a_text_is_cleaned_and_looked_up(handler):
    indices, tokens = handler.preprocess([{"data": b"<b>I'd</b> g\xc3\xb3!"}])
    assert tokens == ["i", "would", "go"]
    assert indices.tolist() == [0, 1, 2, 3, 4]


def test_answers_have_labels(handler, context):
    (answer,) = handler.handle([{"body": "I'd go"}], context())
    assert set(answer) == {"no", "yes"}
    assert sum(answer.values()) == pytest.approx(1)


def test_insights(handler, context):
    pytest.importorskip("captum")
    (answer,) = handler.handle([{"data": "I'd go", "target": 1}], context(headers=({"explain": "True"},)))
    assert answer["words"] == ["i", "would", "go"]
    assert torch.tensor(answer["importances"]).shape == (1, 4) or len(answer["importances"]) == 5


def test_a_vocabulary_is_needed(tmp_path, context):
    (tmp_path / "model.py").write_text(MODEL)
    with pytest.raises(Exception, match="source_vocab"):
        TextClassifier().initialize(context(modelFile="model.py"))


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("I'd don't", "I would do not"),
        ("SHE'D can't", "She would cannot"),
        ("can't've", "cannotve"),
        ("y'all'd o'clock", "you alld of the clock"),
        ("the dog's bone", "the dogs bone"),
        ("won't sha'n't let's", "will not shall not let us"),
    ],
)
def test_contractions(text, expanded):
    assert expand_contractions(text) == expanded


def test_every_contraction_has_an_expansion_of_words():
    assert len(CONTRACTION_MAP) > 80
    assert all("'" in short and "'" not in full for short, full in CONTRACTION_MAP.items())


def test_tokenizers():
    text = 'It\'s "a" test; so: (yes)... <br />OK?'
    basic = ["it", "'", "s", "a", "test", "so", "(", "yes", ")", ".", ".", ".", "ok", "?"]
    assert get_tokenizer("basic_english")(text) == basic
    assert get_tokenizer(None)("a  B\tc") == ["a", "B", "c"]
    assert get_tokenizer(list)("ab") == ["a", "b"]
    for arguments in (("spacy",), ("basic_english", "de")):
        with pytest.raises(ValueError, match="tokenizer"):
            get_tokenizer(*arguments)


def test_ngrams():
    assert list(ngrams_iterator(["a", "b", "c"], 3)) == ["a", "b", "c", "a b", "b c", "a b c"]
    assert list(ngrams_iterator([], 2)) == []
