"""From a comparison to a verdict: pass, pass with rounding or fail, and the first bad stage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from panokit.agreement import TensorAgreement
from panokit.decoding import PostprocessConfig
from panokit.dump import HEADS, METADATA, STAGES, Dump
from panokit.photo import Photo
from panokit.segmenter import Segmenter
from panokit_validation.compare import Comparison, StageComparison, compare_dump
from panokit_validation.contracts import (
    ContractReference,
    compare_contract,
    find_contract_causes,
)
from panokit_validation.diagnosis import Cause
from panokit_validation.diagnosis import diagnose as find_causes
from panokit_validation.diagnosis.hypotheses import unknown
from panokit_validation.maps import MapAgreement
from panokit_validation.reference import ReferenceStages
from panokit_validation.thresholds import ValidationConfig, thresholds_for
from panokit_validation.ties import ERROR, ROUNDING, TIE

__all__ = [
    "PhotoVerdict",
    "StageVerdict",
    "Verdict",
    "floor_percent",
    "judge",
    "validate_dump",
    "worst",
]


MAX_CAUSES = 10
"""Causes kept a photo: what the diagnosis concluded, then what else it considered."""


class Verdict(StrEnum):
    """What came of a comparison; ``ROUNDING`` is a pass whose differences have been explained."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    ROUNDING = "pass with rounding"
    FAIL = "fail"


_ORDER = (Verdict.PASS, Verdict.ROUNDING, Verdict.FAIL)


def worst(verdicts: tuple[Verdict, ...] | list[Verdict]) -> Verdict:
    """The worst of some verdicts; of none ``PASS``."""
    return max(verdicts, key=_ORDER.index, default=Verdict.PASS)


@dataclass(frozen=True)
class StageVerdict:
    """One stage of one photo.

    ``figures`` compare with what the reference computes from the device's ``basis``; ``chain``
    (None without a photo) with what it computes from the photo alone. ``segments`` lists the
    map's segments.
    """

    stage: str
    verdict: Verdict
    basis: str
    figures: dict[str, Any]
    chain: dict[str, Any] | None
    message: str
    segments: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        data = {**asdict(self), "verdict": self.verdict.value, "segments": list(self.segments)}
        if self.stage != "panoptic":
            del data["segments"]
        return data


@dataclass(frozen=True)
class PhotoVerdict:
    """One photo: all compared stages in the order of the pipeline.

    ``metadata`` is the dump's (device, OS, runtime …), ``causes`` what the diagnosis names, best
    first, ``thresholds`` the limits that were applied.
    """

    photo: str
    stages: tuple[StageVerdict, ...]
    warnings: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    thresholds: ValidationConfig = field(default_factory=ValidationConfig)
    dump: str = ""

    @property
    def first_bad_stage(self) -> str | None:
        """The first stage that fails, or None."""
        return next((s.stage for s in self.stages if s.verdict is Verdict.FAIL), None)

    @property
    def verdict(self) -> Verdict:
        """The worst of the stages'."""
        return worst([s.verdict for s in self.stages])

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "photo": self.photo,
            "dump": self.dump,
            "verdict": self.verdict.value,
            "first_bad_stage": self.first_bad_stage,
            "causes": [c.to_json() for c in self.causes],
            "stages": [s.to_json() for s in self.stages],
            "warnings": list(self.warnings),
            "metadata": {k: self.metadata[k] for k in METADATA if k in self.metadata},
            "thresholds": self.thresholds.to_json(),
        }


def validate_dump(
    dump: Dump,
    segmenter: Segmenter,
    config: ValidationConfig | None = None,
    photo: Photo | None = None,
    *,
    diagnose: bool = False,
) -> PhotoVerdict:
    """Compare a dump with the reference on the same artifact, and judge it.

    Each stage is judged against what the reference computes from the device's *previous* stage
    where the dump holds it (input from photo, heads from input, map from heads), so one fault
    shows once. ``config`` replaces the bundle's thresholds; ``photo`` stands in for a dump without
    its own. ``diagnose`` looks for the cause of a failure; it never changes the verdict. Raises
    ``DumpError`` for a dump that does not fit the artifact.
    """
    config = config or thresholds_for(segmenter.bundle.manifest, segmenter.artifact)[0]
    if not isinstance(segmenter.bundle.manifest.postprocessing, PostprocessConfig):
        return _validate_contract(ContractReference(dump, segmenter, photo), config, diagnose)
    reference = ReferenceStages(dump, segmenter, photo)
    comparison = compare_dump(
        reference,
        input_tolerance=config.input_max_abs,
        kernels_below_db=config.head_sqnr_db if config.kernel_factor > 0 else 0.0,
    )
    verdict = judge(comparison, dump, config)
    if not diagnose or verdict.verdict is not Verdict.FAIL:
        return verdict
    failing = {s.stage for s in verdict.stages if s.verdict is Verdict.FAIL}
    causes = list(find_causes(dump, segmenter, photo, failing=failing).causes)
    # No alarm about a stage that passed, unless a fact speaks for it.
    groups = failing | ({"heads"} if failing & set(HEADS) else set())
    causes = [c for c in causes if c.stage in groups or c.certain or not c.alarm]
    named = {c.stage for c in causes if c.alarm}
    if not named and verdict.first_bad_stage is not None:
        # A failing stage has a cause, if only "unknown".
        causes[:0] = unknown(verdict.first_bad_stage, 0.0).causes
    return replace(verdict, causes=tuple(causes[:MAX_CAUSES]))


def _validate_contract(
    reference: ContractReference, config: ValidationConfig, diagnose: bool
) -> PhotoVerdict:
    """The same for networks of other contracts than ``center-offset``."""
    stages, warnings = compare_contract(reference)
    verdict = judge(Comparison(stages, tuple(warnings)), reference.dump, config)
    if not diagnose or verdict.verdict is not Verdict.FAIL:
        return verdict
    failing = [s.stage for s in verdict.stages if s.verdict is Verdict.FAIL]
    causes = find_contract_causes(reference, failing)
    return replace(verdict, causes=tuple(causes[:MAX_CAUSES]))


def judge(comparison: Comparison, dump: Dump, config: ValidationConfig) -> PhotoVerdict:
    """The verdict on a comparison."""
    defects = dump.defects
    stages = [_stage(s, config) for s in comparison.stages]
    stages = [
        replace(s, verdict=Verdict.FAIL, message=defects[s.stage].reason)
        if s.stage in defects
        else s
        for s in stages
    ]
    heads = [s for s in stages if s.stage in HEADS]
    if comparison.joint_step is not None and worst([s.verdict for s in heads]) is not Verdict.FAIL:
        # Near enough, but no artifact gives such heads by itself.
        told = f"is a multiple of {comparison.joint_step:.4g}, as all heads: quantised together"
        stages = [
            replace(s, verdict=Verdict.FAIL, message=told) if s in heads else s for s in stages
        ]
    seen = {s.stage for s in stages}
    stages += [
        StageVerdict(name, Verdict.FAIL, "itself", {}, None, defect.reason)
        for name, defect in defects.items()
        if name not in seen
    ]
    stages.sort(key=lambda s: STAGES.index(s.stage) if s.stage in STAGES else len(STAGES))
    return PhotoVerdict(
        photo=dump.name,
        stages=tuple(stages),
        warnings=comparison.warnings,
        metadata=dict(dump.metadata),
        thresholds=config,
        dump=dump.path,
    )


def _stage(s: StageComparison, config: ValidationConfig) -> StageVerdict:
    if isinstance(s.given, MapAgreement):
        verdict, message = _map(s, s.given, config)
    elif s.stage == "input":
        verdict, message = _input(s.given, config)
    elif s.stage.startswith("effect."):
        verdict, message = _picture(s.given, config)
    else:
        verdict, message = _head(s, s.given, config)
    figures = s.given.to_json()
    if s.kernels is not None:
        figures["kernels_sqnr_db"] = round(s.kernels.sqnr_db, 6)
    if s.explanation is not None:
        figures |= s.explanation.to_json()
    if s.adjusted is not None:
        figures["pq_without_rounding"] = round(s.adjusted.pq, 6)
        figures["equal_pixels_without_rounding"] = round(s.adjusted.equal_pixels, 6)
    segments: tuple[dict[str, Any], ...] = ()
    if isinstance(s.given, MapAgreement):
        segments = tuple(entry.to_json() for entry in s.given.segments)
    chain = None if s.chain is None else s.chain.to_json()
    return StageVerdict(s.stage, verdict, s.basis, figures, chain, message, segments)


def _grade(exact: bool, within: bool) -> Verdict:
    return Verdict.PASS if exact else Verdict.ROUNDING if within else Verdict.FAIL


def _input(a: TensorAgreement, config: ValidationConfig) -> tuple[Verdict, str]:
    within = a.max_abs <= config.input_max_abs and a.mean_abs <= config.input_mean_abs
    message = (
        f"differs from the reference's by at most {a.max_abs:.3g} of 255, {a.mean_abs:.3g} on "
        f"average{_moved(a)}"
    )
    equal = a.max_abs <= 0.5
    return _grade(equal and within, within), "equals the reference's" if a.max_abs == 0 else message


_AS_KERNELS = "; no more than healthy devices differ on this photo"


def _head(s: StageComparison, a: TensorAgreement, config: ValidationConfig) -> tuple[Verdict, str]:
    if a.max_abs == 0:
        return Verdict.PASS, "equals the reference's on the device's input"
    within = a.sqnr_db >= config.head_sqnr_db
    message = f"differs from the reference's at {a.sqnr_db:.1f} dB{_moved(a)}"
    if not within and s.kernels is not None:  # not asked for if the factor is 0
        limit = s.kernels.sqnr_db - 10 * math.log10(config.kernel_factor)
        if a.sqnr_db >= limit:
            return Verdict.ROUNDING, message + _AS_KERNELS
    return _grade(within and a.sqnr_db >= config.exact_sqnr_db, within), message


def _map(s: StageComparison, a: MapAgreement, config: ValidationConfig) -> tuple[Verdict, str]:
    if a.equal_pixels == 1:
        return Verdict.PASS, "has the reference's segments, pixel for pixel"
    left = s.adjusted or a
    within = left.pq >= config.panoptic_pq and left.equal_pixels >= config.panoptic_equal_pixels
    parts = [f"{floor_percent(a.equal_pixels)} of the pixels agree"]
    named = ("missing", "extra", "split", "merged")
    parts += [f"{getattr(a, n)} {n}" for n in named if getattr(a, n)]
    if a.class_flips:
        parts.append(f"{a.class_flips} of another class")
    message = ", ".join(parts)
    found = s.explanation
    if found is not None:
        tie, rounding, error = (found.pixels.share(k) for k in (TIE, ROUNDING, ERROR))
        message += f" ({tie:.2%} ties, {rounding:.2%} rounding, {error:.2%} errors)"
        if found.exact:
            within &= left.equal_pixels >= config.panoptic_exact_pixels
        within &= found.worst_segment <= config.panoptic_segment_errors
        within &= tie + rounding <= config.panoptic_explained
    return _grade(False, within), message


def floor_percent(share: float) -> str:
    """A share 0..1 in percent, rounded down, so that 100 means all."""
    return f"{math.floor(share * 10000) / 100:.2f}%"


def _picture(a: TensorAgreement, config: ValidationConfig) -> tuple[Verdict, str]:
    within = a.psnr_db >= config.effect_psnr_db
    message = f"differs from the reference's picture at {a.psnr_db:.1f} dB PSNR{_moved(a)}"
    return _grade(within and a.max_abs <= 1, within), message


def _moved(a: TensorAgreement) -> str:
    dy, dx = a.shift_yx
    if abs(dy) < 0.05 and abs(dx) < 0.05:
        return ""
    return f"; it seems moved by {dy:+.2f} down, {dx:+.2f} right"
