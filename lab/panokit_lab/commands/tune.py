"""`panokit tune`."""

from __future__ import annotations

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
from panokit_lab.tune import Choice, Trial, Tuned, TuneRequest
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
            help="Splits labelled in full, for what stuff alone decides. Default: SPLIT.",
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
    for choice in found.choices:
        _table(choice)
    if not any(choice.judged == "stuff" for choice in found.choices):
        note("no photo is labelled in full: what stuff alone decides stays as it was")
    first = found.choices[0].judged
    reached = [choice.best.pq for choice in found.choices if choice.judged == first][-1]
    note(
        f"{_quality(first)} {found.before.pq:.1f} before, {reached:.1f} with what was chosen, on "
        f"{len(found.photos)} photos that chose it"
    )


def _quality(judged: str) -> str:
    return "PQ" if judged == "all" else f"PQ of {judged}"


def _table(choice: Choice) -> None:
    """A column for each value of the step's last setting, a row for each of the first of two."""
    step = choice.step
    columns = tuple(f"{value:g}" for value in step.values[-1])
    title = f"{_quality(choice.judged)} by {' and '.join(step.words)}"
    if step.with_scores:
        title += " (with the best least score)"
    cells = [f"{t.pq:.1f}{_score(t) if step.with_scores else ''}" for t in choice.trials]
    rows = step.values[0] if len(step.names) == 2 else ()
    table = Grid((step.words[0], *columns) if rows else columns, title=title, right=columns)
    for at, value in enumerate(rows):
        table.add(f"{value:g}", *cells[at * len(columns) : (at + 1) * len(columns)])
    if not rows:
        table.add(*cells)
    show(table, error=True)


def _score(trial: Trial) -> str:
    return f" ({getattr(trial.config, 'min_thing_score', 0):g})"
