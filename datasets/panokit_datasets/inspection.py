"""What a data set holds and what is wrong with it: counts and problems, photo by photo.

Photos are looked at in several processes; counts add up, and a run that was interrupted goes on
from its journal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from panokit.errors import DataError
from panokit.pool import Done, in_order
from panokit_datasets.classes import ClassList
from panokit_datasets.duplicates import near_pairs, photo_hash
from panokit_datasets.journal import Journal
from panokit_datasets.problems import KINDS, LabelError, Problem
from panokit_datasets.reader import Options
from panokit_datasets.readers import open_dataset

__all__ = ["ClassCounts", "Inspection", "Place", "inspect"]

Progress = Callable[[Iterable[Any], int], Iterable[Any]]

CHUNK = 64
EMPTY: dict[str, Any] = {
    "readable": 0, "pixels": 0, "void": 0, "covered": 0, "classes": {}, "sizes": [], "hashes": [],
    "present": [], "problems": [],
}  # fmt: skip
MOST_TOLD = 200
"""Problems of one kind that are kept with their sentence; all are counted."""


@dataclass(frozen=True)
class Place:
    """Where a split lies and how to open it, in any process."""

    root: Path
    split: str
    kind: str
    options: Options


class Hashed(NamedTuple):
    """A photo's hashes, and the place of its split."""

    split: int
    path: str
    digest: str
    difference: int | None
    origin: str


class Fact(NamedTuple):
    """What is in one photo: its split and place there, the channels of its classes, its hashes."""

    split: str
    place: int
    channels: tuple[int, ...]
    digest: str
    difference: int | None
    origin: str


@dataclass
class ClassCounts:
    """What a split has of one class: pixels, instances, crowds and the photos it is in."""

    pixels: int = 0
    instances: int = 0
    crowds: int = 0
    photos: int = 0

    def add(self, other: Iterable[int]) -> None:
        """Add the four numbers of another part."""
        pixels, instances, crowds, photos = other
        self.pixels += pixels
        self.instances += instances
        self.crowds += crowds
        self.photos += photos

    def to_json(self) -> dict[str, int]:
        """A JSON-ready dict."""
        return {
            "photos": self.photos,
            "pixels": self.pixels,
            "instances": self.instances,
            "crowds": self.crowds,
        }


@dataclass
class Inspection:
    """What was found in one split or several.

    ``classes`` by name; ``sizes``: how often each width × height occurs; ``pixels`` of all maps,
    ``void`` those without a class; ``problems`` (at most :data:`MOST_TOLD` of a kind) and
    ``counts`` of all of them by kind.
    """

    photos: int = 0
    readable: int = 0
    pixels: int = 0
    void: int = 0
    covered: int = 0
    classes: dict[str, ClassCounts] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    splits: dict[str, int] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list, repr=False)

    def tell(self, problem: Problem) -> None:
        """Count a problem, and keep it if there are few of its kind."""
        self.counts[problem.kind] += 1
        if self.counts[problem.kind] <= MOST_TOLD:
            self.problems.append(problem)

    @property
    def errors(self) -> int:
        """How many problems are errors."""
        return sum(n for kind, n in self.counts.items() if KINDS[kind].severity == "error")

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "photos": self.photos,
            "readable": self.readable,
            "splits": self.splits,
            "pixels": self.pixels,
            "void_pixels": self.void,
            "covered_pixels": self.covered,
            "classes": {name: c.to_json() for name, c in self.classes.items()},
            "sizes": [[*size, n] for size, n in self.sizes.most_common()],
            "problems": {
                "by_kind": dict(self.counts),
                "told": [p.to_json() for p in self.problems],
            },
        }


def inspect(
    places: Iterable[Place],
    *,
    decode: bool = True,
    duplicates: bool = True,
    keep: bool = False,
    processes: int = 1,
    ray: str | None = None,
    journal: Path | None = None,
    progress: Progress = lambda items, _: items,
) -> Inspection:
    """Read every photo and label of the splits.

    ``decode`` reads the pixels of photos too, not their headers alone; ``duplicates`` compares the
    photos with each other, across the splits; ``keep`` keeps what is in each photo (``facts``).
    ``processes`` share the work; ``ray`` is the address of a Ray cluster; ``journal`` a file that
    an interrupted run goes on from; ``progress`` wraps the photos' parts and knows their number.
    """
    places = list(places)
    _open.clear()  # files may have changed since the last call
    found = Inspection()
    hashes: list[Hashed] = []
    seen: dict[int, set[str]] = {}
    for number, place in enumerate(places):
        reader = open_dataset(place.root, place.split, place.kind, place.options, found.tell)
        reader.check_set()
        _prepare(found, reader.classes)
        found.photos += len(reader)
        found.splits[place.split] = len(reader)
        chunks = range(0, len(reader), CHUNK)
        with Journal(journal and journal.with_name(f"{journal.name}.{place.split}")) as done:
            parts = _parts(place, chunks, decode or duplicates, processes, ray, done)
            for part in progress(parts, len(chunks)):
                names = _add(found, part)
                seen.setdefault(number, set()).update(names)
                hashes += [Hashed(number, *h[1:]) for h in part["hashes"]]
                if keep:
                    found.facts += _facts(place.split, part)
    if duplicates:
        _compare(found, places, hashes)
    _compare_classes(found, places, seen)
    return found


def _parts(
    place: Place,
    chunks: range,
    decode: bool,
    processes: int,
    ray: str | None,
    journal: Journal,
) -> Iterator[dict[str, Any]]:
    items: list[int | Done[int, dict[str, Any]]] = [
        Done(start, journal[str(start)]) if str(start) in journal else start for start in chunks
    ]
    work = partial(_look_at, place, decode)
    for done in in_order(work, items, processes, attempts=2, ray=ray):
        if done.error is not None:  # the process died, twice
            last = min(done.item + CHUNK, chunks.stop) - 1
            reason = f"photos {done.item} to {last}: {done.error}"
            yield EMPTY | {"problems": [["unreadable", str(place.root), reason]]}
            continue
        part = done.get()
        journal.write(str(done.item), part)
        yield part


_open: dict[Place, Any] = {}


def _look_at(place: Place, decode: bool, start: int) -> dict[str, Any]:
    """Counts and problems of some photos, as JSON holds them."""
    told: list[Problem] = []
    reader = _open.get(place)
    if reader is None:
        _open.clear()
        reader = _open[place] = open_dataset(
            place.root, place.split, place.kind, place.options, lambda _: None
        )
    reader.complain = told.append
    width = len(reader.taxonomy)
    counts = np.zeros((width, 4), np.int64)
    sizes: Counter[tuple[int, int]] = Counter()
    hashes = []
    present_in: list[list[Any]] = []
    readable = void = pixels = covered = 0
    for index in range(start, min(start + CHUNK, len(reader))):
        try:
            photo = reader.photo_path(index)
            header = reader.header(index)
            if header is None:
                raise _unreadable(photo)
            if decode:
                h = photo_hash(photo, header)
                if h is None:
                    reader.photo(index)  # says what is wrong with it
                else:
                    hashes.append((index, str(photo), h.digest, h.difference, reader.origin(index)))
            truth = reader.truth(index)
        except LabelError as error:
            told.append(error.problem)
            continue
        except DataError as error:
            told.append(Problem("unreadable", error.path, error.reason))
            continue
        readable += 1
        present_in.append([index, sorted({s.channel for s in truth.segments})])
        sizes[truth.size_wh] += 1
        covered += truth.covered
        areas = np.bincount(truth.ids.ravel())
        pixels += truth.ids.size
        void += int(areas[0]) if areas.size else 0
        present = set()
        for s in truth.segments:
            counts[s.channel, 0] += int(areas[s.id]) if s.id < areas.size else 0
            counts[s.channel, 1] += s.is_thing and not s.is_crowd
            counts[s.channel, 2] += s.is_thing and s.is_crowd
            present.add(s.channel)
        for channel in present:
            counts[channel, 3] += 1
    return {
        "readable": readable,
        "pixels": pixels,
        "void": void,
        "covered": covered,
        "classes": {
            reader.taxonomy.categories[i].name: counts[i].tolist()
            for i in np.flatnonzero(counts[:, 3]).tolist()
        },
        "sizes": [[*size, n] for size, n in sizes.items()],
        "hashes": hashes,
        "present": present_in,
        "problems": [[p.kind, p.path, p.reason] for p in told],
    }


def _unreadable(path: Path) -> LabelError:
    if not path.is_file():
        return LabelError(path, "no such photo", "missing photo")
    return LabelError(path, "is no photo that can be read", "unreadable")


def _prepare(found: Inspection, classes: ClassList) -> None:
    for c in classes.classes:
        found.classes.setdefault(c.category.name, ClassCounts())


def _add(found: Inspection, part: dict[str, Any]) -> set[str]:
    """Add a part; the names of its classes."""
    found.readable += part["readable"]
    found.pixels += part["pixels"]
    found.void += part["void"]
    found.covered += part["covered"]
    for name, numbers in part["classes"].items():
        found.classes.setdefault(name, ClassCounts()).add(numbers)
    for w, h, n in part["sizes"]:
        found.sizes[(w, h)] += n
    for kind, path, reason in part["problems"]:
        found.tell(Problem(kind, path, reason))
    return set(part["classes"])


def _facts(split: str, part: dict[str, Any]) -> list[Fact]:
    hashes = {h[0]: h[2:] for h in part["hashes"]}
    return [
        Fact(split, index, tuple(channels), *hashes.get(index, ("", None, "")))
        for index, channels in part["present"]
    ]


def _compare(found: Inspection, places: list[Place], hashes: list[Hashed]) -> None:
    """Tell of photos that stand twice; across splits that is a leak."""
    first: dict[str, tuple[int, str]] = {}
    same: set[str] = set()
    for number, path, digest, *_ in hashes:
        if digest not in first:
            first[digest] = number, path
            continue
        other, other_path = first[digest]
        if path == other_path:
            continue
        same.add(path)
        where = f"it holds the same bytes as {other_path}"
        if other == number:
            found.tell(Problem("duplicate photo", path, where))
        else:
            between = f" (splits {places[other].split} and {places[number].split})"
            found.tell(Problem("leak", path, where + between))
    _compare_origins(found, places, hashes, same)
    for a, b in near_pairs([h.difference for h in hashes]):
        first_of, second = hashes[a], hashes[b]
        if first_of.digest == second.digest or second.path in same:
            continue
        kind = "near duplicate" if first_of.split == second.split else "near leak"
        found.tell(Problem(kind, second.path, f"it looks like {first_of.path}"))


def _compare_origins(
    found: Inspection, places: list[Place], hashes: list[Hashed], same: set[str]
) -> None:
    """Tell of copies of one photo (cut, turned, recoloured) in two splits."""
    first: dict[str, Hashed] = {}
    for one in hashes:
        if not one.origin or one.path in same:
            continue
        other = first.setdefault(one.origin, one)
        if other.split != one.split:
            same.add(one.path)
            between = f"splits {places[other.split].split} and {places[one.split].split}"
            reason = f"it was made of {one.origin!r}, as {other.path} was ({between})"
            found.tell(Problem("leak", one.path, reason))


def _compare_classes(found: Inspection, places: list[Place], seen: dict[int, set[str]]) -> None:
    """Tell of classes that are in a validation split and in no training split."""
    training = [i for i, p in enumerate(places) if "train" in p.split.lower()]
    if not training or len(training) == len(places):
        return
    learnt = set().union(*(seen.get(i, set()) for i in training))
    for i, place in enumerate(places):
        if i in training:
            continue
        for name in sorted(seen.get(i, set()) - learnt):
            reason = f"the class {name!r} is in {place.split} and in no training split"
            found.tell(Problem("class only here", str(place.root), reason))
