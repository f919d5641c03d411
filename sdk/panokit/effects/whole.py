"""Objects whole: what lies inside an object belongs to it, and crumbs of it fall away.

Networks leave islands in objects: ribbons on a coat are void, a face is "wall". Effects that take
the map as it is blur them, cut them out or leave them behind. This step, between map and effect,
gives the islands to the object around them, unless the photo speaks against it: through the gap
under an arm one sees the background, and its colours say so.

It is no part of decoding: maps, their validation and their measures know nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from panokit.components import components
from panokit.effects._grid import coarse, on_photo
from panokit.effects.colors import color_codes, color_histogram
from panokit.effects.morphology import dilate, erode
from panokit.photo import Photo
from panokit.result import PanopticResult

__all__ = ["whole_mask"]

SIDE = 320
"""Longest side of the grid that islands are looked for on: about the network's own."""

_CLOSED = 0.012  # bays so narrow, in shares of the grid, are closed before islands are looked for
_LARGEST = 0.2  # an island larger than this share of the object is a hole
_CRUMB = 0.01  # a piece smaller than this share of the largest one falls away
_SEEN_THROUGH = 0.55  # so likely the background's colours must be for a hole
_BINS = 8  # of each channel
_RING = 0.06  # how far around an object its background counts, in shares of the grid


def whole_mask(photo: Photo, result: PanopticResult, ids: Sequence[int]) -> NDArray[np.bool_]:
    """Where segments lie, bool ``[H,W]``, with the islands inside them and without their crumbs.

    Islands are void or stuff; another thing stays what it is. Stuff is taken as it is: what flies
    in the sky is no part of it.
    """
    full = result.mask(*ids)
    if not all(result.get(i).is_thing for i in ids):
        return full
    step, grid = coarse(full.shape, SIDE)
    small = full[grid]
    if not small.any():
        return full
    things = [s.id for s in result if s.is_thing and s.id not in ids]
    filled = _filled(small, photo.rgb_hwc[grid], np.isin(result.id_map[grid], things))
    crumbs = _crumbs(small)
    if not (filled.any() or crumbs.any()):
        return full
    out = full.copy()
    for at, value in ((filled, True), (crumbs, False)):
        out[on_photo(at, step, full.shape)] = value
    return out & ~np.isin(result.id_map, things)


def _filled(
    mask: NDArray[np.bool_], colors: NDArray[np.uint8], things: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The islands of a mask that belong to it. Bays that are narrow are closed before."""
    radius = max(1, round(_CLOSED * max(mask.shape)))
    closed = erode(dilate(mask, radius), radius) | mask
    parts, areas = components(~closed)
    rim = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    open_parts = set(np.unique(rim).tolist())
    limit = _LARGEST * int(mask.sum())
    out = np.zeros_like(mask)
    likely = None
    for number, area in enumerate(areas, 1):
        island = parts == number
        if number in open_parts or area > limit or things[island].mean() > 0.5:
            continue
        if likely is None:
            outside = ~closed & ~_islands(parts, open_parts)
            likely = _background_likelihood(mask, colors, outside)
        if float(likely[island].mean()) < _SEEN_THROUGH:
            out |= dilate(island, radius) & ~mask
    return out


def _islands(parts: NDArray[np.int32], open_parts: set[int]) -> NDArray[np.bool_]:
    """Where the parts lie that do not reach the border of the photo."""
    return (parts > 0) & ~np.isin(parts, list(open_parts))


def _background_likelihood(
    mask: NDArray[np.bool_], colors: NDArray[np.uint8], outside: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """How likely the colour of each pixel is the background's near the object and not the object's,
    0 to 1, from histograms of both."""
    ring = dilate(mask, max(2, round(_RING * max(mask.shape)))) & outside
    code = color_codes(colors, _BINS)
    counts = [color_histogram(code, region, _BINS) for region in (ring, mask)]
    back, own = (c / max(1.0, c.sum()) for c in counts)
    share = (back + 1e-9) / (back + own + 2e-9)
    return np.asarray(share[code], np.float32)


def _crumbs(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pieces that are too small beside the largest to be of the object."""
    parts, areas = components(mask)
    small = [n for n, area in enumerate(areas, 1) if area < _CRUMB * areas[0]]
    return np.isin(parts, small) if small else np.zeros_like(mask)
