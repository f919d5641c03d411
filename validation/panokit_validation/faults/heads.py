"""Mistakes between the network's output buffers and the numbers an app works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.bundle import TensorSpec
from panokit_validation.faults.buffers import (
    pixels_as_planes,
    planes_as_pixels,
    rows_without_padding,
    to_multiple,
)

__all__ = [
    "HeadSet",
    "aligned_rows",
    "by_position",
    "constant",
    "fp16_overflow",
    "fp16_rounding",
    "joined_scale",
    "nchw_as_nhwc",
    "nhwc_as_nchw",
    "not_finite",
    "one_hot",
    "padded_rows",
    "raw_integers",
    "reread",
    "reread_rows",
    "sigmoid_twice",
    "signed_as_unsigned",
    "transposed",
    "wrong_scale",
    "zero_point_missing",
]

FloatArray = NDArray[np.float32]
_UNSIGNED = {"int8": 256, "int16": 65536}


@dataclass(frozen=True)
class HeadSet:
    """Heads ``[h,w,C]`` by name: ``raw`` as the artifact gave them (integers if quantised),
    ``real`` their values float32, ``specs`` their quantisation."""

    raw: Mapping[str, NDArray[Any]]
    real: Mapping[str, FloatArray]
    specs: Mapping[str, TensorSpec]

    def each(self, change: Callable[[FloatArray], FloatArray]) -> dict[str, FloatArray]:
        """Every head's real values, changed."""
        return {n: np.ascontiguousarray(change(v), np.float32) for n, v in self.real.items()}

    def integers(self) -> dict[str, FloatArray]:
        """The stored integers as numbers; they come back from the real values where ``raw`` holds
        floats already."""
        out = {}
        for name, spec in self.specs.items():
            if name not in self.real:
                continue
            scale, zero = spec.scale or 1.0, spec.zero_point or 0
            q = np.round(self.real[name] / np.float32(scale)) + np.float32(zero)
            out[name] = q.astype(np.float32)
        return out


Heads = dict[str, FloatArray]


def nchw_as_nhwc(heads: HeadSet) -> Heads:
    """A planar reading of an interleaved buffer (or the reverse)."""
    return _reordered(heads, planar=planes_as_pixels, interleaved=pixels_as_planes)


def nhwc_as_nchw(heads: HeadSet) -> Heads:
    """The other way round: values written in planes where pixels are read (or the reverse)."""
    return _reordered(heads, planar=pixels_as_planes, interleaved=planes_as_pixels)


def _reordered(
    heads: HeadSet,
    planar: Callable[[FloatArray], FloatArray],
    interleaved: Callable[[FloatArray], FloatArray],
) -> Heads:
    """Every head changed by what its layout in the artifact calls for."""
    return {
        name: (planar if heads.specs[name].layout == "nchw" else interleaved)(values)
        for name, values in heads.real.items()
    }


def padded_rows(values: int) -> Callable[[HeadSet], Heads]:
    """A buffer whose rows end with ``values`` of padding, read as if they did not."""
    return lambda heads: heads.each(lambda head: rows_without_padding(head, values))


def aligned_rows(size: int) -> Callable[[HeadSet], Heads]:
    """As :func:`padded_rows`, of buffers whose rows begin at multiples of ``size`` bytes."""

    def change(heads: HeadSet) -> Heads:
        out = {}
        for name, values in heads.real.items():
            stored = heads.raw.get(name, values).dtype.itemsize
            padding = to_multiple(values.shape[1] * values.shape[2], size // stored)
            out[name] = rows_without_padding(values, padding)
        return out

    return change


def reread_rows(paddings: Mapping[str, int], behind: Mapping[str, FloatArray]) -> Any:
    """Heads whose rows are read with these paddings (values, by head); see ``behind`` of
    :func:`~panokit_validation.faults.buffers.rows_without_padding`."""
    return lambda heads: {
        name: rows_without_padding(values, paddings[name], behind[name])
        if name in paddings
        else values
        for name, values in heads.real.items()
    }


def reread(written: str, read: str) -> Callable[[HeadSet], Heads]:
    """Numbers of one float type read as another: ``"half"``, ``"bfloat"`` or ``"single"``. What
    lies behind the buffer's end reads as 0."""

    def change(head: FloatArray) -> FloatArray:
        stored = _floats_to_bytes(head.reshape(-1), written)
        size = {"half": 2, "bfloat": 2, "single": 4}[read]
        buffer = np.zeros(head.size * size, np.uint8)
        buffer[: min(len(stored), len(buffer))] = stored[: len(buffer)]
        values = _bytes_to_floats(buffer, read)
        return np.clip(np.nan_to_num(values, nan=0.0), -1e30, 1e30).reshape(head.shape)

    return lambda heads: heads.each(change)


def _floats_to_bytes(values: FloatArray, kind: str) -> NDArray[np.uint8]:
    if kind == "half":
        return values.astype("<f2").view(np.uint8)
    single = np.ascontiguousarray(values, "<f4")
    if kind == "single":
        return single.view(np.uint8)
    return np.ascontiguousarray(single.view("<u2")[1::2]).view(np.uint8)


def _bytes_to_floats(buffer: NDArray[np.uint8], kind: str) -> FloatArray:
    if kind == "bfloat":
        wide = np.zeros(len(buffer), "<u2")
        wide[1::2] = buffer.view("<u2")
        return wide.view("<f4").astype(np.float32)
    with np.errstate(over="ignore"):
        return buffer.view("<f2" if kind == "half" else "<f4").astype(np.float32)


def by_position(heads: HeadSet) -> Heads:
    """The buffers of ``center`` and ``offset`` taken for one another."""
    out = dict(heads.real)
    if "center" in out and "offset" in out:
        center, offset = out["center"], out["offset"]
        out["center"] = offset.reshape(-1)[: center.size].reshape(center.shape).copy()
        twice = np.zeros(offset.size, np.float32)
        twice[: center.size] = center.reshape(-1)
        out["offset"] = twice.reshape(offset.shape)
    return out


def constant(name: str) -> Callable[[HeadSet], Heads]:
    """One head that is zero everywhere."""

    def change(heads: HeadSet) -> Heads:
        out = dict(heads.real)
        if name in out:
            out[name] = np.zeros_like(out[name])
        return out

    return change


def not_finite(value: float) -> Callable[[HeadSet], Heads]:
    """Part of every head NaN or infinite."""

    def change(head: FloatArray) -> FloatArray:
        out = head.copy()
        out[: max(1, head.shape[0] // 4)] = value
        return out

    return lambda heads: heads.each(change)


def transposed(heads: HeadSet) -> Heads:
    """Rows and columns swapped (square heads only; others stay)."""
    return heads.each(lambda v: v.transpose(1, 0, 2) if v.shape[0] == v.shape[1] else v)


def zero_point_missing(heads: HeadSet) -> Heads:
    """q·scale instead of (q - zero_point)·scale."""
    q = heads.integers()
    return {n: v * np.float32(heads.specs[n].scale or 1) for n, v in q.items()}


def wrong_scale(heads: HeadSet) -> Heads:
    """Every head dequantised with the scale of ``semantic``."""
    specs, q = heads.specs, heads.integers()
    scale = np.float32(specs["semantic"].scale or 1)
    return {n: (v - np.float32(specs[n].zero_point or 0)) * scale for n, v in q.items()}


def signed_as_unsigned(heads: HeadSet) -> Heads:
    """The bytes of negative integers read as large positive ones."""
    out = {}
    for name, q in heads.integers().items():
        spec = heads.specs[name]
        wrapped = np.where(q < 0, q + _UNSIGNED.get(spec.dtype, 0), q).astype(np.float32)
        out[name] = (wrapped - np.float32(spec.zero_point or 0)) * np.float32(spec.scale or 1)
    return out


def raw_integers(heads: HeadSet) -> Heads:
    """The integers taken for logits and pixels."""
    return heads.integers()


def joined_scale(heads: HeadSet) -> Heads:
    """All heads in 8 bits of one scale, that of the widest: what a quantizer makes of outputs that
    were joined to one tensor."""
    low = min(float(v.min()) for v in heads.real.values())
    high = max(float(v.max()) for v in heads.real.values())
    step = np.float32(max((high - low) / 255, 1e-12))
    return heads.each(lambda v: np.round(v / step) * step)


def one_hot(heads: HeadSet) -> Heads:
    """A semantic head that went through the argmax inside the graph: 1 for the class, else 0."""
    out = dict(heads.real)
    if "semantic" in out:
        best = out["semantic"].argmax(-1)
        out["semantic"] = np.eye(out["semantic"].shape[-1], dtype=np.float32)[best]
    return out


def sigmoid_twice(heads: HeadSet) -> Heads:
    """A centre head that is a probability already, before the decoding's own sigmoid."""
    out = dict(heads.real)
    if "center" in out:
        logits = np.clip(out["center"].astype(np.float64), -700, 700)
        out["center"] = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return out


def fp16_rounding(heads: HeadSet) -> Heads:
    """Values that were rounded to half precision on the way."""
    return heads.each(lambda v: v.astype(np.float16).astype(np.float32))


def fp16_overflow(share: float) -> Callable[[HeadSet], Heads]:
    """An accumulator that saturates: it reaches half precision's end at ``share`` of the head's
    largest magnitude, and the values are cut off there."""

    def change(heads: HeadSet) -> Heads:
        return heads.each(lambda v: np.clip(v, -_limit(v, share), _limit(v, share)))

    return change


def _limit(values: FloatArray, share: float) -> np.float32:
    return np.float32(share * float(np.abs(values).max()))
