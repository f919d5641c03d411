"""ARM64 without a phone. What talks to the emulated side is tried with this machine's own Python;
the real one where there is one (scripts/arm64_toolchain.py)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from panokit.bundle import Bundle
from panokit.cli import app
from panokit.dump import dump_stages
from panokit.errors import ArgumentError, ExportError, UsageError
from panokit.photo import Photo
from panokit.segmenter import Segmenter
from panokit_validation import Verdict, validate_dump
from panokit_validation.arm64 import VARIABLE, EmulatedRuntime, python_arm64
from tests.toys.demo_bundles import toy_bundle


def photo() -> Photo:
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1)))
    return Photo.from_array(blocks.astype(np.uint8), "blocks")


def emulated(bundle: Bundle, **options: str) -> EmulatedRuntime:
    name = bundle.manifest.artifact().name
    return EmulatedRuntime(bundle, name, [sys.executable], **options)  # type: ignore[arg-type]


def test_heads_come_back_as_they_are() -> None:
    bundle = Bundle.open()
    here = Segmenter.open(bundle, threads=1)
    with emulated(bundle) as runtime:
        segmenter = Segmenter(bundle, here.artifact, runtime)
        for _ in range(2):
            stages = segmenter.stages(photo())
    expected = here.stages(photo())
    for head, values in expected.raw.items():
        assert (stages.raw[head] == values).all()
    dump = dump_stages(stages, here.artifact, runtime.name, runtime.metadata)
    assert dump.metadata["device"] == "ARM64 cortex-a76 (qemu)"
    assert validate_dump(dump, here).verdict is Verdict.PASS


def test_kernels_without_a_delegate_are_the_runtimes_own() -> None:
    bundle = Bundle.open()
    with emulated(bundle, kernels="builtin") as runtime:
        built_in = runtime.run(np.full((320, 320, 3), 90, np.uint8))
    with emulated(bundle) as runtime:
        fast = runtime.run(np.full((320, 320, 3), 90, np.uint8))
    assert any((built_in[n] != fast[n]).any() for n in fast)
    assert runtime.metadata["delegate"] == "xnnpack"


def test_half_precision_is_for_floats_only(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="expected a float artifact"):
        emulated(Bundle.open(), kernels="fp16")
    with emulated(Bundle.open(toy_bundle(tmp_path)), kernels="fp16") as runtime:
        heads = runtime.run(np.zeros((64, 64, 3), np.uint8))
    assert heads["center"].dtype == np.float32


def test_a_child_that_ends_is_told() -> None:
    bundle = Bundle.open()
    python = [sys.executable, "-c", "5/0"]
    runtime = EmulatedRuntime(bundle, bundle.manifest.artifact().name, python)
    with pytest.raises(ExportError, match=r"ended with code 1: .*ZeroDivisionError"):
        runtime.__enter__()


def test_without_an_emulated_python_the_way_to_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(UsageError, match="arm64_toolchain"):
        python_arm64()
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    wrong = ["device", "arm64", "a.jpg", "--out", str(tmp_path / "o")]
    assert CliRunner().invoke(app, wrong).exit_code != 0


@pytest.mark.slow
def test_arm64_kernels_for_real(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    try:
        python = python_arm64()
    except UsageError:
        pytest.skip("no emulated ARM64 Python is here: run scripts/arm64_toolchain.py")
    bundle = Bundle.open()
    here = Segmenter.open(bundle, threads=1)
    with EmulatedRuntime(bundle, here.artifact.name, [str(python)], "cortex-a53") as runtime:
        stages = Segmenter(bundle, here.artifact, runtime).stages(photo())
    expected = here.stages(photo())
    assert all((stages.raw[n] == expected.raw[n]).all() for n in expected.raw)
