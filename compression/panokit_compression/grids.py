"""The values that stored weights may have: even grids and palettes.

A grid is fitted to the weights of one layer, ``rows`` float64 ``[groups,rows,taps]`` (one group
for a dense layer, one row a group for a depthwise one; either way one row per output channel),
and then says which value is nearest to any other. ``rounding.py`` chooses between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["INT4", "INT8", "EvenGrid", "Fitted", "Grid", "PaletteGrid", "palette"]

Floats = NDArray[np.float64]

SHRINK = np.linspace(1.0, 0.5, 26)  # of the largest weight: clippings that are tried
LLOYD_ROUNDS = 200
RIDGE = 1e-4  # keeps a palette's value where hardly a weight says where it should be


class Fitted(Protocol):
    """A grid fitted to a layer."""

    def nearest(self, weights: Floats) -> Floats:
        """The values nearest to ``weights`` ``[groups,rows]`` of one tap, or ``[…,taps]``."""
        ...

    def finish(self, rounded: Floats) -> Floats:
        """``rounded`` ``[groups,rows,taps]`` with what storing it takes."""
        ...

    def refit(self, rows: Floats, rounded: Floats, covariance: Floats) -> Fitted | None:
        """The grid that suits ``rows`` best if each weight keeps the value it has in ``rounded``;
        None if the grid cannot move."""
        ...


class Grid(Protocol):
    """A kind of grid."""

    def fit(self, rows: Floats, variance: Floats) -> Fitted:
        """Fit it to ``rows``, given the ``variance`` ``[groups,taps]`` of their inputs."""
        ...


@dataclass(frozen=True)
class EvenGrid:
    """Whole steps from ``-levels`` to ``levels``, one step size per output channel: the largest
    weight / ``levels``. With ``clip`` the largest weights are clipped where that costs less than
    coarser steps for all others."""

    levels: int
    clip: bool = False

    def fit(self, rows: Floats, variance: Floats) -> Fitted:
        """See :class:`Grid`."""
        at = np.abs(rows).argmax(2)[:, :, None]
        ends = np.take_along_axis(rows, at, 2)  # [groups,rows,1]
        largest = np.abs(ends[:, :, 0])
        step = np.where(largest > 0, largest / self.levels, 1.0)
        if self.clip:
            errors = []
            for share in SHRINK:
                found = _even(rows, step[:, :, None] * share, self.levels)
                errors.append(np.einsum("grt,gt->gr", (found - rows) ** 2, variance))
            chosen = SHRINK[np.argmin(errors, axis=0)]
            step, ends = step * chosen, ends * chosen[:, :, None]
        return _Steps(step, self.levels, at, ends)


@dataclass(frozen=True)
class _Steps:
    step: Floats  # [groups,rows]
    levels: int
    largest_at: NDArray[np.intp]  # [groups,rows,1]
    ends: Floats  # what the largest weights become

    def nearest(self, weights: Floats) -> Floats:
        step = self.step if weights.ndim == 2 else self.step[:, :, None]
        return _even(weights, step, self.levels)

    def finish(self, rounded: Floats) -> Floats:
        """The largest weight stays at an end, or the quantizer would choose another step."""
        out = rounded.copy()
        np.put_along_axis(out, self.largest_at, self.ends, 2)
        return out

    def refit(self, rows: Floats, rounded: Floats, covariance: Floats) -> None:
        return None


def _even(weights: Floats, step: Floats, levels: int) -> Floats:
    whole: Floats = np.clip(np.round(weights / step), -levels, levels)
    return whole * step


@dataclass(frozen=True)
class PaletteGrid:
    """2^``bits`` values, one palette for all output channels or per ``group`` of them.

    Fitted by k-means, each weight counting by the variance of its input; float16, as a Core ML
    package stores them.
    """

    bits: int
    group: int = 0

    def fit(self, rows: Floats, variance: Floats) -> Fitted:
        """See :class:`Grid`."""
        groups, count, taps = rows.shape
        flat = rows.reshape(-1, taps)
        weight = np.repeat(variance, count, axis=0)
        size = self.group or len(flat)
        tables = [
            palette(flat[at : at + size].ravel(), weight[at : at + size].ravel(), 2**self.bits)
            for at in range(0, len(flat), size)
        ]
        owner = (np.arange(len(flat)) // size).reshape(groups, count)
        return _Palettes(_half(np.stack(tables)), owner)


@dataclass(frozen=True)
class _Palettes:
    tables: Floats  # [palettes,values], ascending
    owner: NDArray[np.intp]  # [groups,rows]

    def nearest(self, weights: Floats) -> Floats:
        return self._values(self._index(weights))

    def finish(self, rounded: Floats) -> Floats:
        return rounded

    def refit(self, rows: Floats, rounded: Floats, covariance: Floats) -> _Palettes:
        """Least squares: the palettes that change the layer's output least for these choices."""
        index = self._index(rounded)
        values = self.tables.shape[1]
        quadratic = np.zeros((len(self.tables), values, values))
        linear = np.zeros((len(self.tables), values))
        chosen = np.eye(values)
        for g, r in np.ndindex(self.owner.shape):
            p, z = self.owner[g, r], chosen[index[g, r]]  # [taps,values]
            moved = covariance[g] @ z
            quadratic[p] += z.T @ moved
            linear[p] += rows[g, r] @ moved
        scale = np.trace(quadratic, axis1=1, axis2=2) / values * RIDGE + 1e-30
        quadratic += scale[:, None, None] * np.eye(values)
        linear += scale[:, None] * self.tables
        found = np.linalg.solve(quadratic, linear[:, :, None])[:, :, 0]
        return _Palettes(_half(np.sort(found, axis=1)), self.owner)

    def _index(self, weights: Floats) -> NDArray[np.intp]:
        middles = (self.tables[:, 1:] + self.tables[:, :-1]) / 2
        if weights.ndim == 2:
            return np.asarray((weights[:, :, None] > middles[self.owner]).sum(-1), np.intp)
        columns = [self._index(weights[:, :, t]) for t in range(weights.shape[2])]
        return np.stack(columns, axis=2)

    def _values(self, index: NDArray[np.intp]) -> Floats:
        owner = self.owner if index.ndim == 2 else self.owner[:, :, None]
        return self.tables[owner, index]


def palette(values: Floats, weight: Floats, size: int) -> Floats:
    """``size`` values, ascending, that ``values`` are near to: k-means in one dimension.

    Lloyd's rounds over the sorted values, from quantiles of the density's cube root, where the
    best values lie if there are many (Panter and Dite 1951).
    """
    order = np.argsort(values, kind="stable")
    x, w = values[order], weight[order] + weight.mean() * 1e-6 + 1e-30
    below = np.concatenate([[0.0], np.cumsum(w)])
    moment = np.concatenate([[0.0], np.cumsum(w * x)])
    histogram, edges = np.histogram(x, 512, weights=w)
    share = np.cumsum(np.cbrt(histogram))
    at = (np.arange(size) + 0.5) / size * share[-1]
    found = np.interp(at, np.concatenate([[0.0], share]), edges)
    for _ in range(LLOYD_ROUNDS):
        ends = np.searchsorted(x, (found[1:] + found[:-1]) / 2)
        ends = np.concatenate([[0], ends, [len(x)]])
        mass = np.diff(below[ends])
        mean = np.diff(moment[ends]) / np.where(mass > 0, mass, 1)
        moved = np.where(mass > 0, mean, found)
        if np.array_equal(moved, found):
            break
        found = moved
    return np.sort(found)


def _half(values: Floats) -> Floats:
    return values.astype(np.float16).astype(np.float64)


INT8, INT4 = EvenGrid(127), EvenGrid(7, clip=True)
