"""Choose how heads become a map, on labelled photos that no figure is told of.

The network runs once on each photo. What each contract's settings are chosen among, in which order
and by which panoptic quality, is the table ``PLANS``. Photos may be labelled in part: an object
whose class is known to be absent counts as invented, one of an unlabelled class does not count; a
least area of stuff is chosen on photos that are labelled in full.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from panokit.config import write_settings
from panokit.decoding import DecodingSettings
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

__all__ = ["Choice", "Step", "Trial", "TuneRequest", "Tuned", "tune"]

log = logging.getLogger(__name__)

SCORES = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
"""Least scores of things that are tried with each value of a step that says ``with_scores``."""

Judged = Literal["things", "stuff", "all"]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """Settings that are chosen together, every combination of their ``values``, by the panoptic
    quality ``judged`` (``"all"`` falls back to things where photos are labelled in part). A name
    with a dot is a setting of a part. ``with_scores``: the best ``min_thing_score`` goes with each.
    """

    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    judged: Judged
    with_scores: bool = False

    @property
    def words(self) -> list[str]:
        """The settings' names for people."""
        return [name.replace("_", " ").replace(".", " ") for name in self.names]


SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
THING_AREAS = (0, 64, 128, 256, 512, 1024)
STUFF_AREAS = (0, 256, 512, 1024, 2048, 4096)

PLANS: dict[str, tuple[Step, ...]] = {
    "center-offset": (
        # A low score and a low threshold drop much the same objects: they are chosen together.
        Step(("threshold", "window"), ((0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.7), (5, 7, 9, 11, 13, 17)),
             "things", with_scores=True),
        Step(("min_thing_area",), (THING_AREAS,), "things"),
        Step(("min_stuff_area",), (STUFF_AREAS,), "stuff"),
    ),
    "mask-queries": (
        Step(("threshold", "overlap"), ((0.2, *SHARES), SHARES[1:]), "all"),
        Step(("stuff_threshold",), ((0.2, *SHARES),), "stuff"),
        Step(("min_thing_area",), (THING_AREAS,), "things"),
        Step(("min_stuff_area",), (STUFF_AREAS,), "stuff"),
    ),
    "instances": (
        Step(("threshold", "nms"), ((0.05, 0.1, 0.15, 0.2, 0.25, *SHARES), SHARES[1:]), "things"),
        Step(("min_area",), (THING_AREAS,), "things"),
    ),
    "semantic": (Step(("min_area",), (STUFF_AREAS,), "all"),),
    "instances-semantic": (
        Step(("merge.threshold", "merge.overlap"), ((0.05, 0.1, 0.2, *SHARES), SHARES[:-1]), "all"),
        Step(("instances.min_area",), (THING_AREAS,), "things"),
        Step(("merge.min_stuff_area",), (STUFF_AREAS,), "stuff"),
    ),
}  # fmt: skip
"""The steps of each contract, each from the best of those before it."""


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
    """One value of a setting (or of several) and the panoptic quality 0..100 with it."""

    config: DecodingSettings
    pq: float
    persons: float | None = None


@dataclass(frozen=True)
class Choice:
    """A step and a trial for every combination of its values, the last name's values fastest.
    ``judged`` is by what they were: the step's, or things in place of all."""

    step: Step
    judged: Judged
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The trial of the highest quality, the first of equals."""
        return max(self.trials, key=lambda trial: trial.pq)


@dataclass(frozen=True)
class Tuned:
    """The settings chosen, and what was tried. ``before`` is the quality, judged as in the first
    step, with the settings that the network had."""

    config: DecodingSettings
    before: Trial
    choices: tuple[Choice, ...]
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
    """The decoding settings for the network of ``segmenter``: what it has where nothing tried is
    better, and of equal ones the first tried."""
    start = segmenter.bundle.manifest.postprocessing
    things = list(_seen(segmenter, request, request.things, say))
    if not things:
        raise DataError(request.data, f"there are no photos in {', '.join(request.things)}")
    stuff = list(_seen(segmenter, request, request.stuff, say)) if request.stuff else things
    complete = [one for one in stuff if one.truth.complete]
    plan = _steps(start)
    judged = _judged(plan[0], things)
    before = _trial(qualities(things, [start], segmenter)[0][0], start, judged)
    best = start
    choices: list[Choice] = []
    for step in plan:
        photos = complete if step.judged == "stuff" else things
        if not photos:
            continue
        say(f"trying {' and '.join(step.words)}")
        choice = _choose(step, best, photos, segmenter)
        kept = _trial(qualities(photos, [best], segmenter)[0][0], best, choice.judged)
        if not 0 < choice.best.pq <= kept.pq:  # where all is 0, a later step may free it
            best = choice.best.config
        choices.append(choice)
    return Tuned(best, before, tuple(choices), tuple(one.truth.name for one in things))


def _steps(start: DecodingSettings) -> list[Step]:
    """Those of the contract; a suppression that the network needs none of is not tried."""
    steps = []
    for step in PLANS[start.contract]:
        used = [at for at, name in enumerate(step.names) if name != "nms" or _get(start, name)]
        names = tuple(step.names[at] for at in used)
        steps.append(replace(step, names=names, values=tuple(step.values[at] for at in used)))
    return steps


def _choose(
    step: Step, best: DecodingSettings, photos: Sequence[Seen], segmenter: Segmenter
) -> Choice:
    judged = _judged(step, photos)
    configs = [
        _changed(best, dict(zip(step.names, values, strict=True)))
        for values in product(*step.values)
    ]
    if not step.with_scores:
        found = qualities(photos, configs, segmenter)
        trials = [_trial(r, c, judged) for (r,), c in zip(found, configs, strict=True)]
        return Choice(step, judged, tuple(trials))
    configs = [_changed(config, {"min_thing_score": 0.0}) for config in configs]
    trials = []
    for config, results in zip(configs, qualities(photos, configs, segmenter, SCORES), strict=True):
        tried = [
            _trial(r, _changed(config, {"min_thing_score": least}), judged)
            for r, least in zip(results, SCORES, strict=True)
        ]
        trials.append(max(tried, key=lambda trial: trial.pq))
    return Choice(step, judged, tuple(trials))


def _judged(step: Step, photos: Sequence[Seen]) -> Judged:
    all_known = all(one.truth.complete for one in photos)
    return "things" if step.judged == "all" and not all_known else step.judged


def _get(config: DecodingSettings, name: str) -> Any:
    return reduce(getattr, name.split("."), config)


def _changed(config: DecodingSettings, changes: Mapping[str, float]) -> DecodingSettings:
    """A copy with other values; a name with a dot is of a part."""
    for name, value in changes.items():
        part, _, inner = name.rpartition(".")
        if part:
            name, value = part, replace(getattr(config, part), **{inner: value})
        config = replace(cast(Any, config), **{name: value})
    return config


def _trial(result: PanopticQualityResult, config: DecodingSettings, judged: Judged) -> Trial:
    person = result.per_class.get("person")
    return Trial(config, getattr(result, judged) or 0.0, person.pq if person else None)


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
    configs: Sequence[DecodingSettings],
    segmenter: Segmenter,
    scores: Sequence[float] = (0.0,),
) -> list[list[PanopticQualityResult]]:
    """Panoptic quality by each of ``configs``, and for each by least score of things."""
    taxonomy = segmenter.taxonomy
    found = [[PanopticQuality(taxonomy) for _ in scores] for _ in configs]
    for one in photos:
        for of_config, config in zip(found, configs, strict=True):
            decoded = config.decode(one.stages.heads, taxonomy, one.stages.transform)
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
