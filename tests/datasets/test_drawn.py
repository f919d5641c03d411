"""Labels of turned photos: drawn on what is seen, or on the pixels as stored. Both are found."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from panokit._exif import upright
from panokit.errors import DataError
from panokit_datasets import drawn
from panokit_datasets.coco_panoptic import PanopticFolder, decode_ids, load_truth, open_photo
from panokit_datasets.drawn import CERTAIN, evidence_of, judge, upright_box
from panokit_datasets.labelled import load_split
from panokit_datasets.packs import PackFolder, write_packs
from panokit_datasets.quality import Prediction, evaluate
from tests.toys.data_folder import make_folder

SPLIT = "toy_train"
BACK = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
"""What takes an upright picture to its stored pixels, as an orientation."""


@pytest.fixture(autouse=True)
def nothing_told() -> Iterator[None]:
    drawn._told.clear()
    yield
    drawn._told.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path, photos=4)


def pixels_of(root: Path) -> list[NDArray[np.uint8]]:
    return [open_photo(t).rgb_hwc for t in truths(root)]


def truths(root: Path) -> Any:
    return load_truth(root, SPLIT, PanopticFolder.open(root).taxonomy)


def edited(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what the JSON says of every photo."""
    path = root / "annotations" / f"{SPLIT}.json"
    data = json.loads(path.read_text())
    for image in data["images"]:
        change(image)
    path.write_text(json.dumps(data))


def turn(root: Path, ways: list[int], stored: bool, square: bool = False) -> None:
    """Store photos turned, with the EXIF tag that turns them upright; the labels too if
    ``stored``."""
    for number, way in enumerate(ways):
        exif = Image.Exif()
        exif[0x0112] = way
        for name, back in (("images", BACK[way]), ("panoptic", BACK[way] if stored else 1)):
            path = root / name / SPLIT / f"{number}.png"
            values = crop(values_of(path), square)
            turned = Image.fromarray(np.ascontiguousarray(upright(values, back)))
            turned.save(path, exif=exif.tobytes() if name == "images" else b"")

    def sized(image: dict[str, Any]) -> None:
        shape = values_of(root / "panoptic" / SPLIT / f"{image['id']}.png").shape
        image.update(width=shape[1], height=shape[0])

    edited(root, sized)


def values_of(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


def crop(values: Any, square: bool) -> Any:
    return values[:, 14:78] if square else values


@pytest.mark.parametrize("square", [False, True], ids=["oblong", "square"])
@pytest.mark.parametrize("stored", [False, True], ids=["upright", "stored"])
@pytest.mark.parametrize("way", range(2, 9))
def test_labels_are_found_as_they_were_drawn(
    folder: Path, way: int, stored: bool, square: bool, caplog: pytest.LogCaptureFixture
) -> None:
    before = [(crop(open_photo(t).rgb_hwc, square), crop(decode_ids(t), square))
              for t in truths(folder)]  # fmt: skip
    turn(folder, [way] * 4, stored, square)
    with caplog.at_level(logging.WARNING):
        found = truths(folder)
    for truth, (pixels, ids) in zip(found, before, strict=True):
        assert np.array_equal(open_photo(truth).rgb_hwc, pixels)
        assert np.array_equal(decode_ids(truth), ids)
    told = "drawn on the pixels as stored" in caplog.text
    assert told == stored
    for record, (pixels, ids) in zip(load_split(PanopticFolder.open(folder), SPLIT), before,
                                     strict=True):  # fmt: skip
        decoded = record.decode()
        assert np.array_equal(decoded.image_hwc, pixels)
        assert np.array_equal(decoded.segment_map, ids)
        assert decoded.record.size_wh == ids.shape[::-1]


@pytest.mark.parametrize("stored", [False, True], ids=["upright", "stored"])
def test_evaluation_and_packs_see_the_same(folder: Path, tmp_path: Path, stored: bool) -> None:
    ids = [decode_ids(t) for t in truths(folder)]
    turn(folder, [3, 6, 2, 8], stored)
    taxonomy = PanopticFolder.open(folder).taxonomy
    answers = iter(ids)
    result = evaluate(
        lambda photo: Prediction(next(answers), [(1, 0, 1.0), (2, 1, 1.0), (3, 2, 1.0)]),
        folder,
        SPLIT,
        taxonomy,
        resamples=1,
    )
    assert result.pq.all == 100
    photos = [(SPLIT, p) for p in load_split(PanopticFolder.open(folder), SPLIT)]
    write_packs(photos, taxonomy, tmp_path / "packs")
    packed = PackFolder.open(tmp_path / "packs").split(SPLIT)
    assert all(np.array_equal(p.decode().segment_map, i) for p, i in zip(packed, ids, strict=True))


def test_the_json_may_give_the_size_either_way(folder: Path) -> None:
    ids = decode_ids(truths(folder)[0])
    turn(folder, [6] * 4, stored=True)
    edited(folder, lambda i: i.update(width=96, height=64))
    assert np.array_equal(decode_ids(truths(folder)[0]), ids)
    edited(folder, lambda i: i.update(width=96, height=65))
    with pytest.raises(DataError, match="expected size"):
        open_photo(truths(folder)[0])


def test_tools_may_be_mixed_where_sizes_tell(folder: Path) -> None:
    ids = [decode_ids(t) for t in truths(folder)]
    turn(folder, [6, 8], stored=True)
    for number in (2, 3):
        exif = Image.Exif()
        exif[0x0112] = 8
        path = folder / "images" / SPLIT / f"{number}.png"
        stored = np.rot90(values_of(path), -1)
        Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif.tobytes())
    edited(folder, lambda i: i.update(width=96, height=64))
    found = truths(folder)
    assert [t.turn for t in found] == [6, 8, 1, 1]
    assert all(np.array_equal(decode_ids(t), i) for t, i in zip(found, ids, strict=True))


def blank(root: Path) -> None:
    """Photos whose pictures tell nothing: of one colour, half turned."""
    for number in range(4):
        exif = Image.Exif()
        exif[0x0112] = 3
        path = root / "images" / SPLIT / f"{number}.png"
        Image.new("RGB", (96, 64), (90, 90, 90)).save(path, exif=exif.tobytes())


def test_what_cannot_be_known_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    blank(folder)
    with caplog.at_level(logging.WARNING):
        assert [t.turn for t in truths(folder)] == [1, 1, 1, 1]
        truths(folder)
    assert caplog.text.count("they are taken as upright") == 1  # once
    assert '"drawn": "upright" or "stored"' in caplog.text


@pytest.mark.parametrize(("word", "turned"), [("stored", 3), ("upright", 1)])
def test_the_json_may_say_how(
    folder: Path, word: str, turned: int, caplog: pytest.LogCaptureFixture
) -> None:
    blank(folder)
    edited(folder, lambda i: i.update(drawn=word))
    with caplog.at_level(logging.WARNING):
        assert [t.turn for t in truths(folder)] == [turned] * 4
    assert "taken as upright" not in caplog.text
    edited(folder, lambda i: i.update(drawn="sideways"))
    with pytest.raises(DataError, match="expected 'drawn' to be"):
        truths(folder)


def test_a_photo_that_tells_nothing_follows_the_others(folder: Path) -> None:
    turn(folder, [6, 8, 3, 4], stored=True)
    exif = Image.Exif()
    exif[0x0112] = 3
    grey = Image.new("RGB", (96, 64), (90, 90, 90))
    grey.save(folder / "images" / SPLIT / "2.png", exif=exif.tobytes())
    assert [t.turn for t in truths(folder)] == [6, 8, 3, 4]


def test_missing_and_damaged_files_are_told_by_whoever_opens_them(folder: Path) -> None:
    turn(folder, [3, 6, 3, 2], stored=True)
    (folder / "images" / SPLIT / "0.png").unlink()
    (folder / "panoptic" / SPLIT / "2.png").write_bytes(b"no PNG")
    found = truths(folder)
    with pytest.raises(DataError, match="no such file"):
        open_photo(found[0])
    with pytest.raises(DataError, match="cannot be decoded"):
        decode_ids(found[2])
    assert found[1].turn == 6


@pytest.mark.parametrize("way", range(1, 9))
def test_boxes_turn_with_the_pixels(way: int, folder: Path) -> None:
    seen = np.zeros((6, 9), bool)
    seen[1:3, 5:9] = True
    stored = upright(seen, BACK[way])
    ys, xs = np.nonzero(stored)
    box = (float(xs.min()), float(ys.min()), float(np.ptp(xs) + 1), float(np.ptp(ys) + 1))
    assert upright_box(box, stored.shape[::-1], way) == (5, 1, 4, 2)
    if way != 1:
        turn(folder, [way] * 4, stored=True)
        edited(folder, lambda i: i.update(person_boxes=[[0, 0, 10, 20]]))
        (x, y, w, h), size = truths(folder)[0].person_boxes[0], truths(folder)[0].size_wh
        assert size == (96, 64)
        assert (w, h) == ((20, 10) if way > 4 else (10, 20))
        assert (x > 0, y > 0) == (way in (2, 3, 6, 7), way in (3, 4, 7, 8))


def test_labels_with_odd_texts_are_read(folder: Path) -> None:
    path = folder / "panoptic" / SPLIT / "0.png"
    ids = decode_ids(truths(folder)[0])
    data = path.read_bytes()
    path.write_bytes(data[:33] + b"\0\0\0\5tEXta\0bcdXXXX" + data[33:-12])  # wrong checksum, no end
    assert np.array_equal(decode_ids(truths(folder)[0]), ids)


def test_evidence_is_of_the_picture() -> None:
    rgb, ids = np.zeros((40, 60, 3), np.uint8), np.ones((40, 60), np.int32)
    rgb[5:15, 8:30], ids[5:15, 8:30] = 200, 2
    assert evidence_of(rgb, ids, 3) < -CERTAIN
    assert evidence_of(rgb, np.ascontiguousarray(ids[::-1, ::-1]), 3) > CERTAIN
    assert evidence_of(rgb, np.ones_like(ids), 3) == 0  # one segment tells nothing
    assert evidence_of(rgb, ids, 6) == 0  # other shapes: their size tells
    assert judge([4.0, 0.5, -1.0], []) == [3.5, 3.5, 3.5]
    assert judge([0.0], [True]) == [4.0]
    assert judge([], [True]) == []
