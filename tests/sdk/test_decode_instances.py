"""The contract ``instances``: hand-made cases, agreement with plain loops, and real networks."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from panokit.decoding import (
    INSTANCE_PRESETS,
    InstanceHeads,
    Instances,
    InstancesConfig,
    PanopticMap,
)
from panokit.decoding.instances import InstanceSet
from panokit.errors import ArgumentError, HeadError
from panokit.preprocessing import TransformRecord, letterbox
from panokit.samples import sample_photos
from panokit.taxonomy import Category, Taxonomy
from tests.toys.heads import full_frame
from tests.toys.slow_instances import slow_instances

PERSON, DOG, CUP = range(3)
SIZE = 8
FRAME = full_frame(SIZE)

TOY = Taxonomy(
    "toy",
    (
        Category(5, "person", True, (255, 0, 0)),
        Category(3, "dog", True, (0, 255, 0)),
        Category(4, "cup", True, (0, 255, 9)),
        Category(9, "sky", False, (0, 0, 255)),
    ),
)

YOLO = replace(INSTANCE_PRESETS["yolo-seg"], anchors_last=False)
END2END = INSTANCE_PRESETS["yolo-seg-end2end"]
RF_DETR = INSTANCE_PRESETS["rf-detr-seg"]

Row = tuple[tuple[float, ...], list[float]]


def yolo(*rows: Row, config: InstancesConfig = YOLO, logit: float = 1) -> InstanceHeads:
    """Anchors, each with a box (x0, y0, x1, y1) and class scores (before them, objectness), whose
    masks fill the photo: one prototype of ones, on the input's own grid."""
    joined = [
        [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, *scores, logit]
        for (x0, y0, x1, y1), scores in rows
    ]
    arrays = {
        "detections": np.array(joined or np.zeros((0, 8)), np.float32)[None],
        "prototypes": np.ones((1, SIZE, SIZE, 1), np.float32),
    }
    return InstanceHeads.from_arrays(arrays, settings=config)


def find(heads: InstanceHeads, config: InstancesConfig = YOLO) -> InstanceSet:
    return Instances(TOY, FRAME, config).find(heads)


def decode(heads: InstanceHeads, config: InstancesConfig = YOLO) -> PanopticMap:
    return Instances(TOY, FRAME, config).decode(heads)


def test_the_best_is_painted_first_and_ids_follow() -> None:
    heads = yolo(((0, 0, 4, 4), [0.5, 0, 0]), ((2, 3, 8, 8), [0, 0.75, 0]))
    result = decode(heads)
    assert [(s.id, s.channel, s.is_thing, s.score, s.area) for s in result.segments] == [
        (1, DOG, True, 0.75, 30),
        (2, PERSON, True, 0.5, 14),
    ]
    assert result.segments[0].center_yx == (5.5, 5.0)
    assert result.ids[0].tolist() == [2, 2, 2, 2, 0, 0, 0, 0]
    assert result.ids[3].tolist() == [2, 2, 1, 1, 1, 1, 1, 1]
    (dog, person) = find(heads)
    assert (person.area, dog.area) == (16, 30)  # whole masks
    assert person.on_grid((SIZE, SIZE))[:4, :4].all()
    assert person.on_grid((SIZE, SIZE)).sum() == 16


def test_trap_21_a_score_equal_to_the_threshold_is_dropped() -> None:
    assert len(find(yolo(((0, 0, 4, 4), [0.25, 0, 0])))) == 0
    above = np.nextafter(np.float32(0.25), np.float32(1))
    assert len(find(yolo(((0, 0, 4, 4), [float(above), 0, 0])))) == 1
    # A threshold that is no float32 is rounded to one: 0.8 is then not above 0.8.
    config = replace(YOLO, threshold=0.8)
    assert len(find(yolo(((0, 0, 4, 4), [0.8, 0, 0])), config)) == 0


def test_trap_21_boxes_with_an_iou_equal_to_the_threshold_both_stay() -> None:
    heads = yolo(((0, 0, 4, 8), [0.9, 0, 0]), ((0, 0, 8, 8), [0.8, 0, 0]))  # IoU 32 / 64
    assert len(find(heads, replace(YOLO, nms=0.5))) == 2
    assert len(find(heads, replace(YOLO, nms=0.49))) == 1


def test_trap_22_of_equal_boxes_and_scores_the_lower_anchor_stays_other_classes_too() -> None:
    box = (0, 0, 4, 4)
    heads = yolo((box, [0, 0.5, 0]), (box, [0.5, 0, 0]), (box, [0.5, 0, 0]))
    assert [(i.index, i.channel) for i in find(heads)] == [(0, DOG), (1, PERSON)]
    any_class = replace(YOLO, class_wise=False)
    assert [i.index for i in find(heads, any_class)] == [0]


def test_boxes_without_size_do_not_drop_each_other() -> None:
    heads = yolo(((2, 2, 2, 2), [0.5, 0, 0]), ((2, 2, 2, 2), [0.5, 0, 0]))
    decoder = Instances(TOY, FRAME, YOLO)
    assert decoder.suppress(decoder.detections(heads)).index.tolist() == [0, 1]


def test_boxes_apart_on_both_axes_do_not_overlap() -> None:
    heads = yolo(((0, 0, 3, 3), [0.9, 0, 0]), ((5, 5, 8, 8), [0.8, 0, 0]))
    assert len(find(heads, replace(YOLO, nms=0.2))) == 2  # minus 2 times minus 2 is no area


def test_columns_of_one_channel_do_not_drop_each_other() -> None:
    box = (0, 0, 4, 4)
    heads = yolo((box, [0.9, 0, 0]), (box, [0, 0.8, 0]), (box, [0, 0.7, 0]))
    found = find(heads, replace(YOLO, columns=(PERSON, PERSON, DOG)))
    assert [(i.index, i.channel) for i in found] == [(0, PERSON), (1, PERSON)]


def test_a_dropped_detection_drops_no_other() -> None:
    boxes = [(0, 0, 8, 4), (0, 1, 8, 5), (0, 2, 8, 6)]  # neighbours 3/5, the outer two 2/6
    heads = yolo(*((box, [0.9 - k / 10, 0, 0]) for k, box in enumerate(boxes)))
    assert [i.index for i in find(heads, replace(YOLO, nms=0.5))] == [0, 2]


def test_trap_23_a_class_tie_goes_to_the_lower_column() -> None:
    (found,) = find(yolo(((0, 0, 4, 4), [0.3, 0.6, 0.6])))
    assert found.channel == DOG


def test_trap_24_no_detection_is_an_empty_map() -> None:
    for heads in (yolo(((0, 0, 4, 4), [0, 0, 0])), yolo()):
        result = Instances(TOY, FRAME, YOLO).decode(heads, explain=True)
        assert result.segments == ()
        assert (result.ids == 0).all()
        assert result.explain["boxes"].shape == (0, 4)


def test_trap_25_a_mask_logit_of_0_is_outside() -> None:
    assert len(find(yolo(((0, 0, 4, 4), [0.9, 0, 0]), logit=0))) == 0
    assert len(find(yolo(((0, 0, 4, 4), [0.9, 0, 0]), logit=1e-30))) == 1


def test_trap_26_a_pixel_is_in_a_box_by_its_number() -> None:
    (found,) = find(yolo(((2.5, 0, 5, 8), [0.9, 0, 0])))
    assert np.flatnonzero(found.on_grid((SIZE, SIZE)).any(0)).tolist() == [3, 4]
    assert found.box == (2.5, 0, 5, 8)
    no_width = yolo(((3, 0, 3, 8), [0.9, 0, 0]), ((3.25, 0, 3.75, 8), [0.9, 0, 0]))
    assert len(find(no_width)) == 0


def test_trap_27_a_raw_output_with_few_anchors_is_not_a_finished_one() -> None:
    rng = np.random.default_rng(0)
    raw = {  # 38 numbers for each of 6 anchors: 2 classes, 32 coefficients
        "detections": rng.random((1, 38, 6)).astype(np.float32),
        "prototypes": rng.random((1, 2, 2, 32)).astype(np.float32),
    }
    heads = InstanceHeads.from_arrays(raw, settings=INSTANCE_PRESETS["yolo-seg"])
    assert (heads.boxes.shape, heads.scores.shape, heads.labels) == ((6, 4), (6, 2), None)
    with pytest.raises(HeadError, match="expected 38 numbers an anchor for 32 prototypes, got 6"):
        InstanceHeads.from_arrays(raw, settings=END2END)


def test_trap_28_a_nan_among_the_scores_drops_the_anchor() -> None:
    heads = yolo(((0, 0, 4, 4), [np.nan, 0.9, 0]), ((4, 4, 8, 8), [0.9, 0, 0]))
    assert [i.index for i in find(heads)] == [1]
    assert len(find(yolo(((0, 0, 4, 4), [np.nan] * 3)))) == 0
    rows = end2end([0, 0, 4, 4, np.nan, 0], [0, 0, 4, 4, 0.9, np.nan])
    assert len(find(rows, END2END)) == 0


def end2end(*rows: list[float]) -> InstanceHeads:
    joined = [[*row, 1.0] for row in rows]
    arrays = {
        "detections": np.array(joined, np.float32)[None],
        "prototypes": np.ones((1, SIZE, SIZE, 1), np.float32),
    }
    return InstanceHeads.from_arrays(arrays, settings=END2END)


def test_trap_29_rows_of_score_0_are_ignored() -> None:
    heads = end2end([0, 0, 4, 4, 0.9, 1], [0, 0, 0, 0, 0, 0], [1, 1, 7, 7, 0, 70])
    none = replace(END2END, threshold=0.0)
    for config in (END2END, none):
        assert [(i.index, i.channel) for i in find(heads, config)] == [(0, DOG)]


def test_rows_are_not_suppressed_again() -> None:
    heads = end2end([0, 0, 4, 4, 0.5, 1], [0, 0, 4, 4, 0.9, 1], [0, 0, 4, 4, 0.5, 0])
    assert [i.index for i in find(heads, END2END)] == [1, 0, 2]
    assert [i.index for i in find(heads, replace(END2END, max_count=2))] == [1, 0]
    rounded = end2end([0, 0, 4, 4, 0.9, 0.75], [0, 0, 4, 4, 0.8, 1.25])
    assert [i.channel for i in find(rounded, END2END)] == [DOG, DOG]
    with pytest.raises(HeadError, match=r"'labels': expected class columns from 0 to 2, got 3"):
        find(end2end([0, 0, 4, 4, 0.9, 3]), END2END)


def rf_detr(
    scores: list[list[float]], boxes: list[list[float]] | None = None, logit: float = 1
) -> InstanceHeads:
    """Queries with class probabilities, whose masks fill the photo."""
    p = np.array(scores, np.float64)
    with np.errstate(divide="ignore"):
        x = np.clip(np.log(p / (1 - p)), -50, 50)
    arrays = {
        "boxes": np.array(boxes or [[0.5, 0.5, 1, 1]] * len(p), np.float32)[None],
        "scores": x.astype(np.float32)[None],
        "masks": np.full((1, len(p), 2, 2), logit, np.float32),
    }
    return InstanceHeads.from_arrays(arrays, "nchw", RF_DETR)


def test_trap_30_one_query_of_two_classes_is_two_detections() -> None:
    heads = rf_detr([[0.6, 0.7, 0.1], [0.0, 0.0, 0.2]])
    assert [(i.index, i.channel) for i in find(heads, RF_DETR)] == [(0, DOG), (0, PERSON)]
    assert [s.channel for s in decode(heads, RF_DETR).segments] == [DOG]  # the other is hidden


def test_trap_31_the_slots_that_are_no_class_are_by_the_kind_of_checkpoint() -> None:
    scores = [[0.9, 0.6, 0.0, 0.8], [0.0] * 4, [0.0] * 4]
    # Column = category id, which counts from 1: slot 0 is unused, and a detection of it is lost.
    coco = replace(RF_DETR, columns=(-1, PERSON, DOG, CUP))
    found = find(rf_detr(scores), coco)
    assert [(i.channel, round(i.score, 6)) for i in found] == [(CUP, 0.8), (PERSON, 0.6)]
    assert found.unmapped == {0: 1}
    # Own weights: the last slot is the background.
    own = replace(RF_DETR, background="last")
    found = find(rf_detr(scores), own)
    assert [i.channel for i in found] == [PERSON, DOG]
    assert found.unmapped == {}
    # It is out of the choice, not chosen and dropped.
    assert len(find(rf_detr(scores), replace(own, top_k=2))) == 2
    assert len(find(rf_detr(scores), replace(coco, top_k=2))) == 1
    first = replace(RF_DETR, background="first")
    assert [i.channel for i in find(rf_detr(scores), first)] == [CUP, PERSON]


def test_trap_32_of_101_equal_scores_the_first_100_are_taken_in_order() -> None:
    heads = rf_detr([[0.7, 0.7, 0.1]] * 101)
    top = replace(RF_DETR, top_k=100)
    found = Instances(TOY, FRAME, top).detections(heads)
    pairs = list(zip(found.index.tolist(), found.columns.tolist(), strict=True))
    assert pairs == [(q, c) for q in range(50) for c in (0, 1)]
    all_queries = Instances(TOY, FRAME, RF_DETR).detections(heads)
    assert len(all_queries) == 101  # as many as there are queries


def test_shares_of_the_input_are_scaled_and_cut_to_the_photo() -> None:
    transform = letterbox((8, 4), (8, 8))  # rows 2..5
    heads = rf_detr([[0.9, 0, 0]], [[0.5, 0.5, 1.5, 0.75]])
    (found,) = Instances(TOY, transform, RF_DETR).find(heads)
    assert found.box == (0, 2, 8, 6)
    assert (found.corner, found.mask.shape, found.area) == ((2, 0), (4, 8), 32)
    result = Instances(TOY, transform, RF_DETR).decode(heads)
    assert (result.ids[:2] == 0).all()
    assert (result.ids[2:6] == 1).all()


def test_distances_count_in_strides_from_the_centres_of_cells() -> None:
    config = replace(INSTANCE_PRESETS["yolo-seg-split"], strides=(4, 8))
    scores = np.zeros((1, 3, 5), np.float32)
    scores[0, DOG, 1], scores[0, CUP, 4] = 0.9, 0.8
    distances = np.full((1, 4, 5), 0.5, np.float32)
    distances[0, :, 1] = 1.5, 0.5, 0.25, 1
    arrays = {
        "boxes": distances,
        "scores": scores,
        "coefficients": np.ones((1, 1, 5), np.float32),
        "prototypes": np.ones((1, 1, 2, 2), np.float32),
    }
    heads = InstanceHeads.from_arrays(arrays, "nchw", config)
    found = Instances(TOY, FRAME, config).detections(heads)
    assert found.boxes.tolist() == [[0, 0, 7, 6], [0, 0, 8, 8]]
    with pytest.raises(HeadError, match=r"expected 2×2 anchors for strides .* of 8×8, got 5"):
        Instances(TOY, FRAME, replace(config, strides=(4,))).detections(heads)
    with pytest.raises(HeadError, match=r"expected 2×2 . 0×0 anchors"):
        Instances(TOY, FRAME, replace(config, strides=(4, 9))).detections(heads)


def test_objectness_must_be_above_the_threshold_and_is_a_factor() -> None:
    config = replace(INSTANCE_PRESETS["yolo-seg-v5"], crop="after")
    heads = yolo(
        ((0, 0, 4, 4), [0.25, 1, 1, 1]),
        ((0, 0, 4, 4), [0.5, 0.5, 0.25, 0]),
        ((4, 4, 8, 8), [0.5, 0, 0.75, 0]),
        ((4, 4, 8, 8), [0.25, 0, 0, 1.5]),  # 0.375 in all
        config=config,
    )
    pairs = replace(config, choice="pairs")
    assert [i.index for i in find(heads, pairs)] == [2]
    assert [(i.index, i.channel, i.score) for i in find(heads, config)] == [(2, DOG, 0.375)]


def test_cutting_before_the_resize_lets_masks_grow_beyond_the_box() -> None:
    arrays = {
        "detections": np.array([[[4, 4, 4, 4, 0.9, 0, 0, 9]]], np.float32),  # box 2..6
        "prototypes": np.ones((1, 4, 4, 1), np.float32),
    }
    heads = InstanceHeads.from_arrays(arrays, settings=YOLO)
    (after,) = find(heads)
    (before,) = find(heads, replace(YOLO, crop="before"))
    (none,) = find(heads, replace(YOLO, crop="none"))
    assert (after.area, before.area, none.area) == (16, 36, 64)
    v5 = replace(YOLO, crop="before", activation="sigmoid", mask_threshold=0.5)
    (half,) = find(heads, v5)
    assert half.area == 16  # 0.75 of nearly 1 inside, 0.25 outside
    # Masks of their own: of 2 × 2 cells only the last lies in 2..6, and reaches back to pixel 2.
    (direct,) = find(rf_detr([[0.9, 0, 0]], [[0.5] * 4]), replace(RF_DETR, crop="before"))
    assert direct.area == 36


def test_small_masks_are_no_instances_and_hidden_ones_have_no_id() -> None:
    heads = yolo(((0, 0, 2, 2), [0.5, 0, 0]), ((0, 0, 8, 8), [0, 0.9, 0]))
    assert [s.channel for s in decode(heads).segments] == [DOG]
    assert len(find(heads)) == 2
    assert len(find(heads, replace(YOLO, min_area=5))) == 1


def test_several_labels_of_an_anchor() -> None:
    heads = yolo(((0, 0, 4, 4), [0.5, 0.6, 0.1]), ((0, 0, 4, 4), [0.55, 0.2, 0]))
    found = find(heads, replace(YOLO, choice="pairs"))
    assert [(i.index, i.channel) for i in found] == [(0, DOG), (1, PERSON)]


def test_explain_tells_the_stages() -> None:
    box = (0, 0, 4, 4)
    heads = yolo((box, [0.5, 0, 0]), (box, [0.9, 0, 0]), ((4, 4, 8, 8), [0, 0.7, 0]))
    detail = Instances(TOY, FRAME, YOLO).decode(heads, explain=True).explain
    assert detail["detections"].tolist() == [1, 2, 0]
    assert detail["columns"].tolist() == [0, 1, 0]
    assert detail["boxes"][1].tolist() == [4, 4, 8, 8]
    assert detail["kept"].tolist() == [1, 2]
    assert detail["instances"].tolist() == [1, 2]
    assert detail["areas"].tolist() == [16, 16]
    assert detail["ranks"][[0, 7], [0, 7]].tolist() == [0, 1]


# What is refused.


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"threshold": 1.5}, "threshold is 1.5; expected a number from 0 to 1"),
        ({"nms": -0.1}, "nms is -0.1"),
        ({"mask_threshold": float("nan")}, "mask_threshold is nan; expected a finite number"),
        ({"top_k": 0}, "top_k is 0; expected 1 to"),
        ({"max_count": 0}, "max_count is 0"),
        ({"min_area": -1}, "min_area is -1"),
        ({"strides": ()}, r"strides are \(\)"),
        ({"crop": "later"}, "there is no crop 'later'"),
        ({"box": "distances", "box_unit": "input"}, "distances are in strides"),
        ({"tensors": "rows", "objectness": True}, "objectness goes with tensors 'joined'"),
        ({"masks": "direct"}, "masks 'direct' goes with tensors 'split'"),
        ({"tensors": "rows", "choice": "pairs"}, "rows hold one score and its class"),
        ({"columns": (-2,)}, "columns are"),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        InstancesConfig(**fields)


@pytest.mark.parametrize("name", INSTANCE_PRESETS)
def test_presets_are_read_back(name: str) -> None:
    config = replace(INSTANCE_PRESETS[name], columns=(1, -1, 0))
    assert InstancesConfig.from_json(config.to_json()) == config


def test_columns_must_be_things_of_the_taxonomy() -> None:
    with pytest.raises(ArgumentError, match="columns hold 3, which is 'sky' and stuff"):
        Instances(TOY, FRAME, replace(YOLO, columns=(0, 3)))
    with pytest.raises(ArgumentError, match="columns hold 4; expected channels below 4"):
        Instances(TOY, FRAME, replace(YOLO, columns=(0, 4)))
    mixed = Taxonomy("mixed", tuple(reversed(TOY.categories)))
    with pytest.raises(ArgumentError, match="does not begin with all its things"):
        Instances(mixed, FRAME, YOLO)


def good_arrays() -> dict[str, NDArray[Any]]:
    return {
        "detections": np.zeros((1, 5, 8), np.float32),
        "prototypes": np.zeros((1, 4, 4, 1), np.float32),
    }


def test_wrong_tensors_are_refused() -> None:
    def read(change: Mapping[str, NDArray[Any]], config: InstancesConfig = YOLO) -> InstanceHeads:
        return InstanceHeads.from_arrays({**good_arrays(), **change}, settings=config)

    with pytest.raises(HeadError, match=r"'boxes': is missing; got \['detections', 'prototypes'\]"):
        read({}, INSTANCE_PRESETS["yolo-seg-split"])
    with pytest.raises(HeadError, match="'detections': expected a batch of 1, got 2"):
        read({"detections": np.zeros((2, 5, 8), np.float32)})
    with pytest.raises(HeadError, match="'prototypes': expected 3 axes, or a batch of 1 of them"):
        read({"prototypes": np.zeros((4, 4), np.float32)})
    with pytest.raises(HeadError, match=r"expected 37 or more .*anchors_last turns it"):
        read({"prototypes": np.zeros((4, 4, 32), np.float32)})
    with pytest.raises(HeadError, match="'scores': expected 3 classes, got 5"):
        find(read({"detections": np.zeros((1, 5, 10), np.float32)}))
    with pytest.raises(HeadError, match="'labels': tensors is 'rows'; only rows have labels"):
        find(read({}), END2END)


@pytest.mark.parametrize(
    ("head", "at", "value", "message"),
    [
        ("detections", (0, 1, 2), np.nan, r"'boxes': .* at most 1e\+09 .* got nan at \(1, 2\)"),
        ("detections", (0, 1, 2), 2e9, r"'boxes': .* got 2000000000.0 at \(1, 2\)"),
        ("detections", (0, 1, 5), np.inf, r"'scores': .* got inf at \(1, 1\)"),
        ("detections", (0, 4, 7), -np.inf, r"'coefficients': .* got -inf at \(4, 0\)"),
        ("prototypes", (0, 3, 2, 0), np.nan, r"'prototypes': .* got nan at \(3, 2, 0\)"),
    ],
)
def test_numbers_that_cannot_be_are_refused(
    head: str, at: tuple[int, ...], value: float, message: str
) -> None:
    arrays = good_arrays()
    arrays[head][at] = value
    with pytest.raises(HeadError, match=message):
        InstanceHeads.from_arrays(arrays, settings=YOLO)


def test_heads_that_do_not_belong_together_are_refused() -> None:
    boxes, scores = np.zeros((5, 4), np.float32), np.zeros((5, 3), np.float32)
    cells, masks = np.zeros((2, 2, 6), np.float32), np.zeros((2, 2, 5), np.float32)
    with pytest.raises(HeadError, match="'masks': expected masks, or coefficients and prototypes"):
        InstanceHeads(boxes, scores)
    with pytest.raises(HeadError, match="'prototypes': expected coefficients and prototypes"):
        InstanceHeads(boxes, scores, prototypes=cells)
    with pytest.raises(HeadError, match=r"'masks': expected shape \(h, w, 5\), got \(2, 2, 6\)"):
        InstanceHeads(boxes, scores, masks=cells)
    with pytest.raises(HeadError, match=r"'scores': expected shape \(5, C\), got \(3, 5\)"):
        InstanceHeads(boxes, scores.T, masks=masks)
    with pytest.raises(HeadError, match="'boxes': expected float32, got float64"):
        InstanceHeads(boxes.astype(np.float64), scores, masks=masks)
    direct = InstanceHeads(boxes, scores + 1, masks=masks)
    with pytest.raises(HeadError, match="masks is 'prototypes'; the heads hold others"):
        find(direct, replace(YOLO, tensors="split"))


# Plain loops.


def random_arrays(
    rng: np.random.Generator, config: InstancesConfig, layout: str, kind: str, wh: tuple[int, int]
) -> dict[str, NDArray[Any]]:
    """Tensors of a network with three classes, of an input ``wh`` with strides 4 and 8."""
    w, h = wh
    m = int(rng.integers(1, 4))
    anchors = (w // 4) * (h // 4) + (w // 8) * (h // 8)
    if config.box != "distances":
        anchors = int(rng.integers(1, 20))
    classes = 3 + (config.background != "none")
    scores: NDArray[Any] = rng.random((anchors, classes)) ** 2
    if config.tensors == "rows":
        scores = scores[:, :1]
    if config.classes != "probabilities":
        scores = rng.normal(0, 2, scores.shape)
    at: NDArray[Any] = rng.random((anchors, 2)) * [w, h]
    size = rng.random((anchors, 2)) * [w, h]
    boxes: NDArray[Any] = np.concatenate([at, size], 1)
    if config.box == "corners":
        boxes = np.concatenate([at - size / 2, at + size / 2], 1)
    elif config.box == "distances":
        boxes = rng.random((anchors, 4)) * 3
    mixed = rng.normal(0, 2, (anchors, m))
    cells = (h // int(rng.integers(1, 5)), w // int(rng.integers(1, 5)))
    grid = rng.normal(0, 2, (*cells, m if config.masks == "prototypes" else anchors))
    if kind == "tied":  # few values, so that everything ties with something
        scores = np.round(scores * 4) / 4
        boxes = np.round(boxes / 4) * 4
        mixed, grid = np.round(mixed), np.round(grid)
    if kind == "nan":
        scores[rng.random(scores.shape) < 0.1] = np.nan
    if config.box_unit == "input":
        boxes = boxes / [w, h, w, h]
    tensors = {"boxes": boxes, "scores": scores, "coefficients": mixed}
    if config.tensors != "split":
        middle = [scores]
        if config.tensors == "rows":
            middle.append(rng.integers(0, 3, (anchors, 1)))
        elif config.objectness:
            middle.insert(0, np.round(rng.random((anchors, 1)) * 4) / 4)
        tensors = {"detections": np.concatenate([boxes, *middle, mixed], 1)}
    elif config.masks == "direct":
        del tensors["coefficients"]
    if config.anchors_last:
        tensors = {k: v.T for k, v in tensors.items()}
    name = "prototypes" if config.masks == "prototypes" else "masks"
    tensors[name] = grid if layout == "nhwc" else np.moveaxis(grid, -1, 0)
    return {k: v.astype(np.float32)[None] for k, v in tensors.items()}


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    preset=st.sampled_from(sorted(INSTANCE_PRESETS)),
    kind=st.sampled_from(["random", "tied", "nan"]),
    layout=st.sampled_from(["nhwc", "nchw"]),
    wh=st.sampled_from([(16, 16), (24, 8), (8, 16)]),
    photo=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    turned=st.booleans(),
    changes=st.fixed_dictionaries(
        {},
        optional={
            "background": st.sampled_from(["first", "last"]),
            "choice": st.sampled_from(["best", "pairs"]),
            "classes": st.sampled_from(["sigmoid", "softmax"]),
            "threshold": st.sampled_from([0.0, 0.25, 0.5]),
            "top_k": st.integers(1, 9),
            "nms": st.sampled_from([None, 0.0, 0.3, 0.5]),
            "class_wise": st.just(False),
            "max_count": st.integers(1, 6),
            "crop": st.sampled_from(["before", "after", "none"]),
            "activation": st.sampled_from(["none", "sigmoid"]),
            "mask_threshold": st.sampled_from([0.5, -1.0]),
            "min_area": st.integers(1, 30),
            "box_unit": st.sampled_from(["pixels", "input"]),
            "columns": st.sampled_from([(2, -1, 0), (1, 1, 2)]),
        },
    ),
)
def test_agrees_with_plain_loops(
    seed: int,
    preset: str,
    kind: str,
    layout: str,
    wh: tuple[int, int],
    photo: tuple[int, int],
    turned: bool,
    changes: dict[str, Any],
) -> None:
    config = replace(INSTANCE_PRESETS[preset], strides=(4, 8))
    if config.tensors == "rows":
        changes = {k: v for k, v in changes.items() if k not in _NOT_IN_ROWS}
    if config.box == "distances":
        changes.pop("box_unit", None)
    config = replace(config, anchors_last=config.anchors_last ^ turned, **changes)
    if kind == "nan" and config.classes == "softmax":
        kind = "random"
    arrays = random_arrays(np.random.default_rng(seed), config, layout, kind, wh)
    transform = letterbox(photo, wh)
    heads = InstanceHeads.from_arrays(arrays, layout, config)
    three = Taxonomy("three", TOY.categories[:3])
    decoder = Instances(three, transform, config)
    result = decoder.decode(heads, explain=True)
    slow = slow_instances(arrays, layout, three, transform, config)

    detail = result.explain
    pairs = [*zip(detail["detections"].tolist(), detail["columns"].tolist(), strict=True)]
    assert pairs == slow.detections
    assert [*zip(detail["kept"].tolist(), detail["kept_columns"].tolist(), strict=True)] == (
        slow.kept
    )
    found = decoder.find(heads)
    assert [(i.index, i.channel, i.score) for i in found] == [
        (i.index, i.channel, float(i.score)) for i in slow.instances
    ]
    (left, top), (w, h) = (transform.left, transform.top), transform.content_wh
    for mine, loop in zip(found, slow.instances, strict=True):
        assert (mine.on_grid(wh[::-1]) == loop.mask).all()
        x0, y0, x1, y1 = (float(v) for v in loop.box)
        clipped = [min(max(v, left), left + w) for v in (x0, x1)]
        clipped += [min(max(v, top), top + h) for v in (y0, y1)]
        assert [mine.box[0], mine.box[2], mine.box[1], mine.box[3]] == clipped
    assert (result.ids == slow.ids).all()
    assert [(s.id, s.channel, s.area, s.score) for s in result.segments] == slow.segments


_NOT_IN_ROWS = ("background", "choice", "classes")


# Real networks.


@pytest.fixture(scope="module")
def teachers(root: Path) -> Any:
    """An independent decoding of the same files, and the files."""
    for name in ("cv2", "ai_edge_litert", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    path = root.parent / "shared" / "teachers" / "label.py"
    if not path.is_file():
        pytest.skip("../shared/teachers is absent: the YOLO files are not part of the project")
    spec = importlib.util.spec_from_file_location("teachers_label", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


COCO80 = Taxonomy("coco80", tuple(Category(i + 1, f"c{i}", True, (i, 0, 0)) for i in range(80)))


@pytest.mark.parametrize("photo", ["astronaut", "coffee", "chelsea"])
@pytest.mark.parametrize(
    ("file", "kind", "preset"),
    [
        ("yolo11n-seg_int8.tflite", "nms", "yolo-seg-end2end"),
        ("yolov8n-seg_int8.tflite", "grid", "yolo-seg"),
        ("yolo26n-seg_w8.onnx", "distances", "yolo-seg-split"),
    ],
)
def test_real_networks_decode_as_an_independent_decoding_does(
    teachers: Any, file: str, kind: str, preset: str, photo: str
) -> None:
    path = Path(teachers.__file__).parent / "models" / file
    if photo not in sample_photos() or not path.is_file():
        pytest.skip(f"{photo} or {file} is absent")
    network = teachers.Yolo(path, kind)
    rgb = teachers.open_rgb(sample_photos()[photo])
    canvas, scale, left, top = network._letterbox(rgb, network.size)
    x = (canvas.astype(np.float32) / 255)[None]
    config, layout = INSTANCE_PRESETS[preset], "nhwc"
    if kind == "distances":
        layout = "nchw"
        outputs = network.session.run(None, {"images": x.transpose(0, 3, 1, 2)})
        arrays = dict(zip(("boxes", "scores", "coefficients", "prototypes"), outputs, strict=True))
    else:
        config = replace(config, box_unit="input")
        arrays = {"prototypes" if o.ndim == 4 else "detections": o for o in network.net(x)}
    h, w = rgb.shape[:2]
    content, margin = (round(w * scale), round(h * scale)), np.array([left, top] * 2)
    shape = canvas.shape[:2]
    transform = TransformRecord((w, h), shape[::-1], content, left, top, scale)
    heads = InstanceHeads.from_arrays(arrays, layout, config)
    found = Instances(COCO80, transform, config).find(heads)
    theirs = network(rgb, False, 0.25, 0.7, 300)

    assert len(found) >= 1
    assert len(found) == len(theirs)
    for mine, their in zip(found, theirs, strict=True):
        assert mine.score == pytest.approx(their.score, abs=1e-6)
        assert teachers.COCO80_TO_CAMERA[mine.channel] == their.category
        # Their photo ends where the nominal scale says, here at a whole pixel.
        ends = np.minimum(np.array([w, h] * 2) * scale, content * 2)
        box = [np.clip(b, 0, ends) for b in ((mine.box - margin), (np.array(their.box) * scale))]
        assert box[0] == pytest.approx(box[1], abs=1e-3)
        # They decide on the photo's pixels, here the input's go to the nearest: edges may differ.
        mask = transform.map_to_photo(mine.on_grid(shape))
        other = np.zeros((h, w), bool)
        part = their.mask > 127
        other[their.y : their.y + part.shape[0], their.x : their.x + part.shape[1]] = part
        assert (mask & other).sum() / (mask | other).sum() > 0.97
