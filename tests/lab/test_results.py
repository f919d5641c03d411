"""Results of recipes: what result.json looks like, and that it comes back as it went."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panokit.errors import DataError
from panokit_lab.results import Objectives, RecipeResult
from tests.toys.results import RESULT_JSON


def test_the_file_comes_back_as_it_went(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(RESULT_JSON))
    result = RecipeResult.load(path)
    written = result.to_json()
    assert json.dumps(written) == json.dumps(RESULT_JSON)  # the order of names too
    assert RecipeResult.from_json(written) == result


def test_figures_have_names_and_types() -> None:
    result = RecipeResult.from_json(RESULT_JSON)
    tflite, package = result.artifacts["tflite"], result.artifacts["coreml"]
    assert (result.name, result.macs, tflite.bytes) == ("int8", 1306940800, 3590000)
    assert tflite.quality is not None
    assert (tflite.quality.pq, tflite.quality.map_person_iou) == (50.0, 0.45)
    assert tflite.quality.per_class["person"].tp == 3
    assert tflite.quality.photo_names == ["a.jpg"]
    assert tflite.latency[1].ms_per_megapixel == pytest.approx(7.25 / 0.1024)
    assert (package.arena_bytes, package.sqnr_db, package.quality) == (None, None, None)
    assert package.sqnr_photos == ()
    assert result.objectives == Objectives(3590000, 1306940800, 7.25, 50.0)


def test_a_recipe_without_a_tflite_file_is_weighed_by_its_package() -> None:
    data = copy.deepcopy(RESULT_JSON)
    del data["artifacts"]["tflite"]
    assert RecipeResult.from_json(data).objectives == Objectives(100, 1306940800)


def test_files_without_figures_of_the_panoptic_map_are_read() -> None:
    data = copy.deepcopy(RESULT_JSON)
    for name in ("panoptic_map", "intervals", "complete"):
        del data["artifacts"]["tflite"]["quality"][name]
    quality = RecipeResult.from_json(data).artifacts["tflite"].quality
    assert quality is not None
    assert (quality.map_person_iou, quality.person_iou) == (None, 0.5)
    assert quality.complete == 1


def _without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda data: data.pop(name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(_without("macs"), "it has no 'macs'", id="missing"),
        pytest.param(lambda d: d.update(artifacts=[]), "but", id="wrong-type"),
        pytest.param(lambda d: d["recipe"].update(name=""), "recipe name", id="bad-recipe"),
        pytest.param(
            lambda d: d["artifacts"]["tflite"]["quality"]["per_photo"].append({}), "but", id="photo"
        ),
    ],
)
def test_damaged_files_are_named(
    damage: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    data = copy.deepcopy(RESULT_JSON)
    damage(data)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(data))
    with pytest.raises(DataError, match=f"result.json.*{message}.*run the recipe again"):
        RecipeResult.load(path)


@pytest.mark.parametrize(
    ("mine", "other", "beats"),
    [
        pytest.param(Objectives(1, 1, 1, 20), Objectives(2, 1, 1, 20), True, id="smaller"),
        pytest.param(Objectives(1, 1, 1, 21), Objectives(1, 1, 1, 20), True, id="better"),
        pytest.param(Objectives(1, 1, 1, 20), Objectives(1, 1, 1, 20), False, id="equal"),
        pytest.param(Objectives(1, 1, 2, 20), Objectives(2, 1, 1, 20), False, id="slower"),
        pytest.param(Objectives(1, 1, 1), Objectives(2, 1, 1, 20), False, id="not-measured"),
    ],
)
def test_one_recipe_beats_another(mine: Objectives, other: Objectives, beats: bool) -> None:
    assert mine.beats(other) is beats
