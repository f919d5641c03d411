"""Mistakes between the map and the finished picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["changed", "with_strength"]

Pixels = NDArray[np.uint8]
Make = Callable[..., Pixels | None]


def changed(change: Callable[[Pixels], Pixels]) -> Callable[[Make], Pixels | None]:
    """The right picture, changed at the end."""

    def make(right: Make) -> Pixels | None:
        picture = right()
        return None if picture is None else np.ascontiguousarray(change(picture))

    return make


def with_strength(strength: float) -> Callable[[Make], Pixels | None]:
    """The picture of another strength."""
    return lambda right: right(strength=strength)
