"""Which channels of a network belong together, found by watching NaN spread.

A channel of one layer can only go if everything goes that is made from it and for it: rows of the
layers that a sum is made of, entries of a batch norm, columns of the layers that read it. To find
them, weights are set to NaN one channel at a time, and every layer is asked which of its inputs
became NaN. So it does not matter by which operators a network sends its channels around: shuffles,
chunks, concatenations and pixel shuffles need no rule of their own. Where channels are used
together (attention, a mean over channels), NaN reaches all of them, and none can go alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from panokit_compression.structure import Axis, Layer, Structure, without_statistics

__all__ = ["Channel", "Family", "find_families"]

EXACT = 32  # layers up to this width are probed one channel at a time
Slot = tuple[Axis, int]
KEPT: Slot = (("", 0), 0)  # what belongs together with this stays
Seen = dict[Axis, NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class Channel:
    """What goes or stays together: indices by axis, as they were before anything was removed."""

    slots: Mapping[Axis, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Family:
    """Channels that are alike, of the same layers: some may go and others stay.

    ``root`` is the axis of the first layer that makes them, ``layer`` its name.
    """

    root: Axis
    layer: str
    channels: tuple[Channel, ...]

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes that its channels lie on: what a family is known by."""
        return tuple(self.channels[0].slots)

    @property
    def width(self) -> int:
        """How many channels of the root layer there are."""
        return sum(len(channel.slots[self.root]) for channel in self.channels)


def find_families(
    structure: Structure, module: nn.Module, example: Tensor, keep: Sequence[str] = ()
) -> tuple[list[Family], dict[str, str]]:
    """The families of ``module`` (eval mode), and the layers none of whose channels can go, by
    name with the reason. ``structure`` is the module's own.

    ``example`` float32 ``[1,3,H,W]``. Channels of the layers ``keep`` stay, and those that reach
    the module's output; both are not worth a reason.
    """
    classes = _Classes()
    reasons: dict[str, str] = {}
    with _Probe(module, structure, example).watching() as probe:
        for layer in structure.layers.values():
            _join_own(layer, classes)
        for layer in structure.layers.values():
            if layer.makes is None:
                continue
            try:
                seen = _spread_of(probe, layer)
            except Exception as error:  # the user's code may raise anything on NaN
                reasons[layer.name] = f"it cannot be probed ({type(error).__name__}: {error})"
                _keep_all(layer, classes)
                continue
            _join(layer, seen, classes)
    for name in keep:
        _keep_all(structure.layers[name], classes)
    return _families(structure, classes, reasons, set(keep))


class _Classes:
    """Slots that belong together (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[Slot, Slot] = {KEPT: KEPT}

    def find(self, slot: Slot) -> Slot:
        parent = self._parent.setdefault(slot, slot)
        while parent != slot:
            self._parent[slot] = self._parent[parent]
            slot, parent = parent, self._parent[parent]
        return slot

    def join(self, *slots: Slot) -> None:
        first = self.find(slots[0])
        for slot in slots[1:]:
            self._parent[self.find(slot)] = first

    def all(self) -> dict[Slot, list[Slot]]:
        found: dict[Slot, list[Slot]] = defaultdict(list)
        for slot in list(self._parent):
            found[self.find(slot)].append(slot)
        return found


def _join_own(layer: Layer, classes: _Classes) -> None:
    """Slots of one layer that go together whatever the rest of the network does."""
    for group in layer.together:
        classes.join(*group)


def _keep_all(layer: Layer, classes: _Classes) -> None:
    axis, length = (layer.reads, layer.read) if layer.passes else (layer.makes, layer.made)
    if axis is not None:
        classes.join(KEPT, *((axis, i) for i in range(length)))


def _join(layer: Layer, seen: Mapping[Axis, NDArray[np.bool_]], classes: _Classes) -> None:
    """Join what the channels that ``layer`` makes were seen to reach: ``[made,length]`` by axis."""
    axis = layer.makes
    if axis is None:
        return
    for reached, relation in seen.items():
        for made, index in zip(*np.nonzero(relation), strict=True):
            other = KEPT if reached[0].startswith("=") else (reached, int(index))
            classes.join((axis, int(made)), other)


def _families(
    structure: Structure, classes: _Classes, reasons: dict[str, str], keep: set[str]
) -> tuple[list[Family], dict[str, str]]:
    probed = {name: reason for name, reason in reasons.items() if name not in keep}
    makers = {layer.makes: layer.name for layer in structure.layers.values() if layer.makes}
    order = {axis: number for number, axis in enumerate(makers)}
    heads = {axis for axis, _ in classes.all()[classes.find(KEPT)] if axis in makers}
    alike: dict[Any, list[Channel]] = defaultdict(list)
    for slots in classes.all().values():
        by_axis: dict[Axis, list[int]] = defaultdict(list)
        for axis, index in slots:
            by_axis[axis].append(index)
        if KEPT[0] in by_axis or not any(axis in makers for axis in by_axis):
            continue
        whole = [a for a, found in by_axis.items() if len(found) == structure.length(a)]
        if whole:
            for axis in by_axis:
                if axis in makers and structure.length(axis) > 1:
                    reasons.setdefault(makers[axis], "what follows uses its channels together")
            continue
        channel = Channel({a: tuple(sorted(by_axis[a])) for a in sorted(by_axis)})
        alike[tuple((a, len(i)) for a, i in channel.slots.items())].append(channel)
    families = []
    for channels in alike.values():
        roots = [axis for axis in channels[0].slots if axis in makers]
        root = min(roots, key=lambda axis: order[axis])
        ordered = sorted(channels, key=lambda channel: channel.slots[root])
        families.append(Family(root, makers[root], tuple(ordered)))
    families.sort(key=lambda family: order[family.root])
    named = {n: r for n, r in reasons.items() if n not in keep}
    said = {n: r for n, r in named.items() if structure.makes(n) not in heads}
    return families, {**said, **probed}


# -------------------------------------------------------------------------------------- watching


@dataclass
class _Probe:
    """Runs a module with some weights NaN and says which inputs of which layers became NaN."""

    module: nn.Module
    structure: Structure
    example: Tensor
    seen: Seen = field(default_factory=dict)

    @contextmanager
    def watching(self) -> Iterator[_Probe]:
        """Hooks on all layers; taken off at the end."""
        handles = [
            layer.module.register_forward_pre_hook(self._watch(layer), with_kwargs=True)
            for layer in self.structure.layers.values()
            if layer.reads is not None
        ]
        try:
            with without_statistics(self.module), torch.no_grad():
                yield self
        finally:
            for handle in handles:
                handle.remove()

    def _watch(self, layer: Layer) -> Any:
        def hook(_: nn.Module, args: Any, options: Any) -> tuple[Any, Any] | None:
            x = args[0] if args else options["input"]
            bad = torch.isnan(x)
            if layer.reads is None or not bad.any():
                return None
            dim = x.ndim - 1 if layer.last else 1
            channels = bad.movedim(dim, 0).flatten(1).any(1).numpy()
            found = self.seen.setdefault(layer.reads, np.zeros(layer.read, np.bool_))
            np.logical_or.at(found, np.arange(len(channels)) % layer.read, channels)
            if layer.passes:
                return None
            return (torch.nan_to_num(x), *args[1:]), {}  # what it makes of them is its own

        return hook

    def run(self, layer: Layer, made: Sequence[int]) -> Seen:
        """What is NaN if the channels ``made`` of ``layer`` are."""
        self.seen = {}
        with self.structure.poisoned(layer, made):
            heads = self.module(self.example)
        for name, head in heads.items():
            bad = torch.isnan(head).movedim(1, 0).flatten(1).any(1).numpy()
            if bad.any():
                self.seen[f"={name}", 0] = bad
        return self.seen


def _spread_of(probe: _Probe, layer: Layer) -> Seen:
    """Which channels that ``layer`` makes reach what: ``[made,length]`` by axis."""
    if layer.made > EXACT:
        found = _by_digits(probe, layer)
        known = all((r.sum(0) <= 1).all() or r[:, r.any(0)].all() for r in found.values())
        if known:
            return found
    rows: dict[Axis, dict[int, NDArray[np.bool_]]] = defaultdict(dict)
    for made in range(layer.made):
        for axis, vector in probe.run(layer, [made]).items():
            rows[axis][made] = vector
    return {axis: _stacked(found, layer.made) for axis, found in rows.items()}


def _stacked(found: Mapping[int, NDArray[np.bool_]], count: int) -> NDArray[np.bool_]:
    nothing = np.zeros_like(next(iter(found.values())))
    return np.stack([found.get(i, nothing) for i in range(count)])


def _by_digits(probe: _Probe, layer: Layer) -> Seen:
    """The same for wide layers in few runs: with all channels NaN whose number has some binary
    digit. Where several channels reach one place, others may seem to reach it as well."""
    numbers = np.arange(layer.made)
    runs: list[tuple[NDArray[np.bool_], Seen]] = []
    for digit in range(math.ceil(math.log2(layer.made))):
        for value in (0, 1):
            chosen = (numbers >> digit & 1) == value
            runs.append((chosen, probe.run(layer, [int(n) for n in numbers[chosen]])))
    lengths = {axis: len(vector) for _, seen in runs for axis, vector in seen.items()}
    found = {axis: np.ones((layer.made, n), np.bool_) for axis, n in lengths.items()}
    for chosen, seen in runs:
        for axis, relation in found.items():
            relation[chosen] &= seen.get(axis, np.zeros(lengths[axis], np.bool_))
    return found
