"""Tensor figures: by hand, and against scikit-image and SciPy-free formulas of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from panokit.errors import ArgumentError
from panokit_validation import compare_tensors, estimate_shift


def test_figures_by_hand() -> None:
    a = compare_tensors(np.array([1.0, 2.0, 2.0]), np.array([1.0, 2.0, 1.0]), tolerance=0.5)
    assert (a.max_abs, a.mean_abs, a.bias) == (1.0, pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert a.sqnr_db == pytest.approx(10 * np.log10(6))
    assert a.psnr_db == pytest.approx(10 * np.log10(1 / (1 / 3)))  # range 1, mean square 1/3
    assert a.cosine == pytest.approx(7 / np.sqrt(9 * 6))
    assert (a.outside, a.tolerance) == (pytest.approx(1 / 3), 0.5)
    assert (a.p50, a.p90, a.p999) == (0, 1, 1)


@pytest.mark.parametrize(
    ("actual", "reference", "sqnr", "cosine"),
    [
        (np.ones(3), np.ones(3), 200.0, 1.0),
        (np.zeros(3), np.zeros(3), 200.0, 1.0),
        (np.ones(3), np.zeros(3), -200.0, 0.0),
        (np.ones(3, np.uint8), np.ones(3, np.float16), 200.0, 1.0),
    ],
    ids=["equal", "zero", "power from nothing", "equal across types"],
)
def test_borders(actual: NDArray[Any], reference: NDArray[Any], sqnr: float, cosine: float) -> None:
    a = compare_tensors(actual, reference)
    assert (a.sqnr_db, a.cosine) == (sqnr, pytest.approx(cosine))


def test_unequal_shapes_are_an_error() -> None:
    with pytest.raises(ArgumentError, match="expected the reference's"):
        compare_tensors(np.ones(3), np.ones(4))
    with pytest.raises(ArgumentError, match="at least one element"):
        compare_tensors(np.ones(0), np.ones(0))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_psnr_equals_scikit_image(seed: int, kind: str) -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    rng = np.random.default_rng(seed)
    reference = rng.integers(0, 256, (20, 30, 3)).astype(kind)
    actual = np.clip(reference + rng.normal(0, 5, reference.shape), 0, 255).astype(kind)
    expected = metrics.peak_signal_noise_ratio(reference, actual, data_range=255)
    assert compare_tensors(actual, reference, data_range=255).psnr_db == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_quantiles_equal_numpys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    actual, reference = rng.normal(size=(2, 997))
    a, gap = compare_tensors(actual, reference), np.abs(actual - reference)
    for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)):
        assert getattr(a, name) == np.quantile(gap, q, method="inverted_cdf")


def smooth(shape: tuple[int, int], channels: int, seed: int = 0) -> NDArray[np.float32]:
    """Noise without fine detail, so that parts of a cell can be told."""
    rng = np.random.default_rng(seed)
    planes = [
        np.asarray(
            Image.fromarray(rng.normal(0, 1, (9, 9)).astype(np.float32)).resize(
                shape[::-1], Image.Resampling.BICUBIC
            )
        )
        for _ in range(channels)
    ]
    return np.stack(planes, -1)


@pytest.mark.parametrize("shift", [(1, 0), (0, -1), (3, -2), (-8, 8)], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 26])
def test_whole_shifts_are_found_exactly(shift: tuple[int, int], channels: int) -> None:
    reference = smooth((80, 80), channels)
    moved, gain = estimate_shift(np.roll(reference, shift, (0, 1)), reference)
    assert moved == pytest.approx(shift, abs=1e-3)
    assert gain == pytest.approx(1)


@pytest.mark.parametrize("shift", [(0.5, 0.0), (-0.25, 0.75), (1.5, -0.5)], ids=str)
def test_parts_of_a_cell_are_found(shift: tuple[float, float]) -> None:
    big = smooth((320, 320), 1)[..., 0]
    dy, dx = round(4 * shift[0]), round(4 * shift[1])
    actual = np.roll(big, (dy, dx), (0, 1))[2::4, 2::4]
    moved, gain = estimate_shift(actual, big[2::4, 2::4])
    assert moved == pytest.approx(shift, abs=0.05)
    assert gain > 0.95


def test_what_is_no_movement_gives_none() -> None:
    reference = smooth((40, 40), 3)
    noise = np.random.default_rng(1).normal(size=reference.shape)
    assert estimate_shift(reference + noise, reference)[0] == (0, 0)
    assert estimate_shift(reference[..., ::-1], reference)[0] == (0, 0)
    assert estimate_shift(np.zeros((2, 2)), np.ones((2, 2)))[0] == (0, 0)
    flat = np.zeros((20, 20))
    assert estimate_shift(flat + 1, flat)[0] == (0, 0)
