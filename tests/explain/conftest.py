"""The sample models' handlers, loaded as a worker loads them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

import predictor
from predictor.handlers.context import Context, RequestProcessor
from predictor.runtime.loader import load_handler

STORE = Path(predictor.__file__).parent.parent / "model_store"


class Sample:
    """One sample model and a short way to ask it for explanations."""

    def __init__(self, name, config=None, model_dir=None):
        folder = model_dir or STORE / name
        manifest = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text())
        settings = yaml.safe_load((folder / "model-config.yaml").read_text())
        settings.update(config or {})
        self.context = Context(name, str(folder), manifest, 8, None, model_yaml_config=settings)
        self.handler = load_handler(manifest["model"]["handler"], self.context).instance
        self.folder = folder

    def ask(self, *rows, accept=""):
        headers = {"explain": "True", "Accept": accept}
        self.context.request_processor = [RequestProcessor(dict(headers)) for _ in rows]
        return self.handler.handle(list(rows), self.context)

    def file(self, name):
        return (self.folder / "examples" / name).read_bytes()


@pytest.fixture(scope="module")
def one_thread():
    """Small models on many threads are slow where others use the cores, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def sample():
    loaded = {}

    def load(name, **config):
        key = (name, repr(config))
        if key not in loaded:
            if not (STORE / name / "model.pt").is_file():
                pytest.skip(f"no trained weights for {name}")
            before, known = list(sys.path), set(sys.modules)
            sys.path.insert(0, str(STORE / name))
            try:
                loaded[key] = Sample(name, config)
            finally:
                sys.path[:] = before
                # Folders have modules of the same name, such as `handler`.
                for module in set(sys.modules) - known:
                    if str(STORE) in str(getattr(sys.modules[module], "__file__", "")):
                        del sys.modules[module]
        return loaded[key]

    return load
