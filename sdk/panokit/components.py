"""The connected parts of a mask, by runs along the rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["components"]


def components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], list[int]]:
    """Number the parts of a mask ``[H,W]`` whose pixels touch at sides or corners.

    Returns int32 ``[H,W]``, 0 outside and 1, 2, 3 … inside, the largest part first, and the area of
    each part.
    """
    h, w = mask.shape
    padded = np.zeros((h, w + 2), np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded, axis=1)
    y, start = np.nonzero(steps == 1)
    _, end = np.nonzero(steps == -1)
    count = len(y)
    if not count:
        return np.zeros((h, w), np.int32), []
    parent = list(range(count))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    first = np.searchsorted(y, np.arange(h + 1))  # the first run of each row
    for row in np.unique(y).tolist():
        if row == 0:
            continue
        above, here = int(first[row - 1]), int(first[row])
        for run in range(here, int(first[row + 1])):
            while above < here and end[above] < start[run]:  # they touch at corners too
                above += 1
            other = above
            while other < here and start[other] <= end[run]:
                a, b = root(other), root(run)
                parent[max(a, b)] = min(a, b)
                other += 1
    roots = np.array([root(i) for i in range(count)])
    areas = np.bincount(roots, end - start, minlength=count).astype(np.int64)
    order = [r for r in np.argsort(-areas, kind="stable").tolist() if areas[r]]
    number = np.zeros(count, np.int32)
    number[order] = np.arange(1, len(order) + 1)
    out = np.zeros((h, w), np.int32)
    flat = out.ravel()
    lengths = end - start
    begins = y * w + start
    places = np.repeat(begins - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
    flat[places + np.arange(int(lengths.sum()))] = np.repeat(number[roots], lengths)
    return out, areas[order].tolist()
