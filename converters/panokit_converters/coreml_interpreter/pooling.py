"""Pools: what a window sees, reduced to one number."""

from __future__ import annotations

from math import prod

import numpy as np

from panokit_converters.coreml_interpreter.call import Call, Function
from panokit_converters.coreml_interpreter.convolution import Window, read_window
from panokit_converters.coreml_interpreter.values import Array, NotRun, affordable

__all__ = ["POOLS"]


def _max_pool(call: Call) -> Array:
    x, window = _pool(call)
    padded = window.padded(x, -np.inf)
    result = np.full((*x.shape[:2], *window.out), -np.inf, x.dtype)
    for row in range(window.size[0]):
        for column in range(window.size[1]):
            np.maximum(result, window.tap(padded, row, column), out=result)
    return _as_given(call, result)


def _avg_pool(call: Call) -> Array:
    x, window = _pool(call)
    total = _sum_taps(x, window)
    if not call.flag("exclude_padding_from_average", False):
        ones = np.ones((1, 1, *_seen(window, x)), x.dtype)
        return _as_given(call, np.asarray(total / _sum_taps(ones, _without_padding(window))))
    return _as_given(call, total / _sum_taps(np.ones((1, 1, *x.shape[2:]), x.dtype), window))


def _l2_pool(call: Call) -> Array:
    """The root of the sum of squares."""
    x, window = _pool(call)
    return _as_given(call, np.sqrt(_sum_taps(np.square(x), window)))


def _sum_taps(x: Array, window: Window) -> Array:
    padded = window.padded(x)
    result = np.zeros((*x.shape[:2], *window.out), x.dtype)
    for row in range(window.size[0]):
        for column in range(window.size[1]):
            result += window.tap(padded, row, column)
    return result


def _seen(window: Window, x: Array) -> tuple[int, int]:
    """Rows and columns of the image with the padding that counts: not what ceil_mode adds."""
    top, bottom, left, right = window.pad
    return x.shape[2] + top + bottom - window.more[0], x.shape[3] + left + right - window.more[1]


def _without_padding(window: Window) -> Window:
    """The same places over the image with its padding."""
    return Window(
        window.size, window.step, window.spread, (0, window.more[0], 0, window.more[1]), window.out
    )


def _as_given(call: Call, result: Array) -> Array:
    """Back to the axes of the operand: one axis was a single row, three were columns of rows."""
    return result if call.tensor("x").ndim == 4 else result[:, :, 0]


def _pool(call: Call) -> tuple[Array, Window]:
    x = call.tensor("x")
    rank = x.ndim - 2
    if rank not in (1, 2):
        raise NotRun(f"a pool of {list(x.shape)}; only [N,C,H,W] and [N,C,W] are run here")
    sizes = call.integers("kernel_sizes", count=rank)
    if rank == 1:
        x = x[:, :, None, :]
    rows, columns = (1, *sizes) if rank == 1 else sizes
    ceil = call.flag("ceil_mode", False)
    window = read_window(call, (x.shape[2], x.shape[3]), (rows, columns), rank, ceil=ceil)
    out = (*x.shape[:2], *window.out)
    call.announce(out if rank == 2 else (*x.shape[:2], window.out[1]))
    affordable(prod(out) * rows * columns)
    return x, window


POOLS: dict[str, Function] = {"avg_pool": _avg_pool, "l2_pool": _l2_pool, "max_pool": _max_pool}
