"""The blur of a lens: every point of light becomes a disc, and the subject gives none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from math import ceil

import numpy as np
from numpy.typing import NDArray

from panokit.effects._grid import box_sum, each_stripe, reduce_mean, sample_bilinear, upsample_rows
from panokit.effects.compose import compose, split_layers
from panokit.effects.matting import Matte
from panokit.errors import ArgumentError
from panokit.photo import Photo

__all__ = ["aperture_spans", "blur_background", "disc_blur", "disc_half_widths"]

FloatArray = NDArray[np.float32]

RAMP_STEPS = 3
"""Radii between which a growing blur is mixed."""

COARSE_RADIUS = 9
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


def aperture_spans(radius: int, blades: int = 0) -> list[tuple[int, int]]:
    """First and last column offset of the rows ``-radius..radius`` of the lens's opening; a row
    that it does not reach has the last before the first.

    ``blades`` 0 is the disc; 5..9 the regular polygon whose corners lie on the disc's rim, one of
    them at the top.
    """
    if blades == 0:
        return [(-width, width) for width in disc_half_widths(radius)]
    reach = radius + 0.5
    corners = -np.pi / 2 + 2 * np.pi * np.arange(blades) / blades
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    inside = np.ones(y.shape, bool)
    for one, two in zip(corners, np.roll(corners, -1), strict=True):
        middle = (one + two) / 2 if two > one else (one + two) / 2 + np.pi
        # Left of a side: nearer to the middle than the side's distance.
        side = reach * np.cos(np.pi / blades)
        inside &= x * np.cos(middle) + y * np.sin(middle) <= side
    spans = []
    for row in inside:
        columns = np.nonzero(row)[0] - radius
        spans.append((int(columns[0]), int(columns[-1])) if len(columns) else (1, 0))
    return spans


def disc_blur(
    values_hwc: NDArray[np.floating], radius: int, blades: int = 0
) -> NDArray[np.float64]:
    """Mean over a disc of ``radius`` pixels (or a polygon), with zeros outside the picture;
    ``[H,W,C]`` to float64 ``[H,W,C]``. Exact: an aperture is a stack of horizontal runs, and a run
    is the difference of two running sums."""
    if radius < 0:
        raise ArgumentError("radius", f"radius is {radius!r}; expected at least 0")
    h, w = values_hwc.shape[:2]
    spans = aperture_spans(radius, blades)
    total = np.zeros((h, w + 1, *values_hwc.shape[2:]))  # [H,W+1,C]
    np.cumsum(values_hwc, axis=1, dtype=np.float64, out=total[:, 1:])
    out = np.zeros(values_hwc.shape)
    x = np.arange(w)
    for span in sorted({s for s in spans if s[1] >= s[0]}):
        run = total[:, np.clip(x + span[1] + 1, 0, w)] - total[:, np.clip(x + span[0], 0, w)]
        for dy, own in zip(range(-radius, radius + 1), spans, strict=True):
            if own == span and abs(dy) < h:
                out[max(0, -dy) : h - max(0, dy)] += run[max(0, dy) : h - max(0, -dy)]
    out /= sum(last - first + 1 for first, last in spans)
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
    to be the background's, are in pixels; ``blades`` and ``highlights`` as in ``portrait_blur``.
    ``share`` float32 ``[H,W]`` 0..1 makes the radius smaller here and there (None: 1 everywhere);
    in between some radii, neighbours are mixed.
    """
    alpha_hw = matte.alpha_hw
    size_hw = alpha_hw.shape[0], alpha_hw.shape[1]
    factor = max(1, ceil(radius / COARSE_RADIUS))
    coarse_radius = round(radius / factor)
    if coarse_radius == 0:
        return photo
    steps = 1 if share is None else RAMP_STEPS
    radii = [max(1, round(coarse_radius * (k + 1) / steps)) for k in range(steps)]
    with ThreadPoolExecutor(1) as pool:
        edge = pool.submit(split_layers, photo, matte)  # meanwhile
        coarse = _weighted_background(photo, alpha_hw, factor, margin, highlights)
        blurred = [disc_blur(coarse, r, blades).astype(np.float32) for r in radii]  # [h,w,4]
        layers = edge.result()

    def at(
        level: FloatArray, rows: NDArray[np.intp], cols: NDArray[np.intp], light: FloatArray
    ) -> FloatArray:
        if rows.ndim == 2:
            part = slice(int(rows[0, 0]), int(rows[-1, 0]) + 1)
            local = upsample_rows(level, factor, size_hw, part)
        else:
            local = sample_bilinear(level, factor, rows, cols)
        # Where alpha is 1 all around there is no background to blur; the pixel keeps its own.
        weight = local[..., 3:]
        if weight.min() > TINY:
            return np.asarray(local[..., :3] / weight, np.float32)
        own = light.copy()
        np.divide(local[..., :3], weight, out=own, where=weight > TINY)
        return np.asarray(own, np.float32)

    def blurry(rows: NDArray[np.intp], cols: NDArray[np.intp], light: FloatArray) -> FloatArray:
        if share is None:
            return at(blurred[0], rows, cols, light)
        position = share[rows, cols][..., None] * np.float32(steps)
        mixed = light * np.clip(1 - position, 0, 1)
        for k, level in enumerate(blurred):
            weight = np.clip(1 - np.abs(position - (k + 1)), 0, 1)
            if weight.any():
                mixed += at(level, rows, cols, light) * weight
        return np.asarray(mixed, np.float32)

    return compose(photo, alpha_hw, layers, blurry)


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
