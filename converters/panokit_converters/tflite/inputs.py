"""The type of a file's image input: camera bytes, floats, or what the recipe made."""

from __future__ import annotations

from typing import Any

import numpy as np

from panokit.errors import ArgumentError
from panokit_converters.interface import INPUT_TYPES, InputType
from panokit_converters.tflite.file import pack_tflite, schema_module, unpack_tflite

__all__ = ["with_input"]


def with_input(tflite: bytes, kind: InputType) -> bytes:
    """The same network with another type of image input.

    ``uint8`` takes camera bytes as they are (scale 1, zero point 0); ``float32`` takes 0..255;
    ``native`` is what the recipe made: the file itself. One operator (DEQUANTIZE or QUANTIZE) is
    put before the first, two where there is none for the pair of types.
    """
    if kind not in INPUT_TYPES:
        raise ArgumentError(
            "input", f"input is {kind!r}; expected one of: {', '.join(INPUT_TYPES)}"
        )
    if kind == "native":
        return tflite
    schema = schema_module()
    model = unpack_tflite(tflite)
    graph = model.subgraphs[0]
    if len(graph.inputs) != 1:
        raise ArgumentError(
            "tflite", f"the TFLite file has {len(graph.inputs)} inputs; expected one"
        )
    old = int(graph.inputs[0])
    types = schema.TensorType
    wanted = types.UINT8 if kind == "uint8" else types.FLOAT32
    if graph.tensors[old].type == wanted:
        return tflite
    new = _add_tensor(graph, f"{kind}_{_name(graph.tensors[old])}", graph.tensors[old], wanted)
    _add_step(model, graph, new, old)
    graph.inputs = [new]
    for signature in model.signatureDefs or ():
        for entry in signature.inputs:
            if entry.tensorIndex == old:
                entry.tensorIndex = new
    return pack_tflite(model)


def _add_step(model: Any, graph: Any, source: int, target: int) -> None:
    """Operators before the first that turn tensor ``source`` into ``target``."""
    types = schema_module().TensorType
    have, want = graph.tensors[source].type, graph.tensors[target].type
    if want == types.FLOAT32:
        steps = [("DEQUANTIZE", source, target)]
    elif have == types.FLOAT32 or (have, want) == (types.UINT8, types.INT8):
        steps = [("QUANTIZE", source, target)]
    else:  # uint8 to int16: no operator does it in one
        like = graph.tensors[target]
        middle = _add_tensor(graph, f"float32_{_name(like)}", like, types.FLOAT32)
        steps = [("DEQUANTIZE", source, middle), ("QUANTIZE", middle, target)]
    graph.operators = [_operator(model, *step) for step in steps] + list(graph.operators)


def _add_tensor(graph: Any, name: str, like: Any, kind: int) -> int:
    schema = schema_module()
    tensor = schema.TensorT()
    tensor.name, tensor.type = name.encode(), kind
    tensor.shape, tensor.shapeSignature = like.shape, like.shapeSignature
    tensor.hasRank = like.hasRank
    if kind == schema.TensorType.UINT8:
        quantization = schema.QuantizationParametersT()
        quantization.scale = np.array([1.0], np.float32)
        quantization.zeroPoint = np.array([0], np.int64)
        tensor.quantization = quantization
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _operator(model: Any, name: str, source: int, target: int) -> Any:
    schema = schema_module()
    operator = schema.OperatorT()
    operator.opcodeIndex = _opcode(model, getattr(schema.BuiltinOperator, name))
    operator.inputs = np.array([source], np.int32)
    operator.outputs = np.array([target], np.int32)
    return operator


def _opcode(model: Any, builtin: int) -> int:
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin:
            return index
    code = schema_module().OperatorCodeT()
    code.builtinCode = builtin
    code.deprecatedBuiltinCode = min(builtin, 127)
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _name(tensor: Any) -> str:
    name = tensor.name
    return name.decode() if isinstance(name, bytes) else str(name)
