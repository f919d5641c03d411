"""Objects whole: islands join them, holes stay, crumbs fall away."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from panokit import Segmenter
from panokit.decoding import DecodedSegment, PanopticMap
from panokit.effects import Lift, Pick, Pixelate
from panokit.effects.matting import matte_of
from panokit.effects.whole import whole_mask
from panokit.photo import Photo
from panokit.preprocessing import letterbox
from panokit.result import PanopticResult
from panokit.taxonomy import Taxonomy

PERSON, SKY, DOG = 1, 2, 3  # segment ids
COAT, BLUE, RIBBON, BROWN = (40, 40, 50), (90, 140, 220), (200, 60, 60), (120, 80, 40)


def scene(taxonomy: Taxonomy, size: int = 200) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """A person in a dark coat before the sky."""
    rgb = np.full((size, size, 3), BLUE, np.uint8)
    ids = np.full((size, size), SKY, np.int32)
    a, b = size * 3 // 10, size * 7 // 10
    rgb[a:, a:b] = COAT
    ids[a:, a:b] = PERSON
    noise = np.random.default_rng(0).integers(-6, 7, rgb.shape)
    return np.clip(rgb + noise, 0, 255).astype(np.uint8), ids


def result_of(rgb: NDArray[np.uint8], ids: NDArray[np.int32], taxonomy: Taxonomy) -> PanopticResult:
    channels = {PERSON: (0, True), SKY: (1, False), DOG: (2, True)}
    there = [n for n in channels if (ids == n).any()]
    number = np.zeros(4, np.int32)
    number[there] = np.arange(1, len(there) + 1)
    segments = tuple(DecodedSegment(i, *channels[n], 1.0, 1) for i, n in enumerate(there, 1))
    photo = Photo.from_array(rgb)
    transform = letterbox(photo.size_wh, photo.size_wh)
    return PanopticResult.from_map(photo, PanopticMap(number[ids], segments), taxonomy, transform)


def box(ids: NDArray[np.int32], y: float, x: float, h: float, w: float) -> tuple[slice, slice]:
    n = ids.shape[0]
    return slice(round(y * n), round((y + h) * n)), slice(round(x * n), round((x + w) * n))


@pytest.mark.parametrize("size", [80, 200, 900])
@pytest.mark.parametrize("label", [0, SKY])
def test_an_island_of_its_own_colour_joins(label: int, size: int, taxonomy: Taxonomy) -> None:
    rgb, ids = scene(taxonomy, size)
    ribbon = box(ids, 0.5, 0.5, 0.06, 0.12)
    rgb[ribbon], ids[ribbon] = RIBBON, label
    result = result_of(rgb, ids, taxonomy)
    mask = whole_mask(result.photo, result, [1])
    assert mask[ribbon].mean() > 0.95
    assert (mask & (ids == PERSON)).sum() == (ids == PERSON).sum()
    outside = (ids != PERSON).copy()
    outside[ribbon] = False
    assert not mask[outside].any()


@pytest.mark.parametrize("label", [0, SKY])
def test_the_gap_under_an_arm_stays_a_hole(label: int, taxonomy: Taxonomy) -> None:
    rgb, ids = scene(taxonomy)
    gap = box(ids, 0.5, 0.35, 0.2, 0.06)
    rgb[gap], ids[gap] = BLUE, label
    result = result_of(rgb, ids, taxonomy)
    assert not whole_mask(result.photo, result, [1])[gap].any()


def test_another_thing_and_a_large_hole_stay_what_they_are(taxonomy: Taxonomy) -> None:
    rgb, ids = scene(taxonomy)
    dog = box(ids, 0.5, 0.45, 0.15, 0.15)
    rgb[dog], ids[dog] = BROWN, DOG
    result = result_of(rgb, ids, taxonomy)
    assert not whole_mask(result.photo, result, [1])[dog].any()
    rgb, ids = scene(taxonomy)
    large = box(ids, 0.35, 0.34, 0.5, 0.32)
    rgb[large], ids[large] = RIBBON, 0
    result = result_of(rgb, ids, taxonomy)
    assert not whole_mask(result.photo, result, [1])[large].any()


def test_a_narrow_way_out_makes_no_hole_of_an_island(taxonomy: Taxonomy) -> None:
    rgb, ids = scene(taxonomy)
    island, way = box(ids, 0.5, 0.5, 0.06, 0.1), box(ids, 0.52, 0.6, 0.01, 0.1)
    for part in (island, way):
        rgb[part], ids[part] = RIBBON, 0
    result = result_of(rgb, ids, taxonomy)
    assert whole_mask(result.photo, result, [1])[island].mean() > 0.9


def test_crumbs_fall_away_and_stuff_stays_as_it_is(taxonomy: Taxonomy) -> None:
    rgb, ids = scene(taxonomy)
    ids[5:9, 180:184] = PERSON
    bird = box(ids, 0.1, 0.1, 0.02, 0.03)
    rgb[bird], ids[bird] = COAT, 0
    result = result_of(rgb, ids, taxonomy)
    assert not whole_mask(result.photo, result, [1])[5:9, 180:184].any()
    sky = whole_mask(result.photo, result, [2])
    assert not sky[bird].any()
    assert np.array_equal(sky, result.mask(2))


def test_every_effect_takes_objects_whole(taxonomy: Taxonomy) -> None:
    rgb, ids = scene(taxonomy)
    ribbon = box(ids, 0.5, 0.5, 0.06, 0.12)
    rgb[ribbon], ids[ribbon] = RIBBON, 0
    result = result_of(rgb, ids, taxonomy)
    pick = Pick(class_name="person")
    assert matte_of(result.photo, result, [1]).alpha_hw[ribbon].min() > 0.99
    assert Lift(pick).apply(result.photo, result).alpha_hw[ribbon].min() > 0.99
    covered = Pixelate(pick).apply(result.photo, result)
    assert covered.alpha_hw[ribbon].min() == 1
    assert not np.array_equal(covered.image_hwc[ribbon], rgb[ribbon])
    assert np.array_equal(result.mask(1), ids == PERSON)  # the map itself stays


def test_the_ribbons_of_grace_hopper() -> None:
    from panokit.samples import sample_photos

    path = sample_photos().get("grace_hopper")
    if path is None:
        pytest.skip("Matplotlib's sample photo is not installed")
    photo = Photo.open(path)
    result = Segmenter.open().segment(photo)
    ids = [s.id for s in result.find("person")]
    mask = whole_mask(photo, result, ids)
    h, w = mask.shape
    coat = mask[round(0.8 * h) : round(0.95 * h), round(0.6 * w) : round(0.9 * w)]
    assert coat.mean() > 0.97
