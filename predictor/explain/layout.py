"""Where the numbers of pictures lie in memory: on a CPU, convolutions are faster with the channels last."""

from __future__ import annotations

import logging
from typing import Any

import torch

from predictor.explain.outputs import Reading, first_output

logger = logging.getLogger(__name__)

_MOST_SHAPES = 64
# A sum in another order differs in the last digits; a model that reads memory by itself, in all.
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4


class ChannelsLast:
    """A model, called with its pictures laid out channels last wherever that changes nothing else.

    It changes something for code that takes memory for granted: `view` fails, custom operators may read
    nonsense. So the first row of every new shape is tried both ways, forwards and backwards; call it once
    before hooks are set, which would see these tries.
    """

    def __init__(self, model: Any, read: Reading = first_output) -> None:
        """Wrap a model that takes tensors with a leading batch axis, and whose outputs `read` reads."""
        self._model = model
        self._read = read
        self._fits: dict[tuple[torch.Size, ...], bool] = {}

    def __call__(self, *arguments: torch.Tensor) -> Any:
        """Return what the model returns."""
        if not any(_is_picture(tensor) for tensor in arguments):
            return self._model(*arguments)
        shapes = tuple(tensor.shape[1:] for tensor in arguments)
        if shapes not in self._fits:
            if len(self._fits) >= _MOST_SHAPES:
                self._fits.clear()
            self._fits[shapes] = self._try([tensor[:1].detach() for tensor in arguments])
        return self._model(*(_laid_out(arguments) if self._fits[shapes] else arguments))

    def _try(self, row: list[torch.Tensor]) -> bool:
        """Return whether the model answers one row alike in both layouts, and has gradients in both."""
        with torch.enable_grad():
            expected = self._read(self._model(*row))
            try:
                leaves = [_leaf(tensor) for tensor in row]
                found = self._read(self._model(*_laid_out(leaves)))
                if found.requires_grad:
                    torch.autograd.grad(found.sum(), [leaf for leaf in leaves if leaf.requires_grad])
            except Exception as error:  # noqa: BLE001 - the model's own code; it is asked as it was then
                logger.info("channels last in memory does not suit the model: %s", error)
                return False
        if found.shape != expected.shape:
            return False
        return torch.allclose(found.detach(), expected.detach(), rtol=_RELATIVE, atol=_ABSOLUTE)


def _is_picture(tensor: torch.Tensor) -> bool:
    return tensor.dim() == 4 and tensor.is_floating_point() and tensor.device.type == "cpu"


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """Return a picture on a CPU laid out channels last, and anything else as it is."""
    if not _is_picture(tensor):
        return tensor
    if tensor.shape[1] == 1:
        # `contiguous` leaves a picture of one channel as it is, and then the convolution decides.
        return tensor.clone(memory_format=torch.channels_last)
    return tensor.contiguous(memory_format=torch.channels_last)


def _laid_out(arguments: Any) -> list[torch.Tensor]:
    return [channels_last(tensor) for tensor in arguments]


def _leaf(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.clone().requires_grad_() if _is_picture(tensor) else tensor
