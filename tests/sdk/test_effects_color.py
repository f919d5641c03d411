"""Photos of 16 bits and of a wide gamut keep what they are through every edit."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panokit._png16 import write_png16
from panokit.effects import Edit
from panokit.photo import Photo
from tests.sdk.test_effects_editing import ALL_EDITS, IDS, scene
from tests.sdk.test_photo import display_p3

KEPT_AT_ONE = {"blur_background", "lift", "highlight"}
KEPT_AT_ZERO = {"remove", "recolor", "pixelate", "blur"}


def wide(tmp_path: Path) -> Photo:
    """The drawn scene as Display P3 of 8 bits."""
    buffer = io.BytesIO()
    Image.fromarray(scene()[0].rgb_hwc).save(buffer, "PNG", icc_profile=display_p3())
    return Photo.open(buffer.getvalue())


def deep(tmp_path: Path) -> Photo:
    """The drawn scene with 16 bits."""
    rng = np.random.default_rng(0)
    pixels = scene()[0].rgb_hwc.astype(np.uint16) * 256
    pixels += rng.integers(0, 256, pixels.shape, dtype=np.uint16)
    write_png16(tmp_path / "deep.png", pixels)
    return Photo.open(tmp_path / "deep.png")


@pytest.mark.parametrize("edit", ALL_EDITS, ids=IDS)
@pytest.mark.parametrize("kind", [wide, deep], ids=["p3", "16-bit"])
def test_the_trip(kind: type, edit: Edit, tmp_path: Path) -> None:
    photo = kind(tmp_path)
    result = replace(scene()[1], photo=photo)
    done = edit.apply(photo, result)
    assert done.applied
    pixels = done.photo.pixels_hwc
    assert pixels.dtype == photo.pixels_hwc.dtype
    if edit.do in KEPT_AT_ONE | KEPT_AT_ZERO:
        kept = done.alpha_hw == (edit.do in KEPT_AT_ONE)
        assert kept.any()
        np.testing.assert_array_equal(pixels[kept], photo.pixels_hwc[kept])
        np.testing.assert_array_equal(done.image_hwc[kept], photo.rgb_hwc[kept])
    back = Photo.open(done.save(tmp_path / "out.png"))
    if not done.transparent:
        np.testing.assert_array_equal(back.pixels_hwc, pixels)
        assert back.icc_profile == photo.icc_profile


def test_grey_of_16_bits_stays_grey(tmp_path: Path) -> None:
    photo = deep(tmp_path)
    pixels = np.repeat(np.asarray(photo.pixels_hwc, np.uint16)[..., :1], 3, axis=2)
    grey = photo.with_pixels(pixels)
    result = replace(scene()[1], photo=grey)
    for edit in ALL_EDITS:
        if edit.do not in ("recolor", "replace_background", "replace_sky"):
            out = edit.apply(grey, result).photo.pixels_hwc.astype(int)
            assert (out.max(axis=2) - out.min(axis=2)).max() <= 257, edit.do
