"""Persons known by their boxes alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panokit.errors import DataError
from panokit_network.boxes import paint_boxes
from panokit_network.data import PanopticFolder, decode_photo, load_split

PERSON = np.array(
    [
        [1, 1, 1, 1, 0, 0, 1],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
    ],
    bool,
)


def test_pixels_go_to_the_nearest_box_and_the_rest_is_uncertain() -> None:
    # Two boxes of 3 × 3 that share column 2, as far from both; the first wins a tie.
    owner, uncertain = paint_boxes([(0, 0, 3, 3), (2, 0, 3, 3)], PERSON)
    assert owner.tolist() == [
        [1, 1, 1, 2, 0, 0, 0],
        [1, 1, 1, 2, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
    ]
    # in a box but no person seen; or a person outside every box
    assert uncertain.tolist() == [
        [False, False, False, False, True, False, True],
        [False, False, False, False, True, False, False],
        [False, False, True, True, True, False, False],
    ]


def test_a_box_that_the_teacher_missed_is_uncertain() -> None:
    seen = np.zeros((10, 10), bool)
    seen[0, :9] = True  # 9 of 100 pixels
    owner, uncertain = paint_boxes([(0, 0, 10, 10)], seen)
    assert not owner.any()
    assert uncertain.all()


@pytest.fixture
def folder(tmp_path: Path) -> PanopticFolder:
    """One photo of 7 × 3 without segments, with a teacher map."""
    root = tmp_path / "data"
    for name in ("annotations", "images", "panoptic", "teacher"):
        (root / name).mkdir(parents=True)
    Image.new("RGB", (7, 3)).save(root / "images" / "a.png")
    Image.new("RGB", (7, 3)).save(root / "panoptic" / "a.png")
    Image.fromarray(np.where(PERSON, 4, 0).astype(np.uint8)).save(root / "teacher" / "a.png")
    image = {"id": 1, "file_name": "a.png", "width": 7, "height": 3, "labelled": [],
             "teacher": "a.png", "person_boxes": [[0, 0, 3, 3], [2, 0, 3, 3]]}  # fmt: skip
    categories = [
        {"id": 4, "name": "person", "isthing": 1},
        {"id": 9, "name": "sky", "isthing": 0},
    ]
    annotations = [{"image_id": 1, "file_name": "a.png", "segments_info": []}]
    data = {"images": [image], "annotations": annotations, "categories": categories}
    (root / "annotations" / "x_train.json").write_text(json.dumps(data))
    return PanopticFolder.open(root)


def test_boxes_become_objects_of_a_photo(folder: PanopticFolder) -> None:
    (record,) = load_split(folder, "x_train")
    assert [s.is_object for s in record.segments] == [True, True, False]
    assert [s.ignore for s in record.segments] == [False, False, True]
    assert record.absent == (0,)  # no person outside the boxes
    photo = decode_photo(record, folder.taxonomy)
    assert photo.segment_map.tolist() == [
        [1, 1, 1, 2, 3, 0, 3],
        [1, 1, 1, 2, 3, 0, 0],
        [1, 1, 3, 3, 3, 0, 0],
    ]


@pytest.mark.parametrize(
    "boxes",
    [[[0, 0, 3]], [[0, 0, -1, 2]], [[0, 0, "x", 2]], 5, [[0, 0, 1, 1]] * 201],
    ids=["three", "negative", "text", "number", "many"],
)
def test_boxes_that_are_none(folder: PanopticFolder, boxes: object) -> None:
    path = folder.root / "annotations" / "x_train.json"
    data = json.loads(path.read_text())
    data["images"][0]["person_boxes"] = boxes
    path.write_text(json.dumps(data))
    with pytest.raises(DataError, match="image 1: expected at most 200 person_boxes"):
        load_split(folder, "x_train")
