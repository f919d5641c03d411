"""Photos of any data set as training and evaluation want them, in the classes of a network."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panokit.errors import DataError
from panokit.photo import Photo
from panokit.taxonomy import Taxonomy
from panokit_datasets.classes import ClassList
from panokit_datasets.mapping import ClassMapping
from panokit_datasets.problems import LabelError
from panokit_datasets.reader import Options, Reader, Truth
from panokit_datasets.readers import find_datasets, open_dataset
from panokit_datasets.records import DecodedPhoto, PhotoRecord, SegmentRecord
from panokit_datasets.truth import TruthSegment

__all__ = ["AnyFolder", "AnyPhoto"]


@dataclass(frozen=True)
class AnyPhoto:
    """One photo of a data set; ``mapping`` turns its classes into others, where they differ."""

    reader: Reader
    index: int
    mapping: ClassMapping | None = None

    @cached_property
    def name(self) -> str:
        """Its name, with the split."""
        return f"{self.reader.split}/{self.reader.name(self.index)}"

    @property
    def source(self) -> str:
        """The kind of data set."""
        return self.reader.kind

    @property
    def image_id(self) -> int:
        """Its place in the split, from 1."""
        return self.index + 1

    @property
    def complete(self) -> bool:
        """Whether all is labelled. Data sets label all of their own classes; of others nothing is
        known where their labels say nothing."""
        return self.mapping is None

    @property
    def absent(self) -> tuple[int, ...]:
        """Channels known not to be where nothing is labelled."""
        return ()

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of :meth:`truth`."""
        return self.mapping.target if self.mapping else self.reader.taxonomy

    @property
    def key(self) -> str:
        """What tells its pixels and labels from any other's."""
        paths = [self.reader.photo_path(self.index), *self.reader.label_paths(self.index)]
        stamps = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in paths if p.is_file()]
        mapping = None if self.mapping is None else self.mapping.to_json()
        text = repr((self.name, stamps, mapping, self.taxonomy))
        return hashlib.sha256(text.encode()).hexdigest()

    def truth(self) -> Truth:
        """The labels."""
        truth = self.reader.truth(self.index)
        return truth if self.mapping is None else self.mapping.apply(truth)

    def frame(self) -> tuple[Photo, Truth]:
        """Photo and labels whose ids are the same in every frame of a video."""
        truth = self.reader.truth(self.index)
        if self.mapping is not None:
            truth = self.mapping.apply(truth, stable=True)
        return self.reader.photo(self.index), truth

    def load(self) -> tuple[Photo, NDArray[np.int32], tuple[TruthSegment, ...]]:
        """Photo, ids and segments; ``LabelError`` where sizes differ."""
        photo, truth = self.reader.photo(self.index), self.truth()
        if truth.size_wh != photo.size_wh:
            reason = f"expected size {photo.size_wh} as the photo, got {truth.size_wh}"
            raise LabelError(self.reader.label_paths(self.index)[0], reason, "wrong size")
        return photo, truth.ids, truth.segments

    def decode(self) -> DecodedPhoto:
        """Pixels and labels as training reads them."""
        photo, ids, segments = self.load()
        lookup = np.zeros(max((s.id for s in segments), default=0) + 1, np.uint16)
        for place, s in enumerate(segments, 1):
            lookup[s.id] = place
        records = tuple(
            SegmentRecord(s.channel, s.is_thing, s.is_crowd, s.ignore) for s in segments
        )
        record = PhotoRecord(
            self.name, self.source, photo.size_wh, records, self.absent, self.complete
        )
        return DecodedPhoto(record, photo.rgb_hwc, lookup[ids])


@dataclass(frozen=True)
class AnyFolder:
    """A data set of any kind, in the classes of ``taxonomy``."""

    root: Path
    kind: str
    taxonomy: Taxonomy

    @classmethod
    def open(cls, root: Path, taxonomy: Taxonomy | None = None) -> AnyFolder:
        """Open a data set; without a taxonomy its own classes count."""
        found = find_datasets(root)
        if not found:
            open_dataset(root)  # says what is known
        kind, names = next(iter(found.items()))
        own = open_dataset(root, names[0], kind.kind).taxonomy if taxonomy is None else taxonomy
        return cls(root, kind.kind, own)

    def splits(self) -> list[str]:
        """Names of all splits, sorted."""
        found = find_datasets(self.root)
        return sorted(s for k, splits in found.items() if k.kind == self.kind for s in splits)

    def split(self, name: str) -> list[AnyPhoto]:
        """The photos of one split."""
        if name not in self.splits():
            known = ", ".join(self.splits())
            raise DataError(self.root, f"no split {name!r}; splits here: {known}")
        target = ClassList.of(self.taxonomy).recognized()
        reader = open_dataset(self.root, name, self.kind)
        mapping = None
        if reader.taxonomy.categories != self.taxonomy.categories:
            every = Options(every_class=target.name == "camera")
            reader = open_dataset(self.root, name, self.kind, every)
            mapping = ClassMapping.between(reader.classes, target)
            if not any(r.channel >= 0 for r in mapping.rules.values()):
                raise DataError(
                    self.root,
                    f"none of its classes ({reader.classes.name}) is in {self.taxonomy.name!r}; "
                    "convert it with a mapping of your own: panokit dataset convert --map",
                )
        return [AnyPhoto(reader, i, mapping) for i in range(len(reader))]
