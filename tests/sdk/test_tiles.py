"""Large images in tiles: one map, one segment for an object across tiles, flat memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from panokit import tiles as tiles_module
from panokit.cli.shell import app
from panokit.decoding import DecodedSegment, PanopticMap
from panokit.errors import ArgumentError, PhotoError, UsageError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig, letterbox
from panokit.result import PanopticResult
from panokit.segmenter import Segmenter
from panokit.taxonomy import Taxonomy
from panokit.tiles import segment_tiles, tile_grid

SKY, GROUND = 1, 3


class ByColor:
    """A segmenter that sees as far as a pixel and its neighbours: red and green blobs are persons
    and dogs, blue is sky, grey a road, black nothing."""

    class _Manifest:
        preprocessing = PreprocessConfig((64, 64))

    class _Bundle:
        manifest: Any = None

    class _Artifact:
        name = "by color"

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self.bundle = self._Bundle()
        self.bundle.manifest = self._Manifest()
        self.artifact = self._Artifact()

    def segment(self, photo: Photo | Path) -> PanopticResult:
        photo = photo if isinstance(photo, Photo) else Photo.open(photo)
        rgb = photo.rgb_hwc.astype(int)
        ids = np.zeros(rgb.shape[:2], np.int32)
        segments: list[DecodedSegment] = []
        for channel, color in ((0, (255, 0, 0)), (2, (0, 255, 0))):
            for mask in blobs((rgb == color).all(-1)):
                segments.append(DecodedSegment(len(segments) + 1, channel, True, 0.9, 1))
                ids[mask] = len(segments)
        for channel, color in ((SKY, (0, 0, 255)), (GROUND, (128, 128, 128))):
            mask = (rgb == color).all(-1)
            if mask.any():
                segments.append(DecodedSegment(len(segments) + 1, channel, False, 0.5, 1))
                ids[mask] = len(segments)
        transform = letterbox(photo.size_wh, photo.size_wh)
        decoded = PanopticMap(ids, tuple(segments))
        return PanopticResult.from_map(photo, decoded, self.taxonomy, transform)


def blobs(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """The connected parts of a mask."""
    label = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        padded = np.pad(label, 1)
        near = np.maximum.reduce(
            [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1], label]
        )
        grown = np.where(mask, near, 0)
        if np.array_equal(grown, label):
            return [label == v for v in np.unique(label) if v]
        label = grown


def scene() -> NDArray[np.uint8]:
    rgb = np.full((200, 300, 3), 128, np.uint8)
    rgb[:60] = (0, 0, 255)
    rgb[95:175, 60:200] = (255, 0, 0)  # across four tiles and more
    rgb[100:120, 205:215] = (255, 0, 0)  # beside it
    rgb[70:80, 5:290] = (0, 255, 0)  # a long one
    rgb[190:198, 150:158] = (0, 255, 0)
    rgb[0:10, 0:10] = 0
    return rgb


def same_up_to_numbers(a: NDArray[np.int32], b: NDArray[np.int32]) -> bool:
    pairs = {(int(x), int(y)) for x, y in zip(a.ravel(), b.ravel(), strict=True)}
    return len(pairs) == len({p[0] for p in pairs}) == len({p[1] for p in pairs})


@pytest.mark.parametrize("overlap", [0.25, 0.4, 0.6])
@pytest.mark.parametrize("tile", [None, 90, 130])
def test_tiles_show_what_the_whole_shows(
    tile: int | None, overlap: float, taxonomy: Taxonomy
) -> None:
    segmenter: Any = ByColor(taxonomy)
    photo = Photo.from_array(scene())
    whole = segmenter.segment(photo)
    found = segment_tiles(segmenter, photo, tile=tile, overlap=overlap)
    assert found.tiles > 4
    assert same_up_to_numbers(np.asarray(found.ids), whole.id_map)
    assert [s.id for s in found.segments] == list(range(1, len(whole) + 1))
    described = [sorted((s.category.name, s.area, s.box_xyxy) for s in r) for r in
                 (found.segments, whole)]  # fmt: skip
    assert described[0] == described[1]
    assert found.result(photo).counts == {"person": 2, "dog": 2}


def test_a_large_map_lies_in_a_file(taxonomy: Taxonomy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles_module, "LARGE", 1000)
    segmenter: Any = ByColor(taxonomy)
    found = segment_tiles(segmenter, Photo.from_array(scene()))
    assert isinstance(found.ids, np.memmap)
    assert same_up_to_numbers(np.asarray(found.ids), segmenter.segment(Photo(scene())).id_map)


@pytest.mark.parametrize("size", [(300, 200), (64, 64), (10, 500), (65, 63), (1000, 17)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
def test_cores_share_the_image_out(size: tuple[int, int], overlap: float) -> None:
    seen = np.zeros(size[::-1], int)
    for tile in tile_grid(size, (64, 64), overlap):
        x0, y0, x1, y1 = tile.window
        assert (x1 - x0, y1 - y0) == (min(64, size[0]), min(64, size[1]))
        cx0, cy0, cx1, cy1 = tile.core
        assert x0 <= cx0 < cx1 <= x1
        assert y0 <= cy0 < cy1 <= y1
        seen[cy0:cy1, cx0:cx1] += 1
    assert (seen == 1).all()


def test_bad_tiles_are_told(taxonomy: Taxonomy) -> None:
    with pytest.raises(ArgumentError, match="share of the tile"):
        tile_grid((100, 100), (64, 64), 0.9)
    with pytest.raises(ArgumentError, match="at least 16 pixels"):
        tile_grid((100, 100), (8, 64))


# -------------------------------------------------------------------------------------------- TIFF

LAYOUTS: list[dict[str, Any]] = [
    {"tile": (64, 64)}, {"rowsperstrip": 16}, {"tile": (64, 64), "compression": "zlib"},
    {"planarconfig": "separate", "tile": (64, 64)}, {"planarconfig": "separate", "rowsperstrip": 9},
    {"tile": (64, 64), "compression": "zlib", "predictor": True}, {"byteorder": ">"},
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_windows_of_a_tiff_are_its_pixels(layout: dict[str, Any], tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    from panokit.windows import TiffWindows

    rgb = np.random.default_rng(0).integers(0, 255, (100, 150, 3), np.uint8)
    stored = np.moveaxis(rgb, -1, 0).copy() if "planarconfig" in layout else rgb
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric="rgb", **layout)
    with TiffWindows(path) as windows:
        assert windows.size_wh == (150, 100)
        for left, top, w, h in ((0, 0, 150, 100), (30, 20, 70, 50), (100, 90, 50, 10)):
            got = windows.read(left, top, w, h)
            assert np.array_equal(got, rgb[top : top + h, left : left + w])


def test_grey_of_16_bits_is_stretched_between_levels(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    from panokit.windows import TiffWindows, tiff_pages

    grey = np.linspace(1000, 3000, 128 * 128).reshape(128, 128).astype(np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([grey, grey[::-1]]), photometric="minisblack")
    assert tiff_pages(path) == [0, 1]
    with TiffWindows(path, levels=(1500, 2500)) as windows:
        pixels = windows.read(0, 0, 128, 128)
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert pixels[-1, -1].tolist() == [255, 255, 255]
    assert abs(int(pixels[64, 0, 0]) - 128) <= 2
    with TiffWindows(path, 1) as windows:
        low, high = windows.levels
        assert (windows.read(0, 0, 1, 1) > 250).all()
    assert 1000 < low < 1030
    assert 2970 < high < 3000
    tifffile.imwrite(path, grey, photometric="miniswhite")
    with TiffWindows(path) as windows:
        assert (windows.read(0, 0, 1, 1) > 250).all()
    with pytest.raises(PhotoError, match="no page 7"):
        TiffWindows(path, 7)


def test_damaged_tiffs_end_in_a_sentence(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    from panokit.windows import TiffWindows

    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), photometric="rgb", compression="zlib")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    told: list[str] = []
    for trial in range(150):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 3):
            data[at] = int(rng.integers(0, 256))
        if trial % 10 == 0:
            data = data[: int(rng.integers(1, len(data)))]
        path.write_bytes(data)
        try:
            with TiffWindows(path) as windows:
                w, h = windows.size_wh
                windows.read(0, 0, min(w, 64), min(h, 64))
        except PhotoError as error:
            told.append(str(error))
    assert len(told) > 50
    assert all(str(path) in sentence for sentence in told)


def test_the_command_segments_every_page_in_tiles(
    tmp_path: Path, taxonomy: Taxonomy, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile = pytest.importorskip("tifffile")
    monkeypatch.setattr(Segmenter, "open", lambda *_: ByColor(taxonomy))
    tifffile.imwrite(tmp_path / "a.tif", np.stack([scene(), scene()[:, ::-1]]), photometric="rgb")
    Image.fromarray(scene()).save(tmp_path / "b.png")
    words = ["segment", str(tmp_path / "a.tif"), str(tmp_path / "b.png"), "--tiles", "0"]
    out = tmp_path / "out"
    run = CliRunner().invoke(app, [*words, "--out", str(out), "--json", str(out / "all.json")])
    assert run.exit_code == 0, run.output
    data = json.loads((out / "all.json").read_text("utf-8"))
    assert [e["counts"] for e in data["results"]] == [{"person": 2, "dog": 2}] * 3
    names = {"a.page0", "a.page1", "b"}
    assert {p.name.removesuffix(".overlay.png") for p in out.glob("*.overlay.png")} == names
    rgb = np.asarray(Image.open(out / "a.page1.ids.png")).astype(int)
    ids = rgb[..., 0] + 256 * rgb[..., 1]
    assert len(np.unique(ids)) == 7
    run = CliRunner().invoke(app, [*words[:3], "--out", str(out), "--levels", "1,2"])
    assert isinstance(run.exception, UsageError)


def test_a_map_beyond_a_png_is_a_tiff(
    tmp_path: Path, taxonomy: Taxonomy, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile = pytest.importorskip("tifffile")
    from panokit.cli import tiled

    monkeypatch.setattr(tiled, "MAX_PIXELS", 1000)
    segmenter: Any = ByColor(taxonomy)
    Image.fromarray(scene()).save(tmp_path / "b.png")
    job = tiled.TiledJob(segmenter, ("person",), None, 0.25, None, None)
    (made,) = tiled.segment_large(job, "b", tmp_path / "b.png", tmp_path)
    assert made.entry["counts"] == {"person": 2}
    ids = tifffile.imread(tmp_path / "b.ids.tif")
    assert ids.shape == (200, 300)
    whole = segmenter.segment(Photo(scene()))
    assert np.array_equal(ids > 0, whole.mask(*whole.find("person")))
