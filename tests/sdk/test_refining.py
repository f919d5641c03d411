"""Objects corrected by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from panokit import Segmenter
from panokit.cli.shell import app
from panokit.effects import EditList, Lift, Pick, Remove
from panokit.effects.refining import refine
from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.result import PanopticResult
from panokit.taxonomy import Taxonomy
from tests.sdk.test_whole import BLUE, COAT, PERSON, box, result_of, scene


@pytest.fixture
def bitten(taxonomy: Taxonomy) -> tuple[PanopticResult, NDArray[np.bool_]]:
    """A person whose arm the network missed, and where the person truly is."""
    rgb, ids = scene(taxonomy)
    true = ids == PERSON
    arm = box(ids, 0.55, 0.7, 0.12, 0.22)
    rgb[arm] = COAT
    true[arm] = True
    return result_of(rgb, ids, taxonomy), true


@pytest.fixture
def stuck(taxonomy: Taxonomy) -> tuple[PanopticResult, NDArray[np.bool_]]:
    """A person to whom a flag sticks, and where the person truly is."""
    rgb, ids = scene(taxonomy)
    true = ids == PERSON
    flag = box(ids, 0.35, 0.1, 0.2, 0.2)
    rgb[flag] = (200, 40, 40)
    ids = ids.copy()
    ids[flag] = PERSON
    return result_of(rgb, ids, taxonomy), true


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_point_brings_in_what_was_missed(
    bitten: tuple[PanopticResult, NDArray[np.bool_]],
) -> None:
    result, true = bitten
    before = iou(result.mask(1), true)
    for add in ([(170, 122)], [[(150, 120), (178, 124)]]):
        after = result.refine(1, add=add)
        assert iou(after.mask(1), true) > 0.97 > before
        segment = after.get(1)
        assert segment.area == int(after.mask(1).sum())
        assert segment.box_xyxy[2] == pytest.approx(184, abs=2)
    assert iou(result.mask(1), true) == before  # the first result is as it was


def test_a_point_takes_away_what_sticks(stuck: tuple[PanopticResult, NDArray[np.bool_]]) -> None:
    result, true = stuck
    after = result.refine(1, remove=[(40, 90)])
    assert iou(after.mask(1), true) > 0.98 > iou(result.mask(1), true)
    assert (after.id_map[80:100, 30:50] == 0).all()


def test_what_is_far_from_a_stroke_stays_to_the_bit(
    bitten: tuple[PanopticResult, NDArray[np.bool_]],
) -> None:
    result, _ = bitten
    after = result.refine(1, add=[(170, 122)])
    assert np.array_equal(after.id_map[:60], result.id_map[:60])
    assert np.array_equal(after.id_map[:, :100], result.id_map[:, :100])
    assert result.refine(1) is result
    with pytest.raises(ArgumentError, match="outside the photo"):
        result.refine(1, add=[(500, 5)])
    with pytest.raises(ArgumentError, match="no segment 9"):
        refine(result.photo, result, 9, add=[(5, 5)])


def test_a_pick_carries_its_corrections_through_json_and_effects(
    bitten: tuple[PanopticResult, NDArray[np.bool_]],
) -> None:
    result, true = bitten
    pick = Pick(class_name="person", add=((170.0, 122.0),), remove=((100.0, 20.0),))
    assert Pick.from_json(pick.to_json()) == pick
    alpha = Lift(pick).apply(result.photo, result).alpha_hw
    assert iou(alpha > 0.5, true) > 0.95
    assert (
        iou(Lift(Pick(class_name="person")).apply(result.photo, result).alpha_hw > 0.5, true) < 0.93
    )
    edits = EditList(photo="a.png").append(Remove(pick))
    again = EditList.from_json(edits.to_json())
    gone = again.replay(result.photo, result)
    arm = gone.image_hwc[115:130, 150:175].astype(int)
    assert np.abs(arm - np.array(BLUE)).mean() < 25
    for bad in ([[1]], [["x", 1]], [[-1, 2]], [[float("nan"), 1]]):
        with pytest.raises(ArgumentError):
            Pick.from_json({"class": "person", "add": bad})


def test_points_mean_the_whole_photo_in_a_preview_too(taxonomy: Taxonomy) -> None:
    rgb, ids = scene(taxonomy, 1600)
    true = ids == PERSON
    arm = box(ids, 0.55, 0.7, 0.12, 0.22)
    rgb[arm] = COAT
    true[arm] = True
    result = result_of(rgb, ids, taxonomy)
    for pick in (
        Pick(class_name="person", add=((1360.0, 976.0),)),
        Pick(tap=(800.0, 1200.0), add=((1360.0, 976.0),)),
    ):
        done = EditList().append(Lift(pick)).preview(result.photo, result, pixels=160_000)
        step = true.shape[0] // done.alpha_hw.shape[0]
        assert step > 2
        assert iou(done.alpha_hw > 0.5, true[step // 2 :: step, step // 2 :: step]) > 0.93


def test_the_command_takes_points(
    bitten: tuple[PanopticResult, NDArray[np.bool_]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result, true = bitten

    class Given:
        def segment(self, photo: Any) -> PanopticResult:
            return result

    monkeypatch.setattr(Segmenter, "open", lambda *_: Given())
    path, out = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(result.photo.rgb_hwc).save(path)
    words = ["edit", str(path), "--do", "lift", "--class", "person", "--out", str(out)]
    run = CliRunner().invoke(app, [*words, "--add", "170,122; 150,120", "--remove", "100,20"])
    assert run.exit_code == 0, run.output
    alpha = np.asarray(Image.open(out))[..., 3]
    assert iou(alpha > 127, true) > 0.95
    run = CliRunner().invoke(app, [*words, "--add", "170"])
    assert "expected X,Y" in str(run.exception)


def test_the_name_tag_of_the_astronaut() -> None:
    from panokit.samples import sample_photos

    path = sample_photos().get("astronaut")
    if path is None:
        pytest.skip("scikit-image's sample photo is not installed")
    photo = Photo.open(path)
    result = Segmenter.open().segment(photo)
    person = max(result.find("person"), key=lambda s: s.area)
    tag = slice(340, 370), slice(285, 325)
    after = result.refine(person, add=[(300, 350)]).mask(person.id)
    assert after[tag].mean() > 0.9
    assert abs(int(after.sum()) - person.area) < 0.05 * person.area
