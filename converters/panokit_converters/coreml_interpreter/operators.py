"""One function per MIL operator, in NumPy.

A function gets a :class:`Call` and returns the result (or a tuple of them). It computes in
float32; the interpreter rounds to the declared type afterwards. What makes a tensor larger
announces its size first.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from panokit_converters.coreml_interpreter import resize
from panokit_converters.coreml_interpreter.call import Call
from panokit_converters.coreml_interpreter.constexpr import along
from panokit_converters.coreml_interpreter.convolution import Window, conv, read_window
from panokit_converters.coreml_interpreter.values import Array, Fault, affordable, bounded

__all__ = ["OPERATORS"]

Function = Callable[[Call], Array | tuple[Array, ...]]


# Elementwise


def _unary(function: Callable[[Array], Any]) -> Function:
    return lambda call: function(call.tensor("x"))


def _binary(function: Callable[[Array, Array], Any]) -> Function:
    def run(call: Call) -> Array:
        x, y = call.tensor("x"), call.tensor("y")
        call.announce(np.broadcast_shapes(x.shape, y.shape))
        return np.asarray(function(x, y))

    return run


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _clip(call: Call) -> Array:
    return np.clip(call.tensor("x"), call.number("alpha"), call.number("beta"))


def _leaky_relu(call: Call) -> Array:
    x = call.tensor("x")
    return np.where(x >= 0, x, x * call.number("alpha"))


def _prelu(call: Call) -> Array:
    """A slope per channel (axis 1)."""
    x = call.tensor("x")
    return np.where(x >= 0, x, x * along(call.tensor("alpha"), 1, x))


def _elu(call: Call) -> Array:
    x = call.tensor("x")
    return np.where(x >= 0, x, np.expm1(np.minimum(x, 0)) * call.number("alpha"))


def _thresholded_relu(call: Call) -> Array:
    x = call.tensor("x")
    return np.where(x >= call.number("alpha"), x, x.dtype.type(0))


def _sigmoid_hard(call: Call) -> Array:
    """min(max(alpha·x + beta, 0), 1)."""
    return np.clip(call.tensor("x") * call.number("alpha") + call.number("beta"), 0, 1)


def _softmax(call: Call) -> Array:
    x = call.tensor("x")
    axis = call.axis("axis", x.ndim, -1)
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def _cast(call: Call) -> Array:
    """To the type of the result; fractions are cut off on the way to integers."""
    x = call.tensor("x")
    names = {"int8", "uint8", "int16", "uint16", "int32", "fp16", "fp32", "bool"}
    wanted, declared = call.text("dtype"), call.results[0]
    if wanted not in names or wanted != declared.element:
        raise Fault(f"a cast to {wanted!r} whose result is declared as {declared.element}")
    return x.astype(declared.dtype)


# Quantized activations


def _quantize(call: Call) -> Array:
    """clip(round(input / scale) + zero_point), halves to even."""
    x = call.tensor("input")
    limits = np.iinfo(call.results[0].dtype)
    steps = np.rint(x / _steps(call, "scale", x)) + _steps(call, "zero_point", x)
    return np.asarray(np.clip(steps, limits.min, limits.max)).astype(limits.dtype)


def _dequantize(call: Call) -> Array:
    """(input - zero_point)·scale."""
    x = call.raw("input").astype(np.float32)
    return np.asarray((x - _steps(call, "zero_point", x)) * _steps(call, "scale", x))


def _steps(call: Call, name: str, x: Array) -> Array:
    if not call.has(name):
        return np.zeros((1,) * x.ndim, np.float32)
    values = call.tensor(name).astype(np.float32)
    return along(values, call.axis("axis", x.ndim, 0), x)


# Products, windows and statistics


def _linear(call: Call) -> Array:
    x, weight = call.tensor("x"), call.tensor("weight")
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise Fault(f"a linear layer {list(weight.shape)} on {list(x.shape)}")
    shape = call.announce((*x.shape[:-1], weight.shape[0]))
    affordable(prod(shape) * weight.shape[1])
    result = np.asarray(np.matmul(x, weight.T))
    return result + call.tensor("bias") if call.has("bias") else result


def _matmul(call: Call) -> Array:
    x, y = call.tensor("x"), call.tensor("y")
    if min(x.ndim, y.ndim) < 2:
        raise Fault(f"a matrix product of {list(x.shape)} and {list(y.shape)}")
    x = x.swapaxes(-1, -2) if call.flag("transpose_x", False) else x
    y = y.swapaxes(-1, -2) if call.flag("transpose_y", False) else y
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    shape = call.announce((*batch, x.shape[-2], y.shape[-1]))
    affordable(prod(shape) * x.shape[-1])
    return np.asarray(np.matmul(x, y))


def _batch_norm(call: Call) -> Array:
    x = call.tensor("x")
    mean, variance = (along(call.tensor(name), 1, x) for name in ("mean", "variance"))
    result = (x - mean) / np.sqrt(variance + call.number("epsilon", 1e-5))
    if call.has("gamma"):
        result = result * along(call.tensor("gamma"), 1, x)
    if call.has("beta"):
        result = result + along(call.tensor("beta"), 1, x)
    return np.asarray(result)


def _max_pool(call: Call) -> Array:
    x, window = _pool(call)
    padded = window.padded(x, -np.inf)
    result = np.full((*x.shape[:2], *window.out), -np.inf, x.dtype)
    for row in range(window.size[0]):
        for column in range(window.size[1]):
            np.maximum(result, window.tap(padded, row, column), out=result)
    return result


def _avg_pool(call: Call) -> Array:
    x, window = _pool(call)
    total = _sum_taps(x, window)
    if not call.flag("exclude_padding_from_average", False):
        return np.asarray(total / np.float32(prod(window.size)))
    return np.asarray(total / _sum_taps(np.ones((1, 1, *x.shape[2:]), x.dtype), window))


def _sum_taps(x: Array, window: Window) -> Array:
    padded = window.padded(x)
    result = np.zeros((*x.shape[:2], *window.out), x.dtype)
    for row in range(window.size[0]):
        for column in range(window.size[1]):
            result += window.tap(padded, row, column)
    return result


def _pool(call: Call) -> tuple[Array, Window]:
    x = call.tensor("x")
    if x.ndim != 4 or call.flag("ceil_mode", False):
        raise Fault(f"a pool of {list(x.shape)}; only [N,C,H,W] without ceil_mode is run here")
    rows, columns = call.integers("kernel_sizes", count=2)
    window = read_window(call, (x.shape[2], x.shape[3]), (rows, columns), 2)
    shape = call.announce((*x.shape[:2], *window.out))
    affordable(prod(shape) * rows * columns)
    return x, window


def _reduce(function: Callable[..., Any]) -> Function:
    def run(call: Call) -> Array:
        x = call.tensor("x")
        axes = call.axes("axes", x.ndim)
        return np.asarray(function(x, axis=axes, keepdims=call.flag("keep_dims", False)))

    return run


# Shapes


def _concat(call: Call) -> Array:
    parts = call.tensors("values")
    axis = call.axis("axis", parts[0].ndim)
    if call.flag("interleave", False):
        raise Fault("a concat that interleaves, which is not run here")
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    call.announce(shape)
    return np.concatenate(parts, axis)


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
        return np.pad(x, pairs, constant_values=call.number("constant_val", 0.0))
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
    begin, end = (call.integers(name, count=x.ndim) for name in ("begin", "end"))
    stride = call.integers("stride", [1] * x.ndim, x.ndim)
    from_start, to_end, squeeze = (
        call.flags(name, x.ndim) for name in ("begin_mask", "end_mask", "squeeze_mask")
    )
    picks: list[int | slice] = []
    for axis in range(x.ndim):
        if squeeze[axis]:
            picks.append(begin[axis])
            continue
        first = None if from_start[axis] else begin[axis]
        picks.append(slice(first, None if to_end[axis] else end[axis], stride[axis]))
    return np.asarray(x[tuple(picks)])


def _slice_by_size(call: Call) -> Array:
    """From ``begin``, ``size`` elements per axis; -1 takes all that follow."""
    x = call.tensor("x")
    begin, size = call.integers("begin", count=x.ndim), call.integers("size", count=x.ndim)
    ends = [b + s if s >= 0 else n for b, s, n in zip(begin, size, x.shape, strict=True)]
    if any(not 0 <= b <= e <= n for b, e, n in zip(begin, ends, x.shape, strict=True)):
        raise Fault(f"a slice from {begin} of {size} out of {list(x.shape)}")
    return x[tuple(slice(b, e) for b, e in zip(begin, ends, strict=True))]


OPERATORS: dict[str, Function] = {
    "abs": _unary(np.abs),
    "add": _binary(np.add),
    "avg_pool": _avg_pool,
    "batch_norm": _batch_norm,
    "cast": _cast,
    "clip": _clip,
    "concat": _concat,
    "conv": conv,
    "dequantize": _dequantize,
    "elu": _elu,
    "exp": _unary(np.exp),
    "expand_dims": _expand_dims,
    "identity": _unary(np.copy),
    "leaky_relu": _leaky_relu,
    "linear": _linear,
    "matmul": _matmul,
    "max_pool": _max_pool,
    "maximum": _binary(np.maximum),
    "minimum": _binary(np.minimum),
    "mul": _binary(np.multiply),
    "pad": _pad,
    "pow": _binary(np.power),
    "prelu": _prelu,
    "quantize": _quantize,
    "real_div": _binary(np.true_divide),
    "reduce_max": _reduce(np.max),
    "reduce_mean": _reduce(np.mean),
    "reduce_min": _reduce(np.min),
    "reduce_sum": _reduce(np.sum),
    "relu": _unary(lambda x: np.maximum(x, 0)),
    "relu6": _unary(lambda x: np.clip(x, 0, 6)),
    "reshape": _reshape,
    "resize_bilinear": resize.resize_bilinear,
    "resize_nearest_neighbor": resize.resize_nearest_neighbor,
    "sigmoid": _unary(_sigmoid),
    "sigmoid_hard": _sigmoid_hard,
    "silu": _unary(lambda x: x * _sigmoid(x)),
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "softmax": _softmax,
    "split": _split,
    "sqrt": _unary(np.sqrt),
    "square": _unary(np.square),
    "squeeze": _squeeze,
    "sub": _binary(np.subtract),
    "tanh": _unary(np.tanh),
    "thresholded_relu": _thresholded_relu,
    "transpose": _transpose,
    "upsample_bilinear": resize.upsample_bilinear,
    "upsample_nearest_neighbor": resize.upsample_nearest_neighbor,
}
