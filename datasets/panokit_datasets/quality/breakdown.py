"""What lies behind a figure: objects by their size, and how far scores can be believed.

Of a class (persons), by the share of the photo that a true object fills: how many are found, how
well, and how much of their pixels has the class. Of everything that was found, by its score: how
much of it is there. A segment is found, or there, if it matches as panoptic quality matches
(:mod:`panokit_datasets.quality.panoptic_quality`); what void or a crowd excuses does not count. The
calibration error is the mean distance of score and share over the bins, each weighed by its
segments (Naeini et al., 2015; bins of equal width).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._files import write_picture
from panokit.errors import ArgumentError
from panokit.taxonomy import Taxonomy
from panokit_datasets.coco_panoptic import TruthSegment
from panokit_datasets.quality.panoptic_quality import match_segments

__all__ = ["SIZES", "Breakdown", "BreakdownResult", "ScoreBin", "SizeQuality", "write_breakdown"]

SIZES = {"below 1 %": 0.01, "1 to 5 %": 0.05, "5 to 20 %": 0.2, "above 20 %": 1.0}
"""Sizes of objects by the share of the photo up to which they go."""
BINS = 10
"""Bins of scores, each a tenth wide."""


@dataclass(frozen=True)
class SizeQuality:
    """Objects of one size: how many there are (``objects``) and how many are ``found``; ``iou``
    0..1, the mean of those found; ``recall`` 0..1, the share of the pixels of all of them that has
    the class. None where there is nothing to judge."""

    name: str
    objects: int
    found: int
    iou: float | None
    recall: float | None


@dataclass(frozen=True)
class ScoreBin:
    """Things of scores from ``low`` up to ``high``: how many were judged (``segments``), how many
    of them are there (``right``), and their mean ``score`` 0..1 (None without any)."""

    low: float
    high: float
    segments: int
    right: int
    score: float | None

    @property
    def share(self) -> float | None:
        """The share 0..1 that is there."""
        return self.right / self.segments if self.segments else None


@dataclass(frozen=True)
class BreakdownResult:
    """``sizes`` of the objects of ``category``; ``precision`` and ``recall`` 0..1 of its pixels,
    crowds left out; ``scores`` of all things, and ``calibration_error`` 0..1. None where there is
    nothing to judge."""

    category: str
    sizes: tuple[SizeQuality, ...]
    precision: float | None
    recall: float | None
    scores: tuple[ScoreBin, ...]
    calibration_error: float | None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict of all fields."""
        return {**asdict(self), "scores": [{**asdict(b), "share": b.share} for b in self.scores]}


class Breakdown:
    """Counts photo after photo. ``category`` is the class whose objects are told by size."""

    def __init__(self, taxonomy: Taxonomy, category: str = "person") -> None:
        names = [c.name for c in taxonomy]
        if category not in names:
            raise ArgumentError.unknown("category", category, names)
        self.taxonomy, self.category = taxonomy, category
        self._channel = names.index(category)
        self._things = taxonomy.thing_mask
        self._sizes = np.zeros((len(SIZES), 2), np.int64)  # objects, found
        self._iou = np.zeros(len(SIZES))
        self._pixels = np.zeros((len(SIZES), 2), np.int64)  # of objects, with the class
        self._claimed = 0  # labelled pixels that were given the class
        self._bins = np.zeros((BINS, 2), np.int64)  # judged, right
        self._scores = np.zeros(BINS)

    def update(
        self,
        pred_ids: NDArray[Any],
        segments: Sequence[tuple[int, int, float]],
        class_map: NDArray[Any],
        true_ids: NDArray[Any],
        true_segments: Sequence[TruthSegment],
        judged: NDArray[np.bool_],
    ) -> None:
        """Count one photo: ids ``[H,W]``; of each predicted segment id, channel and score 0..1;
        ``class_map`` the channel of every pixel ``[H,W]``; what each true id is; ``judged`` bool
        ``[H,W]``, where the labels say whether the class is there."""
        found = match_segments(
            pred_ids, {i: c for i, c, _ in segments}, true_ids, true_segments, len(self.taxonomy)
        )
        claimed = np.asarray(class_map) == self._channel
        crowds = [s.id for s in true_segments if s.is_crowd and s.channel == self._channel]
        self._claimed += int((claimed & judged & ~np.isin(true_ids, crowds)).sum())
        iou = dict(zip(found.true.tolist(), found.iou.tolist(), strict=True))
        for place, segment in enumerate(true_segments):
            if segment.channel != self._channel or segment.is_crowd or segment.ignore:
                continue
            mask = true_ids == segment.id
            area = int(mask.sum())
            if not area:
                continue
            size = next(k for k, most in enumerate(SIZES.values()) if area <= most * mask.size)
            self._sizes[size] += 1, place in iou
            self._iou[size] += iou.get(place, 0.0)
            self._pixels[size] += area, int(claimed[mask].sum())
        for place, right in [
            *((p, True) for p in found.pred),
            *((p, False) for p in found.invented),
        ]:
            _, channel, score = segments[int(place)]
            if self._things[channel]:
                bin_ = min(BINS - 1, max(0, int(score * BINS)))
                self._bins[bin_] += 1, right
                self._scores[bin_] += score

    def compute(self) -> BreakdownResult:
        """The figures of everything counted so far."""
        sizes = tuple(
            SizeQuality(
                name, int(objects), int(found), _ratio(self._iou[k], found),
                _ratio(*self._pixels[k, ::-1]),
            )
            for k, (name, (objects, found)) in enumerate(zip(SIZES, self._sizes, strict=True))
        )  # fmt: skip
        scores = tuple(
            ScoreBin(k / BINS, (k + 1) / BINS, int(n), int(right), _ratio(self._scores[k], n))
            for k, (n, right) in enumerate(self._bins)
        )
        true, both = self._pixels.sum(0)
        far = [b.segments * abs((b.share or 0.0) - (b.score or 0.0)) for b in scores]
        return BreakdownResult(
            self.category, sizes, _ratio(both, self._claimed), _ratio(both, true), scores,
            _ratio(sum(far), int(self._bins[:, 0].sum())),
        )  # fmt: skip


def _ratio(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole else None


INK, SOFT, FILL, GRID = "#222222", "#6b7480", "#0b6e4f", "#dde2e7"
WIDTH, HEIGHT, EDGE = 900, 400, 60


def write_breakdown(path: str | Path, result: BreakdownResult, title: str) -> None:
    """Write the figures as PNG: on the left how many objects of each size are found, on the right
    how much of what has a score is there (on the line: as much as the score says)."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    draw.text((EDGE, 12), title, fill=INK, font=_font(15))
    half = (WIDTH - 3 * EDGE) // 2
    bars = [
        (s.name, s.found / s.objects if s.objects else None, f"{s.found} of {s.objects}")
        for s in result.sizes
    ]
    _panel(draw, EDGE, half, bars, f"{result.category}: found, by share of the photo")
    bars = [(f"{b.low:.1f}", b.share, str(b.segments)) for b in result.scores]
    left = 2 * EDGE + half
    error = result.calibration_error
    told = "" if error is None else f" (calibration error {error:.2f})"
    _panel(draw, left, half, bars, f"things that are there, by score{told}")
    draw.line((left, HEIGHT - EDGE, left + half, 2 * EDGE), fill=SOFT, width=1)
    write_picture(path, image, "PNG", optimize=True)


def _panel(
    draw: Any, left: int, width: int, bars: list[tuple[str, float | None, str]], title: str
) -> None:
    low, high = HEIGHT - EDGE, 2 * EDGE
    draw.text((left, EDGE - 12), title, fill=INK, font=_font(13))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = low + (high - low) * share
        draw.line((left, y, left + width, y), fill=GRID)
        draw.text((left - 8, y), f"{share:.0%}", fill=SOFT, font=_font(10), anchor="rm")
    step = width / len(bars)
    for k, (name, known, count) in enumerate(bars):
        x0, x1 = left + (k + 0.15) * step, left + (k + 0.85) * step
        top = low + (high - low) * (known or 0.0)
        if known is not None:
            draw.rectangle((x0, top, x1, low), fill=FILL)
        draw.text(((x0 + x1) / 2, low + 6), name, fill=INK, font=_font(10), anchor="ma")
        draw.text(((x0 + x1) / 2, low + 22), count, fill=SOFT, font=_font(10), anchor="ma")


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
