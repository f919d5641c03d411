"""MIL types and values as NumPy arrays, and the limits on their size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit_converters.coreml_interpreter.wire import Message

__all__ = [
    "Array",
    "Fault",
    "NotRun",
    "TensorType",
    "Value",
    "affordable",
    "bounded",
    "read_type",
    "read_value",
    "unpack_bits",
]

Array = NDArray[Any]
Value = Array | str
"""A tensor, or a text (texts are scalars in every operator that is run here)."""

ReadBlob = Callable[[str, int, str, int], bytes]
"""(file name, offset, element type, bytes expected) → the bytes of a record."""

MAX_ELEMENTS = 1 << 26  # of one tensor: 256 MB in float32; 512×512 with 133 classes is 35 million
MAX_RANK = 8
MAX_MACS = 1 << 38  # of a run, some ten seconds; a whole network of ours has about 2**30


class Fault(Exception):
    """What is wrong with an operator; whoever runs it adds which one and where."""


class NotRun(Fault):
    """Nothing is wrong with the operator as far as can be seen, but it cannot be run here."""


@dataclass(frozen=True)
class ElementType:
    """How numbers of one MIL type are held here; below 8 bits they take a byte each."""

    name: str
    bits: int
    dtype: str  # of NumPy


_ELEMENTS = {
    1: ElementType("bool", 8, "bool"),
    2: ElementType("string", 0, "str"),
    10: ElementType("fp16", 16, "float16"),
    11: ElementType("fp32", 32, "float32"),
    12: ElementType("fp64", 64, "float64"),
    21: ElementType("int8", 8, "int8"),
    22: ElementType("int16", 16, "int16"),
    23: ElementType("int32", 32, "int32"),
    24: ElementType("int64", 64, "int64"),
    25: ElementType("int4", 4, "int8"),
    31: ElementType("uint8", 8, "uint8"),
    32: ElementType("uint16", 16, "uint16"),
    33: ElementType("uint32", 32, "uint32"),
    34: ElementType("uint64", 64, "uint64"),
    35: ElementType("uint4", 4, "uint8"),
    36: ElementType("uint2", 2, "uint8"),
    37: ElementType("uint1", 1, "uint8"),
    38: ElementType("uint6", 6, "uint8"),
    39: ElementType("uint3", 3, "uint8"),
}
_BY_NAME = {element.name: element for element in _ELEMENTS.values()}


@dataclass(frozen=True)
class TensorType:
    """``element`` is a MIL name (``fp16``, ``int4``, …); a size of ``None`` is known only later."""

    element: str
    shape: tuple[int | None, ...]

    @property
    def dtype(self) -> str:
        """The NumPy type its values have here, e.g. ``float16``; ``str`` for texts."""
        return _BY_NAME[self.element].dtype

    @property
    def bits(self) -> int:
        """Bits of one element in the weight file."""
        return _BY_NAME[self.element].bits

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether an array of ``shape`` may have this type."""
        return len(shape) == len(self.shape) and all(
            declared is None or declared == size
            for declared, size in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.element}[{sizes}]"


def bounded(shape: Sequence[int]) -> tuple[int, ...]:
    """``shape`` as it is, or a fault if no tensor here may be as large. Ask before allocating."""
    sizes = tuple(int(size) for size in shape)
    if len(sizes) > MAX_RANK or min(sizes, default=1) < 0:
        raise Fault(f"the shape {list(sizes)[:12]} is not one of up to {MAX_RANK} sizes from 0")
    if math.prod(sizes) > MAX_ELEMENTS:
        raise Fault(f"the shape {list(sizes)} has more than {MAX_ELEMENTS} elements, the limit")
    return sizes


_spent: ContextVar[list[int] | None] = ContextVar("spent", default=None)


@contextmanager
def work_budget() -> Iterator[None]:
    """What runs inside multiplies and adds ``MAX_MACS`` times at the most, all operators
    together."""
    token = _spent.set([0])
    try:
        yield
    finally:
        _spent.reset(token)


def affordable(macs: int) -> None:
    """A fault if an operator, and what ran before it, would multiply and add so often that it would
    not come back."""
    spent = _spent.get()
    total = macs + (spent[0] if spent is not None else 0)
    if total > MAX_MACS:
        raise Fault(f"{total} multiplications in all, more than {MAX_MACS}, the limit")
    if spent is not None:
        spent[0] = total


def read_type(message: Message) -> TensorType:
    """A ``ValueType`` message; only tensors are known, and their static size is bounded."""
    tensor = message.get("tensorType")
    if tensor is None:
        raise NotRun("a type that is no tensor; lists, tuples, dictionaries and states are not run")
    code = tensor.get("dataType", 0)
    if code not in _ELEMENTS:
        raise Fault(f"the element type {code} is not known here")
    dimensions = tensor.get("dimensions", [])
    if tensor.get("rank", 0) != len(dimensions):
        raise Fault(f"a tensor of rank {tensor.get('rank', 0)} with {len(dimensions)} sizes")
    shape: list[int | None] = []
    for dimension in dimensions:
        constant = dimension.get("constant")
        shape.append(None if constant is None else constant.get("size", 0))
    bounded([size for size in shape if size is not None])
    return TensorType(_ELEMENTS[code].name, tuple(shape))


def read_value(message: Message, read_blob: ReadBlob) -> tuple[TensorType, Value]:
    """A ``Value`` message: its type and its array, written out in it or in the weight file."""
    kind = read_type(message.get("type", {}))
    if None in kind.shape:
        raise Fault(f"a value of the type {kind}, whose size is not given")
    shape = bounded([size for size in kind.shape if size is not None])
    count = math.prod(shape)
    blob, immediate = message.get("blobFileValue"), message.get("immediateValue")
    if blob is not None:
        if kind.element == "string":
            raise Fault("a text in the weight file; texts are written out in the program")
        size = -(-count * kind.bits // 8)
        raw = read_blob(blob.get("fileName", ""), blob.get("offset", 0), kind.element, size)
        return kind, _from_bytes(raw, kind, count).reshape(shape)
    if immediate is None or "tensor" not in immediate:
        raise Fault("a value that is no tensor")
    return kind, _immediate(immediate["tensor"], kind, count, shape)


def _immediate(tensor: Message, kind: TensorType, count: int, shape: tuple[int, ...]) -> Value:
    """A value written out in the program. It lies in the one list that fits its type."""
    if kind.element == "string":
        texts = tensor.get("strings", {}).get("values", [])
        if shape or len(texts) != 1:
            raise Fault(f"{len(texts)} texts where one was expected")
        return str(texts[0])
    if "bytes" in tensor:
        raw = tensor["bytes"].get("values", b"")
        return _from_bytes(raw, kind, count).reshape(shape)
    lists = [
        tensor[name].get("values", [])
        for name in ("floats", "ints", "longInts", "bools", "doubles")
        if name in tensor
    ]
    numbers = lists[0] if lists else []
    if len(numbers) != count:
        raise Fault(f"{len(numbers)} numbers where {kind} needs {count}")
    return np.array(numbers).astype(kind.dtype).reshape(shape)


def _from_bytes(raw: bytes, kind: TensorType, count: int) -> Array:
    if len(raw) != -(-count * kind.bits // 8):
        raise Fault(f"{len(raw)} bytes where {kind} needs {-(-count * kind.bits // 8)}")
    if kind.bits >= 8:
        # Core ML writes little-endian on every system.
        stored = np.dtype(kind.dtype).newbyteorder("<")
        return np.frombuffer(raw, stored, count).astype(kind.dtype)
    fields = unpack_bits(np.frombuffer(raw, np.uint8), kind.bits, count)
    if kind.element == "int4":
        return ((fields.astype(np.int8) ^ 8) - 8).astype(np.int8)  # two's complement of 4 bits
    return fields


def unpack_bits(packed: Array, bits: int, count: int) -> Array:
    """``count`` numbers of ``bits`` bits (1 to 8) each, from uint8 ``[M]`` to uint8 ``[count]``.

    The least significant bit comes first, and a number may go on in the next byte.
    """
    if packed.ndim != 1 or packed.dtype != np.uint8 or len(packed) != -(-count * bits // 8):
        raise Fault(
            f"{packed.size} packed bytes where {count} numbers of {bits} bits were expected"
        )
    if bits == 8:
        return packed
    flat = np.unpackbits(packed, bitorder="little", count=count * bits).reshape(count, bits)
    return np.packbits(flat, axis=1, bitorder="little")[:, 0]
