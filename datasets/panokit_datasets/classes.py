"""Class lists of data sets: the taxonomy, and the numbers that files of the set hold.

A class list knows more than a taxonomy: ``source_id`` (what files hold), other official numbers
(``train_id``, ``panoptic_id`` …), classes that no evaluation counts, and what void means where
(border, ego vehicle …).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._reading import parse_json, read_json
from panokit.errors import ArgumentError, DataError
from panokit.taxonomy import Category, Taxonomy

__all__ = ["ClassList", "SourceClass", "VoidClass", "camera_taxonomy", "class_list_names"]

MAX_SOURCE_ID = 2**24 - 1


@dataclass(frozen=True)
class SourceClass:
    """One class: its category, the number that files hold, whether evaluations count it, and its
    other official numbers by name."""

    category: Category
    source_id: int
    evaluate: bool
    numbers: Mapping[str, int]


@dataclass(frozen=True)
class VoidClass:
    """A number of files that means no class. ``role``: void, ignore, background or things."""

    name: str
    source_id: int
    role: str


@dataclass(frozen=True)
class ClassList:
    """Classes of a data set in the order of the channels, and what void is called there."""

    name: str
    title: str
    classes: tuple[SourceClass, ...]
    void: tuple[VoidClass, ...] = ()

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """All classes as a taxonomy."""
        return Taxonomy(self.name, tuple(c.category for c in self.classes))

    @property
    def evaluated(self) -> ClassList:
        """The list without the classes that no evaluation counts: they are void."""
        kept = tuple(c for c in self.classes if c.evaluate)
        dropped = tuple(
            VoidClass(c.category.name, c.source_id, "void") for c in self.classes if not c.evaluate
        )
        return self if not dropped else replace(self, classes=kept, void=self.void + dropped)

    def channels(self, key: str = "source_id") -> dict[int, int]:
        """The channel of each number; ``key`` names which (``"source_id"``, ``"id"`` or another
        official one)."""
        found = {number: i for i, c in enumerate(self.classes) if (number := _of(c, key)) >= 0}
        if not found:
            raise ArgumentError("key", f"the classes of {self.name!r} have no {key!r}")
        return found

    def table(self, key: str = "source_id", size: int = 256) -> NDArray[np.int16]:
        """The channel of each number below ``size``, int16 ``[size]``; -1 is void, -2 unknown."""
        table = np.full(size, -2, np.int16)
        for void in self.void:
            if key == "source_id" and 0 <= void.source_id < size:
                table[void.source_id] = -1
        for number, channel in self.channels(key).items():
            if number < size:
                table[number] = channel
        return table

    def void_table(self, size: int = 256) -> NDArray[np.uint8]:
        """1 + the place in ``void`` of each number below ``size``, uint8 ``[size]``; 0 where it is
        a class."""
        table = np.zeros(size, np.uint8)
        for place, void in enumerate(self.void[:255], 1):
            if 0 <= void.source_id < size:
                table[void.source_id] = place
        return table

    @classmethod
    def named(cls, name: str) -> ClassList:
        """A class list that comes with Panokit; see :func:`class_list_names`."""
        if name not in class_list_names():
            raise ArgumentError.unknown("class list", name, class_list_names())
        return _named(name)

    @classmethod
    def load(cls, path: str | Path) -> ClassList:
        """Read a taxonomy file; ``DataError`` says what is wrong with it."""
        try:
            data = read_json(path, strict=True)
        except (OSError, ValueError) as error:
            raise DataError(path, f"expected a list of classes in JSON, but {error}") from None
        try:
            return cls.from_json(data)
        except ArgumentError as error:
            raise DataError(path, str(error)) from None

    @classmethod
    def from_json(cls, data: Any) -> ClassList:
        """Read what :meth:`panokit.Taxonomy.from_json` reads. A list of the classes ``background``
        and others loses the first of them: it is void."""
        taxonomy = Taxonomy.from_json(data)
        listed = data.get("categories") if isinstance(data, Mapping) else data
        entries = listed if isinstance(listed, list) else []
        extras = [e if isinstance(e, Mapping) else {} for e in entries]
        extras += [{}] * (len(taxonomy) - len(extras))
        classes = [_class(c, e) for c, e in zip(taxonomy, extras, strict=True)]
        void = [_void(v) for v in data.get("void", [])] if isinstance(data, Mapping) else []
        for c in classes:
            if c.category.name.lower() in ("background", "__background__") and len(classes) > 1:
                void.append(VoidClass(c.category.name, c.source_id, "background"))
        hidden = {v.name for v in void if v.role == "background"}
        kept = tuple(c for c in classes if c.category.name not in hidden)
        title = data.get("title", taxonomy.name) if isinstance(data, Mapping) else taxonomy.name
        return cls(taxonomy.name, str(title)[:200], kept, tuple(void))

    @classmethod
    def of(cls, taxonomy: Taxonomy) -> ClassList:
        """A class list whose numbers are the category ids."""
        classes = tuple(SourceClass(c, c.id, True, {}) for c in taxonomy)
        return cls(taxonomy.name, taxonomy.name, classes)

    def recognized(self) -> ClassList:
        """This list under the name of the known one that it is, or as it is: some of that list's
        classes with its ids, or all of its evaluated classes whatever their ids."""
        pairs = _described(self)
        for name in class_list_names():
            known = ClassList.named(name)
            counted = {p[1:] for p in _described(known.evaluated)}
            if pairs <= _described(known) or {p[1:] for p in pairs} == counted:
                return replace(self, name=name)
        return self


def _described(classes: ClassList) -> set[tuple[int, str, bool]]:
    return {(c.category.id, c.category.name, c.category.is_thing) for c in classes.classes}


def class_list_names() -> list[str]:
    """Names of the class lists that come with Panokit."""
    folder = resources.files("panokit_datasets") / "class_lists"
    stems = [p.name.removesuffix(".json") for p in folder.iterdir() if p.name.endswith(".json")]
    return sorted([*stems, "camera"])


def camera_taxonomy() -> Taxonomy:
    """The classes of the network that comes with Panokit."""
    from panokit.bundle import Bundle

    return Bundle.open(verify=False).manifest.taxonomy


@cache
def _named(name: str) -> ClassList:
    if name == "camera":
        return ClassList.of(camera_taxonomy())
    file = resources.files("panokit_datasets") / "class_lists" / f"{name}.json"
    return ClassList.from_json(parse_json(file.read_bytes(), strict=True))


def _of(c: SourceClass, key: str) -> int:
    if key == "source_id":
        return c.source_id
    return c.category.id if key == "id" else c.numbers.get(key, -1)


def _class(category: Category, entry: Mapping[str, Any]) -> SourceClass:
    known = {"id", "source_id", "evaluate", "isthing"}
    numbers = {
        k: v
        for k, v in entry.items()
        if k not in known and isinstance(v, int) and not isinstance(v, bool)
    }
    source_id = entry.get("source_id", category.id)
    if isinstance(source_id, bool) or not isinstance(source_id, int) or source_id > MAX_SOURCE_ID:
        name = f"source_id of {category.name!r}"
        raise ArgumentError(
            "source_id", f"{name} is {source_id!r:.60}; expected a whole number below 2^24"
        )
    return SourceClass(category, source_id, bool(entry.get("evaluate", 1)), numbers)


def _void(entry: Any) -> VoidClass:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("source_id"), int):
        raise ArgumentError(
            "void", f"void is {entry!r:.80}; expected objects with name and source_id"
        )
    name = str(entry.get("name", "void"))[:200]
    return VoidClass(name, entry["source_id"], str(entry.get("role", "void"))[:40])


def names_of(classes: Sequence[SourceClass]) -> list[str]:
    """The names of classes."""
    return [c.category.name for c in classes]
