"""Protobuf messages of which one field, somewhere inside, is another: ONNX files and Core ML's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.fuzz.changes import changed_bytes

__all__ = ["change", "texts"]

WHOLE = (0, 1, -1, 2, 3, 7, 100, 65_536, 2**31 - 1, -(2**31), 2**62, -(2**63))
REAL = (0.0, 1.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), float("-inf"))
_TEXT, _BYTES, _FLOAT = (
    FieldDescriptor.CPPTYPE_STRING,
    FieldDescriptor.TYPE_BYTES,
    (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE),
)


def texts(message: Message) -> set[str]:
    """All texts in a message: names and kinds of operators."""
    return set(_texts(message))


def _texts(message: Message) -> Iterator[str]:
    for field, value in message.ListFields():
        for entry in _entries(field, value):
            if isinstance(entry, Message):
                yield from _texts(entry)
            elif isinstance(entry, str):
                yield entry


def _is_map(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and kind.GetOptions().map_entry


def _entries(field: FieldDescriptor, value: Any) -> list[Any]:
    if _is_map(field):
        return list(value.values())
    return list(value) if hasattr(value, "append") or hasattr(value, "add") else [value]


def change(message: Message, rng: np.random.Generator, words: list[str]) -> None:
    """Change one field, in place; ``words`` are what a text may become."""
    fields = message.ListFields()
    if not fields:
        return
    field, value = fields[int(rng.integers(len(fields)))]
    entries = _entries(field, value)
    if not entries:
        return
    at = int(rng.integers(len(entries)))
    luck = rng.random()
    if _is_map(field):
        keys = list(value)
        if luck < 0.15:
            del value[keys[at]]
        elif isinstance(entries[at], Message):
            change(entries[at], rng, words)
    elif isinstance(entries[at], Message):
        if entries[at] is not value and luck < 0.15:
            _shuffle(value, at, rng)
        else:
            change(entries[at], rng, words)
    elif hasattr(value, "append"):
        value[at] = _other(field, value[at], rng, words)
    elif luck < 0.1:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _other(field, value, rng, words))


def _shuffle(value: Any, at: int, rng: np.random.Generator) -> None:
    if rng.random() < 0.5:
        del value[at]
    else:
        value.add().CopyFrom(value[at])


def _other(field: FieldDescriptor, value: Any, rng: np.random.Generator, words: list[str]) -> Any:
    if field.type == _BYTES:
        return changed_bytes(value, rng) if len(value) > 4 else b"\xff" * 4
    if field.cpp_type == _TEXT:
        return words[int(rng.integers(len(words)))]
    if field.cpp_type in _FLOAT:
        return REAL[int(rng.integers(len(REAL)))]
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return not value
    if field.enum_type is not None:
        numbers = [v.number for v in field.enum_type.values]
        return numbers[int(rng.integers(len(numbers)))]
    number = WHOLE[int(rng.integers(len(WHOLE)))]
    small = field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32)
    signed = field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
    if small:
        number = max(-(2**31), min(number, 2**31 - 1))
    return number if signed else abs(number)
