"""Channels out (structured) and weights to zero (unstructured), in a torch network.

Structured pruning removes channels in groups that depend on one another: a depthwise layer's with
those of the layer before it, all inputs of a sum, batch norms with their convolutions
(Torch-Pruning; Fang et al., https://arxiv.org/abs/2301.12900). Without training afterwards
nothing of the quality survives.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panokit._quiet import quiet
from panokit.errors import ArgumentError, MissingExtraError
from panokit.preprocessing import Size, sides
from panokit_compression.layers import match_layers
from panokit_compression.recipes import Prune, Sparsify
from panokit_network.deploy import count_macs

__all__ = ["PruneResult", "prune", "sparse_masks", "sparsify"]

log = logging.getLogger(__name__)

STEPS = 120  # of shrinking by under one hundredth of all channels each
CENTER_WEIGHT = 8.0
Progress = Callable[[str], None]


@dataclass(frozen=True)
class PruneResult:
    """What pruning did: multiply-accumulates and parameters before and after."""

    macs_before: int
    macs: int
    parameters_before: int
    parameters: int


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
    the share cannot be reached because too much is protected.
    """
    tp = _tool()
    module.eval().requires_grad_(True)
    before = count_macs(module, size), _parameters(module)
    taylor = step.importance == "taylor"
    if taylor and not images:
        raise ArgumentError(
            "calibration images",
            "there are no calibration images; Taylor importance needs at least one",
        )
    pruner = _pruner(tp, module, step, size)
    macs, round_number = before[0], 0
    for _ in range(STEPS):
        if macs <= step.macs * before[0]:
            break
        # Rounds at even distances on the way to the goal: importance changes as channels go.
        done = (before[0] - macs) / (before[0] * (1 - step.macs))
        if taylor and done * step.rounds >= round_number:
            say(f"measuring importance, {macs / before[0]:.0%} of the multiply-accumulates left")
            fisher_gradients(module, images)
            round_number = math.floor(done * step.rounds) + 1
        with quiet(log):
            pruner.step()
        macs = count_macs(module, size)
    module.zero_grad(set_to_none=True)
    if macs > step.macs * before[0]:
        raise ArgumentError(
            "prune macs",
            f"prune cannot reach macs {step.macs:.0%}; "
            f"{macs / before[0]:.0%} is the least with what is protected",
        )
    return PruneResult(before[0], macs, before[1], _parameters(module))


def _pruner(tp: Any, module: nn.Module, step: Prune, size: Size) -> Any:
    width, height = sides(size)
    example = torch.zeros(1, 3, height, width)
    importance = (
        _taylor_importance(tp, layer_macs(module, size))
        if step.importance == "taylor"
        else tp.importance.GroupMagnitudeImportance()
    )
    return tp.pruner.BasePruner(
        module,
        example,
        importance=_limited(importance, step),
        global_pruning=True,
        pruning_ratio=0.99,
        max_pruning_ratio=step.largest_cut,
        iterative_steps=STEPS,
        ignored_layers=protected_layers(module, example, step.protected),
        round_to=step.multiple_of,
        output_transform=lambda heads: [heads[name] for name in sorted(heads)],
    )


def protected_layers(
    module: nn.Module, example: Tensor, patterns: Sequence[str] = ()
) -> list[nn.Module]:
    """The layers whose outputs must keep all channels: those the heads come from, found by
    walking back from the heads, and those that ``patterns`` name."""
    layers = {n: m for n, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    names = set(match_layers(layers, patterns, "protected") if patterns else [])
    of_weight = {id(m.weight): n for n, m in layers.items()}
    with torch.enable_grad():
        heads = module(example)
    waiting = [h.grad_fn for h in heads.values() if h.grad_fn is not None]
    seen: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        inputs = [n for n, _ in node.next_functions if n is not None]
        weights = {of_weight.get(id(getattr(n, "variable", None))) for n in inputs} - {None}
        if weights:  # a layer: what lies before it may lose channels
            names |= {w for w in weights if w is not None}
        else:
            waiting += inputs
    return [layers[n] for n in sorted(names)]


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


def _taylor_importance(tp: Any, macs: dict[nn.Module, int]) -> Callable[..., Tensor]:
    """Loss that removing a channel would cost, over the square root of what the channel takes.

    The loss is the diagonal of the Fisher information: the sum of (weight · gradient)² over all
    that goes with a channel. (The library's own Taylor importance is relative to each group's
    mean, which makes groups that matter and groups that do not look alike: at 80 % of the
    multiply-accumulates it left 7 % of the classes right where this one leaves 74 %.) Without
    the cost the wide, cheap layers at low resolution go first; with all of it, the first layers.
    """

    def importance(group: Any) -> Tensor:
        loss = cost = 0.0
        for dependency, indices in group:
            layer, handler = dependency.target.module, dependency.handler
            weight = getattr(layer, "weight", None)
            if weight is None or weight.grad is None:
                continue
            outwards = handler in (tp.prune_conv_out_channels, tp.prune_linear_out_channels,
                                   tp.prune_batchnorm_out_channels,
                                   tp.prune_depthwise_conv_out_channels)  # fmt: skip
            square = (weight.detach() * weight.grad).square()
            dim = 0 if outwards or weight.shape[1:2] == (1,) else 1
            per_channel = square.transpose(0, dim).flatten(1).sum(1) if weight.ndim > 1 else square
            if outwards and layer.bias is not None and layer.bias.grad is not None:
                per_channel = per_channel + (layer.bias.detach() * layer.bias.grad).square()
            loss = loss + per_channel[torch.as_tensor(indices)]
            cost += macs.get(layer, 0) / max(1, weight.shape[dim])
        return loss / math.sqrt(max(cost, 1.0))  # type: ignore[return-value]

    return importance


def _limited(importance: Callable[..., Any], step: Prune) -> Callable[..., Any]:
    """``importance`` with the best channels of each layer beyond all price, so many that no more
    than ``step.largest_cut`` of them go. (The library looks at its limit before a step, may go far
    beyond it in one, and rounds what is left down to ``step.multiple_of``.)"""
    widths: dict[nn.Module, int] = {}

    def limited(group: Any) -> Any:
        found = importance(group)
        if found is None:
            return None
        layer = group[0].dep.target.module
        least = widths.setdefault(layer, len(found)) * (1 - step.largest_cut)
        kept = math.ceil(least / step.multiple_of) * step.multiple_of
        best = found.topk(min(kept, len(found))).indices
        return found.index_fill(0, best, math.inf)

    return limited


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


def _tool() -> Any:
    try:
        with quiet(log):
            import torch_pruning
    except ImportError as error:
        if error.name == "torch_pruning":
            raise MissingExtraError("pruning", "export") from None
        raise
    return torch_pruning
