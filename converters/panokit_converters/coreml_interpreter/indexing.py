"""Operators that find, order, take and put elements by their positions."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from panokit_converters.coreml_interpreter.call import Call, Function
from panokit_converters.coreml_interpreter.values import Array, Fault, NotRun, bounded

__all__ = ["INDEXING"]


def _positions(call: Call, name: str, size: int) -> Array:
    """Whole numbers as positions on an axis, negative ones counted from its end."""
    found = call.raw(name)
    if found.dtype.kind not in "iu":
        raise Fault(f"the operand {name!r} holds {found.dtype}, not whole numbers")
    at = found.astype(np.int64)
    if at.size and not -size <= at.min() <= at.max() < size:
        raise Fault(f"positions from {at.min()} to {at.max()} on an axis of {size}")
    return np.where(at < 0, at + size, at)


def _gather(call: Call) -> Array:
    """Slices along ``axis`` by position; ``batch_dims`` axes belong together."""
    x = call.tensor("x")
    axis, batch = call.axis("axis", x.ndim, 0), call.integer("batch_dims", 0)
    at = _positions(call, "indices", x.shape[axis])
    if not 0 <= batch <= min(axis, at.ndim) or x.shape[:batch] != at.shape[:batch]:
        raise Fault(f"a gather of {list(x.shape)} by {list(at.shape)} with {batch} batch axes")
    call.announce((*x.shape[:axis], *at.shape[batch:], *x.shape[axis + 1 :]))
    if not batch:
        return np.asarray(np.take(x, at, axis))
    groups = prod(x.shape[:batch])
    pairs = zip(x.reshape(groups, *x.shape[batch:]), at.reshape(groups, *at.shape[batch:]),
                strict=True)  # fmt: skip
    parts = np.stack([np.take(part, where, axis - batch) for part, where in pairs])
    return parts.reshape(*x.shape[:batch], *parts.shape[1:])


def _gather_along_axis(call: Call) -> Array:
    x = call.tensor("x")
    axis = call.axis("axis", x.ndim, 0)
    at = _positions(call, "indices", x.shape[axis])
    call.announce(at.shape)
    return np.take_along_axis(x, at, axis)


def _gather_nd(call: Call) -> Array:
    """Each row of ``indices`` is a place in ``x``."""
    x, batch = call.tensor("x"), call.integer("batch_dims", 0)
    at = call.raw("indices")
    if not 0 <= batch < at.ndim or x.shape[:batch] != at.shape[:batch] or not at.shape[-1]:
        raise Fault(f"a gather_nd of {list(x.shape)} by {list(at.shape)}, {batch} batch axes")
    depth = at.shape[-1]
    if depth > x.ndim - batch:
        raise Fault(f"places of {depth} numbers in {list(x.shape)}")
    call.announce((*at.shape[:-1], *x.shape[batch + depth :]))
    here = _places(at, x.shape[batch : batch + depth])
    lead = np.indices(at.shape[:-1], sparse=True)[:batch]
    return np.asarray(x[(*lead, *here)])


def _places(indices: Array, shape: tuple[int, ...]) -> tuple[Array, ...]:
    """One array of positions for each axis."""
    columns = []
    for axis, size in enumerate(shape):
        at = indices[..., axis].astype(np.int64)
        if at.size and not -size <= at.min() <= at.max() < size:
            raise Fault(f"positions from {at.min()} to {at.max()} on an axis of {size}")
        columns.append(np.where(at < 0, at + size, at))
    return tuple(columns)


_MODES = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.true_divide,
    "max": np.maximum, "min": np.minimum,
}  # fmt: skip


def _put(data: Array, places: tuple[Any, ...], updates: Array, mode: str) -> Array:
    """A copy of ``data`` with ``updates`` joined in; places may come more than once."""
    result = data.copy()
    if mode == "update":
        result[places] = updates
    elif mode in _MODES:
        _MODES[mode].at(result, places, updates)
    else:
        raise NotRun(f"the mode {mode!r} of a scatter is not known here")
    return result


def _scatter(call: Call) -> Array:
    data, updates = call.tensor("data"), call.tensor("updates")
    axis = call.axis("axis", data.ndim, 0)
    at = _positions(call, "indices", data.shape[axis])
    places = (*[slice(None)] * axis, at)
    return _put(data, places, updates, call.text("mode", "add"))


def _scatter_along_axis(call: Call) -> Array:
    data, updates = call.tensor("data"), call.tensor("updates")
    axis = call.axis("axis", data.ndim, 0)
    at = _positions(call, "indices", data.shape[axis])
    places: list[Any] = list(np.indices(at.shape, sparse=True))
    places[axis] = at
    return _put(data, tuple(places), updates, call.text("mode", "add"))


def _scatter_nd(call: Call) -> Array:
    data, at, updates = call.tensor("data"), call.raw("indices"), call.tensor("updates")
    if not 1 <= at.shape[-1] <= data.ndim:
        raise Fault(f"places of {at.shape[-1]} numbers in {list(data.shape)}")
    places = _places(at, data.shape[: at.shape[-1]])
    return _put(data, places, updates, call.text("mode", "add"))


def _slice_update(call: Call) -> Array:
    """A copy of ``x`` whose slice is ``update``."""
    x = call.tensor("x").copy()
    x[call.slices(x.ndim)] = call.tensor("update")
    return x


def _argsort(call: Call) -> Array:
    x = call.tensor("x")
    axis = call.axis("axis", x.ndim, -1)
    keys = x if call.flag("ascending", False) else _falling(x)
    return np.argsort(keys, axis=axis, kind="stable").astype(call.results[0].dtype)


def _falling(x: Array) -> Array:
    """Numbers whose order is the reverse; whole ones may not be negated."""
    return -x if x.dtype.kind == "f" else -x.astype(np.int64)


def _topk(call: Call) -> tuple[Array, ...]:
    """The ``k`` largest (or smallest) and where they are; ties in the order they come."""
    x, k = call.tensor("x"), call.integer("k", 1)
    axis = call.axis("axis", x.ndim, -1)
    k = x.shape[axis] if k == -1 else k
    if not 0 < k <= x.shape[axis]:
        raise Fault(f"the {k} largest of {x.shape[axis]}")
    keys = x if call.flag("ascending", False) else _falling(x)
    at = np.take(np.argsort(keys, axis=axis, kind="stable"), np.arange(k), axis)
    values = np.take_along_axis(x, at, axis)
    if len(call.results) == 1:
        return (values,)
    return values, at.astype(call.results[1].dtype)


def _one_hot(call: Call) -> Array:
    at, count = call.raw("indices").astype(np.int64), call.integer("one_hot_vector_size")
    rank = at.ndim + 1
    axis = call.axis("axis", rank, -1)
    shape = list(at.shape)
    shape.insert(axis, count)
    call.announce(shape)
    hot = np.expand_dims(at, axis) == np.arange(count).reshape(
        [-1 if a == axis else 1 for a in range(rank)]
    )
    on, off = call.number("on_value", 1), call.number("off_value", 0)
    return np.where(hot, on, off).astype(call.results[0].dtype)


def _non_zero(call: Call) -> Array:
    return np.argwhere(call.tensor("x")).astype(np.int32)


def _cumsum(call: Call) -> Array:
    x = call.tensor("x")
    axis = call.axis("axis", x.ndim, 0)
    backwards = call.flag("reverse", False)
    seen = np.flip(x, axis) if backwards else x
    total = np.cumsum(seen, axis, dtype=x.dtype)
    if call.flag("exclusive", False):
        total = total - seen
    return np.flip(total, axis) if backwards else total


def _band_part(call: Call) -> Array:
    """The diagonals from ``lower`` below to ``upper`` above the middle; -1 keeps all."""
    x = call.tensor("x")
    lower, upper = call.integer("lower", -1), call.integer("upper", -1)
    rows, columns = np.arange(x.shape[-2])[:, None], np.arange(x.shape[-1])
    kept = ((lower < 0) | (rows - columns <= lower)) & ((upper < 0) | (columns - rows <= upper))
    return np.where(kept, x, x.dtype.type(0))


def _fill(call: Call) -> Array:
    shape = bounded(call.integers("shape"))
    return np.full(shape, call.number("value", 0.0), call.results[0].dtype)


def _fill_like(call: Call) -> Array:
    return np.full(call.raw("ref_tensor").shape, call.number("value", 0.0), call.results[0].dtype)


def _range(call: Call) -> Array:
    begin, end, step = (call.number(name) for name in ("start", "end", "step"))
    if step == 0:
        raise Fault("a range whose step is 0")
    bounded([max(0, int(np.ceil((end - begin) / step)))])
    return np.arange(begin, end, step).astype(call.results[0].dtype)


def _shape(call: Call) -> Array:
    return np.array(call.raw("x").shape, call.results[0].dtype)


INDEXING: dict[str, Function] = {
    "argsort": _argsort,
    "band_part": _band_part,
    "cumsum": _cumsum,
    "fill": _fill,
    "fill_like": _fill_like,
    "gather": _gather,
    "gather_along_axis": _gather_along_axis,
    "gather_nd": _gather_nd,
    "non_zero": _non_zero,
    "one_hot": _one_hot,
    "range_1d": _range,
    "scatter": _scatter,
    "scatter_along_axis": _scatter_along_axis,
    "scatter_nd": _scatter_nd,
    "shape": _shape,
    "slice_update": _slice_update,
    "topk": _topk,
}
