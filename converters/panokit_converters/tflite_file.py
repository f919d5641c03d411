"""TFLite files as objects: unpack, change the borders, pack again.

Needs no TensorFlow: LiteRT brings the schema. The file that comes out keeps its weights aligned,
which the schema's own packing does not, so that a runtime can use them where they lie.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from panokit.errors import ArgumentError, ExportError, MissingExtraError

__all__ = [
    "INPUT_TYPES",
    "InputType",
    "flatbuffers_module",
    "pack_tflite",
    "schema_module",
    "unpack_tflite",
    "with_input",
]

InputType = Literal["native", "uint8", "float32"]
INPUT_TYPES: tuple[InputType, ...] = ("native", "uint8", "float32")

ALIGNMENT = 16  # what the schema asks of a buffer's data (force_align)
IDENTIFIER = b"TFL3"


def unpack_tflite(tflite: bytes) -> Any:
    """The file as the schema's ``ModelT``: plain objects that can be changed."""
    schema = schema_module()
    try:
        model = schema.ModelT.InitFromPackedBuf(bytearray(tflite))
    except Exception as error:  # the generated reader checks nothing: whatever it trips over
        reason = f"is no TFLite file that can be read ({type(error).__name__}: {error})"
        raise ExportError("TFLite", reason) from None
    if not model.buffers or not model.subgraphs or not model.operatorCodes:
        raise ExportError("TFLite", "is no TFLite file: it lacks buffers, graphs or operators")
    for index, buffer in enumerate(model.buffers):
        _take_in(tflite, buffer, index)
    return model


def _take_in(tflite: bytes, buffer: Any, index: int) -> None:
    """Data that lies behind the FlatBuffer (as quantizers write it; older runtimes cannot follow)
    moves into it."""
    if buffer.offset <= 1:  # 0 and 1 stand for none
        return
    data = np.frombuffer(tflite, np.uint8)[buffer.offset : buffer.offset + buffer.size]
    if data.size != buffer.size:
        raise ExportError("TFLite", f"buffer {index} goes on beyond the end of the file")
    buffer.data, buffer.offset, buffer.size = data, 0, 0


def pack_tflite(model: Any) -> bytes:
    """A file again, every buffer at a multiple of 16 bytes, equal zero points written once."""
    flatbuffers = flatbuffers_module()
    builder = _sharing_builder(flatbuffers)
    plain = model.buffers
    model.buffers = [_AlignedBuffer(buffer) for buffer in plain]
    try:
        builder.Finish(model.Pack(builder), IDENTIFIER)
    finally:
        model.buffers = plain
    return bytes(builder.Output())


def _sharing_builder(flatbuffers: Any) -> Any:
    """A builder that writes equal vectors of 64-bit integers once.

    Those are the zero points of weights and biases, all zero and one for each channel: a tenth of
    an int8 file otherwise. FlatBuffers lets any number of tables point to one vector.
    """

    class SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(1024)
            self.known: dict[bytes, int] = {}

        def CreateNumpyVector(self, values: Any) -> int:
            if values.dtype != np.int64:
                return int(super().CreateNumpyVector(values))
            key = values.tobytes()
            if key not in self.known:
                self.known[key] = int(super().CreateNumpyVector(values))
            return self.known[key]

    return SharingBuilder()


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


class _AlignedBuffer:
    """A buffer of the model whose data is packed at a multiple of ``ALIGNMENT``."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer

    def Pack(self, builder: Any) -> int:
        schema, buffer = schema_module(), self.buffer
        data = None
        if buffer.data is not None and len(buffer.data):
            content = np.asarray(buffer.data, np.uint8)
            builder.StartVector(1, content.size, ALIGNMENT)
            builder.head -= content.size
            builder.Bytes[builder.head : builder.head + content.size] = content.tobytes()
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        schema.BufferAddOffset(builder, buffer.offset)
        schema.BufferAddSize(builder, buffer.size)
        return int(schema.BufferEnd(builder))


def schema_module() -> Any:
    """The classes of the TFLite schema."""
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError:
        raise MissingExtraError("writing TFLite files", "export") from None
    return schema


def flatbuffers_module() -> Any:
    """The FlatBuffers library."""
    try:
        import flatbuffers
    except ImportError:
        raise MissingExtraError("writing TFLite files", "export") from None
    return flatbuffers
