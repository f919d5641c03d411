"""A photo's picture decoded, turned upright and converted to sRGB."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from panokit._exif import exif_orientation, upright
from panokit._icc import SRGB, ColorSpace, parse_profile
from panokit._install import install_advice
from panokit._photo_file import PhotoFile, jpeg_header, read_photo_file, without_exif
from panokit._signals import Signal
from panokit.errors import PhotoError

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "Picture",
    "Pixels",
    "header_of",
    "optional_readers",
    "photo_header",
    "read_picture",
    "to_srgb",
]

MAX_PIXELS = 120_000_000
"""Photos of more pixels are refused."""

MAX_FILE_BYTES = 200_000_000
"""Files of more bytes are refused."""

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""Pixels as a file holds them: 8 or 16 bits, ``[H,W,3]``."""

_SRGB_NAMES = ("srgb", "iec61966-2.1", "iec61966-2-1")
_GREY_16 = ("I;16", "I;16B", "I;16L", "I;16N")
_WITH_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
_HEAD = 1 << 17  # bytes: EXIF has at most 64 KiB
_BAND = 1 << 20  # pixels converted at once


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture as stored: ``image`` of any mode; ``low`` its low bytes where it has 16
    bits a channel; what it takes to turn it (``orientation`` 1..8) and to read its colours
    (``icc``, else ``signal``, else sRGB). ``exif`` is for Pillow's reader; ``jpeg`` are the tables
    and the sampling of a colour JPEG."""

    image: Image.Image
    low: Image.Image | None
    orientation: int
    icc: bytes | None
    signal: Signal | None
    exif: bytes | None = None
    jpeg: tuple[tuple[tuple[int, ...], ...], int] = ((), -1)


def read_picture(file: PhotoFile, label: str) -> Picture:
    """Decode a file. ``PhotoError`` for more than :data:`MAX_PIXELS` pixels, for a decoder that is
    not installed, and for a picture whose end is missing."""
    return _read_heif(file, label) if file.kind == "HEIF" else _read_pillow(file, label)


def _read_pillow(file: PhotoFile, label: str) -> Picture:
    image, orientation, icc, exif = _opened(file, label), file.orientation, file.icc, file.exif
    with image:
        _check_size(image.size, label)
        if file.kind == "AVIF":  # Pillow hands the container's own turn on as EXIF
            exif = image.info.get("exif")
            orientation = exif_orientation(exif) or 1
        if file.kind in ("AVIF", "GIF", "BMP"):
            icc = image.info.get("icc_profile") or None
        low = _low_bytes(image, file, label)
        image.load()
        if not file.ends and file.kind == "JPEG":
            _check_whole(image, file, label)
        return Picture(image, low, orientation, icc, file.signal, exif, _jpeg_tables(image))


def optional_readers() -> tuple[str, ...]:
    """Names of the formats that are read here and not everywhere."""
    from PIL import features

    there = {"AVIF": features.check("avif"), "HEIC": find_spec("pillow_heif") is not None}
    return tuple(name for name, is_there in there.items() if is_there)


def photo_header(path: str | os.PathLike[str]) -> tuple[tuple[int, int], int] | None:
    """Width and height as stored, and the orientation 1..8; nothing is decoded, and of a JPEG only
    the beginning read. None if the file cannot be read or tells neither."""
    if not os.path.isfile(path):  # a pipe would wait for ever
        return None
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            found = jpeg_header(head) if head.startswith(b"\xff\xd8") else None
            if found is not None:
                return found
            if os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
                return None
            head += file.read()
        return header_of(head, os.fspath(path))
    except Exception:  # whoever decodes it says what is wrong
        return None


def header_of(data: bytes, label: str = "photo") -> tuple[tuple[int, int], int]:
    """As :func:`photo_header`, of a whole file; ``PhotoError`` says what is wrong with it."""
    parts = read_photo_file(data, label)
    try:
        if parts.kind == "HEIF":
            return _opened_heif(parts, label).size, 1
        with _opened(parts, label) as image:
            if parts.kind == "AVIF":
                return image.size, exif_orientation(image.info.get("exif")) or 1
            return image.size, parts.orientation
    except PhotoError:
        raise
    except Exception as error:  # decoders raise many kinds on damaged files
        reason = f"is damaged and cannot be read ({type(error).__name__}: {error})"
        raise PhotoError(label, reason) from None


def _opened(file: PhotoFile, label: str) -> Image.Image:
    """The picture, not decoded yet."""
    from PIL import Image, UnidentifiedImageError, features

    if file.kind == "AVIF" and not features.check("avif"):
        do = "Install it with: pip install --upgrade 'pillow>=11.3'"
        raise PhotoError(label, f"is an AVIF photo, which needs a Pillow that reads AVIF. {do}")
    try:
        try:
            image = Image.open(io.BytesIO(file.picture), formats=(file.kind,))
        except UnidentifiedImageError:
            raise
        except Image.DecompressionBombError:
            raise
        except Exception:  # of its EXIF, perhaps, which Pillow reads here
            if file.kind != "AVIF":
                raise
            image = Image.open(io.BytesIO(without_exif(file).picture), formats=(file.kind,))
    except UnidentifiedImageError:
        reason = (
            f"begins as {file.kind} but is damaged, or of a kind of {file.kind} that is not read"
        )
        raise PhotoError(label, reason) from None
    except Image.DecompressionBombError as error:
        raise PhotoError(label, f"is too large: {error}") from None
    return image


def _check_size(size_wh: tuple[int, int], label: str) -> None:
    pixels = size_wh[0] * size_wh[1]
    if pixels > MAX_PIXELS:
        raise PhotoError(label, f"has {pixels} pixels, expected at most {MAX_PIXELS}")


def _check_whole(image: Image.Image, file: PhotoFile, label: str) -> None:
    """Whether a JPEG without its end mark lacks only that: where the picture's data are whole, what
    lies behind them makes no difference."""
    for filler in (b"\x55\xaa\x33" * 700, b"\xaa\x55\xcc" * 700):
        other = replace(file, picture=file.picture[:-2] + filler + b"\xff\xd9")
        again = _opened(other, label)
        again.load()
        if again.tobytes() != image.tobytes():
            raise PhotoError(label, "ends in the middle of the picture; copy the file again")


def _read_heif(file: PhotoFile, label: str) -> Picture:
    """HEIC, which libheif turns upright itself."""
    from PIL import Image

    heif = _opened_heif(file, label)
    _check_size(heif.size, label)
    image = Image.frombytes(heif.mode, heif.size, heif.data, "raw", heif.mode, heif.stride)
    _check_size(image.size, label)
    icc, exif = (heif.info.get(name) or None for name in ("icc_profile", "exif"))
    return Picture(image, None, 1, icc, file.signal, exif)


def _opened_heif(file: PhotoFile, label: str) -> Any:
    """The picture of a HEIC file, not decoded yet."""
    try:
        import pillow_heif
    except ImportError:
        advice = install_advice("heic")
        reason = f"is a HEIC photo, which needs the 'heic' extra. {advice}"
        raise PhotoError(label, reason) from None
    return pillow_heif.open_heif(io.BytesIO(file.picture))


def _jpeg_tables(image: Image.Image) -> tuple[tuple[tuple[int, ...], ...], int]:
    """Quantization tables and chroma sampling of a colour JPEG; none of other pictures."""
    from PIL import JpegImagePlugin

    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode != "RGB":
        return (), -1
    tables = tuple(tuple(t) for t in image.quantization.values())
    sampling = JpegImagePlugin.get_sampling(image)
    return (tables, sampling) if len(tables) >= 2 and sampling >= 0 else ((), -1)


# A tile's raw mode that keeps the high byte of 16-bit colour → one that keeps the low byte. Pillow
# has no mode of 16-bit colour; read once each way, the two give all the bits.
_OTHER_BYTE = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B" if sys.byteorder == "little" else "RGB;16L",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
    "RGBA;16N": "RGBA;16B" if sys.byteorder == "little" else "RGBA;16L",
}


def _low_bytes(image: Image.Image, file: PhotoFile, label: str) -> Image.Image | None:
    """The low bytes of a photo with 16 bits a channel; else None."""

    def other(args: Any) -> Any:
        if isinstance(args, str):
            return _OTHER_BYTE.get(args)
        return (_OTHER_BYTE.get(args[0]), *args[1:]) if isinstance(args, tuple) and args else None

    tiles = getattr(image, "tile", [])
    swapped = [other(t[3]) for t in tiles]
    if not tiles or any(s is None or s[0] is None for s in swapped):
        return None
    with _opened(file, label) as again:
        again.tile = [t._replace(args=s) for t, s in zip(again.tile, swapped, strict=True)]  # type: ignore[attr-defined]
        again.load()
        return again


# ------------------------------------------------------------------------------------- colours


def to_srgb(picture: Picture) -> tuple[NDArray[np.uint8], bool, str, Pixels | None]:
    """Upright sRGB, uint8 ``[H,W,3]``; whether alpha was composited over black; which conversion
    there was; and the file's own upright pixels where they say more than sRGB bytes do."""
    from PIL import Image

    image, alpha = _without_palette(picture.image)
    rgb, color, native = _colors(picture, image)
    if alpha is not None:
        black = Image.new("RGB", alpha.size)
        rgb = np.asarray(Image.composite(Image.fromarray(rgb), black, alpha))
        native = None
    turned = np.ascontiguousarray(upright(rgb, picture.orientation))
    own = None if native is None else _turned(native, picture.orientation)
    return turned, alpha is not None, color, own


def _colors(picture: Picture, image: Image.Image) -> tuple[NDArray[np.uint8], str, Pixels | None]:
    """``image``, the picture without palette and alpha, in sRGB as stored; the conversion; and the
    pixels that say more."""
    deep, space = _deep(picture.image, picture.low), _space(picture)
    if picture.signal is not None and picture.icc is None:
        codes = np.asarray(image.convert("RGB")) if deep is None else deep
        native = None if deep is None else _converted(deep, picture.signal.space, np.uint16)
        return _converted(codes, picture.signal.space, np.uint8), picture.signal.name, native
    if space is not None and deep is not None:  # LittleCMS would see the high bytes only
        return _converted(deep, space, np.uint8), f"icc:{_profile_name(picture.icc)}", deep
    converted = _apply_profile(image, picture.icc) if picture.icc else None
    if converted is None:
        return np.asarray(image.convert("RGB")), "srgb", deep
    known = image.mode == "RGB" and parse_profile(picture.icc or b"") is not None
    return np.asarray(converted[0]), converted[1], np.asarray(image) if known else None


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    if pixels.dtype == np.uint16:
        return np.ascontiguousarray(upright(pixels.astype(np.uint16, copy=False), orientation))
    return np.ascontiguousarray(upright(pixels.astype(np.uint8, copy=False), orientation))


def _without_palette(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """An image of grey, RGB, CMYK or the like, 8 bits a channel, and its alpha if it has any."""
    if image.mode in (*_GREY_16, "I", "F"):
        image = _grey_to_8_bit(image)
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode == "LAB":
        image = _from_lab(image)
    if image.mode not in _WITH_ALPHA:
        return image, None
    alpha = image.convert("RGBA").getchannel("A")
    return image.convert("RGBA").convert("RGB"), alpha


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


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    return image.convert("RGB") if converted is None else converted


def _deep(image: Image.Image, low: Image.Image | None) -> NDArray[np.uint16] | None:
    """All bits of a photo with 16 bits a channel, uint16 ``[H,W,3]``."""
    if image.mode in _GREY_16:
        grey = np.asarray(image).astype(np.uint16)
        return np.repeat(grey[..., None], 3, axis=-1)
    if low is None or image.mode not in ("RGB", "RGBA"):
        return None
    high, rest = (np.asarray(i)[..., :3].astype(np.uint16) for i in (image, low))
    return np.asarray((high << 8) | rest, np.uint16)


def _space(picture: Picture) -> ColorSpace | None:
    """The space of the profile where it is one of curve and primaries, and not sRGB."""
    known = None if picture.icc is None else parse_profile(picture.icc)
    return None if known is None or _is_srgb(_profile_name(picture.icc)) else known


def _converted(codes: Pixels, space: ColorSpace, dtype: Any) -> Any:
    """Codes of a space to sRGB of ``dtype``, band by band."""
    h, w, _ = codes.shape
    out = np.empty((h, w, 3), dtype)
    rows = max(1, _BAND // max(1, w))
    matrix = space.to_srgb.T.astype(np.float32)
    for top in range(0, h, rows):
        light = space.to_linear(codes[top : top + rows]) @ matrix
        out[top : top + rows] = SRGB.to_codes(light, np.dtype(dtype))
    return out


def _is_srgb(name: str) -> bool:
    return any(s in name.lower() for s in _SRGB_NAMES)


def _profile_name(icc: bytes | None) -> str:
    """The name in a profile; empty if that cannot be read."""
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc or b""))
        return ImageCms.getProfileDescription(profile).strip()
    except Exception:  # LittleCMS's errors come as several kinds
        return ""


def _apply_profile(image: Image.Image, icc: bytes) -> tuple[Image.Image, str] | None:
    """Convert from an ICC profile to sRGB; None if it is sRGB already or cannot be used."""
    from PIL import ImageCms

    name = _profile_name(icc)
    if _is_srgb(name):
        return None
    mode = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}.get(icc[16:20], "")
    if mode == "RGB" and image.mode != "RGB":
        image = image.convert("RGB")  # grey with a profile of three colours, for one
    if image.mode != mode:
        return None
    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(icc)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
        )
    except Exception:
        return None  # an unusable profile: keep the numbers, as browsers do
    return (converted, f"icc:{name}") if converted is not None else None
