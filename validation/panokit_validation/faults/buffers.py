"""Tensors ``[h,w,C]`` whose memory is written in one layout and read in another."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["pixels_as_planes", "planes_as_pixels", "rows_without_padding", "to_multiple"]

FloatArray = NDArray[np.float32]
T = TypeVar("T", bound=np.generic)


def planes_as_pixels(values: FloatArray) -> FloatArray:
    """Written in planes (C,h,w), read pixel by pixel (h,w,C)."""
    return np.ascontiguousarray(np.moveaxis(values, -1, 0)).reshape(values.shape)


def pixels_as_planes(values: FloatArray) -> FloatArray:
    """Written pixel by pixel, read in planes."""
    h, w, c = values.shape
    planes = np.ascontiguousarray(values).reshape(c, h, w)
    return np.ascontiguousarray(np.moveaxis(planes, 0, -1))


def rows_without_padding(
    values: NDArray[T], padding: int, behind: NDArray[T] | None = None
) -> NDArray[T]:
    """Rows of ``[h,…]`` that are read with another stride than they are written with.

    ``padding`` above 0: so many values lie behind each row, which is read as if there were none:
    rows shear. Below 0: there are none, and the reader steps over so many. ``behind``: what is read
    where no row is, at its place; zeros without it.
    """
    rows = values.reshape(len(values), -1)
    h, length = rows.shape
    other = np.zeros_like(rows) if behind is None else behind.reshape(h, -1)
    if padding >= 0:
        buffer = np.zeros((h, length + padding), values.dtype)
        is_row = np.zeros(buffer.shape, bool)
        buffer[:, :length], is_row[:, :length] = rows, True
        read, known = buffer.reshape(-1)[: rows.size], is_row.reshape(-1)[: rows.size]
    else:
        at = np.arange(h)[:, None] * (length - padding) + np.arange(length)
        known = (at < rows.size).reshape(-1)
        read = rows.reshape(-1)[np.minimum(at, rows.size - 1)].reshape(-1)
    return np.where(known, read, other.reshape(-1)).reshape(values.shape)


def to_multiple(values: int, of: int) -> int:
    """How much padding brings a row of ``values`` to a multiple."""
    return -values % max(1, of)
