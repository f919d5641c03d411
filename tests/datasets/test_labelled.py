"""Reading a COCO-panoptic folder: right, or a clear error or a counted skip."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panokit.errors import DataError
from panokit_datasets.coco_panoptic import PanopticFolder
from panokit_datasets.labelled import load_split
from panokit_network.training.cache import PhotoCache
from tests.toys.data_folder import make_folder


@pytest.fixture
def folder(tmp_path: Path) -> PanopticFolder:
    return PanopticFolder.open(make_folder(tmp_path / "data"))


def edit(folder: PanopticFolder, change: Callable[[dict], object]) -> None:
    path = folder.root / "annotations" / "toy_train.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_photos_segments_and_taxonomy(folder: PanopticFolder) -> None:
    assert [c.name for c in folder.taxonomy] == ["disc", "square", "sky"]
    records = load_split(folder, "toy_train")
    assert len(records) == 12
    photo = records[0].decode()
    assert photo.record.complete  # without `labelled` the whole photo is labelled
    assert photo.image_hwc.shape == (64, 96, 3)
    assert sorted(np.unique(photo.segment_map)) == [1, 2, 3]
    assert [s.is_object for s in photo.record.segments] == [True, True, False]


def test_partial_labels(folder: PanopticFolder) -> None:
    def change(data: dict) -> None:
        data["images"][0]["labelled"] = [2]
        data["annotations"][0]["segments_info"][0]["iscrowd"] = 1
        data["annotations"][0]["segments_info"][1]["ignore"] = 1

    edit(folder, change)
    record = load_split(folder, "toy_train")[0].decode().record
    assert (record.absent, record.complete) == ((1,), False)
    assert [s.is_object for s in record.segments] == [False, False, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["annotations"].pop(), "images without annotation"),
        (
            lambda d: d["annotations"][3]["segments_info"][0].update(category_id=99),
            "image 3, segment 1: category 99 is not in the taxonomy",
        ),
        (
            lambda d: d["images"][0].update(file_name="../../etc/passwd"),
            "expected a path inside images/",
        ),
        (lambda d: d.pop("images"), "expected COCO panoptic JSON"),
    ],
    ids=["no annotation", "unknown category", "path climbs out", "no images"],
)
def test_bad_annotations(
    folder: PanopticFolder, change: Callable[[dict], object], message: str
) -> None:
    edit(folder, change)
    with pytest.raises(DataError, match=message):
        load_split(folder, "toy_train")


def test_missing_split_names_those_there(folder: PanopticFolder) -> None:
    with pytest.raises(DataError, match="splits here: toy_train"):
        load_split(folder, "nonsense")
    with pytest.raises(DataError, match="annotations"):
        PanopticFolder.open(folder.root / "images")


def test_a_reader_that_is_installed_later_is_used(
    folder: PanopticFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder.root / "images" / "toy_train" / "0.png"
    with Image.open(path) as image:
        image.save(path, "AVIF")  # by its name a PNG, which makes no difference
    records = load_split(folder, "toy_train")
    with monkeypatch.context() as without:
        without.setattr("PIL.features.check", lambda name: False)
        (reason,) = PhotoCache.build(records, folder.taxonomy, tmp_path / "cache").skipped
    assert "needs a Pillow that reads AVIF" in reason
    assert PhotoCache.build(records, folder.taxonomy, tmp_path / "cache").skipped == []


def test_undecodable_photos_are_skipped_and_counted(folder: PanopticFolder, tmp_path: Path) -> None:
    images, panoptic = folder.root / "images" / "toy_train", folder.root / "panoptic" / "toy_train"
    (images / "0.png").write_bytes((images / "0.png").read_bytes()[:200])  # corrupt
    (images / "1.png").write_bytes(b"")  # empty
    Image.new("RGB", (8, 8)).save(panoptic / "2.png")  # of another size
    Image.new("RGB", (96, 64), (9, 0, 0)).save(panoptic / "3.png")  # an id the JSON lacks
    records = load_split(folder, "toy_train")
    cache = PhotoCache.build(records, folder.taxonomy, tmp_path / "cache")
    assert len(cache) == 8
    reasons = " ".join(cache.skipped)
    assert len(cache.skipped) == 4
    assert "cannot be decoded" in reasons
    assert "expected size (96, 64) as in the JSON, got (8, 8)" in reasons
    assert "segment ids [9] are in the PNG but not in the JSON" in reasons


def test_cache_holds_what_decoding_gives(folder: PanopticFolder, tmp_path: Path) -> None:
    records = load_split(folder, "toy_train")
    for _ in range(2):  # made, then opened again
        cache = PhotoCache.build(records, folder.taxonomy, tmp_path / "cache")
        for i in (0, 7, 11):
            direct = records[i].decode()
            assert cache[i].record == direct.record
            assert (cache[i].image_hwc == direct.image_hwc).all()
            assert (cache[i].segment_map == direct.segment_map).all()
            assert cache[i].person is None
    assert len(list((tmp_path / "cache").glob("*.bin"))) == 1


def test_several_processes_make_the_same_cache(folder: PanopticFolder, tmp_path: Path) -> None:
    (folder.root / "images" / "toy_train" / "5.png").write_bytes(b"")
    photos = load_split(folder, "toy_train")
    one = PhotoCache.build(photos, folder.taxonomy, tmp_path / "one")
    two = PhotoCache.build(photos, folder.taxonomy, tmp_path / "two", processes=2)
    assert (one.records, one.offsets, one.skipped) == (two.records, two.offsets, two.skipped)
    assert (one.pixels == two.pixels).all()


def test_a_changed_photo_is_decoded_anew(folder: PanopticFolder, tmp_path: Path) -> None:
    first = PhotoCache.build(load_split(folder, "toy_train"), folder.taxonomy, tmp_path / "c")
    Image.new("RGB", (96, 64), (1, 2, 3)).save(folder.root / "images" / "toy_train" / "0.png")
    second = PhotoCache.build(load_split(folder, "toy_train"), folder.taxonomy, tmp_path / "c")
    assert (first[0].image_hwc != second[0].image_hwc).any()
    assert second[0].image_hwc[0, 0].tolist() == [1, 2, 3]


def test_photos_are_read_upright(folder: PanopticFolder, tmp_path: Path) -> None:
    """A photo that lies on its side in the file, with labels drawn on it as it is seen."""
    path = folder.root / "images" / "toy_train" / "0.png"
    with Image.open(path) as image:
        upright = np.asarray(image)
    exif = Image.Exif()
    exif[0x0112] = 3  # half a turn
    Image.fromarray(upright[::-1, ::-1]).save(path, exif=exif)
    photo = load_split(folder, "toy_train")[0].decode()
    assert (photo.image_hwc == upright).all()


def test_real_photo_set_reads(photo_set: Path) -> None:
    folder = PanopticFolder.open(photo_set)
    assert len(folder.taxonomy) == 26
    photo = load_split(folder, "coco_instances_val")[0].decode()
    assert all(s.score is None for s in photo.record.segments)  # validation: true labels alone
    everyday = load_split(folder, "coco_everyday_train")
    assert len(everyday) == 1000
    photo = everyday[0].decode()
    assert photo.record.segments
    assert all(s.score is not None for s in photo.record.segments)
