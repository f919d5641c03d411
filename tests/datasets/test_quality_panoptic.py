"""Panoptic quality: 5 × 5 maps to be checked by hand, a plain-loop transcription, and hotcoco."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from panokit.errors import ArgumentError
from panokit.taxonomy import Category, Taxonomy
from panokit_datasets.coco_panoptic import TruthSegment
from panokit_datasets.quality.panoptic_quality import PanopticQuality, count_segments

PERSON, SKY, DOG, ROAD = range(4)
THINGS_ONLY = Taxonomy("things", (Category(1, "person", True, (0, 0, 0)),))


def grid(text: str) -> NDArray[np.int32]:
    """``"11222 11333 …"``: a row a word, an id a digit."""
    return np.array([[int(c) for c in row] for row in text.split()], np.int32)


def true(id: int, channel: int, *, crowd: bool = False, ignore: bool = False) -> TruthSegment:
    return TruthSegment(id, channel, channel in (PERSON, DOG), crowd, ignore)


# Two persons (1: 6 pixels, 2: 4 pixels) before sky (3: 15 pixels).
SCENE = grid("11333 11333 11322 33322 33333")
SCENE_TRUTH = (true(1, PERSON), true(2, PERSON), true(3, SKY))


def compute(
    taxonomy: Taxonomy,
    pred: NDArray[np.int32],
    segments: Mapping[int, int],
    truth_map: NDArray[np.int32] = SCENE,
    truth: Sequence[TruthSegment] = SCENE_TRUTH,
) -> PanopticQuality:
    quality = PanopticQuality(taxonomy)
    quality.update(pred, segments, truth_map, truth)
    return quality


def counts_of(quality: PanopticQuality, channel: int) -> tuple[int, int, int, float]:
    c = quality.counts
    return int(c.tp[channel]), int(c.fp[channel]), int(c.fn[channel]), float(c.iou[channel])


def test_perfect(taxonomy: Taxonomy) -> None:
    result = compute(taxonomy, SCENE, {1: PERSON, 2: PERSON, 3: SKY}).compute()
    assert (result.all, result.things, result.stuff) == (100, 100, 100)
    assert (result.per_class["person"].tp, result.per_class["sky"].tp) == (2, 1)
    assert result.per_class["dog"].pq is None  # neither there nor predicted


def test_one_person_split_in_two(taxonomy: Taxonomy) -> None:
    # Person 1 (6 pixels) as halves of 4 and 2: IoU 4/6 matches, the rest is invented.
    pred = grid("11333 11333 44322 33322 33333")
    quality = compute(taxonomy, pred, {1: PERSON, 2: PERSON, 3: SKY, 4: PERSON})
    assert counts_of(quality, PERSON) == (2, 1, 0, pytest.approx(4 / 6 + 1))
    person = quality.compute().per_class["person"]
    assert person.pq == pytest.approx(100 * (4 / 6 + 1) / 2.5)
    assert person.sq == pytest.approx(100 * (4 / 6 + 1) / 2)
    assert person.rq == pytest.approx(100 * 2 / 2.5)


def test_an_iou_of_one_half_is_no_match(taxonomy: Taxonomy) -> None:
    # 3 of person 1's 6 pixels: IoU exactly 1/2.
    pred = grid("10333 10333 10322 33322 33333")
    quality = compute(taxonomy, pred, {1: PERSON, 2: PERSON, 3: SKY})
    assert counts_of(quality, PERSON) == (1, 1, 1, 1.0)


def test_two_persons_merged_into_one(taxonomy: Taxonomy) -> None:
    # 10 pixels against person 1's 6: IoU 6/10 matches; person 2 is missed.
    pred = grid("11333 11333 11311 33311 33333")
    quality = compute(taxonomy, pred, {1: PERSON, 3: SKY})
    assert counts_of(quality, PERSON) == (1, 0, 1, pytest.approx(0.6))


def test_a_wrong_class_is_both_invented_and_missed(taxonomy: Taxonomy) -> None:
    quality = compute(taxonomy, SCENE, {1: DOG, 2: PERSON, 3: SKY})
    assert counts_of(quality, PERSON) == (1, 0, 1, 1.0)
    assert counts_of(quality, DOG) == (0, 1, 0, 0.0)
    result = quality.compute()
    assert result.per_class["dog"].pq == 0
    assert result.all == pytest.approx((100 / 1.5 + 100 + 0) / 3)
    assert result.things == pytest.approx((100 / 1.5 + 0) / 2)
    assert (result.rq.stuff, result.sq.things) == (100, 50)


def test_empty_prediction_misses_everything(taxonomy: Taxonomy) -> None:
    result = compute(taxonomy, np.zeros_like(SCENE), {}).compute()
    assert (result.all, result.things, result.stuff) == (0, 0, 0)
    assert (result.per_class["person"].fn, result.per_class["sky"].fn) == (2, 1)


def test_empty_truth_judges_nothing(taxonomy: Taxonomy) -> None:
    # All void: predictions are excused, and there is no class to take a mean over.
    quality = compute(taxonomy, SCENE, {1: PERSON, 2: PERSON, 3: SKY}, np.zeros_like(SCENE), ())
    result = quality.compute()
    assert (result.all, result.things, result.stuff) == (None, None, None)
    assert result.per_class["person"].fp == 0


def test_void_is_left_out_of_the_union(taxonomy: Taxonomy) -> None:
    # Person of 4 pixels, predicted with 6; the other 2 are void: IoU 4/4.
    truth_map = grid("11000 11000 33333 33333 33333")
    pred = grid("11100 11100 33333 33333 33333")
    quality = compute(taxonomy, pred, {1: PERSON, 3: SKY}, truth_map, (true(1, 0), true(3, SKY)))
    assert counts_of(quality, PERSON) == (1, 0, 0, 1.0)


@pytest.mark.parametrize(
    ("row", "fp"),
    [("44333", 0), ("44433", 0), ("44443", 1)],
    ids=["all in void", "2 of 3 in void", "half in void"],
)
def test_predictions_in_void_are_excused(taxonomy: Taxonomy, row: str, fp: int) -> None:
    truth_map, pred = (grid(f"{r} 33333 33333 33333 33333") for r in ("00333", row))
    quality = compute(taxonomy, pred, {3: SKY, 4: DOG}, truth_map, (true(3, SKY),))
    assert counts_of(quality, DOG) == (0, fp, 0, 0.0)


def test_ignored_segments_are_void(taxonomy: Taxonomy) -> None:
    truth = (true(1, PERSON), true(2, PERSON, crowd=True, ignore=True), true(3, SKY))
    # The prediction spills from person 1 all over the ignored 2: still IoU 1.
    pred = grid("11333 11333 11311 33311 33333")
    quality = compute(taxonomy, pred, {1: PERSON, 3: SKY}, SCENE, truth)
    assert counts_of(quality, PERSON) == (1, 0, 0, 1.0)


def test_a_crowd_is_neither_matched_nor_missed_nor_invented(taxonomy: Taxonomy) -> None:
    truth = (true(1, PERSON, crowd=True), true(2, PERSON), true(3, SKY))
    quality = compute(taxonomy, SCENE, {1: PERSON, 2: PERSON, 3: SKY}, SCENE, truth)
    assert counts_of(quality, PERSON) == (1, 0, 0, 1.0)
    # A dog in the crowd of persons is invented all the same.
    quality = compute(taxonomy, SCENE, {1: DOG, 2: PERSON, 3: SKY}, SCENE, truth)
    assert counts_of(quality, DOG) == (0, 1, 0, 0.0)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)], ids=["first listed", "last listed"])
def test_every_crowd_of_a_class_counts(taxonomy: Taxonomy, order: tuple[int, int]) -> None:
    truth = (*(true(i, PERSON, crowd=True) for i in order), true(3, SKY))
    quality = compute(taxonomy, SCENE, {1: PERSON, 2: PERSON, 3: SKY}, SCENE, truth)
    assert counts_of(quality, PERSON) == (0, 0, 0, 0.0)


def test_one_prediction_over_two_crowds_and_void_is_excused(taxonomy: Taxonomy) -> None:
    # 2 pixels in each crowd, 1 in void, 4 in sky: 5 of 9 excused.
    truth_map = grid("11220 33333 33333 33333 33333")
    pred = grid("55555 55553 33333 33333 33333")
    truth = (true(1, PERSON, crowd=True), true(2, PERSON, crowd=True), true(3, SKY))
    quality = compute(taxonomy, pred, {3: SKY, 5: PERSON}, truth_map, truth)
    assert counts_of(quality, PERSON) == (0, 0, 0, 0.0)


def test_no_stuff_class() -> None:
    truth = (true(1, PERSON),)
    result = compute(THINGS_ONLY, grid("110"), {1: PERSON}, grid("110"), truth).compute()
    assert (result.all, result.things, result.stuff) == (100, 100, None)


def test_segments_without_pixels_are_not_there(taxonomy: Taxonomy) -> None:
    segments = {1: PERSON, 2: PERSON, 3: SKY, 9: DOG}
    quality = compute(taxonomy, SCENE, segments, SCENE, (*SCENE_TRUTH, true(8, DOG)))
    assert counts_of(quality, DOG) == (0, 0, 0, 0.0)


def test_merging_equals_counting_in_one_go(taxonomy: Taxonomy) -> None:
    segments = {1: PERSON, 2: PERSON, 3: SKY}
    first = compute(taxonomy, SCENE, segments)
    second = compute(taxonomy, np.zeros_like(SCENE), {})
    both = compute(taxonomy, SCENE, segments)
    both.update(np.zeros_like(SCENE), {}, SCENE, SCENE_TRUTH)
    first.merge(second)
    assert first.compute() == both.compute()
    assert first.compute().per_class["person"].fn == 2


def test_json_is_plain(taxonomy: Taxonomy) -> None:
    data = compute(taxonomy, SCENE, {1: PERSON, 2: PERSON, 3: SKY}).compute().to_json()
    assert json.loads(json.dumps(data)) == data
    assert sorted(data) == ["all", "per_class", "stuff", "things"]
    person = {"pq": 100.0, "sq": 100.0, "rq": 100.0, "tp": 2, "fp": 0, "fn": 0}
    assert data["per_class"]["person"] == person


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pred": SCENE[:4]}, "true_ids is .*; expected an array of whole numbers of shape"),
        ({"pred": SCENE.astype(float)}, "pred_ids is .*; expected an array of whole numbers"),
        ({"segments": {1: 0, 2: 0}}, "has 3 in the map; expected every id to be 0 or listed"),
        ({"segments": {0: 0, 1: 0, 2: 0, 3: 1}}, "segments with one id each, none of them 0"),
        ({"segments": {1: 0, 2: 0, 3: 4}}, "pred_segments has .*; expected channels from 0 to 3"),
        ({"truth": (*SCENE_TRUTH, true(3, SKY))}, "true_ids has .*; expected segments with one id"),
        ({"truth": SCENE_TRUTH[:2]}, "true_ids has 3 in the map"),
        ({"truth": (*SCENE_TRUTH, true(4, -1))}, "true_segments has .*; expected channels"),
    ],
    ids=["size", "float", "unlisted", "zero", "channel", "twice", "unlisted truth", "true channel"],
)
def test_impossible_input_is_refused(
    taxonomy: Taxonomy, change: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"pred": SCENE, "segments": {1: 0, 2: 0, 3: 1}, **change}
    with pytest.raises(ArgumentError, match=message):
        compute(taxonomy, **arguments)


def test_foreign_taxonomies_do_not_merge(taxonomy: Taxonomy) -> None:
    with pytest.raises(ArgumentError, match="expected counts of the same taxonomy"):
        PanopticQuality(taxonomy).merge(PanopticQuality(THINGS_ONLY))


def slow_counts(
    pred: NDArray[np.int32],
    segments: Mapping[int, int],
    truth_map: NDArray[np.int32],
    truth: Sequence[TruthSegment],
) -> dict[int, list[float]]:
    """The definition in plain loops over sets of pixels: channel → [tp, fp, fn, iou]."""
    pixels = list(np.ndindex(pred.shape))
    truths = {s.id: {q for q in pixels if truth_map[q] == s.id} for s in truth}
    preds = {i: {q for q in pixels if pred[q] == i} for i in segments}
    ignored = {s.id for s in truth if s.ignore}
    void = {q for q in pixels if truth_map[q] == 0 or truth_map[q] in ignored}
    out: dict[int, list[float]] = {c: [0, 0, 0, 0.0] for c in range(4)}
    used, found = set(), set()
    for s in truth:
        if s.ignore or s.is_crowd:
            continue
        for i, channel in segments.items():
            union = (preds[i] | truths[s.id]) - (void & preds[i])
            iou = len(preds[i] & truths[s.id]) / len(union) if union else 0
            if channel == s.channel and iou > 0.5:
                out[channel][0] += 1
                out[channel][3] += iou
                used.add(i)
                found.add(s.id)
    for s in truth:
        if not (s.ignore or s.is_crowd or s.id in found) and truths[s.id]:
            out[s.channel][2] += 1
    for i, channel in segments.items():
        crowds = [truths[s.id] for s in truth if s.is_crowd and s.channel == channel]
        excused = preds[i] & void.union(*crowds)
        if i not in used and preds[i] and len(excused) / len(preds[i]) <= 0.5:
            out[channel][1] += 1
    return out


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Any, ...]:
    h, w = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    truth_map = rng.integers(0, draw(st.integers(1, 6)), (h, w)).astype(np.int32)
    # A prediction that errs in some pixels, so that matches do occur.
    noise = rng.integers(0, 6, (h, w))
    pred = np.where(rng.random((h, w)) < draw(st.sampled_from([0.1, 0.3, 0.9])), noise, truth_map)
    kinds = rng.integers(0, 2, 6) if draw(st.booleans()) else rng.integers(0, 4, 6)
    crowd, ignore = rng.random((2, 6)) < [[0.3], [0.15]]
    truth = tuple(
        true(i, int(kinds[i]), crowd=bool(crowd[i] | ignore[i]), ignore=bool(ignore[i]))
        for i in range(1, 6)
    )
    flipped = rng.random(6) < 0.2
    segments = {i: int(rng.integers(4) if flipped[i] else kinds[i]) for i in range(1, 6)}
    return pred.astype(np.int32), segments, truth_map, truth


@settings(max_examples=150, deadline=None)
@given(scenes())
def test_agrees_with_plain_loops(scene: tuple[Any, Any, Any, Any]) -> None:
    counts = count_segments(*scene, channels=4)
    expected = slow_counts(*scene)
    for c, (tp, fp, fn, iou) in expected.items():
        assert (counts.tp[c], counts.fp[c], counts.fn[c]) == (tp, fp, fn)
        assert counts.iou[c] == pytest.approx(iou, abs=1e-12)


def test_agrees_with_hotcoco(taxonomy: Taxonomy, tmp_path: Path) -> None:
    panoptic = pytest.importorskip("hotcoco.panoptic")
    rng = np.random.default_rng(5)
    quality = PanopticQuality(taxonomy)
    files: dict[str, dict[str, Any]] = {
        side: {"images": [], "annotations": [], "categories": taxonomy.to_json()["categories"]}
        for side in ("true", "pred")
    }
    for number in range(12):
        # Blocks of 6 × 6 pixels carry an id; one crowd at most per class, where all agree.
        blocks = rng.integers(0, 8, (5, 7))
        truth_map = np.kron(blocks, np.ones((6, 6), int)).astype(np.int32)
        pred = np.roll(truth_map, rng.integers(0, 4, 2), (0, 1))
        pred[rng.random(pred.shape) < 0.05] = 0
        channels = [int(c) for c in rng.integers(0, 4, 8)]
        crowd = 1 + int(rng.integers(7))
        truth = [true(i, channels[i], crowd=i == crowd) for i in np.unique(truth_map) if i]
        segments = {int(i): channels[i] for i in np.unique(pred) if i}
        segments = {i: PERSON if i == 3 else c for i, c in segments.items()}
        quality.update(pred, segments, truth_map, truth)
        infos = {
            "true": {s.id: (s.channel, int(s.is_crowd)) for s in truth},
            "pred": {i: (c, 0) for i, c in segments.items()},
        }
        for side, ids in (("true", truth_map), ("pred", pred)):
            name = f"{number}.png"
            rgb = np.stack([ids, ids * 0, ids * 0], axis=-1).astype(np.uint8)
            (tmp_path / side).mkdir(exist_ok=True)
            Image.fromarray(rgb).save(tmp_path / side / name)
            h, w = ids.shape
            image = {"id": number, "file_name": name, "width": w, "height": h}
            listed = [
                {
                    "id": int(i),
                    "category_id": int(taxonomy.ids[c]),
                    "iscrowd": is_crowd,
                    "area": int((ids == i).sum()),
                    "bbox": [0, 0, w, h],
                }
                for i, (c, is_crowd) in infos[side].items()
            ]
            annotation = {"image_id": number, "file_name": name, "segments_info": listed}
            files[side]["images"].append(image)
            files[side]["annotations"].append(annotation)
    for side, data in files.items():
        (tmp_path / f"{side}.json").write_text(json.dumps(data), encoding="utf-8")
    judge = panoptic.PanopticEval(str(tmp_path / "true.json"), str(tmp_path / "pred.json"))
    judge.evaluate()
    expected, result = judge.results(), quality.compute()
    assert 5 < (result.all or 0) < 95  # neither trivial nor perfect
    for key, value in (("All", result.all), ("Things", result.things), ("Stuff", result.stuff)):
        assert value == pytest.approx(100 * expected[key]["pq"], abs=1e-9)
    assert result.sq.all == pytest.approx(100 * expected["All"]["sq"], abs=1e-9)
    assert result.rq.all == pytest.approx(100 * expected["All"]["rq"], abs=1e-9)
