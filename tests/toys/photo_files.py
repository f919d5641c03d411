"""Photo files byte by byte: what encoders do not write, cameras and editors do."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Entry = tuple[int, int, int, bytes]
"""Tag, type, count, data of a TIFF field."""


def picture(width: int = 48, height: int = 32) -> Image.Image:
    """Smooth, and different at each of its corners."""
    y, x = np.mgrid[:height, :width]
    channels = [x * 5 % 256, y * 7 % 256, (x + 2 * y) % 256]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def tiff_block(entries: list[Entry], order: str = "<", at: int = 8) -> bytes:
    """A directory of fields, and before it the header of a file if it lies at 8."""
    table, extra, start = b"", b"", at + 2 + 12 * len(entries) + 4
    for tag, kind, count, data in entries:
        value = data.ljust(4, b"\0")
        if len(data) > 4:
            value = struct.pack(order + "I", start + len(extra))
            extra += data + bytes(len(data) % 2)
        table += struct.pack(order + "HHI", tag, kind, count) + value
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(order + "I", 8) if at == 8 else b""
    return head + struct.pack(order + "H", len(entries)) + table + bytes(4) + extra


def exif(entries: list[Entry], order: str = "<") -> bytes:
    return b"Exif\0\0" + tiff_block(entries, order)


def orientation(value: int, order: str = "<") -> Entry:
    return 0x0112, 3, 1, struct.pack(order + "H", value)


def tiff(
    pixels: NDArray[np.uint8], entries: list[Entry], order: str = "<", photometric: int = 2
) -> bytes:
    """An uncompressed TIFF of ``[H,W,3]`` with more fields."""
    h, w, c = pixels.shape

    def made(where: int) -> bytes:
        own = [
            (256, 3, 1, struct.pack(order + "H", w)),
            (257, 3, 1, struct.pack(order + "H", h)),
            (258, 3, c, struct.pack(order + "H", 8) * c),
            (259, 3, 1, struct.pack(order + "H", 1)),
            (262, 3, 1, struct.pack(order + "H", photometric)),
            (273, 4, 1, struct.pack(order + "I", where)),
            (277, 3, 1, struct.pack(order + "H", c)),
            (278, 3, 1, struct.pack(order + "H", h)),
            (279, 4, 1, struct.pack(order + "I", pixels.size)),
        ]
        return tiff_block(sorted([*own, *entries]), order)

    return made(len(made(0))) + pixels.tobytes()


def chunk(kind: bytes, data: bytes, good: bool = True) -> bytes:
    check = zlib.crc32(kind + data) ^ (0 if good else 1)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def png(pixels: NDArray[np.uint8] | NDArray[np.uint16], *chunks: bytes, end: bool = True) -> bytes:
    """A PNG of ``[H,W]``, ``[H,W,3]`` or ``[H,W,4]`` with chunks before its pixels."""
    h, w, c = pixels.reshape(*pixels.shape[:2], -1).shape
    bits = 8 * pixels.itemsize
    head = struct.pack(">IIBBBBB", w, h, bits, {1: 0, 3: 2, 4: 6}[c], 0, 0, 0)
    rows = pixels.astype(f">u{pixels.itemsize}")
    body = zlib.compress(b"".join(b"\0" + r.tobytes() for r in rows))
    parts = [chunk(b"IHDR", head), *chunks, chunk(b"IDAT", body)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + (chunk(b"IEND", b"") if end else b"")


def jpeg_with(data: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with more segments (marker, content) at its beginning."""
    made = b"".join(
        bytes([0xFF, m]) + struct.pack(">H", len(content) + 2) + content for m, content in segments
    )
    return data[:2] + made + data[2:]


def raw_file(preview: Image.Image, mosaic: tuple[int, int], first: list[Entry]) -> bytes:
    """A TIFF as cameras write it: a small RGB preview first, the sensor's mosaic in a directory
    that it names. ``first`` are more fields of the first directory."""
    small, numbers = np.asarray(preview).tobytes(), bytes(2 * mosaic[0] * mosaic[1])

    def one(value: int) -> bytes:
        return struct.pack("<I", value)

    def head(sub: int, where: int) -> bytes:
        own = [
            (254, 4, 1, one(1)), (256, 4, 1, one(preview.width)), (257, 4, 1, one(preview.height)),
            (258, 3, 3, struct.pack("<3H", 8, 8, 8)), (259, 3, 1, one(1)), (262, 3, 1, one(2)),
            (273, 4, 1, one(where)), (277, 3, 1, one(3)), (278, 4, 1, one(preview.height)),
            (279, 4, 1, one(len(small))), (330, 4, 1, one(sub)),
        ]  # fmt: skip
        return tiff_block(sorted([*own, *first]))

    sub = len(head(0, 0))
    where = sub + 2 + 12 * 8 + 4
    second = tiff_block(
        [
            (254, 4, 1, one(0)), (256, 4, 1, one(mosaic[0])), (257, 4, 1, one(mosaic[1])),
            (258, 3, 1, one(16)), (262, 3, 1, one(32803)), (273, 4, 1, one(where + len(small))),
            (277, 3, 1, one(1)), (279, 4, 1, one(len(numbers))),
        ],
        at=sub,
    )  # fmt: skip
    return head(sub, where) + second + small + numbers
