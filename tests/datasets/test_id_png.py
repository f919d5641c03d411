"""PNGs of segment ids: both decoders give the same, and both refuse the same."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panokit.errors import DataError
from panokit_datasets.id_png import ids_of, read_id_png


@pytest.fixture(params=["fast", "pillow"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pillow":
        monkeypatch.setitem(sys.modules, "kornia_rs.io", None)
    return str(request.param)


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("optimize", [False, True])
def test_ids_come_back(tmp_path: Path, optimize: bool) -> None:
    rng = np.random.default_rng(1)
    for at, shape in enumerate([(1, 1), (3, 5), (40, 33)]):
        rgb = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        path = tmp_path / f"{at}.png"
        Image.fromarray(rgb).save(path, optimize=optimize)
        found = read_id_png(path, shape[::-1])
        assert np.array_equal(found, rgb)
        expected = rgb.astype(np.int64) @ [1, 256, 65536]
        assert np.array_equal(ids_of(found), expected)


@pytest.mark.usefixtures("decoder")
def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(path)
    with pytest.raises(DataError, match=r"size \(4, 6\)"):
        read_id_png(path, (4, 6))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(DataError, match="cannot be decoded"):
        read_id_png(path)
    head = bytearray(whole)
    head[16:24] = (2**30).to_bytes(4, "big") * 2
    head[29:33] = zlib.crc32(head[12:29]).to_bytes(4, "big")
    path.write_bytes(head)
    with pytest.raises(DataError, match="pixels"):
        read_id_png(path)
    for mode in ("L", "I;16"):
        Image.new(mode, (6, 4)).save(path)
        with pytest.raises(DataError, match="colour PNG"):
            read_id_png(path)
    with pytest.raises(DataError, match="no such file"):
        read_id_png(tmp_path / "none.png")


@pytest.mark.usefixtures("decoder")
def test_other_colour_pngs_are_read(tmp_path: Path) -> None:
    rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    for name, image in (
        ("alpha", Image.fromarray(rgb).convert("RGBA")),
        ("palette", Image.fromarray(rgb).quantize(8)),
    ):
        path = tmp_path / f"{name}.png"
        image.save(path)
        assert np.array_equal(read_id_png(path), np.asarray(image.convert("RGB")))
