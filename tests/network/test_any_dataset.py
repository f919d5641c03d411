"""Data sets of any kind as training and evaluation read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from panokit.errors import DataError, UsageError
from panokit.photo import Photo
from panokit_datasets.any_photo import AnyFolder
from panokit_datasets.classes import ClassList, camera_taxonomy
from panokit_datasets.photo_source import PhotoSource
from panokit_datasets.quality import evaluate
from panokit_datasets.readers import open_dataset
from panokit_network.torch_dataset import TorchDataset
from panokit_network.training.cache import PhotoCache
from tests.toys import datasets as toy


def test_a_reader_as_tensors(tmp_path: Path) -> None:
    toy.cityscapes(tmp_path)
    data = TorchDataset(open_dataset(tmp_path), masks=True)
    item = data[0]
    assert len(data) == 2
    assert item["image"].shape == (3, 8, 12)
    assert item["image"].dtype == torch.uint8
    assert item["masks"].shape == (7, 8, 12)
    assert item["masks"].sum() == (item["ids"] > 0).sum()
    names = [data.taxonomy.categories[c].name for c in item["labels"].tolist()]
    assert sorted(names) == ["car", "car", "car", "person", "person", "road", "sky"]
    assert int(item["is_crowd"].sum()) == 1
    mapped = TorchDataset(open_dataset(tmp_path), camera_taxonomy())[0]
    assert [camera_taxonomy().categories[c].name for c in mapped["labels"].tolist()] == names


def test_training_reads_any_kind_in_its_own_classes_or_in_others(tmp_path: Path) -> None:
    toy.kitti_2d(tmp_path / "in")
    source = PhotoSource.open(tmp_path / "in", None, None)
    assert len(source.taxonomy) == 19
    photos = source.photos("training")
    cache = PhotoCache.build(photos, source.taxonomy, tmp_path / "cache")
    assert len(cache) == 2
    decoded = photos[0].decode()
    assert decoded.record.complete
    assert int(decoded.segment_map.max()) == 7
    toy.write_json(tmp_path / "camera.json", camera_taxonomy().to_json())
    mapped = PhotoSource.open(tmp_path / "in", tmp_path / "camera.json", None)
    assert mapped.taxonomy == camera_taxonomy()
    assert not mapped.photos("training")[0].decode().record.complete
    with pytest.raises(UsageError, match="--pseudo"):
        PhotoSource.open(tmp_path / "in", None, tmp_path)
    with pytest.raises(DataError, match="no split 'val'"):
        source.photos("val")


def test_a_network_is_measured_on_any_kind(tmp_path: Path) -> None:
    """Perfect answers in the camera classes get all points on labels of Cityscapes."""
    toy.cityscapes(tmp_path)
    taxonomy = camera_taxonomy()
    photos = AnyFolder.open(tmp_path, taxonomy).split("val")
    truths = {p.load()[0].rgb_hwc.tobytes(): p.truth() for p in photos}

    def segment(photo: Photo) -> tuple[np.ndarray, list[tuple[int, int, float]]]:
        truth = truths[photo.rgb_hwc.tobytes()]
        kept = [s for s in truth.segments if not s.is_crowd]
        ids = np.where(np.isin(truth.ids, [s.id for s in kept]), truth.ids, 0)
        return ids, [(s.id, s.channel, 1.0) for s in kept]

    with pytest.raises(Exception, match="ids"):
        evaluate(lambda photo: (np.zeros((1, 1), np.int32), []), tmp_path, "val", taxonomy)
    result = evaluate(segment, tmp_path, "val", taxonomy)
    assert result.pq.all == 100
    assert result.complete == 0  # of classes that the set has not nothing is known
    own = open_dataset(tmp_path).taxonomy
    assert evaluate(lambda p: (np.zeros((8, 12), np.int32), []), tmp_path, "val", own).pq.all == 0
    with pytest.raises(DataError, match="none of its classes"):
        evaluate(segment, tmp_path, "val", ClassList.from_json(["teapot", "kettle"]).taxonomy)
