"""Effects: linear light, the matte, the blur, and the portrait made of them.

Expected values come from the definitions written as plain loops, or can be derived by hand.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from panokit import effects
from panokit._icc import SRGB
from panokit.effects import portrait_blur
from panokit.effects._grid import box_sum, reduce_mean, stripes, upsample_rows
from panokit.effects.held import held_by
from panokit.effects.lens import aperture_spans, disc_blur, disc_half_widths
from panokit.effects.matting import guided_coefficients, soft_matte
from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.preprocessing import letterbox
from panokit.result import PanopticResult, Segment
from panokit.taxonomy import Category, Taxonomy

TAXONOMY = Taxonomy(
    "toy",
    (
        Category(1, "person", True, (255, 0, 0)),
        Category(2, "sky", False, (0, 0, 255)),
        Category(3, "bag", True, (0, 255, 0)),
    ),
)
GREY, RED = (128, 128, 128), (230, 20, 20)


def result_of(
    rgb: NDArray[np.uint8], id_map: NDArray[np.int32], classes: dict[int, str]
) -> PanopticResult:
    """A result whose segments ``classes`` (id → class name) lie where the map has their ids."""
    h, w = id_map.shape
    segments = tuple(
        Segment(i, TAXONOMY.get(name), 0.9, int((id_map == i).sum()), (0, 0, w, h))
        for i, name in classes.items()
    )
    photo = Photo.from_array(rgb)
    transform = letterbox((w, h), (320, 320))
    return PanopticResult(photo, id_map, segments, TAXONOMY, transform)


def red_person(h: int = 240, w: int = 320) -> PanopticResult:
    """A red person, an upright box in the middle, before plain grey; ids: 1 person, 2 sky."""
    ids = np.full((h, w), 2, np.int32)
    ids[h // 4 :, w // 3 : 2 * w // 3] = 1
    rgb = np.where((ids == 1)[..., None], RED, GREY).astype(np.uint8)
    return result_of(rgb, ids, {1: "person", 2: "sky"})


def test_all_names_exist() -> None:
    assert all(hasattr(effects, name) for name in effects.__all__)
    assert sorted(effects.__all__) == sorted(set(effects.__all__))


# Linear light


def test_srgb_round_trip_is_exact_for_every_code() -> None:
    codes = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(SRGB.to_codes(SRGB.to_linear(codes), np.uint8), codes)


@pytest.mark.parametrize(
    ("code", "light"),
    # 10/255 lies on the straight part: /12.92. 188 is the code of half the light.
    [(0, 0.0), (10, 10 / 255 / 12.92), (188, 0.502886), (255, 1.0)],
)
def test_linear_light_of_known_codes(code: int, light: float) -> None:
    assert SRGB.to_linear(np.array([code], np.uint8))[0] == pytest.approx(light, abs=1e-6)


def test_light_beyond_the_range_is_clipped() -> None:
    values = np.array([-0.5, 0.0, 1.0, 7.0], np.float32)
    np.testing.assert_array_equal(SRGB.to_codes(values, np.uint8), [0, 0, 255, 255])


# Grids


def test_reduce_mean_repeats_the_edge() -> None:
    values = np.array([[1.0, 3.0, 5.0], [1.0, 3.0, 7.0]])
    np.testing.assert_allclose(reduce_mean(values, 2), [[2.0, 6.0]])


@pytest.mark.parametrize("size_hw", [(1, 1), (7, 5), (64, 3)])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_upsampling_a_constant_gives_the_constant(size_hw: tuple[int, int], factor: int) -> None:
    coarse = np.full((-(-size_hw[0] // factor), -(-size_hw[1] // factor), 2), 0.25)
    whole = upsample_rows(coarse, factor, size_hw, slice(0, size_hw[0]))
    np.testing.assert_allclose(whole, np.full((*size_hw, 2), 0.25))


def test_upsampling_by_two_uses_half_pixel_centres() -> None:
    coarse = np.array([0.0, 4.0])[None, :, None]
    fine = upsample_rows(coarse, 2, (2, 4), slice(0, 2))
    np.testing.assert_allclose(fine[..., 0], [[0, 1, 3, 4]] * 2)


def test_stripes_cover_all_rows_in_multiples() -> None:
    parts = list(stripes((5000, 4000), 3))
    assert parts[0].start == 0
    assert parts[-1].stop == 5000
    assert all(a.stop == b.start and a.stop % 3 == 0 for a, b in pairwise(parts))


# Matte


@pytest.mark.parametrize("radius", [0, 1, 3, 50])
def test_box_sum_is_a_sum_over_the_window(radius: int) -> None:
    x = np.random.default_rng(0).random((6, 9))
    expected = np.empty_like(x)
    for i in range(6):
        for j in range(9):
            window = x[max(0, i - radius) : i + radius + 1, max(0, j - radius) : j + radius + 1]
            expected[i, j] = window.sum()
    np.testing.assert_allclose(box_sum(x, radius), expected, atol=1e-12)


def test_guided_filter_equals_its_definition() -> None:
    rng = np.random.default_rng(1)
    guide, mask = rng.random((9, 8, 3)), (rng.random((9, 8)) > 0.5).astype(float)
    radius, epsilon, (h, w) = 2, 1e-3, mask.shape

    def window(i: int, j: int) -> tuple[slice, slice]:
        return (
            slice(max(0, i - radius), i + radius + 1),
            slice(max(0, j - radius), j + radius + 1),
        )

    a, b = np.empty((h, w, 3)), np.empty((h, w))
    for i in range(h):
        for j in range(w):
            x, p = guide[window(i, j)].reshape(-1, 3), mask[window(i, j)].ravel()
            covariance = np.cov(x.T, bias=True) + epsilon * np.eye(3)
            a[i, j] = np.linalg.solve(covariance, (x * p[:, None]).mean(0) - x.mean(0) * p.mean())
            b[i, j] = p.mean() - a[i, j] @ x.mean(0)
    expected = np.empty((h, w))
    for i in range(h):
        for j in range(w):
            mean_a = a[window(i, j)].reshape(-1, 3).mean(0)
            expected[i, j] = mean_a @ guide[i, j] + b[window(i, j)].mean()

    c = guided_coefficients(guide, mask, radius, epsilon)
    np.testing.assert_allclose((c[..., :3] * guide).sum(-1) + c[..., 3], expected, atol=1e-9)


@pytest.mark.parametrize("value", [False, True], ids=["nothing", "everything"])
def test_matte_of_a_constant_mask_is_that_constant(value: bool) -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    matte = soft_matte(Photo.from_array(rgb), np.full((50, 70), value), cell=1.0)
    np.testing.assert_array_equal(matte, np.full((50, 70), float(value), np.float32))


def test_matte_finds_the_photos_edge_when_the_mask_is_off() -> None:
    # The mask is 2 pixels too narrow; the photo's own edge lies at column 100.
    rgb = np.full((120, 200, 3), 40, np.uint8)
    rgb[:, 100:] = 220
    mask = np.zeros((120, 200), bool)
    mask[:, 102:] = True
    matte = soft_matte(Photo.from_array(rgb), mask, cell=1.0)
    assert (matte[:, 100] > 0.5).all()
    assert (matte[:, 99] < 0.1).all()


def test_held_things_are_those_that_lie_mostly_against_the_subject() -> None:
    ids = np.full((20, 30), 2, np.int32)
    ids[2:, 4:16] = 1
    ids[8:12, 8:12] = 3  # enclosed
    ids[14:18, 16:20] = 4  # one side of four against the person
    ids[16:, 9:14] = 5  # at the lower frame, which is no border
    classes = {1: "person", 2: "sky", 3: "bag", 4: "bag", 5: "bag"}
    result = result_of(np.zeros((20, 30, 3), np.uint8), ids, classes)
    assert held_by(result, (1,)) == (3, 5)


# Blur


@pytest.mark.parametrize("radius", [0, 1, 2, 5])
def test_disc_blur_equals_direct_convolution(radius: int) -> None:
    h, w = 9, 12
    x = np.random.default_rng(3).random((h, w, 2))
    expected, cells = np.zeros_like(x), 0
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if dy * dy + dx * dx > (radius + 0.5) ** 2:
                continue
            cells += 1
            for i in range(max(0, -dy), min(h, h - dy)):
                for j in range(max(0, -dx), min(w, w - dx)):
                    expected[i, j] += x[i + dy, j + dx]
    np.testing.assert_allclose(disc_blur(x, radius), expected / cells, atol=1e-12)


def test_disc_of_radius_two_by_hand() -> None:
    # 2.5² = 6.25: rows ±2 reach √2.25 = 1.5, rows ±1 reach √5.25 = 2.29, row 0 reaches 2.5.
    assert disc_half_widths(2) == [1, 2, 2, 2, 1]


def test_disc_blur_refuses_a_negative_radius() -> None:
    with pytest.raises(ArgumentError, match="radius is -1; expected at least 0"):
        disc_blur(np.zeros((2, 2, 1)), -1)


# Portrait


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
def test_blur_of_a_constant_photo_stays_constant(strength: float) -> None:
    ids = red_person().id_map
    for value in (0, 1, 77, 200, 255):
        rgb = np.full((*ids.shape, 3), value, np.uint8)
        result = result_of(rgb, ids, {1: "person", 2: "sky"})
        done = portrait_blur(result.photo, result, strength=strength)
        np.testing.assert_array_equal(done.image_hwc, rgb)


# A disc of 1 pixel (strength 0.1) cannot reach beyond a mask that is 2 pixels off.
@pytest.mark.parametrize(
    ("shift", "strength"), [(0, 0.1), (0, 0.5), (0, 1.0), (2, 0.5), (2, 1.0), (-2, 0.5), (-2, 1.0)]
)
def test_the_subject_does_not_bleed_into_the_background(shift: int, strength: float) -> None:
    result = red_person()
    person = result.mask(1)
    shifted = result_of(
        result.photo.rgb_hwc, np.roll(result.id_map, shift, axis=1), {1: "person", 2: "sky"}
    )
    done = portrait_blur(result.photo, shifted, strength=strength)
    beyond = (done.alpha_hw == 0) & ~person
    assert beyond.mean() > 0.5
    off = np.abs(done.image_hwc[beyond].astype(int) - GREY)
    assert off.max() <= 1


def test_the_subject_is_untouched_bit_for_bit() -> None:
    result = red_person()
    noise = np.random.default_rng(4).integers(0, 256, result.photo.rgb_hwc.shape, dtype=np.uint8)
    result = result_of(noise, result.id_map, {1: "person", 2: "sky"})
    done = portrait_blur(result.photo, result, strength=1.0)
    sharp = done.alpha_hw == 1
    assert sharp.mean() > 0.1
    np.testing.assert_array_equal(done.image_hwc[sharp], noise[sharp])
    behind = done.alpha_hw == 0
    assert done.image_hwc[behind].std() < noise[behind].std() / 4
    assert done.applied
    assert done.message == "Blurred behind the person."


def test_a_lamp_becomes_a_bright_disc() -> None:
    result = red_person()
    rgb = np.full((240, 320, 3), 10, np.uint8)
    rgb[30:34, 40:44] = 255
    result = result_of(rgb, result.id_map, {1: "person", 2: "sky"})
    disc = portrait_blur(result.photo, result, strength=0.5).image_hwc
    # 16 white pixels in a disc of radius 6 (137 pixels) give 12 % of white's light without the
    # highlights' greater weight, code 96; with weight 6 they give 44 %, code 177.
    assert 150 < disc[32, 42, 0] < 200
    assert disc[32, 60, 0] == 10


def test_without_a_person_the_photo_is_left_as_it_is() -> None:
    rgb = np.random.default_rng(5).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    result = result_of(rgb, np.full((40, 30), 2, np.int32), {2: "sky"})
    done = portrait_blur(result.photo, result)
    assert not done.applied
    assert done.message == "No person was found, so the photo was left as it is."
    np.testing.assert_array_equal(done.image_hwc, rgb)
    assert not done.alpha_hw.any()


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 90), (90, 1), (2, 3)])
@pytest.mark.parametrize("person", ["all", "left"])
def test_tiny_photos(size_hw: tuple[int, int], person: str) -> None:
    rgb = np.random.default_rng(6).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    ids = np.ones(size_hw, np.int32)
    if person == "left" and size_hw[1] > 1:
        ids[:, size_hw[1] // 2 :] = 2
    classes = {1: "person", 2: "sky"} if (ids == 2).any() else {1: "person"}
    done = portrait_blur(Photo.from_array(rgb), result_of(rgb, ids, classes), strength=1.0)
    assert done.image_hwc.shape == rgb.shape
    assert done.applied
    sharp = done.alpha_hw == 1
    np.testing.assert_array_equal(done.image_hwc[sharp], rgb[sharp])


def test_a_large_photo_has_no_seams_between_stripes() -> None:
    # 3000 × 1200 pixels are worked on in several stripes; a constant must not show them.
    ids = np.full((3000, 1200), 2, np.int32)
    ids[1000:2500, 400:800] = 1
    rgb = np.full((3000, 1200, 3), 90, np.uint8)
    result = result_of(rgb, ids, {1: "person", 2: "sky"})
    done = portrait_blur(result.photo, result)
    np.testing.assert_array_equal(done.image_hwc, rgb)


def test_focus_keeps_one_person_and_what_they_hold() -> None:
    ids = np.full((120, 160), 2, np.int32)
    ids[20:, 10:60] = 1
    ids[60:80, 25:45] = 3
    ids[20:, 100:150] = 4
    rgb = np.random.default_rng(7).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    result = result_of(rgb, ids, {1: "person", 2: "sky", 3: "bag", 4: "person"})
    done = portrait_blur(result.photo, result, focus=[1])
    assert done.message == "Blurred behind the person with bag."
    assert done.alpha_hw[70, 35] == 1
    assert done.alpha_hw[70, 125] == 0
    everyone = portrait_blur(result.photo, result)
    assert everyone.message == "Blurred behind 2 persons with bag."
    assert everyone.alpha_hw[70, 125] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 1.5}, "strength is 1.5; expected a number from 0 to 1"),
        ({"strength": float("nan")}, "strength is nan; expected a number from 0 to 1"),
        ({"focus": [9]}, r"focus is \[9\]; expected ids of segments, some of \[1, 2\]"),
        ({"focus": []}, r"focus is \[\]; expected .* \[1, 2\]"),
    ],
)
def test_wrong_arguments(options: dict[str, object], message: str) -> None:
    result = red_person()
    with pytest.raises(ArgumentError, match=message):
        portrait_blur(result.photo, result, **options)  # type: ignore[arg-type]


def test_a_region_can_stay_sharp_too() -> None:
    result = red_person()
    done = portrait_blur(result.photo, result, focus=[2])
    assert done.applied
    assert (done.alpha_hw[result.mask(2)] > 0.5).mean() > 0.9
    assert done.message.startswith("Blurred behind the ")


def test_the_function_takes_the_fields_of_the_edit() -> None:
    result = red_person()
    strong = {"strength": 0.9, "blades": 6, "highlights": 0.2}
    expected = effects.BlurBackground(**strong).apply(result.photo, result)  # type: ignore[arg-type]
    for focus in (None, [1]):
        done = portrait_blur(result.photo, result, focus=focus, **strong)
        np.testing.assert_array_equal(done.image_hwc, expected.image_hwc)
    # A pick and a focus say the same thing twice; a field that is not there is no setting.
    for wrong in ({"focus": [1], "pick": effects.Pick(segment=1)}, {"stength": 1}):
        with pytest.raises(TypeError):
            portrait_blur(result.photo, result, **wrong)


def test_a_result_of_another_photo_is_refused() -> None:
    other = Photo.from_array(np.zeros((5, 5, 3), np.uint8))
    with pytest.raises(ArgumentError, match="the result's photo, 320 by 240 pixels"):
        portrait_blur(other, red_person())


@pytest.mark.parametrize("blades", [5, 6, 7, 8, 9])
def test_a_polygon_has_the_area_of_a_polygon(blades: int) -> None:
    radius = 40
    spans = aperture_spans(radius, blades)
    area = sum(last - first + 1 for first, last in spans)
    expected = blades / 2 * (radius + 0.5) ** 2 * np.sin(2 * np.pi / blades)
    assert area == pytest.approx(expected, rel=0.02)
    # A corner at the top, and left and right alike.
    assert spans[0][1] - spans[0][0] <= 2
    assert all(abs(first + last) <= 1 for first, last in spans if last >= first)


@pytest.mark.parametrize("blades", [0, 5, 6])
def test_one_light_becomes_the_aperture(blades: int) -> None:
    values = np.zeros((31, 31, 1))
    values[15, 15] = 1
    drawn = disc_blur(values, 10, blades)[..., 0] > 0
    expected = np.zeros((31, 31), bool)
    for dy, (first, last) in zip(range(-10, 11), aperture_spans(10, blades), strict=True):
        for dx in range(first, last + 1):
            expected[15 - dy, 15 - dx] = True
    np.testing.assert_array_equal(drawn, expected)


def test_the_ramp_keeps_the_ground_at_the_feet_sharper() -> None:
    ids = np.full((200, 240), 2, np.int32)
    ids[60:180, 90:150] = 1
    ids[120:] = np.where(ids[120:] == 1, 1, 4)
    rgb = np.random.default_rng(8).integers(0, 256, (200, 240, 3), dtype=np.uint8)
    taxonomy = Taxonomy(
        "ground", (*TAXONOMY.categories, Category(4, "ground_natural", False, (1, 2, 3)))
    )
    plain = result_of(rgb, ids, {1: "person", 2: "sky"})
    ground = Segment(4, taxonomy.get("ground_natural"), 0.9, 9, (0, 120, 240, 200))
    result = replace(plain, taxonomy=taxonomy, segments=(*plain.segments, ground))
    done = portrait_blur(result.photo, result, strength=1.0, depth_ramp=True)
    assert done.message.endswith("The depth of the ground is an approximation.")
    spread = [done.image_hwc[rows, :50].std() for rows in (slice(176, 183), slice(122, 129))]
    assert spread[0] > 3 * spread[1]
    far = portrait_blur(result.photo, result, strength=1.0).image_hwc
    np.testing.assert_array_equal(done.image_hwc[:50], far[:50])


def test_the_best_matte_finds_the_edge_too() -> None:
    pytest.importorskip("pymatting")
    rgb = np.random.default_rng(0).integers(35, 46, (60, 90, 3), dtype=np.uint8)
    rgb[:, 45:] += 180
    mask = np.zeros((60, 90), bool)
    mask[:, 47:] = True
    matte = soft_matte(Photo.from_array(rgb), mask, cell=1.0, quality="best")
    assert (matte[:, 45:] > 0.95).all()
    assert (matte[:, :45] < 0.05).all()


def test_a_lifted_edge_has_no_colour_of_the_background() -> None:
    # A red disc with an antialiased edge on green: lifted, its edge pixels are red.
    y, x = np.mgrid[0:120, 0:160]
    alpha = np.clip(40.5 - np.hypot(y - 60, x - 80), 0, 1)[..., None]
    light = alpha * SRGB.to_linear(np.array([200, 30, 30], np.uint8)) + (1 - alpha) * (
        SRGB.to_linear(np.array([30, 200, 30], np.uint8))
    )
    rgb = SRGB.to_codes(light.astype(np.float32), np.uint8).astype(np.uint8)
    ids = np.where(alpha[..., 0] > 0.5, 1, 2).astype(np.int32)
    result = result_of(rgb, ids, {1: "person", 2: "sky"})
    done = effects.Lift(effects.Pick(segment=1)).apply(result.photo, result)
    edge = (done.alpha_hw > 0.1) & (done.alpha_hw < 0.9)
    assert edge.sum() > 50
    # In the photo the edge is up to 200 green; in the cut-out hardly.
    assert np.quantile(done.image_hwc[edge][:, 1].astype(int), 0.9) < 60


def test_what_a_person_holds_goes_with_them() -> None:
    ids = np.full((120, 160), 2, np.int32)
    ids[20:, 50:110] = 1
    ids[60:80, 70:90] = 3
    rgb = np.array([[0] * 3, [200, 60, 60], GREY, [40, 150, 60]], np.uint8)[ids]
    result = result_of(rgb, ids, {1: "person", 2: "sky", 3: "bag"})
    pick = effects.Pick(segment=1)
    assert effects.Lift(pick).apply(result.photo, result).alpha_hw[70, 80] == 1
    for apart in (effects.Pick(segment=1, but=(3,)), effects.Pick(segment=1, held=False)):
        assert effects.Lift(apart).apply(result.photo, result).alpha_hw[70, 80] < 0.1
        blurred = effects.BlurBackground(apart).apply(result.photo, result)
        assert blurred.alpha_hw[70, 80] < 0.1
        assert effects.Pick.from_json(apart.to_json()) == apart
    assert "held" not in pick.to_json()
    with pytest.raises(ArgumentError, match="pick held is 1"):
        effects.Pick(segment=1, held=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("quality", ["draft", "good", "best"])
def test_each_quality_finds_a_hair_that_the_mask_misses(quality: str) -> None:
    if quality == "best":
        pytest.importorskip("pymatting")
    rng = np.random.default_rng(0)
    alpha = np.zeros((240, 240), np.float32)
    alpha[:, :120] = 1
    mask = alpha > 0.5
    alpha[100:102, 120:140] = 1  # the hair
    rgb = np.where(alpha[..., None] > 0.5, (60, 30, 20), (120, 180, 220))
    photo = Photo.from_array((rgb + rng.integers(-3, 4, rgb.shape)).astype(np.uint8))
    matte = soft_matte(photo, mask, cell=3.0, quality=quality)
    assert matte[100:102, 121:139].mean() > 0.5
    assert matte[60:90, 125:140].mean() < 0.05
    assert (matte[:, :90] == 1).all()
    assert (matte[:, 200:] == 0).all()
