"""What a run says beyond the stage that differs: the file behind a photo, whose code it is, and two
mistakes at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from panokit.bundle import shipped_bundle_path
from panokit.dump import Dump, dump_stages, read_dump, write_dump
from panokit.errors import DumpError
from panokit.photo import Photo
from panokit.segmenter import Segmenter
from panokit_validation import Verdict
from panokit_validation.evidence import movement
from panokit_validation.faults import FAULTS, Variant, fault
from panokit_validation.simulate import Simulator
from panokit_validation.sources import find_dumps
from panokit_validation.summary import RunSummary
from panokit_validation.words import owner_of_cause, sentence_of
from panokit_validation.worker import Outcome, RunConfig, Worker

pytestmark = pytest.mark.skipif(
    not shipped_bundle_path().is_dir(), reason="the shipped bundle is not built"
)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.open(threads=1)


def pixels(seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8))
    return np.asarray(small.resize((96, 64), Image.Resampling.BICUBIC))


def saved(folder: Path, orientation: int) -> Path:
    """A JPEG whose tag turns it."""
    path = folder / "p.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels()).save(path, quality=92, exif=exif)
    return path


def judged(folder: Path, dump: Dump, photos: Path | None = None) -> Outcome:
    path = folder / "p.safetensors"
    write_dump(dump, path)
    with Worker(RunConfig(photos=str(photos) if photos else None)) as worker:
        (ref,) = find_dumps([str(path)])
        return worker.judge(ref)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_photo_as_it_is_stored_is_found_beside_its_file(
    segmenter: Segmenter, tmp_path: Path, orientation: int
) -> None:
    path = saved(tmp_path, orientation)
    stored = Photo.from_array(np.asarray(Image.open(path)), "p")
    dump = dump_stages(segmenter.stages(stored), segmenter.artifact, "litert")
    alone = judged(tmp_path, dump).photo
    assert alone is not None
    assert alone["verdict"] == "pass"  # nothing in the dump shows it
    beside = judged(tmp_path, dump, tmp_path).photo
    assert beside is not None
    assert (beside["verdict"], beside["first_bad_stage"]) == ("fail", "photo")
    assert beside["causes"][0]["name"] == "exif-ignored"
    assert "prepares the picture" in beside["sentence"]
    upright = dump_stages(segmenter.stages(Photo.open(path)), segmenter.artifact, "litert")
    right = judged(tmp_path, upright, tmp_path).photo
    assert right is not None
    assert (right["verdict"], right["warnings"]) == ("pass", [])


@pytest.mark.parametrize("levels", [(0, 18), (150, 181)])
def test_a_dark_or_hazy_photo_shows_it_too(
    segmenter: Segmenter, tmp_path: Path, levels: tuple[int, int]
) -> None:
    low, high = levels
    faint = (low + pixels().astype(float) * (high - low) / 255).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(faint).save(tmp_path / "p.png", exif=exif)
    stored = Photo.from_array(faint, "p")
    dump = dump_stages(segmenter.stages(stored), segmenter.artifact, "litert")
    found = judged(tmp_path, dump, tmp_path).photo
    assert found is not None
    assert found["causes"][0]["name"] == "exif-ignored"


def test_a_file_that_cannot_be_read_costs_no_dump(segmenter: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "p.jpg").write_bytes(b"no photo")
    dump = dump_stages(
        segmenter.stages(Photo.from_array(pixels(), "p")), segmenter.artifact, "litert"
    )
    found = judged(tmp_path, dump, tmp_path).photo
    assert found is not None
    assert found["verdict"] == "pass"
    assert any("the photo's file was not looked at" in w for w in found["warnings"])


def test_a_verdict_about_a_file_keeps_to_the_schema(
    segmenter: Segmenter, tmp_path: Path, root: Path
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((root / "docs" / "validate.schema.json").read_text("utf-8"))
    stored = Photo.from_array(np.asarray(Image.open(saved(tmp_path, 6))), "p")
    dump = dump_stages(segmenter.stages(stored), segmenter.artifact, "litert")
    found = judged(tmp_path, dump, tmp_path).photo
    assert found is not None
    stage = {**schema["$defs"]["stage"], "$defs": schema["$defs"]}
    for one in found["stages"]:
        jsonschema.validate(one, stage)
    assert found["stages"][0]["stage"] == "photo"


def test_a_picture_of_one_colour_has_not_moved() -> None:
    for side in (3, 8, 48):
        black = np.zeros((side, side, 3), np.float32)
        assert movement(black, black) == (0, 0)
        assert max(map(abs, movement(black, black + 9))) <= side // 3


@pytest.mark.parametrize(
    "sides", ["[1e999, 4]", "[" + "9" * 400 + ", 4]", '"12"', "[96.7, 64.9]", "[true, true]",
              '{"5": 1, "6": 2}', '["96", "64"]', "[0, 3]", "[96, 64, 3]", "[-1, 4]"],
)  # fmt: skip
def test_a_size_that_is_none_is_refused(sides: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    metadata = json.dumps({"transform": f'{{"photo_wh": {sides}}}'})
    np.savez(path, panoptic=np.zeros((4, 4), np.int32), metadata=metadata)
    with pytest.raises(DumpError, match="transform record"):
        read_dump(path)


def test_another_photo_than_the_file_is_a_note(segmenter: Segmenter, tmp_path: Path) -> None:
    saved(tmp_path, 1)
    for other in (pixels(1), pixels()[:32]):
        photo = Photo.from_array(np.ascontiguousarray(other), "p")
        dump = dump_stages(segmenter.stages(photo), segmenter.artifact, "litert")
        found = judged(tmp_path, dump, tmp_path).photo
        assert found is not None
        assert found["verdict"] == "pass"
        assert any("photo is not the file's picture" in w for w in found["warnings"])


@pytest.mark.parametrize(
    ("name", "stage", "owner"),
    [
        ("bgr", "panoptic", "prepares the picture"),
        ("bgr", "heads", "prepares the picture"),
        ("head-zero-point", "panoptic", "runs the network"),
        ("class-table", "panoptic", "decoding"),
        ("unknown", "panoptic", "decoding"),
        ("unknown", "photo", "prepares the picture"),
    ],
)
def test_a_cause_is_for_whoever_makes_it(name: str, stage: str, owner: str) -> None:
    assert owner in owner_of_cause({"name": name, "stage": stage})


def test_two_mistakes_are_told_as_two(segmenter: Segmenter, tmp_path: Path) -> None:
    photo = Photo.from_array(pixels(), "p")
    both = [fault("bgr"), fault("padding-top-left")]
    outcome = judged(tmp_path, Simulator(segmenter).simulate(photo, both))
    assert outcome.photo is not None
    sentence = outcome.photo["sentence"]
    assert "Both together" in sentence
    assert "panokit explain bgr, panokit explain padding-top-left" in sentence
    summary = RunSummary()
    summary.add(outcome)
    summary.add(replace(outcome, dump="another"))
    assert summary.rows[0].cause == "bgr + padding-top-left"
    (vote,) = summary.votes
    assert vote.startswith("bgr + padding-top-left explains 2 of the 2 photos")


@pytest.mark.parametrize("moved", [(7, 0), (-12, 9), (0, -20)])
@pytest.mark.parametrize("also", [(), ("bgr",)])
def test_a_letterbox_moved_by_any_number_of_pixels_is_measured(
    segmenter: Segmenter, tmp_path: Path, moved: tuple[int, int], also: tuple[str, ...]
) -> None:
    photo = Photo.from_array(pixels(), "p")
    layout = FAULTS["letterbox-moved"], Variant("here", {"shift_yx": moved})
    dump = Simulator(segmenter).simulate(photo, [layout, *map(fault, also)])
    found = judged(tmp_path, dump).photo
    assert found is not None
    named = {c["name"] for c in found["causes"] if c["alarm"] and not c["considered"]}
    assert named == {"letterbox-moved", *also}


def test_the_file_changes_nothing_about_what_follows(segmenter: Segmenter, tmp_path: Path) -> None:
    """Two mistakes at the input are found beside an EXIF orientation that is ignored."""
    path = saved(tmp_path, 6)
    stored = Photo.from_array(np.asarray(Image.open(path)), "p")
    dump = Simulator(segmenter).simulate(stored, [fault("bgr"), fault("padding-top-left")])
    found = judged(tmp_path, dump, tmp_path).photo
    assert found is not None
    named = {c["name"] for c in found["causes"] if c["alarm"] and not c["considered"]}
    assert named == {"exif-ignored", "bgr", "padding-top-left"}
    assert found["first_bad_stage"] == "photo"


def test_a_cause_that_explains_part_is_told_as_a_guess() -> None:
    cause = {
        "name": "stale-photo", "stage": "input", "title": "the result of another photo",
        "advice": "Tie.", "explained": 0.76, "certain": False, "alarm": True,
    }  # fmt: skip
    photo = {"verdict": "fail", "first_bad_stage": "input", "causes": [cause], "warnings": []}
    assert sentence_of(photo).startswith("Probably: the result of another photo.")
    photo["causes"] = [{**cause, "explained": 0.97}]
    assert sentence_of(photo).startswith("The result of another photo.")


def test_what_a_dump_lacks_is_named(segmenter: Segmenter, tmp_path: Path) -> None:
    whole = dump_stages(
        segmenter.stages(Photo.from_array(pixels(), "p")), segmenter.artifact, "litert"
    )
    placeless = {k: v for k, v in whole.tensors.items() if k != "photo"}
    found = judged(tmp_path, replace(whole, tensors=placeless, transform=None)).photo
    assert found is not None
    assert any("neither 'photo' nor 'transform'" in w for w in found["warnings"])
    assert any("input was not compared" in w for w in found["warnings"])
    headless = {k: v for k, v in placeless.items() if k == "panoptic"}
    refused = judged(tmp_path, replace(whole, tensors=headless, transform=None))
    assert "--photos" in refused.reason
    classless = {k: v for k, v in whole.metadata.items() if k != "segments"}
    found = judged(tmp_path, replace(whole, metadata=classless)).photo
    assert found is not None
    assert found["verdict"] == Verdict.PASS
    assert any("no 'segments'" in w for w in found["warnings"])


def test_the_size_of_the_photo_is_transform_enough(segmenter: Segmenter, tmp_path: Path) -> None:
    stages = segmenter.stages(Photo.from_array(pixels(), "p"))
    whole = dump_stages(stages, segmenter.artifact, "litert")
    tensors: dict[str, Any] = {k: v for k, v in whole.tensors.items() if k != "photo"}
    path = tmp_path / "small.npz"
    np.savez(path, **tensors, metadata=json.dumps(
        {**whole.metadata, "transform": json.dumps({"photo_wh": [96, 64]})}
    ))  # fmt: skip
    assert read_dump(path).transform is not None
    found = judged(tmp_path, read_dump(path)).photo
    assert found is not None
    assert [s["stage"] for s in found["stages"]][-1] == "panoptic"
    assert found["verdict"] == "pass"
