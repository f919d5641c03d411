"""Run an artifact on photos, compare its heads with a reference, and judge what came out.

:func:`prepare` makes the inputs, :func:`measure` runs an artifact on them and compares,
:func:`judge` holds the figures against thresholds. Export checks what it has just made so, and
`panokit verify` a whole bundle. Nothing here needs torch.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.bundle import Artifact, Manifest
from panokit.config import read_settings, write_settings
from panokit.errors import ArgumentError
from panokit.photo import Photo, photo_paths
from panokit.preprocessing import PreprocessConfig, TransformRecord, preprocess
from panokit.runtime import Runtime
from panokit.samples import sample_photos
from panokit_converters.agreement import Agreement, AgreementSum
from panokit_converters.runners import real_heads

__all__ = [
    "ArtifactCheck",
    "Inputs",
    "Measured",
    "Thresholds",
    "judge",
    "load_photos",
    "measure",
    "prepare",
    "thresholds_for",
]

Array = NDArray[Any]
Inputs = dict[str, tuple[NDArray[np.uint8], TransformRecord]]
"""Network inputs uint8 ``[H,W,3]`` with their transforms, by the photo's name."""


@dataclass(frozen=True)
class Thresholds:
    """The least agreement with the float reference: ``sqnr_db`` of each head, ``equal_pixels``
    0..1 and ``pq`` 0..100 of the panoptic maps."""

    sqnr_db: float
    equal_pixels: float
    pq: float

    def __post_init__(self) -> None:
        for name, most in (("sqnr_db", 200), ("equal_pixels", 1), ("pq", 100)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ArgumentError(name, f"{name} is {value!r}; expected a number")
            if not 0 <= value <= most:
                raise ArgumentError(
                    name, f"{name} is {value!r}; expected a number from 0 to {most}"
                )

    def to_json(self) -> dict[str, float]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        return write_settings(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Thresholds:
        """Read what :meth:`to_json` wrote."""
        return read_settings(cls, data, "thresholds")


# Float formats: what is further away than this is wrong, not imprecise. The others: what a sound
# artifact of this kind keeps on photos that it was not calibrated on; how good it is for its task
# is for `panokit evaluate` to say.
_THRESHOLDS = {
    "float32": Thresholds(60, 0.999, 99),
    "float16": Thresholds(40, 0.99, 95),
    "int16x8": Thresholds(20, 0.90, 70),
    "int8-weights": Thresholds(18, 0.90, 65),
    "palette8": Thresholds(18, 0.90, 65),
    "int8": Thresholds(12, 0.75, 45),
    "int8-dynamic": Thresholds(12, 0.75, 45),
    "palette6": Thresholds(12, 0.75, 45),
}
_LOW_BITS = Thresholds(6, 0.5, 20)


@dataclass(frozen=True)
class Measured:
    """One artifact run on photos: how it agrees, its raw heads by photo, and seconds per photo."""

    agreement: Agreement
    raw: dict[str, dict[str, Array]]
    seconds: float


@dataclass(frozen=True)
class ArtifactCheck:
    """An artifact compared with its reference and judged.

    ``runtime`` says what ran it. ``failures`` are sentences about what is below the
    ``thresholds``; none means that it passes.
    """

    runtime: str
    agreement: Agreement
    thresholds: Thresholds
    failures: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What a manifest says about the quality of an artifact."""
        data = {
            **self.agreement.to_json(),
            "runtime": self.runtime,
            "thresholds": self.thresholds.to_json(),
        }
        return {**data, "failures": list(self.failures)} if self.failures else data


def load_photos(paths: Iterable[Path] | None) -> dict[str, Photo]:
    """Photos by name from files and folders; the sample photos without any."""
    listed = list(paths or ())
    files = photo_paths(listed) if listed else sample_photos()
    photos: dict[str, Photo] = {}
    for name, path in files.items():
        photos[name] = Photo.open(path)
    if not photos:
        raise ArgumentError(
            "photos", f"there are no photos in {[str(p) for p in listed]}; expected at least one"
        )
    return photos


def prepare(photos: Mapping[str, Photo], config: PreprocessConfig) -> Inputs:
    """The network's inputs."""
    return {name: preprocess(photo, config) for name, photo in photos.items()}


def measure(
    runtime: Runtime,
    artifact: Artifact,
    manifest: Manifest,
    inputs: Inputs,
    reference: Mapping[str, Mapping[str, Array]],
) -> Measured:
    """Run an artifact on ``inputs`` and compare it with ``reference`` (heads float32 ``[h,w,C]``
    by photo); a photo without a reference is run only. The manifest is asked for its taxonomy and
    postprocessing parameters only."""
    total = AgreementSum(manifest.taxonomy, manifest.postprocessing, artifact)
    raw: dict[str, dict[str, Array]] = {}
    seconds = 0.0
    for name, (image, transform) in inputs.items():
        started = time.perf_counter()
        raw[name] = runtime.run(image)
        seconds += time.perf_counter() - started
        if name in reference:
            total.update(reference[name], real_heads(raw[name], artifact), transform)
    return Measured(total.compute(), raw, seconds / max(1, len(inputs)))


def thresholds_for(artifact: Artifact, manifest: Manifest | None = None) -> Thresholds:
    """Those that the bundle was exported with; without any those of the artifact's precision."""
    if manifest is not None:
        stated = manifest.quality.get("artifacts", {}).get(artifact.name, {})
        if isinstance(stated, Mapping) and isinstance(stated.get("thresholds"), Mapping):
            return Thresholds.from_json(stated["thresholds"])
    return _THRESHOLDS.get(artifact.precision, _LOW_BITS)


def judge(agreement: Agreement, thresholds: Thresholds, precision: str = "") -> tuple[str, ...]:
    """What is below its threshold, each in a sentence; nothing if all is well. Of float artifacts
    (``precision``) a pixel where the reference itself decides by a rounding is right either way."""
    failures = [
        f"head {name!r}: expected at least {thresholds.sqnr_db:g} dB, "
        f"got {figures.sqnr_db:.1f} dB (cosine {figures.cosine:.4f})"
        for name, figures in agreement.heads.items()
        if figures.sqnr_db < thresholds.sqnr_db
    ]
    panoptic = agreement.panoptic
    if panoptic is None:
        return tuple(failures)
    ties = panoptic.ties if precision in ("float32", "float16") else 0.0
    if panoptic.equal_pixels + ties < thresholds.equal_pixels:
        failures.append(
            f"panoptic map: expected at least {100 * thresholds.equal_pixels:g} % equal pixels, "
            f"got {100 * panoptic.equal_pixels:.2f} % "
            f"(another {100 * panoptic.ties:.2f} % are ties)"
        )
    if panoptic.pq is not None and panoptic.pq < thresholds.pq:
        failures.append(
            f"panoptic map: expected PQ of at least {thresholds.pq:g} against the reference, "
            f"got {panoptic.pq:.1f}"
        )
    return tuple(failures)
