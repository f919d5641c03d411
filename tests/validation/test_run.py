"""Runs: streamed, over processes and Ray, resumable; nothing a dump holds stops the others."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from panokit.bundle import shipped_bundle_path
from panokit.cli import app
from panokit.dump import HEADS, Dump, dump_stages, read_dump, write_dump
from panokit.errors import ArgumentError, BundleError, DumpError, PhotoError
from panokit.photo import Photo
from panokit.runtime import dequantize
from panokit.samples import sample_photos
from panokit.segmenter import Segmenter
from panokit_validation import ValidationConfig, Verdict, validate_dump
from panokit_validation import run as run_module
from panokit_validation.device import Device, DeviceNoise
from panokit_validation.run import validate_dumps
from panokit_validation.summary import RunSummary
from panokit_validation.worker import Outcome, RunConfig, Worker

pytestmark = pytest.mark.skipif(
    not shipped_bundle_path().is_dir(), reason="the shipped bundle is not built"
)

HOSTILE = '<script>alert("x")</script>\x1b[31m]]>'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good dump, one with blue for red, one without its photo, and one that is damaged."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 255, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    segmenter = Segmenter.open(threads=1)
    dump = dump_stages(
        segmenter.stages(Photo.from_array(pixels, "good")), segmenter.artifact, "litert"
    )
    write_dump(dump, folder / "a-good.safetensors")
    swapped = {**dump.tensors, "input": dump.tensors["input"][..., ::-1].copy()}
    hostile = {**dump.metadata, "photo": HOSTILE, "device": HOSTILE}
    write_dump(replace(dump, tensors=swapped, metadata=hostile), folder / "b-bgr.npz")
    bare = {k: v for k, v in dump.tensors.items() if k != "photo"}
    unnamed = {k: v for k, v in dump.metadata.items() if k != "photo"}
    bare_dump = replace(dump, tensors=bare, metadata=unnamed, transform=None)
    write_dump(bare_dump, folder / "c-bare.dump.json")
    (folder / "d-damaged.safetensors").write_bytes(b"junk")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "dumps"))


QUICK = RunConfig(diagnose=False)


def verdicts(outcomes: Iterator[Outcome]) -> list[str]:
    return [o.photo["verdict"] if o.photo else "refused" for o in outcomes]


def test_every_dump_is_judged_in_order(folder: Path) -> None:
    outcomes = list(validate_dumps([folder], QUICK))
    assert [o.dump for o in outcomes] == sorted(o.dump for o in outcomes)
    assert verdicts(iter(outcomes)) == ["pass", "fail", "pass", "refused"]
    assert "truncated" in outcomes[-1].reason
    assert outcomes[1].photo is not None
    assert outcomes[1].photo["first_bad_stage"] == "input"
    json.dumps([vars(o) for o in outcomes])


def test_processes_give_the_same(folder: Path) -> None:
    assert list(validate_dumps([folder], QUICK, jobs=2)) == list(validate_dumps([folder], QUICK))


def test_ray_gives_the_same(folder: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed (extra ray)")
    expected = list(validate_dumps([folder], QUICK))
    assert list(validate_dumps([folder], QUICK, jobs=1, ray="local")) == expected


def test_a_dump_that_kills_its_process_is_refused_and_the_others_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.toys import dying_worker

    monkeypatch.setattr(run_module, "_judge", dying_worker.judge)
    for i in range(9):
        (tmp_path / f"{i}{'kill' if i in (2, 3) else ''}.npz").touch()
    outcomes = list(validate_dumps([tmp_path], QUICK, jobs=2))
    assert len(outcomes) == 9
    for i, outcome in enumerate(outcomes):
        assert ("process" in outcome.reason) is (i in (2, 3))


def count_judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    judged: list[str] = []
    original = Worker.judge

    def judge(self: Worker, ref: Any) -> Outcome:
        judged.append(ref.label)
        return original(self, ref)

    monkeypatch.setattr(Worker, "judge", judge)
    return judged


def test_a_stopped_run_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state.jsonl"
    expected = list(validate_dumps([folder], QUICK))
    started = validate_dumps([folder], QUICK, state=state)
    assert [next(started), next(started)] == expected[:2]
    started.close()  # type: ignore[attr-defined]
    with state.open("ab") as file:
        file.write(b'{"dump": "half a li')  # killed while writing
    judged = count_judged(monkeypatch)
    assert list(validate_dumps([folder], QUICK, state=state)) == expected
    assert len(judged) == 2
    judged.clear()
    assert list(validate_dumps([folder], QUICK, state=state)) == expected
    assert judged == []


def test_a_changed_dump_is_judged_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state.jsonl"
    list(validate_dumps([folder], QUICK, state=state))
    judged = count_judged(monkeypatch)
    shutil.copy(folder / "a-good.safetensors", folder / "d-damaged.safetensors")
    assert verdicts(validate_dumps([folder], QUICK, state=state))[-1] == "pass"
    assert len(judged) == 1


Damage = Callable[[list[bytes]], list[bytes]]


def forged(lines: list[bytes]) -> list[bytes]:
    assert b'"verdict": "fail"' in lines[2]
    return [*lines[:2], lines[2].replace(b'"verdict": "fail"', b'"verdict": "pass"'), *lines[3:]]


def swapped_names(lines: list[bytes]) -> list[bytes]:
    a, b = (json.loads(line)["dump"].encode() for line in lines[1:3])
    return [lines[0], lines[1].replace(a, b), lines[2].replace(b, a), *lines[3:]]


DAMAGES: dict[str, tuple[Damage, int]] = {
    "a verdict changed": (forged, 1),
    "half a line": (lambda ls: [*ls[:2], ls[2][: len(ls[2]) // 2], *ls[3:]], 1),
    "two lines run together": (lambda ls: [*ls[:2], ls[2] + ls[3], *ls[4:]], 2),
    "garbage": (lambda ls: [*ls[:2], bytes(range(128, 256)), *ls[3:]], 1),
    "zeros, as after a power cut": (lambda ls: [*ls[:3], bytes(600), *ls[4:]], 1),
    "names swapped": (swapped_names, 2),
    "a line without its digest": (
        lambda ls: [*ls[:2], re.sub(rb', "digest": "\w+"', b"", ls[2]), *ls[3:]], 1,
    ),
    "a line of something else": (lambda ls: [*ls[:2], b"[1, 2]", *ls[3:]], 1),
    "a number changed": (lambda ls: [*ls[:2], ls[2].replace(b"0.", b"1.", 1), *ls[3:]], 1),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "again"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_state_is_told_and_only_those_dumps_judged_again(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: Damage,
    again: int,
) -> None:
    state = tmp_path / "state.jsonl"
    expected = list(validate_dumps([folder], QUICK, state=state))
    lines = state.read_bytes().splitlines()
    broken = damage(lines)
    state.write_bytes(b"\n".join(broken) + b"\n")
    judged = count_judged(monkeypatch)
    assert list(validate_dumps([folder], QUICK, state=state)) == expected
    assert len(judged) == again
    (told,) = [r.getMessage() for r in caplog.records]
    assert told.startswith(f"{state}: line")
    assert "judged again" in told
    kept = state.read_bytes().splitlines()
    sound = [line for line in lines if line in broken]
    assert [line for line in kept if line in sound] == sound
    caplog.clear()
    judged.clear()
    assert list(validate_dumps([folder], QUICK, state=state)) == expected
    assert (judged, caplog.records) == ([], [])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_state_that_is_a_pipe_is_refused(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state")
    with pytest.raises(ArgumentError, match="it is a pipe or a device"):
        next(validate_dumps([folder], QUICK, state=tmp_path / "state"))


def test_a_state_of_another_run_is_an_error(folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    list(validate_dumps([folder], QUICK, state=state))
    other = replace(QUICK, thresholds={"head_sqnr_db": 1})
    with pytest.raises(ArgumentError, match="a state file of this very run"):
        next(validate_dumps([folder], other, state=state))


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"bundle": "nowhere"}, BundleError),
        ({"artifact": "nonsense"}, ArgumentError),
        ({"photos": "/nowhere-at-all/x"}, PhotoError),
    ],
    ids=["bundle", "artifact", "photos"],
)
def test_wrong_use_shows_before_the_first_dump(
    folder: Path, tmp_path: Path, config: dict[str, Any], error: type[Exception]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    if "photos" in config:
        config = {"photos": str(empty)}
    with pytest.raises(error):
        next(validate_dumps([folder], RunConfig(**config)))
    with pytest.raises(ArgumentError, match="one of"):
        RunConfig(thresholds={"x": 1})
    with pytest.raises(ArgumentError, match="at least 1"):
        next(validate_dumps([folder], QUICK, jobs=0))


def test_photos_beside_the_dumps_serve_those_without(folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    photos = tmp_path / "photos"
    photos.mkdir()
    pixels = read_dump(folder / "a-good.safetensors").tensors["photo"]
    Image.fromarray(pixels).save(photos / "c-bare.png")
    config = replace(QUICK, photos=str(photos))
    (outcome,) = validate_dumps([folder / "c-bare.dump.json"], config)
    assert outcome.photo is not None
    assert outcome.photo["stages"][0]["stage"] == "input"


def test_unforeseen_errors_refuse_one_dump_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr("panokit_validation.worker.validate_dump", broken)
    outcomes = list(validate_dumps([folder], QUICK))
    assert [("unforeseen" in o.reason) for o in outcomes] == [True, True, True, False]


def test_the_summary_adds_up(folder: Path) -> None:
    summary = RunSummary()
    for outcome in validate_dumps([folder], QUICK):
        summary.add(outcome)
    assert summary.counts == {"pass": 2, "pass with rounding": 0, "fail": 1, "refused": 1}
    assert (summary.verdict.value, summary.exit_code) == ("fail", 2)
    assert len(summary.groups) == 2


class Page(HTMLParser):
    """Collects what a hostile text would need."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


def validate(*arguments: str | Path) -> Any:

    return CliRunner().invoke(app, ["validate", *map(str, arguments)])


def test_the_command_writes_json_junit_and_page(folder: Path, tmp_path: Path, root: Path) -> None:
    pytest.importorskip("jinja2", reason="Jinja2 is not installed (extra report)")
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    out = {n: tmp_path / "out" / n for n in ("r.json", "r.xml", "r.html")}
    done = validate(
        folder, "--json", out["r.json"], "--junit", out["r.xml"], "--report", out["r.html"],
        "--threshold", "head_sqnr_db=20",
    )  # fmt: skip
    assert done.exit_code == 2, done.output
    assert "\x1b[31m]]>" not in done.output
    data = json.loads(out["r.json"].read_text(encoding="utf-8"))
    schema = json.loads((root / "docs" / "validate.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(data, schema)
    assert data["verdict"] == "fail"
    assert [p["verdict"] for p in data["photos"]] == ["pass", "fail", "pass"]
    assert data["photos"][1]["first_bad_stage"] == "input"
    assert data["photos"][1]["causes"][0]["name"]
    assert data["options"]["thresholds"]["head_sqnr_db"] == 20
    assert data["options"]["threshold_sources"]["head_sqnr_db"] == "override"
    assert "truncated" in data["refused"][0]["reason"]

    suites = ElementTree.parse(out["r.xml"]).getroot()
    assert (suites.get("tests"), suites.get("failures"), suites.get("errors")) == ("4", "1", "1")
    assert len(suites.findall(".//testcase")) == 4
    failure = suites.find(".//failure")
    assert failure is not None
    assert "first bad stage: input" in str(failure.get("message"))

    html = out["r.html"].read_text(encoding="utf-8")
    page = Page()
    page.feed(html)
    assert '<script>alert("x")</script>' in page.text
    assert not [t for t, _ in page.tags if t in ("script", "link", "iframe", "object", "base")]
    for tag, attributes in page.tags:
        for name, value in attributes:
            assert not name.startswith("on"), tag
            if name in ("src", "href"):
                assert str(value).startswith(("data:image/", "#card-", "#cause-")), tag
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert sum(tag == "img" for tag, _ in page.tags) > 10


def test_exit_codes(folder: Path, tmp_path: Path) -> None:
    assert validate(folder / "a-good.safetensors").exit_code == 0
    failing = validate(folder / "b-bgr.npz", "--no-diagnose")
    assert failing.exit_code == 1
    assert "first bad stage" in failing.output
    empty = tmp_path / "empty"
    empty.mkdir()
    nothing = validate(empty)
    assert isinstance(nothing.exception, ArgumentError)
    assert "that hold dumps" in str(nothing.exception)
    wrong = validate(folder, "--threshold", "head_sqnr_db=much")
    assert "NAME=VALUE" in str(wrong.exception)


def test_a_loose_threshold_lets_a_fault_pass(folder: Path) -> None:
    loose = ["input_max_abs=255", "input_mean_abs=255", "head_sqnr_db=0", "panoptic_pq=0",
             "panoptic_equal_pixels=0"]  # fmt: skip
    options = [part for t in loose for part in ("--threshold", t)]
    assert validate(folder / "b-bgr.npz", *options).exit_code == 0


def test_other_kernels_are_rounding_and_more_than_that_is_not(folder: Path) -> None:
    segmenter = Segmenter.open(threads=1)
    dump = read_dump(folder / "a-good.safetensors")
    network = Device(segmenter, noise=DeviceNoise(threads=1, xnnpack=False))
    plain = network.run(dump.tensors["input"].astype(np.float32))
    assert any((plain[n] != dump.tensors[n]).any() for n in plain)
    tensors = {k: v for k, v in dump.tensors.items() if k != "panoptic"}
    other = replace(dump, tensors={**tensors, **plain})
    strict = ValidationConfig(head_sqnr_db=150, exact_sqnr_db=150)
    verdict = validate_dump(other, segmenter, strict)
    assert verdict.verdict is Verdict.ROUNDING
    worst = min(verdict.stages[1:], key=lambda s: s.figures["sqnr_db"])
    assert worst.figures["kernels_sqnr_db"] == pytest.approx(worst.figures["sqnr_db"])
    assert "healthy devices" in worst.message
    none = replace(strict, kernel_factor=0)
    assert validate_dump(other, segmenter, none).verdict is Verdict.FAIL
    broken = {**tensors, **plain, "semantic": plain["semantic"][::-1].copy()}
    verdict = validate_dump(replace(dump, tensors=broken), segmenter, strict)
    assert verdict.first_bad_stage == "semantic"


def test_a_script_without_a_guard_is_told(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from panokit_validation import validate_dumps\n"
        f"print(list(validate_dumps([{str(folder)!r}], jobs=2)))\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode != 0
    assert "if __name__ == '__main__':" in done.stderr.splitlines()[-1]


def test_photos_vote_for_what_explains_all_of_them() -> None:
    """Each photo fits two mistakes equally well; only one fits both photos."""

    def failing(photo: str, **explained: float) -> Outcome:
        causes = [
            {"name": n, "title": n, "advice": "", "stage": "panoptic", "alarm": True,
             "explained": share, "variant": ""}
            for n, share in explained.items()
        ]  # fmt: skip
        stage: dict[str, Any] = {"stage": "panoptic", "figures": {}, "chain": None, "message": ""}
        return Outcome(photo, {
            "photo": photo, "dump": photo, "verdict": "fail", "first_bad_stage": "panoptic",
            "warnings": [], "metadata": {}, "stages": [dict(stage)], "causes": causes,
        })  # fmt: skip

    summary = RunSummary()
    summary.add(failing("a", top_k=0.99, threshold=0.98))
    assert summary.votes == []
    summary.add(failing("b", window=0.99, threshold=0.97))
    (group,) = summary.to_json()["groups"]
    assert group["causes"] == {"top_k": 1, "window": 1}
    assert group["votes"] == [
        {"stage": "panoptic", "cause": "threshold", "photos": 2, "failing": 2,
         "explained": pytest.approx(0.975)}
    ]  # fmt: skip
    assert summary.votes == [
        "threshold explains 2 of the 2 photos that fail at panoptic, 98% of their differences on "
        "average"
    ]


@pytest.fixture(scope="module")
def sequence() -> list[Dump]:
    """What a healthy device computed for four frames."""
    pytest.importorskip("skimage", reason="scikit-image is not installed (extra demo)")
    segmenter = Segmenter.open(threads=1)
    photos = [Photo.open(p) for p in list(sample_photos().values())[:3]]
    rolled = Photo.from_array(np.roll(photos[0].rgb_hwc, 40, axis=1))
    return [
        dump_stages(segmenter.stages(p), segmenter.artifact, "litert") for p in (*photos, rolled)
    ]


LATE = {
    "input": ("input", "semantic", "center", "offset", "panoptic"),
    "heads": ("semantic", "center", "offset", "panoptic"),
    "panoptic": ("panoptic",),
}


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("stage", list(LATE))
def test_a_result_that_is_one_frame_late_is_named(
    stage: str, jobs: int, sequence: list[Dump], tmp_path: Path
) -> None:
    for i, (earlier, dump) in enumerate(zip([sequence[0], *sequence], sequence, strict=False), 8):
        tensors = {**dump.tensors, **{n: earlier.tensors[n] for n in LATE[stage]}}
        segments = earlier.metadata["segments"]
        metadata = {**dump.metadata, "photo": f"at {i}", "segments": segments, "frame": f"{3 * i}"}
        write_dump(replace(dump, tensors=tensors, metadata=metadata), tmp_path / f"{i}.npz")
    found = [o.photo for o in validate_dumps([tmp_path], RunConfig(), jobs=jobs)]
    photos = [p for p in found if p]
    assert [p["photo"] for p in photos] == ["at 8", "at 9", "at 10", "at 11"]  # by number
    assert [p["verdict"] for p in photos] == ["pass", "fail", "fail", "fail"]
    causes = [p["causes"][0] for p in photos[1:]]
    assert [c["name"] for c in causes] == ["stale-photo"] * 3
    assert [c["variant"] for c in causes] == ["at 8", "at 9", "at 10"]
    assert all(c["certain"] for c in causes)
    assert "at 8, 3 frames earlier" in causes[0]["title"]
    assert photos[1]["metadata"]["frame"] == "27"


def test_a_healthy_sequence_and_other_faults_are_not_called_late(
    sequence: list[Dump], tmp_path: Path
) -> None:
    for i, dump in enumerate(sequence):
        write_dump(dump, tmp_path / f"{i}.npz")
    assert {o.photo["verdict"] for o in validate_dumps([tmp_path]) if o.photo} == {"pass"}
    for i, dump in enumerate([sequence[0]] * 3):  # a still scene, and red and blue swapped
        tensors = {**dump.tensors, "input": dump.tensors["input"][..., ::-1].copy()}
        metadata = {**dump.metadata, "photo": f"{i}"}
        write_dump(replace(dump, tensors=tensors, metadata=metadata), tmp_path / f"{i}.npz")
    photos = [o.photo for o in validate_dumps([tmp_path]) if o.photo]
    assert [p["verdict"] for p in photos] == ["fail", "fail", "fail", "pass"]
    assert {p["causes"][0]["name"] for p in photos[:3]} == {"bgr"}


def test_a_frame_that_is_no_number_is_said(sequence: list[Dump], tmp_path: Path) -> None:
    for told in ("-1", "two", "1e3", "9" * 16):
        path = tmp_path / "a.npz"
        metadata = {**sequence[0].metadata, "frame": told}
        write_dump(replace(sequence[0], metadata=metadata), path)
        with pytest.raises(DumpError, match=r"'frame' is .* a whole number of frames"):
            read_dump(path)


def test_heads_that_share_a_scale_fail_and_are_named(folder: Path) -> None:
    """int8's own rounding is as large: no distance would tell."""
    segmenter = Segmenter.open(threads=1)
    dump = read_dump(folder / "a-good.safetensors")
    real = dequantize({n: dump.tensors[n] for n in HEADS}, segmenter.artifact.outputs)
    span = max(v.max() for v in real.values()) - min(v.min() for v in real.values())
    step = np.float32(span / 255)
    joined = {n: np.round(v / step) * step for n, v in real.items()}
    kept = {n: dump.tensors[n] for n in ("photo", "input")}
    found = validate_dump(replace(dump, tensors={**kept, **joined}), segmenter, diagnose=True)
    assert found.verdict is Verdict.FAIL
    assert [c.name for c in found.causes if c.alarm] == ["head-joined-scale"]
    assert "quantised together" in found.stages[1].message
