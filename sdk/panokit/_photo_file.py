"""A photo's file taken apart before it is decoded: the picture, and what belongs to it.

Decoders refuse sound photos for odd metadata, and take a raw file's small preview for the photo.
So the picture is handed to them without any metadata, and what is needed of those (orientation,
profile, gamma, EXIF to keep) is read here, with doubt: what cannot be read is not there.
(JPEG: T.81 annex B; PNG: https://www.w3.org/TR/png-3/; WebP: RFC 9649; HEIC, AVIF: ISO 14496-12.)
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePath

from panokit._exif import (
    PHOTOMETRIC,
    SUBFILE_TYPE,
    Directory,
    Tiff,
    exif_orientation,
    xmp_orientation,
)
from panokit._signals import Signal, signal_of_codes, signal_of_gamma
from panokit.errors import PhotoError

__all__ = [
    "RAW_SUFFIXES",
    "PhotoFile",
    "jpeg_header",
    "kind_of",
    "looks_like_a_photo",
    "read_photo_file",
    "without_exif",
]

RAW_SUFFIXES = (
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2",
    ".rwl", ".pef", ".srw", ".x3f", ".3fr", ".fff", ".iiq", ".mrw", ".mef", ".mos", ".dcr", ".kdc",
    ".erf", ".gpr", ".raw",
)  # fmt: skip
"""Endings of cameras' raw files."""

MAX_CHUNKS = 200_000  # parts of a file; photos of 120 million pixels have some ten thousand
MAX_PACKED = 16 * 2**20  # of a profile or a text, once it is unpacked

_PNG = b"\x89PNG\r\n\x1a\n"
_HEIF_BRANDS = (
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1",
)  # fmt: skip
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_USED = (*_CRITICAL, b"tRNS")
_JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"  # all that counts is that it is there
_XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
# What a picture of a TIFF file needs of its directory: sizes, how it is stored, colours.
_PICTURE_TAGS = frozenset(
    {254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 318, 319, 320, 321,
     322, 323, 324, 325, 332, 334, 338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520,
     521, 529, 530, 531, 532}
)  # fmt: skip
_CAMERA_TAGS = frozenset({270, 271, 272, 305, 306, 315, 33432, 34665, 34853})
_ICC_TAG, _XMP_TAG, _DNG_VERSION = 34675, 700, 50706
_MOSAIC = (32803, 34892)  # a colour filter array; linear raw


@dataclass(frozen=True)
class PhotoFile:
    """A file in parts.

    ``kind`` is Pillow's name of the format, or ``"HEIF"``; ``picture`` the file without metadata.
    ``exif`` is a block for Pillow's EXIF reader. ``orientation`` 1..8 is what EXIF or XMP state.
    ``signal`` is how codes are to be read where numbers say so (the profile goes before it).
    ``ends`` says whether the end of the picture is there; where its mark alone is missing,
    ``picture`` has been given one.
    """

    kind: str
    picture: bytes
    exif: bytes | None = None
    orientation: int = 1
    icc: bytes | None = None
    signal: Signal | None = None
    ends: bool = True


def read_photo_file(data: bytes, label: str) -> PhotoFile:
    """Take a photo's file apart; ``PhotoError`` names a file of another kind."""
    raw = _raw_kind(data, PurePath(label).suffix.lower())
    if raw is not None:
        reason = (
            f"is a raw file ({raw}): the sensor's data and at most a preview, which is not the "
        )
        raise PhotoError(label, f"{reason}photo; develop it and give the JPEG, HEIC, PNG or TIFF")
    kind = kind_of(data[:4096])
    readers = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "TIFF": _tiff}
    if kind in readers:
        return readers[kind](data, label)
    if kind in ("HEIF", "AVIF"):
        return PhotoFile(kind, data, signal=_nclx(data))
    if kind:
        return PhotoFile(kind, data)
    what = _guess(data)
    known = "expected one of JPEG, PNG, WEBP, TIFF, BMP, GIF, HEIC, AVIF"
    raise PhotoError(label, f"is not a photo in a known format{what}; {known}")


def looks_like_a_photo(head: bytes) -> bool:
    """Whether a file that begins with these bytes (at least 64 of them) is a photo, whatever its
    name."""
    return bool(kind_of(head)) and not head.startswith(b"BM")


def kind_of(head: bytes) -> str:
    """The format of a file that begins with these bytes: Pillow's name, ``"HEIF"``, or ``""``."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(_PNG):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"BM"):
        return "BMP"
    if head[4:8] == b"ftyp":
        brands = _brands(head)
        if brands & {b"avif", b"avis"} and not brands & set(_HEIF_BRANDS[:8]):
            return "AVIF"
        return "HEIF" if brands & set(_HEIF_BRANDS) else ""
    return ""


def _brands(head: bytes) -> set[bytes]:
    size = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))}


def _raw_kind(data: bytes, suffix: str) -> str | None:
    """The kind of raw file that this is; None if it is none."""
    head = data[:32]
    for name, mark in (
        ("ORF", b"IIRO"), ("ORF", b"IIRS"), ("ORF", b"MMOR"), ("RW2", b"IIU\0"), ("MRW", b"\0MRM"),
        ("RAF", b"FUJIFILMCCD-RAW"), ("X3F", b"FOVb"),
    ):  # fmt: skip
        if head.startswith(mark):
            return name
    if head[6:14] == b"HEAPCCDR":
        return "CRW"
    if head[4:12] == b"ftypcrx ":
        return "CR3"
    if head[:4] not in (b"II*\0", b"MM\0*"):
        return None
    if head[8:10] == b"CR":
        return "CR2"
    tiff = Tiff(data)
    directories = tiff.directories
    if directories and _DNG_VERSION in directories[0].entries:
        return "DNG"
    if any(n in _MOSAIC for d in directories for n in tiff.numbers(d, PHOTOMETRIC)):
        return suffix[1:].upper() if suffix in RAW_SUFFIXES else "TIFF with a sensor's mosaic"
    return suffix[1:].upper() if suffix in RAW_SUFFIXES else None


def _guess(data: bytes) -> str:
    """What a file that is no photo seems to be, to go on a sentence."""
    head = data[:1024]
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    for what, found in (
        ("a file that macOS puts beside others (AppleDouble)", head.startswith(b"\0\5\x16\7")),
        ("a JPEG XL picture", head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL "))),
        ("a JPEG 2000 picture", head.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "))),
        ("a Photoshop file", head.startswith(b"8BPS")),
        ("a PDF", head.startswith(b"%PDF")),
        (
            "a film",
            head[4:8] in (b"ftyp", b"moov", b"mdat") or head.startswith(b"\x1a\x45\xdf\xa3"),
        ),
        ("an archive", head.startswith((b"PK\3\4", b"\x1f\x8b", b"Rar!", b"7z\xbc\xaf"))),
        ("a pointer of Git LFS, not the file itself", text.startswith(b"version https://git-lfs")),
        ("an SVG drawing", b"<svg" in text),
        ("a web page", text.startswith((b"<!doctype html", b"<html"))),
        ("empty space: zeros only", bool(head) and not head.strip(b"\0")),
    ):
        if found:
            return f", but {what}"
    return ""


# ---------------------------------------------------------------------------------------- JPEG


def _jpeg(data: bytes, label: str) -> PhotoFile:
    """Without what applications put into APPn and comments, and without what lies behind the end
    (other pictures of an MPO file, a film)."""
    parts, exif, xmp, progressive = [b"\xff\xd8"], None, b"", b""
    profile: dict[int, tuple[int, bytes]] = {}
    begin = 2
    for number, (marker, at, end) in enumerate(_segments(data)):
        if number > MAX_CHUNKS:
            raise PhotoError(label, f"holds more than {MAX_CHUNKS} JPEG segments")
        body = data[at + 4 : end]
        if marker == 0xE1 and body[:4] == b"Exif":
            exif = exif or bytes(b"Exif\0\0" + body[6:])
        elif marker == 0xE1 and body.startswith(_XMP_MARK):
            xmp = bytes(body)
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile.setdefault(body[12], (body[13], bytes(body[14:])))
        if marker == 0xE0 and body[:4] == b"JFIF":
            parts[1:1] = [] if _JFIF in parts else [_JFIF]
        # Adobe's says how colours are kept.
        adobe = marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12
        if adobe or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            parts.append(data[at:end])
        begin = end
        progressive = progressive or (body if marker == 0xC2 else b"")
    scan = _MARKER.search(data, begin)
    if scan is None:
        raise PhotoError(label, "begins as JPEG but is damaged: there is no picture in it")
    begin = scan.start()
    end, ends = _end_of_scans(data, begin)
    if not ends and progressive and _lacks_scans(progressive, data[begin:end]):
        raise PhotoError(label, "lacks scans: the picture is there in part; copy the file again")
    parts.append(data[begin:end] if ends else _with_end(data[begin:end]))
    orientation = _orientation(exif, xmp)
    return PhotoFile("JPEG", b"".join(parts), exif, orientation, _joined(profile), ends=ends)


def jpeg_header(head: bytes) -> tuple[tuple[int, int], int] | None:
    """Width and height as stored and the orientation, from the beginning of a JPEG file; None if
    that does not reach to the picture."""
    exif, xmp = None, b""
    for marker, at, end in _segments(head):
        body = head[at + 4 : end]
        if marker == 0xE1 and body[:4] == b"Exif":
            exif = exif or body[6:]
        elif marker == 0xE1 and body.startswith(_XMP_MARK):
            xmp = body
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) >= 5:
            height, width = struct.unpack_from(">HH", body, 1)
            return (width, height), _orientation(exif, xmp)
    return None


def _lacks_scans(frame: bytes, scans: bytes) -> bool:
    """Whether a progressive picture lacks coefficients, or bits of them: whether its copy stopped
    between two scans."""
    left = {(component, k): 99 for component in frame[6::3] for k in range(64)}
    for found in re.finditer(rb"\xff\xda..", scans, re.DOTALL):
        at = found.end()
        count = scans[at] if at < len(scans) else 0
        about = scans[at + 1 + 2 * count : at + 4 + 2 * count]
        if len(about) == 3:
            for component in scans[at + 1 : at + 1 + 2 * count : 2]:
                for k in range(about[0], min(about[1], 63) + 1):
                    left[component, k] = about[2] & 15
    return any(left.values())


def _with_end(scans: bytes) -> bytes:
    """Scans that lack the mark of their end, with it; what a disk or a half mark left goes."""
    kept = scans.rstrip(b"\0")
    if kept.endswith(b"\xff"):
        kept = kept + b"\0" if len(kept) < len(scans) else kept.rstrip(b"\xff")
    return kept + b"\xff\xd9"


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of each segment before the first scan; what lies between segments is
    skipped, as decoders do."""
    at = 2
    while (found := _MARKER.search(data, at)) is not None:
        at, marker = found.start(), data[found.start() + 1]
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in (0xD8, 0xD9, 0xDA) or not at + 4 <= end <= len(data):
            return
        yield marker, at, end
        at = end


def _end_of_scans(data: bytes, at: int) -> tuple[int, bool]:
    """Where the picture ends whose first scan begins at ``at``, and whether a mark says so."""
    for _ in range(MAX_CHUNKS):
        found = _MARKER.search(data, at)
        if found is None:
            break
        at, marker = found.start(), data[found.start() + 1]
        if marker == 0xD9:
            return at + 2, True
        if marker == 0xD8:
            return at, False
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return len(data), False


def _orientation(exif: bytes | None, xmp: bytes) -> int:
    """What EXIF states; what XMP states where EXIF states nothing."""
    stated = exif_orientation(exif)
    return xmp_orientation(xmp) if stated is None else stated


def _joined(profile: dict[int, tuple[int, bytes]]) -> bytes | None:
    """The parts of a profile by number, (how many there should be, bytes); None if one lacks."""
    count = max((c for c, _ in profile.values()), default=0)
    whole = bool(profile) and sorted(profile) == list(range(1, count + 1))
    return b"".join(profile[i][1] for i in sorted(profile)) if whole else None


# ----------------------------------------------------------------------------------------- PNG


def _png(data: bytes, label: str) -> PhotoFile:
    """With the chunks that make the picture only; others count if their checksum is right."""
    parts: list[bytes] = [_PNG]
    found: dict[bytes, bytes] = {}
    texts: list[bytes] = []
    ends = False
    for number, (kind, at, end) in enumerate(_chunks(data)):
        if number > MAX_CHUNKS:
            raise PhotoError(label, f"holds more than {MAX_CHUNKS} PNG chunks")
        if kind in _CRITICAL:
            parts.append(data[at:end] if end <= len(data) else _cut_chunk(data, at))
            ends = kind == b"IEND"
            if ends:
                break
            continue
        body, stated = data[at + 8 : end - 4], data[end - 4 : end]
        if len(body) != end - at - 12 or zlib.crc32(kind + body) != int.from_bytes(stated, "big"):
            continue
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            texts += [body] if len(texts) < 64 else []
        elif kind in _USED:
            parts.append(data[at:end])
        else:
            found.setdefault(kind, body)
    if not ends:
        parts.append(b"\0\0\0\0IEND\xaeB`\x82")
    exif = found.get(b"eXIf") or _exif_in_texts(texts)
    orientation = _orientation(exif, next(filter(None, map(_xmp_in_text, texts)), b""))
    icc = _profile_in_png(found.get(b"iCCP"))
    signal = None
    coded = found.get(b"cICP")
    if coded is not None and len(coded) == 4 and coded[2] == 0:
        signal, icc = signal_of_codes(coded[0], coded[1], bool(coded[3])), None
    elif icc is None and b"sRGB" not in found:
        signal = _gamma_in_png(found)
    return PhotoFile("PNG", b"".join(parts), exif, orientation, icc, signal, ends)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end (as stated) of each chunk."""
    at = len(_PNG)
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, at, at + 12 + size
        at += 12 + size


def _cut_chunk(data: bytes, at: int) -> bytes:
    """What there is of a chunk that goes beyond the end of the file, as a whole chunk. (A decoder
    would take what follows for pixels; so it sees whether they are all there.)"""
    size = int.from_bytes(data[at : at + 4], "big")
    body = data[at + 4 : at + 8 + size]
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _gamma_in_png(found: dict[bytes, bytes]) -> Signal | None:
    gamma, points = found.get(b"gAMA", b""), found.get(b"cHRP", b"")
    stated = int.from_bytes(gamma, "big") / 1e5 if len(gamma) == 4 else None
    if len(points) != 32:
        return signal_of_gamma(stated, None)
    xy = [v / 1e5 for v in struct.unpack(">8I", points)]
    sane = all(0 <= v <= 1.1 for v in xy) and all(y > 1e-3 for y in xy[1::2])
    return signal_of_gamma(stated, tuple(xy) if sane else None)


def _unpacked(packed: bytes) -> bytes:
    """What zlib packed, if that is of a bearable size; else nothing."""
    packer = zlib.decompressobj()
    try:
        out = packer.decompress(packed, MAX_PACKED)
    except zlib.error:
        return b""
    return out if not packer.unconsumed_tail else b""


def _profile_in_png(body: bytes | None) -> bytes | None:
    name, _, rest = (body or b"").partition(b"\0")
    return (_unpacked(rest[1:]) or None) if name and rest[:1] == b"\0" else None


def _exif_in_texts(texts: list[bytes]) -> bytes | None:
    """EXIF in hexadecimal digits, as ImageMagick writes it."""
    for body in texts:
        key, _, rest = body.partition(b"\0")
        if key in (b"Raw profile type exif", b"Raw profile type APP1"):
            text = rest if rest[:1] == b"\n" else _unpacked(rest[1:])
            digits = b"".join(text.split()[2:])
            try:
                block = bytes.fromhex(digits.decode("ascii"))
            except ValueError:
                continue
            if block.startswith((b"Exif\0\0", b"II", b"MM")):
                return block
    return None


def _xmp_in_text(body: bytes) -> bytes:
    key, _, rest = body.partition(b"\0")
    if key != b"XML:com.adobe.xmp":
        return b""
    packed, rest = rest[:1] == b"\1", rest[2:]
    rest = rest.partition(b"\0")[2].partition(b"\0")[2]
    return _unpacked(rest) if packed else rest


# --------------------------------------------------------------------------------- WebP and TIFF


def _webp(data: bytes, label: str) -> PhotoFile:
    found: dict[bytes, bytes] = {}
    at, number = 12, 0
    while at + 8 <= len(data) and number < MAX_CHUNKS:
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind in (b"EXIF", b"XMP ", b"ICCP"):
            found.setdefault(kind, data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
        number += 1
    exif = found.get(b"EXIF")
    orientation = _orientation(exif, found.get(b"XMP ", b""))
    return PhotoFile("WEBP", data, exif, orientation, found.get(b"ICCP"))


def _tiff(data: bytes, label: str) -> PhotoFile:
    """With the directory of the picture only: the first that is no reduced copy of another."""
    tiff = Tiff(data)
    if not tiff.directories:  # BigTIFF, or nothing: the decoder says
        return PhotoFile("TIFF", data)
    first = tiff.directories[0]
    picture = next((d for d in tiff.directories if not _is_reduced(tiff, d)), first)
    values = tiff.numbers(picture, 0x0112) or tiff.numbers(first, 0x0112)
    orientation = values[0] if values and 1 <= values[0] <= 8 else 1
    if orientation == 1 and not values:
        orientation = xmp_orientation(tiff.raw(picture, _XMP_TAG))
    exif = None
    if first.entries.keys() & _CAMERA_TAGS:
        exif = tiff.with_directory(first, _CAMERA_TAGS)
    icc = tiff.raw(picture, _ICC_TAG) or None
    return PhotoFile("TIFF", tiff.with_directory(picture, _PICTURE_TAGS), exif, orientation, icc)


def _is_reduced(tiff: Tiff, directory: Directory) -> bool:
    return any(n & 1 for n in tiff.numbers(directory, SUBFILE_TYPE))


# -------------------------------------------------------------------------------- HEIC and AVIF


def without_exif(file: PhotoFile) -> PhotoFile:
    """A HEIC or AVIF photo whose EXIF and XMP have another name, by which nobody looks for them."""
    begin, end = _meta(file.picture)
    meta = file.picture[begin:end].replace(b"Exif", b"none").replace(b"mime", b"none")
    return replace(file, picture=file.picture[:begin] + meta + file.picture[end:])


def _meta(data: bytes) -> tuple[int, int]:
    """Where the box of metadata lies."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"meta":
            return at, min(at + size, len(data))
        if size < 8:
            break
        at += size
    return 0, 0


def _nclx(data: bytes) -> Signal | None:
    """What the colour boxes of HEIC and AVIF say by numbers, if they all say the same."""
    begin, end = _meta(data)
    boxes = re.findall(rb"colrnclx(..)(..)..(.)", data[begin:end], re.DOTALL)
    stated = {tuple(int.from_bytes(v, "big") for v in (p, t)) for p, t, _ in boxes}
    if len(stated) != 1:
        return None
    primaries, transfer = stated.pop()
    return signal_of_codes(primaries, transfer)
