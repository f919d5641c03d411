"""Training a compressed network on, with the network it came from as the teacher.

One way for fine-tuning and for quantization-aware training: it counts samples, not time, writes
checkpoints, and goes on where it stopped. Works for any module of the head contract; labels are
optional.
"""

from __future__ import annotations

import copy
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from panokit._files import make_folder
from panokit.errors import ArgumentError, DataError
from panokit.preprocessing import Size, sides
from panokit_compression.recipes import Finetune, Qat
from panokit_network.training.loop import Loop, adam_w, averages_of, interruptible
from panokit_network.training.losses import Batch, LossConfig, panoptic_loss
from panokit_network.training.precision import mixed_precision

__all__ = ["PhotoStream", "Sample", "Stream", "distil_loss", "train_on"]

log = logging.getLogger(__name__)

SAVE_EVERY = 100  # steps
WARMUP = 0.05  # share of the steps
CLIP_NORM = 5.0
EMA_DECAY, EMA_SHARE = 0.999, 0.1  # the average reaches back a tenth of the run, at most
WEIGHT_DECAY = 0.01
LOSS = LossConfig()

OnStep = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class Sample:
    """One batch: ``image`` uint8 ``[N,3,H,W]`` RGB and, if there are any, its labels, how they are
    weighed, and the channel of persons that ``labels.person`` is about."""

    image: Tensor
    labels: Batch | None = None
    loss: LossConfig = LOSS
    person: int | None = None


class Stream(Protocol):
    """Batches by number: the same number, the same batch, so that a resumed run sees what an
    uninterrupted one would have seen."""

    def batch(self, step: int, size: Size, count: int) -> Sample:
        """Batch number ``step`` of ``count`` images of ``size``."""
        ...


class PhotoStream:
    """Unlabelled photos, randomly scaled, cropped and mirrored."""

    def __init__(self, images_hwc: list[NDArray[np.uint8]], seed: int = 0) -> None:
        if not images_hwc:
            raise ArgumentError("photos", "there are no photos; expected at least one to train on")
        self.images, self.seed = images_hwc, seed

    def batch(self, step: int, size: Size, count: int) -> Sample:
        """See :class:`Stream`."""
        rng = np.random.default_rng((self.seed, step))
        return Sample(torch.stack([self._crop(rng, size) for _ in range(count)]))

    def _crop(self, rng: np.random.Generator, size: Size) -> Tensor:
        image = self.images[int(rng.integers(len(self.images)))]
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
        height, width = x.shape[-2:]
        w, h = sides(size)
        scale = max(w / width, h / height) * float(rng.uniform(1.0, 1.6))
        shape = [max(h, round(height * scale)), max(w, round(width * scale))]
        x = F.interpolate(x, shape, mode="bilinear", align_corners=False, antialias=True)
        top = int(rng.integers(shape[0] - h + 1))
        left = int(rng.integers(shape[1] - w + 1))
        x = x[0, :, top : top + h, left : left + w]
        x = x.flip(-1) if rng.random() < 0.5 else x
        return x.round().clamp(0, 255).to(torch.uint8)


def distil_loss(
    heads: Mapping[str, Tensor], teacher: Mapping[str, Tensor], things: Tensor | None
) -> Tensor:
    """How far ``heads`` are from the teacher's (a scalar, 0 for the same heads).

    Of ``center-offset``, classes: Kullback-Leibler divergence. Centres: binary cross-entropy with
    the teacher's probability, peaks counted up. Offsets: absolute difference, weighted by the
    teacher's probability of a thing class (``things`` bool ``[C]``); elsewhere they mean nothing.
    Of other contracts, classes likewise, masks by binary cross-entropy, and any other head by its
    squared difference as a share of the teacher's variance.
    """
    if "center" not in teacher:
        return sum(
            (_head_loss(name, heads[name].float(), wanted.float())
             for name, wanted in teacher.items() if wanted.is_floating_point()),
            torch.zeros(()),
        )  # fmt: skip
    want = teacher["semantic"].float().log_softmax(1)
    have = heads["semantic"].float().log_softmax(1)
    semantic = (want.exp() * (want - have)).sum(1).mean()
    p, x = teacher["center"].float().sigmoid(), heads["center"].float()
    entropy = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))
    bce = F.binary_cross_entropy_with_logits(x, p, reduction="none") - entropy
    weight = 1 + 4 * p
    center = (bce * weight).sum() / weight.sum()
    error = (heads["offset"].float() - teacher["offset"].float()).abs().sum(1)  # [N,h,w]
    share = torch.ones_like(error) if things is None else want.exp()[:, things].sum(1)
    offset = (error * share).sum() / share.sum().clamp(min=1)
    return semantic + LOSS.center * center + LOSS.offset * offset


def _head_loss(name: str, x: Tensor, wanted: Tensor) -> Tensor:
    if name in ("classes", "semantic"):
        axis = 1 if wanted.ndim == 4 else -1
        want, have = wanted.log_softmax(axis), x.log_softmax(axis)
        return (want.exp() * (want - have)).sum(axis).mean()
    if name == "masks":
        p = wanted.sigmoid()
        entropy = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))
        return (F.binary_cross_entropy_with_logits(x, p, reduction="none") - entropy).mean()
    return (x - wanted).square().mean() / wanted.var().clamp(min=1e-6)


@dataclass(frozen=True)
class Lesson:
    """What a training step learns from: the teacher, and the labels if there are any.

    ``things`` bool ``[C]``; ``class_weight`` float32 ``[C]`` of the label loss.
    """

    module: nn.Module
    teacher: nn.Module
    step: Finetune | Qat
    things: Tensor | None
    class_weight: Tensor | None
    bf16: bool
    layout: torch.memory_format

    def loss(self, sample: Sample, number: int) -> dict[str, Tensor]:
        """The loss of a batch."""
        image = sample.image.float().contiguous(memory_format=self.layout)
        with mixed_precision(image.device, self.bf16):
            with torch.no_grad():
                wanted = self.teacher(image)
            heads = self.module(image)
        total = self.step.distil * distil_loss(heads, wanted, self.things)
        if self.step.distil < 1:
            labelled: Tensor = (1 - self.step.distil) * self._label_loss(heads, sample)
            total = total + labelled
        return {"total": total}

    def _label_loss(self, heads: dict[str, Tensor], sample: Sample) -> Tensor:
        if sample.labels is None:
            expected = "1 without labelled data; give labelled data or distil alone"
            raise ArgumentError(
                f"{self.step.kind} distil",
                f"{self.step.kind} distil is {self.step.distil!r}; expected {expected}",
            )
        if "semantic" not in heads or "center" not in heads:
            raise ArgumentError(
                f"{self.step.kind} distil",
                f"{self.step.kind} distil is {self.step.distil!r}; expected 1 for a network of "
                "another contract than center-offset: it learns from its teacher alone",
            )
        weight = self.class_weight
        if weight is None:
            weight = torch.ones(heads["semantic"].shape[1])
        labels, person = sample.labels, sample.person
        return panoptic_loss(heads, labels, weight, sample.loss, person)["total"]


def rate_at(step: Finetune | Qat, number: int) -> float:
    """Learning rate of a step: warm-up, then a half cosine to zero."""
    total = total_steps(step)
    warm = max(1, round(WARMUP * total))
    if number < warm:
        return step.learning_rate * (number + 1) / warm
    done = (number - warm) / max(1, total - warm)
    return step.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def total_steps(step: Finetune | Qat) -> int:
    """Optimizer steps of the whole run."""
    return -(-step.samples // step.batch)


def batches(stream: Stream, step: Finetune | Qat, first: int) -> Iterator[Sample]:
    """The batches from number ``first`` on; a thread prepares the next one meanwhile."""
    total = total_steps(step)
    with ThreadPoolExecutor(1) as thread:

        def prepare(number: int) -> Future[Sample]:
            return thread.submit(stream.batch, number, step.size, step.batch)

        following = [prepare(number) for number in range(first, min(first + 1, total))]
        for number in range(first, total):
            sample = following.pop().result()
            if number + 1 < total:
                following.append(prepare(number + 1))
            yield sample


def train_on(
    module: nn.Module,
    teacher: nn.Module,
    stream: Stream,
    step: Finetune | Qat,
    folder: Path,
    *,
    things: Tensor | None = None,
    masks: Mapping[str, Tensor] | None = None,
    class_weight: Tensor | None = None,
    average: bool = True,
    bf16: bool = True,
    train_mode: Callable[[nn.Module], Any] = nn.Module.train,
    on_step: OnStep | None = None,
    on_number: Callable[[int, int], None] | None = None,
) -> None:
    """Train ``module`` in place as ``step`` says; it ends in what it has learned.

    The run lives in ``folder`` and goes on from the checkpoint there. ``masks`` hold weights at
    zero; ``average`` keeps a moving average of the weights and ends with it; ``on_number`` is
    called with each step's number and the total before it. Ctrl-C ends the run after the current
    step, saves it and raises ``KeyboardInterrupt``.
    """
    make_folder(folder)
    teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
    module.requires_grad_(True)
    layout = torch.channels_last if bf16 else torch.contiguous_format
    if bf16:
        for m in (module, teacher):
            m.to(memory_format=layout)  # type: ignore[call-overload]
    total = total_steps(step)
    most = min(EMA_DECAY, 1 - 1 / max(1.0, EMA_SHARE * total))
    loop: Loop[Sample] = Loop(
        module=module,
        optimizer=adam_w(module, step.learning_rate, WEIGHT_DECAY, fused=False),
        folder=folder,
        loss=Lesson(module, teacher, step, things, class_weight, bf16, layout).loss,
        rate=lambda number: rate_at(step, number),
        averages=averages_of(module) if average else {},
        decay=lambda number: most,
        clip_norm=CLIP_NORM,
        after_step=lambda number: _hold_at_zero(module, masks or {}),
        config={"step": {"kind": step.kind, **vars(step)}},
    )
    train_mode(module)
    loop.resume()
    _run(loop, batches(stream, step, loop.step), total, on_step, on_number)
    if loop.averages:
        module.load_state_dict(loop.averages, strict=False)
    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _run(
    loop: Loop[Sample],
    samples: Iterator[Sample],
    total: int,
    on_step: OnStep | None,
    on_number: Callable[[int, int], None] | None,
) -> None:
    with interruptible() as stopped:
        for sample in samples:
            if on_number:
                on_number(loop.step, total)
            loss = float(loop.train_step(sample)["total"])
            figures = {"step": loop.step, "total": total, "loss": loss}
            if not math.isfinite(loss):
                reason = f"training diverged at step {loop.step - 1}: {figures}"
                raise DataError(loop.folder, reason)
            if on_step:
                on_step(figures)
            if loop.step % SAVE_EVERY == 0 or stopped.is_set() or loop.step == total:
                loop.save()
                _record(loop.folder, figures)
            if stopped.is_set() and loop.step < total:
                raise KeyboardInterrupt


@torch.no_grad()
def _hold_at_zero(module: nn.Module, masks: Mapping[str, Tensor]) -> None:
    if masks:
        parameters = dict(module.named_parameters())
        for name, mask in masks.items():
            parameters[name].mul_(mask)


def _record(folder: Path, figures: dict[str, float]) -> None:
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(figures) + "\n")
