"""Letterbox arithmetic, and that the transform record is its inverse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.preprocessing import (
    PreprocessConfig,
    Size,
    TransformRecord,
    letterbox,
    parse_size,
    preprocess,
    sides,
)


@pytest.mark.parametrize(
    ("photo_wh", "content_wh", "left_top"),
    [
        ((640, 480), (320, 240), (0, 40)),
        ((480, 640), (240, 320), (40, 0)),
        ((320, 320), (320, 320), (0, 0)),
        ((1, 1), (320, 320), (0, 0)),
        ((1000, 1), (320, 1), (0, 159)),  # 319 left: the odd pixel goes to the bottom
        ((640, 481), (320, 241), (0, 39)),  # 240.5 rounds up; 79 = 39 + 40
        ((3, 2), (320, 213), (0, 53)),
    ],
    ids=str,
)
def test_letterbox(
    photo_wh: tuple[int, int], content_wh: tuple[int, int], left_top: tuple[int, int]
) -> None:
    record = letterbox(photo_wh, (320, 320))
    assert record.content_wh == content_wh
    assert (record.left, record.top) == left_top


sizes = st.integers(1, 5000)


@given(w=sizes, h=sizes, x=st.floats(0, 1), y=st.floats(0, 1))
def test_points_go_there_and_back(w: int, h: int, x: float, y: float) -> None:
    record = letterbox((w, h), (320, 256))
    there = record.point_to_input(x * w, y * h)
    back = record.point_to_photo(*there)
    assert back == pytest.approx((x * w, y * h), abs=1e-6 * max(w, h))
    assert record.left <= there[0] <= record.left + record.content_wh[0]
    assert record.top <= there[1] <= record.top + record.content_wh[1]


@given(w=sizes, h=sizes)
def test_the_photo_lies_inside_the_input(w: int, h: int) -> None:
    record = letterbox((w, h), (320, 256))
    (cw, ch), (iw, ih) = record.content_wh, record.input_wh
    assert 1 <= cw <= iw
    assert 1 <= ch <= ih
    assert iw in (cw,) or ih in (ch,)
    assert 0 <= iw - cw - 2 * record.left <= 1
    assert 0 <= ih - ch - 2 * record.top <= 1


@given(w=st.integers(1, 700), h=st.integers(1, 700))
def test_map_to_photo_takes_the_pixel_under_each_centre(w: int, h: int) -> None:
    record = letterbox((w, h), (64, 64))
    rows, cols = record.rows_cols()
    for i in {0, h // 2, h - 1}:
        _, y = record.point_to_input(0, i + 0.5)
        assert rows[i] == pytest.approx(np.floor(y + 1e-9), abs=0)
    assert cols.min() >= record.left
    assert cols.max() < record.left + record.content_wh[0]


def test_map_to_photo_inverts_an_exact_doubling() -> None:
    record = letterbox((4, 2), (8, 8))
    grid = np.arange(64).reshape(8, 8)
    photo_map = record.map_to_photo(grid)
    # Photo pixel (0,0) covers input rows 2..3, columns 0..1; its centre (1,3) lies in pixel (3,1).
    assert photo_map.shape == (2, 4)
    assert photo_map[0, 0] == grid[3, 1]
    with pytest.raises(ArgumentError, match="values"):
        record.map_to_photo(np.zeros((3, 3)))


def test_preprocess_resizes_as_pillow_and_pads_with_black() -> None:
    rng = np.random.default_rng(1)
    photo = Photo.from_array(rng.integers(1, 256, (50, 100, 3)).astype(np.uint8))
    image, record = preprocess(photo, PreprocessConfig((64, 64)))
    assert record.content_wh == (64, 32)
    expected = Image.fromarray(photo.rgb_hwc).resize((64, 32), Image.Resampling.BILINEAR)
    assert (image[record.content_slices] == np.asarray(expected)).all()
    assert image[record.padding_mask()].max() == 0


def test_no_resize_is_bit_identical() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    image, _ = preprocess(Photo.from_array(pixels), PreprocessConfig((32, 32)))
    assert (image == pixels).all()


def test_record_round_trips_through_json() -> None:
    record = letterbox((640, 481), (320, 320), orientation=6, color="icc:Display P3")
    assert TransformRecord.from_json(record.to_json()) == record
    with pytest.raises(ArgumentError, match="transform record"):
        TransformRecord.from_json({"photo_wh": [1, 1]})


@pytest.mark.parametrize("size", [(0, 320), (320,), (9000, 320), (32.0, 32)], ids=str)
def test_impossible_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ArgumentError, match="size_wh"):
        PreprocessConfig(size)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("320", (320, 320)), ("256x192", (256, 192)), ("96X160", (96, 160)), ("64×32", (64, 32))],
)
def test_sizes_as_people_write_them(text: str, expected: tuple[int, int]) -> None:
    assert sides(parse_size(text), 32) == expected


@pytest.mark.parametrize("text", ["", "x", "wide", "64x", "64x32x3", "6.4", "64,32"])
def test_texts_that_are_no_size(text: str) -> None:
    with pytest.raises(ArgumentError, match="width x height: 256x192"):
        parse_size(text)


@pytest.mark.parametrize("size", [0, -32, 100, (64, 100), (0, 64), (64, 64, 64), True, (64.0, 32)])
def test_sizes_that_are_no_multiple(size: Size) -> None:
    with pytest.raises(ArgumentError, match="expected a multiple of 32, or a width and height"):
        sides(size, 32)
