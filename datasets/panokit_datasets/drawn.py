"""How the labels of turned photos were drawn: on the photo as it is seen, or on its pixels as
stored.

Some annotation tools turn a photo as its EXIF orientation says, some do not. Where the turn changes
the shape of the picture the labels' size tells. Where it does not (half turns, mirrors, squares)
the picture does: edges of segments lie on edges of the picture, and a segment's pixels are alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from panokit._exif import upright

__all__ = ["CERTAIN", "evidence_of", "judge"]

SIDE = 128  # pixels of the longest side that pictures are compared at
CERTAIN = 2.0
"""From so much evidence on a photo's labels count as found (odds of 7 to 1)."""

# Natural logarithms of odds. Measured on true labels of five sources against the same labels
# mirrored and turned: ranks of edges differ by 0.24 ± 0.12, explained variances by 0.15 ± 0.15.
_PER_RANK, _PER_VARIANCE = 20.0, 5.0
_ENOUGH_EDGE = 100  # edge pixels; fewer tell less
_MOST_OF_ONE, _MOST_OF_OTHERS = 4.0, 8.0
_OF_SIZE = 4.0


def evidence_of(rgb_hwc: NDArray[np.uint8], ids: NDArray[np.int32], orientation: int) -> float:
    """How much speaks for labels on the stored pixels (above 0) or on the photo as it is seen.

    ``rgb_hwc`` uint8 ``[H,W,3]``, upright; ``ids`` int ``[H,W]``, as their file holds them;
    ``orientation`` is the photo's. A logarithm of odds from -4 to 4, 0 where nothing tells.
    """
    picture, labels = _reduced(rgb_hwc, ids)
    turned = upright(labels, orientation)
    if turned.shape != labels.shape or len(np.unique(labels)) < 2:
        return 0.0
    edges = [_edge_rank(picture, each) for each in (turned, labels)]
    weight = min(1.0, min(n for _, n in edges) / _ENOUGH_EDGE)
    ranks = edges[0][0] - edges[1][0]
    variances = _explained(picture, turned) - _explained(picture, labels)
    odds = weight * (_PER_RANK * ranks + _PER_VARIANCE * variances)
    return float(np.clip(odds, -_MOST_OF_ONE, _MOST_OF_ONE))


def judge(odds: Sequence[float], sizes: Sequence[bool]) -> list[float]:
    """The evidence for each of several photos of one set once the others are heard: a set is mostly
    the work of one tool.

    ``odds`` are of single photos (:func:`evidence_of`); ``sizes`` of others whose labels' size
    told (True: drawn on the stored pixels).
    """
    total = sum(odds) + sum(_OF_SIZE if stored else -_OF_SIZE for stored in sizes)
    return [own + float(np.clip(total - own, -_MOST_OF_OTHERS, _MOST_OF_OTHERS)) for own in odds]


def _reduced(
    rgb_hwc: NDArray[np.uint8], ids: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Both at most :data:`SIDE` wide and high: pixels averaged, ids of the nearest pixel."""
    from PIL import Image

    h, w = ids.shape
    scale = min(1.0, SIDE / max(h, w))
    size_wh = max(1, round(w * scale)), max(1, round(h * scale))
    shrunk = Image.fromarray(rgb_hwc).resize(size_wh, Image.Resampling.BOX)
    xs = ((np.arange(size_wh[0]) + 0.5) * w / size_wh[0]).astype(np.int64)
    ys = ((np.arange(size_wh[1]) + 0.5) * h / size_wh[1]).astype(np.int64)
    return np.asarray(shrunk, np.float64), ids[ys[:, None], xs]


def _edge_rank(picture: NDArray[np.float64], labels: NDArray[np.generic]) -> tuple[float, int]:
    """The mean rank (0..1) of the picture's steps where labels change, and at how many places."""
    steps = [np.abs(np.diff(picture, axis=axis)).sum(-1).ravel() for axis in (0, 1)]
    changes = [(labels[1:] != labels[:-1]).ravel(), (labels[:, 1:] != labels[:, :-1]).ravel()]
    step, change = np.concatenate(steps), np.concatenate(changes)
    ranks = step.argsort(kind="stable").argsort(kind="stable") / max(1, len(step) - 1)
    count = int(np.count_nonzero(change))
    return (float(ranks[change].mean()) if count else 0.5), count


def _explained(picture: NDArray[np.float64], labels: NDArray[np.generic]) -> float:
    """The share of the colours' variance that lies between segments, 0..1."""
    _, index = np.unique(labels, return_inverse=True)
    index, colors = index.ravel(), picture.reshape(-1, picture.shape[-1])
    counts = np.bincount(index)
    total = float(((colors - colors.mean(0)) ** 2).sum())
    between = sum(
        float((np.bincount(index, c) ** 2 / counts).sum() - len(c) * c.mean() ** 2)
        for c in colors.T
    )
    return between / total if total > 0 else 0.0
