"""Compare a dump with the reference, stage by stage.

Every stage is compared twice: *given* the device's own previous stage (what the reference computes
from the device's input, from its heads, from its map), so that one fault shows at one stage; and
along the *chain* that the reference computes from the photo alone, which shows what the faults
add up to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.agreement import TensorAgreement, compare_tensors
from panokit.bundle import Artifact, TensorSpec
from panokit.decoding import PanopticMap
from panokit.dump import HEADS, Dump
from panokit.errors import ArgumentError, DumpError
from panokit.preprocessing import TransformRecord
from panokit.runtime import dequantize
from panokit_validation.effects import reference_effect
from panokit_validation.evidence import joint_step
from panokit_validation.maps import MapAgreement, compare_maps
from panokit_validation.margins import Tolerances
from panokit_validation.reference import ReferenceStages
from panokit_validation.ties import Explanation, explain_map

__all__ = ["Comparison", "StageComparison", "compare_dump", "foreign_artifact", "head_step"]

RawHeads = dict[str, NDArray[Any]]

MAX_UNEXPLAINED = 0.1
"""The share of a map without explanation from which on no other heads are tried."""

_HOPELESS_DB = 3.0
"""Heads that lie further apart than this are not explained by other kernels."""


@dataclass(frozen=True)
class StageComparison:
    """One stage of one dump.

    ``given``: the device's tensor against what the reference computes from the device's ``basis``
    (``"photo"``, ``"input"``, ``"heads"`` or ``"panoptic"``). ``chain``: against what the
    reference computes from the photo alone; None without a photo. For the map, ``pixels`` tells
    ties and rounding from errors, and ``adjusted`` is the agreement when those are excused.
    ``kernels``, where a quantised artifact's head differs much: how far the heads lie that the
    runtime's plain kernels give, and (of a dump without its input) those of an input that differs
    by 1 of 255 here and there.
    """

    stage: str
    basis: str
    given: TensorAgreement | MapAgreement
    chain: TensorAgreement | MapAgreement | None = None
    explanation: Explanation | None = None
    adjusted: MapAgreement | None = None
    kernels: TensorAgreement | None = None


@dataclass(frozen=True)
class Comparison:
    """All stages of a dump that could be compared, in the order of the pipeline. ``joint_step``:
    what all values of all heads are multiples of, where they were quantised together."""

    stages: tuple[StageComparison, ...]
    warnings: tuple[str, ...] = ()
    joint_step: float | None = None

    def get(self, stage: str) -> StageComparison | None:
        """A stage by name, or None."""
        return next((s for s in self.stages if s.stage == stage), None)


UNSEEN_INPUT = "input was not compared: neither the dump nor --photos has the photo"
UNTOLD_CLASSES = "the classes of panoptic were not compared: the dump has no 'segments'"


def compare_dump(
    reference: ReferenceStages,
    *,
    input_tolerance: float = 1.0,
    explain: bool = True,
    kernels_below_db: float = 0.0,
) -> Comparison:
    """Compare every stage that the dump holds and the reference can compute.

    ``input_tolerance`` (8-bit steps) is what the input's ``outside`` counts beyond; for a head it
    is one quantisation step, or the rounding of float16. ``explain=False`` leaves the pixels of the
    map unsorted. Heads of a quantised artifact at less than ``kernels_below_db`` are compared with
    what other healthy devices give, too. A dump of which
    nothing can be compared raises ``DumpError``.
    """
    stages: list[StageComparison] = []
    dump = reference.dump
    warnings = foreign_artifact(dump, reference.artifact)
    if reference.device_image is not None and reference.image is not None:
        a = compare_tensors(
            reference.device_image, reference.image, tolerance=input_tolerance, data_range=255
        )
        stages.append(StageComparison("input", "photo", a, a))
    elif reference.device_image is not None:
        warnings.append(UNSEEN_INPUT)
    stages += _heads(reference, kernels_below_db)
    if "panoptic" in dump.tensors:
        warnings += _unlisted(reference)
        if reference.given_panoptic is not None:
            stages.append(_panoptic(reference, explain))
        else:
            warnings.append(f"panoptic was not compared: {why_no_map(reference.transform)}")
    for name in dump.tensors:
        if name.startswith("effect."):
            _effect(reference, name, stages, warnings)
    if not stages:
        raise nothing_to_compare(dump, reference.transform)
    return Comparison(tuple(stages), tuple(warnings), joint_step(reference.device_raw))


def why_no_map(transform: TransformRecord | None) -> str:
    """Why the map of a dump cannot be computed from what else it holds."""
    if transform is not None:
        return "neither heads, input nor photo lead to it"
    return (
        "neither 'photo' nor 'transform' says where the photo lies in the input; dump one of them, "
        "or give the photos (--photos)"
    )


def nothing_to_compare(dump: Dump, transform: TransformRecord | None) -> DumpError:
    """What is said of a dump of which no stage leads to another."""
    reason = "holds no stage that can be compared with another"
    if transform is None:
        reason += "; dump 'photo' or 'input' as well, or give the photos (--photos)"
    return DumpError(dump.path or "dump", reason)


def foreign_artifact(dump: Dump, artifact: Artifact) -> list[str]:
    """A warning if the device ran another file than the bundle's."""
    sha, expected = dump.metadata.get("artifact_sha256"), artifact.sha256
    if sha is None or sha == expected:
        return []
    return [
        f"the device ran another file than the bundle's {artifact.name} "
        f"({sha[:12]}… instead of {expected[:12]}…)"
    ]


def _unlisted(reference: ReferenceStages) -> list[str]:
    """What the dump's ``segments`` leave open."""
    told = reference.device_classes
    if told is None:
        return [UNTOLD_CLASSES]
    found = set(np.unique(reference.dump.tensors["panoptic"]).tolist()) - {0} - set(told)
    if not found:
        return []
    named = ", ".join(str(i) for i in sorted(found)[:5]) + (", …" if len(found) > 5 else "")
    return [
        f"panoptic has ids without an entry in 'segments' ({named}): they have no class and match "
        "nothing"
    ]


def _heads(reference: ReferenceStages, kernels_below_db: float) -> list[StageComparison]:
    device, given, chain = reference.device_raw, reference.given_raw, reference.raw
    if not device or given is None:
        return []
    specs = reference.artifact.outputs
    basis = "photo" if reference.device_image is None else "input"
    stages = []
    for name, values in device.items():
        expected = dequantize({name: given[name]}, specs)[name]
        real = dequantize({name: values}, specs)[name]
        step = head_step(specs[name], expected)
        a = compare_tensors(real, expected, tolerance=step)
        b: TensorAgreement | None = None
        if chain is not None:
            own = chain is given or np.array_equal(chain[name], given[name])
            full = expected if own else dequantize({name: chain[name]}, specs)[name]
            b = a if own else compare_tensors(real, full, tolerance=step, shift=False)
        kernels: TensorAgreement | None = None
        near = _HOPELESS_DB < a.sqnr_db < kernels_below_db
        if near:
            healthy = [dequantize({name: raw[name]}, specs)[name] for raw in reference.other_raw]
            others = [compare_tensors(v, expected, tolerance=step, shift=False) for v in healthy]
            kernels = min(others, key=lambda other: other.sqnr_db, default=None)
        stages.append(StageComparison(name, basis, a, b, kernels=kernels))
    return stages


def head_step(spec: TensorSpec, values: NDArray[np.float32]) -> float:
    """One quantisation step of a head; for a float head float16's rounding of its largest value."""
    return float(spec.scale) if spec.scale else float(np.abs(values).max()) * 2.0**-11


def _panoptic(reference: ReferenceStages, explain: bool) -> StageComparison:
    given, chain = reference.given_panoptic, reference.panoptic
    if given is None:  # the caller has looked
        raise ArgumentError("reference", "the reference has no map to compare with")
    ids = reference.dump.tensors["panoptic"]
    if ids.shape != given.ids.shape:
        raise reference._unfit("panoptic", given.ids.shape, ids.shape)
    has_heads = bool(reference.device_raw)
    basis = "heads" if has_heads else "photo" if reference.device_image is None else "input"

    of_device = reference.device_classes

    def agreement(map_: PanopticMap) -> MapAgreement:
        theirs = {s.id: s.channel for s in map_.segments}
        return compare_maps(ids, map_.ids, None if of_device is None else (of_device, theirs))

    a = agreement(given)
    explanation = adjusted = None
    if explain and a.equal_pixels < 1:
        explanation = _explained(reference, ids)
        pair = (explanation.left_classes, explanation.classes)
        known = None if pair[0] is None else (pair[0], pair[1])
        adjusted = compare_maps(explanation.left, explanation.ids, known)
    b = a if chain is given else None if chain is None else agreement(chain)
    return StageComparison("panoptic", basis, a, b, explanation, adjusted)


def _explained(reference: ReferenceStages, ids: NDArray[Any]) -> Explanation:
    """How the device's map follows from its heads. Where the dump does not hold them, from the
    reference's, or from those that a healthy device may have had instead, whichever explain it
    best."""
    transform = reference.transform
    if reference.mixed_raw is None or transform is None:  # there is no map without them
        raise ArgumentError("reference", "the reference has no map to compare with")
    best: Explanation | None = None
    for raw in reference.possible_raw():
        heads, side = reference.heads(raw), max(transform.input_wh)
        if reference.knows_heads:
            tolerances = Tolerances.exact(heads, side)
        else:
            specs, spread = reference.artifact.outputs, reference.resize_spread
            semantic, center, offset = (
                0.0
                if n in reference.device_raw
                else max(float(specs[n].scale or 0), spread.get(n, 0.0))
                for n in HEADS
            )
            tolerances = Tolerances.rounded(heads, side, (semantic, center, offset))
        found = explain_map(
            ids,
            heads,
            reference.segmenter.taxonomy,
            transform,
            reference.manifest.center_offset,
            tolerances,
            reference.device_classes,
        )
        if best is None or found.left_over < best.left_over:
            best = found
        # Healthy devices differ by a percent or two; no other heads explain a wrong map.
        if not best.left_over or best.left_over > MAX_UNEXPLAINED * ids.size:
            break
    if best is None:
        raise ArgumentError("reference", "the reference has no map to compare with")
    return best


def _effect(
    reference: ReferenceStages, name: str, stages: list[StageComparison], warnings: list[str]
) -> None:
    expected, basis, problem = reference_effect(name.removeprefix("effect."), reference)
    if expected is None:
        warnings.append(f"{name} was not compared: {problem}")
        return
    values = reference.dump.tensors[name]
    if values.shape != expected.shape:
        raise reference._unfit(name, expected.shape, values.shape)
    a = compare_tensors(values, expected, tolerance=2, data_range=255)
    stages.append(StageComparison(name, basis, a))
