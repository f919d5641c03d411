"""Ranges that integer kernels can compute with.

A kernel multiplies sums of integers by input step × weight step / output step. LiteRT's kernels
take such factors from 2⁻³² to 2⁸; a file with another one ends the whole process when it is
loaded, on a phone as here. Ordinary layers are far from both ends, a dead one is not: its range is
nothing, so its step is next to nothing. Its range is made as wide as the kernels need. That costs
nothing: a step of the output is then still far below what one step of the input makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ExportError
from panokit.tflite.read import TfliteOperator, TfliteSubgraph, read_tflite
from panokit_compression.grids import INT8
from panokit_compression.layers import WEIGHTED, layer_name

__all__ = [
    "ACTIVATION_STEPS",
    "LARGEST_FACTOR",
    "LEAST_FACTOR",
    "fit_ranges",
    "oddness",
    "with_finite_constants",
]

ACTIVATION_STEPS = 255
LARGEST_FACTOR = 2.0**7  # the kernels' own limits with room on either side, since operators that
LEAST_FACTOR = 2.0**-30  # share a scale may get another one than asked for here
LEAST_SHARE = 2.0**-9  # of a sum's step that the step of a summand may be; the kernels': 2⁻¹⁰
AFTER_ZERO = 2.0**-12  # of its step what zero times something takes: biases behind it fit
LEAST_MASK = 10.0  # e⁻¹⁰ is nothing beside the other shares of a softmax
MASK = 4.0  # times the widest number beside it that infinity becomes in a sum
NOTHING = 1e-9  # ranges below this have no step of their own

Ranges = dict[str, dict[str, Any]]
_PRODUCTS = ("MUL", "BATCH_MATMUL", "SQUARE")
# Operators whose output is of the order of their inputs.
_LINEAR = """
ADD SUB CONCATENATION PAD PADV2 RELU RELU6 RESHAPE TRANSPOSE SLICE STRIDED_SLICE SPLIT SPLIT_V
RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR AVERAGE_POOL_2D MAX_POOL_2D MEAN SUM MAXIMUM MINIMUM
DEPTH_TO_SPACE SPACE_TO_DEPTH LEAKY_RELU PRELU HARD_SWISH GELU ABS NEG REDUCE_MAX PACK UNPACK
SQUEEZE EXPAND_DIMS GATHER BROADCAST_TO
""".split()  # noqa: SIM905


def fit_ranges(float_tflite: bytes, statistics: Mapping[str, Mapping[str, Any]]) -> Ranges:
    """``statistics`` (``min`` and ``max`` by tensor name), wide enough for the kernels.

    ``ExportError`` names the layer whose numbers are not finite.
    """
    graph = read_tflite(float_tflite).main
    found: Ranges = {name: dict(ends) for name, ends in statistics.items()}
    for operator in graph.operators:
        for index in operator.outputs:
            name = graph.tensors[index].name
            if name not in found or "min" not in found[name]:
                continue
            _check_finite(graph, operator, found[name])
            _widen(found[name], _least_step(graph, operator, found))
    for operator in reversed(graph.operators):
        if operator.name in ("ADD", "SUB"):
            least = LEAST_SHARE * _step(graph, operator.outputs[0], found)
            for index in operator.inputs:
                ends = found.get(graph.tensors[index].name)
                if ends is not None and "min" in ends:
                    _widen(ends, least)
    return found


def with_finite_constants(float_tflite: bytes, statistics: Ranges) -> bytes:
    """The float file with infinite constants made as large as it takes, and no larger.

    A softmax that is written out takes the largest of its inputs and minus infinity, and masks add
    that to what must not count. Its step would be infinite.
    """
    content = bytearray(float_tflite)
    graph = read_tflite(content).main
    for operator in graph.operators:
        for index in operator.inputs:
            values = _values(graph, index) if index >= 0 else None
            if values is None or not np.isinf(values).any():
                continue
            beside = [i for i in (*operator.outputs, *operator.inputs) if i != index and i >= 0]
            found = [statistics.get(graph.tensors[i].name, {}) for i in beside]
            known = [ends for ends in found if "min" in ends and _finite(ends)]
            low = min((float(np.min(ends["min"])) for ends in known), default=-1.0)
            high = max((float(np.max(ends["max"])) for ends in known), default=1.0)
            if operator.name not in ("MAXIMUM", "MINIMUM"):  # added: far below all others
                high = max(MASK * max(-low, high), LEAST_MASK)
                low = -high
            values[np.isneginf(values)] = low
            values[np.isposinf(values)] = high
    return bytes(content)


def oddness(quantized_tflite: bytes) -> dict[str, float]:
    """How far from 1 each weighted operator's factor is, in powers of two, by the names of its
    outputs as ai-edge-quantizer puts them."""
    graph = read_tflite(quantized_tflite).main
    found: dict[str, float] = {}
    for operator in graph.operators:
        if operator.name not in WEIGHTED:
            continue
        scales = [graph.tensors[i].scale for i in (*operator.inputs[:2], operator.outputs[0])]
        if all(scale.size for scale in scales):
            image, weight, out = (scale.astype(np.float64) for scale in scales)
            with np.errstate(divide="ignore", invalid="ignore"):
                factor = np.abs(np.log2(image.max() * weight / out.max())).max()
            scope = "".join(f"{graph.tensors[i].name};" for i in operator.outputs)
            found[scope] = float(factor) if np.isfinite(factor) else np.inf
    return found


def _check_finite(graph: TfliteSubgraph, operator: TfliteOperator, ends: Mapping[str, Any]) -> None:
    if _finite(ends):
        return
    layer = layer_name(graph.tensors[operator.outputs[0]].name)
    raise ExportError(
        layer,
        f"{operator.name} gives NaN or infinity on the calibration photos; expected finite "
        "numbers: look for a division by zero, a logarithm of zero or an exponential before it",
    )


def _finite(ends: Mapping[str, Any]) -> bool:
    return bool(np.isfinite(ends["min"]).all() and np.isfinite(ends["max"]).all())


def _widen(ends: dict[str, Any], least_step: float) -> None:
    """Move ``max`` so far up that a step is no smaller than ``least_step``. (Zero will always be
    in the range.)"""
    low, high = np.minimum(ends["min"], 0), np.maximum(ends["max"], 0)
    wanted = low + np.float32(ACTIVATION_STEPS * least_step)
    ends["max"] = np.where(high < wanted, wanted, ends["max"]).astype(np.float32)


def _least_step(graph: TfliteSubgraph, operator: TfliteOperator, ranges: Ranges) -> float:
    """The smallest step that the operator's output may have; 0 if any will do."""
    steps = [_step(graph, i, ranges) for i in operator.inputs if i >= 0]
    steps = [step for step in steps if step > 0]
    if not steps:
        return 0.0
    if operator.name in WEIGHTED or operator.name == "TRANSPOSE_CONV":
        image, weight = (2, 1) if operator.name == "TRANSPOSE_CONV" else (0, 1)
        product = _step(graph, operator.inputs[image], ranges)
        return product * _step(graph, operator.inputs[weight], ranges) / LARGEST_FACTOR
    if operator.name in ("MUL", "BATCH_MATMUL") and len(steps) < 2:
        return max(steps) * AFTER_ZERO  # times zero
    if operator.name in _PRODUCTS:
        product = steps[0] * (steps[1] if len(steps) > 1 else steps[0])
        return product / LARGEST_FACTOR
    if operator.name in _LINEAR or _width(ranges, graph.tensors[operator.outputs[0]].name) == 0:
        return max(steps) / LARGEST_FACTOR
    return 0.0


def _step(graph: TfliteSubgraph, index: int, ranges: Ranges) -> float:
    """The step of a tensor's integers; 0 if it has none."""
    values = _values(graph, index)
    if values is not None:
        return float(np.abs(values).max(initial=0)) / INT8.levels
    return _width(ranges, graph.tensors[index].name) / ACTIVATION_STEPS


def _width(ranges: Ranges, name: str) -> float:
    ends = ranges.get(name)
    if ends is None or "min" not in ends:
        return 0.0
    width = max(0.0, float(np.max(ends["max"]))) - min(0.0, float(np.min(ends["min"])))
    return width if width > NOTHING else 0.0


def _values(graph: TfliteSubgraph, index: int) -> NDArray[np.float32] | None:
    tensor = graph.tensors[index]
    if tensor.data is None or tensor.dtype != "float32":
        return None
    return tensor.data.view(np.float32)
