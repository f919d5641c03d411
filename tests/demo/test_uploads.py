"""Files from outside: what is taken, and the sentence with which the rest is refused."""

from __future__ import annotations

import io
import struct
import sys
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from panokit.errors import ArgumentError, MissingExtraError, PhotoError
from panokit_demo.limits import DemoLimits
from panokit_demo.uploads import check_name, open_upload, sniff
from panokit_demo.workers import in_words

LIMITS = DemoLimits()


def encoded(kind: str, size_wh: tuple[int, int] = (40, 30), **options: object) -> bytes:
    rng = np.random.default_rng(3)
    image = Image.fromarray(rng.integers(0, 256, (*size_wh[::-1], 3), dtype=np.uint8))
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def heic(size_wh: tuple[int, int] = (64, 48), exif: bytes | None = None) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    image = Image.new("RGB", size_wh, (200, 30, 40))
    out = io.BytesIO()
    pillow_heif.from_pillow(image).save(out, quality=90, exif=exif)
    return out.getvalue()


def bomb(w: int, h: int) -> bytes:
    """A PNG whose header promises w×h pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("a.txt", "hello")
    return out.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_photos_are_taken(kind: str) -> None:
    data = encoded(kind)
    assert sniff(data) == kind
    photo = open_upload(data, "a b.jpg", LIMITS)
    assert photo.size_wh == (40, 30)
    assert photo.name == "a b.jpg"


def test_heic_photos_are_taken_with_their_colours() -> None:
    data = heic()
    assert sniff(data) == "HEIF"
    photo = open_upload(data, "photo.heic", LIMITS)
    assert photo.size_wh == (64, 48)
    assert np.abs(photo.rgb_hwc.astype(int) - (200, 30, 40)).max() <= 6


def test_heic_photos_keep_their_exif_upright() -> None:
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    exif[0x0112] = 6
    photo = open_upload(heic(exif=exif.tobytes()), "photo.heic", LIMITS)
    kept = Image.Exif()
    kept.load(photo.encoding.exif or b"")
    assert kept[0x010F] == "A camera"
    assert kept[0x0112] == 1


def test_odd_metadata_are_no_reason_to_refuse() -> None:
    data = encoded("PNG")
    text = b"\0\0\0\5tEXta\0bcdXXXX"  # a wrong checksum
    assert open_upload(data[:33] + text + data[33:-12], "a.png", LIMITS).size_wh == (40, 30)
    assert open_upload(encoded("JPEG")[:-2], "a.jpg", LIMITS).size_wh == (40, 30)


def test_a_turned_photo_comes_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_upload(encoded("JPEG", exif=exif), "a.jpg", LIMITS).size_wh == (30, 40)


def test_descriptions_in_a_photo_are_no_second_format() -> None:
    xmp = b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta><?xpacket end="w"?>'
    data = encoded("JPEG", xmp=xmp)
    assert b"xmpmeta" in data
    assert open_upload(data, "a.jpg", LIMITS).size_wh == (40, 30)


def test_what_phones_append_to_a_jpeg_is_no_second_format() -> None:
    # A motion photo: a video follows the picture, and a preview picture another one.
    video = np.random.default_rng(1).bytes(4_000_000)
    data = encoded("JPEG") + encoded("JPEG", (8, 8)) + b"\0\0\0\x18ftypmp42" + video
    assert open_upload(data, "motion.jpg", LIMITS).size_wh == (40, 30)


HOSTILE = {
    "empty": (b"", "is empty"),
    "text": (b"hello " * 100, "is no photo"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is an SVG drawing"),
    "svg-xml": (b'<?xml version="1.0"?>\n<svg width="9" height="9"/>', "is an SVG drawing"),
    "html": (b"<!doctype html><script>alert(1)</script>", "is a document"),
    "pdf": (b"%PDF-1.7 ...", "is a document"),
    "gif": (b"GIF89a" + bytes(100), "picture or video of another kind"),
    "zip": (archive(), "is an archive"),
    "truncated": (encoded("JPEG")[:200], "is damaged"),
    "png-cut": (encoded("PNG")[:60], "is damaged"),
    "large": (bomb(9000, 8000), "is 9000 by 8000 pixels; expected at most 64 million"),
    "bomb": (bomb(12_000, 12_000), "is 12000 by 12000 pixels; expected at most 64 million"),
    "bomb-larger": (bomb(30_000, 30_000), "would be far too large once it is decoded"),
    "bomb-huge": (bomb(2**31 - 1, 2**31 - 1), "would be far too large|million pixels|damaged"),
    "strip": (encoded("PNG", (4000, 1)), "is 4000 by 1 pixels; expected at least 16"),
    "column": (encoded("JPEG", (1, 4000)), "is 1 by 4000 pixels; expected at least 16"),
    "long": (bomb(20_001, 20), "20000 along a side"),
    "jpeg-zip": (encoded("JPEG") + archive(), "a second format"),
    "png-zip": (encoded("PNG") + archive(), "a second format"),
    "webp-html": (encoded("WEBP") + b"<html><script>x</script>", "a second format"),
    "jpeg-php": (encoded("JPEG") + b"<?php system('id'); ?>", "a second format"),
    "jpeg-comment": (encoded("JPEG", comment=b"<script>alert(1)</script>"), "a second format"),
    "jpeg-pdf": (encoded("JPEG", comment=b"%PDF-1.4 obj"), "a second format"),
    "heic-empty": (b"\0\0\0\x18ftypheic" + bytes(40), "is damaged"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_with_a_sentence(case: str) -> None:
    data, reason = HOSTILE[case]
    with pytest.raises(PhotoError, match=reason):
        open_upload(data, "a.jpg", LIMITS)


def test_too_many_bytes_and_animations_are_refused() -> None:
    with pytest.raises(PhotoError, match="bytes, expected at most 100"):
        open_upload(encoded("PNG"), "a.png", DemoLimits(upload_bytes=100))
    frames = [Image.new("RGB", (32, 32), c) for c in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(PhotoError, match="is an animation"):
        open_upload(out.getvalue(), "a.webp", LIMITS)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "a\\b.jpg",
        "C:x.jpg",
        "a\0.jpg",
        "a\nb",
        "..",
        " ",
        "x" * 256,
        "a\x85b.jpg",
        "a\u2028b.jpg",
        "caf\udce9.jpg",
    ],
    ids=[
        "up",
        "absolute",
        "backslash",
        "drive",
        "nul",
        "newline",
        "dots",
        "space",
        "long",
        "c1",
        "line separator",
        "surrogate",
    ],
)
def test_names_that_are_no_plain_names_are_refused(name: str) -> None:
    with pytest.raises(PhotoError, match=r"has a (file )?name"):
        check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "IMG 0001 (2).jpeg",
        "Grüße & 花.png",
        "<b>.jpg",
        "a..b.jpg",
        "at 12:30\u202fPM.png",  # as a system names its screenshots
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f.jpg",  # a flag
        "\U0001fae8 \U0001faea.jpg",  # emoji younger than some Pythons
        "\u2764\ufe0f\u200d\U0001f525.heic",
        "\u05e9\u05dc\u05d5\u05dd\u200f (1).jpg",
        "\u0646\u0645\u06cc\u200c\u062f\u0627\u0646\u0645.png",
        "\u0915\u094d\u200d\u0937.png",
        "soft\xadhyphen.jpg",
    ],
)
def test_plain_names_are_kept(name: str) -> None:
    assert check_name(name) == name
    assert check_name(None) == "photo"


def test_marks_that_turn_other_texts_direction_are_left_out() -> None:
    assert check_name("\u202aC \u202egpj.exe\u2069.png") == "C gpj.exe.png"


def test_limits_refuse_what_is_no_limit() -> None:
    with pytest.raises(ArgumentError, match="workers"):
        DemoLimits(workers=0)
    assert DemoLimits(**LIMITS.to_json()) == LIMITS


def test_heic_without_its_extra_tells_the_page_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingExtraError) as caught:
        open_upload(data, "a.heic", LIMITS)
    assert "pip install" in str(caught.value)
    assert in_words(caught.value) == (
        "Reading HEIC photos needs the 'heic' extra, which this server lacks."
    )
