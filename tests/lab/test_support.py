"""The page of what works holds what the program makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from panokit_compression.recipes import load_recipe, recipe_names
from panokit_lab.artifacts import why_not
from panokit_network.source import NetworkSource
from tests.toys.scripts import load_script

support = load_script("make_support")
DOCS = Path(__file__).parents[2] / "docs"
FOUND: dict[str, Any] = json.loads((DOCS / "support.json").read_text(encoding="utf-8"))
AGAIN = "run scripts/make_support.py"


def test_the_page_is_that_of_the_figures() -> None:
    assert (DOCS / "support.md").read_text(encoding="utf-8") == support.page(FOUND), (
        "run scripts/make_support.py --page"
    )


def test_figures_are_of_the_networks_that_ship() -> None:
    for name in support.NETWORKS:
        assert FOUND["weights"][name] == support.weights_of(name), AGAIN


def test_every_recipe_stands_there_in_every_format() -> None:
    assert list(FOUND["recipes"]) == recipe_names(), AGAIN
    for network in support.NETWORKS:
        assert list(FOUND["networks"][network]) == support.recipes_of(network), AGAIN
        done = NetworkSource.from_weights(support.path_of(network)).steps_done
        for recipe, cells in FOUND["networks"][network].items():
            for format in support.FORMATS:
                formless = why_not(format, load_recipe(recipe), done)
                assert ("none" in cells[format]) is (formless is not None), (recipe, format)
    trains = [
        name
        for name in recipe_names()
        if not any(name in recipes for recipes in FOUND["networks"].values())
    ]
    assert trains == ["qat-int8"]


def test_no_file_was_only_written() -> None:
    for recipes in (*FOUND["networks"].values(), FOUND["kinds"]):
        for cells in recipes.values():
            for cell in cells.values():
                assert isinstance(cell, str) or "runtime" in cell or "none" in cell
    assert not [n for n, cells in FOUND["kinds"].items() if "none" in str(cells)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "recipe", "format"),
    [
        ("whole", "float16", "coreml"),
        ("pruned", "prune45", "onnx"),
    ],
)
def test_a_file_made_anew_is_as_told(network: str, recipe: str, format: str) -> None:
    (cells,) = support.exported_recipes(network, [recipe], None, (format,)).values()
    told, fresh = FOUND["networks"][network][recipe][format], cells[format]
    assert fresh["bytes"] == pytest.approx(told["bytes"], rel=0.01)
    assert fresh["equal"] == pytest.approx(told["equal"], abs=0.02)
    assert bool(fresh["failures"]) is bool(told["failures"])
    assert fresh["runtime"] == told["runtime"]
