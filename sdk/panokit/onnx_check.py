"""What an ONNX file must keep so that onnxruntime can be handed it.

Read without the onnx package: an ONNX file is a protobuf message, of which only operators,
constants and sizes are looked at here. Only plain operators on tensors are let through; no
subgraphs (loops without end), no functions, no constants in other files (no manifest has a hash of
those).
"""

from __future__ import annotations

import os
from math import prod
from pathlib import Path

from panokit._protobuf import WireError, fields, packed
from panokit.errors import BundleError

__all__ = ["OPERATORS", "check_onnx"]

MAX_FILE_BYTES = 2_000_000_000
MAX_NODES = 100_000
MAX_CONSTANT_BYTES = 1 << 31

# Of the default domain: what exporters of image networks and quantizers write.
OPERATORS = frozenset(
    """
    Abs Acos Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast Ceil Clip Concat
    Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos CumSum DepthToSpace DequantizeLinear
    Div DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements
    GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GridSample
    GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization IsInf IsNaN
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LRN LpNormalization MatMul
    MatMulInteger Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg Not OneHot Or Pad
    Pow PRelu QLinearConv QLinearMatMul QuantizeLinear Range Reciprocal ReduceL1 ReduceL2
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu
    Reshape Resize ReverseSequence RMSNormalization Round ScatterElements ScatterND Selu Shape
    Shrink Sigmoid Sign Sin Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze
    Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
    """.split()  # noqa: SIM905 - 150 quoted names are harder to read
)
# Bytes of a number by its type in the file; half bytes for 4 bits.
_WIDTHS = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2,
           21: 0.5, 22: 0.5}  # fmt: skip


class _Damaged(ValueError):
    """The file is not what it should be."""


def check_onnx(path: str | os.PathLike[str]) -> None:
    """``BundleError`` if the file at ``path`` is damaged, or more than a plain network."""
    path = Path(path)
    if not path.is_file():
        raise BundleError(path, "no such ONNX file")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise BundleError(path, f"expected at most {MAX_FILE_BYTES} bytes, got {size}")
    try:
        _check_model(memoryview(path.read_bytes()))
    except (_Damaged, WireError) as error:
        do = "get the file again or export it anew (`panokit --trust …` runs files of your own)"
        raise BundleError(path, f"is damaged or no plain network: {error}; {do}") from None


def _check_model(data: memoryview) -> None:
    graphs = 0
    for number, _, value in fields(data, "it"):
        if number == 7:
            graphs += 1
            _check_graph(_message(value, "graph"))
        elif number == 8:
            domain = _last_text(_message(value, "operator set"), 1)
            if domain not in ("", "ai.onnx"):
                raise _Damaged(f"operators of the domain {domain[:60]!r}, which are not run here")
        elif number in (20, 25):
            raise _Damaged("functions or training steps of its own")
    if graphs != 1:
        raise _Damaged(f"{graphs} graphs instead of one")


def _check_graph(data: memoryview) -> None:
    nodes = 0
    for number, _, value in fields(data, "it"):
        if number == 1:
            nodes += 1
            if nodes > MAX_NODES:
                raise _Damaged(f"more than {MAX_NODES} operators")
            _check_node(_message(value, "operator"))
        elif number == 5:
            _check_tensor(_message(value, "constant"))
        elif number == 15:
            raise _Damaged("sparse constants, which are not run here")


def _check_node(data: memoryview) -> None:
    kind, domain, name = "", "", ""
    attributes = []
    for number, _, value in fields(data, "it"):
        if number == 4:
            kind = _text(value)
        elif number == 7:
            domain = _text(value)
        elif number == 3:
            name = _text(value)
        elif number == 5:
            attributes.append(_message(value, "attribute"))
    if domain not in ("", "ai.onnx") or kind not in OPERATORS:
        what = f"{domain}:{kind}" if domain else kind
        raise _Damaged(f"the operator {what[:60]!r} ({name[:60]!r}) is not known to be safe")
    for attribute in attributes:
        for number, _, value in fields(attribute, "it"):
            if number in (6, 11):
                raise _Damaged(f"a graph inside the operator {kind!r}")
            if number in (5, 10):
                _check_tensor(_message(value, "constant"))


def _check_tensor(data: memoryview) -> None:
    sizes: list[int] = []
    kind, raw, numbers = 0, None, 0
    for number, _, value in fields(data, "it"):
        if number == 1:
            sizes += [value] if isinstance(value, int) else packed(value)
        elif number == 2:
            kind = value if isinstance(value, int) else 0
        elif number == 9:
            raw = len(_message(value, "constant"))
        elif number in (4, 5, 6, 7, 10, 11):
            numbers += 1 if isinstance(value, int) else len(value)
        elif number == 13 or (number == 14 and value):
            raise _Damaged("weights in another file, which no hash covers")
    if len(sizes) > 8 or any(not 0 <= s < 1 << 31 for s in sizes):
        raise _Damaged(f"a constant of the sizes {sizes[:9]}")
    if kind not in _WIDTHS:
        raise _Damaged(f"a constant of the type {kind}, which is not run here")
    wanted = prod(sizes) * _WIDTHS[kind]
    if wanted > MAX_CONSTANT_BYTES:
        raise _Damaged(f"a constant of {wanted:.0f} bytes, the limit is {MAX_CONSTANT_BYTES}")
    if raw is not None and not wanted <= raw < wanted + 1:
        raise _Damaged(f"a constant of {sizes} needs {wanted:.0f} bytes, it has {raw}")
    if raw is None and wanted and not numbers:
        raise _Damaged(f"a constant of {sizes} without its numbers")


def _message(value: int | memoryview, what: str) -> memoryview:
    if isinstance(value, int):
        raise _Damaged(f"a number in place of {what}")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value, "a name")).decode("utf-8", "replace")


def _last_text(data: memoryview, wanted: int) -> str:
    found = ""
    for number, _, value in fields(data, "it"):
        if number == wanted:
            found = _text(value)
    return found
