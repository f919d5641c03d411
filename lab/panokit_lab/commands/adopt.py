"""`panokit adopt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from panokit._files import write_json
from panokit.cli.console import Grid, note, show, working
from panokit.cli.options import DO, INPUT, OUTPUT, JsonOption, output_folder
from panokit.config import read_settings_file
from panokit.decoding import DecodingSettings
from panokit.errors import UsageError
from panokit.families import FAMILIES
from panokit.photo import Photo
from panokit.samples import sample_photos
from panokit.taxonomy import Taxonomy
from panokit_lab.adopt import Adopted, AdoptRequest
from panokit_lab.adopt import adopt as run_adopt

__all__ = ["adopt"]


def adopt(
    files: Annotated[
        list[Path], typer.Argument(help="Model files of one network: .tflite, .onnx.")
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
    contract: Annotated[
        str,
        typer.Option(
            "--contract",
            help=f"What the network is: {', '.join(FAMILIES)}. Default: guessed from its outputs.",
            rich_help_panel=INPUT,
        ),
    ] = "",
    taxonomy: Annotated[
        Path | None,
        typer.Option(
            "--taxonomy",
            help="JSON of its classes, in the order of its columns. Default: what the file says.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    map: Annotated[
        list[str] | None,
        typer.Option("--map", help="HEAD=TENSOR; once for each.", rich_help_panel=INPUT),
    ] = None,
    mean: Annotated[
        str,
        typer.Option(
            "--mean", help="Taken off each channel, 0..255: R,G,B.", rich_help_panel=INPUT
        ),
    ] = "",
    std: Annotated[
        str,
        typer.Option("--std", help="Divides each channel after it: R,G,B.", rich_help_panel=INPUT),
    ] = "",
    fit: Annotated[
        str,
        typer.Option(
            "--fit",
            help="Where the photo lies in the input: letterbox, top-left or stretch.",
            rich_help_panel=INPUT,
        ),
    ] = "",
    decoding: Annotated[
        Path | None,
        typer.Option(
            "--decoding",
            help="JSON of decoding settings instead of the family's.",
            rich_help_panel=DO,
        ),
    ] = None,
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
    changes: dict[str, Any] = {}
    for name, text in (("mean", mean), ("std", std)):
        if text:
            changes[name] = _triple(name, text)
    if fit:
        changes["fit"] = fit
    request = AdoptRequest(
        files=tuple(files),
        out=out,
        family=contract or None,
        taxonomy=Taxonomy.load(taxonomy) if taxonomy else None,
        heads=_pairs(map or ()),
        decoding=read_settings_file(DecodingSettings, decoding, "decoding") if decoding else None,
        changes=changes,
        licence=licence,
    )
    opened = [Photo.open(p) for p in (photos or sample_photos().values())]
    with working("adopting"):
        result = run_adopt(request, {p.name: p for p in opened}, note)
    _print(result)
    if json:
        write_json(json, _summary(result))


def _triple(name: str, text: str) -> tuple[float, float, float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3:
        raise UsageError(f"--{name} is {text!r}; expected one number or three with commas.")
    return numbers[0], numbers[1], numbers[2]


def _pairs(given: list[str] | tuple[()]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given:
        head, equals, tensor = text.partition("=")
        if not equals or not head or not tensor:
            raise UsageError(
                f"--map is {text!r}; expected HEAD=TENSOR, such as semantic=Identity_2."
            )
        pairs[head] = tensor
    return pairs


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
