"""What every effect gives back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.result import PanopticResult

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["EffectResult", "check_same_photo", "unchanged"]


@dataclass(frozen=True, eq=False)
class EffectResult:
    """What an effect made of a photo.

    ``photo`` is the edited photo: its ``pixels_hwc`` have the dtype and colour space of the
    original's. ``applied`` tells whether anything was to be done and ``message`` says so in words.
    ``alpha_hw`` float32 ``[H,W]``, 0..1, is the soft matte that the effect used (of the subject it
    kept, lifted or changed), all zeros when it was not applied. ``transparent``: the matte is the
    picture's own transparency (a lifted object). ``gone`` are the ids of segments that are no
    longer in the photo.
    """

    photo: Photo
    applied: bool
    message: str
    alpha_hw: NDArray[np.float32]
    transparent: bool = False
    gone: tuple[int, ...] = ()

    @property
    def image_hwc(self) -> NDArray[np.uint8]:
        """The picture in sRGB, uint8 ``[H,W,3]``."""
        return self.photo.rgb_hwc

    @property
    def image(self) -> Image.Image:
        """The picture in sRGB as a Pillow image: RGB, or RGBA if it is transparent."""
        from PIL import Image

        if not self.transparent:
            return Image.fromarray(self.image_hwc)
        alpha = (self.alpha_hw * np.float32(255) + np.float32(0.5)).astype(np.uint8)
        return Image.fromarray(np.dstack([self.image_hwc, alpha]))

    def cutout(self) -> Image.Image:
        """The picture cropped to what is not transparent, sRGB; all of it if nothing is."""
        box = self.image.getchannel("A").getbbox() if self.transparent else None
        return self.image.crop(box) if box else self.image

    def save(self, path: str | os.PathLike[str], *, quality: int | None = None) -> Path:
        """Write the picture as :meth:`panokit.Photo.save` does, with its transparency."""
        alpha = self.alpha_hw if self.transparent else None
        return self.photo.save(path, quality=quality, alpha_hw=alpha)


def check_same_photo(photo: Photo, result: PanopticResult) -> None:
    """Refuse a result of a photo of another size."""
    if result.id_map.shape != photo.rgb_hwc.shape[:2]:
        h, w = result.id_map.shape
        raise ArgumentError(
            "photo",
            f"the photo has {photo.size_wh} pixels; expected the result's photo, {w} by {h} pixels",
        )


def unchanged(photo: Photo, message: str) -> EffectResult:
    """The answer of an effect that found nothing to do."""
    w, h = photo.size_wh
    return EffectResult(photo, False, message, np.zeros((h, w), np.float32))
