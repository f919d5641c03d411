"""Labelling by hand: operations, a project that loses nothing, agreement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from panokit.components import components
from panokit.errors import ArgumentError, DataError
from panokit.photo import Photo
from panokit.taxonomy import Taxonomy
from panokit_datasets.annotation import AnnotationProject, Labels, measure_agreement, read_operation
from panokit_datasets.annotation.operations import OPERATIONS, write_operation
from panokit_datasets.readers import open_dataset
from panokit_datasets.truth import TruthSegment

PERSON, SKY, DOG, ROAD = 1, 2, 3, 7  # category ids of the taxonomy fixture


def labels() -> Labels:
    """A person (1), two dogs (2, 3), sky (4) and road (5) on 20 × 30 pixels."""
    ids = np.zeros((20, 30), np.int32)
    ids[:6] = 4
    ids[14:] = 5
    ids[4:16, 3:9] = 1
    ids[8:12, 14:22] = 2
    ids[8:12, 24:28] = 3
    channels = {1: 0, 2: 2, 3: 2, 4: 1, 5: 3}
    segments = {n: TruthSegment(n, c, c in (0, 2)) for n, c in channels.items()}
    return Labels(ids, segments, {1: 0.9, 2: 0.5})


def do(taxonomy: Taxonomy, **data: Any) -> Labels:
    return read_operation(data).apply(labels(), taxonomy)


def test_relabel(taxonomy: Taxonomy) -> None:
    after = do(taxonomy, operation="relabel", segments=[2, 3], category=PERSON)
    assert [s.channel for s in after.segments.values()] == [0, 0, 0, 1, 3]
    crowd = do(taxonomy, operation="relabel", segments=[2], category=DOG, crowd=True)
    assert crowd.segments[2].is_crowd
    stuff = do(taxonomy, operation="relabel", segments=[3], category=SKY)
    assert set(stuff.segments) == {1, 2, 3, 5}  # stuff of one class is one segment
    assert (stuff.ids == 3).sum() == (labels().ids == 4).sum() + (labels().ids == 3).sum()
    assert 1 in after.scores


def test_merge_and_delete(taxonomy: Taxonomy) -> None:
    after = do(taxonomy, operation="merge", segments=[3, 2])
    assert set(after.segments) == {1, 3, 4, 5}
    assert (after.ids == 3).sum() == 48
    gone = do(taxonomy, operation="delete", segments=[1])
    assert (gone.ids[4:16, 3:9] == 0).all()
    assert 1 not in gone.segments


def test_cut_along_a_line_and_into_pieces(taxonomy: Taxonomy) -> None:
    after = do(taxonomy, operation="cut", segment=2, points=[[17, 6], [17, 14]])
    new = max(after.segments)
    assert set(after.segments) == {1, 2, 3, 4, 5, new}
    both = (after.ids == 2) | (after.ids == new)
    assert both.tobytes() == (labels().ids == 2).tobytes()  # no pixel is lost
    assert {int((after.ids == n).sum()) for n in (2, new)} <= {12, 16, 20}
    assert after.segments[new].channel == 2
    merged = read_operation({"operation": "merge", "segments": [2, 3]}).apply(labels(), taxonomy)
    apart = read_operation({"operation": "cut", "segment": 2}).apply(merged, taxonomy)
    assert (apart.ids == 2).tobytes() == (labels().ids == 2).tobytes()
    with pytest.raises(ArgumentError, match="border to border"):
        do(taxonomy, operation="cut", segment=2, points=[[15, 9], [16, 10]])
    with pytest.raises(ArgumentError, match="stuff is one segment"):
        do(taxonomy, operation="cut", segment=4, points=[[6, -2], [6, 9]])


def test_paint_erase_and_outline(taxonomy: Taxonomy) -> None:
    grown = do(taxonomy, operation="paint", segment=1, points=[[10, 10]], radius=3)
    assert (grown.ids == 1).sum() > (labels().ids == 1).sum()
    assert grown.ids[10, 11] == 1
    assert grown.ids[10, 14] == 2
    new = do(taxonomy, operation="paint", category=PERSON, points=[[2, 12], [12, 12]], radius=1)
    assert new.segments[6].channel == 0
    assert (new.ids[11:13, 2:12] == 6).all()
    free = do(taxonomy, operation="paint", category=DOG, points=[[2, 10], [12, 10]], free=True)
    assert (free.ids == 1).tobytes() == (labels().ids == 1).tobytes()
    erased = do(taxonomy, operation="paint", segment=0, points=[[5, 9]], radius=2)
    assert (erased.ids == 0).sum() > (labels().ids == 0).sum()
    shape = [[10, 7], [13, 7], [13, 13], [10, 13]]
    filled = do(taxonomy, operation="paint", category=SKY, points=shape, fill=True)
    assert (filled.ids[7:13, 10:13] == 4).all()  # the sky that is there takes it in
    assert len(filled.segments) == 5
    with pytest.raises(ArgumentError, match="no pixel"):
        do(taxonomy, operation="paint", segment=1, points=[[500, 500]])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (7, "there is no operation"),
        ({"operation": "explode"}, "there is no operation"),
        ({"operation": "merge", "segments": [1]}, "two or more"),
        ({"operation": "delete", "segments": [9]}, "no segment 9"),
        ({"operation": "relabel", "segments": [1], "category": 5}, "category id 5"),
        ({"operation": "paint", "points": [[1, 1]]}, "neither a segment nor a category"),
        ({"operation": "paint", "segment": 1, "points": [[1, 1]], "radius": 1e9}, "radius"),
        ({"operation": "paint", "segment": 1, "points": [[1e9, 1]]}, "near the photo"),
        ({"operation": "paint", "segment": 1, "points": [[1, 1]], "fill": True}, "three or more"),
        ({"operation": "paint", "segment": 1, "points": [[1]]}, "operation.points"),
        ({"operation": "cut", "segment": 1, "knife": 2}, "knife"),
    ],
)
def test_bad_operations_are_told(data: Any, why: str, taxonomy: Taxonomy) -> None:
    with pytest.raises(ArgumentError, match=why):
        read_operation(data).apply(labels(), taxonomy)


def test_operations_are_read_back() -> None:
    for data in (
        {"operation": "relabel", "segments": [1, 2], "category": 3, "crowd": True},
        {"operation": "paint", "points": [[1.5, 2]], "radius": 3.0, "category": 1},
        {"operation": "cut", "segment": 4, "points": [[1, 2], [3, 4]]},
    ):
        operation = read_operation(data)
        assert read_operation(json.loads(json.dumps(write_operation(operation)))) == operation
    assert set(OPERATIONS) == {"relabel", "merge", "delete", "cut", "paint"}


def test_parts_of_a_mask_are_those_of_a_flood() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        h, w = rng.integers(1, 40, 2).tolist()
        mask = rng.random((h, w)) < rng.uniform(0.2, 0.8)
        parts, areas = components(mask)
        assert (parts > 0).tobytes() == mask.tobytes()
        assert areas == sorted(areas, reverse=True)
        assert np.bincount(parts.ravel(), minlength=len(areas) + 1)[1:].tolist() == areas
        assert len(areas) == flood(mask)


def flood(mask: NDArray[np.bool_]) -> int:
    """How many parts touch at sides or corners."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    count = 0
    while left:
        count += 1
        todo = [left.pop()]
        while todo:
            y, x = todo.pop()
            for near in [(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    todo.append(near)
    return count


# ----------------------------------------------------------------------------------------- projects


def photos(folder: Path) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    paths = {f"p{i}": folder / f"p{i}.jpg" for i in range(3)}
    for path in paths.values():
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(path)
    return paths


def project(root: Path, taxonomy: Taxonomy, name: str = "anna") -> AnnotationProject:
    seen: list[Photo] = []

    def propose(photo: Photo) -> Labels:
        seen.append(photo)
        return labels()

    made = AnnotationProject(root / "out", photos(root / "in"), taxonomy, propose, name)
    made.seen = seen  # type: ignore[attr-defined]
    return made


RELABEL = {"operation": "relabel", "segments": [2], "category": PERSON}
PAINT = {"operation": "paint", "segment": 1, "points": [[11, 11]], "radius": 3}


def test_every_step_is_there_after_an_end(tmp_path: Path, taxonomy: Taxonomy) -> None:
    one = project(tmp_path, taxonomy)
    one.apply(0, RELABEL)
    one.apply(0, PAINT)
    one.apply(0, {"operation": "delete", "segments": [3]})
    one.apply(0, {"operation": "undo"})
    expected = one.work(0).labels
    again = project(tmp_path, taxonomy)  # the first is gone without a word
    work = again.work(0)
    assert again.seen == []  # type: ignore[attr-defined]  # nothing is proposed twice
    assert np.array_equal(work.labels.ids, expected.ids)
    assert work.labels.segments == expected.segments
    assert (work.can_undo, work.can_redo) == (True, True)
    again.apply(0, {"operation": "redo"})
    assert 3 not in again.work(0).labels.segments
    for _ in range(3):
        again.apply(0, {"operation": "undo"})
    assert np.array_equal(again.work(0).labels.ids, labels().ids)
    with pytest.raises(ArgumentError, match="nothing to undo"):
        again.apply(0, {"operation": "undo"})


def test_a_line_that_was_cut_off_costs_only_itself(tmp_path: Path, taxonomy: Taxonomy) -> None:
    one = project(tmp_path, taxonomy)
    one.apply(0, RELABEL)
    one.apply(0, PAINT)
    path = tmp_path / "out/.work/anna/p0.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    again = project(tmp_path, taxonomy)
    assert len(again.work(0).steps) == 1
    again.apply(0, PAINT)
    assert len(project(tmp_path, taxonomy).work(0).steps) == 2


def test_a_step_that_fails_changes_nothing(tmp_path: Path, taxonomy: Taxonomy) -> None:
    one = project(tmp_path, taxonomy)
    with pytest.raises(ArgumentError):
        one.apply(0, {"operation": "delete", "segments": [99]})
    assert not one.work(0).can_undo
    assert not project(tmp_path, taxonomy).work(0).can_undo


def test_what_is_done_is_a_data_set(tmp_path: Path, taxonomy: Taxonomy) -> None:
    one = project(tmp_path, taxonomy)
    one.apply(0, RELABEL)
    one.finish(0)
    one.finish(2)
    reader = open_dataset(tmp_path / "out", "anna")
    assert len(reader) == 2
    truth = reader.truth(0)
    assert np.array_equal(truth.ids, one.work(0).labels.ids)
    assert reader.photo(0).size_wh == (30, 20)
    assert one.done == [0, 2]
    one.apply(0, PAINT)  # whoever changes labels looks at them again
    assert one.done == [2]
    one.finish(0)
    one.reopen(2)
    assert len(open_dataset(tmp_path / "out", "anna")) == 1


def test_other_classes_and_odd_names_are_refused(tmp_path: Path, taxonomy: Taxonomy) -> None:
    project(tmp_path, taxonomy)
    other = Taxonomy("other", taxonomy.categories[:2])
    with pytest.raises(DataError, match="other classes"):
        project(tmp_path, other)
    with pytest.raises(ArgumentError, match="annotator"):
        project(tmp_path, taxonomy, "../anna")
    with pytest.raises(ArgumentError, match="no photos"):
        AnnotationProject(tmp_path / "x", {}, taxonomy, lambda photo: labels())


def test_agreement_of_two(tmp_path: Path, taxonomy: Taxonomy) -> None:
    anna, ben = (project(tmp_path, taxonomy, name) for name in ("anna", "ben"))
    for index in (0, 1):
        anna.finish(index)
    ben.finish(0)
    same = measure_agreement(tmp_path / "out", "anna", "ben")
    assert (same.photos, same.pq, same.kappa, same.pixels) == (1, 100, 1, 1)
    ben.apply(1, {"operation": "delete", "segments": [2]})
    ben.apply(1, {"operation": "relabel", "segments": [1], "category": DOG})
    ben.finish(1)
    found = measure_agreement(tmp_path / "out", "anna", "ben")
    assert found.photos == 2
    assert found.pq is not None
    assert 50 < found.pq < 100
    assert found.kappa is not None
    assert 0.5 < found.kappa < 1
    assert next(iter(found.per_photo)) == "p1"
    with pytest.raises(DataError, match="no split 'carl'"):
        measure_agreement(tmp_path / "out", "anna", "carl")
