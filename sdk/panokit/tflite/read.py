"""A TFLite file as plain data, read without LiteRT and checked on the way.

LiteRT trusts the files it is given: a damaged one can end the whole process. What is read here has
all its offsets inside the file and all its indices inside their lists;
:mod:`panokit.tflite.check` asks the rest. Field numbers are those of TensorFlow's published
``schema.fbs``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.tflite.flatbuffer import FlatbufferError, Table, root_table

__all__ = [
    "PATH_MARK",
    "TfliteFile",
    "TfliteOperator",
    "TfliteSignature",
    "TfliteSubgraph",
    "TfliteTensor",
    "read_tflite",
]

PATH_MARK = ":"
"""What our converter writes between the parts of a layer's path, where tensor names have no more
than its own name: ``Conv2d_block:0`` is the layer ``block.0``."""


IDENTIFIER = b"TFL3"
MAX_SUBGRAPHS, MAX_TENSORS, MAX_OPERATORS = 64, 100_000, 100_000

# TensorType: NumPy's name (None where it has none of that width) and bits.
TENSOR_TYPES: dict[int, tuple[str, int]] = {
    0: ("float32", 32), 1: ("float16", 16), 2: ("int32", 32), 3: ("uint8", 8), 4: ("int64", 64),
    6: ("bool", 8), 7: ("int16", 16), 9: ("int8", 8), 10: ("float64", 64), 12: ("uint64", 64),
    15: ("uint32", 32), 16: ("uint16", 16), 17: ("int4", 4), 18: ("bfloat16", 16), 19: ("int2", 2),
    20: ("uint4", 4),
}  # fmt: skip

OPERATORS = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1
RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS
SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER
BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE
UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT
LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG
PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE
EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD
REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV
REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU
SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE
RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D
IMAG REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS
RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE
RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2
UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT
""".split()  # noqa: SIM905 - 150 quoted names are harder to compare with the schema
"""Built-in operators by their number; the StableHLO ones that follow are not run anywhere here."""

PADDING_SAME = 0
ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")

# Operator → its BuiltinOptions type, and name, field, type, default of each option.
_Options = tuple[int, tuple[tuple[str, int, str, Any], ...]]
_CONV = (("padding", 0, "int8", 0), ("stride_w", 1, "int32", 0), ("stride_h", 2, "int32", 0))
_POOL = (*_CONV, ("filter_w", 3, "int32", 0), ("filter_h", 4, "int32", 0),
         ("activation", 5, "int8", 0))  # fmt: skip
OPTIONS: dict[str, _Options] = {
    "CONV_2D": (1, (*_CONV, ("activation", 3, "int8", 0), ("dilation_w", 4, "int32", 1),
                    ("dilation_h", 5, "int32", 1))),
    "DEPTHWISE_CONV_2D": (2, (*_CONV, ("depth_multiplier", 3, "int32", 0),
                              ("activation", 4, "int8", 0), ("dilation_w", 5, "int32", 1),
                              ("dilation_h", 6, "int32", 1))),
    "AVERAGE_POOL_2D": (5, _POOL),
    "MAX_POOL_2D": (5, _POOL),
    "FULLY_CONNECTED": (8, (("activation", 0, "int8", 0), ("weights_format", 1, "int8", 0),
                            ("keep_num_dims", 2, "bool", False))),
    "SOFTMAX": (9, (("beta", 0, "float32", 0.0),)),
    "CONCATENATION": (10, (("axis", 0, "int32", 0), ("activation", 1, "int8", 0))),
    "ADD": (11, (("activation", 0, "int8", 0),)),
    "RESIZE_BILINEAR": (15, (("align_corners", 2, "bool", False),
                             ("half_pixel_centers", 3, "bool", False))),
    "RESIZE_NEAREST_NEIGHBOR": (74, (("align_corners", 0, "bool", False),
                                     ("half_pixel_centers", 1, "bool", False))),
    "MUL": (21, (("activation", 0, "int8", 0),)),
    "MEAN": (27, (("keep_dims", 0, "bool", False),)),
    "SUB": (28, (("activation", 0, "int8", 0),)),
    "DIV": (29, (("activation", 0, "int8", 0),)),
    "CONV_3D": (106, (("padding", 0, "int8", 0), ("stride_d", 1, "int32", 0),
                      ("stride_w", 2, "int32", 0), ("stride_h", 3, "int32", 0),
                      ("activation", 4, "int8", 0), ("dilation_d", 5, "int32", 1),
                      ("dilation_w", 6, "int32", 1), ("dilation_h", 7, "int32", 1))),
    "TRANSPOSE_CONV": (49, (*_CONV, ("activation", 3, "int8", 0))),
    "LEAKY_RELU": (75, (("alpha", 0, "float32", 0.0),)),
    "GATHER": (23, (("axis", 0, "int32", 0), ("batch_dims", 1, "int32", 0))),
    "STRIDED_SLICE": (32, (*((f"{m}_mask", k, "int32", 0) for k, m in enumerate(
        ("begin", "end", "ellipsis", "new_axis", "shrink_axis"))), ("offset", 5, "bool", False))),
    "ONE_HOT": (61, (("axis", 0, "int32", 0),)),
    "SPLIT": (35, (("num_splits", 0, "int32", 0),)),
    "SPLIT_V": (79, (("num_splits", 0, "int32", 0),)),
    "PACK": (59, (("values_count", 0, "int32", 0), ("axis", 1, "int32", 0))),
    "UNPACK": (64, (("num", 0, "int32", 0), ("axis", 1, "int32", 0))),
    "MIRROR_PAD": (77, (("mode", 0, "int8", 0),)),
    "DEPTH_TO_SPACE": (94, (("block_size", 0, "int32", 0),)),
    "SPACE_TO_DEPTH": (19, (("block_size", 0, "int32", 0),)),
    "BATCH_MATMUL": (101, (("adj_x", 0, "bool", False), ("adj_y", 1, "bool", False))),
    **dict.fromkeys(
        ("SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL"),
        (27, (("keep_dims", 0, "bool", False),))),
}  # fmt: skip
# Operators that writers leave the options of out, where all have their defaults.
_DEFAULTS = {"ADD", "MUL", "SUB", "DIV", "MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD",
             "REDUCE_ANY", "REDUCE_ALL", "GATHER", "BATCH_MATMUL"}  # fmt: skip
# Options that hold lists, which LiteRT follows: type → fields.
_LISTS = {3: (1, 2), 8: (5,), 17: (0,), 30: (0,), 111: (0, 1), 115: (0,)}


@dataclass(frozen=True)
class TfliteTensor:
    """One tensor. ``dtype`` is NumPy's name or ``"int4"``, ``"int2"``, …; ``data`` uint8 are the
    bytes of a constant, else None; ``scale`` float32 and ``zero_point`` int64 are empty unless it
    is quantised, with one number or as many as the axis ``axis`` is long."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    bits: int
    data: NDArray[np.uint8] | None
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int
    dynamic: bool

    @property
    def bytes(self) -> int:
        """How many bytes it takes."""
        return -(-int(np.prod(self.shape, dtype=object)) * self.bits // 8)


@dataclass(frozen=True)
class TfliteOperator:
    """One operator; ``name`` as in the schema, custom ones ``CUSTOM:name``; an input that is left
    out has the index -1; ``options`` are those of the operators that are looked into here."""

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def activation(self) -> str:
        """The activation that is fused into it."""
        return ACTIVATIONS[self.options.get("activation", 0)]


@dataclass(frozen=True)
class TfliteSubgraph:
    """One graph: tensors by index, operators in the order they run."""

    name: str
    tensors: tuple[TfliteTensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[TfliteOperator, ...]


@dataclass(frozen=True)
class TfliteSignature:
    """Names of inputs and outputs (tensor indices) of one subgraph."""

    key: str
    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclass(frozen=True)
class TfliteFile:
    """What a file holds."""

    description: str
    subgraphs: tuple[TfliteSubgraph, ...]
    signatures: tuple[TfliteSignature, ...]

    @property
    def main(self) -> TfliteSubgraph:
        """The graph that runs."""
        return self.subgraphs[0]

    def all_operators(self) -> Iterator[tuple[TfliteSubgraph, TfliteOperator]]:
        """Every operator with the graph it is in."""
        for graph in self.subgraphs:
            for operator in graph.operators:
                yield graph, operator


def read_tflite(data: Any) -> TfliteFile:
    """Read the bytes of a file (bytes, mmap, …). ``FlatbufferError`` says what is wrong."""
    model = root_table(data, IDENTIFIER)
    version = model.scalar(0, "uint32")
    if version != 3:
        raise FlatbufferError(f"expected version 3 of the format, got {version}")
    codes = [_operator_name(code) for code in model.tables(1, "operator code")]
    buffers = [_buffer(data, buffer) for buffer in model.tables(4, "buffer")]
    if model.tables(9, "external buffer"):
        raise FlatbufferError("keeps weights in other files, which Panokit does not follow")
    graphs = model.tables(2, "subgraph")
    if not 1 <= len(graphs) <= MAX_SUBGRAPHS:
        raise FlatbufferError(f"expected 1 to {MAX_SUBGRAPHS} graphs, got {len(graphs)}")
    for number in model.numbers(5, "int32").tolist():
        _check_index("metadata", int(number), len(buffers), "buffers")
    for entry in model.tables(6, "metadata"):
        entry.text(0)
        _check_index(entry.what, entry.scalar(1, "uint32"), len(buffers), "buffers")
    subgraphs = tuple(_subgraph(graph, codes, buffers) for graph in graphs)
    signatures = tuple(_signature(entry, subgraphs) for entry in model.tables(7, "signature"))
    return TfliteFile(model.text(3), subgraphs, signatures)


def _operator_name(code: Table) -> str:
    number = max(code.scalar(0, "int8"), code.scalar(3, "int32"))
    if not 0 <= number < len(OPERATORS):
        raise FlatbufferError(f"{code.what}: no operator has the number {number}")
    if code.scalar(2, "int32", 1) < 1:
        raise FlatbufferError(f"{code.what}: expected a version from 1")
    custom = code.text(1)
    name = OPERATORS[number]
    if name == "CUSTOM" and not custom:
        raise FlatbufferError(f"{code.what}: a custom operator without a name")
    return f"CUSTOM:{custom}" if name == "CUSTOM" else name


def _buffer(data: Any, buffer: Table) -> NDArray[np.uint8] | None:
    if buffer.has(0):
        found: NDArray[np.uint8] = buffer.numbers(0, "uint8")
        return found if found.size else None
    offset, size = buffer.scalar(1, "uint64"), buffer.scalar(2, "uint64")
    if offset <= 1:  # how the schema says that there is none
        return None
    if offset + size > len(data):
        reason = f"weights up to byte {offset + size}, the file ends at {len(data)}"
        raise FlatbufferError(f"{buffer.what}: {reason}")
    return np.frombuffer(data, np.uint8, size, offset)


def _subgraph(
    graph: Table, codes: list[str], buffers: list[NDArray[np.uint8] | None]
) -> TfliteSubgraph:
    tensors = graph.tables(0, f"{graph.what}, tensor")
    operators = graph.tables(3, f"{graph.what}, operator")
    if len(tensors) > MAX_TENSORS or len(operators) > MAX_OPERATORS:
        limits = f"at most {MAX_TENSORS} tensors and {MAX_OPERATORS} operators"
        raise FlatbufferError(f"{graph.what}: expected {limits}")
    return TfliteSubgraph(
        name=graph.text(4),
        tensors=tuple(_tensor(i, tensor, buffers) for i, tensor in enumerate(tensors)),
        inputs=_indices(graph, 1, len(tensors), optional=False),
        outputs=_indices(graph, 2, len(tensors), optional=False),
        operators=tuple(_operator(i, op, codes, len(tensors)) for i, op in enumerate(operators)),
    )


def _tensor(index: int, tensor: Table, buffers: list[NDArray[np.uint8] | None]) -> TfliteTensor:
    code = tensor.scalar(1, "int8")
    if code not in TENSOR_TYPES:
        raise FlatbufferError(f"{tensor.what}: a type (number {code}) that is not run here")
    number = tensor.scalar(2, "uint32")
    _check_index(tensor.what, number, len(buffers), "buffers")
    if tensor.has(6):
        raise FlatbufferError(f"{tensor.what}: sparse weights, which are not run here")
    if tensor.scalar(5, "bool", False) or tensor.has(9) or tensor.scalar(10, "uint32"):
        raise FlatbufferError(f"{tensor.what}: a variable or an external tensor, not run here")
    scale, zero, axis = _quantization(tensor)
    dtype, bits = TENSOR_TYPES[code]
    signature = tensor.numbers(7, "int32")
    return TfliteTensor(
        index=index,
        name=tensor.text(3),
        shape=tuple(int(size) for size in tensor.numbers(0, "int32")),
        dtype=dtype,
        bits=bits,
        data=buffers[number],
        scale=scale,
        zero_point=zero,
        axis=axis,
        dynamic=bool((signature < 0).any()),
    )


def _quantization(tensor: Table) -> tuple[NDArray[np.float32], NDArray[np.int64], int]:
    found = tensor.table(4, f"{tensor.what}, quantization")
    if found is None:
        return np.empty(0, np.float32), np.empty(0, np.int64), 0
    found.numbers(0, "float32")
    found.numbers(1, "float32")
    if found.scalar(4, "uint8"):
        raise FlatbufferError(f"{found.what}: of a kind that is not run here")
    return found.numbers(2, "float32"), found.numbers(3, "int64"), found.scalar(6, "int32")


def _operator(index: int, operator: Table, codes: list[str], tensors: int) -> TfliteOperator:
    code = operator.scalar(0, "uint32")
    _check_index(operator.what, code, len(codes), "operator codes")
    name = codes[code]
    if operator.scalar(11, "uint8") or operator.scalar(9, "uint64"):
        raise FlatbufferError(f"{operator.what} ({name}): options that are not run here")
    if not name.startswith("CUSTOM"):
        operator.what += f" ({name})"
    operator.numbers(5, "uint8")
    operator.numbers(7, "uint8")
    return TfliteOperator(
        index=index,
        name=name,
        inputs=_indices(operator, 1, tensors, optional=True),
        outputs=_indices(operator, 2, tensors, optional=False),
        options=_options(operator, name, tensors),
    )


def _options(operator: Table, name: str, tensors: int) -> dict[str, Any]:
    _indices(operator, 8, tensors, optional=True)
    kind = operator.scalar(3, "uint8")
    table = operator.table(4, f"{operator.what}, options")
    if kind and table is None:
        raise FlatbufferError(f"{operator.what}: its options are missing")
    if table is not None:
        for listed in _LISTS.get(kind, ()):
            table.numbers(listed, "uint8")
    if name not in OPTIONS:
        return {}
    expected, described = OPTIONS[name]
    if table is None or kind != expected:
        if described and name not in _DEFAULTS:
            raise FlatbufferError(f"{operator.what}: its options are missing or of another kind")
        return {what: default for what, _, _, default in described}
    values = {what: table.scalar(at, code, default) for what, at, code, default in described}
    if not 0 <= values.get("activation", 0) < len(ACTIVATIONS):
        raise FlatbufferError(f"{operator.what}: no activation is {values['activation']}")
    return values


def _signature(entry: Table, graphs: tuple[TfliteSubgraph, ...]) -> TfliteSignature:
    number = entry.scalar(4, "uint32")
    _check_index(entry.what, number, len(graphs), "graphs")
    graph = graphs[number]
    maps: list[dict[str, int]] = []
    for at, allowed in ((0, graph.inputs), (1, graph.outputs)):
        found: dict[str, int] = {}
        for item in entry.tables(at, f"{entry.what}, entry"):
            name, index = item.text(0), item.scalar(1, "uint32")
            if index not in allowed or name in found:
                side = "input" if at == 0 else "output"
                raise FlatbufferError(f"{item.what}: {name!r} is no {side} of the graph, or twice")
            found[name] = index
        maps.append(found)
    return TfliteSignature(entry.text(2), number, maps[0], maps[1])


def _indices(table: Table, at: int, count: int, *, optional: bool) -> tuple[int, ...]:
    found = tuple(int(i) for i in table.numbers(at, "int32"))
    for index in found:
        if not (optional and index == -1):
            _check_index(table.what, index, count, "tensors")
    return found


def _check_index(what: str, index: int, count: int, of: str) -> None:
    if not 0 <= index < count:
        raise FlatbufferError(f"{what}: number {index} of {count} {of}")
