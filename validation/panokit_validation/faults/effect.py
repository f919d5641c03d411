"""Mistakes between the map and the finished picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from panokit_validation.faults.buffers import rows_without_padding

__all__ = ["changed", "padded_rows", "with_strength"]

Pixels = NDArray[np.uint8]
Make = Callable[..., Pixels | None]


def changed(change: Callable[[Pixels], Pixels]) -> Callable[[Make], Pixels | None]:
    """The right picture, changed at the end."""

    def make(right: Make) -> Pixels | None:
        picture = right()
        return None if picture is None else np.ascontiguousarray(change(picture))

    return make


def padded_rows(values: int, behind: Pixels | None = None) -> Callable[[Make], Pixels | None]:
    """The right picture, its rows read with another stride: see
    :func:`~panokit_validation.faults.buffers.rows_without_padding`."""
    return changed(lambda rgb_hwc: rows_without_padding(rgb_hwc, values, behind))


def with_strength(strength: float) -> Callable[[Make], Pixels | None]:
    """The picture of another strength."""
    return lambda right: right(strength=strength)
