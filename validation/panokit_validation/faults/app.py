"""An app that makes some of the bank's mistakes: the pipeline with chosen steps changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.bundle import TensorSpec
from panokit.decoding import PostprocessConfig
from panokit.errors import ArgumentError
from panokit.preprocessing import TransformRecord
from panokit_validation.faults.decode import AppDecoding
from panokit_validation.faults.heads import HeadSet
from panokit_validation.faults.layout import Layout, lay_out
from panokit_validation.faults.model import Fault, Step, Variant
from panokit_validation.faults.tensor import as_stored

__all__ = ["App"]

Pixels = NDArray[np.uint8]
FloatArray = NDArray[np.float32]
Cause = tuple[Fault, Variant]


@dataclass(frozen=True)
class App:
    """An app with these faults; without any it does what the reference does."""

    causes: tuple[Cause, ...] = ()

    def __post_init__(self) -> None:
        taken: set[str] = set()
        for fault, variant in self.causes:
            fields = {fault.name}
            if fault.step in (Step.LAYOUT, Step.DECODE):
                fields |= {f"{fault.step}.{k}" for k in variant.change}
            if taken & fields:
                names = [f.name for f, _ in self.causes]
                raise ArgumentError("faults", f"the faults {names} cannot occur together")
            taken |= fields

    def having(self, *steps: Step) -> tuple[Cause, ...]:
        """Its faults at these steps, in the order of the pipeline."""
        return tuple(c for step in steps for c in self.causes if c[0].step is step)

    def _changes(self, step: Step) -> list[Any]:
        return [variant.change for fault, variant in self.causes if fault.step is step]

    def turned(self, rgb_hwc: Pixels, orientation: int) -> Pixels:
        """The photo as the app believes it to be upright."""
        for change in self._changes(Step.ORIENTATION):
            rgb_hwc = change(rgb_hwc, orientation)
        return rgb_hwc

    def colored(self, rgb_hwc: Pixels) -> Pixels:
        """The photo in the app's colours."""
        for change in self._changes(Step.COLOR):
            rgb_hwc = change(rgb_hwc)
        return rgb_hwc

    def picture(
        self, rgb_hwc: Pixels, size_wh: tuple[int, int], orientation: int = 1
    ) -> tuple[Pixels, TransformRecord]:
        """The picture that the app lays out, uint8 ``[H,W,3]``, and where the photo lies in it."""
        return lay_out(self.colored(self.turned(rgb_hwc, orientation)), size_wh, self.layout)

    @property
    def layout(self) -> Layout:
        """Its geometry."""
        layout = Layout()
        for fields in self._changes(Step.LAYOUT):
            layout = replace(layout, **fields)
        return layout

    def values(self, image_hwc: Pixels, spec: TensorSpec) -> FloatArray:
        """The real values in the input tensor, float32 ``[H,W,3]``."""
        values: FloatArray = image_hwc.astype(np.float32)
        changes: list[Callable[[FloatArray, TensorSpec], FloatArray]] = self._changes(Step.TENSOR)
        for change in changes or [as_stored]:
            values = change(values, spec)
        return values

    def inside(self, values: FloatArray) -> FloatArray:
        """The values that the network's first layer effectively gets."""
        for change in self._changes(Step.NETWORK):
            values = change(values)
        return values

    def heads(self, heads: HeadSet) -> HeadSet:
        """The heads as the app reads them."""
        for change in self._changes(Step.HEADS):
            heads = replace(heads, real=change(heads))
        return heads

    def decoding(self, config: PostprocessConfig) -> AppDecoding:
        """Its decoding."""
        decoding = AppDecoding.of(config)
        for fields in self._changes(Step.DECODE):
            decoding = replace(decoding, **fields)
        return decoding

    def effect(self, make: Callable[..., Pixels | None]) -> Pixels | None:
        """Its finished picture; ``make`` gives the right one of any settings."""
        changes: list[Callable[[Callable[..., Pixels | None]], Pixels | None]]
        changes = self._changes(Step.EFFECT)
        for change in changes:
            return change(make)
        return make()

    @classmethod
    def of(cls, causes: Iterable[Cause]) -> App:
        """An app with these faults, in the order of the pipeline."""
        order = list(Step)
        return cls(tuple(sorted(causes, key=lambda c: order.index(c[0].step))))

    def describe(self) -> Mapping[str, str]:
        """Fault names and variant labels."""
        return {fault.name: variant.label for fault, variant in self.causes}
