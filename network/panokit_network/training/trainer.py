"""Training our network: one process, or several under ``torchrun``; resumable to the step."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from panokit._files import make_folder, write_bytes
from panokit.errors import ArgumentError, DataError
from panokit.taxonomy import Taxonomy
from panokit_network.backbone import Conv
from panokit_network.model import PanopticNetwork
from panokit_network.training.board import Board
from panokit_network.training.cache import PhotoCache
from panokit_network.training.config import Phase, TrainConfig
from panokit_network.training.loop import CHECKPOINT, Loop, adam_w, averages_of, interruptible
from panokit_network.training.losses import panoptic_loss
from panokit_network.training.parallel import (
    any_rank,
    mean_over_ranks,
    synchronize,
    training_device,
    world_size,
)
from panokit_network.training.precision import mixed_precision
from panokit_network.training.scenes import SceneStream, loader
from panokit_network.training.validate import Validator
from panokit_network.weights import backbone_state, imagenet_state, load_weights, save_weights

__all__ = [
    "CHECKPOINT",
    "METRICS",
    "WEIGHTS",
    "TrainResult",
    "Trainer",
    "class_weights",
    "learning_rate_at",
]

log = logging.getLogger(__name__)

WEIGHTS = "weights.safetensors"
METRICS = "metrics.jsonl"


def _is_due(every: int, before: int, now: int) -> bool:
    """Whether a multiple of ``every`` samples was passed: so it depends on nothing else where a
    run that was stopped goes on."""
    return now // every > before // every


def learning_rate_at(config: TrainConfig, samples: int) -> float:
    """Learning rate after ``samples``: warm-up, flat, half-cosine cooldown to zero."""
    rate = config.learning_rate * min(1.0, (samples + 1) / max(1, config.warmup_samples))
    left = config.total_samples - samples
    if left < config.cooldown_samples:
        rate *= 0.5 * (1 - math.cos(math.pi * max(0, left) / config.cooldown_samples))
    return rate


def class_weights(cache: PhotoCache, classes: int, power: float) -> Tensor:
    """Weight of each class in the semantic loss, ``frequency ** -power``, mean 1 over pixels.

    Frequencies come from every 8th photo's label pixels.
    """
    counts = np.zeros(classes)
    for index in range(0, len(cache), 8):
        photo = cache[index]
        hist = np.bincount(photo.segment_map.ravel(), minlength=len(photo.record.segments) + 1)
        for i, segment in enumerate(photo.record.segments):
            if not segment.ignore:
                counts[segment.channel] += hist[i + 1]
    frequency = (counts + 1) / (counts + 1).sum()
    weight = np.clip(frequency, 1e-3, None) ** -power
    weight /= (weight * frequency).sum()
    return torch.tensor(weight, dtype=torch.float32)


def _in_layout(network: PanopticNetwork, layout: torch.memory_format) -> PanopticNetwork:
    """Put the weights into a memory order."""
    # PyTorch's own annotations lack this overload.
    network.to(memory_format=layout)  # type: ignore[call-overload]
    return network


def _initial_state(path: str | Path, config: TrainConfig, taxonomy: Taxonomy) -> dict[str, Tensor]:
    network, info = load_weights(path)
    if info.network != config.network or info.taxonomy != taxonomy:
        reason = "expected weights of the network and taxonomy that are to be trained"
        raise DataError(path, f"{reason}, got {info.network} and {len(info.taxonomy)} categories")
    return network.state_dict()


@dataclass(frozen=True)
class TrainResult:
    """Where a run ended: after so many optimizer steps (``step``) and photos (``samples``);
    ``interrupted``: by Ctrl-C or SIGTERM."""

    step: int
    samples: int
    finished: bool
    weights: Path
    interrupted: bool = False


class Trainer:
    """Trains a :class:`PanopticNetwork` and keeps its exponential moving average.

    ``on_save()`` is called after each checkpoint. ``channels_last`` is the memory order that CPU
    convolutions (and most GPUs') are fastest with; ``compiled`` has PyTorch compile the network.
    ``validate(network)`` is called now and then with the averaged network and returns figures
    that go into ``metrics.jsonl``; ``on_step`` gets a dict of figures after every step.
    ``init`` is a weight file to start from instead of the ImageNet weights; ``backbone`` one that
    the backbone alone starts from. ``rank`` is this process's number under ``torchrun`` (see
    :mod:`panokit_network.training.parallel`). What goes into ``metrics.jsonl`` is also shown on
    ``board``.
    """

    _validated_at = -1
    """The step after which the network was last validated."""

    def __init__(
        self,
        config: TrainConfig,
        cache: PhotoCache,
        taxonomy: Taxonomy,
        out: str | Path,
        validate: Callable[[PanopticNetwork], dict[str, Any]] | None = None,
        on_step: Callable[[dict[str, Any]], None] | None = None,
        workers: int = 1,
        imagenet: bool = True,
        init: str | Path | None = None,
        rank: int = 0,
        board: Board | None = None,
        backbone: str | Path | None = None,
        on_save: Callable[[], None] | None = None,
        channels_last: bool = True,
        compiled: bool = False,
    ) -> None:
        if len(cache) == 0:
            raise DataError(out, "there is no photo to train on")
        self.rank, self.device, self.board = rank, training_device(), board
        for phase in config.phases:
            if phase.batch % world_size():
                expected = f"a multiple of the {world_size()} processes"
                raise ArgumentError(
                    "phase batch", f"phase batch is {phase.batch!r}; expected {expected}"
                )
        self.config, self.taxonomy, self.out = config, taxonomy, Path(out)
        self.validate, self.on_step, self.workers = validate, on_step, workers
        self.on_save, self.compiled = on_save, compiled
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        make_folder(self.out)
        torch.manual_seed(config.seed)
        self.model = self.new_network()
        if init is not None:
            self.load_initial(init)
        elif backbone is not None:
            self.model.backbone.load_state_dict(backbone_state(backbone, self.model.backbone))
        elif imagenet:
            self.model.backbone.load_imagenet(imagenet_state())
        synchronize(self.model)
        _in_layout(self.model, self.layout).to(self.device)
        self.forward: nn.Module = self.model
        weight = class_weights(cache, len(taxonomy), config.class_weight_power)
        self.class_weight = weight.to(self.device)
        self.stream = self.new_stream(cache)
        self.loop: Loop[Any] = Loop(
            module=self.model,
            optimizer=adam_w(
                self.model, config.learning_rate, config.weight_decay, self._relative_rate
            ),
            folder=self.out,
            loss=self._loss,
            rate=lambda step: learning_rate_at(config, config.at(step)[1]),
            averages=averages_of(self.model),
            decay=lambda step: config.ema_decay,
            clip_norm=config.clip_norm,
            config=config.to_json(),
        )
        self._phase: Phase | None = None

    def new_network(self) -> PanopticNetwork:
        """The network to train, as it begins."""
        return PanopticNetwork(self.config.network)

    def load_initial(self, path: str | Path) -> None:
        """Start from a weight file."""
        self.model.load_state_dict(_initial_state(path, self.config, self.taxonomy))

    def new_stream(self, cache: PhotoCache) -> SceneStream:
        """The batches to train on."""
        return SceneStream(cache, self.taxonomy, self.config, self.rank, world_size())

    def write_weights(self, path: Path) -> None:
        """Write the averaged weights."""
        training = {"samples": self.samples, "config": self.loop.config}
        state = self.loop.averages
        save_weights(path, state, self.config.network, self.taxonomy, training)

    def loss_of(self, heads: dict[str, Tensor], batch: Any) -> dict[str, Tensor]:
        """The terms of the loss and their ``total``, each ``[]``; heads ``[N,C,h,w]``."""
        person = self.stream.weights.person
        return panoptic_loss(heads, batch, self.class_weight, self.config.loss, person)

    def _relative_rate(self, parameter: str) -> float:
        return self.config.backbone_rate if parameter.startswith("backbone.") else 1.0

    @property
    def step(self) -> int:
        """Steps done."""
        return self.loop.step

    def resume(self) -> bool:
        """Go on from the checkpoint in ``out``; False if there is none."""
        return self.loop.resume()

    def save(self) -> None:
        """Write the checkpoint and the averaged weights (the first process does)."""
        if self.rank:
            return
        self.loop.save()
        self.write_weights(self.out / WEIGHTS)
        if self.on_save:
            self.on_save()

    @property
    def samples(self) -> int:
        """Samples seen so far."""
        if self.step >= self.config.total_steps:
            return self.config.total_samples
        return self.config.at(self.step)[1]

    def averaged(self) -> PanopticNetwork:
        """A copy of the network with the averaged weights, in eval mode."""
        network = self.new_network()
        network.load_state_dict({k: v.cpu() for k, v in self.loop.averages.items()}, strict=False)
        return _in_layout(network, self.layout).to(self.device).eval()

    def run(self, stop_after: int | None = None, minutes: float | None = None) -> TrainResult:
        """Train to the end of the schedule, to ``stop_after`` steps, for so many ``minutes``, or
        until interrupted. Whatever ends it, the state is saved. Time alone ends no run before its
        first step."""
        end = min(self.config.total_steps, stop_after or self.config.total_steps)
        deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
        first = self.step
        self._forget_what_comes_again()
        with interruptible() as stopped:
            for batch in loader(self.stream, self.step, self.workers):
                late = time.monotonic() >= deadline and self.step > first
                stop = stopped.is_set() or late
                if any_rank(stop, self.device) or self.step >= end:
                    break
                before = self.samples
                figures = self.train_step(batch)
                if self.on_step:
                    self.on_step(figures)
                if self.step % self.config.record_every == 0:
                    self._record(figures)
                if _is_due(self.config.validate_every, before, self.samples):
                    self._validate()
                if _is_due(self.config.save_every, before, self.samples):
                    self.save()
        self.save()
        finished = self.step >= self.config.total_steps
        if finished and self._validated_at < self.step:
            self._validate()
        return TrainResult(
            self.step, self.samples, finished, self.out / WEIGHTS, stopped.is_set() and not finished
        )

    def train_step(self, batch: Any) -> dict[str, Any]:
        """One optimizer step on ``batch``; returns its figures."""
        started = time.perf_counter()
        phase, samples = self.config.at(self.step)
        self._enter(phase)
        losses = self.loop.train_step(batch)
        norm = losses.pop("norm")
        return {
            "step": self.step,
            "samples": samples + phase.batch,
            "size": phase.size,
            "rate": learning_rate_at(self.config, samples),
            "norm": float(norm),
            "seconds": time.perf_counter() - started,
            **{k: float(mean_over_ranks(v)) for k, v in losses.items()},
        }

    def _loss(self, batch: Any, step: int) -> dict[str, Tensor]:
        batch = batch.to(self.device)
        image = batch.image.float().contiguous(memory_format=self.layout)
        if self.config.dropout:  # what a step leaves out depends on its number alone
            torch.manual_seed(hash((self.config.seed, step, self.rank)) % 2**63)
        with mixed_precision(self.device, self.config.bf16):
            heads = self.forward(image)
        return self.loss_of(heads, batch)

    def _enter(self, phase: Phase) -> None:
        """Freeze and thaw as the phase wants."""
        if phase is self._phase:
            return
        self._phase = phase
        self.model.train()
        self.model.dropout = self.config.dropout
        for conv in self.model.modules():
            if isinstance(conv, Conv):
                conv.folds = False
        frozen: list[nn.Module] = []
        if phase.freeze_blocks:
            backbone = self.model.backbone
            frozen = [backbone.stem, *list(backbone.blocks)[: phase.freeze_blocks]]
        self.model.requires_grad_(True)
        for module in frozen:
            module.requires_grad_(False)
        still = [self.model] if phase.freeze_statistics else frozen
        for conv in (c for module in still for c in module.modules() if isinstance(c, Conv)):
            conv.bn.eval()
            conv.folds = True
        if self.compiled:
            self.forward = cast(nn.Module, torch.compile(self.model, dynamic=False))
        if world_size() > 1:  # it notes at the start which weights have gradients
            self.forward = nn.parallel.DistributedDataParallel(
                self.forward, broadcast_buffers=False
            )

    def _validate(self) -> None:
        if self.validate is None or self.rank:
            return
        network, self._validated_at = self.averaged(), self.step
        figures = self.validate(network)
        self._record({"step": self.step, "samples": self.samples, "validation": figures})
        if self.board and isinstance(self.validate, Validator):
            self.board.pictures(self.validate.pictures(network), self.samples)
        log.info("after %d samples: %s", self.samples, figures)

    def _forget_what_comes_again(self) -> None:
        """Take the lines after the current step out of the figures: a run that was killed wrote
        them after its last checkpoint, and this one will."""
        path = self.out / METRICS
        if self.rank or not path.is_file():
            return
        kept = []
        for line in path.read_bytes().splitlines():
            with suppress(ValueError, KeyError, TypeError):  # the last may be half a line
                figures = json.loads(line)
                if figures["step"] <= self.step:
                    kept.append(line + b"\n")
                    if "validation" in figures:
                        self._validated_at = figures["step"]
        write_bytes(path, b"".join(kept))

    def _record(self, figures: dict[str, Any]) -> None:
        if self.rank:
            return
        with (self.out / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")
        if self.board:
            validation = figures.get("validation")
            prefix = "validation" if validation else "train"
            self.board.figures(validation or figures, figures["samples"], prefix)
