"""Data sets whose photos and labels are files of fixed names."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from panokit_datasets.classes import ClassList
from panokit_datasets.problems import Complain
from panokit_datasets.reader import Options, Reader

__all__ = ["FilesReader", "Item", "first_folder"]


class Item(NamedTuple):
    """A photo, its labels, its name in the set, and the group that it belongs to."""

    name: str
    photo: Path
    labels: tuple[Path, ...]
    group: str = ""


class FilesReader(Reader):
    """A reader over a list of :class:`Item`."""

    def __init__(
        self,
        root: Path,
        split: str,
        classes: ClassList,
        items: list[Item],
        options: Options,
        complain: Complain,
    ) -> None:
        super().__init__(root, split, classes, options, complain)
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def name(self, index: int) -> str:
        return self.items[index].name

    def photo_path(self, index: int) -> Path:
        return self.items[index].photo

    def label_paths(self, index: int) -> tuple[Path, ...]:
        return self.items[index].labels

    def group(self, index: int) -> str:
        return self.items[index].group


def first_folder(*candidates: Path) -> Path:
    """The first of them that is a folder, or else the first."""
    return next((c for c in candidates if c.is_dir()), candidates[0])
