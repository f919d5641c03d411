"""How far figures would move with other photos: bootstrap intervals over the photos of a split, and
whether one run is better than another on the same photos.

Photos are resampled, never segments or pixels: those of one photo are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError
from panokit_datasets.quality.panoptic_quality import SegmentCounts

__all__ = [
    "FEW_PHOTOS",
    "Difference",
    "Interval",
    "bootstrap_weights",
    "compare_pq",
    "iou_interval",
    "pq_interval",
]

Interval = tuple[float, float]
FloatArray = NDArray[np.float64]

FEW_PHOTOS = 30
"""With fewer, percentile intervals are too narrow."""

_PERCENTILES = (2.5, 97.5)


def bootstrap_weights(photos: int, resamples: int = 1000, seed: int = 0) -> FloatArray:
    """How often each photo is drawn, float64 ``[resamples, photos]``; rows sum to ``photos``."""
    if photos < 1 or resamples < 1:
        raise ArgumentError(
            "resamples",
            f"there are {photos} photos and {resamples} resamples; expected at least 1 of each",
        )
    rng = np.random.default_rng(seed)
    return rng.multinomial(photos, np.full(photos, 1 / photos), resamples).astype(np.float64)


def pq_interval(
    weights: FloatArray, counts: Sequence[SegmentCounts], channels: Sequence[int]
) -> Interval | None:
    """95 % interval of the mean PQ (0..100) over ``channels``, from the counts of each photo.

    None if no resample holds one of the channels. A resample that lacks a rare class leaves it
    out of its mean, so with few photos the interval does not lie evenly round the figure.
    """
    picked = list(channels)
    iou = weights @ np.stack([c.iou[picked] for c in counts])  # [resamples, channels]
    pq = _mean_pq(iou, weights @ np.stack([c.denominator[picked] for c in counts]))
    return _interval(pq[np.isfinite(pq)])


@dataclass(frozen=True)
class Difference:
    """PQ (0..100) of runs A and B on the same ``photos``, B's less A's, its 95 % interval, and how
    likely so large a difference is where photos of A and B are swapped at random (``p``).

    ``common`` is the difference over the classes that every resample holds, ``classes`` of them;
    a rare class moves the others' mean as it comes and goes. None where there is no class.
    """

    a: float
    b: float
    difference: float
    interval: Interval
    p: float
    common: float | None
    classes: int
    photos: int
    resamples: int
    seed: int

    @property
    def verdict(self) -> str:
        """In words, of the interval: ``"better"``, ``"worse"`` or ``"within noise"``."""
        low, high = self.interval
        return "better" if low > 0 else "worse" if high < 0 else "within noise"

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict of all fields and the verdict."""
        return {**asdict(self), "interval": list(self.interval), "verdict": self.verdict}


def compare_pq(
    a: Sequence[SegmentCounts], b: Sequence[SegmentCounts], resamples: int = 2000, seed: int = 0
) -> Difference:
    """Whether run B is better than A, from the counts of each photo, in the same order.

    A resample draws the same photos for both (paired bootstrap); for ``p`` the counts of a photo
    are swapped between A and B with probability 1/2, (hits + 1) / (resamples + 1).
    """
    if len(a) != len(b) or not a:
        raise ArgumentError(
            "b", f"there are {len(a)} and {len(b)} photos; expected as many of both"
        )
    iou, denominator = (
        np.stack([[getattr(c, of) for c in run] for run in (a, b)]) for of in ("iou", "denominator")
    )  # each [2, photos, channels]
    weights = bootstrap_weights(len(a), resamples, seed)
    drawn = [(weights @ iou[k], weights @ denominator[k]) for k in (0, 1)]
    found = _mean_pq(*drawn[1]) - _mean_pq(*drawn[0])
    interval = _interval(found[np.isfinite(found)])
    once = [(iou[k].sum(0, keepdims=True), denominator[k].sum(0, keepdims=True)) for k in (0, 1)]
    of_a, of_b = (float(_mean_pq(*one)[0]) for one in once)
    if interval is None or not np.isfinite(of_a + of_b):
        raise ArgumentError("a", "a run has neither true nor predicted segments; expected some")
    always = ((drawn[0][1] > 0) & (drawn[1][1] > 0)).all(axis=0)
    common = [_mean_pq(i[:, always], d[:, always])[0] for i, d in once] if always.any() else None
    swap = np.random.default_rng([seed, 1]).integers(0, 2, (resamples, len(a))).astype(np.float64)
    mixed = [
        (
            swap @ iou[1 - k] + (1 - swap) @ iou[k],
            swap @ denominator[1 - k] + (1 - swap) @ denominator[k],
        )
        for k in (0, 1)
    ]
    chance = np.abs(_mean_pq(*mixed[1]) - _mean_pq(*mixed[0]))
    hits = int(np.sum(chance >= abs(of_b - of_a) - 1e-12))
    return Difference(
        a=of_a,
        b=of_b,
        difference=of_b - of_a,
        interval=interval,
        p=(hits + 1) / (resamples + 1),
        common=float(common[1] - common[0]) if common else None,
        classes=int(always.sum()),
        photos=len(a),
        resamples=resamples,
        seed=seed,
    )


def _mean_pq(iou: FloatArray, denominator: FloatArray) -> FloatArray:
    """PQ 0..100 of each row ``[…,channels]``, over the classes that occur; NaN without any."""
    occurs = denominator > 0
    pq = 100 * iou / np.where(occurs, denominator, 1)
    classes = occurs.sum(axis=-1)
    return np.asarray(np.where(classes > 0, pq.sum(axis=-1) / np.maximum(classes, 1), np.nan))


def iou_interval(
    weights: FloatArray, intersections: Sequence[int], unions: Sequence[int]
) -> Interval | None:
    """95 % interval of a pooled IoU (0..1), from intersection and union pixels of each photo.

    None if no resample has a union.
    """
    intersection = weights @ np.asarray(intersections, np.float64)
    union = weights @ np.asarray(unions, np.float64)
    return _interval(intersection[union > 0] / union[union > 0])


def _interval(values: FloatArray) -> Interval | None:
    if not values.size:
        return None
    low, high = np.percentile(values, _PERCENTILES)
    return float(low), float(high)
