"""Reading FlatBuffers that nobody has checked: every access stays inside the file.

The wire format (https://flatbuffers.dev/internals/): a table begins with a signed distance back to
its vtable, which lists where each field lies; vectors and strings begin with their length. All
numbers are little-endian.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FlatbufferError", "Table", "root_table"]


class FlatbufferError(ValueError):
    """The bytes are not what was asked for."""


_CODES = {
    "bool": struct.Struct("<?"),
    "int8": struct.Struct("<b"),
    "uint8": struct.Struct("<B"),
    "int32": struct.Struct("<i"),
    "uint32": struct.Struct("<I"),
    "float32": struct.Struct("<f"),
    "uint64": struct.Struct("<Q"),
}
_U16, _I32, _U32 = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I")

Bytes = Any  # bytes, bytearray, memoryview or mmap


def root_table(data: Bytes, identifier: bytes) -> Table:
    """The table that a file begins with; ``identifier`` is its four letters."""
    if len(data) < 8:
        raise FlatbufferError(f"{len(data)} bytes are too few for a FlatBuffer")
    if bytes(data[4:8]) != identifier:
        expected = identifier.decode()
        raise FlatbufferError(f"expected the identifier {expected!r}, got {bytes(data[4:8])!r}")
    return Table(data, _U32.unpack_from(data, 0)[0], "the root table")


class Table:
    """One table. ``what`` names it in errors; a field that is absent has its default."""

    def __init__(self, data: Bytes, at: int, what: str) -> None:
        self.data, self.at, self.what = data, at, what
        vtable = at - self._unpack(_I32, at)
        size = self._unpack(_U16, vtable)
        self._length = self._unpack(_U16, vtable + 2)
        if size < 4 or size % 2 or vtable < 0 or vtable + size > len(data):
            raise FlatbufferError(f"{what}: its list of fields lies outside the file")
        if self._length < 4 or at + self._length > len(data):
            raise FlatbufferError(f"{what}: goes on beyond the end of the file")
        self._fields = [_U16.unpack_from(data, vtable + 4 + 2 * i)[0] for i in range(size // 2 - 2)]
        if any(offset and not 4 <= offset < self._length for offset in self._fields):
            raise FlatbufferError(f"{what}: a field lies outside of it")

    def scalar(self, field: int, kind: str, default: Any = 0) -> Any:
        """A number: ``kind`` is ``"bool"``, ``"int8"``, ``"int32"``, ``"float32"``, …"""
        offset = self._offset(field)
        if not offset:
            return default
        code = _CODES[kind]
        if offset + code.size > self._length:
            raise FlatbufferError(f"{self.what}: a field lies outside of it")
        return code.unpack_from(self.data, self.at + offset)[0]

    def table(self, field: int, what: str) -> Table | None:
        """A table inside this one."""
        at = self._follow(field)
        return None if at is None else Table(self.data, at, what)

    def tables(self, field: int, what: str) -> list[Table]:
        """A vector of tables; ``what`` is said with the number of each."""
        at = self._follow(field)
        if at is None:
            return []
        begin, count = self._vector(at, 4)
        return [
            Table(self.data, begin + 4 * i + self._unpack(_U32, begin + 4 * i), f"{what} {i}")
            for i in range(count)
        ]

    def numbers(self, field: int, dtype: str) -> NDArray[Any]:
        """A vector of numbers, not copied; empty if absent."""
        at = self._follow(field)
        if at is None:
            return np.empty(0, dtype)
        kind = np.dtype(dtype).newbyteorder("<")
        begin, count = self._vector(at, kind.itemsize)
        return np.frombuffer(self.data, kind, count, begin)

    def text(self, field: int) -> str:
        """A string; empty if absent."""
        raw = self.numbers(field, "uint8").tobytes()
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise FlatbufferError(f"{self.what}: a name is not UTF-8 text") from None

    def has(self, field: int) -> bool:
        """Whether a field is there."""
        return self._offset(field) != 0

    def _offset(self, field: int) -> int:
        return self._fields[field] if field < len(self._fields) else 0

    def _follow(self, field: int) -> int | None:
        offset = self._offset(field)
        if not offset:
            return None
        at = self.at + offset
        return at + self._unpack(_U32, at)

    def _vector(self, at: int, size: int) -> tuple[int, int]:
        count = self._unpack(_U32, at)
        begin = at + 4
        if count * size > len(self.data) - begin:
            end = begin + count * size
            raise FlatbufferError(
                f"{self.what}: a list goes on to byte {end}, the file ends at {len(self.data)}"
            )
        return begin, count

    def _unpack(self, code: struct.Struct, at: int) -> int:
        if at < 0 or at + code.size > len(self.data):
            reason = f"leads to byte {at}, the file ends at {len(self.data)}"
            raise FlatbufferError(f"{self.what}: {reason}")
        return int(code.unpack_from(self.data, at)[0])
