"""An object cut out of its photo, with soft edges in its own colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from panokit.effects.compose import split_layers
from panokit.effects.edit import ObjectEdit
from panokit.effects.matting import QUALITY, matte_of
from panokit.effects.outcome import EffectResult
from panokit.effects.picking import names_of
from panokit.photo import Photo
from panokit.result import PanopticResult, Segment

__all__ = ["Lift"]


@dataclass(frozen=True)
class Lift(ObjectEdit):
    """Cut the picked objects out: everything else becomes transparent.

    Along the edge the background's colour is taken out of the pixels, so that the object can be
    laid on anything without a fringe; fully transparent pixels keep their colour. Save the result
    as PNG or WebP, or take :meth:`EffectResult.cutout`.
    """

    do = "lift"
    title = "Lift"

    quality: str = field(default="good", metadata=QUALITY)

    def change(
        self, photo: Photo, result: PanopticResult, segments: Sequence[Segment], draft: bool
    ) -> EffectResult:
        ids = self.pick.whole(result, segments)
        matte = matte_of(photo, result, ids, self.quality)
        layers = split_layers(photo, matte)
        pixels = photo.pixels_hwc.copy()
        pixels[layers.rows, layers.cols] = photo.space.to_codes(layers.foreground, pixels.dtype)
        done = photo.with_pixels(pixels)
        return EffectResult(done, True, f"Lifted {names_of(segments)}.", matte.alpha_hw, True)
