"""What docs/kubernetes.md tells people to type: files that exist, and flags that the command has."""

from __future__ import annotations

import re
import shlex

import pytest
from support.manifests import ROOT

from predictor.deploy import command
from predictor.deploy.deploying import wanted

_TEXT = (ROOT / "docs" / "kubernetes.md").read_text()


def _lines():
    joined = _TEXT.replace("\\\n", " ")
    for block in re.findall(r"```sh\n(.*?)```", joined, re.DOTALL):
        yield from (line.partition(" #")[0].strip() for line in block.splitlines() if line.strip())


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"(?:manifests|charts|scripts|model_store)/[\w./-]*\w", _TEXT)))
)
def test_every_file_that_is_named_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w-]+\.yaml)`", _TEXT))))
def test_every_example_that_is_named_exists(name):
    places = (ROOT / "manifests" / "inferenceservices", ROOT)
    assert any((place / name).exists() for place in places)


def test_every_example_is_named():
    for path in (ROOT / "manifests" / "inferenceservices").glob("*.yaml"):
        assert f"`{path.name}`" in _TEXT


def test_every_command_line_is_understood():
    checked = 0
    for line in _lines():
        if not line.startswith(("predictor ", ".venv/bin/predictor ")):
            continue
        # NAME stands for a name, URI for a URI, [...] for what may be left out.
        plain = re.sub(r"\[[^]]*\]|\.\.\.", "", line).replace("NAME", "digits").replace("URI", "s3://b/m")
        words = shlex.split(plain.replace("$R", "registry.example.com/me"))[1:]
        arguments = command._parser().parse_args(words)
        if words[0] == "deploy":
            assert wanted(arguments, "default").name in ("digits", "samples")
        checked += 1
    assert checked >= 5


def test_every_target_of_make_exists():
    makefile = (ROOT / "Makefile").read_text()
    for line in _lines():
        if line.startswith("make "):
            targets = [word for word in shlex.split(line)[1:] if "=" not in word]
            assert all(f"\n{target}:" in makefile for target in targets), line
