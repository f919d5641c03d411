"""Room for biases: an int8 convolution keeps its bias in units of input scale × weight scale.

A channel that training has all but switched off has tiny weights, so a tiny unit, and its bias no
longer fits into int32; the quantizer cuts it off at the end of the range and the channel's constant
output is lost. Raising the largest weight of such a channel until the bias fits changes its output
by a few hundred-thousandths of the bias, and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit_compression.rounding import STEPS, layers_of

__all__ = ["make_room_for_biases"]

log = logging.getLogger(__name__)

ACTIVATION_STEPS = 255
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
        found = statistics.get(layer.input_name)
        if found is None:
            continue
        low = min(0.0, float(np.min(found["min"])))
        high = max(0.0, float(np.max(found["max"])))
        if high == low:
            continue
        input_step = (high - low) / ACTIVATION_STEPS
        axes = (0, 1, 2) if layer.depthwise else (1, 2, 3)
        largest = np.abs(layer.weight).max(axes)  # [out]
        wanted = STEPS * np.abs(layer.bias.astype(np.float64)) / (ROOM * input_step)
        for channel in np.flatnonzero(largest < wanted):
            row = layer.weight[..., channel] if layer.depthwise else layer.weight[channel]
            at = np.unravel_index(np.abs(row).argmax(), row.shape)
            row[at] = np.copysign(wanted[channel], row[at])
            raised += 1
    log.debug("raised a weight of %d near-dead channels", raised)
    return bytes(content)
