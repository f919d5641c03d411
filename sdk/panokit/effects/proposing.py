"""A region where the network found nothing: what a tap there means, by colours and edges.

How dear the cheapest way from the tap to each pixel is, is counted in steps of colour (a geodesic
distance: X. Bai and G. Sapiro, "Geodesic Matting", IJCV 2009). Of the regions that lie within a
distance, the one is proposed along whose border the colours differ most.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from panokit.effects._grid import coarse, on_photo
from panokit.effects.morphology import dilate
from panokit.photo import Photo
from panokit.result import PanopticResult, Segment, measured
from panokit.taxonomy import VOID, Category, Taxonomy

__all__ = ["propose"]

FloatArray = NDArray[np.float32]

SIDE = 320
"""Longest side of the grid that is worked on."""

NAME = "object"
COLOR = (255, 196, 0)

_SEED = 2  # how far round the tap its colour is taken
_STEP, _FROM_SEED = 0.3, 0.02  # cost of a step, and of being unlike the tap's colour
_STEEP = 1.5
_CLEAR = 25.0  # a difference of colours that is as good as any
_LEVELS = 200
_LEAST, _MOST = 20, 0.5  # cells of the grid, and share of the photo
_USUAL = 0.01  # share of the photo; what is smaller has to have a clearer border
_ROUNDS = 30

_TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
) / np.array([[0.9505], [1.0], [1.089]])


def propose(
    photo: Photo, result: PanopticResult, x: float, y: float
) -> tuple[PanopticResult, Segment | None]:
    """A region round the point (x, y) in photo pixels, which lies on void: the result in which it
    is a segment, named "object", and the segment. None where no region stands out (the result is
    then as it was); a point outside the photo is an error."""
    hit = result.at(x, y)
    if hit is not None:
        return result, hit
    step, grid = coarse(result.id_map.shape, SIDE)
    void = dilate(result.id_map[grid] == VOID, 1)
    place = min(int(y) // step, void.shape[0] - 1), min(int(x) // step, void.shape[1] - 1)
    if not void[place]:
        return result, None
    region = _region(_lab(photo.rgb_hwc[grid]), void, place)
    if region.sum() < _LEAST:
        return result, None
    mask = on_photo(region, step, result.id_map.shape) & (result.id_map == VOID)
    number = 1 + max((s.id for s in result), default=0)
    ids = np.where(mask, number, result.id_map).astype(np.int32)
    new = Segment(number, _category(result.taxonomy), 1.0, 0, (0, 0, 0, 0))
    found = measured([new], ids)
    if not found:
        return result, None
    return replace(result, id_map=ids, segments=(*result.segments, *found)), found[0]


def _category(taxonomy: Taxonomy) -> Category:
    """A class for what no class of the network knows."""
    known = next((c for c in taxonomy if c.name == NAME and c.is_thing), None)
    return known or Category(1 + max(c.id for c in taxonomy), NAME, True, COLOR)


def _region(
    lab: FloatArray, inside: NDArray[np.bool_], place: tuple[int, int]
) -> NDArray[np.bool_]:
    """Which cells belong to the region round a cell, bool ``[h,w]``."""
    across = np.sqrt(((lab[:, 1:] - lab[:, :-1]) ** 2).sum(-1))
    down = np.sqrt(((lab[1:] - lab[:-1]) ** 2).sum(-1))
    seed = np.zeros(inside.shape, bool)
    seed[place] = True
    seed = dilate(seed, _SEED) & inside
    unlike = _FROM_SEED * np.sqrt(((lab - lab[seed].mean(0)) ** 2).sum(-1)) + _STEP
    distance = _distances(
        np.where(inside[:, 1:] & inside[:, :-1], across**_STEEP + unlike[:, 1:], np.inf),
        np.where(inside[1:] & inside[:-1], down**_STEEP + unlike[1:], np.inf),
        seed,
    )
    reached = np.isfinite(distance)
    ends = np.quantile(distance[reached], np.linspace(0, 1, _LEVELS + 1)[1:])
    level = np.where(reached, np.searchsorted(ends, distance), _LEVELS)
    # A pair of neighbours is a piece of the border of every region that holds one of the two.
    contrast, length = np.zeros((2, _LEVELS + 1))
    for step, a, b in ((across, level[:, 1:], level[:, :-1]), (down, level[1:], level[:-1])):
        low, high = np.minimum(a, b).ravel(), np.maximum(a, b).ravel()
        clear = np.minimum(step.ravel(), _CLEAR)
        contrast += np.bincount(low, clear, _LEVELS + 1) - np.bincount(high, clear, _LEVELS + 1)
        length += np.bincount(low, None, _LEVELS + 1) - np.bincount(high, None, _LEVELS + 1)
    area = np.bincount(level.ravel(), minlength=_LEVELS + 1).cumsum()[:_LEVELS] / level.size
    mean = contrast.cumsum()[:_LEVELS] / np.maximum(length.cumsum()[:_LEVELS], 1)
    score = mean * np.sqrt(np.minimum(area / _USUAL, 1))
    score[area > _MOST] = 0
    best = int(np.argmax(score))
    return np.asarray(level <= best) if score[best] > 0 else np.zeros_like(inside)


def _distances(across: FloatArray, down: FloatArray, seed: NDArray[np.bool_]) -> FloatArray:
    """The cheapest way from the seed to each cell, float32 ``[h,w]``; sweeps until none is
    cheaper (or :data:`_ROUNDS`: winding ways beyond that count as dearer)."""
    out = np.where(seed, 0, np.inf).astype(np.float32)
    for _ in range(_ROUNDS):
        before = out.copy()
        _sweep(out, down.astype(np.float32))
        out = np.ascontiguousarray(out.T)
        _sweep(out, np.ascontiguousarray(across.T, np.float32))
        out = np.ascontiguousarray(out.T)
        if np.array_equal(before, out):
            break
    return out


def _sweep(distance: FloatArray, cost: FloatArray) -> None:
    """Ways along the columns, down and up, in place."""
    for y in range(1, len(distance)):
        np.minimum(distance[y], distance[y - 1] + cost[y - 1], out=distance[y])
    for y in range(len(distance) - 2, -1, -1):
        np.minimum(distance[y], distance[y + 1] + cost[y], out=distance[y])


def _lab(rgb_hwc: NDArray[np.uint8]) -> FloatArray:
    """The photo in CIE L*a*b* (near enough), smoothed by a cell, float32 ``[h,w,3]``."""
    xyz = np.cbrt((rgb_hwc / np.float32(255)) ** 2.2 @ _TO_XYZ.T + 1e-4)
    x, y, z = np.moveaxis(xyz, -1, 0)
    lab: FloatArray = np.stack([116 * y, 500 * (x - y), 200 * (y - z)], -1).astype(np.float32)
    for axis in (0, 1):
        ends = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(lab, ends, "edge")
        n = lab.shape[axis]
        near = padded.take(range(n), axis) + padded.take(range(2, n + 2), axis)
        lab = np.asarray((near + 2 * lab) / 4, np.float32)
    return lab
