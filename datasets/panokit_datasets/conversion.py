"""A data set in the layout, and the classes, of another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from panokit._files import write_json
from panokit.errors import ArgumentError, DataError, OutputError, PanokitError
from panokit.pool import Done, in_order
from panokit_datasets.classes import ClassList
from panokit_datasets.inspection import Place
from panokit_datasets.journal import Journal
from panokit_datasets.mapping import ClassMapping
from panokit_datasets.problems import LabelError, Problem
from panokit_datasets.reader import Reader
from panokit_datasets.readers import open_dataset, writers
from panokit_datasets.writer import Sample, flat_name

__all__ = ["Conversion", "convert", "mapping_for"]

Progress = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclass(frozen=True)
class Conversion:
    """What a conversion did: photos written, problems of those that were not, source classes that
    the target has not."""

    photos: int
    problems: tuple[Problem, ...]
    unmapped: tuple[str, ...]


@dataclass(frozen=True)
class _Job:
    """What one process needs to convert photos."""

    place: Place
    kind: str
    out: Path
    split: str
    target: ClassList
    mapping: ClassMapping | None
    crowded: frozenset[str] = frozenset()
    """Names that more than one photo would have: they get their number."""


def mapping_for(
    reader: Reader, kind: str, target: ClassList | None = None, file: Path | None = None
) -> tuple[ClassList, ClassMapping | None]:
    """The classes that a conversion to ``kind`` writes, and how the reader's become those; no
    mapping where they stay as they are.

    ``target`` are classes that are asked for; formats bound to a class list have only that one.
    """
    writer = writers()[kind]
    if writer.class_list and target is not None and target.name != writer.class_list:
        raise ArgumentError(
            "classes",
            f"{kind} holds the classes of {writer.class_list!r} alone; leave --classes out",
        )
    if writer.class_list:
        target = ClassList.named(writer.class_list)
    if target is None or (target.name == reader.classes.name and file is None):
        same = target is None or len(target.classes) == len(reader.classes.classes)
        if same:
            return reader.classes, None
    assert target is not None
    if file is not None:
        return target, ClassMapping.load(file, reader.classes, target.taxonomy)
    return target, ClassMapping.between(reader.classes, target)


def convert(
    place: Place,
    kind: str,
    out: Path,
    *,
    split: str | None = None,
    target: ClassList | None = None,
    mapping_file: Path | None = None,
    processes: int = 1,
    ray: str | None = None,
    progress: Progress = lambda items, _: items,
) -> Conversion:
    """Write a split as another kind of data set.

    ``split`` is its name there, by default the same. ``target``: other classes; ``mapping_file``
    says how they come about, by default the mapping that comes with Panokit. Photos whose labels
    cannot be read are left out and told. A conversion that was interrupted goes on: what it wrote
    is kept in ``OUT/.converting-SPLIT.jsonl`` until it ends. ``processes`` read at once; ``ray`` is
    the address of a cluster to read on instead.
    """
    if kind not in writers():
        raise ArgumentError.unknown("kind of data set", kind, writers())
    _open.clear()  # files may have changed since the last call
    reader = open_dataset(place.root, place.split, place.kind, place.options)
    if out.resolve() == place.root.resolve():
        raise OutputError(out, "is the data set that is read; expected another folder")
    split = split or place.split
    target, mapping = mapping_for(reader, kind, target, mapping_file)
    job = _Job(place, kind, out, split, target, mapping, _crowded(reader))
    problems: list[Problem] = []
    photos = 0
    path = out / f".converting-{split}.jsonl"
    settings: dict[str, Any] = {
        "kind": kind,
        "source": str(place.root),
        "classes": target.taxonomy.to_json(),
    }
    settings |= {"mapping": mapping.to_json() if mapping else None, "photos": len(reader)}
    with Journal(path) as journal:
        if "settings" in journal and journal["settings"] != settings:
            raise DataError(
                path,
                "is of another conversion into this folder; remove it, or choose another folder",
            )
        journal.write("settings", settings)
        todo = range(len(reader))
        for done in progress(_written(job, todo, journal, processes, ray), len(todo)):
            if done.error is not None:
                problems.append(_problem(done.error, reader, done.item))
            else:
                photos += 1
                journal.write(str(done.item), done.get())
        records = (journal[str(i)] for i in todo if str(i) in journal)
        writers()[kind](out, split, target).finish(records)
    path.unlink()
    unmapped = tuple(mapping.unmapped) if mapping else ()
    if mapping is not None:
        write_json(out / f"mapping-{split}.json", mapping.to_json())
    return Conversion(photos, tuple(problems), unmapped)


def _crowded(reader: Reader) -> frozenset[str]:
    seen: set[str] = set()
    twice: set[str] = set()
    for index in range(len(reader)):
        name = flat_name(reader.name(index), index + 1).lower()
        (twice if name in seen else seen).add(name)
    return frozenset(twice)


def _written(
    job: _Job, todo: Iterable[int], journal: Journal, processes: int, ray: str | None
) -> Iterator[Done[int, Any]]:
    items: list[int | Done[int, Any]] = [
        Done(i, journal[str(i)]) if str(i) in journal else i for i in todo
    ]
    yield from in_order(partial(_write, job), items, processes, attempts=2, ray=ray)


_open: dict[str, Reader] = {}


def _write(job: _Job, index: int) -> dict[str, Any]:
    key = repr(job.place)
    reader = _open.get(key)
    if reader is None:
        _open.clear()
        place = job.place
        reader = _open[key] = open_dataset(place.root, place.split, place.kind, place.options)
    truth = reader.truth(index)
    if job.mapping is not None:
        truth = job.mapping.apply(truth)
    photo = reader.photo_path(index)
    if not photo.is_file():
        raise LabelError(photo, "no such photo", "missing photo")
    sample = Sample(index + 1, reader.name(index), reader.group(index), photo, truth)
    if sample.flat_name.lower() in job.crowded:
        sample = replace(sample, name=f"{sample.flat_name}_{index + 1}")
    try:
        return writers()[job.kind](job.out, job.split, job.target).write(sample)
    except ArgumentError as error:
        raise LabelError(reader.label_paths(index)[0], str(error), "id too large") from None


def _problem(error: PanokitError, reader: Reader, index: int) -> Problem:
    if isinstance(error, LabelError):
        return error.problem
    if isinstance(error, DataError):
        return Problem("unreadable", error.path, error.reason)
    return Problem("unreadable", str(reader.photo_path(index)), str(error))
