"""Cityscapes: ``gtFine/SPLIT/CITY/…_gtFine_instanceIds.png`` (16-bit).

A value below 1000 is a label id: stuff, void, or a group of a thing class (a crowd); any other is
1000 · label id + the instance's number. Facts: mcordts/cityscapesScripts, helpers/labels.py and
preparation/json2instanceImg.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from panokit_datasets.classes import ClassList
from panokit_datasets.label_png import read_label_png
from panokit_datasets.problems import Complain
from panokit_datasets.reader import CROWD, Options, Truth, folders, photo_files
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

__all__ = ["Cityscapes", "CityscapesWriter"]

_END = "_gtFine_instanceIds.png"
PHOTO_END = "_leftImg8bit.png"


class Cityscapes(FilesReader):
    """The fine labels of Cityscapes."""

    kind, title, rank = "cityscapes", "Cityscapes", 40
    class_list = "cityscapes"

    @classmethod
    def splits_in(cls, root: Path, options: Options) -> list[str]:
        return [s.name for s in folders(root / "gtFine") if any(s.glob(f"*/*{_END}"))]

    @classmethod
    def open(cls, root: Path, split: str, options: Options, complain: Complain) -> Cityscapes:
        items = []
        for city in folders(root / "gtFine" / split):
            for label in photo_files(city, [_END.lower()]):
                stem = label.name.removesuffix(_END)
                photo = root / "leftImg8bit" / split / city.name / f"{stem}{PHOTO_END}"
                items.append(Item(f"{city.name}/{stem}", photo, (label,), city.name))
        return cls(root, split, ClassList.named("cityscapes"), items, options, complain)

    def read_truth(self, index: int, size_wh: tuple[int, int] | None) -> Truth:
        (path,) = self.items[index].labels
        values = read_label_png(path, size_wh, ["I;16"])
        labels = np.where(values < 1000, values, values // 1000)
        instances = np.where(values < 1000, CROWD, values % 1000)
        return truth_of_labels(self, path, labels, instances)


class CityscapesWriter(Writer):
    """Writes photos, instanceIds, labelIds and colours."""

    kind, class_list = "cityscapes", "cityscapes"

    def write(self, sample: Sample) -> dict[str, Any]:
        city = "".join(c for c in sample.group if c.isalnum()) or "city"
        name = sample.flat_name.removeprefix(f"{city}_")
        stem = f"{city}_{name}" if _is_numbered(name) else f"{city}_{sample.number:06d}_000019"
        write_photo(
            sample.photo, self.out / "leftImg8bit" / self.split / city / f"{stem}{PHOTO_END}"
        )
        labels, instances = class_and_instance(sample.truth, self.classes)
        check_instances(instances, 999, "Cityscapes")
        labels = np.maximum(labels, 0)
        folder = self.out / "gtFine" / self.split / city
        values = np.where(instances < 0, labels, 1000 * labels + instances)
        write_grey(folder / f"{stem}{_END}", values, 16)
        write_grey(folder / f"{stem}_gtFine_labelIds.png", labels)
        colors = np.zeros((256, 3), np.uint8)
        for c in self.classes.classes:
            colors[c.source_id] = c.category.color
        write_rgb(folder / f"{stem}_gtFine_color.png", colors[labels])
        return {"name": f"{city}/{stem}"}


def _is_numbered(name: str) -> bool:
    """Whether a name ends in the two numbers of six digits that names of the set have."""
    parts = name.split("_")
    return len(parts) == 2 and all(len(p) == 6 and p.isdigit() for p in parts)
