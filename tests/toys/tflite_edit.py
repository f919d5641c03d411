"""Changing a TFLite file through the schema's own classes: injected faults for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


def edit_tflite(content: bytes, change: Callable[[Any], None]) -> bytes:
    """The file after ``change`` of its ``ModelT``."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    change(model)
    builder = flatbuffers.Builder(len(content) + 1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def operators(model: Any, kind: int) -> list[Any]:
    """Operators of a built-in kind in the main graph."""
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    return [op for op in model.subgraphs[0].operators if codes[op.opcodeIndex] == kind]


def numbers(model: Any, tensor: int, dtype: str) -> np.ndarray:
    """A constant, to be changed in place."""
    found = model.subgraphs[0].tensors[tensor]
    buffer = model.buffers[found.buffer]
    buffer.data = np.frombuffer(bytes(bytearray(buffer.data)), np.uint8).copy()
    return buffer.data.view(dtype).reshape(found.shape)


def flip_align_corners(model: Any) -> None:
    (resize,) = operators(model, schema.BuiltinOperator.RESIZE_BILINEAR)
    resize.builtinOptions.alignCorners = True
    resize.builtinOptions.halfPixelCenters = False


def zero_channel(model: Any, channel: int = 2, dtype: str = "float32") -> None:
    """Of the first pointwise convolution; a channel that its activation lets through."""
    conv = operators(model, schema.BuiltinOperator.CONV_2D)[1]
    numbers(model, conv.inputs[1], dtype)[channel] = 0


def swap_input_channels(model: Any, dtype: str = "float32") -> None:
    conv = operators(model, schema.BuiltinOperator.CONV_2D)[0]
    weights = numbers(model, conv.inputs[1], dtype)
    weights[...] = weights[..., ::-1].copy()


def double_weight_scale(model: Any, channel: int = 2) -> None:
    conv = operators(model, schema.BuiltinOperator.CONV_2D)[1]
    quantization = model.subgraphs[0].tensors[conv.inputs[1]].quantization
    quantization.scale = np.array(quantization.scale, np.float32)
    quantization.scale[channel] *= 2


def shrink_activation_scale(model: Any) -> None:
    """Of the depthwise convolution that makes stride 4."""
    conv = operators(model, schema.BuiltinOperator.DEPTHWISE_CONV_2D)[0]
    quantization = model.subgraphs[0].tensors[conv.outputs[0]].quantization
    quantization.scale = np.array(quantization.scale, np.float32) / 4
