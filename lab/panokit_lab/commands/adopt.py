"""`panokit adopt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from panokit._files import write_json
from panokit.cli.console import Grid, note, show, working
from panokit.cli.options import INPUT, OUTPUT, JsonOption, output_folder
from panokit.photo import Photo
from panokit.samples import sample_photos
from panokit.taxonomy import Taxonomy
from panokit_lab.adopt import Adopted, AdoptRequest
from panokit_lab.adopt import adopt as run_adopt
from panokit_lab.commands.options import (
    ContractOption,
    DecodingOption,
    FitOption,
    MapOption,
    MeanOption,
    StdOption,
    input_changes,
    named_heads,
    read_decoding,
)

__all__ = ["adopt"]


def adopt(
    files: Annotated[
        list[Path], typer.Argument(help="Model files of one network: .tflite, .onnx, .mlpackage.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="Bundle to write: NAME.panokit.",
            callback=output_folder,
            rich_help_panel=OUTPUT,
        ),
    ],
    contract: ContractOption = "",
    taxonomy: Annotated[
        Path | None,
        typer.Option(
            "--taxonomy",
            help="JSON of its classes, in the order of its columns. Default: what the file says.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    map: MapOption = None,
    mean: MeanOption = "",
    std: StdOption = "",
    fit: FitOption = "",
    decoding: DecodingOption = None,
    photos: Annotated[
        list[Path] | None,
        typer.Option(
            "--photos",
            help="At least three photos for the golden vectors. Default: the sample photos.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    licence: Annotated[
        str,
        typer.Option("--licence", help="Licence of the model, as stated.", rich_help_panel=INPUT),
    ] = "",
    json: JsonOption = None,
) -> None:
    """Make a bundle of model files that others exported, without their source.

    Example: panokit adopt yolo11n-seg.tflite --out yolo.panokit
    """
    request = AdoptRequest(
        files=tuple(files),
        out=out,
        family=contract or None,
        taxonomy=Taxonomy.load(taxonomy) if taxonomy else None,
        heads=named_heads(map),
        decoding=read_decoding(decoding),
        changes=input_changes(mean, std, fit),
        licence=licence,
    )
    opened = [Photo.open(p) for p in (photos or sample_photos().values())]
    with working("adopting"):
        result = run_adopt(request, {p.name: p for p in opened}, note)
    _print(result)
    if json:
        write_json(json, _summary(result))


def _summary(result: Adopted) -> dict[str, Any]:
    manifest = result.bundle.manifest
    return {
        "bundle": str(result.bundle.root),
        "contract": manifest.postprocessing.contract,
        "postprocessing": manifest.postprocessing.to_json(),
        "classes": len(manifest.taxonomy),
        "artifacts": [a.name for a in manifest.artifacts],
        "files": {
            name: {
                "family": g.family,
                "why": g.why,
                "heads": {h: t for h, (t, _) in g.heads.items()},
            }
            for name, g in result.guesses.items()
        },
        "agreement_db": result.agreement,
    }


def _print(result: Adopted) -> None:
    manifest = result.bundle.manifest
    table = Grid(("artifact", "head", "tensor", "shape"), title=result.bundle.root.name)
    for artifact in manifest.artifacts:
        for head, spec in artifact.outputs.items():
            table.add(artifact.name, head, spec.name, "x".join(map(str, spec.shape)))
    show(table)
    settings = manifest.postprocessing
    note(f"contract {settings.contract}, {len(manifest.taxonomy)} classes")
    for name, heads in result.agreement.items():
        figures = ", ".join(f"{head} {db:.1f} dB" for head, db in heads.items())
        note(f"{name} against {manifest.artifacts[0].name}: {figures}")
    note(f"try it: panokit segment PHOTO --bundle {result.bundle.root} --out out")
