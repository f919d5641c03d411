"""Taking a photo apart along a matte, I = α·F + (1 − α)·B in linear light, and putting it together
again with another foreground or background. Only the soft band of the matte needs F and B."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panokit.effects._grid import box_sum, each_stripe, reduce_mean, sample_bilinear
from panokit.effects.matting import Matte
from panokit.photo import Photo, Pixels

__all__ = ["Layers", "compose", "repaint", "split_layers"]

FloatArray = NDArray[np.float32]

COARSE_SIDE = 320
"""Longest side of the grid on which the colours near the band are gathered."""

TRUST = 0.1
"""How strongly F and B hold to the colours around them against the pixel's own colour."""

Paint = Callable[[NDArray[np.intp], NDArray[np.intp], FloatArray], FloatArray]
"""Rows, columns and linear light of some pixels to new linear light of the same shape: all three
``[n]``, ``[n]``, ``[n,3]``, or for a whole stripe ``[h,1]``, ``[1,w]``, ``[h,w,3]``."""

FEW_PIXELS = 1_500_000
"""Up to here sorting pixels by colour is quicker than a table of all 16 million colours."""

DENSE = 0.25
"""Share of a stripe from which on all of it is painted and the part that counts is kept: picking
pixels one by one costs more."""


@dataclass(frozen=True, eq=False)
class Layers:
    """The pixels where the matte is neither 0 nor 1, in raster order, taken apart.

    ``rows``, ``cols`` ``[n]``; ``alpha`` float32 ``[n,1]``; ``light``, ``foreground`` and
    ``background`` float32 ``[n,3]``, linear light of the photo's space, 0..1.
    """

    rows: NDArray[np.intp]
    cols: NDArray[np.intp]
    alpha: FloatArray
    light: FloatArray
    foreground: FloatArray
    background: FloatArray


def split_layers(photo: Photo, matte: Matte) -> Layers:
    """Foreground and background colours of the band.

    Clean colours are looked for up to a few times the width of the band away. The estimate is the
    mean of clean colours around, then moved the least that explains the pixel (regularised least
    squares in closed form; the idea of averaging on a coarse grid is that of
    https://arxiv.org/abs/2006.14970).
    """
    alpha_hw = matte.alpha_hw
    pixels, space = photo.pixels_hwc, photo.space
    rows, cols = np.nonzero((alpha_hw > 0) & (alpha_hw < 1))
    a = alpha_hw[rows, cols][:, None]
    light = space.to_linear(pixels[rows, cols])
    if not len(rows):
        return Layers(rows, cols, a, light, light, light)
    coarse, factor = _clean_colors(photo, alpha_hw)
    near = max(1, round(matte.reach / factor))
    kernel = np.zeros_like(coarse)
    for k in range(4):
        radius = near * 2**k
        kernel += (box_sum(coarse, radius) / ((2 * radius + 1) ** 2 * 8**k)).astype(np.float32)
    around = sample_bilinear(kernel, factor, rows, cols)  # [n,8]
    f = np.divide(around[:, :3], around[:, 3:4], out=light.copy(), where=around[:, 3:4] > 1e-9)
    b = np.divide(around[:, 4:7], around[:, 7:], out=light.copy(), where=around[:, 7:] > 1e-9)
    rest = light - a * f - (1 - a) * b
    rest /= a * a + (1 - a) * (1 - a) + np.float32(TRUST)
    return Layers(
        rows, cols, a, light, np.clip(f + a * rest, 0, 1), np.clip(b + (1 - a) * rest, 0, 1)
    )


def _clean_colors(photo: Photo, alpha_hw: FloatArray) -> tuple[FloatArray, int]:
    """Light and count of the pixels that are all foreground, and all background, on a coarse grid:
    float32 ``[h,w,8]``; and the grid's factor."""
    pixels, space = photo.pixels_hwc, photo.space
    size_hw = alpha_hw.shape[0], alpha_hw.shape[1]
    factor = -(-max(size_hw) // COARSE_SIDE)
    step = 1 if factor < 4 else 2  # every other pixel is enough for a mean of many
    factor = -(-factor // step) * step
    out = np.empty((-(-size_hw[0] // factor), -(-size_hw[1] // factor), 8), np.float32)

    def do(rows: slice) -> None:
        alpha = alpha_hw[rows][::step, ::step, None]
        light = space.to_linear(pixels[rows][::step, ::step])
        layers = np.empty((*light.shape[:2], 8), np.float32)
        # A little of the band itself, for objects that are soft all over.
        for at, share in ((0, alpha), (4, 1 - alpha)):
            weight = np.where(share >= 1, np.float32(1), np.float32(1e-3) * share * share)
            np.multiply(light, weight, out=layers[..., at : at + 3])
            layers[..., at + 3 : at + 4] = weight
        out[rows.start // factor : -(-rows.stop // factor)] = reduce_mean(layers, factor // step)

    each_stripe(do, size_hw, factor)
    return out, factor


def compose(
    photo: Photo,
    alpha_hw: FloatArray,
    layers: Layers,
    background: Paint,
    foreground: Paint | None = None,
) -> Photo:
    """The photo with another background (and foreground), each painted from what was there.

    Without ``foreground`` pixels whose matte is 1 stay bit for bit.
    """
    pixels, space = photo.pixels_hwc, photo.space
    out = pixels.copy()

    def do(part: slice) -> None:
        _paint(photo, out, part, alpha_hw[part] <= 0, background)
        if foreground is not None:
            _paint(photo, out, part, alpha_hw[part] >= 1, foreground)

    each_stripe(do, (out.shape[0], out.shape[1]))
    if len(layers.rows):
        front = layers.foreground
        if foreground is not None:
            front = foreground(layers.rows, layers.cols, front)
        back = background(layers.rows, layers.cols, layers.background)
        mixed = layers.alpha * front + (1 - layers.alpha) * back
        out[layers.rows, layers.cols] = space.to_codes(mixed, out.dtype)
    return photo.with_pixels(out)


def repaint(
    photo: Photo, alpha_hw: FloatArray, layers: Layers, paint: Callable[[FloatArray], FloatArray]
) -> Photo:
    """The photo with its foreground painted anew, by a function of light ``[n,3]`` alone; pixels
    whose matte is 0 stay bit for bit, and in the band the change of the foreground is added by its
    share."""
    pixels, space = photo.pixels_hwc, photo.space
    out = pixels.copy()

    solid = alpha_hw >= 1
    if out.dtype == np.uint8:
        _paint_colors(photo, out, solid, paint)
    else:
        each_stripe(
            lambda part: _paint(photo, out, part, solid[part], lambda _r, _c, x: paint(x)),
            (out.shape[0], out.shape[1]),
        )
    if len(layers.rows):
        new = paint(layers.foreground)
        mixed = layers.light + layers.alpha * (new - layers.foreground)
        out[layers.rows, layers.cols] = space.to_codes(mixed, out.dtype)
    return photo.with_pixels(out)


def _paint(photo: Photo, out: Pixels, part: slice, where: NDArray[np.bool_], paint: Paint) -> None:
    """Paint the pixels ``where`` of the stripe ``part`` of ``out``."""
    pixels, space = photo.pixels_hwc, photo.space
    share = np.count_nonzero(where) / where.size
    if share > DENSE:
        rows, cols = np.ogrid[part, : where.shape[1]]
        new = space.to_codes(paint(rows, cols, space.to_linear(pixels[part])), out.dtype)
        if share == 1:
            out[part] = new
        else:
            np.copyto(out[part], new, where=where[..., None], casting="no")
    elif share > 0:
        rows, cols = np.nonzero(where)
        rows += part.start
        painted = paint(rows, cols, space.to_linear(pixels[rows, cols]))
        out[rows, cols] = space.to_codes(painted, out.dtype)


def _paint_colors(
    photo: Photo,
    out: Pixels,
    where: NDArray[np.bool_],
    paint: Callable[[FloatArray], FloatArray],
) -> None:
    """Paint pixels of 8 bits by painting each colour that occurs once: a photo of 12 megapixels
    has far fewer colours."""
    codes = out[where].astype(np.uint32)
    keys = codes[:, 0] << 16 | codes[:, 1] << 8 | codes[:, 2]
    if len(keys) < FEW_PIXELS:
        colors, keys = np.unique(keys, return_inverse=True)
        table = np.empty((len(colors), 3), np.uint8)
        slots = np.arange(len(colors))
    else:
        seen = np.zeros(1 << 24, bool)
        seen[keys] = True
        colors = slots = np.flatnonzero(seen)
        table = np.empty((1 << 24, 3), np.uint8)
    for start in range(0, len(colors), 1 << 18):
        part = colors[start : start + (1 << 18)]
        old = np.stack([part >> 16, part >> 8 & 255, part & 255], axis=1).astype(np.uint8)
        new = photo.space.to_codes(paint(photo.space.to_linear(old)), np.uint8)
        table[slots[start : start + (1 << 18)]] = new
    out[where] = table[keys]
