"""Filling a hole from what lies around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panokit.effects._grid import reduce_mean
from panokit.photo import Photo

__all__ = ["inpaint"]


def inpaint(photo: Photo, hole: NDArray[np.bool_], avoid: NDArray[np.bool_] | None = None) -> Photo:
    """The photo with the ``hole`` bool ``[H,W]`` filled; the rest stays bit for bit. Pixels in
    ``avoid`` are not taken as a source."""
    pixels = photo.pixels_hwc.copy()
    light = photo.space.to_linear(pixels)
    weight = (~hole).astype(np.float32)[..., None]
    filled = np.concatenate([light * weight, weight], axis=-1)
    levels = [filled]
    while max(levels[-1].shape[:2]) > 1:
        levels.append(reduce_mean(levels[-1], 2))
    value = levels[-1][..., :3] / np.maximum(levels[-1][..., 3:], 1e-6)
    for level in reversed(levels[:-1]):
        h, w = level.shape[:2]
        up = np.repeat(np.repeat(value, 2, 0), 2, 1)[:h, :w]
        known = np.minimum(level[..., 3:], 1)
        value = up * (1 - known) + level[..., :3]
    pixels[hole] = photo.space.to_codes(value[hole], pixels.dtype)
    return photo.with_pixels(pixels)
