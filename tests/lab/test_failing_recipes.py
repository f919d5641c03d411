"""One recipe, format or layer that fails costs nothing but itself, and is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from panokit.errors import ArgumentError, ExportError
from panokit.preprocessing import PreprocessConfig
from panokit.taxonomy import Taxonomy
from panokit_compression import calibration_from_photos
from panokit_compression.recipes import Prune, Quantize, Recipe
from panokit_lab import pipeline
from panokit_lab.commands.compress import compress
from panokit_lab.pipeline import run_recipe, run_recipes
from panokit_lab.report import Report, markdown
from panokit_lab.results import RecipeResult
from panokit_lab.sensitivity import LayerCost
from panokit_lab.setup import ExperimentSetup
from panokit_network.source import NetworkSource
from tests.compression.blocks import SIZE, network
from tests.toys.data_folder import CATEGORIES
from tests.toys.network import toy_photos

pytestmark = pytest.mark.slow

FOUR = {
    "name": "four",
    "categories": [{"id": i, "name": f"class {i}", "isthing": int(i < 3)} for i in (1, 2, 3, 4)],
}
IMPOSSIBLE = Recipe("impossible", (Prune(0.02, multiple_of=1),))
PLAIN = Recipe("float32")


def setup_of(name: str, cache: Path) -> ExperimentSetup:
    return ExperimentSetup(
        source=NetworkSource.from_module(network(name), Taxonomy.from_json(FOUR), name),
        size_wh=(SIZE, SIZE),
        cache=cache,
        calibration=calibration_from_photos(toy_photos(16), 16, PreprocessConfig((SIZE, SIZE))),
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> ExperimentSetup:
    return setup_of("fixed", tmp_path_factory.mktemp("cache"))


def test_the_others_go_on(shared: ExperimentSetup, tmp_path: Path) -> None:
    results, failures = run_recipes(shared, [IMPOSSIBLE, PLAIN], tmp_path, lambda text: None)
    assert [r.name for r in results] == ["float32"]
    assert (tmp_path / "float32" / "model.tflite").is_file()
    (failure,) = failures
    assert failure.name == "impossible"
    assert "block.conv" in failure.reason
    assert not (tmp_path / "impossible").exists()


def test_a_recipe_that_is_alone_raises(shared: ExperimentSetup, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="least"):
        run_recipes(shared, [IMPOSSIBLE], tmp_path, lambda text: None)


def test_layers_left_alone_are_in_the_result(shared: ExperimentSetup, tmp_path: Path) -> None:
    recipe = Recipe("small", (Prune(0.8, multiple_of=2),))
    for place in ("first", "again"):  # the second time from the cache
        found = run_recipe(shared, recipe, tmp_path / place, lambda text: None)
        (note,) = found.notes
        assert note.startswith("prune: block.conv: fewer channels do not fit")
        loaded = RecipeResult.load(tmp_path / place / "small" / "result.json")
        assert loaded.notes == found.notes
        assert loaded.remarks == found.notes


def test_one_format_of_two(
    shared: ExperimentSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pipeline._artifact

    def artifact(*arguments: Any) -> Any:
        if arguments[3] == "coreml":
            raise KeyError("no such operator\nand more")
        return real(*arguments)

    monkeypatch.setattr(pipeline, "_artifact", artifact)
    half = Recipe("half", (Quantize("float16"),))
    found = run_recipe(shared, half, tmp_path, lambda text: None)
    assert list(found.artifacts) == ["tflite"]
    assert "coreml-half: fails with KeyError" in found.failures["coreml"]
    loaded = RecipeResult.load(tmp_path / "half" / "result.json")
    assert loaded.failures == found.failures
    monkeypatch.setattr(pipeline, "_artifact", real)
    again = run_recipe(shared, half, tmp_path, lambda text: None)  # a failure is not finished
    assert set(again.artifacts) == {"tflite", "coreml"}
    assert not again.failures


def test_all_formats_failing_is_an_error(
    shared: ExperimentSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr(pipeline, "_artifact", fails)
    with pytest.raises(ExportError, match="IndexError: list index"):
        run_recipe(shared, PLAIN, tmp_path, lambda text: None)


def test_the_command_names_both_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "taxonomy.json").write_text(json.dumps({"name": "toy", "categories": CATEGORIES}))
    (tmp_path / "bad.json").write_text(json.dumps(IMPOSSIBLE.to_json()))
    arguments = ["run", f"{tmp_path / 'bad.json'},float32", "--out", str(tmp_path / "runs"),
                 "--module", "tests.toys.user_network:build", "--size", str(SIZE),
                 "--taxonomy", str(tmp_path / "taxonomy.json"),
                 "--json", str(tmp_path / "all.json")]  # fmt: skip
    done = CliRunner().invoke(compress, arguments)
    assert done.exit_code == 1, done.output
    assert "failed impossible: prune cannot reach" in done.output
    found = json.loads((tmp_path / "all.json").read_text())
    assert [r["recipe"]["name"] for r in found["results"]] == ["float32"]
    assert [f["name"] for f in found["failures"]] == ["impossible"]


def test_a_report_says_what_was_treated_differently(
    shared: ExperimentSetup, tmp_path: Path
) -> None:
    found = run_recipe(shared, PLAIN, tmp_path, lambda text: None)
    noted = replace(found, notes=("prune: a: why",), failures={"coreml": "because"})
    report = Report(None, (), (), (), {"float32": noted})  # type: ignore[arg-type]
    assert "- float32: prune: a: why\n- float32: coreml failed: because\n" in markdown(report)


def test_a_layer_that_cannot_be_quantized_is_the_costliest() -> None:
    costs = [LayerCost("fine", {"semantic": -5.0}), LayerCost("never", {}, reason="no kernel")]
    assert min(costs, key=lambda cost: cost.worst_db).name == "never"
