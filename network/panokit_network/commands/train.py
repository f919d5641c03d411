"""`panokit train`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from panokit._files import write_json
from panokit._reading import read_json
from panokit.cli.console import bars, note
from panokit.cli.noise import our_log
from panokit.cli.options import DO, INPUT, OUTPUT, JsonOption, output_folder
from panokit.config import write_settings
from panokit.errors import ArgumentError
from panokit.preprocessing import sides
from panokit.taxonomy import Taxonomy
from panokit_datasets.photo_source import PhotoSource
from panokit_datasets.records import LabelledPhoto
from panokit_network.backbone import check_imagenet
from panokit_network.training.augment import opencv
from panokit_network.training.board import open_board
from panokit_network.training.cache import PhotoCache
from panokit_network.training.config import TrainConfig
from panokit_network.training.parallel import in_turn, process_group
from panokit_network.training.queries import QueryTrainer
from panokit_network.training.trainer import CHECKPOINT, Trainer, TrainResult
from panokit_network.training.validate import Validator
from panokit_network.weights import load_weights, shipped_weights_path

__all__ = ["train"]

MANY_PHOTOS = 500  # from so many on, all cores decode


Data = Annotated[
    Path,
    typer.Option(
        "--data", help="COCO-panoptic folder, or a folder of packs.", rich_help_panel=INPUT
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        help="Folder of the run; a run goes on where it stopped.",
        callback=output_folder,
        rich_help_panel=OUTPUT,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Settings: a JSON file, or one that comes with Panokit: camera, camera-pseudo, "
        "camera-refine, camera-gpu, camera-queries, camera-detector.",
        rich_help_panel=DO,
    ),
]
TaxonomyOption = Annotated[
    Path | None,
    typer.Option(
        "--taxonomy",
        help="Taxonomy file (JSON). Default: taxonomy.json in DATA.",
        rich_help_panel=INPUT,
    ),
]
TrainSplits = Annotated[
    str,
    typer.Option(
        "--train",
        help="Splits to train on, separated by commas. Default: all that end in _train.",
        rich_help_panel=INPUT,
    ),
]
ValidationSplits = Annotated[
    str,
    typer.Option(
        "--validate",
        help="Splits to validate on, separated by commas. Default: none.",
        rich_help_panel=INPUT,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="Leave a source out. Repeatable.", rich_help_panel=INPUT),
]
Pseudo = Annotated[
    Path | None,
    typer.Option(
        "--pseudo",
        help="Folder of pseudo-labels that go before those in DATA.",
        rich_help_panel=INPUT,
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="Folder for decoded photos, which may be shared by runs. Default: OUT/cache.",
        callback=output_folder,
        rich_help_panel=OUTPUT,
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers", min=0, help="Processes that load and augment photos.", rich_help_panel=DO
    ),
]
StopAfter = Annotated[
    int | None,
    typer.Option("--stop-after", min=1, help="Stop after so many steps.", rich_help_panel=DO),
]
Minutes = Annotated[
    float | None,
    typer.Option("--minutes", min=0, help="Stop after so many minutes.", rich_help_panel=DO),
]
Imagenet = Annotated[
    bool,
    typer.Option(help="Start the backbone from its ImageNet weights.", rich_help_panel=DO),
]
Init = Annotated[
    Path | None,
    typer.Option(
        "--init",
        help="Weight file to start from; the word camera means the one that comes with Panokit. "
        "Settings that name no network train the file's.",
        rich_help_panel=DO,
    ),
]
Backbone = Annotated[
    Path | None,
    typer.Option(
        "--backbone", help="Weight file that the backbone alone starts from.", rich_help_panel=DO
    ),
]


def train(
    data: Data,
    out: Out,
    config: Config = None,
    taxonomy: TaxonomyOption = None,
    train_splits: TrainSplits = "",
    validation_splits: ValidationSplits = "",
    exclude: Exclude = None,
    pseudo: Pseudo = None,
    cache: Cache = None,
    workers: Workers = 1,
    stop_after: StopAfter = None,
    minutes: Minutes = None,
    imagenet: Imagenet = True,
    init: Init = None,
    backbone: Backbone = None,
    json: JsonOption = None,
) -> None:
    """Train a panoptic network on your own photos.

    Example: panokit train --data my-photos --out run --validate my_val

    A run goes on where an earlier run in OUT stopped; Ctrl-C saves it (exit code 130). Several
    processes, GPUs or machines: torchrun --nproc-per-node N --no-python panokit train …
    """
    our_log(logging.INFO)
    opencv()  # what is missing is said before photos are decoded
    source = PhotoSource.open(data, taxonomy, pseudo)
    settings = _settings(config, source.taxonomy, _weights_path(init))
    imagenet = imagenet and not (out / CHECKPOINT).is_file()  # a run that goes on has its weights
    if imagenet and init is None and backbone is None:
        check_imagenet(settings.network.backbone)
    photos = [p for p in source.photos(train_splits, "_train") if p.source not in (exclude or ())]
    where = cache or out / "cache"
    with process_group() as (rank, world), _progress(rank) as bar:
        cached, validator = in_turn(
            lambda: (
                _cache(source, photos, where, bar),
                _validator(source, validation_splits, where, bar),
            )
        )
        board = open_board(out / "tensorboard") if rank == 0 else None
        kind = QueryTrainer if settings.queries else Trainer
        trainer = kind(
            settings,
            cached,
            source.taxonomy,
            out,
            validator,
            _shown_on(bar, settings),
            workers,
            imagenet,
            _weights_path(init),
            rank,
            board,
            _weights_path(backbone),
        )
        result = _run(trainer, stop_after, minutes)
        if board:
            board.close()
    if rank == 0:
        note(f"{result.samples} samples in {result.step} steps; weights {result.weights}")
    if rank == 0 and json:
        write_json(json, write_settings(result) | {"processes": world, "skipped": cached.skipped})
    if result.interrupted:  # a script must not take the run for finished
        raise typer.Exit(130)
    if cached.skipped:
        raise typer.Exit(2)


def _run(trainer: Trainer, stop_after: int | None, minutes: float | None) -> TrainResult:
    """Train on from where an earlier run in this folder stopped."""
    first = trainer.rank == 0
    if first:
        write_json(trainer.out / "config.json", trainer.config.to_json())
    if trainer.resume() and first:
        note(f"resumed {trainer.out / CHECKPOINT} at step {trainer.step}")
    return trainer.run(stop_after, minutes)


def _settings(config: Path | None, taxonomy: Taxonomy, init: Path | None) -> TrainConfig:
    """Those of the file; a network that it does not name is that of the weights to start from."""
    path = _config_path(config) if config else None
    settings = TrainConfig.load(path) if path else TrainConfig()
    if init and not (path and "network" in read_json(path)) and not settings.queries:
        settings = replace(settings, network=load_weights(init)[1].network)
    if settings.network.classes != len(taxonomy):
        got = f"{settings.network.classes} classes for a taxonomy of {len(taxonomy)}"
        raise ArgumentError(
            "network.classes", f"network.classes is {got}; expected the number of categories"
        )
    return settings


def _shown_on(bar: Progress, settings: TrainConfig) -> Callable[[dict[str, Any]], None]:
    """What shows each step's figures on a progress bar."""
    task = bar.add_task("training", total=settings.total_samples)

    def show(figures: dict[str, Any]) -> None:
        width, height = sides(figures["size"])
        text = f"{width}x{height}  loss {figures['total']:.3f}"
        bar.update(task, completed=figures["samples"], description=text)

    return show


def _config_path(given: Path) -> Path:
    """A config file, or one of the package's own by its bare name."""
    own = Path(str(resources.files("panokit_network") / "configs" / f"{given.name}.json"))
    return own if given.name == str(given) and not given.is_file() and own.is_file() else given


def _weights_path(given: Path | None) -> Path | None:
    """A weight file; ``camera`` means the shipped one, unless there is a file of that name."""
    shipped = given == Path("camera") and not given.is_file()
    return shipped_weights_path() if shipped else given


def _cache(
    source: PhotoSource, photos: list[LabelledPhoto], where: Path, bar: Progress
) -> PhotoCache:
    def progress(items: Iterable[LabelledPhoto]) -> Iterable[LabelledPhoto]:
        return bar.track(list(items), description="decoding photos")

    processes = _processes(len(photos))
    cached = PhotoCache.build(photos, source.taxonomy, where, progress, processes)
    for reason in cached.skipped:
        note(reason, label="skipped", style="yellow")
    return cached


def _validator(source: PhotoSource, splits: str, where: Path, bar: Progress) -> Validator | None:
    if not splits:
        return None
    named = {n: _cache(source, source.split(n), where, bar) for n in source.splits(splits)}
    return Validator(named, source.taxonomy)


def _processes(photos: int) -> int:
    """All cores for many photos; for a few, starting processes takes longer than the work."""
    return os.cpu_count() or 1 if photos > MANY_PHOTOS else 1


def _progress(rank: int) -> Progress:
    torch.set_flush_denormal(True)  # denormals slow CPUs down and carry no information
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=bars(),
        disable=rank > 0,
    )
