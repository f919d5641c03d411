"""Device dumps: what a phone (or LiteRT here) computed for one photo, stage by stage.

One safetensors file per photo. Tensors, any subset: ``photo`` uint8 ``[h0,w0,3]`` (upright sRGB),
``input`` uint8 ``[H,W,3]``, ``semantic`` / ``center`` / ``offset`` raw heads ``[h,w,C]`` in the
artifact's own type (quantised ones stay so), ``panoptic`` int32 ``[H,W]`` ids on the decode grid,
``effect.<name>`` uint8 ``[h0,w0,3]``. Metadata: text by the names in :data:`METADATA`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from panokit._files import replacing
from panokit.bundle import Artifact
from panokit.errors import ArgumentError, DumpError
from panokit.preprocessing import TransformRecord
from panokit.segmenter import Stages

__all__ = [
    "FORMAT",
    "HEADS",
    "METADATA",
    "STAGES",
    "Dump",
    "dump_stages",
    "read_dump",
    "write_dump",
]

FORMAT = "panokit-dump/1"
HEADS = ("semantic", "center", "offset")
STAGES = ("photo", "input", *HEADS, "panoptic")
METADATA = ("artifact", "artifact_sha256", "runtime", "delegate", "device", "os", "app", "photo")
MAX_DUMP_BYTES = 1_000_000_000

_DTYPES = {
    "photo": ("uint8",),
    "input": ("uint8", "int8", "float32", "float16"),
    "semantic": ("float32", "float16", "int8", "uint8", "int16"),
    "center": ("float32", "float16", "int8", "uint8", "int16"),
    "offset": ("float32", "float16", "int8", "uint8", "int16"),
    "panoptic": ("int32", "uint8", "uint16", "int64", "int16"),
}
_RANKS = {
    "photo": (3,),
    "input": (3,),
    "semantic": (3,),
    "center": (2, 3),
    "offset": (3,),
    "panoptic": (2,),
}


@dataclass(frozen=True)
class Dump:
    """One dump: tensors by stage, metadata, and the transform record if it is known."""

    tensors: dict[str, NDArray[Any]]
    metadata: dict[str, str] = field(default_factory=dict)
    transform: TransformRecord | None = None
    path: str = ""

    @property
    def name(self) -> str:
        """The photo's name, from the metadata or the file."""
        return self.metadata.get("photo") or Path(self.path).stem


def dump_stages(
    stages: Stages, artifact: Artifact, runtime: str, metadata: Mapping[str, str] | None = None
) -> Dump:
    """The dump of what was computed here."""
    tensors: dict[str, NDArray[Any]] = {"photo": stages.photo.rgb_hwc, "input": stages.input_hwc}
    tensors |= {name: stages.raw[name] for name in HEADS}
    tensors["panoptic"] = stages.panoptic.ids
    segments = [{"id": s.id, "channel": s.channel} for s in stages.panoptic.segments]
    described = {
        "artifact": artifact.name,
        "artifact_sha256": artifact.sha256,
        "runtime": runtime,
        "photo": stages.photo.name,
        "segments": json.dumps(segments),
        **(metadata or {}),
    }
    return Dump(tensors, described, stages.transform)


def write_dump(dump: Dump, path: str | os.PathLike[str]) -> Path:
    """Write a dump (safetensors), through a temporary name."""
    path = Path(path)
    unknown = [n for n in dump.tensors if n not in STAGES and not n.startswith("effect.")]
    if unknown:
        expected = f"stages {', '.join(STAGES)} or effect.NAME"
        raise ArgumentError("tensors", expected, unknown)
    metadata = {"format": FORMAT, **{k: str(v) for k, v in dump.metadata.items()}}
    if dump.transform is not None:
        metadata["transform"] = json.dumps(dump.transform.to_json())
    tensors = {k: np.ascontiguousarray(v) for k, v in dump.tensors.items()}
    with replacing(path) as partial:
        save_file(tensors, partial, metadata)
    return path


def read_dump(path: str | os.PathLike[str]) -> Dump:
    """Read a dump; ``DumpError`` says what is wrong with the file, tensor by tensor."""
    path = Path(path)
    if not path.is_file():
        raise DumpError(path, "no such dump file")
    size = path.stat().st_size
    if size > MAX_DUMP_BYTES:
        raise DumpError(path, f"expected at most {MAX_DUMP_BYTES} bytes, got {size}")
    try:
        with safe_open(path, "np") as file:
            metadata = dict(file.metadata() or {})
            names = list(file.keys())
            for name in names:
                _check_header(path, name, file.get_slice(name))
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise DumpError(path, f"expected a safetensors dump, but {error}") from None
    except (TypeError, AttributeError, KeyError) as error:  # a type that NumPy does not have
        raise DumpError(path, f"holds a tensor of an unknown type: {error!r}") from None
    if not tensors:
        raise DumpError(path, f"holds no tensor; expected some of {', '.join(STAGES)}")
    for name, values in tensors.items():
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            at = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
            raise DumpError(path, f"tensor {name!r} holds {values[at]} at {at}")
    return Dump(tensors, metadata, _transform(path, metadata), str(path))


def _check_header(path: Path, name: str, header: Any) -> None:
    if name.startswith("effect."):
        return
    if name not in STAGES:
        known = ", ".join(STAGES)
        raise DumpError(path, f"has an unknown tensor {name!r}; known: {known}, effect.NAME")
    shape = tuple(header.get_shape())
    if len(shape) not in _RANKS[name] or 0 in shape:
        ranks = " or ".join(map(str, _RANKS[name]))
        raise DumpError(path, f"tensor {name!r}: expected {ranks} axes, got shape {shape}")
    dtype = _NUMPY_NAMES.get(str(header.get_dtype()), str(header.get_dtype()))
    if dtype not in _DTYPES[name]:
        raise DumpError(path, f"tensor {name!r}: expected one of {_DTYPES[name]}, got {dtype}")


_NUMPY_NAMES = {
    "F32": "float32", "F16": "float16", "F64": "float64", "I8": "int8", "U8": "uint8",
    "I16": "int16", "U16": "uint16", "I32": "int32", "I64": "int64",
}  # fmt: skip


def _transform(path: Path, metadata: Mapping[str, str]) -> TransformRecord | None:
    if "transform" not in metadata:
        return None
    try:
        return TransformRecord.from_json(json.loads(metadata["transform"]))
    except (ValueError, AttributeError) as error:
        raise DumpError(path, f"its transform record is not readable: {error}") from None
