"""Files of other tools: annotations of other kinds, marks of byte order, files of the system."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from panokit.errors import ArgumentError, DataError
from panokit.taxonomy import Taxonomy
from panokit_datasets.coco_panoptic import PanopticFolder, decode_ids, load_truth, splits
from panokit_datasets.commands.label import _lines
from panokit_datasets.foreign import foreign_kind
from panokit_datasets.labelled import load_split
from panokit_datasets.packs import PackFolder, write_packs
from panokit_datasets.pseudo import read_pseudo_labels
from tests.toys.data_folder import CATEGORIES, make_folder

CONVERTER = "detection2panoptic_coco_format.py"
IMAGES = [{"id": 7, "file_name": "7.jpg", "width": 4, "height": 3}]


def coco(**annotation: Any) -> dict[str, Any]:
    return {"images": IMAGES, "categories": CATEGORIES, "annotations": [annotation]}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (coco(id=1, image_id=7, category_id=1, bbox=[0, 0, 2, 2]), ("instances", CONVERTER)),
        (
            coco(id=1, image_id=7, category_id=1, segmentation={"counts": [12], "size": [3, 4]}),
            ("instances", CONVERTER),
        ),
        (coco(id=1, image_id=7, category_id=1, keypoints=[1, 1, 2]), ("instances", CONVERTER)),
        (coco(id=1, image_id=7, caption="a dog"), ("captions",)),
        ([{"image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 2], "score": 0.5}], (CONVERTER,)),
        ([{"image_id": 7, "segments_info": []}], ("panoptic results",)),
        ([{"id": 1, "annotations": [], "data": {}}], ("Label Studio", CONVERTER)),
        ({"shapes": [], "imagePath": "a.jpg"}, ("LabelMe", CONVERTER)),
        ({"imgHeight": 3, "imgWidth": 4, "objects": []}, ("Cityscapes", "csCreatePanopticImgs")),
        ({"a.jpg1": {"filename": "a.jpg", "regions": []}}, ("VGG Image Annotator",)),
        ({"type": "FeatureCollection", "features": []}, ("GeoJSON",)),
    ],
    ids=lambda v: v[0] if isinstance(v, tuple) else None,
)
def test_annotations_of_another_kind_are_called_what_they_are(
    tmp_path: Path, taxonomy: Taxonomy, data: object, words: tuple[str, ...]
) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "val.json").write_text(json.dumps(data))
    for word in words:
        with pytest.raises(DataError, match=re.escape(word)):
            load_truth(tmp_path, "val", taxonomy)
    if not isinstance(data, dict) or "categories" not in data:
        with pytest.raises(DataError, match=re.escape(words[0])):  # no taxonomy file beside it
            PanopticFolder.open(tmp_path)


@pytest.mark.parametrize(
    "data",
    [{}, [], [7], {"annotations": []}, {"annotations": 7}, {"annotations": [7]}, 7, None,
     {"annotations": [{"segments_info": [], "bbox": [1, 2, 3, 4]}]}],
    ids=repr,
)  # fmt: skip
def test_what_is_of_no_known_kind_is_not_called_one(data: object) -> None:
    assert foreign_kind(data) is None


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_every_text_of_a_data_set_may_be_in_any_unicode_encoding(
    tmp_path: Path, encoding: str
) -> None:
    root = make_folder(tmp_path, photos=2)
    line = {"file": "toy/0.png", "size": [96, 64], "segments": [{"i": 1, "c": 1, "s": 0.5}]}
    (root / "pseudo").mkdir()
    (root / "pseudo" / "toy.jsonl").write_text(json.dumps(line) + "\n")
    (root / "taxonomy.json").write_text(json.dumps({"name": "ü", "categories": CATEGORIES}))
    (root / "names.txt").write_text("é.jpg\n1.png\n", encoding="utf-8")
    texts = [root / "annotations" / "toy_train.json", root / "pseudo" / "toy.jsonl"]
    for path in (*texts, root / "taxonomy.json", root / "names.txt"):
        path.write_text(path.read_text(encoding="utf-8"), encoding=encoding)
    folder = PanopticFolder.open(root)
    assert folder.taxonomy.name == "ü"
    assert len(load_split(folder, "toy_train")) == 2
    assert list(read_pseudo_labels(root, "toy", folder.taxonomy)) == ["toy/0.png"]
    assert _lines(root / "names.txt") >= {"é.jpg", "1.png"}


def test_text_in_no_unicode_encoding_is_a_sentence(tmp_path: Path) -> None:
    root = make_folder(tmp_path, photos=1)
    taxonomy = PanopticFolder.open(root).taxonomy
    (root / "pseudo").mkdir()
    (root / "pseudo" / "toy.jsonl").write_bytes(b'{"file": "\xe9.png"}\n')
    with pytest.raises(DataError, match=r"toy\.jsonl"):
        read_pseudo_labels(root, "toy", taxonomy)
    with pytest.raises(ArgumentError, match=r"--only .* cannot be read"):
        _lines(root / "nowhere.txt")


def test_files_of_the_finder_are_no_splits_and_no_packs(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", photos=2)
    (root / "annotations" / "._toy_train.json").write_bytes(b"\0\5\x16\7\0\2\0\0")
    assert splits(root) == ["toy_train"]
    folder = PanopticFolder.open(root)
    packs = tmp_path / "packs"
    write_packs([("toy_train", p) for p in load_split(folder, "toy_train")], folder.taxonomy, packs)
    (packs / "._000.pack.zip").write_bytes(b"\0\5\x16\7\0\2\0\0")
    assert len(PackFolder.open(packs).photos) == 2


def test_file_names_with_backslashes_lie_in_folders(tmp_path: Path) -> None:
    root = make_folder(tmp_path, photos=1)
    path = root / "annotations" / "toy_train.json"
    path.write_text(path.read_text().replace("toy_train/", "toy_train\\\\"))
    (truth,) = load_truth(root, "toy_train", PanopticFolder.open(root).taxonomy)
    assert decode_ids(truth).shape == (64, 96)
