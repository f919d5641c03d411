"""Masks as the COCO API draws them; hotcoco's are the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from panokit.rle import rle_encode, rle_string
from panokit_datasets.shapes import MaskProblem, decode_counts, mask_of, polygon_mask


def pixels(*flat: float) -> int:
    mask = mask_of([list(flat)], (5, 5))
    assert mask is not None
    return int(mask.sum())


def test_published_examples() -> None:
    square = np.zeros((5, 5), bool)
    square[1:4, 1:4] = True
    assert rle_encode(square)["counts"] == [6, 3, 2, 3, 2, 3, 6]
    for segmentation in (
        [[1, 1, 4, 1, 4, 4, 1, 4]],
        [1, 1, 4, 1, 4, 4, 1, 4],
        [[0.5, 0.5, 3.5, 0.5, 3.5, 3.5, 0.5, 3.5]],
        {"size": [5, 5], "counts": [6, 3, 2, 3, 2, 3, 6]},
        {"size": [5, 5], "counts": "6320004"},
    ):
        assert np.array_equal(mask_of(segmentation, (5, 5)), square)  # type: ignore[arg-type]
    assert pixels(-2, -2, 2, -2, 2, 2, -2, 2) == 4
    assert pixels(3, 3, 9, 3, 9, 9, 3, 9) == 4
    assert pixels(6, 6, 9, 6, 9, 9) == 0
    assert pixels(1, 1, 4, 1, 1, 4) == 3
    assert decode_counts("0i0") == [0, 25]
    assert decode_counts("i0") == [25]


def test_polygons_are_drawn_as_the_api_draws_them() -> None:
    mask = pytest.importorskip("hotcoco.mask")
    rng = np.random.default_rng(0)
    for trial in range(400):
        n, (h, w) = int(rng.integers(3, 20)), rng.integers(5, 200, 2).tolist()
        spread = rng.uniform(-20, 220, (n, 2))
        walk = np.cumsum(rng.normal(0, 6, (n, 2)), 0) + np.array([w / 2, h / 2])
        points = spread if trial % 2 else walk
        points = np.round(points) if trial % 5 == 0 else points
        want = mask.decode(mask.frPyObjects([points.ravel().tolist()], h, w))[..., 0]
        assert np.array_equal(polygon_mask(points, (h, w)), want.astype(bool)), trial


def test_compressed_runs_are_read_back() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        h, w = rng.integers(1, 90, 2).tolist()
        mask = rng.random((h, w)) < rng.random()
        assert np.array_equal(mask_of(rle_string(mask), (h, w)), mask)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["~", "P", "\x00", "é", "o" * 40])
def test_runs_that_are_none_are_told(text: str) -> None:
    with pytest.raises(MaskProblem):
        mask_of({"size": [5, 5], "counts": text}, (5, 5))
