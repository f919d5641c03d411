"""Wrong maps over right heads: what the validator is measured with.

Every kind takes a right map and spoils a part of it as a careless app or a bad edit would. How much
it changed is measured by :func:`changed`, which knows nothing of ties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import Heads, PanopticMap, PostprocessConfig, postprocess
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import Taxonomy

__all__ = ["WRONG_KINDS", "Change", "ClassedMap", "WrongMap", "changed", "wrong_maps"]

IntArray = NDArray[np.int32]


@dataclass(frozen=True)
class ClassedMap:
    """``ids`` int32 ``[H,W]``, 0 = void, and the channel of each id."""

    ids: IntArray
    classes: dict[int, int]

    @classmethod
    def of(cls, panoptic: PanopticMap) -> ClassedMap:
        """A decoded map."""
        return cls(panoptic.ids.copy(), {s.id: s.channel for s in panoptic.segments})

    def area(self, segment: int) -> int:
        """Pixels of a segment."""
        return int((self.ids == segment).sum())


@dataclass(frozen=True)
class Change:
    """``classes``: the share of the map's pixels whose class changed. ``grouping``: the largest
    share of a segment's pixels that are no longer in one segment of their own; both 0..1."""

    classes: float
    grouping: float


@dataclass(frozen=True)
class WrongMap:
    """A spoilt map, what was done, and how much changed."""

    kind: str
    map: ClassedMap
    change: Change


@dataclass(frozen=True)
class Source:
    """What a wrong map is made from."""

    right: ClassedMap
    heads: Heads
    taxonomy: Taxonomy
    transform: TransformRecord
    config: PostprocessConfig
    rng: np.random.Generator

    def segment(self, least: int = 512) -> int | None:
        """A segment of at least so many pixels, by chance."""
        found = [i for i in self.right.classes if self.right.area(i) >= least]
        return int(self.rng.choice(found)) if found else None

    def other_class(self, not_this: int) -> int:
        """Another channel, by chance."""
        others = [c for c in range(len(self.taxonomy)) if c != not_this]
        return int(self.rng.choice(others))

    def decoded(self, **settings: float) -> ClassedMap:
        """The heads decoded with other settings."""
        config = replace(self.config, **settings)  # type: ignore[arg-type]
        return ClassedMap.of(postprocess(self.heads, self.taxonomy, self.transform, config))


def _given(source: Source, part: NDArray[np.bool_], of: int) -> ClassedMap:
    """``part`` of segment ``of`` as something else: void, a neighbour, or a new segment."""
    right, rng = source.right, source.rng
    ids, classes = right.ids.copy(), dict(right.classes)
    choice = rng.integers(4)
    others = [i for i in classes if i != of]
    if choice == 0:
        ids[part] = 0
    elif choice == 1 and others:
        ids[part] = int(rng.choice(others))
    else:
        new = max(classes) + 1
        thing = source.taxonomy.thing_mask[classes[of]]
        same = choice == 2 and thing
        classes[new] = classes[of] if same else source.other_class(classes[of])
        ids[part] = new
    return ClassedMap(ids, classes)


def _side(source: Source, mask: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """The part of a mask on one side of a line in a random direction, of about this share."""
    rows, cols = np.nonzero(mask)
    angle = source.rng.uniform(0, 2 * np.pi)
    along = rows * np.sin(angle) + cols * np.cos(angle)
    out = np.zeros_like(mask)
    chosen = along <= np.quantile(along, share)
    out[rows[chosen], cols[chosen]] = True
    return out


def _cut(source: Source) -> ClassedMap | None:
    of = source.segment()
    if of is None:
        return None
    return _given(source, _side(source, source.right.ids == of, source.rng.uniform(0.06, 0.5)), of)


def _hole(source: Source) -> ClassedMap | None:
    of = source.segment()
    if of is None:
        return None
    mask = source.right.ids == of
    rows, cols = np.nonzero(mask)
    k = source.rng.integers(len(rows))
    radius = np.sqrt(source.rng.uniform(0.06, 0.5) * len(rows) / np.pi)
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    return _given(source, mask & ((y - rows[k]) ** 2 + (x - cols[k]) ** 2 <= radius**2), of)


def _block(source: Source) -> ClassedMap | None:
    of = source.segment()
    if of is None:
        return None
    h, w = source.right.ids.shape
    side = source.rng.uniform(0.08, 0.6)
    y, x = (int(source.rng.uniform(0, 1 - side) * n) for n in (h, w))
    part = np.zeros((h, w), bool)
    part[y : y + int(side * h), x : x + int(side * w)] = True
    grid = source.transform
    inside = np.zeros_like(part)
    cw, ch = grid.content_wh
    inside[grid.top : grid.top + ch, grid.left : grid.left + cw] = True
    return _given(source, part & inside, of)


def _relabel(source: Source) -> ClassedMap | None:
    of = source.segment()
    if of is None:
        return None
    return _given(source, source.right.ids == of, of)


def _split(source: Source) -> ClassedMap | None:
    of = source.segment()
    if of is None:
        return None
    new = max(source.right.classes) + 1
    part = _side(source, source.right.ids == of, source.rng.uniform(0.06, 0.5))
    classes = {**source.right.classes, new: source.right.classes[of]}
    return ClassedMap(np.where(part, new, source.right.ids).astype(np.int32), classes)


def _merge(source: Source) -> ClassedMap | None:
    found = [i for i in source.right.classes if source.right.area(i) >= 512]
    if len(found) < 2:
        return None
    a, b = source.rng.choice(found, 2, replace=False).tolist()
    ids = np.where(source.right.ids == b, a, source.right.ids).astype(np.int32)
    return ClassedMap(ids, {i: c for i, c in source.right.classes.items() if i != b})


def _shift(source: Source) -> ClassedMap | None:
    dy, dx = source.rng.integers(-12, 13, 2)
    return ClassedMap(np.roll(source.right.ids, (dy, dx), (0, 1)), source.right.classes)


def _flip(source: Source) -> ClassedMap | None:
    axis = int(source.rng.integers(2))
    return ClassedMap(np.flip(source.right.ids, axis).copy(), source.right.classes)


def _rows(source: Source) -> ClassedMap | None:
    """A stride of a few pixels too many: the map shears."""
    step = int(source.rng.integers(1, 4))
    rows = [np.roll(row, step * y) for y, row in enumerate(source.right.ids)]
    return ClassedMap(np.stack(rows), source.right.classes)


def _threshold(source: Source) -> ClassedMap | None:
    other = float(np.clip(source.config.threshold * source.rng.choice([0.4, 0.6, 1.6, 2.5]), 0, 1))
    return source.decoded(threshold=other)


def _window(source: Source) -> ClassedMap | None:
    return source.decoded(window=int(source.rng.choice([1, 3, 5, 13])))


def _area(source: Source) -> ClassedMap | None:
    least = int(source.rng.choice([0, 600, 2000, 6000]))
    return source.decoded(min_thing_area=least, min_stuff_area=least)


def _score(source: Source) -> ClassedMap | None:
    return source.decoded(min_thing_score=float(source.rng.choice([0.0, 0.5, 0.8])))


def _twice(source: Source) -> ClassedMap | None:
    """The sigmoid applied twice: all scores above one half."""
    once = 1 / (1 + np.exp(-source.heads.center.astype(np.float64)))
    other = replace(source, heads=replace(source.heads, center=once.astype(np.float32)))
    return other.decoded()


WRONG_KINDS: dict[str, Callable[[Source], ClassedMap | None]] = {
    "cut": _cut,
    "hole": _hole,
    "block": _block,
    "relabel": _relabel,
    "split": _split,
    "merge": _merge,
    "shift": _shift,
    "flip": _flip,
    "sheared": _rows,
    "threshold": _threshold,
    "window": _window,
    "area": _area,
    "score": _score,
    "sigmoid twice": _twice,
}
"""What is done to a right map, by name."""


def wrong_maps(
    heads: Heads,
    taxonomy: Taxonomy,
    transform: TransformRecord,
    config: PostprocessConfig,
    seed: int,
    each: int = 1,
) -> Iterator[WrongMap]:
    """Spoilt maps of one photo, ``each`` of every kind that has something to spoil; the same for
    the same ``seed``."""
    right = ClassedMap.of(postprocess(heads, taxonomy, transform, config))
    rng = np.random.default_rng(seed)
    source = Source(right, heads, taxonomy, transform, config, rng)
    for _ in range(each):
        for kind, make in WRONG_KINDS.items():
            spoilt = make(source)
            if spoilt is not None:
                yield WrongMap(kind, spoilt, changed(spoilt, right, transform))


def changed(spoilt: ClassedMap, right: ClassedMap, transform: TransformRecord) -> Change:
    """How much of the photo's part of a map is not as it should be."""
    h, w = right.ids.shape
    (cw, ch), scale_y, scale_x = (
        transform.content_wh, h / transform.input_wh[1], w / transform.input_wh[0],
    )  # fmt: skip
    rows = slice(int(transform.top * scale_y), int((transform.top + ch) * scale_y))
    cols = slice(int(transform.left * scale_x), int((transform.left + cw) * scale_x))
    ours, theirs = right.ids[rows, cols], spoilt.ids[rows, cols]
    class_of = [
        np.array([-1, *(m.classes.get(i, -1) for i in range(1, int(m.ids.max()) + 1))])
        for m in (right, spoilt)
    ]
    classes = float((class_of[0][ours] != class_of[1][theirs]).mean())
    worst = 0.0
    for of in right.classes:
        mine = ours == of
        if mine.sum() < 0.005 * mine.size:
            continue
        found = np.bincount(theirs[mine])
        best = int(found.argmax())
        union = int((mine | (theirs == best)).sum()) if best else int(mine.sum())
        worst = max(worst, 1 - (int(found[best]) / union if best else 0.0))
    return Change(classes, worst)
