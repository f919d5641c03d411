"""`panokit device`: dumps of devices that are not at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from panokit._files import write_json
from panokit.bundle import Bundle
from panokit.cli.console import note, say, tracked
from panokit.cli.options import (
    DO,
    ArtifactOption,
    BundleOption,
    DumpsOut,
    JsonOption,
    Photos,
)
from panokit.dump import dump_stages, write_dump
from panokit.errors import ArgumentError, PhotoError
from panokit.photo import photo_paths
from panokit.segmenter import Segmenter, Stages
from panokit_validation.arm64 import CPUS, KERNELS, EmulatedRuntime, Kernels, python_arm64

__all__ = ["device"]

device = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Dumps of devices that are not at hand, for `panokit validate`.",
)

SAME = 1e-3
"""Heads of forced half precision that lie nearer to float32's than this were computed in that."""


@device.callback()
def _group() -> None:
    """One command may become more."""


@device.command()
def arm64(
    photos: Photos,
    out: DumpsOut,
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    cpu: Annotated[
        list[str] | None,
        typer.Option(
            "--cpu",
            help=f"Processor: {', '.join(CPUS)}, or another of qemu's. Repeatable. "
            "Default: cortex-a76.",
            rich_help_panel=DO,
        ),
    ] = None,
    kernels: Annotated[
        list[str] | None,
        typer.Option(
            "--kernels",
            help="xnnpack, builtin (an app whose delegate did not load) or fp16 (half-precision "
            "sums, of float artifacts). Repeatable. Default: xnnpack.",
            rich_help_panel=DO,
        ),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Run a TFLite artifact with LiteRT's ARM64 kernels under qemu, and write dumps.

    Example: panokit device arm64 photos/ --cpu cortex-a53 --cpu cortex-a76 --out dumps

    The numbers are a phone's, the speed is not: a photo takes seconds. Needs an emulated Python
    (scripts/arm64_toolchain.py of a checkout).
    """
    python = python_arm64()
    opened = Bundle.open(bundle)
    here = Segmenter.open(opened, artifact, threads=1)
    files = photo_paths(photos)
    written: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for processor in cpu or ["cortex-a76"]:
        for kind in kernels or KERNELS[:1]:
            name = here.artifact.name
            with EmulatedRuntime(opened, name, [str(python)], processor, _known(kind)) as runtime:
                written += _dumps(here, runtime, files, out, skipped)
    say(f"{len(written)} dump{'s' if len(written) != 1 else ''} in {out}")
    for failure in skipped.values():
        note(failure, label="skipped", style="red")
    if json:
        write_json(json, {"results": written, "skipped": [*skipped.values()]})
    if skipped:
        raise typer.Exit(2)


def _dumps(
    here: Segmenter,
    runtime: EmulatedRuntime,
    files: dict[str, Path],
    out: Path,
    skipped: dict[str, str],
) -> list[dict[str, str]]:
    """Dump what ``runtime`` computes of photos; those that cannot be read go to ``skipped``."""
    segmenter = Segmenter(here.bundle, here.artifact, runtime)
    written = []
    for name in tracked(files, f"{runtime.cpu}, {runtime.kernels}"):
        try:
            stages = segmenter.stages(files[name])
        except PhotoError as error:
            skipped[name] = str(error)
            continue
        if runtime.kernels == "fp16":
            _check_half(here, stages, runtime.cpu)
        metadata = {**runtime.metadata, "photo": name}
        dump = dump_stages(stages, here.artifact, runtime.name, metadata)
        end = f"{runtime.cpu}.{runtime.kernels}.safetensors"
        target = write_dump(dump, out / f"{name}.{end}")
        written.append({**metadata, "photo": str(files[name]), "dump": str(target)})
    return written


def _known(kernels: str) -> Kernels:
    for known in KERNELS:
        if kernels == known:
            return known
    raise ArgumentError.unknown("--kernels", kernels, KERNELS)


def _check_half(here: Segmenter, stages: Stages, processor: str) -> None:
    """A processor without half precision computes in float32 and says nothing."""
    raw = here.runtime.run(stages.input_hwc)
    apart = max(float(np.abs(raw[n] - stages.raw[n]).max()) for n in raw)
    if apart < SAME:
        raise ArgumentError(
            "--kernels",
            f"--kernels is fp16, but {processor} computed in float32: nothing differs by {SAME:g}; "
            "expected a processor with half-precision arithmetic, such as cortex-a76",
        )
