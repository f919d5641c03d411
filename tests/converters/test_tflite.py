"""TFLite files: the input by choice, metadata and labels inside, weights aligned."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from torch import Tensor, nn

from panokit.errors import ArgumentError, ExportError
from panokit.preprocessing import PreprocessConfig
from panokit.taxonomy import Taxonomy
from panokit_compression import calibration_from_photos, load_recipe, quantize
from panokit_compression.layers import match_layers, tflite_layers
from panokit_converters.interface import INPUT_TYPES, InputType
from panokit_converters.model_info import ModelInfo
from panokit_converters.tflite.convert import convert_tflite
from panokit_converters.tflite.file import pack_tflite, unpack_tflite
from panokit_converters.tflite.inputs import with_input
from panokit_converters.tflite.inspect import (
    odd_operators,
    tflite_operators,
    tflite_specs,
    xnnpack_share,
)
from panokit_converters.tflite.metadata import with_metadata
from panokit_network.deploy import fold_batch_norms
from tests.toys.network import ToyNetwork, toy_photos

SIZE = 32
PRECISIONS = ("float32", "float16", "int8", "int16x8", "int8-weights")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The toy network by precision."""
    content = convert_tflite(ToyNetwork().eval(), (SIZE, SIZE))
    calibration = calibration_from_photos(toy_photos(32), 32, PreprocessConfig((SIZE, SIZE)))
    return {p: quantize(content, load_recipe(p), calibration) for p in PRECISIONS}


@pytest.fixture(scope="module")
def info() -> ModelInfo:
    categories = [{"id": i + 1, "name": f"cläss {i}", "isthing": i % 2} for i in range(4)]
    taxonomy = Taxonomy.from_json({"name": "toy", "categories": categories})
    return ModelInfo("toy", taxonomy, "test only", "1.2.3")


def heads_of(tflite: bytes, image: np.ndarray) -> dict[str, np.ndarray]:
    """Raw heads of an image uint8 ``[H,W,3]``, given as the file's input takes it."""
    from ai_edge_litert.interpreter import Interpreter

    spec, _ = tflite_specs(tflite)
    real = image.astype(np.float32)
    if spec.scale is not None:
        limits = np.iinfo(spec.dtype)
        real = np.clip(np.round(real / spec.scale) + spec.zero_point, limits.min, limits.max)
    runner = Interpreter(model_content=tflite).get_signature_runner()
    return runner(image=real.astype(spec.dtype)[None])


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_another_input_gives_the_same_heads(
    files: dict[str, bytes], precision: str, kind: InputType
) -> None:
    changed = with_input(files[precision], kind)
    spec, _ = tflite_specs(changed)
    expected = (1.0, 0) if kind == "uint8" else (None, None)
    assert (spec.dtype, spec.scale, spec.zero_point) == (kind, *expected)
    assert odd_operators(changed) == {}
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    before, after = heads_of(files[precision], image), heads_of(changed, image)
    for head, values in before.items():
        np.testing.assert_array_equal(after[head], values)


def test_no_transposition_is_left_around_a_padding(files: dict[str, bytes]) -> None:
    # The toy pads a tensor that goes elsewhere too, where the converter itself leaves three.
    expected = {"CONV_2D": 6, "DEPTHWISE_CONV_2D": 2, "PAD": 1, "RESIZE_BILINEAR": 1, "ADD": 1}
    assert tflite_operators(files["float32"]) == expected
    assert xnnpack_share(files["float32"]) == 1


def test_one_operator_more_and_no_more(files: dict[str, bytes]) -> None:
    assert with_input(files["float32"], "native") is files["float32"]
    assert with_input(files["float32"], "float32") is files["float32"]
    added = {
        precision: sum(tflite_operators(with_input(files[precision], "uint8")).values())
        - sum(tflite_operators(files[precision]).values())
        for precision in ("float32", "int8", "int16x8")
    }
    assert added == {"float32": 1, "int8": 1, "int16x8": 2}
    assert xnnpack_share(with_input(files["int8"], "float32")) == 1


@pytest.mark.parametrize("kind", INPUT_TYPES)
def test_labels_and_taxonomy_are_files_inside(
    files: dict[str, bytes], info: ModelInfo, kind: InputType
) -> None:
    content = with_metadata(with_input(files["int8"], kind), info)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["labels.txt", "taxonomy.json"]
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode() == "cläss 0\ncläss 1\ncläss 2\ncläss 3\n"
        read = Taxonomy.from_json(json.loads(archive.read("taxonomy.json")))
    assert read == info.taxonomy
    assert tflite_specs(content) == tflite_specs(with_input(files["int8"], kind))


def test_metadata_is_a_buffer_of_the_model(files: dict[str, bytes], info: ModelInfo) -> None:
    model = unpack_tflite(with_metadata(files["float32"], info))
    names = [entry.name.decode() for entry in model.metadata]
    assert names.count("TFLITE_METADATA") == 1
    entry = next(e for e in model.metadata if e.name == b"TFLITE_METADATA")
    data = bytes(model.buffers[entry.buffer].data)
    assert data[4:8] == b"M001"
    for text in (b"toy", b"1.2.3", b"test only", b"labels.txt", b"semantic", b"center", b"offset"):
        assert text in data
    # float32 0, 1 and 255 stand in it: mean, standard deviation and the largest value
    assert np.array([255], "<f4").tobytes() in data


def test_the_same_metadata_twice_is_the_same_file(files: dict[str, bytes], info: ModelInfo) -> None:
    once = with_metadata(files["int8"], info)
    assert with_metadata(files["int8"], info) == once
    assert with_metadata(once, info) == once  # replaced, not piled up


def test_weights_are_aligned_and_unchanged(files: dict[str, bytes], info: ModelInfo) -> None:
    from ai_edge_litert import schema_py_generated as schema

    content = with_metadata(files["int8"], info)
    model = schema.Model.GetRootAs(content, 0)
    filled = 0
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataIsNone() or not buffer.DataLength():
            continue
        filled += 1
        at = buffer._tab.Vector(4)  # where the data begins; the field's place is 4 in the vtable
        start = content.find(buffer.DataAsNumpy().tobytes(), at)
        assert start % 16 == 0
    assert filled > 8
    old, new = unpack_tflite(files["int8"]), unpack_tflite(content)
    for before, after in zip(old.buffers, new.buffers, strict=False):
        assert (before.data is None or len(before.data) == 0) == (after.data is None)
        if after.data is not None:
            np.testing.assert_array_equal(before.data, after.data)


@pytest.mark.parametrize("content", [b"", b"nothing", bytes(64)], ids=["empty", "text", "zeros"])
def test_what_is_no_tflite_file(content: bytes) -> None:
    with pytest.raises(ExportError, match="TFLite"):
        pack_tflite(unpack_tflite(content))


def test_unknown_input_type(files: dict[str, bytes]) -> None:
    with pytest.raises(ArgumentError, match="native, uint8, float32"):
        with_input(files["int8"], "int4")  # type: ignore[arg-type]


class Nested(nn.Module):
    """Layers in containers, with batch norms that are folded by tracing."""

    def __init__(self) -> None:
        super().__init__()

        def block(inside: int, out: int) -> nn.Sequential:
            conv = nn.Conv2d(inside, out, 3, 2, 1, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())

        self.down = block(3, 8)
        self.deep = nn.Sequential(block(8, 16), nn.Conv2d(16, 16, 1))
        self.semantic, self.center = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 1, 1)
        self.offset = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.deep(self.down(x))
        heads = {"semantic": self.semantic, "center": self.center, "offset": self.offset}
        return {name: head(y) for name, head in heads.items()}


@pytest.mark.slow
def test_layers_in_containers_keep_their_whole_names() -> None:
    """So that a recipe's ``keep`` can name them."""
    content = convert_tflite(fold_batch_norms(Nested().eval()), (SIZE, SIZE))
    names = {layer.name for layer in tflite_layers(content)}
    assert names == {"down.0", "deep.0.0", "deep.1", "semantic", "center", "offset"}
    assert match_layers(names, ["deep"], "keep")
