"""The portrait: the person stays sharp, what is behind is blurred as a fast lens would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from panokit.effects.edit import Edit
from panokit.effects.held import is_person, wearable
from panokit.effects.lens import blur_background
from panokit.effects.matting import QUALITY, cell_of, matte_of
from panokit.effects.outcome import EffectResult, check_same_photo, unchanged
from panokit.effects.parameters import about
from panokit.effects.picking import Pick, found_nothing, names_of
from panokit.effects.ramp import ground_ramp
from panokit.effects.refining import picked
from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.result import PanopticResult

__all__ = ["NO_PERSON", "BlurBackground", "portrait_blur"]

LARGEST_DISC = 0.04
"""Radius of the disc at full strength, as a share of the photo's mean side √(width·height)."""

PERSONS = Pick(class_name="person")
"""What is sharp where nothing is picked."""

NO_PERSON = "No person was found, so the photo was left as it is."


@dataclass(frozen=True)
class BlurBackground(Edit):
    """Blur what is behind the picked objects, or behind all persons, as a fast lens would.

    Light is added as light. What persons wear or hold stays sharp with them. Pixels whose matte is
    1 stay bit for bit; without a person the whole photo does, and ``applied`` is False. There is
    no depth in a photo, so ``depth_ramp`` is an approximation.
    """

    do = "blur_background"
    title = "Portrait blur"
    group = "portrait"

    pick: Pick | None = field(
        default=None, metadata=about("What stays sharp. Default: all persons.")
    )
    strength: float = field(
        default=0.5, metadata=about("How strong the blur is.", low=0, high=1, basic=True)
    )
    blades: int = field(
        default=0,
        metadata=about("How many blades the lens has; 0 is a disc.", choices=(0, 5, 6, 7, 8, 9)),
    )
    highlights: float = field(
        default=1.0, metadata=about("How bright lamps come out.", low=0, high=1)
    )
    depth_ramp: bool = field(
        default=False,
        metadata=about("Let the blur of the ground grow from where the subject stands."),
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
        focus: list[int] | None = None
        if self.pick is not None:
            check_same_photo(photo, result)
            result, segments = picked(photo, result, self.pick)
            focus = [s.id for s in segments]
            if not focus:
                return unchanged(photo, found_nothing(self.pick))
        return self.behind(photo, result, focus)

    def behind(
        self, photo: Photo, result: PanopticResult, focus: Sequence[int] | None
    ) -> EffectResult:
        """As :meth:`apply`, with the ids of the segments to keep sharp (None: all persons) in place
        of ``pick``. An id of none, or an empty ``focus``, is an ``ArgumentError``."""
        check_same_photo(photo, result)
        subject = _subject(result, focus)
        if not subject:
            return unchanged(photo, NO_PERSON)
        kept = (self.pick or PERSONS).whole(result, [result.get(i) for i in subject])
        matte = matte_of(photo, result, kept, self.quality)
        done = blur_background(
            photo,
            matte,
            radius=self.strength * LARGEST_DISC * float(np.sqrt(matte.alpha_hw.size)),
            margin=2 * cell_of(photo, result),
            blades=self.blades,
            highlights=self.highlights,
            share=ground_ramp(result, kept) if self.depth_ramp else None,
        )
        message = _message(result, subject, kept)
        if self.depth_ramp:
            message += " The depth of the ground is an approximation."
        return EffectResult(done, True, message, matte.alpha_hw)


def portrait_blur(
    photo: Photo, result: PanopticResult, *, focus: Sequence[int] | None = None, **settings: Any
) -> EffectResult:
    """Blur what is behind the persons of a photo: :class:`BlurBackground` as a function.

    ``focus`` are the ids of the segments to keep sharp (None: all persons). ``settings`` are
    fields of :class:`BlurBackground`, such as ``strength``.
    """
    if focus is None:
        return BlurBackground(**settings).apply(photo, result)
    return BlurBackground(None, **settings).behind(photo, result, focus)


def _subject(result: PanopticResult, focus: Sequence[int] | None) -> tuple[int, ...]:
    """Ids of the segments in focus; an id in ``focus`` that is none is an error."""
    if focus is None:
        return tuple(s.id for s in result if is_person(s))
    known = [s.id for s in result]
    strange = [i for i in focus if i not in known]
    if strange or not len(focus):
        raise ArgumentError(
            "focus", f"focus is {list(focus)!r}; expected ids of segments, some of {known}"
        )
    return tuple(dict.fromkeys(focus))


def _message(result: PanopticResult, subject: Sequence[int], kept: Sequence[int]) -> str:
    who = names_of([result.get(i) for i in subject])
    # A patch of clothing that the network took for a car is kept sharp, but not called a car.
    others = [result.get(i) for i in kept if i not in subject]
    held = sorted({s.category.name.replace("_", " ") for s in others if wearable(s)})
    what = f" with {', '.join(held)}" if held else ""
    return f"Blurred behind {who}{what}."
