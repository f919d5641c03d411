"""Data sets whose photos and labels are files of fixed names."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, NamedTuple

from panokit_datasets.classes import ClassList
from panokit_datasets.problems import Complain
from panokit_datasets.reader import Options, Reader, photo_files

__all__ = ["FilesReader", "Item", "first_folder"]


class Item(NamedTuple):
    """A photo, its labels, its name in the set, and the group that it belongs to."""

    name: str
    photo: Path
    labels: tuple[Path, ...]
    group: str = ""


class FilesReader(Reader):
    """A reader over a list of :class:`Item`."""

    lists_photos: ClassVar[bool] = True
    """Whether every photo of the folders should have labels."""

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

    def check_set(self) -> None:
        super().check_set()
        if self.lists_photos:
            listed = {item.photo for item in self.items}
            suffixes = {p.suffix.lower() for p in listed}
            for folder in sorted({p.parent for p in listed}):
                for photo in photo_files(folder, suffixes):
                    if photo not in listed:
                        self.tell("missing labels", photo, "it has no labels")

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
