"""Reading dumps from files: each declaration is checked before its numbers are loaded."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from panokit._places import plain_file
from panokit._reading import parse_json
from panokit.dump.model import (
    FORMAT,
    MAX_DUMP_BYTES,
    MAX_METADATA_BYTES,
    MAX_TENSORS,
    Dump,
    check_declared,
    make_dump,
)
from panokit.errors import DumpError

__all__ = ["SUFFIXES", "OpenPart", "read_dump", "read_raw"]

SUFFIXES = (".safetensors", ".npz", ".dump.json")
"""What files in a folder or an archive are taken for dumps."""

OpenPart = Callable[[str], tuple[IO[bytes], int]]
"""Opens a neighbour of a JSON file by its relative name: the stream and its size in bytes."""

_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_NUMPY_NAMES = {
    "F32": "float32", "F16": "float16", "F64": "float64", "I8": "int8", "U8": "uint8",
    "I16": "int16", "U16": "uint16", "I32": "int32", "I64": "int64", "BOOL": "bool",
}  # fmt: skip
_RAW_DTYPES = (*_NUMPY_NAMES.values(),)


def read_dump(path: str | os.PathLike[str], label: str = "") -> Dump:
    """Read a dump file: ``.safetensors``, ``.npz`` or raw numbers described by a ``.json`` file.

    Nothing in it is executed or unpickled, and no more is allocated than the file holds.
    ``DumpError`` says what is wrong with it, tensor by tensor; ``label`` is its name there.
    """
    path = Path(path)
    label = label or str(path)
    if not path.is_file():
        raise DumpError(label, "no such dump file")
    size = path.stat().st_size
    if size > MAX_DUMP_BYTES:
        raise DumpError(label, f"expected at most {MAX_DUMP_BYTES} bytes, got {size}")
    if path.suffix.lower() == ".npz":
        return _read_npz(path, label)
    if path.suffix.lower() == ".json":
        return read_raw(path.read_bytes(), label, lambda name: _neighbour(path, name, label))
    return _read_safetensors(path, label)


def _read_safetensors(path: Path, label: str) -> Dump:
    with path.open("rb") as file:
        check_safetensors_head(file, path.stat().st_size, label)
    try:
        with safe_open(path, "np") as file:
            metadata = dict(file.metadata() or {})
            names = list(file.keys())
            for name in names:
                part = file.get_slice(name)
                dtype = str(part.get_dtype())
                known = _NUMPY_NAMES.get(dtype, dtype)
                check_declared(label, name, tuple(part.get_shape()), known)
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise DumpError(label, f"expected a safetensors dump, but {error}") from None
    except (TypeError, AttributeError, KeyError) as error:  # a type that NumPy does not have
        raise DumpError(label, f"holds a tensor of an unknown type: {error!r}") from None
    return make_dump(label, tensors, metadata)


def check_safetensors_head(file: IO[bytes], size: int, label: str) -> bytes:
    """Check a safetensors header against the file's size; returns the bytes read for it."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    what = "expected a safetensors dump, but"
    if len(start) < 8:
        raise DumpError(label, f"{what} it has {len(start)} bytes: truncated")
    if length > min(size - 8, MAX_METADATA_BYTES):
        swapped = int.from_bytes(start, "big")
        if swapped <= size - 8:
            reason = "its header length is big-endian; write little-endian numbers"
        else:
            reason = f"its header of {length} bytes does not fit: truncated, or another format"
        raise DumpError(label, f"{what} {reason}")
    head = file.read(length)
    try:
        entries = json.loads(head)
        tensors = {k: v for k, v in entries.items() if k != "__metadata__"}
        ends = [int(v["data_offsets"][1]) for v in tensors.values()]
        for name, entry in tensors.items():
            dtype = str(entry["dtype"])
            check_declared(label, name, entry["shape"], _NUMPY_NAMES.get(dtype, dtype))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise DumpError(label, f"{what} its header is not readable: {error!r}") from None
    if len(tensors) > MAX_TENSORS:
        raise DumpError(label, f"expected at most {MAX_TENSORS} tensors, got {len(tensors)}")
    stated = 8 + length + max(ends, default=0)
    if stated != size:
        raise DumpError(label, f"{what} it has {size} bytes instead of {stated}: truncated")
    return start + head


def check_members(archive: zipfile.ZipFile, size: int) -> str | None:
    """What is wrong with a zip file as a whole, or None."""
    infos = archive.infolist()
    if sum(i.compress_size for i in infos) > size:
        return "its members overlap: a zip bomb"
    return None


def check_member(info: zipfile.ZipInfo) -> str | None:
    """What is wrong with a member of a zip file, or None."""
    if info.compress_type not in _PACKINGS:
        return "is packed in a way other than stored or deflate"
    if info.flag_bits & 0x1:
        return "is encrypted"
    if info.file_size > MAX_DUMP_BYTES:
        return f"unpacks to {info.file_size} bytes, expected at most {MAX_DUMP_BYTES}"
    return None


def _read_npz(path: Path, label: str) -> Dump:
    tensors: dict[str, NDArray[Any]] = {}
    metadata: Any = {}
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            problem = check_members(archive, path.stat().st_size)
            if problem or len(infos) > MAX_TENSORS + 1:
                raise DumpError(label, problem or f"expected at most {MAX_TENSORS} tensors")
            if sum(i.file_size for i in infos) > MAX_DUMP_BYTES:
                raise DumpError(label, f"unpacks to more than {MAX_DUMP_BYTES} bytes")
            for info in infos:
                name = info.filename.removesuffix(".npy")
                problem = check_member(info)
                if problem is None and name in tensors:
                    problem = "is there twice"
                if problem:
                    raise DumpError(label, f"member {name[:80]!r} {problem}")
                with archive.open(info) as member:
                    if name == "metadata":
                        metadata = _npy_text(member, info.file_size, label)
                    else:
                        tensors[name] = _npy(member, info.file_size, label, name)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise DumpError(label, f"is not an npz file, or damaged ({error}); dump it again") from None
    except (NotImplementedError, RuntimeError) as error:
        raise DumpError(label, f"expected an npz dump, but {error}") from None
    return make_dump(label, tensors, metadata)


def _npy_header(member: IO[bytes], label: str, name: str) -> tuple[tuple[int, ...], bool, Any]:
    version = np.lib.format.read_magic(member)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise DumpError(label, f"tensor {name[:80]!r}: npy version {version} is not known")
    try:
        shape, fortran, dtype = readers[version](member)
    except TokenError:  # NumPy reads what Python 2 wrote, too
        raise DumpError(label, f"tensor {name[:80]!r}: its npy header is damaged") from None
    if dtype.hasobject:
        reason = f"tensor {name[:80]!r} holds pickled objects, which are never loaded"
        raise DumpError(label, reason)
    return shape, fortran, dtype


def _npy(member: IO[bytes], size: int, label: str, name: str) -> NDArray[Any]:
    shape, fortran, dtype = _npy_header(member, label, name)
    expected = check_declared(label, name, shape, dtype.name, dtype.str.startswith(">"))
    held = size - member.tell()
    if held != expected:
        reason = f"shape {shape} of {dtype.name} needs {expected} bytes, the file holds {held}"
        raise DumpError(label, f"tensor {name!r}: {reason}")
    flat = np.frombuffer(member.read(expected), dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _npy_text(member: IO[bytes], size: int, label: str) -> Any:
    """Metadata as JSON: a text scalar, or its UTF-8 bytes as uint8."""
    shape, _, dtype = _npy_header(member, label, "metadata")
    if size > 4 * MAX_METADATA_BYTES or dtype.kind not in "Uu" or (dtype.kind == "U" and shape):
        raise DumpError(label, "metadata: expected JSON as one text or as uint8")
    data = np.frombuffer(member.read(), dtype)
    return _json(str(data[0]) if dtype.kind == "U" else data.tobytes(), label, "metadata")


def read_raw(described: bytes, label: str, open_part: OpenPart) -> Dump:
    """Read raw little-endian numbers by their description; see ``docs/dump.schema.json``."""
    data = _json(described, label, "description")
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        reason = f'expected JSON with "format": "{FORMAT}", got {str(found)[:80]!r}'
        raise DumpError(label, reason)
    if data.get("byte_order", "little") != "little":
        raise DumpError(label, 'expected little-endian numbers ("byte_order": "little")')
    listed = data.get("tensors")
    if not isinstance(listed, dict) or len(listed) > MAX_TENSORS:
        reason = f"expected 'tensors', an object of at most {MAX_TENSORS}"
        raise DumpError(label, reason)
    tensors = {name: _raw(name, entry, label, open_part) for name, entry in listed.items()}
    return make_dump(label, tensors, data.get("metadata", {}))


def _raw(name: str, entry: Any, label: str, open_part: OpenPart) -> NDArray[Any]:
    try:
        dtype, shape, file = str(entry["dtype"]), list(entry["shape"]), str(entry["file"])
        offset = int(entry.get("offset", 0))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"tensor {name[:80]!r}: expected dtype, shape and file, but {error!r}"
        raise DumpError(label, reason) from None
    expected = check_declared(label, name, shape, dtype if dtype in _RAW_DTYPES else f"{dtype!r}")
    file = file.replace("\\", "/")  # as Windows writes paths
    outside = Path(file).is_absolute() or ".." in Path(file).parts or ":" in file
    if not file or outside:
        raise DumpError(label, f"tensor {name!r}: expected a file beside it, got {file[:80]!r}")
    stream, size = open_part(file)
    with stream:
        if offset < 0 or offset + expected > size:
            reason = f"needs {expected} bytes from {offset}, {file!r} holds {size}: truncated"
            raise DumpError(label, f"tensor {name!r} {reason}")
        stream.seek(offset)
        numbers = stream.read(expected)
    if len(numbers) != expected:
        raise DumpError(label, f"tensor {name!r}: {file!r} ends early: truncated")
    return np.frombuffer(numbers, np.dtype(dtype).newbyteorder("<")).reshape(shape)


def _neighbour(path: Path, name: str, label: str) -> tuple[IO[bytes], int]:
    target = path.parent / name
    try:
        if not target.exists():  # Windows makes no difference between capitals and small letters
            wanted, there = target.name.casefold(), target.parent.glob("*")
            alike = [p for p in there if p.name.casefold() == wanted]
            target = alike[0] if len(alike) == 1 else target
        if not target.resolve().is_relative_to(path.parent.resolve()):
            raise DumpError(label, f"file {name[:80]!r} leads out of the folder through a link")
        return plain_file(target).open("rb"), target.stat().st_size
    except (OSError, ValueError) as error:  # also a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise DumpError(label, f"file {name[:80]!r} cannot be read: {reason}") from None


def _json(text: str | bytes, label: str, what: str) -> Any:
    if len(text) > MAX_METADATA_BYTES:
        raise DumpError(label, f"{what}: expected at most {MAX_METADATA_BYTES} bytes")
    try:
        return parse_json(text if isinstance(text, bytes) else text.encode("utf-8"))
    except ValueError as error:
        raise DumpError(label, f"{what}: expected JSON, but {error}") from None
