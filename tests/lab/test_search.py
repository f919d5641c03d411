"""Search, front, report, bench and sensitivity, through the command line where there is one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from panokit.decoding import PostprocessConfig
from panokit.errors import ArgumentError
from panokit.taxonomy import Category, Taxonomy
from panokit_compression.calibration import CalibrationSet
from panokit_compression.recipes import Quantize, Recipe
from panokit_lab.bench import bench
from panokit_lab.commands.compress import compress
from panokit_lab.memory import Tenant, plan_arena
from panokit_lab.results import ArtifactFigures, Latency, QualityFigures, RecipeResult
from panokit_lab.search import grid_recipes, is_finished, pareto_front
from panokit_lab.sensitivity import fewest_kept, sensitivity_key
from panokit_lab.setup import ExperimentRequest, ExperimentSetup
from panokit_network.source import NetworkSource
from tests.toys.data_folder import CATEGORIES, make_folder
from tests.toys.results import RESULT_JSON

pytestmark = pytest.mark.slow

RECIPES = "float32,int8-minmax,int8-weights"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    make_folder(folder / "data", "toy_train", photos=32)
    make_folder(folder / "data", "toy_val", photos=3, seed=7)
    taxonomy = {"name": "toy", "categories": CATEGORIES}
    (folder / "taxonomy.json").write_text(json.dumps(taxonomy))
    return folder


def panokit(place: Path, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(compress, list(arguments), catch_exceptions=code == 0)
    assert done.exit_code == code, done.output
    return done.output


def options(place: Path, out: str = "runs") -> list[str]:
    return ["--out", str(place / out), "--module", "tests.toys.user_network:build",
            "--taxonomy", str(place / "taxonomy.json"), "--data", str(place / "data"),
            "--split", "toy_val", "--size", "64"]  # fmt: skip


@pytest.fixture(scope="module")
def searched(place: Path) -> dict[str, Any]:
    result = place / "search.json"
    panokit(place, "search", RECIPES, *options(place), "--seconds", "0.2", "--json", str(result))
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def test_search_runs_times_and_draws(place: Path, searched: dict[str, Any]) -> None:
    assert sorted(searched["results"]) == ["float32", "int8-minmax", "int8-weights"]
    assert searched["failures"] == []
    for figures in searched["results"].values():
        tflite = figures["artifacts"]["tflite"]
        assert set(tflite["latency"]) == {"1", "2"}
        assert tflite["quality"]["photos"] == 3
    assert searched["results"]["float32"]["artifacts"]["tflite"]["latency"]["1"]["ratio"] == 1
    assert searched["front"]
    with Image.open(place / "runs" / "pareto.png") as plot:
        assert plot.width > 1000


def test_a_search_goes_on_where_it_was(place: Path, searched: dict[str, Any]) -> None:
    kept = place / "runs" / "int8-minmax" / "result.json"
    before = kept.stat().st_mtime_ns
    (place / "runs" / "int8-weights" / "result.json").unlink()
    panokit(place, "search", RECIPES, *options(place), "--seconds", "0.1")
    assert kept.stat().st_mtime_ns == before
    assert (place / "runs" / "int8-weights" / "result.json").is_file()


@pytest.mark.parametrize(
    ("content", "finished"),
    [
        pytest.param(json.dumps(RESULT_JSON), True, id="this-recipe"),
        pytest.param(json.dumps(RESULT_JSON).replace('"steps": []', '"steps": [{"kind": "prune"}]'),
                     False, id="another-of-its-name"),
        pytest.param("{}", False, id="damaged"),
        pytest.param(None, False, id="none"),
    ],
)  # fmt: skip
def test_a_recipe_is_finished_if_its_result_is_of_it(
    content: str | None, finished: bool, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "int8").mkdir()
        (tmp_path / "int8" / "result.json").write_text(content)
    assert is_finished(ExperimentRequest(tmp_path), Recipe("int8")) is finished


def test_report_says_on_which_photos_and_runtime(place: Path, searched: dict[str, Any]) -> None:
    other = place / "float32.tflite"  # another network's file, which has a recipe's name
    other.write_bytes((place / "runs" / "float32" / "model.tflite").read_bytes())
    panokit(place, "report", str(place / "runs"), "--data", str(place / "data"),
            "--seconds", "0.1", "--beside", str(other))  # fmt: skip
    content = json.loads((place / "runs" / "report" / "report.json").read_text())
    rows = {row["recipe"]: row for row in content["rows"]}
    assert next(iter(rows)) == "float32"
    assert rows["float32"]["pq_change"] == 0
    for row in rows.values():
        assert row["photos"] == "all 3 photos of toy_val"
        assert row["runtime"] == "litert"
        assert row["arena_bytes"] > 0
        assert set(row["ms"]) == {"1", "2"}
    assert rows["int8-minmax"]["bytes"] < rows["float32"]["bytes"]
    assert rows["int8-minmax"]["arena_bytes"] < rows["float32"]["arena_bytes"]
    page = (place / "runs" / "report" / "report.html").read_text()
    assert page.count("<tr>") == 4 + 5  # headings and recipes; with the file beside them
    assert page.count("<figure>") == 2 * 3  # three worst photos of each compressed recipe
    assert "LiteRT" in page
    beside = content["beside"]
    assert [(b["name"], b["threads"]) for b in beside] == [
        ("float32 (beside)", 1),
        ("float32 (beside)", 2),
    ]
    lines = (place / "runs" / "report" / "report.md").read_text().splitlines()
    assert len(lines) == 5 + 1 + 6
    assert len({line.count("|") for line in lines[:5]}) == 1
    assert lines[-1].startswith("| float32 (beside) |")


def test_an_empty_folder_is_no_report(place: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(compress, ["report", str(tmp_path)])
    assert "no finished recipe" in str(done.exception)


def test_a_failed_recipe_is_named_and_the_others_go_on(place: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    step = {"kind": "quantize", "precision": "int8-weights", "keep": ["nothing_like_this"]}
    bad.write_text(json.dumps({"name": "bad", "steps": [step]}))
    result = tmp_path / "result.json"
    panokit(place, "search", f"float32,{bad}", *options(place), "--seconds", "0.1",
            "--json", str(result), code=1)  # fmt: skip
    found = json.loads(result.read_text())
    assert [f["name"] for f in found["failures"]] == ["bad"]
    assert "patterns of layer names" in found["failures"][0]["reason"]
    assert list(found["results"]) == ["float32"]


def test_sensitivity_finds_what_to_keep(place: Path) -> None:
    out, result = place / "sensitivity", place / "sensitivity.json"
    panokit(place, "sensitivity", *options(place, "sensitivity"), "--recipe", "int8-minmax",
            "--limit", "2", "--top", "1", "--budget", "0", "--json", str(result))  # fmt: skip
    found = json.loads(result.read_text())
    names = {layer["name"] for layer in found["layers"]}
    assert len(names) == 7
    assert {"classes", "where"} <= names
    worst = [min(layer["sqnr_db"].values()) for layer in found["layers"]]
    assert worst == sorted(worst)
    assert found["layers"][0]["pq"] is not None
    assert found["photos"] == "PQ on 2 photos of toy_val"
    assert (out / "sensitivity.png").is_file()
    mixed = json.loads((out / "int8-minmax-mixed.json").read_text())
    assert len(mixed["steps"][0]["keep"]) == len(found["kept"])


@pytest.mark.parametrize(
    ("pq", "goal", "count"),
    [
        pytest.param([5, 6, 7, 8, 9, 9, 9, 9], 5, 0, id="none-needed"),
        pytest.param([5, 6, 7, 8, 9, 9, 9, 9], 6, 1, id="one"),
        pytest.param([5, 6, 7, 8, 9, 9, 9, 9], 8, 3, id="between-doublings"),
        pytest.param([5, 5, 5, 5, 5, 5, 5, 9], 9, 7, id="all"),
        pytest.param([5, 6, 7, 8, 7, 7, 7, 7], 9, 2, id="out-of-reach"),
    ],
)
def test_fewest_layers_that_hold_the_budget(pq: list[float], goal: float, count: int) -> None:
    names = [f"layer{i}" for i in range(7)]
    kept, reached = fewest_kept(names, lambda k: pq[len(k)], goal, pq[0])
    assert kept == tuple(names[:count])
    assert reached == pq[count]


def point(size: int, ms: float, pq: float) -> RecipeResult:
    quality = QualityFigures.from_json(
        {
            "split": "test",
            "pq": {"all": pq, "things": None, "stuff": None, "per_class": {}},
            **dict.fromkeys(("miou", "person_iou", "person_boundary_iou")),
            "photos": 1,
            "per_photo": [],
        }
    )
    latency = Latency("a", 1, ms, (ms, ms), 5, 0.1, 1.0)
    artifact = ArtifactFigures("m.tflite", size, "int8", "litert", quality=quality,
                               latency={1: latency})  # fmt: skip
    taxonomy = Taxonomy.from_json({"name": "toy", "categories": CATEGORIES})
    return RecipeResult(Recipe("r"), "toy", "", (64, 64), taxonomy, PostprocessConfig(), 1, 1,
                        {"tflite": artifact})  # fmt: skip


def test_front_is_what_nothing_beats_in_everything() -> None:
    results = {
        "float": point(12, 30, 20),
        "int8": point(3, 10, 19.5),
        "worse": point(3, 12, 19),
        "tiny": point(1, 12, 15),
        "twin": point(3, 10, 19.5),
    }
    assert pareto_front(results) == ["float", "int8", "tiny", "twin"]


def test_grid(tmp_path: Path) -> None:
    path = tmp_path / "grid.json"
    vary = {"quantize.ranges": ["mean", "mse"], "quantize.calibration_photos": [16, 32]}
    path.write_text(json.dumps({"base": "int8", "vary": vary}))
    recipes = grid_recipes(path)
    assert len({r.name for r in recipes}) == 4
    assert recipes[3].to_json()["steps"][0]["ranges"] == "mse"
    path.write_text(json.dumps({"base": "int8", "vary": {"prune.macs": [0.5]}}))
    with pytest.raises(ArgumentError, match=r"quantize\.precision"):
        grid_recipes(path)


def test_bench_takes_turns_and_says_ratios(place: Path, searched: dict[str, Any]) -> None:
    file = place / "runs" / "float32" / "model.tflite"
    found = bench({"a": file, "b": file}, (1,), seconds=0.1)
    assert [(f.name, f.threads, f.runs) for f in found] == [
        ("a", 1, found[0].runs), ("b", 1, found[0].runs)]  # fmt: skip
    assert found[0].ratio == 1
    assert found[0].megapixels == pytest.approx(64 * 64 / 1e6)
    with pytest.raises(ArgumentError, match="at least one TFLite file"):
        bench({})


@pytest.mark.parametrize(
    ("tenants", "expected"),
    [
        pytest.param([], 0, id="none"),
        pytest.param([Tenant(100, 0, 1)], 128, id="aligned"),
        pytest.param([Tenant(640, 0, 1), Tenant(640, 1, 2)], 1280, id="both-alive"),
        pytest.param([Tenant(640, 0, 1), Tenant(640, 2, 3)], 640, id="one-after-the-other"),
        # the small one fits beside the second large one, where the first was
        pytest.param([Tenant(640, 0, 1), Tenant(512, 2, 3), Tenant(128, 2, 3)], 640, id="shared"),
    ],
)
def test_arena(tenants: list[Tenant], expected: int) -> None:
    assert plan_arena(tenants) == expected


def test_layer_costs_of_other_settings_are_measured_anew() -> None:
    """Kept costs belong to the weights, the input size, the photos' contents and all of the
    recipe, not to names."""
    taxonomy = Taxonomy("toy", (Category(1, "disc", True, (9, 0, 0)),))
    source = NetworkSource.from_module(torch.nn.Conv2d(3, 4, 1), taxonomy)

    def photos(value: int) -> CalibrationSet:
        return CalibrationSet((np.full((32, 32, 3), value, np.uint8),), ("a",), "test")

    setup = ExperimentSetup(source, (32, 32), Path(), photos(1))
    recipe = Recipe("int8", (Quantize(calibration_photos=16, ranges="mean"),))
    keys = {
        sensitivity_key(setup, recipe),
        sensitivity_key(replace(setup, size_wh=(64, 64)), recipe),
        sensitivity_key(replace(setup, calibration=photos(2)), recipe),
        sensitivity_key(
            setup, Recipe("int8", (Quantize(calibration_photos=16, ranges="min_max"),))
        ),
        sensitivity_key(
            replace(setup, source=NetworkSource.from_module(torch.nn.Conv2d(3, 4, 1), taxonomy)),
            recipe,
        ),
    }
    assert len(keys) == 5
    assert sensitivity_key(replace(setup, calibration=photos(1)), recipe) in keys
