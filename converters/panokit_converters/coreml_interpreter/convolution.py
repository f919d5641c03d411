"""Convolutions in NumPy: a matrix product where it can be one, and the padding rules of MIL."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from panokit_converters.coreml_interpreter.call import Call, Function
from panokit_converters.coreml_interpreter.values import Array, Fault, affordable, bounded

__all__ = ["CONVOLUTIONS", "Window", "read_window"]

MAX_TAPS = 1 << 12  # cells of a kernel, some of which are looped over
CHUNK = 1 << 22  # numbers in one slab of columns: 16 MB


@dataclass(frozen=True)
class Window:
    """How a kernel of ``size`` (rows, columns) moves over a padded image.

    ``pad`` is (top, bottom, left, right), ``out`` the size of the result (rows, columns). ``more``
    of the padding below and at the right is there only because sizes are rounded up.
    """

    size: tuple[int, int]
    step: tuple[int, int]
    spread: tuple[int, int]
    pad: tuple[int, int, int, int]
    out: tuple[int, int]
    more: tuple[int, int] = (0, 0)

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


def read_window(
    call: Call, image: tuple[int, int], size: tuple[int, int], rank: int, *, ceil: bool = False
) -> Window:
    """The window of a conv or pool over ``image`` (rows, columns); ``rank`` spatial axes.

    With one axis the image is a single row: its numbers are those of the columns. With ``ceil`` a
    last window that begins inside counts though it reaches beyond.
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
    pads = [
        _pads(kind, custom[2 * axis : 2 * axis + 2], image[axis], step[axis],
              (size[axis] - 1) * spread[axis] + 1)
        for axis in range(2)
    ]  # fmt: skip
    out, more = [], []
    for axis in range(2):
        reach = (size[axis] - 1) * spread[axis] + 1
        room = image[axis] + sum(pads[axis]) - reach
        count = room // step[axis] + 1
        if ceil and room % step[axis] and count * step[axis] < image[axis] + pads[axis][0]:
            count += 1
        out.append(count)
        more.append(max(0, (count - 1) * step[axis] + reach - image[axis] - sum(pads[axis])))
    if min(out) < 1:
        raise Fault(f"the kernel {list(size)} does not fit the image {list(image)}")
    (top, bottom), (left, right) = pads
    return Window(
        (size[0], size[1]),
        (step[0], step[1]),
        (spread[0], spread[1]),
        (top, bottom + more[0], left, right + more[1]),
        (out[0], out[1]),
        (more[0], more[1]),
    )


def _pads(kind: str, custom: list[int], size: int, step: int, reach: int) -> tuple[int, int]:
    """Before and behind, on one axis."""
    if kind == "custom":
        return custom[0], custom[1]
    if kind == "valid":
        return 0, 0
    if kind not in ("same", "same_lower"):
        raise Fault(f"the pad_type {kind!r} instead of valid, custom, same or same_lower")
    # As much as gives ceil(size / step) results; the odd cell goes behind, or before.
    total = max(0, (-(-size // step) - 1) * step + reach - size)
    small, large = total // 2, total - total // 2
    return (small, large) if kind == "same" else (large, small)


def _conv(call: Call) -> Array:
    """``x`` ``[N,I,H,W]`` or ``[N,I,W]`` with ``weight`` ``[O,I/groups,kh,kw]`` or ``[O,…,kw]``;
    ``[N,I,D,H,W]`` too."""
    image, weight = call.tensor("x"), call.tensor("weight")
    rank = image.ndim - 2
    if rank not in (1, 2, 3) or weight.ndim != image.ndim:
        raise Fault(f"a convolution of {list(image.shape)} with {list(weight.shape)}")
    if rank == 3:
        return _with_bias(call, _volume(call, image, weight))
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
    return _with_bias(call, result if rank == 2 else result[:, :, 0])


def _with_bias(call: Call, result: Array) -> Array:
    if not call.has("bias"):
        return result
    bias, filters = call.tensor("bias"), result.shape[1]
    if bias.shape != (filters,):
        raise Fault(f"a bias of the shape {list(bias.shape)} for {filters} filters")
    return np.asarray(result + bias.reshape(-1, *[1] * (result.ndim - 2)))


def _volume(call: Call, image: Array, weight: Array) -> Array:
    """Three spatial axes: each tap of the kernel adds its shifted volume."""
    groups, steps = call.integer("groups", 1), call.integers("strides", [1] * 3, 3)
    spread, pads = call.integers("dilations", [1] * 3, 3), call.integers("pad", [0] * 6, 6)
    sizes, kernel = image.shape[2:], weight.shape[2:]
    if groups < 1 or image.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        raise Fault(f"{groups} groups of {list(image.shape)} for filters {list(weight.shape)}")
    if min(*steps, *spread, *kernel) < 1 or min(pads) < 0 or np.prod(kernel) > MAX_TAPS:
        raise Fault(f"strides {steps}, dilations {spread}, pad {pads}, kernel {list(kernel)}")
    kind = call.text("pad_type", "valid")
    pairs = [_pads(kind, pads[2 * a : 2 * a + 2], sizes[a], steps[a],
                   (kernel[a] - 1) * spread[a] + 1) for a in range(3)]  # fmt: skip
    out = [(sizes[a] + sum(pairs[a]) - (kernel[a] - 1) * spread[a] - 1) // steps[a] + 1
           for a in range(3)]  # fmt: skip
    if min(out) < 1:
        raise Fault(f"the kernel {list(kernel)} does not fit the volume {list(sizes)}")
    n, filters = image.shape[0], weight.shape[0]
    call.announce((n, filters, *out))
    affordable(n * int(np.prod(out)) * weight.size)
    bounded((*image.shape[:2], *(s + sum(p) for s, p in zip(sizes, pairs, strict=True))))
    padded = np.pad(image, [(0, 0), (0, 0), *pairs])
    result = np.zeros((n, filters, *out), image.dtype)
    for tap in np.ndindex(*kernel):
        picks = [slice(t * d, t * d + (o - 1) * s + 1, s)
                 for t, d, o, s in zip(tap, spread, out, steps, strict=True)]  # fmt: skip
        seen = padded[(slice(None), slice(None), *picks)].reshape(n, image.shape[1], -1, 1)
        factors = weight[(slice(None), slice(None), *tap)][:, :, None, None]
        result += _pointwise(seen, factors, groups).reshape(result.shape)
    return result


def _conv_transpose(call: Call) -> Array:
    """``x`` ``[N,I,H,W]`` or ``[N,I,W]`` with ``weight`` ``[I,O/groups,kh,kw]`` or ``[I,…,kw]``:
    every pixel adds the kernel to what lies around its place; the padding is cut off."""
    image, weight = call.tensor("x"), call.tensor("weight")
    rank = image.ndim - 2
    if rank not in (1, 2) or weight.ndim != image.ndim:
        raise Fault(f"a transposed convolution of {list(image.shape)} with {list(weight.shape)}")
    step, spread = (call.integers(name, [1] * rank, rank) for name in ("strides", "dilations"))
    pad = call.integers("pad", [0] * 2 * rank, 2 * rank)
    if rank == 1:
        image, weight = image[:, :, None, :], weight[:, :, None, :]
        step, spread, pad = [1, *step], [1, *spread], [0, 0, *pad]
    groups, (n, channels, *sizes) = call.integer("groups", 1), image.shape
    inputs, depth, *kernel = weight.shape
    if groups < 1 or channels != inputs or channels % groups or min(*step, *spread) < 1:
        raise Fault(f"{groups} groups of {channels} channels for filters {list(weight.shape)}")
    if kernel[0] * kernel[1] > MAX_TAPS or min(*kernel, *sizes) < 1 or min(pad) < 0:
        raise Fault(f"a kernel {kernel} with the padding {pad} on an image {sizes}")
    full = [(s - 1) * t + (k - 1) * d + 1
            for s, t, k, d in zip(sizes, step, kernel, spread, strict=True)]  # fmt: skip
    begin, out = _cut(call, full, pad, sizes, step, rank)
    shape = (n, depth * groups, *out)
    call.announce(shape if rank == 2 else (*shape[:2], out[1]))
    affordable(n * sizes[0] * sizes[1] * weight.size)
    room = [max(f, b + o) for f, b, o in zip(full, begin, out, strict=True)]
    canvas = np.zeros(bounded((n, depth * groups, *room)), image.dtype)
    matrix = weight.reshape(groups, channels // groups, depth, *kernel).transpose(0, 2, 1, 3, 4)
    matrix = matrix.reshape(groups * depth, channels // groups, *kernel)
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            top, left = row * spread[0], column * spread[1]
            canvas[
                :, :, top : top + (sizes[0] - 1) * step[0] + 1 : step[0],
                left : left + (sizes[1] - 1) * step[1] + 1 : step[1],
            ] += _pointwise(image, matrix[:, :, row, column, None, None], groups)  # fmt: skip
    result = canvas[:, :, begin[0] : begin[0] + out[0], begin[1] : begin[1] + out[1]]
    return _with_bias(call, result if rank == 2 else result[:, :, 0])


def _cut(
    call: Call, full: list[int], pad: list[int], sizes: list[int], step: list[int], rank: int
) -> tuple[list[int], list[int]]:
    """Where in the full result the wanted one begins, and its size (rows, columns)."""
    kind = call.text("pad_type", "valid")
    if kind == "valid":
        begin, out = [0, 0], full
    elif kind == "custom":
        begin = [pad[0], pad[2]]
        out = [full[0] - pad[0] - pad[1], full[1] - pad[2] - pad[3]]
    elif kind in ("same", "same_lower"):
        out = [size * by for size, by in zip(sizes, step, strict=True)]
        over = [max(0, f - o) for f, o in zip(full, out, strict=True)]
        begin = [o // 2 if kind == "same" else o - o // 2 for o in over]
    else:
        raise Fault(f"the pad_type {kind!r} instead of valid, custom, same or same_lower")
    if call.has("output_shape"):
        asked = call.integers("output_shape", count=rank + 2)[2:]
        out = [1, *asked] if rank == 1 else asked
    if min(out) < 1:
        raise Fault(f"a result of {out} rows and columns")
    return begin, list(out)


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


CONVOLUTIONS: dict[str, Function] = {"conv": _conv, "conv_transpose": _conv_transpose}
