"""The postprocessing reference: hand-made cases, and agreement with plain loops bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panokit.errors import ArgumentError, HeadError
from panokit.postprocessing import Heads, PostprocessConfig, postprocess
from panokit.preprocessing import letterbox
from panokit.taxonomy import Category, Taxonomy
from tests.conftest import full_frame, toy_heads
from tests.slow_postprocessing import slow_postprocess

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
    [("threshold", 1.5), ("window", 4), ("top_k", 0), ("min_thing_area", -1), ("grid", "photo")],
)
def test_impossible_parameters_are_refused(field: str, value: object) -> None:
    with pytest.raises(ArgumentError, match=field):
        PostprocessConfig(**{field: value})  # type: ignore[arg-type]


def random_heads(seed: int, h: int, w: int, kind: str) -> Heads:
    rng = np.random.default_rng(seed)
    semantic = rng.normal(0, 2, (h, w, 4)).astype(np.float32)
    center = rng.normal(-1, 2, (h, w)).astype(np.float32)
    offset = rng.normal(0, 8, (h, w, 2)).astype(np.float32)
    if kind == "tied":  # few values, so that everything ties with something
        semantic, center, offset = np.round(semantic), np.round(center), np.round(offset / 4) * 4
    elif kind == "saturated":
        semantic, center = semantic * 1e3, np.where(center > 0, 40, -40).astype(np.float32)
    elif kind == "huge":
        semantic, center, offset = semantic * 1e18, center * 1e18, offset * 1e15
    elif kind == "empty":
        center[:] = -30
    elif kind == "constant":
        semantic[:], center[:], offset[:] = 1, 1, 0
    return Heads(semantic.astype(np.float32), center.astype(np.float32), offset.astype(np.float32))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    photo=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    kind=st.sampled_from(["random", "tied", "saturated", "huge", "empty", "constant"]),
    grid=st.sampled_from(["input", "head"]),
    window=st.sampled_from([1, 3, 5]),
    top_k=st.integers(1, 6),
    least=st.integers(0, 12),
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
) -> None:
    h, w = shape
    heads = random_heads(seed, h, w, kind)
    transform = letterbox(photo, (w * 3, h * 3))
    config = PostprocessConfig(0.3, window, top_k, least, least, grid)  # type: ignore[arg-type]
    fast = postprocess(heads, TOY, transform, config)
    ids, segments = slow_postprocess(heads, TOY, transform, config)
    assert (fast.ids == ids).all()
    assert [(s.id, s.channel, s.area) for s in fast.segments] == [s[:3] for s in segments]
    for mine, loop in zip(fast.segments, segments, strict=True):
        assert mine.score == pytest.approx(loop[3], abs=1e-5)
