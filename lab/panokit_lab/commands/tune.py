"""`panokit tune`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from panokit._files import write_json
from panokit.cli.console import Grid, note, show, working
from panokit.cli.options import (
    INPUT,
    OUTPUT,
    ArtifactOption,
    BundleOption,
    JsonOption,
)
from panokit.errors import UsageError
from panokit.segmenter import Segmenter
from panokit_lab.tune import Trial, Tuned, TuneRequest
from panokit_lab.tune import tune as run_tune
from panokit_network.segmenter import open_weights

__all__ = ["tune"]


def tune(
    data: Annotated[
        Path, typer.Option("--data", help="COCO-panoptic folder.", rich_help_panel=INPUT)
    ],
    split: Annotated[
        str, typer.Option("--split", help="Splits, comma separated.", rich_help_panel=INPUT)
    ],
    out: Annotated[
        Path,
        typer.Option("--out", help="JSON for `panokit export --decoding`.", rich_help_panel=OUTPUT),
    ],
    stuff_split: Annotated[
        str,
        typer.Option(
            "--stuff-split",
            help="Splits labelled in full, for the least area of stuff. Default: SPLIT.",
            rich_help_panel=INPUT,
        ),
    ] = "",
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="A weight file instead of a bundle.", rich_help_panel=INPUT),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Photos of a split.", rich_help_panel=INPUT)
    ] = 50,
    json: JsonOption = None,
) -> None:
    """Choose how heads become a map, by panoptic quality on labelled photos.

    Example: panokit tune --bundle mine.panokit --data my-photos --split my_tune --out decoding.json

    Take photos that no figure is told of: neither training photos nor those of `panokit evaluate`.
    """
    if weights is not None and bundle is not None:
        raise UsageError("--weights and --bundle exclude each other; give one of them.")
    segmenter = open_weights(weights) if weights else Segmenter.open(bundle, artifact)
    request = TuneRequest(data, _names(split), _names(stuff_split), limit)
    with working("opening the network") as update:
        found = run_tune(segmenter, request, update)
    _print(found)
    write_json(out, found.config.to_json())
    note(f"→ {out}")
    if json:
        write_json(json, found.to_json())


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _print(found: Tuned) -> None:
    thresholds = sorted({trial.config.threshold for trial in found.centers})
    windows = sorted({trial.config.window for trial in found.centers})
    by_place = {(t.config.threshold, t.config.window): t for t in found.centers}
    title = "PQ of things by threshold and window (with the best least score)"
    headings = ("threshold", *map(str, windows))
    table = Grid(headings, title=title, right=headings[1:])
    for threshold in thresholds:
        trials = [by_place[threshold, window] for window in windows]
        table.add(f"{threshold:g}", *(f"{t.pq:.1f} ({t.config.min_thing_score:g})" for t in trials))
    show(table, error=True)
    _areas("least area of things", [t.config.min_thing_area for t in found.thing_areas],
           found.thing_areas)  # fmt: skip
    if found.stuff_areas:
        _areas("least area of stuff", [t.config.min_stuff_area for t in found.stuff_areas],
               found.stuff_areas)  # fmt: skip
    else:
        note("no photo is labelled in full: the least area of stuff stays as it was")
    best = max(found.thing_areas, key=lambda trial: trial.pq)
    note(
        f"PQ of things {found.before.pq:.1f} before, {best.pq:.1f} with what was chosen, on "
        f"{len(found.photos)} photos that chose it"
    )


def _areas(title: str, values: Sequence[int], trials: Sequence[Trial]) -> None:
    headings = tuple(map(str, values))
    table = Grid(headings, title=title, right=headings)
    table.add(*(f"{trial.pq:.1f}" for trial in trials))
    show(table, error=True)
