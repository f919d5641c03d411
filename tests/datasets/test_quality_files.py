"""Panoptic quality of files: published 5 × 5 examples, what is refused, who is better."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from panokit.errors import ArgumentError, DataError
from panokit_datasets.quality.bootstrap import compare_pq
from panokit_datasets.quality.files import PanopticFile, better, compare_files
from panokit_datasets.quality.panoptic_quality import SegmentCounts, bands_of, count_segments
from panokit_datasets.quality.semantic import boundary
from panokit_datasets.truth import TruthSegment

CATEGORIES: list[dict[str, Any]] = [
    {"id": 0, "name": "person", "isthing": 1},  # ids of some sets begin at 0
    {"id": 3, "name": "road", "isthing": 0},
    {"id": 4, "name": "car", "isthing": 1},
    {"id": 7, "name": "sky", "isthing": 0},
]
PERSON, ROAD, CAR, SKY = (c["id"] for c in CATEGORIES)
ID = {"a": 70_000, "b": 2, "c": 3, "d": 256, "e": 5, "z": 77}
OF: dict[str, int] = {"a": PERSON, "b": ROAD, "c": PERSON, "d": SKY, "e": PERSON}
CARS: dict[str, int] = {**OF, "c": CAR}


def write(
    folder: Path,
    name: str,
    rows: str,
    classes: dict[str, int] = OF,
    crowds: str = "",
    unlisted: str = "",
    areas: dict[str, int] | None = None,
) -> Path:
    """One photo from letters, ``.`` void, as ``NAME.json`` and ``NAME/0.png``."""
    ids = np.array([[ID.get(letter, 0) for letter in row] for row in rows.split()])
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    (folder / name).mkdir(exist_ok=True)
    Image.fromarray(rgb).save(folder / name / "0.png")
    letters = [k for k in dict.fromkeys(rows) if k in ID and k not in unlisted]
    segments = [
        {"id": ID[k], "category_id": classes[k], "iscrowd": int(k in crowds),
         "area": (areas or {}).get(k, int((ids == ID[k]).sum()))}
        for k in letters
    ]  # fmt: skip
    data = {
        "categories": CATEGORIES,
        "annotations": [{"image_id": 0, "file_name": "0.png", "segments_info": segments}],
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def figures(truth: Path, pred: Path, **settings: Any) -> Any:
    of_truth = PanopticFile.read(truth)
    return compare_files(of_truth, PanopticFile.read(pred, like=of_truth), **settings).result


HALF = "aabbb aabbb bbbbb bbbbb bbbbb"
CROWDS = "aabcc aabcc bbbbb bbbbb bbbbb"
# truth, its crowds, prediction, the prediction's classes, strict PQ, correct PQ
EXAMPLES: dict[str, tuple[str, str, str, dict[str, int], float, float]] = {
    "void leaves the union": ("aa.bb aa.bb aa.bb ...bb ...bb", "",
        "aaabb aaabb aaabb cccbb cccbb", CARS, 100, 100),
    "both wrong by a pixel": ("bbbbb baaab baaab baaab bbbbb", "",
        "bbbbb baaab baaab baabb bbbbb", OF, 91.5033, 91.5033),
    "half is no match": (HALF, "", "aabbb bbbbb bbbbb bbbbb bbbbb", OF, 45.6522, 45.6522),
    "half in void counts": ("bbbbb bbbbb bbbbb bbb.. bbb..", "",
        "bbbbb bbbbb bbbbb bcccc bcccc", CARS, 40.4762, 40.4762),
    "most in void is forgiven": ("bbbbb bbbbb bbbbb bb... bb...", "",
        "bbbbb bbbbb bbbbb bcccc bcccc", CARS, 89.4737, 89.4737),
    "abstaining is not free": ("aaabb aaabb aaabb bbbbb bbbbb", "",
        "a..bb ...bb ...bb bbbbb bbbbb", OF, 50, 50),
    "persons in a crowd": ("aaabb aaabb bbbbb bbbbb bbbbb", "a",
        "acebb acebb bbbbb bbbbb bbbbb", OF, 100, 100),
    "two crowds of a class": (CROWDS, "ac", CROWDS, OF, 50, 100),
    "a crowd stays in the union": ("aaccb aaccb aaccb bbbbb bbbbb", "c",
        "aaa.b aaa.b aaa.b bbbbb bbbbb", OF, 83.3333, 83.3333),
    "wrong classes": ("aabbb aabbb bbbbb ddddd ddddd", "",
        "aabbb aabbb bbccc bbccc bbbbb", CARS, 25, 25),
    "one invented": ("aaaab aaaab bbbbb bbbbb bbbbb", "",
        "aaacb aaacb bbbbb bbbbb bbbbb", OF, 75, 75),
    "one segment is all": ("bbbbb bbbbb", "", "bbbbb bbbbb", OF, 100, 100),
    "nothing found": (HALF, "", "..... ..... ..... ..... .....", OF, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name: str, tmp_path: Path) -> None:
    rows, crowds, pred, classes, strict, correct = EXAMPLES[name]
    truth = write(tmp_path, "truth", rows, crowds=crowds)
    found = write(tmp_path, "pred", pred, classes)
    assert figures(truth, found, crowds="strict").all == pytest.approx(strict, abs=5e-5)
    assert figures(truth, found, crowds="correct").all == pytest.approx(correct, abs=5e-5)


def test_a_true_id_that_is_not_listed(tmp_path: Path) -> None:
    """panopticapi takes it for neither void nor a segment; without --strict it is refused."""
    truth = write(tmp_path, "truth", "aazzb aazzb bbbbb bbbbb bbbbb", unlisted="z")
    pred = write(tmp_path, "pred", "aaccb aaccb bbbbb bbbbb bbbbb")
    assert figures(truth, pred, crowds="strict").all == pytest.approx(83.3333, abs=5e-5)
    with pytest.raises(DataError, match=r"77.*not in the JSON"):
        figures(truth, pred)


def test_areas_that_the_png_contradicts_are_refused(tmp_path: Path) -> None:
    rows = "aaabb aaabb aaabb bbbbb bbbbb"  # others answer PQ 162.5
    truth = write(tmp_path, "truth", rows, areas={"a": 4})
    for crowds in ("strict", "correct"):
        with pytest.raises(DataError, match="70000 has 9 pixels, and its JSON says an area of 4"):
            figures(truth, write(tmp_path, "pred", rows), crowds=crowds)


def test_a_predicted_segment_without_pixels(tmp_path: Path) -> None:
    truth, pred = write(tmp_path, "truth", HALF), write(tmp_path, "pred", HALF)
    data = json.loads(pred.read_text())
    data["annotations"][0]["segments_info"].append({"id": 9, "category_id": CAR})
    pred.write_text(json.dumps(data))
    assert figures(truth, pred).all == 100
    with pytest.raises(DataError, match="segment 9"):
        figures(truth, pred, crowds="strict")


def test_several_processes_count_the_same(tmp_path: Path) -> None:
    truth, pred = write(tmp_path, "truth", CROWDS, crowds="ac"), write(tmp_path, "pred", CROWDS)
    of_truth = PanopticFile.read(truth)
    of_pred = PanopticFile.read(pred, like=of_truth)
    one, two = (compare_files(of_truth, of_pred, workers=n) for n in (1, 2))
    assert one.result == two.result


def test_boundary_examples(tmp_path: Path) -> None:
    truth = write(tmp_path, "truth", "bbbbb baaab baaab baaab bbbbb")
    pred = write(tmp_path, "pred", "bbbbb baaab baaab baabb bbbbb")
    found = figures(truth, pred, boundary=0.02).per_class
    assert found["person"].pq == pytest.approx(100 * 7 / 9)
    assert found["road"].pq == pytest.approx(100 * 16 / 17)
    truth = write(tmp_path, "truth", HALF)
    pred = write(tmp_path, "pred", "aabbb bbbbb bbbbb bbbbb bbbbb")
    found = figures(truth, pred, boundary=0.02).per_class
    assert found["person"].pq == 0
    assert found["road"].pq == pytest.approx(100 * 7 / 9)


def test_bands_are_those_of_each_mask() -> None:
    rng = np.random.default_rng(3)
    for ratio in (0.02, 0.05, 0.2):
        blocks = rng.integers(0, 4, (5, 6))
        ids = np.kron(blocks, np.ones((7, 9), int))[:32, :47]
        expected = np.zeros(ids.shape, bool)
        for one in range(4):
            expected |= boundary(ids == one, ratio)
        assert np.array_equal(bands_of(ids, ratio), expected)


def test_boundary_agrees_with_plain_loops() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        truth = np.kron(rng.integers(0, 5, (4, 4)), np.ones((6, 7), int))
        pred = np.roll(truth, rng.integers(-2, 3, 2), (0, 1))
        segments = {i: i % 2 for i in range(1, 5) if (pred == i).any()}
        listed = [TruthSegment(i, i % 2, False) for i in range(1, 5) if (truth == i).any()]
        found = count_segments(pred, segments, truth, listed, 2, boundary=0.03)
        iou, hits = np.zeros(2), 0
        for s in listed:
            for p, channel in segments.items():
                if channel != s.channel:
                    continue
                a, b = truth == s.id, pred == p
                pairs = ((a, b), (boundary(a, 0.03), boundary(b, 0.03)))
                values = [(x & y).sum() / (x | (y & (truth > 0))).sum() for x, y in pairs]
                if min(values) > 0.5:
                    iou[channel] += min(values)
                    hits += 1
        assert found.tp.sum() == hits
        assert found.iou == pytest.approx(iou, abs=1e-12)


SPOILT: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unknown category": (lambda d: _segment(d).update(category_id=5), "category 5"),
    "duplicate id": (lambda d: _segments(d).append(_segment(d)), "twice"),
    "id 0": (lambda d: _segment(d).update(id=0), "0 means void"),
    "huge id": (lambda d: _segment(d).update(id=2**24), "16777215"),
    "negative id": (lambda d: _segment(d).update(id=-1), "from 0"),
    "text for an id": (lambda d: _segment(d).update(id="1"), "whole number"),
    "a path out": (lambda d: d["annotations"][0].update(file_name="../x.png"), "inside"),
    "a device": (lambda d: d["annotations"][0].update(file_name="C:x.png"), "inside"),
    "no png": (lambda d: d["annotations"][0].update(file_name="none.png"), "no such file"),
    "twice a photo": (lambda d: d["annotations"].append(d["annotations"][0]), "two annotations"),
    "no photo": (lambda d: d["annotations"].clear(), "missing"),
    "no list": (lambda d: d.update(annotations=7), "list of objects"),
    "instances": (lambda d: d.update(annotations=[{"bbox": [1, 2, 3, 4]}]), "COCO instances"),
}


def _segments(data: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = data["annotations"][0]["segments_info"]
    return found


def _segment(data: dict[str, Any]) -> dict[str, Any]:
    return _segments(data)[0]


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_wrong_is_named(name: str, tmp_path: Path) -> None:
    spoil, says = SPOILT[name]
    truth, pred = write(tmp_path, "truth", HALF), write(tmp_path, "pred", HALF)
    data = json.loads(pred.read_text())
    spoil(data)
    pred.write_text(json.dumps(data))
    with pytest.raises(DataError, match=says):
        figures(truth, pred)


def test_another_size_is_named(tmp_path: Path) -> None:
    truth = write(tmp_path, "truth", HALF)
    pred = write(tmp_path, "pred", "aabbb aabbb")
    with pytest.raises(DataError, match=r"size \(5, 5\)"):
        figures(truth, pred)


def counts(rng: np.random.Generator, photos: int, hit: float) -> list[SegmentCounts]:
    out = []
    for _ in range(photos):
        tp = rng.binomial(4, hit, 3)
        out.append(SegmentCounts(tp, np.zeros(3, int), 4 - tp, np.asarray(tp * 0.8, np.float64)))
    return out


def test_what_is_better_and_what_is_noise() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (counts(rng, 60, hit) for hit in (0.5, 0.7, 0.51))
    found = compare_pq(a, b)
    assert found.verdict == "better"
    assert found.p < 0.01
    assert found.interval[0] < found.difference < found.interval[1]
    assert found.common == pytest.approx(found.difference)
    assert compare_pq(b, a).verdict == "worse"
    noise = compare_pq(a, c)
    assert noise.verdict == "within noise"
    assert noise.p > 0.05
    same = compare_pq(a, a)
    assert (same.difference, same.interval, same.p) == (0, (0, 0), 1)
    assert json.loads(json.dumps(found.to_json()))["verdict"] == "better"
    with pytest.raises(ArgumentError):
        compare_pq(a, b[:-1])


def test_the_command(tmp_path: Path) -> None:
    from panokit.cli.shell import app

    truth = write(tmp_path, "truth", CROWDS, crowds="ac")
    pred, other = write(tmp_path, "pred", CROWDS), write(tmp_path, "other", HALF)
    out = tmp_path / "out.json"
    arguments = ["pq", str(truth), str(pred), "--than", str(other), "--json", str(out)]
    done = CliRunner().invoke(app, [*arguments, "--strict"])
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    assert report["pq"]["all"] == 50
    assert report["crowds"] == "strict"
    assert report["than"]["photos"] == 1
    of_truth = PanopticFile.read(truth)
    a, b = (
        compare_files(of_truth, PanopticFile.read(p, like=of_truth), crowds="strict")
        for p in (other, pred)
    )
    assert better(a, b).difference == report["than"]["difference"]
