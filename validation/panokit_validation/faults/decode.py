"""The decoding with its steps exposed, to replay what an app may do differently.

With the default plan it gives the regions of :func:`panokit.postprocessing.postprocess` (a test
holds the two together); scores are left out, and what is costly is kept between plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.postprocessing import PostprocessConfig
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import Taxonomy

__all__ = ["DecodePlan", "Decoder", "Regions"]

FloatArray = NDArray[np.float32]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class DecodePlan:
    """How the heads become a map. The first fields are the bundle's
    :class:`~panokit.postprocessing.PostprocessConfig`; ``sigmoid`` counts how often it is applied
    to the centre logits; ``offset_axes`` is ``"yx"`` or ``"xy"``; ``offset_factor`` scales the
    offsets, 0 standing for the stride (taken for head cells) and -1 for its inverse; ``upsample``
    is ``"half-pixel"``, ``"corners"`` or ``"nearest"``; ``label_shift`` is added to every channel
    (what falls out is void); ``mask_padding`` makes the letterbox padding void; ``transpose`` swaps
    rows and columns of the finished map.
    """

    threshold: float
    window: int
    top_k: int
    min_thing_area: int
    min_stuff_area: int
    grid: str
    min_thing_score: float = 0.0
    sigmoid: int = 1
    offset_axes: str = "yx"
    offset_factor: float = 1.0
    upsample: str = "half-pixel"
    label_shift: int = 0
    mask_padding: bool = True
    transpose: bool = False

    @classmethod
    def of(cls, config: PostprocessConfig) -> DecodePlan:
        """The right plan for a bundle's parameters."""
        c = config
        areas = (c.min_thing_area, c.min_stuff_area)
        return cls(c.threshold, c.window, c.top_k, *areas, c.grid, c.min_thing_score)


@dataclass(frozen=True)
class Regions:
    """A decoded map: int32 ``[H,W]`` ids (0 = void) and the channel of every segment."""

    ids: NDArray[np.int32]
    channels: dict[int, int]


class Decoder:
    """Decodes one photo's heads by any number of plans."""

    def __init__(
        self,
        heads: Mapping[str, NDArray[Any]],
        transform: TransformRecord,
        taxonomy: Taxonomy,
    ) -> None:
        """``heads``: real values float32 ``[h,w,C]`` (``center`` with or without its axis)."""
        self._semantic = np.ascontiguousarray(heads["semantic"], np.float32)
        center = np.asarray(heads["center"], np.float32)
        self._center = center[..., 0] if center.ndim == 3 else center
        self._offset = np.ascontiguousarray(heads["offset"], np.float32)
        self._transform, self._taxonomy = transform, taxonomy
        self._cells = self._center.shape
        self._classes: dict[tuple[str, str], NDArray[np.intp]] = {}
        # Resized logits and the logarithm of the sum of their exponentials, where scores count.
        self._logits: dict[tuple[str, str], tuple[FloatArray, FloatArray]] = {}
        self._peaks: dict[tuple[int, int, bool], tuple[Indices, FloatArray]] = {}

    def decode(self, plan: DecodePlan) -> Regions:
        """The regions that an app with this plan finds."""
        channels = self._class_map(plan) + plan.label_shift
        size = len(self._taxonomy)
        inside = (channels >= 0) & (channels < size)
        if plan.mask_padding:
            inside &= self._content(channels.shape)
        channels = np.where(inside, channels, -1)
        thing = inside & np.asarray(self._taxonomy.thing_mask)[channels]
        votes = self._votes(thing, plan)
        regions = self._assemble(channels, votes, thing, plan)
        if plan.transpose and regions.ids.shape[0] == regions.ids.shape[1]:
            return Regions(np.ascontiguousarray(regions.ids.T), regions.channels)
        return regions

    def _shape(self, grid: str) -> tuple[int, int]:
        w, h = self._transform.input_wh
        return (h, w) if grid == "input" else (self._cells[0], self._cells[1])

    def _class_map(self, plan: DecodePlan) -> NDArray[np.intp]:
        key = (plan.upsample, plan.grid)
        if key not in self._classes:
            full = _upsample(self._semantic, self._shape(plan.grid), plan.upsample)
            self._classes[key] = full.argmax(-1)
        return self._classes[key]

    def _content(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Cells of a grid whose centre lies on the photo."""
        (w_in, h_in), t = self._transform.input_wh, self._transform
        y = (2 * np.arange(shape[0]) + 1) * h_in
        x = (2 * np.arange(shape[1]) + 1) * w_in
        rows = (y >= 2 * shape[0] * t.top) & (y < 2 * shape[0] * (t.top + t.content_wh[1]))
        cols = (x >= 2 * shape[1] * t.left) & (x < 2 * shape[1] * (t.left + t.content_wh[0]))
        return np.asarray(rows[:, None] & cols)

    def _centers(self, plan: DecodePlan) -> tuple[Indices, FloatArray]:
        """Head cells ``[n,2]`` of the centres, best first, and their scores."""
        key = (plan.window, plan.sigmoid, plan.mask_padding)
        if key not in self._peaks:
            scores = self._center
            for _ in range(plan.sigmoid):
                x = np.clip(scores.astype(np.float64), -700, 700)
                scores = (1 / (1 + np.exp(-x))).astype(np.float32)
            peak = _local_maxima(scores, plan.window)
            if plan.mask_padding:
                peak &= self._content(self._cells)
            cells, found = np.argwhere(peak), scores[peak]
            order = np.argsort(-found, kind="stable")
            self._peaks[key] = cells[order], found[order]
        cells, found = self._peaks[key]
        count = int(np.searchsorted(-found, -np.float32(plan.threshold), side="right"))
        kept = min(count, plan.top_k)
        return cells[:kept], found[:kept]

    def _votes(self, thing: NDArray[np.bool_], plan: DecodePlan) -> NDArray[np.int32]:
        votes = np.full(thing.shape, -1, np.int32)
        cells, _ = self._centers(plan)
        rows, cols = np.nonzero(thing)
        if not len(cells) or not len(rows):
            return votes
        (w_in, h_in), (h, w) = self._transform.input_wh, self._cells
        step_y, step_x = np.float32(h_in / h), np.float32(w_in / w)
        cy = (cells[:, 0] + np.float32(0.5)) * step_y
        cx = (cells[:, 1] + np.float32(0.5)) * step_x
        units = {0.0: h_in / h, -1.0: h / h_in}
        factor = units.get(plan.offset_factor, plan.offset_factor)
        # Sampled per pixel only where things are.
        offset = _sample(self._offset, thing.shape, rows, cols, plan.upsample) * np.float32(factor)
        if plan.offset_axes == "xy":
            offset = offset[:, ::-1]
        pixel_y, pixel_x = np.float32(h_in / thing.shape[0]), np.float32(w_in / thing.shape[1])
        at_y = (rows.astype(np.float32) + np.float32(0.5)) * pixel_y + offset[:, 0]
        at_x = (cols.astype(np.float32) + np.float32(0.5)) * pixel_x + offset[:, 1]
        best = np.full(len(rows), np.inf, np.float32)
        rank = np.zeros(len(rows), np.int32)
        for k, (y, x) in enumerate(zip(cy.astype(np.float32), cx.astype(np.float32), strict=True)):
            dy, dx = at_y - y, at_x - x
            distance = dy * dy + dx * dx
            closer = distance < best
            rank[closer] = k
            np.minimum(best, distance, out=best)
        votes[rows, cols] = rank
        return votes

    def _assemble(
        self,
        channels: NDArray[np.intp],
        votes: NDArray[np.int32],
        thing: NDArray[np.bool_],
        plan: DecodePlan,
    ) -> Regions:
        size, ids_of = len(self._taxonomy), np.asarray(self._taxonomy.ids)
        known = votes >= 0
        count = int(votes.max(initial=-1)) + 1
        histogram = np.bincount(
            votes[known] * size + channels[known], minlength=count * size
        ).reshape(count, size)
        found: dict[int, int] = {}
        things = np.zeros(count + 1, np.int32)  # the last is for "no centre"
        by_id = np.argsort(ids_of)
        tops = by_id[histogram[:, by_id].argmax(1)]  # a tie goes to the lowest id
        kept = histogram.sum(1) >= max(1, plan.min_thing_area)
        if plan.min_thing_score > 0:
            kept &= self._scores(votes, tops, plan) >= plan.min_thing_score
        for k in np.flatnonzero(kept):
            things[k] = len(found) + 1
            found[len(found) + 1] = int(tops[k])
        stuff_mask = (channels >= 0) & ~thing
        areas = np.bincount(channels[stuff_mask], minlength=size)
        stuff = np.zeros(size, np.int32)
        for c in sorted(
            np.flatnonzero(areas >= max(1, plan.min_stuff_area)), key=ids_of.__getitem__
        ):
            stuff[c] = len(found) + 1
            found[len(found) + 1] = int(c)
        ids = np.where(thing, things[votes], np.where(stuff_mask, stuff[channels], 0))
        return Regions(ids.astype(np.int32), found)

    def _scores(
        self, votes: NDArray[np.int32], tops: NDArray[np.intp], plan: DecodePlan
    ) -> NDArray[np.float64]:
        """Score of each instance: its centre's times the mean probability of its class."""
        key = (plan.upsample, plan.grid)
        if key not in self._logits:
            full = _upsample(self._semantic, self._shape(plan.grid), plan.upsample)
            high = full.max(-1)
            self._logits[key] = full, high + np.log(np.exp(full - high[..., None]).sum(-1))
        logits, whole = self._logits[key]
        rows, cols = np.nonzero(votes >= 0)
        rank = votes[rows, cols]
        probability = np.exp(logits[rows, cols, tops[rank]] - whole[rows, cols])
        sums = np.bincount(rank, probability, len(tops))
        area = np.maximum(np.bincount(rank, minlength=len(tops)), 1)
        return np.asarray(self._centers(plan)[1][: len(tops)] * sums / area, np.float64)


def _taps(n_in: int, n_out: int, mode: str) -> tuple[Indices, Indices, FloatArray]:
    i = np.arange(n_out, dtype=np.float64)
    if mode == "corners":
        at = i * ((n_in - 1) / max(1, n_out - 1))
    elif mode == "nearest":
        at = np.floor((i + 0.5) * (n_in / n_out))
    else:
        at = (i + 0.5) * (n_in / n_out) - 0.5
    at = np.clip(at, 0, n_in - 1)
    low = np.floor(at).astype(np.intp)
    return low, np.minimum(low + 1, n_in - 1), (at - low).astype(np.float32)


def _upsample(values: FloatArray, shape: tuple[int, int], mode: str) -> FloatArray:
    """Along x first, then y, each ``a + (b - a)·f`` in float32, as the reference does."""
    h, w = values.shape[:2]
    if (h, w) == shape:
        return values
    low, high, f = _taps(w, shape[1], mode)
    left = values[:, low]
    wide = left + (values[:, high] - left) * f[:, None]
    low, high, f = _taps(h, shape[0], mode)
    upper = wide[low]
    return np.asarray(upper + (wide[high] - upper) * f[:, None, None])


def _sample(
    values: FloatArray, shape: tuple[int, ...], rows: Indices, cols: Indices, mode: str
) -> FloatArray:
    """As :func:`_upsample`, at some pixels only: ``[n,C]``."""
    (h, w), (height, width) = values.shape[:2], shape
    if (h, w) == (height, width):
        return values[rows, cols]
    low, high, f = _taps(w, width, mode)
    left = values[:, low]
    wide = left + (values[:, high] - left) * f[:, None]  # [h,W,2], small
    low, high, f = _taps(h, height, mode)
    upper = wide[low[rows], cols]
    return np.asarray(upper + (wide[high[rows], cols] - upper) * f[rows][:, None])


def _local_maxima(scores: FloatArray, window: int) -> NDArray[np.bool_]:
    """Cells that no cell of the window exceeds, nor equals earlier in raster order."""
    (h, w), r = scores.shape, window // 2
    padded = np.full((h + 2 * r, w + 2 * r), -np.inf, np.float32)
    padded[r : r + h, r : r + w] = scores
    # The maximum over the window, one axis after the other.
    rows = np.max([padded[k : k + h] for k in range(2 * r + 1)], axis=0)
    highest = np.max([rows[:, k : k + w] for k in range(2 * r + 1)], axis=0)
    peak = scores >= highest
    for y, x in np.argwhere(peak):
        y0, x0, x1 = max(0, y - r), max(0, x - r), x + r + 1
        above = scores[y0:y, x0:x1] == scores[y, x]
        before = scores[y, x0:x] == scores[y, x]
        if above.any() or before.any():
            peak[y, x] = False
    return np.asarray(peak)
