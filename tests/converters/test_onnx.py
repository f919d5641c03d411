"""ONNX files: standard operators, fixed shapes, metadata, and onnxruntime as a runtime."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from panokit.bundle import Artifact, TensorSpec
from panokit.errors import ArgumentError, BundleError, MissingExtraError
from panokit.preprocessing import PreprocessConfig
from panokit.runtime import OnnxRuntime
from panokit.taxonomy import Taxonomy
from panokit_compression import CalibrationSet, calibration_from_photos
from panokit_compression.onnx import quantize_onnx
from panokit_converters.contract import check_contract, run_heads
from panokit_converters.interface import HEADS, InputType
from panokit_converters.model_info import ModelInfo
from panokit_converters.onnx import OPSET, convert_onnx, finish_onnx, onnx_operators, onnx_specs
from tests.toys.network import ToyNetwork, toy_photos

SIZE_WH = (64, 32)  # not square, so that width and height cannot be confused
MODULE = ToyNetwork().eval()


@pytest.fixture(scope="module")
def float_onnx() -> bytes:
    return convert_onnx(MODULE, SIZE_WH)


@pytest.fixture(scope="module")
def calibration() -> CalibrationSet:
    return calibration_from_photos(toy_photos(4, SIZE_WH), 4, PreprocessConfig(SIZE_WH))


@pytest.fixture(scope="module")
def info() -> ModelInfo:
    categories = [{"id": i + 1, "name": f"class {i}", "isthing": i % 2} for i in range(4)]
    taxonomy = Taxonomy.from_json({"name": "toy", "categories": categories})
    return ModelInfo("toy", taxonomy, "test only", "1.2.3")


def artifact(precision: str, kind: InputType = "native") -> Artifact:
    image, heads = onnx_specs(check_contract(MODULE, SIZE_WH), kind)
    return Artifact(f"onnx-{precision}", "onnx", "m.onnx", "", 0, precision, image, heads)


# The least SQNR against torch: float by rounding alone, int8 for this toy on its own photos.
LEAST_DB = {"float32": 100, "float16": 50, "int8": 20}


@pytest.mark.parametrize("kind", ["native", "uint8"])
@pytest.mark.parametrize("precision", LEAST_DB)
def test_onnxruntime_agrees_with_torch(
    float_onnx: bytes, calibration: CalibrationSet, info: ModelInfo, tmp_path: Path,
    precision: str, kind: InputType,
) -> None:  # fmt: skip
    path = tmp_path / "m.onnx"
    path.write_bytes(finish_onnx(quantize_onnx(float_onnx, precision, calibration), info, kind))
    image = calibration.images[0]
    raw = OnnxRuntime(path, artifact(precision, kind)).run(image)
    heads = run_heads(MODULE, torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float())
    for head in HEADS:
        expected = heads[head][0].numpy()  # [C,h,w]
        noise = ((raw[head] - expected) ** 2).sum()
        assert 10 * np.log10((expected**2).sum() / max(noise, 1e-30)) > LEAST_DB[precision]


def test_the_file_says_what_it_is(float_onnx: bytes, info: ModelInfo) -> None:
    model = onnx.load_model_from_string(finish_onnx(float_onnx, info))
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert {o for o in onnx_operators(float_onnx) if ":" in o} == set()
    metadata = {p.key: p.value for p in model.metadata_props}
    assert json.loads(metadata["labels"]) == info.labels
    assert (metadata["license"], metadata["version"]) == ("test only", "1.2.3")
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "image": [1, 3, 32, 64],
        "semantic": [1, 4, 8, 16],
        "center": [1, 1, 8, 16],
        "offset": [1, 2, 8, 16],
    }
    assert not any(n.metadata_props or n.doc_string for n in model.graph.node)


def test_the_same_weights_give_the_same_bytes(float_onnx: bytes) -> None:
    assert convert_onnx(ToyNetwork().eval(), SIZE_WH) == float_onnx


def test_precisions_that_onnx_has_not(float_onnx: bytes) -> None:
    with pytest.raises(ArgumentError, match="float32, float16 or int8"):
        quantize_onnx(float_onnx, "int4-weights")
    with pytest.raises(ArgumentError, match="needs calibration images"):
        quantize_onnx(float_onnx, "int8")


def wrong_name(a: Artifact) -> Artifact:
    return dataclasses.replace(a, input=dataclasses.replace(a.input, name="pixels"))


def wrong_shape(a: Artifact) -> Artifact:
    center = TensorSpec("center", (1, 2, 8, 16), "float32", "nchw")
    return dataclasses.replace(a, outputs={**a.outputs, "center": center})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(wrong_name, "has no tensor 'pixels'", id="name"),
        pytest.param(wrong_shape, r"tensor 'center': expected float32 \(1, 2, 8, 16\)", id="shape"),
    ],
)
def test_a_file_that_is_not_as_described(
    float_onnx: bytes, tmp_path: Path, change: object, message: str
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(float_onnx)
    with pytest.raises(BundleError, match=message):
        OnnxRuntime(path, change(artifact("float32")))  # type: ignore[operator]


def test_a_damaged_file(float_onnx: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(float_onnx[: len(float_onnx) // 2])
    with pytest.raises(BundleError, match="damaged or no plain network"):
        OnnxRuntime(path, artifact("float32"))


def test_without_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install -e .*\[onnx\]"):
        OnnxRuntime(tmp_path / "m.onnx", artifact("float32"))
