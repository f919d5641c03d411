"""The command ``panokit demo``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from panokit._files import write_json
from panokit.errors import ArgumentError, PanokitError
from panokit.photo import PHOTO_SUFFIXES, photo_paths
from panokit.samples import sample_photos
from panokit_demo.gallery import GalleryResult, write_gallery

__all__ = ["demo"]

SAMPLES = Path("samples")


def demo(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PHOTOS… OUT",
            help="Photos, folders of photos, or the word samples for the installed sample photos "
            "(./samples is a folder); then the page (.html) or the folder to write it in.",
        ),
    ] = None,
    gallery: Annotated[
        bool, typer.Option("--gallery", help="Write one self-contained HTML page about the photos.")
    ] = False,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Bundle folder; the shipped one without it.")
    ] = None,
    artifact: Annotated[
        str | None, typer.Option("--artifact", help="Artifact of the bundle, e.g. tflite-int8.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the results as JSON.")] = None,
) -> None:
    """Show what the network sees: `panokit demo --gallery PHOTOS… OUT`."""
    from panokit.segmenter import Segmenter

    if not gallery:
        raise PanokitError(
            "The live demo server is not there yet; "
            "write a page instead with: panokit demo --gallery PHOTOS… OUT"
        )
    photos, out = _photos_and_out(paths or [])
    result = write_gallery(photos, out, Segmenter.open(bundle, artifact), _with_bar)
    if json:
        write_json(json, result.to_json())
    _report(result)


def _photos_and_out(paths: Sequence[Path]) -> tuple[list[Path], Path]:
    """Split the arguments, and expand folders and the word ``samples``."""
    if len(paths) < 2:
        got = " ".join(map(str, paths)) or "nothing"
        raise ArgumentError("arguments", "photos, and last the page or folder to write", got)
    out = paths[-1]
    if out.suffix.lower() in PHOTO_SUFFIXES:
        raise ArgumentError("the last argument", "the page or folder to write", str(out))
    named: list[Path] = []
    for path in paths[:-1]:
        named += sample_photos().values() if path == SAMPLES else [path]
    return list(photo_paths(named).values()), out


def _with_bar(photos: Sequence[Path]) -> Iterable[Path]:
    return track(photos, "gallery", console=Console(stderr=True), transient=True)


def _report(result: GalleryResult) -> None:
    """Say where the page is; bad input among the photos makes the exit code 2."""
    for entry in result.failures:
        typer.echo(f"skipped {entry.error}", err=True)
    good = len(result.entries) - len(result.failures)
    typer.echo(f"{good} {'photo' if good == 1 else 'photos'} in {result.page}")
    if result.failures:
        raise typer.Exit(2)
