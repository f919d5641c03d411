"""What a TFLite file must keep so that LiteRT can be handed it.

LiteRT checks little: an index or a shape that is wrong ends the process instead of raising. Here
every tensor is bounded, constants have the bytes that their shape needs, operators stand in the
order they run and never write into constants, and the shapes that the usual operators declare are
the ones they compute.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from panokit.errors import BundleError
from panokit.tflite.flatbuffer import FlatbufferError
from panokit.tflite.read import (
    TfliteFile,
    TfliteOperator,
    TfliteSubgraph,
    TfliteTensor,
    read_tflite,
)

__all__ = ["check_tflite", "check_tflite_bytes"]

MAX_FILE_BYTES = 2_000_000_000
MAX_TENSOR_BYTES = 1 << 30
MAX_ALL_BYTES = 4 << 30  # computed tensors of all graphs together
MAX_RANK = 8
MAX_WORK = 1 << 40  # multiplications of one convolution

_INTEGERS = {"int8", "uint8", "int16", "int32", "int64", "int4", "uint4", "int2"}
_CONTROL = {"IF", "WHILE", "CALL", "CALL_ONCE", "DELEGATE"}


def check_tflite(path: str | os.PathLike[str]) -> TfliteFile:
    """Read and check the file at ``path``; ``BundleError`` says what is wrong with it."""
    path = Path(path)
    if not path.is_file():
        raise BundleError(path, "no such TFLite file")
    size = path.stat().st_size
    if not 8 <= size <= MAX_FILE_BYTES:
        raise BundleError(path, f"expected 8 to {MAX_FILE_BYTES} bytes, got {size}")
    with path.open("rb") as file:
        # Constants stay views of the map, which lives as long as they do.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return check_tflite_bytes(data, path)


def check_tflite_bytes(data: Any, where: str | Path = "TFLite file") -> TfliteFile:
    """As :func:`check_tflite`, of a file's content; ``where`` names it in errors."""
    try:
        found = read_tflite(data)
        total = 0
        for graph in found.subgraphs:
            total += _check_graph(graph)
        if total > MAX_ALL_BYTES:
            raise FlatbufferError(f"its tensors need {total} bytes, the limit is {MAX_ALL_BYTES}")
    except FlatbufferError as error:
        reason = f"is damaged or not made for LiteRT: {error}"
        raise BundleError(where, f"{reason}; get the file again or export it anew") from None
    return found


def _check_graph(graph: TfliteSubgraph) -> int:
    """Bytes of all tensors that are computed."""
    total = 0
    for tensor in graph.tensors:
        _check_tensor(tensor)
        total += 0 if tensor.data is not None else tensor.bytes
    known = {t.index for t in graph.tensors if t.data is not None}
    for index in graph.inputs:
        if index in known:
            raise FlatbufferError(f"input {index} of the graph is a constant, or comes twice")
        known.add(index)
    for operator in graph.operators:
        _check_operator(operator, graph, known)
    for index in graph.outputs:
        if index not in known:
            raise FlatbufferError(f"output {index} of the graph is computed by no operator")
    if not graph.inputs or not graph.outputs:
        raise FlatbufferError("a graph without input or output")
    return total


def _check_tensor(tensor: TfliteTensor) -> None:
    what = f"tensor {tensor.index} ({tensor.name[-60:]!r})"
    if len(tensor.shape) > MAX_RANK or min(tensor.shape, default=1) < 1:
        raise FlatbufferError(f"{what}: expected up to {MAX_RANK} sizes from 1, {tensor.shape}")
    if tensor.bytes > MAX_TENSOR_BYTES:
        raise FlatbufferError(f"{what}: {tensor.bytes} bytes, the limit is {MAX_TENSOR_BYTES}")
    if tensor.data is not None and tensor.data.size != tensor.bytes:
        reason = f"{tensor.shape} of {tensor.dtype} needs {tensor.bytes} bytes"
        raise FlatbufferError(f"{what}: {reason}, it has {tensor.data.size}")
    count = len(tensor.scale)
    if not count:
        return
    per_axis = 0 <= tensor.axis < len(tensor.shape) and tensor.shape[tensor.axis]
    if count not in (1, per_axis) or len(tensor.zero_point) != count:
        reason = f"{count} scales and {len(tensor.zero_point)} zero points"
        raise FlatbufferError(f"{what}: {reason} for the axis {tensor.axis} of {tensor.shape}")
    if not (np.isfinite(tensor.scale).all() and (tensor.scale > 0).all()):
        raise FlatbufferError(f"{what}: a scale that is not above zero")
    if tensor.dtype not in _INTEGERS:
        raise FlatbufferError(f"{what}: {tensor.dtype} with a scale")
    low, high = _range(tensor)
    if (tensor.zero_point < low).any() or (tensor.zero_point > high).any():
        raise FlatbufferError(f"{what}: a zero point outside of {low}..{high}")


def _range(tensor: TfliteTensor) -> tuple[int, int]:
    bits = min(tensor.bits, 32)
    if tensor.dtype.startswith("u"):
        return 0, (1 << bits) - 1
    return -(1 << bits - 1), (1 << bits - 1) - 1


def _check_operator(operator: TfliteOperator, graph: TfliteSubgraph, known: set[int]) -> None:
    what = f"operator {operator.index} ({operator.name})"
    if operator.name in _CONTROL:
        raise FlatbufferError(f"{what}: control flow, which phones' delegates do not run")
    for index in operator.inputs:
        if index >= 0 and index not in known:
            raise FlatbufferError(f"{what}: takes tensor {index} before it is computed")
    for index in operator.outputs:
        if index in known:
            raise FlatbufferError(f"{what}: writes tensor {index}, which has a value already")
        known.add(index)
    if not operator.outputs:
        raise FlatbufferError(f"{what}: has no result")
    rule = _RULES.get(operator.name)
    if rule is None:
        return
    least, check = rule
    given = [graph.tensors[i] if i >= 0 else None for i in operator.inputs]
    if len(given) < least or any(tensor is None for tensor in given[:least]):
        raise FlatbufferError(f"{what}: expected at least {least} operands")
    results = [graph.tensors[i] for i in operator.outputs]
    tensors = [*given, *results]
    if any(tensor is not None and tensor.dynamic for tensor in tensors):
        return  # sizes are known only when it runs
    try:
        check(operator, given, results[0])
    except FlatbufferError as error:
        raise FlatbufferError(f"{what}: {error}") from None


_Given = list[Any]  # TfliteTensor, or None for an operand that is left out
_Rule = Callable[[TfliteOperator, _Given, TfliteTensor], None]


def _expect(result: TfliteTensor, *shape: int) -> None:
    if result.shape != shape:
        raise FlatbufferError(f"computes the shape {shape}, but declares {result.shape}")


def _rank4(*tensors: TfliteTensor) -> None:
    for tensor in tensors:
        if len(tensor.shape) != 4:
            raise FlatbufferError(f"expected four axes, got {tensor.shape}")


def _whole(tensor: TfliteTensor, count: int | None = None) -> list[int] | None:
    """The numbers of a constant int32 operand; None if it is computed only when it runs."""
    if tensor.data is None:
        return None
    if tensor.dtype not in ("int32", "int64"):
        raise FlatbufferError(f"an operand of {tensor.dtype} instead of whole numbers")
    numbers = [int(n) for n in np.frombuffer(tensor.data, tensor.dtype)]
    if count is not None and len(numbers) != count:
        raise FlatbufferError(f"an operand of {len(numbers)} numbers instead of {count}")
    return numbers


def _out(size: int, kernel: int, stride: int, spread: int, padding: int) -> int:
    reach = (kernel - 1) * spread + 1
    if min(stride, spread, kernel) < 1 or max(stride, spread, kernel) > 1 << 16:
        raise FlatbufferError(f"kernel {kernel}, stride {stride}, dilation {spread}")
    if padding not in (0, 1):
        raise FlatbufferError(f"no padding is {padding}")
    cells = -(-size // stride) if padding == 0 else (size - reach) // stride + 1
    if cells < 1:
        raise FlatbufferError(f"a kernel that reaches {reach} over {size} positions")
    return cells


def _conv(op: TfliteOperator, given: _Given, result: TfliteTensor) -> None:
    image, weight = given[:2]
    _rank4(image, weight, result)
    depthwise = op.name == "DEPTHWISE_CONV_2D"
    filters = weight.shape[3] if depthwise else weight.shape[0]
    channels = image.shape[3]
    if depthwise:
        factor = op.options["depth_multiplier"]
        if weight.shape[0] != 1 or factor < 1 or channels * factor != filters:
            raise FlatbufferError(f"{channels} channels times {factor} for weights {weight.shape}")
    elif channels % weight.shape[3] or filters % (channels // weight.shape[3]):
        raise FlatbufferError(f"{channels} channels for weights {weight.shape}")
    if len(given) > 2 and given[2] is not None and given[2].shape != (filters,):
        raise FlatbufferError(f"a bias {given[2].shape} for {filters} filters")
    _no_text(image, weight, result)
    if weight.scale.size and weight.scale.size not in (1, filters):
        raise FlatbufferError(f"{weight.scale.size} scales for {filters} filters")
    if weight.scale.size > 1 and weight.axis != (3 if depthwise else 0):
        raise FlatbufferError(f"scales along the axis {weight.axis} of its weights")
    _quantized_alike(image, result)
    sizes = [
        _out(image.shape[1 + k], weight.shape[1 + k], op.options[f"stride_{s}"],
             op.options[f"dilation_{s}"], op.options["padding"])
        for k, s in enumerate("hw")
    ]  # fmt: skip
    if prod(weight.shape) * sizes[0] * sizes[1] > MAX_WORK:
        raise FlatbufferError(f"more than {MAX_WORK} multiplications, the limit")
    _expect(result, image.shape[0], *sizes, filters)


def _quantized_alike(image: TfliteTensor, result: TfliteTensor) -> None:
    for tensor in (image, result):
        if tensor.dtype in ("int8", "uint8", "int16") and tensor.scale.size != 1:
            raise FlatbufferError(f"tensor {tensor.index} is {tensor.dtype} without one scale")


def _no_text(*tensors: TfliteTensor) -> None:
    for tensor in tensors:
        if tensor.dtype in ("bool", "int64", "uint64", "uint32", "uint16", "float64"):
            raise FlatbufferError(f"tensor {tensor.index} is {tensor.dtype}")


def _pool(op: TfliteOperator, given: _Given, result: TfliteTensor) -> None:
    _rank4(given[0], result)
    _quantized_alike(given[0], result)
    n, h, w, c = given[0].shape
    o = op.options
    rows = _out(h, o["filter_h"], o["stride_h"], 1, o["padding"])
    _expect(result, n, rows, _out(w, o["filter_w"], o["stride_w"], 1, o["padding"]), c)


def _resize(op: TfliteOperator, given: _Given, result: TfliteTensor) -> None:
    _rank4(given[0], result)
    if op.options["align_corners"] and op.options["half_pixel_centers"]:
        raise FlatbufferError("both align_corners and half_pixel_centers are set")
    size = _whole(given[1], 2)
    if size is None:
        raise FlatbufferError("its size is not a constant")
    n, _, _, c = given[0].shape
    _expect(result, n, *size, c)


def _same(op: TfliteOperator, given: _Given, result: TfliteTensor) -> None:
    _expect(result, *given[0].shape)


def _broadcast(op: TfliteOperator, given: _Given, result: TfliteTensor) -> None:
    for tensor in (*given[:2], result):
        if tensor.dtype in ("int8", "uint8") and tensor.scale.size != 1:
            raise FlatbufferError(f"tensor {tensor.index} is {tensor.dtype} without one scale")
    try:
        shape = np.broadcast_shapes(given[0].shape, given[1].shape)
    except ValueError:
        shapes = f"{given[0].shape} and {given[1].shape}"
        raise FlatbufferError(f"the shapes {shapes} do not fit together") from None
    _expect(result, *shape)


def _concatenation(op: TfliteOperator, given: _Given, result: TfliteTensor) -> None:
    first = given[0].shape
    axis = op.options["axis"]
    axis += len(first) if axis < 0 else 0
    if not 0 <= axis < len(first):
        raise FlatbufferError(f"axis {op.options['axis']} of {first}")
    total = 0
    for tensor in given:
        if tensor is None or len(tensor.shape) != len(first):
            raise FlatbufferError("operands of different ranks")
        if [s for k, s in enumerate(tensor.shape) if k != axis] != [
            s for k, s in enumerate(first) if k != axis
        ]:
            raise FlatbufferError(f"the shapes {first} and {tensor.shape} do not fit together")
        total += tensor.shape[axis]
    _expect(result, *first[:axis], total, *first[axis + 1 :])


def _pad(op: TfliteOperator, given: _Given, result: TfliteTensor) -> None:
    shape = given[0].shape
    pads = _whole(given[1], 2 * len(shape))
    if pads is None or min(pads, default=0) < 0:
        raise FlatbufferError("its padding is below zero or not a constant")
    _expect(result, *(s + pads[2 * k] + pads[2 * k + 1] for k, s in enumerate(shape)))


def _reshape(op: TfliteOperator, given: _Given, result: TfliteTensor) -> None:
    if prod(given[0].shape) != prod(result.shape):
        raise FlatbufferError(f"{given[0].shape} to {result.shape}")
    if len(given) > 1 and given[1] is not None:
        shape = _whole(given[1])
        if shape is None or len(shape) != len(result.shape):
            raise FlatbufferError(f"{given[0].shape} to {shape}, declared {result.shape}")
        if any(s not in (-1, r) for s, r in zip(shape, result.shape, strict=True)):
            raise FlatbufferError(f"to {shape}, but declares {result.shape}")


def _transpose(op: TfliteOperator, given: _Given, result: TfliteTensor) -> None:
    shape = given[0].shape
    order = _whole(given[1], len(shape))
    if order is None or sorted(order) != list(range(len(shape))):
        raise FlatbufferError(f"the order {order} of {len(shape)} axes")
    _expect(result, *(shape[k] for k in order))


def _mean(op: TfliteOperator, given: _Given, result: TfliteTensor) -> None:
    shape = given[0].shape
    axes = _whole(given[1])
    if axes is None or any(not -len(shape) <= a < len(shape) for a in axes):
        raise FlatbufferError(f"the axes {axes} of {shape}")
    gone = {a % len(shape) for a in axes}
    if op.options["keep_dims"]:
        _expect(result, *(1 if k in gone else s for k, s in enumerate(shape)))
    else:
        _expect(result, *(s for k, s in enumerate(shape) if k not in gone))


_UNARY = (
    "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LOGISTIC", "TANH", "HARD_SWISH",
    "LEAKY_RELU", "QUANTIZE", "DEQUANTIZE", "CAST", "SOFTMAX", "LOG_SOFTMAX", "ABS", "NEG", "EXP",
    "SQRT", "RSQRT", "SQUARE", "GELU", "ELU", "FLOOR", "CEIL", "ROUND", "LOG",
)  # fmt: skip

# Operator → how many operands it needs at least, and what holds for them.
_RULES: dict[str, tuple[int, _Rule]] = {
    "CONV_2D": (2, _conv),
    "DEPTHWISE_CONV_2D": (2, _conv),
    "AVERAGE_POOL_2D": (1, _pool),
    "MAX_POOL_2D": (1, _pool),
    "RESIZE_BILINEAR": (2, _resize),
    "RESIZE_NEAREST_NEIGHBOR": (2, _resize),
    "CONCATENATION": (1, _concatenation),
    "PAD": (2, _pad),
    "PADV2": (3, _pad),
    "RESHAPE": (1, _reshape),
    "TRANSPOSE": (2, _transpose),
    "MEAN": (2, _mean),
    **dict.fromkeys(("ADD", "MUL", "SUB", "DIV", "MAXIMUM", "MINIMUM"), (2, _broadcast)),
    **dict.fromkeys(_UNARY, (1, _same)),
}
