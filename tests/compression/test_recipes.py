"""Recipes: data that refuses what makes no sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from panokit.errors import ArgumentError
from panokit_compression.recipes import Recipe, load_recipe, recipe_names


def test_checked_in_recipes() -> None:
    assert recipe_names() == ["float16", "float32", "int8"]


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_named_like_its_file_and_round_trips(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(load_recipe("int8").to_json() | {"name": "mine"}))
    assert load_recipe(path).name == "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"precision": "int7"}, "Expected precision", id="precision"),
        pytest.param({"calibration_photos": 4}, "at least 16", id="few-photos"),
        pytest.param({"calibration_photos": "many"}, "a whole number", id="text"),
        pytest.param({"calibration_photos": True}, "a whole number", id="bool"),
        pytest.param({"ranges": "none"}, "'min_max' or 'mean'", id="no-ranges"),
        pytest.param({"rounding": "up"}, "Expected rounding", id="rounding"),
        pytest.param({"precision": "float32"}, "without calibration", id="float-with-photos"),
        pytest.param({"name": ""}, "recipe name", id="no-name"),
        pytest.param({"speed": 3}, "known names", id="unknown-field"),
    ],
)
def test_impossible_recipes_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Recipe.from_json(load_recipe("int8").to_json() | change)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("{", "to be JSON", id="no-json"),
        pytest.param("[]", "a JSON object", id="list"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(ArgumentError, match=message):
        load_recipe(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("int9", "one of: float16, float32, int8", id="name"),
        pytest.param("nowhere.json", "a JSON file that exists", id="path"),
    ],
)
def test_an_unknown_recipe_names_the_known_ones(name: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        load_recipe(name)
