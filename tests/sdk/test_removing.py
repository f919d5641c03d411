"""Removing what fills most of a photo."""

from __future__ import annotations

import re

import numpy as np
import pytest

from panokit.effects import Pick, Remove
from panokit.effects.removing import _largest_rectangle
from panokit.taxonomy import Taxonomy
from tests.sdk.test_whole import PERSON, SKY, result_of

PERSONS = Pick(class_name="person")


@pytest.mark.parametrize("share", [0.3, 0.45, 0.6, 0.97])
def test_what_fills_most_of_a_photo_is_not_removed(share: float, taxonomy: Taxonomy) -> None:
    rgb = np.random.default_rng(0).integers(90, 110, (100, 200, 3)).astype(np.uint8)
    ids = np.full((100, 200), SKY, np.int32)
    ids[:, : round(200 * share)] = PERSON
    result = result_of(rgb, ids, taxonomy)
    done = Remove(PERSONS).apply(result.photo, result)
    assert done.applied == (share < 0.5)
    assert ("made up" in done.message) == (share == 0.45)
    if share > 0.5:
        assert done.photo is result.photo
        assert "the person fills" in done.message
        found = re.search(r"there are (\d+) by (\d+) pixels from \((\d+), (\d+)\)", done.message)
        assert (found is not None) == (share < 0.9)  # a crop of a sliver is no picture
        if found:
            w, h, x, y = map(int, found.groups())
            assert not (result.id_map[y : y + h, x : x + w] == result.find("person")[0].id).any()
            assert w * h > 0.8 * (1 - share) * ids.size
    assert Remove(PERSONS, anyway=True).apply(result.photo, result).applied


def test_the_largest_rectangle_equals_a_search_of_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        free = rng.random((rng.integers(1, 9), rng.integers(1, 9))) < 0.7
        h, w = free.shape
        areas = [
            (y1 - y0) * (x1 - x0)
            for y0 in range(h)
            for y1 in range(y0 + 1, h + 1)
            for x0 in range(w)
            for x1 in range(x0 + 1, w + 1)
            if free[y0:y1, x0:x1].all()
        ]
        x0, y0, x1, y1 = _largest_rectangle(free)
        assert free[y0:y1, x0:x1].all()
        assert (y1 - y0) * (x1 - x0) == max(areas, default=0)


def test_the_rectangle_of_a_large_mask_is_free() -> None:
    free = np.ones((1003, 777), bool)
    free[400:, :500] = False
    x0, y0, x1, y1 = _largest_rectangle(free)
    assert free[y0:y1, x0:x1].all()
    assert (y1 - y0) * (x1 - x0) > 0.95 * 400 * 777
