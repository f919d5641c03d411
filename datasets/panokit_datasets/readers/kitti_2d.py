"""KITTI's 2D semantics of 2018: ``training/instance/000000_10.png`` (16-bit).

A value is 256 · Cityscapes label id + the instance's number; number 0 is stuff, or a crowd of a
thing class. Facts: the development kit of the KITTI benchmark suite.
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
)

__all__ = ["Kitti2d", "Kitti2dWriter"]


class Kitti2d(FilesReader):
    """KITTI's photos with class and instance maps."""

    kind, title, rank = "kitti-2d", "KITTI 2D semantics", 35
    class_list = "cityscapes"

    @classmethod
    def splits_in(cls, root: Path, options: Options) -> list[str]:
        return [
            s.name
            for s in folders(root)
            if (s / "image_2").is_dir() and photo_files(s / "instance", [".png"])
        ]

    @classmethod
    def open(cls, root: Path, split: str, options: Options, complain: Complain) -> Kitti2d:
        folder = root / split
        items = [
            Item(label.stem, folder / "image_2" / label.name, (label,))
            for label in photo_files(folder / "instance", [".png"])
        ]
        return cls(root, split, ClassList.named("cityscapes"), items, options, complain)

    def read_truth(self, index: int, size_wh: tuple[int, int] | None) -> Truth:
        (path,) = self.items[index].labels
        values = read_label_png(path, size_wh, ["I;16"])
        instances = np.where(values % 256 == 0, CROWD, values % 256)
        return truth_of_labels(self, path, values // 256, instances)


class Kitti2dWriter(Writer):
    """Writes photos, class maps and instance maps."""

    kind, class_list = "kitti-2d", "cityscapes"

    def write(self, sample: Sample) -> dict[str, Any]:
        name = sample.flat_name
        name = name if _is_frame(name) else f"{sample.number:06d}_10"
        folder = self.out / self.split
        write_photo(sample.photo, folder / "image_2" / f"{name}.png")
        labels, instances = class_and_instance(sample.truth, self.classes, first=1)
        check_instances(instances, 255, "KITTI")
        labels = np.maximum(labels, 0)
        write_grey(folder / "semantic" / f"{name}.png", labels)
        values = 256 * labels + np.maximum(instances, 0)
        write_grey(folder / "instance" / f"{name}.png", values, 16)
        return {"name": name}


def _is_frame(name: str) -> bool:
    """Whether a name is as the set's: six digits, a line, two digits."""
    return len(name) == 9 and name[6] == "_" and name[:6].isdigit() and name[7:].isdigit()
