"""Options that commands of all packages share, and the groups that help shows them in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panokit._places import check_output_file, check_output_folder
from panokit.errors import UsageError

__all__ = [
    "DO",
    "INPUT",
    "OUTPUT",
    "ArtifactOption",
    "BundleOption",
    "DumpsOut",
    "JsonOption",
    "OverwriteOption",
    "Photos",
    "Threads",
    "check_not_input",
    "output_file",
    "output_folder",
]

INPUT, DO, OUTPUT = "Input", "What to do", "Output"
"""Groups of options in help."""

Photos = Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")]
BundleOption = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        help="Bundle folder. Default: the bundle that comes with Panokit.",
        rich_help_panel=INPUT,
    ),
]
ArtifactOption = Annotated[
    str | None,
    typer.Option(
        "--artifact",
        help="Artifact of the bundle, such as tflite-int8. Default: the int8 TFLite one.",
        rich_help_panel=INPUT,
    ),
]


def output_file(path: Path | None) -> Path | None:
    """Callback of options that name a file to write: a place that cannot be written is told before
    the work, not after it."""
    if path is not None:
        check_output_file(path)
    return path


def check_not_input(out: Path, given: Path, overwrite: bool) -> None:
    """A photo is not replaced by what is made of it, unless the user says so."""
    try:
        same = out.samefile(given)
    except OSError:  # one of them is not there
        same = False
    if same and not overwrite:
        raise UsageError(
            f"--out names the photo itself, {given}; name another file, or say --overwrite to "
            "replace it."
        )


def output_folder(path: Path | None) -> Path | None:
    """As :func:`output_file`, of options that name a folder for results."""
    if path is not None:
        check_output_folder(path)
    return path


DumpsOut = Annotated[
    Path,
    typer.Option(
        "--out", help="Folder for the dumps.", callback=output_folder, rich_help_panel=OUTPUT
    ),
]
JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        help="Write the results to this JSON file.",
        callback=output_file,
        rich_help_panel=OUTPUT,
    ),
]
OverwriteOption = Annotated[
    bool,
    typer.Option("--overwrite", help="Let --out replace the photo itself.", rich_help_panel=OUTPUT),
]
Threads = Annotated[
    int,
    typer.Option("--threads", min=1, help="Threads of the runtime.", rich_help_panel=DO),
]
