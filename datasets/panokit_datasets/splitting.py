"""Splitting a data set so that every part has its share of every class, and photos that belong
together stay together.

Photos of one group (a sequence, a city), and photos that look the same, go to one part; the rarest
classes are shared out first. (K. Sechidis et al., "On the Stratification of Multi-Label Data",
ECML PKDD 2011.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from panokit.errors import ArgumentError
from panokit_datasets.duplicates import near_pairs

__all__ = ["joined", "stratified"]


def joined(
    groups: Sequence[str], digests: Sequence[str] = (), differences: Sequence[int | None] = ()
) -> list[int]:
    """The number of the unit of each photo: photos with the same group (unless it is empty), the
    same bytes or pictures that look the same are one unit."""
    parent = list(range(len(groups)))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    for keys in (groups, digests):
        first: dict[str, int] = {}
        for at, key in enumerate(keys):
            if key:
                parent[root(at)] = root(first.setdefault(key, at))
    for a, b in near_pairs(differences):
        parent[root(b)] = root(a)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(at), len(numbers)) for at in range(len(groups))]


def stratified(
    classes: Sequence[Sequence[int]],
    units: Sequence[int],
    shares: Mapping[str, float],
    seed: int = 0,
) -> list[str]:
    """The part that each photo goes to.

    ``classes`` are the classes of each photo, ``units`` which photos stay together, ``shares`` how
    much each part gets (they are scaled to 1). Same input, same result.
    """
    if not shares or any(not 0 < s < 1e6 for s in shares.values()):
        raise ArgumentError("shares", f"shares are {dict(shares)}; expected numbers above 0")
    names = list(shares)
    wanted = np.array(list(shares.values()), np.float64)
    wanted /= wanted.sum()
    count = max(units, default=-1) + 1
    width = max((c for photo in classes for c in photo), default=-1) + 1
    per_unit = np.zeros((count, width + 1), np.int64)  # the last column counts photos
    for unit, photo in zip(units, classes, strict=True):
        per_unit[unit, list(photo)] += 1
        per_unit[unit, width] += 1
    left = wanted[:, None] * per_unit.sum(0)[None]  # how much each part still wants
    part_of = np.full(count, -1, np.int64)
    order = np.array([_mixed(seed, u) for u in range(count)], np.float64)
    open_units = np.ones(count, bool)
    while open_units.any():
        totals = per_unit[open_units][:, :width].sum(0)
        known = np.flatnonzero(totals)
        column = int(known[totals[known].argmin()]) if known.size else width
        here = np.flatnonzero(open_units & (per_unit[:, column] > 0))
        # The largest units first: small ones fill what is left.
        here = here[np.lexsort((order[here], -per_unit[here, column]))]
        for unit in here.tolist():
            key = left[:, column], left[:, width]
            part = int(np.lexsort((np.arange(len(names)), -key[1], -key[0]))[0])
            part_of[unit] = part
            left[part] -= per_unit[unit]
            open_units[unit] = False
    return [names[part_of[u]] for u in units]


def _mixed(seed: int, number: int) -> float:
    """A number from 0 to 1 that looks drawn, the same on every machine."""
    digest = hashlib.sha256(f"{seed}:{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
