"""PNG files whose grey values or palette places are labels, decoded with bounds."""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panokit._photo_file import read_photo_file
from panokit._places import plain_file
from panokit.photo import MAX_FILE_BYTES, MAX_PIXELS
from panokit_datasets.problems import LabelError

__all__ = ["read_label_png", "read_rgb_png"]

_DEPTH = {"L": "8-bit grey", "P": "a palette", "I;16": "16-bit grey", "RGB": "colours"}
_SIXTEEN = ("I;16", "I;16B", "I")


def read_label_png(
    path: Path, size_wh: tuple[int, int] | None = None, modes: Collection[str] = ("L", "P")
) -> NDArray[np.int32]:
    """Its values, int32 ``[H,W]``: grey values as they are, and the places in a palette.

    ``modes`` are the kinds that are right here: ``"L"`` (8-bit grey), ``"P"`` (palette), ``"I;16"``
    (16-bit grey). :class:`LabelError` names a file that is missing, of another size or kind, or
    damaged.
    """
    mode, values = _decode(path, size_wh)
    if mode not in modes:
        expected = " or ".join(_DEPTH[m] for m in modes)
        raise LabelError(path, f"it is a PNG of {_DEPTH[mode]}; expected {expected}", "wrong mode")
    return values.astype(np.int32)


def read_rgb_png(path: Path, size_wh: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Its colours, uint8 ``[H,W,3]``; another kind of PNG is a :class:`LabelError`."""
    mode, values = _decode(path, size_wh)
    if mode != "RGB":
        raise LabelError(path, f"it is a PNG of {_DEPTH[mode]}; expected colours", "wrong mode")
    return values.astype(np.uint8)


def _decode(path: Path, size_wh: tuple[int, int] | None) -> tuple[str, NDArray[np.generic]]:
    from PIL import Image

    data = _bytes(path)
    if data[:3] == b"\xff\xd8\xff":
        raise LabelError(path, "labels lie in a JPEG, which changes them; save PNG", "wrong mode")
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise LabelError(path, "expected a PNG of labels", "wrong mode")
    try:
        picture = read_photo_file(data, str(path)).picture
        with Image.open(io.BytesIO(picture), formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise LabelError(path, f"expected at most {MAX_PIXELS} pixels, got {image.size}")
            if size_wh is not None and image.size != size_wh:
                reason = f"expected size {size_wh} as the photo, got {image.size}"
                raise LabelError(path, reason, "wrong size")
            mode = "I;16" if image.mode in _SIXTEEN else image.mode
            if mode not in _DEPTH:
                reason = f"it is a PNG of mode {image.mode}; expected one channel or plain colours"
                raise LabelError(path, reason, "wrong mode")
            return mode, np.asarray(image)
    except LabelError:
        raise
    except Exception as error:  # decoders raise many kinds on damaged files
        raise LabelError(path, f"cannot be decoded ({type(error).__name__}: {error})") from None


def _bytes(path: Path) -> bytes:
    try:
        if plain_file(path).stat().st_size > MAX_FILE_BYTES:
            raise LabelError(path, f"expected at most {MAX_FILE_BYTES} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise LabelError(path, "no such file", "missing labels") from None
    except OSError as error:
        raise LabelError(path, f"cannot be read ({error.strerror})") from None
