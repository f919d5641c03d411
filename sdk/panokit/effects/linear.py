"""Between sRGB bytes and linear light (IEC 61966-2-1): light may be averaged, codes not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["to_linear", "to_srgb"]

FloatArray = NDArray[np.float32]


def _decode_table() -> FloatArray:
    code = np.arange(256) / 255.0
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )


_LINEAR_OF_CODE = _decode_table()


def to_linear(srgb: NDArray[np.uint8]) -> FloatArray:
    """sRGB codes, uint8 of any shape, to linear light 0..1, float32 of the same shape."""
    return np.asarray(_LINEAR_OF_CODE[srgb])


def to_srgb(linear: FloatArray) -> NDArray[np.uint8]:
    """Linear light, float32 of any shape, clipped to 0..1, to the nearest sRGB codes, uint8."""
    x = np.clip(linear, 0.0, 1.0)
    code = np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** np.float32(1 / 2.4) - 0.055)
    return (code * 255.0 + 0.5).astype(np.uint8)
