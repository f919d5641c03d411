"""Objects from frame to frame: who is who, and who crosses a line.

A segment goes on with the track of its class whose mask it overlaps most, where the track's mask
is moved on by its last step; or else with the nearest track, where it is near for its size. A track
that is not seen for some frames is kept, moved on, and taken up again.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError
from panokit.result import PanopticResult, Segment

__all__ = ["Crossing", "LineCounter", "Track", "Tracker"]

_OVERLAP = 0.15
"""IoU from which on two masks are one object."""
_NEAR = 0.8
"""Distance, in lengths of the box's diagonal, up to which a segment may be a track's."""
_SIDE = 160
"""Longest side of the masks that are compared, pixels."""


@dataclass
class Track:
    """One object over time: ``number`` is its own (1 and up), ``box_xyxy`` left, top, right, bottom
    in pixels of the frame, ends exclusive. ``foot_xy`` is the middle of the box's lower edge;
    ``step_xy`` how far it moved last; ``seen`` frames it was in, ``missed`` frames since then; its
    ``mask`` bool ``[H,W]``."""

    number: int
    category: str
    foot_xy: tuple[float, float]
    box_xyxy: tuple[int, int, int, int]
    mask: NDArray[np.bool_] = field(repr=False)
    step_xy: tuple[float, float] = (0.0, 0.0)
    seen: int = 1
    missed: int = 0


class Tracker:
    """Gives the things of each frame the numbers of their tracks."""

    def __init__(self, patience: int = 10, confirmed: int = 2) -> None:
        """``patience``: frames that a track is kept while it is not seen. ``confirmed``: frames
        that an object must be seen in to count."""
        if patience < 0 or confirmed < 1:
            raise ArgumentError(
                "patience", "expected patience of 0 or more, confirmed of 1 or more"
            )
        self.patience, self.confirmed = patience, confirmed
        self.tracks: dict[int, Track] = {}
        self._last = 0
        self._counted: dict[int, str] = {}

    @property
    def totals(self) -> dict[str, int]:
        """How many objects of each class were seen so far, most first."""
        names = list(self._counted.values())
        return dict(sorted(((n, names.count(n)) for n in set(names)), key=lambda c: (-c[1], c[0])))

    def update(self, result: PanopticResult, unsure: Container[int] = ()) -> dict[int, Track]:
        """Take up a frame: the track of each thing, by the segment's id. Segments whose ids are in
        ``unsure`` go on with a track or have none: they begin none."""
        things = [s for s in result if s.is_thing]
        step = max(1, -(-max(result.id_map.shape) // _SIDE))
        small = result.id_map[::step, ::step]
        masks = {s.id: small == s.id for s in things}
        found: dict[int, Track] = {}
        for _, segment, track in self._pairs(things, masks, step):
            if segment.id in found or track in found.values():
                continue
            self._move(track, segment, masks[segment.id])
            found[segment.id] = track
        for segment in things:
            if segment.id not in found and segment.id not in unsure:
                found[segment.id] = self._begin(segment, masks[segment.id])
        seen = {t.number for t in found.values()}
        for track in list(self.tracks.values()):
            if track.number in seen:
                continue
            track.missed += 1
            track.foot_xy = _add(track.foot_xy, track.step_xy)
            if track.missed > self.patience:
                del self.tracks[track.number]
        for track in found.values():
            if track.seen >= self.confirmed:
                self._counted.setdefault(track.number, track.category)
        return found

    def _pairs(
        self, things: Sequence[Segment], masks: dict[int, NDArray[np.bool_]], step: int
    ) -> list[tuple[float, Segment, Track]]:
        """Segments and tracks that may be one, the likeliest first."""
        pairs = []
        for segment in things:
            mask = masks[segment.id]
            area = int(mask.sum())
            for track in self.tracks.values():
                if track.category != segment.category.name or track.mask.shape != mask.shape:
                    continue
                ahead = 1 + track.missed
                moved = _shifted(
                    track.mask,
                    round(track.step_xy[0] * ahead / step),
                    round(track.step_xy[1] * ahead / step),
                )
                both = int(np.count_nonzero(moved & mask))
                union = area + int(np.count_nonzero(moved)) - both
                iou = both / union if union else 0.0
                if iou >= _OVERLAP:
                    pairs.append((1 + iou, segment, track))
                    continue
                expected = track.foot_xy if track.missed else _add(track.foot_xy, track.step_xy)
                distance = float(np.hypot(*_minus(_foot(segment.box_xyxy), expected)))
                reach = _NEAR * _diagonal(segment.box_xyxy)
                if distance < reach:
                    pairs.append((1 - distance / reach, segment, track))
        return sorted(pairs, key=lambda p: (-p[0], p[1].id, p[2].number))

    def _move(self, track: Track, segment: Segment, mask: NDArray[np.bool_]) -> None:
        foot = _foot(segment.box_xyxy)
        dx, dy = _minus(foot, track.foot_xy)
        if track.missed:  # while it was away it was moved on; what is left is over all frames
            dx, dy = (v / (track.missed + 1) for v in (dx, dy))
            dx, dy = _add((dx, dy), track.step_xy)
        track.step_xy = 0.5 * (track.step_xy[0] + dx), 0.5 * (track.step_xy[1] + dy)
        track.foot_xy, track.box_xyxy, track.mask = foot, segment.box_xyxy, mask
        track.seen, track.missed = track.seen + 1, 0

    def _begin(self, segment: Segment, mask: NDArray[np.bool_]) -> Track:
        self._last += 1
        foot = _foot(segment.box_xyxy)
        track = Track(self._last, segment.category.name, foot, segment.box_xyxy, mask)
        self.tracks[track.number] = track
        return track


@dataclass(frozen=True)
class Crossing:
    """A track went over the line. ``forward``: from its left to its right, as one looks from its
    first point to its second (with y downwards)."""

    track: int
    category: str
    forward: bool


class LineCounter:
    """Counts tracks whose foot crosses the line from ``first`` to ``second`` (x, y in pixels)."""

    def __init__(self, first: tuple[float, float], second: tuple[float, float]) -> None:
        if first == second:
            raise ArgumentError(
                "line", f"the line goes from {first} to itself; expected two points"
            )
        self.first, self.second = first, second
        self.counts: dict[str, dict[str, int]] = {}
        self._feet: dict[int, tuple[float, float]] = {}

    def update(self, tracks: Sequence[Track]) -> list[Crossing]:
        """Take up a frame's tracks; who crossed since the last."""
        crossed = []
        for track in tracks:
            before = self._feet.get(track.number)
            if self._side(track.foot_xy) == 0:
                continue  # on the line: which side comes next decides
            self._feet[track.number] = track.foot_xy
            if before is None or not self._crosses(before, track.foot_xy):
                continue
            forward = self._side(track.foot_xy) < 0
            crossed.append(Crossing(track.number, track.category, forward))
            way = self.counts.setdefault(track.category, {"forward": 0, "backward": 0})
            way["forward" if forward else "backward"] += 1
        return crossed

    def _side(self, point: tuple[float, float]) -> float:
        (x0, y0), (x1, y1) = self.first, self.second
        return -((x1 - x0) * (point[1] - y0) - (y1 - y0) * (point[0] - x0))

    def _crosses(self, a: tuple[float, float], b: tuple[float, float]) -> bool:
        """Whether the way from ``a`` to ``b`` meets the line between its two ends."""
        side_a, side_b = self._side(a), self._side(b)
        if side_a * side_b > 0:
            return False
        (x0, y0), (x1, y1) = self.first, self.second
        along = side_a / (side_a - side_b)
        x, y = a[0] + along * (b[0] - a[0]), a[1] + along * (b[1] - a[1])
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        return 0 <= (x - x0) * (x1 - x0) + (y - y0) * (y1 - y0) <= length


def _foot(box: tuple[int, int, int, int]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, float(box[3])


def _diagonal(box: tuple[int, int, int, int]) -> float:
    return float(np.hypot(box[2] - box[0], box[3] - box[1]))


def _add(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return a[0] + b[0], a[1] + b[1]


def _minus(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return a[0] - b[0], a[1] - b[1]


def _shifted(mask: NDArray[np.bool_], dx: int, dy: int) -> NDArray[np.bool_]:
    """A mask moved by whole pixels; what comes in is empty."""
    h, w = mask.shape
    out = np.zeros_like(mask)
    x0, x1, y0, y1 = max(0, dx), min(w, w + dx), max(0, dy), min(h, h + dy)
    if x0 < x1 and y0 < y1:
        out[y0:y1, x0:x1] = mask[y0 - dy : y1 - dy, x0 - dx : x1 - dx]
    return out
