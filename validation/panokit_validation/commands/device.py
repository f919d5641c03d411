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
    OUTPUT,
    ArtifactOption,
    BundleOption,
    JsonOption,
    Photos,
    output_folder,
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
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="Folder for the dumps.", callback=output_folder, rich_help_panel=OUTPUT
        ),
    ],
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
    chosen = opened.manifest.artifact(artifact)
    files = photo_paths(photos)
    here = Segmenter.open(opened, chosen.name, threads=1)
    runs = [(c, _known(k)) for c in cpu or ["cortex-a76"] for k in kernels or KERNELS[:1]]
    written: list[dict[str, Any]] = []
    failures: list[PhotoError] = []
    for processor, kind in runs:
        emulated = EmulatedRuntime(opened, chosen.name, [str(python)], processor, kind)
        with emulated as runtime:
            segmenter = Segmenter(opened, chosen, runtime)
            for name in tracked(files, f"{processor}, {kind}"):
                try:
                    stages = segmenter.stages(files[name])
                except PhotoError as error:
                    failures.append(error)
                    continue
                if kind == "fp16":
                    _check_half(here, stages, processor)
                metadata = {**runtime.metadata, "photo": name}
                dump = dump_stages(stages, chosen, runtime.name, metadata)
                target = write_dump(dump, out / f"{name}.{processor}.{kind}.safetensors")
                written.append({"photo": str(files[name]), "dump": str(target), **metadata})
    say(f"{len(written)} dumps in {out}")
    for failure in {str(f): f for f in failures}.values():
        note(failure, label="skipped", style="red")
    if json:
        write_json(json, {"results": written, "skipped": sorted({str(f) for f in failures})})
    if failures:
        raise typer.Exit(2)


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
