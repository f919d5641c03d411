"""Going to a coarser grid and back. Cell ``i`` covers the pixels ``i·f..(i+1)·f``."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "box_sum",
    "coarse",
    "each_part",
    "each_stripe",
    "on_photo",
    "reduce_mean",
    "sample_bilinear",
    "stripes",
    "upsample_rows",
]

STRIPE_PIXELS = 1 << 19
"""Full-size floats are made for about this many pixels at a time, so that a photo of 48 megapixels
does not need gigabytes."""


def stripes(size_hw: tuple[int, int], multiple: int = 1) -> Iterator[slice]:
    """Rows of a picture in order, in stripes of a whole ``multiple`` of rows (but the last)."""
    h, w = size_hw
    rows = max(1, STRIPE_PIXELS // (w * multiple)) * multiple
    for start in range(0, h, rows):
        yield slice(start, min(h, start + rows))


def coarse(size_hw: tuple[int, ...], side: int) -> tuple[int, tuple[slice, slice]]:
    """The pixels of a cell's side, for a grid of at most ``side`` cells along, and the slices that
    take the pixel in the middle of each cell."""
    step = max(1, -(-max(size_hw) // side))
    return step, (slice(step // 2, None, step), slice(step // 2, None, step))


def on_photo(mask: NDArray[np.bool_], step: int, size_hw: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask of a grid of :func:`coarse` as one of the whole picture."""
    h, w = size_hw
    wide = mask.repeat(step, 0).repeat(step, 1)
    missing = ((0, max(0, h - wide.shape[0])), (0, max(0, w - wide.shape[1])))
    return np.pad(wide, missing, "edge")[:h, :w]


def reduce_mean(values: NDArray[Any], factor: int) -> NDArray[Any]:
    """Mean of every ``factor`` × ``factor`` cell of floats ``[H,W,…]``; the last cell of a row or
    column repeats the edge where the picture ends inside it."""
    if factor == 1:
        return values
    h, w = values.shape[:2]
    pad = [(0, -h % factor), (0, -w % factor)] + [(0, 0)] * (values.ndim - 2)
    padded = np.pad(values, pad, mode="edge") if h % factor or w % factor else values
    rows = padded[0::factor].copy()
    for i in range(1, factor):
        rows += padded[i::factor]
    out = rows[:, 0::factor].copy()
    for j in range(1, factor):
        out += rows[:, j::factor]
    out /= factor * factor
    return out


def upsample_rows(
    coarse: NDArray[Any], factor: int, size_hw: tuple[int, int], rows: slice
) -> NDArray[Any]:
    """Bilinear interpolation of ``coarse`` ``[h,w,C]`` (half-pixel centres) at some rows of the
    full picture of ``size_hw``; returns ``[rows,W,C]``."""
    if factor == 1:
        return coarse[rows]
    lower, upper, t = _taps(np.arange(rows.start, rows.stop), factor, coarse.shape[0])
    t = t[:, None, None].astype(coarse.dtype)
    part = coarse[lower] + (coarse[upper] - coarse[lower]) * t
    lower, upper, t = _taps(np.arange(size_hw[1]), factor, coarse.shape[1])
    step = np.diff(part, axis=1, append=part[:, -1:])  # [rows,w,C]
    t = t[None, :, None].astype(coarse.dtype)
    out = np.take(step, lower, axis=1)
    out *= t
    out += np.take(part, lower, axis=1)
    return out


def _taps(
    pixels: NDArray[np.intp], factor: int, cells: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """For each pixel the two cells around its centre and the weight of the second."""
    position = np.clip((pixels + 0.5) / factor - 0.5, 0, cells - 1)
    lower = position.astype(np.intp)
    return lower, np.minimum(lower + 1, cells - 1), position - lower


def sample_bilinear(
    coarse: NDArray[Any], factor: int, rows: NDArray[np.intp], cols: NDArray[np.intp]
) -> NDArray[Any]:
    """Bilinear interpolation of ``coarse`` ``[h,w,C]`` at some pixels of the full picture, given by
    row and column ``[n]``; returns ``[n,C]``."""
    y0, y1, ty = _taps(rows, factor, coarse.shape[0])
    x0, x1, tx = _taps(cols, factor, coarse.shape[1])
    tx, ty = tx[:, None].astype(coarse.dtype), ty[:, None].astype(coarse.dtype)
    flat, w = coarse.reshape(-1, coarse.shape[-1]), coarse.shape[1]
    upper, lower = flat.take(y0 * w + x0, axis=0), flat.take(y1 * w + x0, axis=0)
    upper += (flat.take(y0 * w + x1, axis=0) - upper) * tx
    lower += (flat.take(y1 * w + x1, axis=0) - lower) * tx
    upper += (lower - upper) * ty
    return np.asarray(upper)


def each_stripe(
    function: Callable[[slice], object], size_hw: tuple[int, int], multiple: int = 1
) -> None:
    """Call a function on every stripe of rows, on as many threads as there are cores (at most 4):
    NumPy lets go of Python's lock in its loops."""
    parts = list(stripes(size_hw, multiple))
    workers = min(4, os.cpu_count() or 1, len(parts))
    if workers <= 1:
        for part in parts:
            function(part)
        return
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(function, parts))


def each_part(function: Callable[[slice], object], count: int, least: int = 1000) -> None:
    """Call a function on parts of ``count`` items, one for each of at most 4 cores, but none of
    fewer than ``least`` items: a thread costs some hundred microseconds."""
    workers = min(4, os.cpu_count() or 1, max(1, count // least))
    if workers <= 1:
        function(slice(0, count))
        return
    edges = [count * k // workers for k in range(workers + 1)]
    parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(function, parts))


def box_sum(values: NDArray[Any], radius: int) -> NDArray[np.float64]:
    """Sum over the (2·radius+1)² window, cut off at the borders; ``[H,W,…]`` to float64."""
    out = np.asarray(values, np.float64)
    for _ in range(2):
        # A window that moves down by whole rows is twice as fast as differences of running sums;
        # the second turn does the columns of the transposed picture.
        n = len(out)
        window = out[: radius + 1].sum(axis=0)
        sums = np.empty(out.shape)
        sums[0] = window
        for i in range(1, n):
            if i + radius < n:
                window += out[i + radius]
            if i - radius - 1 >= 0:
                window -= out[i - radius - 1]
            sums[i] = window
        out = np.ascontiguousarray(np.moveaxis(sums, 1, 0))
    return out
