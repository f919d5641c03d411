"""One operator with its operands at hand: what the functions of the operators get."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from panokit_converters.coreml_interpreter.values import Array, Fault, TensorType, Value, bounded

__all__ = ["Call", "Function", "widened"]


@dataclass(frozen=True)
class Call:
    """Operands by name (each a tuple: ``concat`` takes several) and the declared results."""

    operands: Mapping[str, tuple[Value, ...]]
    results: tuple[TensorType, ...]

    def has(self, name: str) -> bool:
        """Whether an optional operand is there."""
        return name in self.operands

    def raw(self, name: str) -> Array:
        """A tensor in its own type."""
        value = self._one(name)
        if isinstance(value, str):
            raise Fault(f"the operand {name!r} is a text, not a tensor")
        return value

    def tensor(self, name: str) -> Array:
        """A tensor to compute with: float16 comes as float32."""
        return widened(self.raw(name))

    def tensors(self, name: str) -> list[Array]:
        """All tensors of an operand that takes several, each as in :meth:`tensor`."""
        values = self.operands.get(name, ())
        arrays = [widened(value) for value in values if not isinstance(value, str)]
        if not arrays or len(arrays) != len(values):
            raise Fault(f"the operand {name!r} is missing or holds a text")
        return arrays

    def integers(
        self, name: str, default: Sequence[int] | None = None, count: int | None = None
    ) -> list[int]:
        """A vector of integers; with ``count``, of that many."""
        if default is not None and not self.has(name):
            return list(default)
        array = self.raw(name)
        if array.dtype.kind not in "iu" or array.ndim > 1:
            raise Fault(f"the operand {name!r} is {array.dtype}{array.shape}, not integers")
        if count is not None and array.size != count:
            raise Fault(f"the operand {name!r} has {array.size} numbers instead of {count}")
        return [int(number) for number in array.reshape(-1)]

    def integer(self, name: str, default: int | None = None) -> int:
        """One integer."""
        return self.integers(name, None if default is None else [default], 1)[0]

    def number(self, name: str, default: float | None = None) -> float:
        """One number."""
        if default is not None and not self.has(name):
            return default
        array = self.raw(name)
        if array.size != 1:
            raise Fault(f"the operand {name!r} has {array.size} numbers instead of one")
        return float(array.reshape(-1)[0])

    def flag(self, name: str, default: bool) -> bool:
        """A truth value."""
        return bool(self.number(name, default))

    def flags(self, name: str, count: int) -> list[bool]:
        """A vector of ``count`` truth values, by default false."""
        array = self.raw(name) if self.has(name) else np.zeros(count, bool)
        if array.shape != (count,):
            raise Fault(f"the operand {name!r} has the shape {list(array.shape)}, not [{count}]")
        return [bool(flag) for flag in array]

    def text(self, name: str, default: str | None = None) -> str:
        """A text."""
        if default is not None and not self.has(name):
            return default
        value = self._one(name)
        if not isinstance(value, str):
            raise Fault(f"the operand {name!r} is a tensor, not a text")
        return value

    def axis(self, name: str, rank: int, default: int | None = None) -> int:
        """An axis of a tensor of ``rank``, counted from the front."""
        return _front(self.integer(name, default), rank)

    def axes(self, name: str, rank: int) -> tuple[int, ...]:
        """Several axes, counted from the front; without the operand, all."""
        return tuple(_front(axis, rank) for axis in self.integers(name, range(rank)))

    def slices(self, rank: int) -> tuple[int | slice, ...]:
        """``begin``, ``end`` and ``stride`` with their masks, as a subscript of NumPy."""
        begin, end = (self.integers(name, count=rank) for name in ("begin", "end"))
        stride = self.integers("stride", [1] * rank, rank)
        from_start, to_end, squeeze = (
            self.flags(name, rank) for name in ("begin_mask", "end_mask", "squeeze_mask")
        )
        picks: list[int | slice] = []
        for axis in range(rank):
            if squeeze[axis]:
                picks.append(begin[axis])
                continue
            first = None if from_start[axis] else begin[axis]
            picks.append(slice(first, None if to_end[axis] else end[axis], stride[axis]))
        return tuple(picks)

    def announce(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the (first) result, before memory is taken for it."""
        sizes = bounded(shape)
        declared = self.results[0]
        if not declared.fits(sizes):
            raise Fault(f"it computes the shape {list(sizes)}, but declares {declared}")
        return sizes

    def _one(self, name: str) -> Value:
        values = self.operands.get(name, ())
        if len(values) != 1:
            raise Fault(f"the operand {name!r} is missing or not single")
        return values[0]


Function = Callable[[Call], Array | tuple[Array, ...]]
"""An operator: the result, or a tuple of several."""


def widened(array: Array) -> Array:
    """float16 as float32, anything else as it is."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _front(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise Fault(f"the axis {axis} of a tensor of rank {rank}")
    return axis % rank
