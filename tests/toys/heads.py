"""Heads and transforms of a size that a test can fill by hand."""

from __future__ import annotations

import numpy as np

from panokit.decoding import Heads
from panokit.preprocessing import TransformRecord, letterbox


def full_frame(size: int) -> TransformRecord:
    """A square photo that fills its square input exactly."""
    return letterbox((size, size), (size, size))


def toy_heads(cells: int, channels: int = 4) -> Heads:
    """All-zero heads of cells × cells, centres far below any threshold."""
    return Heads(
        np.zeros((cells, cells, channels), np.float32),
        np.full((cells, cells), -20, np.float32),
        np.zeros((cells, cells, 2), np.float32),
    )
