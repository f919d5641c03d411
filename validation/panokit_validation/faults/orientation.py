"""Photos that reach the network the wrong way round, uint8 ``[h,w,3]``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from panokit_validation.faults.buffers import rows_without_padding, to_multiple

__all__ = ["crop_to", "ignore_exif", "mirror", "padded_rows", "rotate", "upside_down"]

Pixels = NDArray[np.uint8]
Change = Callable[[Pixels, int], Pixels]


def ignore_exif(rgb_hwc: Pixels, orientation: int) -> Pixels:
    """The pixels as the file stores them: EXIF orientation (1..8) taken back."""
    back: dict[int, Callable[[Pixels], Pixels]] = {
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda p: np.rot90(p, -1),
    }
    change = back.get(orientation)
    return rgb_hwc if change is None else np.ascontiguousarray(change(rgb_hwc))


def mirror(rgb_hwc: Pixels, orientation: int) -> Pixels:
    """Left and right swapped."""
    return np.ascontiguousarray(rgb_hwc[:, ::-1])


def upside_down(rgb_hwc: Pixels, orientation: int) -> Pixels:
    """Top and bottom swapped."""
    return np.ascontiguousarray(rgb_hwc[::-1])


def padded_rows(unit: int, channels: int) -> Change:
    """A bitmap whose rows begin at multiples of ``unit`` bytes, copied as if they lay one behind
    the other: ``channels`` 3 for RGB, 4 for RGBA."""

    def change(rgb_hwc: Pixels, orientation: int) -> Pixels:
        padding = to_multiple(rgb_hwc.shape[1] * channels, unit)
        return rows_without_padding(rgb_hwc, padding if channels == 3 else padding // 4 * 3)

    return change


def crop_to(long: int, short: int) -> Change:
    """The middle of the photo, ``long`` to ``short`` along its own longer side; a photo that is of
    that shape stays whole."""

    def change(rgb_hwc: Pixels, orientation: int) -> Pixels:
        h, w = rgb_hwc.shape[:2]
        a, b = (long, short) if w >= h else (short, long)
        cw, ch = min(w, max(1, round(h * a / b))), min(h, max(1, round(w * b / a)))
        x, y = (w - cw) // 2, (h - ch) // 2
        return np.ascontiguousarray(rgb_hwc[y : y + ch, x : x + cw])

    return change


def rotate(quarters: int) -> Change:
    """Turned clockwise by so many quarters."""
    return lambda rgb_hwc, orientation: np.ascontiguousarray(np.rot90(rgb_hwc, -quarters))
