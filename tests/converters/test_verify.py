"""Verification of bundles: sound ones pass, injected faults fail and are named; no torch."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from panokit.bundle import Bundle
from panokit.errors import ArgumentError, BundleError, MissingExtraError
from panokit_converters.commands import verify as cli_verify
from panokit_converters.measure import Thresholds, thresholds_for
from panokit_converters.runners import CoreMlInterpreter, CoreMlPredictor, open_artifact
from panokit_converters.verify import (
    ArtifactVerdict,
    verify_bundle,
)
from tests.toys.artifacts import (
    PHOTOS,
    coreml_part,
    tflite_part,
    toy_bundle,
    toy_image,
    toy_tflite,
)
from tests.toys.tflite_edit import (
    double_weight_scale,
    edit_tflite,
    flip_align_corners,
    shrink_activation_scale,
    swap_input_channels,
    zero_channel,
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("sound")
    parts = [tflite_part(folder, recipe) for recipe in ("float32", "float16", "int8")]
    return toy_bundle(folder, *parts, coreml_part())


def run(command: Callable[..., None], *arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return done.exit_code, done.output


def test_a_sound_bundle_passes(sound: Bundle) -> None:
    verdicts = {v.artifact: v for v in verify_bundle(sound, PHOTOS)}
    assert [v.failures for v in verdicts.values()] == [()] * 4
    assert all(v.golden is not None and v.golden.identical for v in verdicts.values())
    assert verdicts["tflite-float32"].agreement is None  # the reference itself
    half = verdicts["tflite-float16"].agreement
    assert half is not None
    assert min(h.sqnr_db for h in half.heads.values()) > 40
    assert half.panoptic is not None
    assert half.panoptic.equal_pixels >= 0.99
    package = verdicts["coreml-float16"]
    assert (package.runtime, package.reference) == ("coreml-interpreter", "tflite-float32")
    json.dumps([v.to_json() for v in verdicts.values()], allow_nan=False)


def test_command_line(sound: Bundle, tmp_path: Path) -> None:
    photos, result = tmp_path / "photos", tmp_path / "result.json"
    photos.mkdir()
    for name, photo in PHOTOS.items():
        Image.fromarray(photo.rgb_hwc).save(photos / f"{name}.png")
    code, output = run(
        cli_verify.verify, str(sound.root), "--photos", str(photos), "--json", str(result)
    )
    assert code == 0, output
    data = json.loads(result.read_text())
    assert (data["verdict"], data["photos"]) == ("pass", sorted(PHOTOS))
    assert {a["verdict"] for a in data["artifacts"]} == {"pass"}
    assert "coreml-float16" in output


def test_the_bundle_that_ships_passes() -> None:
    (verdict,) = verify_bundle(Bundle.open())
    assert verdict.passed, verdict.failures
    assert verdict.golden is not None
    assert verdict.golden.vectors == 3


FAULTS: dict[str, tuple[str, Callable[[Any], None], str]] = {
    "align_corners": ("float32", flip_align_corners, "align_corners"),
    "align_corners-int8": ("int8", flip_align_corners, "align_corners"),
    "zeroed": ("float32", zero_channel, "channel 2: its weights are zero"),
    "zeroed-int8": ("int8", partial(zero_channel, dtype="int8"), "its weights are zero"),
    "weight-scale": ("int8", double_weight_scale, "a wrong scale"),
    "activation-scale": ("int8", shrink_activation_scale, "a scale"),
    "swapped": ("float32", swap_input_channels, "order [2, 1, 0]"),
    "swapped-int8": ("int8", partial(swap_input_channels, dtype="int8"), "order [2, 1, 0]"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_fails_and_is_named(fault: str, tmp_path: Path) -> None:
    """The file was changed and its hash with it: only what it computes gives it away."""
    recipe, change, words = FAULTS[fault]
    bad = edit_tflite(toy_tflite(recipe), change)
    others = {"float32": "float16", "int8": "float32"}[recipe]
    bundle = toy_bundle(tmp_path, tflite_part(tmp_path, recipe, bad), tflite_part(tmp_path, others))
    photo, result = tmp_path / "photo.png", tmp_path / "result.json"
    Image.fromarray(PHOTOS["toy0"].rgb_hwc).save(photo)
    code, output = run(
        cli_verify.verify, str(bundle.root), "--photos", str(photo), "--bisect",
        "--artifact", f"tflite-{recipe}", "--artifact", f"tflite-{others}", "--json", str(result),
    )  # fmt: skip
    assert code == 1, output
    data = json.loads(result.read_text())
    (failed,) = (a for a in data["artifacts"] if a["artifact"] == f"tflite-{recipe}")
    assert failed["verdict"] == "fail"
    # XNNPACK itself refuses scales that do not fit together.
    reason = "cannot be run here" if fault == "activation-scale" else "golden vectors"
    assert reason in failed["failures"][0]
    (found,) = (b for b in data["bisect"] if b["artifact"] == f"tflite-{recipe}")
    assert words in found["first_bad"]["text"]


def test_bisect_command(sound: Bundle, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(edit_tflite(toy_tflite(), flip_align_corners))
    photo = tmp_path / "photo.png"
    Image.fromarray(PHOTOS["toy1"].rgb_hwc).save(photo)
    result = tmp_path / "bisect.json"
    reference = f"{sound.root}:tflite-float32"
    code, output = run(
        cli_verify.bisect, str(bad), reference, "--photo", str(photo), "--json", str(result)
    )
    assert code == 1
    assert "align_corners" in output
    assert json.loads(result.read_text())["first_bad"]["type"] == "RESIZE_BILINEAR"
    code, output = run(
        cli_verify.bisect, f"{sound.root}:coreml-float16", reference, "--photo", str(photo)
    )
    assert code == 0
    assert "leaves the tolerance" in output


def test_thresholds_of_the_export_count(sound: Bundle) -> None:
    strict = dataclasses.replace(
        sound.manifest,
        quality={"artifacts": {"tflite-int8": {"thresholds": Thresholds(60, 1, 100).to_json()}}},
    )
    bundle = dataclasses.replace(sound, manifest=strict)
    (verdict,) = verify_bundle(bundle, PHOTOS, artifacts=["tflite-int8"])
    assert not verdict.passed
    text = "\n".join(verdict.failures)
    assert "head 'semantic': expected at least 60 dB" in text
    assert "equal pixels" in text
    assert verdict.thresholds == Thresholds(60, 1, 100)


def test_thresholds_by_precision(sound: Bundle) -> None:
    assert thresholds_for(sound.manifest.artifact("tflite-float32")).sqnr_db == 60
    odd = dataclasses.replace(sound.manifest.artifacts[0], precision="sparse75-palette2")
    assert 0 < thresholds_for(odd).sqnr_db < thresholds_for(sound.manifest.artifacts[0]).sqnr_db


@pytest.mark.parametrize(
    ("field", "value"), [("sqnr_db", -1), ("equal_pixels", 1.1), ("pq", "high"), ("pq", True)]
)
def test_impossible_thresholds(field: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=field):
        Thresholds(**{"sqnr_db": 1.0, "equal_pixels": 1.0, "pq": 1.0, field: value})


def test_an_artifact_that_cannot_run_fails_and_the_rest_is_verified(tmp_path: Path) -> None:
    bundle = toy_bundle(
        tmp_path, tflite_part(tmp_path, "int8", b"TFL3 no model"), tflite_part(tmp_path, "float32")
    )
    bad, good = verify_bundle(bundle, PHOTOS)
    assert good.passed
    (reason,) = bad.failures
    assert "cannot be run here" in reason
    assert "damaged" in reason


def test_a_changed_file_is_bad_input(sound: Bundle, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sound.root, tmp_path / "toy.panokit"))
    (copy / "model-int8.tflite").write_bytes(toy_tflite())
    with pytest.raises(BundleError, match=r"model-int8\.tflite"):
        run(cli_verify.verify, str(copy))  # the program makes exit code 2 of it


def test_nothing_to_verify_with_is_a_failure(sound: Bundle) -> None:
    bare = dataclasses.replace(
        sound.manifest, vectors=(), artifacts=(sound.manifest.artifact("tflite-int8"),)
    )
    (verdict,) = verify_bundle(dataclasses.replace(sound, manifest=bare), PHOTOS)
    assert verdict.failures == (
        "nothing to verify it with: no golden vectors and no float32 artifact",
    )


def test_another_bundle_can_be_the_reference(sound: Bundle, tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path, tflite_part(tmp_path, "int8"))
    reference = (sound, sound.manifest.artifact("tflite-float32"))
    verdict: ArtifactVerdict
    (verdict,) = verify_bundle(bundle, PHOTOS, reference=reference)
    assert (verdict.reference, verdict.passed) == ("tflite-float32", True)
    with pytest.raises(ArgumentError, match="same taxonomy"):
        verify_bundle(Bundle.open(), PHOTOS, reference=reference)


def test_torch_is_not_needed(sound: Bundle) -> None:
    script = f"""
import sys
sys.modules["torch"] = None
sys.modules["coremltools"] = None
from panokit.bundle import Bundle
from panokit_converters.verify import verify_bundle
assert all(v.passed for v in verify_bundle(Bundle.open({str(sound.root)!r})))
import panokit_converters.commands.verify
assert "ai_edge_quantizer" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


class FakeCoreMl(types.ModuleType):
    """As much of coremltools as runs a package; float32 results, as from Core ML itself."""

    def __init__(self, program: Any) -> None:
        super().__init__("coremltools")
        self.seen: list[tuple[str, str]] = []
        seen = self.seen
        self.ComputeUnit = types.SimpleNamespace(ALL="all units", CPU_ONLY="cpu")

        class MLModel:
            def __init__(self, path: str, compute_units: str) -> None:
                seen.append((path, compute_units))

            def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
                (image,) = inputs.values()
                assert isinstance(image, Image.Image)
                outputs = program.run({"image": np.asarray(image)})
                return {name: v.astype(np.float32) for name, v in outputs.items()}

        self.models = types.SimpleNamespace(MLModel=MLModel)


def test_on_macos_core_ml_itself_predicts(sound: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = sound.manifest.artifact("coreml-float16")
    here = open_artifact(sound, artifact)
    assert isinstance(here, CoreMlInterpreter)
    fake = FakeCoreMl(here.program)
    monkeypatch.setitem(sys.modules, "coremltools", fake)
    monkeypatch.setattr(sys, "platform", "darwin")
    there = open_artifact(sound, artifact)
    assert isinstance(there, CoreMlPredictor)
    assert fake.seen == [(str(sound.path(artifact)), "all units")]
    expected, found = here.run(toy_image()), there.run(toy_image())
    for head, values in expected.items():
        assert found[head].dtype == np.float16
        np.testing.assert_array_equal(found[head], values)
    (verdict,) = verify_bundle(sound, PHOTOS, artifacts=["coreml-float16"])
    assert (verdict.runtime, verdict.passed) == ("coreml-all", True)


def test_on_macos_without_coremltools(sound: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    artifact = sound.manifest.artifact("coreml-float16")
    with pytest.raises(MissingExtraError, match=r"pip install -e .*\[export\]"):
        CoreMlPredictor(sound.path(artifact), artifact)


def test_what_is_not_installed_is_not_run_and_does_not_fail(
    sound: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    monkeypatch.setattr(sys, "platform", "darwin")
    (verdict,) = verify_bundle(sound, PHOTOS, artifacts=["coreml-float16"])
    assert (verdict.outcome, verdict.passed, verdict.failures) == ("not run", False, ())
    assert "pip install" in verdict.not_run
    code, output = run(cli_verify.verify, str(sound.root), "--golden-only")
    assert code == 0
    assert "coreml-float16 not run" in output
    assert (
        run(cli_verify.verify, str(sound.root), "--golden-only", "--artifact", "coreml-float16")[0]
        == 2
    )


def test_without_photos_the_golden_vectors_are_used(
    sound: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_installed() -> dict[str, Path]:
        raise MissingExtraError("The sample photos", "demo")

    monkeypatch.setattr("panokit_converters.measure.sample_photos", none_installed)
    code, output = run(cli_verify.verify, str(sound.root))
    assert code == 0
    assert "Golden vectors are used alone" in output


def test_a_photo_that_becomes_another_input_fails(sound: Bundle) -> None:
    """Preprocessing is tested from the bundle alone: its vectors come with their photos."""
    assert all(vector.photo for vector in sound.manifest.vectors)
    vector = next(v for v in sound.manifest.vectors if v.artifact == "tflite-float32")
    path = sound.root / vector.photo
    kept = path.read_bytes()
    pixels = np.asarray(Image.open(path)).copy()
    pixels[:9, :9] ^= 64
    Image.fromarray(pixels).save(path)
    try:
        verdicts = {v.artifact: v for v in verify_bundle(sound)}
    finally:
        path.write_bytes(kept)
    assert "is preprocessed to another input" in verdicts["tflite-float32"].failures[0]
