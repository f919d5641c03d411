"""Tie, rounding or error: what kind of difference each differing pixel of a map is.

The reference knows by how much every decision was won: the class by the logit's lead over the
other class, the instance by the distance to the line between two centres, an instance's existence
by its centre's lead over the threshold and over its neighbours. A pixel whose decision was won by
less than float32 can tell is a tie; by less than the heads' own rounding (float16, or quantisation
steps), rounding; anything else is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import Heads, PanopticMap, PostprocessConfig, postprocess
from panokit.taxonomy import Taxonomy
from panokit_validation.maps import MapAgreement

if TYPE_CHECKING:
    from panokit.preprocessing import TransformRecord

__all__ = ["EQUAL", "ERROR", "ROUNDING", "TIE", "Context", "PixelKinds", "Tolerances",
    "class_margins", "classify_pixels"]  # fmt: skip

EQUAL, TIE, ROUNDING, ERROR = 0, 1, 2, 3

_NEAR_AREA = 0.1
"""A segment whose area or score lies this near to the least one allowed (relative to it) may come
or go by rounding."""

_CHUNK = 4096


@dataclass(frozen=True)
class Tolerances:
    """How little a decision may be won by: for a tie, and for rounding.

    ``logit`` of the classes and ``center`` of the centres in logits, ``offset`` in input pixels;
    each as (tie, rounding).
    """

    logit: tuple[float, float]
    center: tuple[float, float]
    offset: tuple[float, float]

    @classmethod
    def of_heads(
        cls, heads: Heads, input_side: int, steps: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ) -> Tolerances:
        """For a map decoded from exactly these heads: float32 ties, float16 rounding.

        ``steps`` (semantic, center, offset) are the quantisation steps by which the heads
        themselves may be off, where the map's own heads are not known.
        """
        sizes = (float(np.abs(heads.semantic).max()), float(np.abs(heads.center).max()), input_side)
        # A decision compares two values, and each passed a few roundings.
        ties = [max(4 * 2.0**-23 * s, 1e-12) for s in sizes]
        half = [4 * 2.0**-11 * s + 4 * step for s, step in zip(sizes, steps, strict=True)]
        half[2] = 2 * 2.0**-11 * input_side + 2 * steps[2]
        logit, center, offset = zip(ties, half, strict=True)
        return cls(logit, center, offset)


@dataclass(frozen=True)
class PixelKinds:
    """``kinds`` uint8 ``[H,W]``: EQUAL, TIE, ROUNDING or ERROR; and their shares 0..1."""

    kinds: NDArray[np.uint8]

    def share(self, kind: int) -> float:
        """The share of pixels of a kind."""
        return float((self.kinds == kind).mean())

    def to_json(self) -> dict[str, float]:
        """A JSON-ready dict of the shares."""
        names = {"tie": TIE, "rounding": ROUNDING, "error": ERROR}
        return {f"{name}_pixels": round(self.share(kind), 6) for name, kind in names.items()}

    def excuse(
        self,
        device: NDArray[Any],
        reference: PanopticMap,
        agreement: MapAgreement,
        classes: dict[int, int] | None,
    ) -> tuple[NDArray[np.int64], dict[int, int] | None]:
        """The device's map with the reference's answer where the pixel is no error, and its
        classes: what is left to judge."""
        base = int(device.max()) + 1
        out = device.astype(np.int64)
        for s in agreement.segments:
            if s.reference_id is not None and s.device_id is not None and s.iou > 0.5:
                same = s.reference_class is None or s.reference_class == s.device_class
                if same:
                    out[device == s.device_id] = base + s.reference_id
        excused = (self.kinds == TIE) | (self.kinds == ROUNDING)
        ids = reference.ids[excused].astype(np.int64)
        out[excused] = np.where(ids > 0, base + ids, 0)
        if classes is None:
            return out, None
        return out, {**classes, **{base + s.id: s.channel for s in reference.segments}}


@dataclass(frozen=True)
class Context:
    """What the reference map was decoded with."""

    heads: Heads
    taxonomy: Taxonomy
    transform: TransformRecord
    config: PostprocessConfig
    tolerances: Tolerances
    device_classes: dict[int, int] | None = None


def class_margins(panoptic: PanopticMap) -> NDArray[np.float32]:
    """By how many logits each pixel's class was won, float32 ``[H,W]`` (needs ``explain``)."""
    two = np.partition(panoptic.explain["semantic"], -2, axis=-1)[..., -2:]
    return np.asarray(two[..., 1] - two[..., 0])


def classify_pixels(
    device: NDArray[Any],
    reference: PanopticMap,
    agreement: MapAgreement,
    context: Context,
) -> PixelKinds:
    """Sort the differing pixels of ``device`` ``[H,W]``; ``reference`` comes with ``explain``."""
    return _Sorter(device, reference, agreement, context).sort()


class _Sorter:
    def __init__(
        self, device: NDArray[Any], reference: PanopticMap, agreement: MapAgreement, c: Context
    ) -> None:
        self.device, self.reference, self.c = device, reference, c
        self.explain = reference.explain
        self.thing = c.taxonomy.thing_mask
        self.partner = {0: 0}  # device id → id of the reference's segment that it matches
        for s in agreement.segments:
            flipped = s.reference_class is not None and s.reference_class != s.device_class
            if s.reference_id is not None and s.device_id is not None and not flipped:
                self.partner[s.device_id] = s.reference_id
        found, inverse = np.unique(device, return_inverse=True)
        table = np.array([self.partner.get(int(i), -1) for i in found])
        self.partners = table[inverse.reshape(device.shape)]
        classes = c.device_classes or {}
        by_reference = {s.id: s.channel for s in reference.segments}
        known = [
            classes.get(int(i), by_reference.get(self.partner.get(int(i), -1), -1)) for i in found
        ]
        self.device_class = np.array(known)[inverse.reshape(device.shape)]  # -1: not known

    def sort(self) -> PixelKinds:
        kinds = np.zeros(self.device.shape, np.uint8)
        rows, cols = np.nonzero(self.partners != self.reference.ids)
        for start in range(0, len(rows), _CHUNK):
            r, c = rows[start : start + _CHUNK], cols[start : start + _CHUNK]
            kinds[r, c] = np.minimum(
                np.minimum(self._by_class(r, c), self._by_vote(r, c)), self._by_existence(r, c)
            )
        return PixelKinds(kinds)

    def _by_class(self, r: NDArray[np.intp], c: NDArray[np.intp]) -> NDArray[np.uint8]:
        """By the lead of the reference's class over the device's (or, not known, any other)."""
        logits = self.explain["semantic"][r, c]
        own, other = self.explain["class_map"][r, c], self.device_class[r, c]
        best = logits[np.arange(len(r)), own]
        masked = logits.copy()
        masked[np.arange(len(r)), own] = -np.inf
        rival = masked.max(1)  # any other class
        stuff = (other >= 0) & ~self.thing[other]
        rival = np.where(stuff, logits[np.arange(len(r)), other], rival)
        to_thing = (other >= 0) & self.thing[other]
        things = np.where(self.thing, masked, -np.inf).max(1)
        rival = np.where(to_thing, things, rival)
        level = _level(best - rival, self.c.tolerances.logit)
        same = (own == other) & stuff  # the class did not decide
        inside = to_thing & self.thing[own]  # one thing for another: the votes decided
        return np.where((own < 0) | same | inside, ERROR, level).astype(np.uint8)

    def _by_vote(self, r: NDArray[np.intp], c: NDArray[np.intp]) -> NDArray[np.uint8]:
        """By the distance to the line between the reference's centre and another one."""
        out = np.full(len(r), ERROR, np.uint8)
        votes, centers = self.explain["votes"][r, c], self._centers()
        device_thing = (self.device_class[r, c] < 0) | self.thing[self.device_class[r, c]]
        at = np.flatnonzero((votes >= 0) & device_thing)
        if len(centers) < 2 or not len(at):
            return out
        point = self._points(r[at], c[at])
        own = centers[votes[at]]
        apart = centers[None] - own[:, None]  # [n,K,2]
        length = np.sqrt((apart**2).sum(-1))
        middle = (centers[None] + own[:, None]) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = ((middle - point[:, None]) * apart).sum(-1) / length
        distance[length == 0] = np.inf
        target = self._rank_of_segment()[np.maximum(self.partners[r[at], c[at]], 0)]
        known = target >= 0
        chosen = np.where(
            known, distance[np.arange(len(at)), np.maximum(target, 0)], distance.min(1)
        )
        out[at] = _level(chosen, self.c.tolerances.offset)
        return out

    def _by_existence(self, r: NDArray[np.intp], c: NDArray[np.intp]) -> NDArray[np.uint8]:
        """By how nearly the reference's segment is absent, or one that it lacks is there."""
        out = self._segment_levels()[self.reference.ids[r, c]]
        out = np.where(self.reference.ids[r, c] == 0, self._dropped_levels(r, c), out)
        cells, levels = self._marginal_cells()
        thing = self.thing[self.explain["class_map"][r, c]] & (self.explain["class_map"][r, c] >= 0)
        at = np.flatnonzero(thing & (self.partners[r, c] < 0))
        if len(cells) and len(at):
            point = self._points(r[at], c[at])
            far = ((self._cell_points(cells)[None] - point[:, None]) ** 2).sum(-1)
            nearest = far.argmin(1)
            votes, centers = self.explain["votes"][r[at], c[at]], self._centers()
            own = np.full(len(at), np.inf)
            if len(centers):
                own = ((centers[np.maximum(votes, 0)] - point) ** 2).sum(-1)
                own[votes < 0] = np.inf
            slack = self.c.tolerances.offset[1]
            nearer = np.sqrt(far.min(1)) <= np.sqrt(own) + slack
            out[at] = np.where(nearer, np.minimum(out[at], levels[nearest]), out[at])
        return np.asarray(out, np.uint8)

    def _segment_levels(self) -> NDArray[np.uint8]:
        """For each id of the reference how nearly that segment is absent."""
        out = np.full(len(self.reference.segments) + 1, ERROR, np.uint8)
        # A lead over the cells around does not count: with any of them the segment would exist.
        logits = self.c.heads.center
        gate = _logit(self.c.config.threshold)
        ranks = self._rank_of_segment()
        for s in self.reference.segments:
            least = self.c.config.min_thing_area if s.is_thing else self.c.config.min_stuff_area
            if s.area <= least * (1 + _NEAR_AREA) and least > 0:
                out[s.id] = ROUNDING
            if s.is_thing and s.score <= self.c.config.min_thing_score * (1 + _NEAR_AREA):
                out[s.id] = ROUNDING
            if s.is_thing:
                y, x = self.explain["centers"][ranks[s.id]]
                margin = np.array([logits[y, x] - gate])
                out[s.id] = min(int(out[s.id]), int(_level(margin, self.c.tolerances.center)[0]))
        return out

    def _dropped_levels(self, r: NDArray[np.intp], c: NDArray[np.intp]) -> NDArray[np.uint8]:
        """For void pixels: whether their segment was dropped for being barely too small."""
        classes, votes = self.explain["class_map"], self.explain["votes"]
        votes_area = np.bincount(votes[votes >= 0], minlength=1)
        of_stuff = np.bincount(
            classes[(classes >= 0) & ~self.thing[classes]], minlength=len(self.thing)
        )
        vote, own = votes[r, c], classes[r, c]
        area = np.where(vote >= 0, votes_area[np.maximum(vote, 0)], of_stuff[np.maximum(own, 0)])
        config = self.c.config
        least = np.where(vote >= 0, config.min_thing_area, config.min_stuff_area)
        near = (own >= 0) & (area < least) & (area >= least * (1 - _NEAR_AREA))
        near |= self._barely_scored()[vote]
        return np.where(near, ROUNDING, ERROR).astype(np.uint8)

    def _barely_scored(self) -> NDArray[np.bool_]:
        """By centre rank, and False at the end for "no centre": whether the instance was dropped
        for a score barely too low."""
        out = np.zeros(len(self.explain["centers"]) + 1, bool)
        least = self.c.config.min_thing_score
        if least > 0:
            config = replace(self.c.config, min_thing_score=least * (1 - _NEAR_AREA))
            more = postprocess(self.c.heads, self.c.taxonomy, self.c.transform, config)
            centers = [tuple(map(float, p)) for p in self._centers()]
            for s in more.segments:
                if s.center_yx is not None and s.score < least:
                    out[centers.index(s.center_yx)] = True
        return out

    def _marginal_cells(self) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
        """Head cells that are no centres, but nearly, and how nearly."""
        logits = self.c.heads.center
        lead = _lead(logits, self.c.config.window)
        margin = np.maximum(_logit(self.c.config.threshold) - logits, -lead)
        for y, x in self.explain["centers"]:
            margin[y, x] = np.inf
        near = margin <= self.c.tolerances.center[1]
        return np.argwhere(near), _level(np.maximum(margin[near], 0), self.c.tolerances.center)

    def _rank_of_segment(self) -> NDArray[np.intp]:
        """Centre rank by segment id of the reference; -1 for stuff and void."""
        out = np.full(len(self.reference.segments) + 1, -1, np.intp)
        centers = [tuple(map(float, p)) for p in self._centers()]
        for s in self.reference.segments:
            if s.is_thing and s.center_yx is not None:
                out[s.id] = centers.index((float(s.center_yx[0]), float(s.center_yx[1])))
        return out

    def _centers(self) -> NDArray[np.float32]:
        return self._cell_points(self.explain["centers"])

    def _cell_points(self, cells: NDArray[np.intp]) -> NDArray[np.float32]:
        """Centres of head cells in input pixels (y, x), as the postprocessing computes them."""
        (w_in, h_in), (h, w) = self.c.transform.input_wh, self.c.heads.center.shape
        scale = np.array([np.float32(h_in / h), np.float32(w_in / w)], np.float32)
        return np.asarray((cells.reshape(-1, 2) + np.float32(0.5)) * scale)

    def _points(self, r: NDArray[np.intp], c: NDArray[np.intp]) -> NDArray[np.float32]:
        """Where the pixels vote, in input pixels (y, x)."""
        (w_in, h_in), (h, w) = self.c.transform.input_wh, self.reference.ids.shape
        at = np.stack([(r + 0.5) * (h_in / h), (c + 0.5) * (w_in / w)], -1).astype(np.float32)
        return np.asarray(at + self.explain["offset"][r, c])


def _level(margin: NDArray[Any], limits: tuple[float, float]) -> NDArray[np.uint8]:
    tie, rounding = limits
    return np.where(margin <= tie, TIE, np.where(margin <= rounding, ROUNDING, ERROR)).astype(
        np.uint8
    )


def _logit(probability: float) -> float:
    clipped = float(np.clip(probability, 1e-12, 1 - 1e-12))
    return float(np.log(clipped / (1 - clipped)))


def _lead(logits: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    """By how much each cell exceeds the highest other one of its window (negative: is below)."""
    r = window // 2
    h, w = logits.shape
    padded = np.full((h + 2 * r, w + 2 * r), -np.inf, np.float32)
    padded[r : r + h, r : r + w] = logits
    highest = np.full((h, w), -np.inf, np.float32)
    for dy in range(2 * r + 1):
        for dx in range(2 * r + 1):
            if (dy, dx) != (r, r):
                np.maximum(highest, padded[dy : dy + h, dx : dx + w], out=highest)
    return np.asarray(logits - highest)
