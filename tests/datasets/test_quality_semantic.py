"""Classes per pixel: 5 × 5 maps to be checked by hand, OpenCV for the boundary band."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from panokit.errors import ArgumentError
from panokit.taxonomy import Taxonomy
from panokit_datasets.coco_panoptic import TruthSegment
from panokit_datasets.quality.semantic import (
    IGNORED,
    UNLABELLED,
    SemanticQuality,
    boundary,
    boundary_counts,
    confusion_matrix,
    pred_channels,
    true_channels,
)

PERSON, SKY, DOG, ROAD = range(4)


def channels(text: str) -> NDArray[np.int64]:
    """``"PS.x …"``: a row a word; person, sky, dog, road, unlabelled ``.`` and ignored ``x``."""
    code = {"P": PERSON, "S": SKY, "D": DOG, "R": ROAD, ".": UNLABELLED, "x": IGNORED}
    return np.array([[code[c] for c in row] for row in text.split()], np.int64)


def test_channels_of_ids() -> None:
    ids = np.array([[0, 5, 9, 9, 4]], np.int32)
    truth = (
        TruthSegment(9, DOG, True, is_crowd=True),
        TruthSegment(4, SKY, False, is_crowd=True, ignore=True),
        TruthSegment(5, ROAD, False),
    )
    assert true_channels(ids, truth).tolist() == [[UNLABELLED, ROAD, DOG, DOG, IGNORED]]
    predicted = pred_channels(ids, {4: SKY, 5: ROAD, 9: DOG})
    assert predicted.tolist() == [[UNLABELLED, ROAD, DOG, DOG, SKY]]


def test_iou_by_hand(taxonomy: Taxonomy) -> None:
    quality = SemanticQuality(taxonomy)
    quality.update(
        channels("PPSSS PPSSS PPPSS .SSSS DDSSS"),
        channels("PPSSS PPSSS PPSSS PPSSS SSSSS"),
    )
    result = quality.compute()
    # Person: 6 right, 1 too many, 2 missed. Sky: 14 right, 1 too many, 3 missed. Dog: 2 invented.
    assert result.iou == {"person": 6 / 9, "sky": 14 / 18, "dog": 0.0, "road": None}
    assert result.miou == pytest.approx((6 / 9 + 14 / 18) / 2)


@pytest.mark.parametrize(
    ("absent", "expected"),
    [((PERSON,), 2 / 4), ((SKY, DOG), 2 / 2), ((), 2 / 2)],
    ids=["person labelled", "others labelled", "nothing known"],
)
def test_unlabelled_pixels_count_only_against_absent_classes(
    taxonomy: Taxonomy, absent: tuple[int, ...], expected: float
) -> None:
    quality = SemanticQuality(taxonomy)
    counts = quality.update(channels("PPPPP"), channels("PP..x"), absent)
    assert counts.iou(PERSON) == quality.compute().iou["person"] == expected


def test_nothing_labelled_is_nothing_to_judge(taxonomy: Taxonomy) -> None:
    quality = SemanticQuality(taxonomy)
    quality.update(channels("PSD."), channels("..xx"))
    assert quality.compute().miou is None
    assert set(quality.compute().iou.values()) == {None}


def test_pixels_are_pooled_over_photos_and_parts(taxonomy: Taxonomy) -> None:
    first, second = SemanticQuality(taxonomy), SemanticQuality(taxonomy)
    first.update(channels("PPPP"), channels("PPPS"))  # 3 of 4
    second.update(channels("P"), channels("S"))  # 0 of 1
    first.merge(second)
    assert first.compute().iou["person"] == 3 / 5


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_confusion_agrees_with_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pred, true = rng.integers(-1, 3, (4, 6)), rng.integers(-2, 3, (4, 6))
    absent = [c for c in range(3) if rng.random() < 0.5]
    expected = np.zeros((4, 4), int)
    for p, t in zip(pred.ravel().tolist(), true.ravel().tolist(), strict=True):
        if t >= 0 or (t == UNLABELLED and p in absent):
            expected[t if t >= 0 else 3, p if p >= 0 else 3] += 1
    assert confusion_matrix(pred, true, 3, absent).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("pred", "true", "message"),
    [
        (
            channels("PS"),
            channels("PSD"),
            "true is .*; expected an array of whole numbers of shape",
        ),
        (channels("PS") + 3, channels("PS"), "pred has .*; expected channels from -1 to 3"),
        (channels("Px"), channels("PS"), "pred has .*; expected channels from -1 to 3"),
        (channels("PS"), channels("PS") - 4, "true has .*; expected channels from -2 to 3"),
        (channels("PS") * 1.0, channels("PS"), "pred is .*; expected an array of whole numbers"),
    ],
    ids=["size", "high", "ignored", "low", "float"],
)
def test_impossible_maps_are_refused(
    pred: NDArray[np.int64], true: NDArray[np.int64], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        confusion_matrix(pred, true, 4)


def test_boundary_of_a_small_map() -> None:
    # 2 % of a 5 × 5 diagonal is less than one pixel: the band is one pixel wide, and the edge of
    # the image is an edge of the object.
    mask = np.array([[c == "#" for c in r] for r in [*["####."] * 4, "....."]])
    band = ["".join(".#"[int(v)] for v in row) for row in boundary(mask)]
    assert band == ["####.", "#..#.", "#..#.", "####.", "....."]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.05, 0.2]))
def test_boundary_agrees_with_opencv(seed: int, ratio: float) -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(seed)
    h, w = rng.integers(1, 80, 2)
    mask = np.zeros((h, w), np.uint8)
    for _ in range(3):
        y, x = rng.integers(0, h), rng.integers(0, w)
        mask[y : y + rng.integers(1, 50), x : x + rng.integers(1, 50)] = 1
    width = max(1, round(ratio * float(np.sqrt(h**2 + w**2))))
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    assert np.array_equal(boundary(mask.astype(bool), ratio), (mask - eroded).astype(bool))


def square(left: int, right: int) -> NDArray[np.bool_]:
    """Columns ``left`` to ``right`` - 1 of 10 × 10, the outermost rows left out."""
    mask = np.zeros((10, 10), bool)
    mask[1:9, left:right] = True
    return mask


def test_boundary_iou_by_hand() -> None:
    everywhere = np.ones((10, 10), bool)
    # Bands one pixel wide round 8 × 8 (28 pixels) and 8 × 7 (26 pixels): they share three sides
    # of 7 + 6 + 7 pixels, and differ in 8 and 6 more.
    assert boundary_counts(square(1, 9), square(1, 9), everywhere) == (28, 28)
    assert boundary_counts(square(1, 8), square(1, 9), everywhere) == (20, 34)
    assert boundary_counts(square(1, 1), square(1, 9), everywhere) == (0, 28)


def test_the_edge_of_an_unknown_region_is_no_boundary() -> None:
    valid = np.ones((10, 10), bool)
    valid[:, 7:] = False
    # Whatever is predicted in the unknown columns, the seven known ones agree.
    for right in (7, 8, 9):
        assert boundary_counts(square(1, right), square(1, 7), valid)[0] >= 16
        part, whole = boundary_counts(square(1, right), square(1, 7), valid)
        assert part == whole


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: boundary(m.astype(int)), "mask is .*; expected a bool array"),
        (lambda m: boundary(m, 0), "ratio is .*; expected a number above 0"),
        (lambda m: boundary_counts(m, m[:5], m), "true is .*; expected a bool array of shape"),
        (lambda m: boundary_counts(m, m, m.astype(int)), "valid is .*; expected a bool array"),
    ],
    ids=["type", "ratio", "size", "valid"],
)
def test_impossible_masks_are_refused(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ArgumentError, match=message):
        call(square(1, 9))
