"""Persons of whom only boxes are known: their masks are made from what a teacher sees in the boxes.

A photo without segments may come with the boxes of all its persons. Then the teacher's person
pixels inside a box are that person (in several boxes: of the one whose centre is nearest, measured
in its own size), everything outside the boxes is not a person, and the rest stays uncertain. That
is weak, but it shows the centre and offset heads crowds of which no other label separates the
people (as in BoxSup, Dai et al., https://arxiv.org/abs/1503.01640).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_BOXES", "Box", "paint_boxes"]

MAX_BOXES = 200
LEAST_SHARE = 0.15  # of a box that its person fills; below it the teacher has missed the person

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels."""


def paint_boxes(
    boxes: Sequence[Box], person: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which person each pixel belongs to: int64 ``[H,W]``, 0 = none, i = ``boxes[i - 1]``; and
    where it is uncertain, bool ``[H,W]``.

    ``person`` bool ``[H,W]``: the pixels that the teacher calls person.
    """
    h, w = person.shape
    ys, xs = np.arange(h) + 0.5, np.arange(w) + 0.5
    owner = np.zeros((h, w), np.int64)
    nearest = np.full((h, w), np.inf)
    inside_any = np.zeros((h, w), bool)
    for number, (left, top, width, height) in enumerate(boxes, 1):
        dx = np.abs(xs - (left + width / 2)) / max(width, 1.0)
        dy = np.abs(ys - (top + height / 2)) / max(height, 1.0)
        inside = (dy <= 0.5)[:, None] & (dx <= 0.5)[None, :]
        distance = np.hypot(dy[:, None], dx[None, :])
        inside_any |= inside
        mine = inside & (distance < nearest)
        nearest[mine] = distance[mine]
        owner[mine] = number
    owner[~person] = 0
    filled = np.bincount(owner.ravel(), minlength=len(boxes) + 1)
    for number, (_, _, width, height) in enumerate(boxes, 1):
        if filled[number] < LEAST_SHARE * width * height:
            owner[owner == number] = 0
    return owner, (owner == 0) & (inside_any | person)
