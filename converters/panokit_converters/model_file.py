"""What a model file says of itself: TFLite, ONNX or Core ML, without running it."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panokit._reading import parse_json
from panokit.bundle import is_plain
from panokit.errors import ArgumentError, BundleError, DataError, ExportError, MissingExtraError
from panokit.tflite.check import check_tflite

__all__ = ["FORMATS", "FileTensor", "ModelTensors", "read_model"]

FORMATS = {".tflite": "tflite", ".onnx": "onnx", ".mlpackage": "coreml"}
MAX_METADATA_BYTES = 1_000_000


@dataclass(frozen=True)
class FileTensor:
    """One tensor at a file's border; ``shape`` with the batch axis."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None

    @property
    def is_label(self) -> bool:
        """Whether it holds whole numbers that stand for themselves: classes."""
        return is_plain(self.dtype, self.scale)


@dataclass(frozen=True)
class ModelTensors:
    """What a model file says of itself: its input, its outputs, and the class names, if any."""

    path: Path
    format: str
    input: FileTensor
    outputs: tuple[FileTensor, ...]
    names: tuple[str, ...] = ()


def read_model(path: str | os.PathLike[str]) -> ModelTensors:
    """The tensors of a ``.tflite`` or ``.onnx`` file or an ``.mlpackage``. ``BundleError`` if it is
    damaged or cannot be run here, or if its input is no picture of a fixed size; ``ArgumentError``
    if it is of no known kind."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        expected = f"expected a file that ends in {' or '.join(FORMATS)}"
        raise ArgumentError("file", f"file is {str(path)!r}; {expected}")
    if not path.exists():
        raise DataError(path, "there is no such file")
    model = _READERS[FORMATS[path.suffix.lower()]](path)
    for tensor in (model.input, *model.outputs):
        if any(n < 1 for n in tensor.shape):
            told = f"tensor {tensor.name!r} has the shape {tensor.shape}"
            raise BundleError(
                path, f"{told}; expected fixed sizes: export it with a fixed input size"
            )
    if len(model.input.shape) != 4 or model.input.shape[0] != 1 or 3 not in model.input.shape[1:]:
        told = f"its input {model.input.name!r} has the shape {model.input.shape}"
        raise BundleError(path, f"{told}; expected one picture of 3 channels")
    return model


def _read_tflite(path: Path) -> ModelTensors:
    file = check_tflite(path)
    graph = file.main
    signature = file.signatures[0] if file.signatures else None
    if len(file.signatures) > 1:
        keys = ", ".join(repr(s.key) for s in file.signatures)
        raise BundleError(path, f"has the signatures {keys}; expected one: export the one to run")
    inputs = signature.inputs if signature else {graph.tensors[i].name: i for i in graph.inputs}
    outputs = signature.outputs if signature else {graph.tensors[i].name: i for i in graph.outputs}
    if len(inputs) != 1:
        raise BundleError(path, f"has the inputs {sorted(inputs)}; expected one, the picture")

    def tensor(name: str, index: int) -> FileTensor:
        found = graph.tensors[index]
        one = found.scale.size == 1
        scale = float(found.scale[0]) if one else None
        zero = int(found.zero_point[0]) if one and found.zero_point.size else None
        return FileTensor(name, tuple(int(n) for n in found.shape), found.dtype, scale, zero)

    ((name, index),) = inputs.items()
    return ModelTensors(
        path,
        "tflite",
        tensor(name, index),
        tuple(tensor(n, i) for n, i in outputs.items()),
        _names_beside(path),
    )


def _names_beside(path: Path) -> tuple[str, ...]:
    """Class names from a ``metadata.json`` appended to a TFLite file, as Ultralytics writes it."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("metadata.json")
            if info.file_size > MAX_METADATA_BYTES:
                return ()
            data = parse_json(archive.read(info))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, RuntimeError, NotImplementedError):
        return ()
    return _class_names(data.get("names") if isinstance(data, dict) else None)


def _class_names(names: Any) -> tuple[str, ...]:
    """``{"0": "person", …}`` or a list, as names in order; nothing else."""
    if isinstance(names, dict):
        try:
            names = [names[key] for key in sorted(names, key=int)]
        except (TypeError, ValueError):
            return ()
    if not isinstance(names, list) or not all(isinstance(n, str) and n for n in names):
        return ()
    return tuple(names)


def _read_onnx(path: Path) -> ModelTensors:
    from panokit._onnx import onnx_session
    from panokit._trial import try_onnx
    from panokit.onnx_check import check_onnx
    from panokit.tflite.check import is_trusted

    try:
        import onnxruntime  # noqa: F401 - opened below
    except ImportError:
        raise MissingExtraError("reading ONNX files", "onnx") from None
    if not is_trusted():
        check_onnx(path)
        try_onnx(path)
    try:
        session = onnx_session(path, 1)
    except Exception as error:  # its errors have no base of their own
        raise BundleError(path, f"onnxruntime cannot load it: {error}") from None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        found = sorted(n.name for n in inputs)
        raise BundleError(path, f"has the inputs {found}; expected one, the picture")

    def tensor(node: Any) -> FileTensor:
        kind = node.type.removeprefix("tensor(").removesuffix(")")
        shape = tuple(n if isinstance(n, int) else 0 for n in node.shape)
        return FileTensor(node.name, shape, {"float": "float32"}.get(kind, kind))

    names = _python_names(session.get_modelmeta().custom_metadata_map.get("names", ""))
    return ModelTensors(path, "onnx", tensor(inputs[0]), tuple(map(tensor, outputs)), names)


def _python_names(text: str) -> tuple[str, ...]:
    """``{0: 'person', …}`` as Ultralytics writes it, or the same as JSON."""
    import ast

    if len(text) > MAX_METADATA_BYTES:
        return ()
    try:
        data = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return ()
    return _class_names({str(k): v for k, v in data.items()} if isinstance(data, dict) else data)


def _read_coreml(path: Path) -> ModelTensors:
    from panokit_converters.coreml_interpreter import CoreMLProgram, NotRunHereError

    try:
        program = CoreMLProgram.open(path)
    except NotRunHereError as error:
        raise BundleError(path, f"cannot be run here: {error.reason}") from None
    except ExportError as error:
        raise BundleError(path, error.reason) from None
    if len(program.inputs) != 1:
        found = sorted(f.name for f in program.inputs)
        raise BundleError(path, f"has the inputs {found}; expected one, the picture")
    (image,) = program.inputs
    if image.color != "rgb":
        what = f"an image in {image.color}" if image.color else "a tensor"
        expected = "expected an RGB image: export it with ct.ImageType(color_layout=RGB)"
        raise BundleError(path, f"its input {image.name!r} is {what}; {expected}")

    def tensor(feature: Any) -> FileTensor:
        dtype = {"fp16": "float16", "fp32": "float32"}.get(feature.type.element)
        shape = tuple(int(n or 0) for n in feature.type.shape)
        return FileTensor(feature.name, shape, dtype or str(feature.type.element))

    given = tensor(image)
    _, channels, rows, cols = given.shape
    # An app gives an image: bytes, whatever the program makes of them.
    picture = FileTensor(given.name, (1, rows, cols, channels), "uint8")
    return ModelTensors(path, "coreml", picture, tuple(map(tensor, program.outputs)))


_READERS: dict[str, Callable[[Path], ModelTensors]] = {
    "tflite": _read_tflite,
    "onnx": _read_onnx,
    "coreml": _read_coreml,
}
