"""`panokit export`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from panokit._files import write_json
from panokit.bundle import Bundle
from panokit_converters.export import ExportRequest, export_bundle

__all__ = ["export"]

_console = Console(stderr=True)


def export(
    weights: Annotated[Path, typer.Option("--weights", help="Weight file (.safetensors).")],
    out: Annotated[Path, typer.Option("--out", help="Bundle to write: NAME.panokit.")],
    recipe: Annotated[
        list[str] | None,
        typer.Option("--recipe", help="Recipe, by name or JSON file; several with commas."),
    ] = None,
    formats: Annotated[
        str, typer.Option("--formats", help="tflite, coreml; several with commas.")
    ] = "tflite,coreml",
    calibration_data: Annotated[
        Path | None,
        typer.Option("--calibration-data", help="COCO-panoptic folder; its training photos."),
    ] = None,
    photos: Annotated[
        list[Path] | None,
        typer.Option("--photos", help="Photos or folders for checks and golden vectors."),
    ] = None,
    size: Annotated[int, typer.Option("--size", help="Side of the input, a multiple of 32.")] = 320,
    json: Annotated[Path | None, typer.Option("--json", help="Write the result as JSON.")] = None,
) -> None:
    """Export weights to a bundle: TFLite and Core ML, checked against torch."""
    started = time.monotonic()
    request = ExportRequest(
        weights=weights,
        out=out,
        recipes=tuple(_split(recipe or ["float32,int8"])),
        formats=tuple(_split([formats])),
        size=size,
        calibration_data=calibration_data,
        photos=tuple(photos or ()),
    )
    with _console.status("exporting") as status:
        bundle = export_bundle(request, status.update)
    seconds = time.monotonic() - started
    _print_summary(bundle, seconds)
    if json:
        write_json(json, _summary(bundle, seconds))


def _split(values: list[str]) -> list[str]:
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def _summary(bundle: Bundle, seconds: float) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.root),
        "artifacts": [
            {"name": a.name, "file": a.file, "bytes": a.bytes, "sha256": a.sha256}
            for a in manifest.artifacts
        ],
        "quality": manifest.quality,
        "seconds": round(seconds, 1),
    }


def _print_summary(bundle: Bundle, seconds: float) -> None:
    table = Table(title=f"{bundle.root.name}, {seconds:.0f} s")
    for column in ("artifact", "MB", "semantic dB", "center dB", "offset dB", "same class"):
        table.add_column(column, justify="left" if column == "artifact" else "right")
    for artifact in bundle.manifest.artifacts:
        figures = bundle.manifest.quality["artifacts"][artifact.name]
        row = [artifact.name, f"{artifact.bytes / 1e6:.2f}"]
        if "heads" in figures:
            row += [
                f"{figures['heads'][h]['sqnr_db']:.1f}" for h in ("semantic", "center", "offset")
            ]
            row.append(f"{figures['argmax_agreement']:.4f}")
        else:
            row += ["–"] * 4
        table.add_row(*row)
    _console.print(table)
