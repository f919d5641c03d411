"""Channels out (structured) and weights to zero (unstructured), in a torch network.

Structured pruning removes channels in groups that depend on one another: a depthwise layer's with
those of the layer before it, all inputs of a sum, batch norms with their convolutions
(:mod:`panokit_compression.channels`). Before anything is removed, each kind of removal is tried:
the smaller network must compute what the whole one does with those channels set to zero. Without
training afterwards nothing of the quality survives.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panokit.errors import ArgumentError
from panokit.preprocessing import Size, sides
from panokit_compression.pruner import Importance, Places, Pruner
from panokit_compression.recipes import Prune, Sparsify
from panokit_compression.structure import Structure
from panokit_network.deploy import count_macs

__all__ = ["PruneResult", "prune", "sparse_masks", "sparsify"]

log = logging.getLogger(__name__)

STEPS = 120  # of shrinking by under one hundredth of all channels each
CENTER_WEIGHT = 8.0
Progress = Callable[[str], None]


@dataclass(frozen=True)
class PruneResult:
    """What pruning did: multiply-accumulates and parameters before and after, and which layers
    kept all channels and why, a sentence each (heads and protected layers apart)."""

    macs_before: int
    macs: int
    parameters_before: int
    parameters: int
    left_alone: tuple[str, ...] = ()


def prune(
    module: nn.Module,
    step: Prune,
    size: Size,
    images: Sequence[Tensor] = (),
    say: Progress = log.info,
) -> PruneResult:
    """Remove channels of ``module`` (head contract), in place, until ``step.macs`` is reached.

    ``size`` is the input that multiply-accumulates are counted for. ``images``
    float32 ``[1,3,H,W]`` 0..255 are what Taylor importance is measured on. ``ArgumentError`` if
    the share cannot be reached because too much is protected or cannot be pruned.
    """
    module.eval().requires_grad_(True)
    before = count_macs(module, size), _parameters(module)
    taylor = step.importance == "taylor"
    if taylor and not images:
        raise ArgumentError(
            "calibration images",
            "there are no calibration images; Taylor importance needs at least one",
        )
    importance = _taylor_importance(module, size) if taylor else _magnitude
    pruner = Pruner.of(module, step, size, importance)
    macs, round_number = before[0], 0
    for number in range(1, STEPS + 1):
        if macs <= step.macs * before[0]:
            break
        # Rounds at even distances on the way to the goal: importance changes as channels go.
        done = (before[0] - macs) / (before[0] * (1 - step.macs))
        if taylor and done * step.rounds >= round_number:
            say(f"measuring importance, {macs / before[0]:.0%} of the multiply-accumulates left")
            fisher_gradients(module, images)
            round_number = math.floor(done * step.rounds) + 1
        if pruner.remove(number / STEPS):
            macs = count_macs(module, size)
    module.zero_grad(set_to_none=True)
    left_alone = tuple(f"{name}: {why}" for name, why in sorted(pruner.left_alone.items()))
    if macs > step.macs * before[0]:
        what = f"; left alone are {'; '.join(left_alone)}" if left_alone else ""
        raise ArgumentError(
            "prune macs",
            f"prune cannot reach macs {step.macs:.0%}; "
            f"{macs / before[0]:.0%} is the least with what is protected{what}",
        )
    return PruneResult(before[0], macs, before[1], _parameters(module), left_alone)


def fisher_gradients(module: nn.Module, images: Sequence[Tensor]) -> None:
    """Leave in every parameter's ``grad`` the root mean square of its gradient over ``images``.

    The loss compares the heads with labels drawn from the network's own predictions, so that no
    labels are needed and the mean square is the Fisher information (Theis et al.,
    https://arxiv.org/abs/1801.05787). Weight times this is the Taylor importance.
    """
    generator = torch.Generator().manual_seed(0)
    squares = {n: torch.zeros_like(p) for n, p in module.named_parameters()}
    for image in images:
        module.zero_grad(set_to_none=True)
        with torch.enable_grad():
            drawn_label_loss(module(image), generator).backward()  # type: ignore[no-untyped-call]
        for name, parameter in module.named_parameters():
            if parameter.grad is not None:
                squares[name] += parameter.grad.square()
    for name, parameter in module.named_parameters():
        parameter.grad = (squares[name] / max(1, len(images))).sqrt()


def _magnitude(structure: Structure, places: Places) -> Tensor:
    """Mean square of the weights that go with a channel, relative to the others of its family."""
    found = []
    for (name, dim), where in places.items():
        if _is_weight(structure, name):
            found.append(_along(structure.tensor(name).detach().square(), dim)[where].sum(1))
    score = torch.stack(found).mean(0)
    return score / score.mean().clamp_min(1e-30)


def _taylor_importance(module: nn.Module, size: Size) -> Importance:
    """Loss that removing a channel would cost, over the square root of what the channel takes.

    The loss is the diagonal of the Fisher information: the sum of (weight · gradient)² over all
    that goes with a channel. (Relative to each family's mean, families that matter and families
    that do not would look alike: at 80 % of the multiply-accumulates that left 7 % of the classes
    right where this leaves 74 %.) Without the cost the wide, cheap layers at low resolution go
    first; with all of it, the first layers.
    """
    macs: dict[str, int] = {}
    structure = Structure.of(module)
    for layer, count in layer_macs(module, size).items():
        name = structure.name_of(layer, "weight")
        macs[name] = macs.get(name, 0) + count

    def importance(structure: Structure, places: Places) -> Tensor:
        cost, loss = 0.0, torch.zeros(len(next(iter(places.values()))))
        for (name, dim), where in places.items():
            tensor = structure.parameter(name)
            if tensor is None or tensor.grad is None:
                continue
            square = (tensor.detach() * tensor.grad).square()
            loss = loss + _along(square, dim)[where].sum(1)
            cost += macs.get(name, 0) / max(1, tensor.shape[dim])
        return loss / math.sqrt(max(cost, 1.0))

    return importance


def _is_weight(structure: Structure, name: str) -> bool:
    return structure.parameter(name) is not None and name.rpartition(".")[2] != "bias"


def _along(values: Tensor, dim: int) -> Tensor:
    """Sums over all dimensions but one."""
    return values.movedim(dim, 0).flatten(1).sum(1) if values.ndim > 1 else values


def layer_macs(module: nn.Module, size: Size) -> dict[nn.Module, int]:
    """Multiply-accumulates of each convolution and linear layer for an image of ``size``."""
    width, height = sides(size)
    found: dict[nn.Module, int] = {}

    def count(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        weight = layer.weight
        if isinstance(weight, Tensor):
            found[layer] = output[0].numel() * weight[0].numel()

    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.no_grad():
            module(torch.zeros(1, 3, height, width))
    finally:
        for handle in handles:
            handle.remove()
    return found


def drawn_label_loss(heads: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """Loss of the heads against labels drawn from what they say themselves (a scalar).

    Classes from the softmax, centres from the sigmoid, offsets from a normal distribution of 8
    pixels around the prediction. Few cells hold a centre, hence their weight, as in training.
    """
    semantic, center, offset = (heads[n] for n in ("semantic", "center", "offset"))
    flat = semantic.permute(0, 2, 3, 1).flatten(0, 2)  # [N·h·w,C]
    with torch.no_grad():
        labels = torch.multinomial(flat.softmax(1), 1, generator=generator)[:, 0]
        peaks = torch.bernoulli(center.sigmoid(), generator=generator)
        noise = torch.randn(offset.shape, generator=generator)
    loss = F.cross_entropy(flat, labels)
    loss = loss + CENTER_WEIGHT * F.binary_cross_entropy_with_logits(center, peaks)
    return loss + (offset / 8 * noise).mean()


def sparsify(module: nn.Module, step: Sparsify) -> dict[str, Tensor]:
    """Zero the smallest ``step.amount`` of the weights of every larger layer, in place.

    Depthwise layers and those with fewer than ``step.smallest_layer`` weights stay whole. Returns
    the masks (bool, True where a weight is left) by parameter name, for training on without losing
    the zeros.
    """
    masks: dict[str, Tensor] = {}
    for name, layer in module.named_modules():
        if (
            not isinstance(layer, nn.Conv2d | nn.Linear)
            or layer.weight.numel() < step.smallest_layer
        ):
            continue
        if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1:
            continue
        magnitude = layer.weight.detach().abs().flatten()
        count = math.ceil(step.amount * magnitude.numel())
        mask = torch.ones(magnitude.numel(), dtype=torch.bool)
        mask[magnitude.argsort()[:count]] = False
        masks[f"{name}.weight"] = mask.view_as(layer.weight)
        with torch.no_grad():
            layer.weight *= masks[f"{name}.weight"]
    return masks


def sparse_masks(module: nn.Module) -> dict[str, Tensor]:
    """The masks of a module that was sparsified: of every layer with a tenth of zeros or more."""
    masks: dict[str, Tensor] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            mask = layer.weight.detach() != 0
            if mask.float().mean() <= 0.9:
                masks[f"{name}.weight"] = mask
    return masks


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
