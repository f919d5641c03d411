"""Everything but the picked objects becomes grey."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from panokit.effects._checks import in_range
from panokit.effects.compose import compose, split_layers
from panokit.effects.held import with_held
from panokit.effects.matting import matte_of
from panokit.effects.outcome import EffectResult, check_same_photo, unchanged
from panokit.effects.picking import Pick, found_nothing, names_of
from panokit.photo import Photo
from panokit.result import PanopticResult

__all__ = ["highlight"]


def highlight(
    photo: Photo, result: PanopticResult, pick: Pick, *, dim: float = 0.0, quality: str = "fast"
) -> EffectResult:
    """The picked objects in colour, all else in the grey of its luminance, darker by ``dim`` 0..1.

    Pixels whose matte is 1 stay bit for bit. ``quality``: see :func:`panokit.effects.matte`.
    """
    check_same_photo(photo, result)
    in_range("dim", dim, 0, 1)
    segments = pick.find(result)
    if not segments:
        return unchanged(photo, found_nothing(pick))
    matte = matte_of(photo, result, with_held(result, segments, pick.but), quality)
    weights = photo.space.luminance
    kept = np.float32((1 - dim) ** 2.2)  # even steps to the eye

    def grey(
        rows: NDArray[np.intp], cols: NDArray[np.intp], light: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        return np.repeat((light @ weights)[..., None] * kept, 3, axis=-1)

    done = compose(photo, matte.alpha_hw, split_layers(photo, matte), grey)
    return EffectResult(done, True, f"Highlighted {names_of(segments)}.", matte.alpha_hw)
