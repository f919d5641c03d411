"""Photos that have nothing to measure on them, and who calibrates and who judges."""

from __future__ import annotations

import numpy as np
import pytest

from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig
from panokit_compression.calibration import calibration_from_photos
from panokit_compression.variety import look_at, split_photos, unlike
from tests.toys.network import toy_photos

CONFIG = PreprocessConfig((32, 32))


def gray(level: float, noise: float = 0.0, seed: int = 0) -> Photo:
    values = np.random.default_rng(seed).normal(level, noise, (60, 80, 3))
    return Photo.from_array(np.clip(values, 0, 255).astype(np.uint8))


def brighter(photo: Photo, levels: int) -> Photo:
    return Photo.from_array(np.clip(photo.rgb_hwc.astype(int) + levels, 0, 255).astype(np.uint8))


TOY = toy_photos(12)


@pytest.mark.parametrize(
    ("photos", "message"),
    [
        pytest.param({f"b{i}": gray(0) for i in range(4)}, "all 4 are of one colour", id="black"),
        pytest.param(
            {f"n{i}": gray(9, 12, i) for i in range(5)}, "all 5 are of one colour", id="dark-noise"
        ),
        pytest.param(
            {f"c{i}": gray(60 * i) for i in range(4)}, "all 4 are of one colour", id="other-colours"
        ),
        pytest.param(dict.fromkeys("abcd", TOY["toy0"]), "a, b, c … look the same", id="one-photo"),
        pytest.param(
            {f"v{i}": brighter(TOY["toy0"], i // 2) for i in range(4)}, "look the same", id="burst"
        ),
        pytest.param(
            {"a": TOY["toy0"], "b": TOY["toy0"], "c": gray(0)}, "c are of one colour", id="mixed"
        ),
    ],
)
def test_photos_without_variety_calibrate_nothing(photos: dict[str, Photo], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        calibration_from_photos(photos, 16, CONFIG)
    assert split_photos(photos, 16) == ({}, photos)


def test_what_makes_a_makeshift_is_said() -> None:
    dim = {n: Photo.from_array(p.rgb_hwc // 6) for n, p in TOY.items()}
    assert "levels lie between" in " ".join(look_at(dim).doubts)
    mostly_black = {**{f"b{i}": gray(0) for i in range(12)}, **toy_photos(8)}
    assert "12 of 20 are of one colour" in " ".join(look_at(mostly_black).doubts)
    assert look_at(TOY).doubts == ()


@pytest.mark.parametrize(
    ("given", "count", "calibrating"), [(3, 32, 2), (4, 32, 2), (6, 32, 4), (12, 32, 8), (12, 5, 5)]
)
def test_no_photo_calibrates_and_judges(given: int, count: int, calibrating: int) -> None:
    photos = toy_photos(given)
    one, other = split_photos(photos, count)
    assert (len(one), len(other)) == (calibrating, given - calibrating)
    assert {**one, **other} == photos
    backwards = split_photos(dict(reversed(photos.items())), count)
    assert (set(backwards[0]), set(backwards[1])) == (set(one), set(other))


def test_names_that_are_no_utf8_are_split_too() -> None:
    named = {f"caf\udce9-{name}": photo for name, photo in TOY.items()}
    one, other = split_photos(named, 8)
    assert (len(one), len(other)) == (8, 4)


def test_a_photo_and_its_copy_stay_on_one_side() -> None:
    copies = {f"{n}-copy": brighter(p, 1) for n, p in TOY.items()}
    one, other = split_photos({**TOY, **copies}, 10)
    for side in (one, other):
        assert {n.removesuffix("-copy") for n in side} <= set(side)


def test_images_like_those_that_calibrate_are_found() -> None:
    images = {name: photo.rgb_hwc for name, photo in TOY.items()}
    calibrating = [brighter(TOY["toy3"], 2).rgb_hwc, TOY["toy7"].rgb_hwc]
    assert set(TOY) - set(unlike(images, calibrating)) == {"toy3", "toy7"}
