"""Training over several processes: what one process computes over a whole batch, shared out.

``torchrun`` starts the processes; each sees its share of every batch. To give the same losses as
one process with the same whole batch, three things must be whole too: the gradients (which
``DistributedDataParallel`` averages), the denominators of the losses, and the statistics of batch
normalisation. PyTorch's own ``SyncBatchNorm`` refuses CPU tensors, so there is one here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

__all__ = [
    "SyncedBatchNorm2d",
    "any_rank",
    "in_turn",
    "mean_over_ranks",
    "process_group",
    "synchronize",
    "total_over_ranks",
    "training_device",
    "world_size",
]

T = TypeVar("T")


@contextmanager
def process_group() -> Iterator[tuple[int, int]]:
    """Join the group that ``torchrun`` set up; gives (rank, world size), (0, 1) without one.

    NCCL on GPUs, gloo elsewhere. Each process uses the GPU ``LOCAL_RANK`` if there is one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        yield 0, 1
        return
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if gpu else "gloo")
    try:
        yield distributed.get_rank(), distributed.get_world_size()
    finally:
        distributed.destroy_process_group()


def training_device() -> torch.device:
    """This process's GPU, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def world_size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def total_over_ranks(value: Tensor) -> Tensor:
    """The sum of ``value`` over all processes, without a gradient."""
    if world_size() > 1:
        value = value.detach().clone()
        distributed.all_reduce(value)
    return value


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of ``value`` over all processes, without a gradient."""
    return total_over_ranks(value) / world_size()


def in_turn(make: Callable[[], T]) -> T:
    """Call ``make`` in the first process, then in the others, which find the files it left."""
    if world_size() == 1:
        return make()
    first = distributed.get_rank() == 0
    made = make() if first else None
    distributed.barrier()
    return made if made is not None else make()


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether ``flag`` is set in any process: all answer alike, so that all stop together."""
    if world_size() == 1:
        return flag
    return bool(total_over_ranks(torch.tensor(float(flag), device=device)) > 0)


class _Total(torch.autograd.Function):
    """The sum over processes, whose gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return total_over_ranks(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return total_over_ranks(gradients[0])


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes, on any device."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        x = input.float()
        n = x.new_tensor(x.numel() // x.shape[1] * world_size())
        # Two passes: E[x²] - E[x]² would cancel where the variance is small.
        mean: Tensor = _Total.apply(x.sum((0, 2, 3))) / n  # type: ignore[no-untyped-call]
        centred = x - mean[:, None, None]
        squares: Tensor = _Total.apply(centred.square().sum((0, 2, 3)))  # type: ignore[no-untyped-call]
        variance = squares / n
        self._remember(mean.detach(), (variance * (n / (n - 1))).detach())
        scale = (variance + self.eps).rsqrt() * self.weight
        out: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return out.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            return
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


def synchronize(network: nn.Module) -> None:
    """Give every batch normalisation of ``network`` the statistics of all processes, in place."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm2d
