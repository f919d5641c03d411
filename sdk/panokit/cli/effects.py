"""The commands that change photos: blur and edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from panokit._files import write_json
from panokit.cli.console import say
from panokit.cli.edit_options import edit_from_options, options_of, options_of_any, takes
from panokit.cli.options import (
    ArtifactOption,
    BundleOption,
    JsonOption,
    OverwriteOption,
    Threads,
    check_not_input,
    output_file,
)
from panokit.effects import EDIT_KINDS, BlurBackground, EditList, EffectResult
from panokit.errors import ArgumentError, UsageError
from panokit.photo import SAVED_SUFFIXES, Photo
from panokit.result import PanopticResult
from panokit.segmenter import Segmenter

__all__ = ["blur", "edit"]

WHICH, WHAT, SETTINGS, OUTPUT = "Which object", "What to do", "Settings of the edit", "Output"

PhotoArgument = Annotated[Path, typer.Argument(help="The photo.")]
OutOption = Annotated[
    Path,
    typer.Option(
        "--out",
        help="Picture to write (.jpg, .png, .webp).",
        callback=output_file,
        rich_help_panel=OUTPUT,
    ),
]
JpegOption = Annotated[
    int | None,
    typer.Option(
        "--jpeg-quality",
        min=1,
        max=100,
        help="Without it, as the photo's own file.",
        rich_help_panel=OUTPUT,
    ),
]
EditsOption = Annotated[
    Path | None,
    typer.Option(
        "--edits",
        help="Edits to replay first; with --do the longer list is written.",
        callback=output_file,
        rich_help_panel=WHAT,
    ),
]


@takes(options_of(BlurBackground, "Blur"))
def blur(
    photo: PhotoArgument,
    out: OutOption,
    jpeg_quality: JpegOption = None,
    overwrite: OverwriteOption = False,
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    threads: Threads = 2,
    json: JsonOption = None,
    **settings: Any,
) -> None:
    """Blur the background behind the people in a photo.

    Example: panokit blur party.jpg --out portrait.jpg --strength 0.7
    """
    _check_out(out)
    check_not_input(out, photo, overwrite)
    step = edit_from_options(BlurBackground.do, settings, photo.resolve().parent)
    opened, result = _segmented(photo, bundle, artifact, threads)
    _finish(step.apply(opened, result), out, jpeg_quality, json)


@takes(options_of_any(EDIT_KINDS.values(), pick_panel=WHICH, panel=SETTINGS))
def edit(
    photo: PhotoArgument,
    out: OutOption,
    do: Annotated[
        str, typer.Option("--do", help=f"One of {', '.join(EDIT_KINDS)}.", rich_help_panel=WHAT)
    ] = "",
    edits: EditsOption = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Drop the last edit of --edits.", rich_help_panel=WHAT)
    ] = False,
    jpeg_quality: JpegOption = None,
    overwrite: OverwriteOption = False,
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    threads: Threads = 2,
    json: JsonOption = None,
    **settings: Any,
) -> None:
    """Edit objects of a photo: remove, lift, recolor, highlight … Edits can be replayed and undone.

    Example: panokit edit party.jpg --tap 410,300 --do remove
    --out without.jpg --edits edits.json
    """
    _check_out(out)
    check_not_input(out, photo, overwrite)
    listed = EditList(photo=photo.name)
    if edits is not None and edits.exists():
        listed = EditList.load(edits)
    elif edits is not None and (undo or not do):
        raise ArgumentError(
            "edits", f"there is no file {str(edits)!r}; expected the list of edits to replay"
        )
    listed = listed.undo() if undo else listed
    folder = edits.resolve().parent if edits is not None else photo.resolve().parent
    if do:
        listed = listed.append(edit_from_options(do, settings, folder))
    elif not listed.edits and not undo:
        raise UsageError(f"Give --do (one of {', '.join(EDIT_KINDS)}) or --edits.")
    opened, result = _segmented(photo, bundle, artifact, threads)
    done = listed.replay(opened, result, folder=folder)
    _finish(done, out, jpeg_quality, json, listed)
    if edits is not None:
        listed.save(edits)


def _check_out(out: Path) -> None:
    if out.suffix.lower() not in SAVED_SUFFIXES:
        raise ArgumentError(
            "out", f"--out is {str(out)!r}; expected a name ending in {', '.join(SAVED_SUFFIXES)}"
        )


def _segmented(
    photo: Path, bundle: Path | None, artifact: str | None, threads: int
) -> tuple[Photo, PanopticResult]:
    opened = Photo.open(photo)
    return opened, Segmenter.open(bundle, artifact, threads).segment(opened)


def _finish(
    done: EffectResult,
    out: Path,
    jpeg_quality: int | None,
    json: Path | None,
    edits: EditList | None = None,
) -> None:
    done.save(out, quality=jpeg_quality)
    say(done.message)
    if json:
        data: dict[str, Any] = {
            "applied": done.applied,
            "message": done.message,
            "out": str(out),
        }
        if edits is not None:
            data["edits"] = edits.to_json()
        write_json(json, data)
