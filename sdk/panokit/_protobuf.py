"""The wire format of protobuf messages: whole numbers, and pieces of bytes with their lengths.

What reads a kind of message (an ONNX file, a Core ML program) stands on this and knows the fields.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = [
    "FIXED32",
    "FIXED64",
    "LENGTH",
    "VARINT",
    "WireError",
    "fields",
    "packed",
]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """The bytes are not a message of the kind that was asked for."""


def fields(data: memoryview, where: str) -> Iterator[tuple[int, int, int | memoryview]]:
    """Number, wire type and raw value of each field of a message: whole numbers, or bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        raw, at = _take(data, at, tag & 7, where)
        yield tag >> 3, tag & 7, raw


def _take(data: memoryview, at: int, wire: int, where: str) -> tuple[int | memoryview, int]:
    """The raw value at ``at`` (an int for a varint, else bytes) and where the next field begins."""
    if wire == VARINT:
        return _varint(data, at)
    if wire == LENGTH:
        size, at = _varint(data, at)
    elif wire in (FIXED32, FIXED64):
        size = 4 if wire == FIXED32 else 8
    else:
        raise WireError(f"{where} has a field of the unknown wire type {wire}")
    if size > len(data) - at:
        raise WireError(f"{where} is cut short: {size} bytes announced, {len(data) - at} left")
    return data[at : at + size], at + size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The whole number at ``at``, in 64 bits, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise WireError("the data ends within a number")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, at
    raise WireError("a number is longer than ten bytes")


def packed(data: memoryview) -> list[int]:
    """The whole numbers of a packed field."""
    numbers, at = [], 0
    while at < len(data):
        number, at = _varint(data, at)
        numbers.append(number)
    return numbers
