"""Operators that move elements without changing them."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from panokit_converters.coreml_interpreter.call import Call, Function
from panokit_converters.coreml_interpreter.values import Array, Fault, bounded

__all__ = ["SHAPES"]


def _concat(call: Call) -> Array:
    parts = call.tensors("values")
    axis = call.axis("axis", parts[0].ndim)
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    call.announce(shape)
    if len(parts) > 1 and call.flag("interleave", False):
        # One element of each in turn: they stand side by side on an axis of their own.
        return np.stack(parts, axis + 1).reshape(shape)
    return np.concatenate(parts, axis)


def _stack(call: Call) -> Array:
    parts = call.tensors("values")
    axis = call.axis("axis", parts[0].ndim + 1)
    call.announce((*parts[0].shape[:axis], len(parts), *parts[0].shape[axis:]))
    return np.stack(parts, axis)


def _split(call: Call) -> tuple[Array, ...]:
    x = call.tensor("x")
    axis, count = call.axis("axis", x.ndim), len(call.results)
    sizes = call.integers("split_sizes", [x.shape[axis] // count] * count, count)
    if sum(sizes) != x.shape[axis] or min(sizes) < 0:
        raise Fault(f"parts of {sizes} along an axis of {x.shape[axis]}")
    return tuple(np.split(x, np.cumsum(sizes)[:-1].tolist(), axis))


def _pad(call: Call) -> Array:
    x, amounts = call.tensor("x"), call.integers("pad")
    if len(amounts) % 2 or len(amounts) > 2 * x.ndim or min(amounts, default=0) < 0:
        raise Fault(f"the padding {amounts} of a tensor of rank {x.ndim}")
    # The pairs belong to the last axes.
    pairs = [(0, 0)] * (x.ndim - len(amounts) // 2)
    pairs += list(zip(amounts[::2], amounts[1::2], strict=True))
    call.announce([size + sum(pair) for size, pair in zip(x.shape, pairs, strict=True)])
    mode = call.text("mode", "constant")
    if mode == "constant":
        return np.pad(x, pairs, constant_values=x.dtype.type(call.number("constant_val", 0.0)))
    if mode == "reflect" and all(max(p) < max(n, 1) for p, n in zip(pairs, x.shape, strict=True)):
        return np.pad(x, pairs, mode="reflect")
    if mode == "replicate":
        return np.pad(x, pairs, mode="edge")
    raise Fault(f"the padding {amounts} of {list(x.shape)} in the mode {mode!r}")


def _reshape(call: Call) -> Array:
    """0 keeps the size at its place, -1 stands for what is left."""
    x, sizes = call.tensor("x"), call.integers("shape")
    if any(size == 0 and axis >= x.ndim for axis, size in enumerate(sizes)):
        raise Fault(f"the shape {sizes} for {list(x.shape)}")
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)])


def _reshape_like(call: Call) -> Array:
    """The declared shape, which is made of parts of others."""
    sizes = call.results[0].shape
    if None in sizes:
        raise Fault("a reshape_like whose result has no fixed shape")
    return call.tensor("x").reshape([size for size in sizes if size is not None])


def _flatten2d(call: Call) -> Array:
    x = call.tensor("x")
    axis = call.axis("axis", x.ndim + 1, 1)
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


def _transpose(call: Call) -> Array:
    x = call.tensor("x")
    return x.transpose(call.integers("perm", count=x.ndim))


def _expand_dims(call: Call) -> Array:
    x, axes = call.tensor("x"), call.integers("axes")
    bounded((*x.shape, *([1] * len(axes))))
    return np.expand_dims(x, tuple(axes))


def _squeeze(call: Call) -> Array:
    x = call.tensor("x")
    return np.squeeze(x, call.axes("axes", x.ndim) if call.has("axes") else None)


def _slice_by_index(call: Call) -> Array:
    """As Python slices; a mask leaves an end open, or takes one element and drops the axis."""
    x = call.tensor("x")
    return np.asarray(x[call.slices(x.ndim)])


def _slice_by_size(call: Call) -> Array:
    """From ``begin``, ``size`` elements per axis; -1 takes all that follow."""
    x = call.tensor("x")
    begin, size = call.integers("begin", count=x.ndim), call.integers("size", count=x.ndim)
    ends = [b + s if s >= 0 else n for b, s, n in zip(begin, size, x.shape, strict=True)]
    if any(not 0 <= b <= e <= n for b, e, n in zip(begin, ends, x.shape, strict=True)):
        raise Fault(f"a slice from {begin} of {size} out of {list(x.shape)}")
    return x[tuple(slice(b, e) for b, e in zip(begin, ends, strict=True))]


def _crop(call: Call) -> Array:
    """Rows and columns cut off, before and behind."""
    x = call.tensor("x")
    (top, bottom), (left, right) = (
        call.integers(n, count=2) for n in ("crop_height", "crop_width")
    )
    if x.ndim < 2 or min(top, bottom, left, right) < 0:
        raise Fault(f"a crop by {[top, bottom]} and {[left, right]} of {list(x.shape)}")
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


def _tile(call: Call) -> Array:
    x = call.tensor("x")
    counts = call.integers("reps", count=x.ndim)
    if min(counts, default=1) < 0:
        raise Fault(f"{counts} repetitions")
    call.announce([size * count for size, count in zip(x.shape, counts, strict=True)])
    return np.tile(x, counts)


def _reverse(call: Call) -> Array:
    x = call.tensor("x")
    return np.flip(x, call.axes("axes", x.ndim))


def _sliding_windows(call: Call) -> Array:
    """Windows along an axis, on a new axis behind it."""
    x = call.tensor("x")
    axis, size, step = call.axis("axis", x.ndim), call.integer("size"), call.integer("stride", 1)
    if not 0 < size <= x.shape[axis] or step < 1:
        raise Fault(f"windows of {size} by {step} along an axis of {x.shape[axis]}")
    windows = np.moveaxis(sliding_window_view(x, size, axis), -1, axis + 1)
    picked = windows[(*[slice(None)] * axis, slice(None, None, step))]
    call.announce(picked.shape)
    return np.ascontiguousarray(picked)


# Pixels to channels and back


def _image(call: Call, name: str) -> tuple[Array, int]:
    x, factor = call.tensor("x"), call.integer(name)
    if x.ndim != 4 or factor < 1:
        raise Fault(f"blocks of {factor} in {list(x.shape)}")
    return x, factor


def _pixel_shuffle(call: Call) -> Array:
    """Channel c·f²+i·f+j goes to row i and column j of a block, channel c."""
    x, f = _image(call, "upscale_factor")
    n, c, h, w = x.shape
    y = x.reshape(n, c // (f * f), f, f, h, w).transpose(0, 1, 4, 2, 5, 3)
    return y.reshape(n, c // (f * f), h * f, w * f)


def _pixel_unshuffle(call: Call) -> Array:
    x, f = _image(call, "downscale_factor")
    n, c, h, w = x.shape
    y = x.reshape(n, c, h // f, f, w // f, f).transpose(0, 1, 3, 5, 2, 4)
    return y.reshape(n, c * f * f, h // f, w // f)


def _depth_to_space(call: Call) -> Array:
    """Channel (i·f+j)·C+c goes to row i and column j of a block, channel c."""
    x, f = _image(call, "block_size")
    n, c, h, w = x.shape
    y = x.reshape(n, f, f, c // (f * f), h, w).transpose(0, 3, 4, 1, 5, 2)
    return y.reshape(n, c // (f * f), h * f, w * f)


def _space_to_depth(call: Call) -> Array:
    x, f = _image(call, "block_size")
    n, c, h, w = x.shape
    y = x.reshape(n, c, h // f, f, w // f, f).transpose(0, 3, 5, 1, 2, 4)
    return y.reshape(n, c * f * f, h // f, w // f)


def _blocks(call: Call, name: str) -> tuple[Array, list[int], list[int]]:
    x, (rows, columns) = call.tensor("x"), call.integers("block_shape", count=2)
    edges = call.raw(name)
    if x.ndim != 4 or min(rows, columns) < 1 or edges.shape != (2, 2) or edges.min() < 0:
        raise Fault(f"blocks of {rows}x{columns} in {list(x.shape)}, {name} {edges.tolist()}")
    return x, [rows, columns], [int(edge) for edge in edges.reshape(-1)]


def _space_to_batch(call: Call) -> Array:
    x, (f, g), (top, bottom, left, right) = _blocks(call, "paddings")
    n, c, h, w = x.shape
    bounded((n, c, h + top + bottom, w + left + right))
    x = np.pad(x, [(0, 0), (0, 0), (top, bottom), (left, right)])
    y = x.reshape(n, c, x.shape[2] // f, f, x.shape[3] // g, g).transpose(3, 5, 0, 1, 2, 4)
    return y.reshape(n * f * g, c, x.shape[2] // f, x.shape[3] // g)


def _batch_to_space(call: Call) -> Array:
    x, (f, g), (top, bottom, left, right) = _blocks(call, "crops")
    n, c, h, w = x.shape
    y = x.reshape(f, g, n // (f * g), c, h, w).transpose(2, 3, 4, 0, 5, 1)
    y = y.reshape(n // (f * g), c, h * f, w * g)
    return y[:, :, top : h * f - bottom, left : w * g - right]


SHAPES: dict[str, Function] = {
    "batch_to_space": _batch_to_space,
    "concat": _concat,
    "crop": _crop,
    "depth_to_space": _depth_to_space,
    "expand_dims": _expand_dims,
    "flatten2d": _flatten2d,
    "pad": _pad,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "reshape": _reshape,
    "reshape_like": _reshape_like,
    "reverse": _reverse,
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "sliding_windows": _sliding_windows,
    "space_to_batch": _space_to_batch,
    "space_to_depth": _space_to_depth,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
}
