"""What a fault is: one step of the app's pipeline, computed wrongly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from panokit.errors import ArgumentError

__all__ = ["Fault", "Step", "Variant"]


class Step(StrEnum):
    """The steps of an app, in order; what a variant's ``change`` is depends on it.

    ``photo`` and ``artifact``: None, the simulator puts another one in. ``orientation``: a
    function of the upright pixels uint8 ``[h,w,3]`` and the EXIF orientation, always of the whole
    photo. ``color``: a function of each pixel's colour alone. ``layout``: fields of
    :class:`~panokit_validation.faults.layout.Layout` to replace. ``tensor``: a function of the
    picture float32 ``[H,W,3]`` 0..255 and the artifact's input spec to the real values that the
    network gets. ``network``: a function of those values, inside the artifact, so that the dumped
    input looks right. ``heads``: a function of
    :class:`~panokit_validation.faults.heads.HeadSet`. ``decode``: fields of
    :class:`~panokit_validation.faults.decode.AppDecoding` to replace. ``effect``: a function that
    is given the function that makes the picture (of its settings) and returns the app's picture.
    """

    PHOTO = "photo"
    ORIENTATION = "orientation"
    COLOR = "color"
    LAYOUT = "layout"
    TENSOR = "tensor"
    ARTIFACT = "artifact"
    NETWORK = "network"
    HEADS = "heads"
    DECODE = "decode"
    EFFECT = "effect"

    @property
    def stage(self) -> str:
        """The first stage that shows it: ``input``, ``heads``, ``panoptic`` or ``effect``."""
        if self in (Step.ARTIFACT, Step.NETWORK, Step.HEADS):
            return "heads"
        later = {Step.DECODE: "panoptic", Step.EFFECT: "effect"}
        return later.get(self, "input")


@dataclass(frozen=True)
class Variant:
    """One form of a fault: ``label`` tells it from the others (empty if there is only one),
    ``change`` is what it does to its step."""

    label: str
    change: Any = None


@dataclass(frozen=True)
class Fault:
    """A mistake that apps make.

    ``precision`` is ``"any"``, ``"integer"`` (only quantised artifacts can have it) or
    ``"float"``. ``advice`` tells what to change in the app. ``replayed``: whether the diagnosis
    finds it by replaying it; what the numbers themselves show needs no replay. ``enough`` 0..1 is
    the share of a difference from which on it is named, where its forms are too many to try all.
    """

    name: str
    title: str
    step: Step
    advice: str
    variants: tuple[Variant, ...]
    precision: str = "any"
    replayed: bool = True
    enough: float = 1.0

    def __post_init__(self) -> None:
        if not self.variants:
            raise ArgumentError("variants", "a fault needs at least one variant, and there is none")
        if self.precision not in ("any", "integer", "float"):
            raise ArgumentError(
                "precision",
                f"precision is {self.precision!r}; expected 'any', 'integer' or 'float'",
            )

    def occurs_on(self, quantised: bool) -> bool:
        """Whether an artifact with a quantised (or float) border can have it."""
        return self.precision in ("any", "integer" if quantised else "float")

    def variant(self, label: str | None = None) -> Variant:
        """A variant by its label; the first without one."""
        if not label:
            return self.variants[0]
        for variant in self.variants:
            if variant.label == label:
                return variant
        known = ", ".join(v.label for v in self.variants)
        raise ArgumentError(
            f"variant of {self.name}",
            f"{self.name} has no variant {label!r}; expected one of: {known}",
        )

    def to_json(self) -> Mapping[str, Any]:
        """What the fault is, JSON-ready."""
        return {
            "name": self.name,
            "title": self.title,
            "stage": self.step.stage,
            "advice": self.advice,
            "variants": [v.label for v in self.variants],
            "precision": self.precision,
        }
