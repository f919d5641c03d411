"""TFLite files as objects: unpack, change, pack again.

Needs no TensorFlow: LiteRT brings the schema. The file that comes out keeps its weights aligned,
which the schema's own packing does not, so that a runtime can use them where they lie.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from panokit.errors import ExportError, MissingExtraError

__all__ = [
    "flatbuffers_module",
    "pack_tflite",
    "schema_module",
    "unpack_tflite",
]

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
