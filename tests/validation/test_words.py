"""Verdicts in plain words, GitHub annotations, and dumps judged as they come."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from panokit.dump import Dump, write_dump
from panokit.errors import DumpError
from panokit.segmenter import Segmenter
from panokit.taxonomy import Taxonomy
from panokit_validation import validate_dump
from panokit_validation.output import github_annotation
from panokit_validation.units import UnitRun, unit_findings
from panokit_validation.watch import watch_dumps
from panokit_validation.words import owner_of, sentence_of
from panokit_validation.worker import Outcome, RunConfig, Worker
from tests.toys.segmenter import toy_dump, toy_segmenter


@pytest.fixture
def segmenter(taxonomy: Taxonomy) -> Segmenter:
    return toy_segmenter(taxonomy)


@pytest.fixture
def dump(segmenter: Segmenter) -> Dump:
    return toy_dump(segmenter)


def failing(stage: str, *causes: dict[str, Any]) -> dict[str, Any]:
    return {"verdict": "fail", "first_bad_stage": stage, "causes": list(causes), "warnings": []}


CAUSE = {"name": "bgr", "title": "red and blue swapped", "advice": "Feed RGB.", "stage": "input"}


def runs(*found: tuple[str, int, bool], photo: str = "a") -> list[UnitRun]:
    return [UnitRun(photo, "phone", unit, run, right) for unit, run, right in found]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([("CPU", 1, True), ("GPU", 1, False)], "right on CPU, wrong on GPU"),
        ([("CPU", 1, True), ("GPU", 1, True), ("GPU", 2, False), ("GPU", 3, False)],
         "right on CPU, wrong on GPU from run 2 on"),
        ([("GPU", 1, False), ("GPU", 2, True)], "wrong on GPU in run 1 only"),
        ([("CPU", 1, True), ("ANE", 1, False), ("ANE", 2, False)],
         "right on CPU, wrong on ANE in every run"),
        ([("GPU", 1, True), ("GPU", 2, False), ("GPU", 3, True), ("GPU", 4, False)],
         "wrong on GPU in 2 of 4 runs"),
    ],
)  # fmt: skip
def test_units_and_repetitions(found: list[tuple[str, int, bool]], words: str) -> None:
    both = [*runs(*found), *runs(*found, photo="b"), *runs(("CPU", 1, False), photo="c")]
    assert unit_findings(both) == [f"phone: {words} (2 photos)."]


def test_units_that_agree_are_not_mentioned() -> None:
    assert unit_findings(runs(("CPU", 1, True), ("GPU", 1, True))) == []
    assert unit_findings(runs(("CPU", 1, False), ("GPU", 1, False))) == []


def test_a_failure_says_what_and_for_whom() -> None:
    text = sentence_of(failing("input", {**CAUSE, "alarm": True}))
    assert text.startswith("Red and blue swapped. This is for the code that prepares the picture")
    assert text.endswith("Feed RGB. More: panokit explain bgr.")
    unknown = {**CAUSE, "name": "unknown", "alarm": True}
    assert "no known mistake explains it" in sentence_of(failing("center", unknown))
    note = {**CAUSE, "alarm": False}  # what needs no mending is no cause of a failure
    assert "the code that runs the network" in sentence_of(failing("center", note))
    assert owner_of("effect.portrait_blur") == "the effects code"


def test_agreement_needs_no_action() -> None:
    assert "Nothing to mend" in sentence_of({"verdict": "pass with rounding"})
    assert sentence_of({"verdict": "pass"}).endswith("the reference computes.")


def test_annotations_for_github() -> None:
    photo = failing("input", {**CAUSE, "alarm": True, "title": "50 % off\nboth: ends"})
    line = github_annotation(Outcome("a,b:c.npz", photo))
    assert line is not None
    assert line.startswith("::error title=a%2Cb%3Ac.npz::50 %25 off%0Aboth: ends. This is for")
    refused = github_annotation(Outcome("d", None, "is no zip"))
    assert refused == "::error title=d::refused: is no zip"
    passed = {"verdict": "pass", "warnings": []}
    assert github_annotation(Outcome("d", passed)) is None
    warned = github_annotation(Outcome("d", {**passed, "warnings": ["another file"]}))
    assert warned == "::warning title=d::another file"


def test_ids_that_segments_do_not_name_are_said(dump: Dump, segmenter: Segmenter) -> None:
    dump.tensors["panoptic"][dump.tensors["panoptic"] == 1] = 77
    verdict = validate_dump(dump, segmenter)
    assert any("ids without an entry in 'segments' (77)" in w for w in verdict.warnings)
    assert verdict.first_bad_stage == "panoptic"


def test_an_effect_parameter_that_there_is_not_is_an_error(
    dump: Dump, segmenter: Segmenter
) -> None:
    dump.tensors["effect.portrait_blur"] = dump.tensors["photo"].copy()
    dump.metadata["effects"] = '{"portrait_blur": {"radius": 3}}'
    with pytest.raises(DumpError, match=r"has the parameters \['radius'\]; expected strength"):
        validate_dump(dump, segmenter)


def test_a_failing_stage_always_has_a_cause(dump: Dump, segmenter: Segmenter) -> None:
    ids = dump.tensors["panoptic"]
    ids[::3] = 0
    found = validate_dump(dump, segmenter, diagnose=True)
    assert found.first_bad_stage == "panoptic"
    assert [c.stage for c in found.causes][:1] == ["panoptic"]


def test_dumps_are_judged_as_they_come(
    dump: Dump, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    changed: list[bool] = []
    monkeypatch.setattr(Worker, "judge", lambda self, ref: Outcome(Path(ref.container).name))
    folder = tmp_path / "dumps"
    folder.mkdir()
    write_dump(dump, folder / "a.npz")

    def wait(seconds: float) -> None:
        if len(seen) == 1 and not (folder / "b.npz").exists():
            shutil.copy(folder / "a.npz", folder / "b.npz")
        elif len(seen) == 2 and not changed:
            changed.append(True)
            write_dump(replace(dump, metadata={"device": "other"}), folder / "a.npz")

    monkeypatch.setattr("panokit_validation.watch.time.sleep", wait)
    for outcome in watch_dumps([folder], RunConfig()):
        seen.append(outcome.dump)
        if len(seen) == 3:
            break
    assert seen == ["a.npz", "b.npz", "a.npz"]
