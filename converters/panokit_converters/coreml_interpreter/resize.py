"""Resizes of the last two axes: where each result samples the image, and with what weights."""

from __future__ import annotations

import numpy as np

from panokit_converters.coreml_interpreter.call import Call
from panokit_converters.coreml_interpreter.values import Array, Fault

__all__ = [
    "resize_bilinear",
    "resize_nearest_neighbor",
    "upsample_bilinear",
    "upsample_nearest_neighbor",
]


def upsample_bilinear(call: Call) -> Array:
    """By factors. Half-pixel centres without ``align_corners``, corners on corners with it."""
    # The spacing comes from the sizes, not from the factor: what torch calls recomputing it.
    mode = "STRICT_ALIGN_CORNERS" if call.flag("align_corners", True) else "UNALIGN_CORNERS"
    return _bilinear(call, _scaled(call), mode)


def resize_bilinear(call: Call) -> Array:
    """To a size, in one of the sampling modes of MIL."""
    return _bilinear(call, _target(call, 1), call.text("sampling_mode", "DEFAULT"))


def upsample_nearest_neighbor(call: Call) -> Array:
    """By factors."""
    return _nearest(call, _scaled(call))


def resize_nearest_neighbor(call: Call) -> Array:
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
        raise Fault(f"the sampling mode {mode!r} is not known here")
    return np.clip(at, 0, old - 1)


def _nearest(call: Call, target: tuple[int, int]) -> Array:
    image = call.tensor("x")
    size = _size(image)
    call.announce((*image.shape[:-2], *target))
    for axis, (old, new) in enumerate(zip(size, target, strict=True)):
        picks = np.arange(new) * old // max(new, 1)
        image = np.take(image, picks, axis=axis - 2)
    return image
