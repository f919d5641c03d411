"""Maps that are a frame late: the result of a dump that came before in the same run.

One dump alone cannot show it, for the map is right, only not this photo's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from panokit.decoding import PostprocessConfig
from panokit.dump import Dump
from panokit.errors import PanokitError
from panokit.photo import Photo
from panokit.segmenter import Segmenter
from panokit_validation import evidence
from panokit_validation.diagnosis import UNKNOWN, Cause
from panokit_validation.faults import FAULTS
from panokit_validation.reference import ReferenceStages, told_classes
from panokit_validation.verdict import PhotoVerdict, Verdict

__all__ = ["Frames"]

KEPT = 3
"""Frames that are remembered."""

MOST_DIFFERENT = 0.02
"""Share of the pixels that may differ from the earlier frame's map, for other kernels' sake."""


class Frames:
    """Remembers the last dumps, and recognises their maps."""

    def __init__(self) -> None:
        self._last: deque[ReferenceStages] = deque(maxlen=KEPT)

    def seen(
        self, dump: Dump, segmenter: Segmenter, photo: Photo | None, verdict: PhotoVerdict
    ) -> PhotoVerdict:
        """The verdict on the next dump; where nothing explains its map, and an earlier frame's is
        the same, with that as the cause."""
        if not isinstance(segmenter.bundle.manifest.postprocessing, PostprocessConfig):
            return verdict
        if verdict.first_bad_stage == "panoptic" and _is_open(verdict):
            name, left = self._earlier(dump, segmenter)
            if name:
                verdict = replace(verdict, causes=(_late(name, 1 - left), *verdict.causes[1:]))
        self._last.append(ReferenceStages(dump, segmenter, photo))
        return verdict

    def _earlier(self, dump: Dump, segmenter: Segmenter) -> tuple[str, float]:
        """The name of the earlier frame whose map this is, and the share that differs."""
        best = ("", MOST_DIFFERENT)
        ids, channels = dump.tensors["panoptic"], told_classes(dump)
        for earlier in reversed(self._last):
            if earlier.segmenter is not segmenter or earlier.dump.name == dump.name:
                continue
            try:
                expected = earlier.given_panoptic
            except PanokitError:
                continue
            if expected is None:
                continue
            left = evidence.map_difference(ids, expected.ids, (channels, expected.channels))
            if left < best[1]:
                best = (earlier.dump.name, left)
        return best


def _is_open(verdict: PhotoVerdict) -> bool:
    alarms = [c for c in verdict.causes if c.alarm]
    return verdict.verdict is Verdict.FAIL and bool(alarms) and alarms[0].name == UNKNOWN


def _late(name: str, explained: float) -> Cause:
    fault = FAULTS["stale-photo"]
    return Cause(fault.name, "panoptic", fault.title, fault.advice, explained, name, certain=True)
