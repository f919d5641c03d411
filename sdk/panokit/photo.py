"""Reading photos: any file a phone or a browser makes, to sRGB pixels the right way up."""

from __future__ import annotations

import io
import os
import stat
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from panokit._files import replacing
from panokit._icc import SRGB, ColorSpace, parse_profile
from panokit._photo_file import read_photo_file
from panokit._photo_folder import PHOTO_SUFFIXES, photo_paths
from panokit._photo_picture import (
    MAX_FILE_BYTES,
    MAX_PIXELS,
    Picture,
    Pixels,
    photo_header,
    read_picture,
    to_srgb,
)
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
    "photo_header",
    "photo_paths",
]

SAVED_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
"""What :meth:`Photo.save` writes."""

_KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}


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
    (1..8) that was applied, ``color`` tells the conversion: ``"srgb"`` (none was needed),
    ``"icc:<profile name>"``, or the numbers of the file (``"gamma 1"``, ``"cicp 12/13"``);
    ``had_alpha`` says that it was composited over black;
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

    def __repr__(self) -> str:
        w, h = self.size_wh
        return f"<Photo {self.name + ' ' if self.name else ''}{w}x{h}>"

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

        JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF (with Pillow 11.3) and HEIC (with the ``heic`` extra).
        EXIF orientation is applied, an embedded ICC profile (else what PNG's gAMA, cHRP or cICP
        say) converted to sRGB, alpha composited over black, and any mode (palette, CMYK, 16-bit,
        grey) turned into RGB uint8. Odd metadata do not matter. Raises ``PhotoError`` with the
        reason when that is not possible.
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
    def from_image(cls, image: Image.Image, name: str = "") -> Photo:
        """A photo from a picture of Pillow's of any mode: EXIF orientation, ICC profile and alpha
        count as they do in :meth:`open`."""
        buffer = io.BytesIO()
        kind = "PNG" if image.mode in ("1", "L", "LA", "I;16", "P", "RGB", "RGBA") else "TIFF"
        kept = {"icc_profile": image.info.get("icc_profile"), "exif": image.getexif().tobytes()}
        options = {"compress_level": 0} if kind == "PNG" else {}
        image.save(buffer, kind, **options, **{k: v for k, v in kept.items() if v})
        return replace(cls._decode(buffer.getvalue(), name or "picture"), name=name)

    @classmethod
    def _decode(cls, data: bytes, label: str) -> Photo:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's, of large pictures and odd metadata
                picture = read_picture(read_photo_file(data, label), label)
                rgb, had_alpha, color, native = to_srgb(picture)
                encoding = _encoding(picture, native, color, rgb.shape)
        except PhotoError:
            raise
        except MemoryError:
            raise PhotoError(label, "needs more memory than there is") from None
        except Exception as error:  # decoders raise many kinds on damaged files
            reason = f"is damaged and cannot be decoded ({type(error).__name__}: {error})"
            raise PhotoError(label, reason) from None
        name = Path(label).stem if label != "photo" else ""
        return cls(rgb, picture.orientation, color, had_alpha, picture.icc, name, encoding)


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if path.is_dir() else "a pipe or a device"
            raise PhotoError(path, f"is {what}, expected a photo file")
        size = status.st_size
        if size > MAX_FILE_BYTES:
            raise PhotoError(path, f"has {size} bytes, expected at most {MAX_FILE_BYTES}")
        return path.read_bytes()
    except FileNotFoundError:
        raise PhotoError(path, "no such file") from None
    except OSError as error:
        raise PhotoError(path, f"cannot be read: {error}") from None


def _encoding(
    picture: Picture, native: Pixels | None, color: str, shape: tuple[int, ...]
) -> Encoding:
    # A profile that does not describe the pixels we write (grey, CMYK, tables) must not travel.
    icc, keep = picture.icc, native is not None or color == "srgb"
    keep = keep and bool(icc) and parse_profile(icc or b"") is not None
    tables, sampling = picture.jpeg
    return Encoding(
        native, icc if keep else None, _upright_exif(picture.exif, shape), tables, sampling
    )


def _upright_exif(exif: bytes | None, shape: tuple[int, ...]) -> bytes | None:
    """EXIF for the upright photo, or None if there is none (or it cannot be written again)."""
    from PIL import Image

    if not exif:
        return None
    block = Image.Exif()
    try:
        block.load(exif)
        if not len(block):
            return None
        block[0x0112] = 1
        details = block.get_ifd(0x8769)
        if 0xA002 in details or 0xA003 in details:
            details[0xA002], details[0xA003] = shape[1], shape[0]
        return block.tobytes()
    except Exception:  # EXIF of cameras is often damaged; the pixels matter more
        return None
