"""The portrait: the person stays sharp, what is behind is blurred as a fast lens would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from panokit.effects.blur import blur_background
from panokit.effects.matte import held_by, soft_matte
from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.result import PanopticResult

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["EffectResult", "portrait_blur"]

LARGEST_DISC = 0.04
"""Radius of the disc at full strength, as a share of the photo's mean side √(width·height)."""

NO_PERSON = "No person was found, so the photo was left as it is."


@dataclass(frozen=True)
class EffectResult:
    """What an effect made of a photo.

    ``image_hwc`` uint8 ``[H,W,3]``, sRGB; ``applied`` tells whether anything was to be done and
    ``message`` says so in words; ``alpha_hw`` float32 ``[H,W]``, 0..1, is the soft matte of what
    the effect kept (1 = untouched), all zeros when it was not applied.
    """

    image_hwc: NDArray[np.uint8]
    applied: bool
    message: str
    alpha_hw: NDArray[np.float32]

    @property
    def image(self) -> Image.Image:
        """The picture as a Pillow image."""
        from PIL import Image

        return Image.fromarray(self.image_hwc)


def portrait_blur(
    photo: Photo,
    result: PanopticResult,
    *,
    strength: float = 0.5,
    focus: Sequence[int] | None = None,
) -> EffectResult:
    """Blur what is behind the persons of a photo, in linear light.

    ``result`` is that photo's; ``strength`` 0..1 sets the size of the blur; ``focus`` are the
    segment ids of the persons to keep sharp (None: all), with what they hold. Pixels whose matte
    is 1 stay bit for bit; without a person the whole photo does, and ``applied`` is False.
    """
    if not 0 <= strength <= 1:
        raise ArgumentError("strength", "from 0 to 1", strength)
    if result.id_map.shape != photo.rgb_hwc.shape[:2]:
        h, w = result.id_map.shape
        raise ArgumentError("photo", f"the result's photo, {w} by {h} pixels", photo.size_wh)
    persons = _persons(result, focus)
    if not persons:
        alpha = np.zeros(result.id_map.shape, np.float32)
        return EffectResult(photo.rgb_hwc.copy(), False, NO_PERSON, alpha)
    kept = (*persons, *held_by(result, persons))
    cell = max(w / v for w, v in zip(photo.size_wh, result.transform.content_wh, strict=True))
    alpha = soft_matte(photo, result.mask(*kept), cell)
    radius = strength * LARGEST_DISC * float(np.sqrt(alpha.size))
    image = blur_background(photo.rgb_hwc, alpha, radius, margin=2 * cell)
    return EffectResult(image, True, _message(result, persons, kept), alpha)


def _persons(result: PanopticResult, focus: Sequence[int] | None) -> tuple[int, ...]:
    """Ids of the persons in focus; an id in ``focus`` that is no person is an error."""
    known = [s.id for s in result if s.is_thing and s.category.name == "person"]
    if focus is None:
        return tuple(known)
    strange = [i for i in focus if i not in known]
    if strange or not len(focus):
        raise ArgumentError("focus", f"ids of persons, some of {known}", list(focus))
    return tuple(dict.fromkeys(focus))


def _message(result: PanopticResult, persons: Sequence[int], kept: Sequence[int]) -> str:
    who = "the person" if len(persons) == 1 else f"{len(persons)} persons"
    held = [result.get(i).category.name for i in kept if i not in persons]
    what = f" with {', '.join(sorted(held))}" if held else ""
    return f"Blurred behind {who}{what}."
