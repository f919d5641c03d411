"""Targets of partial labels and instances, on maps small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from panokit_network.augment import PADDING, Scene
from panokit_network.data import SegmentRecord
from panokit_network.losses import LossConfig, panoptic_loss
from panokit_network.scenes import collate
from panokit_network.targets import (
    IGNORED,
    NOT_ABSENT,
    NOT_TEACHER,
    TargetConfig,
    Targets,
    make_targets,
)

THINGS = np.array([True, True, False])
TEACHER_KNOWS = np.array([True, False, False])
DISC = SegmentRecord(1, 0, is_thing=True)
SKY = SegmentRecord(2, 2, is_thing=False)


def scene(
    segment_map: np.ndarray,
    segments: list[SegmentRecord],
    absent: tuple[int, ...] = (),
    teacher: np.ndarray | None = None,
    complete: bool = False,
) -> Scene:
    size = segment_map.shape[0]
    return Scene(
        np.zeros((size, size, 3), np.uint8),
        segment_map.astype(np.uint16),
        segments,
        np.zeros((size, size), np.uint8) if teacher is None else teacher.astype(np.uint8),
        teacher is not None,
        absent,
        complete,
    )


def targets_of(s: Scene) -> Targets:
    return make_targets(s, THINGS, TEACHER_KNOWS, TargetConfig())


def quarters() -> np.ndarray:
    """Segment 1 in the top left quarter, 2 in the top right, nothing below left, padding right."""
    m = np.zeros((16, 16), int)
    m[:8, :8], m[:8, 8:], m[8:, 8:] = 1, 2, PADDING
    return m


def test_known_unknown_and_padding() -> None:
    t = targets_of(scene(quarters(), [DISC, SKY], absent=(1,)))
    assert t.semantic.shape == (8, 8)
    assert t.semantic[0, 0] == 0
    assert t.semantic[0, 7] == 2
    assert t.semantic[7, 0] == NOT_ABSENT
    assert t.semantic[7, 7] == IGNORED
    assert t.absent.tolist() == [False, True, False]
    assert t.teacher_absent.tolist() == [True, True, False]
    assert (t.semantic_weight == 0).sum() == 16


def test_void_of_a_complete_photo_is_no_evidence() -> None:
    t = targets_of(scene(quarters(), [DISC, SKY], absent=(0, 1, 2), complete=True))
    assert t.semantic[7, 0] == IGNORED
    assert t.center_weight[3, 0] == 0
    assert t.center_weight[3, 3] == 1  # padding must stay dark


def test_teacher_speaks_only_where_the_annotator_is_silent() -> None:
    teacher = np.zeros((16, 16), int)
    teacher[8:12, :4] = 1 + 0  # sees a disc
    teacher[8:12, 4:8] = 1 + 1  # sees a square, which the annotator says is absent
    teacher[12:, :4] = 255  # unsure
    t = targets_of(scene(quarters(), [DISC, SKY], absent=(1,), teacher=teacher))
    assert t.semantic[4, 0] == 0
    assert t.semantic_weight[4, 0] == np.float32(0.3)
    assert t.semantic[4, 3] == NOT_ABSENT
    assert t.semantic[7, 0] == NOT_ABSENT
    assert t.semantic[7, 3] == NOT_TEACHER


def test_crowds_teach_class_but_no_centre_and_ignored_ones_nothing() -> None:
    crowd = SegmentRecord(1, 0, is_thing=True, is_crowd=True)
    unsure = SegmentRecord(2, 2, is_thing=False, ignore=True)
    t = targets_of(scene(quarters(), [crowd, unsure]))
    assert t.semantic[0, 0] == 0
    assert t.semantic[0, 7] == IGNORED
    assert t.center.max() == 0
    assert t.offset_weight.max() == 0
    assert t.center_weight[0, 0] == 0
    assert t.center_weight[0, 3] == 0


def test_centre_peak_and_offsets_point_to_the_centroid() -> None:
    m = np.zeros((32, 32), int)
    m[8:16, 16:32] = 1  # centroid at y 12, x 24
    t = targets_of(scene(m, [DISC]))
    # Head cells are 4 pixels; the centroid lies on the corner of cells (2..3, 5..6).
    peak = np.argwhere(t.center == t.center.max())
    assert peak.tolist() == [[2, 5], [2, 6], [3, 5], [3, 6]]
    # Cell (2, 4) has its centre at (10, 18).
    assert t.offset[:, 2, 4].tolist() == [2.0, 6.0]
    assert t.offset_weight[2, 4] > 0
    assert t.offset_weight[0, 0] == 0


def test_perfect_heads_cost_next_to_nothing_and_wrong_ones_more() -> None:
    import torch

    s = scene(quarters(), [DISC, SKY], absent=(1,))
    t = targets_of(s)
    batch = collate([s], [t])
    semantic = np.full((3, 4, 4), -20.0, np.float32)
    semantic[0, :2, :2], semantic[2, :2, 2:], semantic[2, 2:] = 20, 20, 20
    center = np.log(np.clip(t.center, 1e-6, 1 - 1e-6) / np.clip(1 - t.center, 1e-6, 1))
    heads = {
        "semantic": torch.from_numpy(semantic)[None],
        "center": torch.from_numpy(center)[None, None],
        "offset": torch.from_numpy(t.offset)[None],
    }
    ones = torch.ones(3)
    # The resize to stride 2 blurs the class border, so the semantic loss is not exactly zero.
    good = panoptic_loss(heads, batch, ones, LossConfig(), TargetConfig())
    assert float(good["center"]) < 1e-3
    assert float(good["offset"]) == 0
    square_everywhere = torch.zeros(1, 3, 4, 4)
    square_everywhere[:, 1] = 20
    bad = panoptic_loss(
        {**heads, "semantic": square_everywhere}, batch, ones, LossConfig(), TargetConfig()
    )
    assert float(bad["semantic"]) > 10 * float(good["semantic"])


def test_absent_classes_are_pushed_down_and_possible_ones_are_free() -> None:
    import torch

    s = scene(np.zeros((16, 16)), [], absent=(1,))
    batch = collate([s], [targets_of(s)])
    logits = torch.zeros(1, 3, 4, 4, requires_grad=True)
    heads = {
        "semantic": logits,
        "center": torch.zeros(1, 1, 4, 4),
        "offset": torch.zeros(1, 2, 4, 4),
    }
    loss = panoptic_loss(heads, batch, torch.ones(3), LossConfig(), TargetConfig())["semantic"]
    # Two of three classes remain: -log(2/3), all pixels alike.
    assert loss.item() == pytest.approx(-np.log(2 / 3) * 0.5 + -np.log(2 / 3) * 0.7 * 0.5, rel=1e-3)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[:, 1] > 0).all()
    assert torch.allclose(logits.grad[:, 0], logits.grad[:, 2])
