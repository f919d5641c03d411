"""Options that commands of all packages share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["ArtifactOption", "BundleOption", "JsonOption", "Photos", "Threads"]

Photos = Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")]
BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="Bundle folder; the shipped one without it.")
]
ArtifactOption = Annotated[
    str | None, typer.Option("--artifact", help="Artifact of the bundle, e.g. tflite-int8.")
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the results as JSON.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of the runtime.")]
