"""KITTI-STEP and MOTChallenge-STEP: videos whose segments keep their ids.

``panoptic_maps/SPLIT/SEQUENCE/FRAME.png``: R = class, 256 G + B = instance. A thing of instance 0
is a crowd. Facts: google-research/deeplab2, g3doc/setup/{kitti,motchallenge}_step.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from panokit_datasets.classes import ClassList
from panokit_datasets.label_png import read_rgb_png
from panokit_datasets.problems import Complain
from panokit_datasets.reader import CROWD, Options, Truth, folders, photo_files
from panokit_datasets.readers._files import FilesReader, Item
from panokit_datasets.readers._maps import truth_of_labels
from panokit_datasets.writer import (
    Sample,
    Writer,
    check_instances,
    class_and_instance,
    write_photo,
    write_rgb,
)

__all__ = ["KittiStep", "KittiStepWriter", "MotChallengeStep", "MotChallengeStepWriter"]

MAPS = "panoptic_maps"


class _Step(FilesReader):
    photo_suffix: ClassVar[str] = ""

    @classmethod
    def splits_in(cls, root: Path, options: Options) -> list[str]:
        splits = [s.name for s in folders(root / MAPS) if any(s.glob("*/*.png"))]
        return splits if splits and cls.is_here(root) else []

    @classmethod
    def is_here(cls, root: Path) -> bool:
        """Whether frames have the suffix that this set's have."""
        first = next(iter(sorted(root.glob("images/*/*/*.*"))), None)
        return first is not None and first.suffix.lower() in cls.photo_suffix

    @classmethod
    def open(cls, root: Path, split: str, options: Options, complain: Complain) -> FilesReader:
        items = []
        for sequence in folders(root / MAPS / split):
            frames = root / "images" / split / sequence.name
            suffixes = {p.stem: p for p in photo_files(frames, [".png", ".jpg", ".jpeg"])}
            for label in photo_files(sequence, [".png"]):
                photo = suffixes.get(label.stem, frames / label.name)
                name = f"{sequence.name}/{label.stem}"
                items.append(Item(name, photo, (label,), sequence.name))
        return cls(root, split, ClassList.named(cls.class_list), items, options, complain)

    def read_truth(self, index: int, size_wh: tuple[int, int] | None) -> Truth:
        (path,) = self.items[index].labels
        rgb = read_rgb_png(path, size_wh).astype(np.int32)
        instances = 256 * rgb[..., 1] + rgb[..., 2]
        instances[instances == 0] = CROWD
        return truth_of_labels(self, path, rgb[..., 0], instances, stable=True)


class KittiStep(_Step):
    """KITTI-STEP; frames are PNG."""

    kind, title, rank = "kitti-step", "KITTI-STEP", 31
    class_list, photo_suffix = "kitti_step", ".png"


class MotChallengeStep(_Step):
    """MOTChallenge-STEP; frames are JPEG."""

    kind, title, rank = "motchallenge-step", "MOTChallenge-STEP", 30
    class_list, photo_suffix = "motchallenge_step", ".jpg.jpeg"


class _StepWriter(Writer):
    photo_suffix: ClassVar[str] = ".png"

    def write(self, sample: Sample) -> dict[str, Any]:
        sequence = sample.group if sample.group.isdigit() else "0000"
        frame = sample.flat_name.removeprefix(f"{sequence}_")
        frame = frame if frame.isdigit() else f"{sample.number:06d}"
        photo = self.out / "images" / self.split / sequence / f"{frame}{self.photo_suffix}"
        write_photo(sample.photo, photo)
        labels, instances = class_and_instance(sample.truth, self.classes)
        stable = {s.id: s.id & 0xFFFF for s in sample.truth.segments if s.id > 0xFFFF}
        for number, instance in stable.items():  # a track keeps its number from frame to frame
            instances[(sample.truth.ids == number) & (instances >= 0)] = instance - 1
        check_instances(instances, 2**16 - 2, "STEP")
        value = np.maximum(instances + 1, 0)
        rgb = np.stack([np.where(labels < 0, 255, labels), value >> 8, value & 255], -1)
        path = self.out / MAPS / self.split / sequence / f"{frame}.png"
        write_rgb(path, rgb.astype(np.uint8))
        return {"name": f"{sequence}/{frame}"}


class KittiStepWriter(_StepWriter):
    """Writes KITTI-STEP."""

    kind, class_list = "kitti-step", "kitti_step"


class MotChallengeStepWriter(_StepWriter):
    """Writes MOTChallenge-STEP."""

    kind, class_list, photo_suffix = "motchallenge-step", "motchallenge_step", ".jpg"
