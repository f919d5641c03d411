"""Pseudo-labels: read, refused, and merged under true labels by rules worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panokit.errors import DataError
from panokit_datasets.coco_panoptic import PanopticFolder
from panokit_datasets.labelled import FolderPhoto, load_split
from panokit_datasets.pseudo import PseudoSegment, merge_boxes, merge_labels
from panokit_datasets.records import DecodedPhoto, PhotoRecord, SegmentRecord

CATEGORIES = [
    {"id": 4, "name": "person", "isthing": 1},
    {"id": 7, "name": "dog", "isthing": 1},
    {"id": 9, "name": "sky", "isthing": 0},
]
PERSON, DOG, SKY = range(3)
INDEX = np.array(
    [
        [1, 1, 1, 1, 0, 0, 3],
        [1, 1, 1, 1, 0, 2, 3],
        [1, 1, 0, 0, 0, 2, 3],
    ],
    np.uint8,
)
LINE = {
    "file": "x/a.png",
    "size": [7, 3],
    "segments": [
        {"i": 1, "c": 4, "s": 0.8, "a": 10, "b": [0, 0, 4, 3]},
        {"i": 2, "c": 7, "s": 0.3, "a": 2, "b": [5, 1, 1, 2]},
        {"i": 3, "c": 9, "s": 0.9, "a": 3, "b": [6, 0, 1, 3]},
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> PanopticFolder:
    """One photo of 7 × 3, nothing labelled, with pseudo-labels and a person map."""
    root = tmp_path / "data"
    for name in ("annotations", "images/x", "panoptic/x", "pseudo/x", "person/x"):
        (root / name).mkdir(parents=True)
    Image.new("RGB", (7, 3)).save(root / "images/x/a.png")
    Image.new("RGB", (7, 3)).save(root / "panoptic/x/a.png")
    Image.fromarray(INDEX).save(root / "pseudo/x/a.png")
    Image.fromarray(np.where(INDEX == 1, 14, 1).astype(np.uint8)).save(root / "person/x/a.png")
    (root / "pseudo/x.jsonl").write_text(json.dumps(LINE) + "\n")
    image = {"id": 1, "file_name": "x/a.png", "width": 7, "height": 3, "labelled": []}
    annotations = [{"image_id": 1, "file_name": "x/a.png", "segments_info": []}]
    data = {"images": [image], "annotations": annotations, "categories": CATEGORIES}
    for split in ("x_train", "x_val"):
        (root / "annotations" / f"{split}.json").write_text(json.dumps(data))
    return PanopticFolder.open(root)


def only(folder: PanopticFolder, split: str = "x_train") -> FolderPhoto:
    (photo,) = load_split(folder, split)
    return photo


def test_a_photo_without_true_labels_takes_the_teachers(folder: PanopticFolder) -> None:
    photo = only(folder).decode()
    assert photo.segment_map.tolist() == INDEX.tolist()
    assert [(s.channel, s.score) for s in photo.record.segments] == [
        (PERSON, 0.8), (DOG, 0.3), (SKY, 0.9),
    ]  # fmt: skip
    assert photo.person is not None
    assert photo.person[0, 0] == 14


def test_validation_reads_true_labels_alone(folder: PanopticFolder) -> None:
    photo = only(folder, "x_val").decode()
    assert photo.record.segments == ()
    assert photo.person is None
    assert not photo.segment_map.any()


def test_labels_of_another_folder_go_first(folder: PanopticFolder, tmp_path: Path) -> None:
    (tmp_path / "more" / "pseudo" / "x").mkdir(parents=True)
    Image.fromarray(INDEX * 0 + 1).save(tmp_path / "more/pseudo/x/a.png")
    line = {**LINE, "segments": [{"i": 1, "c": 9, "s": 0.5}]}
    (tmp_path / "more" / "pseudo" / "x.jsonl").write_text(json.dumps(line) + "\n")
    (photo,) = load_split(folder, "x_train", tmp_path / "more")
    assert photo.decode().record.segments == (SegmentRecord(SKY, False, score=0.5),)


def decoded(
    segment_map: object, segments: tuple[Any, ...] = (), absent: tuple[int, ...] = ()
) -> DecodedPhoto:
    a = np.array(segment_map, np.uint16)
    record = PhotoRecord("x/a.png", "x", a.shape[::-1], segments, absent, False)
    return DecodedPhoto(record, np.zeros((*a.shape, 3), np.uint8), a)


def test_true_labels_win_and_absent_classes_stay_away(folder: PanopticFolder) -> None:
    true = SegmentRecord(DOG, True)
    sky = [PseudoSegment(1, SKY, 0.9), PseudoSegment(2, PERSON, 0.9)]
    before = decoded([[1, 1, 0, 0]], (true,), absent=(PERSON,))
    after = merge_labels(before, folder.taxonomy, sky, np.array([[1, 1, 1, 2]], np.uint8))
    assert after.segment_map.tolist() == [[1, 1, 2, 0]]
    assert after.record.segments == (true, SegmentRecord(SKY, False, score=0.9))


def test_the_rim_of_a_true_object_is_no_second_object(folder: PanopticFolder) -> None:
    seen = [PseudoSegment(1, PERSON, 0.9)]
    index = np.ones((1, 10), np.uint8)
    # Seven of ten pixels on open ground are an object of its own, six are not.
    for covered, ignored in ((3, False), (4, True)):
        before = decoded([[1] * covered + [0] * (10 - covered)], (SegmentRecord(PERSON, True),))
        after = merge_labels(before, folder.taxonomy, seen, index)
        assert after.record.segments[1].ignore == ignored
        assert after.record.segments[1].is_object != ignored
    # Stuff has no such rule.
    after = merge_labels(before, folder.taxonomy, [PseudoSegment(1, SKY, 0.9)], index)
    assert not after.record.segments[1].ignore


def test_a_photo_labelled_in_full_is_left_alone(folder: PanopticFolder) -> None:
    photo = decoded([[0, 0]])
    photo = replace(photo, record=replace(photo.record, complete=True))
    seen = [PseudoSegment(1, SKY, 0.9)]
    assert merge_labels(photo, folder.taxonomy, seen, np.ones((1, 2), np.uint8)) is photo


def test_boxes_of_all_persons_say_where_none_are() -> None:
    photo = merge_boxes(decoded([[1, 1, 0, 0, 0, 0]], (SegmentRecord(PERSON, True),)),
                        [(0.2, 0, 3.1, 1)], PERSON)  # fmt: skip
    assert photo.segment_map.tolist() == [[1, 1, 2, 2, 0, 0]]  # in the box: uncertain
    assert photo.record.segments[1].ignore
    assert photo.record.absent == (PERSON,)


def test_boxes_are_read_with_the_labels(folder: PanopticFolder) -> None:
    edit(folder, {"person_boxes": [[0, 0, 5, 3]]})
    photo = only(folder).decode()
    assert photo.segment_map.tolist() == [
        [1, 1, 1, 1, 4, 0, 3],
        [1, 1, 1, 1, 4, 2, 3],
        [1, 1, 4, 4, 4, 2, 3],
    ]


def edit(folder: PanopticFolder, image: dict) -> None:
    path = folder.root / "annotations" / "x_train.json"
    data = json.loads(path.read_text())
    data["images"][0] |= image
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    "boxes",
    [[[0, 0, 3]], [[0, 0, -1, 2]], [[0, 0, "x", 2]], 5, [[0, 0, 1, 1]] * 201],
    ids=["three", "negative", "text", "number", "many"],
)
def test_boxes_that_are_none(folder: PanopticFolder, boxes: object) -> None:
    edit(folder, {"person_boxes": boxes})
    with pytest.raises(DataError, match="image 1: expected at most 200 person_boxes"):
        load_split(folder, "x_train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segments": [{"i": 0, "c": 4, "s": 0.5}]}, "segment index from 1 to 255"),
        ({"segments": [{"i": 1, "c": 99, "s": 0.5}]}, "category id"),
        ({"segments": [{"i": 1, "c": 4, "s": float("nan")}]}, "a score above 0"),
        ({"segments": [{"i": 1, "c": 4, "s": 0.5}] * 2}, "segment indices once each"),
        ({"file": "../../etc/x.png"}, "a path inside the data set"),
        ({"size": [7]}, "line 1"),
        ({"segments": 3}, "line 1"),
    ],
    ids=["index", "category", "score", "twice", "climbs out", "size", "no list"],
)
def test_lines_that_are_refused(folder: PanopticFolder, change: dict, message: str) -> None:
    (folder.root / "pseudo/x.jsonl").write_text(json.dumps({**LINE, **change}) + "\n")
    with pytest.raises(DataError, match=message):
        load_split(folder, "x_train")


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((3, 7), 9, np.uint8), r"segments \[9\] are in the PNG but not"),
        (np.zeros((3, 8), np.uint8), r"expected size \(7, 3\), got \(8, 3\)"),
        (np.zeros((3, 7, 3), np.uint8), "grey or indexed"),
    ],
    ids=["unknown index", "size", "colour"],
)
def test_maps_that_are_refused(folder: PanopticFolder, pixels: np.ndarray, message: str) -> None:
    Image.fromarray(pixels).save(folder.root / "pseudo/x/a.png")
    with pytest.raises(DataError, match=message):
        only(folder).decode()


def test_a_missing_or_wild_map_is_named(folder: PanopticFolder) -> None:
    Image.fromarray(np.full((3, 7), 16, np.uint8)).save(folder.root / "person/x/a.png")
    with pytest.raises(DataError, match="expected values up to 15"):
        only(folder).decode()
    (folder.root / "pseudo/x/a.png").unlink()
    with pytest.raises(DataError, match="no such file"):
        only(folder).decode()
