"""Large images: a network looks at one tile after another, and an object across tiles is one.

Tiles overlap. Each pixel belongs to the tile whose border is farthest from it. Segments of two
tiles are one where, in the part that both tiles see, each is the other's best match of the same
class and covers at least half of the smaller. Stuff of one class is one segment.

Memory holds a row of tiles, and the map of ids, which lies in a temporary file where it is large.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError
from panokit.extents import extents
from panokit.photo import Photo
from panokit.preprocessing import letterbox
from panokit.result import PanopticResult, Segment
from panokit.segmenter import Segmenter
from panokit.taxonomy import Category

__all__ = ["Tile", "TiledMap", "WindowSource", "segment_tiles", "tile_grid"]

Progress = Callable[[Iterable["Tile"], int], Iterable["Tile"]]

LARGE = 2**26
"""Pixels from which on the map of ids lies in a file."""

OVERLAP = 0.25
"""Share of a tile's side that the next one sees as well."""

_MATCH = 0.5
_RIM = 0.1  # of the overlap: next to a tile's border a network sees least


class WindowSource(Protocol):
    """An image that is read window by window."""

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""

    def read(self, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """The pixels of a window, uint8 ``[height,width,3]`` sRGB."""


@dataclass(frozen=True)
class PhotoWindows:
    """A photo in memory, window by window."""

    photo: Photo

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.photo.size_wh

    def read(self, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """The pixels of a window."""
        return self.photo.rgb_hwc[top : top + height, left : left + width]


class Tile(NamedTuple):
    """A window of the image, and the part of it (``core``) whose pixels are taken from it; both as
    left, top, right, bottom in pixels of the image, ends exclusive. ``row`` and ``column`` count
    tiles from 0."""

    row: int
    column: int
    window: tuple[int, int, int, int]
    core: tuple[int, int, int, int]


def tile_grid(
    size_wh: tuple[int, int], tile_wh: tuple[int, int], overlap: float = OVERLAP
) -> list[Tile]:
    """The tiles of an image of ``size_wh`` pixels, row by row. All have ``tile_wh`` pixels, or the
    image's where that is smaller, and at least the share ``overlap`` (0..0.75) in common with their
    neighbours; cores share the image out without a gap."""
    if not 0 <= overlap <= 0.75:
        raise ArgumentError(
            "overlap", f"overlap is {overlap!r}; expected a share of the tile from 0 to 0.75"
        )
    if min(tile_wh) < 16:
        raise ArgumentError("tile", f"the tile is {tile_wh}; expected at least 16 pixels a side")
    columns, rows = (
        _parts(side, tile, overlap) for side, tile in zip(size_wh, tile_wh, strict=True)
    )
    return [
        Tile(i, j, (x0, y0, x1, y1), (cx0, cy0, cx1, cy1))
        for i, (y0, y1, cy0, cy1) in enumerate(rows)
        for j, (x0, x1, cx0, cx1) in enumerate(columns)
    ]


def _parts(side: int, tile: int, overlap: float) -> list[tuple[int, int, int, int]]:
    """Windows and cores along one side: start, end, core's start, core's end."""
    if side <= tile:
        return [(0, side, 0, side)]
    most = max(1, math.floor(tile * (1 - overlap)))
    count = 1 + math.ceil((side - tile) / most)
    starts = [round(i * (side - tile) / (count - 1)) for i in range(count)]
    cuts = [0, *((b + a + tile) // 2 for a, b in pairwise(starts)), side]
    return [(s, s + tile, cuts[i], cuts[i + 1]) for i, s in enumerate(starts)]


@dataclass(frozen=True)
class TiledMap:
    """What was found in a large image: ``ids`` int32 ``[H,W]``, 0 = void, and its segments;
    in how many ``tiles``."""

    ids: NDArray[np.int32]
    segments: tuple[Segment, ...]
    segmenter: Segmenter
    tiles: int

    def result(self, photo: Photo) -> PanopticResult:
        """The map as the result of a photo."""
        transform = letterbox(photo.size_wh, photo.size_wh)
        return PanopticResult(
            photo,
            np.asarray(self.ids),
            self.segments,
            self.segmenter.taxonomy,
            transform,
            self.segmenter.artifact.name,
        )


def segment_tiles(
    segmenter: Segmenter,
    source: WindowSource | Photo,
    *,
    tile: int | None = None,
    overlap: float = OVERLAP,
    progress: Progress = lambda tiles, _: tiles,
) -> TiledMap:
    """Segment an image of any size tile by tile.

    ``tile`` is the side of a tile in pixels of the image; by default the network's input, so that
    it sees the image as it is. A larger tile shows more of the scene in less detail. ``overlap`` is
    the share (0..0.75) of a tile that its neighbour sees too. ``progress`` wraps the tiles and
    knows their number.
    """
    windows = PhotoWindows(source) if isinstance(source, Photo) else source
    input_wh = segmenter.bundle.manifest.preprocessing.size_wh
    tile_wh = input_wh if tile is None else (tile, tile)
    tiles = tile_grid(windows.size_wh, tile_wh, overlap)
    w, h = windows.size_wh
    if w * h > LARGE:
        with tempfile.TemporaryFile(prefix="panokit-") as file:  # it goes when nobody maps it
            ids: NDArray[np.int32] = np.memmap(file, np.int32, "w+", shape=(h, w))
    else:
        ids = np.zeros((h, w), np.int32)
    parts = _Parts()
    above: dict[int, _Seen] = {}
    row: dict[int, _Seen] = {}
    for one in progress(tiles, len(tiles)):
        x0, y0, x1, y1 = one.window
        result = segmenter.segment(Photo.from_array(windows.read(x0, y0, x1 - x0, y1 - y0)))
        now = _Seen(one, parts.add(result))
        if one.column == 0:
            above, row = row, {}
        near = [above.get(one.column + d) for d in (-1, 0, 1)]
        for other in [row.get(one.column - 1), *near]:
            if other is not None:
                _join(parts, other, now)
        row[one.column] = now
        cx0, cy0, cx1, cy1 = one.core
        ids[cy0:cy1, cx0:cx1] = now.ids[cy0 - y0 : cy1 - y0, cx0 - x0 : cx1 - x0]
    segments = parts.finish(ids)
    return TiledMap(ids, segments, segmenter, len(tiles))


@dataclass(frozen=True)
class _Seen:
    tile: Tile
    ids: NDArray[np.int32]


@dataclass
class _Parts:
    """Segments of all tiles, numbered through; which of them are one is kept as a forest."""

    parent: list[int] = field(default_factory=lambda: [0])
    category: list[Category | None] = field(default_factory=lambda: [None])
    score: list[float] = field(default_factory=lambda: [0.0])
    area: list[int] = field(default_factory=lambda: [0])
    stuff: dict[int, int] = field(default_factory=dict)

    def add(self, result: PanopticResult) -> NDArray[np.int32]:
        """Take up the segments of a tile; its map with their numbers here."""
        table = np.zeros(max((s.id for s in result), default=0) + 1, np.int32)
        for s in result:
            known = None if s.is_thing else self.stuff.get(s.category.id)
            if known is None:
                known = len(self.parent)
                self.parent.append(known)
                self.category.append(s.category)
                self.score.append(0.0)
                self.area.append(0)
                if not s.is_thing:
                    self.stuff[s.category.id] = known
            self.score[known] += s.score * s.area
            self.area[known] += s.area
            table[s.id] = known
        return table[result.id_map]

    def root(self, at: int) -> int:
        """The number that stands for a segment's whole."""
        while self.parent[at] != at:
            self.parent[at] = self.parent[self.parent[at]]
            at = self.parent[at]
        return at

    def join(self, a: int, b: int) -> None:
        """Say that two are one."""
        a, b = self.root(a), self.root(b)
        if a != b:
            self.parent[max(a, b)] = min(a, b)

    def finish(self, ids: NDArray[np.int32]) -> tuple[Segment, ...]:
        """Number the wholes 1, 2, 3 in the map, in place; their segments."""
        roots = np.array([self.root(i) for i in range(len(self.parent))], np.int64)
        boxes: dict[int, list[int]] = {}
        counts = np.zeros(len(roots), np.int64)
        band = max(1, 2**22 // max(1, ids.shape[1]))
        for top in range(0, ids.shape[0], band):
            rows = roots[ids[top : top + band]]
            ids[top : top + band] = rows
            for value, extent in extents(rows).items():
                counts[value] += extent.area
                x0, y0, x1, y1 = extent.box_xyxy
                box = boxes.setdefault(value, [x0, y0 + top, x1, y1 + top])
                box[:2] = min(box[0], x0), min(box[1], y0 + top)
                box[2:] = max(box[2], x1), max(box[3], y1 + top)
        order = np.flatnonzero(counts).tolist()
        number = np.zeros(len(roots), np.int32)
        number[order] = np.arange(1, len(order) + 1)
        for top in range(0, ids.shape[0], band):
            ids[top : top + band] = number[ids[top : top + band]]
        score, area = np.zeros(len(roots)), np.zeros(len(roots))
        np.add.at(score, roots, self.score)
        np.add.at(area, roots, self.area)
        return tuple(self._segment(r, int(number[r]), counts, boxes, score, area) for r in order)

    def _segment(
        self,
        root: int,
        number: int,
        counts: NDArray[np.int64],
        boxes: dict[int, list[int]],
        score: NDArray[np.float64],
        area: NDArray[np.float64],
    ) -> Segment:
        category = self.category[root]
        assert category is not None  # only void, 0, has none
        x0, y0, x1, y1 = boxes[root]
        return Segment(
            id=number,
            category=category,
            score=float(score[root] / max(1.0, area[root])),
            area=int(counts[root]),
            box_xyxy=(x0, y0, x1, y1),
            center_xy=None,
        )


def _join(parts: _Parts, a: _Seen, b: _Seen) -> None:
    """Join the things of two tiles that are one, by the part that both see."""
    window = _shared(a.tile.window, b.tile.window)
    if window is None:
        return
    first, second = (_cut(s, window) for s in (a, b))
    inside = (first > 0) & (second > 0)
    if not inside.any():
        return
    sizes = [dict(zip(*_counted(ids), strict=True)) for ids in (first, second)]
    width = int(second.max()) + 1
    pairs, counts = _counted(first[inside].astype(np.int64) * width + second[inside])
    shared = {(p // width, p % width): n for p, n in zip(pairs, counts, strict=True)}
    best: list[dict[int, tuple[int, int]]] = [{}, {}]
    for (i, j), n in shared.items():
        if not _alike(parts, i, j):
            continue
        for side, (own, other) in enumerate(((i, j), (j, i))):
            if n > best[side].get(own, (0, 0))[0]:
                best[side][own] = n, other
    for i, (n, j) in best[0].items():
        if best[1].get(j, (0, 0))[1] == i and n >= _MATCH * min(sizes[0][i], sizes[1][j]):
            parts.join(i, j)


def _alike(parts: _Parts, i: int, j: int) -> bool:
    a, b = parts.category[i], parts.category[j]
    return a is not None and b is not None and a.is_thing and a.id == b.id


def _shared(a: Sequence[int], b: Sequence[int]) -> tuple[int, int, int, int] | None:
    """What two windows share, without a rim where it is wide enough."""
    x0, y0 = max(a[0], b[0]), max(a[1], b[1])
    x1, y1 = min(a[2], b[2]), min(a[3], b[3])
    if x0 >= x1 or y0 >= y1:
        return None
    rim_x = round(_RIM * (x1 - x0)) if (a[0], a[2]) != (b[0], b[2]) else 0
    rim_y = round(_RIM * (y1 - y0)) if (a[1], a[3]) != (b[1], b[3]) else 0
    return x0 + rim_x, y0 + rim_y, x1 - rim_x, y1 - rim_y


def _cut(seen: _Seen, window: Sequence[int]) -> NDArray[np.int32]:
    x0, y0 = seen.tile.window[:2]
    return seen.ids[window[1] - y0 : window[3] - y0, window[0] - x0 : window[2] - x0]


def _counted(values: NDArray[Any]) -> tuple[list[int], list[int]]:
    found, counts = np.unique(values, return_counts=True)
    return found.tolist(), counts.tolist()
