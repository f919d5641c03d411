"""Channel counts of a network's layers, as data: a pruned network reloads without being pruned.

Pruning leaves layers that the network's own constructor would not make. Their widths are recorded
with the weights; a freshly made module takes them on before the weights are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from panokit.errors import ArgumentError

__all__ = ["apply_widths", "record_widths"]

Widths = dict[str, dict[str, int]]


def record_widths(module: nn.Module) -> Widths:
    """Channels of every convolution, batch norm and linear layer, by module name."""
    widths: Widths = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):
            widths[name] = {
                "in": layer.in_channels, "out": layer.out_channels, "groups": layer.groups
            }  # fmt: skip
        elif isinstance(layer, nn.BatchNorm2d):
            widths[name] = {"features": layer.num_features}
        elif isinstance(layer, nn.Linear):
            widths[name] = {"in": layer.in_features, "out": layer.out_features}
    return widths


def apply_widths(module: nn.Module, widths: Mapping[str, Mapping[str, int]]) -> None:
    """Give the layers of a freshly made ``module`` the recorded widths, in place.

    Weights of changed layers are zero until a state is loaded. ``ArgumentError`` names what does
    not fit: an unknown layer, a wider one than the module's own (a file from outside must not
    choose how much memory is taken), or numbers that make no layer.
    """
    layers = dict(module.named_modules())
    for name, wanted in widths.items():
        layer = layers.get(name)
        if isinstance(layer, nn.Conv2d):
            inside, out, groups = _whole(name, wanted, "in", "out", "groups")
            _check(name, (inside, layer.in_channels), (out, layer.out_channels))
            if inside % groups or out % groups:
                raise ArgumentError(
                    f"widths of {name!r}",
                    f"widths of {name!r} are {dict(wanted)}; expected multiples of the groups",
                )
            layer.in_channels, layer.out_channels, layer.groups = inside, out, groups
            shape = (out, inside // groups, *layer.weight.shape[2:])
            _resize(layer, weight=shape, bias=(out,))
        elif isinstance(layer, nn.BatchNorm2d):
            (features,) = _whole(name, wanted, "features")
            _check(name, (features, layer.num_features))
            layer.num_features = features
            _resize(layer, weight=(features,), bias=(features,))
            for statistic in ("running_mean", "running_var"):
                if getattr(layer, statistic) is not None:
                    setattr(layer, statistic, torch.zeros(features))
        elif isinstance(layer, nn.Linear):
            inside, out = _whole(name, wanted, "in", "out")
            _check(name, (inside, layer.in_features), (out, layer.out_features))
            layer.in_features, layer.out_features = inside, out
            _resize(layer, weight=(out, inside), bias=(out,))
        else:
            known = "a convolution, batch norm or linear layer of the module"
            raise ArgumentError("widths", f"widths name {name!r}; expected {known}")


def _whole(name: str, wanted: Mapping[str, Any], *keys: str) -> tuple[int, ...]:
    values = tuple(wanted.get(k) for k in keys)
    if not all(isinstance(v, int) and not isinstance(v, bool) and v >= 1 for v in values):
        raise ArgumentError(
            f"widths of {name!r}",
            f"widths of {name!r} are {dict(wanted)}; expected whole numbers {', '.join(keys)}",
        )
    return values  # type: ignore[return-value]


def _check(name: str, *pairs: tuple[int, int]) -> None:
    for wanted, own in pairs:
        if wanted > own:
            raise ArgumentError(
                f"widths of {name!r}",
                f"widths of {name!r} are {wanted}; expected at most the module's own {own}",
            )


def _resize(layer: nn.Module, **shapes: tuple[int, ...]) -> None:
    for key, shape in shapes.items():
        parameter = getattr(layer, key)
        if parameter is not None and tuple(parameter.shape) != shape:
            fresh = nn.Parameter(torch.zeros(shape), requires_grad=parameter.requires_grad)
            setattr(layer, key, fresh)
