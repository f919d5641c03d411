"""Channel counts of a network's layers, as data: a pruned network reloads without being pruned.

Pruning leaves layers that the network's own constructor would not make. Their widths are recorded
with the weights; a freshly made module takes them on before the weights are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from panokit.errors import ArgumentError

__all__ = ["apply_widths", "record_widths"]

Widths = dict[str, dict[str, int]]

CONVS = (nn.Conv2d, nn.ConvTranspose2d)
# What a layer with one number for each channel calls their number.
FEATURES: dict[type[nn.Module], str] = {
    _BatchNorm: "num_features",
    _InstanceNorm: "num_features",
    nn.GroupNorm: "num_channels",
    nn.PReLU: "num_parameters",
}


def record_widths(module: nn.Module) -> Widths:
    """Channels of every convolution, norm and linear layer, by module name."""
    widths: Widths = {}
    for name, layer in module.named_modules():
        if isinstance(layer, CONVS):
            widths[name] = {
                "in": layer.in_channels, "out": layer.out_channels, "groups": layer.groups
            }  # fmt: skip
        elif (features := _features(layer)) is not None:
            widths[name] = {"features": features}
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
        if isinstance(layer, CONVS):
            _widen_convolution(name, layer, wanted)
        elif layer is not None and (own := _features(layer)) is not None:
            (features,) = _whole(name, wanted, "features")
            _check(name, (features, own))
            _set_features(name, layer, own, features)
        elif isinstance(layer, nn.Linear):
            inside, out = _whole(name, wanted, "in", "out")
            _check(name, (inside, layer.in_features), (out, layer.out_features))
            layer.in_features, layer.out_features = inside, out
            _resize(layer, weight=(out, inside), bias=(out,))
        else:
            known = "a convolution, norm or linear layer of the module"
            raise ArgumentError("widths", f"widths name {name!r}; expected {known}")


def _widen_convolution(
    name: str, layer: nn.Conv2d | nn.ConvTranspose2d, wanted: Mapping[str, int]
) -> None:
    inside, out, groups = _whole(name, wanted, "in", "out", "groups")
    _check(name, (inside, layer.in_channels), (out, layer.out_channels))
    if inside % groups or out % groups:
        raise ArgumentError(
            f"widths of {name!r}",
            f"widths of {name!r} are {dict(wanted)}; expected multiples of the groups",
        )
    layer.in_channels, layer.out_channels, layer.groups = inside, out, groups
    first, second = (inside, out) if isinstance(layer, nn.ConvTranspose2d) else (out, inside)
    _resize(layer, weight=(first, second // groups, *layer.weight.shape[2:]), bias=(out,))


def _features(layer: nn.Module) -> int | None:
    """The width of a norm or of an activation with a number for each channel; else None."""
    if isinstance(layer, nn.LayerNorm):
        return layer.normalized_shape[0] if len(layer.normalized_shape) == 1 else None
    if isinstance(layer, nn.PReLU) and layer.num_parameters == 1:
        return None
    kind = next((kind for kind in FEATURES if isinstance(layer, kind)), None)
    return None if kind is None else int(getattr(layer, FEATURES[kind]))


def _set_features(name: str, layer: nn.Module, own: int, features: int) -> None:
    if isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = (features,)
    if isinstance(layer, nn.GroupNorm) and features % layer.num_groups:
        raise ArgumentError(
            f"widths of {name!r}",
            f"widths of {name!r} are {features}; expected a multiple of {layer.num_groups} groups",
        )
    for kind, key in FEATURES.items():
        if isinstance(layer, kind):
            setattr(layer, key, features)
    _resize(layer, **{
        key: (features,) for key, value in layer.named_parameters(recurse=False)
        if value.shape == (own,)
    })  # fmt: skip
    for key, value in list(layer.named_buffers(recurse=False)):
        if value.shape == (own,):
            setattr(layer, key, torch.zeros(features))


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
