"""Taking an object away and filling in what may be behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panokit.effects.edit import ObjectEdit
from panokit.effects.inpainting import inpaint
from panokit.effects.matting import cell_of, matte_of
from panokit.effects.morphology import dilate
from panokit.effects.outcome import EffectResult, unchanged
from panokit.effects.parameters import about
from panokit.effects.picking import names_of
from panokit.effects.shadow import shadow_of
from panokit.effects.whole import whole_mask
from panokit.photo import Photo
from panokit.result import PanopticResult, Segment

__all__ = ["Remove"]

ON_IT = 0.3
"""An object that makes up this share of the hole's surroundings may be what is behind it."""

RIM = 0.03
"""The hole holds every pixel with so much of the object: hair, fur and a soft edge too."""

LARGE, MOST = 0.35, 0.5
"""Shares of the photo from which on the message warns that much of the picture is made up, and from
which on nothing is removed: there is no telling what lies behind."""

CROP = 0.1
"""A part of the photo without the object that is smaller than this share is no picture."""

SIDE = 320
"""Longest side of the grid on which that part is looked for."""


@dataclass(frozen=True)
class Remove(ObjectEdit):
    """Take the picked objects away and fill in what may be behind them.

    The hole is filled with what lies around it. Other objects are never copied into it. Pixels
    outside it stay bit for bit; ``alpha_hw`` is 1 in the hole and 0 outside it. A draft fills the
    hole on a coarser grid. Where the hole is most of the photo nothing is removed, unless
    ``anyway``, and the message tells the largest part of the photo without the object.
    """

    do = "remove"
    title = "Remove"
    slow = True

    margin: float = field(
        default=0.5,
        metadata=about(
            "How much wider than the object the hole is, in pixels of the network's input.",
            low=0,
            high=20,
        ),
    )

    shadow: bool = field(
        default=True, metadata=about("Take the object's shadow along, where one is seen.")
    )

    anyway: bool = field(
        default=False,
        metadata=about("Remove also what fills most of the photo, where all is made up."),
    )

    def change(
        self, photo: Photo, result: PanopticResult, segments: Sequence[Segment], draft: bool
    ) -> EffectResult:
        ids = self.pick.whole(result, segments)
        wide = round(self.margin * cell_of(photo, result))
        own = whole_mask(photo, result, ids)
        shadow = shadow_of(photo, own) if self.shadow else np.zeros_like(own)
        shadow &= ~np.isin(result.id_map, [s.id for s in result if s.is_thing])
        hole = own | shadow | (matte_of(photo, result, ids, "draft").alpha_hw > RIM)
        hole = dilate(hole, wide) if wide else hole
        if hole.all():
            return unchanged(photo, "Nothing of the photo would be left, so it was left as it is.")
        if hole.mean() > MOST and not self.anyway:
            return unchanged(photo, _too_large(names_of(segments), hole))
        others = _bystanders(result, ids, hole, max(2, wide))
        avoid = result.mask(*others) if others else None
        done = inpaint(photo, hole, avoid, draft=draft)
        message = f"Removed {names_of(segments)}{' with its shadow' if shadow.any() else ''}."
        if hole.mean() > LARGE:
            message += " It filled much of the photo: what is there now is made up."
        return EffectResult(done, True, message, hole.astype(np.float32), gone=ids)


def _too_large(names: str, hole: NDArray[np.bool_]) -> str:
    """Why nothing is removed, and what can be had instead."""
    x0, y0, x1, y1 = _largest_rectangle(~hole)
    instead = ""
    if (x1 - x0) * (y1 - y0) >= CROP * hole.size:
        size = f"{x1 - x0} by {y1 - y0} pixels from ({x0}, {y0})"
        instead = f" Without it there are {size}: crop the photo to them."
    return (
        f"With its surroundings {names} fills {hole.mean():.0%} of the photo; what lies behind "
        f"cannot be told, so it was left as it is.{instead}"
    )


def _largest_rectangle(free: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The largest rectangle of True cells, x0, y0, x1, y1; found on a grid, so true to a cell of
    it."""
    h, w = free.shape
    step = max(1, -(-max(h, w) // SIDE))
    missing = ((0, -h % step), (0, -w % step))
    cells = np.pad(free, missing, constant_values=False)
    cells = np.asarray(cells.reshape(cells.shape[0] // step, step, -1, step).all((1, 3)))
    best, box = 0, (0, 0, 0, 0)
    heights = np.zeros(cells.shape[1] + 1, int)  # the last one ends all rectangles
    for y, row in enumerate(cells):
        heights[:-1] = np.where(row, heights[:-1] + 1, 0)
        open_: list[tuple[int, int]] = []  # where rectangles begin, and their heights, ascending
        for x, height in enumerate(heights.tolist()):
            start = x
            while open_ and open_[-1][1] >= height:
                start, high = open_.pop()
                if high * (x - start) > best:
                    best, box = high * (x - start), (start, y + 1 - high, x, y + 1)
            open_.append((start, height))
    x0, y0, x1, y1 = (v * step for v in box)
    return x0, y0, x1, y1


def _bystanders(
    result: PanopticResult, ids: Sequence[int], hole: NDArray[np.bool_], wide: int
) -> list[int]:
    """Ids of the other things that must not be copied into the hole: not those it lies on, such as
    the coat under a name tag."""
    ring = dilate(hole, wide) & ~hole
    around = np.bincount(result.id_map[ring], minlength=1)
    share = around / max(1, around.sum())
    return [
        s.id
        for s in result
        if s.is_thing and s.id not in ids and (s.id >= len(share) or share[s.id] < ON_IT)
    ]
