"""Golden tests for apps: what is exported, and that it passes and fails as it should."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.native_core import CORE, FLAGS, sources
from panokit.bundle import Bundle
from panokit.errors import ArgumentError
from panokit.samples import sample_photos
from panokit.segmenter import Segmenter
from panokit.vectors import FRAMEWORKS, GoldenLimits, write_golden_tests
from panokit_validation import ValidationConfig

GTEST = ("-lgtest", "-lgtest_main", "-lpthread")

# An app whose network is a table of the golden inputs, and that makes the mistake FAULT.
ADAPTER = Path(__file__).parent / "adapters" / "app.cc"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_export_holds_the_bundles_vectors(tmp_path: Path, framework: str) -> None:
    out = tmp_path / "golden tests"
    assert write_golden_tests(out, framework) == 3
    data = out / FRAMEWORKS[framework].data / "coffee"
    spec = Bundle.open().manifest.artifact().outputs["semantic"]
    assert (data / "semantic.bin").stat().st_size == np.prod(spec.shape)
    assert (data / "panoptic.bin").stat().st_size == 4 * 320 * 320
    assert not (data / "photo.bin").exists()
    for _, target in FRAMEWORKS[framework].files:
        text = (out / target).read_text(encoding="utf-8")
        assert re.findall(r"@[A-Z_]+@", text) == []
    assert "coffee" in text
    assert write_golden_tests(out, framework) == 3  # an older export is replaced


def test_photos_bring_the_way_to_the_input(tmp_path: Path) -> None:
    photo = sample_photos()["chelsea"]
    assert write_golden_tests(tmp_path / "out", "gtest", photos=[photo, photo]) == 2
    stages = Segmenter.open(threads=1).stages(photo)
    data = tmp_path / "out" / "golden"
    names = sorted(p.name for p in data.iterdir())
    assert names == [photo.stem, f"{photo.stem}__2"]
    found = np.fromfile(data / names[0] / "photo.bin", np.uint8)
    assert (found == stages.photo.rgb_hwc.ravel()).all()
    found = np.fromfile(data / names[0] / "input.bin", np.int8)
    assert (found == stages.input_hwc.astype(np.int16).ravel() - 128).all()


def test_limits_are_those_of_validate() -> None:
    ours, theirs = GoldenLimits(), ValidationConfig()
    assert (ours.input_max, ours.input_mean) == (theirs.input_max_abs, theirs.input_mean_abs)
    assert ours.equal_pixels == theirs.panoptic_exact_pixels


def test_an_unknown_framework_and_a_foreign_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="gtest, junit, xctest"):
        write_golden_tests(tmp_path / "out", "jest")
    (tmp_path / "mine.txt").write_text("work")
    with pytest.raises(ArgumentError, match="holds other files"):
        write_golden_tests(tmp_path, "gtest")
    assert (tmp_path / "mine.txt").read_text() == "work"


@pytest.mark.slow
def test_the_gtest_target_passes_and_fails_where_it_should(tmp_path: Path) -> None:
    if shutil.which("g++") is None or not Path("/usr/include/gtest/gtest.h").is_file():
        pytest.skip("g++ or GoogleTest is not installed (Debian: libgtest-dev)")
    write_golden_tests(tmp_path / "out", "gtest")
    photo = sample_photos()["astronaut"]
    write_golden_tests(tmp_path / "photo", "gtest", photos=[photo])
    program = tmp_path / "golden"
    objects = []
    for source in sources():
        made = tmp_path / f"{Path(source).stem}.o"
        subprocess.run(["gcc", "-std=c99", "-O2", *FLAGS, "-c", source, "-o", made], check=True)
        objects.append(str(made))
    manifest = Bundle.open().root / "manifest.json"
    for export in ("photo", "out"):
        folder = tmp_path / export
        macros = [f'-DMANIFEST="{manifest}"', f'-DPANOKIT_GOLDEN_DIR="{folder / "golden"}"']
        includes = [f"-I{CORE / 'include'}", f"-I{folder}", "-std=c++14", "-O1", "-Wall", "-Wextra"]
        files = [str(ADAPTER), str(folder / "panokit_golden_test.cc"), *objects]
        command = ["g++", *includes, "-Werror", *macros, *files, *GTEST, "-o", str(program)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        wrong = {"": set(), "letterbox": {"Map"}} | (
            {"bgr": {"Input"}} if export == "photo" else {"offset": {"Heads"}}
        )
        for fault, tests in wrong.items():
            environment = {**os.environ, "FAULT": fault}
            told = subprocess.run([program], capture_output=True, text=True, env=environment)
            failed = set(re.findall(r"\[  FAILED  \] Photos/PanokitGolden\.(\w+)/", told.stdout))
            assert failed == tests, told.stdout
            assert (told.returncode != 0) == bool(tests)
