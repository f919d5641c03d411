"""Masks as annotation tools write them: run lengths and polygons, as the COCO API reads them.

Source: ``common/maskApi.c`` of https://github.com/cocodataset/cocoapi: a polygon is drawn five
times as fine, and a column's pixels change where its border crosses the middle of a pixel.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.rle import rle_decode

__all__ = ["MaskProblem", "decode_counts", "mask_of", "polygon_mask"]

MAX_POINTS = 1_000_000
MAX_STEPS = 20_000_000
_FINE = 5  # steps a pixel


class MaskProblem(ValueError):
    """A mask that cannot be drawn; ``kind`` is one of the problem kinds."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


def mask_of(segmentation: Any, size_hw: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The mask of a COCO ``segmentation``, bool ``[H,W]``: polygons, or run lengths as numbers or
    as text. None where there is none (``[]``, ``[[]]``, null). Raises :class:`MaskProblem`."""
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, dict):
        return _of_runs(segmentation, size_hw)
    if not isinstance(segmentation, list):
        raise MaskProblem("bad polygon", f"segmentation is {segmentation!r:.60}; expected a list")
    rings = [segmentation] if not isinstance(segmentation[0], list) else segmentation
    rings = [r for r in rings if r != []]
    if not rings:
        return None
    mask = np.zeros(size_hw, bool)
    for ring in rings:
        mask |= polygon_mask(points_of(ring), size_hw)
    return mask


def points_of(ring: Any) -> NDArray[np.float64]:
    """A flat list of x, y as points ``[N,2]``; :class:`MaskProblem` where it is none."""
    if not isinstance(ring, list) or len(ring) > 2 * MAX_POINTS:
        raise MaskProblem("bad polygon", f"a polygon is {ring!r:.60}; expected a list of numbers")
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in ring):
        odd = next(v for v in ring if isinstance(v, bool) or not isinstance(v, int | float))
        raise MaskProblem("bad number", f"a polygon holds {odd!r:.40}; expected numbers")
    if len(ring) < 6 or len(ring) % 2:
        raise MaskProblem("bad polygon", f"a polygon has {len(ring)} numbers; expected 6 or more")
    if not all(abs(v) < 1e9 for v in ring):  # NaN too
        odd = next(v for v in ring if not abs(v) < 1e9)
        raise MaskProblem("bad number", f"a polygon holds {odd!r:.40}; expected a place in a photo")
    return np.array(ring, np.float64).reshape(-1, 2)


def polygon_mask(points: NDArray[np.float64], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels inside one ring of points (x, y) ``[N,2]``, in pixels from the photo's corner."""
    h, w = size_hw
    if math.prod(size_hw) == 0:
        return np.zeros(size_hw, bool)
    fine = np.trunc(_FINE * points + 0.5).astype(np.int64)
    steps = np.abs(fine - np.roll(fine, -1, 0)).max(1).sum()
    if steps > MAX_STEPS:
        raise MaskProblem("bad number", f"a polygon is {steps // _FINE} pixels long: too long")
    u, v = _walk(fine)
    return _fill(u, v, h, w)


def _walk(fine: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All fine points along the ring's edges, in order."""
    x0, y0 = fine[:, 0], fine[:, 1]
    x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
    dx, dy = np.abs(x1 - x0), np.abs(y1 - y0)
    steep = dx < dy
    flip = np.where(steep, y0 > y1, x0 > x1)
    # Each edge is walked in one direction, so that two neighbours draw the same border.
    ax, bx = np.where(flip, x1, x0), np.where(flip, x0, x1)
    ay, by = np.where(flip, y1, y0), np.where(flip, y0, y1)
    length = np.maximum(dx, dy)
    slope = np.where(
        steep,
        (bx - ax) / np.maximum(dy, 1),
        (by - ay) / np.maximum(dx, 1),
    )
    counts = length + 1
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    edge = np.repeat(np.arange(len(counts)), counts)
    step = np.arange(int(counts.sum())) - starts[edge]
    step = np.where(flip[edge], length[edge] - step, step)
    # The API truncates towards zero after adding a half.
    across = np.where(steep[edge], ax[edge], ay[edge]) + slope[edge] * step + 0.5
    other = np.trunc(across).astype(np.int64)
    along = np.where(steep[edge], ay[edge], ax[edge]) + step
    u = np.where(steep[edge], other, along)
    v = np.where(steep[edge], along, other)
    return u, v


def _fill(u: NDArray[np.int64], v: NDArray[np.int64], h: int, w: int) -> NDArray[np.bool_]:
    moved = np.flatnonzero(u[1:] != u[:-1]) + 1
    left = np.where(u[moved] < u[moved - 1], u[moved], u[moved] - 1)
    x = (left + 0.5) / _FINE - 0.5
    whole = np.floor(x) == x
    inside = whole & (x >= 0) & (x <= w - 1)
    low = np.minimum(v[moved], v[moved - 1])
    y = np.ceil(np.clip((low + 0.5) / _FINE - 0.5, 0, h))
    places = (x[inside].astype(np.int64) * h + y[inside].astype(np.int64)).clip(0, h * w)
    changes = np.bincount(places, minlength=h * w + 1)[: h * w]
    inside_of_runs: NDArray[np.bool_] = (np.cumsum(changes) % 2).astype(bool)
    return inside_of_runs.reshape(w, h).T


def _of_runs(rle: dict[str, Any], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    size, counts = rle.get("size"), rle.get("counts")
    if isinstance(counts, str):
        counts = decode_counts(counts)
    if not isinstance(counts, list) or not all(type(c) is int and c >= 0 for c in counts):
        raise MaskProblem("bad number", f"the counts are {counts!r:.60}; expected whole numbers")
    if size != list(size_hw):
        raise MaskProblem(
            "wrong size",
            f"the run lengths have size {size!r:.40}, {list(size_hw)} "
            "(height, width) is the photo's",
        )
    if sum(counts) != math.prod(size_hw):
        raise MaskProblem(
            "bad number", f"the counts sum to {sum(counts)}; expected {math.prod(size_hw)} pixels"
        )
    return rle_decode({"size": list(size_hw), "counts": counts})


def decode_counts(text: str) -> list[int]:
    """The counts that compressed run lengths hold; :class:`MaskProblem` for other text."""
    counts: list[int] = []
    value = shift = 0
    for c in text:
        bits = ord(c) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise MaskProblem("bad number", f"{c!r} is no part of compressed run lengths")
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise MaskProblem("bad number", "compressed run lengths end in the middle of a number")
    return counts
