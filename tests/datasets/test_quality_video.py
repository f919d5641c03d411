"""Measures of video against the worked examples of their makers' programs."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from panokit.cli.shell import app
from panokit.errors import DataError, UsageError
from panokit.taxonomy import Category, Taxonomy
from panokit_datasets.any_photo import AnyFolder
from panokit_datasets.classes import camera_taxonomy
from panokit_datasets.quality.video import (
    Frame,
    TrackingQuality,
    _best_assignment,
    flicker,
    identity_f1,
    video_panoptic_quality,
)
from panokit_datasets.truth import TruthSegment
from tests.toys import datasets as toy

CAR, ROAD, VAN = 0, 1, 2
TAXONOMY = Taxonomy(
    "toy",
    (
        Category(1, "car", True, (1, 1, 1)),
        Category(2, "road", False, (2, 2, 2)),
        Category(3, "van", True, (3, 3, 3)),
    ),
)
FIRST = "aarrr aarrr rrrrr rrrrr rrrrr"
THEN = "raarr raarr rrrrr rrrrr rrrrr"


def frame(rows: str, track: int = 1, channel: int = CAR, crowds: str = "") -> Frame:
    """``a`` a track, ``r`` the road, ``c`` cars that are not separated, ``.`` void."""
    number = {"a": track, "r": 100, "c": 200, ".": 0}
    ids = np.array([[number[v] for v in row] for row in rows.split()], np.int32)
    segments = [TruthSegment(track, channel, True), TruthSegment(100, ROAD, False)]
    segments.append(TruthSegment(200, CAR, True, is_crowd=True))
    return Frame(ids, tuple(s for s in segments if (ids == s.id).any()))


TRUE = [frame(FIRST), frame(THEN)]


def measured(pred: list[Frame]) -> TrackingQuality:
    quality = TrackingQuality(TAXONOMY)
    for t, p in zip(TRUE, pred, strict=True):
        quality.add("0001", t, p)
    return quality


def test_a_new_id_in_the_second_frame_halves_the_association() -> None:
    pred = [frame(FIRST), frame(THEN, track=2)]
    quality = measured(pred)
    assert (quality.aq, quality.sq) == (0.5, 1)
    assert quality.stq == pytest.approx(0.70711, abs=1e-5)
    pairs = list(zip(TRUE, pred, strict=True))
    assert video_panoptic_quality([pairs], TAXONOMY, (1, 2)) == {1: 100, 2: 50}
    assert identity_f1(("s", t, p) for t, p in pairs) == 0.5
    assert identity_f1(("s", t, t) for t in TRUE) == 1


def test_another_class_with_the_right_id() -> None:
    quality = measured([frame(FIRST, channel=VAN), frame(THEN, channel=VAN)])
    assert (quality.aq, quality.sq) == (1, pytest.approx(1 / 3))
    assert quality.stq == pytest.approx(0.57735, abs=1e-5)


def test_crowds_leave_the_predicted_tracks_and_void_does_not() -> None:
    quality = TrackingQuality(TAXONOMY)
    true = frame("cc..r cc..r rrrrr aarrr rrrrr")
    ids = np.where(np.isin(true.ids, [0, 200, 1]), 1, true.ids).astype(np.int32)
    quality.add("s", true, Frame(ids, (TruthSegment(1, CAR, True), TruthSegment(100, ROAD, False))))
    assert quality.aq == pytest.approx(1 / 3)


def test_tracks_of_two_sequences_are_two() -> None:
    quality = TrackingQuality(TAXONOMY)
    for sequence in ("a", "b"):
        quality.add(sequence, TRUE[0], TRUE[0])
    assert quality.stq == 1
    assert len(quality._true) == 2


def test_nothing_to_judge_is_none() -> None:
    assert TrackingQuality(TAXONOMY).stq is None
    empty = Frame(np.zeros((2, 2), np.int32), ())
    assert identity_f1([("s", empty, empty)]) is None
    assert video_panoptic_quality([[(empty, empty)]], TAXONOMY, (1,)) == {1: None}


def test_the_assignment_is_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        n, m = rng.integers(1, 6, 2).tolist()
        counts = rng.integers(0, 9, (n, m))
        pairs = {(i, j): int(counts[i, j]) for i in range(n) for j in range(m) if counts[i, j]}
        padded = np.zeros((max(n, m), max(n, m)), int)
        padded[:n, :m] = counts
        every = itertools.permutations(range(len(padded)))
        best = max(sum(padded[i, j] for i, j in enumerate(order)) for order in every)
        assert _best_assignment(pairs) == best


def test_flicker_is_the_share_of_pixels_that_change_class() -> None:
    assert flicker(TRUE[0], TRUE[0]) == 0
    assert flicker(TRUE[0], TRUE[1]) == pytest.approx(4 / 25)
    still = np.zeros((5, 5), bool)
    still[3:] = True
    assert flicker(TRUE[0], TRUE[1], still) == 0


def test_a_network_is_measured_on_a_labelled_video(tmp_path: Path) -> None:
    """Shapes are no scenes for the network: the figures are low, the way is proved."""
    toy.kitti_step(tmp_path)
    words = ["evaluate", "--data", str(tmp_path), "--split", "val", "--video"]
    run = CliRunner().invoke(app, [*words, "--json", str(tmp_path / "a.json")])
    assert run.exit_code == 0, run.output
    data = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert (data["sequences"], data["frames"]) == (1, 2)
    assert set(data["vpq"]) == {"1", "2", "3", "4"}
    assert 0 <= data["sq"] <= 1
    toy.voc(tmp_path / "voc")
    run = CliRunner().invoke(app, ["evaluate", "--data", str(tmp_path / "voc"), *words[3:]])
    assert isinstance(run.exception, DataError)


def test_what_is_of_photos_is_refused_for_a_video(tmp_path: Path) -> None:
    words = ["evaluate", "--data", str(tmp_path), "--split", "val", "--video"]
    for option in (["--sheet", str(tmp_path / "a.png")], ["--ap"], ["--details"]):
        run = CliRunner().invoke(app, [*words, *option])
        assert isinstance(run.exception, UsageError)
        assert str(run.exception).startswith(f"{option[0]} is of photos; leave --video out")


def test_ids_of_a_video_stay_the_same_in_other_classes(tmp_path: Path) -> None:
    toy.kitti_step(tmp_path)
    photos = AnyFolder.open(tmp_path, camera_taxonomy()).split("val")
    frames = [Frame(t.ids, t.segments) for _, t in (p.frame() for p in photos)]
    assert {s.id for s in frames[0].segments} == {s.id for s in frames[1].segments}
    quality = TrackingQuality(camera_taxonomy())
    for frame_ in frames:
        quality.add("0002", frame_, frame_)
    assert quality.stq == 1
    assert identity_f1(("0002", f, f) for f in frames) == 1
