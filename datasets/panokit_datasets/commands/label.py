"""`panokit label`."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from panokit._reading import open_text
from panokit.cli.console import note, tracked
from panokit.cli.options import DO, INPUT, OUTPUT, ArtifactOption, output_folder
from panokit.errors import ArgumentError, PhotoError
from panokit.photo import Photo, photo_paths
from panokit.segmenter import Segmenter
from panokit.taxonomy import Taxonomy
from panokit_datasets.labelling import Ensemble, LabelSettings, labelled_already, write_labels

__all__ = ["label"]

PhotosFolder = Annotated[Path, typer.Argument(help="Folder of photos; its name is the source's.")]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        help="Folder that pseudo/ and person/ go into.",
        callback=output_folder,
        rich_help_panel=OUTPUT,
    ),
]
Teachers = Annotated[
    list[Path] | None,
    typer.Option(
        "--teacher",
        help="Bundle that labels. Repeatable. Default: the bundle that comes with Panokit.",
        rich_help_panel=INPUT,
    ),
]
TaxonomyOption = Annotated[
    Path | None,
    typer.Option(
        "--taxonomy",
        help="Taxonomy of the labels (JSON). Default: the first teacher's.",
        rich_help_panel=INPUT,
    ),
]
Only = Annotated[
    Path | None,
    typer.Option(
        "--only", help="Text file of file names: label only these.", rich_help_panel=INPUT
    ),
]
Mirror = Annotated[bool, typer.Option(help="Look at the mirror image as well.", rich_help_panel=DO)]
Scales = Annotated[
    str,
    typer.Option(
        help="Shares of the network's input that the photo fills, separated by commas.",
        rich_help_panel=DO,
    ),
]
LeastScore = Annotated[
    float,
    typer.Option(help="Least score of an object over all views, 0 to 1.", rich_help_panel=DO),
]
PersonMap = Annotated[
    bool,
    typer.Option(help="Write how likely each pixel is a person's.", rich_help_panel=OUTPUT),
]


def label(
    photos: PhotosFolder,
    out: Out,
    teacher: Teachers = None,
    artifact: ArtifactOption = None,
    taxonomy: TaxonomyOption = None,
    only: Only = None,
    mirror: Mirror = True,
    scales: Scales = "1,0.6",
    least_score: LeastScore = 0.15,
    person_map: PersonMap = True,
) -> None:
    """Label photos with trained networks, to train on what nobody labelled by hand.

    Example: panokit label holiday/ --teacher mine.panokit --out my-photos

    Then panokit train --data my-photos … fills in what true labels leave open. Photos that are
    labelled already are skipped, so an interrupted run goes on.
    """
    settings = LabelSettings(mirror, _numbers(scales), least_score)
    paths = _named(photos, out)
    if only is not None:
        names = _lines(only)
        paths = {n: p for n, p in paths.items() if n in names or p.name in names}
    bundles: list[Path | None] = [*teacher] if teacher else [None]
    teachers = [Segmenter.open(b, artifact) for b in bundles]
    known = Taxonomy.load(taxonomy) if taxonomy else teachers[0].taxonomy
    ensemble = Ensemble(teachers, known, settings)
    source = photos.resolve().name if photos.is_dir() else photos.resolve().parent.name
    done = labelled_already(out, source)
    taken = {_stem(name): name for name in sorted(done)}
    todo = [n for n in paths if n not in done]
    left_out = 0
    for name in tracked(todo, f"{ensemble.views} views a photo"):
        try:
            first = taken.setdefault(_stem(name), name)
            if first != name:
                raise PhotoError(paths[name], f"would have its labels in the files of {first}")
            photo = Photo.open(paths[name])
        except PhotoError as error:
            left_out += 1
            note(error, label="left out:")
            continue
        write_labels(ensemble(photo), known, out, source, name, person_map)
    note(
        f"{len(todo) - left_out} photos labelled, {len(paths) - len(todo)} were before, "
        f"{left_out} left out: {out / 'pseudo' / source}"
    )
    if left_out:
        raise typer.Exit(2)


def _named(photos: Path, out: Path) -> dict[str, Path]:
    """Photos by their path in the folder ``photos``; a single file by its name."""
    files = photo_paths([photos], leave_out=(out / "pseudo", out / "person")).values()
    if not photos.is_dir():
        return {p.name: p for p in files}
    return {p.relative_to(photos).as_posix(): p for p in files}


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _lines(path: Path) -> set[str]:
    try:
        with open_text(path) as lines:
            return {line.rstrip("\n") for line in lines}
    except (OSError, ValueError) as error:
        raise ArgumentError("only", f"--only {str(path)!r} cannot be read: {error}") from None


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ArgumentError(
            "scales", f"scales are {text!r}; expected numbers separated by commas"
        ) from None
