"""Choosing calibration photos: always the same ones, and on record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from panokit.errors import ArgumentError, DataError
from panokit.preprocessing import PreprocessConfig
from panokit_compression.calibration import (
    CalibrationSet,
    calibration_from_data,
    calibration_from_photos,
)
from tests.toys.data_folder import make_folder
from tests.toys.network import toy_photos

CONFIG = PreprocessConfig((32, 32))


def test_inputs_are_pixels() -> None:
    chosen = calibration_from_photos(toy_photos(3), 3, CONFIG)
    inputs = list(chosen.inputs())
    assert [x.shape for x in inputs] == [(1, 32, 32, 3)] * 3
    assert all(x.dtype == np.float32 for x in inputs)
    assert max(float(x.max()) for x in inputs) > 128
    said = chosen.to_json()
    assert (said["source"], said["photos"]) == ("photos given", ["toy0", "toy1", "toy2"])
    assert said["warnings"] == ["calibration photos: only 3 differ, expected at least 8"]
    assert "warnings" not in calibration_from_photos(toy_photos(8), 8, CONFIG).to_json()


def test_few_photos_are_mirrored_and_cropped_and_it_is_recorded() -> None:
    chosen = calibration_from_photos(toy_photos(4), 88, CONFIG)
    assert len(chosen) == len(set(chosen.names)) == 88
    assert chosen.names[:5] == ("toy0", "toy1", "toy2", "toy3", "toy0+mirror")
    assert "mirrored" in chosen.source
    assert len({image.tobytes() for image in chosen.images}) == 88
    # wide photos: the mirrored input is the input mirrored
    np.testing.assert_array_equal(chosen.images[4], chosen.images[0][:, ::-1])


def test_too_few_photos_say_how_many_are_needed() -> None:
    with pytest.raises(ArgumentError, match="at least 3 for 45 inputs"):
        calibration_from_photos(toy_photos(2), 45, CONFIG)


def test_no_photos() -> None:
    with pytest.raises(ArgumentError, match="at least 1 of each"):
        calibration_from_photos({}, 16, CONFIG)


@pytest.mark.parametrize(
    ("images", "names"),
    [
        pytest.param((), (), id="none"),
        pytest.param((np.zeros((4, 4, 3), np.uint8),), ("a", "b"), id="names"),
        pytest.param((np.zeros((4, 4, 3), np.float32),), ("a",), id="dtype"),
        pytest.param(
            (np.zeros((4, 4, 3), np.uint8), np.zeros((8, 4, 3), np.uint8)), ("a", "b"), id="shapes"
        ),
    ],
)
def test_sets_that_do_not_fit_are_refused(images: tuple, names: tuple) -> None:
    with pytest.raises(ArgumentError, match="calibration"):
        CalibrationSet(images, names, "test")


def test_training_photos_only_and_always_the_same(photo_set: Path) -> None:
    first = calibration_from_data(photo_set, 4, CONFIG)
    again = calibration_from_data(photo_set, 4, CONFIG)
    assert first.names == again.names
    assert calibration_from_data(photo_set, 2, CONFIG).names == first.names[:2]
    assert first.source == "training photos"


def test_too_small_a_data_set_says_so(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    with pytest.raises(DataError, match="expected at least 500 photos"):
        calibration_from_data(folder if isinstance(folder, Path) else tmp_path, 500, CONFIG)
