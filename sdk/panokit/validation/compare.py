"""How far apart two tensors, or two panoptic maps, are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError

__all__ = ["HeadAgreement", "PanopticAgreement", "compare_maps", "compare_tensors"]

INFINITE_DB = 200.0
"""What identical tensors get instead of infinite decibels, so that JSON can hold it."""


@dataclass(frozen=True)
class HeadAgreement:
    """Agreement of a tensor with its reference.

    ``max_abs`` and ``mean_abs`` in the tensor's unit; ``sqnr_db`` = 10·log10 of the reference's
    power over the difference's (200 when identical); ``cosine`` -1..1.
    """

    max_abs: float
    mean_abs: float
    sqnr_db: float
    cosine: float

    def to_json(self) -> dict[str, float]:
        """A JSON-ready dict."""
        return {k: round(v, 6) for k, v in asdict(self).items()}


@dataclass(frozen=True)
class PanopticAgreement:
    """Agreement of two panoptic maps, independent of how segments are numbered.

    ``pq`` 0..100: panoptic quality of the device's map with the reference's as truth, over all
    segments whatever their class; ``equal_pixels`` 0..1: share of pixels whose segment is matched
    to the reference's (or void in both); ``matched``, ``missing`` and ``extra`` count segments.
    """

    pq: float
    equal_pixels: float
    matched: int
    missing: int
    extra: int

    def to_json(self) -> dict[str, float]:
        """A JSON-ready dict."""
        return {k: round(v, 6) for k, v in asdict(self).items()}


def compare_tensors(actual: NDArray[Any], reference: NDArray[Any]) -> HeadAgreement:
    """Compare two tensors of one shape (any real type; computed in float64)."""
    if actual.shape != reference.shape:
        raise ArgumentError("actual", f"of the reference's shape {reference.shape}", actual.shape)
    a, b = actual.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    difference = a - b
    noise, power = float(difference @ difference), float(b @ b)
    if noise == 0:
        sqnr = INFINITE_DB
    elif power == 0:
        sqnr = -INFINITE_DB
    else:
        sqnr = float(np.clip(10 * np.log10(power / noise), -INFINITE_DB, INFINITE_DB))
    norm = float(np.sqrt(a @ a) * np.sqrt(power))
    cosine = float(a @ b) / norm if norm > 0 else float(noise == 0)
    magnitude = np.abs(difference)
    return HeadAgreement(float(magnitude.max()), float(magnitude.mean()), sqnr, cosine)


def compare_maps(
    actual: NDArray[Any],
    reference: NDArray[Any],
    classes: tuple[Mapping[int, int], Mapping[int, int]] | None = None,
) -> PanopticAgreement:
    """Compare two id maps ``[H,W]`` (0 = void).

    ``classes`` gives each map's category by segment id (actual's first); then only segments of
    one category match. Without it any two segments may.
    """
    if actual.shape != reference.shape:
        raise ArgumentError("actual", f"of the reference's shape {reference.shape}", actual.shape)
    ids_a, inverse_a = np.unique(actual, return_inverse=True)
    ids_b, inverse_b = np.unique(reference, return_inverse=True)
    joint = np.bincount(
        inverse_a.ravel() * len(ids_b) + inverse_b.ravel(), minlength=len(ids_a) * len(ids_b)
    ).reshape(len(ids_a), len(ids_b))
    area_a, area_b = joint.sum(1), joint.sum(0)
    iou = joint / (area_a[:, None] + area_b[None, :] - joint)
    iou[ids_a == 0] = 0
    iou[:, ids_b == 0] = 0
    if classes is not None:
        class_a = np.array([classes[0].get(int(i), -1) for i in ids_a])
        class_b = np.array([classes[1].get(int(i), -2) for i in ids_b])
        iou[class_a[:, None] != class_b[None, :]] = 0
    pairs = np.argwhere(iou > 0.5)  # at most one per row and column
    count_a, count_b = int((ids_a != 0).sum()), int((ids_b != 0).sum())
    missing, extra = count_b - len(pairs), count_a - len(pairs)
    denominator = len(pairs) + 0.5 * missing + 0.5 * extra
    quality = float(iou[pairs[:, 0], pairs[:, 1]].sum() / denominator) if denominator else 1.0
    equal = int(joint[pairs[:, 0], pairs[:, 1]].sum())
    equal += int(joint[np.ix_(ids_a == 0, ids_b == 0)].sum())
    return PanopticAgreement(100 * quality, equal / actual.size, len(pairs), missing, extra)
