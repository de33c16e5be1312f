"""Pipeline parallelism with PiPPy, for archives made for it. Needs the (archived) torchpippy package."""

from __future__ import annotations

import inspect
import logging
import os
from pathlib import Path
from typing import Any

import pippy  # type: ignore[import-not-found, unused-ignore]
import torch
from pippy import split_into_equal_size
from pippy.hf import PiPPyHFTracer, inject_pipeline_forward  # type: ignore[import-not-found, unused-ignore]
from torch.distributed import rpc

from ts.context import Context

logger = logging.getLogger(__name__)


def initialize_rpc_workers(local_rank: int, world_size: int, ctx: Context) -> None:
    """Join the RPC group of this model's processes, each with a device of its own.

    `pippy.rpc_timeout` (seconds) and `pippy.num_worker_threads` come from model-config.yaml.
    """
    settings = (ctx.model_yaml_config or {})["pippy"]
    options = rpc.TensorPipeRpcBackendOptions(
        num_worker_threads=settings["num_worker_threads"], rpc_timeout=settings["rpc_timeout"]
    )
    devices = torch.cuda.device_count()
    own = local_rank % devices
    for rank in range(world_size):
        options.set_device_map(f"worker{rank}", {own: rank % devices})
    logger.info("rank %d is process %d on device %d", local_rank, os.getpid(), own)
    rpc.init_rpc(  # type: ignore[no-untyped-call]
        f"worker{local_rank}", rank=local_rank, world_size=world_size, rpc_backend_options=options
    )


def get_pipeline_driver(model: Any, world_size: int, ctx: Context) -> Any:
    """Split `model` into `world_size` equal stages and return what drives them.

    Needs `pippy.input_names`, `pippy.model_type` ("HF" for Hugging Face models) and `handler.model_path`;
    `pippy.chunks` and `handler.index_filename` are optional. KeyError or FileNotFoundError otherwise.
    """
    config = ctx.model_yaml_config or {}
    settings, handler = config["pippy"], config["handler"]
    hugging_face = settings["model_type"] == "HF"
    model.eval()
    parameters = inspect.signature(model.forward).parameters.values()
    fixed = {p.name: p.default for p in parameters if p.name not in settings["input_names"]}
    if hugging_face and "bloom" in str(model.__class__):
        fixed.setdefault("deprecated_arguments", {})
    driver, _ = pippy.all_compile(
        model,
        num_ranks=world_size,
        num_chunks=settings.get("chunks", 1),
        schedule="FillDrain",
        split_policy=split_into_equal_size(world_size),
        tracer=PiPPyHFTracer() if hugging_face else None,
        concrete_args=fixed,
        index_filename=_index_file(handler),
        checkpoint_prefix=None,
    )
    if not hugging_face:
        return driver
    inject_pipeline_forward(model, driver)
    return model


def _index_file(handler: dict[str, Any]) -> str | None:
    name = handler.get("index_filename")
    if name is None:
        return None
    path = str(Path(handler["model_path"], name))
    if not Path(path).exists():
        raise FileNotFoundError(path)
    return path
