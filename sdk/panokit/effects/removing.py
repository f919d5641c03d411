"""Taking an object away and filling in what may be behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panokit.effects.edit import ObjectEdit
from panokit.effects.held import with_held
from panokit.effects.inpainting import inpaint
from panokit.effects.matting import cell_of
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

LARGE = 0.35
"""Share of the photo from which on the message warns that most of the picture is made up."""


@dataclass(frozen=True)
class Remove(ObjectEdit):
    """Take the picked objects away and fill in what may be behind them.

    The hole is filled with what lies around it. Other objects are never copied into it. Pixels
    outside it stay bit for bit; ``alpha_hw`` is 1 in the hole and 0 outside it. A draft fills the
    hole on a coarser grid.
    """

    do = "remove"
    title = "Remove"
    slow = True

    margin: float = field(
        default=2.0,
        metadata=about(
            "How much wider than the object the hole is, in pixels of the network's input.",
            low=0,
            high=20,
        ),
    )

    shadow: bool = field(
        default=True, metadata=about("Take the object's shadow along, where one is seen.")
    )

    def change(
        self, photo: Photo, result: PanopticResult, segments: Sequence[Segment], draft: bool
    ) -> EffectResult:
        ids = with_held(result, segments, self.pick.but)
        wide = round(self.margin * cell_of(photo, result))
        hole = whole_mask(photo, result, ids)
        shadow = shadow_of(photo, hole) if self.shadow else np.zeros_like(hole)
        shadow &= ~np.isin(result.id_map, [s.id for s in result if s.is_thing])
        hole = hole | shadow
        hole = dilate(hole, wide) if wide else hole
        if hole.all():
            return unchanged(photo, "Nothing of the photo would be left, so it was left as it is.")
        others = _bystanders(result, ids, hole, max(2, wide))
        avoid = result.mask(*others) if others else None
        done = inpaint(photo, hole, avoid, draft=draft)
        message = f"Removed {names_of(segments)}{' with its shadow' if shadow.any() else ''}."
        if hole.mean() > LARGE:
            message += " It filled much of the photo: what is there now is made up."
        return EffectResult(done, True, message, hole.astype(np.float32), gone=ids)


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
