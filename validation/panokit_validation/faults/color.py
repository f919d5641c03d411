"""Colour mistakes of apps, on sRGB photos uint8 ``[h,w,3]``.

Matrices: ITU-R BT.601, BT.709 and BT.2020 (luma coefficients and the ranges 16..235 / 16..240), and
the Display P3 primaries with the D65 white of SMPTE EG 432-1; the transfer curve is sRGB's
(IEC 61966-2-1).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "bgr",
    "chroma_shifted",
    "expand_range",
    "gamma",
    "hdr_as_sdr",
    "jpeg",
    "p3_numbers",
    "squeeze_range",
    "srgb_as_p3",
    "swap_yuv_matrix",
    "uv_swapped",
]

Pixels = NDArray[np.uint8]
Matrix = NDArray[np.float64]

_LUMA = {"601": (0.299, 0.114), "709": (0.2126, 0.0722), "2020": (0.2627, 0.0593)}  # Kr, Kb
# Linear Display P3 to linear sRGB (both D65).
_P3_TO_SRGB = np.array(
    [
        [1.2249401762, -0.2249401762, 0.0],
        [-0.0420569547, 1.0420569547, 0.0],
        [-0.0196375546, -0.0786360456, 1.0982736002],
    ]
)
_CODES = 4096  # steps of the table that encodes linear light


def bgr(rgb_hwc: Pixels) -> Pixels:
    """Red and blue swapped."""
    return np.ascontiguousarray(rgb_hwc[..., ::-1])


def gamma(exponent: float) -> Callable[[Pixels], Pixels]:
    """Every value raised to ``exponent`` on 0..1: 2.2 as if linear light were fed, 1/2.2 back."""
    table = _round(255 * (np.arange(256) / 255) ** exponent)
    return lambda rgb_hwc: table[rgb_hwc]


def uv_swapped(rgb_hwc: Pixels) -> Pixels:
    """The two chroma planes of the camera buffer read in the wrong order (NV12 as NV21)."""
    forward = _yuv(*_LUMA["601"])
    matrix = np.linalg.inv(forward) @ forward[[0, 2, 1]]
    return _linear(rgb_hwc, matrix, np.zeros(3))


def chroma_shifted(dy: int, dx: int) -> Callable[[Pixels, int], Pixels]:
    """Chroma read ``dy`` rows below and ``dx`` columns right of its luma (one chroma sample is two
    pixels)."""

    def change(rgb_hwc: Pixels, orientation: int) -> Pixels:
        forward = _yuv(*_LUMA["601"])
        planes = rgb_hwc.astype(np.float32) @ forward.T.astype(np.float32)
        planes[..., 1:] = np.roll(planes[..., 1:], (dy, dx), (0, 1))
        return _round(planes @ np.linalg.inv(forward).T.astype(np.float32))

    return change


def hdr_as_sdr(curve: str) -> Callable[[Pixels], Pixels]:
    """A 10-bit BT.2020 frame (``"pq"`` or ``"hlg"``) whose codes are read as 8-bit sRGB.

    ITU-R BT.2100: PQ with graphics white at 203 cd/m², HLG with it at 75 % of the signal.
    """

    def change(rgb_hwc: Pixels) -> Pixels:
        light = _curves()[0][rgb_hwc] @ _SRGB_TO_2020.T.astype(np.float32)
        linear: NDArray[np.float64] = np.clip(light.astype(np.float64), 0, 1)
        return _round(255 * (_pq(linear * 203 / 10000) if curve == "pq" else _hlg(linear)))

    return change


_SRGB_TO_2020 = np.array(
    [
        [0.6274039, 0.3292830, 0.0433131],
        [0.0690973, 0.9195404, 0.0113623],
        [0.0163914, 0.0880133, 0.8955953],
    ]
)


def _pq(light: NDArray[np.float64]) -> NDArray[np.float64]:
    power = light**0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def _hlg(light: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = light * 0.26496256  # so that white is at 75 % of the signal
    low = np.sqrt(3 * scene)
    high = a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    return np.asarray(np.where(scene <= 1 / 12, low, high))


def jpeg(quality: int) -> Callable[[Pixels, int], Pixels]:
    """Saved as a JPEG of this quality and read again."""

    def change(rgb_hwc: Pixels, orientation: int) -> Pixels:
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(rgb_hwc)).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return change


def squeeze_range(rgb_hwc: Pixels) -> Pixels:
    """Limited-range YUV shown as if full: grey, 0 becomes 16 and 255 becomes 235."""
    return _linear(rgb_hwc, _range_matrix(219 / 255, 224 / 255), np.full(3, 16.0))


def expand_range(rgb_hwc: Pixels) -> Pixels:
    """Full-range YUV read as if limited: hard contrast, what lies outside 16..235 is cut off."""
    shift = np.full(3, -16 * 255 / 219)
    return _linear(rgb_hwc, _range_matrix(255 / 219, 255 / 224), shift)


def swap_yuv_matrix(made: str, read: str) -> Callable[[Pixels], Pixels]:
    """YUV made with one matrix (``"601"``, ``"709"``, ``"2020"``), turned to RGB with another."""
    matrix = np.linalg.inv(_yuv(*_LUMA[read])) @ _yuv(*_LUMA[made])
    return lambda rgb_hwc: _linear(rgb_hwc, matrix, np.zeros(3))


def p3_numbers(rgb_hwc: Pixels) -> Pixels:
    """The numbers a Display P3 file holds for these sRGB colours, taken for sRGB: duller."""
    return _through_light(rgb_hwc, np.linalg.inv(_P3_TO_SRGB))


def srgb_as_p3(rgb_hwc: Pixels) -> Pixels:
    """sRGB numbers converted as if they were Display P3: more vivid."""
    return _through_light(rgb_hwc, _P3_TO_SRGB)


def _yuv(kr: float, kb: float) -> Matrix:
    """RGB to Y'CbCr, full range, chroma -0.5..0.5 of the range."""
    luma = np.array([kr, 1 - kr - kb, kb])
    cb = (np.array([0, 0, 1.0]) - luma) / (2 * (1 - kb))
    cr = (np.array([1.0, 0, 0]) - luma) / (2 * (1 - kr))
    return np.stack([luma, cb, cr])


def _range_matrix(luma: float, chroma: float) -> Matrix:
    """RGB to RGB with the luma and the chroma of BT.601 scaled."""
    forward = _yuv(*_LUMA["601"])
    return np.asarray(np.linalg.inv(forward) @ np.diag([luma, chroma, chroma]) @ forward)


def _linear(rgb_hwc: Pixels, matrix: Matrix, shift: NDArray[np.float64]) -> Pixels:
    values = rgb_hwc.astype(np.float32) @ matrix.T.astype(np.float32) + shift.astype(np.float32)
    return _round(values)


@lru_cache(1)
def _curves() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Light of every 8-bit code, and the code of every step of light."""
    code = np.arange(256) / 255
    light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    step = np.arange(_CODES * 4 + 1) / (_CODES * 4)
    encoded = np.where(step <= 0.0031308, step * 12.92, 1.055 * step ** (1 / 2.4) - 0.055)
    return light.astype(np.float32), _round(encoded * 255)


def _through_light(rgb_hwc: Pixels, matrix: Matrix) -> Pixels:
    light, encoded = _curves()
    mixed = light[rgb_hwc] @ matrix.T.astype(np.float32)
    codes: Pixels = encoded[np.round(np.clip(mixed, 0, 1) * (len(encoded) - 1)).astype(np.intp)]
    return codes


def _round(values: NDArray[np.floating]) -> Pixels:
    return np.asarray(np.clip(np.floor(values + 0.5), 0, 255), np.uint8)
