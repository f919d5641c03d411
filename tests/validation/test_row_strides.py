"""Buffers whose rows are longer than what they hold, copied as if they were not: by hand, and named
wherever it happens, whatever the padding is and holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from panokit.dump import HEADS, Dump
from panokit.photo import Photo
from panokit.samples import sample_photos
from panokit.segmenter import Segmenter
from panokit_validation.device import DeviceNoise
from panokit_validation.evidence import row_padding
from panokit_validation.faults import fault
from panokit_validation.faults.buffers import rows_without_padding, to_multiple
from panokit_validation.faults.heads import HeadSet, aligned_rows
from panokit_validation.faults.orientation import padded_rows
from panokit_validation.simulate import Simulator
from panokit_validation.verdict import Verdict, validate_dump


def test_rows_by_hand() -> None:
    rows = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    assert rows_without_padding(rows, 0).tolist() == rows.tolist()
    assert rows_without_padding(rows, 1).tolist() == [[1, 2, 3], [0, 4, 5], [6, 0, 7]]
    assert rows_without_padding(rows, 4).tolist() == [[1, 2, 3], [0, 0, 0], [0, 4, 5]]
    assert rows_without_padding(rows, -1).tolist() == [[1, 2, 3], [5, 6, 7], [9, 0, 0]]
    behind = 10 * rows
    assert rows_without_padding(rows, 1, behind).tolist() == [[1, 2, 3], [40, 4, 5], [6, 80, 7]]
    assert rows_without_padding(rows, -1, behind).tolist() == [[1, 2, 3], [5, 6, 7], [9, 80, 90]]
    assert [to_multiple(n, 64) for n in (1, 64, 65)] == [63, 0, 63]


def test_bitmaps_of_four_bytes_a_pixel_are_padded_by_whole_pixels() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    read = padded_rows(16, 4)(pixels, 1)  # rows of 12 bytes begin at multiples of 16
    assert read[1].tolist() == [[0, 0, 0], pixels[1, 0].tolist(), pixels[1, 1].tolist()]
    assert padded_rows(4, 4)(pixels, 1).tolist() == pixels.tolist()


def test_rows_of_heads_begin_at_multiples_of_their_own_bytes() -> None:
    real = {"semantic": np.ones((4, 5, 3), np.float32), "center": np.ones((4, 8, 1), np.float32)}
    raw: dict[str, NDArray[Any]] = {
        "semantic": np.ones((4, 5, 3), np.int8), "center": np.ones((4, 8, 1), np.float32)
    }  # fmt: skip
    read = aligned_rows(32)(HeadSet(raw, real, {}))
    assert read["semantic"].reshape(-1).tolist() == [1] * 15 + [0] * 17 + [1] * 15 + [0] * 13
    assert (read["center"] == 1).all()  # 32 bytes already


@pytest.mark.parametrize("shape", [(40, 30, 3), (80, 80, 1), (64, 48)])
@pytest.mark.parametrize("padding", [1, 4, 37, 250, -1, -16])
@pytest.mark.parametrize("filled", [False, True], ids=["zeros", "garbage"])
def test_the_padding_is_seen_in_the_numbers(
    shape: tuple[int, ...], padding: int, filled: bool
) -> None:
    rng = np.random.default_rng(abs(padding))
    values = rng.normal(size=shape).cumsum(0).cumsum(1)
    garbage = rng.normal(size=shape) * 1e3 if filled else None
    assert row_padding(rows_without_padding(values, padding, garbage), values) == padding


def test_what_is_not_sheared_shows_no_padding() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(size=(40, 30, 3)).cumsum(0).cumsum(1)
    for other in (
        values, values + rng.normal(size=values.shape), values[::-1], values[:, ::-1],
        values[..., ::-1], rng.normal(size=values.shape), np.zeros_like(values),
    ):  # fmt: skip
        assert row_padding(other, values) is None
    assert row_padding(values, np.zeros_like(values)) is None
    assert row_padding(values[:4], values[:4]) is None


# Whole dumps.

Copy = Callable[[NDArray[Any], str], NDArray[Any]]


def aligned(size: int, garbage: bool = False) -> Copy:
    """Rows at multiples of ``size`` bytes of whatever type the tensor is dumped in."""

    def copy(values: NDArray[Any], name: str) -> NDArray[Any]:
        length = values.reshape(len(values), -1).shape[1]
        rng = np.random.default_rng(len(name))
        behind = rng.permutation(values.reshape(-1)).reshape(values.shape) if garbage else None
        return rows_without_padding(values, -length % (size // values.itemsize), behind)

    return copy


def stepped(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Rows that lie one behind the other, read with a stride that is 24 values too long."""
    return rows_without_padding(values, -24)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.open()


@pytest.fixture(scope="module")
def photo() -> Photo:
    """Neither square nor of a width that any alignment divides."""
    tall = Photo.open(sample_photos()["astronaut"])
    return replace(tall, rgb_hwc=np.ascontiguousarray(tall.rgb_hwc[:, 60:421]))


@pytest.fixture(scope="module")
def clean(segmenter: Segmenter, photo: Photo) -> Dump:
    return Simulator(segmenter).simulate(photo)


def copied(dump: Dump, names: tuple[str, ...], copy: Copy) -> Dump:
    """A dump whose tensors ``names`` are copied wrongly; it ends with them."""
    order = list(dump.tensors)
    last = max(order.index(n) for n in names)
    kept = {n: copy(v, n) if n in names else v for n, v in dump.tensors.items()}
    return replace(dump, tensors={n: kept[n] for n in order[: last + 1]})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "copy", "expected"),
    [
        (("input",), aligned(256), "row-stride"),
        (("input",), aligned(512, garbage=True), "row-stride"),
        (("input",), stepped, "row-stride"),
        (HEADS, aligned(64), "head-row-stride"),
        (HEADS, aligned(128, garbage=True), "head-row-stride"),
        (HEADS, aligned(1024), "head-row-stride"),
        (HEADS, stepped, "head-row-stride"),
        (("offset",), aligned(48), "head-row-stride"),
        (("panoptic",), aligned(512), "map-row-stride"),
        (("panoptic",), aligned(2048, garbage=True), "map-row-stride"),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_another_stride_is_named_whatever_it_is(
    segmenter: Segmenter, clean: Dump, names: tuple[str, ...], copy: Copy, expected: str
) -> None:
    found = validate_dump(copied(clean, names, copy), segmenter, diagnose=True)
    assert found.verdict is Verdict.FAIL
    assert found.causes[0].name == expected
    assert found.causes[0].explained > 0.95


@pytest.mark.slow
def test_heads_as_floats_of_a_wider_row_are_named(segmenter: Segmenter, photo: Photo) -> None:
    dump = Simulator(segmenter, DeviceNoise(fp16=True)).simulate(photo)
    assert dump.tensors["semantic"].dtype == np.float16
    found = validate_dump(copied(dump, HEADS, aligned(64)), segmenter, diagnose=True)
    assert found.causes[0].name == "head-row-stride"


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["rgba-64", "rgba-128", "rgb-4"])
def test_a_bitmap_with_wider_rows_is_named_behind_the_resize(
    segmenter: Segmenter, photo: Photo, variant: str
) -> None:
    dump = Simulator(segmenter).simulate(photo, [fault(f"photo-row-stride:{variant}")])
    assert photo.size_wh[0] * 4 % 64
    found = validate_dump(dump, segmenter, diagnose=True)
    assert (found.causes[0].name, found.causes[0].variant) == ("photo-row-stride", variant)


@pytest.mark.slow
def test_a_finished_picture_with_wider_rows_is_named(segmenter: Segmenter, photo: Photo) -> None:
    good = Simulator(segmenter).simulate(photo, [fault("effect-row-stride:16")])
    found = validate_dump(good, segmenter, diagnose=True)
    assert found.causes[0].name == "effect-row-stride"
    right = Simulator(segmenter).simulate(photo, [fault("effect-strength:0.75")])
    picture = right.tensors["effect.portrait_blur"]
    other = {**right.tensors, "effect.portrait_blur": rows_without_padding(picture, 21)}
    assert row_padding(other["effect.portrait_blur"], picture) == 21


@pytest.mark.slow
def test_a_clean_dump_has_no_cause(segmenter: Segmenter, clean: Dump) -> None:
    found = validate_dump(clean, segmenter, diagnose=True)
    assert found.verdict is not Verdict.FAIL
    assert found.causes == ()
