"""Another colour for an object, in OKLCH (https://bottosson.github.io/posts/oklab/): lightness, and
with it all shading, stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from panokit._icc import SRGB
from panokit.effects.compose import repaint, split_layers
from panokit.effects.edit import ObjectEdit
from panokit.effects.fill import parse_color
from panokit.effects.matting import matte_of
from panokit.effects.outcome import EffectResult
from panokit.effects.parameters import about
from panokit.effects.picking import names_of
from panokit.photo import Photo
from panokit.result import PanopticResult, Segment

__all__ = ["Recolor", "from_oklab", "to_oklab"]

FloatArray = NDArray[np.float32]

_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
)
_FROM_LMS, _FROM_LAB = np.linalg.inv(_LMS), np.linalg.inv(_LAB)

PLAIN = 0.04
"""Chroma below which an object counts as grey: its colour is shifted, not turned."""


def to_oklab(linear: FloatArray) -> FloatArray:
    """Linear sRGB ``[…,3]`` to OKLab (L 0..1, a, b), float32."""
    return np.asarray(
        np.cbrt(linear @ _LMS.T.astype(np.float32)) @ _LAB.T.astype(np.float32), np.float32
    )


def from_oklab(lab: FloatArray) -> FloatArray:
    """OKLab ``[…,3]`` to linear sRGB, float32; outside 0..1 where sRGB lacks the colour."""
    return np.asarray(
        (lab @ _FROM_LAB.T.astype(np.float32)) ** 3 @ _FROM_LMS.T.astype(np.float32), np.float32
    )


@dataclass(frozen=True)
class Recolor(ObjectEdit):
    """Give the picked objects another colour; their shading stays.

    An object of one colour gets the new one; an object of several keeps their differences, turned
    and scaled by what takes its typical colour to the new one. Lightness stays; where the space
    has no colour so vivid at that lightness, chroma gives way.
    """

    do = "recolor"
    title = "Recolour"
    slow = True

    color: str = field(default="#2060d0", metadata=about("The new colour.", color=True, basic=True))
    amount: float = field(
        default=1.0, metadata=about("How far the new colour takes over.", low=0, high=1)
    )

    def change(
        self, photo: Photo, result: PanopticResult, segments: Sequence[Segment], draft: bool
    ) -> EffectResult:
        target = to_oklab(SRGB.to_linear(parse_color(self.color)))[1:]
        matte = matte_of(photo, result, [s.id for s in segments])
        turn, shift = _plan(photo, matte.alpha_hw, target)
        into, out_of = photo.space.to_srgb.astype(np.float32), np.linalg.inv(photo.space.to_srgb)

        def paint(light: FloatArray) -> FloatArray:
            lab = to_oklab(light @ into.T)
            new = lab[..., 1:] @ turn.T + shift * _body(lab[..., :1])
            lab[..., 1:] += np.float32(self.amount) * (new - lab[..., 1:])
            return _inside_gamut(lab, out_of.T.astype(np.float32))

        done = repaint(photo, matte.alpha_hw, split_layers(photo, matte), paint)
        return EffectResult(done, True, f"Recoloured {names_of(segments)}.", matte.alpha_hw)


def _plan(photo: Photo, alpha_hw: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The linear map ``[2,2]`` and shift ``[2]`` of (a, b) that take the object's typical colour
    to the target."""
    rows, cols = np.nonzero(alpha_hw >= 0.5)
    if not len(rows):
        return np.eye(2, dtype=np.float32), np.zeros(2, np.float32)
    step = max(1, len(rows) // 50_000)
    light = photo.space.to_linear(photo.pixels_hwc[rows[::step], cols[::step]])
    lab = to_oklab(light @ photo.space.to_srgb.T.astype(np.float32))
    typical = np.median(lab[:, 1:], axis=0)
    chroma, wanted = float(np.hypot(*typical)), float(np.hypot(*target))
    vivid = min(1.0, chroma / PLAIN) ** 2
    angle = np.arctan2(target[1], target[0]) - np.arctan2(typical[1], typical[0])
    scale = min(3.0, wanted / max(chroma, 1e-6))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # Grey objects have no hue to turn: their differences stay, the whole is shifted.
    turn = vivid * turn + (1 - vivid) * np.eye(2)
    shift = target - turn @ typical
    return turn.astype(np.float32), shift.astype(np.float32)


def _body(lightness: FloatArray) -> FloatArray:
    """How much colour a surface shows at a lightness: none in black and in glints of white."""
    body = np.clip(lightness / 0.35, 0, 1) * np.clip((1 - lightness) / 0.15, 0, 1)
    return np.asarray(body, np.float32)


def _inside_gamut(lab: FloatArray, out_of: FloatArray) -> FloatArray:
    """Linear light of the photo's space, with chroma lowered just until it fits."""
    light = from_oklab(lab) @ out_of
    wild = ((light < 0) | (light > 1)).any(axis=-1)
    if wild.any():
        own = lab[wild]
        low, high = np.zeros((len(own), 1), np.float32), np.ones((len(own), 1), np.float32)
        for _ in range(7):
            middle = (low + high) / 2
            tried = own.copy()
            tried[:, 1:] *= middle
            there = from_oklab(tried) @ out_of
            fits = ((there >= -1e-4) & (there <= 1 + 1e-4)).all(axis=-1, keepdims=True)
            low, high = np.where(fits, middle, low), np.where(fits, high, middle)
        own[:, 1:] *= low
        light[wild] = from_oklab(own) @ out_of
    return np.asarray(np.clip(light, 0, 1), np.float32)
