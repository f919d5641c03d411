"""Another background or sky, and the subject in its light."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panokit.effects.compose import Paint, compose, split_layers
from panokit.effects.edit import Edit
from panokit.effects.fill import Fill
from panokit.effects.matting import QUALITY, Matte, matte_of
from panokit.effects.outcome import EffectResult, check_same_photo, unchanged
from panokit.effects.parameters import about
from panokit.effects.picking import Pick, found_nothing, names_of
from panokit.effects.portrait import NO_PERSON
from panokit.effects.refining import picked
from panokit.photo import Photo
from panokit.result import PanopticResult

__all__ = ["ReplaceBackground", "ReplaceSky"]

FloatArray = NDArray[np.float32]

LARGEST_GAIN = 1.6
"""The most that a subject's light is raised or lowered to match."""


EVENING = Fill(gradient=("#2a5298", "#f5c9a3"))
"""What a form begins with."""


@dataclass(frozen=True)
class _Filled(Edit):
    """What puts a fill behind something."""

    fill: Fill = field(metadata=about("What comes behind.", basic=True, start=EVENING))

    def check_files(self, folder: Path | None) -> None:
        self.fill.check(folder)


@dataclass(frozen=True)
class ReplaceBackground(_Filled):
    """Put the picked objects, or all persons, before another background.

    What persons wear or hold comes with them. With ``match_light`` 0 pixels whose matte is 1 stay
    bit for bit.
    """

    do = "replace_background"
    title = "New background"
    group = "scene"

    fill: Fill = field(metadata=about("The new background.", basic=True, start=EVENING))
    pick: Pick | None = field(
        default=None, metadata=about("What stays in front. Default: all persons.")
    )
    match_light: float = field(
        default=0.5,
        metadata=about("How far objects take on the new background's light.", low=0, high=1),
    )
    quality: str = field(default="good", metadata=QUALITY)

    def apply(
        self,
        photo: Photo,
        result: PanopticResult,
        *,
        draft: bool = False,
        folder: Path | None = None,
    ) -> EffectResult:
        check_same_photo(photo, result)
        chosen = Pick(class_name="person") if self.pick is None else self.pick
        if self.pick is None and not any(c.name == "person" for c in result.taxonomy):
            return unchanged(photo, NO_PERSON)
        result, segments = picked(photo, result, chosen)
        if not segments:
            return unchanged(photo, NO_PERSON if self.pick is None else found_nothing(chosen))
        ids = chosen.whole(result, segments)
        matte = matte_of(photo, result, ids, self.quality)
        done = _before(photo, matte, self.fill, self.match_light, folder)
        message = f"Put {names_of(segments)} before another background."
        return EffectResult(done, True, message, matte.alpha_hw)


@dataclass(frozen=True)
class ReplaceSky(_Filled):
    """Put another sky above the land.

    ``alpha_hw`` of the result is the land's matte. A photo without sky stays as it is.
    """

    do = "replace_sky"
    title = "New sky"
    group = "scene"

    fill: Fill = field(metadata=about("The new sky.", basic=True, start=EVENING))
    match_light: float = field(
        default=0.3, metadata=about("How far the land takes on the new sky's light.", low=0, high=1)
    )
    quality: str = field(default="good", metadata=QUALITY)

    def apply(
        self,
        photo: Photo,
        result: PanopticResult,
        *,
        draft: bool = False,
        folder: Path | None = None,
    ) -> EffectResult:
        check_same_photo(photo, result)
        sky = [s.id for s in result if s.category.name == "sky"]
        if not sky:
            return unchanged(photo, "No sky was found, so the photo was left as it is.")
        of_sky = matte_of(photo, result, sky, self.quality)
        land = Matte(1 - of_sky.alpha_hw, of_sky.reach)
        done = _before(photo, land, self.fill, self.match_light, folder)
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
