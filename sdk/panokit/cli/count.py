"""`panokit count`: how many objects a fixed camera saw, and who crossed a line."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated, Any

import typer

from panokit._files import write_json, write_text
from panokit._text import by_number
from panokit.cli.console import Grid, note, say, show, tracked
from panokit.cli.options import (
    DO,
    OUTPUT,
    ArtifactOption,
    BundleOption,
    JsonOption,
    Threads,
    output_file,
)
from panokit.errors import PhotoError, UsageError
from panokit.photo import photo_paths
from panokit.segmenter import Segmenter
from panokit.tracking import LineCounter, Tracker

__all__ = ["count"]


def count(
    frames: Annotated[
        list[Path], typer.Argument(help="Frames of one camera in the order of their names.")
    ],
    line: Annotated[
        list[str] | None,
        typer.Option(
            "--line",
            help="Line X0,Y0,X1,Y1 in pixels of the frames: count who crosses it, and which way. "
            "Repeatable.",
            rich_help_panel=DO,
        ),
    ] = None,
    classes: Annotated[
        str,
        typer.Option("--classes", help="Count only these, e.g. person,car.", rich_help_panel=DO),
    ] = "",
    patience: Annotated[
        int,
        typer.Option(min=0, help="Frames that somebody may be hidden for.", rich_help_panel=DO),
    ] = 10,
    csv_path: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            help="Write who was where in each frame to this CSV file.",
            callback=output_file,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    threads: Threads = 2,
    json: JsonOption = None,
) -> None:
    """Count the objects that a fixed camera saw, each once, and who crossed a line.

    Example: panokit count frames/ --classes person --line 0,200,640,200

    Forward is from the left of the line to its right, as one looks from its first point to its
    second.
    """
    segmenter = Segmenter.open(bundle, artifact, threads)
    wanted = [c.strip() for c in classes.split(",") if c.strip()]
    for name in wanted:
        segmenter.taxonomy.get(name)
    counters = [LineCounter(*_points(text)) for text in line or ()]
    tracker = Tracker(patience)
    table: list[list[Any]] = []
    per_frame: list[dict[str, Any]] = []
    skipped: list[str] = []
    paths = photo_paths(frames)
    for name in tracked(sorted(paths, key=by_number), "counting"):
        try:
            result = segmenter.segment(paths[name])
        except PhotoError as error:
            skipped.append(str(error))
            continue
        found = tracker.update(result.only(*wanted) if wanted else result)
        crossed = [c for counter in counters for c in counter.update(list(found.values()))]
        per_frame.append({"frame": name, "objects": len(found), "crossed": len(crossed)})
        for track in sorted(found.values(), key=lambda t: t.number):
            table.append([name, track.number, track.category, *track.box_xyxy])
    for reason in skipped:
        note(reason, label="skipped", style="red")
    _show(tracker, counters, len(per_frame))
    if csv_path is not None:
        _write_csv(csv_path, table)
    if json is not None:
        lines = [{"line": [*c.first, *c.second], "counts": c.counts} for c in counters]
        found_all = {"frames": per_frame, "totals": tracker.totals, "lines": lines}
        write_json(json, {**found_all, "skipped": skipped})
    if skipped:
        raise typer.Exit(2)


def _points(text: str) -> tuple[tuple[float, float], tuple[float, float]]:
    try:
        x0, y0, x1, y1 = (float(v) for v in text.split(","))
    except ValueError:
        raise UsageError(
            f"--line is {text!r}; expected four numbers, as in 0,200,640,200"
        ) from None
    return (x0, y0), (x1, y1)


def _show(tracker: Tracker, counters: list[LineCounter], frames: int) -> None:
    totals = ", ".join(f"{n} × {name}" for name, n in tracker.totals.items())
    say(f"{frames} frames: {totals or 'no objects'}")
    for counter in counters:
        ends = ",".join(f"{v:g}" for v in (*counter.first, *counter.second))
        grid = Grid(("class", "forward", "backward"), title=f"crossed {ends}",
                    right=("forward", "backward"))  # fmt: skip
        for name, ways in sorted(counter.counts.items()):
            grid.add(name, ways["forward"], ways["backward"])
        if counter.counts:
            show(grid)
        else:
            say(f"nobody crossed {ends}")


def _write_csv(path: Path, rows: list[list[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["frame", "track", "class", "left", "top", "right", "bottom"])
    writer.writerows(rows)
    write_text(path, text.getvalue())
