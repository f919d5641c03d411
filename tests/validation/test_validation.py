"""Agreement passes; each injected fault fails at its own stage, and ties are no faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from panokit.dump import Dump
from panokit.errors import ArgumentError, DumpError
from panokit.segmenter import Segmenter
from panokit.taxonomy import Taxonomy
from panokit_validation import (
    MapAgreement,
    ReferenceStages,
    ValidationConfig,
    Verdict,
    compare_dump,
    thresholds_for,
    validate_dump,
)
from panokit_validation.ties import ERROR, ROUNDING, TIE
from tests.toys.segmenter import toy_dump, toy_segmenter


@pytest.fixture
def segmenter(taxonomy: Taxonomy) -> Segmenter:
    return toy_segmenter(taxonomy)


@pytest.fixture
def dump(segmenter: Segmenter) -> Dump:
    return toy_dump(segmenter)


def test_agreement_passes_at_every_stage(dump: Dump, segmenter: Segmenter) -> None:
    verdict = validate_dump(dump, segmenter)
    assert verdict.verdict is Verdict.PASS
    assert [s.stage for s in verdict.stages] == [
        "input",
        "semantic",
        "center",
        "offset",
        "panoptic",
    ]
    assert verdict.warnings == ()
    assert verdict.to_json()["first_bad_stage"] is None


def bgr(tensors: dict[str, NDArray[Any]]) -> None:
    tensors["input"] = tensors["input"][..., ::-1].copy()


def noisy_semantic(tensors: dict[str, NDArray[Any]]) -> None:
    noise = np.random.default_rng(1).normal(0, 2, tensors["semantic"].shape)
    tensors["semantic"] = tensors["semantic"] + noise.astype(np.float32)


def swapped_offset(tensors: dict[str, NDArray[Any]]) -> None:
    tensors["offset"] = tensors["offset"][..., ::-1] + np.float32(3)


def shifted_map(tensors: dict[str, NDArray[Any]]) -> None:
    tensors["panoptic"] = np.roll(tensors["panoptic"], 3, 1)


@pytest.mark.parametrize(
    ("fault", "stage"),
    [
        (bgr, "input"),
        (noisy_semantic, "semantic"),
        (swapped_offset, "offset"),
        (shifted_map, "panoptic"),
    ],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_a_fault_is_found_at_its_stage(
    dump: Dump, segmenter: Segmenter, fault: Callable[[dict], None], stage: str
) -> None:
    fault(dump.tensors)
    # What follows is computed again from the faulty stage, as a phone would.
    verdict = validate_dump(dump, segmenter)
    assert verdict.verdict is Verdict.FAIL
    assert verdict.first_bad_stage == stage


def test_one_fault_is_not_reported_again_downstream(dump: Dump, segmenter: Segmenter) -> None:
    bgr(dump.tensors)
    image = dump.tensors["input"]
    dump.tensors.update(segmenter.runtime.run(image))
    del dump.tensors["panoptic"]
    verdict = validate_dump(dump, segmenter)
    bad = [s.stage for s in verdict.stages if s.verdict is Verdict.FAIL]
    assert bad == ["input"]


def test_other_numbering_of_segments_is_no_fault(dump: Dump, segmenter: Segmenter) -> None:
    table = np.array([0, 3, 1, 2], np.int32)
    dump.tensors["panoptic"] = table[dump.tensors["panoptic"]]
    segments = json.loads(dump.metadata["segments"])
    moved = [{"id": int(table[s["id"]]), "channel": s["channel"]} for s in segments]
    dump.metadata["segments"] = json.dumps(moved)
    assert validate_dump(dump, segmenter).verdict is Verdict.PASS


@pytest.mark.parametrize(
    "kept",
    [("photo", "input"), ("input", "semantic"), ("semantic", "center", "offset", "panoptic"),
     ("photo", "panoptic")],
    ids=str,
)  # fmt: skip
def test_any_two_stages_that_lead_to_one_another_are_enough(
    dump: Dump, segmenter: Segmenter, kept: tuple[str, ...]
) -> None:
    part = replace(dump, tensors={k: v for k, v in dump.tensors.items() if k in kept})
    assert validate_dump(part, segmenter).verdict is Verdict.PASS


def test_nothing_to_compare_is_an_error(dump: Dump, segmenter: Segmenter) -> None:
    alone = replace(dump, tensors={"photo": dump.tensors["photo"]})
    with pytest.raises(DumpError, match="no stage that can be compared"):
        validate_dump(alone, segmenter)


def test_another_artifact_is_named(dump: Dump, segmenter: Segmenter) -> None:
    dump.metadata["artifact_sha256"] = "00" * 32
    (warning,) = validate_dump(dump, segmenter).warnings
    assert "another file" in warning


def test_wrong_shapes_are_refused(dump: Dump, segmenter: Segmenter) -> None:
    dump.tensors["center"] = dump.tensors["center"][:4]
    with pytest.raises(DumpError, match=r"'center': expected shape \(8, 8, 1\), got \(4, 8, 1\)"):
        validate_dump(dump, segmenter)


def test_thresholds_must_be_possible() -> None:
    with pytest.raises(ArgumentError, match="head_sqnr_db"):
        ValidationConfig(head_sqnr_db=float("nan"))


def test_thresholds_come_from_default_bundle_and_override(taxonomy: Taxonomy) -> None:
    own = {"head_sqnr_db": 40, "artifacts": {"toy": {"panoptic_pq": 90}}}
    segmenter = toy_segmenter(taxonomy, validation=own)
    manifest = segmenter.bundle.manifest
    config, sources = thresholds_for(manifest, segmenter.artifact, {"input_max_abs": 3})
    assert (config.head_sqnr_db, config.panoptic_pq, config.input_max_abs) == (40, 90, 3)
    assert sources["head_sqnr_db"] == sources["panoptic_pq"] == "bundle"
    assert (sources["input_max_abs"], sources["effect_psnr_db"]) == ("override", "default")
    int8 = replace(segmenter.artifact, precision="int8")
    assert thresholds_for(toy_segmenter(taxonomy).bundle.manifest, int8)[0].head_sqnr_db == 25
    assert ValidationConfig.from_json(config.to_json()) == config
    with pytest.raises(ArgumentError, match="one of: input_max_abs"):
        thresholds_for(manifest, segmenter.artifact, {"nonsense": 1})
    with pytest.raises(ArgumentError, match="at most 1"):
        ValidationConfig(panoptic_equal_pixels=2)


def test_rounding_of_heads_passes_with_rounding(dump: Dump, segmenter: Segmenter) -> None:
    for name in ("semantic", "center", "offset"):
        dump.tensors[name] = dump.tensors[name].astype(np.float16)
    verdict = validate_dump(dump, segmenter)
    assert verdict.verdict is Verdict.ROUNDING
    assert verdict.first_bad_stage is None


def test_the_chain_shows_what_one_fault_does_in_the_end(dump: Dump, segmenter: Segmenter) -> None:
    bgr(dump.tensors)
    raw = segmenter.runtime.run(dump.tensors["input"])
    dump.tensors.update(raw)
    given = ReferenceStages(dump, segmenter).given_panoptic
    assert given is not None
    dump.tensors["panoptic"] = given.ids
    dump.metadata["segments"] = json.dumps(
        [{"id": s.id, "channel": s.channel} for s in given.segments]
    )
    comparison = compare_dump(ReferenceStages(dump, segmenter))
    panoptic = comparison.get("panoptic")
    assert panoptic is not None
    assert isinstance(panoptic.given, MapAgreement)
    assert isinstance(panoptic.chain, MapAgreement)
    assert panoptic.given.equal_pixels == 1
    assert panoptic.chain.equal_pixels < 0.9


def flat_heads(dump: Dump, segmenter: Segmenter) -> None:
    """Heads of which sky leads road by exactly nothing in the left half, by 1 in the right."""
    semantic = np.zeros((8, 8, 4), np.float32)
    semantic[..., 1] = 5
    semantic[:, :4, 3] = 5
    semantic[:, 4:, 3] = 4
    dump.tensors["semantic"] = semantic
    dump.tensors["center"] = np.full((8, 8, 1), -9, np.float32)
    dump.tensors["offset"] = np.zeros((8, 8, 2), np.float32)


@pytest.mark.parametrize(
    ("columns", "lead", "kind", "passes"),
    [
        (slice(0, 12), 0.0, TIE, True),
        (slice(0, 12), 0.004, ROUNDING, True),
        (slice(0, 12), 0.2, ERROR, False),
        (slice(20, 32), 0.0, ERROR, False),
    ],
    ids=["tie", "rounding", "beyond rounding", "clear decision"],
)
def test_differing_pixels_are_ties_rounding_or_errors(
    dump: Dump, segmenter: Segmenter, columns: slice, lead: float, kind: int, passes: bool
) -> None:
    flat_heads(dump, segmenter)
    dump.tensors["semantic"][:, :4, 1] += np.float32(lead)
    map_ = np.zeros((32, 32), np.int32)
    map_[4:28] = 1  # the photo's rows; the rest is padding
    map_[4:28, columns] = 2
    dump.tensors["panoptic"] = map_
    dump.metadata["segments"] = '[{"id": 1, "channel": 1}, {"id": 2, "channel": 3}]'
    stage = compare_dump(ReferenceStages(dump, segmenter)).get("panoptic")
    assert stage is not None
    assert stage.explanation is not None
    assert stage.adjusted is not None
    assert stage.explanation.pixels.share(kind) == pytest.approx(24 * 12 / 32**2)
    assert (stage.adjusted.equal_pixels == 1) is passes


@pytest.mark.parametrize(
    ("logit", "kind"), [(0.0, TIE), (0.003, ROUNDING), (1.0, ERROR)],
    ids=["at the threshold", "a hair above", "well above"],
)  # fmt: skip
def test_a_missing_object_is_excused_only_at_the_threshold(
    dump: Dump, taxonomy: Taxonomy, logit: float, kind: int
) -> None:
    segmenter = toy_segmenter(taxonomy, threshold=0.5)  # its logit is 0
    dump.tensors["center"][dump.tensors["center"] > 0] = logit
    person = 1
    dump.tensors["panoptic"][dump.tensors["panoptic"] == person] = 0
    stage = compare_dump(ReferenceStages(dump, segmenter)).get("panoptic")
    assert stage is not None
    assert isinstance(stage.given, MapAgreement)
    assert stage.given.missing == 1
    assert stage.explanation is not None
    assert stage.explanation.pixels.share(kind) == pytest.approx(1 - stage.given.equal_pixels)


def test_a_plateau_of_the_centre_is_no_excuse_for_a_missing_object(
    dump: Dump, segmenter: Segmenter
) -> None:
    dump.tensors["center"][4, 2:4] = 4  # a tie about where the object is, not whether
    dump.tensors["panoptic"][dump.tensors["panoptic"] == 1] = 0
    verdict = validate_dump(dump, segmenter)
    figures = verdict.stages[-1].figures
    assert verdict.stages[-1].verdict is Verdict.FAIL
    assert figures["error_pixels"] > 0.9 * (1 - figures["equal_pixels"])


def test_class_flips_show_where_the_dump_tells_classes(dump: Dump, segmenter: Segmenter) -> None:
    segments = json.loads(dump.metadata["segments"])
    segments[-1]["channel"] = 1 if segments[-1]["channel"] != 1 else 3
    dump.metadata["segments"] = json.dumps(segments)
    stage = validate_dump(dump, segmenter).stages[-1]
    assert (stage.verdict, stage.figures["class_flips"]) == (Verdict.FAIL, 1)
    del dump.metadata["segments"]
    assert validate_dump(dump, segmenter).stages[-1].verdict is Verdict.PASS


def test_float_inputs_between_the_steps_are_run_as_they_are(
    dump: Dump, segmenter: Segmenter
) -> None:
    dump.tensors["input"] = dump.tensors["input"].astype(np.float32) / 255
    dump.tensors.update(segmenter.runtime.run(dump.tensors["input"]))
    verdict = validate_dump(dump, segmenter)
    stages = {s.stage: s for s in verdict.stages}
    assert verdict.first_bad_stage == "input"
    assert stages["semantic"].verdict is Verdict.PASS


@pytest.mark.parametrize("text", ["{", "[1]", '[{"id": 1}]', '{"id": 1}', "[" * 20000], ids=str)
def test_unreadable_segments_are_refused(dump: Dump, segmenter: Segmenter, text: str) -> None:
    dump.metadata["segments"] = text
    with pytest.raises(DumpError, match="'segments'"):
        validate_dump(dump, segmenter)


def test_an_effect_is_compared_given_the_devices_map(dump: Dump, segmenter: Segmenter) -> None:
    from panokit_validation.effects import reference_effect

    picture, basis, _ = reference_effect("portrait_blur", ReferenceStages(dump, segmenter))
    assert basis == "panoptic"
    assert picture is not None
    dump.tensors["effect.portrait_blur"] = picture
    assert validate_dump(dump, segmenter).stages[-1].verdict is Verdict.PASS
    dump.tensors["effect.portrait_blur"] = dump.tensors["photo"][..., ::-1].copy()
    verdict = validate_dump(dump, segmenter)
    assert verdict.first_bad_stage == "effect.portrait_blur"
    dump.tensors["effect.sparkle"] = dump.tensors["photo"]
    (warning,) = validate_dump(dump, segmenter).warnings
    assert "no effect 'sparkle'" in warning


def test_json_has_what_machines_read(dump: Dump, segmenter: Segmenter) -> None:
    bgr(dump.tensors)
    data = json.loads(json.dumps(validate_dump(dump, segmenter).to_json()))
    assert (data["verdict"], data["first_bad_stage"]) == ("fail", "input")
    assert data["thresholds"]["head_sqnr_db"] == 35
    assert data["metadata"]["device"] == "test"
    assert {e["kind"] for e in data["stages"][-1]["segments"]} <= {"matched", "class flip"}
