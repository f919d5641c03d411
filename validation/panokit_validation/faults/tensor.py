"""Mistakes between the laid-out picture and the values that the network really gets.

A function takes the picture float32 ``[H,W,3]`` 0..255 and the artifact's input spec and returns
the real values, after the artifact's own quantisation, float32 ``[H,W,3]``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from panokit.bundle import TensorSpec
from panokit_validation.faults.buffers import (
    pixels_as_planes,
    planes_as_pixels,
    rows_without_padding,
    to_multiple,
)

__all__ = [
    "aligned_rows",
    "alpha_first",
    "as_stored",
    "bytes_as_signed",
    "bytes_reversed",
    "imagenet",
    "less_mean",
    "never_written",
    "padded_rows",
    "planar",
    "reread_rows",
    "scaled",
    "transposed",
    "without_zero_point",
]

FloatArray = NDArray[np.float32]
Change = Callable[[FloatArray, TensorSpec], FloatArray]
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # ImageNet, RGB 0..255
_STD = np.array([58.395, 57.12, 57.375], np.float32)


def as_stored(values: FloatArray, spec: TensorSpec) -> FloatArray:
    """What an artifact with this input makes of real values: rounded and cut off if quantised."""
    if spec.scale is None:
        return np.asarray(values, np.float32)
    info, zero = np.iinfo(spec.dtype), spec.zero_point or 0
    q = np.clip(np.round(values / np.float32(spec.scale)) + zero, info.min, info.max)
    return np.asarray((q - zero) * np.float32(spec.scale), np.float32)


def scaled(factor: float, shift: float = 0.0) -> Change:
    """values·factor + shift."""
    return lambda values, spec: as_stored(values * np.float32(factor) + np.float32(shift), spec)


def imagenet(values: FloatArray, spec: TensorSpec) -> FloatArray:
    """Each channel less its ImageNet mean, over its deviation."""
    return as_stored((values - _MEAN) / _STD, spec)


def less_mean(values: FloatArray, spec: TensorSpec) -> FloatArray:
    """Each channel less its ImageNet mean, not divided by anything."""
    return as_stored(values - _MEAN, spec)


def padded_rows(pixels: int) -> Change:
    """A buffer whose rows end with ``pixels`` of padding, read as if they did not."""

    def change(values: FloatArray, spec: TensorSpec) -> FloatArray:
        return as_stored(rows_without_padding(values, pixels * values.shape[-1]), spec)

    return change


def aligned_rows(size: int) -> Change:
    """As :func:`padded_rows`, of a buffer whose rows begin at multiples of ``size`` bytes: a byte a
    value where the input takes bytes, else four."""

    def change(values: FloatArray, spec: TensorSpec) -> FloatArray:
        row = values.shape[1] * values.shape[2]
        padding = to_multiple(row, size if spec.scale is not None else size // 4)
        return as_stored(rows_without_padding(values, padding), spec)

    return change


def reread_rows(padding: int, behind: FloatArray) -> Change:
    """A buffer read with another row stride; ``padding`` (values) and ``behind`` as in
    :func:`~panokit_validation.faults.buffers.rows_without_padding`."""
    return lambda values, spec: rows_without_padding(as_stored(values, spec), padding, behind)


def alpha_first(order: str) -> Change:
    """Four bytes a pixel with alpha first (``"argb"`` or ``"abgr"``), of which the first three are
    read; the photo is opaque."""

    def change(values: FloatArray, spec: TensorSpec) -> FloatArray:
        red, green, blue = np.moveaxis(values, -1, 0)
        first = red if order == "argb" else blue
        return as_stored(np.stack([np.full_like(red, 255), first, green], -1), spec)

    return change


def bytes_reversed(values: FloatArray, spec: TensorSpec) -> FloatArray:
    """Floats written with the highest byte first, as Java's buffers do unless they are told."""
    return np.nan_to_num(np.asarray(values, np.float32).byteswap(), nan=0.0)


def never_written(share: float) -> Change:
    """A buffer of which the last ``share`` still holds the bytes 0 that it was made with."""

    def change(values: FloatArray, spec: TensorSpec) -> FloatArray:
        out = as_stored(values, spec).copy()
        empty = 0.0 if spec.scale is None else -(spec.zero_point or 0) * spec.scale
        flat = out.reshape(-1)
        flat[round(flat.size * (1 - share)) :] = np.float32(empty)
        return out

    return change


def planar(values: FloatArray, spec: TensorSpec) -> FloatArray:
    """Planes R, G, B written one after the other where pixels belong (or the reverse)."""
    reread = pixels_as_planes if spec.layout == "nchw" else planes_as_pixels
    return as_stored(reread(values), spec)


def transposed(values: FloatArray, spec: TensorSpec) -> FloatArray:
    """Rows and columns swapped (square inputs only)."""
    square = values.shape[0] == values.shape[1]
    return as_stored(np.ascontiguousarray(values.transpose(1, 0, 2)) if square else values, spec)


def without_zero_point(values: FloatArray, spec: TensorSpec) -> FloatArray:
    """Pixel values cast to the integer type as they are: bright ones saturate."""
    info, scale = np.iinfo(spec.dtype), np.float32(spec.scale or 1)
    q = np.clip(np.round(values / scale), info.min, info.max)
    return ((q - (spec.zero_point or 0)) * scale).astype(np.float32)


def bytes_as_signed(values: FloatArray, spec: TensorSpec) -> FloatArray:
    """The bytes 0..255 put into a signed tensor: 128 and more wrap round."""
    q = np.round(values).astype(np.int64).astype(np.uint8).view(np.int8).astype(np.float32)
    return ((q - (spec.zero_point or 0)) * np.float32(spec.scale or 1)).astype(np.float32)
