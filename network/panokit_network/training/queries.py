"""Training a query network: which query answers for which segment, and how wrong it is.

A query of its own answers for each stuff class: query i for the i-th one. The objects of a photo
are matched with the other queries so that the sum of costs is least (Carion et al., DETR,
https://arxiv.org/abs/2005.12872); a matched query learns its class and, by cross-entropy and Dice
loss, its mask (Cheng et al., https://arxiv.org/abs/2107.06278); the others learn "no object", as
far as the photo's labels say that nothing is there. Data, schedule and steps are those of
:class:`panokit_network.training.trainer.Trainer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from panokit.errors import MissingExtraError
from panokit_network.checkpoint import read_safetensors
from panokit_network.queries import QueryNetwork
from panokit_network.source import save_state
from panokit_network.training.augment import PADDING, Scene
from panokit_network.training.cache import PhotoCache
from panokit_network.training.losses import Stacked
from panokit_network.training.parallel import world_size
from panokit_network.training.scenes import SceneStream
from panokit_network.training.targets import HEAD_STRIDE, LabelWeights
from panokit_network.training.trainer import Trainer

__all__ = ["QueryBatch", "QueryTargets", "QueryTrainer", "make_query_targets", "query_loss"]

MOST_TARGETS = 64
"""Segments of a scene that are learned; of more, the largest."""

UNKNOWN = -2
"""Cell of a target map: anything may be there."""
NO_TARGET = -1
"""Cell of a target map: no target, though perhaps stuff that nobody labelled."""

_CLASS, _MASK, _DICE = 2.0, 5.0, 5.0  # weights of the terms, in matching and in the loss
_NO_OBJECT = 0.1
_EARLIER = 0.5  # weight of what the queries say one block before


@dataclass(frozen=True)
class QueryTargets:
    """Targets of one scene of H rows and W columns.

    ``index`` int16 ``[H/4,W/4]``: a target, :data:`NO_TARGET` or :data:`UNKNOWN`; ``channels``
    int16 ``[T]`` of the targets, -1 after the last; ``target_weights`` float32 ``[T]``, how sure
    each is; ``known`` float32 ``[C]``: 1 where an instance of the class that is in no target is
    known not to be there, 0 where nobody knows.
    """

    index: NDArray[np.int16]
    channels: NDArray[np.int16]
    target_weights: NDArray[np.float32]
    known: NDArray[np.float32]


@dataclass
class QueryBatch(Stacked):
    """A batch of images and their :class:`QueryTargets`, stacked."""

    index: Tensor  # int16 [N,S/4,S/4]
    channels: Tensor  # int16 [N,T]
    target_weights: Tensor  # float32 [N,T]
    known: Tensor  # float32 [N,C]


def make_query_targets(scene: Scene, weights: LabelWeights) -> QueryTargets:
    """Targets of a scene: each object one, all segments of a stuff class together one."""
    half = HEAD_STRIDE // 2
    cells = scene.segment_map[half::HEAD_STRIDE, half::HEAD_STRIDE].astype(np.int64)
    count = len(scene.segments)
    cells = np.where(cells == PADDING, count + 1, cells)
    area = np.bincount(cells.ravel(), minlength=count + 2)
    code = np.full(count + 2, UNKNOWN, np.int16)
    if not scene.complete:
        code[0] = NO_TARGET
    channels = np.full(MOST_TARGETS, -1, np.int16)
    sure = np.zeros(MOST_TARGETS, np.float32)
    stuff: dict[int, int] = {}
    made = 0
    for i in sorted(range(count), key=lambda i: -area[i + 1]):
        segment = scene.segments[i]
        if not area[i + 1] or segment.ignore or (segment.is_thing and segment.is_crowd):
            continue
        if not segment.is_thing and segment.channel in stuff:
            code[i + 1] = stuff[segment.channel]
            continue
        if made == MOST_TARGETS:
            break
        channels[made], sure[made], code[i + 1] = segment.channel, weights.semantic(segment), made
        if not segment.is_thing:
            stuff[segment.channel] = made
        made += 1
    known = np.zeros(len(weights.thing_mask), np.float32)
    known[list(scene.absent)] = 1
    if scene.complete:
        known[:] = 1
    for segment in scene.segments:  # more of a crowd's class may be anywhere in it
        if segment.is_thing and (segment.is_crowd or segment.ignore):
            known[segment.channel] = 0
    return QueryTargets(code[cells], channels, sure, known)


def query_loss(
    heads: dict[str, Tensor], batch: QueryBatch, stuff: list[int], class_weight: Tensor
) -> dict[str, Tensor]:
    """Loss terms ``class``, ``mask``, ``dice`` and their weighted ``total`` (scalars).

    ``stuff`` are the channels of stuff classes: the i-th is query i's. ``class_weight`` float32
    ``[C]``.
    """
    pairs = [
        _match(heads["classes"][n].detach().float(), heads["masks"][n].detach().float(), batch, n,
               stuff)
        for n in range(len(batch.image))
    ]  # fmt: skip
    total: dict[str, Tensor] = {}
    for prefix, share in (("", 1.0), ("earlier_", _EARLIER)):
        if f"{prefix}classes" not in heads:
            continue
        classes, masks = heads[f"{prefix}classes"].float(), heads[f"{prefix}masks"].float()
        parts = _terms(classes, masks, batch, pairs, stuff, class_weight)
        for name, value in parts.items():
            total[name] = total.get(name, torch.zeros(())) + share * value
    weights = {"class": _CLASS, "mask": _MASK, "dice": _DICE}
    return {"total": sum(weights[n] * v for n, v in total.items()), **total}  # type: ignore[dict-item]


def _match(
    classes: Tensor, masks: Tensor, batch: QueryBatch, n: int, stuff: list[int]
) -> tuple[Tensor, Tensor]:
    """Queries and their targets, int64 ``[k]`` each, of one image."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise MissingExtraError("training a query network", "train") from None

    channels = batch.channels[n].long()
    own = [(stuff.index(int(c)), t) for t, c in enumerate(channels) if int(c) in stuff]
    things = [t for t, c in enumerate(channels) if int(c) >= 0 and int(c) not in stuff]
    first = len(stuff)
    if things:
        index = batch.index[n, 1::2, 1::2].long()  # every second cell is enough to match
        known = (index != UNKNOWN).flatten().float()
        wanted = torch.stack([(index == t).flatten() for t in things]).float()  # [T,p]
        logits = masks[first:, 1::2, 1::2].flatten(1)  # [Q,p]
        p = logits.sigmoid() * known
        crossed = (F.softplus(logits) * known).sum(1)[:, None] - logits @ wanted.T
        overlap = 2 * p @ wanted.T + 1
        dice = 1 - overlap / (p.sum(1)[:, None] + wanted.sum(1)[None, :] + 1)
        probability = classes[first:].softmax(-1)[:, channels[things]]
        cost = _MASK * crossed / known.sum().clamp(min=1) + _DICE * dice - _CLASS * probability
        rows, cols = linear_sum_assignment(cost.cpu().numpy())
        own += [(first + int(q), things[int(t)]) for q, t in zip(rows, cols, strict=True)]
    pairs = torch.tensor(own, dtype=torch.int64, device=classes.device).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _terms(
    classes: Tensor,
    masks: Tensor,
    batch: QueryBatch,
    pairs: list[tuple[Tensor, Tensor]],
    stuff: list[int],
    class_weight: Tensor,
) -> dict[str, Tensor]:
    """The three terms, over all images of the batch."""
    n, q, columns = classes.shape
    image = torch.cat([torch.full_like(k, i) for i, (k, _) in enumerate(pairs)])
    query, target = (torch.cat([p[side] for p in pairs]) for side in (0, 1))
    channel = batch.channels[image, target].long()
    sure = batch.target_weights[image, target]
    label = torch.full((n, q), columns - 1, device=classes.device)
    label[image, query] = channel
    # A query without a target learns so as far as what it could find is known not to be there.
    things = [c for c in range(columns - 1) if c not in stuff]
    nothing = batch.known[:, things].mean(1, keepdim=True).expand(n, q).clone()
    nothing[:, : len(stuff)] = batch.known[:, stuff]
    weight = _NO_OBJECT * nothing
    weight[image, query] = sure * class_weight[channel]
    crossed = F.cross_entropy(classes.flatten(0, 1), label.flatten(), reduction="none")
    by_class = (crossed * weight.flatten()).sum() / weight.sum().clamp(min=1)
    if not len(image):
        return {"class": by_class, "mask": masks.sum() * 0, "dice": masks.sum() * 0}
    index = batch.index.long()[image]  # [k,h,w]
    wanted = (index == target[:, None, None]).float()
    valid = index != UNKNOWN
    is_stuff = torch.isin(channel, torch.tensor(stuff, device=channel.device))
    valid &= (index != NO_TARGET) | ~is_stuff[:, None, None]
    logits, known = masks[image, query], valid.float()
    bce = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    bce = (bce * known).flatten(1).sum(1) / known.flatten(1).sum(1).clamp(min=1)
    p = logits.sigmoid() * known
    overlap = 2 * (p * wanted).flatten(1).sum(1) + 1
    dice = 1 - overlap / (p.flatten(1).sum(1) + wanted.flatten(1).sum(1) + 1)
    whole = sure.sum().clamp(min=1)
    return {
        "class": by_class,
        "mask": (bce * sure).sum() / whole,
        "dice": (dice * sure).sum() / whole,
    }


class QueryTrainer(Trainer):
    """Trains a :class:`QueryNetwork`; see :class:`Trainer`. ``init`` is a weight file of our
    center-offset network, whose pyramid is taken, or one of an earlier run."""

    def new_network(self) -> QueryNetwork:
        """See :meth:`Trainer.new_network`."""
        return QueryNetwork(self.config.network, self.config.queries)

    def load_initial(self, path: str | Path) -> None:
        """See :meth:`Trainer.load_initial`; what the file lacks stays as it begins."""
        own = self.model.state_dict()
        stored, _ = read_safetensors(Path(path))
        fitting = {k: v.float() for k, v in stored.items() if k in own and v.shape == own[k].shape}
        self.model.load_state_dict(fitting, strict=False)

    def new_stream(self, cache: PhotoCache) -> SceneStream:
        """See :meth:`Trainer.new_stream`."""
        return SceneStream(cache, self.taxonomy, self.config, self.rank, world_size(),
                           make_query_targets, QueryBatch)  # fmt: skip

    def write_weights(self, path: Path) -> None:
        """See :meth:`Trainer.write_weights`; a file for ``--module``."""
        network = self.new_network()
        state = {k: v.cpu() for k, v in self.loop.averages.items()}
        network.load_state_dict(state, strict=False)
        save_state(path, network.half())

    def loss_of(self, heads: dict[str, Tensor], batch: Any) -> dict[str, Tensor]:
        """See :meth:`Trainer.loss_of`."""
        stuff = np.flatnonzero(~self.taxonomy.thing_mask).tolist()
        return query_loss(heads, batch, stuff, self.class_weight)

    def _relative_rate(self, parameter: str) -> float:
        """What comes from good weights learns slower."""
        if parameter.startswith("backbone."):
            return self.config.backbone_rate
        inherited = cast(QueryNetwork, self.model).inherited
        return self.config.pyramid_rate if parameter in inherited else 1.0
