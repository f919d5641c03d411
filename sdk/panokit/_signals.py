"""Colour spaces that a file names by numbers: gAMA and cHRP of PNG, and code points of H.273 (cICP
of PNG, nclx of HEIC and AVIF).

https://www.w3.org/TR/png-3/ sections 4.3 and 11.3.2; ITU-T H.273 (primaries and transfers); BT.2100
(PQ and HLG); BT.2408 (203 cd/m² is the white of pictures beside them).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panokit._icc import SRGB, ColorSpace

__all__ = ["Signal", "signal_of_codes", "signal_of_gamma"]

FloatArray = NDArray[np.float64]
Chromaticities = tuple[float, ...]
"""x and y of white, red, green and blue."""

_D65 = (0.3127, 0.3290)
_PRIMARIES: dict[int, Chromaticities] = {
    1: (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_SAME_GAMMA = 0.05  # as libpng has it: a smaller difference is none
_SAME_XY = 0.005
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_WHITE_NITS = 203.0


@dataclass(frozen=True, eq=False)
class Signal:
    """How codes are to be read: the space, and what the file says, in short."""

    space: ColorSpace
    name: str


def signal_of_gamma(gamma: float | None, xy: Chromaticities | None) -> Signal | None:
    """What PNG's gAMA (codes are light to the power of ``gamma``) and cHRP say; None if that is
    sRGB, or no sense."""
    usual = gamma is None or not 0.05 <= gamma <= 20 or abs(gamma * 2.2 - 1) <= _SAME_GAMMA
    to_srgb = None if xy is None else _to_srgb(xy)
    if usual and to_srgb is None:
        return None
    x = np.linspace(0, 1, 65536)
    curve = SRGB.curve if usual or gamma is None else (x ** (1 / gamma)).astype(np.float32)
    space = ColorSpace(curve, np.eye(3) if to_srgb is None else to_srgb)
    name = "" if usual else f"gamma {gamma:.4g}"
    return Signal(space, name if to_srgb is None else f"{name} primaries".strip())


def signal_of_codes(primaries: int, transfer: int, full_range: bool = True) -> Signal | None:
    """What code points of H.273 say of RGB; None if that is sRGB, or nothing."""
    to_srgb = _to_srgb(_PRIMARIES[primaries]) if primaries in _PRIMARIES else None
    x = np.linspace(0, 1, 65536)
    x = x if full_range else np.clip((x * 255 - 16) / 219, 0, 1)
    light = _light(x, transfer)
    if light is None and to_srgb is None and full_range:
        return None
    if light is None:
        light = np.interp(x, np.linspace(0, 1, 65536), SRGB.curve)
    space = ColorSpace(light.astype(np.float32), np.eye(3) if to_srgb is None else to_srgb)
    return Signal(space, f"cicp {primaries}/{transfer}")


def _light(x: FloatArray, transfer: int) -> FloatArray | None:
    """Light of codes, 1 = the white of the picture; None where it is sRGB's (the curves of video,
    which are seen as such, too)."""
    if transfer in (4, 5, 8):
        return np.asarray(x ** {4: 2.2, 5: 2.8, 8: 1.0}[transfer], np.float64)
    if transfer == 16:
        p = x ** (1 / 78.84375)
        nits = 1e4 * (np.maximum(p - 0.8359375, 0) / (18.8515625 - 18.6875 * p)) ** (
            1 / 0.1593017578125
        )
        return np.minimum(nits / _WHITE_NITS, 1)
    if transfer == 18:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(x <= 0.5, x * x / 3, (np.exp((x - c) / a) + b) / 12)
        return np.minimum(1000 * scene**1.2 / _WHITE_NITS, 1)
    return None


def _to_srgb(xy: Chromaticities) -> FloatArray | None:
    """Linear RGB of these primaries to linear sRGB, float64 ``[3,3]``; None if they are sRGB's own,
    or none at all."""
    if np.allclose(xy, _PRIMARIES[1], atol=_SAME_XY):
        return None
    try:
        matrix = np.linalg.inv(_to_xyz(_PRIMARIES[1])) @ _to_xyz(xy)
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return None
    sane = np.isfinite(matrix).all() and np.abs(matrix).max() < 10
    return matrix if sane and abs(np.linalg.det(matrix)) > 1e-3 else None


def _to_xyz(xy: Chromaticities) -> FloatArray:
    """Linear RGB to XYZ under D65 (Bradford-adapted)."""
    white, red, green, blue = (
        (x / y, 1.0, (1 - x - y) / y) for x, y in zip(xy[::2], xy[1::2], strict=True)
    )
    columns = np.array([red, green, blue]).T
    columns = columns * np.linalg.solve(columns, np.array(white))
    target = _BRADFORD @ np.array([_D65[0] / _D65[1], 1.0, (1 - sum(_D65)) / _D65[1]])
    gain = target / (_BRADFORD @ np.array(white))
    return np.asarray(np.linalg.inv(_BRADFORD) @ np.diag(gain) @ _BRADFORD @ columns)
