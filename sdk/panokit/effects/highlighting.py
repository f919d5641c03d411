"""Everything but the picked objects becomes grey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panokit.effects.compose import compose, split_layers
from panokit.effects.edit import ObjectEdit
from panokit.effects.matting import QUALITY, matte_of
from panokit.effects.outcome import EffectResult
from panokit.effects.parameters import about
from panokit.effects.picking import names_of
from panokit.photo import Photo
from panokit.result import PanopticResult, Segment

__all__ = ["Highlight"]


@dataclass(frozen=True)
class Highlight(ObjectEdit):
    """Keep the colours of the picked objects and make everything else grey.

    Grey is the luminance of each pixel. Pixels whose matte is 1 stay bit for bit.
    """

    do = "highlight"
    title = "Highlight"

    dim: float = field(
        default=0.0, metadata=about("How much darker the rest becomes.", low=0, high=1, start=0.2)
    )
    quality: str = field(default="good", metadata=QUALITY)

    def change(
        self, photo: Photo, result: PanopticResult, segments: Sequence[Segment], draft: bool
    ) -> EffectResult:
        ids = self.pick.whole(result, segments)
        matte = matte_of(photo, result, ids, self.quality)
        weights = photo.space.luminance
        kept = np.float32((1 - self.dim) ** 2.2)  # even steps to the eye

        def grey(
            rows: NDArray[np.intp], cols: NDArray[np.intp], light: NDArray[np.float32]
        ) -> NDArray[np.float32]:
            return np.repeat((light @ weights)[..., None] * kept, 3, axis=-1)

        done = compose(photo, matte.alpha_hw, split_layers(photo, matte), grey)
        return EffectResult(done, True, f"Highlighted {names_of(segments)}.", matte.alpha_hw)
