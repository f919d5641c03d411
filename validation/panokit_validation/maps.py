"""How far a panoptic map lies from its reference, whatever the numbering of its segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError

__all__ = ["MapAgreement", "SegmentAgreement", "SegmentKind", "boundary_mask", "compare_maps"]

Classes = tuple[Mapping[int, int], Mapping[int, int]]

MAX_PAIRS = 20_000_000
"""More pairs of segments than this are refused: no panoptic map, but noise."""

BOUNDARY_SHARE = 0.02
"""Width of the boundary, as a share of the map's diagonal (Cheng et al.)."""

_MOSTLY = 0.5
_PART = 0.1


class SegmentKind(StrEnum):
    """What became of a segment."""

    MATCHED = "matched"
    CLASS_FLIP = "class flip"
    MISSING = "missing"
    EXTRA = "extra"
    SPLIT = "split"
    MERGED = "merged"


@dataclass(frozen=True)
class SegmentAgreement:
    """One segment of the reference (or, if ``EXTRA`` or ``MERGED``, of the device).

    ``reference_id`` and ``device_id`` are None where there is no such segment, ``reference_class``
    and ``device_class`` (ids of categories) where they are not known; ``reference_area`` and
    ``device_area`` in pixels; ``iou`` and ``boundary_iou`` 0..1 of the pair.
    """

    kind: SegmentKind
    reference_id: int | None
    device_id: int | None
    reference_class: int | None = None
    device_class: int | None = None
    reference_area: int = 0
    device_area: int = 0
    iou: float = 0.0
    boundary_iou: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        data = asdict(self)
        data["kind"] = self.kind.value
        data["iou"], data["boundary_iou"] = round(self.iou, 6), round(self.boundary_iou, 6)
        return data


@dataclass(frozen=True)
class MapAgreement:
    """Agreement of two panoptic maps, independent of how segments are numbered.

    Segments match if their IoU exceeds 0.5 and, where classes are known, the classes are equal.
    ``pq`` 0..100: sum of the matched IoU over matched + missing / 2 + extra / 2, over all segments
    in one pool (``pq_classes``: the mean of the classes' own, as COCO counts; None if classes are
    not known); ``sq`` 0..100 mean IoU of the matched. The reference's void counts as an answer,
    not as "ignore". ``equal_pixels`` 0..1: pixels of matched pairs, or void in both.
    ``boundary_iou`` 0..1: mean over the matched pairs (https://arxiv.org/abs/2103.16562).
    ``class_flips``: pairs that differ only by their class. ``split``: reference segments of which
    several device segments made parts; ``merged``: device segments made of several of the
    reference's. ``missing`` and ``extra`` count whatever is not matched.
    """

    pq: float
    pq_classes: float | None
    sq: float
    equal_pixels: float
    boundary_iou: float
    matched: int
    missing: int
    extra: int
    class_flips: int
    split: int
    merged: int
    segments: tuple[SegmentAgreement, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict of the figures, without the segments."""
        data = {k: v for k, v in asdict(self).items() if k != "segments"}
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in data.items()}


@dataclass(frozen=True)
class _Joint:
    """Two maps by dense indices: ``ids`` per index, ``index`` maps, ``joint`` pixel counts."""

    ids: tuple[NDArray[Any], NDArray[Any]]
    index: tuple[NDArray[np.intp], NDArray[np.intp]]
    joint: NDArray[np.intp]

    @property
    def areas(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        return self.joint.sum(1), self.joint.sum(0)


def compare_maps(
    actual: NDArray[Any], reference: NDArray[Any], classes: Classes | None = None
) -> MapAgreement:
    """Compare two id maps ``[H,W]`` (whole numbers, 0 = void).

    ``classes`` gives each map's class by segment id (actual's first); then only segments of one
    class match. Without it any two segments may.
    """
    if actual.ndim != 2 or actual.shape != reference.shape or actual.size == 0:
        raise ArgumentError(
            "actual",
            f"actual has the shape {actual.shape}; expected the reference's, {reference.shape}",
        )
    j = _joint(actual, reference)
    area_a, area_b = j.areas
    iou = j.joint / (area_a[:, None] + area_b[None, :] - j.joint)
    iou[j.ids[0] == 0] = 0
    iou[:, j.ids[1] == 0] = 0
    labels = _labels(j, classes)
    same = labels[0][:, None] == labels[1][None, :] if classes else np.ones(iou.shape, bool)
    near = iou > 0.5  # at most one per row and column
    pairs, flips = np.argwhere(near & same), np.argwhere(near & ~same)
    boundary = _boundary_ious(actual, reference, j, np.argwhere(near))
    count_a, count_b = int((j.ids[0] != 0).sum()), int((j.ids[1] != 0).sum())
    missing, extra = count_b - len(pairs), count_a - len(pairs)
    matched_iou = iou[pairs[:, 0], pairs[:, 1]]
    denominator = len(pairs) + (missing + extra) / 2
    equal = int(j.joint[pairs[:, 0], pairs[:, 1]].sum())
    equal += int(j.joint[np.ix_(j.ids[0] == 0, j.ids[1] == 0)].sum())
    segments = _segments(j, iou, near, same, boundary, labels if classes else None)
    kinds = [s.kind for s in segments]
    return MapAgreement(
        pq=100 * float(matched_iou.sum()) / denominator if denominator else 100.0,
        pq_classes=_class_quality(j, labels, pairs, iou) if classes else None,
        sq=100 * float(matched_iou.mean()) if len(pairs) else (0.0 if denominator else 100.0),
        equal_pixels=equal / actual.size,
        boundary_iou=_mean([boundary[int(a), int(b)] for a, b in pairs], bool(denominator)),
        matched=len(pairs),
        missing=missing,
        extra=extra,
        class_flips=len(flips),
        split=kinds.count(SegmentKind.SPLIT),
        merged=kinds.count(SegmentKind.MERGED),
        segments=segments,
    )


def boundary_mask(ids: NDArray[Any], width: int | None = None) -> NDArray[np.bool_]:
    """Pixels of each segment within ``width`` (Chebyshev) of another one or of the map's edge.

    bool ``[H,W]``; the same as each mask less its erosion by a square of 2·width + 1, all segments
    at once. Without ``width`` it is 2 % of the diagonal, at least 1.
    """
    h, w = ids.shape
    if width is None:
        width = max(1, round(BOUNDARY_SHARE * float(np.hypot(h, w))))
    mask = np.ones((h, w), bool)
    if h > 2 * width and w > 2 * width:
        inner = slice(width, h - width), slice(width, w - width)
        mask[inner] = _window(ids, width, np.minimum) != _window(ids, width, np.maximum)
    return mask


def _window(ids: NDArray[Any], width: int, choose: np.ufunc) -> NDArray[Any]:
    """Minimum or maximum over the square of 2·width + 1 round each pixel that has all of it."""
    out = ids
    for axis in (0, 1):
        out = np.moveaxis(out, axis, 0)
        span, have = 2 * width + 1, 1
        while have < span:  # windows of double length from two that overlap
            step = min(have, span - have)
            out = choose(out[: len(out) - step], out[step:])
            have += step
        out = np.moveaxis(out, 0, axis)
    return out


def _joint(actual: NDArray[Any], reference: NDArray[Any]) -> _Joint:
    (ids_a, index_a), (ids_b, index_b) = _dense(actual), _dense(reference)
    shape = len(ids_a), len(ids_b)
    if shape[0] * shape[1] > MAX_PAIRS:
        raise ArgumentError(
            "maps", f"the maps have {shape} segments; expected a few hundred at most"
        )
    counts = np.bincount(
        index_a.ravel() * shape[1] + index_b.ravel(), minlength=shape[0] * shape[1]
    )
    return _Joint((ids_a, ids_b), (index_a, index_b), counts.reshape(shape))


def _dense(ids: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The ids that occur, ascending, and for each pixel its position among them."""
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= 1 << 16:
        found, inverse = np.unique(ids, return_inverse=True)
        return found, inverse.reshape(ids.shape)
    ids = ids.astype(np.intp)
    present = np.bincount(ids.ravel(), minlength=high + 1) > 0
    return np.flatnonzero(present), (np.cumsum(present) - 1)[ids]


def _labels(j: _Joint, classes: Classes | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Class per index; what is not known matches nothing (-1 against -2)."""
    given: Classes = classes or ({}, {})
    a, b = (
        np.array([table.get(int(i), unknown) for i in ids], np.int64)
        for ids, table, unknown in zip(j.ids, given, (-1, -2), strict=True)
    )
    return a, b


def _class_quality(
    j: _Joint,
    labels: tuple[NDArray[np.int64], NDArray[np.int64]],
    pairs: NDArray[np.intp],
    iou: NDArray[np.float64],
) -> float:
    """PQ as COCO counts it: per class, then the mean over the classes that occur, 0..100."""
    real = [label[ids != 0] for label, ids in zip(labels, j.ids, strict=True)]
    values = []
    for c in np.union1d(real[0], real[1]):
        of_class = pairs[labels[0][pairs[:, 0]] == c]
        total = float(iou[of_class[:, 0], of_class[:, 1]].sum())
        # tp + fp / 2 + fn / 2 = half the number of segments on both sides
        values.append(total / (((real[0] == c).sum() + (real[1] == c).sum()) / 2))
    return 100 * float(np.mean(values)) if values else 100.0


def _boundary_ious(
    actual: NDArray[Any], reference: NDArray[Any], j: _Joint, pairs: NDArray[np.intp]
) -> dict[tuple[int, int], float]:
    """Boundary IoU of each pair of indices."""
    if not len(pairs):
        return {}
    n_a, n_b = j.joint.shape
    edge_a, edge_b = boundary_mask(actual), boundary_mask(reference)
    area_a = np.bincount(j.index[0][edge_a], minlength=n_a)
    area_b = np.bincount(j.index[1][edge_b], minlength=n_b)
    both = edge_a & edge_b
    code = j.index[0][both] * n_b + j.index[1][both]
    shared = np.bincount(code, minlength=n_a * n_b).reshape(n_a, n_b)
    out = {}
    for a, b in pairs.tolist():
        union = int(area_a[a] + area_b[b] - shared[a, b])
        out[a, b] = float(shared[a, b]) / union if union else 1.0
    return out


def _segments(
    j: _Joint,
    iou: NDArray[np.float64],
    near: NDArray[np.bool_],
    same: NDArray[np.bool_],
    boundary: dict[tuple[int, int], float],
    labels: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
) -> tuple[SegmentAgreement, ...]:
    """The table: reference segments in id order, then the device's that match none."""
    area_a, area_b = j.areas
    real_a, real_b = j.ids[0] != 0, j.ids[1] != 0
    part_of_a = j.joint / area_a[:, None]  # of the device's segment, how much lies in each
    part_of_b = j.joint / area_b[None, :]
    split = ((part_of_a > _MOSTLY) & (part_of_b >= _PART) & real_a[:, None]).sum(0) > 1
    merged = ((part_of_b > _MOSTLY) & (part_of_a >= _PART) & real_b[None, :]).sum(1) > 1

    def entry(kind: SegmentKind, a: int | None, b: int | None) -> SegmentAgreement:
        pair = (a, b) if a is not None and b is not None else None
        return SegmentAgreement(
            kind,
            None if b is None else int(j.ids[1][b]),
            None if a is None else int(j.ids[0][a]),
            _known(labels, 1, b),
            _known(labels, 0, a),
            0 if b is None else int(area_b[b]),
            0 if a is None else int(area_a[a]),
            float(iou[pair]) if pair else 0.0,
            boundary.get(pair, 0.0) if pair else 0.0,
        )

    out = []
    for b in np.flatnonzero(real_b).tolist():
        partner = np.flatnonzero(near[:, b])
        a = int(partner[0]) if len(partner) else None
        if split[b]:
            kind = SegmentKind.SPLIT
        elif a is None:
            kind = SegmentKind.MISSING
        else:
            kind = SegmentKind.MATCHED if same[a, b] else SegmentKind.CLASS_FLIP
        out.append(entry(kind, a, b))
    for a in np.flatnonzero(real_a).tolist():
        if merged[a]:
            out.append(entry(SegmentKind.MERGED, a, None))
        elif not near[a].any():
            out.append(entry(SegmentKind.EXTRA, a, None))
    return tuple(out)


def _known(
    labels: tuple[NDArray[np.int64], NDArray[np.int64]] | None, side: int, index: int | None
) -> int | None:
    if labels is None or index is None or labels[side][index] < 0:
        return None
    return int(labels[side][index])


def _mean(values: list[float], occupied: bool) -> float:
    return float(np.mean(values)) if values else (0.0 if occupied else 1.0)
