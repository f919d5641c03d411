"""Which colours a region has: histograms of a photo's colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["color_codes", "color_histogram"]


def color_codes(rgb_hwc: NDArray[np.uint8], bins: int) -> NDArray[np.int64]:
    """The colour of each pixel as one number below ``bins``³, of ``bins`` steps a channel."""
    steps = (rgb_hwc.astype(np.int64) * bins) >> 8
    return np.asarray((steps[..., 0] * bins + steps[..., 1]) * bins + steps[..., 2])


def color_histogram(
    codes: NDArray[np.int64], region: NDArray[np.bool_], bins: int
) -> NDArray[np.float64]:
    """How often each colour is in a region, float64 ``[bins³]``. Neighbours count half: colours are
    not sharp."""
    counts = np.bincount(codes[region], minlength=bins**3).astype(np.float64)
    cube = counts.reshape(bins, bins, bins)
    for axis in range(3):
        padded = np.pad(cube, [(1, 1) if a == axis else (0, 0) for a in range(3)])
        cube = cube + 0.5 * (padded.take(range(bins), axis) + padded.take(range(2, bins + 2), axis))
    return cube.ravel()
