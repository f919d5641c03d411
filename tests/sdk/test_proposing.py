"""A region proposed where the network found nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from panokit.cli.video import step_result
from panokit.effects import EditList, Lift, Pick, Pixelate, Recolor
from panokit.effects.proposing import propose
from panokit.errors import ArgumentError
from panokit.result import PanopticResult
from panokit.taxonomy import Category, Taxonomy
from tests.sdk.test_whole import SKY, result_of

H, W = 240, 320


def scene(taxonomy: Taxonomy, *, scale: int = 1) -> tuple[PanopticResult, NDArray[np.bool_]]:
    """A blue disc on a wall that gets lighter, void but for the sky on the left; and the disc."""
    h, w = H * scale, W * scale
    ys, xs = np.mgrid[:h, :w] / scale
    disc = (xs - 180) ** 2 + (ys - 120) ** 2 < 50**2
    rgb = np.stack([120 + xs / 4, 110 + xs / 5, 100 + ys / 8], -1)
    rgb[disc] = (40, 60, 160)
    rgb += np.random.default_rng(3).normal(0, 6, rgb.shape)
    ids = np.where(xs < 40, SKY, 0).astype(np.int32)
    return result_of(np.clip(rgb, 0, 255).astype(np.uint8), ids, taxonomy), disc


@pytest.mark.parametrize("tap", [(180, 120), (150, 140), (220.5, 110.2)])
@pytest.mark.parametrize("scale", [1, 4])
def test_the_region_ends_at_the_edges_of_the_photo(
    scale: int, tap: tuple[float, float], taxonomy: Taxonomy
) -> None:
    result, disc = scene(taxonomy, scale=scale)
    x, y = tap[0] * scale, tap[1] * scale
    found, segment = propose(result.photo, result, x, y)
    assert segment is not None
    mask = found.mask(segment)
    assert (mask & disc).sum() / (mask | disc).sum() > 0.95
    assert segment.category.name == "object"
    assert segment.category.id not in {c.id for c in taxonomy}
    assert segment.area == mask.sum()
    x0, y0, x1, y1 = segment.box_xyxy
    assert mask[y0:y1, x0:x1].sum() == mask.sum()
    assert result.propose(x, y).get(segment.id) == segment
    assert len(result) == 1  # the result itself stays as it was


def test_segments_are_never_taken_from(taxonomy: Taxonomy) -> None:
    result, _ = scene(taxonomy)
    for x, y in ((60, 20), (41, 120), (300, 230)):
        found, _ = propose(result.photo, result, x, y)
        assert np.array_equal(found.mask(1), result.mask(1))
        assert found.get(1) == result.get(1)
    assert propose(result.photo, result, 10, 10) == (result, result.get(1))


def test_a_class_named_object_is_used(taxonomy: Taxonomy) -> None:
    known = Category(1 + max(c.id for c in taxonomy), "object", True, (1, 2, 3))
    result, _ = scene(Taxonomy("more", (*taxonomy, known)))
    _, segment = propose(result.photo, result, 180, 120)
    assert segment is not None
    assert segment.category == known


def test_a_crumb_is_no_region(taxonomy: Taxonomy) -> None:
    rgb = np.full((100, 100, 3), 90, np.uint8)
    ids = np.full((100, 100), SKY, np.int32)
    ids[50, 50] = 0
    result = result_of(rgb, ids, taxonomy)
    assert propose(result.photo, result, 50, 50) == (result, None)
    done = Lift(Pick(tap=(50, 50))).apply(result.photo, result)
    assert not done.applied
    assert done.message.startswith("Nothing was found at (50, 50)")


def test_a_plain_photo_proposes_all_that_is_void(taxonomy: Taxonomy) -> None:
    rgb = np.full((100, 100, 3), 90, np.uint8)
    ids = np.full((100, 100), SKY, np.int32)
    ids[30:60, 30:60] = 0
    result = result_of(rgb, ids, taxonomy)
    found, segment = propose(result.photo, result, 40, 40)
    assert segment is None or found.mask(segment).sum() <= 900


def test_a_point_outside_is_said(taxonomy: Taxonomy) -> None:
    result, _ = scene(taxonomy)
    with pytest.raises(ArgumentError, match="outside the photo"):
        propose(result.photo, result, W, 10)


def test_edits_take_a_tap_on_void(taxonomy: Taxonomy) -> None:
    result, disc = scene(taxonomy, scale=4)
    edits = EditList((Lift(Pick(tap=(720, 480))),))
    done = edits.replay(result.photo, result)
    assert done.message == "Lifted the object."
    assert done.alpha_hw is not None
    assert ((done.alpha_hw > 0.5) != disc).mean() < 0.01
    small = edits.preview(result.photo, result, pixels=W * H)
    assert small.message == "Lifted the object."
    assert small.alpha_hw is not None
    _, little = scene(taxonomy)
    assert small.alpha_hw.shape == little.shape
    assert ((small.alpha_hw > 0.5) != little).mean() < 0.02


def test_a_tap_on_void_does_nothing_in_a_video(taxonomy: Taxonomy) -> None:
    """Each frame would have another region."""
    result, _ = scene(taxonomy)
    step = Pixelate(Pick(tap=(180, 120)))
    assert step.apply(result.photo, result).applied
    assert step_result(step, result.photo, result) is None
    assert step_result(Pixelate(Pick(tap=(10, 10))), result.photo, result) is not None


def test_a_proposed_region_can_be_corrected(taxonomy: Taxonomy) -> None:
    result, disc = scene(taxonomy)
    pick = Pick(tap=(180, 120), remove=((70, 60),), add=((200, 100),))
    done = Recolor(pick, "#ff0000").apply(result.photo, result)
    assert done.message == "Recoloured the object."
    assert done.alpha_hw is not None
    assert ((done.alpha_hw > 0.5) != disc).mean() < 0.02
