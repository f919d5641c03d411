"""How right a network is on labelled videos: what it sees, and whether it knows things again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panokit.errors import DataError
from panokit.result import PanopticResult
from panokit.segmenter import Segmenter
from panokit.video import VideoSegmenter
from panokit_datasets.any_photo import AnyFolder, AnyPhoto
from panokit_datasets.quality.video import (
    Frame,
    TrackingQuality,
    flicker,
    identity_f1,
    video_panoptic_quality,
)
from panokit_datasets.truth import TruthSegment

__all__ = ["VideoQuality", "evaluate_video"]

Progress = Callable[[Iterable[AnyPhoto]], Iterable[AnyPhoto]]


@dataclass(frozen=True)
class VideoQuality:
    """Figures of videos. ``stq``, ``aq``, ``sq`` and ``idf1`` 0..1; ``vpq`` 0..100 by frames of a
    window; ``flicker``: the mean share (0..1) of pixels that change class from frame to frame.
    None: nothing to judge."""

    sequences: int
    frames: int
    stq: float | None
    aq: float | None
    sq: float | None
    vpq: dict[int, float | None]
    idf1: float | None
    flicker: float | None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        data = {n: getattr(self, n) for n in ("sequences", "frames", "stq", "aq", "sq", "idf1")}
        return {**data, "vpq": {str(k): v for k, v in self.vpq.items()}, "flicker": self.flicker}


def evaluate_video(
    segmenter: Segmenter,
    root: Path,
    split: str,
    *,
    hold: int = 8,
    windows: Sequence[int] = (1, 2, 3, 4),
    progress: Progress = lambda photos: photos,
) -> VideoQuality:
    """Segment the sequences of a split in their order, each by a :class:`VideoSegmenter` of its
    own, and compare with labels whose ids hold from frame to frame (KITTI-STEP, MOTChallenge-STEP).

    Classes are mapped into the network's. A sequence is held in memory while it is judged.
    """
    taxonomy = segmenter.taxonomy
    photos = AnyFolder.open(root, taxonomy).split(split)
    if not any(p.reader.group(p.index) for p in photos):
        raise DataError(
            root, f"the photos of {split!r} belong to no sequence; expected a video set"
        )
    tracking = TrackingQuality(taxonomy)
    done: dict[str, list[tuple[Frame, Frame]]] = {}
    seen: VideoSegmenter | None = None
    changes: list[float] = []
    for photo in progress(photos):
        sequence = photo.reader.group(photo.index)
        if sequence not in done:
            seen = VideoSegmenter(segmenter, hold=hold)
        assert seen is not None
        picture, truth = photo.frame()
        true = Frame(truth.ids, truth.segments)
        pred = _frame(seen.update(picture))
        tracking.add(sequence, true, pred)
        before = done.setdefault(sequence, [])
        if before:
            changes.append(flicker(before[-1][1], pred))
        before.append((true, pred))
    every = [(name, t, p) for name, pairs in done.items() for t, p in pairs]
    return VideoQuality(
        sequences=len(done),
        frames=len(every),
        stq=tracking.stq,
        aq=tracking.aq,
        sq=tracking.sq,
        vpq=video_panoptic_quality(done.values(), taxonomy, windows),
        idf1=identity_f1(every),
        flicker=float(np.mean(changes)) if changes else None,
    )


def _frame(result: PanopticResult) -> Frame:
    segments = tuple(
        TruthSegment(s.id, result.taxonomy.channel(s.category.id), s.is_thing) for s in result
    )
    return Frame(result.id_map, segments)
