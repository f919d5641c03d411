"""By how little a decision of the decoding may be won to count as marginal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import Heads, PanopticMap

__all__ = ["Tolerances", "class_margins"]

_FLOAT32, _FLOAT16 = 2.0**-23, 2.0**-11

_SCORE = 1e-5
"""Relative: a score is a mean over thousands of pixels, summed in any order."""


@dataclass(frozen=True)
class Tolerances:
    """How little a decision may be won by: for a tie, and for rounding.

    ``logit`` of the classes and ``center`` of the centres in logits, ``offset`` in input pixels,
    ``score`` relative to the least score; each as (tie, rounding).
    """

    logit: tuple[float, float]
    center: tuple[float, float]
    offset: tuple[float, float]
    score: tuple[float, float] = (_SCORE, _SCORE)

    @property
    def rounds(self) -> bool:
        """Whether the heads may have been rounded on their way."""
        return self.center[1] > self.center[0]

    @classmethod
    def exact(cls, heads: Heads, input_side: int) -> Tolerances:
        """For a map that was decoded from exactly these heads: ties as float32 has them, and no
        rounding."""
        logit, center = (
            max(4 * _FLOAT32 * float(np.abs(values).max()), 1e-12)
            for values in (heads.semantic, heads.center)
        )
        offset = max(4 * _FLOAT32 * input_side, 1e-12)
        return cls((logit, logit), (center, center), (offset, offset))

    @classmethod
    def rounded(
        cls, heads: Heads, input_side: int, steps: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ) -> Tolerances:
        """For a map from heads that were rounded to float16, or are off by up to ``steps``
        (semantic, center, offset: quantisation steps of heads that are not known)."""
        ties = cls.exact(heads, input_side)
        logit, center = (
            # A decision compares two values, and each passed a few roundings.
            4 * _FLOAT16 * float(np.abs(values).max()) + 4 * step
            for values, step in zip((heads.semantic, heads.center), steps, strict=False)
        )
        offset = 2 * _FLOAT16 * input_side + 2 * steps[2]
        score = min(0.1, center + logit)
        return cls(
            (ties.logit[0], logit),
            (ties.center[0], center),
            (ties.offset[0], offset),
            (_SCORE, score),
        )


def class_margins(panoptic: PanopticMap) -> NDArray[np.float32]:
    """By how many logits each pixel's class was won, float32 ``[H,W]`` (needs ``explain``)."""
    two = np.partition(panoptic.explain["semantic"], -2, axis=-1)[..., -2:]
    return np.asarray(two[..., 1] - two[..., 0])
