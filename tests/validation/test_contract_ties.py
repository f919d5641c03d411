"""Maps of query, instance and semantic networks: what another sound decoder may decide otherwise,
and what no decoder does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from panokit.decoding import (
    INSTANCE_PRESETS,
    MASK_QUERY_PRESETS,
    DecodingSettings,
    InstancesConfig,
    SemanticConfig,
)
from panokit.preprocessing import letterbox
from panokit.taxonomy import Taxonomy
from panokit_validation.contract_ties import HeadSteps, explain_contract_map
from panokit_validation.ties import ERROR, ROUNDING, TIE, Explanation

TAXONOMY = Taxonomy.from_json({"name": "t", "things": ["a", "b"], "stuff": ["c"]})
SIDE = 32
WHOLE = letterbox((SIDE, SIDE), (SIDE, SIDE))
MASK2FORMER = MASK_QUERY_PRESETS["mask2former"]
YOLO = replace(INSTANCE_PRESETS["yolo-seg"], anchors_last=False)

Heads = dict[str, NDArray[np.float32]]


def queries(score: float = 0.95) -> Heads:
    """Object a of this score over a ground of c."""
    classes = np.zeros((3, 4), np.float32)
    classes[0, 0] = np.log(3 * score / (1 - score))
    classes[1, 2] = classes[2, 3] = 12
    masks = np.full((SIDE, SIDE, 3), -6, np.float32)
    masks[8:24, 8:20, 0], masks[..., 1] = 5, 4
    masks[8:24, 8:20, 1] = -6
    return {"classes": classes, "masks": masks}


def anchors(score: float) -> Heads:
    """One box of class a, all of whose prototype is inside, and one that is sure."""
    count = sum((SIDE // s) ** 2 for s in (8, 16, 32))
    detections = np.zeros((count, 4 + 2 + 1), np.float32)
    detections[:, 6] = 1
    detections[3, :5] = [8, 8, 12, 12, score]
    detections[9, :6] = [24, 24, 8, 8, 0, 0.9]
    return {"detections": detections, "prototypes": np.ones((8, 8, 1), np.float32)}


def decoded(heads: Heads, settings: DecodingSettings) -> tuple[NDArray[np.int32], dict[int, int]]:
    found = settings.decode(settings.read_heads(heads), TAXONOMY, WHOLE)
    return found.ids, found.channels


def explained(
    device: Heads, ours: Heads, settings: DecodingSettings, **unknown: float
) -> Explanation:
    """A map from the device's heads, as ours explain it."""
    ids, classes = decoded(device, settings)
    steps = HeadSteps.of(ours, unknown)
    return explain_contract_map(ids, classes, ours, settings, TAXONOMY, WHOLE, steps)


def test_a_query_at_the_threshold_may_be_kept_or_not() -> None:
    below, above = queries(0.7999), queries(0.8001)
    assert len(decoded(above, MASK2FORMER)[1]) == 2
    for device, ours in ((below, above), (above, below)):
        found = explained(device, ours, MASK2FORMER, classes=0.05, masks=0.05)
        assert found.left_over == 0
        assert "query 0" in found.turned[0]
        assert found.pixels.share(ROUNDING) > 0.1
    exact = explained(below, above, MASK2FORMER)  # the device's own heads have one answer
    assert exact.exact
    assert exact.left_over > 100


def test_a_query_far_from_the_threshold_may_not() -> None:
    found = explained(queries(0.5), queries(0.95), MASK2FORMER, classes=0.05, masks=0.05)
    assert found.pixels.share(ERROR) > 0.1
    assert found.worst_segment > 0.9


def test_two_nearly_equal_classes_are_either() -> None:
    ours, device = queries(), queries()
    for heads, lead in ((ours, 1e-3), (device, -1e-3)):
        heads["classes"][0] = [12 + lead, 12, -9, -9]
    settings = replace(MASK2FORMER, threshold=0.3)
    found = explained(device, ours, settings, classes=0.01, masks=0.01)
    assert found.left_over == 0
    assert found.turned


def test_a_border_that_a_rounding_decides() -> None:
    ours = queries()
    ours["masks"][8:24, 20, :2] = [1.0, 1.0]  # a column that both want
    ours["masks"][8:24, 20, 0] += np.float32(1e-7)
    ours["classes"][0, 0], ours["classes"][1, 2] = 40, 40
    device = {k: v.copy() for k, v in ours.items()}
    device["masks"][8:24, 20, 1] += np.float32(3e-7)
    found = explained(device, ours, MASK2FORMER)
    assert (found.left_over, found.exact) == (0, True)
    assert found.pixels.share(TIE) == pytest.approx(16 / SIDE**2)
    ours["masks"][8:24, 20, 0] += np.float32(1e-3)  # now it is sure
    assert explained(device, ours, MASK2FORMER).left_over == 16


def test_an_anchor_at_the_threshold() -> None:
    for device, ours in ((0.249, 0.251), (0.251, 0.249)):
        found = explained(anchors(device), anchors(ours), YOLO, detections=0.002, prototypes=0.01)
        assert found.left_over == 0
        assert "anchor 3" in found.turned[0]
    found = explained(anchors(0.1), anchors(0.6), YOLO, detections=0.002, prototypes=0.01)
    assert found.left_over > 100


def test_boxes_that_overlap_just_enough() -> None:
    def pair(width: float) -> Heads:
        heads = anchors(0.8)
        heads["detections"][5, :5] = [8, 8, width, 12, 0.6]
        heads["detections"][5, 6] = 1
        return heads

    limit = 12 / 0.7  # wider than this the overlap is less than 0.7
    settings: InstancesConfig = YOLO
    device, ours = pair(limit - 0.01), pair(limit + 0.01)
    counts = [len(decoded(h, settings)[1]) for h in (device, ours)]
    assert counts == [2, 3]
    found = explained(device, ours, settings, detections=0.01, prototypes=0.01)
    # A column may change sides, for the box is moved by more than it takes.
    assert found.pixels.share(ERROR) < 0.015
    assert "overlaps another" in found.turned[0]


def test_a_class_of_a_pixel_that_a_rounding_decides() -> None:
    semantic = np.zeros((SIDE, SIDE, 3), np.float32)
    semantic[:16, :, 1], semantic[16:, :, 2] = 3, 3
    semantic[4, 4] = [0, 3, 3]
    device = semantic.copy()
    device[4, 4, 2] += np.float32(5e-7)
    device[5, 5] = [9, 0, 0]
    found = explained({"semantic": device}, {"semantic": semantic}, SemanticConfig())
    kinds = found.pixels.kinds
    assert (kinds[4, 4], kinds[5, 5]) == (TIE, ERROR)
    assert int((kinds > 0).sum()) == 2


def test_the_share_of_a_segment_without_explanation() -> None:
    ours = queries()
    ids, classes = decoded(ours, MASK2FORMER)
    wrong = ids.copy()
    wrong[8:24, 8:13] = wrong[0, 0]  # nearly half of the object is ground to the device
    steps = HeadSteps.of(ours, {"classes": 0.05, "masks": 0.05})
    arguments: list[Any] = [ours, MASK2FORMER, TAXONOMY, WHOLE, steps]
    found = explain_contract_map(wrong, classes, *arguments)
    assert found.worst_segment == pytest.approx(0.5, abs=0.1)
    unknown = explain_contract_map(wrong, None, *arguments)
    assert unknown.left_over == found.left_over
    assert unknown.left_classes is None
