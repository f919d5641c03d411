"""Injected faults are found at their operator, and named."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from panokit.errors import ArgumentError, BundleError
from panokit_converters.bisect import BisectResult, bisect_traces
from panokit_converters.contract import check_contract
from panokit_converters.coreml import write_coreml
from panokit_converters.model_info import ModelInfo
from panokit_converters.tflite.convert import convert_tflite
from panokit_converters.trace import Trace, short_name, trace_coreml, trace_tflite
from tests.toys.artifacts import SIZE, toy_coreml, toy_image, toy_taxonomy, toy_tflite
from tests.toys.tflite_edit import (
    double_weight_scale,
    edit_tflite,
    flip_align_corners,
    shrink_activation_scale,
    swap_input_channels,
    zero_channel,
)


def traced(content: bytes, folder: Path, index: int = 0) -> Trace:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return trace_tflite(path, toy_image(index))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return traced(toy_tflite(), tmp_path_factory.mktemp("reference"))


@pytest.mark.slow
def test_a_trace_is_what_litert_computes(reference: Trace) -> None:
    kinds = [op.kind for op in reference.operators]
    assert kinds.count("conv") == 6
    assert kinds.count("depthwise") == 2
    assert (kinds.count("add"), kinds.count("resize_bilinear")) == (1, 1)
    first = reference.operators[0]
    assert first.inputs == ("image",)
    assert first.weights is not None
    assert first.weights.shape == (8, 3, 3, 3)
    (resize,) = (op for op in reference.operators if op.kind == "resize_bilinear")
    assert resize.options["sampling"] == "half_pixel"
    assert reference.values[resize.output].shape == (16, 16, 16)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["float32", "float16", "int8"])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_sound_tflite_files_have_no_bad_operator(recipe: str, index: int, tmp_path: Path) -> None:
    result = bisect_traces(
        traced(toy_tflite(recipe), tmp_path, index), traced(toy_tflite(), tmp_path, index), recipe
    )
    assert result.findings == ()
    assert len(result.operators) == 10
    assert result.unmatched == ()


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_sound_package_has_no_bad_operator(index: int, tmp_path: Path) -> None:
    """Paddings, casts and activations of its own are no operators of their own."""
    package = trace_coreml(toy_coreml(), toy_image(index))
    result = bisect_traces(package, traced(toy_tflite(), tmp_path, index), "float16")
    assert result.findings == ()
    assert len(result.operators) == 10
    assert result.unmatched == ()


Change = Callable[[Any], None]
FAULTS: dict[str, tuple[str, Change, str, str]] = {
    # fault: recipe, change, type of the operator, words of the cause
    "align_corners": ("float32", flip_align_corners, "RESIZE_BILINEAR", "align_corners"),
    "align_corners-int8": ("int8", flip_align_corners, "RESIZE_BILINEAR", "align_corners"),
    "zeroed": ("float32", zero_channel, "CONV_2D", "output channel 2: its weights are zero"),
    "zeroed-int8": (
        "int8", partial(zero_channel, dtype="int8"), "CONV_2D",
        "output channel 2: its weights are zero",
    ),
    "weight-scale": (
        "int8", double_weight_scale, "CONV_2D",
        "output channel 2: its weights are 2.0",
    ),
    "activation-scale": ("int8", shrink_activation_scale, "DEPTHWISE_CONV_2D", "a scale"),
    "swapped": ("float32", swap_input_channels, "CONV_2D", "order [2, 1, 0]"),
    "swapped-int8": (
        "int8", partial(swap_input_channels, dtype="int8"), "CONV_2D", "order [2, 1, 0]"
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_named(fault: str, tmp_path: Path, reference: Trace) -> None:
    recipe, change, kind, words = FAULTS[fault]
    bad = edit_tflite(toy_tflite(recipe), change)
    result = bisect_traces(traced(bad, tmp_path), reference, recipe)
    first = result.first
    assert first is not None, [op.to_json() for op in result.operators]
    assert first.agreement.operator.type == kind
    assert words in str(first)
    injected = _where(toy_tflite(recipe), bad)
    assert first.agreement.operator.place == injected


def _where(sound: bytes, bad: bytes) -> str:
    """The first operator whose options, weights or scales differ between two files."""
    from panokit.tflite.check import check_tflite_bytes

    a, b = check_tflite_bytes(sound).main, check_tflite_bytes(bad).main
    for x, y in zip(a.operators, b.operators, strict=True):
        if x.options != y.options:
            return f"operator {x.index}"
        for i, j in zip(x.inputs[1:] + x.outputs, y.inputs[1:] + y.outputs, strict=True):
            s, t = a.tensors[i], b.tensors[j]
            same = s.data is None or (t.data is not None and np.array_equal(s.data, t.data))
            if not same or not np.array_equal(s.scale, t.scale):
                return f"operator {x.index}"
    raise AssertionError("nothing was injected")


def _edit_package(package: Path, change: Callable[[Any, dict[str, Any]], None]) -> None:
    from coremltools.proto import Model_pb2

    file = package / "Data/com.apple.CoreML/model.mlmodel"
    model = Model_pb2.Model()
    model.ParseFromString(file.read_bytes())
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    change(model, {op.outputs[0].name: op for op in block.operations})
    file.write_bytes(model.SerializeToString())


def _of_type(ops: dict[str, Any], kind: str) -> list[Any]:
    return [op for op in ops.values() if op.type == kind]


def _corners(_: Any, ops: dict[str, Any]) -> None:
    (resize,) = _of_type(ops, "upsample_bilinear")
    const = ops[resize.inputs["align_corners"].arguments[0].name]
    const.attributes["val"].immediateValue.tensor.bools.values[:] = [True]


def _bgr(model: Any, _: Any) -> None:
    image = model.description.input[0].type.imageType
    image.colorSpace = image.BGR


def _zero_in_package(package: Path, filters: int, inputs: int) -> None:
    """Filter 2 of the first pointwise convolution of that size."""
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model()
    model.ParseFromString((package / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    weights = package / "Data/com.apple.CoreML/weights/weight.bin"
    data = bytearray(weights.read_bytes())
    for op in block.operations:
        value = op.attributes["val"]
        sizes = [d.constant.size for d in value.type.tensorType.dimensions]
        if op.type == "const" and sizes == [filters, inputs, 1, 1]:
            begin = struct.unpack_from("<Q", data, value.blobFileValue.offset + 16)[0]
            begin += 2 * 2 * inputs
            data[begin : begin + 2 * inputs] = bytes(2 * inputs)
            weights.write_bytes(data)
            return
    raise AssertionError("no such weights")


@pytest.mark.parametrize("fault", ["align_corners", "swapped", "zeroed"])
def test_a_planted_fault_in_a_package(fault: str, tmp_path: Path, reference: Trace) -> None:
    package = Path(shutil.copytree(toy_coreml(), tmp_path / "Model.mlpackage"))
    if fault == "zeroed":
        _zero_in_package(package, 16, 8)
    else:
        _edit_package(package, _corners if fault == "align_corners" else _bgr)
    result = bisect_traces(trace_coreml(package, toy_image()), reference, "float16")
    first = result.first
    assert first is not None
    kind, words = {
        "align_corners": ("upsample_bilinear", "align_corners"),
        "swapped": ("conv", "input channels are swapped: it sees BGR"),
        "zeroed": ("conv", "output channel 2: its weights are zero"),
    }[fault]
    assert first.agreement.operator.type == kind
    assert words in str(first)
    assert "main[" in first.agreement.operator.place


def test_a_bias_beyond_int32_is_explained(tmp_path: Path, reference: Trace) -> None:
    """Weights near zero have a scale near zero, and the bias has that scale too."""

    def cut_off(model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        from tests.toys.tflite_edit import numbers, operators

        conv = operators(model, schema.BuiltinOperator.CONV_2D)[1]
        numbers(model, conv.inputs[2], "int32")[2] = 2**31 - 1
        quantization = model.subgraphs[0].tensors[conv.inputs[1]].quantization
        quantization.scale = np.array(quantization.scale, np.float32)

    bad = edit_tflite(toy_tflite("int8"), cut_off)
    first = bisect_traces(traced(bad, tmp_path), reference, "int8").first
    assert first is not None
    assert "channel 2 is cut off at the end of int32" in str(first)


class HardSwishNetwork(nn.Module):
    """Hard-swish and squeeze-excite. Stride 4."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.body = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.excite = nn.Conv2d(16, 16, 1)
        self.heads = nn.Conv2d(16, 7, 1)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        x = F.hardswish(self.body(F.hardswish(self.stem(image / 32))))
        x = x * F.hardsigmoid(self.excite(F.adaptive_avg_pool2d(x, 1)))
        semantic, center, offset = self.heads(x).split([4, 1, 2], 1)
        return {"semantic": semantic, "center": center, "offset": offset}


def test_operators_that_are_written_in_several_ways(tmp_path: Path) -> None:
    """Core ML has a hard-swish in three parts, LiteRT a hard-sigmoid half in the bias before."""
    module = HardSwishNetwork().eval()
    package = tmp_path / "net.mlpackage"
    info = ModelInfo("foreign", toy_taxonomy(), "test only", "0")
    write_coreml(module, check_contract(module, (SIZE, SIZE), 4), info, package)
    reference = traced(convert_tflite(module, (SIZE, SIZE)), tmp_path)
    result = bisect_traces(trace_coreml(package, toy_image()), reference, "float16")
    assert result.findings == ()
    assert len(result.operators) >= 7
    # Matched operators lie close to one another up to the heads.
    assert all(op.sqnr_db > 40 for op in result.operators[-2:])


def test_json_and_words(tmp_path: Path, reference: Trace) -> None:
    result: BisectResult = bisect_traces(
        traced(edit_tflite(toy_tflite(), flip_align_corners), tmp_path), reference
    )
    data = result.to_json()
    assert data["matched"] == 10
    assert data["first_bad"]["type"] == "RESIZE_BILINEAR"
    assert "half-pixel centres" in data["first_bad"]["text"]
    assert data["operators"][0]["operator"] == "operator 0"
    assert short_name("a/b.C_x;/torch.nn.modules.conv.Conv2d_conv;2") == "a/C_x"


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ArgumentError, match="8, 8"):
        trace_coreml(toy_coreml(), np.zeros((8, 8, 3), np.uint8))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such TFLite file"):
        trace_tflite(tmp_path / "no.tflite", toy_image())
