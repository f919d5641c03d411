"""The contract ``semantic``: hand-made cases, and agreement with plain loops."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from panokit.decoding import Semantic, SemanticConfig, SemanticHeads, kernels
from panokit.errors import ArgumentError, HeadError
from panokit.preprocessing import letterbox
from panokit.taxonomy import Category, Taxonomy
from tests.toys.heads import full_frame
from tests.toys.slow_semantic import slow_semantic

PERSON, SKY, DOG, ROAD = range(4)
LABELS = SemanticConfig("labels")

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


def logits(cells: int, channels: int = 4) -> NDArray[np.float32]:
    return np.zeros((cells, cells, channels), np.float32)


def test_each_class_is_one_segment_things_too_by_category_id() -> None:
    head = logits(4)
    head[..., ROAD] = 1
    head[0, 0, PERSON] = head[3, 3, PERSON] = 5  # two people: one segment, there are no instances
    head[1, :, DOG] = 5
    result = Semantic(TOY, full_frame(4)).decode(SemanticHeads(head))
    assert [(s.id, s.channel, s.is_thing, s.area) for s in result.segments] == [
        (1, DOG, True, 4),
        (2, PERSON, True, 2),
        (3, ROAD, False, 10),
    ]
    assert result.ids[:2].tolist() == [[2, 3, 3, 3], [1, 1, 1, 1]]
    assert result.segments[1].score == pytest.approx(np.exp(5) / (np.exp(5) + np.exp(1) + 2))
    assert result.segments[0].center_yx is None


def test_trap_33_a_tie_goes_to_the_lowest_column() -> None:
    head = logits(2)
    head[..., [SKY, ROAD]] = 3
    (segment,) = Semantic(TOY, full_frame(2)).decode(SemanticHeads(head)).segments
    assert segment.channel == SKY
    swapped = SemanticConfig(columns=(PERSON, ROAD, DOG, SKY))  # by column, not by channel or id
    (segment,) = Semantic(TOY, full_frame(2), swapped).decode(SemanticHeads(head)).segments
    assert segment.channel == ROAD


def test_trap_33_labels_are_resized_to_the_nearest_and_never_mixed() -> None:
    labels = np.array([[PERSON, DOG], [DOG, PERSON]], np.int32)  # between them: sky
    result = Semantic(TOY, full_frame(6), LABELS).decode(SemanticHeads(labels))
    assert {s.channel: s.area for s in result.segments} == {DOG: 18, PERSON: 18}
    assert [s.score for s in result.segments] == [1.0, 1.0]
    assert result.ids[:3, :3].tolist() == [[2, 2, 2]] * 3
    row = np.array([[0, 1, 2]] * 3, np.int32)
    half_pixel = Semantic(TOY, full_frame(5), LABELS).classes(SemanticHeads(row))
    assert half_pixel.column[0].tolist() == [0, 0, 1, 2, 2]
    aligned = SemanticConfig("labels", align_corners=True)  # at 0, 1/2, 1, 3/2, 2: halves go up
    corners = Semantic(TOY, full_frame(5), aligned).classes(SemanticHeads(row))
    assert corners.column[0].tolist() == [0, 1, 1, 2, 2]


def test_trap_34_a_class_without_taxonomy_entry_is_void_and_reported() -> None:
    head = logits(4, 6)
    head[..., 5] = 1
    head[0, :, 2] = 4
    head[1, :, 0] = 4
    config = SemanticConfig(columns=(-1, PERSON, DOG, ROAD, SKY, -1))
    result = Semantic(TOY, full_frame(4), config).decode(SemanticHeads(head), explain=True)
    assert [(s.channel, s.area) for s in result.segments] == [(DOG, 4)]
    assert (result.ids[1:] == 0).all()
    assert result.explain["unmapped"].tolist() == [[0, 4], [5, 8]]


def test_labels_outside_the_columns_are_void_and_reported() -> None:
    labels = np.array([[255, -1], [1, 1]], np.int32)
    found = Semantic(TOY, full_frame(2), LABELS).classes(SemanticHeads(labels))
    assert found.channel.tolist() == [[-1, -1], [SKY, SKY]]
    assert found.unmapped == {255: 1, -1: 1}


def test_columns_of_one_channel_are_one_segment() -> None:
    config = SemanticConfig("labels", columns=(SKY, ROAD, SKY))
    labels = np.array([[0, 2], [1, 1]], np.int32)
    result = Semantic(TOY, full_frame(2), config).decode(SemanticHeads(labels))
    assert [(s.channel, s.area) for s in result.segments] == [(ROAD, 2), (SKY, 2)]


def test_probabilities_are_scores_as_they_are() -> None:
    head = logits(2)
    head[..., SKY] = 0.75
    config = SemanticConfig("probabilities")
    (segment,) = Semantic(TOY, full_frame(2), config).decode(SemanticHeads(head)).segments
    assert segment.score == 0.75


def test_padding_is_void_and_small_classes_are_dropped() -> None:
    head = logits(8)
    head[..., ROAD] = 1
    head[3, 2, SKY] = 5
    transform = letterbox((8, 4), (8, 8))
    result = Semantic(TOY, transform, SemanticConfig(min_area=2)).decode(SemanticHeads(head))
    assert [(s.id, s.channel, s.area) for s in result.segments] == [(1, ROAD, 31)]
    assert (result.ids[:2] == 0).all()
    assert (result.ids[6:] == 0).all()
    assert result.ids[3, 2] == 0


def test_corner_rules_differ() -> None:
    head = logits(3)
    head[:, 0, SKY] = 1
    head[:, 1:, ROAD] = 1.5
    half = Semantic(TOY, full_frame(9)).classes(SemanticHeads(head))
    corners = Semantic(TOY, full_frame(9), SemanticConfig(align_corners=True))
    assert (half.column[0] == ROAD).argmax() == 3
    assert (corners.classes(SemanticHeads(head)).column[0] == ROAD).argmax() == 2


def test_layouts_batches_and_types() -> None:
    head = np.random.default_rng(0).normal(size=(1, 4, 3, 5)).astype(np.float32)
    turned = SemanticHeads.from_arrays({"semantic": head}, "nchw").semantic
    assert (turned == np.moveaxis(head[0], 0, -1)).all()
    labels = np.array([[[1, 2], [3, 255]]], np.int64)
    for given_labels in (labels, labels[0], labels[..., None], labels.astype(np.uint8)):
        assert SemanticHeads.from_arrays({"semantic": given_labels}).semantic.dtype == np.int32
    assert SemanticHeads.from_arrays({"semantic": labels[:, None]}, "nchw").semantic.shape == (2, 2)


def test_labels_of_an_artifact_are_read_in_every_form() -> None:
    labels = np.array([[1, 2, 0], [3, 255, 0]])
    for kind in (np.uint8, np.int32, np.int64, np.float32):
        for form in (labels, labels[None], labels[..., None], labels[None, ..., None]):
            read = LABELS.read_heads({"semantic": form.astype(kind)}).semantic
            assert read.dtype == np.int32
            assert (read == labels).all()
    # What a scale leaves of whole numbers is rounded, not cut off.
    near = np.array([[0.9000001, 2.9999998], [1.5, -0.25]], np.float32)
    assert LABELS.read_heads({"semantic": near}).semantic.tolist() == [[1, 3], [2, 0]]
    bad = np.zeros((1, 2, 3, 1), np.float32)
    for value in (np.nan, np.inf, 3e9):
        bad[0, 1, 2] = value
        with pytest.raises(HeadError, match=r"labels of 32 bits, got .* at \(1, 2\)") as caught:
            LABELS.read_heads({"semantic": bad})
        assert caught.value.position == (1, 2)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), "expected a batch of 1, got 2"),
        (np.zeros((3, 4, 4), np.int32), "expected a batch of 1, got 3"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"dequantize logits first. Got the shape \(4, 4, 3\)"),
        (np.zeros((4, 4), np.float32), r"expected int32 for labels \(h, w\), got float32"),
        (np.zeros((0, 4, 4), np.float32), "expected shape"),
        (np.full((1, 1), 2**31, np.int64), r"labels of 32 bits, got 2147483648 at \(0, 0\)"),
        (np.full((1, 1, 2), np.nan, np.float32), r"finite numbers .* got nan at \(0, 0, 0\)"),
        (np.full((1, 1, 2), -2e38, np.float32), r"finite numbers .* at \(0, 0, 0\)"),
    ],
)
def test_wrong_heads_are_refused(array: NDArray[Any], message: str) -> None:
    with pytest.raises(HeadError, match=message):
        SemanticHeads.from_arrays({"semantic": array})


def test_heads_that_do_not_fit_the_settings_are_refused() -> None:
    with pytest.raises(HeadError, match="'semantic': is missing; got \\['logits'\\]"):
        SemanticHeads.from_arrays({"logits": logits(2)})
    with pytest.raises(HeadError, match="expected 4 classes, got 3"):
        Semantic(TOY, full_frame(2)).decode(SemanticHeads(logits(2, 3)))
    with pytest.raises(HeadError, match=r"expected labels, got numbers per class \(h, w, C\)"):
        Semantic(TOY, full_frame(2), LABELS).decode(SemanticHeads(logits(2)))
    with pytest.raises(HeadError, match=r"expected logits, got labels \(h, w\)"):
        Semantic(TOY, full_frame(2)).decode(SemanticHeads(np.zeros((2, 2), np.int32)))
    with pytest.raises(HeadError, match="expected float32, got float64"):
        SemanticHeads(np.zeros((2, 2, 4)))


@pytest.mark.parametrize(
    ("field", "value"), [("input", "argmax"), ("columns", (-2,)), ("min_area", -1)]
)
def test_impossible_settings_are_refused(field: str, value: object) -> None:
    with pytest.raises(ArgumentError, match=field):
        SemanticConfig(**{field: value})  # type: ignore[arg-type]


def test_a_channel_that_the_taxonomy_lacks_is_refused() -> None:
    with pytest.raises(ArgumentError, match="columns hold 4; expected channels below 4"):
        Semantic(TOY, full_frame(2), SemanticConfig(columns=(0, 4)))


def test_settings_are_read_back() -> None:
    config = SemanticConfig("labels", True, (3, -1, 0), 7)
    assert SemanticConfig.from_json(config.to_json()) == config


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    photo=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.tuples(st.integers(1, 19), st.integers(1, 19)),
    kind=st.sampled_from(["logits", "probabilities", "labels"]),
    tied=st.booleans(),
    aligned=st.booleans(),
    least=st.integers(0, 12),
    band=st.sampled_from([1, 200, 1 << 17]),
)
def test_agrees_with_plain_loops_bit_for_bit(
    seed: int,
    shape: tuple[int, int],
    photo: tuple[int, int],
    size: tuple[int, int],
    kind: Any,
    tied: bool,
    aligned: bool,
    least: int,
    band: int,
) -> None:
    rng = np.random.default_rng(seed)
    head: NDArray[Any] = rng.normal(0, 2, (*shape, 5)).astype(np.float32)
    head = np.round(head) if tied else head
    if kind == "probabilities":
        head = np.abs(head) / np.maximum(1, np.abs(head).sum(2, keepdims=True))
    elif kind == "labels":
        head = rng.integers(-1, 7, shape).astype(np.int32)
    config = SemanticConfig(kind, aligned, (ROAD, -1, PERSON, DOG, ROAD), least)
    transform = letterbox(photo, size)
    with mock.patch.object(kernels, "_BAND_VALUES", band):
        fast = Semantic(TOY, transform, config).decode(SemanticHeads(head), explain=True)
    slow = slow_semantic(head, TOY, transform, config)
    assert (fast.explain["class_map"] == slow.channel).all()
    assert (fast.explain["columns"] == slow.column).all()
    assert fast.explain["probability"] == pytest.approx(slow.probability, abs=2e-6)
    assert (fast.ids == slow.ids).all()
    assert [(s.id, s.channel, s.area) for s in fast.segments] == [s[:3] for s in slow.segments]
    for mine, loop in zip(fast.segments, slow.segments, strict=True):
        assert mine.score == pytest.approx(loop[3], abs=2e-6)


@pytest.mark.parametrize("align", [False, True])
def test_many_classes_are_resized_row_by_row_to_the_same_bits(align: bool) -> None:
    """So many channels that a band is one row: another way through the cache."""
    from panokit.decoding.kernels import aligned_taps, axis_taps, classify, resize_planes

    head = np.random.default_rng(3).normal(0, 4, (5, 7, 300)).astype(np.float32)
    taps = aligned_taps if align else axis_taps
    rows, cols = slice(2, 15), slice(10, 500)
    found = classify(head, (17, 517), rows, cols, taps)
    planes = resize_planes(head, (17, 517), rows, cols, taps)
    np.testing.assert_array_equal(found.channel, planes.argmax(0))
    np.testing.assert_array_equal(found.peak, planes.max(0))
