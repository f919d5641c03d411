"""Every kind of block becomes an int8 file that is near the module."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

from panokit._quiet import quiet
from panokit.errors import ExportError
from panokit.preprocessing import PreprocessConfig
from panokit_compression import CalibrationSet, calibration_from_photos, load_recipe, onnx
from panokit_compression.onnx import quantize_onnx_noted
from panokit_compression.quantize import quantize_noted
from panokit_converters.onnx import convert_onnx
from panokit_converters.tflite.convert import convert_tflite
from panokit_network.deploy import fold_batch_norms
from panokit_network.plain import plain_module
from tests.compression.blocks import SIZE, network
from tests.toys.network import toy_photos
from tests.toys.shares import some

pytestmark = pytest.mark.slow

CONFIG = PreprocessConfig((SIZE, SIZE))
INT8 = load_recipe("int8")
# The least decibels of the worst head, and a word of the note on what was treated differently.
KINDS: dict[str, tuple[float, str]] = {
    "attention": (20, ""),
    "channel_attention": (25, ""),
    "conv_next": (25, ""),
    "dead_layer": (25, ""),
    "dense": (20, ""),
    "gated": (25, ""),
    "group_norm": (12, ""),
    "grouped": (25, ""),
    "grouped_transposed": (25, "block.up"),
    "hard_swish": (25, ""),
    "instance_norm": (15, ""),
    "inverted": (25, ""),
    "layer_norm": (25, ""),
    "linear_excite": (25, ""),
    "mixer": (25, ""),
    "multiplier": (25, ""),
    "pixel_shuffle": (25, ""),
    "positions": (20, ""),
    "saturated": (25, ""),
    "selective": (25, ""),
    "shared": (25, ""),
    "shuffled": (25, ""),
    "silu": (25, ""),
    "some_zero_channels": (25, ""),
    "tied": (25, ""),
    "weight_norm": (15, ""),
    "wide_range": (15, ""),
    "zero_weights": (25, ""),
}
Heads = dict[str, np.ndarray]


@functools.cache
def varied() -> CalibrationSet:
    return calibration_from_photos(toy_photos(32, (SIZE, SIZE)), 32, CONFIG)


@functools.cache
def images() -> tuple[np.ndarray, ...]:
    """Not those of the calibration."""
    return calibration_from_photos(toy_photos(38, (SIZE, SIZE)), 38, CONFIG).images[32:]


def given(name: str) -> torch.nn.Module:
    return fold_batch_norms(plain_module(network(name)))


def truth(name: str) -> list[Heads]:
    module = network(name)
    found = []
    for image in images():
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            found.append({n: h[0].permute(1, 2, 0).numpy() for n, h in module(x).items()})
    return found


def by_litert(content: bytes) -> list[Heads]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    ((name, detail),) = runner.get_input_details().items()
    outputs = runner.get_output_details()
    found = []
    for image in images():
        x = (image.astype(np.float32) - 128).astype(detail["dtype"])
        heads: dict[str, Any] = runner(**{name: x[None]})
        real = {}
        for head, value in heads.items():
            scale, zero = outputs[head]["quantization"]
            real[head] = ((value.astype(np.float32) - zero) * scale)[0]
        found.append(real)
    return found


def by_onnxruntime(content: bytes) -> list[Heads]:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    (given_,) = session.get_inputs()
    found = []
    for image in images():
        x = image.transpose(2, 0, 1)[None].astype(np.float32)
        values = session.run(names, {given_.name: x})
        found.append({n: v[0].transpose(1, 2, 0) for n, v in zip(names, values, strict=True)})
    return found


def worst(expected: list[Heads], found: list[Heads]) -> float:
    """Decibels of the worst head."""
    decibels = []
    for head in expected[0]:
        a, b = (np.stack([h[head] for h in heads]) for heads in (expected, found))
        decibels.append(10 * np.log10(float((a**2).sum()) / float(((a - b) ** 2).sum())))
    return min(decibels)


@pytest.mark.parametrize("name", some(KINDS, 20))
def test_tflite(name: str) -> None:
    least, note = KINDS[name]
    with quiet(onnx.log):
        made = quantize_noted(convert_tflite(given(name), (SIZE, SIZE)), INT8, varied())
    assert worst(truth(name), by_litert(made.content)) > least
    assert [note in said for said in made.notes] == ([True] if note else [])


@pytest.mark.parametrize("name", some(KINDS, 20))
def test_onnx(name: str) -> None:
    least, note = KINDS[name]
    made = quantize_onnx_noted(convert_onnx(given(name), (SIZE, SIZE)), "int8", varied())
    assert worst(truth(name), by_onnxruntime(made.content)) > least
    assert [note in said for said in made.notes] == ([True] if note else [])


@pytest.mark.parametrize("name", ["selective", "dead_layer", "group_norm"])
def test_black_photos_end_in_a_file_that_runs(name: str) -> None:
    """Whether it is good is for the check on other photos to say."""
    black = (
        np.zeros((SIZE, SIZE, 3), np.uint8),
    ) * 32  # calibration_from_photos refuses such photos
    photos = CalibrationSet(black, tuple(map(str, range(32))), "black")
    made = quantize_noted(convert_tflite(given(name), (SIZE, SIZE)), INT8, photos)
    for heads in by_litert(made.content):
        assert all(np.isfinite(head).all() for head in heads.values())


def test_an_operator_that_the_onnx_tool_cannot_take(monkeypatch: pytest.MonkeyPatch) -> None:
    model = convert_onnx(given("silu"), (SIZE, SIZE))
    real = onnx._quantize_static

    def static(*arguments: Any) -> bytes:
        if not any("Sigmoid" in name or "sigmoid" in name for name in arguments[2]):
            raise KeyError("something inside")
        return real(*arguments)

    monkeypatch.setattr(onnx, "_quantize_static", static)
    made = quantize_onnx_noted(model, "int8", varied())
    assert made.notes
    assert all("Sigmoid stays in float32" in note for note in made.notes)
    assert worst(truth("silu"), by_onnxruntime(made.content)) > 20

    def never(*arguments: Any) -> bytes:
        raise ValueError("no scale for 'module.block.2.weight'")

    monkeypatch.setattr(onnx, "_quantize_static", never)
    with pytest.raises(ExportError, match=r"block\.2: onnxruntime cannot quantize Conv .*float16"):
        quantize_onnx_noted(model, "int8", varied())


def test_numbers_that_are_not_finite_are_named_in_onnx() -> None:
    module = network("plain")
    with torch.no_grad():
        module.get_submodule("block.2").weight.mul_(1e38)  # type: ignore[operator]
        module.get_submodule("block.0").weight.mul_(1e6)  # type: ignore[operator]
    with pytest.raises(ExportError, match=r"block\.2: Conv gives NaN or infinity"):
        quantize_onnx_noted(convert_onnx(module, (SIZE, SIZE)), "int8", varied())
