"""`panokit simulate`: dumps of a device whose app makes chosen mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from panokit._files import write_json
from panokit.cli.options import ArtifactOption, BundleOption, JsonOption
from panokit.dump import STAGES, write_dump
from panokit.errors import ArgumentError, PhotoError
from panokit.photo import Photo, photo_paths
from panokit.segmenter import Segmenter
from panokit_validation.device import parse_noise
from panokit_validation.faults import FAULTS, fault
from panokit_validation.simulate import Simulator

__all__ = ["simulate"]

_console = Console(stderr=True)


def _list_faults(value: bool) -> None:
    if value:
        for name in FAULTS:
            typer.echo(name)
        raise typer.Exit


def simulate(
    photos: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the dumps.")],
    faults: Annotated[
        list[str] | None,
        typer.Option("--fault", help="NAME or NAME:VARIANT; repeat it to plant several."),
    ] = None,
    device_noise: Annotated[
        str,
        typer.Option("--device-noise", help="threads=N, xnnpack=off, fp16, separated by commas."),
    ] = "",
    stages: Annotated[
        str, typer.Option("--stages", help="Tensors to dump, separated by commas.")
    ] = ",".join(STAGES),
    list_faults: Annotated[
        bool,
        typer.Option(
            "--list-faults",
            callback=_list_faults,
            is_eager=True,
            help="Print the names of all faults and stop.",
        ),
    ] = False,
    describe: Annotated[
        bool, typer.Option("--describe", help="Write what was planted beside the dumps.")
    ] = True,
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    json: JsonOption = None,
) -> None:
    """Make device dumps with known faults, to try `panokit validate` and its thresholds.

    Without --fault the device is healthy. The dumps look as a phone's would; nothing in them tells
    the fault (OUT/faults.json does).
    """
    planted = [fault(name) for name in faults or ()]
    kept = tuple(s.strip() for s in stages.split(",") if s.strip())
    strange = [s for s in kept if s not in STAGES]
    if strange or not kept:
        raise ArgumentError("--stages", f"some of {', '.join(STAGES)}", stages)
    segmenter = Segmenter.open(bundle, artifact)
    for f, _ in planted:
        if not f.occurs_on(segmenter.artifact.outputs["semantic"].scale is not None):
            expected = f"one that {segmenter.artifact.name} can have ({f.precision} artifacts do)"
            raise ArgumentError("--fault", expected, f.name)
    device = Simulator(segmenter, parse_noise(device_noise))
    files = photo_paths(photos)
    skipped: dict[str, PhotoError] = {}
    written: list[dict[str, Any]] = []
    # A stale result is that of the photo before; the first photo's is that of the last one.
    previous = _open(list(files.values())[-1], skipped) if len(files) > 1 else None
    for name in track(list(files), "simulating", console=_console, transient=True):
        photo = _open(files[name], skipped)
        if photo is None:
            continue
        dump = device.simulate(photo, planted, other=previous, stages=kept)
        target = write_dump(dump, out / f"{name}.safetensors")
        written.append({"photo": str(files[name]), "dump": str(target)})
        previous = photo
    described = {
        "faults": [{"name": f.name, "variant": v.label, "title": f.title} for f, v in planted],
        "device_noise": device.noise.label,
        "artifact": segmenter.artifact.name,
        "dumps": written,
        "skipped": [str(s) for s in skipped.values()],
    }
    if describe:
        write_json(out / "faults.json", described)
    if json:
        write_json(json, described)
    typer.echo(f"{len(written)} dumps in {out}")
    for error in skipped.values():
        _console.print(f"[red]skipped[/red] {error}", highlight=False, soft_wrap=True)
    if skipped:
        raise typer.Exit(2)


def _open(path: Path, skipped: dict[str, PhotoError]) -> Photo | None:
    try:
        return Photo.open(path)
    except PhotoError as error:
        skipped[str(path)] = error
        return None
