"""Choose how heads become a map, on labelled photos that no figure is told of.

The network runs once on each photo. Threshold and window of the centres and the least score of
things are chosen by the panoptic quality of things. Photos may be labelled in part: an object whose
class is known to be absent counts as invented, one of an unlabelled class does not count. Then come
the least areas: of things on the same photos, of stuff on photos that are labelled in full.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.config import write_settings
from panokit.decoding import PostprocessConfig, postprocess
from panokit.errors import DataError
from panokit.photo import Photo
from panokit.result import PanopticResult
from panokit.segmenter import Segmenter, Stages
from panokit_datasets.quality import (
    PanopticQuality,
    PanopticQualityResult,
    TruthPhoto,
    TruthSegment,
    decode_ids,
    load_truth,
    open_photo,
)
from panokit_datasets.quality.panoptic_quality import SegmentCounts, count_segments

__all__ = ["Trial", "TuneRequest", "Tuned", "tune"]

log = logging.getLogger(__name__)

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.7)
WINDOWS = (5, 7, 9, 11, 13, 17)
THING_AREAS = (0, 64, 128, 256, 512, 1024)
SCORES = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
STUFF_AREAS = (0, 256, 512, 1024, 2048, 4096)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class TuneRequest:
    """On which photos: splits of the COCO-panoptic folder ``data``, ``limit`` photos of each.

    ``things`` are the splits for everything about things; ``stuff`` those for the least area of
    stuff, of which photos labelled in full are used (``things`` where there are none named).
    """

    data: Path
    things: tuple[str, ...]
    stuff: tuple[str, ...] = ()
    limit: int = 50


@dataclass(frozen=True)
class Trial:
    """One value of a parameter (or of several) and the panoptic quality 0..100 with it."""

    config: PostprocessConfig
    pq: float
    persons: float | None = None


@dataclass(frozen=True)
class Tuned:
    """The parameters chosen, and what was tried: the centres' threshold and window (each with its
    best least score of things), the least areas. ``before`` is the quality of things with the
    parameters that the network had."""

    config: PostprocessConfig
    before: Trial
    centers: tuple[Trial, ...]
    thing_areas: tuple[Trial, ...]
    stuff_areas: tuple[Trial, ...]
    photos: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return write_settings(self)


@dataclass(frozen=True)
class Seen:
    """A photo, its labels, and what the network says of it."""

    truth: TruthPhoto
    photo: Photo
    ids: NDArray[np.int32]
    stages: Stages


def tune(segmenter: Segmenter, request: TuneRequest, say: Progress = log.info) -> Tuned:
    """The decoding parameters for the network of ``segmenter``; of equal ones the first tried."""
    things = list(_seen(segmenter, request, request.things, say))
    if not things:
        raise DataError(request.data, f"there are no photos in {', '.join(request.things)}")
    say("trying thresholds, windows and least scores")
    start = segmenter.bundle.manifest.center_offset
    kept = _of_things(qualities(things, [start], segmenter)[0][0], start)
    pairs = list(product(THRESHOLDS, WINDOWS))
    configs = [replace(start, threshold=t, window=w, min_thing_score=0.0) for t, w in pairs]
    # A low score and a low threshold drop much the same objects, so they are chosen together.
    centers = []
    for config, results in zip(configs, qualities(things, configs, segmenter, SCORES), strict=True):
        at = int(np.argmax([r.things or 0.0 for r in results]))
        centers.append(_of_things(results[at], replace(config, min_thing_score=SCORES[at])))
    best = max(centers, key=lambda trial: trial.pq).config

    say("trying least areas of things")
    configs = [replace(best, min_thing_area=a) for a in THING_AREAS]
    found = qualities(things, configs, segmenter)
    thing_areas = [_of_things(r, c) for (r,), c in zip(found, configs, strict=True)]
    best = max(thing_areas, key=lambda trial: trial.pq).config

    stuff_areas: list[Trial] = []
    photos = _seen(segmenter, request, request.stuff, say) if request.stuff else iter(things)
    complete = [one for one in photos if one.truth.complete]
    if complete:
        say("trying least areas of stuff")
        configs = [replace(best, min_stuff_area=a) for a in STUFF_AREAS]
        found = qualities(complete, configs, segmenter)
        stuff_areas = [Trial(c, r.stuff or 0.0) for (r,), c in zip(found, configs, strict=True)]
        best = max(stuff_areas, key=lambda trial: trial.pq).config
    names = tuple(one.truth.name for one in things)
    return Tuned(best, kept, tuple(centers), tuple(thing_areas), tuple(stuff_areas), names)


def _of_things(result: PanopticQualityResult, config: PostprocessConfig) -> Trial:
    person = result.per_class.get("person")
    return Trial(config, result.things or 0.0, person.pq if person else None)


def _seen(
    segmenter: Segmenter, request: TuneRequest, splits: Iterable[str], say: Progress
) -> Iterable[Seen]:
    """The first photos of each split, looked at."""
    for split in splits:
        truths = load_truth(request.data, split, segmenter.taxonomy)[: request.limit]
        for number, truth in enumerate(truths, 1):
            say(f"{split}: photo {number} of {len(truths)}")
            photo = open_photo(truth)
            yield Seen(truth, photo, decode_ids(truth), segmenter.stages(photo))


def qualities(
    photos: Sequence[Seen],
    configs: Sequence[PostprocessConfig],
    segmenter: Segmenter,
    scores: Sequence[float] = (0.0,),
) -> list[list[PanopticQualityResult]]:
    """Panoptic quality by each of ``configs``, and for each by least score of things."""
    taxonomy = segmenter.taxonomy
    found = [[PanopticQuality(taxonomy) for _ in scores] for _ in configs]
    for one in photos:
        for of_config, config in zip(found, configs, strict=True):
            decoded = postprocess(one.stages.heads, taxonomy, one.stages.transform, config)
            result = PanopticResult.from_map(one.photo, decoded, taxonomy, one.stages.transform)
            for quality, least in zip(of_config, scores, strict=True):
                kept = [s for s in result if not s.category.is_thing or s.score >= least]
                channels = {s.id: taxonomy.channel(s.category.id) for s in kept}
                pred = np.where(np.isin(result.id_map, list(channels)), result.id_map, 0)
                quality.add(_counted(pred, channels, one, len(taxonomy)))
    return [[quality.compute() for quality in of_config] for of_config in found]


def _counted(
    pred: NDArray[np.int32], channels: dict[int, int], one: Seen, classes: int
) -> SegmentCounts:
    """Matches of a photo. Where nothing is labelled, absent classes count as invented: that part
    becomes a true segment of one class more, which is left out again."""
    truth = one.truth
    if not truth.absent:
        return count_segments(pred, channels, one.ids, truth.segments, classes)
    rest = int(one.ids.max()) + 1
    void = one.ids == 0
    kept = {
        i: c
        for i, c in channels.items()
        if c in truth.absent or 2 * np.count_nonzero(void & (pred == i)) <= (pred == i).sum()
    }
    pred = np.where(np.isin(pred, list(kept)), pred, 0).astype(np.int32)
    ids = np.where(void, rest, one.ids)
    segments = (*truth.segments, TruthSegment(rest, classes, False))
    counts = count_segments(pred, kept, ids, segments, classes + 1)
    return SegmentCounts(*(getattr(counts, f)[:-1] for f in ("tp", "fp", "fn", "iou")))
