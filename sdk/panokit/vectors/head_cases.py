"""Cases of head types and values: quantised, half, saturated, huge, random, not finite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.preprocessing import letterbox
from panokit.vectors.cases import MANY, DecodeCase, config, full_frame, random_heads, raw_bits

__all__ = ["head_cases"]


def head_cases() -> Iterator[DecodeCase]:
    """All of them."""
    yield from _quantized()
    yield from _half()
    for i, kind in enumerate(("plain", "tied", "saturated", "huge")):
        for grid in ("input", "head"):
            raw = random_heads(400 + 20 * i, 7, 6, kind=kind)
            transform = letterbox((26, 24), (24, 28))
            parameters = config(grid=grid, top_k=4, min_thing_area=5, min_stuff_area=3)
            about = f"Noise, {kind}, several centres and least areas, on the {grid} grid."
            yield DecodeCase(f"random-{kind}-{grid}", about, raw, transform, parameters)
    raw = random_heads(500, 6, 6, 26)
    about = "26 classes."
    yield DecodeCase("many-classes", about, raw, full_frame(6), config(grid="input"), MANY)
    yield from _not_finite()


def _quantized() -> Iterator[DecodeCase]:
    scales = {"semantic": 0.07841841131448746, "center": 0.043852031230926514,
              "offset": 0.7054126262664795}  # fmt: skip
    for dtype, zeros in {
        "int8": (25, 110, 1), "uint8": (128, 255, 0), "int16": (0, -300, 7),
    }.items():  # fmt: skip
        info = np.iinfo(dtype)
        for grid in ("input", "head"):
            raw: dict[str, NDArray[Any]] = {}
            for i, (name, last) in enumerate((("semantic", 4), ("center", 1), ("offset", 2))):
                bits = raw_bits(600 + i, (6, 6, last), 8) - 128 + (info.max + info.min + 1) // 2
                raw[name] = np.clip(bits, info.min, info.max).astype(dtype)
            zero = dict(zip(scales, zeros, strict=True))
            quantization = {name: (scales[name], zero[name]) for name in scales}
            about = f"{dtype} heads: real = (q - zero point)·scale in float32; {grid} grid."
            yield DecodeCase(
                f"{dtype}-{grid}", about, raw, full_frame(6), config(grid=grid),
                quantization=quantization,
            )  # fmt: skip
    raw = random_heads(640, 5, 5)
    raw["center"] = np.full((5, 5, 1), 127, np.int8)
    about = "One int8 head among float ones, stuck at its highest value."
    yield DecodeCase(
        "int8-centre-stuck", about, raw, full_frame(5), config(), quantization={"center": (0.05, 0)}
    )


def _half() -> Iterator[DecodeCase]:
    for grid in ("input", "head"):
        raw = {k: v.astype(np.float16) for k, v in random_heads(700, 6, 7).items()}
        about = f"float16 heads are widened first, then all is float32; {grid} grid."
        yield DecodeCase(f"fp16-{grid}", about, raw, full_frame(6, 7), config(grid=grid))
    raw = {k: v.astype(np.float16) for k, v in random_heads(710, 5, 5).items()}
    raw["semantic"][0, 0], raw["semantic"][4, 4] = 65504, -65504
    raw["semantic"][2, 2] = np.array([2.0**-24, 2.0**-14, 0, -(2.0**-24)], np.float16)
    raw["offset"][1, 1] = 65504
    about = "The largest halves and the smallest (subnormal) ones."
    yield DecodeCase("fp16-extremes", about, raw, full_frame(5), config(grid="input"))


def _not_finite() -> Iterator[DecodeCase]:
    bad = {
        "nan-semantic": ("semantic", (2, 1, 3), np.nan),
        "inf-center": ("center", (0, 3, 0), np.inf),
        "minus-inf-offset": ("offset", (3, 2, 1), -np.inf),
        "overflowing-offset": ("offset", (1, 0, 0), 2e38),
    }  # fmt: skip
    for name, (head, at, value) in bad.items():
        raw = random_heads(800, 4, 4)
        raw[head][at] = value
        about = f"An error that names head {head!r} and position {at}."
        yield DecodeCase(f"error-{name}", about, raw, full_frame(4), config())
