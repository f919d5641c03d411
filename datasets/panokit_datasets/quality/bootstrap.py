"""How far figures would move with other photos: bootstrap intervals over the photos of a split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError
from panokit_datasets.quality.panoptic_quality import SegmentCounts

__all__ = ["Interval", "bootstrap_weights", "iou_interval", "pq_interval"]

Interval = tuple[float, float]
FloatArray = NDArray[np.float64]

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
    denominator = weights @ np.stack([c.denominator[picked] for c in counts])
    occurs = denominator > 0
    pq = 100 * iou / np.where(occurs, denominator, 1)
    classes = occurs.sum(axis=1)
    return _interval(pq.sum(axis=1)[classes > 0] / classes[classes > 0])


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
