"""Why a device differs: hypotheses from the bank, replayed and ranked by what they explain.

Each stage of a dump is looked at given the device's own previous stage, so that a fault is found
where it happened: in the input tensor if the dump holds it, else by replaying hypotheses through
the network, else through the decoding as well. A hypothesis explains 1 - r/r0 of a difference,
where r0 is the distance between the device and the reference and r that between the device and
the reference with the fault. One fault is preferred to two. Where nothing explains enough, the
cause is ``"unknown"``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from panokit.dump import HEADS, Dump
from panokit.photo import Photo
from panokit.segmenter import Segmenter
from panokit_validation import evidence
from panokit_validation.device import real_heads
from panokit_validation.diagnosis.cause import Cause, Diagnosis, DiagnosisConfig, Finding
from panokit_validation.diagnosis.heads import explain_heads
from panokit_validation.diagnosis.hypotheses import (
    INPUT_STEPS,
    Score,
    conclude,
    hypotheses,
    stale,
)
from panokit_validation.diagnosis.maps import explain_map
from panokit_validation.diagnosis.replay import Replay, is_large
from panokit_validation.effects import PORTRAIT, effect_of, reference_effect
from panokit_validation.faults import effect, tensor
from panokit_validation.faults.app import App
from panokit_validation.faults.bank import FAULTS
from panokit_validation.faults.model import Step, Variant
from panokit_validation.reference import ReferenceStages

__all__ = ["diagnose"]

INPUT_FLOOR = (0.5 / 64) ** 2
"""Half an 8-bit step of a picture with a deviation of 64: rounding."""
EFFECT_FLOOR = (2.0 / 64) ** 2
"""A picture that lies this near was made in another arithmetic."""
SAME_SCENE, SAME_COLORS = 0.45, 0.7
"""Pictures below both show different things: two photos reach 0.4 and 0.6 by chance, a photo and
itself zoomed 0.5, turned by some degrees 0.8 of the colours."""


def diagnose(
    dump: Dump,
    segmenter: Segmenter,
    photo: Photo | None = None,
    config: DiagnosisConfig | None = None,
    others: Sequence[Photo] = (),
    failing: Collection[str] = (),
) -> Diagnosis:
    """Find what explains the difference between a dump and the reference.

    ``photo`` stands in for a dump without its own, and tells the EXIF orientation of the file;
    ``others`` are photos whose result may have been mixed up with this one's. A dump that agrees
    gives no finding. ``failing`` are stages that a verdict found wrong: they are looked into even
    if so much may be rounding. Shapes that do not fit the artifact raise ``DumpError``.
    """
    replay = Replay(dump, segmenter, photo, config or DiagnosisConfig(), others, failing)
    return Diagnosis(dump.name, tuple(_findings(replay)))


def _findings(x: Replay) -> list[Finding]:
    """What differs, in the order of the pipeline. Behind a stage that nothing explains,
    unexplained stages are not listed again."""
    found: list[Finding] = _defects(x)
    shown = {f.stage for f in found}
    for explain in (_input, _other_artifact, _heads, _panoptic, _effect):
        finding = explain(x)
        if finding is None or finding.stage in shown:
            continue
        if any(c.name == "stale-photo" for c in finding.causes):
            return [*found, finding]  # what follows belongs to the other photo
        lost = any(c.name == "unknown" for f in found for c in f.causes)
        if not (lost and any(c.name == "unknown" for c in finding.causes)):
            found.append(finding)
    return found


_DEFECT_FAULTS = {"not-finite": "head-not-finite", "big-endian": "input-big-endian"}


def _defects(x: Replay) -> list[Finding]:
    """What the numbers themselves show: one finding a stage."""
    found: dict[str, Finding] = {}
    for name, defect in x.dump.defects.items():
        stage = "heads" if name in HEADS else name
        fault = FAULTS[_DEFECT_FAULTS[defect.kind]]
        title = f"{name} {defect.reason}"
        labels = {v.label for v in fault.variants}
        variant = next((word for word in ("nan", "inf") if word in defect.reason), "")
        variant = variant if variant in labels else ""
        cause = Cause(fault.name, stage, title, fault.advice, 1.0, variant, certain=True)
        found.setdefault(stage, Finding(stage, 1.0, (cause,)))
    return list(found.values())


def _input(x: Replay) -> Finding | None:
    values, config = x.values, x.config
    if values is None or x.photo is None:
        return None
    expected = x.picture(App())[0]
    distance = np.abs(values - expected)
    if distance.max() <= config.input_max_abs and distance.mean() <= config.input_mean_abs:
        return None
    base = evidence.noise_to_signal(values, expected)
    large = is_large(x.photo)

    def judge(app: App) -> Score:
        residual = evidence.noise_to_signal(values, x.picture(app)[0])
        tensor = [fault for fault, _ in app.having(Step.TENSOR)]
        any_artifact = tensor and all(f.precision == "any" for f in tensor)
        if x.artifact.input.scale is not None and any_artifact:
            # The dump may hold the app's floats from before they were quantised.
            floats = x.picture(app, unrounded=True)[0]
            residual = min(residual, evidence.noise_to_signal(values, floats))
        if app.having(Step.COLOR) and large and residual < 0.5 * base:
            exactly = x.picture(app, exact=True)[0]
            residual = min(residual, evidence.noise_to_signal(values, exactly))
        return Score(residual, residual <= INPUT_FLOOR)

    for other in x.others:
        residual = evidence.noise_to_signal(values, x.picture(App(), other)[0])
        if residual <= INPUT_FLOOR:
            return stale("input", base, 1 - residual / base, other.name, certain=True)

    def unrelated() -> Finding | None:
        if not evidence.looks_like_a_photo(values):
            return None
        likeness = evidence.same_scene(values, expected)
        alike = evidence.same_colors(values, expected)
        if likeness >= SAME_SCENE or alike >= SAME_COLORS:
            return None
        return stale("input", base, 1 - likeness)

    singles = hypotheses(INPUT_STEPS, x.artifact.input.scale is not None)
    padding = evidence.row_padding(values, expected)
    if padding is not None:
        fault = FAULTS["row-stride"]
        singles.append((fault, Variant("observed", tensor.reread_rows(padding, values))))
    moved = evidence.movement(values, expected)
    if max(map(abs, moved)) > 1:
        fault = FAULTS["letterbox-moved"]
        singles.append((fault, Variant("observed", {"shift_yx": moved})))
    finding = conclude("input", base, singles, judge, config, config.explains, unrelated)
    x.adopt(finding)
    return finding


def _other_artifact(x: Replay) -> Finding | None:
    """The hash is a fact; how much it explains is measured where that can be replayed."""
    if not x.is_foreign:
        return None
    fault, own = FAULTS["other-artifact"], x.segmenter.artifact
    sha = x.dump.metadata["artifact_sha256"]
    known = x.artifact.name != own.name
    label = x.artifact.name if known else f"{sha[:12]}…"
    difference, explained = 0.0, 1.0
    values = x.values
    if values is None and x.photo is not None:
        values = x.picture(x.app)[0]
    if known and x.device_heads and values is not None:
        expected = real_heads(x.device(own).run(values), own)
        difference = _mean(evidence.head_noise(x.device_heads, expected))
        replayed = x.run(x.app)[0]
        left = _mean(evidence.head_noise(x.device_heads, replayed))
        explained = max(0.0, 1 - left / difference) if difference else 1.0
    cause = Cause(fault.name, "heads", fault.title, fault.advice, explained, label, certain=True)
    return Finding("heads", difference, (cause,))


def _heads(x: Replay) -> Finding | None:
    if not x.device_heads or (x.values is None and x.photo is None):
        return None
    if x.is_foreign and x.artifact.name == x.segmenter.artifact.name:
        return None  # another file that cannot be replayed; the hash says so
    finding = explain_heads(x)
    if finding is not None:
        x.adopt(finding)
    return finding


def _panoptic(x: Replay) -> Finding | None:
    if "panoptic" not in x.dump.tensors:
        return None
    complete = len(x.device_heads) == len(HEADS)
    replayable = x.values is not None or x.photo is not None
    if not complete and (
        not replayable or (x.is_foreign and x.artifact.name == x.segmenter.artifact.name)
    ):
        return None
    return explain_map(x, complete)


def _effect(x: Replay) -> Finding | None:
    """The finished picture, given the device's own map."""
    if PORTRAIT not in x.dump.tensors or x.photo is None:
        return None
    reference = ReferenceStages(x.dump, x.segmenter, x.photo)
    expected, _, _ = reference_effect(PORTRAIT.removeprefix("effect."), reference)
    picture = x.dump.tensors[PORTRAIT]
    if expected is None or expected.shape != picture.shape:
        return None
    base = evidence.noise_to_signal(picture, expected)
    if base <= EFFECT_FLOOR:
        return None
    known: dict[tuple[tuple[str, float], ...], NDArray[np.uint8] | None] = {}

    def make(**settings: float) -> NDArray[np.uint8] | None:
        key = tuple(sorted(settings.items()))
        if key not in known:
            known[key] = effect_of(reference, **settings) if settings else expected
        return known[key]

    def judge(app: App) -> Score:
        replayed = app.effect(make)
        if replayed is None:
            return Score(base, False)
        residual = evidence.noise_to_signal(picture, replayed)
        return Score(residual, residual <= EFFECT_FLOOR)

    singles = hypotheses((Step.EFFECT,), x.quantised)
    padding = evidence.row_padding(picture, expected)
    if padding is not None:
        observed = Variant("observed", effect.padded_rows(padding, picture))
        singles.append((FAULTS["effect-row-stride"], observed))
    return conclude(PORTRAIT, base, singles, judge, x.config, x.config.explains)


def _mean(noise: dict[str, float]) -> float:
    return sum(noise.values()) / max(1, len(noise))
