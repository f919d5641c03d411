"""Results on the photo: boxes, counts, views, formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from panokit import coco
from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.postprocessing import DecodedSegment, PanopticMap
from panokit.preprocessing import letterbox
from panokit.render import segment_colors
from panokit.result import PanopticResult
from panokit.taxonomy import Category, Taxonomy


@pytest.fixture
def result(taxonomy: Taxonomy) -> PanopticResult:
    """A 4 × 2 photo in an 8 × 8 input: person left, dog right, sky above, one void pixel."""
    photo = Photo.from_array(np.full((2, 4, 3), 100, np.uint8), "toy")
    ids = np.zeros((8, 8), np.int32)
    ids[2:4, :] = 3  # sky: the photo's upper row
    ids[4:6, 0:4] = 1  # person: left half of the lower row
    ids[4:6, 4:6] = 2  # dog: third pixel; the fourth is void
    segments = (
        DecodedSegment(1, 0, True, 0.9, 8, (5.0, 2.0)),
        DecodedSegment(2, 2, True, 0.8, 4, (5.0, 5.0)),
        DecodedSegment(3, 1, False, 0.7, 16),
    )
    return PanopticResult.from_map(
        photo, PanopticMap(ids, segments), taxonomy, letterbox((4, 2), (8, 8)), "toy"
    )


def test_map_boxes_areas_and_centres_are_on_the_photo(result: PanopticResult) -> None:
    assert result.id_map.tolist() == [[3, 3, 3, 3], [1, 1, 2, 0]]
    person, dog, sky = result
    assert (person.box_xyxy, person.area, person.box_xywh) == ((0, 1, 2, 2), 2, (0, 1, 2, 1))
    assert (dog.box_xyxy, dog.area) == ((2, 1, 3, 2), 1)
    assert (sky.box_xyxy, sky.center_xy) == ((0, 0, 4, 1), None)
    # Input (2, 5) is half of that in the photo, less the padding of 2 rows above.
    assert person.center_xy == (1.0, 1.5)


def test_a_map_on_the_head_grid_covers_the_same_photo(taxonomy: Taxonomy) -> None:
    photo = Photo.from_array(np.zeros((2, 4, 3), np.uint8))
    ids = np.zeros((4, 4), np.int32)
    ids[1], ids[2] = 1, 2
    segments = (DecodedSegment(1, 1, False, 1.0, 4), DecodedSegment(2, 3, False, 1.0, 4))
    found = PanopticResult.from_map(
        photo, PanopticMap(ids, segments), taxonomy, letterbox((4, 2), (8, 8))
    )
    assert found.id_map.tolist() == [[1, 1, 1, 1], [2, 2, 2, 2]]


def test_counts_views_and_queries(result: PanopticResult) -> None:
    assert result.counts == {"dog": 1, "person": 1}
    assert result.semantic_map().tolist() == [[2, 2, 2, 2], [1, 1, 3, 0]]
    assert result.instance_map().tolist() == [[0, 0, 0, 0], [1, 1, 2, 0]]
    assert [s.id for s in result.find("dog", 1)] == [1, 2]
    assert result.mask(1, 2).tolist() == [[False] * 4, [True, True, True, False]]
    person = result.at(1.9, 1.0)
    assert person is not None
    assert person.category.name == "person"
    assert result.at(3.5, 1.5) is None
    with pytest.raises(ArgumentError, match=r"inside 0\.\.4 by 0\.\.2"):
        result.at(4, 0)
    with pytest.raises(ArgumentError, match="one of: person, sky, dog, road"):
        result.find("cat")
    with pytest.raises(ArgumentError, match=r"one of \[1, 2, 3\]"):
        result.get(9)


def test_only_chosen_classes_remain(result: PanopticResult) -> None:
    dogs = result.only("dog")
    assert dogs.id_map.tolist() == [[0, 0, 0, 0], [0, 0, 2, 0]]
    assert dogs.counts == {"dog": 1}
    assert result.only().segments == ()
    assert len(result) == 3


def test_crop_is_transparent_outside_the_mask(result: PanopticResult) -> None:
    crop = result.crop(1)
    assert crop.mode == "RGBA"
    assert crop.size == (2, 1)
    assert crop.getpixel((0, 0)) == (100, 100, 100, 255)


def test_overlay_colours_segments_and_leaves_void_alone(result: PanopticResult) -> None:
    picture = np.asarray(result.overlay(labels=False, opacity=1))
    assert picture.shape == (2, 4, 3)
    assert picture[1, 3].tolist() == [100, 100, 100]
    assert picture[0, 1, 2] > picture[0, 1, 0]  # sky is blue
    alone = np.asarray(result.overlay(labels=False, highlight=[1]))
    assert (alone[0] == 100).all()
    with pytest.raises(ArgumentError, match="opacity"):
        result.overlay(opacity=2)
    assert result.overlay().size == (4, 2)


def test_instances_of_one_class_get_colours_of_their_own() -> None:
    person = Taxonomy("p", (Category(1, "person", True, (220, 20, 60)),))
    ids = np.arange(1, 9, dtype=np.int32)[None].repeat(8, 0)
    segments = tuple(DecodedSegment(i, 0, True, 1.0, 8, (4.0, i - 0.5)) for i in range(1, 9))
    photo = Photo.from_array(np.zeros((8, 8, 3), np.uint8))
    found = PanopticResult.from_map(
        photo, PanopticMap(ids, segments), person, letterbox((8, 8), (8, 8))
    )
    assert len(set(segment_colors(found).values())) == 8


def test_coco_panoptic_files(result: PanopticResult, tmp_path: Path) -> None:
    png, annotation = coco.save(result, tmp_path, "toy")
    pixels = np.asarray(Image.open(png)).astype(int)
    ids = pixels @ [1, 256, 65536]
    assert (ids == result.id_map).all()
    data = json.loads(annotation.read_text())
    info = data["annotations"][0]["segments_info"]
    assert [(s["id"], s["category_id"], s["area"], s["bbox"]) for s in info] == [
        (1, 1, 2, [0, 1, 2, 1]),
        (2, 3, 1, [2, 1, 1, 1]),
        (3, 2, 4, [0, 0, 4, 1]),
    ]
    large = coco.ids_to_rgb(np.array([[70000]], np.int32))
    assert large.tolist() == [[[112, 17, 1]]]
    with pytest.raises(ArgumentError, match="from 0 to"):
        coco.ids_to_rgb(np.array([[-1]], np.int32))


def test_rle_is_column_major_and_starts_with_zeros() -> None:
    mask = np.array([[0, 1], [1, 1]], bool)
    assert coco.rle_encode(mask) == {"size": [2, 2], "counts": [1, 3]}
    assert coco.rle_encode(~mask) == {"size": [2, 2], "counts": [0, 1, 3]}
    with pytest.raises(ArgumentError, match="rle"):
        coco.rle_decode({"size": [2, 2], "counts": [9]})


@given(arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_rle_goes_there_and_back(mask: np.ndarray) -> None:
    assert (coco.rle_decode(coco.rle_encode(mask)) == mask).all()
    assert _decode_string(coco.rle_string(mask)) == coco.rle_encode(mask)["counts"]


def _decode_string(rle: dict) -> list[int]:
    """COCO's compressed counts by the COCO API's own description (LEB128 of 5 bits, deltas)."""
    counts: list[int] = []
    text, at = rle["counts"], 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            c = ord(text[at]) - 48
            value |= (c & 0x1F) << shift
            more = bool(c & 0x20)
            at, shift = at + 1, shift + 5
            if not more and c & 0x10:
                value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts


def test_a_segment_that_no_photo_pixel_hits_is_left_out(taxonomy: Taxonomy) -> None:
    photo = Photo.from_array(np.zeros((1, 1, 3), np.uint8))
    ids = np.ones((8, 8), np.int32)
    ids[0, 0] = 2
    segments = (DecodedSegment(1, 1, False, 1.0, 63), DecodedSegment(2, 3, False, 1.0, 1))
    found = PanopticResult.from_map(
        photo, PanopticMap(ids, segments), taxonomy, letterbox((1, 1), (8, 8))
    )
    assert [s.id for s in found] == [1]
    assert found.id_map.tolist() == [[1]]
