"""TFLite files of one operator each, drawn at random: every operator code, types, shapes, options.

Most random operators are refused at once. So what is drawn is near to right: one type for all
tensors more often than not, constants that look like axes and sizes, and the result's shape taken
over from the check's own message.
"""

from __future__ import annotations

import re
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from panokit.errors import BundleError
from panokit.tflite.check import check_tflite_bytes
from panokit.tflite.rules import RULES

__all__ = ["CODES", "draw"]

CODES = {
    name: code
    for name, code in vars(schema.BuiltinOperator).items()
    if not name.startswith("_") and code < 206  # StableHLO follows
}
_KINDS = {k.lower(): k for k in vars(schema.BuiltinOptions) if not k.startswith("_")}
_TYPES = ("FLOAT32", "INT8", "INT32", "UINT8", "INT16", "INT64", "BOOL", "FLOAT16", "INT4")
_WIDTH = {"FLOAT32": 4, "INT8": 1, "INT32": 4, "UINT8": 1, "INT16": 2, "INT64": 8, "BOOL": 1,
          "FLOAT16": 2, "INT4": 0.5}  # fmt: skip
_SHAPES = (
    (1, 4, 4, 4), (4,), (1, 4), (2, 4), (4, 4), (1,), (), (2, 2, 4), (4, 1, 1, 4), (1, 3, 3, 4),
    (4, 2, 2, 4), (1, 8, 8, 1), (1, 2, 2, 2, 4), (2,), (3,), (4, 2),
)  # fmt: skip
# Shapes of weights and biases that fit an image of 1 x 4 x 4 x 4.
_WEIGHTS = {
    "CONV_2D": (((4, 1, 1, 4), (4,)), ((2, 3, 3, 4), (2,)), ((4, 2, 2, 1), (4,))),
    "DEPTHWISE_CONV_2D": (((1, 3, 3, 4), (4,)), ((1, 1, 1, 8), (8,))),
    "FULLY_CONNECTED": (((4, 4), (4,)), ((2, 4), (2,))),
}
_WIDE = ("strideW", "strideH", "dilationWFactor", "dilationHFactor", "depthMultiplier", "axis",
         "filterWidth", "filterHeight", "blockSize", "batchDims", "numSplits", "beginMask",
         "endMask", "shrinkAxisMask", "radius", "num", "valuesCount")  # fmt: skip
_SAME_OPTIONS = {
    "MAX_POOL_2D": "Pool2DOptions", "AVERAGE_POOL_2D": "Pool2DOptions", "MEAN": "ReducerOptions",
    "L2_POOL_2D": "Pool2DOptions", "SUM": "ReducerOptions", "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions", "REDUCE_PROD": "ReducerOptions", "TOPK_V2": "TopKV2Options",
    "REDUCE_ANY": "ReducerOptions", "REDUCE_ALL": "ReducerOptions",
    "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions",
}  # fmt: skip


class _Draft:
    """A file that is being drawn."""

    def __init__(self, rng: np.random.Generator, name: str) -> None:
        self.rng, self.name = rng, name
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.buffers = [], [schema.BufferT()]
        rule = RULES.get(name)
        known = [t for t in _TYPES if rule is None or t.lower() in rule.types]
        self.type = str(rng.choice(known if known and rng.random() < 0.9 else _TYPES[:7]))

    def one_of(self, values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def tensor(self, shape: Any, kind: str, raw: bytes | None = None) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.type = b"t", getattr(schema.TensorType, kind)
        tensor.shape, tensor.hasRank, tensor.buffer = np.array(shape, np.int32), True, 0
        if kind in ("INT8", "UINT8", "INT16", "INT4") and self.rng.random() < 0.9:
            quantization = schema.QuantizationParametersT()
            many = shape[-1] if shape and self.rng.random() < 0.1 else 1
            quantization.scale = np.full(many, 0.1, np.float32)
            quantization.zeroPoint = np.zeros(many, np.int64)
            quantization.quantizedDimension = len(shape) - 1 if many > 1 else 0
            tensor.quantization = quantization
        if raw is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(raw, np.uint8)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operand(self, place: int) -> int:
        kind = self.type if self.rng.random() < 0.8 else str(self.rng.choice(_TYPES))
        luck = self.rng.random()
        if luck < 0.03:
            return -1
        if place and luck < 0.55:
            return self.list_of_numbers()
        same = self.rng.random() < 0.5
        shape = tuple(self.graph.tensors[0].shape) if same else self.one_of(_SHAPES)
        if self.name in _WEIGHTS and self.rng.random() < 0.7:
            shape = self.one_of(_WEIGHTS[self.name])[min(place, 2) - 1]
            if place > 1:
                kind = {"INT8": "INT32", "UINT8": "INT32", "INT16": "INT64"}.get(kind, kind)
        if luck < 0.75:
            size = int(np.ceil(np.prod(shape, dtype=int) * _WIDTH[kind]))
            return self.tensor(shape, kind, self.rng.integers(0, 256, size, np.uint8).tobytes())
        index = self.tensor(shape, kind)
        self.graph.inputs.append(index)
        return index

    def list_of_numbers(self) -> int:
        """A constant: axes, an order, sizes, paddings, or anything."""
        rank = len(self.graph.tensors[0].shape)
        likely = [
            [int(self.rng.integers(-rank, rank))] if rank else [0],
            [*self.rng.permutation(rank)],
            [0] * rank,
            [1] * rank,
            [*self.graph.tensors[0].shape],
            [*self.rng.integers(0, 2, 2 * rank)],
            [2, 2],
            [0, 0, 0, 0],
            [*self.rng.integers(-1, 5, int(self.rng.integers(1, 5)))],
            [*self.rng.integers(-(2**31), 2**31 - 1, int(self.rng.integers(1, 5)))],
        ]
        numbers = np.array(self.one_of(likely), np.int32)
        shape = () if numbers.size == 1 and self.rng.random() < 0.5 else numbers.shape
        return self.tensor(shape, "INT32", numbers.tobytes())

    def options(self) -> tuple[int, Any]:
        plain = self.name.lower().replace("_", "") + "options"
        kind = _SAME_OPTIONS.get(self.name) or _KINDS.get(plain)
        if kind is None or self.rng.random() < 0.05:
            return 0, None
        made = getattr(schema, f"{kind}T")()
        for field, value in vars(made).items():
            if isinstance(value, bool):
                setattr(made, field, bool(self.rng.random() < 0.2))
            elif isinstance(value, int):
                wild = self.rng.random() < 0.05 and field in _WIDE
                any_number = int(self.rng.integers(-(2**31), 2**31 - 1))
                likely = 0 if field.endswith("ype") else self.one_of((1, 1, 1, 1, 0, 0, 2, 3))
                if self.name == "STRIDED_SLICE" and self.rng.random() < 0.6:
                    likely = 0
                setattr(made, field, any_number if wild else likely)
            elif isinstance(value, float):
                setattr(made, field, float(self.rng.normal()))
        return getattr(schema.BuiltinOptions, kind), made


RESULTS = {"TOPK_V2": 2, "NON_MAX_SUPPRESSION_V4": 2, "NON_MAX_SUPPRESSION_V5": 3}
"""Results of operators that have not one."""


def draw(rng: np.random.Generator, name: str) -> bytes:
    """A file of the operator ``name``; its result's shape is right where the check tells it."""
    draft = _Draft(rng, name)
    draft.graph.inputs = []
    first = draft.tensor(
        draft.one_of(_SHAPES[:3] if rng.random() < 0.4 else _SHAPES[:1]), draft.type
    )
    draft.graph.inputs.append(first)
    operator = schema.OperatorT()
    operator.opcodeIndex = 0
    rule = RULES.get(name)
    count = int(rng.integers(0, 5))
    if rule is not None and rng.random() < 0.9:
        most = max(rule.least, min(rule.most, 4))
        count = int(rng.integers(rule.least, most + 1)) - 1
    rest = [draft.operand(place + 1) for place in range(count)]
    at = rule.first if rule is not None and rng.random() < 0.9 else int(rng.integers(0, 2))
    operator.inputs = np.array([*rest[:at], first, *rest[at:]], np.int32)
    many = RESULTS.get(name, 1)
    results = [
        draft.tensor(
            draft.one_of(_SHAPES), draft.type if rng.random() < 0.7 else draft.one_of(_TYPES)
        )
        for _ in range(many if rng.random() < 0.9 else int(rng.integers(0, 4)))
    ]
    operator.outputs = np.array(results, np.int32)
    operator.builtinOptionsType, operator.builtinOptions = draft.options()
    draft.graph.operators, draft.graph.outputs = [operator], np.array(results, np.int32)
    draft.graph.inputs = np.array(draft.graph.inputs, np.int32)
    model = schema.ModelT()
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = CODES[name], int(rng.integers(1, 4))
    code.deprecatedBuiltinCode = min(CODES[name], 127)
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [draft.graph]
    model.buffers = draft.buffers
    for _ in range(3):
        content = _packed(model)
        told = _told_shape(content)
        if told is None or not results or any(n >= 1 << 31 for n in told):
            return content
        for result in results:
            draft.graph.tensors[result].shape = np.array(told, np.int32)
    return content


def _packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _told_shape(content: bytes) -> list[int] | None:
    try:
        check_tflite_bytes(content)
    except BundleError as error:
        found = re.search(r"computes the shape \(([\d, ]*)\)", str(error))
        return [int(n) for n in found[1].replace(",", " ").split()] if found else None
    return None
