"""NVIDIA DALI pipelines from a model's configuration. Needs nvidia-dali."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nvidia.dali.pipeline import Pipeline  # type: ignore[import-not-found, unused-ignore]

from ts.context import Context


def get_dali_pipeline(ctx: Context) -> Any:
    """Return the pipeline serialised in the file `dali.pipeline_file` of the model's folder.

    `dali.batch_size`, `num_threads`, `device_id` and `seed` are needed too. ValueError without the section
    or the file name (TorchServe's built-in default pipeline is not carried), RuntimeError without the file.
    """
    settings = (ctx.model_yaml_config or {}).get("dali")
    if settings is None or "pipeline_file" not in settings:
        raise ValueError(f"{ctx.model_name}: model-config.yaml has no section dali with a pipeline_file")
    path = str(Path(ctx.system_properties["model_dir"], settings["pipeline_file"]))
    if not Path(path).exists():
        raise RuntimeError(f"{ctx.model_name}: there is no DALI pipeline file {path}")
    return Pipeline.deserialize(
        filename=path,
        batch_size=settings["batch_size"],
        num_threads=settings["num_threads"],
        prefetch_queue_depth=1,
        device_id=settings["device_id"],
        seed=settings["seed"],
    )
