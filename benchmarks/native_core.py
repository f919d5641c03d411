"""The C core of ``native/core`` through ctypes: for benchmarks and tests, not for users.

The library is built with the C compiler that is there (``cc``, or what ``CC`` names).
"""

from __future__ import annotations

import ctypes as c
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "native" / "core"
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Wshadow", "-Werror")
FLAGS = ("-ffp-contract=off", f"-I{CORE / 'include'}", f"-I{CORE / 'src'}")
FORMATS = {"rgb": 0, "rgbx": 1, "bgrx": 2, "rgba": 3, "bgra": 4, "yuv420": 5}
DTYPES = {"uint8": 0, "int8": 1, "int16": 2, "float16": 3, "float32": 4, "int32": 5}
HEADS = ("semantic", "center", "offset")


def compiler() -> str | None:
    """The C compiler, if there is one."""
    return shutil.which(os.environ.get("CC", "cc"))


def sources() -> list[str]:
    """The core's files."""
    return [str(path) for path in sorted((CORE / "src").glob("*.c"))]


def build_library(folder: Path, *options: str) -> Path:
    """``libpanokit.so`` in ``folder``, stripped and optimised, with all warnings as errors."""
    found = compiler()
    if found is None:
        raise FileNotFoundError("there is no C compiler: install gcc or clang, or set CC")
    library = folder / "libpanokit.so"
    options = ("-shared", "-fPIC", "-O2", "-s", *options)
    command = [found, *WARNINGS, *FLAGS, *options, *sources(), "-o", str(library)]
    subprocess.run(command, check=True)
    return library


class _Error(c.Structure):
    _fields_ = [
        ("status", c.c_int), ("message", c.c_char * 256), ("head", c.c_int),
        ("has_position", c.c_int), ("position", c.c_int32 * 3),
    ]  # fmt: skip


class _Options(c.Structure):
    _fields_ = [("max_photo_side", c.c_int32), ("matte", c.c_int32), ("explain", c.c_int32)]


class _Image(c.Structure):
    _fields_ = [
        ("format", c.c_int), ("width", c.c_int32), ("height", c.c_int32),
        ("orientation", c.c_int32), ("data", c.c_void_p), ("row_stride", c.c_ssize_t),
        ("u", c.c_void_p), ("v", c.c_void_p), ("chroma_row_stride", c.c_ssize_t),
        ("chroma_step", c.c_ssize_t), ("full_range", c.c_int32), ("matrix", c.c_int),
    ]  # fmt: skip


class _Tensor(c.Structure):
    _fields_ = [
        ("data", c.c_void_p), ("bytes", c.c_size_t), ("dtype", c.c_int),
        ("row_stride", c.c_ssize_t), ("column_stride", c.c_ssize_t),
        ("channel_stride", c.c_ssize_t),
    ]  # fmt: skip


class _Segment(c.Structure):
    _fields_ = [
        ("id", c.c_int32), ("channel", c.c_int32), ("is_thing", c.c_int32), ("score", c.c_double),
        ("area", c.c_int32), ("center_y", c.c_float), ("center_x", c.c_float),
        ("photo_area", c.c_int64), ("box", c.c_int32 * 4),
    ]  # fmt: skip


class _DumpTensor(c.Structure):
    _fields_ = [
        ("name", c.c_char_p), ("dtype", c.c_int), ("rank", c.c_int32), ("shape", c.c_int64 * 4),
        ("data", c.c_void_p), ("bytes", c.c_size_t),
    ]  # fmt: skip


class _DumpText(c.Structure):
    _fields_ = [("key", c.c_char_p), ("value", c.c_char_p)]


class _Dump(c.Structure):
    _fields_ = [
        ("session", c.c_void_p), ("tensor_count", c.c_int32), ("text_count", c.c_int32),
        ("tensors", _DumpTensor * 12), ("texts", _DumpText * 24),
    ]  # fmt: skip


_WRITER = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_size_t)


class CoreError(Exception):
    """A call of the core failed; ``status`` is its code, ``head`` and ``position`` as in C."""

    def __init__(self, error: _Error) -> None:
        super().__init__(error.message.decode("utf-8", "replace"))
        self.status = int(error.status)
        self.head = HEADS[error.head] if error.head >= 0 else None
        self.position = tuple(error.position) if error.has_position else None


@dataclass(frozen=True)
class Picture:
    """A picture as an app has it: ``planes`` (one, or Y, U and V), sizes and strides in bytes."""

    format: str
    size_wh: tuple[int, int]
    planes: tuple[NDArray[np.uint8], ...]
    row_stride: int
    orientation: int = 1
    chroma_row_stride: int = 0
    chroma_step: int = 0
    full_range: bool = False
    matrix: int = 0
    offset: int = 0

    @classmethod
    def rgb(cls, rgb_hwc: NDArray[np.uint8]) -> Picture:
        """A dense RGB picture, uint8 ``[H,W,3]``."""
        h, w = rgb_hwc.shape[:2]
        return cls("rgb", (w, h), (np.ascontiguousarray(rgb_hwc),), 3 * w)

    def to_c(self) -> _Image:
        at = [plane.ctypes.data for plane in self.planes] + [None, None]
        return _Image(
            FORMATS[self.format], *self.size_wh, self.orientation, self.planes[0].ctypes.data
            + self.offset, self.row_stride, at[1], at[2], self.chroma_row_stride, self.chroma_step,
            int(self.full_range), self.matrix,
        )  # fmt: skip


class Core:
    """The loaded library."""

    def __init__(self, library: Path) -> None:
        self.lib = c.CDLL(str(library))
        self.lib.panokit_session_bytes.restype = c.c_size_t
        self.lib.panokit_input_bytes.restype = c.c_size_t
        for name in ("panokit_ids", "panokit_input_rgb", "panokit_segments"):
            getattr(self.lib, name).restype = c.c_void_p

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function that may fail; :class:`CoreError` if it does."""
        error = _Error()
        if getattr(self.lib, name)(*arguments, c.byref(error)):
            raise CoreError(error)

    def open(self, manifest: bytes, artifact: str | None = None) -> Model:
        """A model from the text of a manifest."""
        pointer = c.c_void_p()
        name = None if artifact is None else artifact.encode()
        size = c.c_size_t(len(manifest))
        self.call("panokit_open", manifest, size, name, c.byref(pointer))
        return Model(self, pointer)


class Model:
    """A manifest that was read."""

    def __init__(self, core: Core, pointer: c.c_void_p) -> None:
        self.core, self.pointer = core, pointer

    def session(self, *, matte: bool = False, max_side: int = 0) -> Session:
        """A session with all its memory."""
        pointer, options = c.c_void_p(), _Options(max_side, matte, 0)
        arguments = (self.pointer, c.byref(options), c.byref(pointer))
        self.core.call("panokit_session_open", *arguments)
        return Session(self, pointer)

    def __del__(self) -> None:
        self.core.lib.panokit_close(self.pointer)


class Session:
    """Working memory, and what was computed last."""

    def __init__(self, model: Model, pointer: c.c_void_p) -> None:
        self.model, self.core, self.pointer = model, model.core, pointer
        self.lib = self.core.lib

    def __del__(self) -> None:
        self.lib.panokit_session_close(self.pointer)

    @property
    def bytes(self) -> int:
        """All memory of the session."""
        return int(self.lib.panokit_session_bytes(self.pointer))

    def preprocess(self, picture: Picture, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
        """The input, uint8 ``[H,W,3]``; ``size_wh`` is the input's."""
        self.core.call("panokit_preprocess", self.pointer, c.byref(picture.to_c()))
        address = self.lib.panokit_input_rgb(self.pointer)
        w, h = size_wh
        return np.frombuffer(c.string_at(address, w * h * 3), np.uint8).reshape(h, w, 3)

    def input_tensor(self, dtype: str) -> NDArray[Any]:
        """The input as the artifact takes it, flat."""
        size = int(self.lib.panokit_input_bytes(self.model.pointer))
        out = np.zeros(size // np.dtype(dtype).itemsize, dtype)
        place = c.c_void_p(out.ctypes.data)
        self.core.call("panokit_input", self.pointer, place, c.c_size_t(size))
        return out

    def set_photo(self, size_wh: tuple[int, int]) -> None:
        """The photo's size, for heads of an input that was made elsewhere."""
        self.core.call("panokit_set_photo", self.pointer, *map(c.c_int32, size_wh))

    def decode(
        self,
        heads: Mapping[str, NDArray[Any]],
        strides: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        """Decode raw heads; ``strides`` in elements (row, column, channel) by head."""
        tensors = (_Tensor * 3)()
        for i, name in enumerate(HEADS):
            a = heads[name]
            tensors[i] = _Tensor(
                a.ctypes.data, a.nbytes, DTYPES[a.dtype.name], *(strides or {}).get(name, (0, 0, 0))
            )
        self.core.call("panokit_decode", self.pointer, tensors)

    def segments(self) -> list[dict[str, Any]]:
        """The segments as dicts."""
        count = c.c_int32()
        address = self.lib.panokit_segments(self.pointer, c.byref(count))
        if not count.value:
            return []
        found = c.cast(address, c.POINTER(_Segment * count.value)).contents
        names = [name for name, *_ in _Segment._fields_]
        listed = [{n: getattr(s, n) for n in names} for s in found]
        return [{**s, "box": tuple(s["box"])} for s in listed]

    def ids(self, shape: tuple[int, int]) -> NDArray[np.int32]:
        """The map on the decode grid."""
        address = self.lib.panokit_ids(self.pointer)
        size = 4 * shape[0] * shape[1]
        return np.frombuffer(c.string_at(address, size), np.int32).reshape(shape)

    def photo_ids(self, size_wh: tuple[int, int], dtype: str = "int32") -> NDArray[Any]:
        """The map on the photo."""
        w, h = size_wh
        out = np.full((h, w), 99, dtype)
        place = c.c_void_p(out.ctypes.data)
        step = c.c_size_t(out.strides[0])
        self.core.call("panokit_photo_ids", self.pointer, place, out.itemsize, step)
        return out

    def rle(self, segment_id: int) -> str:
        """COCO's compressed run lengths of a segment."""
        needed = c.c_size_t()
        self.core.call("panokit_rle", self.pointer, segment_id, None, c.c_size_t(), c.byref(needed))
        text = c.create_string_buffer(needed.value)
        self.core.call("panokit_rle", self.pointer, segment_id, text, needed, c.byref(needed))
        return text.value.decode()

    def portrait(self) -> list[int]:
        """Ids of persons and of what they hold."""
        ids, needed = (c.c_int32 * 1000)(), c.c_int32()
        self.core.call("panokit_portrait", self.pointer, ids, 1000, c.byref(needed))
        return list(ids[: needed.value])

    def matte(self, picture: Picture, ids: list[int]) -> NDArray[np.float32]:
        """The soft matte of some segments, float32 ``[H,W]`` on the upright photo."""
        w, h = picture.size_wh[:: -1 if picture.orientation >= 5 else 1]
        alpha = np.zeros((h, w), np.float32)
        wanted, place = (c.c_int32 * len(ids))(*ids), c.c_void_p(alpha.ctypes.data)
        image = c.byref(picture.to_c())
        arguments = (wanted, len(ids), place, c.c_size_t(w))
        self.core.call("panokit_matte", self.pointer, image, *arguments)
        return alpha

    def dump(self, path: Path, heads: Mapping[str, NDArray[Any]], texts: Mapping[str, str]) -> None:
        """Write a dump with the result, these raw heads and texts."""
        dump = _Dump()
        self.lib.panokit_dump_init(c.byref(dump), self.pointer)
        self.core.call("panokit_dump_result", c.byref(dump))
        for i, name in enumerate(HEADS):
            a = heads[name]
            place = c.c_void_p(a.ctypes.data)
            rest = (DTYPES[a.dtype.name], place, c.c_size_t(a.nbytes))
            self.core.call("panokit_dump_head", c.byref(dump), i, *rest)
        kept = [(k.encode(), v.encode()) for k, v in texts.items()]
        for key, value in kept:
            self.core.call("panokit_dump_text", c.byref(dump), key, value)
        with path.open("wb") as file:

            def write(_: Any, data: int, count: int) -> int:
                return int(file.write(c.string_at(data, count)) != count)

            self.core.call("panokit_dump_write", c.byref(dump), _WRITER(write), None)
