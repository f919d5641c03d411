"""Objects corrected by hand: strokes that say what belongs to an object and what does not.

A random walk from each pixel reaches a stroke of one kind or the other first; it crosses edges of
the photo rarely (L. Grady, "Random Walks for Image Segmentation", TPAMI 2006). The map as it is
pulls every pixel a little, least near the strokes, and so do the colours under them. What changes
is what hangs together with a stroke; the rest of the map stays to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from panokit.components import components
from panokit.effects._grid import coarse, on_photo
from panokit.effects.colors import color_codes, color_histogram
from panokit.effects.morphology import dilate
from panokit.effects.picking import Pick
from panokit.effects.proposing import propose
from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.result import PanopticResult, Segment, measured
from panokit.taxonomy import VOID

__all__ = ["picked", "refine"]

Point = tuple[float, float]
Stroke = Point | Sequence[Point]

SIDE = 320
"""Longest side of the grid that is worked on."""

_ROUNDS = 90  # of the conjugate gradients
_EDGE = 90.0  # how much a colour step of the mean size hinders the walk
_FLOOR = 1e-3
_PULL, _PULL_NEAR = 0.05, 0.0008  # of the map as it is, far from the strokes and near them
_COLOR = 0.006  # pull of the colours under the strokes, near them
_NEAR = 0.16  # how far a stroke reaches, in shares of the grid
_BINS = 12


def picked(
    photo: Photo, result: PanopticResult, pick: Pick
) -> tuple[PanopticResult, tuple[Segment, ...]]:
    """The segments of a pick, and the result in which they are corrected as it says. A tap on
    void picks the region that stands out there (:mod:`panokit.effects.proposing`)."""
    if pick.tap is not None:
        result = propose(photo, result, *pick.tap)[0]
    segments = pick.find(result)
    if segments and (pick.add or pick.remove):
        chosen = min(segments, key=lambda s: _distance(s, (*pick.add, *pick.remove)))
        result = refine(photo, result, chosen.id, add=pick.add, remove=pick.remove)
        segments = tuple(s for s in result if s.id in {old.id for old in segments})
    return result, segments


def refine(
    photo: Photo,
    result: PanopticResult,
    segment_id: int,
    *,
    add: Sequence[Stroke] = (),
    remove: Sequence[Stroke] = (),
) -> PanopticResult:
    """The result with one segment corrected.

    ``add`` and ``remove`` are points (x, y) in photo pixels, or strokes: lists of points. What the
    segment loses becomes void; what it gains it takes from whatever was there.
    """
    result.get(segment_id)  # an error if there is none
    step, grid = coarse(result.id_map.shape, SIDE)
    mask = result.id_map[grid] == segment_id
    yes, no = (_drawn(strokes, step, mask.shape, photo.size_wh) for strokes in (add, remove))
    if not (yes.any() or no.any()):
        return result
    yes &= ~no
    seeds = np.where(yes, 1.0, np.where(no, 0.0, np.nan))
    near = dilate(yes | no, max(3, round(_NEAR * max(mask.shape))))
    found = _walked(photo.rgb_hwc[grid], mask, seeds, near) > 0.5
    changed = (found ^ mask) & near
    parts, areas = components(changed)
    touched = set(np.unique(parts[dilate(yes | no, 1)]).tolist()) - {0}
    changed = np.isin(parts, list(touched)) if areas else changed
    ids = result.id_map.copy()
    ids[on_photo(changed & found, step, ids.shape)] = segment_id
    ids[on_photo(changed & ~found, step, ids.shape) & (ids == segment_id)] = VOID
    return replace(result, id_map=ids, segments=measured(result.segments, ids))


def _walked(
    rgb_hwc: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    seeds: NDArray[np.float64],
    near: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """How likely each pixel is of the object, float32 ``[h,w]`` 0 to 1."""
    colors = np.sqrt(rgb_hwc.astype(np.float32) / 255)
    across = _passage(colors[:, 1:] - colors[:, :-1])
    down = _passage(colors[1:] - colors[:-1])
    seeded = ~np.isnan(seeds)
    pull = np.where(near, _PULL_NEAR, _PULL).astype(np.float32)
    wish = mask.astype(np.float32)
    likely, sure = _by_color(rgb_hwc, seeds, mask)
    weight = np.where(near, _COLOR * sure, 0).astype(np.float32)
    target = (pull * wish + weight * likely) / (pull + weight)
    pull = pull + weight
    pull[seeded], target[seeded] = 1e3, seeds[seeded].astype(np.float32)
    return _solved(across, down, pull, target)


def _passage(difference: NDArray[np.float32]) -> NDArray[np.float32]:
    """How easily a walk goes from a pixel to its neighbour, by the difference of their colours."""
    square = (difference**2).sum(-1)
    mean = float(square.mean()) + 1e-6
    return np.asarray(np.exp(-_EDGE / 100 * square / mean) + _FLOOR, np.float32)


def _by_color(
    rgb_hwc: NDArray[np.uint8], seeds: NDArray[np.float64], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How likely each pixel's colour is the object's, and how sure that is: by the colours under
    the strokes, and for what has no stroke by those of the map."""
    code = color_codes(rgb_hwc, _BINS)
    cubes = []
    for stroke, region in ((seeds == 1, mask), (seeds == 0, ~mask)):
        own = color_histogram(code, dilate(stroke, 2), _BINS)
        told = color_histogram(code, region, _BINS)
        weight = 0.15 if own.any() else 1.0
        cubes.append(own / max(1.0, own.sum()) + weight * told / max(1.0, told.sum()))
    total = cubes[0] + cubes[1] + 1e-6
    likely = (cubes[0] + 5e-7) / total
    sure = np.abs(2 * likely - 1)
    return likely[code].astype(np.float32), sure[code].astype(np.float32)


def _solved(
    across: NDArray[np.float32],
    down: NDArray[np.float32],
    pull: NDArray[np.float32],
    target: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The steady state of the walk: conjugate gradients on (L + pull) x = pull · target."""
    degree = pull.copy()
    degree[:, 1:] += across
    degree[:, :-1] += across
    degree[1:] += down
    degree[:-1] += down

    def times(x: NDArray[np.float32]) -> NDArray[np.float32]:
        out = degree * x
        out[:, 1:] -= across * x[:, :-1]
        out[:, :-1] -= across * x[:, 1:]
        out[1:] -= down * x[:-1]
        out[:-1] -= down * x[1:]
        return out

    x = target.copy()
    rest = pull * target - times(x)
    ready = rest / degree
    way = ready.copy()
    size = float((rest * ready).sum())
    first = size
    for _ in range(_ROUNDS):
        if size <= 1e-8 * max(first, 1e-12):
            break
        moved = times(way)
        length = size / max(float((way * moved).sum()), 1e-20)
        x += np.float32(length) * way
        rest -= np.float32(length) * moved
        ready = rest / degree
        new = float((rest * ready).sum())
        way = ready + np.float32(new / max(size, 1e-20)) * way
        size = new
    return x


def _drawn(
    strokes: Sequence[Stroke], step: int, shape: tuple[int, ...], size_wh: tuple[int, int]
) -> NDArray[np.bool_]:
    """The cells of the grid that strokes go through."""
    out = np.zeros(shape, bool)
    for stroke in strokes:
        points = _path(stroke)
        for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[-1]], strict=True):
            for x, y in ((x0, y0), (x1, y1)):
                if not (0 <= x < size_wh[0] and 0 <= y < size_wh[1]):
                    raise ArgumentError(
                        "stroke", f"the point {(x, y)} lies outside the photo, {size_wh} pixels"
                    )
            count = int(max(abs(x1 - x0), abs(y1 - y0)) / step) + 1
            xs = np.linspace(x0, x1, count + 1) // step
            ys = np.linspace(y0, y1, count + 1) // step
            out[
                np.minimum(ys.astype(int), shape[0] - 1), np.minimum(xs.astype(int), shape[1] - 1)
            ] = True
    return out


def _path(stroke: Stroke) -> list[Point]:
    """A point, or a list of points, as a list of points."""
    array = np.asarray(stroke, np.float64).reshape(-1, 2)
    return [(float(x), float(y)) for x, y in array]


def _distance(segment: Segment, points: Sequence[Point]) -> float:
    """How far the first point is from a segment's box."""
    (x, y), (x0, y0, x1, y1) = points[0], segment.box_xyxy
    return float(np.hypot(max(x0 - x, 0, x - x1), max(y0 - y, 0, y - y1)))
