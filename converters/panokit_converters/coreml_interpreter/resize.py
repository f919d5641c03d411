"""Resizes of the last two axes: where each result samples the image, and with what weights."""

from __future__ import annotations

import numpy as np

from panokit_converters.coreml_interpreter.call import Call, Function
from panokit_converters.coreml_interpreter.values import Array, Fault, NotRun, bounded

__all__ = ["RESIZES"]


def _upsample_bilinear(call: Call) -> Array:
    """By factors. Half-pixel centres without ``align_corners``, corners on corners with it."""
    # The spacing comes from the sizes, not from the factor: what torch calls recomputing it.
    mode = "STRICT_ALIGN_CORNERS" if call.flag("align_corners", True) else "UNALIGN_CORNERS"
    return _bilinear(call, _scaled(call), mode)


def _resize_bilinear(call: Call) -> Array:
    """To a size, in one of the sampling modes of MIL."""
    return _bilinear(call, _target(call, 1), call.text("sampling_mode", "DEFAULT"))


def _upsample_nearest_neighbor(call: Call) -> Array:
    """By factors."""
    return _nearest(call, _scaled(call))


def _resize_nearest_neighbor(call: Call) -> Array:
    """To a size."""
    return _nearest(call, _target(call, None))


def _scaled(call: Call) -> tuple[int, int]:
    rows, columns = _size(call.tensor("x"))
    # In float32, as the shape was computed when the program was made.
    down = np.float32(call.number("scale_factor_height", 1))
    right = np.float32(call.number("scale_factor_width", 1))
    if not (0 < down < 1e6 and 0 < right < 1e6):
        raise Fault(f"the scale factors {down} and {right}")
    return int(np.floor(down * np.float32(rows))), int(np.floor(right * np.float32(columns)))


def _target(call: Call, default: int | None) -> tuple[int, int]:
    return (
        call.integer("target_size_height", default),
        call.integer("target_size_width", default),
    )


def _size(image: Array) -> tuple[int, int]:
    if image.ndim < 3 or 0 in image.shape:
        raise Fault(f"an image of the shape {list(image.shape)}")
    return image.shape[-2], image.shape[-1]


def _bilinear(call: Call, target: tuple[int, int], mode: str) -> Array:
    image = call.tensor("x")
    size = _size(image)
    call.announce((*image.shape[:-2], *target))
    for axis, (old, new) in enumerate(zip(size, target, strict=True)):
        at = _grid(old, new, mode)
        low = np.minimum(at.astype(np.int64), old - 1)
        high = np.minimum(low + 1, old - 1)
        part = (at - low).astype(np.float32)
        if axis == 0:
            part = part[:, None]
        before = np.take(image, low, axis=axis - 2)
        after = np.take(image, high, axis=axis - 2)
        image = before * (1 - part) + after * part
    return image


def _grid(old: int, new: int, mode: str) -> Array:
    """float64 ``[new]``: the place on the old axis each new position samples, from 0 to old-1."""
    if new < 1:
        raise Fault(f"a resize to {new} positions")
    steps = np.arange(new, dtype=np.float64)
    if mode == "UNALIGN_CORNERS":
        at = (steps + 0.5) * old / new - 0.5
    elif mode == "DEFAULT":
        at = steps * old / new
    elif mode == "ALIGN_CORNERS" and new == 1:
        at = np.array([(old - 1) / 2])
    elif mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        at = steps * (old - 1) / max(new - 1, 1)
    elif mode == "OFFSET_CORNERS":
        at = (steps + 0.5) * max(1, old - 1) / new
    else:
        raise NotRun(f"the sampling mode {mode!r} is not known here")
    return np.clip(at, 0, old - 1)


def _nearest(call: Call, target: tuple[int, int]) -> Array:
    image = call.tensor("x")
    size = _size(image)
    call.announce((*image.shape[:-2], *target))
    for axis, (old, new) in enumerate(zip(size, target, strict=True)):
        picks = np.arange(new) * old // max(new, 1)
        image = np.take(image, picks, axis=axis - 2)
    return image


def _resize(call: Call) -> Array:
    """iOS 17: to the last sizes of ``shape``, linear or nearest."""
    x, wanted = call.tensor("x"), call.integers("shape")
    if call.integer("resized_dims") != 2 or len(wanted) < 2:
        raise NotRun("a resize of other axes than the last two, which is not run here")
    rows, columns = (
        old if new == 0 else new for old, new in zip(_size(x), wanted[-2:], strict=True)
    )
    if call.text("interpolation_mode", "LINEAR") == "NEAREST_NEIGHBOR":
        return _nearest(call, (rows, columns))
    return _bilinear(call, (rows, columns), call.text("sampling_mode", "DEFAULT"))


# Sampling at places that are computed


def _resample(call: Call) -> Array:
    """``x`` ``[N,C,h,w]`` at ``coordinates`` ``[N,h',w',2]`` (x, y)."""
    x, at = call.tensor("x"), call.tensor("coordinates").astype(np.float64)
    if x.ndim != 4 or at.ndim != 4 or at.shape[0] != x.shape[0] or at.shape[3] != 2:
        raise Fault(f"a sampling of {list(x.shape)} at {list(at.shape)}")
    call.announce((*x.shape[:2], *at.shape[1:3]))
    h, w = _size(x)
    columns, rows = _pixels(call, at[..., 0], w), _pixels(call, at[..., 1], h)
    padding = call.text("padding_mode")
    if padding != "constant":
        corners = call.flag("align_corners", False)
        columns = _inside(columns, w, padding, corners)
        rows = _inside(rows, h, padding, corners)
    outside = call.number("padding_value", 0.0)
    if call.text("sampling_mode") == "nearest":
        return _picked(x, np.rint(rows), np.rint(columns), outside)
    top, left = np.floor(rows), np.floor(columns)
    down, right = rows - top, columns - left
    result = np.zeros(bounded((*x.shape[:2], *at.shape[1:3])), np.float64)
    for step_down, weight_down in ((0, 1 - down), (1, down)):
        for step_right, weight_right in ((0, 1 - right), (1, right)):
            seen = _picked(x, top + step_down, left + step_right, outside)
            result += seen * (weight_down * weight_right)[:, None]
    return result.astype(x.dtype)


def _pixels(call: Call, at: Array, size: int) -> Array:
    """Places on an axis in pixels, 0 the centre of the first."""
    mode = call.text("coordinates_mode")
    if mode == "unnormalized":
        return at
    if mode == "normalized_minus_one_to_one":
        at = (at + 1) / 2
    elif mode != "normalized_zero_to_one":
        raise NotRun(f"the coordinates_mode {mode!r} is not known here")
    return at * (size - 1) if call.flag("align_corners", False) else at * size - 0.5


def _inside(at: Array, size: int, padding: str, corners: bool) -> Array:
    if padding == "border":
        return np.clip(at, 0, size - 1)
    if padding not in ("reflection", "symmetric"):
        raise NotRun(f"the padding_mode {padding!r} is not known here")
    # Mirrored at the middle of the outer pixels, or at their edges.
    low, span = (0.0, size - 1.0) if padding == "reflection" and corners else (-0.5, float(size))
    if span == 0:
        return np.zeros_like(at)
    folded = np.mod(at - low, 2 * span)
    folded = np.where(folded > span, 2 * span - folded, folded) + low
    return np.clip(folded, 0, size - 1)


def _picked(x: Array, rows: Array, columns: Array, outside: float) -> Array:
    """float64 ``[N,C,h',w']``: whole positions ``[N,h',w']``, ``outside`` beyond the image."""
    h, w = _size(x)
    finite = np.isfinite(rows) & np.isfinite(columns)
    there = finite & (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    r = np.where(there, rows, 0).astype(np.int64)
    c = np.where(there, columns, 0).astype(np.int64)
    batch = np.arange(x.shape[0])[:, None, None]
    seen = np.moveaxis(x[batch, :, r, c].astype(np.float64), -1, 1)
    return np.where(there[:, None], seen, outside)


RESIZES: dict[str, Function] = {
    "resample": _resample,
    "resize": _resize,
    "resize_bilinear": _resize_bilinear,
    "resize_nearest_neighbor": _resize_nearest_neighbor,
    "upsample_bilinear": _upsample_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest_neighbor,
}
