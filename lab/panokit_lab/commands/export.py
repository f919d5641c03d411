"""`panokit export`."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from panokit._files import write_json
from panokit.cli.console import Grid, note, show, working
from panokit.cli.options import DO, INPUT, OUTPUT, JsonOption, output_folder
from panokit.errors import UsageError
from panokit.preprocessing import parse_size
from panokit.taxonomy import Taxonomy
from panokit_converters.adapt import KnownOfModule
from panokit_lab.commands.options import (
    NOTHING_KNOWN,
    ModuleOption,
    SizeOption,
    TaxonomyOption,
    describes_module,
)
from panokit_lab.export import (
    ExportRequest,
    ExportResult,
    run_export,
)
from panokit_network.source import NetworkSource

__all__ = ["export"]


Out = Annotated[
    Path,
    typer.Option(
        "--out",
        help="Bundle to write: NAME.panokit.",
        callback=output_folder,
        rich_help_panel=OUTPUT,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="Weight file (.safetensors); of --module also a torch checkpoint (.pt).",
        rich_help_panel=INPUT,
    ),
]
Recipes = Annotated[
    list[str] | None,
    typer.Option(
        "--recipe",
        help="Recipe, by name or JSON file; several with commas. Default: float32,float16,int8.",
        rich_help_panel=INPUT,
    ),
]
Formats = Annotated[
    str,
    typer.Option(
        "--formats", help="tflite, coreml, onnx, coreai; several with commas.", rich_help_panel=DO
    ),
]
Input = Annotated[
    str,
    typer.Option(
        "--input",
        help="Image that TFLite and ONNX take: uint8 (camera bytes), float32 (0..255), or "
        "native (int8 for int8 recipes, else float32).",
        rich_help_panel=DO,
    ),
]
CalibrationData = Annotated[
    Path | None,
    typer.Option(
        "--calibration-data",
        help="What int8 ranges are measured on: a COCO-panoptic folder (its training photos) or a "
        "folder of photos. Default: some of --photos, which then check nothing.",
        rich_help_panel=INPUT,
    ),
]
Photos = Annotated[
    list[Path] | None,
    typer.Option(
        "--photos", help="Photos or folders for checks and golden vectors.", rich_help_panel=INPUT
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict/--no-strict",
        help="Leave out an artifact that misses its thresholds, or write it and say so.",
        rich_help_panel=OUTPUT,
    ),
]

Licence = Annotated[
    str,
    typer.Option(
        "--licence", help="Licence of the weights, for manifest and files.", rich_help_panel=OUTPUT
    ),
]


@describes_module
def export(
    out: Out,
    weights: Weights = None,
    module: ModuleOption = "",
    taxonomy: TaxonomyOption = None,
    recipe: Recipes = None,
    formats: Formats = "tflite,coreml",
    input: Input = "native",
    calibration_data: CalibrationData = None,
    photos: Photos = None,
    size: SizeOption = "320",
    strict: Strict = True,
    licence: Licence = "",
    known: KnownOfModule = NOTHING_KNOWN,
    json: JsonOption = None,
) -> None:
    """Make the files a phone runs: TFLite, Core ML and ONNX, each checked against torch.

    Example: panokit export --weights mine.safetensors --out mine.panokit
    """
    started = time.monotonic()
    source = None
    if module:
        if taxonomy is None:
            raise UsageError("--module needs --taxonomy: a JSON file of the network's classes.")
        source = NetworkSource.from_import(module, weights, Taxonomy.load(taxonomy))
    request = ExportRequest(
        weights=weights,
        out=out,
        recipes=tuple(_split(recipe or ["float32,float16,int8"])),
        formats=tuple(_split([formats])),
        size=parse_size(size),
        input=input,  # type: ignore[arg-type]  # checked by the request
        calibration_data=calibration_data,
        photos=tuple(photos or ()),
        strict=strict,
        licence=licence,
        known=known,
    )
    with working("exporting") as update, _terminated_like_interrupted():
        result = run_export(request, update, source=source)
    seconds = time.monotonic() - started
    _print_summary(result, seconds)
    if json:
        write_json(json, _summary(result, seconds))
    if result.failed:
        raise typer.Exit(1)


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, so that no temporary folder stays."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _split(values: list[str]) -> list[str]:
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def _summary(result: ExportResult, seconds: float) -> dict[str, Any]:
    manifest = result.bundle.manifest
    return {
        "bundle": str(result.bundle.root),
        "artifacts": [
            {
                "name": a.name,
                "file": a.file,
                "bytes": a.bytes,
                "sha256": a.sha256,
                "seconds": result.seconds[a.name],
            }
            for a in manifest.artifacts
        ],
        "skipped": result.skipped,
        "failed": result.failed,
        "unchecked": result.unchecked,
        "warnings": list(result.warnings),
        "remarks": list(result.remarks),
        "quality": manifest.quality,
        "seconds": round(seconds, 1),
        "peak_memory_bytes": result.peak_memory,
    }


def _print_summary(result: ExportResult, seconds: float) -> None:
    peak = result.peak_memory / 2**30
    title = f"{result.bundle.root.name}, {seconds:.0f} s, peak {peak:.1f} GiB"
    heads = result.bundle.manifest.postprocessing.head_names()
    figures = ("MB", *(f"{head} dB" for head in heads), "equal pixels")
    table = Grid(("artifact", *figures, "verdict", "s"), title=title, right=(*figures, "s"))
    for artifact in result.bundle.manifest.artifacts:
        taken = f"{result.seconds[artifact.name]:.0f}"
        check = result.checks.get(artifact.name)
        if check is None:
            dashes = ["–"] * (len(heads) + 1)
            table.add(artifact.name, f"{artifact.bytes / 1e6:.2f}", *dashes, "not checked", taken)
            continue
        verdict = ("below thresholds", "red") if check.failures else ("pass", "green")
        decibels = [f"{check.agreement.heads[h].sqnr_db:.1f}" for h in heads]
        panoptic = check.agreement.panoptic
        equal = "–" if panoptic is None else f"{panoptic.equal_pixels:.4f}"
        size = f"{artifact.bytes / 1e6:.2f}"
        table.add(artifact.name, size, *decibels, equal, verdict, taken)
    show(table, error=True)
    for left_out, reason in result.skipped.items():
        note(f"{left_out} ({reason})", label="left out:")
    for unchecked, reason in result.unchecked.items():
        note(f"{unchecked} ({reason})", label="not checked here:", style="yellow")
    for remark in result.remarks:
        note(remark, label="note:")
    for warning in result.warnings:
        note(warning, label="careful:", style="yellow")
    for failed, reason in result.failed.items():
        note(f"{failed}: {reason}", label="failed:", style="red")
