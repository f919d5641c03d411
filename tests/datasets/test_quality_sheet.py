"""The picture sheet: which photos it shows, and that labels and answers are on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panokit.errors import ArgumentError
from panokit.segmenter import Segmenter
from panokit.taxonomy import Taxonomy
from panokit_datasets.quality import evaluate, predictor, write_sheet
from panokit_datasets.quality.evaluate import EvaluationResult, PhotoQuality
from panokit_datasets.quality.panoptic_quality import PanopticQuality
from panokit_datasets.quality.sheet import CELL, picked
from tests.datasets.test_quality_evaluate import make_split


def result_of(taxonomy: Taxonomy, *pq: float | None, complete: float = 1) -> EvaluationResult:
    photos = tuple(
        PhotoQuality(f"{i}.png", i, complete == 1, value, None, None, value, None)
        for i, value in enumerate(pq)
    )
    quality = PanopticQuality(taxonomy).compute()
    none = (None,) * 6
    return EvaluationResult(quality, *none, len(photos), complete, {}, photos)


@pytest.mark.parametrize(
    ("pq", "expected"),
    [
        ([5.0, 1, 4, 2, 3, 7, 6], (["5", "6"], ["0", "2"], ["3", "1"])),
        ([1.0, 3, None, 2], (["1"], ["3"], ["0"])),
        ([2.0], (["0"], [], [])),
        ([], ([], [], [])),
    ],
    ids=["seven", "three judged", "one", "none"],
)
def test_picked_photos(
    taxonomy: Taxonomy, pq: list[float | None], expected: tuple[list[str], ...]
) -> None:
    found = picked(result_of(taxonomy, *pq), each=2)
    assert tuple([p.name.removesuffix(".png") for p in photos] for photos in found.values()) == (
        expected
    )
    assert next(iter(found)) == ("best by pq" if any(pq) else "best by miou")


def test_partly_labelled_split_is_sorted_by_person(taxonomy: Taxonomy) -> None:
    assert next(iter(picked(result_of(taxonomy, 1.0, 2.0, complete=0.5)))) == "best by person_iou"
    with pytest.raises(ArgumentError, match="at least 1"):
        picked(result_of(taxonomy, 1.0), each=0)


def test_sheet_shows_photo_labels_and_answer(tmp_path: Path) -> None:
    segmenter = Segmenter.open()
    ids = np.ones((40, 64), int)
    ids[:, 32:] = 2
    full = {"ids": ids.tolist(), "segments": {1: 1, 2: 18}}
    data = make_split(tmp_path, segmenter.taxonomy, [full])
    result = evaluate(predictor(segmenter), data, "val", segmenter.taxonomy)
    path = tmp_path / "sheet.png"
    write_sheet(path, segmenter, result, data, "val")
    sheet = np.asarray(Image.open(path)).astype(int)
    assert sheet.shape == (40 + 18, 3 * CELL, 3)
    labels = sheet[18 + 6, CELL : CELL + 64]
    person, sky = (segmenter.taxonomy.get(c).color for c in (1, 18))
    # The photo is black, so 0.6 of a colour is seen; the middle is the outline's.
    assert np.abs(labels[10] - 0.6 * np.array(person)).max() <= 2
    assert np.abs(labels[54] - 0.6 * np.array(sky)).max() <= 2
    assert list(tmp_path.glob("*.part")) == []
