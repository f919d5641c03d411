"""The decoding of an app that makes mistakes: stages of the reference, some of them overridden."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import CenterOffset, Heads, PanopticMap, PostprocessConfig
from panokit.decoding.center_offset import Centers, ClassMap, Grid, KeptSegments, Votes
from panokit.decoding.kernels import Taps, axis_taps, sigmoid
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import Taxonomy
from panokit_validation.faults.buffers import rows_without_padding

__all__ = ["AppDecoding", "DecodingReplay", "class_tables"]

FloatArray = NDArray[np.float32]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class AppDecoding(PostprocessConfig):
    """How an app decodes: the bundle's settings, as the app has them, and what it does otherwise.

    ``sigmoid`` counts how often it is applied to the centre logits; ``offset_axes`` is ``"yx"`` or
    ``"xy"``; ``offset_factor`` scales the offsets, 0 standing for the stride (taken for head cells)
    and -1 for its inverse; ``upsample`` is ``"half-pixel"``, ``"corners"`` or ``"nearest"``;
    ``label_shift`` is added to every channel (what falls out is void); ``equals`` says whether of
    equal centres in a window the first, the last or all are kept; ``mask_padding`` makes the
    letterbox padding void. Of the finished map ``transpose`` swaps rows and columns; ``turn`` flips
    its ``"rows"`` or ``"columns"`` or rotates it by ``"90"``, ``"180"`` or ``"270"`` degrees;
    ``row_padding`` values lie behind each of its rows and are read as ids (below 0: are stepped
    over though there are none); ``spread`` enlarges the photo's part to the whole input,
    ``"stretch"``-ed or ``"fill"``-ing it; ``ids_in`` a ``"byte"`` keeps the lowest byte of ids of
    1000 · category + n; ``table`` looks its classes up in a shifted or reversed table; ``enlarge``
    brings a map of the head grid to the input's size, ``"nearest"`` or ``"bilinear"``.
    """

    sigmoid: int = 1
    offset_axes: Literal["yx", "xy"] = "yx"
    offset_factor: float = 1.0
    upsample: Literal["half-pixel", "corners", "nearest"] = "half-pixel"
    label_shift: int = 0
    equals: Literal["first", "last", "all"] = "first"
    mask_padding: bool = True
    transpose: bool = False
    row_padding: int = 0
    ids_in: Literal["whole", "byte"] = "whole"
    spread: Literal["none", "stretch", "fill"] = "none"
    turn: Literal["none", "rows", "columns", "90", "180", "270"] = "none"
    table: Literal["own", "plus-1", "minus-1", "reversed"] = "own"
    enlarge: Literal["nearest", "bilinear"] = "nearest"

    @classmethod
    def of(cls, settings: PostprocessConfig) -> AppDecoding:
        """An app without mistakes."""
        return cls(**asdict(settings))


def class_tables(count: int) -> dict[str, list[int]]:
    """The tables of ``count`` classes that apps mistake for the right one, by name: the channel
    that stands for each; what falls out goes round."""
    rows = np.arange(count)
    tables = {"plus-1": rows + 1, "minus-1": rows - 1, "reversed": -1 - rows}
    return {name: (table % count).tolist() for name, table in tables.items()}


class _AppDecoder(CenterOffset):
    """The reference's stages; each mistake overrides the one that it is made in."""

    def __init__(self, taxonomy: Taxonomy, transform: TransformRecord, app: AppDecoding) -> None:
        super().__init__(taxonomy, transform, app)
        self.app = app
        self.taps = _TAPS[app.upsample]

    def over(self, shape: tuple[int, int]) -> Grid:
        grid = super().over(shape)
        if self.app.mask_padding:
            return grid
        return replace(grid, rows=slice(0, shape[0]), cols=slice(0, shape[1]))

    def shifted(self, classes: ClassMap) -> ClassMap:
        """The classes under the app's labels."""
        channel = classes.channel + np.int32(self.app.label_shift)
        inside = (channel >= 0) & (channel < len(self.taxonomy))
        return replace(classes, channel=np.where(inside, channel, -1).astype(np.int32))

    def heatmap(self, heads: Heads) -> FloatArray:
        scores = heads.center
        for _ in range(self.app.sigmoid):
            scores = sigmoid(scores)
        return scores

    def centers(self, heads: Heads) -> Centers:
        found = super().centers(heads)
        if self.app.equals == "first":
            return found
        # Max-pooling as the test: whatever equals the highest of its window.
        scores, reach = found.heatmap, self.settings.window // 2
        h, w = scores.shape
        padded = np.pad(scores, reach, constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1))
        cells = self.over((h, w))
        inside = np.zeros((h, w), bool)
        inside[cells.rows, cells.cols] = True
        highest = scores >= windows.max((-2, -1))
        if self.app.equals == "last":
            flat = windows.reshape(h, w, -1)
            highest &= scores > flat[..., flat.shape[-1] // 2 + 1 :].max(-1, initial=-np.inf)
        at = np.argwhere(inside & highest & (scores >= np.float32(self.settings.threshold)))
        values = scores[tuple(at.T)]
        order = np.argsort(-values, kind="stable")[: self.settings.top_k]
        at = at[order]
        yx = np.stack([cells.y[at[:, 0]], cells.x[at[:, 1]]], 1)
        return Centers(scores, at, values[order], yx)

    def offsets(self, heads: Heads, grid: Grid) -> FloatArray:
        stride = self.transform.input_wh[1] / heads.center.shape[0]
        factor = {0.0: stride, -1.0: 1 / stride}.get(self.app.offset_factor, self.app.offset_factor)
        planes = super().offsets(heads, grid)
        planes *= np.float32(factor)
        return planes if self.app.offset_axes == "yx" else planes[::-1]

    def ids(self, classes: ClassMap, votes: Votes, kept: KeptSegments) -> PanopticMap:
        found = super().ids(classes, votes, kept)
        ids = found.ids
        if self.app.transpose and ids.shape[0] == ids.shape[1]:
            ids = ids.T
        if self.app.spread != "none":
            ids = self._spread(ids, classes.grid)
        ids = _TURNS[self.app.turn](ids)
        if self.app.row_padding:
            ids = rows_without_padding(np.ascontiguousarray(ids), self.app.row_padding)
        found = replace(found, ids=np.ascontiguousarray(ids))
        found = found if self.app.table == "own" else self._renamed(found)
        return self._in_bytes(found) if self.app.ids_in == "byte" else found

    def _in_bytes(self, found: PanopticMap) -> PanopticMap:
        """Ids of 1000 · category + n, of which the map keeps the lowest byte."""
        ids = self.taxonomy.ids
        table = np.zeros(len(found.segments) + 1, np.int32)
        segments = []
        for s in found.segments:
            whole = 1000 * int(ids[s.channel]) + s.id
            table[s.id] = whole & 255
            segments.append(replace(s, id=whole))
        return replace(found, ids=table[found.ids], segments=tuple(segments))

    def _spread(self, ids: NDArray[np.int32], grid: Grid) -> NDArray[np.int32]:
        """The photo's part of a map, as large as the map."""
        from PIL import Image

        part = ids[grid.rows, grid.cols]
        if self.app.spread == "fill":
            side = min(part.shape[0] / grid.shape[0], part.shape[1] / grid.shape[1])
            h, w = (max(1, round(n * side)) for n in grid.shape)
            top, left = (part.shape[0] - h) // 2, (part.shape[1] - w) // 2
            part = part[top : top + h, left : left + w]
        image = Image.fromarray(np.ascontiguousarray(part))
        return np.asarray(image.resize(grid.shape[::-1], Image.Resampling.NEAREST), np.int32)

    def _renamed(self, found: PanopticMap) -> PanopticMap:
        """The map under another table of classes; a class that falls out of it goes round."""
        count = len(self.taxonomy)
        channels = class_tables(count)[self.app.table]
        return replace(
            found, segments=tuple(replace(s, channel=channels[s.channel]) for s in found.segments)
        )


class DecodingReplay:
    """Decodes one photo's heads as any number of apps do; their class maps are kept."""

    def __init__(
        self,
        heads: Mapping[str, NDArray[Any]],
        transform: TransformRecord,
        taxonomy: Taxonomy,
        grid: str = "input",
    ) -> None:
        """``heads``: real values float32 ``[h,w,C]`` (``center`` with or without its axis);
        ``grid`` is the one that the bundle decodes on."""
        self.settings_grid = grid
        self._heads = Heads.from_arrays({n: _finite(v) for n, v in heads.items()})
        self._transform, self._taxonomy = transform, taxonomy
        self._classes: dict[tuple[str, str, bool], ClassMap] = {}

    def decode(self, app: AppDecoding) -> PanopticMap:
        """The map that an app gets."""
        stages, heads = _AppDecoder(self._taxonomy, self._transform, app), self._heads
        key = (app.upsample, app.grid, app.mask_padding)
        if key not in self._classes:
            self._classes[key] = stages.classes(heads)
        classes = stages.shifted(self._classes[key]) if app.label_shift else self._classes[key]
        centers = stages.centers(heads)
        votes = stages.votes(heads, classes, centers)
        instances = stages.instances(heads, classes, centers, votes)
        found = stages.ids(classes, votes, stages.filter(classes, centers, instances))
        shape = self._transform.input_wh[::-1]
        if self.settings_grid == "head" or found.ids.shape == shape:
            return found
        return replace(found, ids=_enlarged(found.ids, shape, app.enlarge))


def _finite(values: NDArray[Any]) -> FloatArray:
    """Heads of a wrong app may hold anything; the largest numbers stand for infinity."""
    out = np.asarray(values, np.float32)
    return np.nan_to_num(out, nan=0.0, posinf=1e38, neginf=-1e38)


def _enlarged(ids: NDArray[np.int32], shape: tuple[int, int], how: str) -> NDArray[np.int32]:
    """A map of the head grid at the input's size."""
    from PIL import Image

    size = shape[1], shape[0]
    if how == "nearest":
        image = Image.fromarray(ids).resize(size, Image.Resampling.NEAREST)
        return np.asarray(image, np.int32)
    image = Image.fromarray(ids.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(np.floor(np.asarray(image) + 0.5), np.int32)


def _corners(n_in: int, n_out: int) -> tuple[Indices, Indices, FloatArray]:
    at = np.arange(n_out, dtype=np.float64) * ((n_in - 1) / max(1, n_out - 1))
    low = np.floor(np.clip(at, 0, n_in - 1)).astype(np.intp)
    return low, np.minimum(low + 1, n_in - 1), (at - low).astype(np.float32)


def _nearest(n_in: int, n_out: int) -> tuple[Indices, Indices, FloatArray]:
    at = np.floor((np.arange(n_out, dtype=np.float64) + 0.5) * (n_in / n_out))
    low = np.clip(at, 0, n_in - 1).astype(np.intp)
    return low, low, np.zeros(n_out, np.float32)


_TURNS: dict[str, Callable[[NDArray[np.int32]], NDArray[np.int32]]] = {
    "none": lambda ids: ids,
    "rows": lambda ids: ids[::-1],
    "columns": lambda ids: ids[:, ::-1],
    "180": lambda ids: ids[::-1, ::-1],
    "90": lambda ids: _rotated(ids, 1),
    "270": lambda ids: _rotated(ids, 3),
}


def _rotated(ids: NDArray[np.int32], quarters: int) -> NDArray[np.int32]:
    """Turned against the clock; a map that is not square stays as it is."""
    return np.rot90(ids, quarters) if ids.shape[0] == ids.shape[1] else ids


_TAPS: dict[str, Taps] = {"half-pixel": axis_taps, "corners": _corners, "nearest": _nearest}
