"""How far two people's labels of the same photos agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panokit.errors import DataError
from panokit_datasets.quality.panoptic_quality import PanopticQuality, PanopticQualityResult
from panokit_datasets.readers import open_dataset

__all__ = ["Agreement", "measure_agreement"]


@dataclass(frozen=True)
class Agreement:
    """Figures of two people's labels.

    ``pq``: the mean of panoptic quality with the first's labels as truth and with the second's,
    0..100, or None; ``kappa``: Cohen's kappa of the classes of pixels (1: equal, 0: as by chance);
    ``pixels``: share of pixels of the same class. ``per_photo``: PQ by name, the least first.
    """

    photos: int
    pq: float | None
    kappa: float | None
    pixels: float
    per_class: Mapping[str, float | None]
    per_photo: Mapping[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "photos": self.photos,
            "pq": self.pq,
            "kappa": self.kappa,
            "pixels": self.pixels,
            "per_class": dict(self.per_class),
            "per_photo": dict(self.per_photo),
        }


def measure_agreement(root: Path, first: str, second: str) -> Agreement:
    """Compare two splits of an annotation folder on the photos that both have."""
    a, b = (open_dataset(root, name, "coco-panoptic") for name in (first, second))
    places = [
        {r.name(i).split("/", 1)[-1].rsplit(".", 1)[0]: i for i in range(len(r))} for r in (a, b)
    ]
    both = sorted(places[0].keys() & places[1].keys())
    if not both:
        raise DataError(root, f"{first} and {second} have no photo in common")
    taxonomy = a.taxonomy
    width = len(taxonomy) + 1
    table = np.zeros((width, width), np.int64)
    sums = PanopticQuality(taxonomy), PanopticQuality(taxonomy)
    per_photo: dict[str, float | None] = {}
    for name in both:
        truths = [r.truth(p[name]) for r, p in zip((a, b), places, strict=True)]
        if truths[0].ids.shape != truths[1].ids.shape:
            raise DataError(root, f"{name} has other sizes in {first} and {second}")
        single = PanopticQuality(taxonomy), PanopticQuality(taxonomy)
        for quality in (sums, single):
            for one, (truth, pred) in zip(quality, (truths, truths[::-1]), strict=True):
                channels = {s.id: s.channel for s in pred.segments if not s.ignore}
                ids = np.where(np.isin(pred.ids, list(channels)), pred.ids, 0)
                one.update(ids, channels, truth.ids, truth.segments)
        per_photo[name] = _mean(*(q.compute().all for q in single))
        classes = []
        for truth in truths:
            lut = np.zeros(max((s.id for s in truth.segments), default=0) + 1, np.int64)
            for s in truth.segments:
                lut[s.id] = s.channel + 1
            classes.append(lut[truth.ids].ravel())
        table += np.bincount(classes[0] * width + classes[1], minlength=width * width).reshape(
            width, width
        )
    results = [q.compute() for q in sums]
    total = int(table.sum())
    same = float(np.trace(table) / total)
    chance = float((table.sum(0) / total) @ (table.sum(1) / total))
    order = sorted(per_photo.items(), key=lambda item: (item[1] is not None, item[1] or 0.0))
    return Agreement(
        photos=len(both),
        pq=_mean(*(r.all for r in results)),
        kappa=None if chance >= 1 else (same - chance) / (1 - chance),
        pixels=same,
        per_class=_per_class(results[0], results[1]),
        per_photo=dict(order),
    )


def _per_class(a: PanopticQualityResult, b: PanopticQualityResult) -> dict[str, float | None]:
    means = {n: _mean(q.pq, b.per_class[n].pq) for n, q in a.per_class.items()}
    return {n: m for n, m in means.items() if m is not None}


def _mean(*values: float | None) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
