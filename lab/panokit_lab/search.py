"""Many recipes, side by side: run them in parallel, keep what is finished, draw the front.

A recipe is finished when its folder is there, which appears at once; a search that was stopped
does the others only. Latency is timed at the end, in one process and in turns, because parallel
jobs would disturb each other.
"""

from __future__ import annotations

import itertools
import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from panokit._files import replacing_folder, write_json
from panokit._places import plain_file
from panokit.errors import ArgumentError, DataError
from panokit_compression.recipes import Recipe, load_recipe
from panokit_lab.bench import bench, machine
from panokit_lab.pipeline import run_recipe
from panokit_lab.plots import plot_front
from panokit_lab.results import RESULT, Latency, RecipeResult, Results
from panokit_lab.setup import ExperimentRequest
from panokit_lab.workers import Failure, run_jobs

__all__ = [
    "SearchResult",
    "Timed",
    "collect",
    "grid_recipes",
    "pareto_front",
    "search",
    "timed",
]

log = logging.getLogger(__name__)

LATENCY = "latency.json"
MAX_GRID = 500
Progress = Callable[[str], None]
Job = tuple[ExperimentRequest, dict[str, Any]]


@dataclass(frozen=True)
class SearchResult:
    """Results by recipe, the recipes that no other beats in everything, and what failed."""

    results: Results
    front: list[str]
    failures: list[Failure]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "results": {name: result.to_json() for name, result in self.results.items()},
            "front": self.front,
            "failures": [asdict(f) for f in self.failures],
        }


def search(
    request: ExperimentRequest,
    recipes: list[Recipe],
    workers: int = 1,
    ray_address: str | None = None,
    seconds: float = 20,
    say: Progress = log.info,
) -> SearchResult:
    """Run ``recipes`` that are not finished, then time and compare all of them.

    On a Ray cluster the paths of ``request`` must mean the same on every machine; results come
    back through Ray. Writes ``pareto.png``, ``search.json`` and ``latency.json`` to
    ``request.out``.
    """
    names = [recipe.name for recipe in recipes]
    if not recipes or len(set(names)) != len(names):
        raise ArgumentError(
            "recipes", f"the recipes are {names}; expected at least one, with different names"
        )
    # Workers share the cache of networks; their results come back to this process.
    request = replace(request, cache=(request.cache or request.out / "cache").absolute())
    jobs: dict[str, Job] = {}
    for recipe in recipes:
        if not is_finished(request, recipe):
            jobs[recipe.name] = (request, recipe.to_json())
    finished = len(recipes) - len(jobs)

    def on_done(name: str, files: Mapping[str, bytes]) -> None:
        nonlocal finished
        finished += 1
        with replacing_folder(request.out / name) as folder:
            for relative, content in files.items():
                (folder / relative).parent.mkdir(parents=True, exist_ok=True)
                (folder / relative).write_bytes(content)
        say(f"{finished} of {len(recipes)} recipes")

    say(f"{finished} of {len(recipes)} recipes")
    failures = run_jobs(run_job, jobs, on_done, workers, ray_address)
    results = {n: r for n, r in collect(request.out).items() if n in names}
    results = timed(request.out, results, seconds, say).results
    front = pareto_front(results)
    if results:
        points = {name: result.objectives for name, result in results.items()}
        plot_front(points, front, request.out / "pareto.png")
    found = SearchResult(results, front, failures)
    write_json(request.out / "search.json", found.to_json())
    return found


def run_job(job: Job) -> dict[str, bytes]:
    """One recipe in a worker: the files of its folder by relative name."""
    request, data = job
    recipe = Recipe.from_json(data)
    setup = request.open([recipe])
    with tempfile.TemporaryDirectory(prefix="panokit-search-") as out:
        run_recipe(setup, recipe, Path(out))
        folder = Path(out) / recipe.name
        paths = [p for p in folder.rglob("*") if p.is_file()]
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def is_finished(request: ExperimentRequest, recipe: Recipe) -> bool:
    """Whether there is a result of this very recipe (not of one of the same name)."""
    path = request.out / recipe.name / RESULT
    try:
        return path.is_file() and RecipeResult.load(path).recipe == recipe
    except DataError:  # damaged, or of another version: run again
        return False


def collect(out: Path) -> Results:
    """The results of every finished recipe under ``out``, by name."""
    found = (RecipeResult.load(path) for path in sorted(out.glob(f"*/{RESULT}")))
    return {result.name: result for result in found}


@dataclass(frozen=True)
class Timed:
    """``results`` with the latency of their TFLite artifacts, and that of the files ``beside``."""

    results: Results
    beside: tuple[Latency, ...] = ()


def timed(
    out: Path,
    results: Results,
    seconds: float,
    say: Progress,
    beside: Mapping[str, Path] | None = None,
) -> Timed:
    """Time the TFLite artifacts of ``results`` in turns, the float one first if it is there.
    ``beside`` are other TFLite files by name that take their turns as well."""
    names = sorted(results, key=lambda n: (n != "float32", n))
    files = {
        n: out / n / results[n].artifacts["tflite"].file
        for n in names
        if "tflite" in results[n].artifacts
    }
    others = {n if n not in files else f"{n} (beside)": p for n, p in (beside or {}).items()}
    if not files:
        return Timed(results)
    # Slow ones (16x8 on CPUs takes twenty times as long) would eat the time of all the others.
    found = bench({**files, **others}, (1, 2), seconds, progress=say)
    write_json(out / LATENCY, {**machine().to_json(), "results": [f.to_json() for f in found]})
    by_name: dict[str, dict[int, Latency]] = {}
    for latency in found:
        by_name.setdefault(latency.name, {})[latency.threads] = latency
    return Timed(
        {name: _with_latency(result, by_name.get(name, {})) for name, result in results.items()},
        tuple(latency for latency in found if latency.name in others),
    )


def _with_latency(result: RecipeResult, latency: Mapping[int, Latency]) -> RecipeResult:
    if not latency:
        return result
    artifact = replace(result.artifacts["tflite"], latency=latency)
    return replace(result, artifacts={**result.artifacts, "tflite": artifact})


def pareto_front(results: Results) -> list[str]:
    """The recipes that no other equals or beats in everything that both were measured in."""
    points = {name: result.objectives for name, result in results.items()}
    return sorted(
        name for name, mine in points.items() if not any(p.beats(mine) for p in points.values())
    )


def grid_recipes(path: Path) -> list[Recipe]:
    """Recipes of a grid file: ``{"base": name or recipe, "vary": {"quantize.ranges": [...]}}``.

    A key is the kind of a step and one of its fields; every combination becomes a recipe named
    after the base and its values.
    """
    try:
        data = json.loads(plain_file(path).read_text(encoding="utf-8"))
        base, vary = data["base"], dict(data["vary"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArgumentError(
            "grid", f"the grid {str(path)!r} is wrong ({error}); expected JSON with base and vary"
        ) from None
    start = load_recipe(base) if isinstance(base, str) else Recipe.from_json(base)
    if any(not isinstance(v, list) or not v for v in vary.values()) or not vary:
        raise ArgumentError("grid vary", f"grid vary is {vary!r}; expected lists of values")
    combinations = list(itertools.islice(itertools.product(*vary.values()), MAX_GRID + 1))
    if len(combinations) > MAX_GRID:
        raise ArgumentError(
            "grid", f"the grid {str(path)!r} makes too many recipes; expected at most {MAX_GRID}"
        )
    return [_varied(start, dict(zip(vary, values, strict=True))) for values in combinations]


def _varied(base: Recipe, values: dict[str, Any]) -> Recipe:
    data = base.to_json()
    for key, value in values.items():
        kind, _, field = key.partition(".")
        steps = [s for s in data["steps"] if s["kind"] == kind]
        if not steps or field not in steps[0]:
            known = [f"{s['kind']}.{f}" for s in data["steps"] for f in s if f != "kind"]
            raise ArgumentError(
                "grid vary", f"vary has {key!r}; expected some of: {', '.join(known)}"
            )
        for step in steps:
            step[field] = value
    tail = "-".join(f"{key.partition('.')[2]}={value}" for key, value in values.items())
    data["name"] = f"{base.name}-{tail}".replace("/", "_").replace(",", "_")
    return Recipe.from_json(data)
