"""Mask AP from panoptic maps."""

from __future__ import annotations

import numpy as np
import pytest

from panokit.taxonomy import Taxonomy
from panokit_datasets.quality.average_precision import AveragePrecision
from panokit_datasets.truth import TruthSegment

pytest.importorskip("hotcoco")


def scene() -> np.ndarray:
    ids = np.full((120, 160), 9, np.int32)  # sky
    ids[10:60, 10:60] = 1
    ids[70:90, 100:120] = 2
    ids[100:110, 10:60] = 3
    return ids


TRUE = (
    TruthSegment(1, 0, True), TruthSegment(2, 0, True), TruthSegment(3, 0, True, is_crowd=True),
    TruthSegment(9, 1, False),
)  # fmt: skip


def test_right_answers_get_all_points_and_crowds_count_neither_way(taxonomy: Taxonomy) -> None:
    quality = AveragePrecision(taxonomy)
    quality.add(scene(), [(1, 0, 0.9), (2, 0, 0.8), (3, 0, 0.7), (9, 1, 1.0)], scene(), TRUE)
    figures = quality.compute()
    for name in ("AP", "AP50", "APs", "APm"):
        assert figures[name] == pytest.approx(100)
    assert figures["APl"] is None


def test_a_half_mask_counts_at_low_thresholds_alone(taxonomy: Taxonomy) -> None:
    pred = scene()
    pred[10:60, 45:60] = 0  # 70 % of the first object
    quality = AveragePrecision(taxonomy)
    quality.add(pred, [(1, 0, 0.9), (2, 0, 0.8)], scene(), TRUE)
    figures = quality.compute()
    assert figures["AP50"] == pytest.approx(100)
    assert figures["AP75"] is not None
    assert figures["AP75"] < 60


def test_nothing_found_is_nought_and_nothing_there_is_nothing(taxonomy: Taxonomy) -> None:
    quality = AveragePrecision(taxonomy)
    quality.add(scene() * 0, [], scene(), TRUE)
    assert quality.compute()["AP"] == 0
    empty = AveragePrecision(taxonomy)
    empty.add(scene() * 0, [], scene() * 0, ())
    assert empty.compute()["AP"] is None
