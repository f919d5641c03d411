"""Training targets of a scene: what each head should answer, and how much each answer counts.

Semantic labels lie at stride 2, centre and offset at the heads' stride 4. A cell takes the
segment at its centre. Partial labels become three kinds of pixels: *known* (a channel), *not
these* (some channels are known to be absent, the others possible) and *ignored*. Pseudo-labels are
known pixels that count less: by their score and by how far their class can be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError
from panokit.taxonomy import Taxonomy
from panokit_datasets.records import NO_PERSON_MAP, SegmentRecord
from panokit_network.training.augment import PADDING, Scene

__all__ = [
    "IGNORED",
    "NOT_ABSENT",
    "LabelWeights",
    "TargetConfig",
    "Targets",
    "make_targets",
]

IGNORED = -1
"""Semantic label: no evidence."""
NOT_ABSENT = -2
"""Semantic label: none of the scene's absent channels."""

SEMANTIC_STRIDE = 2
HEAD_STRIDE = 4


@dataclass(frozen=True)
class TargetConfig:
    """Weights of partial evidence and of pseudo-labels, and the size of centre peaks.

    A pseudo-label counts ``trust`` of its class times its score to a power: things' scores are
    lower than the share of them that is right, stuff's are higher. Its centre and offsets count
    the score's part alone.
    """

    unlabelled_weight: float = 0.7  # "not these" of an annotator
    trust: dict[str, float] = field(default_factory=dict)  # class name → 0..1
    default_trust: float = 0.7  # of the classes that are not named
    thing_score_power: float = 0.5
    stuff_score_power: float = 2.0
    sigma_range: tuple[float, float] = (1.0, 2.5)  # of a centre's Gaussian, in head cells
    sigma_per_size: float = 0.05  # growth of sigma with sqrt(area), cells per cell
    small_instance_weight: float = 3.0  # most that a small instance counts per pixel

    def __post_init__(self) -> None:
        if not all(0 <= t <= 1 for t in (self.default_trust, *self.trust.values())):
            raise ArgumentError("trust", f"trust is {self.trust!r}; expected numbers from 0 to 1")


@dataclass(frozen=True)
class LabelWeights:
    """How much the segments of a taxonomy count under a config.

    ``thing_mask`` bool ``[C]``; ``trust`` float32 ``[C]``, of pseudo-labels; ``person`` is the
    channel of persons, None if the taxonomy has none.
    """

    thing_mask: NDArray[np.bool_]
    trust: NDArray[np.float32]
    person: int | None
    config: TargetConfig

    @classmethod
    def of(cls, taxonomy: Taxonomy, config: TargetConfig) -> LabelWeights:
        """Weights for a taxonomy; a trust in a class that it lacks raises ``ArgumentError``."""
        for name in config.trust:
            taxonomy.get(name)
        trust = [config.trust.get(c.name, config.default_trust) for c in taxonomy]
        person = next((i for i, c in enumerate(taxonomy) if c.name == "person"), None)
        return cls(taxonomy.thing_mask, np.array(trust, np.float32), person, config)

    def sureness(self, segment: SegmentRecord) -> float:
        """How much a segment's shape and place count, 0..1: 1 for true labels."""
        if segment.score is None:
            return 1.0
        power = self.config.thing_score_power if segment.is_thing else self.config.stuff_score_power
        return float(segment.score**power)

    def semantic(self, segment: SegmentRecord) -> float:
        """How much a segment's class counts, 0..1."""
        if segment.score is None:
            return 1.0
        return float(self.trust[segment.channel]) * self.sureness(segment)


@dataclass(frozen=True)
class Targets:
    """Targets of one scene of H rows and W columns.

    ``semantic`` int16 ``[H/2,W/2]``: a channel or one of the two negative codes;
    ``semantic_weight`` float32 ``[H/2,W/2]``; ``absent`` bool ``[C]``; ``person`` uint8
    ``[H/2,W/2]``: probability of a person times 15, or ``NO_PERSON_MAP``; ``center`` float32
    ``[H/4,W/4]`` 0..1 and ``center_weight``; ``offset`` float32 ``[2,H/4,W/4]`` (dy, dx) in input
    pixels and ``offset_weight`` ``[H/4,W/4]``.
    """

    semantic: NDArray[np.int16]
    semantic_weight: NDArray[np.float32]
    absent: NDArray[np.bool_]
    person: NDArray[np.uint8]
    center: NDArray[np.float32]
    center_weight: NDArray[np.float32]
    offset: NDArray[np.float32]
    offset_weight: NDArray[np.float32]


def make_targets(scene: Scene, weights: LabelWeights) -> Targets:
    """Targets of a scene."""
    absent = np.zeros(len(weights.thing_mask), bool)
    absent[list(scene.absent)] = True
    semantic, weight = _semantic(scene, absent, weights)
    center, center_weight, offset, offset_weight = _instances(scene, absent, weights)
    return Targets(
        semantic,
        weight,
        absent,
        _person(scene, absent, weights),
        center,
        center_weight,
        offset,
        offset_weight,
    )


def _at_stride(values: NDArray[np.uint16] | NDArray[np.uint8], stride: int) -> NDArray[np.int64]:
    """Values at the centres of stride×stride cells."""
    return values[stride // 2 :: stride, stride // 2 :: stride].astype(np.int64)


def _without_padding(segments: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Segment indices with the padding as one more after the last."""
    return np.where(segments == PADDING, count + 1, segments)


def _semantic(
    scene: Scene, absent: NDArray[np.bool_], weights: LabelWeights
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    n = len(scene.segments)
    segments = _without_padding(_at_stride(scene.segment_map, SEMANTIC_STRIDE), n)
    # Tables from segment index to label and weight: no segment, the segments, padding.
    none = IGNORED if scene.complete or not absent.any() else NOT_ABSENT
    own = [IGNORED if s.ignore else s.channel for s in scene.segments]
    label = np.array([none, *own, IGNORED], np.int16)
    sure = [weights.semantic(s) for s in scene.segments]
    weight = np.array([weights.config.unlabelled_weight, *sure, 0.0], np.float32)
    weight[label == IGNORED] = 0
    return label[segments], weight[segments]


def _person(scene: Scene, absent: NDArray[np.bool_], weights: LabelWeights) -> NDArray[np.uint8]:
    """The person map where no true label lies. Where persons are known to be absent outside the
    segments, only within pseudo-labelled or uncertain persons."""
    n = len(scene.segments)
    if weights.person is None:
        rows, columns = (side // SEMANTIC_STRIDE for side in scene.person.shape)
        return np.full((rows, columns), NO_PERSON_MAP, np.uint8)
    anywhere = not absent[weights.person]
    own = [
        s.score is not None and (anywhere or s.channel == weights.person) for s in scene.segments
    ]
    said = np.array([anywhere, *own, False])
    segments = _without_padding(_at_stride(scene.segment_map, SEMANTIC_STRIDE), n)
    person = _at_stride(scene.person, SEMANTIC_STRIDE)
    return np.where(said[segments], person, NO_PERSON_MAP).astype(np.uint8)


def _centroids(
    segment_map: NDArray[np.uint16], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Centre of mass (y, x) and area of segments 0 to ``count``, in pixels of the map."""
    height, width = segment_map.shape
    flat = np.where(segment_map == PADDING, 0, segment_map).astype(np.int64)
    # Counts per segment and row (or column), then their weighted sums.
    rows = np.bincount(
        (flat + np.arange(height)[:, None] * (count + 1)).ravel(), minlength=height * (count + 1)
    ).reshape(height, count + 1)
    columns = np.bincount(
        (flat + np.arange(width)[None, :] * (count + 1)).ravel(), minlength=width * (count + 1)
    ).reshape(width, count + 1)
    area = rows.sum(0)
    safe = np.maximum(area, 1)
    y, x = np.arange(height) + 0.5, np.arange(width) + 0.5
    return y @ rows / safe, x @ columns / safe, area


def _instances(
    scene: Scene, absent: NDArray[np.bool_], weights: LabelWeights
) -> tuple[NDArray[np.float32], ...]:
    config = weights.config
    cells = _at_stride(scene.segment_map, HEAD_STRIDE)
    count = len(scene.segments)
    center = np.zeros(cells.shape, np.float32)
    center_weight = _center_weight(scene, cells, absent, weights)
    cy, cx, area = _centroids(scene.segment_map, count)
    size = np.sqrt(area) / HEAD_STRIDE
    low, high = config.sigma_range
    sigma = HEAD_STRIDE * np.minimum(high, low + config.sigma_per_size * size)
    # Centres of cells, in input pixels.
    y, x = ((np.arange(n, dtype=np.float32) + 0.5) * HEAD_STRIDE for n in cells.shape)
    per_pixel = np.zeros(count + 2, np.float32)  # of offsets
    for index in np.unique(cells):
        if index in (0, PADDING) or not scene.segments[index - 1].is_object:
            continue
        sure = weights.sureness(scene.segments[index - 1])
        small = np.clip(min(cells.shape) / 4 / size[index], 0.5, config.small_instance_weight)
        per_pixel[index] = sure * small
        # The bump, as far as it is above 0.0003.
        reach = 4 * sigma[index]
        ys = slice(*np.searchsorted(y, (cy[index] - reach, cy[index] + reach)))
        xs = slice(*np.searchsorted(x, (cx[index] - reach, cx[index] + reach)))
        dy, dx = cy[index] - y[ys], cx[index] - x[xs]
        square = (dy * dy)[:, None] + (dx * dx)[None, :]
        bump = np.exp(-square / (2 * sigma[index] ** 2)).astype(np.float32)
        np.maximum(center[ys, xs], bump, out=center[ys, xs])
        near = np.where(bump > 0.1, np.float32(sure), 0)
        np.maximum(center_weight[ys, xs], near, out=center_weight[ys, xs])
    at = np.where(cells == PADDING, 0, cells)
    offset_weight = per_pixel[at]
    inside = offset_weight > 0
    offset = np.zeros((2, *cells.shape), np.float32)
    offset[0] = np.where(inside, cy[at] - y[:, None], 0)
    offset[1] = np.where(inside, cx[at] - x[None, :], 0)
    return center, center_weight, offset, offset_weight


def _center_weight(
    scene: Scene, cells: NDArray[np.int64], absent: NDArray[np.bool_], weights: LabelWeights
) -> NDArray[np.float32]:
    """How sure it is what the centre head must say, by segment: 1 in the padding (it must stay
    dark) and in true labels; in pseudo-labels by their score; 0 in void, crowds and uncertain
    segments; elsewhere by the share of thing classes known to be absent."""
    things = weights.thing_mask
    share = float(absent[things].mean()) if things.any() else 0.0
    none = 0.0 if scene.complete or share < 0.75 else share
    own = [
        0.0 if s.ignore or (s.is_thing and not s.is_object) else weights.sureness(s)
        for s in scene.segments
    ]
    table = np.array([none, *own, 1.0], np.float32)
    return table[_without_padding(cells, len(scene.segments))]
