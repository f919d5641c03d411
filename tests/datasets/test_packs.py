"""Packs: what comes out is what went in, in files of a limited size; damaged ones are refused."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from panokit.errors import ArgumentError, DataError
from panokit_datasets.coco_panoptic import PanopticFolder
from panokit_datasets.commands.dataset import pack as pack_command
from panokit_datasets.labelled import load_split
from panokit_datasets.packs import PackFolder, write_packs
from panokit_datasets.records import DecodedPhoto, PhotoRecord, SegmentRecord
from panokit_network.training.cache import PhotoCache
from tests.toys.data_folder import make_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> PanopticFolder:
    return PanopticFolder.open(make_folder(tmp_path_factory.mktemp("data")))


def pack(folder: PanopticFolder, out: Path, **options: int) -> PackFolder:
    photos = [("toy_train", p) for p in load_split(folder, "toy_train")]
    paths, skipped = write_packs(photos, folder.taxonomy, out, **options)
    assert skipped == []
    assert all(p.stat().st_size <= options.get("max_bytes", 36 * 2**20) for p in paths)
    return PackFolder.open(out)


def blocks(image_hwc: np.ndarray) -> np.ndarray:
    h, w, _ = image_hwc.shape
    return image_hwc.reshape(h // 8, 8, w // 8, 8, 3).mean((1, 3))


def test_labels_come_back_exactly_and_pixels_nearly(folder: PanopticFolder, tmp_path: Path) -> None:
    packs = pack(folder, tmp_path / "packs", side=96, quality=95)
    assert packs.taxonomy == folder.taxonomy
    assert packs.splits() == ["toy_train"]
    originals = load_split(folder, "toy_train")
    assert [p.name for p in packs.photos] == [p.name for p in originals]
    for packed, original in zip(packs.photos, originals, strict=True):
        a, b = packed.decode(), original.decode()
        assert a.record == b.record
        assert (a.segment_map == b.segment_map).all()
        # The photos are full of noise, which no codec keeps: means of 8 × 8 pixels.
        assert np.abs(blocks(a.image_hwc) - blocks(b.image_hwc)).mean() < 2


def test_photos_are_made_smaller(folder: PanopticFolder, tmp_path: Path) -> None:
    photo = pack(folder, tmp_path / "packs", side=48).photos[0].decode()
    assert photo.image_hwc.shape == (32, 48, 3)
    whole = load_split(folder, "toy_train")[0].decode().segment_map
    assert (photo.segment_map == whole[1::2, 1::2]).all()


def test_many_small_packs_are_one_data_set(folder: PanopticFolder, tmp_path: Path) -> None:
    packs = pack(folder, tmp_path / "packs", max_bytes=80_000)
    assert len({p.path for p in packs.photos}) > 1
    cache = PhotoCache.build(packs.photos, packs.taxonomy, tmp_path / "cache", processes=2)
    assert len(cache) == 12
    assert cache.skipped == []


class _Made:
    """A photo of 16 × 16 with any labels."""

    name, source, key = "x/a.png", "x", "a"

    def __init__(self, photo: DecodedPhoto) -> None:
        self.photo = photo

    def decode(self) -> DecodedPhoto:
        return self.photo


def test_scores_person_maps_and_many_segments_survive(
    folder: PanopticFolder, tmp_path: Path
) -> None:
    uncertain = SegmentRecord(1, True, is_crowd=True, ignore=True)
    segments = (*[SegmentRecord(0, True, score=0.125)] * 256, uncertain)
    record = PhotoRecord("x/a.png", "x", (16, 16), segments, (1,), False)
    ids = np.arange(1, 257, dtype=np.uint16).reshape(16, 16)
    ids[0, 0] = 257
    person = (np.arange(256) % 16).astype(np.uint8).reshape(16, 16)
    photo = DecodedPhoto(record, np.zeros((16, 16, 3), np.uint8), ids, person)
    write_packs([("x_train", _Made(photo))], folder.taxonomy, tmp_path)
    back = PackFolder.open(tmp_path).photos[0].decode()
    assert back.record == record
    assert (back.segment_map == ids).all()
    assert back.person is not None
    assert (back.person == person).all()


def rewrite(path: Path, member: str, data: bytes) -> None:
    with zipfile.ZipFile(path) as old:
        members = {n: old.read(n) for n in old.namelist()} | {member: data}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)


def test_damaged_packs_are_refused(folder: PanopticFolder, tmp_path: Path) -> None:
    packs = pack(folder, tmp_path)
    path = packs.photos[0].path
    wrong = io.BytesIO()
    Image.new("RGB", (8, 8)).save(wrong, "WEBP")
    rewrite(path, "0.webp", wrong.getvalue())
    with pytest.raises(DataError, match=r"0\.webp: expected size \(96, 64\), got \(8, 8\)"):
        packs.photos[0].decode()
    rewrite(path, "0.webp", b"nonsense")
    with pytest.raises(DataError, match=r"0\.webp: cannot be read"):
        packs.photos[0].decode()
    strange = io.BytesIO()
    Image.new("L", (96, 64), 200).save(strange, "PNG")
    rewrite(path, "1.png", strange.getvalue())
    with pytest.raises(DataError, match="a segment that the index lacks"):
        packs.photos[1].decode()
    rewrite(path, "index.json", b"{}")
    with pytest.raises(DataError, match="not the index of a pack"):
        PackFolder.open(tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="expected a pack"):
        PackFolder.open(tmp_path)
    with pytest.raises(DataError, match="expected packs"):
        PackFolder.open(tmp_path / "nowhere")


def test_an_index_with_wild_sizes_is_refused(folder: PanopticFolder, tmp_path: Path) -> None:
    path = pack(folder, tmp_path).photos[0].path
    with zipfile.ZipFile(path) as opened:
        index = json.loads(opened.read("index.json"))
    index["photos"][0]["size"] = [10**6, 10**6]
    rewrite(path, "index.json", json.dumps(index).encode())
    with pytest.raises(DataError, match="expected sides from 1 to 1024"):
        PackFolder.open(tmp_path)


def test_settings_that_make_no_packs(folder: PanopticFolder, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="side"):
        write_packs([], folder.taxonomy, tmp_path, side=5000)
    with pytest.raises(ArgumentError, match="quality"):
        write_packs([], folder.taxonomy, tmp_path, quality=0)
    pack(folder, tmp_path)
    with pytest.raises(DataError, match="holds packs already"):
        pack(folder, tmp_path)


def test_the_command_counts_what_it_leaves_out(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", photos=3)
    pack_command(root, tmp_path / "whole")
    (root / "images" / "toy_train" / "1.png").write_bytes(b"no photo")
    with pytest.raises(typer.Exit) as left:
        pack_command(root, tmp_path / "packs")
    assert left.value.exit_code == 2
    assert len(PackFolder.open(tmp_path / "packs").photos) == 2
