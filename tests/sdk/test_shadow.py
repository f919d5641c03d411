"""The shadow of an object."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from panokit.effects import Pick, Remove
from panokit.effects.shadow import shadow_of
from panokit.photo import Photo
from panokit.taxonomy import Taxonomy
from tests.sdk.test_whole import PERSON, SKY, result_of


def ground(
    size: int, texture: float = 0.0, shade: float = 0.55, tint: tuple[float, ...] = (1, 1, 1)
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """A picture of a post on the ground, the post, and its shadow."""
    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[:size, :size] / size
    rgb = np.stack([150 + 40 * ys, 145 + 30 * xs, 120 + 20 * ys], -1)
    rgb += texture * rng.normal(0, 1, (size, size, 1))
    shadow = ((xs - 0.6) / 0.16) ** 2 + ((ys - 0.72) / 0.06) ** 2 < 1
    rgb = np.where(shadow[..., None], rgb * shade * np.array(tint), rgb)
    post = (np.abs(xs - 0.5) < 0.07) & (ys > 0.35) & (ys < 0.73)
    rgb[post] = (60, 20, 90)
    return np.clip(rgb, 0, 255).astype(np.uint8), post, shadow & ~post


@pytest.mark.parametrize("texture", [0, 30])
@pytest.mark.parametrize("size", [120, 400, 1200])
def test_a_shadow_is_found_on_smooth_and_rough_ground(size: int, texture: float) -> None:
    rgb, post, shadow = ground(size, texture)
    found = shadow_of(Photo.from_array(rgb), post)
    assert (found & shadow).sum() > 0.9 * shadow.sum()
    assert (found & ~shadow).sum() < 2 * shadow.sum()
    assert not (found & post).any()


@pytest.mark.parametrize(
    ("shade", "tint"), [(1.0, (1, 1, 1)), (0.55, (1.4, 0.6, 0.6)), (1.3, (1, 1, 1))]
)
def test_what_is_no_shadow_is_left_alone(shade: float, tint: tuple[float, ...]) -> None:
    rgb, post, _ = ground(300, 10, shade, tint)
    assert not shadow_of(Photo.from_array(rgb), post).any()


def test_an_empty_and_a_full_mask() -> None:
    photo = Photo.from_array(ground(100)[0])
    assert not shadow_of(photo, np.zeros((100, 100), bool)).any()
    assert not shadow_of(photo, np.ones((100, 100), bool)).any()


def test_an_object_goes_with_its_shadow(taxonomy: Taxonomy) -> None:
    rgb, post, shadow = ground(240)
    ids = np.where(post, PERSON, SKY).astype(np.int32)
    result = result_of(rgb, ids, taxonomy)
    with_it = Remove(Pick(class_name="person")).apply(result.photo, result)
    without = Remove(Pick(class_name="person"), shadow=False).apply(result.photo, result)
    assert "with its shadow" in with_it.message
    assert "shadow" not in without.message
    ys, xs = np.mgrid[:240, :240] / 240
    true = np.stack([150 + 40 * ys, 145 + 30 * xs, 120 + 20 * ys], -1)
    errors = [np.abs(r.image_hwc - true)[shadow].mean() for r in (with_it, without)]
    assert errors[0] < 8 < errors[1]
