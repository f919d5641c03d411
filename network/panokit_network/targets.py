"""Training targets of a scene: what each head should answer, and how much each answer counts.

Semantic labels lie at stride 2, centre and offset at the heads' stride 4. A cell takes the
segment at its centre. Partial labels become three kinds of pixels: *known* (a channel), *not
these* (some channels are known to be absent, the others possible) and *ignored*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panokit_network.augment import PADDING, Scene
from panokit_network.data import TEACHER_UNSURE

__all__ = ["IGNORED", "NOT_ABSENT", "NOT_TEACHER", "TargetConfig", "Targets", "make_targets"]

IGNORED = -1
"""Semantic label: no evidence."""
NOT_ABSENT = -2
"""Semantic label: none of the scene's absent channels."""
NOT_TEACHER = -3
"""Semantic label: as NOT_ABSENT, and the teacher saw none of the channels it knows."""

SEMANTIC_STRIDE = 2
HEAD_STRIDE = 4


@dataclass(frozen=True)
class TargetConfig:
    """Weights of partial evidence, and the size of centre peaks."""

    unlabelled_weight: float = 0.7  # "not these" of an annotator
    teacher_weight: float = 0.3  # a class the teacher sees
    teacher_zero_weight: float = 0.1  # the classes it does not see
    sigma_range: tuple[float, float] = (1.0, 2.5)  # of a centre's Gaussian, in head cells
    sigma_per_size: float = 0.05  # growth of sigma with sqrt(area), cells per cell
    small_instance_weight: float = 3.0  # most that a small instance counts per pixel


@dataclass(frozen=True)
class Targets:
    """Targets of one scene of side S.

    ``semantic`` int8 ``[S/2,S/2]``: a channel or one of the three negative codes;
    ``semantic_weight`` float32 ``[S/2,S/2]``; ``absent`` and ``teacher_absent`` bool ``[C]``;
    ``center`` float32 ``[S/4,S/4]`` 0..1 and ``center_weight``; ``offset`` float32
    ``[2,S/4,S/4]`` (dy, dx) in input pixels and ``offset_weight`` ``[S/4,S/4]``.
    """

    semantic: NDArray[np.int16]
    semantic_weight: NDArray[np.float32]
    absent: NDArray[np.bool_]
    teacher_absent: NDArray[np.bool_]
    center: NDArray[np.float32]
    center_weight: NDArray[np.float32]
    offset: NDArray[np.float32]
    offset_weight: NDArray[np.float32]


def make_targets(
    scene: Scene,
    thing_mask: NDArray[np.bool_],
    teacher_knows: NDArray[np.bool_],
    config: TargetConfig,
) -> Targets:
    """Targets of a scene; ``thing_mask`` and ``teacher_knows`` are bool ``[C]``."""
    absent = np.zeros(len(thing_mask), bool)
    absent[list(scene.absent)] = True
    semantic, weight = _semantic(scene, absent, config)
    center, center_weight, offset, offset_weight = _instances(scene, absent, thing_mask, config)
    return Targets(
        semantic,
        weight,
        absent,
        absent | teacher_knows,
        center,
        center_weight,
        offset,
        offset_weight,
    )


def _at_stride(values: NDArray[np.uint16] | NDArray[np.uint8], stride: int) -> NDArray[np.int64]:
    """Values at the centres of stride×stride cells."""
    return values[stride // 2 :: stride, stride // 2 :: stride].astype(np.int64)


def _semantic(
    scene: Scene, absent: NDArray[np.bool_], config: TargetConfig
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    segments = _at_stride(scene.segment_map, SEMANTIC_STRIDE)
    padding = segments == PADDING
    segments = np.where(padding, 0, segments)
    # Table from segment index to label; entry 0 is "no segment".
    none = IGNORED if scene.complete or not absent.any() else NOT_ABSENT
    table = np.array([none] + [IGNORED if s.ignore else s.channel for s in scene.segments])
    weights = np.array([config.unlabelled_weight] + [1.0] * len(scene.segments), np.float32)
    label, weight = table[segments], weights[segments]
    if scene.has_teacher and not scene.complete:
        teacher = _at_stride(scene.teacher, SEMANTIC_STRIDE)
        open_ = (segments == 0) & ~padding
        sees = open_ & (teacher > 0) & (teacher != TEACHER_UNSURE)
        sees &= ~absent[np.where(sees, teacher - 1, 0)]  # an annotator's word beats the teacher's
        label = np.where(sees, teacher - 1, label)
        weight = np.where(sees, config.teacher_weight, weight)
        zero = open_ & (teacher == 0)
        label = np.where(zero, NOT_TEACHER, label)
        weight = np.where(zero, 1.0, weight)
    label = np.where(padding, IGNORED, label)
    return label.astype(np.int16), np.where(label == IGNORED, 0, weight).astype(np.float32)


def _instances(
    scene: Scene,
    absent: NDArray[np.bool_],
    thing_mask: NDArray[np.bool_],
    config: TargetConfig,
) -> tuple[NDArray[np.float32], ...]:
    cells = _at_stride(scene.segment_map, HEAD_STRIDE)
    n = cells.shape[0]
    center = np.zeros((n, n), np.float32)
    offset = np.zeros((2, n, n), np.float32)
    offset_weight = np.zeros((n, n), np.float32)
    center_weight = _background_weight(scene, cells, absent, thing_mask)
    position = (np.arange(n, dtype=np.float32) + 0.5) * HEAD_STRIDE  # cell centres, input pixels
    for index in np.unique(cells):
        if index == 0 or index == PADDING:
            continue
        segment = scene.segments[index - 1]
        inside = cells == index
        if not segment.is_object:
            unsure = segment.ignore or segment.is_thing
            center_weight[inside] = 0.0 if unsure else 1.0
            continue
        ys, xs = np.nonzero(scene.segment_map == index)
        cy, cx = float(ys.mean()) + 0.5, float(xs.mean()) + 0.5
        size = float(np.sqrt(len(ys))) / HEAD_STRIDE
        low, high = config.sigma_range
        sigma = HEAD_STRIDE * min(high, low + config.sigma_per_size * size)
        dy, dx = cy - position[:, None], cx - position[None, :]
        bump = np.exp(-(dy * dy + dx * dx) / (2 * sigma * sigma)).astype(np.float32)
        np.maximum(center, bump, out=center)
        center_weight[inside] = 1.0
        np.maximum(center_weight, bump > 0.1, out=center_weight)
        offset[0][inside] = np.broadcast_to(dy, (n, n))[inside]
        offset[1][inside] = np.broadcast_to(dx, (n, n))[inside]
        offset_weight[inside] = np.clip(n / 4 / size, 0.5, config.small_instance_weight)
    return center, center_weight, offset, offset_weight


def _background_weight(
    scene: Scene, cells: NDArray[np.int64], absent: NDArray[np.bool_], thing_mask: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """How sure it is that no centre lies outside the segments: 1 in the padding (it must stay
    dark), by the share of thing classes known to be absent elsewhere, 0 in void."""
    share = float(absent[thing_mask].mean()) if thing_mask.any() else 0.0
    weight = 0.0 if scene.complete else (share if share >= 0.75 else 0.0)
    out = np.where(cells == 0, np.float32(weight), np.float32(1.0)).astype(np.float32)
    if scene.has_teacher and weight == 0.0 and not scene.complete:
        teacher = _at_stride(scene.teacher, HEAD_STRIDE)
        out[(cells == 0) & (teacher == 0)] = 0.1
    return out
