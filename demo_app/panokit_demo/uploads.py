"""Looking at a file from outside before it is decoded: is it one photo, and of a bearable size?

Nothing of an upload is ever written to disk under its name, and no upload is sent back as it came:
every picture that leaves the server is drawn anew.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from dataclasses import replace
from importlib.util import find_spec

from panokit._photo_file import kind_of
from panokit._photo_picture import header_of
from panokit._text import has_controls, without_directions
from panokit.errors import MissingExtraError, PhotoError
from panokit.photo import Photo
from panokit_demo.limits import DemoLimits

__all__ = ["check_name", "open_upload", "sniff"]

KNOWN = "a JPEG, PNG, WebP, HEIC or AVIF photo"
_KINDS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF")
MAX_NAME = 255
MOST_JPEG_PARTS, MOST_JPEG_SCANS = 10_000, 200
"""Of more segments or scans (progressive JPEGs have about ten) a JPEG is made to take long."""

_PATH = re.compile(r"[/\\]|^[A-Za-z]:")

_JPEG_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# How a second format in the same file begins. A phone may append a video or another picture to a
# JPEG; none of these has a place behind a photo. Long enough not to occur by chance in a video.
_FOREIGN = re.compile(
    rb"%PDF-\d\.|PK\x03\x04[\x0a\x14\x2d]\x00|<\?php\s|<script[\s>]|<svg[\s>]|<html[\s>]|<!doctype\s|"
    rb"\x7fELF[\x01\x02][\x01\x02]\x01|Rar!\x1a\x07|7z\xbc\xaf\x27\x1c",
    re.IGNORECASE,
)
_DOCUMENT = re.compile(rb"<svg|<html|<script|<!doctype|<\?xml|<\?php|%PDF-", re.IGNORECASE)
_HEAD = 1024
_ZIP_END = b"PK\x05\x06"


def check_name(name: str | None) -> str:
    """A file name from outside, for people to read; it is never used as a path. One that tries to
    be a path is refused."""
    text = unicodedata.normalize("NFC", name or "photo")
    if len(text) > MAX_NAME:
        raise PhotoError("photo", f"has a name of more than {MAX_NAME} characters")
    strange = has_controls(text) or _PATH.search(text) is not None
    text = without_directions(text)
    if strange or text.strip(". ") == "":
        reason = "has a file name with a path or control characters in it; expected a plain name"
        raise PhotoError("photo", reason)
    return text


def sniff(data: bytes) -> str:
    """``"JPEG"``, ``"PNG"``, ``"WEBP"``, ``"HEIF"`` or ``"AVIF"`` by the first bytes; else an error
    that says what the file seems to be."""
    kind = kind_of(data[:_HEAD])
    if kind in _KINDS:
        return kind
    if not data:
        raise PhotoError("photo", "is empty")
    raise PhotoError("photo", f"is {_guess(data)}; expected {KNOWN}")


def open_upload(data: bytes, name: str, limits: DemoLimits) -> Photo:
    """Decode an upload, once its header and its end have been found good."""
    if len(data) > limits.upload_bytes:
        reason = f"has {len(data)} bytes, expected at most {limits.upload_bytes}"
        raise PhotoError(name, reason)
    kind = sniff(data)
    _refuse_second_format(data, kind)
    if kind == "HEIF" and find_spec("pillow_heif") is None:
        raise MissingExtraError("Reading HEIC photos", "heic")
    try:
        _check_size(_header_size(data, kind), name, limits)
        return replace(Photo.open(data), name=name)
    except PhotoError as error:
        raise PhotoError(name, error.reason) from None


def _guess(data: bytes) -> str:
    head = data[:_HEAD]
    if _DOCUMENT.search(head):
        return "an SVG drawing or a page" if b"<svg" in head.lower() else "a document"
    if head.startswith((b"GIF8", b"BM", b"II*\x00", b"MM\x00*")) or data[4:8] == b"ftyp":
        return "a picture or video of another kind"
    if head.startswith((b"PK", b"\x1f\x8b", b"Rar!", b"7z")):
        return "an archive"
    return "no photo"


def _header_size(data: bytes, kind: str) -> tuple[int, int]:
    """Width and height as the header states them; nothing is decoded."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of large pictures: we look ourselves
        try:
            with Image.open(io.BytesIO(data), formats=(kind,)) as image:
                frames = int(getattr(image, "n_frames", 1))
        except Image.DecompressionBombError:
            raise PhotoError("photo", "would be far too large once it is decoded") from None
        except Exception:  # odd metadata, damage: the reader tells which
            frames = 1
        if frames > 1 and kind != "JPEG":
            raise PhotoError("photo", "is an animation, expected one photo")
        return header_of(data)[0]


def _check_size(size_wh: tuple[int, int], name: str, limits: DemoLimits) -> None:
    w, h = size_wh
    if w * h > limits.pixels or max(w, h) > limits.longest_side:
        reason = (
            f"is {w} by {h} pixels; expected at most {limits.pixels / 1e6:g} million pixels, "
            f"{limits.longest_side} along a side"
        )
        raise PhotoError(name, reason)
    if min(w, h) < limits.least_side:
        reason = f"is {w} by {h} pixels; expected at least {limits.least_side} on each side"
        raise PhotoError(name, reason)


def _refuse_second_format(data: bytes, kind: str) -> None:
    """Refuse a photo that is a page, a document or an archive as well."""
    found = _FOREIGN.search(data[:_HEAD]) or _FOREIGN.search(data, _end_of(data, kind))
    if found or _ends_as_zip(data):
        reason = "holds a second format beside the photo (a page, a document or an archive)"
        raise PhotoError("photo", f"{reason}; expected {KNOWN} and nothing else")


def _ends_as_zip(data: bytes) -> bool:
    """Whether a zip reader would find its directory: a record whose comment ends the file."""
    at = data.rfind(_ZIP_END, max(0, len(data) - 65557))
    if at < 0 or at + 22 > len(data):
        return False
    return at + 22 + int.from_bytes(data[at + 20 : at + 22], "little") == len(data)


def _end_of(data: bytes, kind: str) -> int:
    """Where the photo ends in the file (its length if that cannot be told)."""
    if kind == "PNG":
        at = data.rfind(b"IEND")
        return at + 8 if at >= 0 else len(data)
    if kind == "WEBP":
        return min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    if kind in ("HEIF", "AVIF"):
        return len(data)
    at, parts, scans = 2, 0, 0
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        parts, scans = parts + 1, scans + (marker == 0xDA)
        if parts > MOST_JPEG_PARTS or scans > MOST_JPEG_SCANS:
            reason = "is a JPEG in more pieces than any camera writes; save it anew and send that"
            raise PhotoError("photo", reason)
        if marker == 0xD9:
            return at + 2
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:  # behind the scan's header its data lie, up to the next marker
            found = _JPEG_END.search(data, at)
            if found is None:
                break
            at = found.start()
    return len(data)
