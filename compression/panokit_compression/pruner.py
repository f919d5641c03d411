"""Removes channels of a network that belong together, and puts back what does not compute right."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from panokit.preprocessing import Size, sides
from panokit_compression.channels import Channel, Family, find_families
from panokit_compression.layers import match_layers
from panokit_compression.recipes import Prune
from panokit_compression.structure import Axis, Structure, without_statistics

__all__ = ["Importance", "Pruner"]

log = logging.getLogger(__name__)

PROBE_SIZES = (32, 64)  # sides of the image that connections are looked for on
# Of the largest number of a head. In float64, so that a wrong connection shows even where it makes
# hardly a difference, as between heads of an attention that looks everywhere alike.
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4}
MOST = 0.99  # of all channels that may go, whatever the recipe says

Places = Mapping[Axis, Tensor]
"""Where each channel of a family lies on the axes as they are now, int64 ``[channels,places]``."""
Importance = Callable[[Structure, Places], Tensor]
"""Of each channel of a family, ``[channels]``: the larger, the later it goes."""


@dataclass
class Pruner:
    """A module on the way to fewer channels, in place. ``left_alone`` are layers that keep all of
    theirs, with the reason."""

    module: nn.Module
    step: Prune
    importance: Importance
    structure: Structure
    example: Tensor
    dense: nn.Module  # as the module was before; removed channels are set to zero in it. float64
    # where the module can compute in it
    left_alone: dict[str, str]
    families: list[Family] = field(default_factory=list)
    first: dict[tuple[Axis, ...], int] = field(default_factory=dict)  # widths at the beginning
    gone: dict[Axis, set[int]] = field(default_factory=dict)
    removed: int = 0
    count: int = 0  # of all channels that could go at the beginning

    @classmethod
    def of(cls, module: nn.Module, step: Prune, size: Size, importance: Importance) -> Pruner:
        """Find the families of ``module`` and try each."""
        layers = [n for n, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        keep = match_layers(layers, step.protected, "protected") if step.protected else []
        structure, example = Structure.of(module), _example(module, size)
        families, left_alone = find_families(structure, module, example, keep)
        exact, image = _exact(module, example)
        pruner = cls(module, step, importance, structure, image, exact, left_alone)
        refused = pruner._take(families)
        # Halves of a chunk, say: neither can go without as many of the other.
        for key in (lambda f: (f.root, len(f.channels)), lambda f: len(f.channels)):
            refused = pruner._take(refused, key)
        for family, reason in refused.items():
            left_alone.setdefault(family.layer, reason)
        pruner.count = sum(len(family.channels) for family in pruner.families)
        return pruner

    def _take(
        self,
        families: Iterable[Family],
        joined_by: Callable[[Family], Hashable] | None = None,
    ) -> dict[Family, str]:
        """Add the families whose channels can go. The others with the reason why they cannot; with
        ``joined_by``, those that are alike in it are joined to one, channel by channel."""
        together: dict[Hashable, list[Family]] = {}
        for number, family in enumerate(families):
            together.setdefault(joined_by(family) if joined_by else number, []).append(family)
        refused: dict[Family, str] = {}
        known = families if isinstance(families, dict) else {}
        for members in together.values():
            family = _joined(members) if len(members) > 1 else members[0]
            if family in known:
                refused[family] = known[family]
                continue
            self.first[family.axes] = family.width
            if (reason := self._fault(family)) is None:
                self.families.append(family)
            else:
                refused.update({member: known.get(member, reason) for member in members})
        return refused

    def remove(self, share: float) -> bool:
        """Remove the least important channels, so that ``share`` (0..1) of all are gone; whether
        any went. Families that turn out not to bear it are left alone."""
        wanted = round(MOST * share * self.count) - self.removed
        chosen = self._least_important(wanted) if wanted > 0 else {}
        channels = [channel for found in chosen.values() for channel in found]
        if not channels:
            return False
        with self._unless_fine(channels) as reasons:
            pass
        if not reasons:
            self.removed += len(channels)
            self.families = [
                replace(family, channels=_without(family.channels, chosen.get(number, [])))
                for number, family in enumerate(self.families)
            ]
            return True
        for number in chosen:  # each bears it alone: together they do not
            self.left_alone.setdefault(self.families[number].layer, reasons[0])
        self.families = [f for number, f in enumerate(self.families) if number not in chosen]
        return False

    def _fault(self, family: Family) -> str | None:
        """Why channels of a family cannot go; None if they can. Tried with the first ones and
        with some here and there, and put back."""
        size = self._most(family, max(1, len(family.channels) // 3))
        if not size:
            return None  # too narrow to lose any
        generator = torch.Generator().manual_seed(0)
        mixed = torch.randperm(len(family.channels), generator=generator)[:size].tolist()
        for chosen in (range(size), mixed):
            with self._unless_fine([family.channels[i] for i in chosen], undo=True) as reasons:
                pass
            if reasons:
                return reasons[0]
        return None

    def _least_important(self, wanted: int) -> dict[int, list[Channel]]:
        """The channels to remove next, by the number of their family."""
        scores = [self.importance(self.structure, self._places(f)) for f in self.families]
        if not scores:
            return {}
        ranked = torch.cat(scores).sort().values
        threshold = ranked[min(wanted, len(ranked)) - 1]
        chosen: dict[int, list[Channel]] = {}
        for number, (family, score) in enumerate(zip(self.families, scores, strict=True)):
            count = self._most(family, int((score <= threshold).sum()))
            if count:
                order = score.argsort(stable=True)[:count].tolist()
                chosen[number] = [family.channels[i] for i in order]
        return chosen

    def _most(self, family: Family, wanted: int) -> int:
        """The largest number of channels up to ``wanted`` that may go: a width stays a multiple of
        ``multiple_of``, and no more than ``largest_cut`` of it goes."""
        step, each = self.step, len(family.channels[0].slots[family.root])
        least = self.first[family.axes] * (1 - step.largest_cut)
        kept = max(1, math.ceil(least / step.multiple_of) * step.multiple_of)
        most = min(wanted, (family.width - kept) // each, len(family.channels) - 1)
        for count in range(most, 0, -1):
            if (family.width - count * each) % step.multiple_of == 0:
                return count
        return 0

    def _left(self, axis: Axis) -> list[int]:
        """What is left of an axis, by its first numbering."""
        gone = self.gone.get(axis, set())
        return [i for i in range(self.structure.length(axis)) if i not in gone]

    def _places(self, family: Family) -> dict[Axis, Tensor]:
        found: dict[Axis, Tensor] = {}
        for axis in family.axes:
            now = {first: place for place, first in enumerate(self._left(axis))}
            rows = [[now[i] for i in channel.slots[axis]] for channel in family.channels]
            found[axis] = torch.tensor(rows, dtype=torch.long)
        return found

    @contextmanager
    def _unless_fine(self, channels: Iterable[Channel], undo: bool = False) -> Iterator[list[str]]:
        """Remove ``channels``. What is wrong with the result goes into the list, and then, or with
        ``undo``, everything is put back."""
        saved = self.structure.state(), {axis: set(gone) for axis, gone in self.gone.items()}
        reasons: list[str] = []
        self._cut(channels)
        if (reason := self._wrong()) is not None:
            reasons.append(reason)
        if reasons or undo:
            self.structure.restore(saved[0])
            self.gone = saved[1]
        yield reasons

    def _cut(self, channels: Iterable[Channel]) -> None:
        going: dict[Axis, set[int]] = {}
        for channel in channels:
            for axis, indices in channel.slots.items():
                going.setdefault(axis, set()).update(indices)
        kept: dict[Axis, list[int]] = {}
        for axis, leaving in going.items():
            left = self._left(axis)
            kept[axis] = [place for place, first in enumerate(left) if first not in leaving]
            self.gone.setdefault(axis, set()).update(leaving)
        self.structure.cut(kept)

    @torch.no_grad()
    def _wrong(self) -> str | None:
        """What is wrong with the module as it is; None if it computes what the dense one does with
        the same channels set to zero."""
        with without_statistics(self.dense), _zeroed(self.dense, self.gone):
            expected = self.dense(self.example)
        module, dtype = self.module, self.example.dtype
        if dtype != torch.float32:
            module = copy.deepcopy(module).to(dtype)
        try:
            with without_statistics(module):
                found = module(self.example)
        except Exception as error:  # the user's code may raise anything
            return f"fewer channels do not fit ({type(error).__name__}: {_first_line(error)})"
        for name, head in expected.items():
            limit = TOLERANCE[dtype] * float(head.abs().max()) + 1e-12
            if found[name].shape != head.shape or not (found[name] - head).abs().max() <= limit:
                return "with fewer channels it computes something else"
        return None


@contextmanager
def _zeroed(module: nn.Module, gone: Mapping[Axis, set[int]]) -> Iterator[None]:
    """The parameters of ``module`` are zero at ``gone`` while it lasts."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    saved = {name: parameters[name].data.clone() for name, _ in gone if name in parameters}
    for (name, dim), indices in gone.items():
        if name in saved:
            parameters[name].data.index_fill_(dim, torch.tensor(sorted(indices)), 0.0)
    try:
        yield
    finally:
        for name, values in saved.items():
            parameters[name].data.copy_(values)


def _joined(families: Sequence[Family]) -> Family:
    """One family of several with as many channels each."""
    channels = []
    for members in zip(*(family.channels for family in families), strict=True):
        slots: dict[Axis, tuple[int, ...]] = {}
        for axis, indices in (item for channel in members for item in channel.slots.items()):
            slots[axis] = tuple(sorted({*slots.get(axis, ()), *indices}))
        channels.append(Channel(slots))
    return Family(families[0].root, families[0].layer, tuple(channels))


def _without(channels: tuple[Channel, ...], gone: Iterable[Channel]) -> tuple[Channel, ...]:
    numbers = {id(channel) for channel in gone}
    return tuple(channel for channel in channels if id(channel) not in numbers)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:160]


def _exact(module: nn.Module, image: Tensor) -> tuple[nn.Module, Tensor]:
    """A copy of ``module`` in float64 with the image, in float32 if it computes in nothing else."""
    found = copy.deepcopy(module)
    try:
        with torch.no_grad():
            heads = copy.deepcopy(module).double()(image.double())
        if all(head.dtype == torch.float64 for head in heads.values()):
            return found.double(), image.double()
    except Exception as error:  # the user's code may make float32 numbers of its own
        log.debug("not in float64: %s", error)
    return found, image


def _example(module: nn.Module, size: Size) -> Tensor:
    """A picture of noise, small where the module takes small ones."""
    generator = torch.Generator().manual_seed(0)
    width, height = sides(size)
    smaller = [(side, side) for side in PROBE_SIZES if side < min(width, height)]
    for w, h in (*smaller, (width, height)):
        image = torch.rand(1, 3, h, w, generator=generator) * 255
        try:
            with torch.no_grad():
                heads = module(image)
            if all(torch.isfinite(head).all() for head in heads.values()):
                return image
        except Exception as error:  # the user's code may raise anything; then at the full size
            log.debug("not run at %dx%d: %s", w, h, error)
    return torch.rand(1, 3, height, width, generator=generator) * 255
