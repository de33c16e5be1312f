"""A store of models for tests of V2: an echo of numbers, and handlers that know nothing of V2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from support.models import link_sample, make_model

_ECHO = """
import torch

class Echo(torch.nn.Module):
    def forward(self, x):
        return x
"""


def make_signature_model(store: Path, name: str, signature: dict[str, Any], code: str, **config: Any) -> Path:
    """Write a signature model whose class, in `code`, has no weights."""
    folder = store / name
    (folder / "MAR-INF").mkdir(parents=True)
    (folder / "model.py").write_text(code)
    (folder / "model-config.yaml").write_text(yaml.safe_dump({"signature": signature, **config}))
    torch.save({}, folder / "model.pt")
    model = {
        "modelName": name,
        "modelVersion": "1.0",
        "handler": "signature",
        "modelFile": "model.py",
        "serializedFile": "model.pt",
        "configFile": "model-config.yaml",
    }
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps({"runtime": "python", "model": model}))
    return folder


def make_echo(store: Path, name: str, dtype: str, rank: int, **config: Any) -> Path:
    """Write a model that answers its input `x` as `y`, of any shape with `rank` axes behind the batch's."""
    signature = {
        "inputs": [{"name": "x", "dtype": dtype, "shape": [-1] * rank}],
        "outputs": [{"name": "y", "dtype": dtype, "shape": [-1] * rank}],
    }
    return make_signature_model(store, name, signature, _ECHO, **config)


def make_v2_store(store: Path) -> None:
    """Fill `store`: echo, echo_bf16, probe (two versions), batcher, wine and digits."""
    make_echo(store, "echo", "float32", 3, batchSize=16)
    make_echo(store, "echo_bf16", "bfloat16", 1)
    make_model(store, "probe", maxRetryTimeoutInSec=60)
    make_model(store, "probe", version="2.0", folder="probe_v2")
    make_model(store, "batcher", batchSize=16, maxBatchDelay=300)
    link_sample(store, "wine")
    link_sample(store, "digits")


def make_orders(store: Path, name: str, **config: Any) -> Path:
    """Write a model with the probe handler that takes its orders as JSON in the elements of BYTES."""
    folder = make_model(store, name, **config)
    handler = folder / "probe.py"
    code = handler.read_text()
    order = 'row.get("body", row.get("data"))'
    assert order in code
    handler.write_text(code.replace(order, 'json.loads(row["data"])'))
    return folder


def make_sdk_store(store: Path) -> None:
    """Fill `store` with what `sdk_app.py` serves: echo, list, sleeping (never ready); and float32, wine."""
    make_model(store, "echo", "echo")
    make_model(store, "list", "echo", handler={"explains": [1, 2, 3]})
    make_model(store, "sleeping", handler={"load_error": "asleep"}, maxRetryTimeoutInSec=1)
    make_echo(store, "float32", "float32", 1)
    link_sample(store, "wine")
