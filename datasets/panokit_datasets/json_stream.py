"""Annotation files of any size, read entry by entry: memory holds an index, never the file.

A file is read twice: once to find where each entry begins and which photo it belongs to, and then
the entries of one photo at a time.
"""

from __future__ import annotations

import io
import json
from array import array
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from panokit._places import plain_file
from panokit_datasets.problems import LabelError

__all__ = ["Entry", "JsonIndex", "as_id", "scan"]

BLOCK = 2**20
MAX_ENTRY = 2**26
"""The longest single entry, in bytes."""
_BOM = b"\xef\xbb\xbf"
_SPACE = " \t\n\r"


class Entry(NamedTuple):
    """One entry: the name of its list at the top of the file, its ``place`` there, where it lies in
    the file, and its value. What is no list has place -1 and its whole value."""

    name: str
    place: int
    offset: int
    length: int
    value: Any


def scan(path: Path) -> Iterator[Entry]:
    """The entries of all lists at the top of a JSON file in UTF-8, one after the other. The entries
    of a file that is one list have the name ``""``."""
    with plain_file(path).open("rb") as file:
        yield from _Scanner(path, file).entries()


def as_id(value: object) -> int | str | None:
    """An id as tools write it: whole numbers, also as text or with a decimal point, or a text. None
    for what is no id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and value:
        text = value.strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else value
    return None


class _Scanner:
    """Reads a file in blocks. Bytes are taken as Latin-1, so that places in the text are those in
    the file; entries that are not ASCII are decoded again."""

    def __init__(self, path: Path, file: io.BufferedReader) -> None:
        self.path, self.file = path, file
        head = file.read(4)
        if head[:2] in (b"\xff\xfe", b"\xfe\xff") or (head[:1] and b"\0" in head):
            raise LabelError(path, "expected JSON in UTF-8; save it so")
        self.base = len(_BOM) if head[:3] == _BOM else 0
        file.seek(self.base)
        self.text, self.at, self.ended = "", 0, False
        self.decode = json.JSONDecoder().raw_decode

    def entries(self) -> Iterator[Entry]:
        first = self.peek()
        if first == "[":
            yield from self.list_of("")
        elif first == "{":
            yield from self.object()
        else:
            raise self.wrong("expected an object or a list")
        if self.peek():
            raise self.wrong("expected the end of the file")

    def object(self) -> Iterator[Entry]:
        self.at += 1
        if self.peek() == "}":
            self.at += 1
            return
        while True:
            name, *_ = self.value()
            if not isinstance(name, str) or self.peek() != ":":
                raise self.wrong("expected a name and a colon")
            self.at += 1
            if self.peek() == "[":
                yield from self.list_of(name)
            else:
                value, offset, length = self.value()
                yield Entry(name, -1, offset, length, value)
            if self.step("}"):
                return

    def list_of(self, name: str) -> Iterator[Entry]:
        self.at += 1
        if self.peek() == "]":
            self.at += 1
            return
        place = 0
        while True:
            value, offset, length = self.value()
            yield Entry(name, place, offset, length, value)
            place += 1
            if self.step("]"):
                return

    def step(self, end: str) -> bool:
        """Go past a comma, or past the ``end``."""
        found = self.peek()
        if found not in (",", end) or not found:
            raise self.wrong(f"expected ',' or '{end}'")
        self.at += 1
        return found == end

    def peek(self) -> str:
        """The next character that is no space, or nothing at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in _SPACE:
                    return self.text[self.at]
                self.at += 1
            if not self.more(BLOCK):
                return ""

    def value(self) -> tuple[Any, int, int]:
        """The next value, where it begins in the file and how long it is."""
        self.peek()
        block = BLOCK
        while True:
            try:
                value, end = self.decode(self.text, self.at)
                # A number may go on in the next block: 7 is followed by "." or "e+".
                if end + 3 < len(self.text) or not self.more(block):
                    break
            except RecursionError:
                raise self.wrong("it is nested too deeply") from None
            except json.JSONDecodeError as error:
                if len(self.text) - self.at > MAX_ENTRY or not self.more(block):
                    raise self.wrong(error.msg, error.pos - self.at) from None
            except ValueError as error:
                raise self.wrong(str(error)) from None
            block *= 2
        text = self.text[self.at : end]
        offset, self.at = self.base + self.at, end
        return (value if text.isascii() else self.again(text)), offset, len(text)

    def again(self, text: str) -> Any:
        try:
            return json.loads(text.encode("latin-1").decode())
        except UnicodeDecodeError:
            raise self.wrong("expected UTF-8") from None

    def more(self, size: int) -> bool:
        """Read on; what is done with goes."""
        block = self.file.read(size)
        if not block:
            return False
        self.text = self.text[self.at :] + block.decode("latin-1")
        self.base += self.at
        self.at = 0
        return True

    def wrong(self, reason: str, further: int = 0) -> LabelError:
        where = self.base + self.at + further
        return LabelError(self.path, f"it is no JSON: {reason} (at byte {where})")


@dataclass
class _Rows:
    """Where the entries of one list lie, and the number of the group that each belongs to."""

    offsets: array[int]
    lengths: array[int]
    groups: array[int]

    @classmethod
    def new(cls) -> _Rows:
        return cls(array("q"), array("l"), array("l"))


class JsonIndex:
    """The entries of a JSON file, grouped by the id that each holds.

    ``keys`` names the field of each list's entries that groups them, such as ``{"images": "id",
    "annotations": "image_id"}``; what stands in other lists, and besides lists, is kept whole in
    ``values``. Entries that hold no id, or are no objects, are in ``odd`` (list, place, value).
    ``unique`` is a list whose entries' own ``"id"`` is counted: ``twice`` are those that stand more
    than once.
    """

    def __init__(self, path: Path, keys: Mapping[str, str], unique: str = "") -> None:
        self.path = path
        own = array("q")
        self.values: dict[str, Any] = {}
        self.odd: list[tuple[str, int, Any]] = []
        self.texts = 0
        """How many ids are written as text or with a decimal point."""
        self._numbers: dict[str, dict[Hashable, int]] = {name: {} for name in keys}
        rows = {name: _Rows.new() for name in keys}
        for entry in scan(path):
            field = keys.get(entry.name)
            if field is None or entry.place < 0:
                self._keep(entry)
                continue
            given = entry.value.get(field) if isinstance(entry.value, dict) else None
            key = as_id(given)
            if key is None:
                self.odd.append((entry.name, entry.place, entry.value))
                continue
            self.texts += isinstance(key, int) and not isinstance(given, int)
            if entry.name == unique and isinstance(number := as_id(entry.value.get("id")), int):
                own.append(max(-(2**63), min(number, 2**63 - 1)))
            numbers = self._numbers[entry.name]
            row = rows[entry.name]
            row.offsets.append(entry.offset)
            row.lengths.append(entry.length)
            row.groups.append(numbers.setdefault(key, len(numbers)))
        self._rows = {name: _sorted(row) for name, row in rows.items()}
        values, counts = np.unique(np.array(own, np.int64), return_counts=True)
        self.twice: list[int] = values[counts > 1].tolist()
        self.has_zero = bool((values == 0).any())

    def ids(self, name: str) -> list[Hashable]:
        """The ids of a list's entries, each once, in the order of the file."""
        return list(self._numbers[name])

    def has(self, name: str, key: Hashable) -> bool:
        """Whether a list has an entry of that id."""
        return key in self._numbers[name]

    def count(self, name: str) -> int:
        """How many entries a list has."""
        return len(self._rows[name][0])

    def rows(self, name: str, key: Hashable) -> list[dict[str, Any]]:
        """The entries of a list that belong to an id, in the order of the file."""
        number = self._numbers[name].get(key)
        if number is None:
            return []
        offsets, lengths, bounds = self._rows[name]
        found = []
        with self.path.open("rb") as file:
            for at in range(int(bounds[number]), int(bounds[number + 1])):
                file.seek(int(offsets[at]))
                found.append(json.loads(file.read(int(lengths[at])).decode()))
        return found

    def _keep(self, entry: Entry) -> None:
        if entry.place < 0:
            self.values[entry.name] = entry.value
        else:
            self.values.setdefault(entry.name, []).append(entry.value)


def _sorted(rows: _Rows) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    groups = np.array(rows.groups, np.int64)
    order = np.argsort(groups, kind="stable")
    counts = np.bincount(groups) if groups.size else np.zeros(0, np.int64)
    bounds = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return np.array(rows.offsets, np.int64)[order], np.array(rows.lengths, np.int64)[order], bounds
