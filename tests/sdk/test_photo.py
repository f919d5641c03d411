"""Every kind of photo file becomes upright sRGB, or a clear error."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from panokit.errors import ArgumentError, PhotoError
from panokit.photo import Photo
from tests.toys.photo_files import chunk, png

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


def test_a_grey_photo_with_a_profile_of_three_colours_is_converted() -> None:
    grey = Image.new("L", (2, 2), 100)
    photo = Photo.open(encoded(grey, icc_profile=display_p3()))
    assert photo.color == "icc:Display P3"  # its curve is not sRGB's
    like = Photo.open(encoded(grey.convert("RGB"), icc_profile=display_p3()))
    assert (photo.rgb_hwc == like.rgb_hwc).all()
    assert Photo.open(encoded(grey.convert("CMYK"), "TIFF", icc_profile=b"junk")).color == "srgb"


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
    monkeypatch.setattr("panokit._photo_picture.MAX_PIXELS", 100)
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


# Saving


def deep() -> np.ndarray:
    """16-bit RGB with values that 8 bits cannot hold."""
    rng = np.random.default_rng(5)
    return rng.integers(0, 65536, (13, 17, 3)).astype(np.uint16)


def png16(pixels: np.ndarray, **options: bytes) -> bytes:
    cv2 = pytest.importorskip("cv2")
    return bytes(cv2.imencode(".png", pixels[..., ::-1])[1])


def read16(path: Path) -> np.ndarray:
    cv2 = pytest.importorskip("cv2")
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))[..., ::-1]


def test_16_bit_colour_survives(tmp_path: Path) -> None:
    photo = Photo.open(png16(deep()))
    assert photo.pixels_hwc.dtype == np.uint16
    np.testing.assert_array_equal(photo.pixels_hwc, deep())
    np.testing.assert_array_equal(photo.rgb_hwc, deep() >> 8)
    photo.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read16(tmp_path / "a.png"), deep())
    np.testing.assert_array_equal(Photo.open(tmp_path / "a.png").pixels_hwc, deep())


def test_16_bit_tiff_is_read_whole() -> None:
    cv2 = pytest.importorskip("cv2")
    for compression in (1, 5):
        options = [cv2.IMWRITE_TIFF_COMPRESSION, compression]
        data = bytes(cv2.imencode(".tif", deep()[..., ::-1], options)[1])
        np.testing.assert_array_equal(Photo.open(data).pixels_hwc, deep())


def test_16_bit_png_with_transparency(tmp_path: Path) -> None:
    photo = Photo.open(png16(deep()))
    alpha = np.linspace(0, 1, 13 * 17, dtype=np.float32).reshape(13, 17)
    photo.save(tmp_path / "a.png", alpha_hw=alpha)
    cv2 = pytest.importorskip("cv2")
    back = np.asarray(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED))
    np.testing.assert_array_equal(back[..., 2::-1], deep())
    np.testing.assert_allclose(back[..., 3] / 65535, alpha, atol=1e-5)


def test_16_bit_to_jpeg_is_rounded(tmp_path: Path) -> None:
    values = np.full((8, 8, 3), 257 * 100 + 128, np.uint16)
    Photo.open(png16(values)).save(tmp_path / "a.jpg")
    assert abs(int(Photo.open(tmp_path / "a.jpg").rgb_hwc.mean()) - 100) <= 1


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_profile_travels_with_its_own_pixels(suffix: str, tmp_path: Path) -> None:
    icc = display_p3()
    photo = Photo.open(encoded(Image.new("RGB", (16, 16), (200, 100, 100)), icc_profile=icc))
    assert photo.pixels_hwc[0, 0].tolist() == [200, 100, 100]
    photo.save(tmp_path / f"a{suffix}", quality=100)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.info["icc_profile"] == icc
        assert np.abs(np.asarray(image.convert("RGB"))[8, 8] - [200.0, 100, 100]).max() <= 2


def test_a_profile_that_does_not_fit_the_pixels_stays_behind(tmp_path: Path) -> None:
    # The photo becomes RGB; a profile for CMYK or of an unknown kind would spoil it.
    Photo.open(encoded(Image.fromarray(GRADIENT), icc_profile=b"not a profile")).save(
        tmp_path / "a.png"
    )
    with Image.open(tmp_path / "a.png") as image:
        assert "icc_profile" not in image.info


def test_changed_pixels_of_a_wide_gamut_photo_become_srgb_too() -> None:
    photo = Photo.open(encoded(Image.new("RGB", (2, 1), (200, 100, 100)), icc_profile=display_p3()))
    pixels = photo.pixels_hwc.copy()
    pixels[0, 1] = (120, 120, 120)
    changed = photo.with_pixels(pixels)
    assert changed.rgb_hwc[0, 0].tolist() == photo.rgb_hwc[0, 0].tolist()
    # The same grey: gamma 2.2 of 120 is 0.1905 of white, sRGB code 121.
    assert np.abs(changed.rgb_hwc[0, 1].astype(int) - 121).max() <= 1


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_exif_leaves_upright_and_without_thumbnail(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0xA002] = 24
    exif.get_ifd(0x8769)[0xA003] = 16
    photo = Photo.open(encoded(Image.fromarray(GRADIENT), "JPEG", exif=exif))
    photo.save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        back = image.getexif()
        assert image.size == photo.size_wh
        assert (back[0x0112], back[0x010F]) == (1, "Maker")
        details = back.get_ifd(0x8769)
        assert (details[0xA002], details[0xA003]) == photo.size_wh
        assert not back.get_ifd(1)  # IFD1 holds the thumbnail


def test_a_thumbnail_in_exif_is_dropped(tmp_path: Path) -> None:
    import struct

    thumbnail = encoded(Image.new("RGB", (8, 8), (250, 1, 2)), "JPEG")
    # Little-endian TIFF: IFD0 with one entry (orientation), then IFD1 that points at a JPEG.
    head = b"II*\0" + struct.pack("<I", 8)
    ifd0 = struct.pack("<HHHII", 1, 0x0112, 3, 1, 1) + struct.pack("<I", 26)
    at = 26 + 2 + 2 * 12 + 4
    ifd1 = struct.pack("<H", 2) + struct.pack("<HHII", 0x0201, 4, 1, at)
    ifd1 += struct.pack("<HHII", 0x0202, 4, 1, len(thumbnail)) + struct.pack("<I", 0)
    exif = b"Exif\0\0" + head + ifd0 + ifd1 + thumbnail
    data = encoded(Image.fromarray(GRADIENT), "JPEG", exif=exif)
    assert thumbnail in data
    Photo.open(data).save(tmp_path / "a.jpg")
    assert thumbnail not in (tmp_path / "a.jpg").read_bytes()


@pytest.mark.parametrize("quality", [40, 75, 98])
def test_a_jpeg_keeps_its_tables(quality: int, tmp_path: Path) -> None:
    data = encoded(Image.fromarray(GRADIENT), "JPEG", quality=quality, subsampling=2)
    Photo.open(data).save(tmp_path / "a.jpg")
    with Image.open(io.BytesIO(data)) as before, Image.open(tmp_path / "a.jpg") as after:
        assert after.quantization == before.quantization  # type: ignore[attr-defined]
        assert after.layer == before.layer  # type: ignore[attr-defined]


def test_saving_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    photo = Photo.from_array(GRADIENT)
    with pytest.raises(ArgumentError, match="a name ending in"):
        photo.save(tmp_path / "a.xyz")
    with pytest.raises(ArgumentError, match="from 1 to 100"):
        photo.save(tmp_path / "a.jpg", quality=0)
    with pytest.raises(ArgumentError, match=r"\.png or \.webp name"):
        photo.save(tmp_path / "a.jpg", alpha_hw=np.zeros((16, 24), np.float32))
    assert not list(tmp_path.iterdir())


# Colour spaces


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("space", ["srgb", "p3"])
def test_codes_survive_linear_light(dtype: type[np.uint8 | np.uint16], space: str) -> None:
    from panokit._icc import SRGB, parse_profile

    chosen = SRGB if space == "srgb" else parse_profile(display_p3())
    assert chosen is not None
    codes: NDArray[Any] = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    back = chosen.to_codes(chosen.to_linear(codes), dtype)
    if space == "srgb" or dtype == np.uint8:
        np.testing.assert_array_equal(back[5:], codes[5:])
    # A power curve is so flat at black that float32 light cannot tell the first codes apart.
    assert np.abs(back.astype(int) - codes)[:300].max() <= 2


def test_profiles_give_the_light_that_a_colour_engine_gives() -> None:
    from panokit._icc import SRGB, parse_profile

    icc = display_p3()
    space = parse_profile(icc)
    assert space is not None
    assert abs(float(space.luminance.sum()) - 1) < 1e-6
    rng = np.random.default_rng(3)
    rgb = rng.integers(60, 190, (1, 64, 3), dtype=np.uint8)
    photo = Photo.open(encoded(Image.fromarray(rgb), icc_profile=icc))
    light = space.to_linear(rgb) @ space.to_srgb.T.astype(np.float32)
    ours = SRGB.to_codes(light, np.uint8).astype(int)
    inside = ((photo.rgb_hwc > 0) & (photo.rgb_hwc < 255)).all(axis=-1)
    assert np.abs(ours - photo.rgb_hwc)[inside].max() <= 2  # littleCMS works in 8 bits


@pytest.mark.parametrize("cut", range(0, 560, 40))
def test_damaged_profiles_are_no_profiles(cut: int) -> None:
    from panokit._icc import parse_profile

    icc = display_p3()
    rng = np.random.default_rng(cut)
    noisy = bytearray(icc)
    for at in rng.integers(128, len(icc), 6):
        noisy[at] = rng.integers(0, 256)
    for data in (icc[:cut], bytes(noisy), bytes(cut)):
        space = parse_profile(data)
        assert space is None or np.isfinite(space.curve).all()


def test_light_of_16_bits_by_a_profile_keeps_its_darks() -> None:
    """A profile of gamma 1: eight bits of it would leave steps of 13 in the darks."""
    usual = GRADIENT / 255
    light = np.where(usual <= 0.04045, usual / 12.92, ((usual + 0.055) / 1.055) ** 2.4)
    icc = display_p3().replace(b"curv" + bytes(4) + b"\0\0\0\1\2\x33", b"curv" + bytes(4)
                               + b"\0\0\0\1\1\0")  # fmt: skip
    codes = np.round(light * 65535).astype(np.uint16)
    grey = np.repeat(codes[..., :1], 3, -1)
    photo = Photo.open(png(grey, chunk(b"iCCP", b"x\0\0" + zlib.compress(icc))))
    assert photo.color == "icc:Display P3"
    assert np.abs(photo.rgb_hwc.astype(int) - GRADIENT[..., :1]).max() <= 1
