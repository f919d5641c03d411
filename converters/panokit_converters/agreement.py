"""How close two sets of heads are: numbers that a manifest can hold and a test can bound."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError, HeadError
from panokit_converters.contract import HEADS

__all__ = ["Agreement", "HeadAgreement", "compare_heads"]

PERFECT_DB = 300.0  # stands for infinity, which JSON does not have

HeadArrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class HeadAgreement:
    """One head over all photos: signal to noise in dB, largest difference, cosine similarity."""

    sqnr_db: float
    max_abs: float
    cosine: float


@dataclass(frozen=True)
class Agreement:
    """All heads over ``photos`` photos; ``argmax`` is the share of cells with the same class."""

    heads: dict[str, HeadAgreement]
    argmax: float
    photos: int

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict, figures rounded to what they are good for."""
        heads = {
            name: {k: round(v, 6 if k != "sqnr_db" else 2) for k, v in asdict(head).items()}
            for name, head in self.heads.items()
        }
        return {"heads": heads, "argmax_agreement": round(self.argmax, 6), "photos": self.photos}


def compare_heads(pairs: Iterable[tuple[HeadArrays, HeadArrays]]) -> Agreement:
    """Compare (reference, candidate) heads, photo by photo: float arrays ``[h,w,C]`` by name."""
    sums = {name: np.zeros(4) for name in HEADS}  # signal, noise, candidate's signal, product
    largest = dict.fromkeys(HEADS, 0.0)
    same = cells = photos = 0
    for reference, candidate in pairs:
        photos += 1
        for name in HEADS:
            r, c = (np.asarray(a[name], np.float64) for a in (reference, candidate))
            if r.shape != c.shape:
                raise HeadError(
                    name, f"expected shape {r.shape} as in the reference, got {c.shape}"
                )
            noise = c - r
            sums[name] += [np.sum(r * r), np.sum(noise * noise), np.sum(c * c), np.sum(r * c)]
            largest[name] = max(largest[name], float(np.abs(noise).max()))
        r, c = reference["semantic"].argmax(-1), candidate["semantic"].argmax(-1)
        same, cells = same + int((r == c).sum()), cells + r.size
    if not photos:
        raise ArgumentError("pairs", "at least one pair of heads", 0)
    heads = {
        name: HeadAgreement(_decibel(s[0], s[1]), largest[name], _cosine(s[3], s[0], s[2]))
        for name, s in sums.items()
    }
    return Agreement(heads, same / cells, photos)


def _decibel(signal: float, noise: float) -> float:
    if noise == 0:
        return PERFECT_DB
    if signal == 0:
        return -PERFECT_DB
    return float(np.clip(10 * math.log10(signal / noise), -PERFECT_DB, PERFECT_DB))


def _cosine(product: float, a: float, b: float) -> float:
    return float(product / math.sqrt(a * b)) if a > 0 and b > 0 else float(a == b)
