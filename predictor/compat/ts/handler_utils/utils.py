"""Loading classes by name, and sending a part of an answer before the rest of it is known."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from predictor.handlers.answers import encode_answer
from ts.context import Context
from ts.utils.util import PredictionException

STREAM_HEADER = "ts_stream_next"


def import_class(class_name: str, module_prefix: str | None = None) -> Any:
    """Import `package.module.Class`, below `module_prefix` when given; ImportError when it is not there."""
    module_name, _, attribute = (class_name or "").rpartition(".")
    if not attribute:
        raise ImportError("no class name was given")
    path = ".".join(part for part in (module_prefix, module_name) if part)
    if not path:
        raise ImportError(f"no module was given for class {attribute}")
    found = getattr(importlib.import_module(path), attribute, None)
    if found is None:
        raise ImportError(f"module {path} has no class {attribute}")
    return found


def send_intermediate_predict_response(
    ret: Sequence[Any] | Mapping[int, Any] | None,
    req_id_map: Mapping[int, str],
    message: str,
    code: int,
    context: Context,
) -> None:
    """Send one part of the answer to every request of the batch at once, as an HTTP chunk each.

    `ret[idx]` is the part for request `req_id_map[idx]`; what the handler returns in the end is the last
    part. Status and headers set on `context` before the first part go out with it; `code` is
    the status unless the handler set another one. Only the first process of a torchrun group sends. Raises
    PredictionException for a part that cannot be serialised.
    """
    del message  # TorchServe's own log label; the client never saw it
    if os.getenv("LOCAL_RANK", "0") != "0":
        return
    for idx, request_id in req_id_map.items():
        context.set_response_header(idx, STREAM_HEADER, "true")
        status, phrase = context.get_response_status(idx)
        data = b"error" if ret is None else encode_output(ret[idx])
        chosen = code if status in (None, 200) else status
        headers = dict(context.get_response_headers(idx))
        context.cl_socket.send_chunk(request_id, idx, data, chosen, phrase or "", headers)


def encode_output(value: Any) -> bytes:
    """Return the bytes of one output as a client gets them.

    PredictionException for what has no form as bytes.
    """
    try:
        return encode_answer(value)
    except (TypeError, ValueError) as error:
        raise PredictionException("Unsupported model output data type.", 503) from error
