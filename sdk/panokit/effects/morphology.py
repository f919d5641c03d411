"""Masks made wider and narrower."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["dilate", "erode"]


def dilate(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """The mask widened by ``radius`` pixels each way (a square)."""
    out = mask
    for axis in (0, 1):
        total = np.cumsum(out, axis=axis, dtype=np.int32)
        total = np.concatenate([np.zeros_like(total.take([0], axis)), total], axis=axis)
        i, n = np.arange(mask.shape[axis]), mask.shape[axis]
        upper = total.take(np.minimum(i + radius + 1, n), axis)
        out = upper > total.take(np.maximum(i - radius, 0), axis)
    return np.asarray(out)


def erode(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """The mask made narrower by ``radius`` pixels; the picture's frame is no edge."""
    return ~dilate(~mask, radius)
