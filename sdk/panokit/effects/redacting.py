"""Making people and things unrecognisable, for good: what cannot be seen is not in the file.

A blur can be sharpened again; a mean of many pixels cannot. Both effects first reduce the object to
a few means and then draw them, as squares or as a soft picture; the hole is wider than the object
and has no soft edge through which the original would shine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from panokit.effects._grid import sample_bilinear
from panokit.effects.edit import ObjectEdit
from panokit.effects.held import is_person
from panokit.effects.matting import cell_of
from panokit.effects.morphology import dilate
from panokit.effects.outcome import EffectResult
from panokit.effects.parameters import about
from panokit.effects.picking import names_of
from panokit.effects.whole import whole_mask
from panokit.photo import Photo
from panokit.result import PanopticResult, Segment

__all__ = ["Blur", "Pixelate", "head_mask"]

MARGIN_CELLS = 3.0
"""How much wider than its mask an object is covered, in pixels of the network's input."""


BLOCKS = about("How many blocks an object is drawn from, along its longer side.", low=1, high=32)


@dataclass(frozen=True)
class _Redaction(ObjectEdit):
    """What :class:`Pixelate` and :class:`Blur` have in common."""

    soft: ClassVar[bool] = False

    blocks: int = field(default=8, metadata=BLOCKS)
    part: str = field(
        default="all",
        metadata=about(
            "What of a person is covered; the head is an estimate.", choices=("all", "head")
        ),
    )

    def change(
        self, photo: Photo, result: PanopticResult, segments: Sequence[Segment], draft: bool
    ) -> EffectResult:
        pixels = photo.pixels_hwc.copy()
        covered = np.zeros(result.id_map.shape, np.float32)
        margin = max(1, round(MARGIN_CELLS * cell_of(photo, result)))
        for segment in segments:
            mask = whole_mask(photo, result, self.pick.whole(result, [segment]))
            if self.part == "head" and is_person(segment):
                mask &= head_mask(mask)
            _cover(photo, pixels, mask, margin, self.blocks, soft=self.soft)
            covered[dilate(mask, margin)] = 1
        verb = "Blurred" if self.soft else "Pixelated"
        what = names_of(segments)
        if self.part == "head":
            what += " (persons: an estimate of the head)"
        return EffectResult(photo.with_pixels(pixels), True, f"{verb} {what}.", covered)


@dataclass(frozen=True)
class Pixelate(_Redaction):
    """Make the picked objects unrecognisable with squares of their mean light.

    ``part="head"`` covers the upper part of persons only, a generous estimate from their outline:
    check the picture before relying on it.
    """

    do = "pixelate"
    title = "Pixelate"


@dataclass(frozen=True)
class Blur(_Redaction):
    """Make the picked objects unrecognisable with a soft picture of their mean light.

    As :class:`Pixelate`, drawn softly instead of in squares.
    """

    do = "blur"
    title = "Blur"
    basic = False
    soft = True

    blocks: int = field(default=6, metadata=BLOCKS)


def _cover(
    photo: Photo,
    pixels: NDArray[np.uint8] | NDArray[np.uint16],
    mask: NDArray[np.bool_],
    margin: int,
    blocks: int,
    *,
    soft: bool,
) -> None:
    """Draw the coarse picture of one object over it, in ``pixels``."""
    ys, xs = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    if not len(ys):
        return
    h, w = mask.shape
    top, bottom = max(0, ys[0] - margin), min(h, ys[-1] + 1 + margin)
    left, right = max(0, xs[0] - margin), min(w, xs[-1] + 1 + margin)
    own = dilate(mask[top:bottom, left:right], margin)
    side = -(-max(own.shape) // blocks)
    # Means of the covered pixels alone, so that the squares have the object's colours.
    light = photo.space.to_linear(photo.pixels_hwc[top:bottom, left:right])
    grid = [-(-n // side) for n in own.shape]
    rows, cols = np.nonzero(own)
    block = rows // side * grid[1] + cols // side
    count = np.bincount(block, minlength=grid[0] * grid[1])
    sums = [np.bincount(block, v, grid[0] * grid[1]) for v in light[rows, cols].T]
    means = (np.stack(sums, axis=1) / np.maximum(count, 1)[:, None]).astype(np.float32)
    if soft:
        coarse = np.concatenate([means, np.ones_like(means[:, :1])], axis=1)
        coarse[count == 0] = 0
        drawn = sample_bilinear(coarse.reshape(*grid, 4), side, rows, cols)
        drawn = drawn[:, :3] / drawn[:, 3:]
    else:
        drawn = means[block]
    pixels[rows + top, cols + left] = photo.space.to_codes(drawn, pixels.dtype)


def head_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The rows of a person's mask down to the shoulders, bool ``[H,W]``: down to where the outline
    grows much wider than what is above it; without such a place a share of the height."""
    rows = np.nonzero(mask.any(axis=1))[0]
    if not len(rows):
        return mask
    top, height = int(rows[0]), int(rows[-1] - rows[0] + 1)
    widths = mask[top : top + height].sum(axis=1)
    down = max(height // 4, round(1.4 * float(np.median(widths[: max(1, height // 6)]))))
    for y in range(max(2, height // 12), round(0.65 * height)):
        if widths[y] > 1.7 * np.median(widths[y // 3 : y]):
            down = max(y, height // 8)
            break
    head = np.zeros_like(mask)
    end = top + min(height, down + max(1, height // 30))
    head[top:end] = mask[top:end]
    return head
