"""Measures of video: STQ, VPQ, IDF1 and flicker.

STQ = sqrt(AQ · SQ): association of pixels with tracks, and mIoU of classes (M. Weber et al., "STEP:
Segmenting and Tracking Every Pixel", NeurIPS 2021; google-research/deeplab2, evaluation/stq.py).
VPQ: panoptic quality of tubes, all windows of k frames (D. Kim et al., "Video Panoptic
Segmentation", CVPR 2020). IDF1: E. Ristani et al., ECCV 2016 workshops.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError
from panokit.taxonomy import Taxonomy
from panokit_datasets.quality.panoptic_quality import PanopticQuality
from panokit_datasets.truth import TruthSegment

__all__ = ["Frame", "TrackingQuality", "flicker", "identity_f1", "video_panoptic_quality"]


@dataclass(frozen=True)
class Frame:
    """Labels of one frame: ``ids`` int32 ``[H,W]``, 0 = void, the same for a track in all frames,
    and what each is."""

    ids: NDArray[np.int32]
    segments: tuple[TruthSegment, ...]

    def channels(self) -> NDArray[np.int64]:
        """The channel of every pixel, int64, -1 for void and for what is ignored."""
        table = np.full(max((s.id for s in self.segments), default=0) + 1, -1, np.int64)
        for s in self.segments:
            table[s.id] = -1 if s.ignore else s.channel
        return table[self.ids]

    def tracks(self) -> NDArray[np.int64]:
        """The track of every pixel of a single thing, int64, 0 elsewhere."""
        table = np.zeros(max((s.id for s in self.segments), default=0) + 1, np.int64)
        for s in self.segments:
            if s.is_thing and not s.is_crowd and not s.ignore:
                table[s.id] = s.id
        return table[self.ids]

    def crowds(self) -> NDArray[np.bool_]:
        """Where things are not separated."""
        table = np.zeros(max((s.id for s in self.segments), default=0) + 1, bool)
        for s in self.segments:
            table[s.id] = s.is_crowd or s.ignore
        return table[self.ids]


@dataclass
class TrackingQuality:
    """STQ over sequences: add frames in their order, each with the name of its sequence."""

    taxonomy: Taxonomy
    _confusion: NDArray[np.int64] = field(init=False, repr=False)
    _true: dict[tuple[str, int], int] = field(default_factory=dict, repr=False)
    _pred: dict[tuple[str, int], int] = field(default_factory=dict, repr=False)
    _both: dict[tuple[str, int, int], int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        n = len(self.taxonomy)
        self._confusion = np.zeros((n, n + 1), np.int64)

    def add(self, sequence: str, true: Frame, pred: Frame) -> None:
        """Add a frame."""
        if true.ids.shape != pred.ids.shape:
            raise ArgumentError(
                "pred", f"the maps have the shapes {true.ids.shape} and {pred.ids.shape}"
            )
        n = len(self.taxonomy)
        classes, found = true.channels(), pred.channels()
        valid = classes >= 0
        found = np.where(found < 0, n, found)
        pairs = classes[valid] * (n + 1) + found[valid]
        self._confusion += np.bincount(pairs, minlength=n * (n + 1)).reshape(n, n + 1)
        tracks, tracked = true.tracks(), pred.tracks()
        tracked = np.where(true.crowds(), 0, tracked)
        for values, counts in ((tracks, self._true), (tracked, self._pred)):
            for number, count in zip(*np.unique(values, return_counts=True), strict=True):
                if number:
                    key = sequence, int(number)
                    counts[key] = counts.get(key, 0) + int(count)
        both = (tracks > 0) & (tracked > 0)
        joined = np.stack([tracks[both], tracked[both]])
        for (a, b), count in zip(*_columns(joined), strict=True):
            triple = sequence, a, b
            self._both[triple] = self._both.get(triple, 0) + count

    @property
    def sq(self) -> float | None:
        """Segmentation quality: mIoU (0..1) over the classes that occur."""
        inside = self._confusion[:, :-1].diagonal()
        union = self._confusion.sum(1) + self._confusion[:, :-1].sum(0) - inside
        there = union > 0
        return float((inside[there] / union[there]).mean()) if there.any() else None

    @property
    def aq(self) -> float | None:
        """Association quality (0..1) over the true tracks."""
        if not self._true:
            return None
        sums: dict[tuple[str, int], float] = dict.fromkeys(self._true, 0.0)
        for (sequence, a, b), n in self._both.items():
            union = self._true[(sequence, a)] + self._pred[(sequence, b)] - n
            sums[(sequence, a)] += n * n / union
        return float(np.mean([s / self._true[key] for key, s in sums.items()]))

    @property
    def stq(self) -> float | None:
        """Segmentation and tracking quality (0..1)."""
        aq, sq = self.aq, self.sq
        return None if aq is None or sq is None else float(np.sqrt(aq * sq))


def video_panoptic_quality(
    sequences: Iterable[Sequence[tuple[Frame, Frame]]],
    taxonomy: Taxonomy,
    windows: Sequence[int] = (1, 2, 3, 4),
) -> dict[int, float | None]:
    """VPQ (0..100) for each length of window, in frames; pairs are (true, predicted)."""
    listed = [list(s) for s in sequences]
    out: dict[int, float | None] = {}
    for k in windows:
        quality = PanopticQuality(taxonomy)
        for pairs in listed:
            for at in range(len(pairs) - k + 1):
                part = pairs[at : at + k]
                true, pred = (_tube([p[i] for p in part]) for i in (0, 1))
                channels = {s.id: s.channel for s in pred.segments if not s.ignore}
                ids = np.where(np.isin(pred.ids, list(channels)), pred.ids, 0).astype(np.int32)
                quality.update(ids, channels, true.ids, true.segments)
        out[k] = quality.compute().all
    return out


def identity_f1(frames: Iterable[tuple[str, Frame, Frame]]) -> float | None:
    """IDF1 (0..1) of the things of (sequence, true, predicted) frames: per frame objects match
    where their masks have an IoU of 0.5 or more; tracks are matched one to one so that most
    objects match. None where there are neither true nor predicted objects."""
    matches: dict[str, dict[tuple[int, int], int]] = {}
    total_true = total_pred = 0
    for sequence, true, pred in frames:
        a, b = true.tracks(), pred.tracks()
        areas = [dict(zip(*_unique(values), strict=True)) for values in (a, b)]
        total_true += sum(1 for n in areas[0] if n)
        total_pred += sum(1 for n in areas[1] if n)
        both = (a > 0) & (b > 0)
        for (i, j), n in zip(*_columns(np.stack([a[both], b[both]])), strict=True):
            if 2 * n >= areas[0][i] + areas[1][j] - n:
                here = matches.setdefault(sequence, {})
                here[(i, j)] = here.get((i, j), 0) + 1
    if not total_true + total_pred:
        return None
    found = sum(_best_assignment(pairs) for pairs in matches.values())
    return 2 * found / (total_true + total_pred)


def flicker(before: Frame, after: Frame, still_hw: NDArray[np.bool_] | None = None) -> float:
    """The share (0..1) of pixels whose class differs, of those that stand ``still`` if known."""
    differ = before.channels() != after.channels()
    if still_hw is None:
        return float(differ.mean())
    return float(differ[still_hw].mean()) if still_hw.any() else 0.0


def _tube(frames: Sequence[Frame]) -> Frame:
    """Frames side by side as one map. A track that is another class in a frame is another
    segment."""
    numbers: dict[tuple[int, int, bool, bool], int] = {}
    segments: list[TruthSegment] = []
    maps = []
    for frame in frames:
        table = np.zeros(max((s.id for s in frame.segments), default=0) + 1, np.int32)
        for s in frame.segments:
            key = s.id, s.channel, s.is_crowd, s.ignore
            if key not in numbers:
                numbers[key] = len(segments) + 1
                segments.append(
                    TruthSegment(len(segments) + 1, s.channel, s.is_thing, s.is_crowd, s.ignore)
                )
            table[s.id] = numbers[key]
        maps.append(table[frame.ids])
    return Frame(np.concatenate(maps, axis=1), tuple(segments))


def _best_assignment(counts: Mapping[tuple[int, int], int]) -> int:
    """The most matches that a one-to-one assignment of tracks can have: by improving paths
    (the Hungarian method on the few pairs that there are)."""
    rows = sorted({a for a, _ in counts})
    columns = sorted({b for _, b in counts})
    size = max(len(rows), len(columns))
    cost = np.zeros((size + 1, size + 1))
    for (a, b), n in counts.items():
        cost[rows.index(a) + 1, columns.index(b) + 1] = -n
    u, v = np.zeros(size + 1), np.zeros(size + 1)
    match = np.zeros(size + 1, np.int64)  # the row of each column
    for row in range(1, size + 1):
        match[0] = row
        column = 0
        least = np.full(size + 1, np.inf)
        way = np.zeros(size + 1, np.int64)
        done = np.zeros(size + 1, bool)
        while True:
            done[column] = True
            reduced = cost[match[column]] - u[match[column]] - v
            better = ~done & (reduced < least)
            better[0] = False
            least[better], way[better] = reduced[better], column
            open_columns = np.where(done, np.inf, least)
            open_columns[0] = np.inf
            following = int(open_columns.argmin())
            step = open_columns[following]
            u[match[done]] += step
            v[done] -= step
            least[~done] -= step
            column = following
            if match[column] == 0:
                break
        while column:
            before = int(way[column])
            match[column] = match[before]
            column = before
    return int(-sum(cost[match[c], c] for c in range(1, size + 1)))


def _unique(values: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    found, counts = np.unique(values, return_counts=True)
    return found.tolist(), counts.tolist()


def _columns(pairs: NDArray[np.int64]) -> tuple[list[tuple[int, int]], list[int]]:
    """The different columns of an array ``[2,N]``, and how often each occurs."""
    if not pairs.size:
        return [], []
    found, counts = np.unique(pairs, axis=1, return_counts=True)
    return [(int(a), int(b)) for a, b in found.T], counts.tolist()
