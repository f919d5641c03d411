"""Quality of anything that segments photos, on one split of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError, DataError
from panokit.photo import Photo
from panokit.taxonomy import Taxonomy
from panokit_datasets.any_photo import AnyFolder
from panokit_datasets.coco_panoptic import TruthSegment, load_truth
from panokit_datasets.quality.average_precision import AveragePrecision
from panokit_datasets.quality.bootstrap import (
    Interval,
    bootstrap_weights,
    iou_interval,
    pq_interval,
)
from panokit_datasets.quality.breakdown import Breakdown, BreakdownResult
from panokit_datasets.quality.panoptic_quality import (
    PanopticQuality,
    PanopticQualityResult,
    SegmentCounts,
)
from panokit_datasets.quality.semantic import (
    UNLABELLED,
    PixelCounts,
    SemanticQuality,
    boundary_counts,
    pred_channels,
    true_channels,
)
from panokit_datasets.readers import find_datasets

__all__ = [
    "PERSON",
    "EvaluationPhoto",
    "EvaluationResult",
    "PhotoQuality",
    "Prediction",
    "Segmenter",
    "evaluate",
]

PERSON = "person"
"""The class that has figures of its own, if the taxonomy has it."""


class Prediction(NamedTuple):
    """What was found in a photo.

    ``ids`` int32 ``[H,W]`` at photo resolution (0 = void); ``segments`` their (id, channel,
    score); ``class_map`` int ``[H,W]``, the channel of every pixel before objects were formed (-1
    = void). Without a class map the pixels' classes are those of the segments.
    """

    ids: NDArray[np.int32]
    segments: Sequence[tuple[int, int, float]]
    class_map: NDArray[Any] | None = None


class EvaluationPhoto(Protocol):
    """A labelled photo, wherever it lies. ``absent`` are channels known not to be where the labels
    say nothing; ``complete``: all is labelled."""

    @property
    def name(self) -> str: ...

    @property
    def image_id(self) -> int: ...

    @property
    def complete(self) -> bool: ...

    @property
    def absent(self) -> tuple[int, ...]: ...

    def load(self) -> tuple[Photo, NDArray[np.int32], tuple[TruthSegment, ...]]:
        """Photo, ids int32 ``[H,W]`` and segments."""
        ...


Segmenter = Callable[
    [Photo], Prediction | tuple[NDArray[np.int32], Sequence[tuple[int, int, float]]]
]
"""A photo to a :class:`Prediction`, or to its first two fields."""

Progress = Callable[[Iterable[EvaluationPhoto]], Iterable[EvaluationPhoto]]


@dataclass(frozen=True)
class PhotoQuality:
    """Figures of one photo: ``pq`` and ``person_pq`` 0..100, ``miou``, ``person_iou`` and
    ``person_boundary_iou`` 0..1; None where the photo has nothing to judge. ``name`` and
    ``image_id`` are those of the split; ``complete``: it is labelled in full."""

    name: str
    image_id: int
    complete: bool
    pq: float | None
    miou: float | None
    person_pq: float | None
    person_iou: float | None
    person_boundary_iou: float | None


@dataclass(frozen=True)
class EvaluationResult:
    """Figures of a split.

    ``pq`` 0..100; ``miou`` over the classes in the truth, ``person_iou`` and
    ``person_boundary_iou`` pooled over all pixels, 0..1; ``photos`` how many. None: nothing to
    judge. These three are of the class of each pixel (the semantic view: argmax of the logits, as
    semantic networks are measured); ``map_miou``, ``map_person_iou`` and
    ``map_person_boundary_iou`` are the same figures of the panoptic map, in which a thing pixel
    has the class of its object, or none if no object's centre was found. ``intervals``: 95 %
    bootstrap intervals over photos of ``pq_all``, ``person_pq`` and ``person_iou``.

    ``complete`` is the share of photos (0..1) that are labelled in full. Below 1 PQ is not to be
    quoted: what a partly labelled photo leaves unlabelled is void, where nothing can be a false
    positive. The IoU figures use partial labels for exactly what they say.

    ``average_precision``: mask AP of things from the panoptic maps, 0..100 by name, and
    ``breakdown``: persons by size and things by score; both if asked for.
    """

    pq: PanopticQualityResult
    miou: float | None
    person_iou: float | None
    person_boundary_iou: float | None
    map_miou: float | None
    map_person_iou: float | None
    map_person_boundary_iou: float | None
    photos: int
    complete: float
    intervals: Mapping[str, Interval | None]
    per_photo: tuple[PhotoQuality, ...] = field(repr=False)
    average_precision: Mapping[str, float | None] | None = None
    breakdown: BreakdownResult | None = None

    def to_json(self, details: bool = False) -> dict[str, Any]:
        """A JSON-ready dict; ``details`` adds ``complete`` and ``per_photo``."""
        out: dict[str, Any] = {
            "pq": self.pq.to_json(),
            "miou": self.miou,
            "person_iou": self.person_iou,
            "person_boundary_iou": self.person_boundary_iou,
            "panoptic_map": {
                "miou": self.map_miou,
                "person_iou": self.map_person_iou,
                "person_boundary_iou": self.map_person_boundary_iou,
            },
            "photos": self.photos,
            "intervals": {k: list(v) if v else None for k, v in self.intervals.items()},
        }
        if self.average_precision is not None:
            out["ap_from_panoptic_maps"] = dict(self.average_precision)
        if self.breakdown is not None:
            out["breakdown"] = self.breakdown.to_json()
        if details:
            out["complete"] = self.complete
            out["per_photo"] = [asdict(p) for p in self.per_photo]
        return out


def evaluation_photos(
    data_dir: str | Path, split: str, taxonomy: Taxonomy
) -> Sequence[EvaluationPhoto]:
    """The photos of a split, of our own layout or of any other data set, whose classes are turned
    into those of ``taxonomy``."""
    root = Path(data_dir)
    if (root / "annotations" / f"{split}.json").is_file() or not find_datasets(root):
        return load_truth(root, split, taxonomy)
    return AnyFolder.open(root, taxonomy).split(split)


@dataclass(frozen=True)
class _Counts:
    """What one photo contributes."""

    segments: SegmentCounts
    pixels: PixelCounts
    boundary: tuple[int, int]
    map_boundary: tuple[int, int]


def evaluate(
    segment: Segmenter,
    data_dir: str | Path,
    split: str,
    taxonomy: Taxonomy,
    *,
    progress: Progress = lambda photos: photos,
    resamples: int = 1000,
    seed: int = 0,
    ap: bool = False,
    breakdown: bool = False,
) -> EvaluationResult:
    """Segment every photo of a split and compare with its labels. ``data_dir`` is a folder of our
    layout (``DIR/annotations/SPLIT.json``) or any data set that is known.

    ``progress`` wraps the photos as it hands them on (``rich.progress.track`` does); ``resamples``
    and ``seed`` are of the bootstrap; ``ap`` measures mask AP of things as well (hotcoco),
    ``breakdown`` persons by size and things by score. Same input, same result.
    """
    truth = evaluation_photos(data_dir, split, taxonomy)
    if not truth:
        path = Path(data_dir) / "annotations" / f"{split}.json"
        raise DataError(path, "expected at least one photo, got none")
    if resamples < 1:
        raise ArgumentError("resamples", f"resamples is {resamples!r}; expected at least 1")
    person = next((i for i, c in enumerate(taxonomy) if c.name == PERSON), None)
    panoptic = PanopticQuality(taxonomy)
    semantic, of_map = SemanticQuality(taxonomy), SemanticQuality(taxonomy)
    precision = AveragePrecision(taxonomy) if ap else None
    behind = Breakdown(taxonomy, PERSON) if breakdown and person is not None else None
    counts: list[_Counts] = []
    for photo in progress(truth):
        counts.append(_count(segment, photo, panoptic, semantic, of_map, precision, person, behind))
    if len(counts) != len(truth):
        expected = f"a function that hands on all {len(truth)} photos"
        raise ArgumentError(
            "progress", f"progress handed on {len(counts)} photos; expected {expected}"
        )
    figures, map_figures = semantic.compute(), of_map.compute()
    return EvaluationResult(
        pq=panoptic.compute(),
        miou=figures.miou,
        person_iou=figures.iou.get(PERSON),
        person_boundary_iou=_ratio(*(sum(c.boundary[k] for c in counts) for k in (0, 1))),
        map_miou=map_figures.miou,
        map_person_iou=map_figures.iou.get(PERSON),
        map_person_boundary_iou=_ratio(*(sum(c.map_boundary[k] for c in counts) for k in (0, 1))),
        photos=len(truth),
        complete=sum(t.complete for t in truth) / len(truth),
        intervals=_intervals(counts, person, bootstrap_weights(len(truth), resamples, seed)),
        average_precision=precision.compute() if precision else None,
        breakdown=behind.compute() if behind else None,
        per_photo=tuple(
            _photo_quality(t, c, taxonomy, person) for t, c in zip(truth, counts, strict=True)
        ),
    )


def _count(
    segment: Segmenter,
    truth: EvaluationPhoto,
    panoptic: PanopticQuality,
    semantic: SemanticQuality,
    of_map: SemanticQuality,
    precision: AveragePrecision | None,
    person: int | None,
    behind: Breakdown | None = None,
) -> _Counts:
    photo, true_ids, true_segments = truth.load()
    ids, segments, class_map = Prediction(*segment(photo))
    if np.shape(ids) != true_ids.shape:
        expected = f"the photo's, {true_ids.shape} for {truth.name}"
        raise ArgumentError(
            "ids", f"the predicted ids have the shape {np.shape(ids)}; expected {expected}"
        )
    channel_of = {number: channel for number, channel, _ in segments}
    if len(channel_of) != len(segments):
        raise ArgumentError(
            "segments",
            f"the predicted segments are {[s[0] for s in segments]}; expected one per id",
        )
    if precision is not None:
        precision.add(ids, segments, true_ids, true_segments)
    matched = panoptic.update(ids, channel_of, true_ids, true_segments)
    mapped, true = pred_channels(ids, channel_of), true_channels(true_ids, true_segments)
    pred = mapped if class_map is None else np.asarray(class_map, np.int64)
    pixels = semantic.update(pred, true, truth.absent)
    of_map.update(mapped, true, truth.absent)
    bands = [(0, 0), (0, 0)]
    if person is not None:
        valid = true >= 0
        if person in truth.absent:
            valid |= true == UNLABELLED
        bands = [boundary_counts(p == person, true == person, valid) for p in (pred, mapped)]
        if behind is not None:
            behind.update(ids, segments, pred, true_ids, true_segments, valid)
    return _Counts(matched, pixels, bands[0], bands[1])


def _photo_quality(
    truth: EvaluationPhoto, counts: _Counts, taxonomy: Taxonomy, person: int | None
) -> PhotoQuality:
    panoptic = PanopticQuality(taxonomy)
    panoptic.add(counts.segments)
    figures = panoptic.compute()
    return PhotoQuality(
        name=truth.name,
        image_id=truth.image_id,
        complete=truth.complete,
        pq=figures.all,
        miou=counts.pixels.mean_iou(),
        person_pq=None if person is None else figures.per_class[PERSON].pq,
        person_iou=None if person is None else counts.pixels.iou(person),
        person_boundary_iou=_ratio(*counts.boundary),
    )


def _intervals(
    counts: Sequence[_Counts], person: int | None, weights: NDArray[np.float64]
) -> dict[str, Interval | None]:
    segments = [c.segments for c in counts]
    out: dict[str, Interval | None] = {"person_pq": None, "person_iou": None}
    out["pq_all"] = pq_interval(weights, segments, range(len(segments[0].tp)))
    if person is not None:
        out["person_pq"] = pq_interval(weights, segments, [person])
        out["person_iou"] = iou_interval(
            weights,
            [int(c.pixels.intersection[person]) for c in counts],
            [int(c.pixels.union[person]) for c in counts],
        )
    return dict(sorted(out.items()))


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
