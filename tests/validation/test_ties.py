"""A tie is an explanation: a device's map has to follow from the heads by one set of decisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from panokit.decoding import Heads, PanopticMap, PostprocessConfig, postprocess
from panokit.preprocessing import letterbox
from panokit.taxonomy import Taxonomy
from panokit_validation.margins import Tolerances
from panokit_validation.ties import EQUAL, ERROR, ROUNDING, TIE, Explanation, explain_map

TOY = Taxonomy.from_json(
    {
        "name": "toy",
        "categories": [
            {"id": 1, "name": "cat", "isthing": 1},
            {"id": 2, "name": "dog", "isthing": 1},
            {"id": 3, "name": "road", "isthing": 0},
            {"id": 4, "name": "sky", "isthing": 0},
        ],
    }
)
CAT, DOG, ROAD, SKY = range(4)
SIDE = 64
TRANSFORM = letterbox((SIDE, SIDE), (SIDE, SIDE))
SETTINGS = PostprocessConfig(0.3, 3, min_thing_area=8, min_stuff_area=8)
BODY = slice(4, 12), slice(4, 12)  # of a cat, in head cells of 4 pixels


def heads_of(centers: dict[tuple[int, int], float]) -> Heads:
    """A cat on a road below a sky, its centre where ``centers`` say (logits by cell); its pixels
    vote for its middle, roughly."""
    n = SIDE // 4
    semantic = np.zeros((n, n, 4), np.float32)
    semantic[: n // 2, :, SKY] = 6
    semantic[n // 2 :, :, ROAD] = 6
    semantic[(*BODY, CAT)] = 12
    center = np.full((n, n), -8, np.float32)
    for cell, logit in centers.items():
        center[cell] = logit
    offset = np.zeros((n, n, 2), np.float32)
    at = (np.arange(n) + 0.5) * 4
    offset[..., 0], offset[..., 1] = 0.2 * (32 - at[:, None]), 0.2 * (32 - at)
    return Heads(semantic, center, offset)


def explained(
    device: PanopticMap | NDArray[np.int32],
    heads: Heads,
    settings: PostprocessConfig = SETTINGS,
    classes: dict[int, int] | None = None,
    exact: bool = True,
) -> Explanation:
    ids = device
    if isinstance(device, PanopticMap):
        ids, classes = device.ids, {s.id: s.channel for s in device.segments}
    tolerances = (Tolerances.exact if exact else Tolerances.rounded)(heads, SIDE)
    return explain_map(np.asarray(ids), heads, TOY, TRANSFORM, settings, tolerances, classes)


def decoded(heads: Heads, settings: PostprocessConfig = SETTINGS) -> PanopticMap:
    return postprocess(heads, TOY, TRANSFORM, settings)


def counts(found: Explanation) -> list[int]:
    """Pixels by kind: equal, tie, rounding, error."""
    return np.bincount(found.pixels.kinds.ravel(), minlength=4).tolist()


def test_the_reference_needs_no_explanation() -> None:
    heads = heads_of({(8, 8): 2})
    found = explained(decoded(heads), heads)
    assert counts(found) == [SIDE * SIDE, 0, 0, 0]
    assert (found.turned, found.worst_segment, found.left_over) == ((), 0.0, 0)


PLATEAU = heads_of({(8, 5): 2, (8, 6): 2, (8, 12): 1.9})  # two cells of one peak, and a rival


def moved_centre() -> PanopticMap:
    """What a decoder gives that takes the other cell of the plateau."""
    center = PLATEAU.center.copy()
    center[8, 5] -= 1e-3
    return decoded(replace(PLATEAU, center=center))


def test_the_other_cell_of_a_plateau_is_a_tie_only_where_the_heads_are_not_known() -> None:
    """Of equal numbers the norm takes the first; what float32 or half precision had in their place
    nobody knows."""
    norm, other = decoded(PLATEAU), moved_centre()
    differ = int((norm.ids != other.ids).sum())
    assert differ > 50
    found = explained(other, PLATEAU, exact=False)
    assert counts(found) == [SIDE * SIDE - differ, differ, 0, 0]
    assert found.turned == ("the centre at cell (8, 6) of its plateau",)
    assert counts(explained(other, PLATEAU))[3] > 0.9 * differ


def test_half_an_object_cannot_follow_the_other_cell() -> None:
    norm, other = decoded(PLATEAU), moved_centre()
    device = norm.ids.copy()
    device[:34] = other.ids[:34]
    classes = {s.id: s.channel for s in norm.segments}
    found = explained(device, PLATEAU, classes=classes, exact=False)
    assert found.left_over >= 20
    assert found.worst_segment > 0.01


def test_both_cells_of_a_plateau_are_no_tie() -> None:
    device = decoded(PLATEAU, replace(SETTINGS, window=1))
    assert len(device.segments) == 1 + len(decoded(PLATEAU).segments)
    assert explained(device, PLATEAU).worst_segment > 0.1


@pytest.mark.parametrize("to", [DOG, ROAD], ids=["a dog", "road"])
def test_a_part_of_a_cat_is_no_tie_whatever_plateau_it_lies_on(to: int) -> None:
    norm = decoded(PLATEAU)
    device, classes = norm.ids.copy(), {s.id: s.channel for s in norm.segments}
    cat = next(s.id for s in norm.segments if s.channel == CAT)
    part = device == cat
    part[:, 24:] = False
    new = next((i for i, c in classes.items() if c == to), 9)
    device[part], classes[new] = new, to
    found = explained(device, PLATEAU, classes=classes)
    assert found.left_over == part.sum()


def test_a_whole_cat_as_a_dog_is_an_error() -> None:
    heads = heads_of({(8, 8): 2})
    norm = decoded(heads)
    classes = {s.id: {CAT: DOG}.get(s.channel, s.channel) for s in norm.segments}
    found = explained(norm.ids, heads, classes=classes)
    assert counts(found)[ERROR] == norm.segments[0].area
    assert found.worst_segment == 1


def voters_disagree(lead: int) -> Heads:
    """Half a cat, half a dog, one instance; the cat ahead by so many columns of pixels."""
    heads = heads_of({(8, 8): 2})
    semantic = heads.semantic.copy()
    semantic[4:12, 4:8] = [12, 0, 0, 0]
    semantic[4:12, 8:12] = [0, 12, 0, 0]
    semantic[4:12, 7:9, :2] += np.float32(lead) * np.array([0.5, 0], np.float32)
    return replace(heads, semantic=semantic)


@pytest.mark.parametrize(("lead", "kind"), [(0, TIE), (8, ERROR)])
def test_the_class_of_an_object_whose_voters_disagree(lead: int, kind: int) -> None:
    heads = voters_disagree(lead)
    norm = decoded(heads)
    assert norm.segments[0].channel == CAT
    classes = {s.id: {CAT: DOG}.get(s.channel, s.channel) for s in norm.segments}
    found = explained(norm.ids, heads, classes=classes)
    assert counts(found)[kind] == norm.segments[0].area


@pytest.mark.parametrize(
    ("logit", "exact", "kind"),
    [
        (1e-7, True, TIE),
        (0.0, True, ERROR),
        (0.003, True, ERROR),
        (0.003, False, ROUNDING),
        (1.0, False, ERROR),
    ],
    ids=["at the threshold", "equal to it", "a hair above", "a hair above, rounded", "well above"],
)
def test_a_missing_object_is_explained_only_at_the_threshold(
    logit: float, exact: bool, kind: int
) -> None:
    heads = heads_of({(8, 8): logit})
    settings = replace(SETTINGS, threshold=0.5)  # its logit is 0
    device = decoded(heads, replace(SETTINGS, threshold=0.9))
    found = explained(device, heads, settings, exact=exact)
    cat = decoded(heads, settings).segments[0]
    assert counts(found)[kind] == cat.area


@pytest.mark.parametrize(
    ("nearness", "kind"),
    [pytest.param(1e-7, TIE, id="a tie"), pytest.param(0.01, ROUNDING, id="barely"),
     pytest.param(0.3, ERROR, id="clearly")],
)  # fmt: skip
@pytest.mark.parametrize("dropped_by", ["the device", "the reference"])
def test_objects_near_the_least_score(dropped_by: str, nearness: float, kind: int) -> None:
    heads = heads_of({(8, 8): 0.5})
    cat = next(s for s in decoded(heads).segments if s.is_thing)
    by_reference = dropped_by == "the reference"
    least = cat.score * (1 + nearness if by_reference else 1 - nearness)
    settings = replace(SETTINGS, min_thing_score=least)
    device = decoded(heads, replace(SETTINGS, min_thing_score=0.0 if by_reference else 1.0))
    found = explained(device, heads, settings, exact=False)
    assert counts(found)[kind] == cat.area


def near_the_least_area() -> tuple[Heads, PostprocessConfig, int]:
    """A cat of which one column of pixels is as much road, and a limit amid that column."""
    heads = heads_of({(8, 8): 2})
    semantic = heads.semantic.copy()
    semantic[4:12, 12] = [6, 0, 6, 0]
    heads = replace(heads, semantic=semantic)
    area = next(s.area for s in decoded(heads).segments if s.is_thing)
    return heads, replace(SETTINGS, min_thing_area=area - 3), area


def test_a_segment_at_the_least_area_is_there_or_not() -> None:
    heads, settings, area = near_the_least_area()
    gone = decoded(heads, replace(settings, min_thing_area=area + 1))
    assert counts(explained(gone, heads, settings)) == [SIDE * SIDE - area, area, 0, 0]
    half = decoded(heads, settings).ids.copy()
    half[:32][half[:32] == 1] = 0
    classes = {s.id: s.channel for s in decoded(heads, settings).segments}
    found = explained(half, heads, settings, classes)
    assert found.left_over > 0.3 * area


def test_a_segment_away_from_the_least_area_is_not_excused() -> None:
    heads, settings, area = near_the_least_area()
    settings = replace(settings, min_thing_area=round(area * 0.92))
    gone = decoded(heads, replace(settings, min_thing_area=area + 1))
    assert counts(explained(gone, heads, settings))[ERROR] == area


def lead_of(lead: float) -> Heads:
    """Sky leads road by so much in the left half of the picture."""
    heads = heads_of({})
    semantic = np.zeros_like(heads.semantic)
    semantic[..., SKY], semantic[..., ROAD] = 6, 2
    semantic[:, :8, ROAD] = 6 - np.float32(lead)
    return replace(heads, semantic=semantic)


@pytest.mark.parametrize(
    ("lead", "exact", "kind"),
    [(0.0, True, TIE), (0.004, True, ERROR), (0.004, False, ROUNDING), (0.2, False, ERROR)],
)
def test_a_pixels_own_class(lead: float, exact: bool, kind: int) -> None:
    heads = lead_of(lead)
    device = np.full((SIDE, SIDE), 1, np.int32)
    device[:, :20] = 2
    norm = decoded(heads)
    differ = (20 if lead else 10) * SIDE  # of equals the lower channel, road, is the reference's
    road = np.array([False, *(s.channel == ROAD for s in norm.segments)])[norm.ids]
    assert (road != (device == 2)).sum() == differ
    found = explained(device, heads, classes={1: SKY, 2: ROAD}, exact=exact)
    assert counts(found)[kind] == differ


def test_what_has_no_explanation_keeps_ids_of_its_own() -> None:
    """Stuff that the decoding has nowhere, and objects that it does not know, stay apart."""
    heads = heads_of({})
    semantic = np.zeros_like(heads.semantic)
    semantic[..., CAT] = 9  # without a centre: all void
    heads = replace(heads, semantic=semantic)
    device = np.full((SIDE, SIDE), 1, np.int32)
    device[:20], device[20:40, :30], device[40:, :30] = 2, 3, 4
    found = explained(device, heads, classes={1: CAT, 2: DOG, 3: ROAD, 4: SKY})
    pairs = {(int(a), int(b)) for a, b in zip(device.ravel(), found.left.ravel(), strict=True)}
    assert len(pairs) == len({left for _, left in pairs}) == 4


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda ids: np.roll(ids, 4, 1), id="moved"),
        pytest.param(lambda ids: ids[::-1].copy(), id="upside down"),
        pytest.param(lambda ids: np.where(ids == 1, 0, ids), id="void"),
    ],
)
def test_a_spoilt_map_is_not_explained(
    spoil: Callable[[NDArray[np.int32]], NDArray[np.int32]],
) -> None:
    heads = heads_of({(8, 8): 2})
    norm = decoded(heads)
    device = spoil(norm.ids).astype(np.int32)
    found = explained(device, heads, classes={s.id: s.channel for s in norm.segments})
    assert counts(found)[EQUAL] == (device == norm.ids).sum()
    assert found.left_over == (device != norm.ids).sum()
