"""How close a tensor is to its reference, summed up over any number of photos."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError

__all__ = ["INFINITE_DB", "AgreementMeter", "HeadAgreement", "decibel"]

INFINITE_DB = 200.0
"""Stands for infinite decibels, which JSON does not have."""


@dataclass(frozen=True)
class HeadAgreement:
    """Agreement of a tensor with its reference over all photos.

    ``max_abs`` and ``mean_abs`` of the difference in the tensor's unit; ``sqnr_db`` = 10·log10 of
    the reference's power over the difference's (±200 stand for infinity); ``cosine`` -1..1.
    """

    sqnr_db: float
    max_abs: float
    mean_abs: float
    cosine: float

    def to_json(self) -> dict[str, float]:
        """A JSON-ready dict, figures rounded to what they are good for."""
        return {k: round(v, 2 if k == "sqnr_db" else 6) for k, v in asdict(self).items()}


class AgreementMeter:
    """Takes pairs of tensors one after the other; memory does not grow with their number.

    ::

        meter = AgreementMeter()
        for … : meter.update(reference, candidate)
        meter.compute().sqnr_db
    """

    def __init__(self) -> None:
        self._signal = self._noise = self._power = self._product = 0.0
        self._largest = self._absolute = 0.0
        self._count = 0

    def update(self, reference: NDArray[Any], candidate: NDArray[Any]) -> None:
        """Add a pair of one shape, of any real types; sums are in float64."""
        if reference.shape != candidate.shape or reference.size == 0:
            expected = f"of the reference's shape {reference.shape}, not empty"
            raise ArgumentError("candidate", expected, candidate.shape)
        r = reference.astype(np.float64).ravel()
        c = candidate.astype(np.float64).ravel()
        noise = c - r
        self._signal += float(r @ r)
        self._noise += float(noise @ noise)
        self._power += float(c @ c)
        self._product += float(r @ c)
        np.abs(noise, out=noise)
        self._largest = max(self._largest, float(noise.max()))
        self._absolute += float(noise.sum())
        self._count += r.size

    def compute(self) -> HeadAgreement:
        """The figures of everything given so far."""
        if not self._count:
            raise ArgumentError("pairs", "at least one pair of tensors", 0)
        scale = math.sqrt(self._signal * self._power)
        cosine = self._product / scale if scale > 0 else float(self._noise == 0)
        return HeadAgreement(
            sqnr_db=decibel(self._signal, self._noise),
            max_abs=self._largest,
            mean_abs=self._absolute / self._count,
            cosine=max(-1.0, min(1.0, cosine)),
        )


def decibel(signal: float, noise: float) -> float:
    """10·log10 of ``signal`` over ``noise`` (both powers), within ±:data:`INFINITE_DB`."""
    if noise == 0:
        return INFINITE_DB
    if signal == 0 or not math.isfinite(noise):
        return -INFINITE_DB
    return max(-INFINITE_DB, min(INFINITE_DB, 10 * math.log10(signal / noise)))
