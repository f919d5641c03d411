"""The artifacts that the demo offers: those of one or more bundles, each under one id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from panokit.bundle import Artifact, Bundle
from panokit.decoding import PostprocessConfig
from panokit.errors import ArgumentError
from panokit.preprocessing import PreprocessConfig

__all__ = ["Catalog", "Offer"]

_NEEDS = {"tflite": "ai_edge_litert", "onnx": "onnxruntime"}


@dataclass(frozen=True)
class Offer:
    """One artifact: ``id`` is its name, after its bundle's where there are several bundles."""

    id: str
    bundle: Bundle
    artifact: Artifact

    @property
    def runs_here(self) -> bool:
        """Whether the server can run it."""
        package = _NEEDS.get(self.artifact.format)
        return package is not None and find_spec(package) is not None

    @property
    def runs_in_browser(self) -> bool:
        """Whether LiteRT.js can run it, and the page's decoding is that of its contract."""
        manifest = self.bundle.manifest
        own = isinstance(manifest.postprocessing, PostprocessConfig)
        plain = manifest.preprocessing == PreprocessConfig(manifest.preprocessing.size_wh)
        is_file = self.artifact.format == "tflite" and self.artifact.input.layout == "nhwc"
        return own and plain and is_file

    def to_json(self) -> dict[str, Any]:
        """What the page and a port need to know of it, JSON-ready."""
        manifest, a = self.bundle.manifest, self.artifact
        tensors = {"image": a.input, **a.outputs}
        return {
            "id": self.id,
            "bundle": manifest.name,
            "name": a.name,
            "format": a.format,
            "precision": a.precision,
            "bytes": a.bytes,
            "sha256": a.sha256,
            "runs_here": self.runs_here,
            "runs_in_browser": self.runs_in_browser,
            "input_wh": list(manifest.preprocessing.size_wh),
            "postprocessing": manifest.postprocessing.to_json(),
            "taxonomy": [
                {"id": c.id, "name": c.name, "isthing": int(c.is_thing), "color": list(c.color)}
                for c in manifest.taxonomy
            ],
            "tensors": {
                name: {
                    "name": s.name,
                    "shape": list(s.shape),
                    "dtype": s.dtype,
                    "scale": s.scale,
                    "zero_point": s.zero_point,
                }
                for name, s in tensors.items()
            },
        }


@dataclass(frozen=True)
class Catalog:
    """All offers, in the bundles' order; ``default`` is the id to begin with."""

    offers: tuple[Offer, ...]
    default: str

    @classmethod
    def open(
        cls, bundles: Sequence[Path | None], artifact: str | None = None, *, verify: bool = True
    ) -> Catalog:
        """The artifacts of bundle folders (None: the shipped one). ``artifact`` names the one to
        begin with, by its id or its name in the first bundle."""
        opened = [Bundle.open(path, verify=verify) for path in bundles or [None]]
        several = len(opened) > 1
        names = _distinct([b.manifest.name for b in opened])
        offers = tuple(
            Offer(f"{name}/{a.name}" if several else a.name, bundle, a)
            for name, bundle in zip(names, opened, strict=True)
            for a in bundle.manifest.artifacts
        )
        if not any(o.runs_here for o in offers):
            found = [o.id for o in offers]
            raise ArgumentError(
                "bundle", f"the bundle has {found}; expected a TFLite or ONNX artifact"
            )
        if artifact is None or all(o.id != artifact for o in offers):
            chosen = opened[0].manifest.artifact(artifact)
            artifact = next(o.id for o in offers if o.artifact is chosen)
        catalog = cls(offers, artifact)
        catalog.get(artifact)
        return catalog

    def get(self, offer_id: str | None) -> Offer:
        """An artifact that runs here, by id (None: the default)."""
        wanted = self.default if offer_id is None else offer_id
        for offer in self.offers:
            if offer.id == wanted and offer.runs_here:
                return offer
        known = ", ".join(o.id for o in self.offers if o.runs_here)
        raise ArgumentError(
            "artifact", f"artifact is {str(wanted)[:80]!r}; expected one of: {known}"
        )


def _distinct(names: Sequence[str]) -> list[str]:
    """Names with a number where two are alike."""
    found: list[str] = []
    for name in names:
        candidate, number = name, 2
        while candidate in found:
            candidate, number = f"{name}-{number}", number + 1
        found.append(candidate)
    return found
