"""The old home of `send_intermediate_predict_response`.

TorchServe's socket messages lived here too; the workers of this server speak another protocol, and
handlers never needed them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ts.context import Context
from ts.handler_utils import utils
from ts.utils.util import deprecated


@deprecated(version=1.0, replacement="ts.handler_utils.utils.send_intermediate_predict_response")
def send_intermediate_predict_response(
    ret: Sequence[Any] | Mapping[int, Any] | None,
    req_id_map: Mapping[int, str],
    message: str,
    code: int,
    context: Context,
) -> None:
    """Do what the function of the same name in `ts.handler_utils.utils` does."""
    utils.send_intermediate_predict_response(ret, req_id_map, message, code, context)
