"""Exact outlines of masks: rings along the pixels' edges, with holes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError

__all__ = ["Outline", "trace"]

IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class Outline:
    """One connected piece of a mask.

    ``exterior`` int32 ``[n,2]``: the corners (x, y) of its outer ring in pixels, where pixel ``i``
    covers ``i..i+1``; clockwise on the picture, not closed (the last corner joins the first).
    ``holes``: rings alike, counter-clockwise. Filled by the even-odd rule they give the mask back.
    """

    exterior: NDArray[np.int32]
    holes: tuple[NDArray[np.int32], ...] = ()

    @property
    def area(self) -> int:
        """Pixels inside, holes left out."""
        return _area(self.exterior) + sum(_area(hole) for hole in self.holes)

    def to_geojson(self) -> dict[str, Any]:
        """A GeoJSON polygon: closed rings, the outer one first, in photo pixels."""
        rings = [np.concatenate([r, r[:1]]).tolist() for r in (self.exterior, *self.holes)]
        return {"type": "Polygon", "coordinates": rings}

    def to_coco(self) -> list[int]:
        """The outer ring as COCO writes polygons, [x0, y0, x1, y1, …]. COCO's polygons know no
        holes; its run lengths (``rle.rle_encode``) do."""
        return [int(v) for v in self.exterior.ravel()]


def trace(mask: NDArray[np.bool_], origin_xy: tuple[int, int] = (0, 0)) -> tuple[Outline, ...]:
    """The outlines of a mask ``[H,W]``, biggest first; ``origin_xy`` is added to all corners.

    Pixels that touch at a corner only are pieces of their own (4-connected); holes that do are one.
    """
    if mask.ndim != 2:
        raise ArgumentError("mask", f"mask has the shape {mask.shape}; expected [H,W]")
    rings = _rings(np.pad(np.asarray(mask, bool), 1))
    areas = [_area(ring) for ring in rings]
    order = np.argsort([-a for a in areas], kind="stable").tolist()
    outer = [i for i in order if areas[i] > 0]
    holes: dict[int, list[int]] = {i: [] for i in outer}
    for i in (i for i in order if areas[i] < 0):
        holes[_owner(rings, outer, rings[i])].append(i)
    shift = np.array(origin_xy, np.int32) - 1  # the padding moved everything by one
    return tuple(
        Outline(rings[i] + shift, tuple(rings[hole] + shift for hole in holes[i])) for i in outer
    )


def _area(ring: NDArray[np.int32]) -> int:
    """Signed: positive for clockwise rings (x right, y down)."""
    x, y = ring.T.astype(np.int64)
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) // 2


def _rings(mask: NDArray[np.bool_]) -> list[NDArray[np.int32]]:
    """All rings, with the mask to the right of every edge. ``mask`` has a rim of False."""
    across = mask[1:].astype(np.int8) - mask[:-1]  # edges between rows: +1 heads right, -1 left
    down = mask[:, :-1].astype(np.int8) - mask[:, 1:]  # between columns: +1 heads down, -1 up
    y, x0, x1, right = _runs(across)
    x, y0, y1, downward = _runs(down.T)
    width = mask.shape[1] + 1
    y, x = y + 1, x + 1  # edge number i lies after pixel i
    h_start = y * width + np.where(right, x0, x1)
    h_end = y * width + np.where(right, x1, x0)
    v_start = np.where(downward, y0, y1) * width + x
    v_end = np.where(downward, y1, y0) * width + x
    # Where four edges meet, turn right: that keeps pieces apart which touch at a corner only.
    to_vertical = _follow(h_end, right, v_start, downward)
    to_horizontal = _follow(v_end, ~downward, h_start, right)
    step = to_horizontal[to_vertical].tolist()
    seen = [False] * len(step)
    rings = []
    corners = np.stack([h_start, h_end], 1)
    for first in range(len(step)):
        ring = []
        at = first
        while not seen[at]:
            seen[at] = True
            ring.append(at)
            at = step[at]
        if ring:
            points = corners[ring].ravel()
            rings.append(np.stack([points % width, points // width], 1).astype(np.int32))
    return rings


def _runs(edges: NDArray[np.int8]) -> tuple[IntArray, IntArray, IntArray, NDArray[np.bool_]]:
    """Runs of equal non-zero values along the rows: row, first, last + 1, and whether positive."""
    padded = np.pad(edges, ((0, 0), (1, 1)))
    change = padded[:, 1:] != padded[:, :-1]  # [rows, cols + 1]
    begins, ends = change & (padded[:, 1:] != 0), change & (padded[:, :-1] != 0)
    rows, first = np.nonzero(begins)
    last = np.nonzero(ends)[1]
    return rows, first, last, edges[rows, first] > 0


def _follow(
    ends: IntArray, prefer: NDArray[np.bool_], starts: IntArray, kind: NDArray[np.bool_]
) -> IntArray:
    """For each end the run that starts there: of kind ``prefer`` if there are two."""
    found = np.full(len(ends), -1, np.intp)
    for wanted in (False, True):  # not the preferred kind first, then overwritten by it
        for sign in (True, False):
            which = np.flatnonzero(kind == sign)
            which = which[np.argsort(starts[which])]
            mine = np.flatnonzero((prefer == sign) == wanted)
            if not len(which) or not len(mine):
                continue
            at = np.searchsorted(starts[which], ends[mine]).clip(max=len(which) - 1)
            hit = starts[which][at] == ends[mine]
            found[mine[hit]] = which[at[hit]]
    return found


def _owner(rings: list[NDArray[np.int32]], outer: list[int], hole: NDArray[np.int32]) -> int:
    """The outer ring of the piece in which a hole lies: the smallest around the pixel beside it."""
    (x0, y0), (x1, _) = hole[0], hole[1]
    # The pixel to the right of the hole's first edge belongs to the piece.
    px, py = (x0 + 0.5, y0 + 0.5) if x1 > x0 else (x0 - 0.5, y0 - 0.5)
    for i in reversed(outer):
        ring = rings[i]
        if not (ring.min(0) < (px, py)).all() or not (ring.max(0) > (px, py)).all():
            continue
        x, y = ring[1::2].T  # vertical edges go from every second corner to the next
        y_next = np.roll(ring[::2, 1], -1)
        crossed = (x > px) & ((y > py) != (y_next > py))
        if crossed.sum() % 2:
            return i
    raise AssertionError("a hole lies in a piece")  # pragma: no cover - by construction
