"""Dumps go there and back; agreement passes, each planted fault fails at its own stage."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from panokit.bundle import Artifact, Bundle, Manifest, TensorSpec
from panokit.dump import Dump, dump_stages, read_dump, write_dump
from panokit.errors import ArgumentError, DumpError
from panokit.photo import Photo
from panokit.postprocessing import PostprocessConfig
from panokit.preprocessing import PreprocessConfig
from panokit.segmenter import Segmenter
from panokit.taxonomy import Taxonomy
from panokit.validation import (
    ValidationConfig,
    Verdict,
    compare_maps,
    compare_tensors,
    validate_dump,
)

SIZE = 32


class ToyRuntime:
    """Heads that are simple functions of the picture: red is person, blue is sky, else road."""

    name = "toy"

    def run(self, image_hwc: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        cells = image_hwc.reshape(SIZE // 4, 4, SIZE // 4, 4, 3).mean((1, 3)).astype(np.float32)
        red, green, blue = np.moveaxis(cells, -1, 0) / 25
        center = np.full(red.shape, -9, np.float32)
        center[4, 2] = 4
        offset = np.zeros((*red.shape, 2), np.float32)
        return {
            "semantic": np.stack([red, blue, red * 0, green], -1),
            "center": center[..., None],
            "offset": offset,
        }


@pytest.fixture
def segmenter(taxonomy: Taxonomy, tmp_path: Path) -> Segmenter:
    cells = SIZE // 4
    artifact = Artifact(
        name="toy",
        format="tflite",
        file="model.tflite",
        sha256="ab" * 32,
        bytes=1,
        precision="float32",
        input=TensorSpec("image", (1, SIZE, SIZE, 3), "float32", "nhwc"),
        outputs={
            n: TensorSpec(n, (1, cells, cells, c), "float32", "nhwc")
            for n, c in (("semantic", 4), ("center", 1), ("offset", 2))
        },
    )
    manifest = Manifest(
        name="toy",
        taxonomy=taxonomy,
        preprocessing=PreprocessConfig((SIZE, SIZE)),
        postprocessing=PostprocessConfig(min_thing_area=4, min_stuff_area=4),
        stride=4,
        artifacts=(artifact,),
    )
    return Segmenter(Bundle(tmp_path, manifest), artifact, ToyRuntime())


@pytest.fixture
def dump(segmenter: Segmenter) -> Dump:
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24] = 10, 40, 220
    pixels[24:] = 30, 160, 30
    pixels[16:44, 8:28] = 230, 30, 20
    pixels += np.random.default_rng(0).integers(0, 20, pixels.shape).astype(np.uint8)
    stages = segmenter.stages(Photo.from_array(pixels, "toy"))
    assert len(stages.panoptic.segments) == 3
    return dump_stages(stages, segmenter.artifact, "toy", {"device": "test"})


def test_dump_round_trips(dump: Dump, tmp_path: Path) -> None:
    again = read_dump(write_dump(dump, tmp_path / "a.safetensors"))
    assert again.name == "toy"
    assert again.metadata["device"] == "test"
    assert again.transform == dump.transform
    assert again.tensors.keys() == dump.tensors.keys()
    for name, values in dump.tensors.items():
        assert (again.tensors[name] == values).all()
        assert again.tensors[name].dtype == values.dtype


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


HOSTILE: dict[str, tuple[dict[str, NDArray[Any]], str]] = {
    "unknown tensor": ({"evil": np.zeros(3, np.uint8)}, "unknown tensor 'evil'"),
    "wrong rank": ({"panoptic": np.zeros(3, np.int32)}, "expected 2 axes"),
    "wrong type": ({"panoptic": np.zeros((3, 3), np.float32)}, "expected one of .*got float32"),
    "NaN": ({"offset": np.full((2, 2, 2), np.nan, np.float32)}, r"holds nan at \(0, 0, 0\)"),
    "no tensor": ({}, "holds no tensor"),
}


@pytest.mark.parametrize(("tensors", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_dumps_are_refused(
    tmp_path: Path, tensors: dict[str, NDArray[Any]], message: str
) -> None:
    path = tmp_path / "x.safetensors"
    save_file(tensors, path)
    with pytest.raises(DumpError, match=message):
        read_dump(path)


@pytest.mark.parametrize("size", [0, 5, 8, 100, 3000])
def test_truncated_dumps_are_refused(dump: Dump, tmp_path: Path, size: int) -> None:
    path = write_dump(dump, tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DumpError, match="expected a safetensors dump"):
        read_dump(path)


def test_unknown_stage_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="tensors"):
        write_dump(Dump({"nonsense": np.zeros(1)}), tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_tensor_figures_by_hand() -> None:
    a = compare_tensors(np.array([1.0, 2.0, 2.0]), np.array([1.0, 2.0, 1.0]))
    assert (a.max_abs, a.mean_abs) == (1.0, pytest.approx(1 / 3))
    assert a.sqnr_db == pytest.approx(10 * np.log10(6))
    assert a.cosine == pytest.approx(7 / np.sqrt(9 * 6))
    same = compare_tensors(np.ones(3), np.ones(3))
    assert (same.sqnr_db, same.cosine) == (200.0, pytest.approx(1.0))
    assert compare_tensors(np.zeros(3), np.zeros(3)).sqnr_db == 200.0
    assert compare_tensors(np.ones(3), np.zeros(3)).sqnr_db == -200.0
    with pytest.raises(ArgumentError, match="of the reference's shape"):
        compare_tensors(np.ones(3), np.ones(4))


def test_map_figures_by_hand() -> None:
    reference = np.array([[1, 1, 1, 1], [2, 2, 2, 0]])
    device = np.array([[5, 5, 5, 7], [2, 2, 2, 0]])
    a = compare_maps(device, reference)
    # One pair of IoU 3/4, one of 1, one segment too many: (1.75) / (2 + 1/2).
    assert a.pq == pytest.approx(100 * 1.75 / 2.5)
    assert (a.matched, a.missing, a.extra) == (2, 0, 1)
    assert a.equal_pixels == pytest.approx(7 / 8)
    assert compare_maps(reference, reference).pq == 100
    assert compare_maps(np.zeros((2, 2)), np.zeros((2, 2))).pq == 100
    swapped = compare_maps(reference, reference, ({1: 9, 2: 8}, {1: 9, 2: 7}))
    assert swapped.matched == 1


def test_thresholds_must_be_possible() -> None:
    with pytest.raises(ArgumentError, match="head_sqnr_db"):
        ValidationConfig(head_sqnr_db=float("nan"))
