"""Map figures: by hand, against hotcoco's panoptic quality, and against plain loops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from panokit.errors import ArgumentError
from panokit_validation import SegmentKind, compare_maps
from panokit_validation.maps import boundary_mask

Classes = dict[int, int]


def test_figures_by_hand() -> None:
    reference = np.array([[1, 1, 1, 1], [2, 2, 2, 0]])
    device = np.array([[5, 5, 5, 7], [2, 2, 2, 0]])
    a = compare_maps(device, reference)
    # One pair of IoU 3/4, one of 1, one segment too many: (1.75) / (2 + 1/2).
    assert a.pq == pytest.approx(100 * 1.75 / 2.5)
    assert a.sq == pytest.approx(100 * 1.75 / 2)
    assert (a.matched, a.missing, a.extra, a.class_flips) == (2, 0, 1, 0)
    assert a.equal_pixels == pytest.approx(7 / 8)
    assert a.pq_classes is None
    assert compare_maps(reference, reference).pq == 100
    empty = compare_maps(np.zeros((2, 2), int), np.zeros((2, 2), int))
    assert (empty.pq, empty.equal_pixels, empty.boundary_iou) == (100, 1, 1)


def test_a_class_flip_is_no_match() -> None:
    map_ = np.array([[1, 1, 2, 2]])
    a = compare_maps(map_, map_, ({1: 9, 2: 8}, {1: 9, 2: 7}))
    assert (a.matched, a.missing, a.extra, a.class_flips) == (1, 1, 1, 1)
    assert [s.kind for s in a.segments] == [SegmentKind.MATCHED, SegmentKind.CLASS_FLIP]
    assert a.segments[1].reference_class == 7
    assert a.segments[1].device_class == 8
    # Class 9: 1 of 1; classes 8 and 7: nothing of half a segment.
    assert a.pq_classes == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    ("device", "reference", "kinds"),
    [
        ([[1, 1, 2, 2, 2]], [[3, 3, 3, 3, 3]], ["split", "extra"]),
        ([[1, 1, 1, 1, 1]], [[3, 3, 4, 4, 4]], ["missing", "matched", "merged"]),
        ([[1, 1, 1, 0, 0]], [[3, 3, 3, 4, 4]], ["matched", "missing"]),
        ([[1, 1, 1, 2, 2]], [[3, 3, 3, 0, 0]], ["matched", "extra"]),
    ],
    ids=["split", "merged", "missing", "extra"],
)
def test_what_became_of_segments(
    device: list[list[int]], reference: list[list[int]], kinds: list[str]
) -> None:
    a = compare_maps(np.array(device), np.array(reference))
    assert [s.kind.value for s in a.segments] == kinds
    assert a.split == kinds.count("split")
    assert a.merged == kinds.count("merged")


def test_numbering_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    device, reference = rng.integers(0, 6, (2, 12, 12))
    names = np.array([0, 2**31 - 1, 70000, 3, 9, 1])
    plain, renamed = compare_maps(device, reference), compare_maps(names[device], reference)
    assert plain.to_json() == renamed.to_json()


@pytest.mark.parametrize(
    ("device", "reference"),
    [(np.zeros((2, 3), int), np.zeros((3, 2), int)), (np.zeros(3, int), np.zeros(3, int))],
    ids=["unequal", "one axis"],
)
def test_unfit_maps_are_an_error(device: NDArray[Any], reference: NDArray[Any]) -> None:
    with pytest.raises(ArgumentError, match="expected the reference's"):
        compare_maps(device, reference)


def test_noise_instead_of_segments_is_refused() -> None:
    noise = np.arange(10000).reshape(100, 100)
    with pytest.raises(ArgumentError, match="a few hundred at most"):
        compare_maps(noise, noise)


def random_map(rng: np.random.Generator, segments: int, size: int = 40) -> NDArray[np.int32]:
    """Overlapping boxes: regions with borders, as maps have."""
    map_ = np.full((size, size), 1, np.int32)
    for i in range(2, segments + 1):
        y, x = rng.integers(0, size - 8, 2)
        h, w = rng.integers(6, 22, 2)
        map_[y : y + h, x : x + w] = i
    return map_


def disturbed(rng: np.random.Generator, map_: NDArray[np.int32]) -> NDArray[np.int32]:
    """The map moved a little, with other numbers and a patch of its own."""
    moved = np.roll(map_, rng.integers(-3, 4, 2), (0, 1))
    y, x = rng.integers(0, 30, 2)
    moved[y : y + 9, x : x + 9] = 90
    return np.where(moved == 90, 90, (moved * 7) % 31 + 1).astype(np.int32)


def hotcoco_quality(
    folder: Path,
    device: NDArray[np.int32],
    reference: NDArray[np.int32],
    classes: tuple[Classes, Classes],
) -> float:
    """hotcoco's panoptic quality (panopticapi's arithmetic) of one photo, all classes, 0..100."""
    panoptic = pytest.importorskip("hotcoco.panoptic", reason="hotcoco is not installed")
    known = sorted({*classes[0].values(), *classes[1].values()})
    categories = [{"id": c, "name": str(c), "isthing": 1} for c in known]
    for name, map_, table in (("truth", reference, classes[1]), ("device", device, classes[0])):
        (folder / name).mkdir()
        rgb = np.stack([map_ % 256, map_ // 256, map_ * 0], -1).astype(np.uint8)
        Image.fromarray(rgb).save(folder / name / "1.png")
        segments = [
            {"id": int(i), "category_id": table[int(i)], "area": int((map_ == i).sum()),
             "iscrowd": 0, "bbox": [0, 0, 1, 1]}
            for i in np.unique(map_)
        ]  # fmt: skip
        data = {
            "images": [{"id": 1, "width": map_.shape[1], "height": map_.shape[0]}],
            "annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": segments}],
            "categories": categories,
        }
        (folder / f"{name}.json").write_text(json.dumps(data))
    evaluation = panoptic.PanopticEval(str(folder / "truth.json"), str(folder / "device.json"))
    evaluation.evaluate()
    return 100 * float(evaluation.results()["All"]["pq"])


@pytest.mark.parametrize("seed", range(8))
def test_quality_equals_hotcoco(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    reference = random_map(rng, int(rng.integers(2, 12)))
    device = disturbed(rng, reference)
    one = compare_maps(device, reference)
    assert 0 < one.pq < 100
    same = ({int(i): 1 for i in np.unique(device)}, {int(i): 1 for i in np.unique(reference)})
    (tmp_path / "one").mkdir()
    assert one.pq == pytest.approx(hotcoco_quality(tmp_path / "one", device, reference, same))
    table = {int(i): int(rng.integers(1, 4)) for i in np.unique(reference)}
    own = {(int(i) * 7) % 31 + 1: c for i, c in table.items()}
    own = {int(i): own.get(int(i), 2) for i in np.unique(device)}
    many = compare_maps(device, reference, (own, table))
    (tmp_path / "many").mkdir()
    expected = hotcoco_quality(tmp_path / "many", device, reference, (own, table))
    assert many.pq_classes == pytest.approx(expected)


def slow_boundary_iou(a: NDArray[np.bool_], b: NDArray[np.bool_], width: int) -> float:
    """Boundary IoU pixel by pixel: the inner band of each mask, then plain IoU."""

    def band(mask: NDArray[np.bool_]) -> set[tuple[int, int]]:
        h, w = mask.shape
        found = set()
        for y in range(h):
            for x in range(w):
                if not mask[y, x]:
                    continue
                for v in range(y - width, y + width + 1):
                    for u in range(x - width, x + width + 1):
                        if not (0 <= v < h and 0 <= u < w and mask[v, u]):
                            found.add((y, x))
        return found

    band_a, band_b = band(a), band(b)
    return len(band_a & band_b) / len(band_a | band_b)


@pytest.mark.parametrize("seed", range(4))
def test_boundary_iou_equals_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = random_map(rng, 5)
    device = disturbed(rng, reference)
    width = max(1, round(0.02 * np.hypot(40, 40)))
    pairs = [s for s in compare_maps(device, reference).segments if s.boundary_iou]
    assert pairs
    for s in pairs:
        expected = slow_boundary_iou(device == s.device_id, reference == s.reference_id, width)
        assert s.boundary_iou == pytest.approx(expected)


@pytest.mark.parametrize("width", [1, 2, 3, 5, 9])
def test_the_boundary_is_what_erosion_takes(width: int) -> None:
    map_ = random_map(np.random.default_rng(width), 6)
    padded = np.pad(map_, width, constant_values=-1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * width + 1, 2 * width + 1))
    inside = (windows == map_[..., None, None]).all((2, 3))
    assert (boundary_mask(map_, width) == ~inside).all()
