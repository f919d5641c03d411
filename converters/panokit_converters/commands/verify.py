"""`panokit verify`, `panokit bisect` and `panokit lint`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from panokit._files import write_json
from panokit.bundle import Artifact, Bundle
from panokit.cli.console import Cell, Grid, note, show, working
from panokit.cli.options import DO, INPUT, JsonOption, Threads
from panokit.dump import read_dump
from panokit.errors import ArgumentError, MissingExtraError, UsageError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig, preprocess
from panokit.tflite.check import check_tflite
from panokit_converters.bisect import BisectResult, bisect_traces
from panokit_converters.coreml_interpreter import CoreMLProgram
from panokit_converters.lint import LINTABLE, LintReport, Severity, lint_path
from panokit_converters.measure import load_photos
from panokit_converters.trace import (
    TRACEABLE,
    Trace,
    trace_artifact,
    trace_coreml,
    trace_tflite,
)
from panokit_converters.verify import (
    ArtifactVerdict,
    float_reference,
    verify_bundle,
)

__all__ = ["bisect", "lint", "verify"]


Photos = Annotated[
    list[Path] | None,
    typer.Option(
        "--photos", help="Photos or folders. Default: the sample photos.", rich_help_panel=INPUT
    ),
]


Chosen = Annotated[
    list[str] | None,
    typer.Option("--artifact", help="Only this one. Repeatable.", rich_help_panel=INPUT),
]
Reference = Annotated[
    Path | None,
    typer.Option(
        "--reference", help="Bundle whose float32 artifact is the reference.", rich_help_panel=INPUT
    ),
]


def verify(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="Bundle folder. Default: the bundle that comes with Panokit."),
    ] = None,
    photos: Photos = None,
    artifact: Chosen = None,
    reference: Reference = None,
    golden_only: Annotated[
        bool,
        typer.Option(
            "--golden-only", help="Check golden vectors, run no photos.", rich_help_panel=DO
        ),
    ] = False,
    bisect: Annotated[
        bool,
        typer.Option(
            "--bisect", help="Name the first bad operator of what fails.", rich_help_panel=DO
        ),
    ] = False,
    threads: Threads = 2,
    json: JsonOption = None,
) -> None:
    """Check that every artifact of a bundle computes what it should.

    Example: panokit verify my.panokit --bisect

    Each artifact is compared with its golden vectors and with the float32 artifact.
    Exit code 1: one fails.
    """
    opened = Bundle.open(bundle)
    other = _float_artifact(Bundle.open(reference)) if reference else None
    chosen = None if golden_only else _photos_here(photos)
    with working("verifying") as update:
        verdicts = verify_bundle(
            opened,
            chosen,
            reference=other,
            artifacts=artifact,
            threads=threads,
            progress=update,
        )
    _print_verdicts(opened, verdicts)
    report: dict[str, Any] = {
        "bundle": opened.manifest.name,
        "verdict": _together(verdicts),
        "photos": sorted(chosen or {}),
        "artifacts": [v.to_json() for v in verdicts],
    }
    if bisect:
        report["bisect"] = _bisect_failures(opened, verdicts, other, chosen)
    if json:
        write_json(json, report)
    if report["verdict"] != "pass":
        raise typer.Exit(1 if report["verdict"] == "fail" else 2)


def _together(verdicts: Sequence[ArtifactVerdict]) -> str:
    """The bundle's verdict: what could not be run counts only if nothing could."""
    outcomes = {v.outcome for v in verdicts}
    return "fail" if "fail" in outcomes else "pass" if "pass" in outcomes else "not run"


def _photos_here(paths: list[Path] | None) -> dict[str, Photo] | None:
    """The photos given, or the sample photos; None with a notice where none are installed."""
    try:
        return load_photos(paths)
    except MissingExtraError as error:
        note(f"{error} Golden vectors are used alone.", label="no photos:", style="yellow")
        return None


def _float_artifact(bundle: Bundle) -> tuple[Bundle, Artifact]:
    found = float_reference(bundle)
    if found is None:
        names = [a.name for a in bundle.manifest.artifacts]
        raise ArgumentError(
            "reference", f"the reference has the artifacts {names}; expected one named float32"
        )
    return found


def _print_verdicts(bundle: Bundle, verdicts: tuple[ArtifactVerdict, ...]) -> None:
    references = {v.reference for v in verdicts if v.reference}
    title = f"{bundle.root.name}, reference: {', '.join(references) or 'golden vectors only'}"
    heads = bundle.manifest.postprocessing.head_names()
    caption = f"dB of {', '.join(heads)}; equal, ties: pixels of the decoded map; s: a photo"
    figures = (f"dB {'/'.join(h[0] for h in heads)}", "equal %", "ties %", "PQ", "s")
    table = Grid(
        ("artifact", "verdict", "golden", *figures), title=title, caption=caption, right=figures
    )
    for verdict in verdicts:
        table.add(*_row(verdict))
    show(table, error=True)
    for verdict in verdicts:
        for failure in verdict.failures:
            note(failure, label=f"{verdict.artifact}:", style="red")
        if verdict.not_run:
            note(f"not run: {verdict.not_run}", label=verdict.artifact, style="yellow")
    passed = sum(v.outcome == "pass" for v in verdicts)
    photos = max((v.agreement.photos for v in verdicts if v.agreement), default=0)
    on = f", on {photos} photos" if photos else ""
    note(f"{passed} of {len(verdicts)} artifacts pass{on}")


def _row(verdict: ArtifactVerdict) -> list[Cell]:
    golden = "–"
    if verdict.golden is not None:
        exact = verdict.golden.identical
        golden = "same" if exact else f"{verdict.golden.worst_sqnr_db:.0f} dB"
    color = {"pass": "green", "fail": "red", "not run": "yellow"}[verdict.outcome]
    row: list[Cell] = [verdict.artifact, (verdict.outcome, color), golden]
    agreement = verdict.agreement
    if agreement is None:
        return [*row, *["–"] * 5]
    row.append(" ".join(f"{head.sqnr_db:.0f}" for head in agreement.heads.values()))
    panoptic = agreement.panoptic
    if panoptic is None:
        row += ["–"] * 3
    else:
        pq = "–" if panoptic.pq is None else f"{panoptic.pq:.1f}"
        row += [f"{100 * panoptic.equal_pixels:.2f}", f"{100 * panoptic.ties:.2f}", pq]
    return [*row, f"{verdict.seconds_per_photo:.2f}"]


def _bisect_failures(
    bundle: Bundle,
    verdicts: tuple[ArtifactVerdict, ...],
    reference: tuple[Bundle, Artifact] | None,
    photos: dict[str, Photo] | None,
) -> list[dict[str, Any]]:
    """Bisect every artifact that fails and can be traced, on the first photo."""
    results: list[dict[str, Any]] = []
    passing = {v.artifact for v in verdicts if v.passed}
    image: Any = None
    for verdict in verdicts:
        if verdict.passed or verdict.not_run:
            continue
        if image is None:
            image = _one_input(bundle, bundle.manifest.preprocessing.size_wh, photos)
        artifact = bundle.manifest.artifact(verdict.artifact)
        twin = reference or _sound_twin(bundle, artifact, passing)
        if twin is None or artifact.format not in TRACEABLE:
            reason = "no sound TFLite or Core ML artifact to compare it with, operator by operator"
            note(f"{artifact.name}: {reason}")
            results.append({"artifact": artifact.name, "not_done": reason})
            continue
        found = bisect_traces(
            trace_artifact(bundle, artifact, image),
            trace_artifact(*twin, image),
            artifact.precision,
            twin[1].precision,
        )
        _print_bisect(found)
        results.append(found.to_json())
    return results


def _one_input(
    bundle: Bundle | None, size_wh: tuple[int, int], photos: dict[str, Photo] | None
) -> Any:
    """An input to trace on, uint8 ``[H,W,3]``: of the first photo, of a sample photo, or where none
    is installed of the bundle's first golden vector."""
    try:
        chosen = photos or load_photos(None)
    except MissingExtraError:
        vectors = bundle.manifest.vectors if bundle else ()
        if bundle is None or not vectors:
            raise
        values = read_dump(bundle.root / vectors[0].file).tensors["input"]
        return np.clip(np.round(values), 0, 255).astype(np.uint8)
    config = bundle.manifest.preprocessing if bundle else PreprocessConfig(size_wh)
    return preprocess(next(iter(chosen.values())), config)[0]


def _sound_twin(
    bundle: Bundle, artifact: Artifact, passing: set[str]
) -> tuple[Bundle, Artifact] | None:
    """The most precise artifact that passes and is not the one in question."""
    order = ("float32", "float16")
    sound = [
        a for a in bundle.manifest.artifacts
        if a.name in passing and a.format in TRACEABLE and a != artifact
    ]  # fmt: skip
    sound.sort(key=lambda a: order.index(a.precision) if a.precision in order else len(order))
    return (bundle, sound[0]) if sound else None


def bisect(
    candidate: Annotated[
        str, typer.Argument(help="BUNDLE:ARTIFACT, or a .tflite file or .mlpackage folder.")
    ],
    reference: Annotated[
        str | None,
        typer.Argument(
            help="What to compare with, named the same way. Default: float32 of its bundle."
        ),
    ] = None,
    photo: Annotated[
        Path | None,
        typer.Option(
            "--photo", help="Photo to run. Default: the first sample photo.", rich_help_panel=INPUT
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            help="Precision of a candidate outside a bundle: float32, int8, …",
            rich_help_panel=INPUT,
        ),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Find the first operator at which an artifact goes wrong.

    Example: panokit bisect my.panokit:tflite-int8

    Exit code 1: an operator leaves the tolerance.
    """
    bundle, artifact = _open_target(candidate)
    other = _float_artifact(bundle) if reference is None and bundle else _open_target(reference)
    given = load_photos([photo]) if photo else None
    image = _one_input(bundle, _input_size(bundle, artifact), given)
    with working("running both, keeping every tensor"):
        traces = [_trace(*target, image) for target in ((bundle, artifact), other)]
    known = [a.precision if isinstance(a, Artifact) else "float32" for a in (artifact, other[1])]
    found = bisect_traces(traces[0], traces[1], precision or known[0], known[1])
    _print_bisect(found)
    if json:
        write_json(json, found.to_json())
    if found.first is not None:
        raise typer.Exit(1)


_Target = tuple[Bundle | None, Artifact | Path]


def _open_target(text: str | None) -> _Target:
    """What an argument of `panokit bisect` and `panokit lint` names."""
    if text is None:
        raise UsageError("A candidate outside a bundle needs a reference: name a second artifact.")
    path = Path(text)
    if path.suffix in (".tflite", ".mlpackage", ".onnx") and path.exists():
        return None, path
    folder, _, name = text.rpartition(":")
    if folder and not path.exists():
        bundle = Bundle.open(folder)
        return bundle, bundle.manifest.artifact(name)
    bundle = Bundle.open(path)
    return bundle, bundle.manifest.artifact(None)


def _trace(bundle: Bundle | None, artifact: Artifact | Path, image: Any) -> Trace:
    if isinstance(artifact, Artifact) and bundle is not None:
        return trace_artifact(bundle, artifact, image)
    path = Path(str(artifact))
    return (trace_coreml if path.suffix == ".mlpackage" else trace_tflite)(path, image)


def _input_size(bundle: Bundle | None, artifact: Artifact | Path) -> tuple[int, int]:
    """Width and height of the input."""
    if bundle is not None:
        return bundle.manifest.preprocessing.size_wh
    path = Path(str(artifact))
    if path.suffix == ".mlpackage":
        (feature,) = CoreMLProgram.open(path).inputs
        _, _, h, w = (size or 1 for size in feature.type.shape)
        return w, h
    graph = check_tflite(path).main
    _, h, w, _ = graph.tensors[graph.inputs[0]].shape
    return w, h


def _print_bisect(result: BisectResult) -> None:
    if result.first is None:
        note(
            f"none of {len(result.operators)} operators leaves the tolerance against "
            f"{result.reference}",
            label=f"{result.artifact}:",
            style="green",
        )
        return
    for finding in result.findings[:5]:
        note(finding, label=f"{result.artifact}:", style="red")
    if len(result.findings) > 5:
        note(f"… and {len(result.findings) - 5} more")


def lint(
    target: Annotated[
        str | None,
        typer.Argument(help="Bundle, BUNDLE:ARTIFACT, .tflite, .mlpackage or .onnx."),
    ] = None,
    photos: Photos = None,
    no_ranges: Annotated[
        bool,
        typer.Option(
            "--no-ranges", help="Look at the file only, run no photos.", rich_help_panel=DO
        ),
    ] = False,
    fail_on: Annotated[
        Severity,
        typer.Option("--fail-on", help="Exit with 1 from this severity on.", rich_help_panel=DO),
    ] = Severity.ERROR,
    json: JsonOption = None,
) -> None:
    """Find what is known to hurt on the Neural Engine, in LiteRT's delegates or in float16."""
    targets: list[_Target]
    if target is None or (Path(target) / "manifest.json").is_file():
        bundle = Bundle.open(target)
        targets = [(bundle, a) for a in bundle.manifest.artifacts if a.format in LINTABLE]
    else:
        targets = [_open_target(target)]
    chosen = None if no_ranges else _photos_here(photos)
    reports = []
    for owner, artifact in targets:
        path = owner.path(artifact) if owner and isinstance(artifact, Artifact) else artifact
        name = artifact.name if isinstance(artifact, Artifact) else Path(str(artifact)).name
        with working(f"looking at {name}"):
            reports.append(lint_path(Path(str(path)), chosen, name))
    for report in reports:
        _print_lint(report)
    if json:
        write_json(json, {"artifacts": [report.to_json() for report in reports]})
    if any(report.at_least(fail_on) for report in reports):
        raise typer.Exit(1)


_COLORS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "blue"}


def _print_lint(report: LintReport) -> None:
    counts = ", ".join(f"{n} × {op}" for op, n in report.operators.items())
    note(counts, label=f"{report.artifact}:", style="bold")
    for finding in report.findings:
        color = _COLORS[finding.severity]
        severity = f"  {finding.severity.name.lower()}"
        note(f"{finding.rule}: {finding.message}", label=severity, style=color)
        note(f"    where: {finding.place}")
        note(f"    do: {finding.advice} ({finding.source})")
    if not report.findings:
        note("  nothing known to hurt", style="green")
