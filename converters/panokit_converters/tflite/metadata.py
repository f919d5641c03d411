"""What a TFLite file says about itself, in the form that Android tools read.

A FlatBuffer of its own (``ModelMetadata``, identifier ``M001``) lies in a buffer of the model
named ``TFLITE_METADATA``; the files it refers to are appended to the model as a ZIP archive, so
that the model file is both. Source: the TensorFlow Lite Support library's metadata schema 1.1.0.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from panokit.errors import ArgumentError
from panokit_converters.model_info import ModelInfo
from panokit_converters.tflite.file import (
    flatbuffers_module,
    pack_tflite,
    schema_module,
    unpack_tflite,
)

__all__ = ["LABELS_FILE", "TAXONOMY_FILE", "with_metadata"]

LABELS_FILE = "labels.txt"
TAXONOMY_FILE = "taxonomy.json"
METADATA_NAME = "TFLITE_METADATA"
MIN_PARSER_VERSION = "1.0.0"  # the youngest field used here is of the schema's first version

_DESCRIPTIONS, _AXIS_LABELS = 1, 2  # AssociatedFileType
_IMAGE_CONTENT, _FEATURE_CONTENT = 2, 1  # ContentProperties
_NORMALIZATION = 1  # ProcessUnitOptions
_RGB = 1  # ColorSpaceType


def with_metadata(tflite: bytes, info: ModelInfo) -> bytes:
    """The file with its description, input statistics, tensor names, labels and taxonomy inside.

    The same arguments give the same bytes. Metadata that is there already is replaced.
    """
    schema = schema_module()
    model = unpack_tflite(tflite)
    inputs, outputs = _tensor_names(model)
    content = np.frombuffer(_model_metadata(model, info, inputs, outputs), np.uint8)
    for entry in model.metadata or ():
        if _text(entry.name) == METADATA_NAME:
            model.buffers[entry.buffer].data = content
            break
    else:
        buffer = schema.BufferT()
        buffer.data = content
        model.buffers.append(buffer)
        entry = schema.MetadataT()
        entry.name, entry.buffer = METADATA_NAME.encode(), len(model.buffers) - 1
        model.metadata = [*(model.metadata or ()), entry]
    model.description = info.description.encode()
    files = {
        LABELS_FILE: "\n".join(info.labels) + "\n",
        TAXONOMY_FILE: json.dumps(info.taxonomy.to_json(), ensure_ascii=False) + "\n",
    }
    return _append_zip(pack_tflite(model), files)


def _append_zip(content: bytes, files: dict[str, str]) -> bytes:
    """``content`` with a ZIP archive behind it; stored, so that an app can map the files."""
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # no clock: same bytes each time
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text.encode())
    return file.getvalue()


def _tensor_names(model: Any) -> tuple[list[str], list[str]]:
    """Names of inputs and outputs by the signature, in the order of the graph."""
    if len(model.signatureDefs or ()) != 1:
        raise ArgumentError(
            "tflite",
            f"the TFLite file has {len(model.signatureDefs or ())} signatures; expected one",
        )
    signature, graph = model.signatureDefs[0], model.subgraphs[0]
    names = {int(e.tensorIndex): _text(e.name) for e in [*signature.inputs, *signature.outputs]}
    return [names[int(i)] for i in graph.inputs], [names[int(i)] for i in graph.outputs]


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _model_metadata(
    model: Any, info: ModelInfo, inputs: Sequence[str], outputs: Sequence[str]
) -> bytes:
    height, width = (
        int(v) for v in model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].shape[1:3]
    )
    writer = _Writer()
    image = writer.image_tensor(inputs[0], info.input_description((width, height)), (width, height))
    heads = [writer.head_tensor(name, info.head_descriptions.get(name, "")) for name in outputs]
    main = writer.table(
        (0, writer.text(info.name)),
        (2, writer.tables([image])),
        (3, writer.tables(heads)),
    )
    taxonomy = writer.file(TAXONOMY_FILE, "Categories with ids, kinds and colours.", _DESCRIPTIONS)
    root = writer.table(
        (0, writer.text(info.name)),
        (1, writer.text(info.description)),
        (2, writer.text(info.version)),
        (3, writer.tables([main])),
        (4, writer.text(info.author)),
        (5, writer.text(info.licence)),
        (6, writer.tables([taxonomy])),
        (7, writer.text(MIN_PARSER_VERSION)),
    )
    return writer.finish(root)


class _Writer:
    """The tables of the metadata schema; fields go by their number in it."""

    def __init__(self) -> None:
        self.builder = flatbuffers_module().Builder(1024)

    def text(self, value: str) -> int:
        return int(self.builder.CreateString(value))

    def floats(self, values: Sequence[float]) -> int:
        return int(self.builder.CreateNumpyVector(np.asarray(values, np.float32)))

    def tables(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def table(self, *offsets: tuple[int, int], numbers: Sequence[tuple[int, str, int]] = ()) -> int:
        """A table of references ``(field, offset)`` and ``numbers`` ``(field, type, value)``."""
        slots = [field for field, _ in offsets] + [field for field, _, _ in numbers]
        self.builder.StartObject(max(slots, default=-1) + 1)
        for slot, offset in offsets:
            self.builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        for slot, kind, value in numbers:
            getattr(self.builder, f"Prepend{kind}Slot")(slot, value, 0)
        return int(self.builder.EndObject())

    def file(self, name: str, description: str, kind: int) -> int:
        texts = (0, self.text(name)), (1, self.text(description))
        return self.table(*texts, numbers=[(2, "Int8", kind)])

    def image_tensor(self, name: str, description: str, size_wh: tuple[int, int]) -> int:
        """RGB of a fixed size; mean 0 and deviation 1, because the graph normalises."""
        size = self.table(numbers=[(0, "Uint32", size_wh[0]), (1, "Uint32", size_wh[1])])
        image = self.table((1, size), numbers=[(0, "Int8", _RGB)])
        content = self.table((1, image), numbers=[(0, "Uint8", _IMAGE_CONTENT)])
        options = self.table((0, self.floats([0.0])), (1, self.floats([1.0])))
        unit = self.table((1, options), numbers=[(0, "Uint8", _NORMALIZATION)])
        stats = self.table((0, self.floats([255.0])), (1, self.floats([0.0])))
        return self.table(
            (0, self.text(name)), (1, self.text(description)), (3, content),
            (4, self.tables([unit])), (5, stats),
        )  # fmt: skip

    def head_tensor(self, name: str, description: str) -> int:
        content = self.table((1, self.table()), numbers=[(0, "Uint8", _FEATURE_CONTENT)])
        fields = [(0, self.text(name)), (1, self.text(description)), (3, content)]
        if name == "semantic":
            labels = self.file(LABELS_FILE, "Category names, one a line.", _AXIS_LABELS)
            fields.append((6, self.tables([labels])))
        return self.table(*fields)

    def finish(self, root: int) -> bytes:
        self.builder.Finish(root, b"M001")
        return bytes(self.builder.Output())
