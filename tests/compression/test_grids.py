"""Grids and palettes: what they hold, that they suit the weights, that errors compensate."""

from __future__ import annotations

import numpy as np
import pytest

from panokit_compression import CalibrationSet, Recipe, quantize
from panokit_compression.grids import INT4, PaletteGrid, palette
from panokit_compression.recipes import Quantize
from panokit_compression.rounding import round_rows
from tests.compression.test_quantize import heads_of
from tests.compression.test_rounding import correlated


def output_error(rows: np.ndarray, rounded: np.ndarray, covariance: np.ndarray) -> float:
    e = rounded - rows
    return float(np.einsum("grt,gtu,gru->", e, covariance, e))


def test_a_palette_finds_the_values_that_are_there() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([-3.0, -1.0, 0.5, 4.0])
    values = rng.choice(centres, 4000) + rng.normal(size=4000) * 0.01
    np.testing.assert_allclose(palette(values, np.ones(4000), 4), centres, atol=0.01)


def test_a_palette_of_a_normal_distribution_is_lloyds() -> None:
    values = np.random.default_rng(1).normal(size=100_000)
    found = palette(values, np.ones(100_000), 16)
    nearest = found[np.abs(values[:, None] - found).argmin(1)]
    # Max 1960: 16 levels have a mean squared error of 0.009497
    assert np.mean((values - nearest) ** 2) == pytest.approx(0.009497, rel=0.02)


def test_heavy_weights_pull_the_palette() -> None:
    values, weight = np.array([0.0, 1.0, 10.0]), np.array([1.0, 3.0, 1.0])
    np.testing.assert_allclose(palette(values, weight, 2), [0.75, 10], atol=1e-4)


@pytest.mark.parametrize(
    ("groups", "rows", "taps", "group", "palettes"),
    [
        pytest.param(1, 24, 40, 0, 1, id="dense"),
        pytest.param(1, 24, 40, 8, 3, id="dense-grouped"),
        pytest.param(24, 1, 25, 0, 1, id="depthwise"),
        pytest.param(24, 1, 25, 12, 2, id="depthwise-grouped"),
    ],
)
def test_rows_on_palettes(groups: int, rows: int, taps: int, group: int, palettes: int) -> None:
    weights = np.random.default_rng(2).normal(size=(groups, rows, taps))
    covariance = correlated(groups, taps)
    grid = PaletteGrid(4, group)
    rounded = round_rows(weights, covariance, grid)
    for part in np.split(rounded.reshape(-1, taps), palettes):
        assert len(np.unique(part)) <= 16
    np.testing.assert_array_equal(rounded, rounded.astype(np.float16))
    nearest = grid.fit(weights, np.ones((groups, taps))).nearest(weights)
    error = output_error(weights, rounded, covariance)
    assert error < 0.6 * output_error(weights, nearest, covariance)


def test_four_bits_are_clipped_and_stay_on_their_grid() -> None:
    weights = np.random.default_rng(3).normal(size=(1, 24, 40))
    covariance = correlated(1, 40)
    rounded = round_rows(weights, covariance, INT4)
    step = np.abs(rounded).max(2, keepdims=True) / 7  # as the quantizer will choose it
    np.testing.assert_allclose(rounded / step, np.round(rounded / step), atol=1e-6)
    assert (np.abs(rounded).max(2) < np.abs(weights).max(2)).any(), "nothing was clipped"
    plain = np.abs(weights).max(2, keepdims=True) / 7
    nearest = np.round(weights / plain) * plain
    error = output_error(weights, rounded, covariance)
    assert error < 0.5 * output_error(weights, nearest, covariance)


def test_int4_weights_bear_compensation(float_tflite: bytes, calibration: CalibrationSet) -> None:
    def error(step: Quantize) -> float:
        content = quantize(float_tflite, Recipe("four", (step,)), calibration)
        found = heads_of(content, calibration)
        total = 0.0
        for ours, theirs in zip(found, heads_of(float_tflite, calibration), strict=True):
            total += sum(
                float(((ours[h] - theirs[h]) ** 2).sum() / (theirs[h] ** 2).sum()) for h in ours
            )
        return total

    careful = Quantize("int4-weights", 16, rounding="compensated")
    assert error(careful) < 0.6 * error(Quantize("int4-weights"))
