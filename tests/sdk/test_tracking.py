"""Objects from frame to frame, and lines that they cross."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from panokit.cli.shell import app
from panokit.errors import ArgumentError, UsageError
from panokit.photo import Photo
from panokit.result import PanopticResult
from panokit.segmenter import Segmenter
from panokit.taxonomy import Taxonomy
from panokit.tracking import LineCounter, Track, Tracker
from tests.sdk.test_tiles import ByColor

RED, GREEN = (255, 0, 0), (0, 255, 0)


def frame(*boxes: tuple[int, int, int, int, tuple[int, int, int]]) -> NDArray[np.uint8]:
    rgb = np.full((120, 160, 3), 128, np.uint8)
    for x, y, w, h, color in boxes:
        rgb[max(0, y) : max(0, y + h), max(0, x) : max(0, x + w)] = color
    return rgb


def seen(taxonomy: Taxonomy, rgb: NDArray[np.uint8]) -> PanopticResult:
    return ByColor(taxonomy).segment(Photo.from_array(rgb))


def followed(
    taxonomy: Taxonomy, frames: list[NDArray[np.uint8]], **options: Any
) -> list[list[int]]:
    """The tracks of each frame, from left to right."""
    tracker = Tracker(**options)
    out = []
    for rgb in frames:
        result = seen(taxonomy, rgb)
        found = tracker.update(result)
        things = sorted((s for s in result if s.is_thing), key=lambda s: s.box_xyxy)
        out.append([found[s.id].number for s in things])
    return out


def test_objects_keep_their_numbers_while_they_move(taxonomy: Taxonomy) -> None:
    frames = [
        frame((5 + 6 * t, 40, 12, 30, RED), (140 - 7 * t, 80, 15, 20, RED)) for t in range(18)
    ]
    numbers = followed(taxonomy, frames)
    first, second = numbers[0]
    for t, rgb in enumerate(frames):
        left = [first, second] if 5 + 6 * t < 140 - 7 * t else [second, first]
        assert numbers[t] == left, (t, rgb.shape)


def test_a_fast_small_object_is_followed_by_its_step(taxonomy: Taxonomy) -> None:
    frames = [frame((4 + 13 * t, 50, 14, 14, RED)) for t in range(10)]
    assert {n for numbers in followed(taxonomy, frames) for n in numbers} == {1}


def test_who_is_hidden_for_some_frames_is_known_again(taxonomy: Taxonomy) -> None:
    visible = [t < 5 or t > 9 for t in range(16)]
    frames = [frame((5 + 7 * t, 40, 16, 30, RED)) if v else frame() for t, v in enumerate(visible)]
    numbers = followed(taxonomy, frames)
    assert numbers[-1] == [1]
    assert followed(taxonomy, frames, patience=2)[-1] == [2]


def test_who_is_unsure_goes_on_with_a_track_and_begins_none(taxonomy: Taxonomy) -> None:
    tracker = Tracker()
    result = seen(taxonomy, frame((40, 40, 20, 20, RED)))
    (thing,) = (s for s in result if s.is_thing)
    assert tracker.update(result, {thing.id}) == {}
    assert tracker.tracks == {}
    assert tracker.update(result)[thing.id].number == 1
    assert tracker.update(result, {thing.id})[thing.id].number == 1


def test_another_class_is_another_object(taxonomy: Taxonomy) -> None:
    frames = [frame((40, 40, 20, 20, RED)), frame((40, 40, 20, 20, GREEN))]
    assert followed(taxonomy, frames) == [[1], [2]]


def test_who_is_seen_once_does_not_count(taxonomy: Taxonomy) -> None:
    tracker = Tracker()
    for rgb in (frame((10, 10, 9, 9, RED)), frame((90, 60, 30, 30, GREEN)),
                frame((92, 60, 30, 30, GREEN))):  # fmt: skip
        tracker.update(seen(taxonomy, rgb))
    assert tracker.totals == {"dog": 1}
    with pytest.raises(ArgumentError):
        Tracker(-1)


def track(number: int, x: float, y: float) -> Track:
    return Track(number, "person", (x, y), (0, 0, 1, 1), np.zeros((1, 1), bool))


def test_lines_are_crossed_between_their_ends_and_once() -> None:
    line = LineCounter((0, 50), (100, 50))
    assert line.update([track(1, 10, 40), track(2, 50, 60), track(3, 150, 40)]) == []
    crossed = line.update([track(1, 10, 60), track(2, 50, 40), track(3, 150, 60)])
    assert [(c.track, c.forward) for c in crossed] == [(1, True), (2, False)]
    assert line.update([track(1, 12, 50)]) == []  # on the line: not over it yet
    assert line.update([track(1, 14, 60)]) == []
    assert line.update([track(1, 14, 50)]) == []
    assert len(line.update([track(1, 14, 45)])) == 1
    assert line.counts == {"person": {"forward": 1, "backward": 2}}
    with pytest.raises(ArgumentError):
        LineCounter((1, 1), (1, 1))


@pytest.mark.parametrize("name", ["{:04d}", "at-{}"], ids=["padded", "plain"])
def test_the_command_counts_frames(
    name: str, tmp_path: Path, taxonomy: Taxonomy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Segmenter, "open", lambda *_: ByColor(taxonomy))
    folder = tmp_path / "frames"
    folder.mkdir()
    for t in range(12):
        rgb = frame(
            (60, 4 * t, 20, 30, RED), (10, 70 - 4 * t, 16, 20, RED), (120, 60, 20, 20, GREEN)
        )
        Image.fromarray(rgb).save(folder / f"{name.format(t)}.png")
    words = ["count", str(folder), "--classes", "person", "--line", "0,60,160,60"]
    run = CliRunner().invoke(
        app, [*words, "--csv", str(tmp_path / "a.csv"), "--json", str(tmp_path / "a.json")]
    )
    assert run.exit_code == 0, run.output
    data = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert [f["frame"] for f in data["frames"]] == [name.format(t) for t in range(12)]
    assert data["totals"] == {"person": 2}
    assert data["lines"][0]["counts"] == {"person": {"forward": 1, "backward": 1}}
    rows = list(csv.reader((tmp_path / "a.csv").read_text("utf-8").splitlines()))
    assert len(rows) == 25
    assert sorted(r[2:] for r in rows[1:3]) == [
        ["person", "10", "70", "26", "90"],
        ["person", "60", "0", "80", "30"],
    ]
    run = CliRunner().invoke(app, [*words[:-1], "1,2,3"])
    assert isinstance(run.exception, UsageError)
