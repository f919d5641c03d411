"""`panokit dataset`: look after labelled photos."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from panokit._files import write_json
from panokit.cli.console import Grid, note, say, show, tracked
from panokit.cli.options import DO, INPUT, OUTPUT, JsonOption, output_file, output_folder
from panokit.errors import ArgumentError, DataError, UsageError
from panokit_datasets.classes import ClassList, class_list_names
from panokit_datasets.conversion import convert as convert_split
from panokit_datasets.drawing import write_contact_sheet, write_page
from panokit_datasets.inspection import Inspection, Place, inspect
from panokit_datasets.mapping import ClassMapping
from panokit_datasets.packs import write_packs
from panokit_datasets.photo_source import PhotoSource
from panokit_datasets.problems import KINDS
from panokit_datasets.reader import Options
from panokit_datasets.readers import find_datasets, kinds, open_dataset, writers
from panokit_datasets.readers._json import JsonReader
from panokit_datasets.splitting import joined, stratified

__all__ = ["dataset"]

MANY_PHOTOS = 500  # from so many on, all cores work
TOLD_ON_SCREEN = 5  # problems of one kind that are shown; --json holds more

dataset = typer.Typer(
    name="dataset",
    add_completion=False,
    no_args_is_help=True,
    help="Look after labelled photos: what a data set holds, what is wrong with it, other layouts.",
)

Data = Annotated[Path, typer.Argument(help="Folder of a data set, or its JSON file.")]
Splits = Annotated[
    list[str] | None,
    typer.Option("--split", help="Split. Repeatable. Default: all.", rich_help_panel=INPUT),
]
OneSplit = Annotated[
    str | None,
    typer.Option(
        "--split", help="Split. It may be left out where there is one.", rich_help_panel=INPUT
    ),
]
Kind = Annotated[
    str | None,
    typer.Option(
        "--kind",
        help="Kind of data set, where a folder looks like several: " + ", ".join(kinds()) + ".",
        rich_help_panel=INPUT,
    ),
]
Layout = Annotated[
    Path | None,
    typer.Option(
        help="File that says how photos and label PNGs of your own lie. Default: "
        "panokit-dataset.json in DATA.",
        rich_help_panel=INPUT,
    ),
]
EveryClass = Annotated[
    bool,
    typer.Option(
        "--every-class",
        help="With the classes that the set's evaluation leaves out.",
        rich_help_panel=INPUT,
    ),
]
CrowdMeansMask = Annotated[
    bool,
    typer.Option(
        "--crowd-means-mask",
        help="Crowds are single objects, as CVAT writes brush masks.",
        rich_help_panel=INPUT,
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        min=0,
        help="Processes. 0: as many as there are cores, if there are many photos.",
        rich_help_panel=DO,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option("--ray", help="Address of a Ray cluster, or local.", rich_help_panel=DO),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        help="File to keep what is done in; a run that was interrupted goes on from it.",
        callback=output_file,
        rich_help_panel=OUTPUT,
    ),
]


@dataset.callback()
def _dataset() -> None:
    """Commands of data sets."""


@dataset.command()
def info(
    data: Data,
    split: Splits = None,
    kind: Kind = None,
    layout: Layout = None,
    every_class: EveryClass = False,
    crowd_means_mask: CrowdMeansMask = False,
    workers: Workers = 0,
    ray: Ray = None,
    resume: Resume = None,
    json_path: JsonOption = None,
) -> None:
    """Say what a data set holds: photos, sizes, pixels and instances of each class.

    Example: panokit dataset info cityscapes --split val
    """
    places = _places(data, split, kind, Options(every_class, crowd_means_mask, layout))
    found = _inspected(places, False, False, workers, ray, resume)
    _show_counts(found, places)
    _show_problems(found, details=False)
    if json_path is not None:
        write_json(json_path, found.to_json())


@dataset.command()
def check(
    data: Data,
    split: Splits = None,
    kind: Kind = None,
    layout: Layout = None,
    every_class: EveryClass = False,
    crowd_means_mask: CrowdMeansMask = False,
    duplicates: Annotated[
        bool,
        typer.Option(
            "--duplicates/--no-duplicates",
            help="Compare photos with each other, across the splits too.",
            rich_help_panel=DO,
        ),
    ] = True,
    workers: Workers = 0,
    ray: Ray = None,
    resume: Resume = None,
    json_path: JsonOption = None,
) -> None:
    """Find what is wrong with a data set, by file and kind, with what mends it.

    Example: panokit dataset check my-photos --json problems.json
    Exit code 0: no errors. 1: errors were found. 2: it cannot be read at all.
    """
    places = _places(data, split, kind, Options(every_class, crowd_means_mask, layout))
    found = _inspected(places, True, duplicates, workers, ray, resume)
    _show_problems(found, details=True)
    if json_path is not None:
        write_json(json_path, found.to_json())
    photos = f"{found.readable} of {found.photos} photos can be used"
    if found.errors:
        say(f"{found.errors} errors; {photos}", label="wrong", style="bold red")
        raise typer.Exit(1)
    say(f"no errors; {photos}", label="right", style="bold green")


@dataset.command()
def convert(
    data: Data,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="Kind of data set to write: " + ", ".join(writers()) + ".",
            rich_help_panel=DO,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="Folder to write it to.", callback=output_folder, rich_help_panel=OUTPUT
        ),
    ],
    split: Splits = None,
    kind: Kind = None,
    layout: Layout = None,
    every_class: EveryClass = False,
    crowd_means_mask: CrowdMeansMask = False,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            help="Classes to write: a taxonomy file, or one of "
            + ", ".join(class_list_names())
            + ". Default: those of DATA, or of the kind that is written.",
            rich_help_panel=DO,
        ),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            "--map",
            help="File that says which class becomes which. Default: by Panokit's own mappings.",
            rich_help_panel=DO,
        ),
    ] = None,
    workers: Workers = 0,
    ray: Ray = None,
) -> None:
    """Write a data set in another layout, and in other classes.

    Example: panokit dataset convert cityscapes --to coco-panoptic --classes camera --out street
    A conversion that was interrupted goes on where it stopped.
    """
    target = _class_list(classes)
    bound = _bound_classes(to)
    every = every_class or (target.name if target else bound) == "camera"
    places = _places(data, split, kind, Options(every, crowd_means_mask, layout))
    failed = 0
    for place in places:
        result = convert_split(
            place,
            to,
            out,
            target=target,
            mapping_file=mapping,
            processes=_processes(workers, [place]),
            ray=ray,
            progress=partial(_tracked, f"converting {place.split}"),
        )
        for problem in result.problems[:TOLD_ON_SCREEN]:
            note(f"{problem.path}: {problem.reason}", label="left out", style="yellow")
        if result.unmapped:
            few = ", ".join(result.unmapped[:12]) + ("…" if len(result.unmapped) > 12 else "")
            note(f"{len(result.unmapped)} classes have no counterpart and become void: {few}")
        say(f"{place.split}: {result.photos} photos written, {len(result.problems)} left out")
        failed += len(result.problems)
    if failed:
        raise typer.Exit(1)


@dataset.command()
def view(
    data: Data,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="A .png file for a sheet of pictures, or a new folder for a page.",
            rich_help_panel=OUTPUT,
        ),
    ],
    split: OneSplit = None,
    kind: Kind = None,
    layout: Layout = None,
    every_class: EveryClass = False,
    crowd_means_mask: CrowdMeansMask = False,
    limit: Annotated[
        int, typer.Option(min=1, help="Photos, spread over the split.", rich_help_panel=DO)
    ] = 48,
) -> None:
    """Draw photos under their labels: a sheet of pictures, or a page to look through.

    Example: panokit dataset view my-photos --out labels.png
    """
    options = Options(every_class, crowd_means_mask, layout)
    reader = open_dataset(data, split, kind, options, lambda _: None)
    step = max(1, len(reader) // limit)
    indices = list(range(0, len(reader), step))[:limit]
    if out.suffix.lower() == ".png":
        write_contact_sheet(out, reader, indices, lambda items: tracked(items, "drawing"))
    elif out.is_dir() and any(out.iterdir()) and not (out / "index.html").is_file():
        raise UsageError(f"--out names the folder {out}, which holds other files; name a new one.")
    else:
        out = write_page(out, reader, indices, lambda items: tracked(items, "drawing"))
    say(out)


@dataset.command()
def split(
    data: Data,
    parts: Annotated[
        str,
        typer.Option(
            help="Parts and the share of each, such as train=0.8,val=0.2.", rich_help_panel=DO
        ),
    ] = "train=0.8,val=0.2",
    split: OneSplit = None,
    kind: Kind = None,
    layout: Layout = None,
    seed: Annotated[int, typer.Option(help="Another seed, another draw.", rich_help_panel=DO)] = 0,
    workers: Workers = 0,
    ray: Ray = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for the JSON of each part. Default: beside the JSON that is split.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
) -> None:
    """Divide the photos of a COCO JSON into parts with their share of every class.

    Example: panokit dataset split my-photos --parts train=0.8,val=0.2
    Photos of one sequence, and photos that look the same, stay together. Other kinds of data sets
    are converted to coco-panoptic first.
    """
    shares = _shares(parts)
    (place,) = _places(data, None if split is None else [split], kind, Options(layout=layout), 1)
    reader = open_dataset(place.root, place.split, place.kind, place.options)
    if not isinstance(reader, JsonReader):
        raise UsageError(
            f"{data} is {reader.title}; convert it first: panokit dataset convert {data} "
            "--to coco-panoptic --out FOLDER"
        )
    path = reader.index.path
    found = inspect(
        [place],
        keep=True,
        processes=_processes(workers, [place]),
        ray=ray,
        progress=partial(_tracked, "reading"),
    )
    facts = found.facts
    units = joined(
        [f.origin or reader.group(f.place) for f in facts],
        [f.digest for f in facts],
        [f.difference for f in facts],
    )
    chosen = stratified([f.channels for f in facts], units, shares, seed)
    folder = path.parent if out is None else out
    targets = {name: folder / f"{path.stem}_{name}.json" for name in shares}
    there = [str(p) for p in targets.values() if p.exists()]
    if there:
        raise UsageError(f"{there[0]} is there already; remove it, or name another folder by --out")
    table = Grid(("part", "photos", "share"), right=("photos", "share"))
    for name, target in targets.items():
        indices = [f.place for f, c in zip(facts, chosen, strict=True) if c == name]
        reader.write_subset(indices, target)
        table.add(name, len(indices), f"{len(indices) / max(1, len(facts)):.1%}")
    show(table)
    left = found.photos - len(facts)
    if left:
        note(f"{left} photos cannot be read and are in no part; `panokit dataset check` says why")


@dataset.command()
def classes(
    name: Annotated[
        str,
        typer.Argument(help="A taxonomy file, or one of " + ", ".join(class_list_names()) + "."),
    ],
    to: Annotated[
        str | None,
        typer.Option("--to", help="Show what becomes of them there.", rich_help_panel=DO),
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """List the classes of a data set, or what becomes of them in another.

    Example: panokit dataset classes cityscapes --to camera --json mapping.json
    The JSON of a mapping is what `panokit dataset convert --map` reads: change it as you like.
    """
    source = _class_list(name)
    assert source is not None
    target = _class_list(to)
    mapping = ClassMapping.between(source, target) if target else None
    headings = ("id", "in files", "class", "is") + (("becomes", "as") if mapping else ())
    table = Grid(headings, title=source.title, right=("id", "in files"))
    for c in source.classes:
        kind = "thing" if c.category.is_thing else "stuff"
        kind += "" if c.evaluate else ", not evaluated"
        row: list[Any] = [c.category.id, c.source_id, c.category.name, kind]
        if mapping is not None and target is not None:
            rule = mapping.rules.get(c.category.name)
            there = rule is not None and rule.channel >= 0
            found = target.taxonomy.categories[rule.channel].name if rule and there else "-"
            row += [found, rule.how if rule and there else "void"]
        table.add(*row)
    show(table)
    if json_path is not None:
        write_json(json_path, mapping.to_json() if mapping else source.taxonomy.to_json())


@dataset.command()
def pack(
    data: Annotated[Path, typer.Argument(help="COCO-panoptic folder.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="Folder for the packs; a new one.",
            callback=output_folder,
        ),
    ],
    splits: Annotated[
        str, typer.Option("--splits", help="Splits, comma separated. Default: all *_train.")
    ] = "",
    validation_splits: Annotated[
        str, typer.Option("--validate", help="Splits to validate on, comma separated.")
    ] = "",
    pseudo: Annotated[
        Path | None,
        typer.Option("--pseudo", help="Folder of pseudo-labels that go before those in DATA."),
    ] = None,
    side: Annotated[int, typer.Option(help="Longest side of a photo, pixels.")] = 320,
    quality: Annotated[int, typer.Option(help="WebP quality, 1 to 100.")] = 80,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Photos of each split; all by default.")
    ] = None,
) -> None:
    """Pack photos and labels into a few files to train from on another machine.

    Example: panokit dataset pack my-photos --out packs --validate my_val
    Then, there: panokit train --data packs --validate my_val --out run
    """
    source = PhotoSource.open(data, None, pseudo)
    names = source.splits(splits, "_train")
    names += source.splits(validation_splits) if validation_splits else []
    photos = [(n, p) for n in names for p in source.split(n)[:limit]]
    processes = os.cpu_count() or 1 if len(photos) > MANY_PHOTOS else 1
    paths, skipped = write_packs(
        tracked(photos, "packing photos"), source.taxonomy, out, side, quality, processes=processes
    )
    for reason in skipped:
        note(reason, label="skipped", style="yellow")
    size = sum(p.stat().st_size for p in paths) / 2**20
    note(f"{len(photos) - len(skipped)} photos in {len(paths)} packs, {size:.1f} MiB")
    if skipped:
        raise typer.Exit(2)


# ------------------------------------------------------------------------------------------ helpers


def _bound_classes(to: str) -> str:
    """The class list that a kind is bound to, or nothing; an unknown kind is told."""
    if to not in writers():
        raise ArgumentError.unknown("kind of data set", to, writers())
    return writers()[to].class_list


def _places(
    data: Path,
    splits: list[str] | None,
    kind: str | None,
    options: Options,
    most: int | None = None,
) -> list[Place]:
    """The splits that are asked for."""
    if kind is not None and kind not in kinds():
        raise ArgumentError.unknown("kind of data set", kind, kinds())
    found = find_datasets(data, options)
    chosen = {k: s for k, s in found.items() if kind in (None, k.kind)}
    if not chosen:
        open_dataset(data, None, kind, options)  # says what is known
    reader, there = next(iter(chosen.items()))
    wanted = splits or there
    unknown = [s for s in wanted if s not in there]
    if unknown:
        raise DataError(data, f"no split {unknown[0]!r}; splits here: {', '.join(there)}")
    if most is not None and len(wanted) > most:
        raise DataError(data, f"has several splits; say which by --split: {', '.join(there)}")
    others = [k.kind for k in found if k is not reader]
    if others and kind is None:
        note(f"read as {reader.kind}; --kind reads it as {' or '.join(others)}")
    return [Place(data, s, reader.kind, options) for s in wanted]


def _processes(workers: int, places: Iterable[Place]) -> int:
    if workers:
        return workers
    photos = sum(len(open_dataset(p.root, p.split, p.kind, p.options, _quiet)) for p in places)
    return os.cpu_count() or 1 if photos > MANY_PHOTOS else 1


def _tracked(what: str, items: Iterable[Any], total: int) -> Iterable[Any]:
    return tracked(items, what, total)


def _quiet(_: object) -> None:
    """A collector that lets everything go by."""


def _inspected(
    places: list[Place],
    decode: bool,
    duplicates: bool,
    workers: int,
    ray: str | None,
    resume: Path | None,
) -> Inspection:
    return inspect(
        places,
        decode=decode,
        duplicates=duplicates,
        processes=_processes(workers, places),
        ray=ray,
        journal=resume,
        progress=partial(_tracked, "reading"),
    )


def _show_counts(found: Inspection, places: list[Place]) -> None:
    reader = kinds()[places[0].kind]
    splits = ", ".join(f"{name} {n}" for name, n in found.splits.items())
    say(f"{reader.title}: {found.photos} photos ({splits})")
    table = Grid(
        ("class", "photos", "instances", "crowds", "pixels"),
        right=("photos", "instances", "crowds", "pixels"),
    )
    total = max(1, found.pixels)
    for name, c in sorted(found.classes.items(), key=lambda item: -item[1].pixels):
        if c.photos:
            share = f"{c.pixels / total:.2%}"
            table.add(name, c.photos, c.instances or "-", c.crowds or "-", share)
    table.add("void", "", "", "", f"{found.void / total:.2%}")
    show(table)
    absent = [name for name, c in found.classes.items() if not c.photos]
    if absent:
        say(f"not in any photo: {', '.join(absent)}")
    if found.sizes:
        widths = [w for w, _ in found.sizes]
        heights = [h for _, h in found.sizes]
        (w, h), n = found.sizes.most_common(1)[0]
        say(
            f"sizes: {min(widths)} to {max(widths)} wide, {min(heights)} to {max(heights)} high; "
            f"most often {w} x {h} ({n} photos)"
        )
    if found.covered:
        say(f"{found.covered / total:.2%} of the pixels belong to more than one object")


def _show_problems(found: Inspection, details: bool) -> None:
    if not found.counts:
        return
    order = {"error": 0, "warning": 1, "note": 2}
    styles = {"error": "bold red", "warning": "yellow", "note": ""}
    counted = sorted(found.counts.items(), key=lambda c: (order[KINDS[c[0]].severity], -c[1]))
    table = Grid(("problem", "times", "is", "what mends it"), right=("times",),
                 wraps=("what mends it",))  # fmt: skip
    for kind, n in counted:
        severity = KINDS[kind].severity
        table.add(kind, n, (severity, styles[severity]), KINDS[kind].fix)
    show(table)
    if not details:
        return
    for kind, n in counted:
        told = [p for p in found.problems if p.kind == kind][:TOLD_ON_SCREEN]
        for problem in told:
            say(f"{problem.path}: {problem.reason}", label=kind, style=styles[problem.severity])
        if n > len(told):
            say(f"… and {n - len(told)} more", label=kind)


def _class_list(name: str | None) -> ClassList | None:
    """A class list by its name, or from a file."""
    if name is None:
        return None
    if name in class_list_names():
        return ClassList.named(name)
    path = Path(name)
    if path.suffix == ".json" or path.is_file():
        return ClassList.load(path).recognized()
    return ClassList.named(name)  # says what is known


def _shares(text: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        try:
            shares[name.strip()] = float(share)
        except ValueError:
            shares = {}
            break
    plain = all(n and all(c.isalnum() or c in "-_" for c in n) for n in shares)
    if not shares or not plain or not all(0 < s < 1e6 for s in shares.values()):
        raise UsageError(f"--parts is {text!r}; expected names and shares, as in train=0.8,val=0.2")
    return shares
