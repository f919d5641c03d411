"""Agreement of heads, with figures that can be derived by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from panokit.bundle import Artifact, TensorSpec
from panokit.decoding import PostprocessConfig
from panokit.dump import HEADS
from panokit.errors import ArgumentError, HeadError
from panokit.preprocessing import TransformRecord, letterbox
from panokit.taxonomy import Category, Taxonomy
from panokit_converters.agreement import (
    AgreementSum,
    PanopticAgreement,
    compare_heads,
    head_resolution,
)


def heads(semantic: list[list[float]], center: float = 1, offset: float = 1) -> dict:
    """One row of cells; ``semantic`` holds the channels of each."""
    cells = len(semantic)
    return {
        "semantic": np.array(semantic, np.float32)[None],
        "center": np.full((1, cells, 1), center, np.float32),
        "offset": np.full((1, cells, 2), offset, np.float32),
    }


def test_identical_heads() -> None:
    a = heads([[1, 2], [4, 3]])
    found = compare_heads([(a, a)])
    assert found.argmax == 1
    assert {h.sqnr_db for h in found.heads.values()} == {200.0}
    assert {h.max_abs for h in found.heads.values()} == {0.0}
    json.dumps(found.to_json(), allow_nan=False)


def test_figures_by_hand() -> None:
    reference = heads([[3, 0], [0, 4]], center=10)
    candidate = heads([[3, 0], [4, 0]], center=11)
    found = compare_heads([(reference, candidate)])
    # centre: signal 10², noise 1² per cell: 20 dB; parallel, so cosine 1
    assert found.heads["center"].sqnr_db == pytest.approx(20)
    assert found.heads["center"].cosine == pytest.approx(1)
    assert found.heads["center"].max_abs == 1
    # semantic: product 9 of norms 5·5; one of two cells keeps its class
    assert found.heads["semantic"].cosine == pytest.approx(9 / 25)
    assert found.argmax == 0.5


def test_photos_are_pooled() -> None:
    a, b = heads([[1, 0]], center=10), heads([[1, 0]], center=11)
    # signal 100 + 100, noise 0 + 1
    found = compare_heads([(a, a), (a, b)])
    assert found.heads["center"].sqnr_db == pytest.approx(10 * np.log10(200))
    assert found.photos == 2


def test_silence_with_noise_is_bad_not_an_error() -> None:
    found = compare_heads([(heads([[0, 0]], 0, 0), heads([[1, 0]], 0, 0))])
    assert found.heads["semantic"].sqnr_db == -200
    assert found.heads["semantic"].cosine == 0
    assert found.heads["center"].cosine == 1


def test_other_shapes_are_named() -> None:
    with pytest.raises(HeadError, match="'semantic'"):
        compare_heads([(heads([[1, 2]]), heads([[1, 2], [3, 4]]))])


def test_nothing_to_compare() -> None:
    with pytest.raises(ArgumentError, match="there are no pairs"):
        compare_heads([])


def scene(size: int = 16) -> tuple[Taxonomy, TransformRecord, PostprocessConfig]:
    """A thing and two kinds of stuff on a square photo that fills its input."""
    taxonomy = Taxonomy(
        "toy",
        (
            Category(1, "person", True, (255, 0, 0)),
            Category(2, "sky", False, (0, 0, 255)),
            Category(3, "road", False, (128, 128, 128)),
        ),
    )
    config = PostprocessConfig(min_thing_area=0, min_stuff_area=0)
    return taxonomy, letterbox((size, size), (size, size)), config


def two_halves(size: int = 16) -> dict[str, np.ndarray]:
    """Sky above, road below, by one logit; no person."""
    semantic = np.zeros((size, size, 3), np.float32)
    semantic[: size // 2, :, 1] = 1
    semantic[size // 2 :, :, 2] = 1
    return {
        "semantic": semantic,
        "center": np.full((size, size, 1), -10, np.float32),
        "offset": np.zeros((size, size, 2), np.float32),
    }


def compare(reference: dict, candidate: dict) -> PanopticAgreement:
    taxonomy, transform, config = scene()
    total = AgreementSum(taxonomy, config)
    total.update(reference, candidate, transform)
    panoptic = total.compute().panoptic
    assert panoptic is not None
    return panoptic


def test_equal_maps() -> None:
    assert compare(two_halves(), two_halves()) == PanopticAgreement(100.0, 1.0, 0.0, 0.0)


def test_ties_are_told_from_differences() -> None:
    reference, candidate = two_halves(), two_halves()
    reference["semantic"][0, 0] = [0, 1, 1]  # equal in the reference: sky by the lower channel
    candidate["semantic"][0, 0] = [0, 1, 1.0000001]
    candidate["semantic"][0, 1] = [0, 1, 2]  # certain in the reference, and wrong
    found = compare(reference, candidate)
    assert found.ties == pytest.approx(1 / 256)
    assert found.different == pytest.approx(1 / 256)
    assert found.equal_pixels == pytest.approx(254 / 256)
    # sky: 126 of 128, road: 128 of 130; both have their segment
    assert found.pq == pytest.approx(100 * (126 / 128 + 128 / 130) / 2)


def test_a_centre_at_the_threshold_is_a_tie() -> None:
    reference = two_halves()
    reference["semantic"][4:8, 4:8] = [3, 0, 0]
    candidate = {k: v.copy() for k, v in reference.items()}
    logit = np.float32(np.log(0.25 / 0.75))
    reference["center"][5, 5] = np.nextafter(logit, np.float32(9)) + np.float32(1e-6)
    candidate["center"][5, 5] = logit - np.float32(1e-6)  # not found any more
    found = compare(reference, candidate)
    assert (found.ties, found.different) == (pytest.approx(16 / 256), 0)
    candidate["center"][5, 5] = logit - 3
    reference["center"][5, 5] = logit + 3
    found = compare(reference, candidate)
    assert (found.ties, found.different) == (0, pytest.approx(16 / 256))


def test_a_vote_between_two_centres_is_a_tie() -> None:
    reference = two_halves()
    reference["semantic"][4:8, 2:13] = [3, 0, 0]
    for column in (3, 11):  # centres at 3.5 and 11.5: the pixel at 7.5 is as far from both
        reference["center"][6, column] = 5
    reference["offset"][4:8, 2:7, 1] = -1
    reference["offset"][4:8, 8:13, 1] = 1
    candidate = {k: v.copy() for k, v in reference.items()}
    candidate["offset"][4:8, 7, 1] = 1e-5  # now the right one
    found = compare(reference, candidate)
    assert (found.ties, found.different) == (pytest.approx(4 / 256), 0)


def test_what_the_format_resolves() -> None:
    heads = two_halves()
    spec = TensorSpec("x", (1, 16, 16, 3), "int8", "nhwc", 0.25, 3)
    quantised = Artifact("a", "tflite", "f", "", 0, "int8", spec, dict.fromkeys(HEADS, spec))
    assert head_resolution(heads, quantised)["semantic"] == 0.25
    half = Artifact("a", "tflite", "f", "", 0, "float16", spec, {})
    assert head_resolution(heads, half)["center"] == 10 / 1024
    assert head_resolution(heads)["semantic"] == pytest.approx(1e-6, rel=0.05)


def test_nan_is_an_error_not_a_figure() -> None:
    bad = two_halves()
    bad["offset"][0, 0, 0] = np.nan
    with pytest.raises(HeadError, match="finite"):
        compare(two_halves(), bad)
