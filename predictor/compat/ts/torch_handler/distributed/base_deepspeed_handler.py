"""`BaseDeepSpeedHandler`: one process per device, started by torchrun."""

from __future__ import annotations

import os
from abc import ABC

from ts.context import Context
from ts.torch_handler.base_handler import BaseHandler


class BaseDeepSpeedHandler(BaseHandler, ABC):
    """Leaves loading to the subclass; `device` is the process's local rank."""

    def initialize(self, context: Context) -> None:
        """Set `device`."""
        self.device = int(os.getenv("LOCAL_RANK", "0"))
