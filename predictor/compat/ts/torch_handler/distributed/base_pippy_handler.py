"""`BasePippyHandler`: pipeline stages in processes started by torchrun. Needs torchpippy."""

from __future__ import annotations

import os
from abc import ABC

import torch

from ts.context import Context
from ts.handler_utils.distributed.pt_pippy import initialize_rpc_workers
from ts.torch_handler.base_handler import BaseHandler


class BasePippyHandler(BaseHandler, ABC):
    """Joins the stages' RPC group and leaves loading to the subclass."""

    def initialize(self, context: Context) -> None:
        """Set `local_rank`, `world_size` and `device` from torchrun's environment and join the group."""
        self.local_rank = int(os.environ["LOCAL_RANK"])
        self.world_size = int(os.environ["WORLD_SIZE"])
        self.device = self.local_rank % torch.cuda.device_count()
        initialize_rpc_workers(self.local_rank, self.world_size, context)
