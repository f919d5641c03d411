"""Panoptic quality (Kirillov et al., https://arxiv.org/abs/1801.00868) as COCO counts it.

A predicted and a true segment of one class match if intersection / union > 0.5, where the union
leaves out what the prediction has in void. Matched pairs are true positives; PQ of a class is the
sum of their IoU over tp + fp / 2 + fn / 2, SQ its mean IoU and RQ = PQ / SQ.

- Void is every pixel with id 0 and every segment marked ``ignore``.
- A crowd (``is_crowd``) is never matched and never missed. An unmatched prediction that lies more
  than half in void and crowds *of its class* is no false positive.
- Crowds ``"correct"``: all crowds of a class count. ``"strict"``, as the reference implementation
  (https://github.com/cocodataset/panopticapi): of each class the last one listed. There a true
  segment without a pixel is missed, and a true id that is not listed is neither void nor a segment.
- A predicted segment listed without a single pixel is not there. (The reference implementation
  refuses it; small segments do vanish when a map is brought back to a smaller photo.)
- With a ``boundary`` ratio (boundary PQ, https://arxiv.org/abs/2103.16562) a pair's IoU is the
  smaller of that of the masks and that of their boundary bands: the pixels at most
  max(1, round(ratio · diagonal)) pixels (larger of dy and dx) from the outside, which is also
  beyond the image. Void leaves that union too.
- Means go over the classes that occur in truth or prediction. Without any the figure is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError
from panokit.taxonomy import Taxonomy
from panokit_datasets.coco_panoptic import TruthSegment
from panokit_datasets.quality._ids import band_width, check_map, erode, index_of_ids

__all__ = [
    "ClassQuality",
    "Crowds",
    "Matching",
    "Means",
    "PanopticQuality",
    "PanopticQualityResult",
    "SegmentCounts",
    "count_runs",
    "count_segments",
    "match_segments",
]

Crowds = Literal["correct", "strict"]
"""Which crowds excuse a prediction: all of its class, or as panopticapi the last one listed."""

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SegmentCounts:
    """Matches per channel: ``tp``, ``fp``, ``fn`` int64 and ``iou`` float64 (sum over the true
    positives), each ``[C]``."""

    tp: IntArray
    fp: IntArray
    fn: IntArray
    iou: FloatArray

    @classmethod
    def zeros(cls, channels: int) -> SegmentCounts:
        """Nothing counted yet."""
        tp, fp, fn = np.zeros((3, channels), np.int64)
        return cls(tp, fp, fn, np.zeros(channels))

    def __add__(self, other: SegmentCounts) -> SegmentCounts:
        return SegmentCounts(
            self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.iou + other.iou
        )

    @property
    def denominator(self) -> FloatArray:
        """tp + fp / 2 + fn / 2, float64 ``[C]``; 0 for a class that does not occur."""
        return np.asarray(self.tp + (self.fp + self.fn) / 2)


@dataclass(frozen=True)
class Matching:
    """Which segments of one photo match, by their places in the lists of them: ``true`` and
    ``pred`` int64 ``[n]`` of the pairs and ``iou`` float64 ``[n]``, 0..1; ``missed`` true and
    ``invented`` predicted segments, int64 ``[m]`` each. A prediction in neither is excused by void
    or a crowd."""

    true: IntArray
    pred: IntArray
    iou: FloatArray
    missed: IntArray
    invented: IntArray


@dataclass(frozen=True)
class ClassQuality:
    """Quality of one class: ``pq``, ``sq``, ``rq`` 0..100, None if the class occurs neither in
    the truth nor in the predictions; and how many segments were matched (``tp``), invented (``fp``)
    and missed (``fn``)."""

    pq: float | None
    sq: float | None
    rq: float | None
    tp: int
    fp: int
    fn: int

    def to_json(self) -> dict[str, float | int | None]:
        """A JSON-ready dict of all fields."""
        return {
            "pq": self.pq,
            "sq": self.sq,
            "rq": self.rq,
            "tp": self.tp,
            "fp": self.fp,
            "fn": self.fn,
        }


@dataclass(frozen=True)
class Means:
    """A figure's mean over all, over thing and over stuff classes, 0..100; None without any."""

    all: float | None
    things: float | None
    stuff: float | None


@dataclass(frozen=True)
class PanopticQualityResult:
    """PQ as means over ``all``, ``things`` and ``stuff`` (0..100, None if no such class occurs),
    the same means of ``sq`` and ``rq``, and the figures of every class by name."""

    all: float | None
    things: float | None
    stuff: float | None
    sq: Means
    rq: Means
    per_class: Mapping[str, ClassQuality]

    def to_json(self) -> dict[str, Any]:
        """``{all, things, stuff, per_class: {name: {pq, sq, rq, tp, fp, fn}}}``."""
        return {
            "all": self.all,
            "things": self.things,
            "stuff": self.stuff,
            "per_class": {name: c.to_json() for name, c in self.per_class.items()},
        }


class PanopticQuality:
    """Counts photo after photo; memory does not grow with their number.

    ::

        quality = PanopticQuality(taxonomy)
        for … : quality.update(pred_ids, {1: 0, 2: 17}, true_ids, true_segments)
        quality.compute().all
    """

    def __init__(
        self, taxonomy: Taxonomy, crowds: Crowds = "correct", boundary: float | None = None
    ) -> None:
        self.taxonomy, self.crowds = taxonomy, _check_crowds(crowds)
        self.boundary = boundary
        self.counts = SegmentCounts.zeros(len(taxonomy))

    def update(
        self,
        pred_ids: NDArray[Any],
        pred_segments: Mapping[int, int],
        true_ids: NDArray[Any],
        true_segments: Iterable[TruthSegment],
    ) -> SegmentCounts:
        """Count one photo: ids ``[H,W]``; arguments and result as :func:`count_segments`."""
        counts = count_segments(
            pred_ids, pred_segments, true_ids, true_segments, len(self.taxonomy), self.crowds,
            self.boundary,
        )  # fmt: skip
        self.add(counts)
        return counts

    def add(self, counts: SegmentCounts) -> None:
        """Add matches that were counted elsewhere."""
        if counts.tp.shape != self.counts.tp.shape:
            expected = f"of {len(self.taxonomy)} channels"
            raise ArgumentError(
                "counts", f"the counts are of {len(counts.tp)} channels; expected counts {expected}"
            )
        self.counts = self.counts + counts

    def merge(self, other: PanopticQuality) -> None:
        """Add what ``other`` has counted, for example in another process."""
        if other.taxonomy != self.taxonomy:
            expected = f"of the same taxonomy ({self.taxonomy.name!r})"
            raise ArgumentError(
                "other",
                f"the other counts are of the taxonomy {other.taxonomy.name!r}; "
                f"expected counts {expected}",
            )
        self.add(other.counts)

    def compute(self) -> PanopticQualityResult:
        """The figures of everything counted so far."""
        counts, things = self.counts, self.taxonomy.thing_mask
        occurs = counts.denominator > 0
        # A class that occurs but has no true positive has IoU sum 0, hence PQ = SQ = RQ = 0.
        pq = 100 * counts.iou / np.where(occurs, counts.denominator, 1)
        sq = 100 * counts.iou / np.maximum(counts.tp, 1)
        rq = 100 * counts.tp / np.where(occurs, counts.denominator, 1)

        def mean(values: FloatArray) -> Means:
            return Means(
                *(
                    float(values[occurs & kind].mean()) if (occurs & kind).any() else None
                    for kind in (np.ones_like(things), things, ~things)
                )
            )

        per_class = {}
        for i, category in enumerate(self.taxonomy):
            there = bool(occurs[i])
            per_class[category.name] = ClassQuality(
                pq=float(pq[i]) if there else None,
                sq=float(sq[i]) if there else None,
                rq=float(rq[i]) if there else None,
                tp=int(counts.tp[i]),
                fp=int(counts.fp[i]),
                fn=int(counts.fn[i]),
            )
        means = mean(pq)
        return PanopticQualityResult(
            means.all, means.things, means.stuff, mean(sq), mean(rq), per_class
        )


def count_segments(
    pred_ids: NDArray[Any],
    pred_segments: Mapping[int, int],
    true_ids: NDArray[Any],
    true_segments: Iterable[TruthSegment],
    channels: int,
    crowds: Crowds = "correct",
    boundary: float | None = None,
) -> SegmentCounts:
    """Match the segments of one photo.

    ``pred_ids`` and ``true_ids``: whole numbers ``[H,W]``, 0 = void; ``pred_segments``: the
    channel (0..``channels`` - 1) of each predicted id; ``true_segments``: what each true id is, in
    the order in which they are listed.
    """
    check_map("pred_ids", pred_ids)
    check_map("true_ids", true_ids, pred_ids.shape)
    if boundary is None:
        true, pred, pixels = _runs(true_ids, pred_ids)
        return count_runs(true, pred, pixels, pred_segments, true_segments, channels, crowds)
    bands = [bands_of(ids, boundary) for ids in (true_ids, pred_ids)]
    true, pred, *found, pixels = _runs(true_ids, pred_ids, *bands)
    return count_runs(
        true, pred, pixels, pred_segments, true_segments, channels, crowds, (found[0], found[1])
    )


def match_segments(
    pred_ids: NDArray[Any],
    pred_segments: Mapping[int, int],
    true_ids: NDArray[Any],
    true_segments: Sequence[TruthSegment],
    channels: int,
) -> Matching:
    """Which segments of one photo match; arguments as :func:`count_segments`."""
    check_map("pred_ids", pred_ids)
    check_map("true_ids", true_ids, pred_ids.shape)
    true, pred, pixels = _runs(true_ids, pred_ids)
    return _match(true, pred, pixels, pred_segments, tuple(true_segments), channels)


def count_runs(
    true_run: NDArray[Any],
    pred_run: NDArray[Any],
    pixels: NDArray[np.int64],
    pred_segments: Mapping[int, int],
    true_segments: Iterable[TruthSegment],
    channels: int,
    crowds: Crowds = "correct",
    bands: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None,
) -> SegmentCounts:
    """As :func:`count_segments`, of a photo that is given as stretches of ``pixels`` pixels each,
    over which its true and its predicted id stay the same; all three ``[n]``. ``bands``: whether
    the stretch lies in the boundary band of the true and of the predicted segment, for boundary PQ.
    """
    truth = tuple(true_segments)
    found = _match(true_run, pred_run, pixels, pred_segments, truth, channels, crowds, bands)
    pred_channel = np.array([*pred_segments.values()], np.int64)
    true_channel = np.array([s.channel for s in truth], np.int64)
    hit_channel = true_channel[found.true]
    return SegmentCounts(
        tp=np.bincount(hit_channel, minlength=channels),
        fp=np.bincount(pred_channel[found.invented], minlength=channels),
        fn=np.bincount(true_channel[found.missed], minlength=channels),
        iou=np.bincount(hit_channel, found.iou, minlength=channels).astype(np.float64),
    )


def _match(
    true_run: NDArray[Any],
    pred_run: NDArray[Any],
    pixels: NDArray[np.int64],
    pred_segments: Mapping[int, int],
    truth: tuple[TruthSegment, ...],
    channels: int,
    crowds: Crowds = "correct",
    bands: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None,
) -> Matching:
    """As :func:`count_runs`, which segments it is that match."""
    strict = _check_crowds(crowds) == "strict"
    pred_channel = _channels("pred_segments", pred_segments.values(), channels)
    true_channel = _channels("true_segments", (s.channel for s in truth), channels)
    pred = index_of_ids("pred_ids", pred_run, tuple(pred_segments))
    listed = tuple(s.id for s in truth)
    true = index_of_ids("true_ids", true_run, listed, unlisted=len(truth) + 1 if strict else None)
    ignored = np.array([False, *(s.ignore for s in truth), False])
    true = np.where(ignored[true], 0, true)
    crowd = np.array([False, *(s.is_crowd for s in truth), True])  # unlisted: never matched, missed
    true_channel = np.append(true_channel, -1)

    # Every pair of segments that share pixels: true index t, predicted index p, shared pixels n.
    n_true, n_pred = len(truth) + 2, len(pred_segments) + 1
    pairs, place = np.unique(true * n_pred + pred, return_inverse=True)
    n = _sums(place, pixels, len(pairs))
    t, p = np.divmod(pairs, n_pred)
    pred_area = _sums(p, n, n_pred)
    true_area = _sums(t, n, n_true)
    in_void = _sums(p[t == 0], n[t == 0], n_pred)
    same_class = (t > 0) & (p > 0) & (true_channel[t] == pred_channel[p])
    excusing = crowd.copy()
    if strict:
        last = {s.channel: at for at, s in enumerate(truth, 1) if s.is_crowd}
        excusing[:] = np.isin(np.arange(n_true), list(last.values()))
    of_crowd = same_class & excusing[t]
    excused = in_void + _sums(p[of_crowd], n[of_crowd], n_pred)

    shared, union = n, pred_area[p] + true_area[t] - n - in_void[p]
    hit = same_class & ~crowd[t] & (2 * shared > union)
    if bands is not None:
        of_band = _band_overlap(true, pred, pixels, bands, place, (t, p), (n_true, n_pred))
        hit &= 2 * of_band[0] > of_band[1]
        smaller = of_band[0] * union < shared * of_band[1]
        shared, union = (np.where(smaller, a, b) for a, b in zip(of_band, (n, union), strict=True))
    missed = ~crowd & ~ignored if strict else (true_area > 0) & ~crowd
    missed[0] = False
    missed[t[hit]] = False
    invented = (pred_area > 0) & (2 * excused <= pred_area)
    invented[0] = False
    invented[p[hit]] = False
    return Matching(
        t[hit] - 1, p[hit] - 1, shared[hit] / union[hit],
        np.flatnonzero(missed[: len(truth) + 1]) - 1, np.flatnonzero(invented) - 1,
    )  # fmt: skip


def _check_crowds(crowds: Crowds) -> Crowds:
    if crowds not in ("correct", "strict"):
        raise ArgumentError.unknown("crowds", crowds, ("correct", "strict"))
    return crowds


def bands_of(ids: NDArray[Any], ratio: float) -> NDArray[np.bool_]:
    """The pixels of a map ``[H,W]`` that lie in the boundary band of their segment, bool."""
    width = band_width(ids.shape, ratio)
    # The column is steady, and so is the row at each of its pixels: the whole window is.
    return ~(_steady(ids.T, width).T & erode(_steady(ids, width).T, width).T)


def _steady(ids: NDArray[Any], radius: int) -> NDArray[np.bool_]:
    """Whether ids stay the same from ``radius`` before to ``radius`` after, along the last axis."""
    h, w = ids.shape
    steady = np.zeros((h, w), np.bool_)
    if w > 2 * radius:
        changes = np.zeros((h, w), np.int64)
        np.cumsum(ids[:, 1:] != ids[:, :-1], axis=1, out=changes[:, 1:])
        steady[:, radius : w - radius] = changes[:, 2 * radius :] == changes[:, : w - 2 * radius]
    return steady


def _band_overlap(
    true: IntArray,
    pred: IntArray,
    pixels: IntArray,
    bands: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    place: IntArray,
    pairs: tuple[IntArray, IntArray],
    sizes: tuple[int, int],
) -> tuple[IntArray, IntArray]:
    """Intersection and union of the bands of each pair. ``place`` is the pair of each stretch."""
    (t, p), (n_true, n_pred) = pairs, sizes
    of_true, of_pred = (np.where(band, pixels, 0) for band in bands)
    both = _sums(place, np.where(bands[0], of_pred, 0), len(t))
    true_area, pred_area = _sums(true, of_true, n_true), _sums(pred, of_pred, n_pred)
    in_void = _sums(pred, np.where(true == 0, of_pred, 0), n_pred)
    return both, pred_area[p] + true_area[t] - both - in_void[p]


def _runs(*maps: NDArray[Any]) -> list[NDArray[Any]]:
    """Stretches of pixels, row after row, over which all maps stay the same: the values of each,
    and how many pixels they are. Maps of segments have far fewer of them than pixels."""
    flat = [one.ravel() for one in maps]
    if not flat[0].size:
        return [*flat, np.zeros(0, np.int64)]
    changed = np.zeros(flat[0].size - 1, np.bool_)
    for one in flat:
        changed |= one[1:] != one[:-1]
    starts = np.concatenate(([0], np.flatnonzero(changed) + 1))
    return [*(one[starts] for one in flat), np.diff(starts, append=flat[0].size)]


def _channels(name: str, values: Iterable[int], channels: int) -> IntArray:
    """Channel of void (-1) and of each segment, int64."""
    out = np.array([-1, *values], np.int64)
    wrong = out[1:][(out[1:] < 0) | (out[1:] >= channels)]
    if wrong.size:
        raise ArgumentError(
            name,
            f"{name} has a segment of channel {int(wrong[0])}; "
            f"expected channels from 0 to {channels - 1}",
        )
    return out


def _sums(index: IntArray, pixels: IntArray, length: int) -> IntArray:
    """Pixels per index; float64 sums are exact up to 2^53 pixels."""
    return np.bincount(index, pixels, minlength=length).astype(np.int64)
