"""The way from a weight file to a bundle, with a small network of the real kind."""

from __future__ import annotations

import dataclasses
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from panokit import Segmenter, __version__
from panokit.bundle import Bundle, hash_path
from panokit.dump import read_dump
from panokit.errors import ArgumentError, ExportError
from panokit.taxonomy import Taxonomy
from panokit_compression import load_recipe
from panokit_compression.coreml import coreml_form
from panokit_converters.contract import check_contract, run_heads
from panokit_converters.coreml import write_coreml
from panokit_converters.interface import HEADS, InputType
from panokit_converters.model_info import ModelInfo
from panokit_converters.onnx import convert_onnx, finish_onnx
from panokit_converters.tflite.convert import convert_tflite
from panokit_converters.tflite.inspect import tflite_operators, xnnpack_share
from panokit_converters.tflite.metadata import with_metadata
from panokit_lab import artifacts as artifacts_module
from panokit_lab import export as export_module
from panokit_lab.artifacts import CompressedArtifact, FloatArtifact, Maker
from panokit_lab.commands.export import export
from panokit_lab.export import ExportRequest, export_bundle, run_export
from panokit_network.model import NetworkConfig, PanopticNetwork
from panokit_network.source import NetworkSource
from panokit_network.weights import load_weights, save_weights
from tests.toys.network import ToyNetwork, toy_photos
from tests.toys.shares import some

pytestmark = pytest.mark.slow

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
def converted() -> dict[str, bytes]:
    """What the converters made for ``bundle``: one slow conversion serves all tests."""
    return {}


@pytest.fixture(scope="module")
def bundle(work: Path, converted: dict[str, bytes]) -> Iterator[Bundle]:
    def keep(name: str) -> Callable[..., bytes]:
        convert = getattr(artifacts_module, name)

        def converting(*arguments: Any) -> bytes:
            if name not in converted:
                converted[name] = convert(*arguments)
            return converted[name]

        return converting

    with pytest.MonkeyPatch.context() as patch:
        for name in ("convert_tflite", "convert_onnx"):
            patch.setattr(artifacts_module, name, keep(name))
        yield export_toy(work)


def export_toy(work: Path) -> Bundle:
    out, result = work / "toy.panokit", work / "result.json"
    app = typer.Typer()
    app.command()(export)
    done = CliRunner().invoke(
        app,
        [
            *("--weights", str(work / "w.safetensors"), "--out", str(out)),
            *("--recipe", "float32,int8,coreml-palette4", "--formats", "tflite,coreml,onnx"),
            # A random network's maps are unsteady: int8 may miss thresholds made for trained ones.
            *("--size", str(SIZE), "--no-strict"),
            *("--photos", str(work / "photos"), "--json", str(result)),
        ],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    return Bundle.open(out)


def test_artifacts_of_the_bundle(bundle: Bundle, work: Path) -> None:
    manifest = bundle.manifest
    assert [(a.name, a.file) for a in manifest.artifacts] == [
        ("tflite-float32", "model-float32.tflite"),
        ("tflite-int8", "model.tflite"),
        ("coreml-float32", "Model-float32.mlpackage"),
        ("coreml-int8", "Model-int8.mlpackage"),
        ("coreml-palette4", "Model-palette4.mlpackage"),
        ("onnx-float32", "model.onnx"),
        ("onnx-int8", "model-int8.onnx"),
    ]
    assert manifest.artifact().name == "tflite-int8"
    assert manifest.weights_sha256 == hash_path(work / "w.safetensors")
    assert manifest.licence == {"code": "Apache-2.0", "weights": "test only"}
    assert manifest.stride == 4
    assert len(manifest.recipe["calibration"]["photos"]) == 32
    assert manifest.artifact("coreml-int8").tools["coremltools"]
    assert manifest.artifact("coreml-int8").minimum_os == "iOS 16, macOS 13"
    written = json.loads((work / "result.json").read_text())
    assert written["artifacts"][1]["sha256"] == manifest.artifact().sha256
    assert sorted(written["skipped"]) == ["onnx-coreml-palette4", "tflite-coreml-palette4"]
    assert written["peak_memory_bytes"] > 2**28  # torch alone takes more
    assert all(a["seconds"] > 0 for a in written["artifacts"])


@pytest.mark.parametrize("name", ["tflite-float32", "coreml-float32", "onnx-float32"])
def test_float_equals_torch(bundle: Bundle, name: str) -> None:
    figures = bundle.manifest.quality["artifacts"][name]
    assert figures["panoptic"]["equal_pixels"] >= 0.999
    assert "failures" not in figures
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


def test_labels_lie_in_the_tflite_file(bundle: Bundle) -> None:
    path = bundle.path(bundle.manifest.artifact("tflite-int8"))
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().split("\n")[:-1] == [
            "class 0", "class 1", "class 2", "class 3"
        ]  # fmt: skip


def test_segmenter_reproduces_the_golden_vectors(bundle: Bundle, work: Path) -> None:
    runnable = [a for a in bundle.manifest.artifacts if a.format in ("tflite", "onnx")]
    assert len(runnable) == 4
    for artifact in runnable:
        segmenter = Segmenter.open(bundle, artifact.name)
        vectors = [v for v in bundle.manifest.vectors if v.artifact == artifact.name]
        assert len(vectors) == 3
        for vector in vectors:
            dump = read_dump(bundle.root / vector.file)
            stages = segmenter.stages(work / "photos" / f"{dump.name}.png")
            np.testing.assert_array_equal(stages.input_hwc, dump.tensors["input"])
            for head in HEADS:
                raw = stages.raw[head]
                if artifact.format == "onnx":
                    raw = np.moveaxis(raw, 0, -1)
                np.testing.assert_array_equal(raw, dump.tensors[head])
            np.testing.assert_array_equal(stages.panoptic.ids, dump.tensors["panoptic"])


def test_coreml_vectors_come_from_the_package_itself(bundle: Bundle, work: Path) -> None:
    vectors = [v for v in bundle.manifest.vectors if v.artifact == "coreml-float32"]
    assert {v.origin for v in vectors} == {"coreml-interpreter"}
    network, _ = load_weights(work / "w.safetensors")
    dump = read_dump(bundle.root / vectors[0].file)
    image = torch.from_numpy(np.array(dump.tensors["input"])).permute(2, 0, 1)[None].float()
    heads = run_heads(network, image)
    for head in HEADS:
        expected = heads[head][0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(dump.tensors[head], expected, atol=1e-3 * abs(expected).max())


def test_nothing_in_the_bundle_names_this_machine(bundle: Bundle) -> None:
    here = str(Path(export_module.__file__).parents[2]).encode()
    for file in bundle.root.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert here not in content, file
            assert b"site-packages" not in content, file


def test_converting_twice_gives_the_same_bytes(bundle: Bundle, work: Path) -> None:
    source = NetworkSource.from_weights(work / "w.safetensors").with_folded()
    info = ModelInfo("toy", source.taxonomy, source.licence, __version__)
    size = (SIZE, SIZE)
    name = "onnx-float32"
    content = finish_onnx(convert_onnx(source.module, size), info)
    assert bundle.path(bundle.manifest.artifact(name)).read_bytes() == content
    toy = ToyNetwork().eval()
    form = coreml_form(load_recipe("coreml-palette4"))
    assert form is not None
    packages = [work / f"{name}.mlpackage" for name in ("Once", "Again")]
    for package in packages:
        write_coreml(toy, check_contract(toy, (32, 32)), info, package, form)
    assert len({hash_path(package) for package in packages}) == 1
    again = [with_metadata(convert_tflite(toy, (32, 32)), info) for _ in range(2)]
    assert again[0] == again[1]


def test_stages_follow_one_another_and_formats_convert_once(
    work: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = bundle.path(bundle.manifest.artifact("tflite-float32")).read_bytes()
    calls: list[tuple[int, int]] = []

    def convert(module: nn.Module, size: tuple[int, int], heads: object) -> bytes:
        calls.append(size)
        return good

    monkeypatch.setattr(artifacts_module, "convert_tflite", convert)
    source = NetworkSource.from_weights(work / "w.safetensors")
    contract = check_contract(source.with_folded().module, (SIZE, SIZE), len(source.taxonomy))
    maker = Maker.of(source, contract, "toy", tmp_path)
    found = {}
    for name in ("float32", "float16"):
        converted = maker.convert("tflite", load_recipe(name))
        assert isinstance(converted, FloatArtifact)
        assert converted.content is good
        compressed = maker.compress(converted)
        assert isinstance(compressed, CompressedArtifact)
        assert list(tmp_path.glob(f"*{name}*")) == []  # not on disk before it is described
        found[name] = maker.describe(compressed)
    assert calls == [(SIZE, SIZE)]
    assert found["float16"].artifact.bytes < 0.6 * found["float32"].artifact.bytes
    assert found["float16"].artifact.precision == "float16"
    assert found["float16"].path == tmp_path / "model-float16.tflite"


@pytest.fixture
def wrong(work: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> ExportRequest:
    """An export whose converter hands out a file of other weights."""
    good = bundle.path(bundle.manifest.artifact("tflite-float32")).read_bytes()
    monkeypatch.setattr(artifacts_module, "convert_tflite", lambda module, size, heads: good)
    network, info = load_weights(work / "w.safetensors")
    assert network.center_head.bias is not None
    with torch.no_grad():
        network.center_head.bias += 3  # what the file was not made from
    save_weights(work / "other.safetensors", network.state_dict(), info.network, info.taxonomy, {})
    return ExportRequest(
        weights=work / "other.safetensors", out=work / "bad.panokit", recipes=("float32",),
        formats=("tflite",), size=SIZE, photos=(work / "photos",),
    )  # fmt: skip


def test_a_wrong_conversion_is_no_bundle(wrong: ExportRequest) -> None:
    with pytest.raises(ExportError, match="head 'center': expected at least 60 dB"):
        export_bundle(wrong)
    assert not wrong.out.exists()


def test_not_strict_writes_what_fails_and_says_so(wrong: ExportRequest) -> None:
    request = dataclasses.replace(wrong, strict=False, out=wrong.out.with_name("lax.panokit"))
    result = run_export(request)
    figures = result.bundle.manifest.quality["artifacts"]["tflite-float32"]
    assert "head 'center'" in figures["failures"][0]
    check = result.checks["tflite-float32"]
    assert check.failures == tuple(figures["failures"])
    assert check.to_json() == figures


@pytest.mark.parametrize("kind", some(["uint8", "float32"], 2))
def test_input_by_choice(work: Path, bundle: Bundle, kind: InputType) -> None:
    request = ExportRequest(
        weights=work / "w.safetensors", out=work / f"{kind}.panokit", recipes=("int8",),
        formats=("tflite", "onnx"), size=SIZE, photos=(work / "photos",), input=kind,
        strict=False,
    )  # fmt: skip
    exported = export_bundle(request)
    for name in ("tflite-int8", "onnx-int8"):
        artifact = exported.manifest.artifact(name)
        assert artifact.input.dtype == kind
        native = bundle.manifest.artifact(name)
        photo = work / "photos" / "toy0.png"
        raw = [Segmenter.open(b, a.name).stages(photo).raw
               for b, a in ((exported, artifact), (bundle, native))]  # fmt: skip
        for head in HEADS:  # the same bytes go in, whatever their type is called
            np.testing.assert_array_equal(raw[0][head], raw[1][head])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"formats": ("onnx9",)}, "some of: tflite, coreml", id="format"),
        pytest.param({"formats": ()}, "some of", id="no-format"),
        pytest.param({"recipes": ()}, "at least one", id="no-recipe"),
        pytest.param({"recipes": ("int8", "int8")}, "expected each once", id="twice"),
        pytest.param({"size": 0}, "at least 1", id="size"),
        pytest.param({"input": "int4"}, "native, uint8, float32", id="input"),
        pytest.param({"out": Path("x")}, "ends in .panokit", id="out"),
    ],
)
def test_impossible_requests(change: dict, message: str) -> None:
    request = ExportRequest(weights=Path("w"), out=Path("x.panokit"))
    with pytest.raises(ArgumentError, match=re.escape(message)):
        dataclasses.replace(request, **change)


def test_our_network_takes_multiples_of_its_stride(work: Path) -> None:
    request = ExportRequest(weights=work / "w.safetensors", out=work / "odd.panokit", size=100)
    with pytest.raises(ArgumentError, match="a multiple of 32"):
        export_bundle(request)


def test_too_few_photos_for_golden_vectors(work: Path) -> None:
    request = ExportRequest(
        weights=work / "w.safetensors", out=work / "few.panokit", size=SIZE,
        photos=(work / "photos" / "toy0.png",),
    )  # fmt: skip
    with pytest.raises(ArgumentError, match="at least 3"):
        export_bundle(request)


@pytest.mark.parametrize(
    ("recipe", "formats", "message"),
    [
        pytest.param("coreml-palette4", ("tflite",), "no recipe has a form in", id="no-form"),
        pytest.param("prune45-int8", ("tflite",), "compress run prune45-int8", id="untrained"),
        pytest.param("int9", ("tflite",), "one of: ", id="unknown"),
    ],
)
def test_recipes_that_cannot_be_exported(
    work: Path, recipe: str, formats: tuple[str, ...], message: str
) -> None:
    request = ExportRequest(
        weights=work / "w.safetensors", out=work / "none.panokit", recipes=(recipe,),
        formats=formats, size=SIZE,
    )  # fmt: skip
    with pytest.raises(ArgumentError, match=re.escape(message)):
        export_bundle(request)
