"""Area and box of every segment of a map, in one pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Extent", "extents"]


class Extent(NamedTuple):
    """How many pixels a segment has, and its box: left, top, width, height."""

    area: int
    bbox: tuple[int, int, int, int]

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom; right and bottom exclusive."""
        x, y, w, h = self.bbox
        return x, y, x + w, y + h


def extents(ids: NDArray[np.integer[Any]]) -> dict[int, Extent]:
    """The extent of each id but 0 in a map ``[H,W]``. Pixels are taken in runs along the rows."""
    h, w = ids.shape
    if not ids.size:
        return {}
    starts_run = np.empty((h, w), bool)
    starts_run[:, 0] = True
    np.not_equal(ids[:, 1:], ids[:, :-1], out=starts_run[:, 1:])
    starts = np.flatnonzero(starts_run)
    ends = np.append(starts[1:], ids.size)
    values, place = np.unique(ids.ravel()[starts], return_inverse=True)
    y, left = np.divmod(starts, w)
    right = left + (ends - starts)
    area = np.bincount(place, ends - starts).astype(np.int64)
    lows = np.full((2, len(values)), max(h, w), np.int64)
    highs = np.zeros((2, len(values)), np.int64)
    np.minimum.at(lows[0], place, left)
    np.minimum.at(lows[1], place, y)
    np.maximum.at(highs[0], place, right)
    np.maximum.at(highs[1], place, y + 1)
    table = zip(
        values.tolist(),
        area.tolist(),
        *(lows.tolist()),
        *((highs - lows).tolist()),
        strict=True,
    )
    return {v: Extent(a, (x, top, bw, bh)) for v, a, x, top, bw, bh in table if v}
