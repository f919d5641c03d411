"""`panokit train`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from panokit._files import write_json
from panokit.errors import ArgumentError
from panokit_datasets.photo_source import PhotoSource
from panokit_datasets.records import LabelledPhoto
from panokit_network.board import open_board
from panokit_network.cache import PhotoCache
from panokit_network.config import TrainConfig
from panokit_network.parallel import in_turn, process_group
from panokit_network.train import CHECKPOINT, Trainer
from panokit_network.validate import Validator
from panokit_network.weights import shipped_weights_path

__all__ = ["train"]

_console = Console(stderr=True)

MANY_PHOTOS = 500  # from so many on, all cores decode


def train(
    data: Annotated[
        Path, typer.Option("--data", help="COCO-panoptic folder, or a folder of packs.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    config: Annotated[
        Path | None,
        typer.Option("--config", help="JSON of a TrainConfig; or 'camera', 'camera-refine'."),
    ] = None,
    taxonomy: Annotated[
        Path | None, typer.Option("--taxonomy", help="JSON; taxonomy.json of the data otherwise.")
    ] = None,
    train_splits: Annotated[
        str, typer.Option("--train", help="Splits, comma separated; all *_train otherwise.")
    ] = "",
    validation_splits: Annotated[
        str, typer.Option("--validate", help="Splits to validate on, comma separated.")
    ] = "",
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="Leave out a source; may be repeated.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder for decoded photos; OUT/cache otherwise.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Loader processes.")] = 1,
    stop_after: Annotated[
        int | None, typer.Option("--stop-after", min=1, help="Stop after this many steps.")
    ] = None,
    imagenet: Annotated[
        bool, typer.Option(help="Start the backbone from its ImageNet weights.")
    ] = True,
    init: Annotated[
        Path | None,
        typer.Option("--init", help="Weights to start from; 'camera': the shipped ones."),
    ] = None,
    backbone: Annotated[
        Path | None,
        typer.Option("--backbone", help="Weights that the backbone alone starts from."),
    ] = None,
    pseudo: Annotated[
        Path | None,
        typer.Option("--pseudo", help="Folder of pseudo-labels that go before those in DATA."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0, help="Stop after this many minutes.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the result as JSON.")] = None,
) -> None:
    """Train a panoptic network; goes on where an earlier run in OUT stopped. Ctrl-C saves.

    Several processes, GPUs or machines: `torchrun --nproc-per-node N --no-python panokit train …`.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    source = PhotoSource.open(data, taxonomy, pseudo)
    settings = TrainConfig.load(_config_path(config)) if config else TrainConfig()
    if settings.network.classes != len(source.taxonomy):
        got = f"{settings.network.classes} classes for a taxonomy of {len(source.taxonomy)}"
        raise ArgumentError("network.classes", "the number of categories", got)
    left_out = set(exclude or ())
    photos = [p for p in source.photos(train_splits, "_train") if p.source not in left_out]
    where = cache or out / "cache"
    with process_group() as (rank, world), _progress(rank) as bar:
        task = bar.add_task("training", total=settings.total_samples)

        def on_step(figures: dict[str, Any]) -> None:
            text = f"{figures['size']} px  loss {figures['total']:.3f}"
            bar.update(task, completed=figures["samples"], description=text)

        cached, validator = in_turn(
            lambda: (
                _cache(source, photos, where, bar),
                _validator(source, validation_splits, where, bar),
            )
        )
        board = open_board(out / "tensorboard") if rank == 0 else None
        trainer = Trainer(
            settings,
            cached,
            source.taxonomy,
            out,
            validator,
            on_step,
            workers,
            imagenet,
            _weights_path(init),
            rank,
            board,
            _weights_path(backbone),
        )
        if rank == 0:
            write_json(out / "config.json", settings.to_json())
        if trainer.resume() and rank == 0:
            _console.print(f"resumed {out / CHECKPOINT} at step {trainer.step}")
        result = trainer.run(stop_after, minutes)
        if board:
            board.close()
    if rank:
        return
    _console.print(f"{result.samples} samples in {result.step} steps; weights: {result.weights}")
    if json:
        write_json(
            json,
            {
                "step": result.step,
                "samples": result.samples,
                "finished": result.finished,
                "processes": world,
                "weights": str(result.weights),
                "skipped": cached.skipped,
            },
        )


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
        bar.console.print(f"[yellow]skipped[/yellow] {reason}", highlight=False, soft_wrap=True)
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
        console=_console,
        disable=rank > 0,
    )
