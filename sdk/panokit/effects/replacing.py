"""Another background or sky, and the subject in its light."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panokit.effects._checks import in_range
from panokit.effects.compose import Paint, compose, split_layers
from panokit.effects.fill import Fill
from panokit.effects.held import with_held
from panokit.effects.matting import Matte, matte_of
from panokit.effects.outcome import EffectResult, check_same_photo, unchanged
from panokit.effects.picking import Pick, found_nothing, names_of
from panokit.photo import Photo
from panokit.result import PanopticResult

__all__ = ["replace_background", "replace_sky"]

FloatArray = NDArray[np.float32]

LARGEST_GAIN = 1.6
"""The most that a subject's light is raised or lowered to match."""


def replace_background(
    photo: Photo,
    result: PanopticResult,
    fill: Fill,
    pick: Pick | None = None,
    *,
    match_light: float = 0.5,
    quality: str = "fast",
    folder: Path | None = None,
) -> EffectResult:
    """Put the picked objects (all persons, with what they hold, if ``pick`` is None) before
    ``fill``.

    ``match_light`` 0..1: how far the objects take on the brightness and tint of the new background
    in place of the old; at 0 pixels whose matte is 1 stay bit for bit. ``folder`` is where a photo
    named by the fill may lie.
    """
    from panokit.effects.portrait import NO_PERSON

    check_same_photo(photo, result)
    in_range("match_light", match_light, 0, 1)
    chosen = Pick(class_name="person") if pick is None else pick
    if pick is None and not any(c.name == "person" for c in result.taxonomy):
        return unchanged(photo, NO_PERSON)
    segments = chosen.find(result)
    if not segments:
        return unchanged(photo, NO_PERSON if pick is None else found_nothing(chosen))
    ids = with_held(result, segments, chosen.but)
    matte = matte_of(photo, result, ids, quality)
    done = _before(photo, matte, fill, match_light, folder)
    message = f"Put {names_of(segments)} before another background."
    return EffectResult(done, True, message, matte.alpha_hw)


def replace_sky(
    photo: Photo,
    result: PanopticResult,
    fill: Fill,
    *,
    match_light: float = 0.3,
    quality: str = "fast",
    folder: Path | None = None,
) -> EffectResult:
    """Another sky; the land takes on its light by ``match_light`` 0..1.

    ``alpha_hw`` of the result is the land's matte. A photo without sky stays as it is.
    """
    check_same_photo(photo, result)
    in_range("match_light", match_light, 0, 1)
    sky = [s.id for s in result if s.category.name == "sky"]
    if not sky:
        return unchanged(photo, "No sky was found, so the photo was left as it is.")
    of_sky = matte_of(photo, result, sky, quality)
    land = Matte(1 - of_sky.alpha_hw, of_sky.reach)
    done = _before(photo, land, fill, match_light, folder)
    return EffectResult(done, True, "Replaced the sky.", land.alpha_hw)


def _before(
    photo: Photo, matte: Matte, fill: Fill, match_light: float, folder: Path | None
) -> Photo:
    light = fill.light(photo.size_wh, photo.space, folder)
    tall, wide = light.shape[0] > 1, light.shape[1] > 1

    def background(rows: NDArray[np.intp], cols: NDArray[np.intp], old: FloatArray) -> FloatArray:
        return light[rows if tall else rows * 0, cols if wide else cols * 0]

    foreground: Paint | None = None
    if match_light > 0:
        gain = _gain(photo, matte.alpha_hw, light, match_light)

        def relit(rows: NDArray[np.intp], cols: NDArray[np.intp], old: FloatArray) -> FloatArray:
            return _relight(old, gain)

        foreground = relit
    return compose(photo, matte.alpha_hw, split_layers(photo, matte), background, foreground)


def _gain(photo: Photo, alpha_hw: FloatArray, light: FloatArray, share: float) -> FloatArray:
    """Factors of R, G and B that bring the subject towards the new background's mean light.

    Scenes are exposed by their maker's choice, so only a third of the difference (in stops) is
    taken over at most, and no more than LARGEST_GAIN.
    """
    rows, cols = np.nonzero(alpha_hw == 0)
    if not len(rows):
        return np.ones(3, np.float32)
    step = max(1, len(rows) // 100_000)
    old = photo.space.to_linear(photo.pixels_hwc[rows[::step], cols[::step]]).mean(axis=0)
    new = light.reshape(-1, 3).mean(axis=0)
    stops = np.log2((new + 0.02) / (old + 0.02)) / 3 * share
    limit = np.log2(LARGEST_GAIN)
    return np.asarray(2 ** np.clip(stops, -limit, limit), np.float32)


def _relight(light: FloatArray, gain: FloatArray) -> FloatArray:
    """Light times a gain; raising bends towards 1, so that highlights keep their drawing."""
    return light * gain / (1 + np.maximum(gain - 1, 0) * light)
