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
from panokit.errors import ArgumentError
from panokit_compression.recipes import Recipe, load_recipe
from panokit_lab.bench import Latency, bench, machine
from panokit_lab.pipeline import RESULT, run_recipe
from panokit_lab.plots import plot_front
from panokit_lab.setup import Setup
from panokit_lab.workers import Failure, run_jobs

__all__ = ["SearchResult", "collect", "grid_recipes", "pareto_front", "search", "timed"]

log = logging.getLogger(__name__)

LATENCY = "latency.json"
MAX_GRID = 500
Progress = Callable[[str], None]
Job = tuple[Setup, dict[str, Any]]
Results = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class SearchResult:
    """Figures by recipe, the recipes that no other beats in everything, and what failed."""

    results: Results
    front: list[str]
    failures: list[Failure]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "results": self.results,
            "front": self.front,
            "failures": [asdict(f) for f in self.failures],
        }


def search(
    setup: Setup,
    recipes: list[Recipe],
    workers: int = 1,
    ray_address: str | None = None,
    seconds: float = 20,
    say: Progress = log.info,
) -> SearchResult:
    """Run ``recipes`` that are not finished, then time and compare all of them.

    On a Ray cluster the paths of ``setup`` must mean the same on every machine; results come
    back through Ray. Writes ``pareto.png``, ``search.json`` and ``latency.json`` to ``setup.out``.
    """
    names = [recipe.name for recipe in recipes]
    if not recipes or len(set(names)) != len(names):
        raise ArgumentError("recipes", "at least one, with different names", names)
    # Workers share the cache of networks; their results come back to this process.
    setup = replace(setup, cache=(setup.cache or setup.out / "cache").absolute())
    jobs: dict[str, Job] = {}
    for recipe in recipes:
        if not (setup.out / recipe.name / RESULT).is_file() or not _same(setup, recipe):
            jobs[recipe.name] = (setup, recipe.to_json())
    finished = len(recipes) - len(jobs)

    def on_done(name: str, files: Mapping[str, bytes]) -> None:
        nonlocal finished
        finished += 1
        with replacing_folder(setup.out / name) as folder:
            for relative, content in files.items():
                (folder / relative).parent.mkdir(parents=True, exist_ok=True)
                (folder / relative).write_bytes(content)
        say(f"{finished} of {len(recipes)} recipes")

    say(f"{finished} of {len(recipes)} recipes")
    failures = run_jobs(run_job, jobs, on_done, workers, ray_address)
    results = {n: r for n, r in collect(setup.out).items() if n in names}
    timed(setup.out, results, seconds, say)
    front = pareto_front(results)
    if results:
        plot_front({n: objectives(r) for n, r in results.items()}, front, setup.out / "pareto.png")
    found = SearchResult(results, front, failures)
    write_json(setup.out / "search.json", found.to_json())
    return found


def run_job(job: Job) -> dict[str, bytes]:
    """One recipe in a worker: the files of its folder by relative name."""
    setup, data = job
    recipe = Recipe.from_json(data)
    bench = setup.open([recipe])
    with tempfile.TemporaryDirectory(prefix="panokit-search-") as folder:
        done = run_recipe(bench, recipe, Path(folder))
        paths = [p for p in done.folder.rglob("*") if p.is_file()]
        return {p.relative_to(done.folder).as_posix(): p.read_bytes() for p in paths}


def _same(setup: Setup, recipe: Recipe) -> bool:
    """Whether the finished folder is of this very recipe (not one of the same name)."""
    path = setup.out / recipe.name / RESULT
    recorded = json.loads(path.read_text(encoding="utf-8")).get("recipe")
    return bool(recorded == recipe.to_json())


def collect(out: Path) -> Results:
    """The figures of every finished recipe under ``out``, by name."""
    found: Results = {}
    for path in sorted(out.glob(f"*/{RESULT}")):
        figures = json.loads(path.read_text(encoding="utf-8"))
        found[figures["recipe"]["name"]] = figures
    return found


def timed(
    out: Path,
    results: Results,
    seconds: float,
    say: Progress,
    beside: Mapping[str, Path] | None = None,
) -> list[Latency]:
    """Add ``latency`` (by number of threads) to every TFLite artifact of ``results``, in place;
    all are timed in turns, the float one first if it is there. ``beside`` are other TFLite files
    by name that take their turns as well; their figures are returned."""
    names = sorted(results, key=lambda n: (n != "float32", n))
    files = {
        n: out / n / results[n]["artifacts"]["tflite"]["file"]
        for n in names
        if "tflite" in results[n]["artifacts"]
    }
    others = {n if n not in files else f"{n} (beside)": p for n, p in (beside or {}).items()}
    if not files:
        return []
    # Slow ones (16x8 on CPUs takes twenty times as long) would eat the time of all the others.
    found = bench({**files, **others}, (1, 2), seconds, progress=say)
    for latency in found:
        if latency.name in others:
            continue
        place = results[latency.name]["artifacts"]["tflite"].setdefault("latency", {})
        place[str(latency.threads)] = latency.to_json()
    write_json(out / LATENCY, {**machine(), "results": [f.to_json() for f in found]})
    return [latency for latency in found if latency.name in others]


def objectives(figures: dict[str, Any]) -> dict[str, float]:
    """What is to be small: bytes, MACs, milliseconds, and minus PQ, as far as measured."""
    artifact = figures["artifacts"].get("tflite") or next(iter(figures["artifacts"].values()))
    out = {"bytes": float(artifact["bytes"]), "macs": float(figures["macs"])}
    if "latency" in artifact:
        out["ms"] = artifact["latency"]["1"]["median_ms"]
    if "quality" in artifact and artifact["quality"]["pq"]["all"] is not None:
        out["pq"] = -artifact["quality"]["pq"]["all"]
    return out


def pareto_front(results: Results) -> list[str]:
    """The recipes that no other equals or beats in everything that both were measured in."""
    points = {name: objectives(figures) for name, figures in results.items()}

    def beaten(name: str) -> bool:
        mine = points[name]
        for other, theirs in points.items():
            if other == name or theirs.keys() != mine.keys():
                continue
            if all(theirs[k] <= mine[k] for k in mine) and theirs != mine:
                return True
        return False

    return sorted(name for name in points if not beaten(name))


def grid_recipes(path: Path) -> list[Recipe]:
    """Recipes of a grid file: ``{"base": name or recipe, "vary": {"quantize.ranges": [...]}}``.

    A key is the kind of a step and one of its fields; every combination becomes a recipe named
    after the base and its values.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        base, vary = data["base"], dict(data["vary"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArgumentError("grid", f"JSON with base and vary ({error})", str(path)) from None
    start = load_recipe(base) if isinstance(base, str) else Recipe.from_json(base)
    if any(not isinstance(v, list) or not v for v in vary.values()) or not vary:
        raise ArgumentError("grid vary", "lists of values", vary)
    combinations = list(itertools.islice(itertools.product(*vary.values()), MAX_GRID + 1))
    if len(combinations) > MAX_GRID:
        raise ArgumentError("grid", f"of at most {MAX_GRID} recipes", str(path))
    return [_varied(start, dict(zip(vary, values, strict=True))) for values in combinations]


def _varied(base: Recipe, values: dict[str, Any]) -> Recipe:
    data = base.to_json()
    for key, value in values.items():
        kind, _, field = key.partition(".")
        steps = [s for s in data["steps"] if s["kind"] == kind]
        if not steps or field not in steps[0]:
            known = [f"{s['kind']}.{f}" for s in data["steps"] for f in s if f != "kind"]
            raise ArgumentError("grid vary", f"some of: {', '.join(known)}", key)
        for step in steps:
            step[field] = value
    tail = "-".join(f"{key.partition('.')[2]}={value}" for key, value in values.items())
    data["name"] = f"{base.name}-{tail}".replace("/", "_").replace(",", "_")
    return Recipe.from_json(data)
