"""Choose the decoding's parameters on photos that no figure is told of.

Runs the network once on each photo. Threshold and window of the centres and the least score of
things are chosen by the panoptic quality of things on validation photos of other sources. These are
labelled in part: an object whose class is known to be absent counts as invented, one of an
unlabelled class does not count.
Then the least areas: of things on the same photos, of stuff on the training photos that are
labelled in full (no others have all stuff; the network knows these photos, so that the area found
is on the small side).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from panokit.decoding import PostprocessConfig, postprocess
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
from panokit_network.segmenter import open_weights

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.7)
WINDOWS = (5, 7, 9, 11, 13, 17)
THING_AREAS = (0, 64, 128, 256, 512, 1024)
SCORES = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
STUFF_AREAS = (0, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True)
class Seen:
    """A photo, its labels, and what the network says of it."""

    truth: TruthPhoto
    photo: Photo
    ids: NDArray[np.int32]
    stages: Stages


def main() -> None:
    """Print the tables and the choice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--things", default="coco_instances_val,voc_val,pennfudan_val,clothing_val,pets_val"
    )
    parser.add_argument("--stuff", default="coco_panoptic_train")
    parser.add_argument("--limit", type=int, default=50, help="photos a split")
    given = parser.parse_args()
    segmenter = open_weights(given.weights)
    console = Console()

    things = list(seen(segmenter, given.data, given.things, given.limit))
    pairs = list(product(THRESHOLDS, WINDOWS))
    configs = [PostprocessConfig(threshold=t, window=w) for t, w in pairs]
    tried = dict(zip(pairs, qualities(things, configs, segmenter, SCORES), strict=True))
    # A low score and a low threshold drop much the same objects, so they are chosen together.
    found = {pair: max(results, key=lambda r: r.things or 0.0) for pair, results in tried.items()}
    title = "PQ of things (of person; least score) by threshold and window"
    table = Table("", *map(str, WINDOWS), title=title)
    for t in THRESHOLDS:
        row = [(found[t, w], SCORES[tried[t, w].index(found[t, w])]) for w in WINDOWS]
        table.add_row(str(t), *(cell(result, f"; {score}") for result, score in row))
    console.print(table)
    threshold, window = max(pairs, key=lambda pair: found[pair].things or 0.0)
    score = SCORES[tried[threshold, window].index(found[threshold, window])]
    best = PostprocessConfig(threshold=threshold, window=window, min_thing_score=score)

    configs = [replace(best, min_thing_area=a) for a in THING_AREAS]
    results = [r for (r,) in qualities(things, configs, segmenter)]
    best = configs[int(np.argmax([r.things or 0.0 for r in results]))]
    console.print(areas("least area of things", THING_AREAS, [cell(r) for r in results]))

    stuff = list(seen(segmenter, given.data, given.stuff, 2 * given.limit))
    configs = [replace(best, min_stuff_area=a) for a in STUFF_AREAS]
    results = [r for (r,) in qualities(stuff, configs, segmenter)]
    best = configs[int(np.argmax([r.stuff or 0.0 for r in results]))]
    console.print(areas("least area of stuff", STUFF_AREAS, [f"{r.stuff:.2f}" for r in results]))
    console.print(best.to_json())


def cell(result: PanopticQualityResult, more: str = "") -> str:
    """PQ of things, of persons in brackets, and ``more`` behind it."""
    person = result.per_class["person"].pq
    return f"{result.things:.2f} ({'–' if person is None else f'{person:.1f}'}{more})"


def areas(title: str, values: Sequence[int], cells: Sequence[str]) -> Table:
    """One row of figures by area in pixels of the decode grid."""
    table = Table(*map(str, values), title=title)
    table.add_row(*cells)
    return table


def seen(segmenter: Segmenter, data: Path, splits: str, limit: int) -> Iterable[Seen]:
    """The first ``limit`` photos of each split, looked at."""
    for split in splits.split(","):
        for truth in track(load_truth(data, split, segmenter.taxonomy)[:limit], split):
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
    for one in track(photos, "decoding"):
        for of_config, config in zip(found, configs, strict=True):
            decoded = postprocess(one.stages.heads, taxonomy, one.stages.transform, config)
            result = PanopticResult.from_map(one.photo, decoded, taxonomy, one.stages.transform)
            for quality, least in zip(of_config, scores, strict=True):
                kept = [s for s in result if not s.category.is_thing or s.score >= least]
                channels = {s.id: taxonomy.channel(s.category.id) for s in kept}
                pred = np.where(np.isin(result.id_map, list(channels)), result.id_map, 0)
                quality.add(counted(pred, channels, one, len(taxonomy)))
    return [[quality.compute() for quality in of_config] for of_config in found]


def counted(
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


if __name__ == "__main__":
    main()
