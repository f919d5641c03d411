"""COCO instances, alone or joined with COCO-Stuff; and the COCO JSON of annotation tools.

Objects are painted over stuff: crowds first, then things, the largest first, so that small ones
stay visible. The map that comes of it is near COCO's panoptic one, not equal: overlaps there were
resolved by hand.

Habits of tools that are read: a byte order mark, ids from 0 or as text, backslashes in paths, run
lengths as numbers or as text, polygons beyond the border, points in the frame of the stored or of
the turned photo (EXIF), Roboflow's root category, CVAT's masks that claim to be crowds
(``Options.crowd_means_mask``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from panokit._reading import is_sidecar
from panokit.extents import extents
from panokit.photo import photo_header
from panokit.rle import rle_string
from panokit_datasets.classes import ClassList
from panokit_datasets.json_stream import JsonIndex, as_id
from panokit_datasets.label_png import read_label_png
from panokit_datasets.problems import Complain, LabelError, Problem
from panokit_datasets.reader import Options, Truth, folders
from panokit_datasets.readers._json import JsonReader, classes_of, finite, write_listing
from panokit_datasets.shapes import MaskProblem, mask_of
from panokit_datasets.truth import QUARTERS, TruthSegment
from panokit_datasets.writer import Sample, Writer, write_grey, write_photo

__all__ = ["CocoInstances", "CocoInstancesWriter"]

_KEYS = {"images": "id", "annotations": "image_id"}
_HEAD = 2**16
OTHER = 183
"""COCO-Stuff's class of all that is no stuff."""


class _Layout(NamedTuple):
    json: Path
    photo_folders: tuple[Path, ...]
    stuff: Path | None = None
    """A folder of COCO-Stuff PNGs, or its JSON."""


@dataclass
class _Object:
    channel: int
    mask: NDArray[np.bool_]
    crowd: bool
    area: int


class CocoInstances(JsonReader):
    """COCO instances."""

    kind, title, rank = "coco-instances", "COCO instances", 25

    def __init__(self, layout: _Layout, *args: Any) -> None:
        super().__init__(*args)
        self.layout = layout
        self.stuff_index = (
            JsonIndex(layout.stuff, _KEYS)
            if layout.stuff is not None and layout.stuff.is_file()
            else None
        )
        self.stuff_table = self._stuff_table() if layout.stuff is not None else None

    @classmethod
    def splits_in(cls, root: Path, options: Options) -> list[str]:
        return sorted(_layouts(root))

    @classmethod
    def open(cls, root: Path, split: str, options: Options, complain: Complain) -> CocoInstances:
        layout = _layouts(root)[split]
        index = JsonIndex(layout.json, _KEYS, unique="annotations")
        used = not _is_unused_root(index)
        classes = classes_of(index, complain, things=True, used=used)
        if layout.stuff is not None:
            joined = ClassList.named("coco_panoptic")
            if classes.name not in ("coco_instances", "coco_panoptic"):
                reason = "its categories are not COCO's, so COCO-Stuff's PNGs do not belong to it"
                raise LabelError(layout.json, reason, "unknown category")
            classes = replace(joined, title="COCO instances and stuff, joined")
        return cls(layout, root, split, classes, index, layout.photo_folders, options, complain)

    def listed_keys(self) -> list[Any]:
        return self.index.ids("images")

    def label_paths(self, index: int) -> tuple[Path, ...]:
        return (self.index.path,)

    def check_set(self) -> None:
        super().check_set()
        path = str(self.index.path)
        for number in self.index.twice[:1000]:
            self.complain(Problem("duplicate id", path, f"annotation id {number} stands twice"))
        if self.index.has_zero:
            self.complain(Problem("annotation id 0", path, "an annotation has the id 0"))

    def read_truth(self, index: int, size_wh: tuple[int, int] | None) -> Truth:
        where = f"image {self.keys[index]!r}"
        rows = self.rows("annotations", index)
        size = self._size(index, size_wh, rows)
        objects = [o for row in rows if (o := self._object(row, size[::-1], where)) is not None]
        return self._painted(index, size, objects)

    def _size(
        self, index: int, size_wh: tuple[int, int] | None, rows: list[dict[str, Any]]
    ) -> tuple[int, int]:
        """The size of the frame that shapes are in: width, height."""
        stated = self.stated_size(index)
        header = photo_header(self.photo_path(index))
        if header is None:
            if stated is None:
                reason = f"image {self.keys[index]!r} has no width and height, and no photo"
                raise LabelError(self.index.path, reason, "missing photo")
            return stated
        stored, orientation = header
        seen = stored[::-1] if orientation in QUARTERS else stored
        if stated not in (None, stored, seen):
            reason = f"{self._called(index)}: size {stated}, but the photo's is {seen}"
            raise LabelError(self.index.path, reason, "wrong size")
        if stored == seen:
            return stored
        inside = [_inside(rows, size) for size in (stored, seen)]
        if inside[0] != inside[1]:
            return stored if inside[0] > inside[1] else seen
        reason = (
            f"{self._called(index)} is turned by its EXIF orientation, and its shapes fit the "
            "stored photo and the turned one"
        )
        self.tell("EXIF in doubt", self.index.path, reason)
        return stated or seen

    def _called(self, index: int) -> str:
        return f"image {self.keys[index]!r} ({self.name(index)})"

    def _object(self, row: dict[str, Any], size_hw: tuple[int, int], where: str) -> _Object | None:
        path = self.index.path
        where = f"{where}, annotation {row.get('id')!r:.30}"
        channel = self.category(row.get("category_id"), where)
        self._check_box(row, size_hw, where)
        if channel is None or channel < 0:
            return None
        segmentation = row.get("segmentation")
        try:
            mask = mask_of(segmentation, size_hw)
        except MaskProblem as problem:
            self.tell(problem.kind, path, f"{where}: {problem}")
            return None
        if mask is None:
            kind = "box without mask" if row.get("bbox") else "empty mask"
            self.tell(kind, path, f"{where} has no segmentation")
            return None
        if not isinstance(segmentation, dict) and _leaves(segmentation, size_hw):
            self.tell("outside", path, f"{where}: its polygon leaves the photo")
        area = int(np.count_nonzero(mask))
        if not area:
            self.tell("empty mask", path, f"{where}: no pixel lies inside")
            return None
        crowd = bool(row.get("iscrowd", 0)) and not self.options.crowd_means_mask
        return _Object(channel, mask, crowd, area)

    def _check_box(self, row: dict[str, Any], size_hw: tuple[int, int], where: str) -> None:
        box, area = row.get("bbox"), row.get("area")
        odd = area is not None and (finite(area) is None or area < 0)
        if odd:
            self.tell("bad number", self.index.path, f"{where}: area {area!r:.40}")
        if box in (None, []):
            return
        if not isinstance(box, list) or len(box) != 4 or any(finite(v) is None for v in box):
            self.tell("bad number", self.index.path, f"{where}: bbox {box!r:.60}")
        elif box[2] < 0 or box[3] < 0:
            self.tell("bad number", self.index.path, f"{where}: bbox {box!r:.60} is negative")

    def _painted(self, index: int, size_wh: tuple[int, int], objects: list[_Object]) -> Truth:
        ids = np.zeros(size_wh[::-1], np.int32)
        segments: list[TruthSegment] = []
        if self.stuff_table is not None:
            channels = self._stuff(index, size_wh)
            for channel in np.unique(channels[channels >= 0]).tolist():
                segments.append(TruthSegment(len(segments) + 1, channel, False))
                ids[channels == channel] = len(segments)
        claimed = np.zeros(size_wh[::-1], bool)
        covered = 0
        for o in sorted(objects, key=lambda o: (not o.crowd, -o.area)):
            covered += int(np.count_nonzero(claimed & o.mask))
            claimed |= o.mask
            thing = bool(self.taxonomy.thing_mask[o.channel])
            segments.append(TruthSegment(len(segments) + 1, o.channel, thing, o.crowd))
            ids[o.mask] = len(segments)
        if covered:
            reason = f"image {self.keys[index]!r}: {covered} pixels belong to two objects or more"
            self.tell("overlap", self.index.path, reason)
        visible = np.bincount(ids.ravel(), minlength=len(segments) + 1) > 0
        kept = tuple(s for s in segments if visible[s.id])
        return Truth(ids, kept, covered=covered)

    # ------------------------------------------------------------------------------------- stuff

    def _stuff_table(self) -> NDArray[np.int16]:
        """The channel of each number in COCO-Stuff's PNGs, -1 for none."""
        stuff = ClassList.named("coco_stuff")
        key = "pixelmap_id" if self._is_thing_maps() else "source_id"
        table = np.full(256, -1, np.int16)
        for c in stuff.classes:
            number = c.source_id if key == "source_id" else c.numbers[key]
            table[number] = self.final_channel.get(c.numbers["panoptic_id"], -1)
        return table

    def _is_thing_maps(self) -> bool:
        """``stuffthingmaps`` count from 0; ``*_pixelmaps`` and the JSON from 1."""
        assert self.layout.stuff is not None
        return "stuffthingmaps" in self.layout.stuff.parts

    def _stuff(self, index: int, size_wh: tuple[int, int]) -> NDArray[np.int16]:
        assert self.layout.stuff is not None
        assert self.stuff_table is not None
        if self.stuff_index is None:
            path = self.layout.stuff / f"{Path(self.name(index)).stem}.png"
            return self.stuff_table[read_label_png(path, size_wh)]
        labels = np.zeros(size_wh[::-1], np.uint8)
        for row in self.stuff_index.rows("annotations", self.keys[index]):
            number = as_id(row.get("category_id"))
            if not isinstance(number, int) or not 0 < number < OTHER:
                continue
            try:
                mask = mask_of(row.get("segmentation"), size_wh[::-1])
            except MaskProblem as problem:
                self.tell(problem.kind, self.layout.stuff, f"image {self.keys[index]}: {problem}")
                continue
            if mask is not None:
                labels[mask] = number
        return self.stuff_table[labels]


def _is_unused_root(index: JsonIndex) -> bool:
    """Whether category 0 is a root that no annotation has."""
    roots = [
        c
        for c in index.values.get("categories") or []
        if isinstance(c, dict) and as_id(c.get("id")) == 0 and c.get("supercategory") == "none"
    ]
    if not roots:
        return False
    return not any(
        as_id(row.get("category_id")) == 0
        for key in index.ids("annotations")
        for row in index.rows("annotations", key)
    )


def _points(row: dict[str, Any]) -> NDArray[np.float64]:
    rings = row.get("segmentation")
    rings = rings if isinstance(rings, list) else []
    flat = rings if rings and not isinstance(rings[0], list) else [v for r in rings for v in r]
    good = [float(v) for v in flat if finite(v) is not None]
    return np.array(good[: len(good) // 2 * 2]).reshape(-1, 2)


def _inside(rows: list[dict[str, Any]], size_wh: tuple[int, int]) -> int:
    """How many points of all shapes lie in a frame of that size; run lengths count by their own."""
    total = 0
    for row in rows:
        segmentation = row.get("segmentation")
        if isinstance(segmentation, dict):
            total += 1000 if segmentation.get("size") == list(size_wh[::-1]) else 0
        points = _points(row)
        total += int(((points >= -1) & (points <= np.array(size_wh) + 1)).all(1).sum())
    return total


def _leaves(segmentation: Any, size_hw: tuple[int, int]) -> bool:
    """Whether points lie more than a pixel beyond the border."""
    points = _points({"segmentation": segmentation})
    limit = np.array(size_hw[::-1]) + 1
    return bool(points.size and ((points < -1) | (points > limit)).any())


def _layouts(root: Path) -> dict[str, _Layout]:
    if root.is_file():
        if root.suffix.lower() != ".json" or not _is_instances(root):
            return {}
        near = root.parent
        return {root.stem: _Layout(root, (near, near / "images", near.parent / "images"))}
    found: dict[str, _Layout] = {}
    for path in _jsons(root / "annotations"):
        if path.stem.startswith(("stuff_", "captions_", "panoptic_", "person_keypoints_")):
            continue
        if (root / "panoptic").is_dir() or not _is_instances(path):
            continue
        split = path.stem.removeprefix("instances_")
        parts = [f for f in folders(root) if split.startswith(f"{f.name}_")]  # of a split
        places = root / split, root / "images" / split, root / "images", *parts, root
        photos = tuple(p for p in places if p.is_dir())
        stuff = next(
            (s for n in (split, *(p.name for p in parts)) if (s := _stuff_of(root, n))), None
        )
        found[split] = _Layout(path, photos, stuff)
    for folder in folders(root):  # Roboflow
        path = folder / "_annotations.coco.json"
        if path.is_file() and _is_instances(path):
            found[folder.name] = _Layout(path, (folder,))
    for name in ("_annotations.coco.json", "result.json"):  # Label Studio
        path = root / name
        if path.is_file() and _is_instances(path):
            found[path.stem.strip("_").split(".")[0]] = _Layout(path, (root, root / "images"))
    return found


def _stuff_of(root: Path, split: str) -> Path | None:
    candidates = (
        root / "annotations" / f"stuff_{split}_pixelmaps",
        root / f"stuff_{split}_pixelmaps",
        root / "stuffthingmaps" / split,
    )
    found = next((c for c in candidates if c.is_dir()), None)
    listed = root / "annotations" / f"stuff_{split}.json"
    return found or (listed if listed.is_file() else None)


def _jsons(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.glob("*.json")) if p.is_file() and not is_sidecar(p.name)]


def _is_instances(path: Path) -> bool:
    """Whether a JSON file speaks of objects, as far as its two ends tell."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _HEAD))
        ends = head + file.read(_HEAD)
    if b'"segments_info"' in ends or b'"caption"' in ends or b'"_via' in ends:
        return False
    return (b'"annotations"' in ends and b'"categories"' in ends) or b'"segmentation"' in ends


class CocoInstancesWriter(Writer):
    """Writes ``annotations/instances_SPLIT.json`` with run lengths, and the photos in ``SPLIT``. Of
    COCO's own classes the stuff goes to ``annotations/stuff_SPLIT_pixelmaps``; of others it is left
    out, for the format has none."""

    kind = "coco-instances"

    def write(self, sample: Sample) -> dict[str, Any]:
        stem = sample.flat_name
        suffix = sample.photo_suffix
        write_photo(sample.photo, self.out / self.split / f"{stem}{suffix}")
        width, height = sample.truth.size_wh
        there = extents(sample.truth.ids)
        made = []
        for s in sample.truth.segments:
            if s.id not in there or not s.is_thing or s.ignore:
                continue
            extent = there[s.id]
            entry: dict[str, Any] = {
                "image_id": sample.number,
                "category_id": int(self.taxonomy.ids[s.channel]),
            }
            entry |= {"segmentation": rle_string(sample.truth.ids == s.id), "area": extent.area}
            made.append(entry | {"bbox": list(extent.bbox), "iscrowd": int(s.is_crowd)})
        if self.classes.name == "coco_panoptic":
            self._write_stuff(sample, stem)
        image = {"id": sample.number, "width": width, "height": height}
        return {"image": image | {"file_name": f"{stem}{suffix}"}, "annotations": made}

    def finish(self, records: Iterable[Mapping[str, Any]]) -> None:
        categories = [
            {"id": c.id, "name": c.name, "supercategory": ""} for c in self.taxonomy if c.is_thing
        ]
        path = self.out / "annotations" / f"instances_{self.split}.json"
        write_listing(path, records, {"categories": categories})

    def _write_stuff(self, sample: Sample, stem: str) -> None:
        leaves: dict[int, int] = {}
        for c in ClassList.named("coco_stuff").classes:
            leaves.setdefault(c.numbers["panoptic_id"], c.source_id)
        lut = np.zeros(max((s.id for s in sample.truth.segments), default=0) + 1, np.uint8)
        for s in sample.truth.segments:
            number = int(self.taxonomy.ids[s.channel])
            lut[s.id] = OTHER if s.is_thing else leaves.get(number, 0)
        folder = self.out / "annotations" / f"stuff_{self.split}_pixelmaps"
        write_grey(folder / f"{stem}.png", lut[sample.truth.ids])
