"""PNG with 16 bits a channel, which Pillow reads as 8 and cannot write in colour."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

__all__ = ["write_png16"]

_BAND = 64


def write_png16(
    path: str | Path,
    pixels_hwc: NDArray[np.uint16],
    icc_profile: bytes | None = None,
    exif: bytes | None = None,
) -> None:
    """Write uint16 ``[H,W,3]`` or ``[H,W,4]`` (RGB or RGBA) as a PNG.

    https://www.w3.org/TR/png-3/: big-endian samples, every row filtered with "Sub" (each pixel
    less its left neighbour), which suits photos and needs no search.
    """
    h, w, channels = pixels_hwc.shape
    with Path(path).open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        kind = 6 if channels == 4 else 2
        _chunk(file, b"IHDR", struct.pack(">IIBBBBB", w, h, 16, kind, 0, 0, 0))
        if icc_profile:
            _chunk(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile))
        if exif:
            _chunk(file, b"eXIf", exif.removeprefix(b"Exif\0\0"))
        packer = zlib.compressobj(4)
        for top in range(0, h, _BAND):
            band = pixels_hwc[top : top + _BAND]
            raw = np.ascontiguousarray(band.astype(">u2")).view(np.uint8).reshape(len(band), -1)
            rows = np.empty((len(band), 1 + raw.shape[1]), np.uint8)
            rows[:, 0] = 1
            rows[:, 1:] = raw
            rows[:, 1 + 2 * channels :] -= raw[:, : -2 * channels]
            part = packer.compress(rows.tobytes())
            if part:
                _chunk(file, b"IDAT", part)
        _chunk(file, b"IDAT", packer.flush())
        _chunk(file, b"IEND", b"")


def _chunk(file: IO[bytes], name: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + name + data)
    file.write(struct.pack(">I", zlib.crc32(name + data)))
