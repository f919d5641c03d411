"""The blur of a lens: every point of light becomes a disc, and the subject gives none."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from panokit.effects._grid import each_stripe, reduce_mean, sample_bilinear, upsample_rows
from panokit.effects.compose import compose
from panokit.effects.matting import Matte, box_sum
from panokit.errors import ArgumentError
from panokit.photo import Photo

__all__ = ["blur_background", "disc_blur", "disc_half_widths"]

FloatArray = NDArray[np.float32]

COARSE_RADIUS = 8
"""A larger disc is drawn on a coarser grid, with at most this radius: its blur hides the change
and the time stays the same for photos of any size."""

HIGHLIGHT_GAIN = 5.0
"""How much more a full white pixel weighs than a dark one. Lamps are brighter than white in truth;
the file has cut them off, so that without this their discs would be dull."""

TINY = 1e-9
"""A weight below this is what rounding leaves of none."""

FAINT = 1e-4
"""Weight of background pixels near the subject, whose colour may be the subject's: they count only
where the disc reaches no clean ones (the gap between arm and body)."""


def disc_half_widths(radius: int) -> list[int]:
    """Half widths of the rows ``-radius..radius`` of a disc: the pixels whose centre lies within
    ``radius + 1/2`` of the middle's."""
    limit = (radius + 0.5) ** 2
    return [int(np.sqrt(limit - dy * dy)) for dy in range(-radius, radius + 1)]


def disc_blur(values_hwc: NDArray[np.floating], radius: int) -> NDArray[np.float64]:
    """Mean over a disc of ``radius`` pixels, with zeros outside the picture; ``[H,W,C]`` to float64
    ``[H,W,C]``. Exact: a disc is a stack of horizontal runs, and a run is the difference of two
    running sums."""
    if radius < 0:
        raise ArgumentError("radius", "at least 0", radius)
    h, w = values_hwc.shape[:2]
    widths = disc_half_widths(radius)
    total = np.zeros((h, w + 1, *values_hwc.shape[2:]))  # [H,W+1,C]
    np.cumsum(values_hwc, axis=1, dtype=np.float64, out=total[:, 1:])
    out = np.zeros(values_hwc.shape)
    x = np.arange(w)
    for width in sorted(set(widths)):
        run = total[:, np.minimum(x + width + 1, w)] - total[:, np.maximum(x - width, 0)]
        for dy, own in zip(range(-radius, radius + 1), widths, strict=True):
            if own == width and abs(dy) < h:
                out[max(0, -dy) : h - max(0, dy)] += run[max(0, dy) : h - max(0, -dy)]
    out /= sum(2 * width + 1 for width in widths)
    return out


def blur_background(
    photo: Photo,
    matte: Matte,
    radius: float,
    margin: float,
    *,
    blades: int = 0,
    highlights: float = 1.0,
    share: FloatArray | None = None,
) -> Photo:
    """The photo with everything behind the matte blurred; pixels whose matte is 1 stay bit for bit.

    ``radius`` of the disc and ``margin``, the width along the subject whose colours are not trusted
    to be the background's, are in pixels.
    """
    alpha_hw = matte.alpha_hw
    size_hw = alpha_hw.shape[0], alpha_hw.shape[1]
    factor = max(1, ceil(radius / COARSE_RADIUS))
    coarse_radius = round(radius / factor)
    if coarse_radius == 0:
        return photo
    coarse = _weighted_background(photo, alpha_hw, factor, margin, highlights)
    blurred = disc_blur(coarse, coarse_radius).astype(np.float32)  # [h,w,4]

    def blurry(rows: NDArray[np.intp], cols: NDArray[np.intp], light: FloatArray) -> FloatArray:
        if rows.ndim == 2:
            part = slice(int(rows[0, 0]), int(rows[-1, 0]) + 1)
            local = upsample_rows(blurred, factor, size_hw, part)
        else:
            local = sample_bilinear(blurred, factor, rows, cols)
        # Where alpha is 1 all around there is no background to blur; the pixel keeps its own.
        weight = local[..., 3:]
        if weight.min() > TINY:
            return np.asarray(local[..., :3] / weight, np.float32)
        np.divide(local[..., :3], weight, out=light, where=weight > TINY)
        return light

    return compose(photo, alpha_hw, matte.layers(photo), blurry)


def _weighted_background(
    photo: Photo, alpha_hw: FloatArray, factor: int, margin: float, highlights: float
) -> FloatArray:
    """Linear light times weight, and the weight, on the coarse grid: float32 ``[h,w,4]``.

    The normalised convolution that follows divides the blurred first three by the blurred fourth.
    """
    size_hw = alpha_hw.shape[0], alpha_hw.shape[1]
    trust = _trusted(alpha_hw, factor, margin)[..., None]  # [h,w,1]
    out = np.empty((*trust.shape[:2], 4), np.float32)
    gain = np.float32(HIGHLIGHT_GAIN * highlights)

    def do(rows: slice) -> None:
        light = photo.space.to_linear(photo.pixels_hwc[rows])
        weight = np.maximum(np.maximum(light[..., 0], light[..., 1]), light[..., 2])
        weight *= weight
        weight *= weight
        weight *= gain
        weight += 1
        weight *= 1 - alpha_hw[rows]
        layers = np.empty((*weight.shape, 4), np.float32)
        np.multiply(light, weight[..., None], out=layers[..., :3])
        layers[..., 3] = weight
        part = slice(rows.start // factor, -(-rows.stop // factor))
        out[part] = reduce_mean(layers, factor) * trust[part]

    each_stripe(do, size_hw, factor)
    return out


def _trusted(alpha_hw: FloatArray, factor: int, margin: float) -> FloatArray:
    """Trust in a coarse cell as background: 1, or FAINT within the margin of the subject."""
    alpha = reduce_mean(alpha_hw, factor)
    near = box_sum(alpha, max(1, round(margin / factor)))
    # Sums of running sums: what should be zero is zero but for rounding.
    return np.where(near > 1e-3, np.float32(FAINT), np.float32(1.0))
