"""`panokit compress run | sensitivity | search | report` and `panokit bench`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from panokit._files import write_json
from panokit.bundle import shipped_bundle_path
from panokit.cli.console import Grid, note, say, show, working
from panokit.cli.options import DO, INPUT, OUTPUT, JsonOption, output_folder
from panokit.errors import ArgumentError
from panokit.preprocessing import parse_size
from panokit_compression.recipes import Recipe, load_recipe
from panokit_converters.adapt import KnownOfModule
from panokit_lab import bench as timing
from panokit_lab.commands.options import (
    NOTHING_KNOWN,
    ModuleOption,
    SizeOption,
    TaxonomyOption,
    describes_module,
)
from panokit_lab.pipeline import run_recipes
from panokit_lab.report import write_report
from panokit_lab.results import RecipeResult
from panokit_lab.search import grid_recipes
from panokit_lab.search import search as run_search
from panokit_lab.sensitivity import measure_sensitivity
from panokit_lab.setup import ExperimentRequest
from panokit_lab.workers import Failure

__all__ = ["bench", "compress"]


compress = typer.Typer(
    name="compress",
    add_completion=False,
    no_args_is_help=True,
    help="Make a network smaller and faster, and see what it costs in panoptic quality.",
)

Out = Annotated[
    Path,
    typer.Option(
        "--out",
        help="Folder for results. A stopped run goes on in it.",
        callback=output_folder,
        rich_help_panel=OUTPUT,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="Weight file. Default: the network that comes with Panokit.",
        rich_help_panel=INPUT,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="COCO-panoptic folder: calibration, training, quality.",
        rich_help_panel=INPUT,
    ),
]
SplitOption = Annotated[
    str,
    typer.Option(
        "--split", help="Split of DATA to measure quality on. Default: none.", rich_help_panel=INPUT
    ),
]
Limit = Annotated[
    int, typer.Option("--limit", min=0, help="Photos of the split. 0: all.", rich_help_panel=INPUT)
]
CoremlPhotos = Annotated[
    int,
    typer.Option(
        min=0,
        help="Photos that Core ML packages are judged on. A photo takes seconds.",
        rich_help_panel=DO,
    ),
]
Seconds = Annotated[
    float, typer.Option(help="Seconds of timing per number of threads.", rich_help_panel=DO)
]
Photos = Annotated[
    list[Path] | None,
    typer.Option(
        "--photos",
        help="Photos to calibrate with instead of DATA's training photos.",
        rich_help_panel=INPUT,
    ),
]


def _recipes(names: list[str]) -> list[Recipe]:
    return [load_recipe(n.strip()) for name in names for n in name.split(",") if n.strip()]


@contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """Ctrl-C: say what became of the work; the shell's exit code for it."""
    try:
        yield
    except KeyboardInterrupt:
        text = f"stopped; what is finished is kept in {out}, the same command goes on from there"
        note(text)
        raise typer.Exit(130) from None


@compress.command("run")
@describes_module
def run(
    recipes: Annotated[list[str], typer.Argument(help="Recipes, by name or JSON file.")],
    out: Out,
    weights: Weights = None,
    module: ModuleOption = "",
    taxonomy: TaxonomyOption = None,
    known: KnownOfModule = NOTHING_KNOWN,
    data: Data = None,
    split: SplitOption = "",
    limit: Limit = 0,
    coreml_photos: CoremlPhotos = 0,
    photos: Photos = None,
    size: SizeOption = "320",
    json: JsonOption = None,
) -> None:
    """Compress a network by recipes: artifacts, weights and figures, in OUT/RECIPE each.

    Example: panokit compress run int8,coreml-palette4 --out runs
    """
    chosen = _recipes(recipes)
    request = ExperimentRequest(out, weights, module, taxonomy, data, split, limit, coreml_photos,
                                tuple(photos or ()), parse_size(size), known=known)  # fmt: skip
    with _resumable(out), working("opening the network and photos") as update:
        setup = request.open(chosen)
        for warning in setup.calibration.warnings if setup.calibration else ():
            note(warning, label="careful:", style="yellow")

        def on_step(found: dict[str, float]) -> None:
            update(f"step {found['step']} of {found['total']}, loss {found['loss']:.3f}")

        results, failures = run_recipes(setup, chosen, out, update, on_step)
    if results:
        show(_table(results))
    if json:
        write_json(json, {
            "results": [result.to_json() for result in results],
            "failures": [asdict(failure) for failure in failures],
        })  # fmt: skip
    _end(results, failures)


def _end(results: Iterable[RecipeResult], failures: Iterable[Failure]) -> None:
    """Say what is to be said about layers and what failed; exit code 1 if anything did."""
    for result in results:
        for remark in result.remarks:
            note(f"{result.name}: {remark}")
    failed = [
        *((f"{r.name}, {format}", why) for r in results for format, why in r.failures.items()),
        *((failure.name, failure.reason) for failure in failures),
    ]
    for name, reason in failed:
        note(f"{name}: {reason}", label="failed", style="red")
    if failed:
        raise typer.Exit(1)


def _table(results: list[RecipeResult]) -> Grid:
    figures = ("MB", "MMACs", "arena MB", "SQNR dB", "PQ", "person IoU")
    table = Grid(("recipe", "format", *figures, "photos"), right=figures, wraps=("photos",))
    for result in results:
        for format, found in result.artifacts.items():
            quality = found.quality
            table.add(
                result.name,
                format,
                _number(found.bytes, 2, 1e-6),
                _number(result.macs, 0, 1e-6),
                _number(found.arena_bytes, 2, 1e-6),
                " ".join(f"{db:.0f}" for db in (found.sqnr_db or {}).values()) or "-",
                _number(quality.pq if quality else None, 1),
                _number(quality.person_iou if quality else None, 3),
                quality.split if quality else "-",
            )
    return table


def _number(value: float | None, digits: int, scale: float = 1.0) -> str:
    return "-" if value is None else f"{value * scale:.{digits}f}"


@compress.command("sensitivity")
@describes_module
def sensitivity(
    out: Out,
    data: Annotated[
        Path, typer.Option("--data", help="COCO-panoptic folder.", rich_help_panel=INPUT)
    ],
    split: Annotated[
        str,
        typer.Option(
            "--split",
            help="Labelled split to choose on. Report on another one.",
            rich_help_panel=INPUT,
        ),
    ],
    recipe: Annotated[
        str,
        typer.Option("--recipe", help="Recipe that quantizes activations.", rich_help_panel=INPUT),
    ] = "int8",
    limit: Limit = 16,
    budget: Annotated[
        float,
        typer.Option(
            help="Keep costly layers in higher precision until PQ is at most this far below float.",
            rich_help_panel=DO,
        ),
    ] = 0.5,
    keep_precision: Annotated[
        Literal["float32", "int16x8"],
        typer.Option(help="Precision of kept layers.", rich_help_panel=DO),
    ] = "float32",
    top: Annotated[
        int, typer.Option(min=0, help="Layers whose PQ is measured as well.", rich_help_panel=DO)
    ] = 8,
    weights: Weights = None,
    module: ModuleOption = "",
    taxonomy: TaxonomyOption = None,
    known: KnownOfModule = NOTHING_KNOWN,
    size: SizeOption = "320",
    json: JsonOption = None,
) -> None:
    """Tell which layer costs how much when quantized, and which to keep in higher precision.

    Example: panokit compress sensitivity --data my-photos --split my_val --out layers
    """
    request = ExperimentRequest(
        out, weights, module, taxonomy, data, split, limit, size=parse_size(size),
        known=known,
    )  # fmt: skip
    (chosen,) = _recipes([recipe])
    with _resumable(out), working("opening") as update:
        setup = request.open([chosen])
        found = measure_sensitivity(setup, chosen, out, budget, keep_precision, top, update)
    figures = ("semantic dB", "center dB", "offset dB", "PQ")
    table = Grid(("layer", *figures), title=found.title, right=figures)
    for layer in found.layers[: max(top, 20)]:
        figures_of = [f"{db:.1f}" for db in layer.sqnr_db.values()] or ["-"] * 3
        table.add(layer.name, *figures_of, _number(layer.pq, 2))
    show(table)
    say(found.summary)
    for layer in found.layers:
        if layer.reason:
            note(f"{layer.name} cannot be quantized: {layer.reason}")
    if json:
        write_json(json, found.to_json())


@compress.command("search")
@describes_module
def search(
    out: Out,
    recipes: Annotated[
        list[str] | None, typer.Argument(help="Recipes, by name or JSON file.")
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option(
            "--grid", help='JSON: {"base": RECIPE, "vary": {...}}.', rich_help_panel=INPUT
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Parallel processes.", rich_help_panel=DO)
    ] = 1,
    ray_address: Annotated[
        str | None,
        typer.Option(help="Ray cluster to run on. 'local' starts one here.", rich_help_panel=DO),
    ] = None,
    seconds: Seconds = 20,
    weights: Weights = None,
    module: ModuleOption = "",
    taxonomy: TaxonomyOption = None,
    known: KnownOfModule = NOTHING_KNOWN,
    data: Data = None,
    split: SplitOption = "",
    limit: Limit = 0,
    coreml_photos: CoremlPhotos = 0,
    photos: Photos = None,
    size: SizeOption = "320",
    json: JsonOption = None,
) -> None:
    """Run many recipes and draw the best trade-offs of size, MACs, latency and PQ.

    Example: panokit compress search float16,int8,int8-weights --out runs
    """
    chosen = _recipes(recipes or []) + (grid_recipes(grid) if grid else [])
    request = ExperimentRequest(out, weights, module, taxonomy, data, split, limit, coreml_photos,
                                tuple(photos or ()), parse_size(size), known=known)  # fmt: skip
    with _resumable(out), working("searching") as update:
        found = run_search(request, chosen, workers, ray_address, seconds, update)
    show(_table([r for _, r in sorted(found.results.items())]))
    say(f"best trade-offs: {', '.join(found.front)}; {out / 'pareto.png'}")
    if json:
        write_json(json, found.to_json())
    _end(found.results.values(), found.failures)


@compress.command("report")
def report(
    runs: Annotated[Path, typer.Argument(help="Folder that `compress run` or `search` wrote.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder of the report. Default: RUNS/report.",
            callback=output_folder,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    data: Data = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            "--beside",
            help="Other TFLite files or bundles to time in the same run.",
            rich_help_panel=DO,
        ),
    ] = None,
    seconds: Seconds = 20,
    json: JsonOption = None,
) -> None:
    """Write a page of all recipes: size, MACs, memory, latency, quality, worst photos.

    Example: panokit compress report runs
    """
    with working("reporting") as update:
        found = write_report(runs, out or runs / "report", data, seconds, update, beside or ())
    say((out or runs / "report") / "report.html")
    if json:
        write_json(json, found.to_json())


def bench(
    artifacts: Annotated[
        list[Path] | None,
        typer.Argument(
            help="TFLite files or bundles. Default: the bundle that comes with Panokit."
        ),
    ] = None,
    threads: Annotated[
        str, typer.Option(help="Numbers of threads, comma separated.", rich_help_panel=DO)
    ] = "1,2",
    seconds: Annotated[
        float, typer.Option(help="Seconds per number of threads.", rich_help_panel=DO)
    ] = 10.0,
    json: JsonOption = None,
) -> None:
    """Time artifacts side by side: in turns, with medians and ratios to the first.

    Example: panokit bench --threads 1,4 --seconds 5
    """
    try:
        counts = [int(v) for v in threads.split(",")]
    except ValueError:
        raise ArgumentError(
            "threads", f"threads is {threads!r}; expected whole numbers with commas"
        ) from None
    files = timing.bench_paths(artifacts or [shipped_bundle_path()])
    with working("timing") as update:
        found = timing.bench(files, counts, seconds, progress=update)
    machine = timing.machine()
    figures = ("threads", "median ms", "quartiles", "ms/Mpixel", "ratio", "runs")
    table = Grid(("artifact", *figures), title=str(machine), right=figures)
    for f in found:
        low, high = f.quartiles_ms
        table.add(f.name, str(f.threads), f"{f.median_ms:.2f}", f"{low:.2f} .. {high:.2f}",
                      f"{f.ms_per_megapixel:.0f}", f"{f.ratio:.2f}", str(f.runs))  # fmt: skip
    show(table)
    if json:
        write_json(json, {**machine.to_json(), "results": [f.to_json() for f in found]})
