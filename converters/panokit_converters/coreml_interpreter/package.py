"""The ``.mlpackage`` folder: its manifest, its model file and the records of its weight file.

::

    NAME.mlpackage/
        Manifest.json                     which item is the model
        Data/com.apple.CoreML/
            model.mlmodel                 protobuf: description and program
            weights/weight.bin            records of 64 bytes, each pointing at its numbers
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panokit._reading import parse_json
from panokit.errors import ExportError
from panokit_converters.coreml_interpreter.values import Fault
from panokit_converters.coreml_interpreter.wire import Message, WireError, parse_model

__all__ = ["Package", "open_package"]

MAX_MANIFEST = 1 << 20  # bytes
MAX_MODEL = 1 << 24  # bytes; weights lie in their own file: our network has 0.1 MB
SENTINEL = 0xDEADBEEF
_RECORD = struct.Struct("<IIQQ")  # sentinel, element type, bytes, offset of the numbers
_RECORD_TYPES = {
    1: "fp16",
    2: "fp32",
    3: "uint8",
    4: "int8",
    6: "int16",
    7: "uint16",
    8: "int4",
    9: "uint1",
    10: "uint2",
    11: "uint4",
    12: "uint3",
    13: "uint6",
    14: "int32",
    15: "uint32",
}


@dataclass(frozen=True)
class Package:
    """An opened package: ``model`` is the parsed ``Model`` message, ``folder`` holds its file."""

    path: Path
    folder: Path
    model: Message

    def read_record(self, name: str, offset: int, element: str, size: int) -> bytes:
        """The numbers of one record of a weight file.

        ``name`` is as the program has it (``@model_path/weights/weight.bin``), ``offset`` that of
        the record in bytes, ``element`` and ``size`` (bytes) what the program says of it.
        """
        file = _inside(self.path, self.folder, name.removeprefix("@model_path/"))
        try:
            if not file.is_file():  # a pipe by this name would never end
                raise Fault(f"{name}: there is no such file")
            total = file.stat().st_size
            if offset + _RECORD.size > total:
                raise Fault(f"{name}: no record at {offset}; the file ends at {total}")
            with file.open("rb") as stream:
                stream.seek(offset)
                sentinel, code, stored, begin = _RECORD.unpack(stream.read(_RECORD.size))
                if sentinel != SENTINEL:
                    raise Fault(
                        f"{name}: the record at {offset} begins with {sentinel:#x}, "
                        f"not with {SENTINEL:#x}"
                    )
                self._check(name, code, stored, element, size)
                if begin + stored > total:
                    end = begin + stored
                    raise Fault(f"{name}: a record goes on to {end}; the file ends at {total}")
                stream.seek(begin)
                return stream.read(stored)
        except (OSError, struct.error) as error:
            raise Fault(f"{name}: cannot be read ({error})") from None

    @staticmethod
    def _check(name: str, code: int, stored: int, element: str, size: int) -> None:
        found = _RECORD_TYPES.get(code, f"the unknown type {code}")
        # Truth values have no record type of their own.
        if found != ("uint8" if element == "bool" else element):
            raise Fault(f"{name}: a record of {found} where the program says {element}")
        if stored != size:
            raise Fault(f"{name}: a record of {stored} bytes where the program needs {size}")


def open_package(path: str | Path) -> Package:
    """Read the manifest and the model file of a package; ``ExportError`` if it is not one."""
    path = Path(path)
    manifest = _read(path, path / "Manifest.json", MAX_MANIFEST)
    try:
        data: Any = parse_json(manifest)
        root = data["rootModelIdentifier"]
        item = data["itemInfoEntries"][root]["path"]
        if not isinstance(item, str):
            raise TypeError("its path is no text")
    except (ValueError, TypeError, LookupError) as error:
        reason = f"Manifest.json does not name the model ({type(error).__name__}: {error})"
        raise ExportError(path, reason) from None
    try:
        file = _inside(path, path / "Data", item)
    except Fault as fault:
        raise ExportError(path, f"Manifest.json: {fault}") from None
    try:
        model = parse_model(_read(path, file, MAX_MODEL))
    except WireError as error:
        raise ExportError(path, f"{item}: damaged or no Core ML model ({error})") from None
    return Package(path, file.parent, model)


def _inside(package: Path, folder: Path, name: str) -> Path:
    """``folder/name`` with links followed, if it lies in the package."""
    try:
        file = (folder / name).resolve()
        inside = file.is_relative_to(package.resolve())
    except (OSError, ValueError, RuntimeError) as error:
        raise Fault(f"{name!r} is no file name ({error})") from None
    if not inside:
        raise Fault(f"{name!r} lies outside the package")
    return file


def _read(package: Path, file: Path, limit: int) -> bytes:
    try:
        # A device or pipe by this name would never end.
        if not file.is_file():
            raise ExportError(package, f"expected an .mlpackage folder, but {file.name} is missing")
        with file.open("rb") as stream:
            data = stream.read(limit + 1)
    except (OSError, ValueError) as error:
        raise ExportError(package, f"{file.name}: cannot be read ({error})") from None
    if len(data) > limit:
        raise ExportError(package, f"{file.name}: larger than {limit} bytes, the limit")
    return data
