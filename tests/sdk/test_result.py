"""Results on the photo: boxes, counts, views, formats."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from panokit import coco, rle
from panokit.decoding import DecodedSegment, PanopticMap
from panokit.errors import ArgumentError, MissingExtraError
from panokit.outlines import Outline, trace
from panokit.photo import Photo
from panokit.preprocessing import letterbox
from panokit.render import segment_colors
from panokit.result import PanopticResult
from panokit.segmenter import Segmenter
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


@given(
    seed=st.integers(0, 2**32 - 1),
    photo=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    head_grid=st.booleans(),
)
def test_areas_and_boxes_are_those_of_the_map(
    seed: int, photo: tuple[int, int], head_grid: bool
) -> None:
    shape = (3, 4) if head_grid else (12, 16)
    ids = np.random.default_rng(seed).integers(0, 6, shape).astype(np.int32)
    segments = tuple(DecodedSegment(i, 0, True, 1.0, 1, (1.0, 1.0)) for i in range(1, 6))
    person = Taxonomy("p", (Category(1, "person", True, (1, 2, 3)),))
    pixels = Photo.from_array(np.zeros((photo[1], photo[0], 3), np.uint8))
    found = PanopticResult.from_map(
        pixels, PanopticMap(ids, segments), person, letterbox(photo, (16, 12))
    )
    assert found.id_map.shape == photo[::-1]
    assert found.id_map.flags.c_contiguous
    assert {s.id for s in found} == set(np.unique(found.id_map).tolist()) - {0}
    for segment in found:
        ys, xs = np.nonzero(found.id_map == segment.id)
        assert segment.area == len(ys)
        assert segment.box_xyxy == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


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
    with pytest.raises(ArgumentError, match=r"lies outside the photo"):
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


@pytest.mark.parametrize(
    "color", [(220, 20, 60), (128, 128, 128), (0, 0, 0), (255, 255, 255)], ids=str
)
def test_instances_of_one_class_get_colours_of_their_own(color: tuple[int, int, int]) -> None:
    person = Taxonomy("p", (Category(1, "person", True, color),))
    ids = np.arange(1, 31, dtype=np.int32)[None].repeat(30, 0)
    segments = tuple(DecodedSegment(i, 0, True, 1.0, 30, (4.0, i - 0.5)) for i in range(1, 31))
    photo = Photo.from_array(np.zeros((30, 30, 3), np.uint8))
    found = PanopticResult.from_map(
        photo, PanopticMap(ids, segments), person, letterbox((30, 30), (30, 30))
    )
    colors = segment_colors(found)
    assert len(set(colors.values())) == 30
    assert colors[1] == color
    first = np.array([colors[i] for i in range(1, 9)])
    apart = np.abs(first[:, None] - first).max(-1) + 999 * np.eye(8)
    assert apart.min() >= 20


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
    with pytest.raises(ArgumentError, match="expected 0 to"):
        coco.ids_to_rgb(np.array([[-1]], np.int32))


def test_rle_is_column_major_and_starts_with_zeros() -> None:
    mask = np.array([[0, 1], [1, 1]], bool)
    assert rle.rle_encode(mask) == {"size": [2, 2], "counts": [1, 3]}
    assert rle.rle_encode(~mask) == {"size": [2, 2], "counts": [0, 1, 3]}
    with pytest.raises(ArgumentError, match="the counts sum to"):
        rle.rle_decode({"size": [2, 2], "counts": [9]})


@given(arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_rle_goes_there_and_back(mask: np.ndarray) -> None:
    assert (rle.rle_decode(rle.rle_encode(mask)) == mask).all()
    assert _decode_string(rle.rle_string(mask)) == rle.rle_encode(mask)["counts"]


@pytest.mark.parametrize("seed", range(4))
def test_compressed_rle_is_read_by_the_coco_tools(seed: int) -> None:
    mask_tools = pytest.importorskip("hotcoco.mask", reason="hotcoco is not installed")
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.random((9, 7)) < 0.4, np.ones((1 + 40 * seed, 3 + seed), bool))
    encoded = rle.rle_string(mask)
    assert (mask_tools.decode(encoded) == mask).all()
    assert mask_tools.area(encoded) == mask.sum()


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


def fill(outlines: tuple[Outline, ...], shape: tuple[int, int]) -> np.ndarray:
    """The even-odd fill of rings on pixel edges: a pixel is inside if an odd number of vertical
    edges lies left of it. Written apart from what traces them."""
    inside = np.zeros(shape, int)
    for outline in outlines:
        for ring in (outline.exterior, *outline.holes):
            closed = [*ring.tolist(), ring[0].tolist()]
            for (x0, y0), (x1, y1) in itertools.pairwise(closed):
                assert (x0 == x1) != (y0 == y1), "edges are upright or level, and have a length"
                if x0 == x1:
                    inside[min(y0, y1) : max(y0, y1), x0:] += 1
    return inside % 2 == 1


def pieces(mask: np.ndarray) -> int:
    """Number of 4-connected pieces, by flooding."""
    left, count = {(int(y), int(x)) for y, x in np.argwhere(mask)}, 0
    while left:
        todo, count = [left.pop()], count + 1
        while todo:
            y, x = todo.pop()
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if near in left:
                    left.remove(near)
                    todo.append(near)
    return count


RING = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]], bool)


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
@example(np.eye(3, dtype=bool))
@example(~np.eye(4, dtype=bool))
@example(np.pad(RING, 2, constant_values=False))
@example(np.kron(np.indices((4, 4)).sum(0) % 2, np.ones((2, 1))).astype(bool))
def test_outlines_filled_give_the_mask_back(mask: np.ndarray) -> None:
    outlines = trace(mask)
    assert (fill(outlines, mask.shape) == mask).all()
    assert len(outlines) == pieces(mask)
    assert sum(o.area for o in outlines) == mask.sum()
    for outline in outlines:
        # Each piece by itself is one piece: its holes are its own.
        alone = fill((outline,), mask.shape)
        assert pieces(alone) == 1
        assert alone.sum() == outline.area
        assert not (alone & ~mask).any()


def test_outlines_have_corners_only_and_know_their_holes() -> None:
    (outline,) = trace(RING, (10, 20))
    assert outline.exterior.tolist() == [[10, 20], [14, 20], [14, 23], [10, 23]]
    assert [sorted(h.tolist()) for h in outline.holes] == [[[11, 21], [11, 22], [13, 21], [13, 22]]]
    assert outline.area == 10
    assert outline.to_coco() == [10, 20, 14, 20, 14, 23, 10, 23]
    rings = outline.to_geojson()["coordinates"]
    assert [len(r) for r in rings] == [5, 5]
    assert all(r[0] == r[-1] for r in rings)
    with pytest.raises(ArgumentError, match=r"expected \[H,W\]"):
        trace(np.zeros((1, 1, 1), bool))


def test_a_piece_inside_a_hole_is_its_own() -> None:
    mask = np.zeros((7, 7), bool)
    mask[0], mask[-1], mask[:, 0], mask[:, -1] = True, True, True, True
    mask[2:5, 2:5] = True
    mask[3, 3] = False
    outer, inner = trace(mask)
    assert (outer.area, inner.area) == (24, 8)
    assert [len(o.holes) for o in (outer, inner)] == [1, 1]
    assert sorted(inner.holes[0].tolist()) == [[3, 3], [3, 4], [4, 3], [4, 4]]


def test_polygons_and_run_lengths_of_segments(result: PanopticResult) -> None:
    (outline,) = result.polygons(2)
    assert outline.exterior.tolist() == [[2, 1], [3, 1], [3, 2], [2, 2]]
    for segment in result:
        mask = fill(result.polygons(segment), result.id_map.shape)
        assert (mask == result.mask(segment)).all()
        encoded = result.rle(segment)
        assert encoded["size"] == [2, 4]
        counts = _decode_string(encoded)
        assert (rle.rle_decode({"size": [2, 4], "counts": counts}) == mask).all()
    with pytest.raises(ArgumentError, match="there is no segment"):
        result.polygons(9)


def test_detections_are_parallel_arrays(result: PanopticResult) -> None:
    found = result.detections()
    assert len(found) == 2
    assert found.xyxy.tolist() == [[0, 1, 2, 2], [2, 1, 3, 2]]
    assert found.xywh.tolist() == [[0, 1, 2, 1], [2, 1, 1, 1]]
    assert found.class_id.tolist() == [1, 3]
    assert found.class_name.tolist() == ["person", "dog"]
    assert found.confidence.tolist() == pytest.approx([0.9, 0.8])
    assert found.mask is not None
    assert (found.mask == [result.mask(1), result.mask(2)]).all()
    everything = result.detections(stuff=True, masks=False)
    assert everything.segment_id.tolist() == [1, 2, 3]
    assert everything.is_thing.tolist() == [True, True, False]
    assert everything.mask is None
    none = result.only().detections()
    assert (none.xyxy.shape, none.mask.shape) == ((0, 4), (0, 2, 4))  # type: ignore[union-attr]


def test_supervision_takes_the_detections(result: PanopticResult) -> None:
    sv = pytest.importorskip("supervision", reason="supervision is not installed")
    found = result.to_supervision(stuff=True)
    assert isinstance(found, sv.Detections)
    assert len(found) == 3
    assert found.area.tolist() == [2, 1, 4]  # its own count over our masks
    dogs = found[found.data["class_name"] == "dog"]
    assert dogs.xyxy.tolist() == [[2, 1, 3, 2]]
    assert dogs.data["segment_id"].tolist() == [2]
    scene = np.zeros((2, 4, 3), np.uint8)
    painted = sv.MaskAnnotator(opacity=1).annotate(scene.copy(), dogs)
    assert (painted.any(-1) == result.mask(2)).all()
    merged = sv.Detections.merge([found, result.to_supervision()])
    assert len(merged) == 5
    assert len(result.only().to_supervision()) == 0


def test_without_supervision_the_command_is_told(
    result: PanopticResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingExtraError, match=r"pip install -e .*\[supervision\]"):
        result.to_supervision()


def test_semantic_and_instance_views_are_pictures(result: PanopticResult) -> None:
    semantic = np.asarray(result.semantic_view())
    assert semantic[0].tolist() == [[0, 0, 255]] * 4  # sky
    assert semantic[1].tolist() == [[255, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 0]]
    photo = Photo.from_array(np.zeros((40, 40, 3), np.uint8))
    ids = np.ones((40, 40), np.int32)
    ids[:, 20:] = 2
    ids[:5] = 0
    people = tuple(DecodedSegment(i, 0, True, 1.0, 700, (20.0, 20.0)) for i in (1, 2))
    person = Taxonomy("p", (Category(1, "person", True, (220, 20, 60)),))
    found = PanopticResult.from_map(
        photo, PanopticMap(ids, people), person, letterbox((40, 40), (40, 40))
    )
    view = np.asarray(found.instance_view())
    assert not view[:5].any()  # void
    left, right = view[20, 5].astype(int), view[20, 35].astype(int)
    assert abs(left - right).max() > 100
    assert not view[20, 19].any()  # the line between them
    flat = np.asarray(found.semantic_view())
    assert (flat[5:] == (220, 20, 60)).all()


def test_classes_are_chosen_at_call_time(result: PanopticResult) -> None:
    segmenter = Segmenter.open(threads=1)
    pixels = np.full((40, 60, 3), 128, np.uint8)
    for wrong, message in (("person", "a list of names or ids"), (["unicorn"], "one of: person")):
        with pytest.raises(ArgumentError, match=message):
            segmenter.segment(pixels, classes=wrong)
    everything = segmenter.segment(pixels)
    names = [s.category.name for s in everything]
    assert names
    chosen = segmenter.segment(pixels, classes=[names[0]])
    assert {s.category.name for s in chosen} == {names[0]}
    assert ((chosen.id_map == everything.id_map) | (chosen.id_map == 0)).all()
    dogs = result.only("dog")
    assert dogs.detections(stuff=True).class_name.tolist() == ["dog"]
    assert np.asarray(dogs.semantic_view()).any(-1).sum() == 1
    assert dogs.at(0, 0) is None
    overlay = np.asarray(dogs.overlay(labels=False))
    assert (overlay != 100).any(-1).sum() == 1
