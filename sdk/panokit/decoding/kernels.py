"""The kernels of the decoding: resize, classes, centres, votes. NumPy, no settings changed.

Each computes what ``docs/port.md`` says, bit for bit, and is arranged for speed only where that
leaves every rounding as it is: planes instead of channels-last, bands of rows that stay in the
cache, running maxima instead of windows, and no distance to centres that cannot be the nearest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ClassPlanes",
    "Taps",
    "aligned_taps",
    "axis_taps",
    "classify",
    "find_centers",
    "nearest",
    "resize_planes",
    "sample",
    "sigmoid",
    "softmax",
    "taps_at",
]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.intp]

Taps = Callable[[int, int], tuple[IntArray, IntArray, FloatArray]]
"""Of an axis of so many inputs and outputs: for each output two inputs, and the weight of the
second."""

_CHUNK = 1 << 14  # float64 values: 128 kilobytes
_BAND_VALUES = 1 << 17  # float32 values of a band: half a megabyte, a share of one core's cache


def sigmoid(logits: NDArray[np.floating[Any]]) -> FloatArray:
    """1 / (1 + e^-x), computed in float64 and rounded once to float32, so that every port gets the
    same."""
    given, out = logits.reshape(-1), np.empty(logits.size, np.float32)
    for start in range(0, logits.size, _CHUNK):  # what stays in the cache
        x = given[start : start + _CHUNK].astype(np.float64)
        np.clip(x, -700, 700, out=x)
        np.negative(x, out=x)
        np.exp(x, out=x)
        x += 1
        np.divide(1, x, out=x)
        out[start : start + _CHUNK] = x
    return out.reshape(logits.shape)


def softmax(logits: NDArray[np.floating[Any]], axis: int) -> FloatArray:
    """Softmax along an axis, computed in float64 and rounded once to float32."""
    x = logits.astype(np.float64)
    e = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(e / e.sum(axis, keepdims=True), np.float32)


def taps_at(
    at: NDArray[np.float64], first: int, last: int
) -> tuple[IntArray, IntArray, FloatArray]:
    """Two neighbours of positions on an axis, and the second's weight; nothing before ``first`` or
    after ``last`` is used."""
    at = np.clip(at, first, last)
    low = np.floor(at).astype(np.intp)
    return low, np.minimum(low + 1, last), (at - low).astype(np.float32)


def aligned_taps(n_in: int, n_out: int) -> tuple[IntArray, IntArray, FloatArray]:
    """Taps with the first and last samples of both axes on each other (``align_corners``)."""
    at = np.arange(n_out, dtype=np.float64) * ((n_in - 1) / (n_out - 1) if n_out > 1 else 0.0)
    return taps_at(at, 0, n_in - 1)


def axis_taps(n_in: int, n_out: int) -> tuple[IntArray, IntArray, FloatArray]:
    """Half-pixel bilinear taps: for each output the two inputs and the second one's weight."""
    at = (np.arange(n_out, dtype=np.float64) + 0.5) * (n_in / n_out) - 0.5
    return taps_at(at, 0, n_in - 1)


def _widen(values: FloatArray, n_out: int, cols: slice, taps: Taps) -> FloatArray:
    """Columns ``cols`` of ``[h,w,C]`` resized to ``n_out`` columns, as planes ``[C,h,w_out]``."""
    low, high, f = taps(values.shape[1], n_out)
    planes = np.ascontiguousarray(values.transpose(2, 0, 1))
    left = planes.take(low[cols], axis=2)
    wide = planes.take(high[cols], axis=2)
    wide -= left
    wide *= f[cols]
    wide += left
    return wide


@dataclass(frozen=True)
class _Bands:
    """Resized planes, band by band of rows: along x first, then y, each ``a + (b - a)·f``."""

    wide: FloatArray  # [C,h,w_out]
    step: FloatArray  # [C,h,w_out]: to the next row; 0 after the last
    low: IntArray
    f: FloatArray

    @classmethod
    def of(
        cls, values: FloatArray, shape: tuple[int, int], rows: slice, cols: slice, taps: Taps
    ) -> _Bands:
        wide = _widen(values, shape[1], cols, taps)
        step = np.zeros_like(wide)
        np.subtract(wide[:, 1:], wide[:, :-1], out=step[:, :-1])
        low, _, f = taps(values.shape[0], shape[0])
        return cls(wide, step, low[rows], f[rows])

    def rows(self, part: slice) -> FloatArray:
        """The output rows ``part``, ``[C,rows,w_out]``, an array of their own."""
        low = self.low[part]
        out = self.step.take(low, axis=1)
        out *= self.f[part][:, None]
        out += self.wide.take(low, axis=1)
        return out


class _Lines:
    """What :class:`_Bands` gives, row by row, for so many channels that their planes would not stay
    in a cache: each row of cells is widened when it is needed."""

    def __init__(
        self, values: FloatArray, shape: tuple[int, int], rows: slice, cols: slice, taps: Taps
    ) -> None:
        self.values = values
        left, right, fx = taps(values.shape[1], shape[1])
        above, below, fy = taps(values.shape[0], shape[0])
        self.left, self.right, self.fx = left[cols], right[cols], fx[cols]
        self.above, self.below, self.fy = above[rows], below[rows], fy[rows]
        self._line = lru_cache(2)(self._widened)
        self._step = lru_cache(1)(self._step_of)

    def _widened(self, y: int) -> FloatArray:
        """A row of cells, ``[C,w_out]``."""
        planes = np.ascontiguousarray(self.values[y].T)
        left = planes.take(self.left, axis=1)
        wide = planes.take(self.right, axis=1)
        wide -= left
        wide *= self.fx
        wide += left
        return wide

    def _step_of(self, above: int, below: int) -> FloatArray:
        return np.asarray(self._line(below) - self._line(above))

    def rows(self, part: slice) -> FloatArray:
        """The one row of ``part``, ``[C,1,w_out]``."""
        above, below = int(self.above[part.start]), int(self.below[part.start])
        out: FloatArray = self._step(above, below) * self.fy[part.start]
        out += self._line(above)
        return out[:, None]


def resize_planes(
    values: FloatArray,
    shape: tuple[int, int],
    rows: slice,
    cols: slice,
    taps: Taps = axis_taps,
) -> FloatArray:
    """Bilinear with half-pixel centres (or other ``taps``), no antialias: ``[h,w,C]`` to
    ``[C,rows,cols]``, the part of an output of ``shape`` that the slices name."""
    if values.shape[:2] == shape:
        return values[rows, cols].transpose(2, 0, 1).copy()  # the caller may write to it
    bands = _Bands.of(values, shape, rows, cols, taps)
    return bands.rows(slice(0, len(bands.low)))


@dataclass(frozen=True)
class ClassPlanes:
    """Per pixel ``[rows,cols]``: the ``channel`` with the highest logit (the first of equals), that
    logit (``peak``), and ``total``, the sum of exp(logit - peak) over the channels."""

    channel: NDArray[np.int32]
    peak: FloatArray
    total: FloatArray


def classify(
    semantic: FloatArray,
    shape: tuple[int, int],
    rows: slice,
    cols: slice,
    taps: Taps = axis_taps,
) -> ClassPlanes:
    """Argmax and softmax terms of logits ``[h,w,C]`` resized to ``shape``, within the slices."""
    channels = semantic.shape[2]
    height, width = rows.stop - rows.start, cols.stop - cols.start
    found = ClassPlanes(
        np.empty((height, width), np.int32),
        np.empty((height, width), np.float32),
        np.empty((height, width), np.float32),
    )
    if not height or not width:
        return found
    same = semantic.shape[:2] == shape
    step = max(1, _BAND_VALUES // (channels * width))
    kind = _Lines if step == 1 else _Bands.of
    bands = None if same else kind(semantic, shape, rows, cols, taps)
    # The first of equal channels has the highest code; 0 stands for "not the maximum".
    code = np.arange(channels, 0, -1, dtype=np.uint8 if channels < 256 else np.uint16)
    for start in range(0, height, step):
        part = slice(start, min(start + step, height))
        if bands is None:
            inside = slice(rows.start + part.start, rows.start + part.stop)
            logits = semantic[inside, cols].transpose(2, 0, 1).copy()
        else:
            logits = bands.rows(part)
        peak = np.maximum.reduce(logits, axis=0, out=found.peak[part])
        codes = (logits == peak).view(np.uint8) * code[:, None, None]
        np.subtract(channels, np.maximum.reduce(codes, axis=0), out=found.channel[part])
        logits -= peak
        np.exp(logits, out=logits)
        np.add.reduce(logits, axis=0, out=found.total[part])
    return found


def sample(
    values: FloatArray,
    shape: tuple[int, int],
    rows: IntArray,
    cols: IntArray,
    channels: IntArray,
    taps: Taps = axis_taps,
) -> FloatArray:
    """Single values ``[n]`` of ``values`` ``[h,w,C]`` resized to ``shape``: the same bits as
    :func:`resize_planes` gives."""
    if values.shape[:2] == shape:
        return values[rows, cols, channels]
    left, right, fx = taps(values.shape[1], shape[1])
    above, below, fy = taps(values.shape[0], shape[0])
    left, right, fx = left[cols], right[cols], fx[cols]
    above, below, fy = above[rows], below[rows], fy[rows]
    upper, lower = values[above, left, channels], values[below, left, channels]
    upper = upper + (values[above, right, channels] - upper) * fx
    lower = lower + (values[below, right, channels] - lower) * fx
    return np.asarray(upper + (lower - upper) * fy)


def _running_max(values: FloatArray, length: int, axis: int) -> FloatArray:
    """Maxima of all windows of ``length`` along an axis, by doubling."""
    keep = values.shape[axis] - length + 1
    size = 1
    while size < length:
        shift = min(size, length - size)
        n = values.shape[axis] - shift
        first, second = (values[(slice(None),) * axis + (slice(s, s + n),)] for s in (0, shift))
        values = np.maximum(first, second)
        size += shift
    return values[(slice(None),) * axis + (slice(0, keep),)]


def find_centers(
    scores: FloatArray, rows: slice, cols: slice, threshold: float, window: int, top_k: int
) -> tuple[IntArray, FloatArray]:
    """Cells ``[n,2]`` (row, column) of the centres and their scores ``[n]``, best first.

    A cell counts if its score reaches the threshold, it lies within the slices (the photo), no
    cell of its window is higher, and none that comes earlier in raster order is equal.
    """
    h, w = scores.shape
    r = window // 2
    content = np.zeros((h, w), bool)
    content[rows, cols] = True
    candidate = content & (scores >= np.float32(threshold))
    if r and candidate.any():
        padded = np.full((h + 2 * r, w + 2 * r), -np.inf, np.float32)
        padded[r : r + h, r : r + w] = scores
        sides = _running_max(padded[r : r + h], r, 1)  # [h, w + r + 1]: r cells from a column on
        whole = _running_max(padded, window, 1)  # [h + 2r, w]
        blocks = _running_max(whole, r, 0)  # [h + r + 1, w]
        candidate &= blocks[:h] < scores  # the rows above
        candidate &= sides[:, :w] < scores  # left of it
        candidate &= sides[:, r + 1 :] <= scores
        candidate &= blocks[r + 1 :] <= scores
    cells = np.argwhere(candidate)  # raster order
    found = scores[candidate]
    order = np.argsort(-found, kind="stable")[:top_k]
    return cells[order], found[order]


_FEW = 6  # up to here the plain search over all centres is the quickest
_SLACK = 1 + 1e-5  # float32 distances differ from real ones by less


def nearest(
    y: FloatArray, x: FloatArray, centers: FloatArray, size_hw: tuple[int, int]
) -> NDArray[np.int32]:
    """For points ``[n]`` the index of the nearest of centres ``[k,2]`` (y, x), int32 ``[n]``: the
    least dy·dy + dx·dx in float32, the first of equals; what overflows is infinity, and ties.

    ``size_hw`` is the frame in which most points lie; those outside only take longer.
    """
    with np.errstate(over="ignore"):
        if len(centers) > _FEW and len(y) > 1000:
            return _nearest_by_tile(y, x, centers, size_hw)
        rank = np.zeros(len(y), np.int32)
        if len(centers) > 1:
            best = _distance(y, x, centers[0, 0], centers[0, 1])
            for k in range(1, len(centers)):
                _improve(rank, best, k, _distance(y, x, centers[k, 0], centers[k, 1]))
        return rank


def _distance(y: FloatArray, x: FloatArray, center_y: Any, center_x: Any) -> FloatArray:
    dy, dx = y - center_y, x - center_x
    dy *= dy
    dx *= dx
    dy += dx
    return np.asarray(dy)


def _improve(rank: NDArray[np.int32], best: FloatArray, k: Any, distance: FloatArray) -> None:
    np.copyto(rank, k, where=distance < best)
    np.minimum(best, distance, out=best)


def _nearest_by_tile(
    y: FloatArray, x: FloatArray, centers: FloatArray, size_hw: tuple[int, int]
) -> NDArray[np.int32]:
    """Points go by square tiles of the frame; a tile asks only centres that may be nearest in it.
    A rim of endless tiles, which ask all centres, takes the points outside."""
    side = 8.0
    while max(size_hw) / side > 32:
        side *= 2  # a power of two, so that dividing by it is exact
    ny, nx = (math.ceil(n / side) for n in size_hw)
    row = np.clip(np.floor(y / np.float32(side)), -1, ny)
    col = np.clip(np.floor(x / np.float32(side)), -1, nx)
    tile = ((row + 1) * np.float32(nx + 2) + (col + 1)).astype(np.intp)
    asked, many = _asked_centers(ny, nx, side, centers)
    # Points that ask most come first: round m then works on the first so many, without choosing.
    asks = many.astype(np.min_scalar_type(len(centers))).take(tile)
    order = np.argsort(~asks, kind="stable")
    in_round = len(y) - np.cumsum(np.bincount(asks))
    y, x, tile = y.take(order), x.take(order), tile.take(order)
    found = asked[0].take(tile)
    center_y, center_x = centers[:, 0].take(asked), centers[:, 1].take(asked)
    n = int(in_round[1])
    best = _distance(y[:n], x[:n], center_y[0].take(tile[:n]), center_x[0].take(tile[:n]))
    for m in range(1, len(in_round) - 1):
        n = int(in_round[m])
        at = tile[:n]
        distance = _distance(y[:n], x[:n], center_y[m].take(at), center_x[m].take(at))
        _improve(found[:n], best[:n], asked[m].take(at), distance)
    rank: NDArray[np.int32] = np.empty(len(order), np.int32)
    rank[order] = found
    return rank


def _asked_centers(
    ny: int, nx: int, side: float, centers: FloatArray
) -> tuple[NDArray[np.int32], IntArray]:
    """For the tiles of a frame with its rim, in raster order: the centres that may be nearest to
    a point inside, ascending, int32 ``[most, tiles]``, and how many they are ``[tiles]``."""
    least, most = [], []
    for n, at in ((ny, centers[:, 0]), (nx, centers[:, 1])):
        edges = np.concatenate([[-np.inf], np.arange(n + 1) * side, [np.inf]])
        before, after = edges[:-1, None] - at, at - edges[1:, None]  # float64 [n + 2, k]
        least.append(np.maximum(np.maximum(before, after), 0) ** 2)
        most.append(np.maximum(-before, -after) ** 2)
    lower = least[0][:, None] + least[1]  # [ny + 2, nx + 2, k]
    upper = (most[0][:, None] + most[1]).min(-1, keepdims=True)
    tiles, which = np.nonzero((lower <= upper * _SLACK).reshape(-1, len(centers)))
    many = np.bincount(tiles, minlength=(ny + 2) * (nx + 2))
    place = np.arange(len(tiles)) - np.repeat(np.cumsum(many) - many, many)
    asked = np.zeros((many.max(), len(many)), np.int32)
    asked[place, tiles] = which
    return asked, many
