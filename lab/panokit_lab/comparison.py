"""Recipes beside the float network: what each artifact costs, and where it loses most."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from panokit_lab.results import ArtifactFigures, QualityFigures, RecipeResult, Results

__all__ = ["BASELINE", "ClassChange", "ComparedArtifact", "PhotoChange", "compare"]

BASELINE = "float32"
"""The recipe that others are compared with."""

WORST = 3  # photos that are shown of each
CLASSES = 6  # classes that are named of each


@dataclass(frozen=True)
class ClassChange:
    """PQ of a class (0..100) with the float network and with a recipe."""

    name: str
    before: float
    after: float

    @property
    def change(self) -> float:
        """Below 0 if the recipe is worse."""
        return self.after - self.before

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "class": self.name,
            "float": self.before,
            "pq": self.after,
            "change": self.change,
        }


@dataclass(frozen=True)
class PhotoChange:
    """PQ of a photo (0..100) with the float network and with a recipe."""

    photo: str
    before: float
    after: float

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {"photo": self.photo, "float": self.before, "pq": self.after}


@dataclass(frozen=True)
class ComparedArtifact:
    """One artifact of a recipe, compared with the float network.

    ``pq_change``, ``classes`` (most lost first) and ``worst_photos`` need both to be judged on the
    same photos; else they are None and empty.
    """

    recipe: str
    format: str
    macs: int
    parameters: int
    figures: ArtifactFigures
    pq_change: float | None = None
    classes: tuple[ClassChange, ...] = ()
    worst_photos: tuple[PhotoChange, ...] = ()

    @property
    def changed_most(self) -> tuple[ClassChange, ...]:
        """The classes that a report names: those that lost most, then the best two."""
        return (*self.classes[:CLASSES], *self.classes[-2:])

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        found, quality = self.figures, self.figures.quality
        latency = {str(n): timed.to_json() for n, timed in found.latency.items()}
        return {
            "recipe": self.recipe,
            "format": self.format,
            "precision": found.precision,
            "runtime": found.runtime,
            "bytes": found.bytes,
            "macs": self.macs,
            "parameters": self.parameters,
            "arena_bytes": found.arena_bytes,
            "ms": {n: timed["median_ms"] for n, timed in latency.items()},
            "ratio": {n: timed["ratio"] for n, timed in latency.items()},
            "sqnr_db": None if found.sqnr_db is None else dict(found.sqnr_db),
            "photos": quality.split if quality else None,
            "pq": quality.pq if quality else None,
            "pq_change": self.pq_change,
            "person_iou": quality.person_iou if quality else None,
            "boundary_iou": quality.person_boundary_iou if quality else None,
            "classes": [c.to_json() for c in self.classes],
            "worst_photos": [p.to_json() for p in self.worst_photos],
        }


def compare(results: Results) -> tuple[ComparedArtifact, ...]:
    """All artifacts of ``results``, those of the float network first, Core ML recipes last.

    Differences are to the TFLite file of the recipe ``float32``, if it is among them.
    """
    names = sorted(results, key=lambda n: (n != BASELINE, n.startswith("coreml"), n))
    baseline = results.get(BASELINE)
    reference = baseline.artifacts.get("tflite") if baseline else None
    return tuple(
        _compared(results[name], format, reference.quality if reference else None)
        for name in names
        for format in results[name].artifacts
    )


def _compared(result: RecipeResult, format: str, base: QualityFigures | None) -> ComparedArtifact:
    found = result.artifacts[format]
    alone = ComparedArtifact(result.name, format, result.macs, result.parameters, found)
    quality = found.quality
    if quality is None or base is None or quality.photo_names != base.photo_names:
        return alone
    return replace(
        alone,
        pq_change=_difference(quality.pq, base.pq),
        classes=_class_changes(quality, base),
        worst_photos=_lost_most(quality, base),
    )


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _class_changes(quality: QualityFigures, base: QualityFigures) -> tuple[ClassChange, ...]:
    """Classes whose PQ changed most, worst first."""
    pairs = [(name, base.per_class[name].pq, found.pq) for name, found in quality.per_class.items()]
    changes = [
        ClassChange(name, before, after)
        for name, before, after in pairs
        if before is not None and after is not None
    ]
    return tuple(sorted(changes, key=lambda c: c.change))


def _lost_most(quality: QualityFigures, base: QualityFigures) -> tuple[PhotoChange, ...]:
    """Photos whose PQ fell most, worst first."""
    known = {p.name: p.pq for p in base.per_photo}
    changes = [
        PhotoChange(p.name, before, p.pq)
        for p in quality.per_photo
        if p.pq is not None and (before := known.get(p.name)) is not None
    ]
    return tuple(sorted(changes, key=lambda p: p.after - p.before)[:WORST])
