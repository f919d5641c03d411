"""The shipped weights and the shipped bundle: small enough, made from one another, and they see."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from panokit import Bundle, Photo, Segmenter, preprocess, read_dump
from panokit.bundle import path_bytes, shipped_bundle_path
from panokit.runtime import dequantize
from panokit.samples import sample_photos
from panokit_network.deploy import count_macs, count_parameters, fuse
from panokit_network.segmenter import open_weights
from panokit_network.weights import load_weights, shipped_weights_path
from panokit_validation import compare_maps, compare_tensors


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.open()


def test_sizes() -> None:
    assert path_bytes(shipped_weights_path()) <= 12_000_000
    assert path_bytes(shipped_bundle_path()) <= 6_000_000


def test_the_network_is_within_its_budget() -> None:
    network, _ = load_weights(shipped_weights_path())
    assert count_parameters(fuse(network)) <= 4_500_000
    assert count_macs(fuse(network), 320) <= 1_800_000_000


def test_licences_are_told_apart() -> None:
    licence = Bundle.open().manifest.licence
    assert licence["code"] == "Apache-2.0"
    assert "Research and evaluation only" in licence["weights"]


def test_the_bundle_was_made_from_the_committed_weights() -> None:
    manifest = Bundle.open().manifest
    made_from = hashlib.sha256(shipped_weights_path().read_bytes()).hexdigest()
    assert manifest.weights_sha256 == made_from, "run `make bundle`"
    assert manifest.postprocessing == load_weights(shipped_weights_path())[1].postprocessing


def test_int8_computes_what_the_weights_do(segmenter: Segmenter) -> None:
    torch_segmenter = open_weights(shipped_weights_path())
    photo = Photo.open(sample_photos()["astronaut"])
    image, _ = preprocess(photo, segmenter.bundle.manifest.preprocessing)
    expected = torch_segmenter.runtime.run(image)
    heads = dequantize(segmenter.runtime.run(image), segmenter.artifact.outputs)
    for name, least in (("semantic", 20), ("center", 20), ("offset", 15)):
        assert compare_tensors(heads[name], expected[name]).sqnr_db > least, name


def test_golden_vectors_reproduce_here(segmenter: Segmenter) -> None:
    vectors = segmenter.bundle.manifest.vectors
    assert len(vectors) >= 3
    for vector in vectors:
        dump = read_dump(segmenter.bundle.root / vector.file)
        raw = segmenter.runtime.run(dump.tensors["input"])
        for name, values in raw.items():
            # Another processor may round a few accumulations differently, by one step.
            steps = np.abs(values.astype(int) - dump.tensors[name].astype(int))
            assert steps.max() <= 2
            assert (steps > 0).mean() < 0.05
        photo = sample_photos()[dump.name]
        ids = segmenter.stages(photo).panoptic.ids
        assert compare_maps(ids, dump.tensors["panoptic"]).equal_pixels > 0.98


@pytest.mark.parametrize(
    ("photo", "category"),
    [("astronaut", "person"), ("grace_hopper", "person"), ("chelsea", "cat")],
)
def test_sample_photos_hold_one_of_what_they_show(
    segmenter: Segmenter, photo: str, category: str
) -> None:
    path: Path = sample_photos()[photo]
    assert len(segmenter.segment(path).find(category)) == 1
