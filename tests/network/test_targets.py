"""Targets of partial labels and instances, on maps small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from panokit.taxonomy import Category, Taxonomy
from panokit_datasets.records import NO_PERSON_MAP, SegmentRecord
from panokit_network.training.augment import PADDING, Scene
from panokit_network.training.losses import LossConfig, panoptic_loss
from panokit_network.training.scenes import collate
from panokit_network.training.targets import (
    IGNORED,
    NOT_ABSENT,
    LabelWeights,
    TargetConfig,
    Targets,
    make_targets,
)

TAXONOMY = Taxonomy(
    "toy",
    (
        Category(1, "disc", True, (9, 0, 0)),
        Category(2, "person", True, (0, 9, 0)),
        Category(3, "sky", False, (0, 0, 9)),
    ),
)
CONFIG = TargetConfig(trust={"disc": 0.8, "sky": 0.5})
DISC = SegmentRecord(0, is_thing=True)
SKY = SegmentRecord(2, is_thing=False)


def scene(
    segment_map: np.ndarray,
    segments: list[SegmentRecord],
    absent: tuple[int, ...] = (),
    person: np.ndarray | None = None,
    complete: bool = False,
) -> Scene:
    shape = segment_map.shape
    return Scene(
        np.zeros((*shape, 3), np.uint8),
        segment_map.astype(np.uint16),
        segments,
        np.full(shape, NO_PERSON_MAP if person is None else person, np.uint8),
        absent,
        complete,
    )


def targets_of(s: Scene) -> Targets:
    return make_targets(s, LabelWeights.of(TAXONOMY, CONFIG))


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
    assert (t.semantic_weight == 0).sum() == 16


def test_void_of_a_complete_photo_is_no_evidence() -> None:
    t = targets_of(scene(quarters(), [DISC, SKY], absent=(0, 1, 2), complete=True))
    assert t.semantic[7, 0] == IGNORED
    assert t.center_weight[3, 0] == 0
    assert t.center_weight[3, 3] == 1  # padding must stay dark


def test_pseudo_labels_count_by_score_and_trust() -> None:
    thing = SegmentRecord(0, True, score=0.25)  # trust 0.8, square root of the score
    stuff = SegmentRecord(2, False, score=0.6)  # trust 0.5, square of the score
    t = targets_of(scene(quarters(), [thing, stuff]))
    assert (t.semantic[0, 0], t.semantic[0, 7]) == (0, 2)
    assert t.semantic_weight[0, 0] == pytest.approx(0.8 * 0.5)
    assert t.semantic_weight[0, 7] == pytest.approx(0.5 * 0.36)
    # Centres and offsets: the score's part alone.
    true = targets_of(scene(quarters(), [DISC, SKY]))
    assert t.center_weight[0, 0] == pytest.approx(0.5)
    assert t.center_weight[0, 3] == pytest.approx(0.36)
    assert t.offset_weight[0, 0] == pytest.approx(0.5 * true.offset_weight[0, 0])
    assert (t.center == true.center).all()
    assert (t.offset == true.offset).all()


def test_where_nothing_is_said_nothing_is_learnt() -> None:
    t = targets_of(scene(quarters(), [DISC, SKY]))
    assert t.semantic[7, 0] == IGNORED
    assert t.semantic_weight[7, 0] == 0
    assert t.center_weight[3, 0] == 0


def test_the_person_map_speaks_where_no_true_label_lies() -> None:
    levels = np.full((16, 16), 6)
    pseudo = SegmentRecord(1, True, score=0.5)
    t = targets_of(scene(quarters(), [DISC, pseudo], person=levels))
    assert t.person[0, 0] == NO_PERSON_MAP  # a true label
    assert t.person[0, 7] == 6  # a pseudo-label
    assert t.person[7, 0] == 6  # nothing is said
    assert t.person[7, 7] == NO_PERSON_MAP  # padding
    # Where persons are known to be absent, only within persons that a teacher sees.
    t = targets_of(scene(quarters(), [SegmentRecord(2, False, score=0.9), pseudo], (1,), levels))
    assert [t.person[0, 0], t.person[0, 7], t.person[7, 0]] == [NO_PERSON_MAP, 6, NO_PERSON_MAP]


def test_person_loss_is_least_at_the_teachers_probability() -> None:
    import torch

    s = scene(np.zeros((16, 16)), [], person=np.full((16, 16), 6))  # 6 / 15 = 0.4
    batch = collate([s], [targets_of(s)])
    losses = {}
    for p in (0.2, 0.4, 0.6):
        logits = torch.zeros(1, 3, 4, 4)
        logits[:, 1] = float(np.log(2 * p / (1 - p)))  # the other two share the rest
        heads = {
            "semantic": logits,
            "center": torch.zeros(1, 1, 4, 4),
            "offset": torch.zeros(1, 2, 4, 4),
        }
        config = LossConfig(person=1.0, hard_share=0)
        losses[p] = float(panoptic_loss(heads, batch, torch.ones(3), config, 1)["semantic"])
    assert losses[0.4] == pytest.approx(0, abs=1e-5)
    # Kullback-Leibler divergence of 0.4 from 0.2
    expected = 0.4 * np.log(0.4 / 0.2) + 0.6 * np.log(0.6 / 0.8)
    assert losses[0.2] == pytest.approx(expected, rel=1e-3)
    assert losses[0.6] > 0.05
    without = panoptic_loss(heads, batch, torch.ones(3), LossConfig(hard_share=0), None)
    assert float(without["semantic"]) == 0


def test_crowds_teach_class_but_no_centre_and_ignored_ones_nothing() -> None:
    crowd = SegmentRecord(0, is_thing=True, is_crowd=True)
    unsure = SegmentRecord(2, is_thing=False, ignore=True)
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


@pytest.mark.parametrize("turned", [False, True])
def test_scenes_need_not_be_square(turned: bool) -> None:
    m = np.zeros((64, 32), int)
    m[40:48, 8:24] = 1  # centroid at y 44, x 16
    t = targets_of(scene(m.T if turned else m, [DISC]))
    center = t.center.T if turned else t.center
    offset = t.offset[::-1].transpose(0, 2, 1) if turned else t.offset
    assert center.shape == (16, 8)
    peak = np.argwhere(center == center.max())
    assert peak.tolist() == [[10, 3], [10, 4], [11, 3], [11, 4]]
    assert offset[:, 10, 2].tolist() == [2.0, 6.0]


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
    good = panoptic_loss(heads, batch, ones, LossConfig())
    assert float(good["center"]) < 1e-3
    assert float(good["offset"]) == 0
    square_everywhere = torch.zeros(1, 3, 4, 4)
    square_everywhere[:, 1] = 20
    bad = panoptic_loss({**heads, "semantic": square_everywhere}, batch, ones, LossConfig())
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
    loss = panoptic_loss(heads, batch, torch.ones(3), LossConfig())["semantic"]
    # Two of three classes remain: -log(2/3), all pixels alike.
    assert loss.item() == pytest.approx(-np.log(2 / 3) * 0.5 + -np.log(2 / 3) * 0.7 * 0.5, rel=1e-3)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[:, 1] > 0).all()
    assert torch.allclose(logits.grad[:, 0], logits.grad[:, 2])
