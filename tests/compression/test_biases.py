"""Biases of near-dead channels must survive int8, where they are kept in tiny units."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from panokit_compression import CalibrationSet, quantize
from panokit_compression.biases import make_room_for_biases
from panokit_compression.moments import layers_of
from panokit_converters.tflite.convert import convert_tflite
from tests.compression.test_quantize import INT8, SIZE, heads_of
from tests.toys.network import ToyNetwork

pytestmark = pytest.mark.slow

BIAS = 3.0


@pytest.fixture(scope="module")
def switched_off() -> bytes:
    """The toy network with one channel of its first convolution reduced to its bias."""
    network = ToyNetwork().eval()
    first = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    with torch.no_grad():
        first.weight[0] *= 1e-9
        assert first.bias is not None
        first.bias[0] = BIAS
    return convert_tflite(network, (SIZE, SIZE))


def test_int8_keeps_the_bias(switched_off: bytes, calibration: CalibrationSet) -> None:
    quantized = quantize(switched_off, INT8, calibration)
    wanted, got = (heads_of(t, calibration)[0] for t in (switched_off, quantized))
    for name, head in wanted.items():
        noise = float(np.mean((got[name] - head) ** 2))
        assert 10 * np.log10(float(np.mean(head**2)) / noise) > 20, name


def test_only_the_largest_weight_of_such_a_channel_is_raised(switched_off: bytes) -> None:
    before = {layer.input_name: layer for layer in layers_of(bytearray(switched_off))}
    name, layer = next((n, x) for n, x in before.items() if x.bias is not None and BIAS in x.bias)
    changed = make_room_for_biases(
        switched_off, {name: {"min": np.zeros(1), "max": np.full(1, 255.0)}}
    )
    after = next(x for x in layers_of(bytearray(changed)) if x.input_name == name)
    channel = int(np.flatnonzero(layer.bias == BIAS)[0])
    assert np.count_nonzero(after.weight != layer.weight) == 1
    # bias / (input step · weight step) is now a quarter of the end of int32, and the raised weight
    # moves the output of the brightest pixel by less than a ten-thousandth of the bias.
    largest = float(np.abs(after.weight[channel]).max())
    assert BIAS / (largest / 127) == pytest.approx(2.0**29, rel=1e-6)
    assert largest * 255 < 1e-4 * BIAS


def test_sound_file_stays_as_it_is(float_tflite: bytes) -> None:
    ranges = {
        layer.input_name: {"min": np.zeros(1), "max": np.full(1, 255.0)}
        for layer in layers_of(bytearray(float_tflite))
    }
    assert make_room_for_biases(float_tflite, ranges) == float_tflite
    assert make_room_for_biases(float_tflite, {}) == float_tflite
