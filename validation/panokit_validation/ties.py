"""Differences that a consistent decoding explains: ties and rounding; the rest are errors.

The reference decides by comparisons, and knows by how little each was won. A decision that was won
by less than a tolerance is *marginal*: another sound decoder may decide it the other way. But it
has to stand by what it decided. So a device's map is compared with whole decodings of the same
heads. First decisions about objects are turned, one after the other, as long as that explains more
of the device's map: a centre that barely exists, the other cell of a plateau, a segment at a limit
of area or score, the class of an object whose voters disagree. Each holds for all pixels that hang
on it. In the decoding that explains the device's map best, single pixels may then differ by their
own class or vote, if those were marginal. Whatever is left has no explanation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import CenterOffset, Heads, PostprocessConfig
from panokit.decoding.center_offset import Centers, ClassMap, Votes
from panokit.decoding.kernels import nearest
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import Taxonomy
from panokit_validation.margins import Tolerances

__all__ = ["EQUAL", "ERROR", "ROUNDING", "TIE", "Explanation", "PixelKinds", "explain_map"]

EQUAL, TIE, ROUNDING, ERROR = 0, 1, 2, 3

MAX_ROUNDS = 12
"""Decisions about objects that are turned at most, one after the other."""

MAX_TRIALS = 16
"""Turns that are tried a round, those first that concern most of the pixels left to explain."""

FAR_OFF = 0.05
"""Where more of the map than this has no explanation, small gains are not followed up."""

MAX_POINTS = 1500
"""Pixels that are asked which turn would concern them."""

_VOID = 0

IntArray = NDArray[np.intp]
FloatArray = NDArray[np.float32]


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


@dataclass(frozen=True)
class Explanation:
    """How a device's map follows from the heads, as far as it does.

    ``pixels`` sorts the pixels. ``ids`` int32 ``[H,W]`` is the map of the decoding that explains
    the device's best, and ``classes`` the channel of each of its segments; ``left`` is the
    device's map with that decoding's ids wherever a pixel is explained, and ``left_classes`` its
    channels (None if the device's are not known): what is left to judge. ``turned`` says in words
    which decisions about objects were turned. ``worst_segment`` is the largest share of a
    segment's pixels, 0..1, that have no explanation. ``exact``: the device's own heads are known,
    so that nothing is rounding.
    """

    pixels: PixelKinds
    ids: NDArray[np.int32]
    classes: dict[int, int]
    left: NDArray[np.int64]
    left_classes: dict[int, int] | None
    turned: tuple[str, ...] = ()
    worst_segment: float = 0.0
    exact: bool = False

    @property
    def left_over(self) -> int:
        """How many pixels have no explanation."""
        return int((self.pixels.kinds == ERROR).sum())

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict of the figures."""
        return {
            **self.pixels.to_json(),
            "worst_segment_errors": round(self.worst_segment, 6),
            "turned": list(self.turned),
        }


def explain_map(
    device: NDArray[Any],
    heads: Heads,
    taxonomy: Taxonomy,
    transform: TransformRecord,
    config: PostprocessConfig,
    tolerances: Tolerances,
    device_classes: dict[int, int] | None = None,
) -> Explanation:
    """Explain ``device`` ``[H,W]`` (whole numbers, 0 = void), which was decoded from ``heads``.

    ``device_classes`` are the channels of its segments by id, None if they are not known.
    """
    scene = _Scene(heads, CenterOffset(taxonomy, transform, config), tolerances)
    return _Search(scene, _DeviceMap.of(device, scene, device_classes)).run()


# ------------------------------------------------------------------------- what heads decide


@dataclass(frozen=True)
class _Turns:
    """Marginal decisions about objects, as they were taken: the cells that are centres (universe
    indices, best first), labels whose existence is the other way round, and other classes by
    label. ``level`` is what the least certain turn is called, ``words`` say what was turned."""

    active: tuple[int, ...]
    flipped: frozenset[int] = frozenset()
    reclassed: tuple[tuple[int, int], ...] = ()
    level: int = EQUAL
    words: tuple[str, ...] = ()

    def turn(self, level: int, words: str, **changes: Any) -> _Turns:
        level = max(level, self.level)
        return replace(self, level=level, words=(*self.words, words), **changes)


@dataclass(frozen=True)
class _Decoded:
    """One decoding. Labels are 0 for void, 1 + channel for stuff, 1 + C + index in the universe
    for an object. ``labels`` int32 ``[m]`` of the photo's pixels; ``kept`` the labels of segments
    that exist; ``channels`` the channel of each label that occurs; ``votes`` as in the decoding,
    ranks by position in ``turns.active``; ``areas`` and ``scores`` by label."""

    turns: _Turns
    labels: NDArray[np.int32]
    kept: frozenset[int]
    channels: dict[int, int]
    votes: Votes
    areas: dict[int, int]
    scores: dict[int, float]


class _Scene:
    """The heads of one photo with every margin that a decision may hang on."""

    def __init__(self, heads: Heads, decoder: CenterOffset, tolerances: Tolerances) -> None:
        self.heads, self.decoder, self.tolerances = heads, decoder, tolerances
        self.settings, self.taxonomy = decoder.settings, decoder.taxonomy
        self.thing = decoder.taxonomy.thing_mask
        self.channels = len(decoder.taxonomy)
        self.classes: ClassMap = decoder.classes(heads)
        self.grid = self.classes.grid
        self.centers: Centers = decoder.centers(heads)
        self.channel = self.classes.channel.reshape(-1)
        self.voters: IntArray = np.flatnonzero(np.append(self.thing, False).take(self.channel))
        self.cells, self.margins = self._universe()
        self.scores = self.centers.heatmap[self.cells[:, 0], self.cells[:, 1]]
        on_heads = decoder.over((heads.center.shape[0], heads.center.shape[1]))
        self.yx = np.stack([on_heads.y[self.cells[:, 0]], on_heads.x[self.cells[:, 1]]], 1)

    @cached_property
    def logits(self) -> FloatArray:
        """The classes' logits of the photo's pixels, ``[C,m]``."""
        return self.decoder.upsample(self.heads.semantic, self.grid).reshape(self.channels, -1)

    @cached_property
    def peak(self) -> FloatArray:
        """The highest logit of each pixel."""
        return np.asarray(self.logits.max(0))

    @cached_property
    def thing_margin(self) -> FloatArray:
        """By how much the best thing lies below the best class; 0 where a thing is best."""
        best = self.logits[self.thing].max(0) if self.thing.any() else np.float32(-np.inf)
        return np.asarray(self.peak - best)

    @cached_property
    def stuff_margin(self) -> FloatArray:
        """By how much the best stuff lies below the best class."""
        best = self.logits[~self.thing].max(0) if not self.thing.all() else np.float32(-np.inf)
        return np.asarray(self.peak - best)

    @cached_property
    def lead(self) -> FloatArray:
        """By how much the best class leads over the next one."""
        two = np.partition(self.logits, -2, axis=0)[-2:]
        return np.asarray(two[1] - two[0])

    @cached_property
    def points(self) -> FloatArray:
        """Where each pixel votes, in input pixels, ``[m,2]`` (y, x)."""
        at = self.decoder.vote_points(self.heads, self.grid)
        return np.ascontiguousarray(at.reshape(2, -1).T)

    def _universe(self) -> tuple[IntArray, FloatArray]:
        """Cells that are centres, best first, then those that nearly are; and the margin by which
        each is no centre (0 for centres), in logits."""
        logits, settings = self.heads.center, self.settings
        on_heads = self.decoder.over((logits.shape[0], logits.shape[1]))
        inside = np.zeros(logits.shape, bool)
        inside[on_heads.rows, on_heads.cols] = True
        margin = np.maximum(gate_of(settings.threshold) - logits, -lead_of(logits, settings.window))
        margin[tuple(self.centers.cells.T)] = np.inf
        near = inside & (margin <= self.tolerances.center[1])
        cells = np.concatenate([self.centers.cells, np.argwhere(near)])
        margins = np.concatenate([np.zeros(len(self.centers), np.float32), margin[near]])
        return cells, np.maximum(margins, 0)

    @cached_property
    def neighbours(self) -> NDArray[np.bool_]:
        """Which cells of the universe lie in each other's window, ``[n,n]``."""
        reach = self.settings.window // 2
        apart = np.abs(self.cells[:, None] - self.cells[None]).max(-1)
        near: NDArray[np.bool_] = (apart <= reach) & (apart > 0)
        return near

    def label_of(self, center: int) -> int:
        """The label of an object by its index in the universe."""
        return 1 + self.channels + center

    def level(self, margin: Any, limits: tuple[float, float]) -> NDArray[np.uint8]:
        """What a decision with this margin is called."""
        tie, rounding = limits
        kinds = np.where(margin <= tie, TIE, np.where(margin <= rounding, ROUNDING, ERROR))
        return kinds.astype(np.uint8)

    def start(self) -> _Turns:
        """The reference's own decisions."""
        return _Turns(tuple(range(len(self.centers))))

    def decode(self, turns: _Turns) -> _Decoded:
        """The decoding that takes these decisions."""
        order = np.array(turns.active, np.intp)
        centers = Centers(
            self.centers.heatmap, self.cells[order], self.scores[order], self.yx[order]
        )
        votes = self._votes(centers)
        instances = self.decoder.instances(self.heads, self.classes, centers, votes)
        kept = self.decoder.filter(self.classes, centers, instances)
        of_channel = np.where(kept.id_of_channel > 0, 1 + np.arange(self.channels), _VOID)
        of_rank = np.where(kept.id_of_rank > 0, 1 + self.channels + order, _VOID)
        full = np.concatenate([1 + np.arange(self.channels), 1 + self.channels + order])
        have = np.concatenate([of_channel, of_rank])
        have = np.where(np.isin(full, list(turns.flipped)), np.where(have > 0, _VOID, full), have)
        labels = np.append(have[: self.channels], _VOID).take(self.channel).astype(np.int32)
        if len(votes.voters):
            labels[votes.voters] = have[self.channels :].take(votes.ranks)
        elif len(self.voters):
            labels[self.voters] = _VOID
        channels = {1 + c: c for c in range(self.channels)}
        objects = full[self.channels :].tolist()
        channels |= dict(zip(objects, instances.channels.tolist(), strict=True))
        channels |= dict(turns.reclassed)
        stuff = np.bincount(self.channel[self.channel >= 0], minlength=self.channels)
        areas = {1 + c: int(stuff[c]) for c in range(self.channels) if not self.thing[c]}
        areas |= dict(zip(objects, instances.areas.tolist(), strict=True))
        scores = dict(zip(objects, instances.scores.tolist(), strict=True))
        return _Decoded(
            turns, labels, frozenset(have[have > 0].tolist()), channels, votes, areas, scores
        )  # fmt: skip

    def _votes(self, centers: Centers) -> Votes:
        if not len(centers) or not len(self.voters):
            return Votes(self.voters[:0], np.zeros(0, np.int32))
        y, x = self._voter_points
        ranks = nearest(y, x, centers.yx, self.decoder.transform.input_wh[::-1])
        return Votes(self.voters, ranks)

    @cached_property
    def _voter_points(self) -> tuple[FloatArray, FloatArray]:
        at = self.points[self.voters]
        return np.ascontiguousarray(at[:, 0]), np.ascontiguousarray(at[:, 1])


def gate_of(probability: float) -> float:
    """The logit of a probability."""
    clipped = float(np.clip(probability, 1e-12, 1 - 1e-12))
    return float(np.log(clipped / (1 - clipped)))


def lead_of(logits: FloatArray, window: int) -> FloatArray:
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


# ------------------------------------------------------------------------ the device's side


@dataclass(frozen=True)
class _DeviceMap:
    """The device's map on the photo's pixels: ``index`` intp ``[m]`` into ``ids``, whose first is
    void; ``channels`` of each id, -1 not known, None without any."""

    ids: IntArray
    index: IntArray
    channels: IntArray | None
    outside: NDArray[np.bool_]

    @classmethod
    def of(cls, device: NDArray[Any], scene: _Scene, classes: dict[int, int] | None) -> _DeviceMap:
        grid = scene.grid
        photo = device[grid.rows, grid.cols].reshape(-1).astype(np.int64)
        found, inverse = np.unique(np.append(photo, 0), return_inverse=True)
        # Void goes first, wherever it sorts.
        order = np.argsort(found != 0, kind="stable")
        place = np.empty(len(order), np.intp)
        place[order] = np.arange(len(order))
        ids = found[order]
        channels = None
        if classes is not None:
            channels = np.array([-1, *(classes.get(int(i), -1) for i in ids[1:])], np.intp)
        outside = device != 0
        outside[grid.rows, grid.cols] = False
        return cls(ids, place[inverse.reshape(-1)[:-1]], channels, outside)


@dataclass(frozen=True)
class _Fit:
    """How a decoding explains the device's map: the label that each of the device's segments
    stands for (-1: none), and the level of each pixel, ERROR where there is no explanation."""

    decoded: _Decoded
    partner: NDArray[np.int32]
    levels: NDArray[np.uint8]

    @cached_property
    def cost(self) -> tuple[int, int, int]:
        """Pixels without explanation, then those explained by rounding, then by ties."""
        count = np.bincount(self.levels, minlength=4)
        return int(count[ERROR]), int(count[ROUNDING]), int(count[TIE])


class _Search:
    """Looks for the decoding that explains most."""

    def __init__(self, scene: _Scene, device: _DeviceMap) -> None:
        self.scene, self.device = scene, device

    def run(self) -> Explanation:
        norm = best = self._fit(self.scene.decode(self.scene.start()))
        pixels = len(self.device.index)
        for _ in range(MAX_ROUNDS):
            if not best.cost[0]:
                break
            tried = [self._fit(self.scene.decode(t)) for t in self._turns(best)]
            better = min(tried, key=lambda fit: fit.cost, default=best)
            gain = best.cost[0] - better.cost[0]
            best = better if gain > 0 else best
            if gain <= 0 or (best.cost[0] > FAR_OFF * pixels and gain < 0.05 * best.cost[0]):
                break
        return self._explanation(norm, best)

    # ---------------------------------------------------------------- one decoding

    def _fit(self, decoded: _Decoded) -> _Fit:
        partner = self._partners(decoded)
        wanted = partner.take(self.device.index)
        levels = np.zeros(len(wanted), np.uint8)
        at = np.flatnonzero(wanted != decoded.labels)
        if len(at):
            levels[at] = self._levels(decoded, at, wanted[at])
        return _Fit(decoded, partner, levels)

    def _partners(self, decoded: _Decoded) -> NDArray[np.int32]:
        """For each of the device's segments the label that it shares most pixels with; no label
        twice, and only one of its class."""
        device, labels = self.device, decoded.labels
        width = int(labels.max(initial=0)) + 1
        joint = np.bincount(device.index * width + labels, minlength=len(device.ids) * width)
        joint = joint.reshape(len(device.ids), width)
        joint[0], joint[:, _VOID] = 0, 0
        rows, cols = np.nonzero(joint)
        if device.channels is not None:
            own = np.array([decoded.channels.get(c, -2) for c in range(width)])
            fits = device.channels[rows] == own[cols]
            rows, cols = rows[fits], cols[fits]
        out = np.full(len(device.ids), -1, np.int32)
        out[0] = _VOID
        taken: set[int] = set()
        for k in np.argsort(-joint[rows, cols], kind="stable"):
            row, col = int(rows[k]), int(cols[k])
            if out[row] < 0 and col not in taken:
                out[row] = col
                taken.add(col)
        if device.channels is not None:  # stuff that the decoding has nowhere
            for row in np.flatnonzero(out < 0).tolist():
                channel = int(device.channels[row])
                stuff = 0 <= channel < self.scene.channels and not self.scene.thing[channel]
                if stuff and 1 + channel not in taken:
                    out[row] = 1 + channel
                    taken.add(1 + channel)
        return out

    def _levels(
        self, decoded: _Decoded, at: IntArray, wanted: NDArray[np.int32]
    ) -> NDArray[np.uint8]:
        """How nearly each of the pixels ``at`` has the label that the device gave it."""
        scene = self.scene
        first_thing = 1 + scene.channels
        out = np.full(len(at), ERROR, np.uint8)
        stuff = np.flatnonzero((wanted > _VOID) & (wanted < first_thing))
        stuff = stuff[np.isin(wanted[stuff], list(decoded.kept))]
        if len(stuff):
            out[stuff] = self._stuff_level(at[stuff], wanted[stuff].astype(np.intp) - 1)
        active = np.array(decoded.turns.active, np.intp)
        rank = np.full(len(scene.cells) + 1, -1, np.intp)
        rank[active] = np.arange(len(active))
        thing = np.flatnonzero(wanted >= first_thing)
        void = np.flatnonzero(wanted == _VOID)
        for part, target in ((thing, rank[wanted[thing] - first_thing]), (void, None)):
            if not len(part):
                continue
            by_class = scene.level(scene.thing_margin[at[part]], scene.tolerances.logit)
            possible = by_class < ERROR
            chosen = part[possible]
            if target is not None and len(active):
                votes = self._vote_levels(at[chosen], active, target[possible])
                out[chosen] = np.maximum(by_class[possible], votes)
            elif target is None:
                dropped = [k for k, c in enumerate(active) if scene.label_of(c) not in decoded.kept]
                if not len(active):
                    out[chosen] = by_class[possible]
                elif dropped:
                    votes = self._dropped_levels(at[chosen], active, dropped)
                    out[chosen] = np.maximum(by_class[possible], votes)
        if len(void):
            for c in np.flatnonzero(~scene.thing):
                if 1 + c not in decoded.kept:
                    level = self._stuff_level(at[void], np.full(len(void), c))
                    out[void] = np.minimum(out[void], level)
        return out

    def _stuff_level(self, at: IntArray, channel: IntArray) -> NDArray[np.uint8]:
        scene = self.scene
        return scene.level(scene.peak[at] - scene.logits[channel, at], scene.tolerances.logit)

    def _vote_levels(self, at: IntArray, active: IntArray, target: IntArray) -> NDArray[np.uint8]:
        """How nearly the pixels vote for the centre of rank ``target`` among the active ones: by
        the distance to the line where they would."""
        scene = self.scene
        out = np.empty(len(at), np.uint8)
        step = max(1, 400_000 // max(1, len(active)))
        centers = scene.yx[active].astype(np.float64)
        for start in range(0, len(at), step):
            part = slice(start, start + step)
            point = scene.points[at[part]].astype(np.float64)
            square = ((centers[None] - point[:, None]) ** 2).sum(-1)
            goal = target[part]
            own = square[np.arange(len(goal)), goal]
            apart = np.sqrt(((centers[goal][:, None] - centers[None]) ** 2).sum(-1))
            apart = np.maximum(apart, 1e-9)
            # The distance to the middle line; float32 squares are off by some 2^-23 of themselves.
            slack = 2.0**-21 * own / apart.min(1, where=apart > 1e-8, initial=np.inf)
            margin = ((own[:, None] - square) / (2 * apart)).max(1)
            out[part] = scene.level(margin - slack, scene.tolerances.offset)
        return out

    def _dropped_levels(
        self, at: IntArray, active: IntArray, dropped: list[int]
    ) -> NDArray[np.uint8]:
        """How nearly the pixels vote for any of the centres whose segments are dropped."""
        scene = self.scene
        centers = scene.yx[active]
        point = scene.points[at]
        square = ((centers[None] - point[:, None]) ** 2).sum(-1)
        rows = np.arange(len(at))
        first, best = square.argmin(1), np.array(dropped)[square[:, dropped].argmin(1)]
        apart = np.sqrt(((centers[first] - centers[best]) ** 2).sum(-1))
        lead = square[rows, best] - square[rows, first]
        with np.errstate(invalid="ignore", divide="ignore"):
            margin = np.where(first == best, 0, lead / (2 * np.maximum(apart, 1e-6)))
        return scene.level(margin, scene.tolerances.offset)

    # ------------------------------------------------------------- which decisions to turn

    def _turns(self, fit: _Fit) -> Iterator[_Turns]:
        """Decisions that another decoder may take the other way, those first that may explain
        most of what is left."""
        yield from self._existence(fit)
        yield from self._other_class(fit)
        yield from self._other_centers(fit)

    def _existence(self, fit: _Fit) -> Iterator[_Turns]:
        """Segments at a limit of area or score, there or not."""
        scene, decoded = self.scene, fit.decoded
        wrong = np.flatnonzero(fit.levels == ERROR)
        theirs = fit.partner.take(self.device.index[wrong])
        concerned = np.unique(np.concatenate([decoded.labels[wrong], theirs]))
        dropped = [k for k, area in decoded.areas.items() if area and k not in decoded.kept]
        for label in dict.fromkeys([*concerned[concerned > _VOID].tolist(), *dropped]):
            if label in decoded.turns.flipped or label not in decoded.areas:
                continue
            level = self._limit_level(decoded, label)
            if level < ERROR:
                word = "is dropped" if label in decoded.kept else "is kept"
                name = scene.taxonomy.categories[decoded.channels[label]].name
                flipped = decoded.turns.flipped | {label}
                yield decoded.turns.turn(level, f"{name} {word}", flipped=flipped)

    def _limit_level(self, decoded: _Decoded, label: int) -> int:
        """How nearly a segment's existence hangs on a limit: what is kept goes by either limit,
        what is dropped comes back only if every limit that it misses is that near."""
        scene, settings = self.scene, self.scene.settings
        thing = label > scene.channels
        least = max(1, settings.min_thing_area if thing else settings.min_stuff_area)
        area, kept = decoded.areas[label], label in decoded.kept
        by_area = ERROR
        if area <= 2 * least:
            for level, limits in ((TIE, 0), (ROUNDING, 1)):
                sure, possible = self._area_range(decoded, label, limits)
                if sure < least <= possible:
                    by_area = level
                    break
        by_score, scored = ERROR, thing and settings.min_thing_score > 0
        if scored:
            apart = abs(decoded.scores[label] / settings.min_thing_score - 1)
            by_score = int(scene.level(apart, scene.tolerances.score))
        if kept:
            return min(by_area, by_score)
        missed = [by_area] if area < least else []
        missed += [by_score] if scored and decoded.scores[label] < settings.min_thing_score else []
        return max(missed, default=ERROR)

    def _area_range(self, decoded: _Decoded, label: int, which: int) -> tuple[int, int]:
        """The fewest and the most pixels that a segment may have."""
        scene, tolerances = self.scene, self.scene.tolerances
        logit, offset = tolerances.logit[which], tolerances.offset[which]
        if label <= scene.channels:
            margin = scene.peak - scene.logits[label - 1]
            mine = scene.channel == label - 1
            return int((mine & (scene.lead > logit)).sum()), int((margin <= logit).sum())
        active = np.array(decoded.turns.active, np.intp)
        rank = decoded.turns.active.index(label - 1 - scene.channels)
        at = np.flatnonzero(scene.thing_margin <= logit)
        near = self._vote_levels(at, active, np.full(len(at), rank)) <= (TIE, ROUNDING)[which]
        if not len(decoded.votes.voters):
            return 0, int(near.sum())
        own = decoded.votes.voters[decoded.votes.ranks == rank]
        sure = scene.stuff_margin[own] > logit
        others = np.delete(np.arange(len(active)), rank)
        if len(others):
            point = scene.points[own].astype(np.float64)
            centers = scene.yx[active].astype(np.float64)
            square = ((centers[None] - point[:, None]) ** 2).sum(-1)
            apart = np.sqrt(((centers[others] - centers[rank]) ** 2).sum(-1))
            lead = (square[:, others] - square[:, [rank]]) / (2 * np.maximum(apart, 1e-9))
            sure &= lead.min(1) > offset
        return int(sure.sum()), int(near.sum())

    def _other_class(self, fit: _Fit) -> Iterator[_Turns]:
        """Objects whose voters nearly agree on another class, which the device gave them."""
        scene, device, decoded = self.scene, self.device, fit.decoded
        if device.channels is None or not len(decoded.votes.voters):
            return
        for row in np.flatnonzero(fit.partner < 0).tolist():
            wanted = int(device.channels[row])
            if not 0 <= wanted < scene.channels or not scene.thing[wanted]:
                continue
            labels = decoded.labels[device.index == row]
            label = int(np.bincount(labels).argmax())
            if label <= scene.channels or decoded.channels[label] == wanted:
                continue
            rank = decoded.turns.active.index(label - 1 - scene.channels)
            own = decoded.votes.voters[decoded.votes.ranks == rank]
            count = np.bincount(scene.channel[own], minlength=scene.channels)
            gap = int(count[decoded.channels[label]] - count[wanted])
            for level, limit in zip((TIE, ROUNDING), scene.tolerances.logit, strict=True):
                # Each pixel that may be of the other class closes the gap by two at most.
                swing = (scene.peak[own] - scene.logits[wanted, own] <= limit).sum() - count[wanted]
                if gap <= 2 * int(swing):
                    reclassed = (*decoded.turns.reclassed, (label, wanted))
                    words = f"{scene.taxonomy.categories[wanted].name} by its voters"
                    yield decoded.turns.turn(level, words, reclassed=reclassed)
                    break

    def _other_centers(self, fit: _Fit) -> Iterator[_Turns]:
        """Centres that barely exist, or barely do not, or lie elsewhere on their plateau."""
        scene, turns = self.scene, fit.decoded.turns
        wrong = np.flatnonzero(
            (fit.levels == ERROR) & (scene.thing_margin <= scene.tolerances.logit[1])
        )
        if not len(wrong) or not len(scene.cells):
            return
        if len(wrong) > MAX_POINTS:
            wrong = wrong[np.linspace(0, len(wrong) - 1, MAX_POINTS).astype(np.intp)]
        point = scene.points[wrong]
        far = ((scene.yx[None] - point[:, None]) ** 2).sum(-1)
        active = np.array(turns.active, np.intp)
        nearest_now = far[:, active].min(1) if len(active) else np.full(len(point), np.inf)
        votes = active[far[:, active].argmin(1)] if len(active) else np.full(len(point), -1)
        closer = (far < nearest_now[:, None]).sum(0)
        owned = np.bincount(votes[votes >= 0], minlength=len(scene.cells))
        possible = [*self._swaps(turns), *self._additions(turns), *self._removals(turns)]

        def concerned(change: tuple[int, int, int, str]) -> int:
            gone, come, _, _ = change
            return int((owned[gone] if gone >= 0 else 0) + (closer[come] if come >= 0 else 0))

        possible = [p for p in possible if concerned(p)]
        for gone, come, level, words in sorted(possible, key=concerned, reverse=True)[:MAX_TRIALS]:
            left = [k for k in turns.active if k != gone] + ([come] if come >= 0 else [])
            order = sorted(left, key=lambda k: (-float(scene.scores[k]), tuple(scene.cells[k])))
            yield turns.turn(level, words, active=tuple(order))

    def _swaps(self, turns: _Turns) -> Iterator[tuple[int, int, int, str]]:
        """Another cell of a plateau instead of the centre: (gone, come, level, words)."""
        scene = self.scene
        for gone in turns.active:
            for come in np.flatnonzero(scene.neighbours[gone]).tolist():
                if come in turns.active or self._rivals(turns, come) != {gone}:
                    continue
                level = self._center_level(float(max(scene.margins[come], scene.margins[gone])))
                if level < ERROR:
                    yield gone, come, level, f"the centre at {self._place(come)} of its plateau"

    def _additions(self, turns: _Turns) -> Iterator[tuple[int, int, int, str]]:
        scene = self.scene
        if len(turns.active) >= scene.settings.top_k:
            return
        for come in range(len(scene.cells)):
            if come in turns.active or self._rivals(turns, come):
                continue
            level = self._center_level(float(scene.margins[come]))
            if level < ERROR:
                yield -1, come, level, f"a centre more at {self._place(come)}"

    def _removals(self, turns: _Turns) -> Iterator[tuple[int, int, int, str]]:
        scene, logits = self.scene, self.scene.heads.center
        gate = gate_of(scene.settings.threshold)
        for gone in turns.active:
            level = self._center_level(float(logits[tuple(scene.cells[gone])]) - gate)
            if level < ERROR:
                yield gone, -1, level, f"no centre at {self._place(gone)}"

    def _center_level(self, margin: float) -> int:
        """What it is called if a cell of this margin is a centre against the norm, or none.
        Equal numbers are no matter of arithmetic, however often int8 has them."""
        if margin == 0 and not self.scene.tolerances.rounds:
            return ERROR
        return int(self.scene.level(margin, self.scene.tolerances.center))

    def _rivals(self, turns: _Turns, cell: int) -> set[int]:
        """Centres in the window of a cell."""
        near = self.scene.neighbours[cell]
        return {k for k in turns.active if near[k]}

    def _place(self, cell: int) -> str:
        y, x = self.scene.cells[cell].tolist()
        return f"cell ({y}, {x})"

    # ---------------------------------------------------------------------- what came out

    def _explanation(self, norm: _Fit, best: _Fit) -> Explanation:
        scene, device, decoded = self.scene, self.device, best.decoded
        grid = scene.grid
        # What the reference's own decoding explains is equal, whatever was turned elsewhere.
        turned = np.maximum(best.levels, max(decoded.turns.level, TIE))
        levels = np.where(norm.levels == EQUAL, EQUAL, turned)
        levels[best.levels == ERROR] = ERROR
        kinds = np.where(device.outside, ERROR, EQUAL).astype(np.uint8)
        shape = (grid.rows.stop - grid.rows.start, grid.cols.stop - grid.cols.start)
        kinds[grid.rows, grid.cols] = levels.reshape(shape)
        ids = np.zeros(grid.shape, np.int32)
        ids[grid.rows, grid.cols] = decoded.labels.reshape(shape)
        classes = {label: decoded.channels[label] for label in decoded.kept}
        # Where there is no explanation: the partner's id, or one that no label has.
        # A partner may be stuff that the decoding has nowhere, so labels alone do not bound it.
        base = 1 + int(max(decoded.labels.max(initial=0), best.partner.max()))
        own = np.where(best.partner >= 0, best.partner, base + np.arange(len(best.partner)))
        left = np.where(device.outside, base, 0).astype(np.int64)
        photo = np.where(levels < ERROR, decoded.labels, own.take(device.index))
        left[grid.rows, grid.cols] = photo.reshape(shape)
        left_classes = None
        if device.channels is not None:
            given = zip(own.tolist(), device.channels.tolist(), strict=True)
            left_classes = {**{i: c for i, c in given if i}, **classes}
        return Explanation(
            PixelKinds(kinds),
            ids,
            classes,
            left,
            left_classes,
            decoded.turns.words,
            self._worst_segment(decoded, best, photo),
            not scene.tolerances.rounds,
        )

    def _worst_segment(self, decoded: _Decoded, best: _Fit, photo: NDArray[Any]) -> float:
        """The largest share of a segment that has no explanation."""
        wrong = best.levels == ERROR
        if not wrong.any():
            return 0.0
        size = int(max(photo.max(), decoded.labels.max())) + 1
        area = np.bincount(decoded.labels, minlength=size)
        lost = np.bincount(decoded.labels[wrong], minlength=size)
        gained = np.bincount(photo[wrong], minlength=size)
        area = np.maximum(area, np.bincount(photo, minlength=size))
        bad = np.where(area > 0, np.maximum(lost, gained) / np.maximum(area, 1), 0.0)
        bad[_VOID] = 0.0
        few = np.maximum(lost, gained) <= FEW_PIXELS
        return float(np.where(few, 0.0, bad).max())


FEW_PIXELS = 12
"""So many pixels of a segment are no share of it worth naming."""
