"""Edits as data: picks, lists, undo, replay, and every edit's promise.

The photo is drawn, so what must and must not change is known by hand.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from panokit.effects import (
    EDIT_KINDS,
    Blur,
    BlurBackground,
    Edit,
    EditList,
    Fill,
    Highlight,
    Lift,
    Parameter,
    Pick,
    Pixelate,
    Recolor,
    Remove,
    ReplaceBackground,
    ReplaceSky,
    shrink,
)
from panokit.effects.held import held_by, wearable
from panokit.effects.ramp import ground_ramp
from panokit.effects.recoloring import from_oklab, to_oklab
from panokit.effects.redacting import head_mask
from panokit.errors import ArgumentError, DataError, PhotoError
from panokit.photo import Photo
from panokit.preprocessing import letterbox
from panokit.result import PanopticResult, Segment
from panokit.taxonomy import Category, Taxonomy

NAMES = ("person", "sky", "bag", "ground_natural", "large_vehicle")
TAXONOMY = Taxonomy(
    "toy",
    tuple(
        Category(i + 1, n, n in ("person", "bag", "large_vehicle"), (i, i, i))
        for i, n in enumerate(NAMES)
    ),
)
PERSON, SKY, BAG = Pick(segment=1), Pick(class_name="sky"), Pick(tap=(110, 100))


def scene(noise: float = 6.0) -> tuple[Photo, PanopticResult]:
    """120 × 160: 1 a red person, 2 sky, 3 a green bag apart from the person, 4 brown ground."""
    ids = np.full((120, 160), 2, np.int32)
    ids[90:] = 4
    ids[20:, 20:70] = 1
    ids[80:110, 95:130] = 3
    colors = np.array([[0] * 3, [200, 60, 60], [120, 160, 220], [40, 150, 60], [110, 90, 60]])
    rng = np.random.default_rng(1)
    rgb = np.clip(colors[ids] + rng.normal(0, noise, (*ids.shape, 3)), 0, 255).astype(np.uint8)
    return segmented(rgb, ids, {1: "person", 2: "sky", 3: "bag", 4: "ground_natural"})


def segmented(
    rgb: NDArray[np.uint8], ids: NDArray[np.int32], names: dict[int, str]
) -> tuple[Photo, PanopticResult]:
    photo = Photo.from_array(rgb)
    h, w = ids.shape
    segments = tuple(
        Segment(i, TAXONOMY.get(n), 0.9, int((ids == i).sum()), (0, 0, w, h))
        for i, n in names.items()
    )
    transform = letterbox((w, h), (320, 320))
    return photo, PanopticResult(photo, ids, segments, TAXONOMY, transform)


ALL_EDITS = [
    BlurBackground(),
    BlurBackground(PERSON, strength=0.9, blades=6, depth_ramp=True),
    Lift(PERSON),
    Remove(BAG),
    Recolor(PERSON, color="#2060d0"),
    Pixelate(PERSON),
    Blur(PERSON, part="head"),
    Highlight(PERSON, dim=0.3),
    ReplaceBackground(Fill(gradient=("#102030", "#f0e0d0")), PERSON),
    ReplaceSky(Fill(color="#ff8800")),
]
IDS = [f"{i}-{e.do}" for i, e in enumerate(ALL_EDITS)]


def test_every_kind_is_tested() -> None:
    assert {e.do for e in ALL_EDITS} == set(EDIT_KINDS)


@pytest.mark.parametrize("edit", ALL_EDITS, ids=IDS)
def test_edits_round_trip_through_json(edit: Edit) -> None:
    assert Edit.from_json(json.loads(json.dumps(edit.to_json()))) == edit


@pytest.mark.parametrize("edit", ALL_EDITS, ids=IDS)
def test_every_edit_applies_and_keeps_size_and_original(edit: Edit) -> None:
    photo, result = scene()
    before = photo.rgb_hwc.copy()
    done = edit.apply(photo, result)
    assert done.applied
    assert done.message.endswith(".")
    assert done.image_hwc.shape == before.shape
    assert done.alpha_hw.dtype == np.float32
    assert 0 <= done.alpha_hw.min() <= done.alpha_hw.max() <= 1
    if not isinstance(edit, Lift):
        assert (done.image_hwc != before).any()
    np.testing.assert_array_equal(photo.rgb_hwc, before)


@pytest.mark.parametrize(
    ("edit", "untouched"),
    [
        (BlurBackground(PERSON), 1.0),
        (Highlight(PERSON), 1.0),
        (Lift(PERSON), 1.0),
        (ReplaceBackground(Fill(color="#102030"), PERSON, match_light=0), 1.0),
        (ReplaceSky(Fill(color="#102030"), match_light=0), 1.0),
        (Recolor(PERSON), 0.0),
        (Remove(BAG), 0.0),
        (Pixelate(PERSON), 0.0),
        (Blur(PERSON), 0.0),
    ],
    ids=lambda v: getattr(v, "do", None),
)
def test_what_an_edit_is_not_about_stays_bit_for_bit(edit: Edit, untouched: float) -> None:
    photo, result = scene()
    done = edit.apply(photo, result)
    where = done.alpha_hw == untouched
    assert where.mean() > 0.1
    np.testing.assert_array_equal(done.image_hwc[where], photo.rgb_hwc[where])


@pytest.mark.parametrize(
    "edit",
    [BlurBackground(PERSON, strength=1), Highlight(PERSON), Remove(BAG), Pixelate(PERSON),
     Blur(PERSON), Lift(PERSON),
     ReplaceBackground(Fill(color="#808080"), PERSON)],
    ids=lambda e: e.do,
)  # fmt: skip
def test_a_grey_photo_stays_grey(edit: Edit) -> None:
    photo, result = scene(20.0)
    grey = Photo.from_array(np.repeat(photo.rgb_hwc[..., :1], 3, axis=2))
    done = edit.apply(grey, replace(result, photo=grey)).image_hwc.astype(int)
    assert (done.max(axis=2) - done.min(axis=2)).max() <= 1


# Picks


@pytest.mark.parametrize(
    ("pick", "found"),
    [
        (Pick(tap=(30, 60)), [1]),
        (Pick(tap=(0, 0)), [2]),
        (Pick(class_name="bag"), [3]),
        (Pick(class_name="bag", but=(3,)), []),
        (Pick(segment=4), [4]),
        (Pick(segment=99), []),
    ],
)
def test_picks_find(pick: Pick, found: list[int]) -> None:
    assert [s.id for s in pick.find(scene()[1])] == found
    assert Pick.from_json(json.loads(json.dumps(pick.to_json()))) == pick


def test_a_pick_that_finds_nothing_changes_nothing() -> None:
    photo, result = scene()
    done = EditList((Remove(Pick(segment=99)),)).replay(photo, result)
    assert not done.applied
    assert done.message == "Nothing was found with id 99, so the photo was left as it is."
    np.testing.assert_array_equal(done.image_hwc, photo.rgb_hwc)


@pytest.mark.parametrize("tap", [(160, 0), (0, 120), (1e9, 1)])
def test_a_tap_outside_the_photo_is_an_error(tap: tuple[float, float]) -> None:
    photo, result = scene()
    with pytest.raises(ArgumentError, match=r"lies outside the photo"):
        Remove(Pick(tap=tap)).apply(photo, result)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"do": "explode"}, "one of .*recolor"),
        ({"do": "remove"}, "lacks its pick"),
        ({"do": "remove", "pick": {}}, "exactly one of tap, class and segment"),
        ({"do": "remove", "pick": {"tap": [1, 2], "segment": 1}}, "exactly one of"),
        ({"do": "remove", "pick": {"tap": [1]}}, r"expected a list of 2"),
        (
            {"do": "remove", "pick": {"tap": [1, float("nan")]}},
            r"tap\[1\] is nan; expected a number",
        ),
        ({"do": "remove", "pick": {"tap": "1,2"}}, r"pick.tap is '1,2'; expected a list"),
        ({"do": "remove", "pick": {"segment": True}}, "expected a whole number"),
        (
            {"do": "remove", "pick": {"segment": 1}, "margin": -1},
            "margin is .*; expected a number from 0 to 20",
        ),
        ({"do": "remove", "pick": {"segment": 1}, "color": "#000000"}, "remove has the parameters"),
        ({"do": "recolor", "pick": {"segment": 1}, "color": "red"}, "expected #rrggbb"),
        ({"do": "pixelate", "pick": {"segment": 1}, "blocks": 2.5}, "a whole number"),
        ({"do": "pixelate", "pick": {"segment": 1}, "part": "tail"}, "one of .*head"),
        ({"do": "blur_background", "blades": 3}, "blades"),
        ({"do": "blur_background", "depth_ramp": 1}, "true or false"),
        ({"do": "lift", "pick": {"segment": 1}, "quality": "superb"}, "one of .*best"),
        ({"do": "replace_sky", "fill": {"color": "#000000", "photo": "x"}}, "exactly one of"),
        ({"do": "replace_sky", "fill": {"gradient": ["#000000"]}}, "2 to 16 colours"),
        ({"do": "replace_sky"}, "lacks its fill"),
        ([], "an object with 'do'"),
    ],
)
def test_impossible_edits_are_refused(data: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Edit.from_json(data)


# Lists


def test_undo_and_redo() -> None:
    one, two = Remove(BAG), Recolor(PERSON)
    edits = EditList().append(one).append(two)
    assert edits.undo().edits == (one,)
    assert edits.undo().redo() == edits
    assert edits.undo().undo().undo().edits == ()
    assert edits.undo().append(Lift(PERSON)).redo().edits == (one, Lift(PERSON))


def test_undo_gives_the_pixels_back() -> None:
    photo, result = scene()
    edits = EditList().append(Recolor(PERSON))
    once = edits.replay(photo, result)
    twice = edits.append(Remove(BAG)).undo().replay(photo, result)
    np.testing.assert_array_equal(once.image_hwc, twice.image_hwc)
    none = edits.undo().replay(photo, result)
    assert not none.applied
    np.testing.assert_array_equal(none.image_hwc, photo.rgb_hwc)


def test_replay_is_the_edits_one_after_the_other() -> None:
    photo, result = scene()
    both = EditList((Recolor(PERSON), Highlight(PERSON))).replay(photo, result)
    first = Recolor(PERSON).apply(photo, result)
    second = Highlight(PERSON).apply(first.photo, replace(result, photo=first.photo))
    np.testing.assert_array_equal(both.image_hwc, second.image_hwc)
    assert both.message == "Recoloured the person. Highlighted the person."


def test_what_was_removed_cannot_be_picked_again() -> None:
    photo, result = scene()
    done = EditList((Remove(BAG), Recolor(BAG))).replay(photo, result)
    assert done.applied
    assert done.message.startswith("Removed the bag. Nothing was found at (110, 100)")


def test_a_lifted_object_stays_transparent_under_later_edits() -> None:
    photo, result = scene()
    done = EditList((Lift(PERSON), Recolor(PERSON))).replay(photo, result)
    assert done.transparent
    assert done.image.mode == "RGBA"
    width, height = done.cutout().size
    assert 50 <= width <= 66
    assert 100 <= height <= 108


def test_edits_json_file(tmp_path: Path) -> None:
    edits = EditList(tuple(ALL_EDITS), "a.jpg")
    edits.save(tmp_path / "edits.json")
    data = json.loads((tmp_path / "edits.json").read_text())
    assert data["version"] == 1
    assert data["edits"][3] == {
        "do": "remove", "pick": {"tap": [110, 100]}, "margin": 0.5, "shadow": True,
        "anyway": False,
    }  # fmt: skip
    assert EditList.load(tmp_path / "edits.json") == edits


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 2, "edits": []}', '{"version": 1, "edits": "x"}',
             '{"version": 1, "edits": [3]}', "[" * 100_000],
    ids=range(7),
)  # fmt: skip
def test_what_is_no_edits_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "edits.json").write_text(text)
    with pytest.raises(DataError, match="expected edits in JSON"):
        EditList.load(tmp_path / "edits.json")


# Single effects


def test_oklab_of_known_colours() -> None:
    # White is L = 1 without colour; linear grey of 0.125 has the cube root 0.5.
    lab = to_oklab(np.array([[1, 1, 1], [0.125, 0.125, 0.125]], np.float32))
    np.testing.assert_allclose(lab, np.array([[1, 0, 0], [0.5, 0, 0]]), atol=1e-4)
    light = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    np.testing.assert_allclose(from_oklab(to_oklab(light)), light, atol=1e-4)


def test_recolour_takes_the_hue_and_keeps_the_shading() -> None:
    photo, result = scene()
    done = Recolor(PERSON, color="#2060d0").apply(photo, result)
    inside = done.alpha_hw == 1
    space = photo.space
    old, new = (to_oklab(space.to_linear(p.rgb_hwc[inside])) for p in (photo, done.photo))
    # L is kept but for the rounding to codes; the median hue is that of the colour.
    assert np.abs(old[:, 0] - new[:, 0]).max() < 0.01
    wanted = to_oklab(space.to_linear(np.array([[0x20, 0x60, 0xD0]], np.uint8)))[0]
    a, b = np.median(new[:, 1:], axis=0)
    assert np.arctan2(b, a) == pytest.approx(np.arctan2(wanted[2], wanted[1]), abs=0.08)


@pytest.mark.parametrize("kind", [Pixelate, Blur])
def test_redacting_leaves_nothing_of_the_object(kind: type[Pixelate] | type[Blur]) -> None:
    # Two photos that differ in fine detail alone, with equal means, give the same picture.
    ids = np.full((120, 160), 2, np.int32)
    ids[20:100, 40:120] = 1
    y, x = np.mgrid[0:120, 0:160]
    outcomes = []
    for sign in (1, -1):
        wave = np.where((x + y) % 2 == 0, 40, -40) * sign
        rgb = np.repeat((128 + wave)[..., None], 3, axis=2).astype(np.uint8)
        rgb[ids != 1] = 90
        photo, result = segmented(rgb, ids, {1: "person", 2: "sky"})
        outcomes.append(kind(PERSON, blocks=4).apply(photo, result).image_hwc.astype(int))
    assert np.abs(outcomes[0] - outcomes[1]).max() <= 1


def test_pixelate_draws_few_colours() -> None:
    photo, result = scene()
    done = Pixelate(PERSON, blocks=4).apply(photo, result)
    colors = np.unique(done.image_hwc[done.alpha_hw == 1], axis=0)
    assert len(colors) <= 16


def test_heads_end_where_the_shoulders_begin() -> None:
    mask = np.zeros((200, 100), bool)
    mask[10:50, 40:60] = True  # head
    mask[50:200, 20:80] = True  # three times as wide
    head = np.nonzero(head_mask(mask).any(axis=1))[0]
    assert head[0] == 10
    assert 50 <= head[-1] + 1 <= 60
    assert not head_mask(np.zeros((5, 5), bool)).any()


def test_a_removed_object_on_stripes_is_filled_with_stripes() -> None:
    # Columns of period 8: what lies behind the hole is known.
    ids = np.full((128, 160), 2, np.int32)
    ids[50:80, 60:92] = 3
    stripes = np.where(np.arange(160) % 8 < 4, 60, 190)
    truth = np.repeat(np.tile(stripes, (128, 1))[..., None], 3, axis=2).astype(np.uint8)
    rgb = truth.copy()
    rgb[ids == 3] = (255, 0, 0)
    photo, result = segmented(rgb, ids, {2: "sky", 3: "bag"})
    done = Remove(Pick(segment=3)).apply(photo, result)
    off = np.abs(done.image_hwc.astype(int) - truth)[done.alpha_hw == 1]
    assert off.mean() < 8


def test_removing_never_copies_other_objects() -> None:
    ids = np.full((100, 160), 2, np.int32)
    ids[30:70, 50:80] = 3
    ids[30:70, 88:118] = 1
    rgb = np.full((100, 160, 3), 120, np.uint8)
    rgb[ids == 3], rgb[ids == 1] = (0, 0, 255), (255, 0, 0)
    photo, result = segmented(rgb, ids, {1: "person", 2: "sky", 3: "bag"})
    done = Remove(Pick(segment=3)).apply(photo, result)
    np.testing.assert_allclose(done.image_hwc[done.alpha_hw == 1], 120, atol=1)


def test_removing_everything_is_declined() -> None:
    photo, result = segmented(
        np.zeros((20, 20, 3), np.uint8), np.ones((20, 20), np.int32), {1: "bag"}
    )
    done = Remove(PERSON).apply(photo, result)
    assert not done.applied
    assert "Nothing of the photo would be left" in done.message


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 40), (40, 1), (3, 5)])
@pytest.mark.parametrize(
    "edit", [e for e in ALL_EDITS if e.do != "replace_sky"], ids=lambda e: e.do
)
def test_tiny_photos(size_hw: tuple[int, int], edit: Edit) -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    photo, result = segmented(rgb, np.ones(size_hw, np.int32), {1: "person"})
    if isinstance(edit, Remove):
        edit = Remove(PERSON)
    assert edit.apply(photo, result).image_hwc.shape == rgb.shape


def test_no_sky_and_no_person_are_gentle_answers() -> None:
    photo, result = segmented(
        np.zeros((20, 20, 3), np.uint8), np.ones((20, 20), np.int32), {1: "bag"}
    )
    sky = ReplaceSky(Fill(color="#102030")).apply(photo, result)
    background = ReplaceBackground(Fill(color="#102030")).apply(photo, result)
    assert (sky.applied, background.applied) == (False, False)
    assert sky.message == "No sky was found, so the photo was left as it is."
    assert background.message == "No person was found, so the photo was left as it is."


def test_a_new_background_is_exact_and_the_light_follows() -> None:
    photo, result = scene()
    fill = Fill(color="#102030")
    done = ReplaceBackground(fill, PERSON, match_light=1.0).apply(photo, result)
    behind = done.alpha_hw == 0
    np.testing.assert_array_equal(np.unique(done.image_hwc[behind], axis=0), [[0x10, 0x20, 0x30]])
    person = done.alpha_hw == 1
    # The new background is darker than the old, so the person becomes darker.
    assert done.image_hwc[person].mean() < photo.rgb_hwc[person].mean() - 5


def test_fill_photos_stay_inside_their_folder(tmp_path: Path) -> None:
    Photo.from_array(np.full((10, 10, 3), 7, np.uint8)).save(tmp_path / "beach.png")
    photo, result = scene()
    edits = EditList((ReplaceBackground(Fill(photo="beach.png"), PERSON, match_light=0),))
    done = edits.replay(photo, result, folder=tmp_path)
    assert (done.image_hwc[done.alpha_hw == 0] == 7).all()
    for name in ("../beach.png", "/etc/passwd", "a/../../b.png", "C:\\x.png"):
        with pytest.raises(ArgumentError, match="a path inside the folder"):
            EditList((ReplaceSky(Fill(photo=name)),)).replay(photo, result, folder=tmp_path)
    with pytest.raises(ArgumentError, match="that folder to be given"):
        edits.replay(photo, result)


def test_a_fill_photo_is_read_before_work_even_where_nothing_needs_it(tmp_path: Path) -> None:
    photo, result = scene()
    (tmp_path / "beach.png").write_bytes(b"no picture")
    no_sky = replace(result, segments=tuple(s for s in result if s.category.name != "sky"))
    with pytest.raises(PhotoError, match=r"beach\.png"):
        EditList((ReplaceSky(Fill(photo="beach.png")),)).replay(photo, no_sky, folder=tmp_path)


# Portraits


def test_only_plausible_things_are_named() -> None:
    # A patch on the person's chest, mistaken for a vehicle: sharp with the person, but not named.
    photo, result = scene()
    ids = result.id_map.copy()
    ids[50:70, 35:55] = 5
    vehicle = Segment(5, TAXONOMY.get("large_vehicle"), 0.3, 400, (35, 50, 55, 70))
    result = replace(result, id_map=ids, segments=(*result.segments, vehicle))
    assert held_by(result, [1]) == (5,)
    done = BlurBackground(PERSON).apply(photo, result)
    assert done.message == "Blurred behind the person."
    assert (done.alpha_hw[55:65, 40:50] == 1).all()
    assert not wearable(vehicle)


def test_a_cat_can_be_the_subject() -> None:
    photo, result = scene()
    done = BlurBackground(Pick(class_name="bag")).apply(photo, result)
    assert done.message == "Blurred behind the bag."
    assert done.alpha_hw[95, 112] == 1
    assert done.alpha_hw[60, 30] == 0


def test_the_ramp_starts_at_the_feet() -> None:
    _, result = scene()
    share = ground_ramp(replace(result, id_map=np.roll(result.id_map, -5, axis=0)), [3])
    assert share[0, 0] == 1  # sky
    ground = np.nonzero(result.id_map[:, 150] == 4)[0][0] - 5
    # The bag's lowest row is 104; the ramp is 0.35 · 120 = 42 rows long.
    assert share[104, 150] == 0
    assert share[ground, 150] == pytest.approx((104 - ground) / 42)


def test_an_object_lying_on_another_is_replaced_by_it() -> None:
    # A name tag on a coat: what is behind it is the coat, although that is an object too.
    ids = np.full((120, 160), 2, np.int32)
    ids[20:, 30:130] = 1
    ids[60:75, 60:90] = 3
    rgb = np.full((120, 160, 3), (90, 140, 220), np.uint8)
    rgb[ids == 1], rgb[ids == 3] = (30, 30, 60), (240, 240, 240)
    photo, result = segmented(rgb, ids, {1: "person", 2: "sky", 3: "bag"})
    done = Remove(Pick(segment=3)).apply(photo, result)
    inside = done.image_hwc[done.alpha_hw == 1]
    np.testing.assert_allclose(inside, np.tile([30, 30, 60], (len(inside), 1)), atol=2)


def test_a_preview_is_the_same_edit_on_a_small_photo() -> None:
    photo, result = scene(0.0)
    small, found = shrink(photo, result, 120 * 160 // 4)
    assert small.size_wh == (80, 60)
    assert [s.id for s in found] == [1, 2, 3, 4]
    assert found.get(3).area == 15 * 18
    assert (found.id_map == result.id_map[1::2, 1::2]).all()
    edits = EditList((Recolor(BAG, color="#d02020"),))
    shown = edits.preview(photo, result, pixels=120 * 160 // 4)
    assert shown.message == "Recoloured the bag."
    assert shown.photo.size_wh == (80, 60)
    assert edits.preview(photo, result).photo.size_wh == (160, 120)
    assert not EditList((Recolor(Pick(segment=9)),)).preview(photo, result, pixels=900).applied


def test_painting_by_colours_is_painting_by_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    photo, result = scene()
    pictures = []
    for few in (0, 10**9):
        monkeypatch.setattr("panokit.effects.compose.FEW_PIXELS", few)
        pictures.append(Recolor(PERSON).apply(photo, result).image_hwc)
    np.testing.assert_array_equal(pictures[0], pictures[1])


@pytest.mark.parametrize("frame", [1, 2, 5], ids=["1 pixel left", "2 pixels", "5 pixels"])
def test_hole_that_leaves_next_to_nothing_is_filled(frame: int) -> None:
    from panokit.effects.inpainting import inpaint

    rng = np.random.default_rng(0)
    photo = Photo.from_array(rng.integers(0, 256, (240, 320, 3)).astype(np.uint8))
    hole = np.ones((240, 320), bool)
    hole[:, :frame] = False
    done = inpaint(photo, hole)
    np.testing.assert_array_equal(done.rgb_hwc[:, :frame], photo.rgb_hwc[:, :frame])
    assert not np.array_equal(done.rgb_hwc, photo.rgb_hwc)


def test_a_draft_is_filled_coarser() -> None:
    from panokit.effects.inpainting import inpaint

    rng = np.random.default_rng(1)
    photo = Photo.from_array(rng.integers(0, 256, (300, 300, 3)).astype(np.uint8))
    hole = np.zeros((300, 300), bool)
    hole[60:240, 60:240] = True
    whole = inpaint(photo, hole).rgb_hwc
    coarse = inpaint(photo, hole, draft=True).rgb_hwc
    assert not np.array_equal(whole, coarse)
    np.testing.assert_array_equal(coarse[~hole], photo.rgb_hwc[~hole])
    np.testing.assert_array_equal(inpaint(photo, hole).rgb_hwc, whole)


def test_a_horizon_goes_on_behind_what_is_removed() -> None:
    # Blue over brown, and a pole from the frame's upper to its lower edge, whose sides are soft.
    rng = np.random.default_rng(2)
    rgb = np.where((np.arange(240) < 130)[:, None, None], (120, 170, 230), (130, 95, 60))
    rgb = np.broadcast_to(rgb, (240, 320, 3)) + rng.normal(0, 2, (240, 320, 3))
    alpha = np.clip((40 - np.abs(np.arange(320) - 150)) / 8, 0, 1)[None, :, None]
    clean = np.clip(rgb, 0, 255).astype(np.uint8)
    mixed = np.clip(rgb * (1 - alpha) + 240 * alpha, 0, 255).astype(np.uint8)
    ids = np.broadcast_to(np.where(alpha[..., 0] > 0.7, 3, 2), (240, 320)).astype(np.int32)
    photo, result = segmented(mixed, ids, {2: "sky", 3: "bag"})
    done = Remove(Pick(segment=3), shadow=False).apply(photo, result)
    off = np.abs(done.image_hwc.astype(int) - clean).max(-1)
    assert np.quantile(off[:, 100:200], 0.97) < 12  # neither a seam nor a rim
    assert (off[:, 100:200] > 60).mean() < 0.003  # and the line goes on where it was


def test_draft_goes_from_the_list_to_the_filling() -> None:
    from panokit.effects.inpainting import inpaint

    ids = np.full((300, 300), 2, np.int32)
    ids[60:240, 60:240] = 3
    rgb = np.random.default_rng(1).integers(0, 256, (300, 300, 3)).astype(np.uint8)
    photo, result = segmented(rgb, ids, {2: "sky", 3: "bag"})
    edits = EditList((Remove(Pick(segment=3), margin=0),))
    draft, whole = (edits.replay(photo, result, draft=d).image_hwc for d in (True, False))
    hole = edits.edits[0].apply(photo, result).alpha_hw > 0
    np.testing.assert_array_equal(draft, inpaint(photo, hole, draft=True).rgb_hwc)
    np.testing.assert_array_equal(whole, inpaint(photo, hole).rgb_hwc)
    assert not np.array_equal(draft, whole)
    shown = edits.preview(photo, result, draft=True).image_hwc
    np.testing.assert_array_equal(shown, draft)


@pytest.mark.parametrize("edit", ALL_EDITS, ids=IDS)
def test_a_draft_of_a_small_photo_is_the_picture_itself(edit: Edit) -> None:
    photo, result = scene()
    draft, whole = (edit.apply(photo, result, draft=d).image_hwc for d in (True, False))
    np.testing.assert_array_equal(draft, whole)


def test_results_say_what_is_gone() -> None:
    photo, result = scene()
    done = EditList((Remove(BAG), Recolor(PERSON))).replay(photo, result)
    assert done.gone == (3,)
    assert EditList((Recolor(PERSON),)).replay(photo, result).gone == ()


# Parameters

PARAMETERS = [(kind, p) for kind in EDIT_KINDS.values() for p in kind.parameters()]
PARAMETER_IDS = [f"{kind.do}-{p.name}" for kind, p in PARAMETERS]


def test_json_knows_the_kinds_that_are_listed() -> None:
    with pytest.raises(ArgumentError) as error:
        Edit.from_json({"do": "melt"})
    assert str(error.value).endswith(f"one of {sorted(EDIT_KINDS)}")


@pytest.mark.parametrize("parameter", [p for _, p in PARAMETERS], ids=PARAMETER_IDS)
def test_parameters_have_words_and_limits(parameter: Parameter) -> None:
    assert parameter.about[0].isupper()
    assert parameter.about.endswith(".")
    wrong: object = {
        "number": parameter.high + 0.1,
        "whole": parameter.low - 1,
        "choice": "none of them",
        "flag": 1,
        "color": "red",
    }.get(parameter.kind, 3)
    for value in (wrong, float("nan"), [], *([None] if parameter.required else [])):
        with pytest.raises(ArgumentError, match=f"{parameter.name} is .*; expected"):
            parameter.check(value)
    if not parameter.required:
        parameter.check(parameter.default)
    numeric = parameter.kind in ("number", "whole")
    for value in (parameter.low, parameter.high) if numeric else parameter.choices:
        parameter.check(value)


@pytest.mark.parametrize("kind", EDIT_KINDS.values(), ids=list(EDIT_KINDS))
def test_a_kind_is_described_for_forms_and_in_the_docs(kind: type[Edit], root: Path) -> None:
    told = kind.describe()
    assert json.loads(json.dumps(told)) == told
    assert told["title"]
    assert told["about"].endswith(".")
    assert [p["name"] for p in told["parameters"]] == [p.name for p in kind.parameters()]
    text = (root / "docs" / "effects.md").read_text(encoding="utf-8")
    row = next(r for r in text.splitlines() if r.startswith("|") and f"`{kind.do}`" in r)
    for parameter in kind.parameters():
        assert f"`{parameter.name}`" in row
