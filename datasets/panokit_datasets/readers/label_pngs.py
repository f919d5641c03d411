"""Photos with a PNG of classes and, maybe, one of instances, laid out as a file says.

The file (``panokit-dataset.json`` in the folder, or ``--layout``) says what PNGs do not::

    {"photos": "images", "classes": "labels", "instances": "objects", "taxonomy": "classes.json",
     "void": [255], "first": 0, "numbered": "photo", "void_instance": 0}

``first`` is the number of the first class in the PNGs where the taxonomy gives no ``source_id``;
``numbered`` says whether instances are numbered per photo or per class. A folder in ``photos`` may
hold one folder a split, which the other folders then hold too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from panokit._files import write_json
from panokit.config import read_settings_file, write_settings
from panokit.errors import ArgumentError, DataError
from panokit_datasets.classes import ClassList, VoidClass
from panokit_datasets.label_png import read_label_png
from panokit_datasets.paths import inside
from panokit_datasets.problems import Complain
from panokit_datasets.reader import CROWD, Options, Truth, folders, photo_files
from panokit_datasets.readers._files import FilesReader, Item
from panokit_datasets.readers._maps import truth_of_labels
from panokit_datasets.readers.voc import majority
from panokit_datasets.writer import (
    Sample,
    Writer,
    class_and_instance,
    write_grey,
    write_photo,
)

__all__ = ["LAYOUT_FILE", "LabelPngs", "LabelPngsWriter", "PngLayout"]

LAYOUT_FILE = "panokit-dataset.json"
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class PngLayout:
    """Where photos and labels lie, and what the numbers in the PNGs mean.

    Folders are relative to the data set. ``taxonomy``: the name of a class list, or a file there.
    ``void``: numbers that mean nothing is labelled. ``first``: 0 or 1. ``void_instance``: the
    number that means no instance, which for a thing is a crowd. ``ending``: what follows a photo's
    stem in the names of its label PNGs.
    """

    photos: str
    classes: str
    taxonomy: str
    void: tuple[int, ...]
    first: int
    instances: str | None = None
    numbered: Literal["photo", "class"] = "photo"
    void_instance: int = 0
    ending: str = ""
    instance_ending: str = ""

    def __post_init__(self) -> None:
        if self.first not in (0, 1):
            raise ArgumentError("first", f"first is {self.first}; expected 0 or 1")
        if any(not 0 <= v < 2**16 for v in (*self.void, self.void_instance)):
            raise ArgumentError("void", f"void is {self.void}; expected numbers below 65536")

    def folder(self, root: Path, name: str, split: str) -> Path:
        """A folder of the data set; what leaves it is refused."""
        path = inside(root, name)
        if path is None:
            raise ArgumentError(
                "layout", f"the layout names {name!r}; expected a folder inside {root}"
            )
        return path / split if split and (path / split).is_dir() else path


class LabelPngs(FilesReader):
    """Photos with label PNGs of one's own layout."""

    kind, title, rank = "label-pngs", "photos with label PNGs", 90

    def __init__(self, *args: Any, layout: PngLayout) -> None:
        super().__init__(*args)
        self.layout = layout

    @classmethod
    def read_layout(cls, root: Path, options: Options) -> PngLayout | None:
        """The layout of a folder, if it has one."""
        path = options.layout or root / LAYOUT_FILE
        if not path.is_file():
            if options.layout is not None:
                raise DataError(path, "no such layout file")
            return None
        return read_settings_file(PngLayout, path)

    @classmethod
    def splits_in(cls, root: Path, options: Options) -> list[str]:
        layout = cls.read_layout(root, options) if root.is_dir() else None
        if layout is None:
            return []
        photos = layout.folder(root, layout.photos, "")
        labels = layout.folder(root, layout.classes, "")
        named = {s.name for s in folders(photos)} & {s.name for s in folders(labels)}
        return sorted(named) or ["all"]

    @classmethod
    def open(cls, root: Path, split: str, options: Options, complain: Complain) -> LabelPngs:
        layout = cls.read_layout(root, options)
        assert layout is not None  # splits_in found it
        classes = layout.folder(root, layout.classes, split)
        objects = layout.folder(root, layout.instances, split) if layout.instances else None
        items = []
        for photo in photo_files(layout.folder(root, layout.photos, split), PHOTO_SUFFIXES):
            labels: tuple[Path, ...] = (classes / f"{photo.stem}{layout.ending}.png",)
            if objects is not None:
                labels += (objects / f"{photo.stem}{layout.instance_ending}.png",)
            items.append(Item(photo.name, photo, labels))
        return cls(root, split, _classes(root, layout), items, options, complain, layout=layout)

    def check_set(self) -> None:
        super().check_set()
        photos = {item.photo.stem for item in self.items}
        for folder in sorted({item.labels[0].parent for item in self.items}):
            for label in photo_files(folder, [".png"]):
                if label.stem.removesuffix(self.layout.ending) not in photos:
                    self.tell("missing photo", label, "no photo has this name")

    def read_truth(self, index: int, size_wh: tuple[int, int] | None) -> Truth:
        path, *second = self.items[index].labels
        labels: NDArray[np.integer] = read_label_png(path, size_wh, ["L", "P", "I;16"])
        instances: NDArray[np.integer] | None = None
        if second:
            size = labels.shape[1], labels.shape[0]
            instances = read_label_png(second[0], size, ["L", "P", "I;16"])
            none = self.layout.void_instance
            if self.layout.numbered == "photo":
                labels = majority(self, second[0], labels, instances, {none})
            instances = np.where(instances == none, CROWD, instances)
        return truth_of_labels(self, path, labels, instances)


def _classes(root: Path, layout: PngLayout) -> ClassList:
    path = inside(root, layout.taxonomy)
    if path is not None and path.is_file():
        found = ClassList.load(path)
    else:
        found = ClassList.named(layout.taxonomy)
    if all(c.source_id == c.category.id for c in found.classes) and layout.first == 0:
        # Classes are numbered in their order; the taxonomy's ids begin at 1 and may have gaps.
        moved = [replace(c, source_id=i) for i, c in enumerate(found.classes)]
        found = replace(found, classes=tuple(moved))
    taken = {v.source_id for v in found.void}
    void = tuple(VoidClass("void", v, "void") for v in layout.void if v not in taken)
    return replace(found, void=found.void + void)


class LabelPngsWriter(Writer):
    """Writes class PNGs, instance PNGs, the classes and the layout."""

    kind = "label-pngs"

    def write(self, sample: Sample) -> dict[str, Any]:
        name = sample.flat_name
        suffix = sample.photo.suffix.lower()
        suffix = suffix if suffix in (".jpg", ".png", ".webp") else ".jpg"
        write_photo(sample.photo, self.out / "images" / self.split / f"{name}{suffix}")
        labels, instances = class_and_instance(
            sample.truth, self.classes, key="id", per_class=False, first=1
        )
        wide = 16 if int(self.taxonomy.ids.max()) > 255 else 8
        write_grey(self.out / "labels" / self.split / f"{name}.png", np.maximum(labels, 0), wide)
        path = self.out / "instances" / self.split / f"{name}.png"
        write_grey(path, np.maximum(instances, 0), 16)
        return {"name": f"{name}{suffix}"}

    def finish(self, records: Iterable[Mapping[str, Any]]) -> None:
        layout = PngLayout("images", "labels", "classes.json", (0,), 1, "instances")
        write_json(self.out / "classes.json", self.taxonomy.to_json())
        write_json(self.out / LAYOUT_FILE, write_settings(layout))
