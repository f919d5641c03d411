"""The Kotlin library on the JVM: vectors, its JUnit tests, and dumps of a camera app."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panokit.bundle import shipped_bundle_path
from panokit.dump import HEADS
from panokit.samples import sample_photos
from panokit.segmenter import Segmenter
from panokit.vectors import write_golden_tests
from panokit_validation import RunConfig
from panokit_validation.run import validate_dumps
from tests.toys.scripts import load_script

kotlin = load_script("native_kotlin")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if reason := kotlin.missing():
        pytest.skip(reason)
    return kotlin.build(tmp_path_factory.mktemp("kotlin"))


def test_all_vectors_pass_through_jni(built: Any, tmp_path: Path) -> None:
    assert kotlin.prove(built, tmp_path) == ""


def test_the_junit_tests_pass(built: Any) -> None:
    done = built.java("org.junit.runner.JUnitCore", "panokit.PanokitTest")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OK (5 tests)" in done.stdout
    assert "WARNING in native method" not in done.stdout


def test_android_pages_of_16_kilobytes(built: Any) -> None:
    """Every loadable segment of the library is aligned to 16 KB (ELF, 64 bit)."""
    data = (built.folder / "libpanokit_jni.so").read_bytes()
    offset, size, count = (int.from_bytes(data[a:b], "little") for a, b in
                           ((32, 40), (54, 56), (56, 58)))  # fmt: skip
    for i in range(count):
        header = data[offset + i * size : offset + (i + 1) * size]
        if int.from_bytes(header[:4], "little") == 1:
            assert int.from_bytes(header[48:56], "little") % 0x4000 == 0


def camera_planes(folder: Path) -> tuple[int, int]:
    """Y, U and V of a photo with padded rows, and the photo that they stand for; BT.601, video."""
    rgb = np.asarray(Image.open(sample_photos()["astronaut"]).convert("RGB").resize((400, 300)))
    r, g, b = np.moveaxis(rgb.astype(np.float64), -1, 0)
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    y = np.clip(np.round(luma * 219 / 255 + 16), 16, 235)
    u, v = ((c - luma) / s * 224 / 255 + 128 for c, s in ((b, 1.772), (r, 1.402)))
    u, v = (np.round(p.reshape(150, 2, 200, 2).mean((1, 3))) for p in (u, v))
    folder.mkdir()
    for name, plane, pad in (("y", y, 8), ("u", u, 8), ("v", v, 8)):
        np.pad(plane, ((0, 0), (0, pad))).astype(np.uint8).tofile(folder / f"{name}.bin")
    luma = (y - 16) * 255 / 219
    cb, cr = ((p.repeat(2, 0).repeat(2, 1) - 128) * 255 / 224 for p in (u, v))
    red, blue = luma + 1.402 * cr, luma + 1.772 * cb
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    photo = np.clip(np.round(np.stack([red, green, blue], -1)), 0, 255).astype(np.uint8)
    photos = folder.parent / "photos"
    photos.mkdir(exist_ok=True)
    Image.fromarray(photo).save(photos / f"{folder.name}.png")
    return 400, 300


@pytest.mark.parametrize(
    ("fault", "verdict", "stage", "cause"),
    [
        ("", "pass", None, None),
        ("uv", "fail", "input", "uv-swapped"),
        ("stride", "fail", "heads", "head-row-stride"),
    ],
    ids=["right", "U and V swapped", "row stride of the heads"],
)
def test_dumps_of_a_camera_app_are_judged(
    built: Any, tmp_path: Path, fault: str, verdict: str, stage: str | None, cause: str | None
) -> None:
    folder = tmp_path / "party"
    size = [str(n) for n in camera_planes(folder)]
    words = ["panokit.VectorsKt", "camera", shipped_bundle_path(), folder, *size, fault]
    done = built.java(*words)  # to the input; the network runs here
    assert done.returncode == 0, done.stdout + done.stderr
    taken = np.fromfile(folder / "input.bin", np.int8).astype(np.int16) + 128
    segmenter = Segmenter.open(threads=1)
    for name, values in segmenter.runtime.run(taken.astype(np.uint8).reshape(320, 320, 3)).items():
        values.tofile(folder / f"{name}.bin")
    done = built.java(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    config = RunConfig(photos=str(tmp_path / "photos"))
    (outcome,) = validate_dumps([folder / "party.safetensors"], config)
    assert outcome.photo is not None, outcome.reason
    assert outcome.photo["verdict"].startswith(verdict), outcome.photo
    causes = [c["name"] for c in outcome.photo["causes"]]
    bad = outcome.photo["first_bad_stage"]
    assert bad in HEADS if stage == "heads" else bad == stage, bad
    assert causes[:1] == ([cause] if cause else []), causes


ADAPTER = Path(__file__).parent / "adapters" / "AppGoldenTest.kt"


def test_the_junit_target_passes_and_fails_where_it_should(built: Any, tmp_path: Path) -> None:
    write_golden_tests(tmp_path / "golden", "junit")
    sources = tmp_path / "golden" / "src" / "test"
    shutil.copy(ADAPTER, sources / "kotlin")
    jar = tmp_path / "golden.jar"
    kotlin.compile_kotlin(sources / "kotlin", jar, "-cp", built.classpath)
    for fault, failed in (("", set()), ("offset", {"inputToHeads"}), ("letterbox", {"headsToMap"})):
        classpath = [jar, sources / "resources"]
        words = [f"-Dfault={fault}", "org.junit.runner.JUnitCore", "AppGoldenTest"]
        done = built.java(*words, classpath=classpath)
        found = set(re.findall(r"^\d+\) (\w+)\(AppGoldenTest\)", done.stdout, re.M))
        assert found == failed, done.stdout + done.stderr
