"""`panokit evaluate`: panoptic quality and the other figures on a labelled split."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from panokit._files import write_json
from panokit.cli.console import Grid, note, show, tracked
from panokit.cli.options import (
    INPUT,
    OUTPUT,
    ArtifactOption,
    BundleOption,
    JsonOption,
    Threads,
    output_file,
)
from panokit.errors import MissingExtraError, UsageError
from panokit.segmenter import Segmenter
from panokit_datasets.commands.tables import class_table, figure
from panokit_datasets.quality import (
    BreakdownResult,
    EvaluationPhoto,
    EvaluationResult,
    predictor,
    write_breakdown,
    write_sheet,
)
from panokit_datasets.quality import evaluate as evaluate_split
from panokit_datasets.quality.evaluate_video import evaluate_video

__all__ = ["evaluate"]


def evaluate(
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="Data set: of our layout, or of any kind that is known.",
            rich_help_panel=INPUT,
        ),
    ],
    split: Annotated[
        str,
        typer.Option("--split", help="Split of DATA.", rich_help_panel=INPUT),
    ],
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="A weight file instead of a bundle.", rich_help_panel=INPUT),
    ] = None,
    threads: Threads = 2,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--sheet",
            help="Write a PNG of the best, median and worst photos.",
            callback=output_file,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    details: Annotated[
        bool,
        typer.Option(
            "--details", help="Figures of every photo in the JSON.", rich_help_panel=OUTPUT
        ),
    ] = False,
    ap: Annotated[
        bool,
        typer.Option(
            "--ap",
            help="Mask AP of things as well, from the panoptic maps.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    breakdown: Annotated[
        Path | None,
        typer.Option(
            "--breakdown",
            help="Write a PNG: persons found by their size, and how far scores can be believed.",
            callback=output_file,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    video: Annotated[
        bool,
        typer.Option(
            "--video",
            help="The photos are frames of videos: STQ, VPQ, IDF1 and flicker.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    json: JsonOption = None,
) -> None:
    """Measure how right a network is on labelled photos: PQ, mIoU and person IoU.

    Example: panokit evaluate --data my-photos --split my_val --sheet worst.png
    """
    if weights is not None and bundle is not None:
        raise UsageError("--weights and --bundle exclude each other; give one of them.")
    of_photos = {"--sheet": sheet, "--details": details, "--ap": ap, "--breakdown": breakdown}
    if video and (given := [name for name, value in of_photos.items() if value]):
        raise UsageError(f"{given[0]} is of photos; leave --video out to measure frames as photos.")
    segmenter = _from_weights(weights) if weights else Segmenter.open(bundle, artifact, threads)

    if video:
        _video(segmenter, data, split, json)
        return

    def progress(photos: Iterable[EvaluationPhoto]) -> Iterable[EvaluationPhoto]:
        return tracked(photos, "evaluating")

    result = evaluate_split(
        predictor(segmenter), data, split, segmenter.taxonomy, progress=progress, ap=ap,
        breakdown=breakdown is not None,
    )  # fmt: skip
    title = f"{segmenter.artifact.name} on {split}"
    _print(result, title)
    if breakdown and result.breakdown:
        _print_breakdown(result.breakdown)
        write_breakdown(breakdown, result.breakdown, title)
    elif breakdown:
        note("no breakdown: the classes know no person", style="yellow")
    if json:
        head = {"artifact": segmenter.artifact.name, "split": split}
        write_json(json, {**head, **result.to_json(details)})
    if sheet:
        write_sheet(sheet, segmenter, result, data, split)


def _print_breakdown(found: BreakdownResult) -> None:
    figures = ("true", "found", "mean IoU of found", "pixels found")
    title = f"{found.category} by share of the photo"
    table = Grid((found.category, *figures), title=title, right=figures)
    for size in found.sizes:
        counts = str(size.objects), str(size.found)
        table.add(size.name, *counts, figure(size.iou, 3), figure(size.recall, 3))
    show(table)
    table = Grid(("score", "things", "there", "share"), right=("things", "there", "share"))
    for b in found.scores:
        if b.segments:
            counts = str(b.segments), str(b.right)
            table.add(f"{b.low:.1f} .. {b.high:.1f}", *counts, figure(b.share, 2))
    show(table)
    told = f"{found.category}, pixels: precision {figure(found.precision, 3)}, "
    error = figure(found.calibration_error, 3)
    note(f"{told}recall {figure(found.recall, 3)}; calibration error of scores {error}")


def _video(segmenter: Segmenter, data: Path, split: str, json: Path | None) -> None:
    """Measure on videos."""
    found = evaluate_video(
        segmenter, data, split, progress=lambda photos: tracked(photos, "evaluating")
    )
    title = f"{segmenter.artifact.name} on {split}: {found.sequences} sequences, "
    table = Grid(("figure", "value"), title=f"{title}{found.frames} frames", right=("value",))
    for name in ("STQ", "AQ", "SQ", "IDF1", "flicker"):
        table.add(name, figure(getattr(found, name.lower()), 4))
    for frames, value in found.vpq.items():
        table.add(f"VPQ of {frames} frames", figure(value, 1))
    show(table)
    if json:
        head = {"artifact": segmenter.artifact.name, "split": split}
        write_json(json, {**head, **found.to_json()})


def _from_weights(path: Path) -> Segmenter:
    """The opener of weight files that the network package registers."""
    for entry in entry_points(group="panokit.segmenters"):
        if entry.name == "weights":
            try:
                opener: Any = entry.load()
            except ImportError as error:
                raise MissingExtraError("`panokit evaluate --weights`", "train") from error
            segmenter: Segmenter = opener(path)
            return segmenter
    raise MissingExtraError("`panokit evaluate --weights`", "train")


def _print(result: EvaluationResult, title: str) -> None:
    data = result.to_json()
    show(class_table(result.pq.per_class, title))
    title = f"{data['photos']} photos"
    table = Grid(("figure", "value", "95 % interval"), title=title, right=("value",))
    intervals = data["intervals"]
    rows: tuple[tuple[str, float | None, str, int], ...] = (
        ("PQ all", data["pq"]["all"], "pq_all", 1),
        ("PQ things", data["pq"]["things"], "", 1),
        ("PQ stuff", data["pq"]["stuff"], "", 1),
        ("PQ person", data["pq"]["per_class"].get("person", {}).get("pq"), "person_pq", 1),
        ("mIoU", data["miou"], "", 3),
        ("person IoU", data["person_iou"], "person_iou", 3),
        ("person boundary IoU", data["person_boundary_iou"], "", 3),
        ("mIoU of the panoptic map", data["panoptic_map"]["miou"], "", 3),
        ("person IoU of the map", data["panoptic_map"]["person_iou"], "", 3),
    )
    for name, value in (result.average_precision or {}).items():
        rows += ((f"mask {name} (from panoptic maps)", value, "", 1),)
    for name, value, key, digits in rows:
        between = intervals.get(key)
        text = f"{between[0]:.{digits}f} .. {between[1]:.{digits}f}" if between else ""
        table.add(name, figure(value, digits), text)
    show(table)
