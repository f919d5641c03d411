"""Training a compressed network on, with the network it came from as the teacher.

One loop for fine-tuning and for quantization-aware training: it counts samples, not time, writes
checkpoints, and goes on where it stopped. Works for any module of the head contract; labels are
optional.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from panokit.errors import ArgumentError, DataError
from panokit_compression.recipes import Finetune, Qat
from panokit_network.checkpoint import load_checkpoint, save_checkpoint
from panokit_network.losses import Batch, LossConfig, panoptic_loss

__all__ = ["PhotoStream", "Sample", "Stream", "distil_loss", "train_on"]

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
SAVE_EVERY = 100  # steps
WARMUP = 0.05  # share of the steps
CLIP_NORM = 5.0
EMA_DECAY, EMA_SHARE = 0.999, 0.1  # the average reaches back a tenth of the run, at most
WEIGHT_DECAY = 0.01
LOSS = LossConfig()

OnStep = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class Sample:
    """One batch: ``image`` uint8 ``[N,3,S,S]`` RGB and, if there are any, its labels, how they are
    weighed, and the channel of persons that ``labels.person`` is about."""

    image: Tensor
    labels: Batch | None = None
    loss: LossConfig = LOSS
    person: int | None = None


class Stream(Protocol):
    """Batches by number: the same number, the same batch, so that a resumed run sees what an
    uninterrupted one would have seen."""

    def batch(self, step: int, size: int, count: int) -> Sample:
        """Batch number ``step`` of ``count`` images of side ``size``."""
        ...


class PhotoStream:
    """Unlabelled photos, randomly scaled, cropped and mirrored."""

    def __init__(self, images_hwc: list[NDArray[np.uint8]], seed: int = 0) -> None:
        if not images_hwc:
            raise ArgumentError("photos", "at least one to train on", 0)
        self.images, self.seed = images_hwc, seed

    def batch(self, step: int, size: int, count: int) -> Sample:
        """See :class:`Stream`."""
        rng = np.random.default_rng((self.seed, step))
        return Sample(torch.stack([self._crop(rng, size) for _ in range(count)]))

    def _crop(self, rng: np.random.Generator, size: int) -> Tensor:
        image = self.images[int(rng.integers(len(self.images)))]
        x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
        height, width = x.shape[-2:]
        scale = size / min(height, width) * float(rng.uniform(1.0, 1.6))
        shape = [max(size, round(height * scale)), max(size, round(width * scale))]
        x = F.interpolate(x, shape, mode="bilinear", align_corners=False, antialias=True)
        top = int(rng.integers(shape[0] - size + 1))
        left = int(rng.integers(shape[1] - size + 1))
        x = x[0, :, top : top + size, left : left + size]
        x = x.flip(-1) if rng.random() < 0.5 else x
        return x.round().clamp(0, 255).to(torch.uint8)


def distil_loss(
    heads: Mapping[str, Tensor], teacher: Mapping[str, Tensor], things: Tensor | None
) -> Tensor:
    """How far ``heads`` are from the teacher's (a scalar, 0 for the same heads).

    Classes: Kullback-Leibler divergence. Centres: binary cross-entropy with the teacher's
    probability, peaks counted up. Offsets: absolute difference, weighted by the teacher's
    probability of a thing class (``things`` bool ``[C]``); elsewhere they mean nothing.
    """
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


@dataclass
class Training:
    """Everything of a run but its step counter. ``module`` is trained in place; the teacher is a
    copy that stands still; ``ema`` is the moving average of the weights, if there is to be one."""

    module: nn.Module
    teacher: nn.Module
    stream: Stream
    step: Finetune | Qat
    folder: Path
    things: Tensor | None
    masks: Mapping[str, Tensor]
    class_weight: Tensor | None
    average: bool
    bf16: bool
    ema: dict[str, Tensor] = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.teacher = copy.deepcopy(self.teacher).eval().requires_grad_(False)
        self.module.requires_grad_(True)
        if self.bf16:
            for m in (self.module, self.teacher):
                m.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        state = self.module.state_dict() if self.average else {}
        self.ema = {k: v.detach().clone() for k, v in state.items() if v.is_floating_point()}
        self.optimizer = _optimizer(self.module, self.step)

    @property
    def memory_format(self) -> torch.memory_format:
        """How images and weights lie in memory: bf16 is quick with channels last."""
        return torch.channels_last if self.bf16 else torch.contiguous_format

    @property
    def total(self) -> int:
        """Optimizer steps of the whole run."""
        return -(-self.step.samples // self.step.batch)

    def rate(self, number: int) -> float:
        """Learning rate of a step: warm-up, then a half cosine to zero."""
        warm = max(1, round(WARMUP * self.total))
        if number < warm:
            return self.step.learning_rate * (number + 1) / warm
        done = (number - warm) / max(1, self.total - warm)
        return self.step.learning_rate * 0.5 * (1 + math.cos(math.pi * done))

    def batches(self, first: int) -> Iterator[Sample]:
        """The batches from number ``first`` on; a thread prepares the next one meanwhile."""
        with ThreadPoolExecutor(1) as thread:

            def prepare(number: int) -> Future[Sample]:
                return thread.submit(self.stream.batch, number, self.step.size, self.step.batch)

            following = [prepare(number) for number in range(first, min(first + 1, self.total))]
            for number in range(first, self.total):
                sample = following.pop().result()
                if number + 1 < self.total:
                    following.append(prepare(number + 1))
                yield sample

    def train_step(self, number: int, sample: Sample) -> dict[str, float]:
        """One optimizer step."""
        image = sample.image.float().contiguous(memory_format=self.memory_format)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(number)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            with torch.no_grad():
                wanted = self.teacher(image)
            heads = self.module(image)
        loss = self.step.distil * distil_loss(heads, wanted, self.things)
        if self.step.distil < 1:
            labelled: Tensor = (1 - self.step.distil) * self._label_loss(heads, sample)
            loss = loss + labelled
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), CLIP_NORM)
        if torch.isfinite(norm):
            self.optimizer.step()
        else:
            log.warning("step %d: gradient norm %s, step skipped", number, norm)
        self._mask()
        self._average(number)
        return {"step": number + 1, "total": self.total, "loss": float(loss.detach())}

    def _label_loss(self, heads: dict[str, Tensor], sample: Sample) -> Tensor:
        if sample.labels is None:
            expected = "1 without labelled data; give labelled data or distil alone"
            raise ArgumentError(f"{self.step.kind} distil", expected, self.step.distil)
        weight = self.class_weight
        if weight is None:
            weight = torch.ones(heads["semantic"].shape[1])
        labels, person = sample.labels, sample.person
        return panoptic_loss(heads, labels, weight, sample.loss, person)["total"]

    @torch.no_grad()
    def _mask(self) -> None:
        parameters = dict(self.module.named_parameters())
        for name, mask in self.masks.items():
            parameters[name].mul_(mask)

    @torch.no_grad()
    def _average(self, number: int) -> None:
        if not self.ema:
            return
        most = min(EMA_DECAY, 1 - 1 / max(1.0, EMA_SHARE * self.total))
        decay = min(most, (1 + number) / (10 + number))
        state = self.module.state_dict()
        for name, average in self.ema.items():
            average.lerp_(state[name].detach(), 1 - decay)

    def save(self, number: int) -> None:
        """Write the checkpoint."""
        config = {"step": {"kind": self.step.kind, **vars(self.step)}}
        path = self.folder / CHECKPOINT
        save_checkpoint(path, self.module, self.ema, self.optimizer, number, config)

    def resume(self) -> int:
        """Load the checkpoint if there is one; the number of steps done."""
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return 0
        return load_checkpoint(path, self.module, self.ema, self.optimizer)


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
    folder.mkdir(parents=True, exist_ok=True)
    run = Training(module, teacher, stream, step, folder, things, masks or {}, class_weight,
                   average, bf16)  # fmt: skip
    train_mode(module)
    first = run.resume()
    with _interruptible() as stopped:
        for number, sample in enumerate(run.batches(first), first):
            if on_number:
                on_number(number, run.total)
            figures = run.train_step(number, sample)
            if not math.isfinite(figures["loss"]):
                raise DataError(folder, f"training diverged at step {number}: {figures}")
            if on_step:
                on_step(figures)
            if (number + 1) % SAVE_EVERY == 0 or stopped.is_set() or number + 1 == run.total:
                run.save(number + 1)
                _record(folder, figures)
            if stopped.is_set() and number + 1 < run.total:
                raise KeyboardInterrupt
    if run.ema:
        module.load_state_dict(run.ema, strict=False)
    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _optimizer(module: nn.Module, step: Finetune | Qat) -> torch.optim.Optimizer:
    """AdamW; weights decay, biases and scales do not."""
    groups = [[p for p in module.parameters() if (p.ndim > 1) == big] for big in (True, False)]
    return torch.optim.AdamW(
        [
            {"params": group, "weight_decay": decay}
            for group, decay in zip(groups, (WEIGHT_DECAY, 0.0), strict=True)
            if group
        ],
        lr=step.learning_rate,
    )


def _record(folder: Path, figures: dict[str, float]) -> None:
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(figures) + "\n")


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event; a second one ends the program at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: FrameType | None) -> None:
        log.warning("stopping after this step; it is saved")
        stopped.set()
        for s, handler in before.items():
            signal.signal(s, handler)

    for s in before:
        signal.signal(s, stop)
    try:
        yield stopped
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
