"""The command ``panokit annotate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from panokit._files import write_json
from panokit.cli.console import Grid, note, say, show, tracked
from panokit.cli.options import DO, INPUT, OUTPUT, ArtifactOption, BundleOption, JsonOption, Threads
from panokit.errors import MissingExtraError, UsageError
from panokit.photo import Photo, photo_paths
from panokit.taxonomy import Taxonomy
from panokit_datasets.annotation.agreement import measure_agreement
from panokit_datasets.annotation.operations import Labels
from panokit_datasets.annotation.project import AnnotationProject, Propose
from panokit_datasets.classes import ClassList, class_list_names
from panokit_datasets.mapping import ClassMapping
from panokit_datasets.reader import Truth
from panokit_datasets.truth import TruthSegment

if TYPE_CHECKING:
    from panokit.segmenter import Segmenter

__all__ = ["annotate"]


def annotate(
    photos: Annotated[
        list[Path] | None, typer.Argument(help="Photos, or folders of photos.")
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder of the labels, in our layout.", rich_help_panel=OUTPUT),
    ] = Path("labels"),
    annotator: Annotated[
        str,
        typer.Option(
            "--annotator",
            help="Who labels: the name of the split that the labels go to.",
            rich_help_panel=OUTPUT,
        ),
    ] = "labels",
    bundle: BundleOption = None,
    artifact: ArtifactOption = None,
    empty: Annotated[
        bool,
        typer.Option("--empty", help="Begin with nothing labelled.", rich_help_panel=INPUT),
    ] = False,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            help="Classes to label: a taxonomy file, or one of "
            + ", ".join(class_list_names())
            + ". Default: the bundle's.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    agreement: Annotated[
        str,
        typer.Option(
            "--agreement",
            help="Compare the labels of two annotators in OUT, as in anna,ben, and end.",
            rich_help_panel=DO,
        ),
    ] = "",
    take_proposals: Annotated[
        bool,
        typer.Option(
            "--take-proposals",
            help="Write what the network proposes as labels of all photos that are not done, and "
            "end without a page.",
            rich_help_panel=DO,
        ),
    ] = False,
    port: Annotated[
        int, typer.Option("--port", help="Port of the page. 0: a free one.", rich_help_panel=DO)
    ] = 8010,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="Address to listen at. The default is this computer alone.",
            rich_help_panel=DO,
        ),
    ] = "127.0.0.1",
    browser: Annotated[
        bool,
        typer.Option(
            "--browser/--no-browser", help="Open the page in the browser.", rich_help_panel=DO
        ),
    ] = True,
    threads: Threads = 2,
    json: JsonOption = None,
) -> None:
    """Label photos by hand in a page, from what a network proposes.

    Example: panokit annotate my-photos --out my-labels

    Every step is on the disk at once; the next call goes on where this one ended. OUT is a COCO
    panoptic folder that `panokit train`, `evaluate` and `dataset convert` read.
    """
    if agreement:
        _compare(out, agreement, json)
        return
    if not photos:
        raise UsageError("Give photos, or folders of photos; --agreement compares two annotators.")
    if not take_proposals:
        _check_extra()
    from panokit.segmenter import Segmenter

    found = photo_paths(photos, leave_out=(out,))
    segmenter = None if empty and classes else Segmenter.open(bundle, artifact, threads)
    wanted = _classes(classes, segmenter)
    project = AnnotationProject(out, found, wanted.taxonomy, _proposer(segmenter, wanted, empty),
                                annotator)  # fmt: skip
    note(f"{len(project)} photos, {len(project.done)} of them done, in {out}")
    if take_proposals:
        for index in tracked(set(range(len(project))) - set(project.done), "proposing"):
            project.finish(index)
    else:
        _serve(project, host, port, browser)
    say(f"{len(project.done)} of {len(project)} photos are done, in {out}")


def _check_extra() -> None:
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise MissingExtraError("`panokit annotate`", "demo") from None


def _serve(project: AnnotationProject, host: str, port: int, browser: bool) -> None:
    from panokit_demo.annotate_server import create_annotate_app
    from panokit_demo.server import LOOPBACK, serve

    if host not in LOOPBACK:
        note(f"Everybody who reaches {host} can change the labels.", style="yellow")
    app = create_annotate_app(project, hosts=LOOPBACK | {host.lower()})

    def announce(url: str) -> None:
        say(f"Panokit annotate at {url} (Ctrl-C ends it)")

    serve(app, host, port, announce=announce, browser=browser)


def _classes(given: str | None, segmenter: Segmenter | None) -> ClassList:
    if given is None:
        assert segmenter is not None  # without classes there is a network
        return ClassList.of(segmenter.taxonomy).recognized()
    if given in class_list_names():
        return ClassList.named(given).evaluated
    return ClassList.of(Taxonomy.load(given)).recognized()


def _proposer(segmenter: Segmenter | None, wanted: ClassList, empty: bool) -> Propose:
    """What a photo's labels begin with."""

    def nothing(photo: Photo) -> Labels:
        w, h = photo.size_wh
        return Labels(np.zeros((h, w), np.int32), {}, {})

    if segmenter is None or empty:
        return nothing
    source = ClassList.of(segmenter.taxonomy).recognized()
    mapping = None
    if segmenter.taxonomy.categories != wanted.taxonomy.categories:
        mapping = ClassMapping.between(source, wanted)

    def proposed(photo: Photo) -> Labels:
        result = segmenter.segment(photo)
        segments = {
            s.id: TruthSegment(s.id, segmenter.taxonomy.channel(s.category.id), s.is_thing)
            for s in result
        }
        scores = {s.id: round(s.score, 4) for s in result}
        if mapping is None:
            return Labels(result.id_map, segments, scores)
        truth = mapping.apply(Truth(result.id_map, tuple(segments.values())))
        return Labels(truth.ids, {s.id: s for s in truth.segments}, {})

    return proposed


def _compare(out: Path, names: str, json: Path | None) -> None:
    parts = [n.strip() for n in names.split(",")]
    if len(parts) != 2 or not all(parts):
        raise UsageError(f"--agreement is {names!r}; expected two annotators, as in anna,ben")
    found = measure_agreement(out, *parts)
    table = Grid(("figure", "value"), title=f"{names}: {found.photos} photos", right=("value",))
    table.add("PQ, either as the truth", "-" if found.pq is None else f"{found.pq:.1f}")
    table.add("kappa of the pixels' classes", "-" if found.kappa is None else f"{found.kappa:.3f}")
    table.add("pixels of the same class", f"{found.pixels:.1%}")
    for name, value in sorted(found.per_class.items(), key=lambda c: c[1] or 0.0):
        table.add(f"PQ {name}", "-" if value is None else f"{value:.1f}")
    show(table)
    least = [n for n, v in found.per_photo.items() if v is not None][:5]
    if least:
        say(f"agree least: {', '.join(least)}")
    if json is not None:
        write_json(json, found.to_json())
