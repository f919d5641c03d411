"""The portrait: the person stays sharp, what is behind is blurred as a fast lens would."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from panokit.effects._checks import flag, in_range, one_of
from panokit.effects.held import is_person, wearable, with_held
from panokit.effects.lens import blur_background
from panokit.effects.matting import cell_of, matte_of
from panokit.effects.outcome import EffectResult, check_same_photo, unchanged
from panokit.effects.picking import names_of
from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.result import PanopticResult

__all__ = ["NO_PERSON", "portrait_blur"]

LARGEST_DISC = 0.04
"""Radius of the disc at full strength, as a share of the photo's mean side √(width·height)."""

NO_PERSON = "No person was found, so the photo was left as it is."


def portrait_blur(
    photo: Photo,
    result: PanopticResult,
    *,
    strength: float = 0.5,
    focus: Sequence[int] | None = None,
    blades: int = 0,
    highlights: float = 1.0,
    depth_ramp: bool = False,
    quality: str = "fast",
) -> EffectResult:
    """Blur what is behind the persons of a photo, in linear light.

    ``result`` is that photo's; ``strength`` 0..1 sets the size of the blur; ``focus`` are the
    segment ids of the things to keep sharp (None: all persons), with what persons wear or hold.
    ``blades`` 5..9 gives the lens a polygon for a disc (0); ``highlights`` 0..1 how bright lamps
    come out. ``depth_ramp`` lets the blur of the ground grow from where the subject stands: an
    approximation, for there is no depth in the photo. ``quality``: see
    :func:`panokit.effects.matte`.

    Pixels whose matte is 1 stay bit for bit; without a person the whole photo does, and
    ``applied`` is False.
    """
    in_range("strength", strength, 0, 1)
    in_range("highlights", highlights, 0, 1)
    one_of("blades", blades, (0, 5, 6, 7, 8, 9))
    flag("depth_ramp", depth_ramp)
    one_of("quality", quality, ("fast", "best"))
    check_same_photo(photo, result)
    subject = _subject(result, focus)
    if not subject:
        return unchanged(photo, NO_PERSON)
    kept = with_held(result, [result.get(i) for i in subject])
    matte = matte_of(photo, result, kept, quality)
    radius = strength * LARGEST_DISC * float(np.sqrt(matte.alpha_hw.size))
    share = None
    if depth_ramp:
        from panokit.effects.ramp import ground_ramp

        share = ground_ramp(result, kept)
    done = blur_background(
        photo,
        matte,
        radius,
        margin=2 * cell_of(photo, result),
        blades=blades,
        highlights=highlights,
        share=share,
    )
    message = _message(result, subject, kept)
    if depth_ramp:
        message += " The depth of the ground is an approximation."
    return EffectResult(done, True, message, matte.alpha_hw)


def _subject(result: PanopticResult, focus: Sequence[int] | None) -> tuple[int, ...]:
    """Ids of the things in focus; an id in ``focus`` that is no thing is an error."""
    if focus is None:
        return tuple(s.id for s in result if is_person(s))
    known = [s.id for s in result if s.is_thing]
    strange = [i for i in focus if i not in known]
    if strange or not len(focus):
        raise ArgumentError("focus", f"ids of things, some of {known}", list(focus))
    return tuple(dict.fromkeys(focus))


def _message(result: PanopticResult, subject: Sequence[int], kept: Sequence[int]) -> str:
    who = names_of([result.get(i) for i in subject])
    # A patch of clothing that the network took for a car is kept sharp, but not called a car.
    others = [result.get(i) for i in kept if i not in subject]
    held = sorted({s.category.name.replace("_", " ") for s in others if wearable(s)})
    what = f" with {', '.join(held)}" if held else ""
    return f"Blurred behind {who}{what}."
