"""The bank of faults: each changes what it says, by hand or against an independent reading."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from panokit.bundle import TensorSpec
from panokit.decoding import Heads, PostprocessConfig, postprocess
from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig, letterbox, preprocess
from panokit.taxonomy import Taxonomy
from panokit_validation.faults import FAULTS, Fault, Step, Variant, fault, fault_names
from panokit_validation.faults import color as colors
from panokit_validation.faults import heads as head_faults
from panokit_validation.faults import tensor as tensors
from panokit_validation.faults.app import App
from panokit_validation.faults.decode import AppDecoding, DecodingReplay
from panokit_validation.faults.heads import HeadSet
from panokit_validation.faults.layout import KERNELS, Layout, lay_out
from panokit_validation.faults.orientation import crop_to, ignore_exif
from tests.toys.heads import full_frame

INT8 = TensorSpec("image", (1, 32, 32, 3), "int8", "nhwc", 1.0, -128)
FLOAT = TensorSpec("image", (1, 32, 32, 3), "float32", "nhwc")


def smooth_picture(h: int, w: int, seed: int = 0) -> NDArray[np.uint8]:
    """A colourful picture with soft edges."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((w, h), Image.Resampling.BICUBIC))


def head_specs(dtype: str = "int8") -> dict[str, TensorSpec]:
    shapes = {"semantic": 4, "center": 1, "offset": 2}
    figures = {"semantic": (0.5, 10), "center": (0.25, -3), "offset": (2.0, 1)}
    return {
        n: TensorSpec(n, (1, 8, 8, c), dtype, "nhwc", *(figures[n] if dtype == "int8" else ()))
        for n, c in shapes.items()
    }


def head_set(seed: int = 0) -> HeadSet:
    specs, rng = head_specs(), np.random.default_rng(seed)
    raw = {n: rng.integers(-128, 128, s.shape[1:]).astype(np.int8) for n, s in specs.items()}
    real = {
        n: (v.astype(np.float32) - np.float32(specs[n].zero_point)) * np.float32(specs[n].scale)
        for n, v in raw.items()
    }
    return HeadSet(raw, real, specs)


def variants() -> list[Any]:
    return [
        pytest.param(f, v, id=f"{f.name}:{v.label}" if v.label else f.name)
        for f in FAULTS.values()
        for v in f.variants
    ]


@pytest.mark.parametrize(("fault_", "variant"), variants())
def test_every_fault_changes_something(fault_: Fault, variant: Variant) -> None:
    app = App(((fault_, variant),))
    photo = smooth_picture(70, 92 if variant.label == "up" else 90)
    spec = FLOAT if fault_.precision == "float" else INT8
    if fault_.step in (Step.ORIENTATION, Step.COLOR, Step.LAYOUT, Step.TENSOR):
        good = App().values(App().picture(photo, (32, 32), 6)[0], spec)
        assert not np.array_equal(app.values(app.picture(photo, (32, 32), 6)[0], spec), good)
    elif fault_.step is Step.NETWORK:
        values = np.full((2, 2, 3), 7, np.float32)
        assert not np.array_equal(app.inside(values), values)
    elif fault_.step is Step.HEADS:
        heads = head_set()
        heads = HeadSet(heads.raw, {n: v * np.float32(1.37) for n, v in heads.real.items()},
                        heads.specs)  # fmt: skip
        changed = app.heads(heads).real
        assert any(not np.array_equal(changed[n], heads.real[n]) for n in changed)
    elif fault_.step is Step.DECODE:
        other = PostprocessConfig(0.33, 19, 77, 50, 300, min_thing_score=0.37)
        assert app.decoding(other) != AppDecoding.of(other)
    elif fault_.step is Step.EFFECT:
        picture = app.effect(lambda strength=0.6: photo if strength == 0.6 else photo // 2)
        assert picture is not None
        assert not np.array_equal(picture, photo)
    else:
        assert fault_.name in ("stale-photo", "other-artifact")


def test_the_bank_reads_well() -> None:
    assert fault_names() == tuple(FAULTS)
    for name, f in FAULTS.items():
        assert name == f.name
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
        assert f.advice.endswith(".")
        assert len({v.label for v in f.variants}) == len(f.variants)
        assert f.to_json()["stage"] in ("input", "heads", "panoptic", "effect")


def test_a_fault_is_found_by_name_and_variant() -> None:
    assert fault("bgr")[0].title.startswith("red and blue")
    assert fault("rotated:180")[1].label == "180"
    assert fault("rotated")[1].label == "90"
    with pytest.raises(ArgumentError, match="one of: stale-photo, exif-ignored"):
        fault("nonsense")
    with pytest.raises(
        ArgumentError, match="rotated has no variant '45'; expected one of: 90, 180, 270"
    ):
        fault("rotated:45")


def test_faults_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(ArgumentError, match="cannot occur together"):
        App.of([fault("resize-nearest"), fault("resize-area")])
    with pytest.raises(ArgumentError, match="cannot occur together"):
        App.of([fault("bgr"), fault("bgr")])
    app = App.of([fault("head-nchw"), fault("bgr"), fault("padding-top-left")])
    assert list(app.describe()) == ["bgr", "padding-top-left", "head-nchw"]


@pytest.mark.parametrize(
    "kwargs", [{"variants": ()}, {"variants": (Variant(""),), "precision": "double"}], ids=str
)
def test_impossible_faults_are_refused(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        Fault("x", "x", Step.COLOR, "x.", **kwargs)


# Colours.


def test_colours_by_hand() -> None:
    grey = np.array([[[0] * 3, [16] * 3, [100] * 3, [235] * 3, [255] * 3]], np.uint8)
    assert colors.squeeze_range(grey)[0, :, 0].tolist() == [16, 30, 102, 218, 235]
    assert colors.expand_range(grey)[0, :, 1].tolist() == [0, 0, 98, 255, 255]
    for change in (
        colors.swap_yuv_matrix("601", "709"),
        colors.p3_numbers,
        colors.srgb_as_p3,
    ):
        assert np.abs(change(grey).astype(int) - grey).max() <= 1  # greys stay grey
    assert colors.gamma(2.0)(grey)[0, :, 0].tolist() == [0, 1, 39, 217, 255]
    red = np.array([[[255, 0, 0]]], np.uint8)
    assert colors.bgr(red).tolist() == [[[0, 0, 255]]]
    # sRGB's red lies inside Display P3 at (0.9175, 0.2003, 0.1386), as ICC tools give it.
    assert colors.p3_numbers(red)[0, 0].tolist() == [234, 51, 35]


@pytest.mark.parametrize(
    ("there", "back"),
    [
        (colors.p3_numbers, colors.srgb_as_p3),
        (colors.swap_yuv_matrix("601", "709"), colors.swap_yuv_matrix("709", "601")),
        (colors.squeeze_range, colors.expand_range),
    ],
    ids=["p3", "yuv-matrix", "yuv-range"],
)
def test_colour_mistakes_undo_each_other(there: Any, back: Any) -> None:
    picture = (smooth_picture(20, 30) // 2 + 64).astype(np.uint8)  # nothing is cut off
    assert np.abs(back(there(picture)).astype(int) - picture).max() <= 2


# Geometry.


@pytest.mark.parametrize("orientation", range(1, 9))
def test_ignored_exif_gives_the_stored_pixels(orientation: int) -> None:
    stored = smooth_picture(12, 20)
    image, exif, buffer = Image.fromarray(stored), Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    image.save(buffer, "PNG", exif=exif)
    photo = Photo.open(buffer.getvalue())
    assert photo.orientation == orientation
    assert (ignore_exif(photo.rgb_hwc, orientation) == stored).all()


@pytest.mark.parametrize("size", [(90, 70), (31, 200), (64, 64), (20, 11)], ids=str)
def test_the_right_layout_is_the_reference(size: tuple[int, int]) -> None:
    picture = smooth_picture(size[1], size[0])
    image, record = lay_out(picture, (64, 48), Layout())
    expected, transform = preprocess(Photo.from_array(picture), PreprocessConfig((64, 48)))
    assert (image == expected).all()
    assert record == transform


@pytest.mark.parametrize(
    ("kernel", "flag", "steps"),
    [
        ("bilinear-plain", "INTER_LINEAR", 1),
        ("bicubic-plain", "INTER_CUBIC", 1),
        ("nearest-corner", "INTER_NEAREST", 0),
        ("nearest", "INTER_NEAREST_EXACT", 0),
        ("area", "INTER_AREA", 1),
    ],
)
def test_kernels_equal_opencv(kernel: str, flag: str, steps: int) -> None:
    cv2 = pytest.importorskip("cv2")
    picture = np.random.default_rng(1).integers(0, 256, (96, 60, 3), np.uint8)
    for size in ((40, 64), (20, 32)):
        ours = KERNELS[kernel](picture, size).astype(int)
        theirs = cv2.resize(picture, size, interpolation=getattr(cv2, flag)).astype(int)
        assert np.abs(ours - theirs).max() <= steps


def test_aligned_corners_by_hand() -> None:
    row = np.array([[[0] * 3, [30] * 3, [60] * 3, [90] * 3, [120] * 3]], np.uint8)
    assert KERNELS["bilinear-corners"](row, (3, 1))[0, :, 0].tolist() == [0, 60, 120]
    assert KERNELS["bilinear-corners"](row, (4, 1))[0, :, 0].tolist() == [0, 40, 80, 120]
    # i·5/4: 0, 1.25, 2.5, 3.75
    assert KERNELS["bilinear-asymmetric"](row, (4, 1))[0, :, 0].tolist() == [0, 38, 75, 113]


def test_layouts_by_hand() -> None:
    picture = np.full((2, 4, 3), 9, np.uint8)

    def rows(**fields: Any) -> list[list[int]]:
        return lay_out(picture, (4, 4), Layout(**fields))[0][..., 0].tolist()

    o, x = [0] * 4, [9] * 4
    assert rows() == [o, x, x, o]
    assert rows(anchor="top-left") == [x, x, o, o]
    assert rows(fit="stretch") == [x, x, x, x]
    assert rows(fit="crop") == [x, x, x, x]
    assert rows(padding=(5, 5, 5)) == [[5] * 4, x, x, [5] * 4]
    assert rows(shift_yx=(1, 1)) == [o, o, [0, 9, 9, 9], [0, 9, 9, 9]]
    assert rows(shift_yx=(-1, -1)) == [[9, 9, 9, 0], [9, 9, 9, 0], o, o]
    # A crop keeps the middle: columns 1 and 2 of four.
    picture = np.arange(4, dtype=np.uint8)[None, :, None] * np.ones((2, 1, 3), np.uint8)
    cropped, record = lay_out(picture, (2, 2), Layout(fit="crop"))
    assert cropped[..., 0].tolist() == [[1, 2], [1, 2]]
    assert (record.left, record.top, record.content_wh) == (0, 0, (2, 2))


def test_a_buffer_of_another_size_by_hand() -> None:
    picture = np.full((4, 4, 3), 9, np.uint8)
    seen, record = lay_out(picture, (4, 4), Layout(buffer_side=2))
    assert seen[..., 0].tolist() == [[9] * 4, [0] * 4, [0] * 4, [0] * 4]
    assert record.content_wh == (4, 4)
    larger, _ = lay_out(picture, (2, 2), Layout(buffer_side=4, padding=(5, 5, 5)))
    assert larger[..., 0].tolist() == [[9, 9], [9, 9]]


def test_a_crop_rectangle_by_hand() -> None:
    wide = np.arange(8, dtype=np.uint8)[None, :, None] * np.ones((3, 1, 3), np.uint8)
    assert crop_to(4, 3)(wide, 1)[0, :, 0].tolist() == [2, 3, 4, 5]
    tall = np.ascontiguousarray(wide.transpose(1, 0, 2))
    assert crop_to(4, 3)(tall, 1)[:, 0, 0].tolist() == [2, 3, 4, 5]
    assert crop_to(8, 3)(wide, 1).shape == wide.shape


# Tensors and heads.


def test_tensors_by_hand() -> None:
    values = np.array([0, 100, 127, 128, 255], np.float32).reshape(1, 5, 1).repeat(3, 2)

    def row(change: Any, spec: TensorSpec = INT8) -> list[float]:
        return [round(float(v), 3) for v in change(values, spec)[0, :, 0]]

    assert row(tensors.as_stored) == [0, 100, 127, 128, 255]
    assert row(tensors.bytes_as_signed) == [128, 228, 255, 0, 127]
    assert row(tensors.without_zero_point) == [128, 228, 255, 255, 255]
    assert row(tensors.scaled(1 / 255)) == [0, 0, 0, 1, 1]
    assert row(tensors.scaled(1 / 127.5, -1), FLOAT) == [-1, -0.216, -0.004, 0.004, 1]
    assert row(tensors.imagenet, FLOAT)[:2] == [-2.118, -0.405]
    assert row(tensors.never_written(0.4)) == [0, 100, 127, 128, 128]  # the byte 0 is 128
    assert row(tensors.never_written(0.4), FLOAT) == [0, 100, 127, 0, 0]


def test_planes_are_read_back_in_the_other_layout() -> None:
    picture = smooth_picture(32, 32).astype(np.float32)
    mixed = tensors.planar(picture, FLOAT)
    assert (mixed.ravel()[: 32 * 32] == picture[..., 0].ravel()).all()
    nchw = TensorSpec("image", (1, 3, 32, 32), "float32", "nchw")
    assert (tensors.planar(mixed, nchw) == picture).all()
    heads = head_set()
    read = head_faults.nchw_as_nhwc(heads)["offset"]
    assert (np.moveaxis(read, -1, 0).ravel() == heads.real["offset"].ravel()).all()


def test_heads_by_hand() -> None:
    specs = {"semantic": TensorSpec("s", (1, 1, 2, 1), "int8", "nhwc", 0.5, 10)}
    raw = {"semantic": np.array([[[-6], [20]]], np.int8)}
    heads = HeadSet(raw, {"semantic": np.array([[[-8.0], [5.0]]], np.float32)}, specs)

    def row(change: Any) -> list[float]:
        return change(heads)["semantic"].ravel().tolist()

    assert row(head_faults.raw_integers) == [-6, 20]
    assert row(head_faults.zero_point_missing) == [-3, 10]
    assert row(head_faults.signed_as_unsigned) == [120, 5]
    assert row(head_faults.wrong_scale) == [-8, 5]
    assert row(head_faults.fp16_overflow(0.5)) == [-4, 4]
    logits = HeadSet({}, {"semantic": np.array([[[3.0, 5.0, 4.0]]], np.float32)}, {})
    assert head_faults.one_hot(logits)["semantic"].ravel().tolist() == [0, 1, 0]
    pair = {"a": np.array([[[0.0], [25.5]]], np.float32), "b": np.array([[[0.26]]], np.float32)}
    joined = head_faults.joined_scale(HeadSet({}, pair, {}))
    assert joined["b"].item() == pytest.approx(0.3)
    logits = HeadSet({}, {"center": np.zeros((1, 1, 1), np.float32)}, {})
    assert head_faults.sigmoid_twice(logits)["center"].item() == 0.5


# Decoding.


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("grid", ["input", "head"])
def test_the_right_plan_is_the_reference(seed: int, grid: Any, taxonomy: Taxonomy) -> None:
    rng = np.random.default_rng(seed)
    semantic = rng.normal(0, 2, (16, 16, 4))
    center = rng.normal(-1, 2, (16, 16))
    if seed % 2:  # many ties
        semantic, center = np.round(semantic), np.round(center)
    heads = Heads.from_arrays(
        {"semantic": semantic, "center": center, "offset": rng.normal(0, 9, (16, 16, 2))}
    )
    transform = letterbox((90, 60), (64, 64)) if seed % 3 else full_frame(64)
    config = PostprocessConfig(
        0.4, window=3 + 2 * (seed % 3), top_k=9, min_thing_area=3, min_stuff_area=5, grid=grid,
        min_thing_score=0.45 * (seed // 3),
    )  # fmt: skip
    expected = postprocess(heads, taxonomy, transform, config)
    if config.min_thing_score:
        whole = postprocess(heads, taxonomy, transform, replace(config, min_thing_score=0.0))
        assert len(whole.segments) > len(expected.segments)
    decoder = DecodingReplay(
        {"semantic": heads.semantic, "center": heads.center, "offset": heads.offset},
        transform,
        taxonomy,
        grid,
    )
    regions = decoder.decode(AppDecoding.of(config))
    assert (regions.ids == expected.ids).all()
    assert regions.channels == {s.id: s.channel for s in expected.segments}


def test_a_missing_sigmoid_is_a_higher_threshold(taxonomy: Taxonomy) -> None:
    rng = np.random.default_rng(3)
    heads = {
        "semantic": rng.normal(0, 2, (16, 16, 4)).astype(np.float32),
        "center": rng.normal(0, 2, (16, 16)).astype(np.float32),
        "offset": rng.normal(0, 9, (16, 16, 2)).astype(np.float32),
    }
    decoder = DecodingReplay(heads, full_frame(64), taxonomy)
    config = PostprocessConfig(0.25, 1, 200, min_thing_area=1, min_stuff_area=1)
    missing = App((fault("sigmoid-missing"),)).decoding(config)
    same = AppDecoding.of(PostprocessConfig(float(1 / (1 + np.exp(-0.25))), 1, 200, 1, 1))
    assert (decoder.decode(missing).ids == decoder.decode(same).ids).all()
    assert (decoder.decode(missing).ids != decoder.decode(AppDecoding.of(config)).ids).any()
