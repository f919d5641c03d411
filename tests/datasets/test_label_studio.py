"""Brushes of Label Studio."""

from __future__ import annotations

import numpy as np
import pytest

from panokit_datasets.readers.label_studio import pack_brush, unpack_brush
from panokit_datasets.shapes import MaskProblem

# The 5 × 5 square of rows and columns 1 to 3, as Label Studio's converter writes it.
SQUARE = [
    0, 0, 0, 100, 57, 27, 254, 26, 0, 3, 254, 32, 0, 63, 226, 0, 3, 254, 208, 0, 31, 241, 0, 1, 255,
    16, 0, 31, 246, 128, 0, 255, 136, 0, 15, 248, 128, 0, 255, 194, 224, 0,
]  # fmt: skip


def test_a_published_brush() -> None:
    mask = np.zeros((5, 5), bool)
    mask[1:4, 1:4] = True
    assert np.array_equal(unpack_brush(SQUARE, (5, 5)), mask)


def test_brushes_are_read_back() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        h, w = rng.integers(1, 200, 2).tolist()
        mask = np.repeat(rng.random((h, 1)) < 0.5, w, 1) ^ (rng.random((h, w)) < 0.05)
        assert np.array_equal(unpack_brush(pack_brush(mask), (h, w)), mask)


@pytest.mark.parametrize(
    "data", [None, [300], [], [0, 0, 0, 100], SQUARE[:-9], [*SQUARE[:6], 255, 255, 255, 255]]
)
def test_bytes_that_are_no_brush_are_told(data: object) -> None:
    with pytest.raises(MaskProblem):
        unpack_brush(data, (5, 5))
