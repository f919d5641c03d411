"""PNG files of segment ids (id = R + 256 G + 65536 B), decoded fast and with bounds.

An image of 8-bit RGB goes through kornia-rs, where that is installed: it takes a fifth of Pillow's
time. All others go through Pillow.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._photo_file import read_photo_file
from panokit._places import plain_file
from panokit.errors import DataError
from panokit.photo import MAX_FILE_BYTES, MAX_PIXELS

__all__ = ["ids_of", "read_id_png"]

_HEAD = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_RGB8 = bytes([8, 2, 0, 0, 0])  # depth, colour, compression, filter, not interlaced


def read_id_png(
    path: Path, size_wh: tuple[int, int] | None = None, size_of: str = "as in the JSON"
) -> NDArray[np.uint8]:
    """Its colours, uint8 ``[H,W,3]``. ``DataError`` names a file that is missing, too large, of
    another size than ``size_wh`` (``size_of`` says whose that is), no colour PNG, or damaged."""
    try:
        if plain_file(path).stat().st_size > MAX_FILE_BYTES:
            raise DataError(path, f"expected at most {MAX_FILE_BYTES} bytes")
        data = path.read_bytes()
        if data[:16] == _HEAD and data[24:29] == _RGB8:
            w, h = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
            _check_size(path, (w, h), size_wh, size_of)
            fast = _decode_fast(data, (h, w))
            if fast is not None:
                return fast
        return _decode(path, data, size_wh, size_of)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except Exception as error:  # decoders raise many kinds on damaged files
        reason = f"cannot be decoded ({type(error).__name__}: {error})"
        raise DataError(path, reason) from None


def ids_of(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The segment ids of colours ``[…,3]``, int32 ``[…]``."""
    ids = rgb[..., 0].astype(np.int32)
    ids += rgb[..., 1].astype(np.int32) << 8
    ids += rgb[..., 2].astype(np.int32) << 16
    return ids


def _check_size(
    path: Path, got: tuple[int, int], expected: tuple[int, int] | None, size_of: str
) -> None:
    if expected is not None and got != expected:
        raise DataError(path, f"expected size {expected} {size_of}, got {got}")
    if got[0] * got[1] > MAX_PIXELS:
        raise DataError(path, f"expected at most {MAX_PIXELS} pixels, got {got[0]} x {got[1]}")


def _decode_fast(data: bytes, shape: tuple[int, int]) -> NDArray[np.uint8] | None:
    """None where that decoder is missing or refuses the file: Pillow says what is wrong."""
    try:
        from kornia_rs.io import decode_image_png_u8
    except ImportError:
        return None
    try:
        found: NDArray[Any] = np.asarray(decode_image_png_u8(data, shape, "rgb"))
    except Exception:
        return None
    return found if found.shape == (*shape, 3) and found.dtype == np.uint8 else None


def _decode(
    path: Path, data: bytes, size_wh: tuple[int, int] | None, size_of: str
) -> NDArray[np.uint8]:
    from PIL import Image

    # Without texts and other chunks, which tools fill with what decoders refuse.
    file = read_photo_file(data, str(path))
    with Image.open(io.BytesIO(file.picture), formats=("PNG",)) as image:
        _check_size(path, image.size, size_wh, size_of)
        if image.mode not in ("RGB", "RGBA", "P"):
            reason = f"expected a colour PNG (id = R + 256·G + 65536·B), got mode {image.mode}"
            raise DataError(path, reason)
        return np.asarray(image.convert("RGB"))
