"""Quality of classes per pixel: mean IoU, IoU of one class, and IoU along its boundary.

Partial labels are used for what they say. A pixel counts for its class where a segment says it.
Where none does, the classes the photo names as ``labelled`` are known to be absent, so that
predicting one of them there is wrong; about all others nothing is known. In photos labelled in
full such pixels are void and count for nothing; so do ignored segments everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError
from panokit.taxonomy import Taxonomy
from panokit_datasets.coco_panoptic import TruthSegment
from panokit_datasets.quality._ids import band_width, check_map, erode, index_of_ids

__all__ = [
    "BOUNDARY_RATIO",
    "IGNORED",
    "UNLABELLED",
    "PixelCounts",
    "SemanticQuality",
    "SemanticResult",
    "boundary",
    "boundary_counts",
    "confusion_matrix",
    "pred_channels",
    "true_channels",
]

UNLABELLED = -1
"""In a map of true channels: no segment. In a map of predicted channels: void."""

IGNORED = -2
"""In a map of true channels: a segment to be used for nothing."""

BOUNDARY_RATIO = 0.02
"""Width of the boundary band as a share of the image diagonal."""

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


def pred_channels(ids: NDArray[Any], segments: Mapping[int, int]) -> IntArray:
    """Channel of every pixel, int64 ``[H,W]``, ``UNLABELLED`` in void; ``segments`` has the
    channel of each id."""
    check_map("pred_ids", ids)
    index = index_of_ids("pred_ids", ids, tuple(segments))
    return np.array([UNLABELLED, *segments.values()], np.int64)[index]


def true_channels(ids: NDArray[Any], segments: Iterable[TruthSegment]) -> IntArray:
    """Channel of every pixel, int64 ``[H,W]``; ``UNLABELLED`` where the id is 0 and ``IGNORED``
    in ignored segments. A crowd has its class."""
    truth = tuple(segments)
    check_map("true_ids", ids)
    index = index_of_ids("true_ids", ids, tuple(s.id for s in truth))
    channels = [IGNORED if s.ignore else s.channel for s in truth]
    return np.array([UNLABELLED, *channels], np.int64)[index]


def confusion_matrix(
    pred: NDArray[Any], true: NDArray[Any], channels: int, absent: Sequence[int] = ()
) -> IntArray:
    """Pixels by class, int64 ``[C+1,C+1]``: row = truth, column = prediction.

    ``pred`` ``[H,W]``: channels, ``UNLABELLED`` in void. ``true`` ``[H,W]``: channels,
    ``UNLABELLED`` or ``IGNORED``. The last column is predicted void. The last row is unlabelled
    truth; it holds only predictions of the channels ``absent``, which are known to be wrong.
    """
    check_map("pred", pred)
    check_map("true", true, pred.shape)
    for name, values, low in (("pred", pred, UNLABELLED), ("true", true, IGNORED)):
        if values.size and not low <= values.min() <= values.max() < channels:
            got = f"{values.min()}..{values.max()}"
            raise ArgumentError(
                name, f"{name} has {got}; expected channels from {low} to {channels - 1}"
            )
    used = true != IGNORED
    side = channels + 1
    # -1 is the last row or column: Python's modulo brings it to C.
    rows, columns = true[used] % side, pred[used] % side
    out = np.bincount(rows.astype(np.int64) * side + columns, minlength=side * side)
    out = out.reshape(side, side)
    known = np.zeros(side, bool)
    known[list(absent)] = True
    out[channels, ~known] = 0
    return out


@dataclass(frozen=True)
class PixelCounts:
    """Per channel: ``intersection``, ``union`` and true pixels ``true``, int64 ``[C]``."""

    intersection: IntArray
    union: IntArray
    true: IntArray

    @classmethod
    def of(cls, confusion: IntArray) -> PixelCounts:
        """The counts of a :func:`confusion_matrix`."""
        intersection = confusion.diagonal()[:-1].copy()
        true = confusion.sum(axis=1)[:-1]
        return cls(intersection, true + confusion.sum(axis=0)[:-1] - intersection, true)

    def iou(self, channel: int) -> float | None:
        """IoU of one channel, 0..1; None if it is neither there nor predicted."""
        union = int(self.union[channel])
        return int(self.intersection[channel]) / union if union else None

    def mean_iou(self) -> float | None:
        """Mean IoU over the channels present in the truth, 0..1; None if there is none."""
        present = self.true > 0
        if not present.any():
            return None
        return float((self.intersection[present] / self.union[present]).mean())


@dataclass(frozen=True)
class SemanticResult:
    """``miou`` over the classes present in the truth and ``iou`` by class name, 0..1; None where
    there is nothing to judge."""

    miou: float | None
    iou: Mapping[str, float | None]


class SemanticQuality:
    """Pools pixels photo after photo in one confusion matrix."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self.confusion: IntArray = np.zeros((len(taxonomy) + 1,) * 2, np.int64)

    def update(
        self, pred: NDArray[Any], true: NDArray[Any], absent: Sequence[int] = ()
    ) -> PixelCounts:
        """Count one photo, channels ``[H,W]`` and the other arguments as
        :func:`confusion_matrix`; returns its own counts."""
        confusion = confusion_matrix(pred, true, len(self.taxonomy), absent)
        self.confusion += confusion
        return PixelCounts.of(confusion)

    def merge(self, other: SemanticQuality) -> None:
        """Add what ``other`` has counted, for example in another process."""
        if other.taxonomy != self.taxonomy:
            expected = f"of the same taxonomy ({self.taxonomy.name!r})"
            raise ArgumentError(
                "other",
                f"the other counts are of the taxonomy {other.taxonomy.name!r}; "
                f"expected counts {expected}",
            )
        self.confusion += other.confusion

    def compute(self) -> SemanticResult:
        """The figures of everything counted so far."""
        counts = PixelCounts.of(self.confusion)
        iou = {c.name: counts.iou(i) for i, c in enumerate(self.taxonomy)}
        return SemanticResult(counts.mean_iou(), iou)


def boundary(mask: BoolArray, ratio: float = BOUNDARY_RATIO) -> BoolArray:
    """The inner boundary band of ``mask`` bool ``[H,W]``: its pixels that are at most
    max(1, round(``ratio`` · diagonal)) pixels (larger of dy and dx) from the outside.

    Beyond the image is outside, as in Cheng et al., https://arxiv.org/abs/2103.16562.
    """
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype != np.bool_:
        got = f"{getattr(mask, 'dtype', type(mask))} {getattr(mask, 'shape', '')}"
        raise ArgumentError("mask", f"mask is {got}; expected a bool array [H,W]")
    width = band_width(mask.shape, ratio)
    return mask & ~erode(erode(mask, width).T, width).T


def boundary_counts(
    pred: BoolArray, true: BoolArray, valid: BoolArray, ratio: float = BOUNDARY_RATIO
) -> tuple[int, int]:
    """Intersection and union, in pixels, of the boundary bands of two masks, all bool ``[H,W]``.

    Where the truth is not ``valid`` it is taken to be what was predicted, so that the edge of an
    unknown region is not mistaken for an edge of the object; such pixels are not counted. A band is
    ``ratio`` of the photo's diagonal wide, at least a pixel.
    """
    for name, array in (("true", true), ("valid", valid)):
        if array.shape != pred.shape or array.dtype != np.bool_:
            got = f"{array.dtype} {array.shape}"
            raise ArgumentError(
                name, f"{name} is {got}; expected a bool array of shape {pred.shape}"
            )
    bands = boundary(pred, ratio), boundary(np.where(valid, true, pred), ratio)
    intersection = np.count_nonzero(bands[0] & bands[1] & valid)
    return int(intersection), int(np.count_nonzero((bands[0] | bands[1]) & valid))
