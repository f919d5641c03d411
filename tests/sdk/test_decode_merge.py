"""The merge of instances and classes: hand-made cases, and agreement with plain loops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from panokit.decoding import MERGE_PRESETS, Instance, InstanceSet, Merge, MergeConfig
from panokit.decoding.semantic import SemanticClasses
from panokit.errors import ArgumentError
from panokit.preprocessing import TransformRecord, letterbox
from panokit.taxonomy import Category, Taxonomy
from tests.toys.heads import full_frame
from tests.toys.slow_instances import SlowInstance, slow_merge

PERSON, SKY, DOG, ROAD = range(4)
ALL_STUFF = MergeConfig(min_stuff_area=0)

# Category ids are out of channel order on purpose.
TOY = Taxonomy(
    "toy",
    (
        Category(5, "person", True, (255, 0, 0)),
        Category(9, "sky", False, (0, 0, 255)),
        Category(3, "dog", True, (0, 255, 0)),
        Category(7, "road", False, (9, 9, 9)),
    ),
)


def instance(
    rows: tuple[int, int], cols: tuple[int, int], score: float, channel: int = PERSON
) -> Instance:
    """A rectangle."""
    mask = np.ones((rows[1] - rows[0], cols[1] - cols[0]), bool)
    box = (float(cols[0]), float(rows[0]), float(cols[1]), float(rows[1]))
    corner = rows[0], cols[0]
    return Instance(0, channel, float(np.float32(score)), box, corner, mask, mask.size)


def some(*found: Instance) -> InstanceSet:
    return InstanceSet(found, {})


def classes(channel: int | NDArray[np.int32], shape: tuple[int, int] = (8, 8)) -> SemanticClasses:
    values: NDArray[np.int32] = np.broadcast_to(np.int32(channel), shape).copy()
    return SemanticClasses(values, values, np.full(shape, 0.5, np.float32), np.zeros(shape, bool))


def test_things_come_first_and_stuff_fills_the_rest_by_category_id() -> None:
    ground = np.full((8, 8), SKY, np.int32)
    ground[4:] = ROAD
    found = some(instance((2, 6), (0, 4), 0.6), instance((0, 8), (3, 5), 0.9, DOG))
    result = Merge(TOY, full_frame(8), ALL_STUFF).decode(found, classes(ground), explain=True)
    assert [(s.id, s.channel, s.is_thing, s.area) for s in result.segments] == [
        (1, DOG, True, 16),
        (2, PERSON, True, 12),
        (3, ROAD, False, 18),
        (4, SKY, False, 18),
    ]
    assert result.ids[2].tolist() == [2, 2, 2, 1, 1, 4, 4, 4]
    assert result.ids[7].tolist() == [3, 3, 3, 1, 1, 3, 3, 3]
    assert [s.score for s in result.segments] == pytest.approx([0.9, 0.6, 0.5, 0.5])
    assert result.explain["order"].tolist() == [1, 0]
    assert result.explain["painted"].tolist() == [12, 16]
    assert result.explain["ranks"][2].tolist() == [0, 0, 0, 1, 1, -1, -1, -1]


def test_trap_35_an_overlap_equal_to_the_limit_is_kept() -> None:
    large = instance((0, 8), (0, 4), 0.9)
    half = instance((0, 1), (2, 6), 0.8)  # 2 of 4 are taken
    more = instance((0, 1), (1, 6), 0.8)  # 3 of 5
    merge = Merge(TOY, full_frame(8), ALL_STUFF)
    assert [s.area for s in merge.decode(some(large, half), classes(-1)).segments] == [32, 2]
    assert [s.area for s in merge.decode(some(large, more), classes(-1)).segments] == [32]


def test_the_overlap_is_a_share_of_the_whole_mask() -> None:
    # Of the third 2 of 4 are taken by the first, and 1 more by the second.
    first, second = instance((0, 8), (0, 2), 0.9), instance((0, 2), (2, 3), 0.8)
    third = instance((0, 1), (0, 4), 0.7)
    merge = Merge(TOY, full_frame(8), ALL_STUFF)
    assert len(merge.decode(some(first, second, third), classes(-1)).segments) == 2
    three_quarters = Merge(TOY, full_frame(8), replace(ALL_STUFF, overlap=0.75))
    areas = [
        s.area for s in three_quarters.decode(some(first, second, third), classes(-1)).segments
    ]
    assert areas == [16, 2, 1]


@pytest.mark.parametrize(("pixels", "kept"), [(4095, False), (4096, True)])
def test_trap_35_stuff_of_4096_pixels_is_kept(pixels: int, kept: bool) -> None:
    ground = np.full(64 * 65, -1, np.int32)
    ground[:pixels] = SKY
    transform = letterbox((65, 64), (65, 64))
    for config in (MergeConfig(), *MERGE_PRESETS.values()):
        result = Merge(TOY, transform, config).decode(
            some(), classes(ground.reshape(64, 65), (64, 65))
        )
        assert len(result.segments) == kept


@pytest.mark.parametrize("size", [32, 128])
def test_the_originals_count_stuff_on_the_photo(size: int) -> None:
    half = np.full((size, size), -1, np.int32)
    half[: size // 2] = SKY
    photo = TransformRecord((90, 90), (size, size), (size, size), 0, 0, size / 90)  # 4050 pixels
    larger = replace(photo, photo_wh=(91, 91))  # 4140
    for transform, kept in ((photo, 0), (larger, 1)):
        merge = Merge(TOY, transform, MERGE_PRESETS["detectron2"])
        assert len(merge.decode(some(), classes(half, (size, size))).segments) == kept
    on_input = Merge(TOY, photo, MergeConfig()).decode(some(), classes(half, (size, size)))
    assert len(on_input.segments) == (size == 128)


def test_trap_35_a_score_equal_to_the_threshold_is_kept() -> None:
    found = some(instance((0, 2), (0, 2), 0.8), instance((4, 6), (0, 2), np.nextafter(0.8, 0)))
    merge = Merge(TOY, full_frame(8), replace(ALL_STUFF, threshold=0.8))
    assert [s.score for s in merge.decode(found, classes(-1)).segments] == [
        float(np.float32(0.8))
    ] * 2  # as float32 both are 0.8
    below = some(instance((0, 2), (0, 2), float(np.nextafter(np.float32(0.8), np.float32(0)))))
    assert merge.decode(below, classes(-1)).segments == ()


def test_mmdet_leaves_the_threshold_to_the_detector() -> None:
    found = some(instance((0, 2), (0, 2), 0.1))
    for name, kept in (("mmdet", 1), ("detectron2", 0), ("panopticapi", 0)):
        result = Merge(TOY, full_frame(8), MERGE_PRESETS[name]).decode(found, classes(-1))
        assert len(result.segments) == kept


def test_trap_36_a_hidden_instance_is_absent() -> None:
    found = some(instance((0, 8), (0, 8), 0.9), instance((2, 4), (2, 4), 0.8))
    for overlap in (0.5, 1.0):
        merge = Merge(TOY, full_frame(8), replace(ALL_STUFF, overlap=overlap))
        result = merge.decode(found, classes(SKY))
        assert [(s.id, s.area) for s in result.segments] == [(1, 64)]  # and no empty sky


def test_trap_36_equal_scores_are_painted_as_they_come() -> None:
    left, right = instance((0, 8), (0, 5), 0.7), instance((0, 8), (3, 8), 0.7, DOG)
    merge = Merge(TOY, full_frame(8), ALL_STUFF)
    first = merge.decode(some(left, right), classes(-1)).segments
    assert [(s.channel, s.area) for s in first] == [(PERSON, 40), (DOG, 24)]
    first = merge.decode(some(right, left), classes(-1)).segments
    assert [(s.channel, s.area) for s in first] == [(DOG, 40), (PERSON, 24)]


def test_instances_may_be_painted_as_given() -> None:
    found = some(instance((0, 8), (0, 5), 0.7), instance((0, 8), (3, 8), 0.9, DOG))
    merge = Merge(TOY, full_frame(8), replace(ALL_STUFF, order="given"))
    assert [s.area for s in merge.decode(found, classes(-1)).segments] == [40, 24]


def test_trap_37_thing_pixels_without_an_instance_are_void() -> None:
    ground = np.full((8, 8), ROAD, np.int32)
    ground[:4] = PERSON
    result = Merge(TOY, full_frame(8), ALL_STUFF).decode(some(), classes(ground))
    assert [(s.channel, s.area) for s in result.segments] == [(ROAD, 32)]
    assert (result.ids[:4] == 0).all()


def test_trap_30_the_second_detection_of_a_query_is_dropped() -> None:
    found = some(instance((0, 4), (0, 4), 0.9, DOG), instance((0, 4), (0, 4), 0.8, PERSON))
    result = Merge(TOY, full_frame(8), ALL_STUFF).decode(found, classes(-1))
    assert [s.channel for s in result.segments] == [DOG]


def test_nothing_at_all_is_void() -> None:
    result = Merge(TOY, full_frame(8)).decode(some(), classes(-1))
    assert result.segments == ()
    assert (result.ids == 0).all()


def test_classes_of_another_input_are_refused() -> None:
    transform = letterbox((8, 4), (8, 8))
    with pytest.raises(ArgumentError, match=r"classes have the shape \(8, 8\); expected \(4, 8\)"):
        Merge(TOY, transform).decode(some(), classes(SKY))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", 1.5),
        ("overlap", -0.1),
        ("min_stuff_area", -1),
        ("order", "area"),
        ("area_grid", "head"),
    ],
)
def test_impossible_settings_are_refused(field: str, value: object) -> None:
    with pytest.raises(ArgumentError, match=field):
        MergeConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MERGE_PRESETS)
def test_presets_are_read_back(name: str) -> None:
    assert MergeConfig.from_json(MERGE_PRESETS[name].to_json()) == MERGE_PRESETS[name]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 7),
    photo=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    threshold=st.sampled_from([0.0, 0.5, 0.8]),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.8, 1.0]),
    least=st.integers(0, 40),
    order=st.sampled_from(["score", "given"]),
    area_grid=st.sampled_from(["input", "photo"]),
)
def test_agrees_with_plain_loops(
    seed: int,
    n: int,
    photo: tuple[int, int],
    threshold: float,
    overlap: float,
    least: int,
    order: Any,
    area_grid: Any,
) -> None:
    rng = np.random.default_rng(seed)
    transform = letterbox(photo, (16, 12))
    (w, h), content = transform.content_wh, transform.content_slices
    slow: list[SlowInstance] = []
    fast: list[Instance] = []
    for k in range(n):
        y, x = int(rng.integers(0, h)), int(rng.integers(0, w))
        shape = int(rng.integers(1, h - y + 1)), int(rng.integers(1, w - x + 1))
        mask = rng.random(shape) < 0.7
        if not mask.any():
            continue
        score = np.float32(rng.integers(0, 11) / 10)
        channel = int(rng.choice([PERSON, DOG]))
        corner = (y + transform.top, x + transform.left)
        found = Instance(k, channel, float(score), (0, 0, 1, 1), corner, mask, int(mask.sum()))
        whole = found.on_grid((12, 16))
        zero = np.float32(0)
        slow.append(SlowInstance(k, channel, channel, score, (zero, zero, zero, zero), whole))
        fast.append(found)
    channels = rng.integers(-1, 4, (h, w)).astype(np.int32)
    probability = rng.random((h, w)).astype(np.float32)
    config = MergeConfig(threshold, order, overlap, least, area_grid)
    result = Merge(TOY, transform, config).decode(
        InstanceSet(tuple(fast), {}),
        SemanticClasses(channels, channels, probability, channels < -1),
    )
    whole_channels, whole_probability = np.full((12, 16), -1, np.int32), np.zeros((12, 16))
    whole_channels[content], whole_probability[content] = channels, probability
    ids, segments = slow_merge(slow, whole_channels, whole_probability, TOY, transform, config)
    assert (result.ids == ids).all()
    assert [(s.id, s.channel, s.area) for s in result.segments] == [s[:3] for s in segments]
    assert [s.score for s in result.segments] == pytest.approx([s[3] for s in segments])
    assert [s.is_thing for s in result.segments] == [s[1] in (PERSON, DOG) for s in segments]
