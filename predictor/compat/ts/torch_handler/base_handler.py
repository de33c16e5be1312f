"""`BaseHandler`: loads the model of an archive and runs preprocess, inference and postprocess on batches."""

from __future__ import annotations

import abc
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from predictor.handlers.stopwatch import Stage, enter
from ts.context import Context
from ts.handler_utils import model_files
from ts.handler_utils.timer import timed
from ts.utils.util import check_valid_pt2_backend, load_label_mapping

logger = logging.getLogger(__name__)

AMPERE = (8, 0)


class BaseHandler(abc.ABC):  # noqa: B024 - handlers derive from it and ABC in either order
    """The class most handlers derive from; every step can be overridden.

    `handle(data, context)` gets one dict per request and returns one output per request. Model files by
    what the manifest names: `modelFile` (a class, weights as a state dict), .pt (TorchScript), .onnx,
    .pt2 (exported program or AOTInductor package), .so (AOTInductor library).
    """

    model_yaml_config: dict[str, Any] = {}

    def __init__(self) -> None:
        """Make an empty handler; `initialize` fills it."""
        self.model: Any = None
        self.mapping: dict[str, str] | None = None
        self.device: Any = None
        self.initialized: Any = False
        self.context: Any = None
        self.model_pt_path: str | None = None
        self.manifest: Any = None
        self.map_location: str | None = None
        self.explain = False
        self.target: Any = 0
        self.profiler_args: dict[str, Any] = {}

    def initialize(self, context: Context) -> None:
        """Choose the device, load the model, compile it if the configuration says so, read the labels.

        Raises RuntimeError when there is nothing to load and whatever loading raises.
        """
        self.model_yaml_config = getattr(context, "model_yaml_config", None) or {}
        self.manifest = context.manifest
        properties = context.system_properties
        self.map_location, self.device = _choose_device(properties.get("gpu_id"))
        model_dir = properties["model_dir"]
        model = self.manifest["model"]
        weights = model.get("serializedFile")
        self.model_pt_path = str(Path(model_dir, weights)) if weights else None
        self.model = self._load(model_dir, model.get("modelFile") or "")
        self.model = self._compile(self.model)
        logger.debug("loaded %s on %s", self.model_pt_path, self.device)
        self.mapping = load_label_mapping(str(Path(model_dir, "index_to_name.json")))
        self.initialized = True

    def _load(self, model_dir: str, model_file: str) -> Any:
        path = self.model_pt_path or ""
        if model_file:
            return self._load_pickled_model(model_dir, model_file, self.model_pt_path).to(self.device).eval()
        if path.endswith(".pt"):
            return self._load_torchscript_model(path).eval()
        if path.endswith(".onnx"):
            return model_files.load_onnx(path, self.map_location == "cuda")
        if path.endswith(".pt2"):
            return model_files.load_pt2(path, self.device)
        if path.endswith(".so"):
            return self._load_torch_export_aot_compile(path)
        reason = "No model weights could be loaded"
        raise RuntimeError(f"{reason}: {Path(path).name} needs a modelFile" if path else reason)

    def _load_pickled_model(self, model_dir: str, model_file: str, model_pt_path: str | None) -> Any:
        """Return the model class of `model_file` with the weights of `model_pt_path`."""
        return model_files.load_eager(
            model_dir, model_file, model_pt_path, self.device, self.model_yaml_config
        )

    def _load_torchscript_model(self, model_pt_path: str) -> Any:
        """Return the TorchScript module of `model_pt_path`."""
        return torch.jit.load(model_pt_path, map_location=self.device)  # type: ignore[no-untyped-call]

    def _load_torch_export_aot_compile(self, model_so_path: str) -> Any:
        """Return the callable of an AOTInductor library."""
        if self.map_location == "cuda":
            torch.cuda.set_device(self.device)
        return model_files.load_aoti_library(model_so_path, self.device)

    def _compile(self, model: Any) -> Any:
        options = _compile_options(self.model_yaml_config.get("pt2"))
        if options is None or not _is_compilable(options):
            return model
        try:
            # This only wraps the model: the compiler runs at the first call, and raises there.
            return torch.compile(model, **options)
        except Exception:
            logger.warning("torch.compile with %s failed; going on without it", options, exc_info=True)
            return model

    @timed
    def preprocess(self, data: Any) -> Any:
        """Turn the requests into a tensor on the device; here they must be numbers already."""
        return torch.as_tensor(data, device=self.device)

    @timed
    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the model on `data`, moved to the device, without gradients."""
        if hasattr(self.model, "get_inputs"):
            return model_files.run_onnx(self.model, data)
        with torch.inference_mode():
            return self.model(data.to(self.device), *args, **kwargs)

    @timed
    def postprocess(self, data: Any) -> Any:
        """Turn the model's output into a list with one entry per request."""
        return data.tolist()

    def handle(self, data: Any, context: Context) -> Any:
        """Answer a batch: one dict per request in, one output per request out."""
        start = time.perf_counter()
        self.context = context
        output = self._answer(data)
        if context.metrics is not None:
            duration = round((time.perf_counter() - start) * 1000, 2)
            context.metrics.add_time("HandlerTime", duration, None, "ms")
        return output

    def _answer(self, data: Any) -> Any:
        if os.environ.get("ENABLE_TORCH_PROFILER"):
            self.manifest = self.manifest or self.context.manifest
            return self._infer_with_profiler(data=data)[0]
        if self._is_describe():
            return [self.describe_handle()]
        enter(self.context, Stage.DECODE)
        prepared = self.preprocess(data)
        enter(self.context, Stage.INFERENCE)
        if self._is_explain():
            return self.explain_handle(prepared, data)
        output = self.inference(prepared)
        enter(self.context, Stage.ENCODE)
        return self.postprocess(output)

    def explain_handle(self, data_preprocess: Any, raw_data: Any) -> Any:
        """Call `get_insights(preprocessed batch, first request's payload, first request's target)`.

        `target` is a class number (or a list of them) in the request; it is 0 when there is none.
        """
        inputs, target = None, 0
        if isinstance(raw_data[0], dict):
            inputs = raw_data[0].get("data") or raw_data[0].get("body")
            target = _target(raw_data[0].get("target"))
        return self.get_insights(data_preprocess, inputs, target)  # type: ignore[attr-defined]

    def describe_handle(self) -> Any:
        """Return what a description of the model shows as `customizedMetadata`; override it."""
        return None

    def get_device(self) -> Any:
        """Return the device the model is on."""
        return self.device

    def _is_explain(self) -> bool:
        if self.context and self.context.get_request_header(0, "explain") == "True":
            self.explain = True
            return True
        return False

    def _is_describe(self) -> bool:
        return bool(self.context and self.context.get_request_header(0, "describe") == "True")

    def _infer_with_profiler(self, data: Any) -> tuple[Any, Any]:
        """Answer a batch under torch's profiler and return `(output, profile)`.

        `profiler_args` are the profiler's arguments; by default a trace per call is written to
        `pytorch_profiler/<model name>` in the temporary folder.
        """
        from torch.profiler import ProfilerActivity, profile, record_function

        if not self.profiler_args:
            activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
            self.profiler_args.update(activities=activities, record_shapes=True)
        if "on_trace_ready" not in self.profiler_args:
            name = str(self.manifest["model"].get("modelName", ""))
            folder = str(Path(tempfile.gettempdir(), "pytorch_profiler", name))
            logger.info("profiler traces go to %s", folder)
            trace = torch.profiler.tensorboard_trace_handler(folder)  # type: ignore[no-untyped-call, unused-ignore]
            self.profiler_args["on_trace_ready"] = trace
        with profile(**self.profiler_args) as prof:
            with record_function("preprocess"):
                prepared = self.preprocess(data)
            if self._is_explain():
                with record_function("explain"):
                    output = self.explain_handle(prepared, data)
            else:
                with record_function("inference"):
                    output = self.inference(prepared)
                with record_function("postprocess"):
                    output = self.postprocess(output)
        logger.info(prof.key_averages().table(sort_by="cpu_time_total", row_limit=10))
        return output, prof


def _choose_device(gpu_id: Any) -> tuple[str, torch.device]:
    if gpu_id is not None:
        if torch.cuda.is_available():
            if torch.cuda.get_device_capability() >= AMPERE:
                torch.set_float32_matmul_precision("high")  # TensorFloat-32, as TorchServe switches on
            return "cuda", torch.device(f"cuda:{gpu_id}")
        if os.environ.get("TS_IPEX_GPU_ENABLE", "false") == "true" and torch.xpu.is_available():
            return "xpu", torch.device(f"xpu:{gpu_id}")
        if torch.backends.mps.is_available():
            return "mps", torch.device("mps")
    return "cpu", torch.device("cpu")


def _compile_options(pt2: Any) -> dict[str, Any] | None:
    """Return the arguments for `torch.compile` from the `pt2` setting, None for no compilation.

    `{compile: {enable: true, ...}}` is today's form; a backend's name and a plain dict of arguments are
    older ones. ValueError for anything else.
    """
    if pt2 is None:
        return None
    if isinstance(pt2, str):
        return {"backend": pt2}
    if not isinstance(pt2, dict):
        raise ValueError("pt2 in model-config.yaml must be a string or a mapping")
    if "export" in pt2 and "compile" not in pt2:
        return None
    if "compile" not in pt2:
        return dict(pt2)
    options = dict(pt2["compile"])
    return options if options.pop("enable", False) is True else None


def _is_compilable(options: dict[str, Any]) -> bool:
    return "backend" not in options or check_valid_pt2_backend(options["backend"])


def _target(value: Any) -> Any:
    """Return a request's `target`; form fields bring it as the bytes of a number."""
    if isinstance(value, (bytes, bytearray)):
        value = value.decode()
    if isinstance(value, str) and value.strip().lstrip("-").isdigit():
        value = int(value)
    return value or 0
