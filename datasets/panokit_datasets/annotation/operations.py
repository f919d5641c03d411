"""What a person does to the labels of a photo. Each operation is a frozen dataclass that JSON
holds: ``{"operation": "relabel", "segments": [3], "category": 1}``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from panokit.components import components
from panokit.config import read_settings, write_settings
from panokit.errors import ArgumentError
from panokit.taxonomy import Taxonomy
from panokit_datasets.truth import TruthSegment

__all__ = ["OPERATIONS", "Labels", "Operation", "read_operation", "write_operation"]

MAX_ID = 2**24 - 1
MAX_POINTS = 20_000
MAX_RADIUS = 2_000.0
_CRUMB = 4  # pixels: smaller parts of a cut go to the largest

Point = tuple[float, float]


@dataclass(frozen=True)
class Labels:
    """Labels of one photo: ``ids`` int32 ``[H,W]``, 0 = void, and what each id is. ``scores`` of
    segments that a network proposed."""

    ids: NDArray[np.int32]
    segments: Mapping[int, TruthSegment]
    scores: Mapping[int, float]

    def get(self, number: int) -> TruthSegment:
        """A segment; ``ArgumentError`` where there is none such."""
        if number not in self.segments:
            raise ArgumentError(
                "segment", f"there is no segment {number}; expected one of {sorted(self.segments)}"
            )
        return self.segments[number]

    def new_id(self) -> int:
        """An id that no segment has."""
        number = max(self.segments, default=0) + 1
        if number > MAX_ID:
            raise ArgumentError("segment", "there are too many segments; expected below 2^24")
        return number

    def changed(self, ids: NDArray[np.int32], segments: Mapping[int, TruthSegment]) -> Labels:
        """These labels with another map and other segments; those without a pixel fall away."""
        there = set(np.unique(ids).tolist())
        kept = {n: s for n, s in segments.items() if n in there}
        return Labels(ids, kept, {n: v for n, v in self.scores.items() if n in kept})


class Operation(Protocol):
    """What a person does."""

    name: ClassVar[str]

    def apply(self, labels: Labels, taxonomy: Taxonomy) -> Labels:
        """The labels after it; ``ArgumentError`` says why it cannot be done."""
        ...


@dataclass(frozen=True)
class Relabel:
    """Give segments another class; stuff of that class that is there takes them in. ``crowd``: the
    things in them are not separated."""

    segments: tuple[int, ...]
    category: int
    crowd: bool = False
    name: ClassVar[str] = "relabel"

    def apply(self, labels: Labels, taxonomy: Taxonomy) -> Labels:
        """The labels after it."""
        channel = taxonomy.channel(self.category)
        thing = taxonomy.categories[channel].is_thing
        segments = dict(labels.segments)
        for number in self.segments:
            segments[number] = replace(
                labels.get(number),
                channel=channel,
                is_thing=thing,
                is_crowd=self.crowd and thing,
                ignore=False,
            )
        ids = labels.ids
        if not thing:
            same = [n for n, s in segments.items() if s.channel == channel and not s.ignore]
            ids = _renamed(ids, {n: min(same) for n in same})
        return labels.changed(ids, segments)


@dataclass(frozen=True)
class Merge:
    """Make one segment of several; it is of the class of the first."""

    segments: tuple[int, ...]
    name: ClassVar[str] = "merge"

    def apply(self, labels: Labels, taxonomy: Taxonomy) -> Labels:
        """The labels after it."""
        if len(set(self.segments)) < 2:
            raise ArgumentError("segments", f"segments are {self.segments}; expected two or more")
        first = labels.get(self.segments[0]).id
        renamed = {labels.get(n).id: first for n in self.segments}
        return labels.changed(_renamed(labels.ids, renamed), labels.segments)


@dataclass(frozen=True)
class Delete:
    """Make void of segments."""

    segments: tuple[int, ...]
    name: ClassVar[str] = "delete"

    def apply(self, labels: Labels, taxonomy: Taxonomy) -> Labels:
        """The labels after it."""
        renamed = {labels.get(n).id: 0 for n in self.segments}
        return labels.changed(_renamed(labels.ids, renamed), labels.segments)


@dataclass(frozen=True)
class Cut:
    """Part a segment along a line of points (x, y). Without a line its separate pieces part. The
    largest part keeps the number."""

    segment: int
    points: tuple[Point, ...] = ()
    name: ClassVar[str] = "cut"

    def apply(self, labels: Labels, taxonomy: Taxonomy) -> Labels:
        """The labels after it."""
        segment = labels.get(self.segment)
        mask = labels.ids == segment.id
        line = _stroke(self.points, 0.8, mask.shape) if self.points else np.zeros_like(mask)
        parts, areas = components(mask & ~line)
        kept = [n for n, area in enumerate(areas, 1) if area >= _CRUMB]
        if len(kept) < 2:
            raise ArgumentError(
                "points", "the line does not part the segment; draw it from border to border"
            )
        parts[~np.isin(parts, kept)] = 0
        parts = _filled(parts, mask)
        ids = labels.ids.copy()
        segments = dict(labels.segments)
        if not segment.is_thing:
            raise ArgumentError("segment", "stuff is one segment a class; give it another class")
        for number in kept[1:]:
            new = max(segments) + 1
            segments[new] = replace(segment, id=new)
            ids[parts == number] = new
        return labels.changed(ids, segments)


@dataclass(frozen=True)
class Paint:
    """Paint along points (x, y) with a round brush of ``radius`` pixels, or fill the shape that
    they enclose. ``segment`` grows by it (0 erases); without one a new segment of ``category``
    begins. ``free``: only where nothing is labelled yet."""

    points: tuple[Point, ...]
    radius: float = 8.0
    segment: int | None = None
    category: int | None = None
    fill: bool = False
    free: bool = False
    name: ClassVar[str] = "paint"

    def apply(self, labels: Labels, taxonomy: Taxonomy) -> Labels:
        """The labels after it."""
        shape = labels.ids.shape
        painted = (_filled_shape if self.fill else _stroke)(self.points, self.radius, shape)
        segments = dict(labels.segments)
        number = self.segment
        if number is None:
            if self.category is None:
                raise ArgumentError("category", "paint names neither a segment nor a category")
            channel = taxonomy.channel(self.category)
            thing = taxonomy.categories[channel].is_thing
            same = [n for n, s in segments.items() if s.channel == channel and not s.ignore]
            number = min(same) if same and not thing else labels.new_id()
            segments.setdefault(number, TruthSegment(number, channel, thing))
        elif number:
            labels.get(number)
        if self.free:
            painted &= labels.ids == 0
        if not painted.any():
            raise ArgumentError("points", "no pixel of the photo is painted; paint inside it")
        ids = labels.ids.copy()
        ids[painted] = number
        return labels.changed(ids, segments)


OPERATIONS: dict[str, type[Any]] = {k.name: k for k in (Relabel, Merge, Delete, Cut, Paint)}
"""All operations by their name in JSON."""


def read_operation(data: Any) -> Operation:
    """An operation from what JSON gave; ``ArgumentError`` says what is wrong with it."""
    if not isinstance(data, Mapping) or data.get("operation") not in OPERATIONS:
        got = data.get("operation") if isinstance(data, Mapping) else data
        raise ArgumentError.unknown("operation", str(got)[:60], OPERATIONS)
    fields = {k: v for k, v in data.items() if k != "operation"}
    operation: Operation = read_settings(OPERATIONS[data["operation"]], fields, "operation")
    points = getattr(operation, "points", ())
    if len(points) > MAX_POINTS or not all(
        math.isfinite(v) and abs(v) < 1e6 for p in points for v in p
    ):
        raise ArgumentError("points", f"expected at most {MAX_POINTS} points near the photo")
    if not 0.5 <= getattr(operation, "radius", 1.0) <= MAX_RADIUS:
        raise ArgumentError("radius", f"expected a radius from 0.5 to {MAX_RADIUS:g} pixels")
    return operation


def write_operation(operation: Operation) -> dict[str, Any]:
    """JSON that :func:`read_operation` reads back."""
    return {"operation": operation.name, **write_settings(operation)}


def _renamed(ids: NDArray[np.int32], names: Mapping[int, int]) -> NDArray[np.int32]:
    table = np.arange(int(ids.max(initial=0)) + 1, dtype=np.int32)
    for old, new in names.items():
        if old < len(table):
            table[old] = new
    return table[ids]


def _stroke(points: tuple[Point, ...], radius: float, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixels whose middle is within ``radius`` of the line through the points."""
    h, w = shape
    mask = np.zeros((h, w), bool)
    if not points:
        return mask
    ends = [*points[1:], points[-1]] if len(points) == 1 else points[1:]
    for (x0, y0), (x1, y1) in zip(points, ends, strict=False):
        left, right = min(x0, x1) - radius, max(x0, x1) + radius
        top, bottom = min(y0, y1) - radius, max(y0, y1) + radius
        rows = slice(max(0, math.floor(top)), max(0, min(h, math.ceil(bottom) + 1)))
        columns = slice(max(0, math.floor(left)), max(0, min(w, math.ceil(right) + 1)))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        y = np.arange(rows.start, rows.stop)[:, None] + 0.5
        x = np.arange(columns.start, columns.stop)[None] + 0.5
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length if length else 0.0 * (x + y)
        along = np.clip(along, 0, 1)
        distance = (x - x0 - along * (x1 - x0)) ** 2 + (y - y0 - along * (y1 - y0)) ** 2
        mask[rows, columns] |= distance <= radius * radius
    return mask


def _filled_shape(
    points: tuple[Point, ...], radius: float, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Pixels inside the shape that the points enclose."""
    from panokit_datasets.shapes import polygon_mask

    del radius
    if len(points) < 3:
        raise ArgumentError("points", f"there are {len(points)} points; expected three or more")
    return polygon_mask(np.array(points, np.float64), (shape[0], shape[1]))


def _filled(parts: NDArray[np.int32], mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Parts grown over the whole mask."""
    out = parts.copy()
    while True:
        todo = mask & (out == 0)
        if not todo.any():
            return out
        padded = np.pad(out, 1)
        before = int(todo.sum())
        for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2), (0, 0), (0, 2), (2, 0), (2, 2)):
            near = padded[dy : dy + out.shape[0], dx : dx + out.shape[1]]
            take = mask & (out == 0) & (near > 0)
            out[take] = near[take]
        if int((mask & (out == 0)).sum()) == before:
            out[mask & (out == 0)] = 1
            return out
