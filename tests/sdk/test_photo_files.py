"""Photos as phones, editors and disks leave them: odd metadata, lost ends, raw files, numbers that
say how codes are to be read."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, features

from panokit._exif import upright
from panokit.errors import PhotoError
from panokit.photo import Photo, photo_header, photo_paths
from tests.toys.photo_files import (
    Entry,
    chunk,
    encoded,
    exif,
    jpeg_with,
    orientation,
    picture,
    png,
    raw_file,
    tiff,
)

PICTURE = picture()
PIXELS = np.asarray(PICTURE)


def same(data: bytes, like: NDArray[np.uint8]) -> bool:
    return np.array_equal(Photo.open(data).rgb_hwc, like)


SIX: dict[str, Entry] = {
    "short": orientation(6),
    "byte": (0x112, 1, 1, b"\6"),
    "long": (0x112, 4, 1, struct.pack("<I", 6)),
    "text": (0x112, 2, 2, b"6\0"),
    "rational": (0x112, 5, 1, struct.pack("<II", 12, 2)),
    "float": (0x112, 11, 1, struct.pack("<f", 6)),
    "several": (0x112, 3, 3, struct.pack("<3H", 6, 1, 1)),
    "undefined": (0x112, 7, 1, b"\6"),
}
ODD: dict[str, list[Entry]] = {
    "zero": [orientation(0)],
    "nine": [orientation(9)],
    "not a number": [(0x112, 12, 1, struct.pack("<d", float("nan")))],
    "half": [(0x112, 5, 1, struct.pack("<II", 13, 2))],
    "beyond the end": [(0x112, 3, 70_000, b"\xff\xff\xff\x7f")],
    "unknown type": [(0x112, 200, 1, b"\6")],
    "model as a rational": [(0x110, 5, 1, struct.pack("<II", 1, 3))],
    "date as numbers": [(0x132, 4, 2, struct.pack("<II", 7, 8))],
    "GPS as bytes": [(0x8825, 1, 3, b"\1\2\3")],
    "a directory in itself": [(0x8769, 4, 1, struct.pack("<I", 8))],
    "text without end": [(0x10E, 2, 6, b"abcdef")],
    "resolution of nothing": [(0x11A, 5, 1, bytes(8)), (0x11B, 2, 2, b"x\0")],
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("entry", SIX.values(), ids=SIX)
def test_an_orientation_counts_in_whatever_type_it_is_stored(kind: str, entry: Entry) -> None:
    assert same(with_exif(kind, [entry]), upright(plain(kind), 6))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("entries", ODD.values(), ids=ODD)
def test_odd_metadata_do_not_matter(kind: str, entries: list[Entry], tmp_path: Path) -> None:
    data = with_exif(kind, entries)
    assert same(data, plain(kind))
    if entries[0][0] != 0x112:  # the turn counts all the same
        turned = with_exif(kind, sorted([*entries, orientation(8)]))
        assert same(turned, upright(plain(kind), 8))
        assert Photo.open(turned).save(tmp_path / "again.png").stat().st_size


def plain(kind: str) -> NDArray[np.uint8]:
    return Photo.open(with_exif(kind, [])).rgb_hwc


def with_exif(kind: str, entries: list[Entry]) -> bytes:
    block = exif(entries)
    if kind == "TIFF":
        return tiff(PIXELS, entries)
    if kind == "JPEG":
        return jpeg_with(encoded(PICTURE, "JPEG", quality=90), (0xE1, block))
    if kind == "PNG":
        return png(PIXELS, chunk(b"eXIf", block[6:]))
    return encoded(PICTURE, "WEBP", lossless=True, exif=block)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("way", range(1, 9))
def test_every_orientation_of_both_byte_orders(way: int, order: str) -> None:
    block = exif([orientation(way, order)], order)
    data = jpeg_with(encoded(PICTURE, "JPEG"), (0xE1, block))
    assert same(data, upright(Photo.open(encoded(PICTURE, "JPEG")).rgb_hwc, way))
    assert same(tiff(PIXELS, [orientation(way, order)], order), upright(PIXELS, way))


def test_xmp_states_the_orientation_where_exif_does_not() -> None:
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='3'/>"
    usual = encoded(PICTURE, "JPEG")
    assert Photo.open(jpeg_with(usual, (0xE1, xmp))).orientation == 3
    both = jpeg_with(usual, (0xE1, xmp), (0xE1, exif([orientation(1)])))
    assert Photo.open(both).orientation == 1
    text = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<tiff:Orientation>6</tiff:Orientation>")
    assert Photo.open(png(PIXELS, chunk(b"iTXt", text))).orientation == 6


PNG_CHUNKS = {
    "long text": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"nodes, " * 400_000)),
    "many texts": b"".join(chunk(b"tEXt", b"k%d\0v" % i) for i in range(2000)),
    "text without a key": chunk(b"tEXt", b"no zero in it"),
    "text of another packing": chunk(b"zTXt", b"key\0\7abc"),
    "wrong checksum of a time": chunk(b"tIME", b"\7\xe9\1\1\1\1\1", good=False),
    "wrong checksum of a gamma": chunk(b"gAMA", struct.pack(">I", 100_000), good=False),
    "resolution of one byte": chunk(b"pHYs", b"\1"),
    "profile that is none": chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"no profile at all")),
    "profile of another packing": chunk(b"iCCP", b"icc\0\5xyz"),
    "profile that unpacks too large": chunk(b"iCCP", b"i\0\0" + zlib.compress(bytes(17 << 20))),
    "profile that is torn": chunk(b"iCCP", b"i\0\0" + zlib.compress(b"profile" * 99)[:-20]),
    "gamma of nothing": chunk(b"gAMA", bytes(4)),
    "gamma of one byte": chunk(b"gAMA", b"\1"),
    "primaries on a line": chunk(b"cHRP", struct.pack(">8I", *(33_000,) * 8)),
    "primaries of nothing": chunk(b"cHRP", bytes(32)),
    "code points unknown": chunk(b"cICP", b"\xff\xff\0\1"),
    "a chunk of our own": chunk(b"prVt", os.urandom(99)),
    "a thumbnail in EXIF": chunk(b"eXIf", os.urandom(300)),
    "an animation's control": chunk(b"acTL", b"\0\0\0\5\0\0\0\0"),
}


@pytest.mark.parametrize("extra", PNG_CHUNKS.values(), ids=PNG_CHUNKS)
def test_chunks_that_do_not_make_the_picture_do_not_unmake_it(extra: bytes) -> None:
    assert same(png(PIXELS, extra), PIXELS)


JPEG_SEGMENTS = {
    "Photoshop's, torn": (0xED, b"Photoshop 3.0\x008BIM\4\4\xff"),
    "EXIF that is none": (0xE1, b"Exif\0\0nonsense"),
    "EXIF of zeros": (0xE1, b"Exif\0\0" + bytes(500)),
    "XMP of 64 KiB": (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<x>" * 21_000),
    "a second JFIF": (0xE0, b"JFIF\0\1"),
    "an index of pictures, torn": (0xE2, b"MPF\0II*\0\xff\xff\xff\xff"),
    "a part of a profile": (0xE2, b"ICC_PROFILE\0\2\3part"),
    "a comment in no encoding": (0xFE, b"\xff\xfe\xfd\x00\x80"),
    "an empty comment": (0xFE, b""),
}


@pytest.mark.parametrize("segment", JPEG_SEGMENTS.values(), ids=JPEG_SEGMENTS)
def test_segments_that_do_not_make_the_picture_do_not_unmake_it(
    segment: tuple[int, bytes],
) -> None:
    usual = encoded(PICTURE, "JPEG", quality=92)
    like = Photo.open(usual).rgb_hwc
    assert same(jpeg_with(usual, segment), like)
    assert same(usual + os.urandom(2000), like)  # what lies behind the end


def test_all_pictures_of_a_file_of_several_but_the_first_are_left() -> None:
    usual = encoded(PICTURE, "JPEG", quality=92)
    other = encoded(picture(16, 16), "JPEG")
    assert same(usual + other, Photo.open(usual).rgb_hwc)


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"subsampling": 0, "restart_marker_rows": 1}, {"quality": 30}],
    ids=["baseline", "progressive", "restarts", "coarse"],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_may_lack_its_end_mark_but_nothing_else(
    options: dict[str, object], mode: str
) -> None:
    whole = encoded(picture(160, 120).convert(mode), "JPEG", **options)
    like = Photo.open(whole).rgb_hwc
    for lost in (whole[:-1], whole[:-2], whole[:-2] + bytes(4096)):
        assert same(lost, like)
    for cut in (8, 40, len(whole) // 4, len(whole) // 2):
        with pytest.raises(PhotoError):
            Photo.open(whole[:-cut])


def test_a_progressive_jpeg_cut_between_two_scans_is_refused() -> None:
    whole = encoded(picture(160, 120), "JPEG", progressive=True)
    starts = [i for i in range(len(whole)) if whole[i : i + 2] == b"\xff\xda"]
    assert len(starts) > 4
    for start in starts[1:]:
        with pytest.raises(PhotoError):
            Photo.open(whole[:start])


def test_a_png_may_lack_its_end_mark_and_checksums_but_no_pixels() -> None:
    whole = png(np.random.default_rng(3).integers(0, 255, (20, 30, 3), np.uint8))
    like = Photo.open(whole).rgb_hwc
    for lost in range(1, 17):
        assert same(whole[:-lost], like)
    for cut in (24, 28, 40, len(whole) // 2):
        with pytest.raises(PhotoError):
            Photo.open(whole[:-cut])


def srgb_light(codes: NDArray[np.uint8]) -> NDArray[np.float64]:
    c = codes / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


P3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
GAMMA_1, GAMMA_18 = (chunk(b"gAMA", struct.pack(">I", g)) for g in (100_000, 55_556))
CHRM_P3 = chunk(b"cHRP", struct.pack(">8I", *(round(v * 1e5) for v in P3)))


@pytest.mark.parametrize("shape", [(32, 48, 3), (32, 48, 4), (32, 48)], ids=["RGB", "RGBA", "grey"])
@pytest.mark.parametrize("exponent", [1.0, 1.8], ids=["linear", "Macintosh"])
def test_a_png_states_how_its_codes_are_light(shape: tuple[int, ...], exponent: float) -> None:
    usual = np.full((32, 48, 4), 255, np.uint8)
    usual[..., :3] = PIXELS
    usual = usual[..., 0] if len(shape) == 2 else usual[..., : shape[2]]
    codes = np.round(srgb_light(usual) ** (1 / exponent) * 65535).astype(np.uint16)
    photo = Photo.open(png(codes, GAMMA_1 if exponent == 1 else GAMMA_18))
    expected = Photo.open(png(usual)).rgb_hwc
    assert np.abs(photo.rgb_hwc.astype(int) - expected).max() <= 1
    assert photo.color.startswith("gamma")
    if shape[-1] != 4:  # it leaves with all its bits, in sRGB
        assert photo.pixels_hwc.dtype == np.uint16
        assert np.abs(photo.pixels_hwc / 257 - expected).max() < 1


def test_light_of_8_bits_is_read_as_light_too() -> None:
    codes = np.array([[[128, 128, 128]]], np.uint8)
    assert Photo.open(png(codes, GAMMA_1)).rgb_hwc[0, 0, 0] == 188
    palette = Image.new("P", (1, 1))
    palette.putpalette([128, 128, 128])
    data = encoded(palette, "PNG")
    assert Photo.open(data[:33] + GAMMA_1 + data[33:]).rgb_hwc[0, 0, 0] == 188


@pytest.mark.parametrize(
    "chunks",
    [
        chunk(b"gAMA", struct.pack(">I", 45_455)),
        chunk(b"gAMA", struct.pack(">I", 45_000)),
        GAMMA_1 + chunk(b"sRGB", b"\0"),
        GAMMA_1 + chunk(b"cICP", b"\1\x0d\0\1"),
        chunk(b"cHRP", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
    ],
    ids=["2.2", "nearly", "sRGB before gamma", "cICP before gamma", "its own primaries"],
)
def test_what_states_srgb_changes_nothing(chunks: bytes) -> None:
    photo = Photo.open(png(PIXELS, chunks))
    assert np.array_equal(photo.rgb_hwc, PIXELS)
    assert photo.color == "srgb"


@pytest.mark.parametrize("chunks", [CHRM_P3, chunk(b"cICP", b"\x0c\x0d\0\1")], ids=["cHRP", "cICP"])
def test_wider_primaries_by_numbers_are_converted(chunks: bytes) -> None:
    codes = np.array([[[200, 100, 100], [90, 90, 90]]], np.uint8)
    red, green, _ = Photo.open(png(codes, chunks)).rgb_hwc[0, 0].tolist()
    assert red > 205  # as the same colours with a profile of Display P3
    assert green < 98
    assert Photo.open(png(codes, chunks)).rgb_hwc[0, 1].tolist() == [90, 90, 90]


def test_hdr_by_code_points_has_white_at_203_nits() -> None:
    pq = np.array([[0, round(0.5807 * 65535), 65535]], np.uint16)  # 203 cd/m² is 58 % of PQ
    rgb = np.repeat(pq[..., None], 3, -1)
    values = Photo.open(png(rgb, chunk(b"cICP", b"\x09\x10\0\1"))).rgb_hwc[0, :, 1].tolist()
    assert values[0] == 0
    assert values[1] >= 254
    assert values[2] == 255


RAW: dict[str, bytes] = {
    "DNG": raw_file(picture(16, 8), (64, 32), [(50706, 1, 4, b"\1\4\0\0")]),
    "mosaic": raw_file(picture(16, 8), (64, 32), [(0x10F, 2, 6, b"NIKON\0")]),
    "CR2": b"II*\0\x10\0\0\0CR\2\0" + bytes(64),
    "CR3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(64),
    "RAF": b"FUJIFILMCCD-RAW 0201FF389501" + encoded(picture(16, 8), "JPEG"),
    "RW2": b"IIU\0\x18\0\0\0" + bytes(64),
    "ORF": b"IIRO\x08\0\0\0" + bytes(64),
    "X3F": b"FOVb\0\0\3\0" + bytes(64),
}


@pytest.mark.parametrize("data", RAW.values(), ids=RAW)
def test_the_preview_in_a_raw_file_is_not_the_photo(data: bytes) -> None:
    with pytest.raises(PhotoError, match="is a raw file"):
        Photo.open(data)


def test_a_tiff_by_a_raw_files_name_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.ARW").write_bytes(tiff(PIXELS, []))
    with pytest.raises(PhotoError, match="is a raw file \\(ARW\\)"):
        Photo.open(tmp_path / "a.ARW")
    (tmp_path / "a.tif").write_bytes(tiff(PIXELS, []))
    assert Photo.open(tmp_path / "a.tif").size_wh == (48, 32)


def test_a_tiff_whose_first_picture_is_a_reduced_copy_gives_the_other() -> None:
    small = tiff(np.asarray(picture(12, 8)), [(254, 4, 1, b"\1\0\0\0"), (330, 4, 1, b"????")])
    at = len(small)
    small = small.replace(b"????", struct.pack("<I", at))
    whole = tiff(PIXELS, [])[8:]  # its offsets count from the file's beginning
    moved = whole.replace(
        struct.pack("<HHII", 273, 4, 1, 8 + len(whole) - PIXELS.size),
        struct.pack("<HHII", 273, 4, 1, at + len(whole) - PIXELS.size),
    ).replace(
        struct.pack("<HHII", 258, 3, 3, 8 + 2 + 9 * 12 + 4),
        struct.pack("<HHII", 258, 3, 3, at + 2 + 9 * 12 + 4),
    )
    assert same(small + moved, PIXELS)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\0\5\x16\7\0\2\0\0" + bytes(60), "AppleDouble"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "film"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xff\x0a\x00\x10\x10", "JPEG XL"),
        (b"PK\3\4" + bytes(60), "archive"),
        (bytes(4096), "zeros"),
        (b"hello", "is not a photo in a known format;"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_is_no_photo_is_called_what_it_is(data: bytes, word: str) -> None:
    with pytest.raises(PhotoError, match=word):
        Photo.open(data)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
@pytest.mark.parametrize("way", range(1, 9))
def test_avif_is_read_and_turned(way: int) -> None:
    data = encoded(picture(96, 64), "AVIF", quality=95, exif=exif([orientation(way)]))
    like = Photo.open(encoded(picture(96, 64), "AVIF", quality=95)).rgb_hwc
    assert np.abs(like.astype(int) - np.asarray(picture(96, 64))).mean() < 4
    assert same(data, upright(like, way))
    odd = data.replace(struct.pack("<HHI", 0x112, 3, 1), struct.pack("<HHI", 0x112, 5, 1))
    assert same(odd, upright(like, way))  # the container turns it, EXIF has no say


def heif(**options: object) -> bytes:
    module = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed (extra heic)")
    image = module.from_pillow(picture(96, 64))
    out = io.BytesIO()
    image.save(out, quality=95, **options)
    return bytes(out.getvalue())


def test_heic_is_read_with_its_colours_and_turn() -> None:
    like = Photo.open(heif()).rgb_hwc
    assert np.abs(like.astype(int) - np.asarray(picture(96, 64))).mean() < 4
    odd = [orientation(6), (0x110, 5, 1, struct.pack("<II", 1, 3))]
    assert Photo.open(heif(exif=exif(odd))).rgb_hwc.shape[2] == 3
    wide = Photo.open(heif(color_primaries=12, transfer_characteristics=13, full_range_flag=1))
    assert wide.color == "cicp 12/13"


def test_heic_without_its_reader_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heif()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PhotoError, match=r"needs the 'heic' extra\. .*install"):
        Photo.open(data)


def test_avif_without_its_reader_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.features.check", lambda name: False)
    with pytest.raises(PhotoError, match=r"needs a Pillow that reads AVIF\..*pip install"):
        Photo.open(b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + bytes(64))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_no_photo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.jpg")
    with pytest.raises(PhotoError, match="is a pipe or a device"):
        Photo.open(tmp_path / "p.jpg")
    assert photo_header(tmp_path / "p.jpg") is None


def test_files_of_a_million_parts_are_refused_at_once() -> None:
    for data in (
        b"\xff\xd8" + b"\xff\xe0\0\2" * 1_000_000,
        b"\x89PNG\r\n\x1a\n" + chunk(b"tEXt", b"") * 1_000_000,
        b"\xff\xd8\xff" + b"\xff\x00" * 4_000_000,
    ):
        with pytest.raises(PhotoError):
            Photo.open(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_header_tells_size_and_orientation(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(with_exif(kind, [orientation(7)]))
    assert photo_header(path) == ((48, 32), 7)
    path.write_bytes(b"no photo")
    assert photo_header(path) is None
    assert photo_header(tmp_path / "nowhere") is None


# ------------------------------------------------------------------------------------- folders


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A card as it comes out of a phone, seen by several systems."""
    root = tmp_path / "card"
    usual = encoded(PICTURE, "JPEG")
    for name in (
        "b.jpg",
        "2026/05/b.JPG",
        "2026/a.HEIC",
        "a.dng",
        "a.png",
        "unnamed",
        "2025/c.jpe",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(usual)
    for name in ("._b.jpg", ".DS_Store", "Thumbs.db", "2026/._a.HEIC", ".trashed-1.jpg", "m.mp4",
                 "__MACOSX/b.jpg", ".thumbnails/1.jpg", "notes.txt", "film.THM"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(usual if name.endswith("THM") else b"\0\5\x16\7")
    return root


def test_folders_are_walked_and_every_picture_has_a_name(card: Path) -> None:
    found = {n: p.relative_to(card).as_posix() for n, p in photo_paths([card]).items()}
    assert found == {
        "a": "a.png", "b": "b.jpg", "unnamed": "unnamed", "c": "2025/c.jpe", "a-2": "2026/a.HEIC",
        "b-2": "2026/05/b.JPG", "a-3": "a.dng",
    }  # fmt: skip


def test_results_in_a_folder_of_photos_are_no_photos(card: Path) -> None:
    found = photo_paths([card], leave_out=[card / "2026"])
    assert sorted(found) == ["a", "a-2", "b", "c", "unnamed"]


def test_links_in_a_circle_end(card: Path) -> None:
    (card / "2025" / "again").symlink_to(card, target_is_directory=True)
    assert len(photo_paths([card])) == 7


def test_a_folder_of_sidecars_holds_no_photo(card: Path) -> None:
    for name in ("b.jpg", "unnamed", "a.png", "a.dng"):
        (card / name).unlink()
    with pytest.raises(PhotoError, match="holds no photo"):
        photo_paths([card], leave_out=[card / "2025", card / "2026"])
