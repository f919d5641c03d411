"""Reading ground truth: what is read, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panokit.errors import DataError
from panokit.taxonomy import Taxonomy
from panokit_datasets.coco_panoptic import TruthSegment, decode_ids, load_truth, open_photo, splits

PERSON, SKY, DOG, ROAD = range(4)


def description(taxonomy: Taxonomy) -> dict[str, Any]:
    """Two photos of 4 × 3: the first labelled for dog and person only, the second in full."""
    sizes = {"width": 4, "height": 3}
    person = {"id": 70_000, "category_id": 1}
    dogs = {"id": 2, "category_id": 3, "iscrowd": 1}
    unsure = {"id": 3, "category_id": 7, "iscrowd": 1, "ignore": 1}
    return {
        "images": [
            {"id": 9, "file_name": "b/second.png", **sizes},
            {"id": 4, "file_name": "first.png", "labelled": [3, 1], **sizes},
        ],
        "annotations": [
            {"image_id": 4, "file_name": "first.png", "segments_info": [person, dogs, unsure]},
            {"image_id": 9, "file_name": "b/second.png", "segments_info": []},
        ],
        "categories": taxonomy.to_json()["categories"],
    }


def save_ids(path: Path, ids: Any) -> None:
    array = np.asarray(ids)
    rgb = np.stack([array % 256, array // 256 % 256, array // 65536], axis=-1).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)


@pytest.fixture
def data_dir(tmp_path: Path, taxonomy: Taxonomy) -> Path:
    root = tmp_path / "data"
    for name in ("first.png", "b/second.png"):
        save_ids(root / "images" / name, np.zeros((3, 4), int))
        save_ids(root / "panoptic" / name, np.zeros((3, 4), int))
    save_ids(root / "panoptic/first.png", [[70_000, 0, 2, 3]] * 3)
    (root / "annotations").mkdir()
    write(root, description(taxonomy))
    return root


def write(root: Path, data: Any) -> None:
    text = data if isinstance(data, str) else json.dumps(data)
    (root / "annotations" / "val.json").write_text(text, encoding="utf-8")


def test_reading(data_dir: Path, taxonomy: Taxonomy) -> None:
    first, second = load_truth(data_dir, "val", taxonomy)
    assert (first.image_id, first.name, first.size_wh) == (4, "first.png", (4, 3))
    assert (first.labelled, first.absent, first.complete) == ((PERSON, DOG),) * 2 + (False,)
    assert (second.labelled, second.absent, second.complete) == ((0, 1, 2, 3), (), True)
    assert first.segments == (
        TruthSegment(70_000, PERSON, True),
        TruthSegment(2, DOG, True, is_crowd=True),
        TruthSegment(3, ROAD, False, is_crowd=True, ignore=True),
    )
    ids = decode_ids(first)
    assert ids.dtype == np.int32
    assert ids.tolist() == [[70_000, 0, 2, 3]] * 3
    assert open_photo(second).size_wh == (4, 3)
    assert splits(data_dir) == ["val"]


def test_labelled_with_all_categories_is_complete(data_dir: Path, taxonomy: Taxonomy) -> None:
    data = description(taxonomy)
    data["images"][1]["labelled"] = [7, 3, 2, 1, 1]
    write(data_dir, data)
    assert load_truth(data_dir, "val", taxonomy)[0].complete


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("images"), "images is not a list of objects"),
        (lambda d: d["images"].append(7), "images is not a list of objects"),
        (lambda d: d["images"].pop(), r"images without annotation or the reverse: ids \[4\]"),
        (lambda d: d["images"].append(d["images"][0]), "one entry of images per photo.*two for 9"),
        (lambda d: d["images"][0].pop("width"), "image 9: width: expected a whole number.*None"),
        (lambda d: d["images"][0].update(width=-3), "image 9: width: expected a whole number"),
        (lambda d: d["images"][0].update(height=True), "image 9: height: expected a whole number"),
        (lambda d: d["images"][0].update(width=10**7, height=10**7), "at most 120000000 pixels"),
        (lambda d: d["images"][0].update(labelled=3), "expected 'labelled' to be a list"),
        (lambda d: d["images"][0].update(labelled=[9]), "labelled: category 9 is not in the tax"),
        (lambda d: d["images"][0].update(file_name=None), "expected a path inside images/, got No"),
        (lambda d: d["annotations"][0].update(segments_info={}), "segments_info is not a list"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(id=0), "from 1 to 16777215"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(id=2), "got 2 twice"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(category_id="1"), "got '1'"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(category_id=5), "category 5 is"),
        (lambda d: d["categories"][1].update(name="sea"), "category 2 to be 'sky'.*got 'sea'"),
    ],
)
def test_a_wrong_description_is_refused(
    data_dir: Path, taxonomy: Taxonomy, change: Change, message: str
) -> None:
    data = description(taxonomy)
    change(data)
    write(data_dir, data)
    with pytest.raises(DataError, match=message) as caught:
        load_truth(data_dir, "val", taxonomy)
    assert caught.value.path.endswith("val.json")


@pytest.mark.parametrize(
    "name",
    ["../x.png", "a/../../x.png", "/etc/passwd", "..\\x.png", "C:\\x.png", "C:x.png", "\\x", "",
     "a\0b", 7],
)  # fmt: skip
@pytest.mark.parametrize("part", ["images", "annotations"])
def test_paths_stay_inside_the_folder(
    data_dir: Path, taxonomy: Taxonomy, part: str, name: object
) -> None:
    data = description(taxonomy)
    data[part][0]["file_name"] = name
    write(data_dir, data)
    with pytest.raises(DataError, match="expected a path inside"):
        load_truth(data_dir, "val", taxonomy)


@pytest.mark.parametrize("text", ["", "[]", "{", "7", "[" * 100_000, "nul"])
def test_what_is_not_such_json_is_refused(data_dir: Path, taxonomy: Taxonomy, text: str) -> None:
    write(data_dir, text)
    with pytest.raises(DataError, match="expected COCO panoptic JSON"):
        load_truth(data_dir, "val", taxonomy)


@pytest.mark.parametrize("split", ["test", "../annotations/val", "", "/val"])
def test_unknown_splits_are_refused_with_the_known_ones(
    data_dir: Path, taxonomy: Taxonomy, split: str
) -> None:
    with pytest.raises(DataError, match="no such split; splits here: val"):
        load_truth(data_dir, split, taxonomy)


def test_a_folder_without_annotations_is_refused(tmp_path: Path, taxonomy: Taxonomy) -> None:
    with pytest.raises(DataError, match="expected a data set folder that holds 'annotations/'"):
        load_truth(tmp_path, "val", taxonomy)


def test_sizes_and_ids_must_agree(data_dir: Path, taxonomy: Taxonomy) -> None:
    first, second = load_truth(data_dir, "val", taxonomy)
    save_ids(data_dir / "panoptic/first.png", [[70_000, 5, 6]])
    with pytest.raises(DataError, match=r"expected size \(4, 3\) as in the JSON, got \(3, 1\)"):
        decode_ids(first)
    save_ids(data_dir / "panoptic/first.png", [[70_000, 5, 6, 6]] * 3)
    with pytest.raises(DataError, match=r"segment ids \[5, 6\] are in the PNG but not in the JSON"):
        decode_ids(first)
    save_ids(data_dir / "images/b/second.png", [[1]])
    with pytest.raises(DataError, match=r"expected size \(4, 3\) as in the JSON, got \(1, 1\)"):
        open_photo(second)


def test_files_that_cannot_be_read(data_dir: Path, taxonomy: Taxonomy) -> None:
    first, second = load_truth(data_dir, "val", taxonomy)
    Image.new("L", (4, 3)).save(data_dir / "panoptic/first.png")
    with pytest.raises(DataError, match=r"expected a colour PNG .* got mode L"):
        decode_ids(first)
    (data_dir / "panoptic/first.png").write_bytes(b"\x89PNG\r\n\x1a\nand nothing more")
    with pytest.raises(DataError, match="cannot be decoded"):
        decode_ids(first)
    (data_dir / "panoptic/first.png").unlink()
    with pytest.raises(DataError, match="no such file"):
        decode_ids(first)
    (data_dir / "images/b/second.png").write_bytes(b"text")
    with pytest.raises(DataError, match="is not a photo in a known format"):
        open_photo(second)


def test_every_split_of_the_photo_set_is_read(photo_set: Path) -> None:
    taxonomy = Taxonomy.load(photo_set / "taxonomy.json")
    by_split = {s: load_truth(photo_set, s, taxonomy) for s in splits(photo_set)}
    complete = {s for s, photos in by_split.items() if all(p.complete for p in photos)}
    assert complete == {"coco_panoptic_train", "coco_panoptic_val", "scenes_train"}
    assert len(by_split["coco_panoptic_val"]) == 50
    photo = by_split["voc_val"][0]
    assert decode_ids(photo).shape == open_photo(photo).size_wh[::-1]
