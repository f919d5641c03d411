"""The layers of a torch network as pruning sees them: which axes their channels lie on.

An axis is the name of a tensor (a parameter or buffer) and one of its dimensions; a tensor that
several layers share has one name. Norms have an axis of their own besides, ``"name:"``, for those
without weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

__all__ = ["Axis", "Layer", "Structure", "without_statistics"]

Axis = tuple[str, int]
NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Layer:
    """A layer whose channels are known.

    It ``makes`` channels along an axis with ``made`` places and ``reads`` them along another with
    ``read``; ``passes`` if what comes in goes out again in the same channel (norms, depthwise
    convolutions). Its channels are the ``last`` dimension of its input, or the second.
    ``together`` are slots that go or stay together whatever happens elsewhere.
    """

    name: str
    module: nn.Module
    reads: Axis | None
    read: int
    makes: Axis | None = None
    made: int = 0
    passes: bool = False
    last: bool = False
    together: tuple[tuple[tuple[Axis, int], ...], ...] = ()


@dataclass
class Structure:
    """All layers of a module by name, and who holds which tensor."""

    layers: dict[str, Layer] = field(default_factory=dict)
    holders: dict[str, list[tuple[nn.Module, str]]] = field(default_factory=dict)
    lengths: dict[Axis, int] = field(default_factory=dict)

    @classmethod
    def of(cls, module: nn.Module) -> Structure:
        """The structure of ``module``."""
        made = cls()
        names: dict[int, str] = {}
        for prefix, layer in module.named_modules():
            for key, tensor in chain(layer._parameters.items(), layer._buffers.items()):
                if tensor is None:
                    continue
                name = names.setdefault(id(tensor), f"{prefix}.{key}".lstrip("."))
                made.holders.setdefault(name, []).append((layer, key))
                made.lengths.update({(name, d): n for d, n in enumerate(tensor.shape)})
        for prefix, layer in module.named_modules():
            found = _layer(prefix, layer, names)
            if found is not None:
                made.layers[prefix] = found
                if found.reads is not None:
                    made.lengths.setdefault(found.reads, found.read)
        return made

    def length(self, axis: Axis) -> int:
        """How many places an axis has."""
        return self.lengths[axis]

    def makes(self, name: str) -> Axis | None:
        """The axis that a layer makes channels along."""
        return self.layers[name].makes

    def tensor(self, name: str) -> Tensor:
        """A tensor by its name."""
        holder, key = self.holders[name][0]
        found = getattr(holder, key)
        assert isinstance(found, Tensor)
        return found

    def parameter(self, name: str) -> nn.Parameter | None:
        """A parameter by its name; None for buffers and what is no tensor."""
        found = self.tensor(name) if name in self.holders else None
        return found if isinstance(found, nn.Parameter) else None

    def name_of(self, layer: nn.Module, key: str) -> str:
        """The name of a layer's tensor."""
        return next(n for n, found in self.holders.items() if (layer, key) in found)

    @contextmanager
    def poisoned(self, layer: Layer, made: Sequence[int]) -> Iterator[None]:
        """Channels ``made`` of ``layer`` are NaN while it lasts."""
        assert layer.makes is not None
        name, dim = layer.makes
        weight = self.tensor(name).data
        before = weight.clone()
        weight.index_fill_(dim, torch.tensor(list(made)), float("nan"))
        try:
            yield
        finally:
            weight.copy_(before)

    def state(self) -> list[tuple[nn.Module, dict[str, Any]]]:
        """All that :meth:`cut` changes, for :meth:`restore`."""
        owners = {id(m): m for found in self.holders.values() for m, _ in found}
        owners.update({id(layer.module): layer.module for layer in self.layers.values()})
        return [
            (m, {**vars(m), "_parameters": dict(m._parameters), "_buffers": dict(m._buffers)})
            for m in owners.values()
        ]

    def restore(self, state: list[tuple[nn.Module, dict[str, Any]]]) -> None:
        """Make everything as it was."""
        for module, fields in state:
            vars(module).update(
                {**fields, "_parameters": dict(fields["_parameters"]),
                 "_buffers": dict(fields["_buffers"])}
            )  # fmt: skip

    def cut(self, kept: Mapping[Axis, Sequence[int]]) -> None:
        """Leave only the indices ``kept`` of each axis, and tell the layers their new widths."""
        for (name, dim), indices in kept.items():
            if name not in self.holders:
                continue
            chosen = torch.tensor(list(indices), dtype=torch.long)
            before = self.tensor(name)
            after: Any = before.detach().index_select(dim, chosen)
            if isinstance(before, nn.Parameter):
                after = nn.Parameter(after, requires_grad=before.requires_grad)
                if before.grad is not None:
                    after.grad = before.grad.index_select(dim, chosen)
            for holder, key in self.holders[name]:
                setattr(holder, key, after)
        for layer in self.layers.values():
            _tell_widths(layer, kept)


def _layer(name: str, module: nn.Module, names: Mapping[int, str]) -> Layer | None:
    def axis(key: str, dim: int) -> Axis:
        return names[id(getattr(module, key))], dim

    if isinstance(module, CONVS):
        return _convolution(
            name, module, axis("weight", 0), axis("weight", 1), _bias(module, names)
        )
    if isinstance(module, TRANSPOSED):
        return _transposed(name, module, axis("weight", 1), axis("weight", 0), _bias(module, names))
    if isinstance(module, nn.Linear):
        makes, reads = axis("weight", 0), axis("weight", 1)
        together = _beside(makes, module.out_features, _bias(module, names))
        return Layer(name, module, reads, module.in_features, makes, module.out_features,
                     last=True, together=together)  # fmt: skip
    if isinstance(module, NORMS) or (isinstance(module, nn.PReLU) and module.num_parameters > 1):
        return _norm(name, module, names)
    return None


def _bias(module: nn.Module, names: Mapping[int, str]) -> list[Axis]:
    bias = getattr(module, "bias", None)
    return [] if bias is None else [(names[id(bias)], 0)]


def _beside(first: Axis, count: int, others: Sequence[Axis]) -> Any:
    return tuple(((first, i), *((other, i) for other in others)) for i in range(count))


def _convolution(name: str, module: Any, out: Axis, inside: Axis, bias: list[Axis]) -> Layer:
    groups, each = module.groups, module.weight.shape[1]
    if groups > 1 and each == 1:  # depthwise: a channel goes with all that is made of it
        own = (f"{name}:", 0)
        many = module.out_channels // groups
        together = tuple(
            ((own, g), *((axis, g * many + i) for i in range(many) for axis in (out, *bias)))
            for g in range(groups)
        )
        return Layer(name, module, own, groups, passes=True, together=together)
    # Groups stay of one size: what is at the same place in each of them goes together.
    size = module.out_channels // groups
    together = tuple(
        tuple((axis, g * size + i) for g in range(groups) for axis in (out, *bias))
        for i in range(size)
    )
    return Layer(name, module, inside, each, out, module.out_channels, together=together)


def _transposed(name: str, module: Any, out: Axis, inside: Axis, bias: list[Axis]) -> Layer:
    groups, each = module.groups, module.weight.shape[1]
    size = module.in_channels // groups
    beside = tuple(
        ((out, i), *((axis, g * each + i) for g in range(groups) for axis in bias))
        for i in range(each)
    )
    same_place = tuple(tuple((inside, g * size + i) for g in range(groups)) for i in range(size))
    return Layer(name, module, inside, module.in_channels, out, each,
                 together=(*beside, *same_place) if groups > 1 else beside)  # fmt: skip


def _norm(name: str, module: nn.Module, names: Mapping[int, str]) -> Layer | None:
    own = (f"{name}:", 0)
    if isinstance(module, nn.LayerNorm):
        if len(module.normalized_shape) != 1:
            return None
        count = module.normalized_shape[0]
    else:
        count = _features(module)
    tensors = [t for t in chain(module._parameters.values(), module._buffers.values())
               if t is not None and t.shape == (count,)]  # fmt: skip
    beside = _beside(own, count, [(names[id(t)], 0) for t in tensors])
    if isinstance(module, nn.GroupNorm):  # its groups stay of one size as well
        size = count // module.num_groups
        beside += tuple(
            tuple((own, g * size + i) for g in range(module.num_groups)) for i in range(size)
        )
    return Layer(name, module, own, count, passes=True, last=isinstance(module, nn.LayerNorm),
                 together=beside)  # fmt: skip


def _features(module: Any) -> int:
    for key in ("num_features", "num_channels", "num_parameters"):
        if hasattr(module, key):
            return int(getattr(module, key))
    raise AttributeError(type(module).__name__)


def _tell_widths(layer: Layer, kept: Mapping[Axis, Sequence[int]]) -> None:
    """Set what a layer says about its own widths."""
    module: Any = layer.module
    if isinstance(module, CONVS) and layer.passes:
        many = module.out_channels // module.groups
        module.out_channels = module.weight.shape[0]
        module.in_channels = module.groups = module.out_channels // many
    elif isinstance(module, CONVS):
        module.out_channels = module.weight.shape[0]
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, TRANSPOSED):
        module.in_channels = module.weight.shape[0]
        module.out_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif layer.reads is not None and layer.reads in kept:
        count = len(kept[layer.reads])
        if isinstance(module, nn.LayerNorm):
            module.normalized_shape = (count,)
            return
        for key in ("num_features", "num_channels", "num_parameters"):
            if hasattr(module, key):
                setattr(module, key, count)


@contextmanager
def without_statistics(module: nn.Module) -> Iterator[None]:
    """Layer and group norms do no more than scale and shift while it lasts: what they make of the
    other channels is no connection between two of them that pruning has to keep."""

    def hook(norm: Any, args: Any, options: Any, _: Tensor) -> Tensor:
        x: Tensor = args[0] if args else options["input"]
        shape = [-1] if isinstance(norm, nn.LayerNorm) else [-1, *[1] * (x.ndim - 2)]
        if norm.weight is not None:
            x = x * norm.weight.reshape(shape)
        return x if norm.bias is None else x + norm.bias.reshape(shape)

    norms = [m for m in module.modules() if isinstance(m, nn.GroupNorm)
             or (isinstance(m, nn.LayerNorm) and len(m.normalized_shape) == 1)]  # fmt: skip
    handles = [norm.register_forward_hook(hook, with_kwargs=True) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
