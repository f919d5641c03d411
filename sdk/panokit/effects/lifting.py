"""An object cut out of its photo, with soft edges in its own colours."""

from __future__ import annotations

from panokit.effects.compose import split_layers
from panokit.effects.held import with_held
from panokit.effects.matting import matte_of
from panokit.effects.outcome import EffectResult, check_same_photo, unchanged
from panokit.effects.picking import Pick, found_nothing, names_of
from panokit.photo import Photo
from panokit.result import PanopticResult

__all__ = ["lift"]


def lift(
    photo: Photo, result: PanopticResult, pick: Pick, *, quality: str = "fast"
) -> EffectResult:
    """Cut the picked objects out: the result is transparent around them.

    Along the edge the background's colour is taken out of the pixels, so that the object can be
    laid on anything without a fringe; fully transparent pixels keep their colour. Save it as PNG
    or WebP, or take :meth:`EffectResult.cutout`.
    """
    check_same_photo(photo, result)
    segments = pick.find(result)
    if not segments:
        return unchanged(photo, found_nothing(pick))
    matte = matte_of(photo, result, with_held(result, segments, pick.but), quality)
    layers = split_layers(photo, matte)
    pixels = photo.pixels_hwc.copy()
    pixels[layers.rows, layers.cols] = photo.space.to_codes(layers.foreground, pixels.dtype)
    done = photo.with_pixels(pixels)
    return EffectResult(done, True, f"Lifted {names_of(segments)}.", matte.alpha_hw, True)
