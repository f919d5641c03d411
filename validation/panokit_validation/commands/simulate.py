"""`panokit simulate`: dumps of a device whose app makes chosen mistakes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from panokit._files import write_json
from panokit.cli.console import note, say, tracked
from panokit.cli.options import (
    DO,
    OUTPUT,
    ArtifactOption,
    BundleOption,
    DumpsOut,
    JsonOption,
    Photos,
)
from panokit.decoding import PostprocessConfig
from panokit.dump import STAGES, write_dump
from panokit.errors import ArgumentError, PhotoError
from panokit.photo import Photo, photo_paths
from panokit.segmenter import Segmenter
from panokit_validation.contracts import simulate_contract
from panokit_validation.device import parse_noise
from panokit_validation.faults import FAULTS, fault
from panokit_validation.faults.contracts import named_fault
from panokit_validation.faults.model import Fault, Variant
from panokit_validation.simulate import Simulator

__all__ = ["simulate"]


ALL_STAGES = ",".join(STAGES)


def _list_faults(value: bool) -> None:
    if value:
        for name in FAULTS:
            say(name)
        raise typer.Exit


Faults = Annotated[
    list[str] | None,
    typer.Option(
        "--fault", help="Mistake of the app: NAME or NAME:VARIANT. Repeatable.", rich_help_panel=DO
    ),
]
Noise = Annotated[
    str,
    typer.Option(
        "--device-noise",
        help="How the device computes: threads=N, xnnpack=off, fp16, separated by commas.",
        rich_help_panel=DO,
    ),
]
Stages = Annotated[
    str,
    typer.Option("--stages", help="Tensors to dump, separated by commas.", rich_help_panel=OUTPUT),
]
ListFaults = Annotated[
    bool,
    typer.Option(
        "--list-faults",
        callback=_list_faults,
        is_eager=True,
        help="Print the names of all faults, a line each, and stop.",
        rich_help_panel=DO,
    ),
]
Describe = Annotated[
    bool,
    typer.Option(
        "--describe/--no-describe",
        help="Write the faults beside the dumps, to OUT/faults.json.",
        rich_help_panel=OUTPUT,
    ),
]


def simulate(
    photos: Photos,
    out: DumpsOut,
    faults: Faults = None,
    device_noise: Noise = "",
    stages: Stages = ALL_STAGES,
    list_faults: ListFaults = False,
    describe: Describe = True,
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    json: JsonOption = None,
) -> None:
    """Make device dumps with known faults, to try panokit validate and its thresholds.

    Example: panokit simulate photos/ --fault bgr --out dumps

    Without --fault the device is healthy. The dumps look as a phone's would; nothing in them tells
    the fault.
    """
    kept = _stages(stages)
    segmenter = Segmenter.open(bundle, artifact)
    if not isinstance(segmenter.bundle.manifest.postprocessing, PostprocessConfig):
        _simulate_contract(segmenter, photo_paths(photos), faults or [], kept, out, json)
        return
    injected = [fault(name) for name in faults or ()]
    for f, _ in injected:
        if not f.occurs_on(segmenter.artifact.outputs["semantic"].scale is not None):
            expected = f"one that {segmenter.artifact.name} can have ({f.precision} artifacts do)"
            raise ArgumentError("--fault", f"fault {f.name!r} does not fit; expected {expected}")
    device = Simulator(segmenter, parse_noise(device_noise))
    written, skipped = _write_dumps(device, photo_paths(photos), injected, kept, out)
    described = {
        "faults": [{"name": f.name, "variant": v.label, "title": f.title} for f, v in injected],
        "device_noise": device.noise.label,
        "artifact": segmenter.artifact.name,
        "dumps": written,
        "skipped": [str(s) for s in skipped.values()],
    }
    if describe:
        write_json(out / "faults.json", described)
    if json:
        write_json(json, described)
    say(f"{len(written)} dump{'s' if len(written) != 1 else ''} in {out}")
    for error in skipped.values():
        note(error, label="skipped", style="red")
    if skipped:
        raise typer.Exit(2)


def _simulate_contract(
    segmenter: Segmenter,
    files: dict[str, Path],
    faults: list[str],
    stages: tuple[str, ...],
    out: Path,
    json: Path | None,
) -> None:
    """Dumps of a network of another contract, whose app makes one mistake at most."""
    if len(faults) > 1:
        raise ArgumentError(
            "--fault", f"--fault is given {len(faults)} times; expected one for this contract"
        )
    manifest = segmenter.bundle.manifest
    known = (manifest.postprocessing, manifest.preprocessing, manifest.taxonomy)
    injected = named_fault(faults[0], *known) if faults else None
    written = []
    for name in tracked(files, "simulating"):
        dump = simulate_contract(Photo.open(files[name]), segmenter, injected)
        dump = replace(dump, tensors={k: v for k, v in dump.tensors.items() if k in stages})
        target = write_dump(dump, out / f"{name}.safetensors")
        written.append({"photo": str(files[name]), "dump": str(target)})
    if json:
        told = [{"name": injected.name, "variant": injected.variant}] if injected else []
        write_json(json, {"faults": told, "artifact": segmenter.artifact.name, "dumps": written})
    say(f"{len(written)} dump{'s' if len(written) != 1 else ''} in {out}")


def _stages(text: str) -> tuple[str, ...]:
    kept = tuple(s.strip() for s in text.split(",") if s.strip())
    if not kept or any(s not in STAGES for s in kept):
        raise ArgumentError(
            "--stages", f"--stages is {text!r}; expected some of {', '.join(STAGES)}"
        )
    return kept


def _write_dumps(
    device: Simulator,
    files: dict[str, Path],
    faults: list[tuple[Fault, Variant]],
    stages: tuple[str, ...],
    out: Path,
) -> tuple[list[dict[str, Any]], dict[str, PhotoError]]:
    """Write a dump of each photo; what was written, and why photos were left out."""
    skipped: dict[str, PhotoError] = {}
    written: list[dict[str, Any]] = []
    # A stale result is that of the photo before; the first photo's is that of the last one.
    previous = _open(list(files.values())[-1], skipped) if len(files) > 1 else None
    for name in tracked(files, "simulating"):
        photo = _open(files[name], skipped)
        if photo is None:
            continue
        dump = device.simulate(photo, faults, other=previous, stages=stages)
        target = write_dump(dump, out / f"{name}.safetensors")
        written.append({"photo": str(files[name]), "dump": str(target)})
        previous = photo
    return written, skipped


def _open(path: Path, skipped: dict[str, PhotoError]) -> Photo | None:
    try:
        return Photo.open(path)
    except PhotoError as error:
        skipped[str(path)] = error
        return None
