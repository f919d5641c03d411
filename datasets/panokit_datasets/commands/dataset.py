"""`panokit dataset`: look after labelled photos."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from panokit.cli.console import note, tracked
from panokit.cli.options import output_folder
from panokit_datasets.packs import write_packs
from panokit_datasets.photo_source import PhotoSource

__all__ = ["dataset"]

MANY_PHOTOS = 500  # from so many on, all cores work

dataset = typer.Typer(
    name="dataset",
    add_completion=False,
    no_args_is_help=True,
    help="Look after labelled photos.",
)


@dataset.callback()
def _dataset() -> None:
    """Commands of data sets."""


@dataset.command()
def pack(
    data: Annotated[Path, typer.Argument(help="COCO-panoptic folder.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="Folder for the packs; a new one.",
            callback=output_folder,
        ),
    ],
    splits: Annotated[
        str, typer.Option("--splits", help="Splits, comma separated. Default: all *_train.")
    ] = "",
    validation_splits: Annotated[
        str, typer.Option("--validate", help="Splits to validate on, comma separated.")
    ] = "",
    pseudo: Annotated[
        Path | None,
        typer.Option("--pseudo", help="Folder of pseudo-labels that go before those in DATA."),
    ] = None,
    side: Annotated[int, typer.Option(help="Longest side of a photo, pixels.")] = 320,
    quality: Annotated[int, typer.Option(help="WebP quality, 1 to 100.")] = 80,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Photos of each split; all by default.")
    ] = None,
) -> None:
    """Pack photos and labels into a few files to train from on another machine.

    Example: panokit dataset pack my-photos --out packs --validate my_val
    Then, there: panokit train --data packs --validate my_val --out run
    """
    source = PhotoSource.open(data, None, pseudo)
    names = source.splits(splits, "_train")
    names += source.splits(validation_splits) if validation_splits else []
    photos = [(n, p) for n in names for p in source.split(n)[:limit]]
    processes = os.cpu_count() or 1 if len(photos) > MANY_PHOTOS else 1
    paths, skipped = write_packs(
        tracked(photos, "packing photos"), source.taxonomy, out, side, quality, processes=processes
    )
    for reason in skipped:
        note(reason, label="skipped", style="yellow")
    size = sum(p.stat().st_size for p in paths) / 2**20
    note(f"{len(photos) - len(skipped)} photos in {len(paths)} packs, {size:.1f} MiB")
    if skipped:
        raise typer.Exit(2)
