"""Colour spaces of photos: the matrix and curve of an ICC profile, read without executing it.

Only what phones and cameras write is understood: RGB profiles of three primaries and one curve
(ICC.1:2022, sections 10.6 ``curveType`` and 10.18 ``parametricCurveType``; Display P3, Adobe RGB,
ProPhoto, Rec. 2020). Profiles of tables (printers) are not; their photos are worked on in sRGB.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SRGB", "ColorSpace", "parse_profile"]

FloatArray = NDArray[np.float32]

# Linear sRGB to XYZ under D50, as ICC profiles store it (Bradford-adapted).
_SRGB_TO_XYZ = np.array(
    [[0.43606, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
_CODES = 65536


@dataclass(frozen=True, eq=False)
class ColorSpace:
    """An RGB space: how codes become light and what the primaries are.

    ``curve`` float32 ``[65536]``: light 0..1 of every 16-bit code, rising; ``to_srgb`` float64
    ``[3,3]`` takes its linear light (a column R, G, B) to linear sRGB.
    """

    curve: FloatArray
    to_srgb: NDArray[np.float64]

    @cached_property
    def _curve_8(self) -> FloatArray:
        return np.ascontiguousarray(self.curve[:: _CODES // 255][:256])

    @cached_property
    def _codes_8(self) -> NDArray[np.uint8]:
        light = np.arange(_CODES) / (_CODES - 1)
        codes = np.interp(light, self._curve_8, np.arange(256.0))
        return np.asarray(codes + 0.5, np.float64).astype(np.uint8)

    @cached_property
    def luminance(self) -> FloatArray:
        """Weights of linear R, G and B in the luminance Y, float32 ``[3]``, sum 1."""
        weights = _SRGB_TO_XYZ[1] @ self.to_srgb
        return np.asarray(weights / weights.sum(), np.float32)

    def to_linear(self, codes: NDArray[np.uint8] | NDArray[np.uint16]) -> FloatArray:
        """Codes, uint8 or uint16 of any shape, to linear light 0..1, float32."""
        table = self._curve_8 if codes.dtype == np.uint8 else self.curve
        return np.asarray(table.take(codes))

    def to_codes(
        self, linear: FloatArray, dtype: np.dtype[Any] | type[Any]
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Linear light, clipped to 0..1, to the nearest codes of ``dtype`` (uint8 or uint16).

        ``to_codes(to_linear(x), x.dtype)`` is ``x`` for every code.
        """
        if dtype == np.uint8:
            index = np.clip(linear, 0.0, 1.0)
            index *= np.float32(_CODES - 1)
            index += np.float32(0.5)
            return np.asarray(self._codes_8.take(index.astype(np.uint16)))
        codes = np.interp(np.clip(linear, 0.0, 1.0), self.curve, np.arange(float(_CODES)))
        return np.asarray(codes + 0.5, np.float64).astype(np.uint16)


def _srgb_curve() -> FloatArray:
    code = np.arange(_CODES) / (_CODES - 1)
    light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


SRGB = ColorSpace(_srgb_curve(), np.eye(3))
"""IEC 61966-2-1."""


@lru_cache(maxsize=8)
def parse_profile(icc: bytes) -> ColorSpace | None:
    """The space of an RGB profile of matrix and curve; None if the profile is of another kind or
    damaged. Hostile bytes give None, never an exception."""
    try:
        tags = _tags(icc)
        if not {b"rTRC", b"gTRC", b"bTRC", b"rXYZ", b"gXYZ", b"bXYZ"} <= tags.keys():
            return None
        if any(name in tags for name in (b"A2B0", b"A2B1", b"D2B0")):
            return None  # its tables, not its matrix, are what colour engines use
        curves = [_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")]
        if any(not np.array_equal(curves[0], c) for c in curves[1:]):
            return None
        columns = [_xyz(tags[name]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    except (struct.error, ValueError, IndexError, ArithmeticError):
        return None
    matrix = np.linalg.inv(_SRGB_TO_XYZ) @ np.array(columns).T
    rising = bool(np.all(np.diff(curves[0]) >= 0)) and curves[0][0] >= 0 and curves[0][-1] > 0.9
    if not rising or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-3:
        return None
    return ColorSpace(np.minimum(curves[0], np.float32(1.0)), matrix)


def _tags(icc: bytes) -> dict[bytes, bytes]:
    if len(icc) < 132 or icc[16:20] != b"RGB " or icc[20:24] != b"XYZ ":
        raise ValueError("not an RGB profile with XYZ connection space")
    (count,) = struct.unpack_from(">I", icc, 128)
    if count > 200:
        raise ValueError("too many tags")
    tags = {}
    for i in range(count):
        name, at, size = struct.unpack_from(">4sII", icc, 132 + 12 * i)
        tags[name] = icc[at : at + size]
    return tags


def _xyz(tag: bytes) -> tuple[float, ...]:
    return tuple(v / 65536 for v in struct.unpack_from(">3i", tag, 8))


def _curve(tag: bytes) -> FloatArray:
    """Light of the 65536 codes after a curve tag."""
    x = np.arange(_CODES) / (_CODES - 1)
    kind = tag[:4]
    if kind == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count == 0:
            return x.astype(np.float32)
        points = np.frombuffer(tag, ">u2", count, 12).astype(np.float64)
        if count == 1:
            return np.asarray(x ** (points[0] / 256), np.float32)
        return np.interp(x, np.linspace(0, 1, count), points / 65535).astype(np.float32)
    if kind != b"para":
        raise ValueError("unknown curve")
    (form,) = struct.unpack_from(">H", tag, 8)
    g, *rest = (v / 65536 for v in struct.unpack_from(f">{(1, 3, 4, 5, 7)[form]}i", tag, 12))
    # Forms 0-4: (a x + b)^g + e from x = d up, c x + f below it.
    given = [*rest, *[1.0, 0.0, 0.0, 0.0, 0.0, 0.0][len(rest) :]]
    a, b, c, d, e, f = (float(v) for v in given)
    if form in (1, 2):
        d = -b / a
        e = f = c if form == 2 else 0.0
        c = 0.0
    with np.errstate(all="ignore"):
        high = np.maximum(a * x + b, 0) ** g + e
        return np.asarray(np.where(x >= d, high, c * x + f), np.float32)
