"""Names in a weight file to names in a module.

Wrappers leave their names in files: ``module.`` (data parallel), ``_orig_mod.`` (compiled),
``model.`` (the attribute of a training loop), any other prefix; or a file lacks the prefix that the
module has. Weights that a module shares lie in a file once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Fit", "fit_names"]

_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
_COUNTERS = ("num_batches_tracked",)
_NEW_NORM = "parametrizations.weight.original"
SHOWN = 3


@dataclass(frozen=True)
class Fit:
    """Weights under the names of a module.

    ``state`` holds what fits; ``missing`` names what the module wants besides, ``unknown`` what the
    file has under the same prefix, ``reshaped`` says which have another shape; ``aside`` names what
    lies elsewhere in the file (losses, a teacher). ``prefix`` was taken off names.
    """

    state: dict[str, Tensor]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    reshaped: tuple[str, ...]
    aside: tuple[str, ...] = ()
    prefix: str = ""

    @property
    def good(self) -> bool:
        """Whether every weight of the module is there, and nothing else."""
        return not (self.missing or self.unknown or self.reshaped)

    @property
    def trouble(self) -> str:
        """What does not fit, in words."""
        parts = []
        if self.missing:
            parts.append(f"{len(self.missing)} are missing ({_some(self.missing)})")
        if self.unknown:
            parts.append(f"{len(self.unknown)} are unknown to it ({_some(self.unknown)})")
        if self.reshaped:
            parts.append(f"{len(self.reshaped)} have another shape ({_some(self.reshaped)})")
        return ", ".join(parts)


def fit_names(state: Mapping[str, Tensor], module: nn.Module) -> Fit:
    """``state`` under the names of ``module``, whichever wrappers left theirs in either."""
    wanted = module.state_dict()
    short = {_WRAPPERS.sub("", name): name for name in wanted}  # the module may be wrapped itself
    given = {_WRAPPERS.sub("", name): value for name, value in state.items()}
    given = {name: value for name, value in given.items() if not name.endswith("n_averaged")}
    given = _weight_norms(given, parametrized=any(_NEW_NORM in name for name in short))
    prefix, added = _prefixes(given, short)
    found: dict[str, Tensor] = {}
    unknown: list[str] = []
    aside: list[str] = []
    for name, value in given.items():
        if not name.startswith(prefix):
            aside.append(name)
            continue
        inner = added + name.removeprefix(prefix)
        own = short.get(inner) or short.get(_without_module(inner))
        if own is None:
            unknown.append(name)
        else:
            found[own] = value
    _share(found, wanted)
    missing = [n for n in wanted if n not in found and not n.endswith(_COUNTERS)]
    reshaped = [
        f"{n}: {list(found[n].shape)} in the file, {list(wanted[n].shape)} in the module"
        for n in found
        if found[n].shape != wanted[n].shape
    ]
    return Fit(found, tuple(missing), tuple(unknown), tuple(reshaped), tuple(aside), prefix)


def _weight_norms(given: dict[str, Tensor], *, parametrized: bool) -> dict[str, Tensor]:
    """Weight norm of older torch (``weight_g``, ``weight_v``) under its names of today, or, for a
    module without it, as the weight that it makes."""
    found = dict(given)
    for name in given:
        stem = name.removesuffix("weight_g")
        direction = f"{stem}weight_v"
        if stem == name or direction not in given:
            continue
        g, v = found.pop(name), found.pop(direction)
        if parametrized:
            found |= {f"{stem}{_NEW_NORM}0": g, f"{stem}{_NEW_NORM}1": v}
        else:
            axes = tuple(axis for axis in range(v.ndim) if g.shape[axis] == 1)
            norm = torch.linalg.vector_norm(v, dim=axes, keepdim=True)
            found[f"{stem}weight"] = v * (g / norm)
    return found


def _prefixes(given: Mapping[str, Tensor], wanted: Mapping[str, str]) -> tuple[str, str]:
    """The prefix to take off the file's names, and the one to put before them: those that fit most
    names; none where none helps."""
    best, most = ("", ""), sum(name in wanted for name in given)
    taken = _counts(given, wanted)
    for prefix in sorted(taken, key=lambda p: (taken[p], "ema" in p), reverse=True)[:1]:
        if taken[prefix] > most:
            best, most = (prefix, ""), taken[prefix]
    for prefix, count in _counts(wanted, given).most_common(1):
        if count > most:
            best, most = ("", prefix), count
    return best


def _counts(longer: Mapping[str, object], shorter: Mapping[str, object]) -> Counter[str]:
    """How many names of ``longer`` become one of ``shorter`` without a prefix, by prefix."""
    counts: Counter[str] = Counter()
    for name in longer:
        at = name.find(".")
        while at >= 0:
            if name[at + 1 :] in shorter:
                counts[name[: at + 1]] += 1
            at = name.find(".", at + 1)
    return counts


def _without_module(name: str) -> str:
    """A name without the ``module.`` that a wrapped submodule leaves inside it."""
    return name.replace(".module.", ".").removeprefix("module.")


def _share(found: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Weights that a module uses under several names lie in a file once."""
    by_place: dict[tuple[int, tuple[int, ...]], str] = {}
    for name in found:
        by_place.setdefault(_place(wanted[name]), name)
    for name, value in wanted.items():
        twin = by_place.get(_place(value))
        if name not in found and twin is not None and value.numel():
            found[name] = found[twin]


def _place(tensor: Tensor) -> tuple[int, tuple[int, ...]]:
    return tensor.data_ptr(), tuple(tensor.shape)


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown}, …" if len(names) > SHOWN else shown
