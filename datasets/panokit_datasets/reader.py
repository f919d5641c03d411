"""What every labelled data set offers, however its files lie: photos, and true labels as a map of
segments.

A data set is one file in :mod:`panokit_datasets.readers`: a subclass of :class:`Reader`, and of
:class:`panokit_datasets.writer.Writer` where it can be written. Nothing else names it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from panokit._exif import upright
from panokit.errors import PhotoError
from panokit.photo import Photo, photo_header
from panokit.taxonomy import Taxonomy
from panokit_datasets.classes import ClassList
from panokit_datasets.problems import Complain, LabelError, Problem
from panokit_datasets.truth import QUARTERS, TruthSegment

__all__ = ["Options", "Reader", "Truth", "segments_of_maps"]

Header = tuple[tuple[int, int], int]
"""Width and height as stored, and the EXIF orientation."""

CROWD = -1
"""Instance number of pixels whose instances are not separated."""

_FEW = 2**26  # pairs of class and instance up to which a table finds the segments


@dataclass(frozen=True)
class Truth:
    """True labels of one photo.

    ``ids`` int32 ``[H,W]``, upright, 0 = void; ``segments`` what each id is. ``void`` uint8
    ``[H,W]``: 1 + the place in the class list's ``void`` where void has a name (border, ego
    vehicle …), or None. ``covered``: pixels that more than one object claims.
    """

    ids: NDArray[np.int32]
    segments: tuple[TruthSegment, ...]
    void: NDArray[np.uint8] | None = None
    covered: int = 0

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.ids.shape[1], self.ids.shape[0]

    def turned(self, orientation: int) -> Truth:
        """Labels that were drawn on stored pixels, turned as an EXIF orientation says."""
        if orientation == 1:
            return self
        void = None if self.void is None else np.ascontiguousarray(upright(self.void, orientation))
        ids = np.ascontiguousarray(upright(self.ids, orientation))
        return Truth(ids, self.segments, void, self.covered)


@dataclass(frozen=True)
class Options:
    """How to read what files do not say.

    ``every_class``: with the classes that evaluations do not count. ``crowd_means_mask``: crowds of
    COCO JSON are single objects, as CVAT writes brush masks. ``layout``: a file that says where
    photos and labels lie, for sets that keep no known order.
    """

    every_class: bool = False
    crowd_means_mask: bool = False
    layout: Path | None = None


class Reader(ABC):
    """A split of a data set. Files are opened when a photo is asked for.

    ``kind`` is the word that names the kind of data set; ``title`` what people call it; ``rank``
    decides where a folder looks like several kinds (the highest is taken).
    """

    kind: ClassVar[str] = ""
    title: ClassVar[str] = ""
    rank: ClassVar[int] = 0
    class_list: ClassVar[str] = ""
    """The class list whose numbers its files hold; none where files bring their own."""

    def __init__(
        self,
        root: Path,
        split: str,
        classes: ClassList,
        options: Options,
        complain: Complain,
    ) -> None:
        self.root, self.split, self.options, self.complain = root, split, options, complain
        self.all_classes = classes
        self._header: tuple[int, Header | None] | None = None
        self.classes = classes if options.every_class else classes.evaluated

    @classmethod
    @abstractmethod
    def splits_in(cls, root: Path, options: Options) -> list[str]:
        """The splits that ``root`` holds; none where it is no data set of this kind."""

    @classmethod
    @abstractmethod
    def open(cls, root: Path, split: str, options: Options, complain: Complain) -> Reader:
        """Open one split."""

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes that ``truth`` speaks of, in the order of its channels."""
        return self.classes.taxonomy

    @abstractmethod
    def __len__(self) -> int:
        """How many photos it has."""

    @abstractmethod
    def name(self, index: int) -> str:
        """The photo's name in the set, unique there."""

    @abstractmethod
    def photo_path(self, index: int) -> Path:
        """Where the photo lies."""

    @abstractmethod
    def label_paths(self, index: int) -> tuple[Path, ...]:
        """Where its labels lie."""

    @abstractmethod
    def read_truth(self, index: int, size_wh: tuple[int, int] | None) -> Truth:
        """The labels as their files hold them; ``size_wh`` is the stored photo's, where its file is
        there. Problems that can be passed over go to ``self.complain``; others are raised."""

    def group(self, index: int) -> str:
        """What the photo belongs to (a sequence, a city): photos of one group are alike."""
        return ""

    def origin(self, index: int) -> str:
        """The photo that this one was made of, where the set says so: copies share it."""
        return ""

    def photo(self, index: int) -> Photo:
        """The photo's pixels, upright. ``LabelError`` names a file that cannot be read."""
        path = self.photo_path(index)
        try:
            return Photo.open(path)
        except PhotoError as error:
            kind = "unreadable" if path.is_file() else "missing photo"
            raise LabelError(path, error.reason, kind) from None

    def header(self, index: int) -> Header | None:
        """The photo's stored size and orientation; None where it cannot be read."""
        if self._header is None or self._header[0] != index:
            self._header = index, photo_header(self.photo_path(index))
        return self._header[1]

    def truth(self, index: int) -> Truth:
        """The labels, upright as the photo is. ``LabelError`` names what cannot be used."""
        header = self.header(index)
        if header is None:
            return self.read_truth(index, None)
        stored_wh, orientation = header
        turns = orientation in QUARTERS
        truth = self.read_truth(index, None if turns else stored_wh)
        if not turns:
            return truth
        seen_wh = stored_wh[::-1]
        if truth.size_wh == seen_wh:
            return truth
        if truth.size_wh != stored_wh:
            reason = f"expected size {seen_wh} as the photo, got {truth.size_wh}"
            raise LabelError(self.label_paths(index)[0], reason, "wrong size")
        return truth.turned(orientation)

    def check_set(self) -> None:
        """Hand on what is wrong with the set as a whole, besides its single photos."""
        seen: dict[str, str] = {}
        for index in range(len(self)):
            name = self.name(index)
            other = seen.setdefault(name.lower(), name)
            if other != name:
                self.tell("other case", self.root, f"{other!r} and {name!r} differ in case alone")

    def tell(self, kind: str, path: str | Path, reason: str) -> None:
        """Hand a problem to whoever collects them."""
        self.complain(Problem(kind, str(path), reason))


@dataclass
class _Found:
    """Segments as they are found."""

    segments: list[TruthSegment] = field(default_factory=list)

    def add(self, channel: int, is_thing: bool, crowd: bool, number: int | None = None) -> int:
        number = len(self.segments) + 1 if number is None else number
        self.segments.append(TruthSegment(number, channel, is_thing, crowd))
        return number


def segments_of_maps(
    channels: NDArray[np.integer],
    instances: NDArray[np.integer] | None,
    taxonomy: Taxonomy,
    void: NDArray[np.uint8] | None = None,
    *,
    crowds: bool = True,
    stable: bool = False,
) -> Truth:
    """Labels from the channel of every pixel (below 0: void) and the number of its instance.

    A thing's pixels of instance :data:`CROWD` are a crowd, or void without ``crowds``; stuff is one
    segment a class whatever its instances. Segments are numbered 1, 2, 3 in the order of the
    channels, then of the instances; ``stable`` numbers are 65536 · category id + instance, which
    stay the same from frame to frame.
    """
    base = channels.astype(np.int64)
    if instances is not None:
        things = np.append(taxonomy.thing_mask, False)  # void is the last
        number = np.where(things[base], instances.astype(np.int64) + 1, 0)
        number[number < 0] = 0
    else:
        number = np.zeros(base.shape, np.int64)
    width = int(number.max(initial=0)) + 1
    keys = (base + 1).clip(0) * width + np.where(base >= 0, number, 0)
    present, index = _numbered(keys)
    found = _Found()
    new = np.zeros(len(present), np.int32)
    for at, key in enumerate(present.tolist()):
        channel, instance = key // width - 1, key % width
        if channel < 0:
            continue
        is_thing = bool(taxonomy.thing_mask[channel])
        crowd = is_thing and (instances is None or instance == 0)
        if crowd and not crowds:
            continue
        chosen = None
        if stable:
            chosen = int(taxonomy.ids[channel]) << 16 | (max(0, instance - 1) & 0xFFFF)
        new[at] = found.add(channel, is_thing, crowd, chosen)
    return Truth(new[index], tuple(found.segments), void)


def _numbered(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.integer]]:
    """The keys that occur, sorted, and the place of each pixel's among them."""
    top = int(keys.max(initial=0)) + 1
    if top > _FEW:
        present, index = np.unique(keys, return_inverse=True)
        return present, index.reshape(keys.shape)
    seen = np.zeros(top, bool)
    seen[keys.ravel()] = True
    present = np.flatnonzero(seen)
    place = np.zeros(top, np.int32)
    place[present] = np.arange(len(present), dtype=np.int32)
    return present, place[keys]


def photo_files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """The files of a folder with one of the suffixes (lower case, with the dot), sorted."""
    wanted = tuple(suffixes)
    if not folder.is_dir():
        return []
    names = sorted(
        e.name for e in _scan(folder) if e.name.lower().endswith(wanted) and e.name[:2] != "._"
    )
    return [folder / n for n in names]


def _scan(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.is_file()]


def folders(parent: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones."""
    if not parent.is_dir():
        return []
    return sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))
