"""Losses of the three heads under partial labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from panokit_datasets.records import NO_PERSON_MAP, PERSON_LEVELS
from panokit_network.training.parallel import total_over_ranks, world_size
from panokit_network.training.targets import IGNORED

__all__ = ["Batch", "LossConfig", "Stacked", "panoptic_loss"]

B = TypeVar("B", bound="Stacked")

_EPS = 1e-4  # bounds -log(probability of the possible classes), so one wrong label cannot explode


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms (semantic is 1)."""

    center: float = 8.0
    offset: float = 0.02  # offsets are in input pixels
    hard_share: float = 0.3  # the hardest pixels of the semantic loss, averaged a second time
    person: float = 0.5  # the teachers' person map, where no true label lies


@dataclass
class Stacked:
    """Base of batches: dataclasses whose fields are tensors ``[N,…]``, ``image`` among them."""

    image: Tensor  # uint8 [N,3,S,S]

    def part(self: B, index: slice) -> B:
        """Some of the samples."""
        return type(self)(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def to(self: B, device: torch.device) -> B:
        """The same batch on ``device``."""
        move = {"device": device, "non_blocking": device.type == "cuda"}
        return type(self)(*(getattr(self, n).to(**move) for n in self.__dataclass_fields__))

    def pin_memory(self: B) -> B:
        """The same batch in memory that a GPU can read while the CPU goes on."""
        return type(self)(*(getattr(self, n).pin_memory() for n in self.__dataclass_fields__))


@dataclass
class Batch(Stacked):
    """A batch of images and their :class:`panokit_network.training.targets.Targets`, stacked."""

    semantic: Tensor  # int16 [N,S/2,S/2]
    semantic_weight: Tensor  # float32 [N,S/2,S/2]
    absent: Tensor  # bool [N,C]
    person: Tensor  # uint8 [N,S/2,S/2]
    center: Tensor  # float32 [N,S/4,S/4]
    center_weight: Tensor  # float32 [N,S/4,S/4]
    offset: Tensor  # float32 [N,2,S/4,S/4]
    offset_weight: Tensor  # float32 [N,S/4,S/4]


def panoptic_loss(
    heads: dict[str, Tensor],
    batch: Batch,
    class_weight: Tensor,
    config: LossConfig,
    person: int | None = None,
) -> dict[str, Tensor]:
    """Loss terms ``semantic``, ``center``, ``offset`` and their weighted ``total`` (scalars).

    ``class_weight`` float32 ``[C]``; ``person`` is the channel that ``batch.person`` is about.
    """
    semantic = _semantic_loss(heads["semantic"], batch, class_weight, config, person)
    center = _center_loss(heads["center"], batch)
    offset = _offset_loss(heads["offset"], batch)
    total = semantic + config.center * center + config.offset * offset
    return {"total": total, "semantic": semantic, "center": center, "offset": offset}


def _semantic_loss(
    logits: Tensor, batch: Batch, class_weight: Tensor, config: LossConfig, person: int | None
) -> Tensor:
    size = batch.semantic.shape[-2:]
    logits = F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
    log_p = F.log_softmax(logits, dim=1)  # [N,C,h,w]
    label = batch.semantic.long()
    known = label >= 0
    safe = label.clamp(min=0)
    nll = -log_p.gather(1, safe[:, None])[:, 0] * class_weight[safe]
    # "None of these": minus the log of the probability left for the classes that remain.
    p = log_p.exp()
    gone = torch.einsum("nchw,nc->nhw", p, batch.absent.to(p.dtype))  # [N,h,w]
    negative = -torch.log((1 - gone).clamp(min=0) + _EPS)
    weight = batch.semantic_weight * (label != IGNORED)
    loss = torch.where(known, nll, negative) * weight
    total = loss.sum() / _whole(weight)
    if config.hard_share > 0:
        flat = loss.flatten(1)
        count = max(1, int(config.hard_share * flat.shape[1]))
        total = 0.5 * (total + flat.topk(count, dim=1, sorted=False).values.mean())
    if person is not None and config.person > 0:
        total = total + config.person * _person_loss(p[:, person], batch.person)
    return total


def _person_loss(p: Tensor, levels: Tensor) -> Tensor:
    """Binary cross-entropy between the probability of a person and the teachers', less its own
    entropy, over the pixels of which they say something."""
    said = levels != NO_PERSON_MAP
    y = torch.where(said, levels.float() / PERSON_LEVELS, 0.5)
    p = p.clamp(_EPS, 1 - _EPS)
    bce = -(torch.xlogy(y, p) + torch.xlogy(1 - y, 1 - p))
    entropy = -(torch.xlogy(y, y) + torch.xlogy(1 - y, 1 - y))
    return ((bce - entropy) * said).sum() / _whole(said.float())


def _whole(weight: Tensor) -> Tensor:
    """What a sum over this process's samples is divided by: the sum of weights over the batches of
    all processes, as a share, so that the processes' mean is the loss of the whole batch."""
    return total_over_ranks(weight.sum()).clamp(min=1) / world_size()


def _center_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Binary cross-entropy against the Gaussian, less its own entropy (so that a perfect answer
    costs 0), with peaks counted up: most cells hold none."""
    x, y = logits.float()[:, 0], batch.center
    bce = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    entropy = -(torch.xlogy(y, y) + torch.xlogy(1 - y, 1 - y))
    weight = batch.center_weight * (1 + 4 * y)
    return ((bce - entropy) * weight).sum() / _whole(weight)


def _offset_loss(offset: Tensor, batch: Batch) -> Tensor:
    """Mean absolute error in input pixels over the cells of instances."""
    error = (offset.float() - batch.offset).abs().sum(1)  # [N,h,w]
    weight = batch.offset_weight
    return (error * weight).sum() / _whole(weight)
