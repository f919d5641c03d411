"""Activation ranges: what each tensor's integers span, measured on calibration photos.

``min_max`` takes the widest values seen, ``mean`` the mean of each photo's two ends (a single odd
photo cannot spoil it), ``percentile`` clips one value in ten thousand at each end, and ``mse``
tries clippings and keeps the one with the least squared error, which trades rare large values
for a finer grid (Choukroun et al., https://arxiv.org/abs/1902.06822).
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._quiet import quiet
from panokit_compression.calibration import CalibrationSet

__all__ = ["Statistics", "clipped_ranges", "mean_update"]

log = logging.getLogger(__name__)

Statistics = dict[str, dict[str, Any]]

BINS = 2048
CLIPPED = 1e-4  # share of values beyond each end of a percentile range
SHRINKS = np.linspace(1.0, 0.25, 31)  # clippings that mse tries, relative to the widest

COUNT = "photos"  # how many photos a mean has seen; not one of the tool's own keys


def mean_update(merged: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The mean of both ends over the photos. (The tool's own moving average depends on their
    order and gives the first photo most of the weight.)"""
    if not merged:
        return dict(new)
    count = merged.get(COUNT, 1)
    ends = {k: (merged[k] * count + new[k]) / (count + 1) for k in ("min", "max")}
    return {**ends, COUNT: count + 1}


def clipped_ranges(
    float_tflite: bytes, widest: Statistics, calibration: CalibrationSet, how: str, bits: int
) -> Statistics:
    """``widest`` with every activation's range clipped by ``how``: ``percentile`` or ``mse``.

    ``bits`` is the width of the integers that ``mse`` judges by. Constants stay as they are.
    """
    from ai_edge_litert.interpreter import Interpreter

    with quiet(log):  # it warns that keeping all tensors takes memory: that is the purpose
        interpreter = Interpreter(
            model_content=float_tflite, num_threads=1, experimental_preserve_all_tensors=True
        )
    interpreter.allocate_tensors()
    ends = {name: _ends(found) for name, found in widest.items()}
    indices = _computed(interpreter, ends)
    counts = {name: np.zeros(BINS, np.int64) for name in indices}
    for x in calibration.inputs():
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        for name, index in indices.items():
            values = interpreter.get_tensor(index)
            low, high = ends[name]
            at = ((values.ravel() - low) * np.float32(BINS / (high - low))).astype(np.int32)
            counts[name] += np.bincount(np.clip(at, 0, BINS - 1), minlength=BINS)
    out = dict(widest)
    for name in indices:
        shape = np.shape(widest[name]["min"])
        low, high = clip(counts[name], *ends[name], how, bits)
        out[name] = {
            "min": np.full(shape, low, np.float32),
            "max": np.full(shape, high, np.float32),
        }
    return out


def clip(
    counts: NDArray[np.int64], low: float, high: float, how: str, bits: int
) -> tuple[float, float]:
    """The clipped range of values whose histogram between ``low`` and ``high`` is ``counts``.

    It always holds zero: padding and ReLU need an exact one.
    """
    edges = np.linspace(low, high, len(counts) + 1)
    if how == "percentile":
        share = np.cumsum(counts) / max(1, counts.sum())
        low_bin = int(np.searchsorted(share, CLIPPED))
        high_bin = min(int(np.searchsorted(share, 1 - CLIPPED)), len(counts) - 1)
        return min(0.0, float(edges[low_bin])), max(0.0, float(edges[high_bin + 1]))
    values = (edges[:-1] + edges[1:]) / 2
    steps = 2**bits - 1
    best, found = np.inf, (low, high)
    for shrink in SHRINKS:
        lo, hi = min(0.0, low * shrink), max(0.0, high * shrink)
        if hi <= lo:
            break
        step = (hi - lo) / steps
        rounded = np.clip(np.round((values - lo) / step), 0, steps) * step + lo
        error = float(counts @ (values - rounded) ** 2)
        if error < best:
            best, found = error, (lo, hi)
    return found


def _ends(found: dict[str, Any]) -> tuple[float, float]:
    low, high = float(np.min(found["min"])), float(np.max(found["max"]))
    return (low, high) if high > low else (low, low + 1e-6)


def _computed(interpreter: Any, names: dict[str, Any]) -> dict[str, int]:
    """Index of every tensor that an operator computes and whose range is asked for."""
    made = {int(i) for op in interpreter._get_ops_details() for i in op["outputs"]}
    details = interpreter.get_tensor_details()
    return {
        d["name"]: int(d["index"])
        for d in details
        if int(d["index"]) in made and d["name"] in names and d["dtype"] == np.float32
    }
