"""Changed model files with a right hash are refused with a sentence, or they run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from panokit import _trial
from panokit._files import write_json
from panokit._reading import read_json
from panokit.bundle import MANIFEST, Bundle, hash_path, path_bytes
from panokit.errors import BundleError
from tests.fuzz.changes import changed_bytes
from tests.fuzz.children import use_all
from tests.fuzz.rounds import rounds
from tests.toys.demo_bundles import camera_bundle, toy_bundle

pytestmark = pytest.mark.slow

WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")
MODEL = Path("Data/com.apple.CoreML/model.mlmodel")


def _bundles(sound: Path, folder: Path, count: int) -> Iterator[Path]:
    """Copies of a bundle whose one model file has other bytes and a right hash."""
    rng = np.random.default_rng(7)
    (artifact,) = Bundle.open(sound).manifest.artifacts
    content = (sound / artifact.file).read_bytes()
    for number in range(count):
        root = Path(shutil.copytree(sound, folder / f"{number}.panokit"))
        (root / artifact.file).write_bytes(changed_bytes(content, rng))
        data = read_json(root / MANIFEST)
        path = root / artifact.file
        stated = {"sha256": hash_path(path), "bytes": path_bytes(path)}
        write_json(root / MANIFEST, {**data, "artifacts": [{**data["artifacts"][0], **stated}]})
        yield root


def _camera(folder: Path) -> Path:
    """The shipped network alone."""
    root = camera_bundle(folder)
    data = read_json(root / MANIFEST)
    write_json(root / MANIFEST, {**data, "artifacts": data["artifacts"][:1]})
    return root


@pytest.mark.parametrize(
    ("make", "count"),
    [(toy_bundle, rounds(250, 6000)), (_camera, rounds(20, 400))],
    ids=["toy float32", "shipped int8"],
)
def test_tflite_files_in_bundles(make: Callable[[Path], Path], count: int, tmp_path: Path) -> None:
    sound = make(tmp_path)
    changed = tmp_path / "changed"
    changed.mkdir()
    report = use_all("bundle", [sound, *_bundles(sound, changed, count)])
    report.check()
    assert str(sound) not in report.refused
    assert report.ran + len(report.refused) == count + 1
    assert len(report.refused) > count // 10


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_onnx_files(precision: str, tmp_path: Path) -> None:
    """What passes the check and ends its process all the same is refused by the trial."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra onnx)")
    pytest.importorskip("torch", reason="torch is not installed (extra train)")
    from panokit.onnx_check import OPERATORS
    from panokit_compression import calibration_from_photos
    from panokit_compression.onnx import quantize_onnx
    from panokit_converters.onnx import convert_onnx
    from tests.fuzz.messages import change, texts
    from tests.toys.artifacts import CONFIG, SIZE
    from tests.toys.network import ToyNetwork, toy_photos

    content = convert_onnx(ToyNetwork().eval(), (SIZE, SIZE))
    if precision == "int8":
        photos = calibration_from_photos(toy_photos(4), 32, CONFIG)
        content = quantize_onnx(content, precision, photos)
    rng = np.random.default_rng(8)
    words = [*texts(onnx.load_model_from_string(content)), *sorted(OPERATORS), "Loop", "../x", ""]
    count = rounds(200, 1500)
    files = [tmp_path / "sound.onnx"]
    files[0].write_bytes(content)
    for number in range(count):
        files.append(tmp_path / f"{number}.onnx")
        if number % 4:
            model = onnx.load_model_from_string(content)
            for _ in range(int(rng.integers(1, 4))):
                change(model.graph if number % 3 else model, rng, words)
            files[-1].write_bytes(model.SerializePartialToString())
        else:
            files[-1].write_bytes(changed_bytes(content, rng))
    report = use_all("onnx", files)
    for name in [n for n in report.findings if " (after others)" not in n]:
        with pytest.raises(BundleError, match=r"ended the process|did not run|cannot run it"):
            _trial.try_onnx(Path(name))
        del report.findings[name]
        report.findings.pop(f"{name} (after others)", None)
    report.check()
    assert report.ran > count // 20
    assert len(report.refused) > count // 10


def test_core_ml_packages(tmp_path: Path) -> None:
    pytest.importorskip("coremltools", reason="coremltools is not installed (extra export)")
    from coremltools.proto import Model_pb2

    from panokit_converters.coreml_interpreter.operators import OPERATORS
    from tests.fuzz.messages import change, texts
    from tests.toys.artifacts import toy_coreml

    sound = toy_coreml()
    model, weights = (sound / MODEL).read_bytes(), (sound / WEIGHTS).read_bytes()
    whole = Model_pb2.Model.FromString(model)
    words = [*texts(whole), *sorted(OPERATORS), "while_loop", "../x", ""]
    rng = np.random.default_rng(9)
    count = rounds(150, 2500)
    packages = [sound]
    for number in range(count):
        packages.append(Path(shutil.copytree(sound, tmp_path / f"{number}.mlpackage")))
        if number % 8 == 0:
            (packages[-1] / MODEL).write_bytes(changed_bytes(model, rng))
        elif number % 8 == 1:
            (packages[-1] / WEIGHTS).write_bytes(changed_bytes(weights, rng))
        else:
            other = Model_pb2.Model.FromString(model)
            for _ in range(int(rng.integers(1, 4))):
                change(_inner(other) if number % 4 else other, rng, words)
            (packages[-1] / MODEL).write_bytes(other.SerializePartialToString())
    report = use_all("coreml", packages)
    report.check()
    assert str(sound) not in report.refused
    assert report.ran + len(report.refused) == count + 1
    assert report.ran > count // 20
    assert len(report.refused) > count // 10


def _inner(model: object) -> object:
    """The block of the program, where the operators are."""
    (function,) = model.mlProgram.functions.values()  # type: ignore[attr-defined]
    (block,) = function.block_specializations.values()
    return block
