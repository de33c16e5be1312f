"""The committed sample models: what is on disk answers as well as its metrics.json says."""

from __future__ import annotations

import ast
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from model_store import training
from model_store.digits import train as digits
from model_store.digits.model import DigitNet
from model_store.docstrings import train as docstrings
from model_store.docstrings.corpus import Example, build
from model_store.docstrings.model import WORDS, TopicNet
from model_store.docstrings.words import encode, load_vocabulary, tokenize
from model_store.wine import train as wine
from model_store.wine.model import WineNet

STORE = Path(training.__file__).parent
MODELS: dict[str, type[nn.Module]] = {"digits": DigitNet, "wine": WineNet, "docstrings": TopicNet}
TOLERANCE = 0.01


def trained(name: str) -> nn.Module:
    """Return a sample model with its committed weights."""
    model = MODELS[name]()
    model.load_state_dict(torch.load(STORE / name / training.WEIGHTS, weights_only=True))
    return model.eval()


def metrics(name: str) -> dict[str, Any]:
    """Return the figures committed with a model."""
    figures: dict[str, Any] = json.loads((STORE / name / training.METRICS).read_text())
    return figures


def config(name: str) -> dict[str, Any]:
    """Return a model's model-config.yaml."""
    read: dict[str, Any] = yaml.safe_load((STORE / name / "model-config.yaml").read_text())
    return read


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    """Tell whether two models have bit-identical parameters and buffers."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


@pytest.mark.parametrize("name", MODELS)
def test_the_folder_is_laid_out_as_an_archive(name: str) -> None:
    folder = STORE / name
    model = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text())["model"]
    assert model["modelName"] == name
    for key in ("modelFile", "serializedFile", "configFile"):
        assert (folder / model[key]).is_file()
    assert model["handler"] == "signature" or (folder / model["handler"]).is_file()
    classes = [
        node for node in ast.parse((folder / "model.py").read_text()).body if isinstance(node, ast.ClassDef)
    ]
    assert len(classes) == 1
    assert (folder / training.WEIGHTS).stat().st_size < 300_000


@pytest.mark.parametrize("name", MODELS)
def test_the_model_takes_and_gives_what_the_signature_says(name: str) -> None:
    signature = config(name)["signature"]
    inputs = signature["inputs"]
    if signature["pack_inputs"]:
        batch = torch.ones(2, len(inputs))
    else:
        batch = torch.ones(2, *inputs[0]["shape"], dtype=getattr(torch, inputs[0]["dtype"]))
    logits = trained(name)(batch)
    assert logits.shape == (2, len(signature["classes"]))
    assert signature["outputs"][0]["shape"] == [len(signature["classes"])]
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", MODELS)
def test_activations_are_modules_used_once_and_not_in_place(name: str) -> None:
    model = trained(name)
    calls: list[nn.Module] = []
    activations = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    for module in activations:
        assert not module.inplace
        module.register_forward_hook(lambda module, *_: calls.append(module))
    signature = config(name)["signature"]
    shape = [len(signature["inputs"])] if signature["pack_inputs"] else signature["inputs"][0]["shape"]
    model(torch.ones(1, *shape, dtype=getattr(torch, signature["inputs"][0]["dtype"])))
    assert calls == activations


def test_digits_held_out_accuracy_is_as_stated() -> None:
    measured = training.accuracy(trained("digits"), *digits.held_out())
    assert measured >= metrics("digits")["accuracy"] - TOLERANCE
    assert metrics("digits")["accuracy"] > 0.95


def test_wine_held_out_accuracy_is_as_stated() -> None:
    measured = training.accuracy(trained("wine"), *wine.held_out())
    assert measured >= metrics("wine")["accuracy"] - TOLERANCE
    assert metrics("wine")["accuracy"] > 0.95


def test_docstrings_sample_accuracy_is_as_stated() -> None:
    pairs = json.loads((STORE / "docstrings" / "held_out_sample.json").read_text())
    sample = [Example(pair["text"], pair["topic"], "", 0) for pair in pairs]
    assert len(sample) == docstrings.SAMPLE
    measured = training.accuracy(trained("docstrings"), *docstrings.tensors(sample, load_vocabulary()))
    assert measured >= metrics("docstrings")["sample_accuracy"] - TOLERANCE


def test_docstrings_held_out_accuracy_is_as_stated() -> None:
    stated = metrics("docstrings")
    minor = ".".join(stated["versions"]["python"].split(".")[:2])
    if minor != "{}.{}".format(*sys.version_info):
        pytest.skip(f"the corpus is Python {minor}'s; the committed sample is checked instead")
    _, unseen = docstrings.split(build(), "docstring", 0)
    measured = training.accuracy(trained("docstrings"), *docstrings.tensors(unseen, load_vocabulary()))
    assert measured >= stated["accuracy"] - TOLERANCE
    assert stated["accuracy"] > stated["majority_baseline"] + 0.3


def test_docstrings_splits_keep_docstrings_and_modules_whole() -> None:
    examples = build()
    for key in ("docstring", "module"):
        parts = [docstrings.split(examples, key, part) for part in range(docstrings.PARTS)]
        assert sum(len(unseen) for _, unseen in parts) == len(examples)
        for seen, unseen in parts:
            assert not {getattr(e, key) for e in seen} & {getattr(e, key) for e in unseen}


def test_docstrings_topics_are_the_signatures_classes() -> None:
    assert config("docstrings")["signature"]["classes"] == docstrings.LABELS


def test_wine_example_is_named_as_the_signature_and_answered_rightly() -> None:
    example = json.loads((STORE / "wine" / "examples" / "wine.json").read_text())
    assert list(example) == [item["name"] for item in config("wine")["signature"]["inputs"]]
    answer = trained("wine")(torch.tensor([list(example.values())])).argmax(1)
    assert answer.item() == wine.held_out()[1][0]


def test_docstrings_example_is_answered_rightly() -> None:
    text = (STORE / "docstrings" / "examples" / "sentence.txt").read_text()
    answer = trained("docstrings")(encode(text, load_vocabulary())[None]).argmax(1)
    assert docstrings.LABELS[int(answer)] == "concurrency"


def test_tokenize_gives_lower_case_words_and_where_they_stand() -> None:
    text = "Ünlock the read_file, don't İ Wait"
    words = tokenize(text)
    assert [word for word, _, _ in words] == ["nlock", "the", "read", "file", "don", "t", "wait"]
    assert all(text[start:end].lower() == word for word, start, end in words)


@pytest.mark.parametrize("text", ["", "42 -- ?!", "日本語", "xyzzy", "the " * 1000])
def test_any_text_is_encoded_and_answered(text: str) -> None:
    ids = encode(text, load_vocabulary())
    assert ids.shape == (128,)
    assert ids.dtype == torch.int64
    assert 0 <= int(ids.min()) <= int(ids.max()) < WORDS
    assert trained("docstrings")(ids[None]).isfinite().all()


def test_padding_does_not_change_the_answer() -> None:
    ids = encode("Open a file and read its bytes.", load_vocabulary())
    short, padded = trained("docstrings")(ids[None, :7]), trained("docstrings")(ids[None])
    assert torch.allclose(short, padded, atol=1e-6)


def test_first_steps_of_training_are_reproducible() -> None:
    assert same_weights(digits.train(epochs=1, count=128), digits.train(epochs=1, count=128))
    ids, labels = torch.randint(0, WORDS, (200, 128)), torch.randint(0, 4, (200,))
    assert same_weights(docstrings.train(ids, labels, epochs=1), docstrings.train(ids, labels, epochs=1))
    features, cultivars = wine.load()
    assert same_weights(wine.train(features, cultivars, steps=20), wine.train(features, cultivars, steps=20))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MODELS)
def test_a_full_training_repeats_bit_for_bit(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = {"digits": digits, "wine": wine, "docstrings": docstrings}[name]
    for run in ("first", "second"):
        monkeypatch.setattr(sys, "argv", ["train", "--out", str(tmp_path / run)])
        script.main()
    first, second = (tmp_path / run / training.WEIGHTS for run in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    figures = json.loads((tmp_path / "first" / training.METRICS).read_text())
    assert math.isclose(figures["accuracy"], metrics(name)["accuracy"], abs_tol=0.03)
