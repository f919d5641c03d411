"""Pascal VOC: palette PNGs in ``SegmentationClass`` and ``SegmentationObject``.

And the "segmentation mask" export of CVAT: the same folders with colours that ``labelmap.txt``
explains.

Places in the palette are classes 0..20 and objects 1..N; 255 is the border between objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._files import write_text
from panokit.errors import DataError
from panokit_datasets.classes import ClassList, VoidClass
from panokit_datasets.label_png import read_label_png, read_rgb_png
from panokit_datasets.problems import Complain, LabelError
from panokit_datasets.reader import CROWD, Options, Truth
from panokit_datasets.readers._files import FilesReader, Item
from panokit_datasets.readers._maps import truth_of_labels
from panokit_datasets.writer import (
    Sample,
    Writer,
    check_instances,
    class_and_instance,
    write_grey,
    write_photo,
    write_rgb,
)

__all__ = ["CvatMasks", "CvatMasksWriter", "Voc", "VocWriter", "majority"]

_LISTS = "ImageSets/Segmentation"
BORDER = 255
MAX_LIST_BYTES = 2**26


class Voc(FilesReader):
    """Pascal VOC 2012's segmentation."""

    kind, title, rank = "voc", "Pascal VOC", 20
    lists_photos = False  # most have boxes alone
    class_list = "voc"

    @classmethod
    def base(cls, root: Path) -> Path:
        """The folder that holds ``JPEGImages``."""
        inner = [*root.glob("VOCdevkit/VOC20*"), *root.glob("VOC20*")]
        return root if (root / "SegmentationClass").is_dir() or not inner else sorted(inner)[-1]

    @classmethod
    def splits_in(cls, root: Path, options: Options) -> list[str]:
        base = cls.base(root)
        if not (base / "SegmentationClass").is_dir() or (base / "labelmap.txt").is_file():
            return []
        return sorted(p.stem for p in (base / _LISTS).glob("*.txt"))

    @classmethod
    def open(cls, root: Path, split: str, options: Options, complain: Complain) -> FilesReader:
        classes = ClassList.named("voc")
        return cls(root, split, classes, _items(cls.base(root), split), options, complain)

    def read_truth(self, index: int, size_wh: tuple[int, int] | None) -> Truth:
        path, objects = self.items[index].labels
        labels: NDArray[np.integer] = read_label_png(path, size_wh, ["P"])
        instances: NDArray[np.integer] | None = None
        if objects.is_file():
            size = labels.shape[1], labels.shape[0]
            instances = read_label_png(objects, size, ["P"])
            labels = majority(self, objects, labels, instances, {0, BORDER})
            instances = np.where((instances == 0) | (instances == BORDER), CROWD, instances)
        return truth_of_labels(self, path, labels, instances)


class CvatMasks(FilesReader):
    """CVAT's "segmentation mask" export: colours of classes and of objects."""

    kind, title, rank = "cvat-masks", "CVAT segmentation masks", 21
    lists_photos = False

    @classmethod
    def splits_in(cls, root: Path, options: Options) -> list[str]:
        if not (root / "labelmap.txt").is_file() or not (root / "SegmentationClass").is_dir():
            return []
        return sorted(p.stem for p in (root / _LISTS).glob("*.txt"))

    @classmethod
    def open(cls, root: Path, split: str, options: Options, complain: Complain) -> FilesReader:
        classes = read_labelmap(root / "labelmap.txt")
        return cls(root, split, classes, _items(root, split), options, complain)

    def read_truth(self, index: int, size_wh: tuple[int, int] | None) -> Truth:
        path, objects = self.items[index].labels
        colors = _packed(read_rgb_png(path, size_wh))
        table = {self._color(c.category.color): c.source_id for c in self.classes.classes}
        present, place = np.unique(colors, return_inverse=True)
        strange = [f"#{c:06x}" for c in present.tolist() if c and c not in table]
        if strange:
            few = ", ".join(strange[:5])
            self.tell("unknown category", path, f"it holds {few}, which labelmap.txt does not name")
        numbers = np.array([table.get(c, 0) for c in present.tolist()])
        labels: NDArray[np.integer] = numbers[place].reshape(colors.shape)
        instances: NDArray[np.integer] | None = None
        if objects.is_file():
            size = colors.shape[1], colors.shape[0]
            packed = _packed(read_rgb_png(objects, size))
            _, place = np.unique(packed, return_inverse=True)
            instances = np.where(packed == 0, 0, place.reshape(labels.shape) + 1)  # black is none
            labels = majority(self, objects, labels, instances, {0})
            instances = np.where(instances == 0, CROWD, instances)
        return truth_of_labels(self, path, labels, instances)

    @staticmethod
    def _color(color: tuple[int, int, int]) -> int:
        return color[0] << 16 | color[1] << 8 | color[2]


def read_labelmap(path: Path) -> ClassList:
    """The classes of a ``labelmap.txt``: lines ``name:r,g,b:parts:actions``. All are things; a
    black one, or one named background, is void."""
    categories: list[dict[str, Any]] = []
    try:
        text = _text(path)
        for line in text.splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            name, color = line.split(":")[:2]
            rgb = [int(v) for v in color.split(",")]
            if rgb != [0, 0, 0] and name.lower() != "background":
                number = len(categories) + 1
                categories.append({"id": number, "name": name, "isthing": 1, "color": rgb})
        found = ClassList.from_json({"name": "labelmap", "categories": categories})
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(path, f"expected lines name:r,g,b::, but {error}") from None
    void = (VoidClass("background", 0, "background"),)
    return ClassList(found.name, found.title, found.classes, void)


def majority(
    reader: FilesReader,
    path: Path,
    labels: NDArray[np.integer],
    instances: NDArray[np.integer],
    none: set[int],
) -> NDArray[np.integer]:
    """The labels, in which each instance has the class that most of its pixels have; instances of
    two classes are told. ``none`` are instance numbers that mean no instance."""
    width = int(labels.max(initial=0)) + 1
    pairs, counts = np.unique(instances.astype(np.int64) * width + labels, return_counts=True)
    most: dict[int, tuple[int, int]] = {}
    mixed = []
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        instance, label = divmod(pair, width)
        if instance in none or label in (0, BORDER):
            continue
        if instance in most:
            mixed.append(instance)
        if count > most.get(instance, (0, 0))[0]:
            most[instance] = (count, label)
    if not mixed:
        return labels
    reader.tell("two classes", path, f"instances {sorted(set(mixed))[:5]} lie on two classes")
    out = labels.copy()
    for instance in set(mixed):
        inside = (instances == instance) & (labels != 0) & (labels != BORDER)
        out[inside] = most[instance][1]
    return out


def _items(base: Path, split: str) -> list[Item]:
    path = base / _LISTS / f"{split}.txt"
    items = []
    for line in _text(path).splitlines():
        words = line.split()
        if not words:
            continue
        name = words[0]
        if "/" in name or "\\" in name or name.startswith("."):
            raise LabelError(path, f"expected names of files, got {name!r:.60}", "unsafe path")
        photo = next(
            (
                p
                for s in (".jpg", ".jpeg", ".png")
                if (p := base / "JPEGImages" / f"{name}{s}").is_file()
            ),
            base / "JPEGImages" / f"{name}.jpg",
        )
        maps = (base / f / f"{name}.png" for f in ("SegmentationClass", "SegmentationObject"))
        items.append(Item(name, photo, tuple(maps)))
    return items


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_LIST_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read as text ({error})") from None


def _packed(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    wide = rgb.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


class _FoldersWriter(Writer):
    """Writes the folders that both formats share."""

    def write(self, sample: Sample) -> dict[str, Any]:
        name = sample.flat_name
        write_photo(sample.photo, self.out / "JPEGImages" / f"{name}.jpg")
        labels, instances = class_and_instance(
            sample.truth, self.classes, key="id", per_class=False, first=1
        )
        check_instances(instances, BORDER - 1, "Pascal VOC")
        folders = (self.out / "SegmentationClass", self.out / "SegmentationObject")
        for folder, values in zip(folders, (labels, instances), strict=True):
            self.write_map(folder / f"{name}.png", np.maximum(values, 0))
        return {"name": name}

    def write_map(self, path: Path, values: NDArray[np.int64]) -> None:
        """Write one of the two maps."""
        write_grey(path, values, 8, palette())

    def finish(self, records: Iterable[Mapping[str, Any]]) -> None:
        names = "".join(f"{r['name']}\n" for r in records)
        write_text(self.out / _LISTS / f"{self.split}.txt", names)


class VocWriter(_FoldersWriter):
    """Writes Pascal VOC's segmentation. Classes other than VOC's are things of their own order."""

    kind, class_list = "voc", "voc"


class CvatMasksWriter(_FoldersWriter):
    """Writes CVAT's segmentation masks, with any classes."""

    kind = "cvat-masks"

    def write_map(self, path: Path, values: NDArray[np.int64]) -> None:
        if path.parent.name == "SegmentationClass":
            table = np.zeros((int(values.max(initial=0)) + 1, 3), np.uint8)
            for c in self.classes.classes:
                if c.category.id < len(table):
                    table[c.category.id] = label_color(self.classes, c.category.id)
            write_rgb(path, table[values])
        else:
            write_rgb(path, np.frombuffer(palette(), np.uint8).reshape(256, 3)[values])

    def finish(self, records: Iterable[Mapping[str, Any]]) -> None:
        super().finish(records)
        lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
        for c in self.classes.classes:
            r, g, b = label_color(self.classes, c.category.id)
            lines.append(f"{c.category.name.replace(':', ' ')}:{r},{g},{b}::")
        write_text(self.out / "labelmap.txt", "\n".join(lines) + "\n")


def label_color(classes: ClassList, number: int) -> tuple[int, int, int]:
    """A colour that no other class of the list has: its own, or the palette's."""
    used: set[tuple[int, int, int]] = {(0, 0, 0)}
    spare = iter(np.frombuffer(palette(), np.uint8).reshape(256, 3)[::-1].tolist() * 16)
    for c in classes.classes:
        color = c.category.color
        while color in used:
            r, g, b = next(spare)
            color = (r, g, b)
        used.add(color)
        if c.category.id == number:
            return color
    return (0, 0, 0)


def palette() -> bytes:
    """VOC's palette: bits of the place, three at a time from the lowest, go to red, green and blue
    from their highest bit down."""
    places = np.arange(256)
    colors = np.zeros((256, 3), np.int64)
    for shift in range(8):
        for channel in range(3):
            colors[:, channel] |= ((places >> (3 * shift + channel)) & 1) << (7 - shift)
    return colors.astype(np.uint8).tobytes()
