"""Agreement of heads, with figures that can be derived by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from panokit.errors import ArgumentError, HeadError
from panokit_converters.agreement import compare_heads


def heads(semantic: list[list[float]], center: float = 1, offset: float = 1) -> dict:
    """One row of cells; ``semantic`` holds the channels of each."""
    cells = len(semantic)
    return {
        "semantic": np.array(semantic, np.float32)[None],
        "center": np.full((1, cells, 1), center, np.float32),
        "offset": np.full((1, cells, 2), offset, np.float32),
    }


def test_identical_heads() -> None:
    a = heads([[1, 2], [4, 3]])
    found = compare_heads([(a, a)])
    assert found.argmax == 1
    assert {h.sqnr_db for h in found.heads.values()} == {300.0}
    assert {h.max_abs for h in found.heads.values()} == {0.0}
    json.dumps(found.to_json(), allow_nan=False)


def test_figures_by_hand() -> None:
    reference = heads([[3, 0], [0, 4]], center=10)
    candidate = heads([[3, 0], [4, 0]], center=11)
    found = compare_heads([(reference, candidate)])
    # centre: signal 10², noise 1² per cell: 20 dB; parallel, so cosine 1
    assert found.heads["center"].sqnr_db == pytest.approx(20)
    assert found.heads["center"].cosine == pytest.approx(1)
    assert found.heads["center"].max_abs == 1
    # semantic: product 9 of norms 5·5; one of two cells keeps its class
    assert found.heads["semantic"].cosine == pytest.approx(9 / 25)
    assert found.argmax == 0.5


def test_photos_are_pooled() -> None:
    a, b = heads([[1, 0]], center=10), heads([[1, 0]], center=11)
    # signal 100 + 100, noise 0 + 1
    found = compare_heads([(a, a), (a, b)])
    assert found.heads["center"].sqnr_db == pytest.approx(10 * np.log10(200))
    assert found.photos == 2


def test_silence_with_noise_is_bad_not_an_error() -> None:
    found = compare_heads([(heads([[0, 0]], 0, 0), heads([[1, 0]], 0, 0))])
    assert found.heads["semantic"].sqnr_db == -300
    assert found.heads["semantic"].cosine == 0
    assert found.heads["center"].cosine == 1


def test_other_shapes_are_named() -> None:
    with pytest.raises(HeadError, match="'semantic'"):
        compare_heads([(heads([[1, 2]]), heads([[1, 2], [3, 4]]))])


def test_nothing_to_compare() -> None:
    with pytest.raises(ArgumentError, match="at least one pair"):
        compare_heads([])
