"""Moments of what comes into a layer, against the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from panokit_compression.grids import INT8
from panokit_compression.moments import Moments, WeightedLayer
from panokit_compression.rounding import _round, _round_rows, round_rows

RNG = np.random.default_rng(0)


def layer(weight: NDArray[Any], channels: int, **options: Any) -> WeightedLayer:
    bias = options.pop("bias", np.zeros(8, np.float32))
    return WeightedLayer("a.weight", weight.astype(np.float32), bias, 0, "in", "out", channels,
                         **options)  # fmt: skip


def torch_output(made: WeightedLayer, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the layer makes of ``x`` ``[H,W,C]``, without its bias, ``[positions,out]``."""
    axes = (3, 0, 1, 2) if made.depthwise else (0, 3, 1, 2)
    weight = torch.from_numpy(made.weight.transpose(axes).copy())
    image = torch.from_numpy(x).permute(2, 0, 1)[None]
    out = F.conv2d(image, weight, stride=made.stride, dilation=made.dilation, groups=made.groups)
    return np.asarray(out[0].flatten(1).T)


@pytest.mark.parametrize(
    ("made", "groups"),
    [
        pytest.param(layer(RNG.normal(size=(8, 3, 3, 6)), 6), 1, id="dense"),
        pytest.param(layer(RNG.normal(size=(8, 3, 3, 3)), 6), 2, id="two-groups"),
        pytest.param(layer(RNG.normal(size=(8, 1, 1, 2)), 8), 4, id="pointwise-groups"),
        pytest.param(
            layer(RNG.normal(size=(1, 3, 3, 8)), 8, depthwise=True), 8, id="depthwise"
        ),
        pytest.param(
            layer(RNG.normal(size=(1, 3, 3, 8)), 4, depthwise=True), 4, id="multiplier"
        ),
        pytest.param(
            layer(RNG.normal(size=(8, 2, 5, 3)), 6, stride=(2, 1), dilation=(1, 2)), 2,
            id="stride-and-dilation",
        ),
    ],
)  # fmt: skip
def test_output_variance_is_what_the_covariance_says(made: WeightedLayer, groups: int) -> None:
    """Of inputs that go together: w·C·w is the variance of the output, for every channel."""
    assert made.groups == groups
    x = RNG.normal(size=(9, 11, made.channels)).cumsum(2).astype(np.float32)
    made.observe(x[None])
    outputs = torch_output(made, x)
    rows = made.rows.astype(np.float64)
    variance = np.einsum("grt,gtu,gru->gr", rows, made.moments.covariance, rows).reshape(-1)
    mean = np.einsum("grt,gt->gr", rows, made.moments.mean).reshape(-1)
    np.testing.assert_allclose(variance, outputs.var(0), rtol=1e-3)
    np.testing.assert_allclose(mean, outputs.mean(0), rtol=1e-3, atol=1e-3)
    before = made.weight.copy()
    made.set_rows(rows)
    np.testing.assert_array_equal(made.weight, before)


def test_linear_layers_and_layers_without_a_bias() -> None:
    made = layer(RNG.normal(size=(8, 5)), 5, bias=None)
    x = (RNG.normal(size=(1, 40, 5)) + 3).astype(np.float32)
    made.observe(x)
    exact = x[0].astype(np.float64)
    np.testing.assert_allclose(made.moments.second_moment[0], exact.T @ exact / 40, rtol=1e-9)
    before = made.weight.copy()
    assert _round(made, INT8) is None
    step = np.abs(before).max(1, keepdims=True) / 127
    nearest = np.round(before / step) * step

    def error(weight: NDArray[Any]) -> float:
        return float((((weight - before) @ x[0].T) ** 2).sum())

    assert error(made.weight) < error(nearest)  # though no bias takes up the mean


def test_inputs_that_hardly_vary_keep_the_digits_of_their_variance() -> None:
    found = Moments()
    noise = RNG.normal(size=(2, 500, 3)) * 1e-3
    for part in np.split(noise, 5, 1):
        found.add((1000 + part).astype(np.float32))
    seen = (1000 + noise).astype(np.float32).astype(np.float64)
    for group in range(2):
        expected = np.cov(seen[group].T, bias=True)
        np.testing.assert_allclose(found.covariance[group], expected, rtol=1e-6, atol=1e-15)


INPUTS = {
    "dead": np.zeros((1, 64, 12)),
    "constant": np.full((1, 64, 12), 7.0),
    "hardly": 5 + 1e-6 * RNG.normal(size=(1, 64, 12)),
    "tiny": 1e-18 * RNG.normal(size=(1, 64, 12)),
    "huge": 1e18 * RNG.normal(size=(1, 64, 12)),
    "one-position": RNG.normal(size=(1, 1, 12)),
    "all-the-same": np.repeat(RNG.normal(size=(1, 64, 1)), 12, 2),
    "one-alive": RNG.normal(size=(1, 64, 12)) * (np.arange(12) == 4),
    "six-orders": RNG.normal(size=(1, 64, 12)) * np.logspace(-3, 3, 12),
}


@pytest.mark.parametrize("name", INPUTS)
def test_odd_inputs_never_make_it_worse_than_nearest(name: str) -> None:
    found = Moments()
    found.add(INPUTS[name].astype(np.float32))
    weights = RNG.normal(size=(1, 20, 12))
    weights[0, 3] = 0
    covariance = found.covariance
    rounded, failed = _round_rows(weights, covariance, INT8)
    assert failed == 0
    step = np.abs(weights).max(2, keepdims=True) / 127
    step[step == 0] = 1
    nearest = np.round(weights / step) * step
    np.testing.assert_allclose(rounded / step, np.round(rounded / step), atol=1e-6)

    def error(w: NDArray[Any]) -> NDArray[Any]:
        e = w - weights
        return np.asarray(np.einsum("grt,gtu,gru->gr", e, covariance, e))

    limit = 1.05 * error(nearest) + 1e-12 * float(np.einsum("gtt->", covariance))
    assert (error(rounded) <= limit + 0.01 * (error(nearest).mean() + 1e-300)).all()


def test_damping_grows_until_a_covariance_factors() -> None:
    broken = np.diag([1.0, 1.0, 1.0, -0.05])[None]  # less than nothing: a covariance that is none
    rounded, failed = _round_rows(RNG.normal(size=(1, 4, 4)), broken, INT8)
    assert failed == 0
    assert np.isfinite(rounded).all()


def test_nearest_is_the_last_resort_of_each_group_alone() -> None:
    sound = np.diag([1.0, 2.0, 3.0])
    hopeless = np.diag([1e3, 1.0, -9e2])
    weights = RNG.normal(size=(2, 4, 3))
    rounded, failed = _round_rows(weights, np.stack([sound, hopeless]), INT8)
    assert failed == 1
    step = np.abs(weights).max(2, keepdims=True) / 127
    np.testing.assert_allclose(rounded[1], (np.round(weights / step) * step)[1], atol=1e-12)
    np.testing.assert_allclose(rounded[0], round_rows(weights[:1], sound[None])[0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_named(value: float) -> None:
    made = layer(RNG.normal(size=(8, 5)), 5)
    x = np.ones((1, 4, 5), np.float32)
    x[0, 2, 1] = value
    before = made.weight.copy()
    made.observe(x)
    assert "not finite" in str(_round(made, INT8))
    np.testing.assert_array_equal(made.weight, before)
    made = layer(np.full((8, 5), value), 5)
    made.observe(np.ones((1, 4, 5), np.float32))
    assert "weights" in str(_round(made, INT8))


def test_more_inputs_than_can_be_weighed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panokit_compression.rounding.MAX_TAPS", 4)
    assert "sums 5 inputs" in str(_round(layer(RNG.normal(size=(8, 5)), 5), INT8))
