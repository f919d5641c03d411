"""The commands of the thin SDK: segment, dump."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from panokit import coco
from panokit._files import write_json, write_picture
from panokit.cli.console import Grid, note, say, show, tracked
from panokit.cli.options import (
    DO,
    OUTPUT,
    ArtifactOption,
    BundleOption,
    DumpsOut,
    JsonOption,
    Photos,
    Threads,
    output_folder,
)
from panokit.cli.tiled import TiledJob, parse_levels, segment_large, summary
from panokit.dump import dump_stages, write_dump
from panokit.errors import ArgumentError, PanokitError, PhotoError, UsageError
from panokit.photo import photo_paths
from panokit.segmenter import Segmenter
from panokit.tiles import OVERLAP

__all__ = ["dump", "segment"]


def _each(
    photos: dict[str, Path], what: str, failures: list[PanokitError]
) -> Iterator[tuple[str, Path]]:
    """Name and path of every photo, with progress; the loop body's errors go to ``failures``."""
    yield from tracked(photos.items(), what)
    for failure in failures:
        note(failure, label="skipped", style="red")


def segment(
    photos: Photos,
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="Folder for the results.", callback=output_folder, rich_help_panel=OUTPUT
        ),
    ],
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    classes: Annotated[
        str, typer.Option("--classes", help="Keep only these, e.g. person,dog.", rich_help_panel=DO)
    ] = "",
    tiles: Annotated[
        int | None,
        typer.Option(
            "--tiles",
            min=0,
            help="For large images: look at tiles of so many pixels a side, and join what they "
            "show. 0: as many as the network's input has.",
            rich_help_panel=DO,
        ),
    ] = None,
    overlap: Annotated[
        float,
        typer.Option(
            min=0, max=0.75, help="Share of a tile that the next one sees.", rich_help_panel=DO
        ),
    ] = OVERLAP,
    page: Annotated[
        int | None,
        typer.Option(
            "--page", min=0, help="Page of a TIFF, from 0. Default: all.", rich_help_panel=DO
        ),
    ] = None,
    levels: Annotated[
        str,
        typer.Option(
            "--levels",
            help="Values of a 16-bit TIFF that become black and white, e.g. 200,1800. Default: "
            "found in the picture.",
            rich_help_panel=DO,
        ),
    ] = "",
    threads: Threads = 2,
    json: JsonOption = None,
) -> None:
    """Find every object and surface in photos: an id map (COCO panoptic) and a picture for each.

    Example: panokit segment photo.jpg --out found
    """
    if tiles is None and (page is not None or levels):
        raise UsageError("--page and --levels are for large images: give --tiles as well.")
    between = parse_levels(levels)
    segmenter = Segmenter.open(bundle, artifact, threads)
    wanted = tuple(c.strip() for c in classes.split(",") if c.strip())
    for name in wanted:
        segmenter.taxonomy.get(name)
    results: list[dict[str, Any]] = []
    failures: list[PanokitError] = []
    table = Grid(("photo", "found"), title=f"{segmenter.artifact.name} → {out}", wraps=("found",))
    found = photo_paths(photos, leave_out=(out,))
    _check_out(found, out)
    for name, path in _each(found, "segmenting", failures):
        if tiles is not None:
            job = TiledJob(segmenter, wanted, tiles or None, overlap, page, between)
            try:
                for made in segment_large(job, name, path, out):
                    results.append(made.entry)
                    table.add(made.name, made.summary)
            except PhotoError as error:
                failures.append(error)
            continue
        try:
            result = segmenter.segment(path, classes=wanted)
        except PhotoError as error:
            failures.append(error)
            continue
        png, annotation = coco.save(result, out, name)
        overlay = out / f"{name}.overlay.png"
        write_picture(overlay, result.overlay(), "PNG")
        files = {"id_map": png.name, "coco": annotation.name, "overlay": overlay.name}
        results.append({**result.to_json(), "photo": str(path), "files": files})
        table.add(path.name, summary(result, result.counts))
    _finish(results, failures, table, json)


def dump(
    photos: Photos,
    out: DumpsOut,
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    threads: Threads = 2,
    json: JsonOption = None,
) -> None:
    """Write what the artifact computes here, stage by stage, as a device would.

    Example: panokit dump photo.jpg --out dumps
    """
    segmenter = Segmenter.open(bundle, artifact, threads)
    written: list[dict[str, Any]] = []
    failures: list[PanokitError] = []
    for name, path in _each(photo_paths(photos), "dumping", failures):
        try:
            stages = segmenter.stages(path)
        except PhotoError as error:
            failures.append(error)
            continue
        made = dump_stages(stages, segmenter.artifact, segmenter.runtime.name)
        target = write_dump(made, out / f"{name}.safetensors")
        written.append({"photo": str(path), "dump": str(target)})
    say(f"{len(written)} dumps in {out}")
    _finish(written, failures, None, json)


def _check_out(photos: dict[str, Path], out: Path) -> None:
    """Results must not take the place of photos."""
    sources = {p.resolve(): p for p in photos.values()}
    for name in photos:
        for ending in (".ids.png", ".overlay.png"):
            source = sources.get((out / f"{name}{ending}").resolve())
            if source is not None:
                raise ArgumentError(
                    "out",
                    f"--out is {str(out)!r}, where a result would replace the photo {source.name}; "
                    "expected another folder than the photos'",
                )


def _finish(
    results: list[dict[str, Any]],
    failures: list[PanokitError],
    table: Grid | None,
    json: Path | None,
) -> None:
    """Print and write what came out; bad input among the photos makes the exit code 2."""
    if table is not None and results:
        show(table)
    if json:
        write_json(json, {"results": results, "skipped": [str(f) for f in failures]})
    if failures:
        raise typer.Exit(2)
