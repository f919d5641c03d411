"""Every kind of photo file becomes upright sRGB, or a clear error."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from panokit.errors import ArgumentError, PhotoError
from panokit.photo import Photo

GRADIENT = np.stack(
    [
        np.tile(np.arange(0, 240, 10, dtype=np.uint8), (16, 1)),
        np.tile(np.arange(0, 160, 10, dtype=np.uint8)[:, None], (1, 24)),
        np.full((16, 24), 77, np.uint8),
    ],
    -1,
)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def test_rgb_png_is_itself() -> None:
    photo = Photo.open(encoded(Image.fromarray(GRADIENT)))
    assert (photo.rgb_hwc == GRADIENT).all()
    assert (photo.size_wh, photo.orientation, photo.color) == ((24, 16), 1, "srgb")


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = Photo.open(encoded(Image.fromarray(GRADIENT), exif=exif))
    assert photo.orientation == orientation
    assert (photo.rgb_hwc == UPRIGHT[orientation](GRADIENT)).all()


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257 * 10, 257 * 128, 65535]], np.uint16)
    photo = Photo.open(encoded(Image.fromarray(values)))
    assert photo.rgb_hwc[0, :, 0].tolist() == [0, 10, 128, 255]
    assert (photo.rgb_hwc == photo.rgb_hwc[..., :1]).all()


def test_palette_with_and_without_transparency() -> None:
    flat = Image.fromarray(np.zeros((4, 4, 3), np.uint8)).quantize(4)
    assert Photo.open(encoded(flat)).rgb_hwc.max() == 0
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putdata([0, 1])
    photo = Photo.open(encoded(palette, transparency=0))
    assert photo.had_alpha
    assert photo.rgb_hwc.tolist() == [[[0, 0, 0], [0, 255, 0]]]


def test_alpha_is_composited_over_black() -> None:
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 128]]], np.uint8)
    photo = Photo.open(encoded(Image.fromarray(rgba)))
    assert photo.had_alpha
    assert photo.rgb_hwc[0, 0].tolist() == [200, 100, 50]
    assert photo.rgb_hwc[0, 1].tolist() == [0, 0, 0]
    assert photo.rgb_hwc[0, 2].tolist() == [100, 50, 25]


@pytest.mark.parametrize("mode", ["L", "LA", "1", "CMYK"])
def test_other_modes_become_rgb(mode: str) -> None:
    image = Image.new("RGB", (5, 3), (255, 255, 255)).convert(mode)
    photo = Photo.open(encoded(image, "TIFF"))
    assert photo.rgb_hwc.shape == (3, 5, 3)
    assert photo.rgb_hwc.min() >= 250


def display_p3() -> bytes:
    """A Display-P3-like profile: built from P3 primaries with a gamma of 2.2."""
    import struct

    def s15(v: float) -> bytes:
        return struct.pack(">i", round(v * 65536))

    def xyz(*v: float) -> bytes:
        return b"XYZ " + bytes(4) + b"".join(map(s15, v))

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256)) + bytes(2)
    name = b"Display P3"
    desc = (
        b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name + bytes(1 + 4 + 4 + 2 + 1 + 67)
    )
    desc += bytes(-len(desc) % 4)
    tags = {
        b"desc": desc,
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.51512, 0.24120, -0.00105),
        b"gXYZ": xyz(0.29198, 0.69225, 0.04189),
        b"bXYZ": xyz(0.15710, 0.06657, 0.78407),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
        b"cprt": b"text" + bytes(4) + b"none" + bytes(4),
    }
    at = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for key, value in tags.items():
        table += key + struct.pack(">II", at + len(body), len(value))
        body += value
    head = struct.pack(
        ">I4sI4s4s4s", at + len(body), b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ "
    )
    head += bytes(12) + b"acsp" + bytes(28) + s15(0.9642) + s15(1.0) + s15(0.8249)
    return head.ljust(128, b"\0") + table + body


def test_display_p3_is_converted_to_srgb() -> None:
    icc = display_p3()
    ImageCms.ImageCmsProfile(io.BytesIO(icc))  # the profile itself is sound
    image = Image.new("RGB", (2, 2), (200, 100, 100))
    photo = Photo.open(encoded(image, icc_profile=icc))
    assert photo.color == "icc:Display P3"
    assert photo.icc_profile == icc
    red, green, _ = photo.rgb_hwc[0, 0].tolist()
    # The same light needs more red and less green in the smaller sRGB gamut.
    assert red > 205
    assert green < 98


def test_grey_stays_grey_through_a_profile() -> None:
    photo = Photo.open(encoded(Image.new("RGB", (2, 2), (128, 128, 128)), icc_profile=display_p3()))
    pixel = photo.rgb_hwc[0, 0].astype(int)
    assert pixel.max() - pixel.min() <= 1


def test_unusable_profile_keeps_the_numbers() -> None:
    photo = Photo.open(encoded(Image.fromarray(GRADIENT), icc_profile=b"not a profile"))
    assert (photo.rgb_hwc == GRADIENT).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"just some text, no photo at all", "not a photo in a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a photo in a known format"),
    ],
    ids=["empty", "text", "svg"],
)
def test_what_is_no_photo_is_a_clear_error(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(PhotoError, match=reason) as caught:
        Photo.open(path)
    assert caught.value.path == str(path)


def test_truncated_jpeg_is_damaged(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    path = tmp_path / "half.jpg"
    path.write_bytes(encoded(Image.fromarray(noise), "JPEG")[:900])
    with pytest.raises(PhotoError, match="damaged"):
        Photo.open(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="no such file"):
        Photo.open(tmp_path / "nowhere.jpg")
    with pytest.raises(PhotoError, match="is a folder"):
        Photo.open(tmp_path)


def test_too_many_pixels_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panokit.photo.MAX_PIXELS", 100)
    with pytest.raises(PhotoError, match="384 pixels, expected at most 100"):
        Photo.open(encoded(Image.fromarray(GRADIENT)))


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)],
    ids=["grey", "rgba", "float"],
)
def test_arrays_must_be_rgb_uint8(array: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="rgb_hwc"):
        Photo.from_array(array)
