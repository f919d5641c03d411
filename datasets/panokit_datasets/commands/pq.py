"""`panokit pq`: panoptic quality of files that any tool wrote."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from panokit._files import write_json
from panokit.cli.console import note, show, tracked
from panokit.cli.options import INPUT, JsonOption
from panokit_datasets.commands.tables import class_table, figure
from panokit_datasets.quality.bootstrap import (
    FEW_PHOTOS,
    Difference,
    bootstrap_weights,
    pq_interval,
)
from panokit_datasets.quality.files import FilesQuality, PanopticFile, better, compare_files
from panokit_datasets.quality.panoptic_quality import Crowds

__all__ = ["pq"]


def pq(
    truth: Annotated[Path, typer.Argument(help="COCO panoptic JSON of the truth.")],
    pred: Annotated[Path, typer.Argument(help="COCO panoptic JSON of the predictions.")],
    than: Annotated[
        Path | None,
        typer.Option(
            "--than",
            help="Other predictions: is PRED better than these?",
            rich_help_panel=INPUT,
        ),
    ] = None,
    truth_folder: Annotated[
        Path | None,
        typer.Option(
            "--truth-folder",
            help="Its PNGs. Default: the folder of the JSON's name, or ../panoptic.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    pred_folder: Annotated[
        Path | None,
        typer.Option("--pred-folder", help="The same of the predictions.", rich_help_panel=INPUT),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="panopticapi's figures: of each class only the last crowd listed excuses.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    boundary: Annotated[
        float | None,
        typer.Option(
            "--boundary",
            min=0.0001,
            max=1,
            help="Boundary PQ: width of the band as a share of the diagonal (COCO 0.02, "
            "Cityscapes 0.005).",
            rich_help_panel=INPUT,
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes.", rich_help_panel=INPUT)
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option("--ray", help="Address of a Ray cluster, or local.", rich_help_panel=INPUT),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Panoptic quality of predictions in COCO's panoptic format, whoever made them.

    Example: panokit pq panoptic_val2017.json mine.json --than before.json

    It equals panopticapi's with --strict, and refuses truth whose areas its PNGs contradict.
    """
    of_truth = PanopticFile.read(truth, truth_folder)
    crowds: Crowds = "strict" if strict else "correct"
    settings: dict[str, Any] = {"crowds": crowds, "boundary": boundary}
    settings |= {"workers": workers, "ray": ray}
    found = _compare(of_truth, pred, pred_folder, settings)
    _print(found, pred.name)
    report = found.to_json()
    if than is not None:
        other = _compare(of_truth, than, None, settings)
        difference = better(other, found)
        _say(difference, pred.name, than.name)
        report["than"] = {"file": than.name, **difference.to_json()}
    if json:
        write_json(json, report)


def _compare(
    truth: PanopticFile, pred: Path, folder: Path | None, settings: dict[str, Any]
) -> FilesQuality:
    def progress(photos: Iterable[Any]) -> Iterable[Any]:
        return tracked(photos, f"comparing {pred.name}", len(truth.photos))

    of_pred = PanopticFile.read(pred, folder, truth)
    return compare_files(truth, of_pred, progress=progress, **settings)


def _print(found: FilesQuality, name: str) -> None:
    result = found.result
    title = name if found.boundary is None else f"{name}, boundary PQ ({found.boundary:g})"
    table = class_table({n: c for n, c in result.per_class.items() if c.pq is not None}, title)
    for kind in ("all", "things", "stuff"):
        means = (getattr(part, kind) for part in (result, result.sq, result.rq))
        table.add(kind, *map(figure, means), "", "", "")
    show(table)
    counts = list(found.counts.values())
    weights = bootstrap_weights(len(counts))
    interval = pq_interval(weights, counts, range(len(found.taxonomy)))
    between = f", 95 % interval {interval[0]:.1f} .. {interval[1]:.1f}" if interval else ""
    note(f"{len(counts)} photos: PQ {figure(result.all)}{between}")


def _say(found: Difference, name: str, than: str) -> None:
    low, high = found.interval
    chance = f"{found.p:.3f}" if found.p >= 0.001 else "below 0.001"
    note(
        f"{name} against {than}: {found.difference:+.2f} PQ, 95 % interval {low:+.2f} .. "
        f"{high:+.2f}, p {chance}: {found.verdict}"
    )
    if found.common is not None:
        note(f"over the {found.classes} classes that every resample holds: {found.common:+.2f}")
    if found.photos < FEW_PHOTOS:
        note(f"{found.photos} photos are few: such intervals are too narrow below {FEW_PHOTOS}")
