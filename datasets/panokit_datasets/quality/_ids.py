"""Looking up what belongs to each id of a map, refusing ids nobody described, and erosion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError
from panokit.taxonomy import VOID

__all__ = ["band_width", "check_map", "erode", "index_of_ids"]


def check_map(name: str, values: NDArray[Any], shape: tuple[int, ...] | None = None) -> None:
    """Raise ``ArgumentError`` unless ``values`` is a whole-number map ``[H,W]`` (of ``shape``)."""
    good = isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind in "iu"
    if not good or (shape is not None and values.shape != shape):
        sized = "[H,W]" if shape is None else f"of shape {shape}"
        got = f"{getattr(values, 'dtype', type(values))} {getattr(values, 'shape', '')}"
        raise ArgumentError(name, f"{name} is {got}; expected an array of whole numbers {sized}")


def index_of_ids(
    name: str, ids: NDArray[Any], known: Sequence[int], unlisted: int | None = None
) -> NDArray[np.int64]:
    """int64 of the shape of ``ids``: 0 where it is void, else 1 + index into ``known``.

    An id that is neither void nor known becomes ``unlisted``; without that it raises
    ``ArgumentError``, as do repeated known ids.
    """
    table = np.array([VOID, *known], np.int64)
    order = np.argsort(table, kind="stable")
    ranked = table[order]
    twice = ranked[1:][ranked[1:] == ranked[:-1]]
    if twice.size:
        raise ArgumentError(
            name,
            f"{name} has segment {int(twice[0])} twice or as 0; "
            "expected segments with one id each, none of them 0",
        )
    ids = ids.astype(np.int64)  # unsigned 64-bit ids would be compared as floats
    place = np.minimum(np.searchsorted(ranked, ids), len(ranked) - 1)
    strange = ranked[place] != ids
    if unlisted is not None:
        return np.where(strange, unlisted, order[place])
    if strange.any():
        got = f"{ids[strange][0]} in the map"
        raise ArgumentError(
            name, f"{name} has {got}; expected every id to be 0 or listed with the segments"
        )
    return np.asarray(order[place])


def band_width(shape: tuple[int, ...], ratio: float) -> int:
    """How many pixels wide the boundary band is in a map ``[H,W]``, at least 1: ``ratio`` of the
    diagonal."""
    if not 0 < ratio <= 1:
        raise ArgumentError("ratio", f"ratio is {ratio!r}; expected a number above 0 and at most 1")
    return max(1, round(ratio * float(np.hypot(shape[0], shape[1]))))


def erode(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Along the last axis: whether all of the 2·radius + 1 pixels around are set."""
    sums = np.cumsum(np.pad(mask, ((0, 0), (radius + 1, radius))), axis=1, dtype=np.int64)
    side = 2 * radius + 1
    return np.asarray(sums[:, side:] - sums[:, :-side] == side)
