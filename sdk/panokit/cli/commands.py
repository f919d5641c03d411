"""The commands of the thin SDK: segment, blur, dump, validate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from panokit import coco
from panokit._files import replacing, write_json
from panokit.cli.app import app
from panokit.dump import Dump, dump_stages, read_dump, write_dump
from panokit.errors import ArgumentError, PanokitError, PhotoError
from panokit.photo import Photo, photo_paths
from panokit.result import PanopticResult
from panokit.segmenter import Segmenter
from panokit.validation import PhotoVerdict, Verdict, validate_dump

__all__ = ["blur", "dump", "segment", "validate"]

Photos = Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")]
BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="Bundle folder; the shipped one without it.")
]
ArtifactOption = Annotated[
    str | None, typer.Option("--artifact", help="Artifact of the bundle, e.g. tflite-int8.")
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the results as JSON.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of the runtime.")]

_console = Console(stderr=True)


def _each(
    photos: dict[str, Path], what: str, failures: list[PanokitError]
) -> Iterator[tuple[str, Path]]:
    """Name and path of every photo, with progress; the loop body's errors go to ``failures``."""
    yield from track(list(photos.items()), what, console=_console, transient=True)
    for failure in failures:
        _console.print(f"[red]skipped[/red] {failure}", highlight=False, soft_wrap=True)


def _summary(result: PanopticResult) -> str:
    counts = ", ".join(f"{n} × {name}" for name, n in result.counts.items())
    stuff = ", ".join(s.category.name for s in result if not s.is_thing)
    return f"{counts or 'no objects'}" + (f"; {stuff}" if stuff else "")


@app.command()
def segment(
    photos: Photos,
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")],
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    classes: Annotated[
        str, typer.Option("--classes", help="Keep only these, e.g. person,dog.")
    ] = "",
    threads: Threads = 2,
    json: JsonOption = None,
) -> None:
    """Segment photos: for each an id map (COCO panoptic PNG + JSON) and an overlay."""
    segmenter = Segmenter.open(bundle, artifact, threads)
    wanted = tuple(c.strip() for c in classes.split(",") if c.strip())
    for name in wanted:
        segmenter.taxonomy.get(name)
    results: list[dict[str, Any]] = []
    failures: list[PanokitError] = []
    table = Table("photo", "found", title=f"{segmenter.artifact.name} → {out}")
    for name, path in _each(photo_paths(photos), "segmenting", failures):
        try:
            result = segmenter.segment(path, classes=wanted)
        except PhotoError as error:
            failures.append(error)
            continue
        png, annotation = coco.save(result, out, name)
        overlay = out / f"{name}.overlay.png"
        with replacing(overlay) as partial:
            result.overlay().save(partial)
        files = {"id_map": png.name, "coco": annotation.name, "overlay": overlay.name}
        results.append({**result.to_json(), "photo": str(path), "files": files})
        table.add_row(path.name, _summary(result))
    _finish(results, failures, table, json)


@app.command()
def blur(
    photo: Annotated[Path, typer.Argument(help="The photo.")],
    out: Annotated[Path, typer.Option("--out", help="Picture to write (.jpg, .png, .webp).")],
    strength: Annotated[float, typer.Option(min=0.0, max=1.0, help="How strong, 0..1.")] = 0.5,
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    threads: Threads = 2,
    json: JsonOption = None,
) -> None:
    """Blur the background behind the people in a photo."""
    from PIL import Image

    from panokit.effects import portrait_blur

    if out.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp"):
        raise ArgumentError("out", "a name ending in .jpg, .png or .webp", str(out))
    opened = Photo.open(photo)
    result = Segmenter.open(bundle, artifact, threads).segment(opened)
    effect = portrait_blur(opened, result, strength=strength)
    with replacing(out) as partial:
        Image.fromarray(effect.image_hwc).save(partial, quality=95)
    typer.echo(effect.message)
    if json:
        write_json(json, {"applied": effect.applied, "message": effect.message, "out": str(out)})


@app.command()
def dump(
    photos: Photos,
    out: Annotated[Path, typer.Option("--out", help="Folder for the dumps.")],
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    threads: Threads = 2,
    json: JsonOption = None,
) -> None:
    """Write what the artifact computes here, stage by stage, as device dumps."""
    segmenter = Segmenter.open(bundle, artifact, threads)
    written: list[dict[str, Any]] = []
    failures: list[PanokitError] = []
    for name, path in _each(photo_paths(photos), "dumping", failures):
        try:
            stages = segmenter.stages(path)
        except PhotoError as error:
            failures.append(error)
            continue
        made = dump_stages(stages, segmenter.artifact, segmenter.runtime.name)
        target = write_dump(made, out / f"{name}.safetensors")
        written.append({"photo": str(path), "dump": str(target)})
    typer.echo(f"{len(written)} dumps in {out}")
    _finish(written, failures, None, json)


@app.command()
def validate(
    dumps: Annotated[list[Path], typer.Argument(help="Dump files, or folders of them.")],
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    json: JsonOption = None,
) -> None:
    """Compare device dumps with the reference; exit code 0 if all agree, 1 if one does not."""
    paths = [p for d in dumps for p in (sorted(d.glob("*.safetensors")) if d.is_dir() else [d])]
    if not paths:
        raise ArgumentError("dumps", "files or folders with .safetensors dumps", "none")
    opened: dict[str | None, Segmenter] = {}
    verdicts: list[PhotoVerdict] = []
    failures: list[PanokitError] = []
    for _, path in _each({str(p): p for p in paths}, "validating", failures):
        try:
            given = read_dump(path)
            verdicts.append(validate_dump(given, _segmenter_for(given, bundle, artifact, opened)))
        except PanokitError as error:
            failures.append(error)
    table = Table("photo", "verdict", "first bad stage", "why")
    for v in verdicts:
        color = "red" if v.verdict is Verdict.FAIL else "green"
        bad = [f"{s.stage} {s.message}" for s in v.stages if s.verdict is Verdict.FAIL]
        agreeing = ", ".join(s.stage for s in v.stages if s.verdict is not Verdict.FAIL)
        figures = "\n".join(bad) or f"agree: {agreeing}"
        notes = "".join(f"\n[yellow]{w}[/yellow]" for w in v.warnings)
        verdict = f"[{color}]{v.verdict.value}[/{color}]"
        table.add_row(v.photo, verdict, v.first_bad_stage or "-", figures + notes)
    Console().print(table)
    disagree = any(v.verdict is Verdict.FAIL for v in verdicts)
    if json:
        write_json(
            json,
            {
                "verdict": "fail" if disagree or failures else "pass",
                "photos": [v.to_json() for v in verdicts],
                "refused": [str(f) for f in failures],
            },
        )
    if failures:
        raise typer.Exit(2)
    if disagree:
        raise typer.Exit(1)


def _segmenter_for(
    given: Dump, bundle: Path | None, artifact: str | None, opened: dict[str | None, Segmenter]
) -> Segmenter:
    """The segmenter of the artifact that the dump says it ran (or the one that was asked for)."""
    name = artifact or given.metadata.get("artifact")
    if name not in opened:
        opened[name] = Segmenter.open(bundle, name)
    return opened[name]


def _finish(
    results: list[dict[str, Any]],
    failures: list[PanokitError],
    table: Table | None,
    json: Path | None,
) -> None:
    """Print and write what came out; bad input among the photos makes the exit code 2."""
    if table is not None and results:
        Console().print(table)
    if json:
        write_json(json, {"results": results, "skipped": [str(f) for f in failures]})
    if failures:
        raise typer.Exit(2)
