"""Operators that no converter, or not every one, has a form of, as operators that all have.

One function per operator, with its arguments; what it returns is equal up to rounding. A function
is used where an operator occurs that the converter does not take as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["REWRITES", "Rewrite"]

Rewrite = Callable[..., Any]
REWRITES: dict[str, Rewrite] = {}
"""By the operator's name, ``aten.NAME.OVERLOAD``."""


Function = TypeVar("Function", bound=Rewrite)


def _rewrites(*names: str) -> Callable[[Function], Function]:
    def put(function: Function) -> Function:
        REWRITES.update(dict.fromkeys((f"aten.{name}" for name in names), function))
        return function

    return put


# Resizes and pools: each result is a fixed mixture of rows, then of columns


def _along(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``rows`` ``[h',h]`` and ``columns`` ``[w',w]`` mix the last two axes of ``x``."""
    y = torch.matmul(x, columns.t().contiguous())
    return torch.matmul(y.transpose(-1, -2), rows.t().contiguous()).transpose(-1, -2)


def _weights(old: int, new: int, mix: Callable[[Tensor], Tensor]) -> Tensor:
    """``[new,old]``: what ``mix`` makes of each position alone, ``[1,old,old,2]`` to ``new`` rows
    (of one column torch's antialiasing takes the rows for it)."""
    basis = torch.eye(old).view(1, old, old, 1).repeat(1, 1, 1, 2)
    return mix(basis)[0, :, :, 0].t().contiguous()


def _target(x: Tensor, size: Sequence[int] | None, factors: Sequence[float] | None) -> list[int]:
    if size is not None:
        return [int(s) for s in size]
    return [int(old * f) for old, f in zip(x.shape[2:], factors or (), strict=True)]


def _resized(x: Tensor, target: Sequence[int], resize: Callable[..., Tensor]) -> Tensor:
    """Separable resizes: what one does to rows and to columns is found by resizing a basis."""
    matrices = []
    for axis, (old, new) in enumerate(zip(x.shape[2:], target, strict=True)):
        matrices.append(_weights(old, new, lambda b, new=new, axis=axis: resize(b, new, axis)))  # type: ignore[misc]
    return _along(x, matrices[0], matrices[1])


def _interpolated(
    x: Tensor,
    size: Sequence[int] | None,
    factors: Sequence[float] | None,
    mode: str,
    corners: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    options: dict[str, Any] = {"mode": mode, "antialias": antialias}
    if corners is not None:
        options["align_corners"] = corners

    def resize(basis: Tensor, new: int, axis: int) -> Tensor:
        # With factors, their own spacing counts, not that of the sizes.
        if size is None and factors is not None:
            return F.interpolate(basis, scale_factor=(float(factors[axis]), 1.0), **options)
        return F.interpolate(basis, size=(new, 2), **options)

    with torch.no_grad():
        return _resized(x, _target(x, size, factors), resize)


@_rewrites("upsample_bicubic2d.vec")
def _bicubic(
    x: Tensor, size: Sequence[int] | None, corners: bool, factors: Sequence[float] | None
) -> Tensor:
    return _interpolated(x, size, factors, "bicubic", corners)


@_rewrites("_upsample_bicubic2d_aa.vec")
def _bicubic_antialiased(
    x: Tensor, size: Sequence[int] | None, corners: bool, factors: Sequence[float] | None
) -> Tensor:
    return _interpolated(x, size, factors, "bicubic", corners, antialias=True)


@_rewrites("_upsample_bilinear2d_aa.vec")
def _bilinear_antialiased(
    x: Tensor, size: Sequence[int] | None, corners: bool, factors: Sequence[float] | None
) -> Tensor:
    return _interpolated(x, size, factors, "bilinear", corners, antialias=True)


@_rewrites("upsample_bilinear2d.vec")
def _bilinear(
    x: Tensor, size: Sequence[int] | None, corners: bool, factors: Sequence[float] | None
) -> Tensor:
    return _interpolated(x, size, factors, "bilinear", corners)


@_rewrites("_upsample_nearest_exact2d.vec")
def _nearest_exact(
    x: Tensor, size: Sequence[int] | None, factors: Sequence[float] | None
) -> Tensor:
    return _picked(x, size, factors, "nearest-exact")


@_rewrites("upsample_nearest2d.vec")
def _nearest(x: Tensor, size: Sequence[int] | None, factors: Sequence[float] | None) -> Tensor:
    return _picked(x, size, factors, "nearest")


def _picked(
    x: Tensor, size: Sequence[int] | None, factors: Sequence[float] | None, mode: str
) -> Tensor:
    """Rows and columns by their positions, which a resize of the positions tells. What runtimes
    compute from a factor is another neighbour where the place is a whole number but for rounding.
    """
    for axis, (old, new) in enumerate(zip(x.shape[2:], _target(x, size, factors), strict=True)):
        if old == new:
            continue
        places = torch.arange(int(old), dtype=torch.float32).view(1, 1, int(old), 1)
        if size is None and factors is not None:
            places = F.interpolate(places, scale_factor=(float(factors[axis]), 1.0), mode=mode)
        else:
            places = F.interpolate(places, size=(int(new), 1), mode=mode)
        x = x.index_select(axis + 2, places.view(-1).long())
    return x


@_rewrites("adaptive_avg_pool2d.default", "_adaptive_avg_pool2d.default")
def _adaptive_average(x: Tensor, size: Sequence[int]) -> Tensor:
    batched = x if x.ndim == 4 else x.unsqueeze(0)

    def pool(basis: Tensor, new: int, axis: int) -> Tensor:
        return F.adaptive_avg_pool2d(basis, (new, 2))

    y = _resized(batched, list(size), pool)
    return y if x.ndim == 4 else y.squeeze(0)


@_rewrites("adaptive_max_pool2d.default")
def _adaptive_maximum(x: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The maximum of every window; indices, which are hardly ever asked for, are not computed."""
    for axis, new in zip((-2, -1), size, strict=True):
        old = x.shape[axis]
        windows = [(i * old // new, -(-(i + 1) * old // new)) for i in range(new)]
        parts = [x.narrow(axis, a, b - a).amax(axis, keepdim=True) for a, b in windows]
        x = parts[0] if new == 1 else torch.cat(parts, axis)
    return x, torch.zeros_like(x, dtype=torch.int64)


@_rewrites("max_pool2d.default")
def _maximum(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil: bool = False,
) -> Tensor:
    """Rows first, then columns: the maximum of shifted slices."""
    for axis in (0, 1):
        k, p, d = (_pair(v)[axis] for v in (kernel, padding, dilation))
        s = _pair(stride or kernel)[axis]
        old, reach = int(x.shape[axis - 2]), (k - 1) * d + 1
        count = _positions(old + 2 * p - reach, s, ceil, old + p)
        behind = max(0, (count - 1) * s + reach - old - p)
        pad = (0, 0, p, behind) if axis == 0 else (p, behind, 0, 0)
        padded = F.pad(x, pad, value=-3e38) if p or behind else x
        last = (count - 1) * s + 1
        taps = [_slice(padded, axis - 2, i * d, i * d + last, s) for i in range(k)]
        x = taps[0]
        for tap in taps[1:]:
            x = torch.maximum(x, tap)
    return x


@_rewrites("max_pool2d_with_indices.default")
def _maximum_and_place(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil: bool = False,
) -> tuple[Tensor, Tensor]:
    """Tap by tap, with the place of the largest so far; the first of equal ones counts."""
    (kh, kw), (sh, sw) = _pair(kernel), _pair(stride or kernel)
    (ph, pw), (dh, dw), (h, w) = _pair(padding), _pair(dilation), _pair(x.shape[-2:])
    rows = _positions(h + 2 * ph - (kh - 1) * dh - 1, sh, ceil, h + ph)
    columns = _positions(w + 2 * pw - (kw - 1) * dw - 1, sw, ceil, w + pw)
    below = max(0, (rows - 1) * sh + (kh - 1) * dh + 1 - h - ph)
    right = max(0, (columns - 1) * sw + (kw - 1) * dw + 1 - w - pw)
    x = F.pad(x, (pw, right, ph, below), value=-3e38)
    down = torch.arange(rows, dtype=torch.float32).view(-1, 1) * sh - ph
    along = torch.arange(columns, dtype=torch.float32) * sw - pw
    best = place = None
    for i in range(kh):
        for j in range(kw):
            tap = _slice(_slice(x, -2, i * dh, i * dh + (rows - 1) * sh + 1, sh),
                         -1, j * dw, j * dw + (columns - 1) * sw + 1, sw)  # fmt: skip
            here = (down + i * dh) * w + along + j * dw
            if best is None or place is None:
                best, place = tap, torch.zeros_like(tap) + here
                continue
            larger = (tap > best).to(x.dtype)
            place = place + larger * (here - place)
            best = torch.maximum(best, tap)
    assert best is not None
    assert place is not None
    return best, place.to(torch.int64)


def _positions(room: int, step: int, ceil: bool, end: int) -> int:
    """Of a window that moves by ``step``; the last one must begin before ``end``."""
    count = (-(-room // step) if ceil else room // step) + 1
    return count - 1 if ceil and (count - 1) * step >= end else count


def _pair(value: Any) -> tuple[int, int]:
    values = [value] if isinstance(value, int) else list(value)
    return int(values[0]), int(values[-1])


def _slice(x: Tensor, axis: int, begin: int, end: int, step: int = 1) -> Tensor:
    picks = [slice(None)] * x.ndim
    picks[axis] = slice(begin, end, step)
    return x[tuple(picks)]


@_rewrites("max_unpool2d.default")
def _unpool(x: Tensor, indices: Tensor, size: Sequence[int]) -> Tensor:
    """Of windows that do not overlap: every value goes where the index of its window says."""
    h, w = (int(old) for old in x.shape[2:])
    rows, columns = int(size[0]), int(size[1])
    down, right = rows // h, columns // w
    if down * h != rows or right * w != columns:
        raise NotImplementedError("max_unpool2d of windows that overlap")
    values = F.interpolate(x, scale_factor=(float(down), float(right)))
    wanted = F.interpolate(indices.float(), scale_factor=(float(down), float(right)))
    here = torch.arange(rows * columns, dtype=torch.float32).view(1, 1, rows, columns)
    # Whole numbers: a distance under a half is none.
    return values * (1 - (wanted - here).abs().clamp(max=1))


@_rewrites("avg_pool3d.default")
def _average_of_volumes(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0, 0),
    ceil: bool = False,
    count_padding: bool = True,
    divisor: int | None = None,
) -> Tensor:
    """Sums of shifted slices, an axis at a time."""
    if ceil or (any(padding) and not count_padding):
        raise NotImplementedError("avg_pool3d with ceil_mode or without its padding")
    count = 1
    for axis in range(3):
        k, p = int(kernel[axis]), int(padding[axis])
        s = int((stride or kernel)[axis])
        count *= k
        if k == 1 and s == 1 and p == 0:
            continue
        at = x.ndim - 3 + axis
        edge = list(x.shape)
        edge[at] = p
        padded = torch.cat([x.new_zeros(edge), x, x.new_zeros(edge)], at) if p else x
        last = (int(padded.shape[at]) - k) // s * s + 1
        x = sum(_slice(padded, at, i, i + last, s) for i in range(k))  # type: ignore[assignment]
    return x / (divisor or count)


# Windows


@_rewrites("im2col.default")
def _unfold(
    x: Tensor,
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Tensor:
    (kh, kw), (dh, dw), (sh, sw) = _pair(kernel), _pair(dilation), _pair(stride)
    ph, pw = _pair(padding)
    n, c = int(x.shape[0]), int(x.shape[1])
    x = F.pad(x, (pw, pw, ph, ph)) if ph or pw else x
    rows = (int(x.shape[2]) - (kh - 1) * dh - 1) // sh + 1
    columns = (int(x.shape[3]) - (kw - 1) * dw - 1) // sw + 1
    taps = [
        x[
            :, :, i * dh : i * dh + (rows - 1) * sh + 1 : sh,
            j * dw : j * dw + (columns - 1) * sw + 1 : sw,
        ].reshape(n, c, 1, rows * columns)
        for i in range(kh)
        for j in range(kw)
    ]  # fmt: skip
    return torch.cat(taps, 2).reshape(n, c * kh * kw, rows * columns)


@_rewrites("col2im.default")
def _fold(
    x: Tensor,
    size: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Tensor:
    (kh, kw), (dh, dw), (sh, sw) = _pair(kernel), _pair(dilation), _pair(stride)
    (ph, pw), (h, w) = _pair(padding), _pair(size)
    high, wide = h + 2 * ph, w + 2 * pw
    rows, columns = (high - (kh - 1) * dh - 1) // sh + 1, (wide - (kw - 1) * dw - 1) // sw + 1
    n, channels = int(x.shape[0]), int(x.shape[1]) // (kh * kw)
    taps = x.view(n, channels, kh * kw, rows, columns)
    total: Tensor | None = None
    for i in range(kh):
        for j in range(kw):
            tap = _spread(_spread(taps[:, :, i * kw + j], 2, sh), 3, sw)
            below, right = high - i * dh - tap.shape[2], wide - j * dw - tap.shape[3]
            tap = F.pad(tap, (j * dw, right, i * dh, below))
            total = tap if total is None else total + tap
    assert total is not None
    return total[:, :, ph : ph + h, pw : pw + w]


def _spread(x: Tensor, axis: int, step: int) -> Tensor:
    """Zeros between the positions of an axis, none behind the last."""
    if step == 1:
        return x
    apart = x.unsqueeze(axis + 1)
    shape = list(apart.shape)
    shape[axis + 1] = step - 1
    long = list(x.shape)
    long[axis] *= step
    joined = torch.cat([apart, x.new_zeros(shape)], axis + 1).reshape(long)
    return joined.narrow(axis, 0, long[axis] - step + 1)


@_rewrites("unfold.default")
def _windows(x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    axis = dimension % x.ndim
    count = (int(x.shape[axis]) - size) // step + 1
    taps = [_slice(x, axis, i, i + (count - 1) * step + 1, step) for i in range(size)]
    return torch.stack(taps, -1)


# Convolutions


@_rewrites("conv_transpose2d.input")
def _transposed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    output_padding: Sequence[int] = (0, 0),
    groups: int = 1,
    dilation: Sequence[int] = (1, 1),
) -> Tensor:
    """A plain convolution of the image with zeros between its pixels."""
    kernel = weight.flip((2, 3))
    i, o, kh, kw = (int(size) for size in weight.shape)
    kernel = kernel.reshape(groups, i // groups, o, kh, kw).transpose(1, 2)
    kernel = kernel.reshape(groups * o, i // groups, kh, kw)
    pads: list[int] = []
    for axis, k in ((1, kw), (0, kh)):  # the last axis comes first
        p, d = _pair(padding)[axis], _pair(dilation)[axis]
        before = d * (k - 1) - p
        pads += [before, before + _pair(output_padding)[axis]]
    apart = _spread(_spread(x, 2, _pair(stride)[0]), 3, _pair(stride)[1])
    apart = _padded(apart, pads)
    return F.conv2d(apart, kernel, bias, 1, 0, list(_pair(dilation)), groups)


def _padded(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """Padding whose negative amounts cut off."""
    for index, (before, behind) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        axis = x.ndim - 1 - index
        if before < 0 or behind < 0:
            begin, end = max(0, -before), int(x.shape[axis]) - max(0, -behind)
            x = _slice(x, axis, begin, end)
    amounts = [max(0, int(p)) for p in pads]
    return F.pad(x, amounts, value=value) if any(amounts) else x


@_rewrites("pad.default")
def _pad(
    x: Tensor, pads: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    if mode == "constant":
        return _padded(x, pads, 0.0 if value is None else value)
    if mode == "circular":
        for index, (before, behind) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
            axis = x.ndim - 1 - index
            size = int(x.shape[axis])
            parts = [x]
            if before > 0:
                parts.insert(0, x.narrow(axis, size - before, before))
            if behind > 0:
                parts.append(x.narrow(axis, 0, behind))
            x = torch.cat(parts, axis) if len(parts) > 1 else x
            x = _slice(x, axis, max(0, -before), int(x.shape[axis]) - max(0, -behind))
        return x
    for index, (before, behind) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        axis = x.ndim - 1 - index
        size = int(x.shape[axis])
        picks = range(-int(before), size + int(behind))
        if mode == "replicate":
            picked = [min(max(i, 0), size - 1) for i in picks]
        else:
            picked = [size - 1 - abs(size - 1 - abs(i)) for i in picks]
        x = torch.cat([x.narrow(axis, i, 1) for i in picked], axis)
    return x


# Slices that are written to


@_rewrites("slice_scatter.default")
def _slice_scatter(
    x: Tensor,
    source: Tensor,
    axis: int = 0,
    begin: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    size = int(x.shape[axis])
    first, last, _ = slice(begin, end).indices(size)
    if step != 1:
        parts = []
        for index in range(size):
            inside = first <= index < last and (index - first) % step == 0
            part, at = (source, (index - first) // step) if inside else (x, index)
            parts.append(part.narrow(axis, at, 1))
        return torch.cat(parts, axis)
    source = source.expand([last - first if a == axis % x.ndim else s
                            for a, s in enumerate(x.shape)])  # fmt: skip
    parts = [_slice(x, axis, 0, first), source, _slice(x, axis, last, size)]
    parts = [part for part in parts if part.shape[axis]]
    return parts[0] + 0 if len(parts) == 1 else torch.cat(parts, axis)


@_rewrites("select_scatter.default")
def _select_scatter(x: Tensor, source: Tensor, axis: int, index: int) -> Tensor:
    at = index % int(x.shape[axis])
    return _slice_scatter(x, source.unsqueeze(axis), axis, at, at + 1)


@_rewrites("copy.default")
def _copy(x: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    return source.to(x.dtype).expand_as(x)


# Constants of a known size, whatever the tensor holds that they are made like


@_rewrites("new_zeros.default")
def _new_zeros(x: Tensor, size: Sequence[int], dtype: Any = None, **where: Any) -> Tensor:
    return torch.zeros(list(size), dtype=dtype or x.dtype)


@_rewrites("new_ones.default")
def _new_ones(x: Tensor, size: Sequence[int], dtype: Any = None, **where: Any) -> Tensor:
    return torch.ones(list(size), dtype=dtype or x.dtype)


@_rewrites("new_full.default")
def _new_full(
    x: Tensor, size: Sequence[int], value: float, dtype: Any = None, **where: Any
) -> Tensor:
    return torch.full(list(size), value, dtype=dtype or x.dtype)


# Sums, products, choices


@_rewrites("prod.dim_int")
def _product(x: Tensor, dim: int, keepdim: bool = False, dtype: Any = None) -> Tensor:
    result = x.narrow(dim, 0, 1)
    for index in range(1, int(x.shape[dim])):
        result = result * x.narrow(dim, index, 1)
    return result if keepdim else result.squeeze(dim)


@_rewrites("cdist.default", "_cdist_forward.default")
def _distances(x: Tensor, y: Tensor, p: float = 2.0, compute_mode: int | None = None) -> Tensor:
    apart = (x.unsqueeze(-2) - y.unsqueeze(-3)).abs()
    if p == 1:
        return apart.sum(-1)
    if p == 2:
        return (apart * apart).sum(-1).sqrt()
    if p == float("inf"):
        return apart.amax(-1)
    return apart.pow(p).sum(-1).pow(1 / p)


@_rewrites("matmul.default")
def _product_with_a_vector(x: Tensor, y: Tensor) -> Tensor:
    """Of one row or column: converters take it for something of fewer axes."""
    if min(x.ndim, y.ndim) >= 2 and y.shape[-1] == 1:
        return (x * y.transpose(-1, -2)).sum(-1, keepdim=True)
    if min(x.ndim, y.ndim) >= 2 and x.shape[-2] == 1:
        return (x.transpose(-1, -2) * y).sum(-2, keepdim=True)
    return torch.matmul(x, y)


@_rewrites("one_hot.default")
def _one_hot(x: Tensor, count: int = -1) -> Tensor:
    if count < 1:
        raise NotImplementedError("one_hot of a number of classes that is not given")
    return (x.unsqueeze(-1) == torch.arange(count)).long()


@_rewrites("vdot.default", "dot.default")
def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum()


@_rewrites("cumsum.default")
def _running_sum(x: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """A product with a triangle of ones."""
    size = int(x.shape[dim])
    triangle = torch.ones(size, size).tril().t().contiguous().to(x.dtype)
    return torch.matmul(x.transpose(dim, -1), triangle).transpose(dim, -1)


@_rewrites("celu.default")
def _celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    return F.relu(x) - alpha * F.relu(1 - torch.exp(torch.clamp(x, max=0) / alpha))


@_rewrites("log_sigmoid.default")
def _log_sigmoid(x: Tensor) -> Tensor:
    return torch.clamp(x, max=0.0) - torch.log1p(torch.exp(-x.abs()))


@_rewrites("rrelu.default")
def _randomized_relu(
    x: Tensor,
    low: float = 1 / 8,
    high: float = 1 / 3,
    training: bool = False,
    generator: Any = None,
) -> Tensor:
    """Out of training its slope is the middle one."""
    return F.leaky_relu(x, (low + high) / 2)


@_rewrites("hardtanh.default")
def _hard_tanh(x: Tensor, low: float = -1.0, high: float = 1.0) -> Tensor:
    return torch.clamp(x, float(low), float(high))


@_rewrites("trunc.default", "fix.default")
def _truncated(x: Tensor) -> Tensor:
    return torch.sign(x) * torch.floor(x.abs())


@_rewrites("frac.default")
def _fraction(x: Tensor) -> Tensor:
    return x - _truncated(x)


@_rewrites("fmod.Scalar", "fmod.Tensor")
def _remainder_of_truncation(x: Tensor, y: Tensor | float) -> Tensor:
    return x - _truncated(x / y) * y


@_rewrites("remainder.Scalar", "remainder.Tensor")
def _remainder(x: Tensor, y: Tensor | float) -> Tensor:
    return x - torch.floor(x / y) * y


@_rewrites("lerp.Scalar", "lerp.Tensor")
def _between(x: Tensor, y: Tensor, weight: Tensor | float) -> Tensor:
    return x + weight * (y - x)


@_rewrites("addcmul.default")
def _add_product(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    return x + value * a * b


@_rewrites("addcdiv.default")
def _add_quotient(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    return x + value * a / b


@_rewrites("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(x: Tensor, mask: Tensor, value: Any) -> Tensor:
    filled = value if isinstance(value, Tensor) else torch.full((), value, dtype=x.dtype)
    return torch.where(mask, filled.to(x.dtype), x)


@_rewrites("scaled_dot_product_attention.default")
def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(q·kᵀ·scale + mask)·v, written out."""
    if enable_gqa:
        k, v = (t.repeat_interleave(q.shape[-3] // t.shape[-3], -3) for t in (k, v))
    scores = torch.matmul(q, k.transpose(-2, -1)) * (scale or q.shape[-1] ** -0.5)
    if causal:
        mask = torch.ones(int(q.shape[-2]), int(k.shape[-2]), dtype=torch.bool).tril()
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.where(mask, 0.0, -3e4).to(scores.dtype)
    scores = scores if mask is None else scores + mask
    return torch.matmul(torch.softmax(scores, -1), v)


@_rewrites("clamp.Tensor")
def _bounded(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    x = x if low is None else torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


@_rewrites("__or__.Tensor", "bitwise_or.Tensor")
def _either(x: Tensor, y: Tensor) -> Tensor:
    return torch.logical_or(x, y) if x.dtype == torch.bool else torch.bitwise_or(x, y)


@_rewrites("__and__.Tensor", "bitwise_and.Tensor")
def _both(x: Tensor, y: Tensor) -> Tensor:
    return torch.logical_and(x, y) if x.dtype == torch.bool else torch.bitwise_and(x, y)


@_rewrites("__xor__.Tensor", "bitwise_xor.Tensor")
def _one_of(x: Tensor, y: Tensor) -> Tensor:
    return torch.logical_xor(x, y) if x.dtype == torch.bool else torch.bitwise_xor(x, y)


@_rewrites("bitwise_not.default")
def _not(x: Tensor) -> Tensor:
    return torch.logical_not(x) if x.dtype == torch.bool else torch.bitwise_not(x)


@_rewrites("_native_batch_norm_legit_no_training.default")
def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """A factor and a shift per channel."""
    shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
    factor = torch.rsqrt(variance.double() + eps)
    factor = factor if weight is None else factor * weight
    shift = -mean * factor if bias is None else bias - mean * factor
    y = x * factor.to(x.dtype).view(shape) + shift.to(x.dtype).view(shape)
    return y, mean, variance


@_rewrites("instance_norm.default")
def _instance_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Tensor:
    """With statistics of its own it is a batch norm."""
    if mean is not None and variance is not None and not use_input_stats:
        return _batch_norm(x, weight, bias, mean, variance, momentum, eps)[0]
    axes = list(range(2, x.ndim))
    apart = x - x.mean(axes, keepdim=True)
    y = apart * torch.rsqrt((apart * apart).mean(axes, keepdim=True) + eps)
    shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
    y = y if weight is None else y * weight.view(shape)
    return y if bias is None else y + bias.view(shape)


@_rewrites("rms_norm.default")
def _rms_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    axes = [-1 - i for i in range(len(shape))]
    floor = torch.finfo(x.dtype).eps if eps is None else eps
    y = x * torch.rsqrt((x * x).mean(axes, keepdim=True) + floor)
    return y if weight is None else y * weight


# Orders


@_rewrites("channel_shuffle.default")
def _channel_shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = (int(size) for size in x.shape)
    y = x.reshape(n, groups, c // groups, h * w).transpose(1, 2)
    return y.reshape(n, c, h, w)


@_rewrites("repeat.default", "tile.default")
def _repeated(x: Tensor, counts: Sequence[int]) -> Tensor:
    """Beside itself, an axis at a time."""
    for _ in range(len(counts) - x.ndim):
        x = x.unsqueeze(0)
    for axis, count in enumerate(counts, start=x.ndim - len(counts)):
        x = torch.cat([x] * int(count), axis) if count != 1 else x
    return x


@_rewrites("flip.default")
def _flipped(x: Tensor, dims: Sequence[int]) -> Tensor:
    """One axis at a time, taken apart and put together the other way round."""
    for dim in dims:
        size = int(x.shape[dim])
        x = torch.cat([x.narrow(dim, i, 1) for i in range(size - 1, -1, -1)], dim)
    return x


@_rewrites("sort.default", "sort.stable")
def _sorted(
    x: Tensor, dim: int = -1, descending: bool = False, stable: bool | None = None
) -> tuple[Tensor, Tensor]:
    """The largest of all of them, one behind the other."""
    size = int(x.shape[dim])
    last = x.transpose(dim, -1)
    values, at = torch.topk(last if descending else -last, size, -1)
    return (values if descending else -values).transpose(dim, -1), at.transpose(dim, -1)


@_rewrites("scatter.src", "scatter.value")
def _scattered(x: Tensor, dim: int, index: Tensor, source: Any) -> Tensor:
    """Every position asks whether an index names it."""
    shape = [1] * x.ndim
    shape[dim] = int(x.shape[dim])
    here = torch.arange(shape[dim]).view(shape)
    outside = [i for i in range(x.ndim) if i != dim % x.ndim]
    if any(index.shape[i] != x.shape[i] for i in outside):
        raise NotImplementedError("scatter into a part of a tensor")
    for k in range(int(index.shape[dim])):
        value = source.narrow(dim, k, 1) if isinstance(source, Tensor) else source
        named = (index.narrow(dim, k, 1) == here).to(x.dtype)
        x = x * (1 - named) + named * value
    return x


@_rewrites("rot90.default")
def _turned(x: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    a, b = dims
    if k % 4 == 2:
        return torch.flip(x, [a, b])
    if k % 4 == 0:
        return x + 0
    turned = torch.flip(x, [b if k % 4 == 1 else a])
    return turned.transpose(a, b)


@_rewrites("grid_sampler.default")
def _grid_sampler(
    x: Tensor, grid: Tensor, interpolation: int, padding: int, corners: bool
) -> Tensor:
    """Four pixels by one-hot products would be large; they are gathered from a flat image."""
    decompose: Any = torch._decomp.decompositions._grid_sampler_2d
    return decompose(  # type: ignore[no-any-return]
        x, grid, interpolation_mode=interpolation, padding_mode=padding, align_corners=corners
    )
