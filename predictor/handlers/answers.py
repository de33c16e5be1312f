"""A handler's answer as the bytes that TorchServe's clients get."""

from __future__ import annotations

import io
import json
from typing import Any

import torch


def encode_answer(answer: Any) -> bytes:
    """Return bytes as they are, text as UTF-8, a tensor as `torch.save` writes it, else indented JSON.

    Raises:
        TypeError: it has no JSON form.
        ValueError: it contains itself, or is nested too deeply.
    """
    if isinstance(answer, (bytes, bytearray)):
        return bytes(answer)
    if isinstance(answer, str):
        return answer.encode("utf-8")
    if isinstance(answer, torch.Tensor):
        buffer = io.BytesIO()
        torch.save(answer, buffer)
        return buffer.getvalue()
    try:
        return json.dumps(answer, indent=2).encode("utf-8")
    except RecursionError as error:
        raise ValueError("the answer is nested too deeply") from error
