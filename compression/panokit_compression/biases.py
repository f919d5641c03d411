"""Room for biases: an int8 convolution keeps its bias in units of input scale × weight scale.

A channel that training has all but switched off has tiny weights, so a tiny unit, and its bias no
longer fits into int32; the quantizer cuts it off at the end of the range and the channel's constant
output is lost. Raising the largest weight of such a channel until the bias fits changes its output
by a few hundred-thousandths of the bias, and nothing else. Weights of zeros alone are raised as
well, to where the kernels can compute with their unit (:mod:`panokit_compression.limits`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit_compression.grids import INT8
from panokit_compression.limits import ACTIVATION_STEPS, LEAST_FACTOR
from panokit_compression.moments import layers_of

__all__ = ["make_room_for_biases"]

log = logging.getLogger(__name__)

# A quarter of int32: operators that share a scale may make the input's step smaller than its range.
ROOM = 2.0**29


def make_room_for_biases(
    float_tflite: bytes, statistics: Mapping[str, Mapping[str, NDArray[Any]]]
) -> bytes:
    """The float file with the weights of near-dead channels raised so that every bias fits.

    ``statistics`` has ``min`` and ``max`` of every activation by tensor name, as calibration
    found them; a layer whose input has none is left as it is.
    """
    content = bytearray(float_tflite)
    raised = 0
    for layer in layers_of(content):
        input_step = _step(statistics, layer.input_name)
        if not input_step:
            continue
        axes = (0, 1, 2) if layer.depthwise else tuple(range(1, layer.weight.ndim))
        largest = np.abs(layer.weight).max(axes)  # [out]
        least = LEAST_FACTOR * _step(statistics, layer.output_name)
        units = np.full(largest.shape, least)  # [out]
        if layer.bias is not None:
            units = np.maximum(units, np.abs(layer.bias.astype(np.float64)) / ROOM)
        wanted = INT8.levels * units / input_step
        for channel in np.flatnonzero(largest < wanted):
            row = layer.weight[..., channel] if layer.depthwise else layer.weight[channel]
            at = np.unravel_index(np.abs(row).argmax(), row.shape)
            row[at] = np.copysign(wanted[channel], row[at])
            raised += 1
    log.debug("raised a weight of %d near-dead channels", raised)
    return bytes(content)


def _step(statistics: Mapping[str, Mapping[str, NDArray[Any]]], name: str) -> float:
    """The step of a tensor's integers; 0 if it has none."""
    found = statistics.get(name)
    if found is None or "min" not in found:
        return 0.0
    low, high = min(0.0, float(np.min(found["min"]))), max(0.0, float(np.max(found["max"])))
    return (high - low) / ACTIVATION_STEPS
