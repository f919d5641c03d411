"""Evaluating a split: made-up photos with figures derived by hand, and the photo set."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from panokit.errors import ArgumentError, DataError
from panokit.photo import Photo
from panokit.taxonomy import Category, Taxonomy
from panokit_datasets.coco_panoptic import decode_ids, load_truth
from panokit_datasets.quality import EvaluationResult, evaluate
from panokit_datasets.quality import Prediction as FullPrediction
from panokit_datasets.quality.bootstrap import bootstrap_weights, iou_interval, pq_interval
from panokit_datasets.quality.panoptic_quality import SegmentCounts

PERSON, SKY = 0, 1
Prediction = tuple[NDArray[np.int32], list[tuple[int, int, float]]]


def make_split(
    root: Path, taxonomy: Taxonomy, photos: list[dict[str, Any]], split: str = "val"
) -> Path:
    """A data set of one photo per dict: ``ids`` (rows), ``segments`` {id: category}, and perhaps
    ``labelled``. The red channel of photo i is i everywhere, so that a fake can tell them apart."""
    images, annotations = [], []
    for i, photo in enumerate(photos):
        ids = np.array(photo["ids"], np.uint8)
        h, w = ids.shape
        name = f"{i}.png"
        for folder, red in (("images", np.full_like(ids, i)), ("panoptic", ids)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            rgb = np.stack([red, ids * 0, ids * 0], axis=-1)
            Image.fromarray(rgb).save(root / folder / name)
        image = {"id": i, "file_name": name, "width": w, "height": h}
        images.append(image | {k: photo[k] for k in ("labelled",) if k in photo})
        infos = [{"id": k, "category_id": c} for k, c in photo["segments"].items()]
        annotations.append({"image_id": i, "file_name": name, "segments_info": infos})
    data = {"images": images, "annotations": annotations} | taxonomy.to_json()
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"{split}.json").write_text(json.dumps(data), encoding="utf-8")
    return root


def fake(*answers: tuple[Any, dict[int, int]]) -> Any:
    """A segmenter that answers photo i with ``answers[i]``: rows of ids and {id: channel}."""

    def segment(photo: Photo) -> Prediction:
        ids, segments = answers[int(photo.rgb_hwc[0, 0, 0])]
        return np.array(ids, np.int32), [(k, c, 1.0) for k, c in segments.items()]

    return segment


HALF = [[1, 1, 2, 2]] * 4  # 8 pixels of person, 8 of sky
FULL = {"ids": HALF, "segments": {1: 1, 2: 2}}


def run(root: Path, taxonomy: Taxonomy, segment: Any, photos: list[Any]) -> EvaluationResult:
    return evaluate(segment, make_split(root, taxonomy, photos), "val", taxonomy)


def test_figures_of_two_photos(tmp_path: Path, taxonomy: Taxonomy) -> None:
    # The first photo is perfect; in the second the person has 12 pixels, so the sky is missed:
    # person IoU 8/12 matches, sky 4/8 does not.
    more = [[1, 1, 1, 2]] * 4
    segment = fake((HALF, {1: PERSON, 2: SKY}), (more, {1: PERSON, 2: SKY}))
    result = run(tmp_path, taxonomy, segment, [FULL, FULL])
    person, sky = result.pq.per_class["person"], result.pq.per_class["sky"]
    assert (person.tp, person.fp, person.fn) == (2, 0, 0)
    assert (sky.tp, sky.fp, sky.fn) == (1, 1, 1)
    assert result.pq.things == pytest.approx(100 * (1 + 8 / 12) / 2)
    assert result.pq.stuff == pytest.approx(100 * 1 / 2)
    assert result.person_iou == pytest.approx(16 / 20)
    assert result.miou == pytest.approx((16 / 20 + 12 / 16) / 2)
    assert (result.photos, result.complete) == (2, 1.0)
    first, second = result.per_photo
    assert (first.name, first.pq, first.person_iou, first.miou) == ("0.png", 100, 1, 1)
    assert first.person_boundary_iou == 1
    assert second.pq == pytest.approx(100 * (8 / 12 + 0) / 2)
    assert second.person_pq == pytest.approx(100 * 8 / 12)
    # Bands one pixel wide: the true person (2 wide) is all band; of the predicted 3 × 4 the two
    # inner pixels are not. Shared 8 - 2, together 8 + 10 - 6. The first photo adds 8 of 8.
    assert second.person_boundary_iou == pytest.approx(6 / 12)
    assert result.person_boundary_iou == pytest.approx((8 + 6) / (8 + 12))
    # Both photos twice, or one of each: the extremes are the figures of the single photos.
    assert result.intervals["person_iou"] == pytest.approx((8 / 12, 1))
    assert result.intervals["person_pq"] == pytest.approx((100 * 8 / 12, 100))
    assert result.intervals["pq_all"] == pytest.approx((100 * 8 / 24, 100))


def test_class_map_has_figures_of_its_own(tmp_path: Path, taxonomy: Taxonomy) -> None:
    # No object was found, so the panoptic map is void where the person is; the class map knows.
    def segment(photo: Photo) -> FullPrediction:
        ids = np.array([[0, 0, 1, 1]] * 4, np.int32)
        class_map = np.array([[PERSON, PERSON, SKY, SKY]] * 4)
        return FullPrediction(ids, [(1, SKY, 1.0)], class_map)

    result = run(tmp_path, taxonomy, segment, [FULL])
    assert (result.person_iou, result.miou, result.person_boundary_iou) == (1, 1, 1)
    assert (result.map_person_iou, result.map_miou) == (0, 0.5)
    assert result.map_person_boundary_iou == 0
    assert result.per_photo[0].person_iou == 1
    assert result.pq.per_class["person"].fn == 1


@pytest.mark.parametrize(
    ("labelled", "person_iou"),
    [([1], 4 / 16), ([1, 3], 4 / 16), ([3], 4 / 4), ([], 4 / 4), ([1, 2, 3, 7], 4 / 4)],
    ids=["person", "person and dog", "dog", "none", "all: void"],
)
def test_partial_labels(
    tmp_path: Path, taxonomy: Taxonomy, labelled: list[int], person_iou: float
) -> None:
    # Person is predicted everywhere, labelled in 4 of 16 pixels; the rest has id 0.
    photo = {"ids": [[1, 0, 0, 0]] * 4, "segments": {1: 1}, "labelled": labelled}
    result = run(tmp_path, taxonomy, fake(([[1] * 4] * 4, {1: PERSON})), [photo])
    assert result.person_iou == person_iou
    assert result.pq.all == 100  # all void to panoptic quality, whence the warning in `complete`
    assert result.complete == float(len(labelled) == 4)


def test_json_has_exactly_the_promised_keys(tmp_path: Path, taxonomy: Taxonomy) -> None:
    photos = [FULL, {"ids": HALF, "segments": {1: 3, 2: 2}}]
    segment = fake((HALF, {1: PERSON, 2: SKY}), (HALF, {1: PERSON, 2: SKY}))
    result = run(tmp_path, taxonomy, segment, photos)
    data = result.to_json()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    keys = ["pq", "miou", "person_iou", "person_boundary_iou", "panoptic_map", "photos"]
    keys += ["intervals"]
    assert list(data) == keys
    assert list(data["pq"]) == ["all", "things", "stuff", "per_class"]
    assert list(data["pq"]["per_class"]["road"]) == ["pq", "sq", "rq", "tp", "fp", "fn"]
    assert list(data["intervals"]) == ["person_iou", "person_pq", "pq_all"]
    details = result.to_json(details=True)
    assert list(details) == [*keys, "complete", "per_photo"]
    assert [p["name"] for p in details["per_photo"]] == ["0.png", "1.png"]
    assert json.loads(json.dumps(details, allow_nan=False)) == details


def test_a_taxonomy_without_person_or_stuff(tmp_path: Path) -> None:
    taxonomy = Taxonomy("cats", (Category(1, "cat", True, (0, 0, 0)),))
    photo = {"ids": [[1, 0]], "segments": {1: 1}}
    result = run(tmp_path, taxonomy, fake(([[1, 0]], {1: 0})), [photo])
    assert (result.pq.all, result.pq.stuff, result.miou) == (100, None, 1)
    assert (result.person_iou, result.person_boundary_iou) == (None, None)
    assert result.per_photo[0].person_pq is None
    assert result.intervals == {"person_iou": None, "person_pq": None, "pq_all": (100, 100)}


def test_the_same_seed_gives_the_same_intervals(tmp_path: Path, taxonomy: Taxonomy) -> None:
    segment = fake(*[([[1] * n + [2] * (4 - n)] * 4, {1: PERSON, 2: SKY}) for n in (1, 2, 3, 2)])
    root = make_split(tmp_path, taxonomy, [FULL] * 4)
    results = [evaluate(segment, root, "val", taxonomy, seed=s, resamples=50) for s in (1, 1, 2)]
    assert results[0] == results[1]
    assert results[0].pq == results[2].pq
    low, high = results[0].intervals["person_iou"] or (2, 2)
    assert low <= (results[0].person_iou or 0) <= high


def test_progress_sees_every_photo_and_must_hand_them_on(
    tmp_path: Path, taxonomy: Taxonomy
) -> None:
    root = make_split(tmp_path, taxonomy, [FULL, FULL])
    segment = fake(*[(HALF, {1: PERSON, 2: SKY})] * 2)
    seen: list[str] = []

    def progress(photos: Iterable[Any]) -> Iterator[Any]:
        for photo in photos:
            seen.append(photo.name)
            yield photo

    evaluate(segment, root, "val", taxonomy, progress=progress)
    assert seen == ["0.png", "1.png"]
    with pytest.raises(
        ArgumentError, match="handed on 1 photos; expected a function that hands on all 2 photos"
    ):
        evaluate(segment, root, "val", taxonomy, progress=lambda photos: list(photos)[:1])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            (np.zeros((4, 5), np.int32), []),
            r"the predicted ids .* expected the photo's, \(4, 4\) for 0.png",
        ),
        ((np.array(HALF), [(1, 0, 1.0)]), "every id to be 0 or listed"),
        (
            (np.array(HALF), [(1, 0, 1.0), (1, 0, 1.0), (2, 1, 1.0)]),
            "segments are .*; expected one per id",
        ),
        ((np.array(HALF), [(1, 0, 1.0), (2, 9, 1.0)]), "expected channels from 0 to 3"),
        ((np.array(HALF) * 1.0, [(1, 0, 1.0), (2, 1, 1.0)]), "array of whole numbers"),
    ],
    ids=["size", "unlisted", "twice", "channel", "float"],
)
def test_impossible_answers_are_refused(
    tmp_path: Path, taxonomy: Taxonomy, answer: Any, message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        run(tmp_path, taxonomy, lambda photo: answer, [FULL])


def test_an_empty_split_is_refused(tmp_path: Path, taxonomy: Taxonomy) -> None:
    root = make_split(tmp_path / "data", taxonomy, [])
    with pytest.raises(DataError, match="expected at least one photo"):
        evaluate(fake(), root, "val", taxonomy)


def test_bootstrap_arithmetic() -> None:
    weights = bootstrap_weights(7, resamples=300, seed=3)
    assert (weights.shape, set(weights.sum(axis=1))) == ((300, 7), {7.0})
    assert weights.mean() == 1
    one = np.ones(1, np.int64)
    same = SegmentCounts(tp=one, fp=one, fn=one, iou=np.array([0.8]))
    assert pq_interval(weights, [same] * 7, [0]) == pytest.approx((40, 40))  # 0.8 / 2
    assert pq_interval(weights, [SegmentCounts.zeros(1)] * 7, [0]) is None
    assert iou_interval(weights, [3] * 7, [4] * 7) == (0.75, 0.75)
    assert iou_interval(weights, [0] * 7, [0] * 7) is None
    with pytest.raises(ArgumentError, match="expected at least 1 of each"):
        bootstrap_weights(0)


def test_bootstrap_means_leave_out_classes_that_do_not_occur() -> None:
    # Class 0 is in both photos (PQ 50), class 1 in the second only (PQ 100): the mean is 50 in
    # resamples of the first photo alone and 75 in all others.
    def counts(tp: list[int], fn: list[int], iou: list[float]) -> SegmentCounts:
        zeros = np.zeros(2, np.int64)
        return SegmentCounts(np.array(tp), zeros, np.array(fn), np.array(iou))

    photos = [counts([1, 0], [0, 0], [0.5, 0]), counts([1, 1], [0, 0], [0.5, 1])]
    weights = np.array([[2.0, 0.0]] * 50 + [[1.0, 1.0]] * 50)
    assert pq_interval(weights, photos, [0, 1]) == (50, 75)


def test_truth_as_prediction_is_perfect_on_the_photo_set(photo_set: Path) -> None:
    taxonomy = Taxonomy.load(photo_set / "taxonomy.json")
    truth = {t.image_path.stem: t for t in load_truth(photo_set, "coco_panoptic_val", taxonomy)}

    def segment(photo: Photo) -> Prediction:
        record = truth[photo.name]
        return decode_ids(record), [(s.id, s.channel, 1.0) for s in record.segments]

    result = evaluate(segment, photo_set, "coco_panoptic_val", taxonomy)
    assert (result.photos, result.complete) == (50, 1)
    assert result.pq.all == result.pq.things == result.pq.stuff == pytest.approx(100)
    assert result.miou == result.person_iou == result.person_boundary_iou == 1
