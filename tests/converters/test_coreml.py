"""Core ML packages, as far as Linux can look at them: specification, metadata, same bytes."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from panokit._quiet import quiet
from panokit.bundle import hash_path
from panokit.errors import ExportError
from panokit.taxonomy import Taxonomy
from panokit_converters import coreml
from panokit_converters.contract import check_contract
from panokit_converters.coreml import convert_coreml, coreml_specs, write_coreml
from panokit_converters.coreml_interpreter import CoreMLProgram
from panokit_converters.interface import HEADS
from panokit_converters.model_info import ModelInfo
from tests.toys.network import ToyNetwork

log = logging.getLogger(__name__)

SIZE = (64, 32)


def write(path: Path, taxonomy: Taxonomy) -> None:
    module = ToyNetwork().eval()
    info = ModelInfo("toy", taxonomy, "test only", "1.2.3")
    write_coreml(module, check_contract(module, SIZE, 4), info, path)


def specification(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from coremltools.proto import Model_pb2
    spec = Model_pb2.Model()
    spec.ParseFromString((path / "Data" / "com.apple.CoreML" / "model.mlmodel").read_bytes())
    return spec


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    taxonomy = Taxonomy.from_json(
        {"name": "toy", "categories": [{"id": i + 1, "name": f"class {i}"} for i in range(4)]}
    )
    path = tmp_path_factory.mktemp("coreml") / "Model.mlpackage"
    write(path, taxonomy)
    return path


def test_input_is_an_rgb_image_and_heads_are_named(package: Path) -> None:
    spec = specification(package)
    (image,) = spec.description.input
    assert image.name == "image"
    assert (image.type.imageType.width, image.type.imageType.height) == SIZE
    assert image.type.imageType.colorSpace == image.type.imageType.RGB
    assert tuple(o.name for o in spec.description.output) == HEADS
    assert spec.specificationVersion == 7  # iOS 16
    assert spec.WhichOneof("Type") == "mlProgram"


def test_specs_state_what_the_package_has(package: Path) -> None:
    module = ToyNetwork().eval()
    image, heads = coreml_specs(check_contract(module, SIZE, 4))
    assert (image.layout, image.shape) == ("image", (1, 32, 64, 3))
    for output in specification(package).description.output:
        array = output.type.multiArrayType
        assert tuple(array.shape) == heads[output.name].shape
        assert array.dataType == array.FLOAT16
        assert heads[output.name].dtype == "float16"


def test_metadata(package: Path) -> None:
    metadata = specification(package).description.metadata
    assert (metadata.license, metadata.versionString) == ("test only", "1.2.3")
    labels = json.loads(metadata.userDefined["panokit.labels"])
    assert labels == ["class 0", "class 1", "class 2", "class 3"]
    assert metadata.userDefined["panokit.stride"] == "4"


def test_the_same_weights_give_the_same_bytes(package: Path, tmp_path: Path) -> None:
    data = json.loads(specification(package).description.metadata.userDefined["panokit.taxonomy"])
    again = tmp_path / "Again.mlpackage"
    write(again, Taxonomy.from_json(data))
    assert hash_path(again) == hash_path(package)


class _Refused(ToyNetwork):
    """Numbers are cast before the operator that Core ML has not."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        heads = super().forward(image.int().float())
        return {
            **heads,
            "center": heads["center"]
            + torch.linalg.svdvals(image).sum((1, 2))[:, None, None, None],
        }


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its folders
def test_a_refused_conversion_changes_no_byte_of_the_next(package: Path, tmp_path: Path) -> None:
    module = _Refused().eval()
    with pytest.raises(ExportError):
        convert_coreml(module, check_contract(module, SIZE, 4))
    data = json.loads(specification(package).description.metadata.userDefined["panokit.taxonomy"])
    again = tmp_path / "Again.mlpackage"
    write(again, Taxonomy.from_json(data))
    assert hash_path(again) == hash_path(package)


class _Positions(nn.Module):
    """The number of positions is computed from the shape."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, c, h * w).softmax(-1).view(n, c, h, w)


def test_numbers_of_arrays_are_made_while_a_module_is_converted() -> None:
    """A traced module that is not flat computes with sizes: NumPy from 2.4 on refuses what
    coremltools does with them."""
    with quiet(log):
        import coremltools as ct

        traced = torch.jit.trace(_Positions(), torch.zeros(1, 2, 4, 6))
        inputs = [ct.TensorType(name="x", shape=(1, 2, 4, 6))]
        with coreml._numbers_of_arrays():
            program = ct.convert(traced, inputs=inputs, convert_to="milinternal")
    assert "softmax" in str(program)


class _Scripted(ToyNetwork):
    def __init__(self) -> None:
        super().__init__()
        self.positions: nn.Module = torch.jit.script(_Positions())

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        heads = super().forward(image)
        return {**heads, "semantic": self.positions(heads["semantic"])}


def test_a_scripted_layer_that_computes_with_sizes(tmp_path: Path) -> None:
    module = _Scripted().eval()
    contract = check_contract(module, SIZE, 4)
    model = convert_coreml(module, contract)
    path = tmp_path / "Model.mlpackage"
    model.model.save(str(path))
    program = CoreMLProgram.open(path)
    photo = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    found = program.run({"image": photo})["semantic"].astype(np.float32)
    with torch.no_grad():
        wanted = module(torch.from_numpy(photo).permute(2, 0, 1)[None].float())["semantic"]
    np.testing.assert_allclose(found, wanted.numpy(), atol=2e-3)
