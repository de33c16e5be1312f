from __future__ import annotations

import sys
from pathlib import Path

import pytest
from runtime_fakes import make_context

import predictor
from predictor.handlers.signature import SignatureHandler
from predictor.runtime import loader
from predictor.runtime.loader import HandlerError, load_handler, wrap_in_envelope

_CLASS = """
class Model:
    def initialize(self, context):
        self.context = context
    def handle(self, data, context):
        return ["class", len(data)]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model's folder, importable as it is in a worker; modules of this test are forgotten."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(Path(predictor.__file__).parent / "compat"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        if not name.startswith(("ts", "torch", "numpy")):
            del sys.modules[name]


def _load(folder, handler, source="", file="my_handler.py"):
    if source:
        path = folder / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    return load_handler(handler, make_context(folder))


@pytest.mark.parametrize("name", ["my_handler", "my_handler.py", "some/where/my_handler.py"])
def test_a_class(folder, name):
    loaded = _load(folder, name, _CLASS)
    assert loaded.entry_point([1, 2], None) == ["class", 2]
    assert loaded.instance.context.model_name == "m"
    assert loaded.name == name


def test_a_function(folder):
    source = "seen = []\ndef handle(data, context):\n    seen.append(data)\n    return data\n"
    loaded = _load(folder, "my_handler", source)
    assert sys.modules["my_handler"].seen == [None], "called once at load, without data"
    assert loaded.entry_point([1], None) == [1]
    assert loaded.instance is None


def test_a_named_function_beats_the_class(folder):
    source = _CLASS + "def other(data, context):\n    return 'other'\n"
    assert _load(folder, "my_handler:other", source).entry_point([], None) == "other"


def test_a_package(folder):
    assert _load(folder, "pack", _CLASS, "pack/__init__.py").entry_point([], None) == ["class", 0]


def test_imported_classes_do_not_count(folder):
    source = "from collections import OrderedDict\nfrom pathlib import Path\n" + _CLASS
    assert _load(folder, "my_handler", source).entry_point([], None) == ["class", 0]


def test_a_name_that_this_process_knows_already(folder):
    assert _load(folder, "queue.py", _CLASS, "queue.py").entry_point([], None) == ["class", 0]
    assert not hasattr(sys.modules["queue"], "Model"), "the standard library's stays what it is"


def test_initialize_is_optional(folder):
    source = "class Model:\n    def handle(self, data, context):\n        return 1\n"
    assert _load(folder, "my_handler", source).entry_point([], None) == 1


def test_the_native_handler(folder):
    with pytest.raises(Exception, match="signature"):
        _load(folder, "signature")
    assert loader._NATIVE["signature"] is SignatureHandler


def test_a_built_in_handler_is_torchserves(folder):
    module = loader._import("base_handler", folder)
    assert module.__name__ == "ts.torch_handler.base_handler"


@pytest.mark.parametrize(
    ("handler", "source", "message"),
    [
        ("", "", "names no handler"),
        ("nowhere", "", "neither a file of the archive"),
        ("my_handler", "x = 1\n", "exactly one class; found none"),
        ("my_handler", "class A: ...\nclass B: ...\n", "exactly one class; found A, B"),
        ("my_handler:missing", _CLASS, "has no function 'missing'"),
        ("my_handler", "class Model: ...\n", "class Model has no method 'handle'"),
    ],
)
def test_what_cannot_be_used(folder, handler, source, message):
    with pytest.raises(HandlerError, match=message):
        _load(folder, handler, source)


def test_a_dotted_name_that_does_not_exist(folder):
    with pytest.raises(HandlerError):
        _load(folder, "no.such.module:fn")


def test_an_installed_module_may_be_the_handler(folder, tmp_path_factory, monkeypatch):
    site = tmp_path_factory.mktemp("site")
    (site / "installed_handlers").mkdir()
    (site / "installed_handlers" / "__init__.py").write_text(_CLASS)
    (site / "installed_handlers" / "inner.py").write_text(_CLASS)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.syspath_prepend(str(folder))
    assert _load(folder, "installed_handlers").entry_point([], None) == ["class", 0]
    assert _load(folder, "installed_handlers.inner").entry_point([], None) == ["class", 0]


def test_what_the_handlers_own_code_raises_comes_through(folder):
    with pytest.raises(ZeroDivisionError):
        _load(folder, "my_handler", "1 / 0\n")
    source = "class Model:\n    def initialize(self, context):\n        raise KeyError('weights')\n"
    with pytest.raises(KeyError):
        _load(folder, "other_handler", source, "other_handler.py")


def test_envelopes(folder):
    wrapped = wrap_in_envelope("json", lambda data, context: [row["data"] for row in data])
    assert callable(wrapped)
    for name in ("nope", "base", "../x", ""):
        with pytest.raises(HandlerError, match="is not known"):
            wrap_in_envelope(name, wrapped)
