"""The directories of TIFF files and of EXIF blocks (which are TIFF files), read with doubt.

EXIF of cameras and editors is often damaged, and holds values of types that nobody expects. Nothing
here raises an exception for it: what cannot be read is not there.
(TIFF 6.0, section 2; EXIF 2.32, section 4.6; DNG 1.6.)
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Directory", "Tiff", "exif_orientation", "upright", "xmp_orientation"]

T = TypeVar("T", bound=np.generic)

ORIENTATION, SUB_DIRECTORIES, SUBFILE_TYPE, PHOTOMETRIC = 0x0112, 330, 254, 262
MAX_DIRECTORIES = 16
MAX_ENTRIES = 4096

# Field types: their size in bytes and how struct reads them (the rational ones as two numbers).
_TYPES = {
    1: (1, "B"), 2: (1, "s"), 3: (2, "H"), 4: (4, "I"), 5: (8, "2I"), 6: (1, "b"), 7: (1, "B"),
    8: (2, "h"), 9: (4, "i"), 10: (8, "2i"), 11: (4, "f"), 12: (8, "d"), 13: (4, "I"),
}  # fmt: skip


@dataclass(frozen=True)
class Directory:
    """One image file directory: ``entries`` are its raw 12 bytes by tag, ``following`` where the
    next one lies (0: nowhere)."""

    entries: dict[int, bytes]
    following: int


@dataclass(frozen=True)
class Tiff:
    """A TIFF file or an EXIF block without its "Exif" mark; BigTIFF has no directories here."""

    data: bytes

    @cached_property
    def order(self) -> str:
        """``"<"`` or ``">"`` for struct; empty if this is no TIFF."""
        return {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(self.data[:4]), "")

    @cached_property
    def directories(self) -> tuple[Directory, ...]:
        """The directories from the first on, each followed by those that it holds."""
        return tuple(self._walk()) if self.order else ()

    def _walk(self) -> Iterator[Directory]:
        waiting = [self._number("I", 4)]
        seen: set[int] = set()
        while waiting and len(seen) < MAX_DIRECTORIES:
            at = waiting.pop(0)
            if at in seen or not 8 <= at < len(self.data):
                continue
            seen.add(at)
            directory = self._directory(at)
            yield directory
            waiting = [*self.numbers(directory, SUB_DIRECTORIES), directory.following, *waiting]

    def _number(self, kind: str, at: int) -> int:
        try:
            return int(struct.unpack_from(self.order + kind, self.data, at)[0])
        except struct.error:
            return 0

    def _directory(self, at: int) -> Directory:
        count = min(self._number("H", at), MAX_ENTRIES)
        entries: dict[int, bytes] = {}
        for i in range(count):
            entry = bytes(self.data[at + 2 + 12 * i : at + 14 + 12 * i])
            if len(entry) < 12:
                break
            (tag,) = struct.unpack_from(self.order + "H", entry)
            entries.setdefault(tag, entry)
        return Directory(entries, self._number("I", at + 2 + 12 * count))

    def raw(self, directory: Directory, tag: int) -> bytes:
        """The bytes of a field's value; none if it is not there or leads out of the file."""
        entry = directory.entries.get(tag)
        if entry is None:
            return b""
        kind, count = struct.unpack_from(self.order + "HI", entry, 2)
        size = _TYPES.get(kind, (0, ""))[0] * count
        if size <= 4:
            return entry[8 : 8 + size]
        (at,) = struct.unpack_from(self.order + "I", entry, 8)
        value = self.data[at : at + size]
        return bytes(value) if len(value) == size else b""

    def numbers(self, directory: Directory, tag: int, most: int = 64) -> tuple[int, ...]:
        """A field's values as whole numbers, the first ``most`` of them, whatever type they are
        stored in; what is no whole number is left out."""
        value = self.raw(directory, tag)
        if not value:
            return ()
        (kind,) = struct.unpack_from(self.order + "H", directory.entries[tag], 2)
        size, code = _TYPES[kind]
        if code == "s":
            text = value.rstrip(b"\0 ").decode("ascii", "replace")
            return (int(text),) if text.isdecimal() and len(text) < 12 else ()
        found: list[int] = []
        for at in range(0, min(len(value), most * size), size):
            parts = struct.unpack_from(self.order + code, value, at)
            number = parts[0] / parts[1] if len(parts) == 2 and parts[1] else parts[0]
            whole = len(parts) == 1 or bool(parts[1])
            if whole and np.isfinite(number) and number == int(number):
                found.append(int(number))
        return tuple(found)

    def with_directory(self, directory: Directory, tags: frozenset[int]) -> bytes:
        """The file with one directory only: ``directory`` with these tags of its own."""
        kept = [directory.entries[t] for t in sorted(tags & directory.entries.keys())]
        table = struct.pack(self.order + "H", len(kept)) + b"".join(kept) + bytes(4)
        body = bytes(self.data) + bytes(len(self.data) % 2)
        return body[:4] + struct.pack(self.order + "I", len(body)) + body[8:] + table


def exif_orientation(exif: bytes | None) -> int | None:
    """The orientation 1..8 that an EXIF block states: 1 for one that makes no sense, None if it
    states none."""
    tiff = Tiff((exif or b"").removeprefix(b"Exif\0\0"))
    for directory in tiff.directories[:1]:
        if ORIENTATION in directory.entries:
            values = tiff.numbers(directory, ORIENTATION)
            return values[0] if values and 1 <= values[0] <= 8 else 1
    return None


def xmp_orientation(xmp: bytes) -> int:
    """The orientation 1..8 that an XMP packet states; 1 without."""
    found = re.search(rb"""tiff:Orientation(?:\s*=\s*["']|>)\s*([1-8])\b""", xmp)
    return int(found[1]) if found else 1


def upright(values: NDArray[T], orientation: int) -> NDArray[T]:
    """``[H,W]`` or ``[H,W,C]`` as stored, turned by an EXIF orientation 1..8; a view."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values
