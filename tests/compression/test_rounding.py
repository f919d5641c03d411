"""Compensated rounding against the definition: on the grid, same step, less output error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from panokit_compression import CalibrationSet
from panokit_compression.grids import INT8
from panokit_compression.rounding import round_module, round_rows, round_weights
from tests.compression.test_quantize import heads_of
from tests.toys.network import ToyNetwork


def correlated(groups: int, taps: int, seed: int = 0) -> np.ndarray:
    """Covariances of inputs that go together, as neighbouring pixels do."""
    mix = np.random.default_rng(seed).normal(size=(groups, taps, taps)) + 2
    return mix @ mix.transpose(0, 2, 1) / taps


@pytest.mark.parametrize(
    ("groups", "rows", "taps"),
    [pytest.param(1, 24, 40, id="dense"), pytest.param(12, 1, 9, id="depthwise")],
)
def test_rounded_rows(groups: int, rows: int, taps: int) -> None:
    weights = np.random.default_rng(1).normal(size=(groups, rows, taps))
    covariance = correlated(groups, taps)
    step = np.abs(weights).max(2, keepdims=True) / INT8.levels
    rounded = round_rows(weights, covariance)
    # on the grid
    np.testing.assert_allclose(rounded / step, np.round(rounded / step), atol=1e-6)
    # the same largest weight, hence the same step
    np.testing.assert_allclose(np.abs(rounded).max(2), np.abs(weights).max(2), rtol=1e-12)

    def output_error(w: np.ndarray) -> float:
        e = w - weights
        return float(np.einsum("grt,gtu,gru->", e, covariance, e))

    nearest = np.round(weights / step) * step
    assert output_error(rounded) < 0.5 * output_error(nearest)


def test_independent_inputs_round_to_nearest() -> None:
    weights = np.random.default_rng(2).normal(size=(1, 6, 10))
    step = np.abs(weights).max(2, keepdims=True) / INT8.levels
    rounded = round_rows(weights, np.eye(10)[None])
    np.testing.assert_allclose(rounded, np.round(weights / step) * step, atol=1e-12)


def test_dead_rows_and_dead_inputs_stay_finite() -> None:
    weights = np.random.default_rng(3).normal(size=(1, 3, 4))
    weights[0, 1] = 0
    rounded = round_rows(weights, np.diag([1.0, 0, 2, 0])[None])
    assert np.isfinite(rounded).all()
    assert not rounded[0, 1].any()


def test_a_module_is_rounded_as_its_file(float_tflite: bytes, calibration: CalibrationSet) -> None:
    module = ToyNetwork().eval()
    rounded, count = round_module(module, float_tflite, calibration)
    assert count == 8  # every convolution of it
    expected = heads_of(round_weights(float_tflite, calibration).content, calibration)[0]
    image = torch.from_numpy(calibration.images[0]).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        heads = rounded(image)
        before = module(image)
    for name, head in heads.items():
        ours = head[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(ours, expected[name], rtol=1e-3, atol=1e-3, err_msg=name)
        assert not torch.equal(head, before[name]), "the given module must not change"


def test_convolutions_that_are_not_in_the_file_stay(
    float_tflite: bytes, calibration: CalibrationSet
) -> None:
    other = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2))
    rounded, count = round_module(other, float_tflite, calibration)
    assert count == 0
    for name, value in rounded.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
