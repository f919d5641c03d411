"""Bundles: whole ones open, every kind of damage is refused with the file's name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from panokit._files import replacing, replacing_folder
from panokit.bundle import (
    Artifact,
    Bundle,
    Manifest,
    TensorSpec,
    VectorFile,
    hash_path,
    path_bytes,
)
from panokit.decoding import PostprocessConfig
from panokit.errors import ArgumentError, BundleError
from panokit.preprocessing import PreprocessConfig
from panokit.taxonomy import Taxonomy


@pytest.fixture
def bundle(tmp_path: Path, taxonomy: Taxonomy) -> Path:
    """A whole bundle whose model is no model: opening it must not need one."""
    root = tmp_path / "toy.panokit"
    (root / "vectors").mkdir(parents=True)
    (root / "Model.mlpackage" / "Data").mkdir(parents=True)
    (root / "model.tflite").write_bytes(bytes(range(256)) * 8)
    (root / "Model.mlpackage" / "Data" / "weight.bin").write_bytes(b"weights")
    (root / "vectors" / "a.safetensors").write_bytes(b"vector")
    image = TensorSpec("image", (1, 8, 8, 3), "int8", "nhwc", 1.0, -128)
    heads = {
        n: TensorSpec(n, (1, 2, 2, c), "int8", "nhwc", 0.1, 3)
        for n, c in (("semantic", 4), ("center", 1), ("offset", 2))
    }

    def artifact(name: str, format: str, file: str, precision: str) -> Artifact:
        path = root / file
        digest, size = hash_path(path), path_bytes(path)
        return Artifact(name, format, file, digest, size, precision, image, heads)

    manifest = Manifest(
        name="toy",
        taxonomy=taxonomy,
        preprocessing=PreprocessConfig((8, 8)),
        postprocessing=PostprocessConfig(),
        stride=4,
        artifacts=(
            artifact("coreml-fp16", "coreml", "Model.mlpackage", "float16"),
            artifact("tflite-int8", "tflite", "model.tflite", "int8"),
        ),
        vectors=(
            VectorFile(
                "tflite-int8",
                "vectors/a.safetensors",
                hash_path(root / "vectors" / "a.safetensors"),
                "litert",
            ),
        ),
        licence={"code": "Apache-2.0", "weights": "none"},
    )
    (root / "manifest.json").write_text(json.dumps(manifest.to_json()))
    return root


def edit(bundle: Path, change: Callable[[dict], object]) -> None:
    path = bundle / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_a_whole_bundle_opens_and_round_trips(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    assert Manifest.from_json(json.loads(json.dumps(opened.manifest.to_json()))) == opened.manifest
    assert opened.manifest.artifact().name == "tflite-int8"
    assert opened.path(opened.manifest.artifact("coreml-fp16")).is_dir()
    with pytest.raises(ArgumentError, match=r"no artifact 'tflite' .*; expected one of"):
        opened.manifest.artifact("tflite")


def flip_one_byte(bundle: Path) -> None:
    path = bundle / "model.tflite"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped byte": (flip_one_byte, r"model\.tflite: does not match its SHA-256"),
    "truncated model": (
        lambda b: (b / "model.tflite").write_bytes(b"short"),
        r"model\.tflite: expected 2048 bytes, got 5",
    ),
    "missing model": (
        lambda b: (b / "model.tflite").unlink(),
        "listed in the manifest but missing",
    ),
    "changed file in a package": (
        lambda b: (b / "Model.mlpackage" / "Data" / "weight.bin").write_bytes(b"weighty"[:7]),
        r"Model\.mlpackage: does not match",
    ),
    "extra file in a package": (
        lambda b: (b / "Model.mlpackage" / "evil").write_bytes(b""),
        r"Model\.mlpackage: does not match",
    ),
    "changed vector": (
        lambda b: (b / "vectors" / "a.safetensors").write_bytes(b"vectox"),
        r"a\.safetensors: does not match",
    ),
    "no manifest": (lambda b: (b / "manifest.json").unlink(), "has no manifest.json"),
    "manifest is text": (
        lambda b: (b / "manifest.json").write_text("hello"),
        "expected JSON",
    ),
    "truncated manifest": (
        lambda b: (b / "manifest.json").write_text((b / "manifest.json").read_text()[:500]),
        "expected JSON",
    ),
    "foreign manifest": (
        lambda b: (b / "manifest.json").write_text('{"models": []}'),
        "expected schema_version 1, got None",
    ),
    "later version": (
        lambda b: edit(b, lambda d: d.update(schema_version=2)),
        "expected schema_version 1, got 2",
    ),
    "list for a manifest": (
        lambda b: (b / "manifest.json").write_text("[1]"),
        "expected schema_version",
    ),
    "field missing": (
        lambda b: edit(b, lambda d: d.pop("taxonomy")),
        "manifest lacks 'taxonomy'",
    ),
    "wrong type": (
        lambda b: edit(b, lambda d: d.update(artifacts=5)),
        "manifest.artifacts is 5; expected a list",
    ),
    "bad parameter": (
        lambda b: edit(b, lambda d: d["postprocessing"].update(window=4)),
        "window is 4; expected an odd number",
    ),
    "path climbs out": (
        lambda b: edit(b, lambda d: d["artifacts"][0].update(file="../../etc/passwd")),
        "expected a path inside the bundle",
    ),
    "absolute path": (
        lambda b: edit(b, lambda d: d["artifacts"][0].update(file="/etc/passwd")),
        "expected a path inside the bundle",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_refused(bundle: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(bundle)
    with pytest.raises(BundleError, match=message):
        Bundle.open(bundle)


def test_a_link_out_of_the_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.tflite"
    (bundle / "model.tflite").rename(target)
    (bundle / "model.tflite").symlink_to(target)
    with pytest.raises(BundleError, match="through a link"):
        Bundle.open(bundle)


def test_missing_bundle_and_file_for_folder(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle folder"):
        Bundle.open(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="is a file"):
        Bundle.open(bundle / "manifest.json")


def test_failed_writes_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        partial.write_text(f"new {1 // 0}")
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(ZeroDivisionError), replacing_folder(folder) as partial:
        (partial / f"new{1 // 0}").touch()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "x.txt"]
    assert path.read_text() == "old"
    assert (folder / "old").exists()
    with replacing_folder(folder) as partial:
        (partial / "new").touch()
    assert [p.name for p in folder.iterdir()] == ["new"]


@pytest.mark.parametrize(
    "name", [".DS_Store", "Data/._weight.bin", "Thumbs.db", "Data/desktop.ini"]
)
def test_files_that_systems_put_into_a_package_change_nothing(bundle: Path, name: str) -> None:
    (bundle / "Model.mlpackage" / name).write_bytes(b"\0\0\0\1Bud1")
    assert len(Bundle.open(bundle).manifest.artifacts) == 2
    (bundle / "Model.mlpackage" / "Data" / "weight.bin").write_bytes(b"weighty"[:7])
    with pytest.raises(BundleError, match="does not match"):
        Bundle.open(bundle)
