"""Convolutions in NumPy: a matrix product where it can be one, and the padding rules of MIL."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from panokit_converters.coreml_interpreter.call import Call
from panokit_converters.coreml_interpreter.values import Array, Fault, affordable, bounded

__all__ = ["Window", "conv", "read_window"]

MAX_TAPS = 1 << 12  # cells of a kernel, some of which are looped over
CHUNK = 1 << 22  # numbers in one slab of columns: 16 MB


@dataclass(frozen=True)
class Window:
    """How a kernel of ``size`` (rows, columns) moves over a padded image.

    ``pad`` is (top, bottom, left, right), ``out`` the size of the result (rows, columns).
    """

    size: tuple[int, int]
    step: tuple[int, int]
    spread: tuple[int, int]
    pad: tuple[int, int, int, int]
    out: tuple[int, int]

    def padded(self, image: Array, value: float = 0.0) -> Array:
        """``[N,C,H,W]`` with its border of ``value``."""
        top, bottom, left, right = self.pad
        n, c, h, w = image.shape
        if not any(self.pad):
            return image
        result = np.full(bounded((n, c, h + top + bottom, w + left + right)), value, image.dtype)
        result[:, :, top : top + h, left : left + w] = image
        return result

    def tap(self, padded: Array, row: int, column: int) -> Array:
        """What the kernel's cell (row, column) sees: a view ``[N,C,*out]``."""
        top, left = row * self.spread[0], column * self.spread[1]
        (rows, columns), (down, right) = self.out, self.step
        return padded[
            :, :, top : top + (rows - 1) * down + 1 : down,
            left : left + (columns - 1) * right + 1 : right,
        ]  # fmt: skip


def read_window(call: Call, image: tuple[int, int], size: tuple[int, int], rank: int) -> Window:
    """The window of a conv or pool over ``image`` (rows, columns); ``rank`` spatial axes.

    With one axis the image is a single row: its numbers are those of the columns.
    """
    ones = [1] * rank
    step = call.integers("strides", ones, rank)
    spread = call.integers("dilations", ones, rank)
    custom = call.integers("pad", [0] * 2 * rank, 2 * rank)
    if min(*step, *spread, *size) < 1 or min(custom) < 0:
        raise Fault(f"strides {step}, dilations {spread}, pad {custom}, kernel {list(size)}")
    if size[0] * size[1] > MAX_TAPS:
        raise Fault(f"a kernel {list(size)} of more than {MAX_TAPS} cells, the limit")
    if rank == 1:
        step, spread, custom = [1, *step], [1, *spread], [0, 0, *custom]
    kind = call.text("pad_type", "valid")
    pad: list[int] = []
    for axis in range(2):
        reach = (size[axis] - 1) * spread[axis] + 1
        if kind == "custom":
            pad += custom[2 * axis : 2 * axis + 2]
        elif kind == "valid":
            pad += [0, 0]
        elif kind in ("same", "same_lower"):
            # As much as gives ceil(image / step) results; the odd cell goes behind, or before.
            cells = -(-image[axis] // step[axis])
            total = max(0, (cells - 1) * step[axis] + reach - image[axis])
            small, large = total // 2, total - total // 2
            pad += [small, large] if kind == "same" else [large, small]
        else:
            raise Fault(f"the pad_type {kind!r} instead of valid, custom, same or same_lower")
    out = [
        (image[axis] + pad[2 * axis] + pad[2 * axis + 1] - (size[axis] - 1) * spread[axis] - 1)
        // step[axis] + 1
        for axis in range(2)
    ]  # fmt: skip
    if min(out) < 1:
        raise Fault(f"the kernel {list(size)} does not fit the image {list(image)}")
    return Window(
        (size[0], size[1]),
        (step[0], step[1]),
        (spread[0], spread[1]),
        (pad[0], pad[1], pad[2], pad[3]),
        (out[0], out[1]),
    )


def conv(call: Call) -> Array:
    """``x`` ``[N,I,H,W]`` or ``[N,I,W]`` with ``weight`` ``[O,I/groups,kh,kw]`` or ``[O,…,kw]``."""
    image, weight = call.tensor("x"), call.tensor("weight")
    rank = image.ndim - 2
    if rank not in (1, 2) or weight.ndim != image.ndim:
        raise Fault(f"a convolution of {list(image.shape)} with {list(weight.shape)}")
    if rank == 1:
        image, weight = image[:, :, None, :], weight[:, :, None, :]
    groups, (n, channels, h, w) = call.integer("groups", 1), image.shape
    filters, depth, kh, kw = weight.shape
    if groups < 1 or channels != depth * groups or filters % groups:
        raise Fault(f"{groups} groups of {channels} channels for filters {list(weight.shape)}")
    window = read_window(call, (h, w), (kh, kw), rank)
    shape = (n, filters, *window.out)
    call.announce(shape if rank == 2 else (n, filters, window.out[1]))
    bounded(shape)
    affordable(n * window.out[0] * window.out[1] * weight.size)
    padded = window.padded(image)
    if (kh, kw) == (1, 1):
        result = _pointwise(window.tap(padded, 0, 0), weight, groups)
    elif depth == 1 and filters == groups:
        result = _depthwise(padded, weight, window)
    else:
        result = _general(padded, weight, window, groups)
    if call.has("bias"):
        bias = call.tensor("bias")
        if bias.shape != (filters,):
            raise Fault(f"a bias of the shape {list(bias.shape)} for {filters} filters")
        result += bias[:, None, None]
    return result if rank == 2 else result[:, :, 0]


def _pointwise(seen: Array, weight: Array, groups: int) -> Array:
    n, channels, rows, columns = seen.shape
    matrix = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1])
    pixels = seen.reshape(n, groups, channels // groups, rows * columns)
    return np.asarray(np.matmul(matrix, pixels)).reshape(n, weight.shape[0], rows, columns)


def _depthwise(padded: Array, weight: Array, window: Window) -> Array:
    """Each tap adds its shifted image: no copy of the windows."""
    result = np.zeros((padded.shape[0], weight.shape[0], *window.out), padded.dtype)
    product = np.empty_like(result)
    for row in range(window.size[0]):
        for column in range(window.size[1]):
            factors = weight[:, 0, row, column, None, None]
            np.multiply(window.tap(padded, row, column), factors, out=product)
            result += product
    return result


def _general(padded: Array, weight: Array, window: Window, groups: int) -> Array:
    """Windows as columns of a matrix (im2col), some rows of the result at a time."""
    filters, depth, kh, kw = weight.shape
    n, (rows, columns) = padded.shape[0], window.out
    reach = [(k - 1) * d + 1 for k, d in zip((kh, kw), window.spread, strict=True)]
    seen = sliding_window_view(padded, reach, axis=(2, 3))  # [N,C,·,·,reach,reach]
    seen = seen[:, :, :: window.step[0], :: window.step[1]]
    seen = seen[:, :, :rows, :columns, :: window.spread[0], :: window.spread[1]]
    matrix = weight.reshape(groups, filters // groups, depth * kh * kw)
    result = np.empty((n, filters, rows, columns), padded.dtype)
    slab = max(1, CHUNK // (padded.shape[1] * kh * kw * columns))
    for image in range(n):
        for top in range(0, rows, slab):
            part = seen[image, :, top : top + slab]  # [C,r,columns,kh,kw]
            count = part.shape[1]
            bounded((padded.shape[1] * kh * kw, count * columns))
            table = part.transpose(0, 3, 4, 1, 2).reshape(groups, depth * kh * kw, -1)
            product = np.matmul(matrix, table)
            result[image, :, top : top + count] = product.reshape(filters, count, columns)
    return result
