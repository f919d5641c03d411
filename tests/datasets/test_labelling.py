"""Labels from networks: how views are joined, and the command from photos to training."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from panokit.errors import ArgumentError
from panokit.samples import sample_photos
from panokit.segmenter import Segmenter
from panokit.taxonomy import Category, Taxonomy
from panokit_datasets.commands.label import label
from panokit_datasets.labelling import Ensemble, Labelled, LabelSettings, _Object, write_labels
from panokit_datasets.pseudo import read_pseudo_labels

TAXONOMY = Taxonomy(
    "toy",
    (
        Category(4, "person", True, (9, 0, 0)),
        Category(7, "dog", True, (0, 9, 0)),
        Category(9, "sky", False, (0, 0, 9)),
    ),
)
PERSON, DOG, SKY = range(3)


@dataclass
class _Teacher:
    taxonomy: Taxonomy = TAXONOMY


def merged(
    objects: list[_Object], views: int = 2, sky: float = 0.0, settings: LabelSettings | None = None
) -> Labelled:
    """What an ensemble of so many views makes of objects on 10 × 10 pixels and this much sky."""
    made = settings or LabelSettings(mirror=False, least_pixels=1)
    ensemble = Ensemble([_Teacher()] * views, TAXONOMY, made)  # type: ignore[list-item]
    probability = np.zeros((10, 10, 3), np.float32)
    probability[..., SKY], probability[..., PERSON] = sky, 0.1
    return ensemble._merge(probability, objects)


def seen(channel: int, score: float, rows: slice, view: int) -> _Object:
    mask = np.zeros((10, 10), bool)
    mask[rows] = True
    return _Object(channel, score, mask, view)


def test_views_that_agree_make_one_object_with_their_mean_score() -> None:
    found = merged([seen(PERSON, 0.8, slice(0, 4), 0), seen(PERSON, 0.4, slice(0, 4), 1)])
    assert found.segments == ((PERSON, pytest.approx(0.6)),)
    assert (found.index[:4] == 1).all()
    assert not found.index[4:].any()


def test_an_object_of_one_view_counts_half() -> None:
    found = merged([seen(PERSON, 0.8, slice(0, 4), 0)])
    assert found.segments == ((PERSON, pytest.approx(0.4)),)


def test_two_objects_of_one_view_are_never_joined() -> None:
    found = merged([seen(PERSON, 0.8, slice(0, 4), 0), seen(PERSON, 0.7, slice(4, 8), 0)])
    assert len(found.segments) == 2
    # The same pixels twice: the worse one is covered, so it is left out.
    found = merged([seen(PERSON, 0.8, slice(0, 4), 0), seen(DOG, 0.7, slice(0, 4), 0)])
    assert [channel for channel, _ in found.segments] == [PERSON]


def test_the_class_with_the_larger_sum_of_scores_wins() -> None:
    views = [(DOG, 0.5), (PERSON, 0.4), (PERSON, 0.3)]
    found = merged([seen(c, s, slice(0, 4), i) for i, (c, s) in enumerate(views)], views=3)
    assert found.segments == ((PERSON, pytest.approx(0.7 / 3)),)


def test_stuff_fills_what_no_object_holds_where_views_are_sure() -> None:
    found = merged([seen(PERSON, 0.8, slice(0, 4), 0)], sky=0.7)
    assert found.segments[1] == (SKY, pytest.approx(0.7))
    assert (found.index[4:] == 2).all()
    assert not merged([], sky=0.45).index.any()  # above 0.35 at each pixel, under 0.5 on average
    assert not merged([], sky=0.3).index.any()


def test_weak_small_and_hidden_objects_are_left_out() -> None:
    assert merged([seen(PERSON, 0.2, slice(0, 4), 0)]).segments == ()  # 0.1 over two views
    few = LabelSettings(mirror=False, least_pixels=50)
    assert merged([seen(PERSON, 0.9, slice(0, 4), 0)], settings=few).segments == ()


def test_teachers_and_settings_that_cannot_be_used() -> None:
    other = Taxonomy("other", (Category(1, "ship", True, (0, 0, 0)),))
    with pytest.raises(ArgumentError, match="a teacher of classes in taxonomy 'toy'"):
        Ensemble([_Teacher(other)], TAXONOMY, LabelSettings())  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match="at least one bundle"):
        Ensemble([], TAXONOMY, LabelSettings())
    with pytest.raises(ArgumentError, match=r"numbers from 0\.25 to 1"):
        LabelSettings(scales=(2.0,))


def test_what_is_written_is_what_training_reads(tmp_path: Path) -> None:
    index = np.array([[0, 1, 1], [2, 2, 2]], np.uint8)
    person = np.array([[0, 1, 0.5], [0, 0, 0]], np.float32)
    made = Labelled(index, ((PERSON, 0.8), (SKY, 0.61)), person)
    write_labels(made, TAXONOMY, tmp_path, "x", "a.jpg")
    (labels,) = read_pseudo_labels(tmp_path, "x", TAXONOMY).values()
    assert [(s.index, s.channel, s.score) for s in labels.segments] == [
        (1, PERSON, 0.8), (2, SKY, 0.61),
    ]  # fmt: skip
    assert labels.index_map().tolist() == index.tolist()
    levels = labels.person_map()
    assert levels is not None
    assert levels.tolist() == [[0, 15, 8], [0, 0, 0]]


def test_mirror_and_smaller_views_land_where_the_photo_shows_it() -> None:
    """A wrong flip or offset would put the cat's two views apart: their agreement is the test."""
    from panokit.photo import Photo

    photo = Photo.open(sample_photos()["chelsea"])
    teacher = Segmenter.open()
    whole = Ensemble([teacher], teacher.taxonomy, LabelSettings(mirror=False))
    alone = whole(photo)
    cat = teacher.taxonomy.channel(teacher.taxonomy.get("cat").id)
    for settings in (LabelSettings(mirror=True), LabelSettings(mirror=False, scales=(0.6,))):
        found = Ensemble([teacher], teacher.taxonomy, settings)(photo)
        assert found.segments[0][0] == alone.segments[0][0] == cat
        both = (found.index == 1) & (alone.index == 1)
        either = (found.index == 1) | (alone.index == 1)
        assert both.sum() / either.sum() > 0.8


def test_the_command_labels_goes_on_and_leaves_out_what_is_no_photo(tmp_path: Path) -> None:
    photos = tmp_path / "holiday"
    photos.mkdir()
    with Image.open(sample_photos()["chelsea"]) as image:
        image.resize((96, 64)).save(photos / "a.jpg")
        image.resize((64, 96)).save(photos / "b.png")
    (photos / "c.jpg").write_bytes(b"nothing")
    with pytest.raises(typer.Exit):
        label(photos, tmp_path / "out", scales="1")
    lines = (tmp_path / "out/pseudo/holiday.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["holiday/a.jpg", "holiday/b.png"]
    # A last line that was torn off, as by a power cut, is made again; the first is kept.
    (tmp_path / "out/pseudo/holiday.jsonl").write_text(lines[0] + "\n" + lines[1][:30])
    with pytest.raises(typer.Exit):
        label(photos, tmp_path / "out", scales="1")
    assert (tmp_path / "out/pseudo/holiday.jsonl").read_text().splitlines() == lines


def test_the_command_labels_subfolders_and_names_what_shares_files(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "holiday"
    (photos / "day 1").mkdir(parents=True)
    with Image.open(sample_photos()["chelsea"]) as image:
        small = image.resize((96, 64))
    for name in ("a.jpg", "day 1/a.jpg", "a.png"):
        small.save(photos / name)
    with pytest.raises(typer.Exit) as left:
        label(photos, tmp_path / "out", scales="1", mirror=False)
    assert left.value.exit_code == 2
    assert "a.png: would have its labels in the files of a.jpg" in capfd.readouterr().err
    known = Segmenter.open().taxonomy
    assert set(read_pseudo_labels(tmp_path / "out", "holiday", known)) == {
        "holiday/a.jpg",
        "holiday/day 1/a.jpg",
    }
    labels = read_pseudo_labels(tmp_path / "out", "holiday", known)["holiday/day 1/a.jpg"]
    assert labels.index_map().shape == (64, 96)
