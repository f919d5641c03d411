"""Ties and rounding in maps of contracts other than ``center-offset``.

As :mod:`panokit_validation.ties` does for ``center-offset``, a device's map is compared with whole
decodings. First decisions about objects are turned: a query or an anchor whose score lies at the
threshold, whose two best classes are nearly equal, whose mask is owned just enough, whose box
overlaps a better one's just enough. Each is turned by moving that one's numbers by as little as
their format cannot tell. In the decoding that explains the device's map best, single pixels may
then differ, where moving the pictures' numbers by as little gives the device's answer. Whatever is
left has no explanation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import (
    DecodingSettings,
    InstancesConfig,
    MaskQueriesConfig,
    PanopticMap,
)
from panokit.decoding.comparing import channel_signs, content_pixels, matched_ids
from panokit.errors import HeadError
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import Taxonomy
from panokit_validation.ties import EQUAL, ERROR, ROUNDING, TIE, Explanation, PixelKinds

__all__ = ["HeadSteps", "explain_contract_map"]

FloatArray = NDArray[np.float32]
Heads = dict[str, FloatArray]

MAX_TURNS = 60
"""Decisions about objects that are tried, those won by the least first."""

UNLISTED = -2
"""Channel of a device's segment whose class is not told."""

_FLOAT32, _FLOAT16 = 2.0**-23, 2.0**-11
_PICTURES = frozenset({"masks", "semantic", "prototypes"})


@dataclass(frozen=True)
class HeadSteps:
    """By how little a number of each head may be off: ``tie`` as float32 has it, ``rounding`` where
    the device's own heads are not known, or were rounded."""

    tie: dict[str, float]
    rounding: dict[str, float]
    unknown: Mapping[str, float] = field(default_factory=dict)

    def of_part(self, head: str, values: FloatArray) -> float:
        """The step of some of a head's numbers: columns of scores are smaller than those of boxes
        beside them, and so are their roundings."""
        peak = float(np.abs(values).max(initial=0.0))
        if self.exact:
            return max(4 * _FLOAT32 * peak, 1e-12)
        return 4 * _FLOAT16 * peak + 4 * self.unknown.get(head, 0.0)

    @property
    def exact(self) -> bool:
        """Whether the device's own heads are known."""
        return self.tie == self.rounding

    @classmethod
    def of(cls, heads: Mapping[str, FloatArray], unknown: Mapping[str, float]) -> HeadSteps:
        """For heads (real values); ``unknown`` are the quantisation steps of those that the dump
        does not hold, 0 for float ones."""
        peaks = {n: float(np.abs(v).max(initial=0.0)) for n, v in heads.items()}
        tie = {n: max(4 * _FLOAT32 * p, 1e-12) for n, p in peaks.items()}
        if not unknown:
            return cls(tie, tie)
        rounding = {n: 4 * _FLOAT16 * p + 4 * unknown.get(n, 0.0) for n, p in peaks.items()}
        return cls(tie, rounding, dict(unknown))


@dataclass(frozen=True)
class _Turn:
    """One decision turned: the ``row`` of ``heads`` whose numbers go ``up`` or down."""

    words: str
    head: str
    row: int
    columns: tuple[int, ...]
    amount: float

    def apply(self, heads: Heads) -> Heads:
        values = heads[self.head].copy()
        if self.head == "masks":  # a query's mask
            values[..., self.row] += np.float32(self.amount)
        elif values.ndim == 1:
            values[self.row] += np.float32(self.amount)
        else:
            values[self.row, list(self.columns)] += np.float32(self.amount)
        return {**heads, self.head: values}


def explain_contract_map(
    device: NDArray[np.integer],
    classes: Mapping[int, int] | None,
    heads: Mapping[str, FloatArray],
    settings: DecodingSettings,
    taxonomy: Taxonomy,
    transform: TransformRecord,
    steps: HeadSteps,
) -> Explanation:
    """Explain ``device`` ``[H,W]`` (0 = void), decoded from ``heads`` (real, channels last).

    ``classes`` are the channels of its segments by id, None if they are not known.
    """
    search = _Search(device, classes, dict(heads), settings, taxonomy, transform, steps)
    return search.run()


class _Search:
    """See :func:`explain_contract_map`."""

    def __init__(
        self,
        device: NDArray[np.integer],
        classes: Mapping[int, int] | None,
        heads: Heads,
        settings: DecodingSettings,
        taxonomy: Taxonomy,
        transform: TransformRecord,
        steps: HeadSteps,
    ) -> None:
        self.device, self.classes = device.astype(np.int64), classes
        self.heads, self.settings, self.steps = heads, settings, steps
        self.taxonomy, self.transform = taxonomy, transform
        # The device's ids without gaps, as they are compared with those of each decoding.
        found, index = np.unique(np.append(self.device.ravel(), 0), return_inverse=True)
        void = int(np.searchsorted(found, 0))
        order = np.where(index == void, 0, index + (index < void))
        self.dense = order[:-1].reshape(self.device.shape)
        self.channels = None
        if classes is not None:
            self.channels = [classes.get(int(i), UNLISTED) for i in np.delete(found, void)]

    def run(self) -> Explanation:
        turned: list[str] = []
        heads, decoded = self.heads, self._decode(self.heads)
        assert decoded is not None  # the verdict has decoded them before
        fits = self._fits(decoded)
        if not fits.all():
            heads, decoded, turned = self._turned(decoded, int((~fits).sum()))
            fits = self._fits(decoded)
        kinds = np.where(fits, EQUAL, ERROR).astype(np.uint8)
        if turned:  # what follows from a turned decision is no pixel of its own
            kinds[fits & ~self._fits(self._decode(self.heads))] = self._kind
        self._excuse_pixels(heads, kinds)
        return self._explanation(decoded, kinds, tuple(turned))

    @property
    def _kind(self) -> int:
        return TIE if self.steps.exact else ROUNDING

    def _decode(self, heads: Heads) -> PanopticMap | None:
        try:
            read = self.settings.read_heads(heads)
            return self.settings.decode(read, self.taxonomy, self.transform)
        except HeadError:  # moved over the end of what is allowed
            return None

    def _fits(self, decoded: PanopticMap | None) -> NDArray[np.bool_]:
        """Where the device's segment is the decoding's: of one class, overlapping by more than one
        half; or void in both."""
        if decoded is None:
            return np.zeros(self.device.shape, bool)
        ours = [s.channel for s in decoded.segments]
        return matched_ids(self.dense, decoded.ids, self.channels, ours)

    def _turned(self, decoded: PanopticMap, left: int) -> tuple[Heads, PanopticMap, list[str]]:
        """The decoding that explains most, and which decisions were turned for it."""
        gains = []
        for turn in list(self._turns())[:MAX_TURNS]:
            other = self._decode(turn.apply(self.heads))
            now = int((~self._fits(other)).sum())
            if now < left:
                gains.append((now, turn))
        heads, words = self.heads, []
        for _, turn in sorted(gains, key=lambda g: g[0]):
            tried = turn.apply(heads)
            other = self._decode(tried)
            now = int((~self._fits(other)).sum())
            if other is not None and now < left:
                heads, decoded, left = tried, other, now
                words.append(turn.words)
        return heads, decoded, words

    def _turns(self) -> Iterator[_Turn]:
        part = getattr(self.settings, "instances", self.settings)
        if isinstance(part, MaskQueriesConfig):
            yield from _query_turns(self.heads, part, self.steps.rounding)
        elif isinstance(part, InstancesConfig):
            yield from _anchor_turns(self.heads, part, self.taxonomy, self.steps)

    def _excuse_pixels(self, heads: Heads, kinds: NDArray[np.uint8]) -> None:
        """Pixels that differ become ties or rounding where pictures moved by their steps give the
        device's answer."""
        levels = [(TIE, self.steps.tie)]
        if not self.steps.exact:
            levels.append((ROUNDING, self.steps.rounding))
        for kind, steps in levels:
            pictures = [name for name in heads if name in _PICTURES]
            signs = {name: channel_signs(_channels(heads[name])) for name in pictures}
            for way in range(max(map(len, signs.values()), default=0)):
                if not (kinds == ERROR).any():
                    return
                moved = dict(heads)
                for name, ways in signs.items():
                    move = np.float32(steps[name]) * ways[way % len(ways)]
                    moved[name] = np.asarray(heads[name] + move, np.float32)
                fits = self._fits(self._decode(moved))
                kinds[(kinds == ERROR) & fits] = kind

    def _explanation(
        self, decoded: PanopticMap, kinds: NDArray[np.uint8], turned: tuple[str, ...]
    ) -> Explanation:
        content = content_pixels(decoded, self.transform)
        kinds[~content & (self.device == 0)] = EQUAL
        excused = kinds != ERROR
        ours = decoded.ids.astype(np.int64)
        # The device's map, with our ids where it is explained and others of its own elsewhere.
        left = np.where(excused, ours, np.where(self.device == 0, 0, self.device + len(ours) ** 2))
        classes = decoded.channels
        theirs = None
        if self.classes is not None:
            moved = {i + len(ours) ** 2: c for i, c in self.classes.items()}
            theirs = {**moved, **classes}
        worst = 0.0
        for ids in (ours, self.device):
            for segment in np.unique(ids[ids > 0]):
                at = ids == segment
                worst = max(worst, float((kinds[at] == ERROR).mean()))
        return Explanation(
            PixelKinds(kinds), decoded.ids, classes, left, theirs, turned, worst,
            self.steps.exact,
        )  # fmt: skip


def _channels(values: FloatArray) -> int:
    return values.shape[2] if values.ndim == 3 else 1  # labels have none


def _query_turns(
    heads: Heads, settings: MaskQueriesConfig, steps: Mapping[str, float]
) -> Iterator[_Turn]:
    """Queries with a class or score that a step decides, and those whose masks a step makes larger
    or smaller, which is what their share of ownership hangs on."""
    if settings.classes == "labels":
        yield from _labelled_turns(heads, settings, steps)
        return
    classes, step = heads["classes"], 2 * steps["classes"]
    best = classes.argmax(1)
    found: list[tuple[float, _Turn]] = []
    for q, row in enumerate(classes):
        order = np.argsort(-row, kind="stable")
        gap = float(row[order[0]] - row[order[1]]) if len(row) > 1 else np.inf
        gap = min(gap, _to_threshold(row, settings))
        if gap <= 4 * step:
            for column in order[:2]:
                for sign in (1, -1):
                    words = f"query {q} lies at a limit of score or class"
                    found.append((gap, _Turn(words, "classes", q, (int(column),), sign * step)))
    yield from (turn for _, turn in sorted(found, key=lambda f: f[0]))
    nothing = classes.shape[1] - 1 if settings.no_object else -1
    for q in np.flatnonzero(best != nothing).tolist():
        for sign in (1, -1):
            words = f"query {q} owns just enough of its mask"
            yield _Turn(words, "masks", q, (), sign * 2 * steps["masks"])


def _labelled_turns(
    heads: Heads, settings: MaskQueriesConfig, steps: Mapping[str, float]
) -> Iterator[_Turn]:
    """The same of queries that come with a label and a confidence."""
    scores, step = heads["confidence"], 2 * steps["confidence"]
    for q in np.argsort(np.abs(scores - settings.threshold), kind="stable").tolist():
        if scores[q] < settings.threshold - 2 * step:
            continue
        for sign in (1, -1):
            words = f"query {q} lies at a limit of score or class"
            yield _Turn(words, "confidence", q, (), sign * step)
            words = f"query {q} owns just enough of its mask"
            yield _Turn(words, "masks", q, (), sign * 2 * steps["masks"])


def _to_threshold(row: FloatArray, settings: MaskQueriesConfig) -> float:
    """How far the best score is from the threshold, in the head's own unit, about."""
    row = row.astype(np.float64)
    if settings.classes == "probabilities":
        score, slope = float(row.max()), 1.0
    elif settings.classes == "sigmoid":
        score = float(1 / (1 + np.exp(-row.max())))
        slope = score * (1 - score)
    else:
        score = float(1 / np.exp(row - row.max()).sum())
        slope = score * (1 - score)
    limits = {settings.threshold, settings.stuff_threshold or settings.threshold}
    return min(abs(score - t) for t in limits) / max(slope, 1e-6)


def _anchor_turns(
    heads: Heads, settings: InstancesConfig, taxonomy: Taxonomy, steps: HeadSteps
) -> Iterator[_Turn]:
    """Anchors whose score lies near the threshold or near that of another; up, down, and with a box
    that is a little larger or smaller."""
    joined = settings.tensors != "split"
    head = "detections" if joined else "scores"
    values = heads[head]
    first = 4 + settings.objectness if joined else 0
    count = 1 if settings.tensors == "rows" else settings.class_count(taxonomy)
    columns = tuple(range(first, first + count))
    step = 2 * steps.of_part(head, values[:, columns])
    scores = values[:, columns].max(1).astype(np.float64)
    least = settings.threshold
    if settings.classes == "sigmoid":
        least = float(np.log(max(least, 1e-9) / max(1 - least, 1e-9)))
    near = np.flatnonzero(scores > least - 4 * step)
    for a in near[np.argsort(np.abs(scores[near] - least), kind="stable")][:MAX_TURNS]:
        for sign in (1, -1):
            words = f"anchor {a} lies at a limit of score or overlap"
            yield _Turn(words, head, int(a), columns, sign * step)
    boxes = head if joined else "boxes"
    side_step = 2 * steps.of_part(boxes, heads[boxes][:, :4])
    for a in near[:MAX_TURNS]:
        for side in (2, 3):
            for sign in (1, -1):
                words = f"anchor {a} overlaps another just enough"
                yield _Turn(words, boxes, int(a), (side,), sign * side_step)
