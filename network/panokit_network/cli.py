"""`panokit train`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
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
from panokit.errors import ArgumentError, DataError
from panokit.taxonomy import Taxonomy
from panokit_network.board import open_board
from panokit_network.cache import PhotoCache
from panokit_network.config import TrainConfig
from panokit_network.data import PanopticFolder, load_split
from panokit_network.packs import PackFolder, write_packs
from panokit_network.parallel import in_turn, process_group
from panokit_network.records import LabelledPhoto
from panokit_network.train import CHECKPOINT, Trainer
from panokit_network.validate import Validator
from panokit_network.weights import shipped_weights_path

__all__ = ["dataset", "train"]

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
    source = _Source.open(data, taxonomy, pseudo)
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
                source.cache(photos, where, bar),
                source.validator(validation_splits, where, bar),
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


@dataclass(frozen=True)
class _Source:
    """Where photos come from: a data set folder, or packs made of one."""

    folder: PanopticFolder | PackFolder
    pseudo: Path | None = None

    @classmethod
    def open(cls, data: Path, taxonomy: Path | None, pseudo: Path | None) -> _Source:
        if not PackFolder.is_one(data):
            return cls(PanopticFolder.open(data, taxonomy), pseudo)
        if taxonomy or pseudo:
            option = "--taxonomy" if taxonomy else "--pseudo"
            raise ArgumentError(option, "left out with packs, which hold it already", str(data))
        return cls(PackFolder.open(data))

    @property
    def taxonomy(self) -> Taxonomy:
        return self.folder.taxonomy

    def photos(self, given: str, suffix: str = "") -> list[LabelledPhoto]:
        """The photos of the named splits, or of all whose names end in ``suffix``."""
        return [p for name in self.splits(given, suffix) for p in self.split(name)]

    def split(self, name: str) -> list[LabelledPhoto]:
        """The photos of one split."""
        if isinstance(self.folder, PanopticFolder):
            return list(load_split(self.folder, name, self.pseudo))
        if name not in self.folder.splits():
            known = ", ".join(self.folder.splits())
            raise DataError(self.folder.root, f"no split {name!r}; splits here: {known}")
        return list(self.folder.split(name))

    def splits(self, given: str, suffix: str = "") -> list[str]:
        """The splits that are named, separated by commas, or all whose names end in ``suffix``."""
        names = [n.strip() for n in given.split(",") if n.strip()]
        names = names or [n for n in self.folder.splits() if suffix and n.endswith(suffix)]
        if not names:
            raise DataError(self.folder.root, f"has no split named *{suffix}; name some")
        return names

    def cache(self, photos: list[LabelledPhoto], where: Path, bar: Progress) -> PhotoCache:
        def progress(items: Iterable[LabelledPhoto]) -> Iterable[LabelledPhoto]:
            return bar.track(list(items), description="decoding photos")

        processes = _processes(len(photos))
        cached = PhotoCache.build(photos, self.taxonomy, where, progress, processes)
        for reason in cached.skipped:
            bar.console.print(f"[yellow]skipped[/yellow] {reason}", highlight=False, soft_wrap=True)
        return cached

    def validator(self, splits: str, where: Path, bar: Progress) -> Validator | None:
        if not splits:
            return None
        named = {n: self.cache(self.split(n), where, bar) for n in self.splits(splits)}
        return Validator(named, self.taxonomy)


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


dataset = typer.Typer(
    name="dataset",
    add_completion=False,
    no_args_is_help=True,
    help="Look after labelled photos.",
)


@dataset.callback()
def _dataset() -> None:
    """Commands of data sets."""


@dataset.command()
def pack(
    data: Annotated[Path, typer.Argument(help="COCO-panoptic folder.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the packs; a new one.")],
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
    source = _Source.open(data, None, pseudo)
    names = source.splits(splits, "_train")
    names += source.splits(validation_splits) if validation_splits else []
    photos = [(n, p) for n in names for p in source.split(n)[:limit]]
    with _progress(0) as bar:
        tracked = bar.track(photos, description="packing photos")
        paths, skipped = write_packs(
            tracked, source.taxonomy, out, side, quality, processes=_processes(len(photos))
        )
    for reason in skipped:
        _console.print(f"[yellow]skipped[/yellow] {reason}", highlight=False, soft_wrap=True)
    size = sum(p.stat().st_size for p in paths) / 2**20
    _console.print(f"{len(photos) - len(skipped)} photos in {len(paths)} packs, {size:.1f} MiB")
