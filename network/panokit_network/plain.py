"""A user's module without what stands around it: wrappers, and weights computed on the way."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn
from torch.nn.utils import parametrize

__all__ = ["plain_module"]


def plain_module(module: nn.Module) -> nn.Module:
    """``module`` in eval mode, out of ``DataParallel`` and ``torch.compile``, with weight norm,
    spectral norm and parametrizations worked into plain weights. The module itself if there is
    nothing to take off; else a copy, so that the user's stays as it is."""
    while (inner := _inside(module)) is not None:
        module = inner
    module = module.eval()
    if not any(_computed(m) for m in module.modules()):
        return module
    with torch.no_grad():
        return _settled(module)


def _inside(module: nn.Module) -> nn.Module | None:
    """What a wrapper wraps; None for a module that is none."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        found = module.module
    else:
        found = getattr(module, "_orig_mod", None)  # of torch.compile
    return found if isinstance(found, nn.Module) else None


def _computed(layer: nn.Module) -> bool:
    return parametrize.is_parametrized(layer) or bool(_hooks(layer))


def _hooks(layer: nn.Module) -> list[tuple[int, object]]:
    """The hooks of torch's older weight and spectral norm, which compute a weight at each call."""
    names = ("WeightNorm", "SpectralNorm")
    hooks = layer._forward_pre_hooks.items()
    return [(key, hook) for key, hook in hooks if type(hook).__name__ in names]


def _settled(module: nn.Module) -> nn.Module:
    """A copy whose weights are plain parameters."""
    for layer in module.modules():
        for _, hook in _hooks(layer):
            hook(layer, None)  # type: ignore[operator]  # the weight is up to date, and computed
            name = hook.name  # type: ignore[attr-defined]
            weight = getattr(layer, name)
            # A tensor with a history cannot be copied.
            setattr(layer, name, weight.detach().clone())
    found = copy.deepcopy(module)
    for layer in found.modules():
        for key, hook in _hooks(layer):
            name = hook.name  # type: ignore[attr-defined]
            weight = getattr(layer, name)
            del layer._forward_pre_hooks[key]
            for part in ("_g", "_v", "_orig"):
                layer._parameters.pop(name + part, None)
            layer.__dict__.pop(name, None)
            layer._buffers.pop(name, None)
            setattr(layer, name, nn.Parameter(weight, requires_grad=False))
        if parametrize.is_parametrized(layer):
            computed = cast(nn.ModuleDict, layer.parametrizations)
            values = {name: getattr(layer, name).detach().clone() for name in computed}
            # torch gave the layer a class of its own, which the user's module shares with the copy:
            # removing the parametrization there would take it from both.
            layer.__class__ = type(layer).__bases__[0]
            del layer._modules["parametrizations"]
            for name, value in values.items():
                setattr(layer, name, nn.Parameter(value, requires_grad=False))
    return found.eval()
