"""The postprocessing reference: hand-made cases, and agreement with plain loops bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from panokit.bundle import TensorSpec
from panokit.decoding import Heads, PostprocessConfig, postprocess
from panokit.decoding import kernels as _decode
from panokit.errors import ArgumentError, HeadError
from panokit.preprocessing import letterbox
from panokit.runtime import dequantize
from panokit.taxonomy import Category, Taxonomy
from tests.toys.heads import full_frame, toy_heads
from tests.toys.slow_postprocessing import slow_postprocess

PERSON, SKY, DOG, ROAD = range(4)
EVERYTHING = PostprocessConfig(min_thing_area=0, min_stuff_area=0, window=3)
ON_CELLS = PostprocessConfig(min_thing_area=0, min_stuff_area=0, window=3, grid="head")

# Category ids are out of channel order on purpose: ties must go by the right one of the two.
TOY = Taxonomy(
    "toy",
    (
        Category(5, "person", True, (255, 0, 0)),
        Category(9, "sky", False, (0, 0, 255)),
        Category(3, "dog", True, (0, 255, 0)),
        Category(7, "road", False, (9, 9, 9)),
    ),
)


def test_two_people_are_told_apart_by_their_votes() -> None:
    heads = toy_heads(8)
    heads.semantic[..., SKY] = 1
    heads.semantic[2:6, 1:3, PERSON] = 5
    heads.semantic[2:6, 5:7, PERSON] = 5
    heads.center[4, 1], heads.center[4, 5] = 3, 2
    result = postprocess(heads, TOY, full_frame(32), ON_CELLS)
    assert [(s.id, s.channel, s.area) for s in result.segments] == [
        (1, PERSON, 8),
        (2, PERSON, 8),
        (3, SKY, 48),
    ]
    assert result.ids[3, 1] == 1
    assert result.ids[3, 6] == 2
    assert result.ids[0, 0] == 3
    # Cell (4, 1) of 8 cells in 32 pixels: its centre is 4.5·4 down, 1.5·4 across.
    assert result.segments[0].center_yx == (18.0, 6.0)


def test_score_is_centre_score_times_mean_class_probability() -> None:
    heads = toy_heads(4)
    heads.semantic[..., PERSON] = 2.0
    heads.center[1, 1] = 0.0  # sigmoid: one half
    (segment,) = postprocess(heads, TOY, full_frame(16), ON_CELLS).segments
    probability = np.exp(2) / (np.exp(2) + 3)
    assert segment.score == pytest.approx(0.5 * probability, rel=1e-6)


def test_class_tie_goes_to_the_lowest_channel_and_no_centre_to_void() -> None:
    result = postprocess(toy_heads(4), TOY, full_frame(16), EVERYTHING)
    assert result.ids.max() == 0  # all logits equal: person, and there is no centre
    assert result.segments == ()


def test_instance_class_tie_goes_to_the_lowest_category_id() -> None:
    heads = toy_heads(4)
    heads.semantic[:2, :, PERSON] = 5  # id 5
    heads.semantic[2:, :, DOG] = 5  # id 3
    heads.center[1, 1] = 3
    (segment,) = postprocess(heads, TOY, full_frame(16), ON_CELLS).segments
    assert (segment.channel, segment.area) == (DOG, 16)


def test_plateau_keeps_the_first_cell_and_exactly_k_are_kept() -> None:
    heads = toy_heads(8)
    heads.semantic[..., PERSON] = 5
    heads.center[2:4, 2:4] = 1  # a plateau of four
    for y, x in ((0, 7), (7, 0), (7, 7)):
        heads.center[y, x] = 0.5  # three that tie
    config = PostprocessConfig(window=3, top_k=3, min_thing_area=0, grid="head")
    detail = postprocess(heads, TOY, full_frame(32), config, explain=True).explain
    assert detail["centers"].tolist() == [[2, 2], [0, 7], [7, 0]]


def test_vote_tie_goes_to_the_better_centre() -> None:
    heads = toy_heads(5)
    heads.semantic[..., PERSON] = 5
    heads.center[2, 0], heads.center[2, 4] = 1, 2
    result = postprocess(heads, TOY, full_frame(20), ON_CELLS)
    # The middle column is as far from both; the centre at the right has the higher score.
    assert result.ids[2].tolist() == [2, 2, 1, 1, 1]


def test_offset_moves_the_vote() -> None:
    heads = toy_heads(5)
    heads.semantic[..., PERSON] = 5
    heads.center[2, 0], heads.center[2, 4] = 2, 1
    heads.offset[2, 0] = 0, 20  # votes a whole photo to the right
    result = postprocess(heads, TOY, full_frame(20), ON_CELLS)
    assert result.ids[2].tolist() == [2, 1, 1, 2, 2]


def test_padding_is_void_and_holds_no_centre() -> None:
    heads = toy_heads(8)
    heads.semantic[..., PERSON] = 5
    heads.center[0, 4] = 9  # in the padding above
    heads.center[4, 4] = 1
    transform = letterbox((32, 16), (32, 32))
    result = postprocess(heads, TOY, transform, EVERYTHING, explain=True)
    assert result.explain["centers"].tolist() == [[4, 4]]
    assert (result.ids[:8] == 0).all()
    assert (result.ids[8:24] == 1).all()


def test_small_segments_become_void_and_ids_stay_dense() -> None:
    heads = toy_heads(8)
    heads.semantic[..., ROAD] = 1
    heads.semantic[0, 0, SKY] = 5
    heads.semantic[7, 7, PERSON] = 5
    heads.center[7, 7] = 3
    config = PostprocessConfig(min_thing_area=2, min_stuff_area=2, grid="head")
    result = postprocess(heads, TOY, full_frame(32), config)
    assert [(s.id, s.channel, s.area) for s in result.segments] == [(1, ROAD, 62)]
    assert result.ids[0, 0] == 0
    assert result.ids[7, 7] == 0


def test_things_of_a_low_score_become_void_and_ids_stay_dense() -> None:
    heads = toy_heads(8)
    heads.semantic[..., ROAD] = 1
    heads.semantic[0, :3, PERSON] = 5
    heads.semantic[7, 5:, PERSON] = 5
    heads.center[0, 1], heads.center[7, 6] = 3, 0  # scores 0.95 and 0.5
    sure = postprocess(heads, TOY, full_frame(32), ON_CELLS)
    first, second = sure.segments[:2]
    assert first.score > 0.9 > 0.5 > second.score
    least = replace(ON_CELLS, min_thing_score=first.score)  # its own score is enough
    result = postprocess(heads, TOY, full_frame(32), least)
    assert [(s.id, s.channel) for s in result.segments] == [(1, PERSON), (2, ROAD)]
    assert (result.ids[7, 5:] == 0).all()  # nor is it ground
    slow = slow_postprocess(heads, TOY, full_frame(32), least)
    assert (slow.ids == result.ids).all()
    none = replace(ON_CELLS, min_thing_score=1.0)
    assert [s.channel for s in postprocess(heads, TOY, full_frame(32), none).segments] == [ROAD]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("head", ["semantic", "center", "offset"])
def test_nan_and_infinity_name_head_and_position(head: str, bad: float) -> None:
    arrays = {n: getattr(toy_heads(4), n) for n in ("semantic", "center", "offset")}
    at = (1, 2) if head == "center" else (1, 2, 1)
    arrays[head][at] = bad
    with pytest.raises(HeadError, match=rf"head '{head}'.*\(1, 2") as caught:
        Heads(**arrays)
    assert caught.value.head == head


def test_wrong_shapes_types_and_channel_counts() -> None:
    good = toy_heads(4)
    with pytest.raises(HeadError, match=r"'offset': expected shape \(4, 4, 2\), got \(4, 4, 3\)"):
        Heads(good.semantic, good.center, np.zeros((4, 4, 3), np.float32))
    with pytest.raises(HeadError, match="expected float32, got float64"):
        Heads(good.semantic, good.center.astype(np.float64), good.offset)
    with pytest.raises(HeadError, match="expected 4 channels"):
        postprocess(toy_heads(4, channels=5), TOY, full_frame(16))
    with pytest.raises(HeadError, match="'center': is missing"):
        Heads.from_arrays({"semantic": good.semantic, "offset": good.offset})


def test_layouts_and_batch_axes_are_understood() -> None:
    heads = toy_heads(4)
    heads.semantic[1, 2, 3] = 7
    arrays = {
        "semantic": np.moveaxis(heads.semantic, -1, 0)[None],
        "center": heads.center[None, None],
        "offset": np.moveaxis(heads.offset, -1, 0)[None],
    }
    again = Heads.from_arrays(arrays, "nchw")
    assert (again.semantic == heads.semantic).all()
    assert (again.center == heads.center).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", 1.5),
        ("window", 4),
        ("top_k", 0),
        ("min_thing_area", -1),
        ("grid", "photo"),
        ("min_thing_score", -0.1),
    ],
)
def test_impossible_parameters_are_refused(field: str, value: object) -> None:
    with pytest.raises(ArgumentError, match=field):
        PostprocessConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [3e38, -2e38], ids=str)
def test_magnitudes_whose_differences_overflow_are_refused(value: float) -> None:
    heads = toy_heads(4)
    heads.offset[3, 0, 1] = value
    with pytest.raises(HeadError, match=r"'offset': expected .* at most 1e\+38 .* at \(3, 0, 1\)"):
        Heads(heads.semantic, heads.center, heads.offset)


def test_explain_gives_every_intermediate_and_changes_nothing() -> None:
    heads = random_heads(1, 5, 7, "random")
    before = [heads.semantic.copy(), heads.center.copy(), heads.offset.copy()]
    transform = letterbox((28, 11), (28, 20))
    plain = postprocess(heads, TOY, transform, EVERYTHING)
    explained = postprocess(heads, TOY, transform, EVERYTHING, explain=True)
    assert plain.explain == {}
    assert (plain.ids == explained.ids).all()
    assert plain.segments == explained.segments
    detail = explained.explain
    n = len(detail["centers"])
    assert {k: (v.shape, v.dtype.kind) for k, v in detail.items()} == {
        "semantic": ((20, 28, 4), "f"),
        "offset": ((20, 28, 2), "f"),
        "class_map": ((20, 28), "i"),
        "scores": ((5, 7), "f"),
        "centers": ((n, 2), "i"),
        "center_scores": ((n,), "f"),
        "votes": ((20, 28), "i"),
    }
    for head, kept in zip((heads.semantic, heads.center, heads.offset), before, strict=True):
        assert (head == kept).all()


def test_on_the_head_grid_the_heads_are_not_written_to() -> None:
    # One cell: what is transposed is then already contiguous, and a view is easily taken.
    heads = random_heads(3, 1, 1, "random")
    kept = heads.semantic.copy(), heads.offset.copy()
    for _ in range(2):
        detail = postprocess(heads, TOY, full_frame(4), ON_CELLS, explain=True).explain
        detail["semantic"][:] = 0
    assert (heads.semantic == kept[0]).all()
    assert (heads.offset == kept[1]).all()


def test_a_sliver_of_photo_between_two_cell_centres_is_all_void() -> None:
    heads = toy_heads(4)
    heads.semantic[..., SKY] = 5
    transform = letterbox((64, 1), (16, 16))  # content one row high, row 7: no cell centre on it
    assert (transform.top, transform.content_wh) == (7, (16, 1))
    on_cells = postprocess(heads, TOY, transform, ON_CELLS)
    assert on_cells.ids.shape == (4, 4)
    assert on_cells.segments == ()
    on_input = postprocess(heads, TOY, transform, EVERYTHING)
    assert [s.area for s in on_input.segments] == [16]


KINDS = ["random", "tied", "saturated", "huge", "empty", "constant", "int8"]


def random_heads(seed: int, h: int, w: int, kind: str) -> Heads:
    rng = np.random.default_rng(seed)
    semantic: NDArray[Any] = rng.normal(0, 2, (h, w, 4)).astype(np.float32)
    center: NDArray[Any] = rng.normal(-1, 2, (h, w)).astype(np.float32)
    offset: NDArray[Any] = rng.normal(0, 8, (h, w, 2)).astype(np.float32)
    if kind == "tied":  # few values, so that everything ties with something
        semantic, center, offset = np.round(semantic), np.round(center), np.round(offset / 4) * 4
    elif kind == "saturated":
        semantic, center = semantic * 1e3, np.where(center > 0, 40, -40).astype(np.float32)
    elif kind == "huge":  # up to the largest that is allowed, both signs
        semantic, center, offset = (
            np.clip(v * np.float64(5e37), -1e38, 1e38) for v in (semantic, center, offset)
        )
    elif kind == "empty":
        center[:] = -30
    elif kind == "constant":
        semantic[:], center[:], offset[:] = 1, 1, 0
    elif kind == "int8":
        raw = {"semantic": semantic, "center": center[..., None], "offset": offset * 4}
        raw = {k: np.clip(np.round(v * 9), -128, 127).astype(np.int8) for k, v in raw.items()}
        specs = {
            k: TensorSpec(k, (1, *v.shape), "int8", "nhwc", scale, -3)
            for (k, v), scale in zip(
                raw.items(), (0.07841841, 0.043852031, 0.70541263), strict=True
            )
        }
        return Heads.from_arrays(dequantize(raw, specs))
    return Heads(semantic.astype(np.float32), center.astype(np.float32), offset.astype(np.float32))


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    photo=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    kind=st.sampled_from(KINDS),
    grid=st.sampled_from(["input", "head"]),
    window=st.sampled_from([1, 3, 5, 9]),
    top_k=st.integers(1, 6),
    least=st.integers(0, 12),
    band=st.sampled_from([1, 200, 1 << 17]),
)
def test_agrees_with_plain_loops_bit_for_bit(
    seed: int,
    shape: tuple[int, int],
    photo: tuple[int, int],
    kind: str,
    grid: str,
    window: int,
    top_k: int,
    least: int,
    band: int,
) -> None:
    h, w = shape
    heads = random_heads(seed, h, w, kind)
    transform = letterbox(photo, (w * 3, h * 3))
    config = PostprocessConfig(0.3, window, top_k, least, least, grid)  # type: ignore[arg-type]
    with mock.patch.object(_decode, "_BAND_VALUES", band):
        fast = postprocess(heads, TOY, transform, config, explain=True)
    slow = slow_postprocess(heads, TOY, transform, config)
    for name, expected in slow.explain.items():
        found = fast.explain[name]
        assert found.shape == expected.shape, name
        assert (found == expected).all(), name
    assert (fast.ids == slow.ids).all()
    assert [(s.id, s.channel, s.area) for s in fast.segments] == [s[:3] for s in slow.segments]
    for mine, loop in zip(fast.segments, slow.segments, strict=True):
        # Scores go through the platform's exp in float32: equal to a rounding, not to the bit.
        assert mine.score == pytest.approx(loop[3], abs=2e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    centers=st.integers(2, 120),
    size=st.tuples(st.integers(4, 700), st.integers(4, 700)),
    kind=st.sampled_from(["random", "lattice", "one place", "far", "huge"]),
)
def test_the_nearest_centre_is_that_of_a_full_search(
    seed: int, centers: int, size: tuple[int, int], kind: str
) -> None:
    rng = np.random.default_rng(seed)
    at: NDArray[Any] = (rng.random((centers, 2)) * size).astype(np.float32)
    points: NDArray[Any] = (rng.random((1500, 2)) * size).astype(np.float32)
    if kind == "lattice":  # distances tie
        at, points = np.round(at / 8) * 8, np.round(points / 4) * 4
    elif kind == "one place":
        at[:] = at[0]
    elif kind == "far":
        points += rng.normal(0, 2 * max(size), points.shape).astype(np.float32)
    elif kind == "huge":  # squares that overflow tie at infinity
        points[::2] *= np.float32(1e30)
    found = _decode.nearest(points[:, 0].copy(), points[:, 1].copy(), at, size)
    with np.errstate(over="ignore"):
        dy, dx = (points[:, None] - at).transpose(2, 0, 1)
        expected = (dy * dy + dx * dx).argmin(1)
    assert (found == expected).all()
