"""The one training loop: optimizer steps with a given loss, averaged weights, checkpoints.

Who trains gives the module, a loss of a batch, the rate of each step and what happens beside it.
The state after a step depends on the step's number alone, so that a run that was stopped goes on to
the bit as if it had not been.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from panokit_network.training.checkpoint import load_checkpoint, save_checkpoint
from panokit_network.training.memory import keep_freed_memory

__all__ = ["CHECKPOINT", "Loop", "adam_w", "averages_of", "interruptible"]

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"

Batch = TypeVar("Batch")


def _nothing(step: int) -> None:
    """No hook."""


@dataclass
class Loop(Generic[Batch]):
    """A run in ``folder``: see the module.

    ``loss(batch, step)`` gives scalars by name, among them ``total``, which is made small.
    ``rate(step)`` is the learning rate; each parameter group multiplies it by its own ``rate``.
    ``averages`` are moving averages of the weights by name (empty: none are kept), which
    ``decay(step)`` 0..1 mixes with the weights after each step. ``after_step`` is called before
    that. ``config`` goes into the checkpoint.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    folder: Path
    loss: Callable[[Batch, int], Mapping[str, Tensor]]
    rate: Callable[[int], float]
    averages: dict[str, Tensor]
    decay: Callable[[int], float]
    clip_norm: float
    after_step: Callable[[int], None] = _nothing
    config: dict[str, Any] = field(default_factory=dict)
    step: int = 0

    def __post_init__(self) -> None:
        keep_freed_memory()

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """One optimizer step; its losses and the gradient's ``norm``. A gradient that is not finite
        changes nothing."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step) * group.get("rate", 1.0)
        loss = self.loss(batch, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss["total"].backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.clip_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
        else:
            log.warning("step %d: gradient norm %s, step skipped", self.step, norm)
        self.after_step(self.step)
        self._average()
        self.step += 1
        return {**{k: v.detach() for k, v in loss.items()}, "norm": norm.detach()}

    @torch.no_grad()
    def _average(self) -> None:
        if not self.averages:
            return
        state = self.module.state_dict()
        current = [state[name].detach() for name in self.averages]
        decay = min(self.decay(self.step), (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.averages.values()), current, 1 - decay)

    def save(self) -> None:
        """Write the checkpoint."""
        path = self.folder / CHECKPOINT
        save_checkpoint(path, self.module, self.averages, self.optimizer, self.step, self.config)

    def resume(self) -> bool:
        """Go on from the checkpoint in the folder; False if there is none."""
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return False
        self.step = load_checkpoint(path, self.module, self.averages, self.optimizer)
        return True


def averages_of(module: nn.Module) -> dict[str, Tensor]:
    """What moving averages begin with: a copy of every floating-point weight and statistic."""
    state = module.state_dict()
    return {k: v.detach().clone() for k, v in state.items() if v.is_floating_point()}


def adam_w(
    module: nn.Module,
    learning_rate: float,
    weight_decay: float,
    relative_rate: Callable[[str], float] = lambda name: 1.0,
    fused: bool = True,
) -> torch.optim.Optimizer:
    """AdamW; biases and norms do not decay. ``relative_rate`` of a parameter's name multiplies the
    learning rate."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        groups.setdefault((relative_rate(name), parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": weight_decay if decays else 0.0, "rate": rate}
            for (rate, decays), parameters in groups.items()
        ],
        lr=learning_rate,
        fused=fused,
    )


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event, and the run stops after the current step; a second one ends
    the program at once. In a thread other than the main one nothing is caught."""
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
