"""Where labelled photos come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from panokit.errors import DataError, UsageError
from panokit.taxonomy import Taxonomy
from panokit_datasets.any_photo import AnyFolder
from panokit_datasets.coco_panoptic import PanopticFolder
from panokit_datasets.labelled import load_split
from panokit_datasets.packs import PackFolder
from panokit_datasets.records import LabelledPhoto

__all__ = ["PhotoSource"]


@dataclass(frozen=True)
class PhotoSource:
    """Where photos come from: a data set folder, packs made of one, or a data set of any other kind
    (:mod:`panokit_datasets.readers`)."""

    folder: PanopticFolder | PackFolder | AnyFolder
    pseudo: Path | None = None

    @classmethod
    def open(cls, data: Path, taxonomy: Path | None, pseudo: Path | None) -> PhotoSource:
        if PanopticFolder.is_one(data):
            return cls(PanopticFolder.open(data, taxonomy), pseudo)
        if not PackFolder.is_one(data):
            if pseudo:
                raise UsageError(f"--pseudo belongs to folders of our own layout; {data} is none.")
            return cls(AnyFolder.open(data, Taxonomy.load(taxonomy) if taxonomy else None))
        if taxonomy or pseudo:
            option = "--taxonomy" if taxonomy else "--pseudo"
            raise UsageError(
                f"{option} has no meaning for packs ({data}); leave it out: the packs hold it."
            )
        return cls(PackFolder.open(data))

    @property
    def taxonomy(self) -> Taxonomy:
        return self.folder.taxonomy

    def photos(self, given: str, suffix: str = "") -> list[LabelledPhoto]:
        """The photos of the named splits, or of all whose names end in ``suffix``."""
        return [p for name in self.splits(given, suffix) for p in self.split(name)]

    def split(self, name: str) -> list[LabelledPhoto]:
        """The photos of one split."""
        if isinstance(self.folder, PanopticFolder):
            return list(load_split(self.folder, name, self.pseudo))
        if name not in self.folder.splits():
            known = ", ".join(self.folder.splits())
            raise DataError(self.folder.root, f"no split {name!r}; splits here: {known}")
        return list(self.folder.split(name))

    def splits(self, given: str, suffix: str = "") -> list[str]:
        """The splits that are named, separated by commas, or all whose names end in ``suffix``."""
        names = [n.strip() for n in given.split(",") if n.strip()]
        names = names or [n for n in self.folder.splits() if suffix and n.endswith(suffix)]
        if not names:
            raise DataError(self.folder.root, f"has no split named *{suffix}; name some")
        return names
