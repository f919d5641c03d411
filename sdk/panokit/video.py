"""Frames of a camera, one after the other: maps and mattes that do not flicker, objects that keep
their ids.

Where the picture stands still, a pixel keeps its label until other labels have outvoted it: each
frame that agrees makes it surer, up to a limit, each that does not makes it less sure. Where the
picture moves, and after a cut, a frame's own map counts. An object that was found once may be a
little less sure than the least score from then on. Mattes go a part of the way to the new one
where nothing moves, and all of it elsewhere. Latency is one frame; memory two maps, and two mattes
for each object that an effect is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import DecodedSegment, PanopticMap
from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.preprocessing import TransformRecord
from panokit.result import PanopticResult
from panokit.segmenter import PhotoLike, Segmenter, as_photo
from panokit.tracking import Tracker

__all__ = ["MapSmoother", "MatteSmoother", "VideoSegmenter", "changed_share"]

_CELL = 4  # pixels of the input that one value of the motion map stands for
_LEAST_CHANGE = 2.0  # of 255: less than any motion that is seen
_PER_NOISE = 5.0  # changes so many times the noise are motion
_MOST_NOISE = 3.0
_SURE = 2e-3  # what is left of a matte's soft edge below this is none
_CUT = 0.6
"""Share of the picture from which on a change is a cut."""
_KEEPS = 0.75
"""Share of the least score at which an object that was found is still there."""


class MapSmoother:
    """Steadies maps of labels where the picture stands still.

    ``hold``: frames that a label must be outvoted by, once it is sure. 0 leaves maps as they are.
    """

    def __init__(self, hold: int = 8) -> None:
        if not 0 <= hold <= 100:
            raise ArgumentError("hold", f"hold is {hold!r}; expected a number from 0 to 100")
        self.hold = hold
        self._labels: NDArray[np.int32] | None = None
        self._sure: NDArray[np.int16] | None = None
        self._motion = _Motion()

    def update(
        self, labels: NDArray[np.int32], picture_hwc: NDArray[np.uint8]
    ) -> NDArray[np.int32]:
        """The steadied labels of a frame; ``labels`` int32 ``[H,W]`` and ``picture_hwc`` uint8
        ``[H,W,3]`` lie on one grid."""
        before, sure = self._labels, self._sure
        moving = self._motion.update(picture_hwc)
        fresh = before is None or sure is None or moving is None or before.shape != labels.shape
        if self.hold == 0 or fresh or moving is None:
            self._labels = labels.copy()
            self._sure = np.ones(labels.shape, np.int16)
            return labels
        assert before is not None
        assert sure is not None
        wide = _wide(moving, labels.shape)
        agrees = labels == before
        sure = np.where(agrees, np.minimum(sure + 1, self.hold), sure - 1)
        switch = ~agrees & ((sure < 0) | wide)
        self._labels = np.where(switch, labels, before)
        self._sure = np.where(switch, self.hold // 2, sure).astype(np.int16)
        return self._labels


class MatteSmoother:
    """Steadies mattes where the picture stands still: :class:`panokit.result.Steady`.

    ``blend``: how far, 0..1, a matte goes to the new one there; 1 leaves mattes as they are.
    """

    def __init__(self, blend: float = 0.25) -> None:
        if not 0 < blend <= 1:
            raise ArgumentError("blend", f"blend is {blend!r}; expected a number above 0, up to 1")
        self.blend = blend
        self._motion = _Motion()
        self._before: dict[tuple[int, ...], NDArray[np.float32]] = {}
        self._now: dict[tuple[int, ...], NDArray[np.float32]] = {}
        self._still: NDArray[np.float32] | None = None

    def begin(self, input_hwc: NDArray[np.uint8], transform: TransformRecord) -> None:
        """Take up a frame: the network's input uint8 ``[H,W,3]`` and where the photo lies in it.
        Mattes that the last frame did not ask for are forgotten."""
        from PIL import Image

        self._before, self._now = self._now, {}
        moving = self._motion.update(input_hwc)
        self._still = None
        if moving is not None and self._before:
            still = 255 * ~_wide(moving, input_hwc.shape[:2])[transform.content_slices]
            image = Image.fromarray(still.astype(np.uint8)).resize(
                transform.photo_wh, Image.Resampling.BILINEAR
            )
            self._still = np.asarray(image, np.float32) / np.float32(255)

    def matte(self, ids: Sequence[int], alpha_hw: NDArray[np.float32]) -> NDArray[np.float32]:
        """The steadied matte of segments, float32 ``[H,W]`` 0..1."""
        key = tuple(ids)
        before = self._before.get(key)
        if before is not None and self._still is not None and before.shape == alpha_hw.shape:
            kept = self._still * np.float32(1 - self.blend)
            alpha_hw = alpha_hw + kept * (before - alpha_hw)
            alpha_hw[alpha_hw < _SURE] = 0
            alpha_hw[alpha_hw > 1 - _SURE] = 1
        self._now[key] = alpha_hw
        return alpha_hw


class _Motion:
    """Where a picture moves, by cells; None at the beginning and after a cut: then all is new."""

    def __init__(self) -> None:
        self._grey: NDArray[np.float32] | None = None

    def update(self, picture_hwc: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
        grey = _cells(picture_hwc)
        moving = None if self._grey is None else _moving(grey, self._grey)
        self._grey = grey
        return None if moving is None or moving.mean() > _CUT else moving


def _wide(cells: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Cells as pixels of a picture."""
    return cells.repeat(_CELL, 0).repeat(_CELL, 1)[: shape[0], : shape[1]]


def _cells(picture_hwc: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The mean grey of cells of the picture."""
    h, w = (side - side % _CELL for side in picture_hwc.shape[:2])
    grey = picture_hwc[:h, :w].mean(-1, dtype=np.float32)
    cells = grey.reshape(h // _CELL, _CELL, w // _CELL, _CELL).mean((1, 3))
    return np.asarray(cells, np.float32)


def _moving(now: NDArray[np.float32], before: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Cells that changed by more than noise does, and those beside them."""
    if now.shape != before.shape:
        return np.ones(now.shape, bool)
    change = np.abs(now - before)
    noise = min(1.4826 * float(np.median(change)), _MOST_NOISE)  # a cut changes all
    moving = change > max(_LEAST_CHANGE, _PER_NOISE * noise)
    padded = np.pad(moving, 1)
    h, w = moving.shape
    near = [padded[dy : dy + h, dx : dx + w] for dy in range(3) for dx in range(3)]
    return np.asarray(np.logical_or.reduce(near), bool)


@dataclass
class _Known:
    """What a steady id stands for: the channel, and how sure the network was last."""

    channel: int
    is_thing: bool
    score: float


class VideoSegmenter:
    """Segments frames in their order.

    Ids are steady: stuff has its channel + 1, things the number of their track after the last of
    those. One is for one camera or file: begin a new one for another.
    """

    def __init__(self, segmenter: Segmenter, *, hold: int = 8, patience: int = 30) -> None:
        """``hold``: how steady maps are (:class:`MapSmoother`); ``patience``: frames that an object
        may be hidden for and keep its id."""
        self.segmenter = segmenter
        self.tracker = Tracker(patience)
        self._smoother = MapSmoother(hold)
        self._mattes = MatteSmoother() if hold else None
        self._known: dict[int, _Known] = {}

    @property
    def totals(self) -> dict[str, int]:
        """How many objects of each class were seen so far."""
        return self.tracker.totals

    def update(self, frame: PhotoLike) -> PanopticResult:
        """Segment the next frame. Effects on a result are for before the next frame: they steady
        their mattes with those of the frame before."""
        photo = as_photo(frame)
        settings, least = self.segmenter.bundle.manifest.postprocessing.lenient(_KEEPS)
        stages = self.segmenter.stages(photo, config=settings)
        taxonomy, decoded = self.segmenter.taxonomy, stages.panoptic
        raw = PanopticResult.from_map(photo, decoded, taxonomy, stages.transform)
        if self._mattes is not None:
            self._mattes.begin(stages.input_hwc, stages.transform)
        unsure = {s.id for s in decoded.segments if s.is_thing and s.score < least}
        tracks = self.tracker.update(raw, unsure)
        steady = np.zeros(max((s.id for s in decoded.segments), default=0) + 1, np.int32)
        for s in decoded.segments:
            track = tracks.get(s.id)
            if s.is_thing and track is None:
                continue  # no pixel of the frame shows it, or it is too unsure to begin with
            number = s.channel + 1 if track is None else len(taxonomy) + track.number
            steady[s.id] = number
            self._known[number] = _Known(s.channel, s.is_thing, s.score)
        labels = steady[decoded.ids]
        if not decoded.on_photo:
            labels = self._smoother.update(labels, _on_grid(stages.input_hwc, labels.shape))
        return self._result(photo, labels, raw, decoded)

    def _result(
        self,
        photo: Photo,
        labels: NDArray[np.int32],
        raw: PanopticResult,
        decoded: PanopticMap,
    ) -> PanopticResult:
        """The result of a frame from its steady labels. Ids that are seen no more are forgotten."""
        there = [n for n in np.unique(labels).tolist() if n]
        alive = {len(raw.taxonomy) + n for n in self.tracker.tracks}
        self._known = {
            n: k
            for n, k in self._known.items()
            if n in there or n in alive or n <= len(raw.taxonomy)
        }
        place = np.zeros(max(there, default=0) + 1, np.int32)
        place[there] = np.arange(1, len(there) + 1)
        segments = tuple(
            DecodedSegment(i, k.channel, k.is_thing, k.score, 1)
            for i, n in enumerate(there, 1)
            for k in (self._known[n],)
        )
        found = PanopticMap(place[labels], segments, on_photo=decoded.on_photo)
        result = PanopticResult.from_map(
            photo, found, raw.taxonomy, raw.transform, self.segmenter.artifact.name
        )
        numbers = np.array([0, *there], np.int32)
        named = tuple(replace(s, id=int(numbers[s.id])) for s in result.segments)
        return replace(result, id_map=numbers[result.id_map], segments=named, steady=self._mattes)


def _on_grid(picture_hwc: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The network's input on the grid of the map, which may be coarser."""
    step_y, step_x = picture_hwc.shape[0] // shape[0], picture_hwc.shape[1] // shape[1]
    return picture_hwc[:: max(1, step_y), :: max(1, step_x)][: shape[0], : shape[1]]


def changed_share(
    before: PanopticResult, after: PanopticResult, still_hw: NDArray[np.bool_] | None = None
) -> float:
    """Flicker: the share (0..1) of pixels whose class differs between two frames of one size; of
    those alone that stand still, where that is known (``still_hw``, bool ``[H,W]``)."""
    differ = before.semantic_map() != after.semantic_map()
    if still_hw is not None:
        return float(differ[still_hw].mean()) if still_hw.any() else 0.0
    return float(differ.mean())
