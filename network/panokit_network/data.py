"""Reading COCO-panoptic folders, with what partial labels say and do not say.

Layout: ``DIR/annotations/NAME.json``, ``DIR/images/<image file_name>``,
``DIR/panoptic/<annotation file_name>`` (PNG, id = R + 256·G + 65536·B) and optionally
``DIR/teacher/<image teacher>`` (8-bit PNG of category ids, 0 = none it knows, 255 = unsure) and
``DIR/taxonomy.json``. Four keys beyond the COCO format are understood:

- image ``labelled``: category ids that are absent wherever the PNG says 0. Missing means all;
  then 0 is plain void.
- image ``person_boxes``: ``[x, y, width, height]`` in pixels of all persons of a photo without
  segments; used where there is a teacher map (see :mod:`panokit_network.boxes`).
- segment ``iscrowd`` 1: the class is known, instances are not separated.
- segment ``ignore`` 1: uncertain, used for nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panokit.errors import DataError
from panokit.taxonomy import Taxonomy
from panokit_network.boxes import MAX_BOXES, Box, paint_boxes

__all__ = [
    "TEACHER_UNSURE",
    "DecodedPhoto",
    "PanopticFolder",
    "PhotoCache",
    "PhotoRecord",
    "SegmentRecord",
    "Teacher",
    "decode_photo",
    "load_split",
]

PERSON = "person"
TEACHER_UNSURE = 255
_TEACHER_NONE = 0
MAX_SIDE = 8192
CACHE_FORMAT = 3  # in the names of cache files: another format is another file


@dataclass(frozen=True)
class SegmentRecord:
    """One annotated segment: PNG ``id``, semantic ``channel``, and whether it is a thing, a crowd
    (instances not separated) or to be ignored."""

    id: int
    channel: int
    is_thing: bool
    is_crowd: bool = False
    ignore: bool = False

    @property
    def is_object(self) -> bool:
        """Whether this is one instance of a thing."""
        return self.is_thing and not self.is_crowd and not self.ignore


@dataclass(frozen=True)
class PhotoRecord:
    """One photo of a split and where its labels lie. ``absent`` are channels known not to be there
    outside the segments; ``complete`` says that all are, so that id 0 is plain void."""

    image_id: int
    source: str
    image_path: Path
    panoptic_path: Path
    teacher_path: Path | None
    size_wh: tuple[int, int]
    segments: tuple[SegmentRecord, ...]
    absent: tuple[int, ...]
    complete: bool
    boxes: tuple[Box, ...] = ()  # one segment each, in this order, then one that is uncertain


@dataclass(frozen=True)
class PanopticFolder:
    """A data set folder and the taxonomy its category ids are of."""

    root: Path
    taxonomy: Taxonomy

    @classmethod
    def open(cls, root: str | Path, taxonomy: str | Path | None = None) -> PanopticFolder:
        """Open ``root``; the taxonomy is ``root/taxonomy.json`` unless a file is named, or else
        the categories of the first annotation file."""
        root = Path(root)
        if not (root / "annotations").is_dir():
            raise DataError(root, "expected a data set folder that holds 'annotations/'")
        path = Path(taxonomy) if taxonomy else root / "taxonomy.json"
        if not path.is_file():
            names = sorted((root / "annotations").glob("*.json"))
            if taxonomy or not names:
                raise DataError(path, "no such taxonomy file")
            path = names[0]
        return cls(root, Taxonomy.load(path))

    def splits(self) -> list[str]:
        """Names of all annotation files, sorted."""
        return sorted(p.stem for p in (self.root / "annotations").glob("*.json"))


def load_split(folder: PanopticFolder, name: str) -> list[PhotoRecord]:
    """Read ``annotations/NAME.json`` and check that it hangs together.

    Raises ``DataError`` for an unreadable file, a category the taxonomy lacks, a path that leaves
    the folder, an annotation without its image or an image without its annotation.
    """
    path = folder.root / "annotations" / f"{name}.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        images = {int(i["id"]): i for i in data["images"]}
        annotations = {int(a["image_id"]): a for a in data["annotations"]}
    except OSError as error:
        known = ", ".join(folder.splits()) or "none"
        raise DataError(path, f"cannot be read ({error}); splits here: {known}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(path, f"expected COCO panoptic JSON, but {error!r}") from None
    alone = images.keys() ^ annotations.keys()
    if alone:
        raise DataError(path, f"images without annotation or the reverse: ids {sorted(alone)[:5]}")
    return [_record(folder, path, images[i], annotations[i], name) for i in sorted(images)]


def _record(
    folder: PanopticFolder, path: Path, image: dict[str, Any], labels: dict[str, Any], split: str
) -> PhotoRecord:
    taxonomy = folder.taxonomy
    known = {c.id for c in taxonomy}

    def channel(category_id: int, where: str) -> int:
        if category_id not in known:
            raise DataError(path, f"{where}: category {category_id} is not in the taxonomy")
        return taxonomy.channel(category_id)

    where = f"image {image['id']}"
    labelled = image.get("labelled")
    ids = sorted(known) if labelled is None else [int(i) for i in labelled]
    segments = tuple(
        SegmentRecord(
            id=int(s["id"]),
            channel=channel(int(s["category_id"]), f"{where}, segment {s['id']}"),
            is_thing=bool(taxonomy.get(int(s["category_id"])).is_thing),
            is_crowd=bool(s.get("iscrowd", 0)),
            ignore=bool(s.get("ignore", 0)),
        )
        for s in labels["segments_info"]
    )
    teacher = image.get("teacher")
    absent = tuple(channel(i, f"{where}, labelled") for i in ids)
    boxes: tuple[Box, ...] = ()
    if teacher and not segments and any(c.name == PERSON for c in taxonomy):
        boxes = _boxes(image.get("person_boxes") or [], path, where)
    if boxes:
        person = taxonomy.channel(taxonomy.get(PERSON).id)
        uncertain = SegmentRecord(len(boxes) + 1, person, True, is_crowd=True, ignore=True)
        segments = (*(SegmentRecord(i + 1, person, True) for i in range(len(boxes))), uncertain)
        absent = tuple(sorted({*absent, person}))
    return PhotoRecord(
        image_id=int(image["id"]),
        source=str(image.get("source", split)),
        image_path=_inside(folder.root / "images", image["file_name"], path),
        panoptic_path=_inside(folder.root / "panoptic", labels["file_name"], path),
        teacher_path=_inside(folder.root / "teacher", teacher, path) if teacher else None,
        size_wh=(int(image["width"]), int(image["height"])),
        segments=segments,
        absent=absent,
        complete=set(ids) == known,
        boxes=boxes,
    )


def _boxes(given: Any, annotation: Path, where: str) -> tuple[Box, ...]:
    try:
        boxes = tuple((float(x), float(y), float(w), float(h)) for x, y, w, h in given)
        good = all(w > 0 and h > 0 and np.isfinite((x, y, w, h)).all() for x, y, w, h in boxes)
    except (TypeError, ValueError):
        boxes, good = (), False
    if not good or len(boxes) > MAX_BOXES:
        reason = f"{where}: expected at most {MAX_BOXES} person_boxes [x, y, width, height]"
        raise DataError(annotation, reason)
    return boxes


def _inside(root: Path, name: str, annotation: Path) -> Path:
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise DataError(annotation, f"expected a path inside {root.name}/, got {name!r}")
    return root / relative


@dataclass(frozen=True)
class DecodedPhoto:
    """Pixels of one photo.

    ``image_hwc`` uint8 ``[H,W,3]`` sRGB; ``segment_map`` uint16 ``[H,W]``, 0 = none, else 1 +
    index into ``record.segments``; ``teacher`` uint8 ``[H,W]`` with 1 + channel, 0 = none it
    knows, 255 = unsure, or None.
    """

    record: PhotoRecord
    image_hwc: NDArray[np.uint8]
    segment_map: NDArray[np.uint16]
    teacher: NDArray[np.uint8] | None


def decode_photo(record: PhotoRecord, taxonomy: Taxonomy) -> DecodedPhoto:
    """Decode a photo and its labels; ``DataError`` names what does not fit."""
    image = np.asarray(_open_image(record.image_path, "RGB", record.size_wh))
    ids_rgb = np.asarray(_open_image(record.panoptic_path, "RGB", record.size_wh)).astype(np.int64)
    ids = ids_rgb[..., 0] + 256 * ids_rgb[..., 1] + 65536 * ids_rgb[..., 2]
    present, inverse = np.unique(ids, return_inverse=True)
    index_of = {s.id: i + 1 for i, s in enumerate(record.segments)} | {0: 0}
    unknown = [int(i) for i in present if int(i) not in index_of]
    if unknown:
        reason = f"segment ids {unknown[:5]} are in the PNG but not in the JSON"
        raise DataError(record.panoptic_path, reason)
    lookup = np.array([index_of[int(i)] for i in present], np.uint16)
    teacher = None
    if record.teacher_path is not None:
        raw = np.asarray(_open_image(record.teacher_path, "L", record.size_wh))
        table = np.full(256, TEACHER_UNSURE, np.uint8)
        table[_TEACHER_NONE] = 0
        for i, category in enumerate(taxonomy):
            if category.id < TEACHER_UNSURE and i + 1 < TEACHER_UNSURE:
                table[category.id] = i + 1
        teacher = table[raw]
    segment_map = lookup[inverse].reshape(ids.shape)
    if record.boxes and teacher is not None:
        person = record.segments[0].channel + 1
        owner, uncertain = paint_boxes(record.boxes, teacher == person)
        segment_map = np.where(uncertain, len(record.boxes) + 1, owner).astype(np.uint16)
    return DecodedPhoto(record, image, segment_map, teacher)


def _open_image(path: Path, mode: str, size_wh: tuple[int, int]) -> Image.Image:
    try:
        with Image.open(path) as image:
            if max(image.size) > MAX_SIDE:
                raise DataError(path, f"expected sides up to {MAX_SIDE}, got {image.size}")
            if image.size != size_wh:
                raise DataError(path, f"expected size {size_wh} as in the JSON, got {image.size}")
            return image.convert(mode)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(path, f"cannot be decoded: {error}") from None


class Teacher(Protocol):
    """Makes the teacher map of a photo, as in :class:`DecodedPhoto`, or None."""

    @property
    def name(self) -> str:
        """What tells its maps from another teacher's."""

    def __call__(self, photo: DecodedPhoto) -> NDArray[np.uint8] | None: ...


@dataclass
class PhotoCache:
    """Decoded photos in one memory-mapped file, so that epochs cost no decoding and worker
    processes share the pages. Photos that cannot be decoded are left out and listed in
    ``skipped``."""

    records: list[PhotoRecord]
    offsets: list[int]
    pixels: NDArray[np.uint8]
    skipped: list[str] = field(default_factory=list)
    has_teacher: list[bool] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> DecodedPhoto:
        record = self.records[index]
        w, h = record.size_wh
        n, at = w * h, self.offsets[index]
        image = self.pixels[at : at + 3 * n].reshape(h, w, 3)
        segments = self.pixels[at + 3 * n : at + 5 * n].view(np.uint16).reshape(h, w)
        teacher = None
        if self.has_teacher[index]:
            teacher = self.pixels[at + 5 * n : at + 6 * n].reshape(h, w)
        return DecodedPhoto(record, image, segments, teacher)

    @classmethod
    def build(
        cls,
        records: Sequence[PhotoRecord],
        taxonomy: Taxonomy,
        folder: str | Path,
        progress: Callable[[Iterable[PhotoRecord]], Iterable[PhotoRecord]] = lambda x: x,
        teacher: Teacher | None = None,
    ) -> PhotoCache:
        """Open the cache in ``folder`` if it was made from these very records (and by this
        teacher), else make it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        described = json.dumps([[str(r.image_path), repr(r)] for r in records])
        key = hashlib.sha256(
            (described + repr(taxonomy) + (teacher.name if teacher else "")).encode()
        ).hexdigest()[:16]
        stem = f"{key}-{CACHE_FORMAT}"
        pixels_path, index_path = folder / f"{stem}.bin", folder / f"{stem}.json"
        if not index_path.is_file():
            _write_cache(records, taxonomy, pixels_path, index_path, progress, teacher)
        index = json.loads(index_path.read_text(encoding="utf-8"))
        by_path = {str(r.image_path): r for r in records}
        return cls(
            records=[by_path[p] for p in index["photos"]],
            offsets=index["offsets"],
            pixels=np.memmap(pixels_path, np.uint8, "r"),
            skipped=index["skipped"],
            has_teacher=index["teacher"],
        )


def _write_cache(
    records: Sequence[PhotoRecord],
    taxonomy: Taxonomy,
    pixels_path: Path,
    index_path: Path,
    progress: Callable[[Iterable[PhotoRecord]], Iterable[PhotoRecord]],
    teacher: Teacher | None,
) -> None:
    photos: list[str] = []
    offsets: list[int] = []
    skipped: list[str] = []
    has_teacher: list[bool] = []
    partial = pixels_path.with_suffix(".part")
    with partial.open("wb") as file:
        for record in progress(records):
            try:
                photo = decode_photo(record, taxonomy)
            except DataError as error:
                skipped.append(str(error))
                continue
            photos.append(str(record.image_path))
            offsets.append(file.tell())
            taught = teacher(photo) if teacher else photo.teacher
            has_teacher.append(taught is not None)
            parts = [photo.image_hwc, photo.segment_map]
            parts += [taught] if taught is not None else []
            for part in parts:
                file.write(np.ascontiguousarray(part).tobytes())
    partial.rename(pixels_path)
    index = {"photos": photos, "offsets": offsets, "skipped": skipped, "teacher": has_teacher}
    partial_index = index_path.with_suffix(".part")
    partial_index.write_text(json.dumps(index), encoding="utf-8")
    partial_index.rename(index_path)
