"""The shadow of an object: what it darkens of the ground beside it.

A shadow keeps the colour of the ground and takes a share of its light, begins at the object's foot
and is of its size. The ground's light is a smooth surface through what lies further away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panokit.components import components
from panokit.effects._grid import box_sum, coarse, on_photo
from panokit.effects.morphology import dilate, erode
from panokit.photo import Photo

__all__ = ["shadow_of"]

SIDE = 256
"""Longest side of the grid that is worked on, which covers the object's surroundings."""

_REACH = 0.9  # how far around the object is looked, in its own sizes
_DARKER = (0.25, 0.9)  # a shadow has this share of the light
_TINT = 0.05  # so far its colour may be from the ground's, in shares of r + g + b
_LOW = 0.45  # it touches the lower part of the object, this share of its height
_LARGEST = 1.8  # of the object's area
_SMALLEST = 0.02
_DEEP = 0.78  # the mean share of light of what is taken


def shadow_of(photo: Photo, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where the shadow of the object in ``mask`` lies, bool ``[H,W]``; nowhere, if none is seen."""
    out = np.zeros_like(mask)
    ys, xs = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    if not len(ys):
        return out
    high, wide = int(ys[-1] - ys[0] + 1), int(xs[-1] - xs[0] + 1)
    reach = round(_REACH * max(high, wide))
    window = (
        slice(max(0, ys[0] - reach // 3), min(mask.shape[0], ys[-1] + 1 + reach)),
        slice(max(0, xs[0] - reach), min(mask.shape[1], xs[-1] + 1 + reach)),
    )
    size_hw = mask[window].shape
    step, grid = coarse(size_hw, SIDE)
    found = _found(photo.rgb_hwc[window][grid].astype(np.float32), mask[window][grid])
    out[window] = on_photo(found, step, size_hw)
    return out & ~mask


def _found(rgb: NDArray[np.float32], own: NDArray[np.bool_]) -> NDArray[np.bool_]:
    h, w = own.shape
    light = np.sqrt((np.clip(rgb / 255, 0, 1) ** 2.2).mean(-1)) + 1e-3  # smooths like the eye does
    tint = rgb / (rgb.sum(-1, keepdims=True) + 12)
    near = max(2, round(0.02 * max(h, w)))
    size = max(4, round(np.sqrt(own.sum())))
    ground = ~dilate(own, near)
    if not ground.any():
        return np.zeros_like(own)
    fine = max(2, size // 7)  # texture is smoothed away
    smooth, tint = _mean(light, ~own, fine), _mean3(tint, ~own, fine)
    light_there = _surface(smooth, ground, size)
    tint_there = np.stack([_surface(tint[..., k], ground, size) for k in range(3)], -1)
    share = (smooth / light_there) ** 2
    apart = np.abs(tint - tint_there).max(-1)
    dark = (share > _DARKER[0]) & (share < _DARKER[1]) & (apart < _TINT) & ~own
    dark = dilate(erode(dark, 1), 1) & ~own
    rows = np.nonzero(own.any(1))[0]
    foot = rows[0] + round((1 - _LOW) * (rows[-1] - rows[0] + 1))
    lower = own.copy()
    lower[:foot] = False
    edge = dilate(lower, near + 1)
    parts, areas = components(dark)
    total = int(own.sum())
    kept = np.zeros_like(own)
    for number, area in enumerate(areas, 1):
        here = parts == number
        if not _SMALLEST * total <= area <= _LARGEST * total or not (here & edge).any():
            continue
        if float(share[here].mean()) < _DEEP and _ends(here):
            kept |= here
    return dilate(kept, max(1, near // 2)) & ~own if kept.any() else kept


def _ends(part: NDArray[np.bool_]) -> bool:
    """Whether a part ends within the window, as a shadow does: not at the window's own border,
    where the ground itself gets darker."""
    rim = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
    return float(rim.mean()) < 0.03


def _surface(
    values: NDArray[np.float32], known: NDArray[np.bool_], size: int
) -> NDArray[np.float32]:
    """A smooth surface through the brighter half of known values: means over wide windows, in which
    a value far below the mean counts less (it may be shadow itself)."""
    weight = known.astype(np.float32)
    first = _blur(values * weight, size) / np.maximum(_blur(weight, size), 1e-4)
    below = (first - values) / np.maximum(first, 1e-3)
    weight = weight * np.clip(1.2 - 6 * below, 0.02, 1)
    found = _blur(values * weight, size) / np.maximum(_blur(weight, size), 1e-4)
    return np.asarray(found, np.float32)


def _mean(
    values: NDArray[np.float32], known: NDArray[np.bool_], radius: int
) -> NDArray[np.float32]:
    weight = known.astype(np.float32)
    found = _blur(values * weight, radius) / np.maximum(_blur(weight, radius), 1e-4)
    return np.asarray(found, np.float32)


def _mean3(
    values: NDArray[np.float32], known: NDArray[np.bool_], radius: int
) -> NDArray[np.float32]:
    return np.stack([_mean(values[..., k], known, radius) for k in range(3)], -1)


def _blur(values: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """The mean over a square, twice: the border counts as nothing."""
    area = (2 * radius + 1) ** 2
    return (box_sum(box_sum(values, radius) / area, radius) / area).astype(np.float32)
