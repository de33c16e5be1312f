"""From one attribution for each number to one for each thing that a person sees."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


def reduce_channels(attributions: Array, how: str) -> Array:
    """Return the attributions of a picture [channels, height, width] as [height, width].

    Args:
        how: "none" leaves them as they are.
    """
    if how == "none":
        return attributions
    if how == "channel_sum":
        return np.asarray(attributions.sum(axis=0))
    if how == "channel_mean":
        return np.asarray(attributions.mean(axis=0))
    strongest = np.abs(attributions).argmax(axis=0)
    picked: Array = np.take_along_axis(np.abs(attributions), strongest[None], axis=0)[0]
    return picked


def per_word(attributions: Array, shared: bool = False) -> Array:
    """Return the attributions of a text [positions] or [positions, size] as [positions].

    Args:
        shared: every number of a word already has the attribution of the whole word.
    """
    if attributions.ndim == 1:
        return attributions
    flat = attributions.reshape(len(attributions), -1)
    return np.asarray(flat[:, 0] if shared else flat.sum(axis=1))
