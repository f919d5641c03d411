"""What counts as agreement: limits with defaults, a bundle's own, and the user's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from panokit.bundle import Artifact, Manifest
from panokit.config import read_settings, write_settings
from panokit.errors import ArgumentError

__all__ = ["ValidationConfig", "thresholds_for"]


@dataclass(frozen=True)
class ValidationConfig:
    """Limits of agreement with the reference, each stage given the device's previous one.

    Within the limit a stage passes *with rounding*; it passes without remark if its tensors are
    equal, the input to half an 8-bit step, a head to ``exact_sqnr_db``, an effect to one step.

    ``input_max_abs``, ``input_mean_abs``: 8-bit steps. ``head_sqnr_db``: least signal to
    difference of a head, dB. ``panoptic_pq`` 0..100 and ``panoptic_equal_pixels`` 0..1: least
    agreement of the map once ties and rounding are excused; ``panoptic_exact_pixels`` 0..1 the same
    where the device's own heads are known, so that the map has one answer.
    ``panoptic_segment_errors`` 0..1: the largest share of any one segment that may have no
    explanation. ``panoptic_explained`` 0..1: the largest share of the map that may be ties and
    rounding. ``effect_psnr_db``: of a picture.
    ``kernel_factor``: quantised sums round differently in other kernels, and by how much depends on
    the photo; so a quantised artifact's heads may also differ by this many times what the runtime's
    own two sets of kernels differ (in power; 0: not).
    """

    input_max_abs: float = 2.0
    input_mean_abs: float = 0.25
    head_sqnr_db: float = 25.0
    exact_sqnr_db: float = 80.0
    panoptic_pq: float = 97.0
    panoptic_equal_pixels: float = 0.995
    panoptic_exact_pixels: float = 0.9995
    panoptic_segment_errors: float = 0.05
    panoptic_explained: float = 0.25
    effect_psnr_db: float = 35.0
    kernel_factor: float = 2.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value < 0:
                raise ArgumentError(name, f"{name} is {value!r}; expected a finite number from 0")
        for name, most in _MOST.items():
            if getattr(self, name) > most:
                raise ArgumentError(
                    name, f"{name} is {getattr(self, name)!r}; expected at most {most}"
                )

    def to_json(self) -> dict[str, float]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        return write_settings(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ValidationConfig:
        """Read what :meth:`to_json` wrote; unknown names are an error."""
        return read_settings(cls, data, "thresholds")


_MOST = {
    "panoptic_pq": 100,
    "panoptic_equal_pixels": 1,
    "panoptic_exact_pixels": 1,
    "panoptic_segment_errors": 1,
    "panoptic_explained": 1,
}
# int8 kernels round differently between runtimes; float ones differ by float16 at most.
_BY_PRECISION = {
    "int8": {"head_sqnr_db": 25.0},
    "": {"head_sqnr_db": 35.0},
}


def thresholds_for(
    manifest: Manifest, artifact: Artifact, overrides: Mapping[str, float] | None = None
) -> tuple[ValidationConfig, dict[str, str]]:
    """The limits for an artifact, and where each comes from.

    Defaults by precision, then the manifest's ``recipe["validation"]`` (names of
    :class:`ValidationConfig`, and under ``"artifacts"`` the same by artifact name), then
    ``overrides``. Sources are ``"default"``, ``"bundle"`` and ``"override"``.
    """
    values: dict[str, Any] = ValidationConfig().to_json()
    values |= _BY_PRECISION.get(artifact.precision, _BY_PRECISION[""])
    sources = dict.fromkeys(values, "default")
    own = manifest.recipe.get("validation", {})
    if not isinstance(own, Mapping):
        raise ArgumentError(
            "recipe['validation']",
            f"recipe['validation'] is {own!r}; expected an object of thresholds",
        )
    by_artifact = own.get("artifacts", {})
    special = by_artifact.get(artifact.name, {}) if isinstance(by_artifact, Mapping) else {}
    general = {k: v for k, v in own.items() if k != "artifacts"}
    for given, source in ((general, "bundle"), (special, "bundle"), (overrides or {}, "override")):
        values |= given
        sources |= dict.fromkeys(given, source)
    return ValidationConfig.from_json(values), sources
