"""Norms, reductions, and products of matrices."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from panokit_converters.coreml_interpreter.call import Call, Function
from panokit_converters.coreml_interpreter.constexpr import along
from panokit_converters.coreml_interpreter.values import Array, Fault, affordable

__all__ = ["STATISTICS"]


# Norms


def _batch_norm(call: Call) -> Array:
    x = call.tensor("x")
    mean, variance = (along(call.tensor(name), 1, x) for name in ("mean", "variance"))
    result = (x - mean) / np.sqrt(variance + call.number("epsilon", 1e-5))
    return _scaled(call, np.asarray(result), lambda part: along(part, 1, x))


def _instance_norm(call: Call) -> Array:
    """Over all axes behind the channels."""
    x = call.tensor("x")
    if x.ndim < 3:
        raise Fault(f"an instance norm of {list(x.shape)}")
    result = _normed(x, tuple(range(2, x.ndim)), call.number("epsilon", 1e-5))
    return _scaled(call, result, lambda part: along(part, 1, x))


def _layer_norm(call: Call) -> Array:
    """Over ``axes``; gain and shift have the shape of those."""
    x = call.tensor("x")
    axes = tuple(sorted(call.axes("axes", x.ndim)))
    result = _normed(x, axes, call.number("epsilon", 1e-5))
    shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    return _scaled(call, result, lambda part: part.reshape(shape))


def _normed(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    mean = x.mean(axis=axes, keepdims=True)
    variance = np.square(x - mean).mean(axis=axes, keepdims=True)
    return np.asarray((x - mean) / np.sqrt(variance + x.dtype.type(epsilon)))


def _scaled(call: Call, x: Array, fit: Callable[[Array], Array]) -> Array:
    if call.has("gamma"):
        x = x * fit(call.tensor("gamma"))
    return x + fit(call.tensor("beta")) if call.has("beta") else x


def _l2_norm(call: Call) -> Array:
    """Divided by the length over the last three axes."""
    x = call.tensor("x")
    if x.ndim < 3:
        raise Fault(f"an l2_norm of {list(x.shape)}")
    squares = np.square(x).sum(axis=(-3, -2, -1), keepdims=True)
    return np.asarray(x / np.sqrt(squares + x.dtype.type(call.number("epsilon", 1e-6))))


def _local_response_norm(call: Call) -> Array:
    """Over ``size`` channels around each."""
    x, size = call.tensor("x"), call.integer("size")
    if x.ndim < 3 or not 1 <= size <= 1 << 12:
        raise Fault(f"a local_response_norm of {list(x.shape)} over {size} channels")
    squares = np.square(x)
    total = np.zeros_like(x)
    for step in range(-((size - 1) // 2), size // 2 + 1):
        low, high = max(0, -step), min(x.shape[1], x.shape[1] - step)
        total[:, low:high] += squares[:, low + step : high + step]
    alpha, beta = call.number("alpha", 1e-4), call.number("beta", 0.75)
    base = call.number("k", 1.0) + alpha / size * total
    return np.asarray(x / base ** np.float32(beta))


# Reductions


def _reduce(function: Callable[..., Any]) -> Function:
    def run(call: Call) -> Array:
        x = call.tensor("x")
        axes = call.axes("axes", x.ndim)
        return np.asarray(function(x, axis=axes, keepdims=call.flag("keep_dims", False)))

    return run


def _log_sum_exp(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    top = x.max(axis=axis, keepdims=True)
    total = np.log(np.exp(x - top).sum(axis=axis, keepdims=True)) + top
    return np.asarray(total if keepdims else np.squeeze(total, axis))


def _arg(function: Callable[..., Any]) -> Function:
    def run(call: Call) -> Array:
        x = call.tensor("x")
        axis = call.axis("axis", x.ndim, -1)
        found = function(x, axis=axis, keepdims=call.flag("keep_dims", False))
        return np.asarray(found).astype(call.results[0].dtype)

    return run


# Products


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
    return _product(call, x, y)


def _product(call: Call, x: Array, y: Array) -> Array:
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    shape = call.announce((*batch, x.shape[-2], y.shape[-1]))
    affordable(prod(shape) * x.shape[-1])
    return np.asarray(np.matmul(x, y))


def _einsum(call: Call) -> Array:
    """Of two tensors, by letters."""
    x, y = call.tensors("values")
    equation = call.text("equation").replace(" ", "")
    terms, _, result = equation.partition("->")
    left, _, right = terms.partition(",")
    letters = (*left, *right, *result)
    if not all(map(str.isalpha, letters)) or (len(left), len(right)) != (x.ndim, y.ndim):
        raise Fault(f"the equation {equation[:80]!r} for {list(x.shape)} and {list(y.shape)}")
    sizes = dict(zip(left + right, (*x.shape, *y.shape), strict=True))
    call.announce([sizes[letter] for letter in result])
    affordable(prod(sizes.values()))
    return np.asarray(np.einsum(equation, x, y, optimize=True))


def _attention(call: Call) -> Array:
    """softmax(q·kᵀ/√d + mask)·v; a mask of truth values says who takes part."""
    q, k, v = (call.tensor(name) for name in ("query", "key", "value"))
    if min(q.ndim, k.ndim, v.ndim) < 3:
        raise Fault(f"attention of {list(q.shape)}, {list(k.shape)} and {list(v.shape)}")
    call.announce((*np.broadcast_shapes(q.shape[:-2], v.shape[:-2]), q.shape[-2], v.shape[-1]))
    affordable(prod(q.shape) * k.shape[-2] * 2)
    scores = np.matmul(q, k.swapaxes(-1, -2)) / np.float32(np.sqrt(q.shape[-1]))
    if call.has("attn_mask"):
        mask = call.tensor("attn_mask")
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(np.matmul(powers / powers.sum(axis=-1, keepdims=True), v))


STATISTICS: dict[str, Function] = {
    "batch_norm": _batch_norm,
    "einsum": _einsum,
    "instance_norm": _instance_norm,
    "l2_norm": _l2_norm,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "local_response_norm": _local_response_norm,
    "matmul": _matmul,
    "reduce_argmax": _arg(np.argmax),
    "reduce_argmin": _arg(np.argmin),
    "reduce_l1_norm": _reduce(lambda x, **at: np.abs(x).sum(**at)),
    "reduce_l2_norm": _reduce(lambda x, **at: np.sqrt(np.square(x).sum(**at))),
    "reduce_log_sum": _reduce(lambda x, **at: np.log(x.sum(**at))),
    "reduce_log_sum_exp": _reduce(_log_sum_exp),
    "reduce_max": _reduce(np.max),
    "reduce_mean": _reduce(np.mean),
    "reduce_min": _reduce(np.min),
    "reduce_prod": _reduce(np.prod),
    "reduce_sum": _reduce(np.sum),
    "reduce_sum_square": _reduce(lambda x, **at: np.square(x).sum(**at)),
    "scaled_dot_product_attention": _attention,
}
