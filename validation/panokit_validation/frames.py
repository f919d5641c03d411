"""Results that are a frame late: what a dump holds is that of a dump just before it.

One dump alone cannot show it, for the result is right, only not this photo's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from panokit.decoding import PostprocessConfig
from panokit.dump import Dump
from panokit.errors import PanokitError
from panokit.photo import Photo
from panokit.runtime import dequantize
from panokit.segmenter import Segmenter
from panokit_validation import evidence
from panokit_validation.contracts import ContractReference
from panokit_validation.diagnosis import UNKNOWN, Cause
from panokit_validation.faults import FAULTS
from panokit_validation.reference import ReferenceStages, told_classes
from panokit_validation.verdict import PhotoVerdict

__all__ = ["KEPT", "Frame", "with_earlier"]

STALE = "stale-photo"

KEPT = 3
"""Frames before a dump that its result may belong to."""

MOST_DIFFERENT = 0.02
"""Share of the pixels that may differ from the earlier frame's map, for other kernels' sake."""

CLEARLY = 0.5
"""An earlier frame's result must be nearer than this share of the distance to the own one: on a
still scene all frames are alike."""


@dataclass(frozen=True)
class Frame:
    """A dump, what it is judged by, and its photo if that lies elsewhere."""

    dump: Dump
    segmenter: Segmenter
    photo: Photo | None = None

    @property
    def reference(self) -> ReferenceStages | ContractReference:
        """What the reference makes of it."""
        settings = self.segmenter.bundle.manifest.postprocessing
        kind = ReferenceStages if isinstance(settings, PostprocessConfig) else ContractReference
        return kind(self.dump, self.segmenter, self.photo)

    @property
    def number(self) -> int | None:
        """Which frame of its sequence it is, if the dump tells."""
        told = self.dump.metadata.get("frame")
        return None if told is None else int(told)


def with_earlier(verdict: PhotoVerdict, frame: Frame, before: Iterable[Frame]) -> PhotoVerdict:
    """The verdict on a dump that fails; where its first wrong stage is what one of the frames
    ``before`` it (nearest first) has to give, with that as the cause."""
    stage = verdict.first_bad_stage
    if stage is None or _is_explained(verdict, stage):
        return verdict
    own = frame.reference
    for back, earlier in enumerate(before, 1):
        if earlier.segmenter is not frame.segmenter or earlier.dump.name == frame.dump.name:
            continue
        try:
            left = _left(stage, own, earlier.reference)
        except PanokitError:
            continue
        if left is not None:
            cause = _late(stage, frame, earlier, back, 1 - left)
            others = [c for c in verdict.causes if c.stage != stage or not c.alarm]
            return replace(verdict, causes=(cause, *others))
    return verdict


def _is_explained(verdict: PhotoVerdict, stage: str) -> bool:
    """Whether the diagnosis has something better. A map that a fault of the bank explains is that
    fault's; an input is not: nothing looks like another photo."""
    alarms = [c for c in verdict.causes if c.alarm]
    if not alarms or alarms[0].certain:
        return bool(alarms)
    return stage != "input" and alarms[0].name not in (UNKNOWN, STALE)


def _left(
    stage: str,
    own: ReferenceStages | ContractReference,
    earlier: ReferenceStages | ContractReference,
) -> float | None:
    """The share of a stage's difference that is left if it is the earlier frame's; None if it is
    not that."""
    if stage == "panoptic":
        expected = earlier.given_panoptic
        if expected is None:
            return None
        channels = told_classes(own.dump), expected.channels
        left = evidence.map_difference(own.dump.tensors["panoptic"], expected.ids, channels)
        return left if left < MOST_DIFFERENT else None
    if stage == "input":
        return _nearer([(own.device_image, own.image, earlier.image)])
    if stage not in own.device_raw:
        return None
    given, before = own.given_raw, earlier.given_raw
    if given is None or before is None:
        return None
    specs = own.artifact.outputs
    heads = [dequantize(raw, specs) for raw in (own.device_raw, given, before)]
    return _nearer([tuple(h[name] for h in heads) for name in own.device_raw])


def _nearer(triples: list[tuple[NDArray[Any] | None, ...]]) -> float | None:
    """How near values are to the earlier frame's, as a share of how far they are from their own
    (the worst of several tensors); None if that is no frame's result."""
    worst = 0.0
    for values, own, earlier in triples:
        if values is None or own is None or earlier is None or values.shape != earlier.shape:
            return None
        left = evidence.noise_to_signal(values, earlier)
        base = evidence.noise_to_signal(values, own)
        if left > MOST_DIFFERENT or left >= CLEARLY * base:
            return None
        worst = max(worst, left / base)
    return worst


def _late(stage: str, frame: Frame, earlier: Frame, back: int, explained: float) -> Cause:
    fault = FAULTS[STALE]
    if frame.number is not None and earlier.number is not None:
        frames = frame.number - earlier.number
        count = "1 frame" if abs(frames) == 1 else f"{abs(frames)} frames"
        when = f"{count} {'later' if frames < 0 else 'earlier'}"
    else:
        when = "the one before" if back == 1 else f"{back} before"
    name = earlier.dump.name
    title = f"{fault.title}: {name}, {when}"
    return Cause(fault.name, stage, title, fault.advice, explained, name, certain=True)
