"""Recipes: data that refuses what makes no sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from panokit.errors import ArgumentError
from panokit_compression.recipes import (
    Finetune,
    LinearWeights,
    Palettize,
    Prune,
    Qat,
    Quantize,
    Recipe,
    Sparsify,
    Step,
    load_recipe,
    recipe_names,
)

INT8 = {"kind": "quantize", "precision": "int8", "calibration_photos": 32, "ranges": "mean"}


def test_checked_in_recipes() -> None:
    names = recipe_names()
    assert {"float16", "float32", "int8"} <= set(names)
    assert len(names) >= 10


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_named_like_its_file_and_round_trips(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"name": "mine", "steps": [INT8]}))
    recipe = load_recipe(path)
    assert (recipe.name, recipe.precision, recipe.calibration_photos) == ("mine", "int8", 32)


@pytest.mark.parametrize(
    ("name", "formats"),
    [
        ("float32", ("tflite", "coreml")),
        ("float16", ("tflite", "coreml")),
        ("int8", ("tflite",)),
        ("coreml-palette4", ("coreml",)),
        ("qat-int8", ("tflite", "coreml")),
        ("prune45", ("tflite", "coreml")),
    ],
)
def test_formats_that_a_recipe_speaks_of(name: str, formats: tuple[str, ...]) -> None:
    assert load_recipe(name).formats == formats


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"kind": "squeeze"}, "step kind is", id="kind"),
        pytest.param(
            {"precision": "int7"}, "step.precision is .*; expected one of", id="precision"
        ),
        pytest.param({"calibration_photos": 4}, "at least 16", id="few-photos"),
        pytest.param({"calibration_photos": "many"}, "a whole number", id="text"),
        pytest.param({"calibration_photos": True}, "a whole number", id="bool"),
        pytest.param({"ranges": "none"}, "int8 needs measured ranges", id="no-ranges"),
        pytest.param({"rounding": "up"}, "step.rounding is .*; expected one of", id="rounding"),
        pytest.param({"precision": "float32"}, "has calibration settings", id="float-with-photos"),
        pytest.param(
            {"precision": "int8-dynamic", "ranges": "none", "rounding": "compensated"},
            "'nearest' for int8-dynamic",
            id="dynamic-compensated",
        ),
        pytest.param({"keep": ["("]}, "regular expressions", id="pattern"),
        pytest.param({"keep": "head"}, "step.keep is .*; expected a list", id="no-list"),
        pytest.param({"keep_precision": "int16x8"}, "unless precision", id="keep-nothing"),
        pytest.param({"speed": 3}, "names are each one of", id="unknown-field"),
    ],
)
def test_impossible_steps_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Recipe.from_json({"name": "bad", "steps": [INT8 | change]})


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        pytest.param(Prune, {"macs": 0}, "above 0 and below 1", id="prune-all"),
        pytest.param(Prune, {"macs": 1.0}, "above 0 and below 1", id="prune-nothing"),
        pytest.param(Prune, {"importance": "luck"}, "magnitude, taylor", id="importance"),
        pytest.param(Sparsify, {"amount": 1}, "above 0 and below 1", id="all-zero"),
        pytest.param(Finetune, {"size": 100}, "a multiple of 32", id="size"),
        pytest.param(Finetune, {"distil": 1.5}, "to 1", id="distil"),
        pytest.param(Finetune, {"freeze_statistics": 1}, "true or false", id="freeze"),
        pytest.param(Qat, {"samples": 0}, "from 1 to", id="no-samples"),
        pytest.param(Palettize, {"bits": 5}, "8, 6, 4", id="bits"),
        pytest.param(Palettize, {"group_size": 4}, "per_grouped_channel", id="group"),
        pytest.param(LinearWeights, {"bits": 6}, "8 or 4", id="linear-bits"),
        pytest.param(LinearWeights, {"granularity": "per_block"}, "above 0", id="block"),
    ],
)
def test_impossible_values_are_refused(
    kind: type[Step], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        kind(**values)


QUANTIZE = Quantize("int8", 32, "mean")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        pytest.param((QUANTIZE, Prune()), "prune comes too late", id="prune-after-quantize"),
        pytest.param((QUANTIZE, QUANTIZE), "at most one quantize", id="quantize-twice"),
        pytest.param(
            (Prune(), Finetune(freeze_statistics=True)), "true right after prune", id="stale-norms"
        ),
        pytest.param((Palettize(), LinearWeights()), "one of palettize and", id="two-stores"),
        pytest.param(
            (Sparsify(), Prune()), "prune has to come before sparsify", id="sparse-then-prune"
        ),
        pytest.param((Qat(), Finetune()), "qat has to be the last", id="finetune-after-qat"),
        pytest.param((Qat(), Quantize("float16")), "int8 after qat", id="qat-for-float"),
        pytest.param(
            (Qat(), Quantize("int8", 32, "mean", "compensated")), "'nearest'", id="qat-rounded"
        ),
        pytest.param((Qat(), Palettize(4)), "palettize cannot follow qat", id="qat-palette"),
        pytest.param((Qat(), LinearWeights(4)), "8 bits per_channel", id="qat-int4"),
        pytest.param((Sparsify(), Qat()), "sparsify cannot come before qat", id="sparse-qat"),
        pytest.param(
            (Sparsify(), LinearWeights(8, "per_block", 32)), "for sparse", id="sparse-blocks"
        ),
        pytest.param(
            (Sparsify(), Palettize(4, "per_tensor", 0, "compensated", 32)),
            "'nearest' for sparse",
            id="sparse-palette",
        ),
        pytest.param(("int8",), "a tuple of steps", id="text"),
    ],
)
def test_contradictory_steps_are_refused(steps: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Recipe("bad", steps)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("{", "is not JSON", id="no-json"),
        pytest.param("[]", "a JSON object", id="list"),
        pytest.param("{}", "lacks 'name'", id="empty"),
        pytest.param('{"name": "a/b"}', "without slashes", id="name"),
        pytest.param('{"name": "a", "precision": "int8"}', "names are each one of", id="flat"),
        pytest.param('{"name": "a", "steps": {}}', "a list of steps", id="no-list"),
        pytest.param(
            '{"name": "a", "steps": [7]}', "step is .*; expected a JSON object", id="no-step"
        ),
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
        pytest.param("int9", "one of: .*float16, float32, int16x8", id="name"),
        pytest.param("nowhere.json", "a JSON file that exists", id="path"),
    ],
)
def test_an_unknown_recipe_names_the_known_ones(name: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        load_recipe(name)


@pytest.mark.parametrize(
    ("rounding", "photos", "message"),
    [
        pytest.param("up", 0, "rounding is", id="rounding"),
        pytest.param("compensated", 8, "at least 16 for compensated", id="few"),
        pytest.param("nearest", 32, "0 for nearest", id="needless"),
    ],
)
def test_palettes_and_their_photos(rounding: Any, photos: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Palettize(4, "per_tensor", 0, rounding, photos)


def test_a_palette_may_ask_for_photos() -> None:
    recipe = Recipe("careful", (Palettize(4, "per_tensor", 0, "compensated", 48),))
    assert (recipe.calibration_photos, recipe.needs_calibration) == (48, True)
