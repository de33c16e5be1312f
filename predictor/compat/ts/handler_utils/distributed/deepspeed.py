"""DeepSpeed engines from a model's configuration. Needs deepspeed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import deepspeed  # type: ignore[import-not-found, unused-ignore]

from ts.context import Context


def create_checkpoints_json(model_path: str, checkpoints_json: str) -> None:
    """Write DeepSpeed's list of the .bin and .pt files below `model_path`."""
    files = [
        str(path) for path in Path(model_path).rglob("*") if path.suffix in (".bin", ".pt") and path.is_file()
    ]
    content = {"type": "ds_model", "checkpoints": files, "version": 1.0}
    Path(checkpoints_json).write_text(json.dumps(content), encoding="utf-8")


def get_ds_engine(model: Any, ctx: Context) -> Any:
    """Return an inference engine for `model` as the sections `deepspeed` and `handler` describe it.

    `deepspeed.config` and `deepspeed.checkpoint` are file names in the model's folder,
    `handler.model_path` the folder of the weights. ValueError without these settings.
    """
    config = ctx.model_yaml_config or {}
    settings = config.get("deepspeed")
    if settings is None:
        raise ValueError(f"{ctx.model_name}: model-config.yaml has no section deepspeed")
    model_dir = ctx.system_properties["model_dir"]
    model_path = config["handler"]["model_path"]
    engine_config = checkpoint = None
    if "config" in settings:
        engine_config = str(Path(model_dir, settings["config"]))
        if not Path(engine_config).exists():
            raise ValueError(f"{ctx.model_name}: there is no deepspeed config file {engine_config}")
    if "checkpoint" in settings:
        checkpoint = str(Path(model_dir, settings["checkpoint"]))
        create_checkpoints_json(model_path, checkpoint)
    return deepspeed.init_inference(model, config=engine_config, base_dir=model_path, checkpoint=checkpoint)
