"""Panoptic quality of files: two COCO panoptic JSON files and their folders of PNGs.

This is what the field quotes: truth and predictions as everybody's tools write them. With crowds
``"strict"`` the figures are panopticapi's; what it passes over in silence is refused: areas that do
not match the PNG, which make its PQ exceed 100.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError, DataError
from panokit.pool import in_order
from panokit.taxonomy import Category, Taxonomy
from panokit_datasets.coco_json import MAX_ID, CocoJson
from panokit_datasets.id_png import ids_of, read_id_png
from panokit_datasets.paths import inside
from panokit_datasets.quality.bootstrap import Difference, compare_pq
from panokit_datasets.quality.panoptic_quality import (
    Crowds,
    PanopticQuality,
    PanopticQualityResult,
    SegmentCounts,
    count_runs,
    count_segments,
)
from panokit_datasets.truth import TruthSegment

__all__ = ["FilesQuality", "PanopticFile", "better", "compare_files"]

log = logging.getLogger(__name__)

Progress = Callable[[Iterable[Any]], Iterable[Any]]

CHUNK = 16  # pairs that travel to a process together


@dataclass(frozen=True)
class Listed:
    """The annotation of one photo: its PNG, its segments and the area that each is said to have."""

    png: Path
    segments: tuple[TruthSegment, ...]
    areas: Mapping[int, int]


@dataclass(frozen=True)
class PanopticFile:
    """A COCO panoptic JSON file: its classes, and the annotation of each image id."""

    path: Path
    taxonomy: Taxonomy
    ids: Mapping[int, int]
    """The channel of each category id; files count them from 0 as well."""
    photos: Mapping[int, Listed]

    @classmethod
    def read(
        cls, path: str | Path, folder: str | Path | None = None, like: PanopticFile | None = None
    ) -> PanopticFile:
        """Read ``path``. ``folder`` holds the PNGs; by default that of the file's name beside it,
        or ``../panoptic``. ``like``: a file whose classes count, in place of its own."""
        return _Reader(Path(path), folder, like).read()


@dataclass(frozen=True)
class FilesQuality:
    """Figures of predictions, and the counts of each photo by image id."""

    result: PanopticQualityResult
    counts: Mapping[int, SegmentCounts]
    taxonomy: Taxonomy
    crowds: Crowds
    boundary: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        how = {"photos": len(self.counts), "crowds": self.crowds, "boundary": self.boundary}
        return {**how, "pq": self.result.to_json()}


def compare_files(
    truth: PanopticFile,
    pred: PanopticFile,
    *,
    crowds: Crowds = "correct",
    boundary: float | None = None,
    workers: int = 1,
    ray: str | None = None,
    progress: Progress = lambda photos: photos,
) -> FilesQuality:
    """PQ of ``pred`` (read with ``like=truth``). Photos that only it has do not count.

    ``boundary``: boundary PQ, with this ratio of the diagonal. ``workers`` processes share the
    photos, ``ray`` is the address of a Ray cluster; ``progress`` wraps their counts as they come.

    Raises ``DataError``, which names the file, where a photo is missing, sizes differ, an id is in
    a PNG and not in its JSON (of the truth: with ``crowds="correct"``), a true area is not the
    PNG's, or, with ``crowds="strict"``, a predicted segment has no pixel.
    """
    missing = sorted(truth.photos.keys() - pred.photos.keys())
    if missing:
        few = ", ".join(map(str, missing[:5]))
        raise DataError(pred.path, f"{len(missing)} photos of the truth are missing: ids {few}")
    if not truth.photos:
        raise DataError(truth.path, "expected at least one photo, got none")
    if workers < 1:
        raise ArgumentError("workers", f"workers is {workers!r}; expected at least 1")
    pairs = [(truth.photos[number], pred.photos[number]) for number in truth.photos]
    quality = PanopticQuality(truth.taxonomy, crowds, boundary)
    count = partial(_count, channels=len(truth.taxonomy), crowds=crowds, boundary=boundary)
    found: dict[int, SegmentCounts] = {}
    several = [pairs[at : at + CHUNK] for at in range(0, len(pairs), CHUNK)]
    done = in_order(partial(_count_all, count), several, workers, ray=ray)
    counted = (counts for part in done for counts in part.get())
    _collect(progress(zip(truth.photos, counted, strict=True)), quality, found)
    return FilesQuality(quality.compute(), found, truth.taxonomy, crowds, boundary)


def better(a: FilesQuality, b: FilesQuality, resamples: int = 2000, seed: int = 0) -> Difference:
    """Whether ``b`` is better than ``a`` on the same photos; see :func:`compare_pq`."""
    if a.counts.keys() != b.counts.keys():
        raise ArgumentError("b", "the two have other photos; expected the same")
    pairs = list(a.counts)
    return compare_pq([a.counts[i] for i in pairs], [b.counts[i] for i in pairs], resamples, seed)


def _count_all(
    count: Callable[[tuple[Listed, Listed]], SegmentCounts], pairs: list[tuple[Listed, Listed]]
) -> list[SegmentCounts]:
    return [count(pair) for pair in pairs]


def _collect(
    counted: Iterable[tuple[int, SegmentCounts]],
    quality: PanopticQuality,
    found: dict[int, SegmentCounts],
) -> None:
    for number, counts in counted:
        quality.add(counts)
        found[number] = counts


def _count(
    pair: tuple[Listed, Listed], channels: int, crowds: Crowds, boundary: float | None
) -> SegmentCounts:
    truth, pred = pair
    true_rgb = read_id_png(truth.png)
    pred_rgb = read_id_png(pred.png, true_rgb.shape[1::-1], "as the truth's")
    true_ids, pred_ids, pixels = _pairs(true_rgb, pred_rgb)
    _check_areas(truth, true_ids, pixels)
    of_pred = {s.id: s.channel for s in pred.segments}
    _check_listed(pred.png, pred_ids, of_pred)
    if crowds == "correct":
        _check_listed(truth.png, true_ids, [s.id for s in truth.segments])
    else:
        unseen = sorted(of_pred.keys() - set(pred_ids.tolist()))
        if unseen:
            raise DataError(pred.png, f"segment {unseen[0]} is in the JSON and has no pixel")
    if boundary is None:
        return count_runs(true_ids, pred_ids, pixels, of_pred, truth.segments, channels, crowds)
    maps = ids_of(pred_rgb), ids_of(true_rgb)
    return count_segments(maps[0], of_pred, maps[1], truth.segments, channels, crowds, boundary)


def _pairs(
    a: NDArray[np.uint8], b: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of ids that lie on the same pixel of both, and how many pixels each has.

    Only where a stretch of pixels begins over which both images stay the same are ids read.
    """
    first, second, size = a.reshape(-1), b.reshape(-1), a.shape[0] * a.shape[1]
    changed = first[3:] != first[:-3]
    changed |= second[3:] != second[:-3]
    starts = np.flatnonzero(changed) // 3 + 1  # up to three times each, in order
    first_of_each = np.empty(starts.size + 1, np.bool_)
    first_of_each[:2] = True
    np.not_equal(starts[1:], starts[:-1], out=first_of_each[2:])
    starts = np.concatenate(([0], starts))[first_of_each]
    ends = np.append(starts[1:], size)
    key = _ids_at(first, starts) << 24
    key |= _ids_at(second, starts)
    pairs, place = np.unique(key, return_inverse=True)
    pixels = np.bincount(place, ends - starts).astype(np.int64)
    return pairs >> 24, pairs & MAX_ID, pixels


def _ids_at(flat: NDArray[np.uint8], pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ids of some pixels of colours ``[3·n]``."""
    at = 3 * pixels
    ids = flat.take(at).astype(np.int64)
    ids |= flat.take(at + 1).astype(np.int64) << 8
    ids |= flat.take(at + 2).astype(np.int64) << 16
    return ids


def _check_areas(truth: Listed, ids: NDArray[np.int64], pixels: NDArray[np.int64]) -> None:
    if not truth.areas:
        return
    counted: dict[int, int] = {}
    for number, n in zip(ids.tolist(), pixels.tolist(), strict=True):
        counted[number] = counted.get(number, 0) + n
    for number, area in truth.areas.items():
        if counted.get(number, 0) != area:
            raise DataError(
                truth.png,
                f"segment {number} has {counted.get(number, 0)} pixels, and its JSON says an area "
                f"of {area}; PQ cannot be trusted: mend the JSON",
            )


def _check_listed(png: Path, ids: NDArray[np.int64], listed: Iterable[int]) -> None:
    strange = sorted(set(ids.tolist()) - {0, *listed})
    if strange:
        raise DataError(png, f"segment ids {strange[:5]} are in the PNG but not in the JSON")


class _Reader(CocoJson):
    def __init__(self, path: Path, folder: str | Path | None, like: PanopticFile | None) -> None:
        super().__init__(path)
        self.like = like
        self.folder = Path(folder) if folder is not None else _folder_of(path)

    def read(self) -> PanopticFile:
        data = self.load()
        taxonomy, ids = (self.like.taxonomy, self.like.ids) if self.like else self._classes(data)
        photos: dict[int, Listed] = {}
        for at, item in enumerate(self.objects(data.get("annotations"), "annotations")):
            number = self.whole(item.get("image_id"), f"annotations[{at}].image_id", 0, 2**63 - 1)
            if number in photos:
                raise self.wrong(f"image {number} has two annotations; expected one")
            photos[number] = self._photo(item, f"image {number}", taxonomy, ids)
        return PanopticFile(self.path, taxonomy, ids, photos)

    def _classes(self, data: Mapping[str, Any]) -> tuple[Taxonomy, dict[int, int]]:
        """Its own categories. A taxonomy's ids begin at 1 and names are unique; files' may not."""
        ids: dict[int, int] = {}
        categories: list[Category] = []
        names: set[str] = set()
        for c in self.objects(data.get("categories"), "categories"):
            number = self.whole(c.get("id"), "category id", 0, MAX_ID)
            if number in ids or "isthing" not in c:
                what = "is there twice" if number in ids else "does not say 'isthing'"
                raise self.wrong(f"category {number} {what}")
            name = str(c.get("name", number))[:180] or str(number)
            name = f"{name} ({number})" if name in names else name
            names.add(name)
            ids[number] = len(categories)
            categories.append(Category(len(categories) + 1, name, bool(c["isthing"]), (0, 0, 0)))
        if not categories:
            raise self.wrong("expected 'categories', got none")
        return Taxonomy(self.path.stem, tuple(categories)), ids

    def _photo(
        self, item: Mapping[str, Any], where: str, taxonomy: Taxonomy, ids: Mapping[int, int]
    ) -> Listed:
        segments: dict[int, TruthSegment] = {}
        areas: dict[int, int] = {}
        for s in self.objects(item.get("segments_info"), f"{where}: segments_info"):
            number = self.whole(s.get("id"), f"{where}: segment id", 0, MAX_ID)
            category = s.get("category_id")
            if not isinstance(category, int) or category not in ids:
                got = f"segment {number} is of category {category!r:.40}"
                raise self.wrong(f"{where}: {got}, which no category is")
            if number == 0 or number in segments:
                what = "0 means void" if number == 0 else "it is there twice"
                raise self.wrong(f"{where}: segment {number}: {what}")
            channel = ids[category]
            thing, crowd = taxonomy.categories[channel].is_thing, bool(s.get("iscrowd", 0))
            segments[number] = TruthSegment(number, channel, thing, crowd)
            if "area" in s and self.like is None:
                area = s["area"]  # which some tools write as 9.0
                area = int(area) if isinstance(area, float) and area.is_integer() else area
                areas[number] = self.whole(area, f"{where}: area of {number}", 0, 2**63 - 1)
        name = item.get("file_name")
        png = inside(self.folder, name)
        if png is None:
            expected = f"expected a path inside {self.folder.name}/"
            raise self.wrong(f"{where}: {expected}, got {name!r:.200}")
        return Listed(png, tuple(segments.values()), areas)


def _folder_of(path: Path) -> Path:
    """COCO's folder has the file's name; ours is ``panoptic/`` beside ``annotations/``."""
    beside, ours = path.with_suffix(""), path.parent.parent / "panoptic"
    return ours if ours.is_dir() and not beside.is_dir() else beside
