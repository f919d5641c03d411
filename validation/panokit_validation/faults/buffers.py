"""Tensors ``[h,w,C]`` whose memory is written in one layout and read in another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["pixels_as_planes", "planes_as_pixels", "rows_without_padding"]

FloatArray = NDArray[np.float32]


def planes_as_pixels(values: FloatArray) -> FloatArray:
    """Written in planes (C,h,w), read pixel by pixel (h,w,C)."""
    return np.ascontiguousarray(np.moveaxis(values, -1, 0)).reshape(values.shape)


def pixels_as_planes(values: FloatArray) -> FloatArray:
    """Written pixel by pixel, read in planes."""
    h, w, c = values.shape
    planes = np.ascontiguousarray(values).reshape(c, h, w)
    return np.ascontiguousarray(np.moveaxis(planes, 0, -1))


def rows_without_padding(values: FloatArray, padding: int) -> FloatArray:
    """Written with so many zeros behind each row, read as if there were none: rows shear."""
    h, w, c = values.shape
    buffer = np.zeros((h, w * c + padding), np.float32)
    buffer[:, : w * c] = values.reshape(h, -1)
    return buffer.reshape(-1)[: h * w * c].reshape(h, w, c)
