"""`panokit latency`: what phones report of a bundle's speed, kept beside its correctness."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from panokit._files import write_json
from panokit.bundle import MANIFEST, Bundle
from panokit.cli.console import Grid, note, show
from panokit.cli.options import DO, INPUT, OUTPUT, BundleOption, JsonOption
from panokit.errors import ArgumentError, UsageError
from panokit_validation.history import History, SpeedRow
from panokit_validation.latency import STAGES, Latency, described, read_latency

__all__ = ["latency", "show_speed"]

SLOWER = 0.1
"""Share from which on a build that is slower is told apart."""


def latency(
    files: Annotated[list[Path], typer.Argument(help="Reports of phones' tools, or of an app.")],
    bundle: BundleOption = None,
    device: Annotated[
        str,
        typer.Option("--device", help="Device, where the file lacks it.", rich_help_panel=INPUT),
    ] = "",
    os: Annotated[
        str, typer.Option("--os", help="Its system, likewise.", rich_help_panel=INPUT)
    ] = "",
    compute_unit: Annotated[
        str,
        typer.Option("--compute-unit", help="CPU, GPU, NPU …, likewise.", rich_help_panel=INPUT),
    ] = "",
    artifact: Annotated[
        str, typer.Option("--artifact", help="Artifact that ran, likewise.", rich_help_panel=INPUT)
    ] = "",
    build: Annotated[
        str, typer.Option("--build", help="Name of the app's build.", rich_help_panel=INPUT)
    ] = "",
    span: Annotated[
        list[str] | None,
        typer.Option(
            "--span",
            help="STAGE=NAME of a trace's spans: load, preprocess, inference, postprocess.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    save: Annotated[
        bool,
        typer.Option("--save", help="Write the figures into the bundle.", rich_help_panel=DO),
    ] = False,
    history: Annotated[
        str | None,
        typer.Option(
            "--history",
            help="Database of runs: an SQLite file, or postgresql://…",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Read how fast phones were: benchmark_model, AI Hub, traces, Xcode, or an app's own report.

    Example: panokit latency benchmark.txt --device "Pixel 8" --history runs.db

    The first call, the burst after it and the sustained speed are kept apart, by stage.
    """
    opened = Bundle.open(bundle)
    spans = _spans(span or [])
    found = []
    for path in files:
        read = described(read_latency(path, spans), device, os, compute_unit, artifact, build)
        found.append(replace(read, artifact=_artifact(opened, read.artifact)))
        for remark in read.remarks:
            note(f"{path.name}: {remark}", label="careful:", style="yellow")
    _print(files, found)
    name = opened.manifest.name
    if save:
        _save(opened, found)
    if history:
        with History(history) as kept:
            for report in found:
                kept.add_latency(name, report)
            show_speed(kept.latencies(name))
    if json:
        reports = [{"file": str(f), **r.to_json()} for f, r in zip(files, found, strict=True)]
        write_json(json, {"bundle": name, "reports": reports})


def _spans(given: list[str]) -> dict[str, str]:
    spans = {}
    for text in given:
        stage, equals, name = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--span is {text!r}; expected STAGE=NAME, inference=Interpreter.run.")
        if stage not in STAGES:
            raise ArgumentError.unknown("--span", stage, STAGES)
        spans[stage] = name
    return spans


def _artifact(bundle: Bundle, told: str) -> str:
    """The bundle's name for an artifact that is told by its name or its file."""
    for artifact in bundle.manifest.artifacts:
        if told in (artifact.name, artifact.file):
            return artifact.name
    return told


def _save(bundle: Bundle, found: list[Latency]) -> None:
    """Into ``quality.latency`` of the manifest; a report of the same device, unit, artifact and
    build takes the place of the one before."""
    quality = dict(bundle.manifest.quality)
    kept: dict[tuple[Any, ...], Any] = {}
    given = quality.get("latency", [])
    for entry in [*(given if isinstance(given, list) else []), *(r.to_json() for r in found)]:
        if isinstance(entry, dict):
            names = ("source", "device", "os", "compute_unit", "artifact", "build")
            kept[tuple(str(entry.get(n, "")) for n in names)] = entry
    quality["latency"] = list(kept.values())
    manifest = replace(bundle.manifest, quality=quality)
    write_json(bundle.root / MANIFEST, manifest.to_json())


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _print(files: list[Path], found: list[Latency]) -> None:
    figures = ("first ms", "burst ms", "sustained ms", "p95 ms", "calls")
    table = Grid(("file", "device", "unit", "artifact", "stage", *figures), right=figures)
    for path, report in zip(files, found, strict=True):
        for stage, t in report.stages.items():
            where = " ".join(v for v in (report.device, report.os) if v) or "–"
            table.add(
                path.name, where, report.compute_unit or "–", report.artifact or "–", stage,
                _ms(t.first), _ms(t.burst), _ms(t.sustained), _ms(t.p95), str(t.calls or "–"),
            )  # fmt: skip
    show(table)


def show_speed(rows: list[SpeedRow]) -> None:
    """The table of speed by device and build; nothing without any."""
    if not rows:
        return
    figures = ("first ms", "burst ms", "sustained ms", "since")
    columns = ("device", "unit", "artifact", "stage", "build", *figures)
    table = Grid(columns, title="speed by device and build", right=figures)
    for row in rows:
        change = "–" if row.change is None else f"{row.change:+.0%}"
        slower = row.change is not None and row.change > SLOWER
        device = " ".join(v for v in (row.device, row.os) if v) or "–"
        table.add(
            device, row.compute_unit or "–", row.artifact or "–", row.stage, row.build or "–",
            _ms(row.first), _ms(row.burst), _ms(row.sustained),
            (change, "red") if slower else change,
        )  # fmt: skip
    show(table)
