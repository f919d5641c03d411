"""Writing bundles: whole, checked, the same twice."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load

from panokit.bundle import Artifact, Bundle, Manifest, TensorSpec, VectorFile, hash_path
from panokit.decoding import PostprocessConfig
from panokit.dump import read_dump
from panokit.errors import ArgumentError, ExportError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig, preprocess
from panokit.taxonomy import Taxonomy
from panokit_lab.bundle_writer import BundlePart, safetensors_bytes, write_bundle
from tests.toys.network import toy_photos

SIZE, CELLS = 32, 8
CHANNELS = {"semantic": 4, "center": 1, "offset": 2}
PHOTOS = toy_photos(3)


def spec(name: str, channels: int, size: int) -> TensorSpec:
    return TensorSpec(name, (1, size, size, channels), "int8", "nhwc", 0.5, 3)


@pytest.fixture
def part(tmp_path: Path) -> BundlePart:
    source = tmp_path / "source.tflite"
    source.write_bytes(b"not really a model")
    rng = np.random.default_rng(0)
    raw = {
        photo: {
            n: rng.integers(-128, 128, (CELLS, CELLS, c)).astype(np.int8)
            for n, c in CHANNELS.items()
        }
        for photo in PHOTOS
    }
    return BundlePart(
        name="tflite-int8",
        format="tflite",
        file="model.tflite",
        source=source,
        precision="int8",
        input=TensorSpec("image", (1, SIZE, SIZE, 3), "int8", "nhwc", 1.0, -128),
        outputs={n: spec(n, c, CELLS) for n, c in CHANNELS.items()},
        origin="litert",
        raw=raw,
    )


@pytest.fixture
def manifest(taxonomy: Taxonomy) -> Manifest:
    return Manifest(
        name="toy",
        taxonomy=taxonomy,
        preprocessing=PreprocessConfig((SIZE, SIZE)),
        postprocessing=PostprocessConfig(),
        stride=4,
        artifacts=(),
    )


def test_what_is_written_can_be_opened(
    tmp_path: Path, manifest: Manifest, part: BundlePart
) -> None:
    bundle = write_bundle(tmp_path / "toy.panokit", manifest, [part], PHOTOS)
    (artifact,) = bundle.manifest.artifacts
    assert bundle.path(artifact).read_bytes() == b"not really a model"
    assert artifact.sha256 == hash_path(part.source)
    assert artifact.outputs["offset"].zero_point == 3
    assert len(bundle.manifest.vectors) == 3
    assert Bundle.open(bundle.root).manifest == bundle.manifest


def test_golden_vectors_are_dumps(tmp_path: Path, manifest: Manifest, part: BundlePart) -> None:
    bundle = write_bundle(tmp_path / "toy.panokit", manifest, [part], PHOTOS)
    (artifact,) = bundle.manifest.artifacts
    for vector in bundle.manifest.vectors:
        dump = read_dump(bundle.root / vector.file)
        assert dump.metadata["artifact_sha256"] == artifact.sha256
        assert dump.metadata["runtime"] == vector.origin == "litert"
        assert dump.transform is not None
        assert dump.transform.photo_wh == (48, 40)
        assert dump.tensors["input"].shape == (SIZE, SIZE, 3)
        assert dump.tensors["panoptic"].shape == (SIZE, SIZE)
        photo = Photo.open(bundle.root / vector.photo)
        image, transform = preprocess(photo, manifest.preprocessing)
        np.testing.assert_array_equal(image, dump.tensors["input"])
        assert transform == dump.transform
        for head, values in part.raw[dump.name].items():
            assert dump.tensors[head].dtype == np.int8
            np.testing.assert_array_equal(dump.tensors[head], values)


def test_the_same_content_gives_the_same_bundle(
    tmp_path: Path, manifest: Manifest, part: BundlePart
) -> None:
    hashes = {
        hash_path(write_bundle(tmp_path / f"{i}" / "toy.panokit", manifest, [part], PHOTOS).root)
        for i in range(3)
    }
    assert len(hashes) == 1


def test_an_old_bundle_is_replaced_and_survives_a_failure(
    tmp_path: Path, manifest: Manifest, part: BundlePart
) -> None:
    path = tmp_path / "toy.panokit"
    write_bundle(path, manifest, [part], PHOTOS)
    before = hash_path(path)
    broken = dataclasses.replace(part, source=tmp_path / "missing.tflite")
    with pytest.raises(FileNotFoundError):
        write_bundle(path, manifest, [broken], PHOTOS)
    assert hash_path(path) == before
    renamed = dataclasses.replace(manifest, name="other")
    assert write_bundle(path, renamed, [part], PHOTOS).manifest.name == "other"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source.tflite", "toy.panokit"]


def test_a_folder_that_is_no_bundle_is_kept(
    tmp_path: Path, manifest: Manifest, part: BundlePart
) -> None:
    path = tmp_path / "holiday.panokit"
    path.mkdir()
    (path / "photo.jpg").write_bytes(b"dear")
    with pytest.raises(ExportError, match="no bundle"):
        write_bundle(path, manifest, [part], PHOTOS)
    assert (path / "photo.jpg").read_bytes() == b"dear"


def test_wrong_name(tmp_path: Path, manifest: Manifest, part: BundlePart) -> None:
    with pytest.raises(ArgumentError, match=r"ends in \.panokit"):
        write_bundle(tmp_path / "toy", manifest, [part], PHOTOS)


@pytest.mark.parametrize("case", ["none", "twice", "few-vectors"])
def test_parts_that_make_no_bundle(
    tmp_path: Path, manifest: Manifest, part: BundlePart, case: str
) -> None:
    few = dataclasses.replace(part, raw=dict(list(part.raw.items())[:2]))
    parts = {"none": [], "twice": [part, part], "few-vectors": [few]}[case]
    message = {
        "none": "at least one artifact", "twice": "to differ", "few-vectors": "at least 3"
    }[case]  # fmt: skip
    with pytest.raises(ArgumentError, match=message):
        write_bundle(tmp_path / "toy.panokit", manifest, parts, PHOTOS)


def test_own_safetensors_writer_against_the_library() -> None:
    tensors: dict[str, NDArray[Any]] = {
        "a": np.arange(3, dtype=np.int8),
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "c": np.arange(2, dtype=np.int32)[::-1],
        "d": np.array([1.5], np.float16),
        "e": np.zeros((0, 2), np.uint8),
    }
    content = safetensors_bytes(tensors, {"name": "é", "json": json.dumps({"a": 1})})
    read = load(content)
    assert read.keys() == tensors.keys()
    for name, values in tensors.items():
        assert read[name].dtype == values.dtype
        np.testing.assert_array_equal(read[name], values)


@pytest.mark.parametrize("which", ["written", "shipped"])
def test_manifests_fit_the_schema_of_the_docs(
    which: str, tmp_path: Path, manifest: Manifest, part: BundlePart, root: Path
) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json.loads((root / "docs" / "manifest.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    written = which == "written"
    bundle = write_bundle(tmp_path / "t.panokit", manifest, [part], PHOTOS) if written else None
    path = (bundle or Bundle.open()).root / "manifest.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(described, schema)
    known = {f.name for f in dataclasses.fields(Manifest)}
    assert known == schema["properties"].keys()
    for name, kind in (("artifact", Artifact), ("vector", VectorFile), ("tensor", TensorSpec)):
        fields = {f.name for f in dataclasses.fields(kind)}
        assert fields == schema["$defs"][name]["properties"].keys(), name
    del described["artifacts"][0]["sha256"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(described, schema)
