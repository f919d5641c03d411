"""The way from a weight file to a bundle, with a small network of the real kind."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from panokit import Segmenter
from panokit.bundle import Bundle, hash_path
from panokit.dump import read_dump
from panokit.errors import ArgumentError, ExportError
from panokit.photo import Photo
from panokit.preprocessing import preprocess
from panokit.taxonomy import Taxonomy
from panokit_converters import export as export_module
from panokit_converters.cli import export
from panokit_converters.contract import HEADS, run_heads
from panokit_converters.export import ExportRequest, export_bundle
from panokit_converters.tflite import convert_tflite, tflite_operators, xnnpack_share
from panokit_network.deploy import fuse
from panokit_network.model import NetworkConfig, PanopticNetwork
from panokit_network.weights import load_weights, save_weights
from tests.converters.toy_network import toy_photos

SIZE = 64
PLAIN = {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "RESIZE_BILINEAR"}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a narrow network, and photos."""
    folder = tmp_path_factory.mktemp("export")
    config = NetworkConfig(classes=4, pyramid_width=16, semantic_width=16, instance_width=16)
    torch.manual_seed(0)
    network = PanopticNetwork(config).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # keeps signals alive through random layers
            nn.init.uniform_(module.bias, 0, 1)
    categories = [{"id": i + 1, "name": f"class {i}", "isthing": i % 2} for i in range(4)]
    taxonomy = Taxonomy.from_json({"name": "toy", "categories": categories})
    save_weights(folder / "w.safetensors", network.state_dict(), config, taxonomy, {}, "test only")
    (folder / "photos").mkdir()
    for name, photo in toy_photos(4, (100, 80)).items():
        Image.fromarray(photo.rgb_hwc).save(folder / "photos" / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def bundle(work: Path) -> Bundle:
    out, result = work / "toy.panokit", work / "result.json"
    app = typer.Typer()
    app.command()(export)
    done = CliRunner().invoke(
        app,
        [
            *("--weights", str(work / "w.safetensors"), "--out", str(out)),
            *("--recipe", "float32,int8", "--formats", "tflite,coreml", "--size", str(SIZE)),
            *("--photos", str(work / "photos"), "--json", str(result)),
        ],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    return Bundle.open(out)


def test_artifacts_of_the_bundle(bundle: Bundle, work: Path) -> None:
    manifest = bundle.manifest
    assert [a.name for a in manifest.artifacts] == [
        "tflite-float32", "tflite-int8", "coreml-float16"
    ]  # fmt: skip
    assert manifest.artifact().name == "tflite-int8"
    assert manifest.weights_sha256 == hash_path(work / "w.safetensors")
    assert manifest.licence == {"code": "Apache-2.0", "weights": "test only"}
    assert manifest.stride == 4
    assert len(manifest.recipe["calibration"]["photos"]) == 32
    assert manifest.artifact("coreml-float16").tools["coremltools"]
    written = json.loads((work / "result.json").read_text())
    assert written["artifacts"][1]["sha256"] == manifest.artifact().sha256


def test_tflite_float_equals_torch(bundle: Bundle) -> None:
    figures = bundle.manifest.quality["artifacts"]["tflite-float32"]
    assert figures["argmax_agreement"] > 0.999
    for head in HEADS:
        assert figures["heads"][head]["sqnr_db"] >= 60


def test_int8_is_measured_and_near(bundle: Bundle) -> None:
    figures = bundle.manifest.quality["artifacts"]["tflite-int8"]
    assert all(figures["heads"][h]["sqnr_db"] > 10 for h in HEADS)
    image = bundle.manifest.artifact("tflite-int8").input
    assert (image.dtype, image.scale, image.zero_point) == ("int8", 1.0, -128)


@pytest.mark.parametrize("name", ["tflite-float32", "tflite-int8"])
def test_only_plain_operators_all_in_xnnpack(bundle: Bundle, name: str) -> None:
    content = bundle.path(bundle.manifest.artifact(name)).read_bytes()
    # no PAD for stride 2, no TRANSPOSE for the layout, nothing custom
    assert tflite_operators(content).keys() == PLAIN
    assert xnnpack_share(content) == 1


def test_segmenter_reproduces_the_golden_vectors(bundle: Bundle, work: Path) -> None:
    for artifact in bundle.manifest.artifacts[:2]:
        segmenter = Segmenter.open(bundle, artifact.name)
        vectors = [v for v in bundle.manifest.vectors if v.artifact == artifact.name]
        assert len(vectors) == 3
        for vector in vectors:
            dump = read_dump(bundle.root / vector.file)
            stages = segmenter.stages(work / "photos" / f"{dump.name}.png")
            np.testing.assert_array_equal(stages.input_hwc, dump.tensors["input"])
            for head in HEADS:
                np.testing.assert_array_equal(stages.raw[head], dump.tensors[head])
            np.testing.assert_array_equal(stages.panoptic.ids, dump.tensors["panoptic"])


def test_coreml_vectors_come_from_torch_and_say_so(bundle: Bundle, work: Path) -> None:
    vectors = [v for v in bundle.manifest.vectors if v.artifact == "coreml-float16"]
    assert {v.origin for v in vectors} == {"torch-fp32"}
    network, _ = load_weights(work / "w.safetensors")
    dump = read_dump(bundle.root / vectors[0].file)
    array, _ = preprocess(
        Photo.open(work / "photos" / f"{dump.name}.png"), bundle.manifest.preprocessing
    )
    image = torch.from_numpy(np.array(array)).permute(2, 0, 1)[None].float()
    heads = run_heads(network, image)
    for head in HEADS:
        expected = heads[head][0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(dump.tensors[head], expected, atol=1e-3 * abs(expected).max())
    quality = bundle.manifest.quality["artifacts"]["coreml-float16"]
    assert quality == {"not_measured": "Core ML models run on Apple systems only"}


def test_converting_twice_gives_the_same_bytes(bundle: Bundle, work: Path) -> None:
    network, _ = load_weights(work / "w.safetensors")
    content = convert_tflite(fuse(network), (SIZE, SIZE))
    assert bundle.path(bundle.manifest.artifact("tflite-float32")).read_bytes() == content


def test_a_wrong_conversion_is_no_bundle(
    work: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = bundle.path(bundle.manifest.artifact("tflite-float32")).read_bytes()
    monkeypatch.setattr(export_module, "convert_tflite", lambda module, size: good)
    network, info = load_weights(work / "w.safetensors")
    with torch.no_grad():
        network.center_head.bias += 3  # what the file was not made from
    monkeypatch.setattr(export_module, "load_weights", lambda path: (network, info))
    request = ExportRequest(
        weights=work / "w.safetensors", out=work / "bad.panokit", recipes=("float32",),
        formats=("tflite",), size=SIZE, photos=(work / "photos",),
    )  # fmt: skip
    with pytest.raises(ExportError, match="head 'center': expected at least 60 dB"):
        export_bundle(request)
    assert not request.out.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"formats": ("onnx9",)}, "some of: tflite, coreml", id="format"),
        pytest.param({"formats": ()}, "some of", id="no-format"),
        pytest.param({"recipes": ()}, "at least one", id="no-recipe"),
        pytest.param({"recipes": ("int8", "int8")}, "each named once", id="twice"),
        pytest.param({"size": 100}, "a multiple of 32", id="size"),
    ],
)
def test_impossible_requests(change: dict, message: str) -> None:
    request = ExportRequest(weights=Path("w"), out=Path("x.panokit"))
    with pytest.raises(ArgumentError, match=re.escape(message)):
        dataclasses.replace(request, **change)


def test_too_few_photos_for_golden_vectors(work: Path) -> None:
    request = ExportRequest(
        weights=work / "w.safetensors", out=work / "few.panokit", size=SIZE,
        photos=(work / "photos" / "toy0.png",),
    )  # fmt: skip
    with pytest.raises(ArgumentError, match="at least 3"):
        export_bundle(request)
