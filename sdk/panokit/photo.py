"""Reading photos: any file a phone or a browser makes, to sRGB pixels the right way up."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from panokit._files import replacing
from panokit._icc import SRGB, ColorSpace, parse_profile
from panokit._places import plain_file
from panokit._png16 import write_png16
from panokit.errors import ArgumentError, PhotoError

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "PHOTO_SUFFIXES",
    "SAVED_SUFFIXES",
    "Encoding",
    "Photo",
    "Pixels",
    "photo_paths",
]

MAX_PIXELS = 120_000_000
"""Photos of more pixels are refused."""

MAX_FILE_BYTES = 200_000_000
"""Files of more bytes are refused."""

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
"""What files in a folder are taken for photos."""

SAVED_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
"""What :meth:`Photo.save` writes."""

_KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
_SRGB_NAMES = ("srgb", "iec61966-2.1", "iec61966-2-1")


Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""Pixels as a file holds them: 8 or 16 bits, ``[H,W,3]``."""


@dataclass(frozen=True, eq=False)
class Encoding:
    """How a photo's file held it, so that an edited photo can leave in the same way.

    ``pixels_hwc`` uint8 or uint16 ``[H,W,3]``, upright, in the space of ``icc_profile``; None if
    they are the sRGB bytes of the photo. ``icc_profile`` is None for sRGB without a profile.
    ``exif`` has its orientation set to 1 and holds no thumbnail (which would show the photo
    before the edit). ``jpeg_tables`` and ``jpeg_sampling`` are those of a colour JPEG.
    """

    pixels_hwc: Pixels | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None
    jpeg_tables: tuple[tuple[int, ...], ...] = ()
    jpeg_sampling: int = -1


@dataclass(frozen=True)
class Photo:
    """A photo, upright, in sRGB.

    ``rgb_hwc`` uint8 ``[H,W,3]``, RGB, sRGB transfer; ``orientation`` is the EXIF orientation
    (1..8) that was applied, ``color`` tells the conversion: ``"srgb"`` (none was needed) or
    ``"icc:<profile name>"``; ``had_alpha`` says that it was composited over black;
    ``icc_profile`` is the embedded profile of the file, or None; ``encoding`` holds what the file
    had beyond that (16 bits, a wider gamut, EXIF, JPEG quality).
    """

    rgb_hwc: NDArray[np.uint8]
    orientation: int = 1
    color: str = "srgb"
    had_alpha: bool = False
    icc_profile: bytes | None = None
    name: str = ""
    encoding: Encoding = field(default_factory=Encoding, repr=False)

    def __post_init__(self) -> None:
        array = self.rgb_hwc
        good = isinstance(array, np.ndarray) and array.ndim == 3 and array.dtype == np.uint8
        if not good or array.shape[2] != 3 or 0 in array.shape:
            got = f"{getattr(array, 'dtype', type(array))} {getattr(array, 'shape', '')}"
            raise ArgumentError(
                "rgb_hwc",
                f"rgb_hwc is {got}; expected a uint8 array [H,W,3] with at least one pixel",
            )

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.rgb_hwc.shape[1], self.rgb_hwc.shape[0]

    @property
    def pixels_hwc(self) -> Pixels:
        """The file's own pixels, upright: uint8 or uint16 ``[H,W,3]`` in :attr:`space`. For sRGB
        photos of 8 bits this is ``rgb_hwc``."""
        own = self.encoding.pixels_hwc
        return self.rgb_hwc if own is None else own

    @property
    def space(self) -> ColorSpace:
        """The colour space of :attr:`pixels_hwc`."""
        if self.encoding.pixels_hwc is None or self.encoding.icc_profile is None:
            return SRGB
        return parse_profile(self.encoding.icc_profile) or SRGB

    def with_pixels(self, pixels_hwc: Pixels) -> Photo:
        """The same photo with other pixels, of the dtype and space of :attr:`pixels_hwc`. Where
        they did not change, ``rgb_hwc`` does not either."""
        if self.encoding.pixels_hwc is None:
            return replace(self, rgb_hwc=np.asarray(pixels_hwc, np.uint8))
        changed = (pixels_hwc != self.pixels_hwc).any(axis=-1)
        light = self.space.to_linear(pixels_hwc[changed]) @ self.space.to_srgb.T.astype(np.float32)
        rgb = self.rgb_hwc.copy()
        rgb[changed] = SRGB.to_codes(light, np.dtype(np.uint8))
        return replace(self, rgb_hwc=rgb, encoding=replace(self.encoding, pixels_hwc=pixels_hwc))

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        quality: int | None = None,
        alpha_hw: NDArray[np.float32] | None = None,
    ) -> Path:
        """Write the photo upright, with its ICC profile and EXIF; 16-bit photos stay so in PNG.

        ``path`` ends in .jpg, .jpeg, .png or .webp. ``quality`` 1..100 of JPEG and WebP; without
        it a photo from a JPEG keeps that file's quantization tables, others get 95. ``alpha_hw``
        float32 ``[H,W]`` 0..1 makes it transparent (PNG and WebP only).
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in SAVED_SUFFIXES:
            expected = f"a name ending in {', '.join(SAVED_SUFFIXES)}"
            raise ArgumentError("path", f"path is {str(path)!r}; expected {expected}")
        if quality is not None and not 1 <= quality <= 100:
            raise ArgumentError(
                "quality", f"quality is {quality!r}; expected a number from 1 to 100"
            )
        if alpha_hw is not None and suffix in (".jpg", ".jpeg"):
            raise ArgumentError(
                "path",
                f"path is {str(path)!r}; expected a .png or .webp name for a transparent picture",
            )
        pixels = self.pixels_hwc
        if alpha_hw is not None:
            top = np.iinfo(pixels.dtype).max
            alpha = (alpha_hw * np.float32(top) + np.float32(0.5)).astype(pixels.dtype)
            pixels = np.dstack([pixels, alpha])
        with replacing(path) as partial:
            if pixels.dtype == np.uint16 and suffix == ".png":
                encoding = self.encoding
                write_png16(partial, pixels, encoding.icc_profile, encoding.exif)  # type: ignore[arg-type]
            else:
                self._save_8_bit(partial, suffix, pixels, quality)
        return path

    def _save_8_bit(self, path: Path, suffix: str, pixels: Pixels, quality: int | None) -> None:
        from PIL import Image

        if pixels.dtype == np.uint16:
            pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
        encoding = self.encoding
        options: dict[str, Any] = {"icc_profile": encoding.icc_profile}
        if encoding.exif:
            options["exif"] = encoding.exif
        if suffix in (".jpg", ".jpeg") and quality is None and encoding.jpeg_tables:
            options["qtables"] = [list(t) for t in encoding.jpeg_tables]
            options["subsampling"] = encoding.jpeg_sampling
        elif suffix == ".png":
            options["compress_level"] = 4
        else:
            options["quality"] = 95 if quality is None else quality
        buffer = io.BytesIO()  # for Pillow takes no notice of a disk that fills up at the end
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, _KINDS[suffix], **options)
        path.write_bytes(buffer.getvalue())

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
                low = _low_bytes(data, image)  # first: reading EXIF may load the pixels
                orientation = int(image.getexif().get(0x0112, 1))
                icc = image.info.get("icc_profile") or None
                image.load()
                upright = ImageOps.exif_transpose(image)
                rgb, had_alpha, color = _to_srgb(upright, icc)
                native = None if had_alpha else _native(upright, low, color, icc)
                encoding = _encoding(image, native, color, icc, rgb.shape)
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
        rgb = np.ascontiguousarray(rgb)
        return cls(rgb, orientation, color, had_alpha, icc, name, encoding)


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
        size = plain_file(path).stat().st_size
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


# A tile's raw mode that keeps the high byte of 16-bit colour → one that keeps the low byte. Pillow
# has no mode of 16-bit colour; read once each way, the two give all the bits.
_OTHER_BYTE = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B" if sys.byteorder == "little" else "RGB;16L",
}


def _low_bytes(data: bytes, image: Image.Image) -> Image.Image | None:
    """The low bytes of a photo with 16 bits a channel, upright, as an RGB image; else None."""
    from PIL import Image, ImageOps

    def other(args: Any) -> Any:
        if isinstance(args, str):
            return _OTHER_BYTE.get(args)
        return (_OTHER_BYTE.get(args[0]), *args[1:]) if isinstance(args, tuple) and args else None

    tiles = getattr(image, "tile", [])
    swapped = [other(t[3]) for t in tiles]
    if not tiles or any(s is None or s[0] is None for s in swapped):
        return None
    with Image.open(io.BytesIO(data), formats=_FORMATS) as again:
        again.tile = [t._replace(args=s) for t, s in zip(again.tile, swapped, strict=True)]
        again.load()
        return ImageOps.exif_transpose(again)


def _native(
    image: Image.Image, low: Image.Image | None, color: str, icc: bytes | None
) -> Pixels | None:
    """The file's own upright pixels, where they say more than sRGB bytes do."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N"):
        grey = np.asarray(image).astype(np.uint16)
        return np.repeat(grey[..., None], 3, axis=-1) if color == "srgb" else None
    if image.mode != "RGB" or (color != "srgb" and (not icc or parse_profile(icc) is None)):
        return None
    if low is not None:
        both = (np.asarray(image).astype(np.uint16) << 8) | np.asarray(low)
        return np.asarray(both, np.uint16)
    return np.asarray(image) if color != "srgb" else None


def _encoding(
    image: Image.Image,
    native: Pixels | None,
    color: str,
    icc: bytes | None,
    shape: tuple[int, ...],
) -> Encoding:
    from PIL import JpegImagePlugin

    # A profile that does not describe the pixels we write (grey, CMYK, tables) must not travel.
    keep = native is not None or color == "srgb"
    keep = keep and bool(icc) and parse_profile(icc or b"") is not None
    tables: tuple[tuple[int, ...], ...] = ()
    sampling = -1
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.mode == "RGB":
        tables = tuple(tuple(t) for t in image.quantization.values())
        sampling = JpegImagePlugin.get_sampling(image)
        sampling = sampling if len(tables) >= 2 else -1
        tables = tables if sampling >= 0 else ()
    return Encoding(native, icc if keep else None, _upright_exif(image, shape), tables, sampling)


def _upright_exif(image: Image.Image, shape: tuple[int, ...]) -> bytes | None:
    """EXIF for the upright photo, or None if there is none (or it cannot be written again)."""
    exif = image.getexif()
    if not len(exif):
        return None
    try:
        exif[0x0112] = 1
        details = exif.get_ifd(0x8769)
        if 0xA002 in details or 0xA003 in details:
            details[0xA002], details[0xA003] = shape[1], shape[0]
        return exif.tobytes()
    except Exception:  # EXIF of cameras is often damaged; the pixels matter more
        return None
