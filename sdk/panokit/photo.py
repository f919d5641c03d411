"""Reading photos: any file a phone or a browser makes, to sRGB pixels the right way up."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError, PhotoError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_FILE_BYTES", "MAX_PIXELS", "PHOTO_SUFFIXES", "Photo", "photo_paths"]

MAX_PIXELS = 120_000_000
"""Photos of more pixels are refused."""

MAX_FILE_BYTES = 200_000_000
"""Files of more bytes are refused."""

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
"""What files in a folder are taken for photos."""

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
_SRGB_NAMES = ("srgb", "iec61966-2.1", "iec61966-2-1")


@dataclass(frozen=True)
class Photo:
    """A photo, upright, in sRGB.

    ``rgb_hwc`` uint8 ``[H,W,3]``, RGB, sRGB transfer; ``orientation`` is the EXIF orientation
    (1..8) that was applied, ``color`` tells the conversion: ``"srgb"`` (none was needed) or
    ``"icc:<profile name>"``; ``had_alpha`` says that it was composited over black;
    ``icc_profile`` is the embedded profile of the file, or None.
    """

    rgb_hwc: NDArray[np.uint8]
    orientation: int = 1
    color: str = "srgb"
    had_alpha: bool = False
    icc_profile: bytes | None = None
    name: str = ""

    def __post_init__(self) -> None:
        array = self.rgb_hwc
        good = isinstance(array, np.ndarray) and array.ndim == 3 and array.dtype == np.uint8
        if not good or array.shape[2] != 3 or 0 in array.shape:
            got = f"{getattr(array, 'dtype', type(array))} {getattr(array, 'shape', '')}"
            raise ArgumentError("rgb_hwc", "a uint8 array [H,W,3] with at least one pixel", got)

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.rgb_hwc.shape[1], self.rgb_hwc.shape[0]

    @classmethod
    def open(cls, source: str | os.PathLike[str] | bytes) -> Photo:
        """Read a photo from a path or from bytes.

        EXIF orientation is applied, an embedded ICC profile converted to sRGB, alpha composited
        over black, and any mode (palette, CMYK, 16-bit, grey) turned into RGB uint8. Raises
        ``PhotoError`` with the reason when that is not possible.
        """
        label = "photo" if isinstance(source, bytes) else str(source)
        data = source if isinstance(source, bytes) else _read(Path(source))
        if not data:
            raise PhotoError(label, "is empty")
        return cls._decode(data, label)

    @classmethod
    def from_array(cls, rgb_hwc: NDArray[np.uint8], name: str = "") -> Photo:
        """A photo from sRGB pixels, uint8 ``[H,W,3]``, already upright."""
        return cls(np.ascontiguousarray(rgb_hwc), name=name)

    @classmethod
    def _decode(cls, data: bytes, label: str) -> Photo:
        from PIL import Image, ImageOps, UnidentifiedImageError

        known = ", ".join(_FORMATS)
        try:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                pixels = image.width * image.height
                if pixels > MAX_PIXELS:
                    raise PhotoError(label, f"has {pixels} pixels, expected at most {MAX_PIXELS}")
                orientation = int(image.getexif().get(0x0112, 1))
                icc = image.info.get("icc_profile") or None
                image.load()
                upright = ImageOps.exif_transpose(image)
                rgb, had_alpha, color = _to_srgb(upright, icc)
        except UnidentifiedImageError:
            reason = f"is not a photo in a known format; expected one of {known}"
            raise PhotoError(label, reason) from None
        except Image.DecompressionBombError as error:
            raise PhotoError(label, f"is too large: {error}") from None
        except PhotoError:
            raise
        except Exception as error:  # Pillow's decoders raise many kinds on damaged files
            reason = f"is damaged and cannot be decoded ({type(error).__name__}: {error})"
            raise PhotoError(label, reason) from None
        orientation = orientation if 1 <= orientation <= 8 else 1
        name = Path(label).stem if label != "photo" else ""
        return cls(np.ascontiguousarray(rgb), orientation, color, had_alpha, icc, name)


def photo_paths(paths: Iterable[Path]) -> dict[str, Path]:
    """Photo files by a name of their own, from files and folders.

    A folder gives the photos that lie in it, by file name; a file counts whatever its suffix. The
    name is the file's stem, numbered where two share one.
    """
    found: dict[str, Path] = {}
    for path in paths:
        files = [path]
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)
            if not files:
                raise PhotoError(path, f"holds no photo ({', '.join(PHOTO_SUFFIXES)})")
        for file in files:
            name, number = file.stem, 2
            while name in found:
                name, number = f"{file.stem}-{number}", number + 1
            found[name] = file
    return found


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise PhotoError(path, "is a folder, expected a photo file")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise PhotoError(path, f"has {size} bytes, expected at most {MAX_FILE_BYTES}")
        return path.read_bytes()
    except FileNotFoundError:
        raise PhotoError(path, "no such file") from None
    except OSError as error:
        raise PhotoError(path, f"cannot be read: {error}") from None


def _to_srgb(image: Image.Image, icc: bytes | None) -> tuple[NDArray[np.uint8], bool, str]:
    """Any Pillow image → (RGB uint8, had alpha, colour conversion)."""
    from PIL import Image

    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        image = _grey_to_8_bit(image)
    if image.mode == "P" or "transparency" in image.info:
        has_alpha = "transparency" in image.info
        image = image.convert("RGBA" if has_alpha else "RGB")
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") else None
    if image.mode in ("LA", "PA", "La", "RGBa", "RGBA"):
        image = image.convert("RGBA").convert("RGB")
    color = "srgb"
    converted = _apply_profile(image, icc) if icc else None
    if converted is not None:
        image, color = converted
    rgb = image.convert("RGB")
    if alpha is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size), alpha.convert("L"))
    return np.asarray(rgb), alpha is not None, color


def _grey_to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit and float grey to 8 bit: the full range of the format, rounded."""
    from PIL import Image

    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        values = values * 255.0 if values.size and np.nanmax(values) <= 1.0 else values
    else:
        values = values * (255.0 / 65535.0)
    values = np.nan_to_num(values)
    return Image.fromarray(np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8))


def _apply_profile(image: Image.Image, icc: bytes) -> tuple[Image.Image, str] | None:
    """Convert from an ICC profile to sRGB; None if it is sRGB already or cannot be used."""
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        name = ImageCms.getProfileDescription(profile).strip()
        if any(s in name.lower() for s in _SRGB_NAMES):
            return None
        if image.mode not in ("RGB", "CMYK", "L"):
            image = image.convert("RGB")
        converted = ImageCms.profileToProfile(
            image,
            profile,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError):
        return None  # an unusable profile: keep the numbers, as browsers do
    return (converted, f"icc:{name}") if converted is not None else None
