"""Persons by their size, and how far scores can be believed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from panokit.cli import app
from panokit.errors import ArgumentError
from panokit.taxonomy import Taxonomy
from panokit_datasets.quality import Breakdown, TruthSegment, write_breakdown
from panokit_datasets.quality.breakdown import BINS
from tests.toys import datasets as toy

TAXONOMY = Taxonomy.from_json({"name": "t", "things": ["person", "dog"], "stuff": ["sky"]})
Map = NDArray[np.int32]


def painted(*boxes: tuple[int, slice, slice]) -> Map:
    ids = np.zeros((100, 100), np.int32)
    for number, rows, columns in boxes:
        ids[rows, columns] = number
    return ids


def counted(pred: Map, found: list[tuple[int, int, float]], true: Map, *channels: int) -> Breakdown:
    """A photo with everything labelled; the class map is that of the segments."""
    segments = tuple(TruthSegment(i + 1, c, c < 2) for i, c in enumerate(channels))
    class_map = np.full(pred.shape, -1)
    for number, channel, _ in found:
        class_map[pred == number] = channel
    made = Breakdown(TAXONOMY)
    made.update(pred, found, class_map, true, segments, np.ones(pred.shape, np.bool_))
    return made


def test_objects_are_told_by_their_size() -> None:
    tiny, small, large = slice(0, 9), slice(20, 40), slice(50, 100)
    true = painted((1, tiny, tiny), (2, small, small), (3, large, large), (4, tiny, large))
    pred = painted((7, small, slice(20, 36)), (8, large, large), (9, tiny, large))
    found = [(7, 0, 0.55), (8, 0, 0.95), (9, 1, 0.75)]  # the dog is there; the tiny person is not
    result = counted(pred, found, true, 0, 0, 0, 1).compute()
    table = {s.name: (s.objects, s.found) for s in result.sizes}
    assert table == {
        "below 1 %": (1, 0), "1 to 5 %": (1, 1), "5 to 20 %": (0, 0), "above 20 %": (1, 1),
    }  # fmt: skip
    by_name = {s.name: s for s in result.sizes}
    assert by_name["1 to 5 %"].iou == pytest.approx(0.8)
    assert by_name["1 to 5 %"].recall == pytest.approx(0.8)
    assert by_name["below 1 %"].iou is None
    assert by_name["below 1 %"].recall == 0
    assert result.precision == 1
    assert result.recall == pytest.approx((0.8 * 400 + 2500) / (81 + 400 + 2500))
    assert sum(b.right for b in result.scores) == 3


def test_scores_are_held_to_what_is_there() -> None:
    rows = [slice(10 * k, 10 * k + 10) for k in range(10)]
    every = slice(0, 100)
    true = painted(*((k + 1, r, every) for k, r in enumerate(rows[:6])))
    pred = painted(*((k + 1, r, every) for k, r in enumerate(rows[:8])))
    found = [(k + 1, 0, 0.75) for k in range(8)]
    true[60:] = 7  # sky, where two persons are seen
    result = counted(pred, found, true, *[0] * 6, 2).compute()
    bin_ = result.scores[7]
    assert (bin_.segments, bin_.right, bin_.share, bin_.score) == (8, 6, 0.75, 0.75)
    assert result.calibration_error == pytest.approx(0)
    surer = counted(pred, [(i, c, 1.0) for i, c, _ in found], true, *[0] * 6, 2).compute()
    assert surer.calibration_error == pytest.approx(0.25)
    assert surer.scores[BINS - 1].segments == 8  # 1.0 belongs to the last


def test_void_excuses_and_nothing_is_nothing() -> None:
    empty = painted()
    result = counted(empty, [], empty).compute()
    assert (result.precision, result.recall, result.calibration_error) == (None, None, None)
    excused = counted(painted((1, slice(0, 50), slice(0, 50))), [(1, 0, 0.9)], empty).compute()
    assert sum(b.segments for b in excused.scores) == 0
    with pytest.raises(ArgumentError, match="no category 'car'"):
        Breakdown(TAXONOMY, "car")


def test_a_crowd_is_neither_precision_nor_recall() -> None:
    box, crowd = slice(0, 20), slice(50, 90)
    true = painted((1, box, box), (2, crowd, crowd))
    segments = (TruthSegment(1, 0, True), TruthSegment(2, 0, True, is_crowd=True))
    class_map = np.where(true > 0, 0, -1)
    made = Breakdown(TAXONOMY)
    found = [(1, 0, 0.9), (2, 0, 0.9)]
    made.update(true, found, class_map, true, segments, np.ones(true.shape, np.bool_))
    result = made.compute()
    assert (result.precision, result.recall) == (1, 1)
    assert sum(b.segments for b in result.scores) == 1  # a crowd excuses the other


def test_the_picture_is_written(tmp_path: Path) -> None:
    box = slice(10, 60)
    one = painted((1, box, box))
    result = counted(one, [(1, 0, 0.9)], one, 0).compute()
    write_breakdown(tmp_path / "b.png", result, "toy on val")
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == (900, 400)
        assert len(image.getcolors(100_000) or []) > 3
    assert result.to_json()["scores"][9]["share"] == 1


def test_the_command_writes_it_and_tells_it(tmp_path: Path) -> None:
    toy.voc(tmp_path)
    words = ["evaluate", "--data", str(tmp_path), "--split", "val"]
    outputs = ["--breakdown", str(tmp_path / "b.png"), "--json", str(tmp_path / "b.json")]
    run = CliRunner().invoke(app, [*words, *outputs])
    assert run.exit_code == 0, run.output
    assert "person by share of the photo" in run.output
    assert (tmp_path / "b.png").stat().st_size > 1000
    told = json.loads((tmp_path / "b.json").read_text("utf-8"))["breakdown"]
    assert told["category"] == "person"
    assert len(told["sizes"]) == 4
