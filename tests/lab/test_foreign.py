"""Networks that are not ours go through every format by their head contract alone."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from panokit import Segmenter
from panokit.bundle import Bundle
from panokit.preprocessing import Size
from panokit.taxonomy import Taxonomy
from panokit_converters.interface import HEADS
from panokit_converters.onnx import onnx_operators
from panokit_converters.tflite.inspect import odd_operators, tflite_operators
from panokit_lab.export import ExportRequest, export_bundle
from panokit_network.source import NetworkSource
from tests.toys.network import MobileNetV3Like, TinyUNet, toy_photos

pytestmark = pytest.mark.slow

NETWORKS: dict[str, type[nn.Module]] = {"mobilenetv3": MobileNetV3Like, "unet": TinyUNet}
STRIDES = {"mobilenetv3": 4, "unet": 2}
SIZES: dict[str, Size] = {"mobilenetv3": 64, "unet": (64, 96)}  # width and height
FORMATS: tuple[str, ...] = ("tflite", "coreml", "onnx")
if importlib.util.find_spec("coreai_torch"):  # an extra of its own
    FORMATS = (*FORMATS, "coreai")


@pytest.fixture(scope="module", params=NETWORKS)
def foreign(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Bundle]:
    """A foreign network's name and its bundle."""
    folder = tmp_path_factory.mktemp(request.param)
    for name, photo in toy_photos(3, (64, 64)).items():
        Image.fromarray(photo.rgb_hwc).save(folder / f"{name}.png")
    categories = [{"id": i + 1, "name": f"class {i}", "isthing": i % 2} for i in range(4)]
    taxonomy = Taxonomy.from_json({"name": "toy", "categories": categories})
    module = NETWORKS[request.param]().eval()
    source = NetworkSource.from_module(module, taxonomy, licence="test only")
    wanted = ExportRequest(
        weights=None, out=folder / "foreign.panokit", recipes=("float32", "float16"),
        formats=FORMATS, size=SIZES[request.param], photos=(folder,),
    )  # fmt: skip
    return request.param, export_bundle(wanted, source=source)


def test_every_format_keeps_the_heads_and_the_map(foreign: tuple[str, Bundle]) -> None:
    name, bundle = foreign
    assert bundle.manifest.stride == STRIDES[name]
    width, height = 64, 96 if name == "unet" else 64
    assert bundle.manifest.preprocessing.size_wh == (width, height)
    for artifact in bundle.manifest.artifacts:
        shapes = {(1, height, width, 3), (1, 3, height, width)}
        assert artifact.input.shape in shapes, artifact.name
    names = [f"{f}-{p}" for f in FORMATS for p in ("float32", "float16")]
    assert [a.name for a in bundle.manifest.artifacts] == names
    for artifact in bundle.manifest.artifacts:
        figures = bundle.manifest.quality["artifacts"][artifact.name]
        decibel, equal = {"float32": (60, 0.999), "float16": (40, 0.99)}[artifact.precision]
        for head in HEADS:
            assert figures["heads"][head]["sqnr_db"] >= decibel, artifact.name
        assert figures["panoptic"]["equal_pixels"] >= equal, artifact.name


def test_only_plain_operators(foreign: tuple[str, Bundle]) -> None:
    name, bundle = foreign
    content = bundle.path(bundle.manifest.artifact("tflite-float32")).read_bytes()
    assert odd_operators(content) == {}
    if name == "mobilenetv3":
        assert tflite_operators(content)["HARD_SWISH"] == 4
    onnx = bundle.path(bundle.manifest.artifact("onnx-float32")).read_bytes()
    assert not [operator for operator in onnx_operators(onnx) if ":" in operator]


def test_the_sdk_runs_tflite_and_onnx_alike(foreign: tuple[str, Bundle]) -> None:
    name, bundle = foreign
    photo = toy_photos(4, (80, 120))["toy3"]  # not one of those it was checked on
    ids = [
        Segmenter.open(bundle, artifact).stages(photo).panoptic.ids
        for artifact in ("tflite-float32", "onnx-float32")
    ]
    assert ids[0].shape == (96 if name == "unet" else 64, 64)  # of the input
    assert (ids[0] == ids[1]).mean() >= 0.999


def test_a_module_needs_no_weight_file_and_a_request_needs_one(tmp_path: Path) -> None:
    request = ExportRequest(weights=None, out=tmp_path / "x.panokit")
    with pytest.raises(ValueError, match="give a weight file or a source"):
        export_bundle(request)
    assert dataclasses.replace(request, size=64).size_wh == (64, 64)
    assert np.all([not path.exists() for path in (request.out,)])
