"""COCO panoptic JSON with PNGs of segment ids (R + 256 G + 65536 B), in several sets' layouts.

Our own folders (``annotations/SPLIT.json``, ``images``, ``panoptic``), COCO's, ADE20K's as
Mask2Former prepares them (category ids from 0), the exports of Cityscapes (with label or train
ids) and Mapillary Vistas; or any such JSON file by its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from panokit._files import write_json
from panokit._reading import is_sidecar
from panokit.coco import ids_to_rgb
from panokit.errors import DataError
from panokit.extents import extents
from panokit_datasets.classes import ClassList
from panokit_datasets.id_png import ids_of, read_id_png
from panokit_datasets.json_stream import JsonIndex, as_id
from panokit_datasets.problems import Complain, LabelError
from panokit_datasets.reader import Options, Truth, folders
from panokit_datasets.readers._json import MAX_ID, JsonReader, classes_of, finite, write_listing
from panokit_datasets.truth import TruthSegment
from panokit_datasets.writer import Sample, Writer, write_photo, write_rgb

__all__ = ["CocoPanoptic", "CocoPanopticWriter"]

_KEYS = {"images": "id", "annotations": "image_id"}
_HEAD = 2**16


class _Layout(NamedTuple):
    """Where the files of a split lie. ``photo_end``: photos are named after the image id, with this
    ending, in a folder of the id's first part (Cityscapes)."""

    json: Path
    png_folders: tuple[Path, ...]
    photo_folders: tuple[Path, ...]
    photo_end: str = ""


class CocoPanoptic(JsonReader):
    """COCO panoptic, however its files lie."""

    kind, title, rank = "coco-panoptic", "COCO panoptic", 33

    def __init__(self, layout: _Layout, *args: Any) -> None:
        self.layout = layout
        super().__init__(*args)

    @classmethod
    def splits_in(cls, root: Path, options: Options) -> list[str]:
        return sorted(_layouts(root))

    @classmethod
    def open(cls, root: Path, split: str, options: Options, complain: Complain) -> CocoPanoptic:
        layout = _layouts(root)[split]
        index = JsonIndex(layout.json, _KEYS)
        beside = root / "taxonomy.json" if root.is_dir() else root
        classes = classes_of(index, complain)
        if beside.is_file() and beside != root:
            classes = ClassList.load(beside)
        return cls(layout, root, split, classes, index, layout.photo_folders, options, complain)

    def photo_path(self, index: int) -> Path:
        end = self.layout.photo_end
        if not end:
            return super().photo_path(index)
        stem = str(self.keys[index])
        return self.place_of(self.photo_folders, f"{stem.split('_')[0]}/{stem}{end}")

    def annotation(self, index: int) -> dict[str, Any]:
        """The photo's annotation; two are a problem, and the later one counts."""
        rows = self.rows("annotations", index)
        if len(rows) > 1:
            reason = f"image {self.keys[index]!r} has {len(rows)} annotations; expected one"
            self.tell("duplicate id", self.index.path, reason)
        return rows[-1]

    def label_paths(self, index: int) -> tuple[Path, ...]:
        name = self.annotation(index).get("file_name")
        return (self.place_of(self.layout.png_folders, name),)

    def group(self, index: int) -> str:
        key = str(self.keys[index])
        return key.split("_")[0] if self.layout.photo_end else ""

    def read_truth(self, index: int, size_wh: tuple[int, int] | None) -> Truth:
        annotation = self.annotation(index)
        path = self.place_of(self.layout.png_folders, annotation.get("file_name"))
        try:
            rgb = read_id_png(path, size_wh, "as the photo")
        except LabelError:
            raise
        except DataError as error:
            raise LabelError(path, error.reason, _kind_of(error, path)) from None
        _check_mode(self, path)
        stated = self.stated_size(index)
        got = rgb.shape[1], rgb.shape[0]
        if stated is not None and stated not in (got, got[::-1]):
            self.tell("wrong size", path, f"its size is {got}; the JSON says {stated}")
        ids = ids_of(rgb)
        listed = self._segments(annotation.get("segments_info"), f"image {self.keys[index]!r}")
        return self._joined(path, ids, listed)

    def _segments(self, infos: Any, where: str) -> dict[int, tuple[TruthSegment, dict[str, Any]]]:
        path = self.index.path
        if not isinstance(infos, list):
            reason = f"{where}: segments_info is {infos!r:.60}; expected a list"
            raise LabelError(path, reason, "bad number")
        found: dict[int, tuple[TruthSegment, dict[str, Any]]] = {}
        for s in infos:
            number = as_id(s.get("id")) if isinstance(s, dict) else None
            if not isinstance(number, int) or number < 0:
                self.tell("bad id", path, f"{where}: segment {s!r:.80}; expected a whole id")
                continue
            if number == 0 or number > MAX_ID:
                kind = "id too large" if number else "id 0"
                self.tell(kind, path, f"{where}: segment id {number!r:.40}")
                continue
            if number in found:
                self.tell("duplicate id", path, f"{where}: segment {number} stands twice")
            channel = self.category(s.get("category_id"), f"{where}, segment {number}")
            if channel is None:
                channel = -1
            thing = channel >= 0 and bool(self.taxonomy.thing_mask[channel])
            crowd, ignore = bool(s.get("iscrowd", 0)), bool(s.get("ignore", 0))
            found[number] = TruthSegment(number, channel, thing, crowd, ignore), s
        self._check_classes(list(found.values()), where)
        return found

    def _check_classes(
        self, segments: list[tuple[TruthSegment, dict[str, Any]]], where: str
    ) -> None:
        crowds: set[int] = set()
        stuff: set[int] = set()
        for s, _ in segments:
            if s.channel < 0 or s.ignore:
                continue
            name = self.taxonomy.categories[s.channel].name
            if s.is_crowd and s.is_thing:
                if s.channel in crowds:
                    self.tell("two crowds", self.index.path, f"{where}: two crowds of {name}")
                crowds.add(s.channel)
            elif not s.is_thing:
                if s.channel in stuff:
                    self.tell("stuff twice", self.index.path, f"{where}: two segments of {name}")
                stuff.add(s.channel)

    def _joined(
        self,
        path: Path,
        ids: NDArray[np.int32],
        listed: dict[int, tuple[TruthSegment, dict[str, Any]]],
    ) -> Truth:
        """The map and its segments: what is in one of them alone, or differs, is told."""
        there = extents(ids)
        drop = []
        for number in there.keys() - listed.keys():
            reason = f"segment id {number} is in the PNG but not in the JSON"
            self.tell("id not in JSON", path, reason)
            drop.append(number)
        kept = []
        for number, (segment, info) in listed.items():
            if number not in there:
                reason = f"segment {number} is in the JSON and has no pixel"
                self.tell("id not in PNG", path, reason)
                continue
            self._check_extent(path, number, there[number], info)
            if segment.channel < 0:
                drop.append(number)
            else:
                kept.append(segment)
        if drop:
            ids[np.isin(ids, np.array(drop, np.int32))] = 0
        return Truth(ids, tuple(kept))

    def _check_extent(self, path: Path, number: int, there: Any, info: dict[str, Any]) -> None:
        area = info.get("area")
        if area is not None and finite(area) is None:
            self.tell("bad number", self.index.path, f"segment {number}: area {area!r:.40}")
        elif area is not None and area != there.area:
            reason = f"segment {number} has {there.area} pixels; the JSON says an area of {area}"
            self.tell("wrong area", path, reason)
        box = info.get("bbox")
        if box is None:
            return
        if not isinstance(box, list) or len(box) != 4 or any(finite(v) is None for v in box):
            self.tell("bad number", self.index.path, f"segment {number}: bbox {box!r:.60}")
        elif max(abs(a - b) for a, b in zip(box, there.bbox, strict=True)) > 1:
            reason = f"segment {number} lies in {list(there.bbox)}; the JSON says a bbox of {box}"
            self.tell("wrong box", path, reason)


def _check_mode(reader: CocoPanoptic, path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(26)
    if head[24:26] != b"\x08\x02":
        names = {0: "grey", 3: "palette", 4: "grey with alpha", 6: "RGBA", 2: "RGB"}
        what = names.get(head[25], "other") if len(head) == 26 else "other"
        if what in ("RGBA", "palette"):
            reason = f"it is a PNG of {what}, {head[24]} bits; expected RGB of 8 bits"
            reader.tell("wrong mode", path, reason)


def _kind_of(error: DataError, path: Path) -> str:
    if not path.is_file():
        return "missing labels"
    if "expected size" in error.reason:
        return "wrong size"
    return "wrong mode" if "colour PNG" in error.reason else "unreadable"


def _layouts(root: Path) -> dict[str, _Layout]:
    """The splits of a folder, in whichever layout it has."""
    pngs: tuple[Path, ...]
    photos: tuple[Path, ...]
    if root.is_file():
        if root.suffix.lower() != ".json" or not _is_panoptic(root):
            return {}
        near = root.parent
        pngs = root.with_suffix(""), near / "panoptic", near.parent / "panoptic", near
        photos = near / "images", near.parent / "images", near, near.parent
        return {root.stem: _Layout(root, pngs, photos)}
    found: dict[str, _Layout] = {}
    for path in _jsons(root / "annotations"):
        named = path.stem.removeprefix("panoptic_")
        ours = (root / "panoptic").is_dir()
        if (ours or path.stem != named) and _is_panoptic(path):
            pngs = (root / "panoptic",) if ours else ()
            pngs += (root / path.stem, path.with_suffix(""))
            photos = (root / "images",) if (root / "images").is_dir() else ()
            photos += (root / named, root / "images" / named)
            pngs += tuple(f for f in folders(root) if path.stem.startswith(f"{f.name}_"))
            photos += tuple(f for f in folders(root) if named.startswith(f"{f.name}_"))
            found[named if not ours else path.stem] = _Layout(path, pngs, photos)
    for path in _jsons(root, "ade20k_panoptic_*.json"):
        split = {"train": "training", "val": "validation"}.get(path.stem[16:], path.stem[16:])
        found[split] = _Layout(path, (path.with_suffix(""),), (root / "images" / split,))
    for path in _jsons(root / "gtFine", "cityscapes_panoptic_*.json"):
        name = path.stem.removeprefix("cityscapes_panoptic_")
        photos = (root / "leftImg8bit" / name.removesuffix("_trainId"),)
        pngs = (path.with_suffix(""), root / "gtFine" / path.stem.removesuffix("_trainId"))
        found[name] = _Layout(path, pngs, photos, "_leftImg8bit.png")
    for folder in folders(root):
        for path in [*_jsons(folder / "panoptic"), *folder.glob("v*/panoptic/panoptic_20*.json")]:
            if path.stem.startswith("panoptic_20") and _is_panoptic(path):
                found[folder.name] = _Layout(path, (path.parent,), (folder / "images",))
    return found


def _jsons(folder: Path, pattern: str = "*.json") -> list[Path]:
    return [p for p in sorted(folder.glob(pattern)) if p.is_file() and not is_sidecar(p.name)]


def _is_panoptic(path: Path) -> bool:
    """Whether a JSON file speaks of segments, as far as its two ends tell."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _HEAD))
        ends = head + file.read(_HEAD)
    if b'"segments_info"' in ends:
        return True
    other = any(k in ends for k in (b'"segmentation"', b'"caption"', b'"keypoints"', b'"bbox"'))
    return not other and _holds(path, b'"segments_info"')


def _holds(path: Path, word: bytes) -> bool:
    with path.open("rb") as file:
        tail = b""
        while block := file.read(2**22):
            if word in tail + block:
                return True
            tail = block[-len(word) :]
    return False


class CocoPanopticWriter(Writer):
    """Writes ``annotations/SPLIT.json``, ``images``, ``panoptic`` and ``taxonomy.json``."""

    kind = "coco-panoptic"

    def write(self, sample: Sample) -> dict[str, Any]:
        stem = sample.flat_name
        suffix = sample.photo_suffix
        folder = f"{self.split}/"
        write_photo(sample.photo, self.out / "images" / f"{folder}{stem}{suffix}")
        png = f"{folder}{stem}.png"
        ids = sample.truth.ids
        write_rgb(self.out / "panoptic" / png, ids_to_rgb(ids))
        there = extents(ids)
        infos = []
        for s in sample.truth.segments:
            if s.id not in there:
                continue
            info: dict[str, Any] = {"id": s.id, "category_id": int(self.taxonomy.ids[s.channel])}
            info |= {"area": there[s.id].area, "bbox": list(there[s.id].bbox)}
            info |= {"iscrowd": int(s.is_crowd)} | ({"ignore": 1} if s.ignore else {})
            infos.append(info)
        width, height = sample.truth.size_wh
        number = sample.number
        image: dict[str, Any] = {"id": number, "width": width, "height": height}
        image |= {"file_name": f"{folder}{stem}{suffix}"}
        annotation = {"image_id": number, "file_name": png, "segments_info": infos}
        return {"image": image, "annotation": annotation}

    def finish(self, records: Iterable[Mapping[str, Any]]) -> None:
        categories = [c.to_json() for c in self.taxonomy]
        path = self.out / "annotations" / f"{self.split}.json"
        write_listing(path, records, {"categories": categories})
        write_json(self.out / "taxonomy.json", self.taxonomy.to_json())
