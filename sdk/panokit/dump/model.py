"""What a dump is: tensors by stage, text about them, and the rules both must keep."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from panokit.bundle import Artifact
from panokit.decoding import DecodingSettings, PostprocessConfig
from panokit.errors import ArgumentError, DumpError
from panokit.photo import MAX_PIXELS
from panokit.preprocessing import TransformRecord, letterbox
from panokit.segmenter import Stages

__all__ = [
    "FORMAT",
    "HEADS",
    "MAX_DUMP_BYTES",
    "METADATA",
    "STAGES",
    "Defect",
    "Dump",
    "check_declared",
    "check_metadata",
    "check_values",
    "dump_stages",
    "dump_stem",
    "make_dump",
    "mend",
]

FORMAT = "panokit-dump/1"
HEADS = tuple(PostprocessConfig.heads)
"""The heads of contract ``center-offset``."""

_ALL_HEADS: dict[str, tuple[int, ...]] = dict.fromkeys(HEADS, ())
for _kind in DecodingSettings.contracts().values():
    for _name, _axes in _kind.heads.items():
        _ALL_HEADS[_name] = tuple(sorted({*_ALL_HEADS.get(_name, ()), *_axes}))
STAGES = ("photo", "input", *_ALL_HEADS, "panoptic")
METADATA = (
    "artifact",
    "artifact_sha256",
    "runtime",
    "delegate",
    "device",
    "os",
    "app",
    "build",
    "compute_unit",
    "placement",
    "run",
    "frame",
    "photo",
)
MAX_DUMP_BYTES = 1_000_000_000
"""Dumps of more bytes are refused, packed or not."""

MAX_TENSORS = 64
MAX_METADATA_BYTES = 4_000_000

_HEAD_DTYPES = ("float32", "float16", "int8", "uint8", "int16", "int32", "int64")
_DTYPES: dict[str, tuple[str, ...]] = {
    "photo": ("uint8",),
    "input": ("uint8", "int8", "float32", "float16"),
    **dict.fromkeys(_ALL_HEADS, _HEAD_DTYPES),
    "panoptic": ("int32", "uint8", "uint16", "int64", "int16"),
    "effect": ("uint8",),
}
_RANKS: dict[str, tuple[int, ...]] = {
    "photo": (3,),
    "input": (3,),
    **_ALL_HEADS,
    "panoptic": (2,),
    "effect": (3,),
}

Where = str | os.PathLike[str]


def dump_stem(name: str) -> str:
    """The name of a dump's file without its ending."""
    for suffix in (".safetensors", ".npz", ".dump.json", ".json"):
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    return name


@dataclass(frozen=True)
class Defect:
    """Numbers that a device should not have given: ``kind`` ``"not-finite"`` or ``"big-endian"``,
    and ``reason`` in words."""

    kind: Literal["not-finite", "big-endian"]
    reason: str


@dataclass(frozen=True)
class Dump:
    """One dump: tensors by stage (``[h0,w0,3]``, ``[h,w,C]``, ``[H,W]``; docs/dump.md), metadata,
    and the transform record if it is known.

    ``defects`` by tensor name: what was wrong with numbers as the file holds them. ``tensors`` has
    them made usable (0 for NaN, the largest finite number of the tensor for infinity, bytes turned
    round), so that the rest can be compared.
    """

    tensors: dict[str, NDArray[Any]]
    metadata: dict[str, str] = field(default_factory=dict)
    transform: TransformRecord | None = None
    path: str = ""
    defects: dict[str, Defect] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The photo's name, from the metadata or the file."""
        return self.metadata.get("photo") or dump_stem(Path(self.path).name)


def dump_stages(
    stages: Stages, artifact: Artifact, runtime: str, metadata: Mapping[str, str] | None = None
) -> Dump:
    """The dump of what was computed here."""
    tensors: dict[str, NDArray[Any]] = {"photo": stages.photo.rgb_hwc, "input": stages.input_hwc}
    tensors |= stages.raw
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


def make_dump(path: Where, tensors: dict[str, NDArray[Any]], metadata: Any) -> Dump:
    """A dump of tensors that were read, once their values and the metadata have been checked."""
    if not tensors:
        raise DumpError(Path(path), f"holds no tensor; expected some of {', '.join(STAGES)}")
    for name, values in tensors.items():
        check_values(path, name, values)
    text = check_metadata(path, metadata)
    usable, defects = mend(tensors)
    return Dump(usable, text, _transform(path, text), str(path), defects)


def mend(
    tensors: Mapping[str, NDArray[Any]],
) -> tuple[dict[str, NDArray[Any]], dict[str, Defect]]:
    """The tensors with usable numbers, and what was wrong with those of the device."""
    usable: dict[str, NDArray[Any]] = {}
    defects: dict[str, Defect] = {}
    for name, values in tensors.items():
        usable[name] = values
        if not np.issubdtype(values.dtype, np.floating):
            continue
        if _looks_swapped(values):
            reason = "holds numbers that make sense in big-endian order only"
            defects[name] = Defect("big-endian", reason)
            usable[name] = values = values.byteswap()
        finite = np.isfinite(values)
        if not finite.all():
            at = tuple(int(i) for i in np.argwhere(~finite)[0])
            count = f"{int((~finite).sum())} of {values.size} numbers"
            reason = f"holds {values[at]} at {at}; {count} are not finite"
            defects.setdefault(name, Defect("not-finite", reason))
            largest = float(np.abs(values[finite]).max()) if finite.any() else 0.0
            usable[name] = np.nan_to_num(values, nan=0.0, posinf=largest, neginf=-largest)
    return usable, defects


def stage_of(path: Where, name: str) -> str:
    """The stage a tensor belongs to: its name, or ``effect`` for ``effect.NAME``."""
    if name.startswith("effect.") and len(name) > len("effect."):
        return "effect"
    if name not in STAGES:
        known = ", ".join(STAGES)
        raise DumpError(
            Path(path), f"has an unknown tensor {name[:80]!r}; known: {known}, effect.NAME"
        )
    return name


def check_declared(
    path: Where, name: str, shape: Sequence[Any], dtype: str, big_endian: bool = False
) -> int:
    """Check what a file says of a tensor before its values are read; returns their bytes."""
    path = Path(path)
    stage = stage_of(path, name)
    whole = all(isinstance(v, int) and not isinstance(v, bool) for v in shape)
    if len(shape) not in _RANKS[stage] or not whole or min(shape, default=0) < 1:
        ranks = " or ".join(map(str, _RANKS[stage]))
        shown = str(tuple(shape))[:80]
        raise DumpError(path, f"tensor {name!r}: expected {ranks} axes, got shape {shown}")
    if dtype not in _DTYPES[stage]:
        reason = f"tensor {name!r}: expected one of {_DTYPES[stage]}, got {dtype[:40]}"
        raise DumpError(path, reason)
    if big_endian:
        reason = f"tensor {name!r} is big-endian; write little-endian numbers"
        raise DumpError(path, reason)
    if stage in ("photo", "effect") and (shape[0] * shape[1] > MAX_PIXELS or shape[2] != 3):
        reason = f"expected [h,w,3] of at most {MAX_PIXELS} pixels, got shape {tuple(shape)}"
        raise DumpError(path, f"tensor {name!r}: {reason}")
    size = int(np.prod([int(v) for v in shape], dtype=object)) * np.dtype(dtype).itemsize
    if size > MAX_DUMP_BYTES:
        reason = f"declares {size} bytes, expected at most {MAX_DUMP_BYTES}"
        raise DumpError(path, f"tensor {name!r} {reason}")
    return size


def check_values(path: Where, name: str, values: NDArray[Any]) -> None:
    """Refuse negative segment ids."""
    if name == "panoptic" and values.dtype.kind == "i" and int(values.min()) < 0:
        at = tuple(int(i) for i in np.argwhere(values < 0)[0])
        reason = f"expected segment ids from 0, got {values[at]} at {at}"
        raise DumpError(Path(path), f"tensor {name!r}: {reason}")


def _looks_swapped(values: NDArray[Any]) -> bool:
    """Whether numbers are absurd as they stand and sensible with their bytes reversed."""
    sample = values.ravel()[:: max(1, values.size // 4096)]
    if sample.dtype.itemsize < 4:  # any float16 may be meant
        return False
    return _absurd(sample) > 0.5 and _absurd(sample.byteswap()) < 0.05


def _absurd(sample: NDArray[Any]) -> float:
    magnitude = np.abs(sample.astype(np.float64))
    odd = ~np.isfinite(magnitude) | (magnitude > 1e9) | ((magnitude < 1e-9) & (magnitude > 0))
    return float(odd.mean())


def check_metadata(path: Where, metadata: Any) -> dict[str, str]:
    """Text by name, bounded; ``format`` must be one that this version reads."""
    path = Path(path)
    if not isinstance(metadata, Mapping):
        raise DumpError(path, f"expected metadata as an object, got {type(metadata).__name__}")
    text: dict[str, str] = {}
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, (str, int, float)):
            raise DumpError(path, f"metadata {str(key)[:80]!r}: expected text")
        text[key] = str(value)
    if sum(len(k) + len(v) for k, v in text.items()) > MAX_METADATA_BYTES:
        raise DumpError(path, f"expected at most {MAX_METADATA_BYTES} characters of metadata")
    if text.get("format", FORMAT) != FORMAT:
        reason = f"expected the format {FORMAT!r}, got {text['format'][:80]!r}"
        raise DumpError(path, f"{reason}; it was written for another version of Panokit")
    frame = text.get("frame", "0")
    if not (frame.isascii() and frame.isdigit() and len(frame) <= 15):
        expected = "a whole number of frames since the sequence began"
        raise DumpError(path, f"metadata 'frame' is {frame[:40]!r}; expected {expected}")
    return text


def check_names(names: Sequence[str]) -> None:
    """Refuse to write tensors that no stage has."""
    unknown = [n for n in names if n not in STAGES and not n.startswith("effect.")]
    if unknown:
        expected = f"stages {', '.join(STAGES)} or effect.NAME"
        raise ArgumentError("tensors", f"the dump has the tensors {unknown}; expected {expected}")


def _record_of_size(sides: Any) -> dict[str, Any]:
    """A transform record of a photo of which only the size is told."""
    good = isinstance(sides, list) and len(sides) == 2
    if not good or not all(type(side) is int and 1 <= side <= MAX_PIXELS for side in sides):
        raise ValueError(f"photo_wh is {str(sides)[:60]}; expected two whole numbers from 1")
    w, h = sides
    return letterbox((w, h), (w, h)).to_json()


def _transform(path: Where, metadata: Mapping[str, str]) -> TransformRecord | None:
    if "transform" not in metadata:
        return None
    try:
        told = json.loads(metadata["transform"])
        if isinstance(told, dict) and told.keys() == {"photo_wh"}:
            told = _record_of_size(told["photo_wh"])
        record = TransformRecord.from_json(told)
        sides = [int(v) for v in (*record.photo_wh, *record.input_wh)]
    except (ValueError, AttributeError, TypeError, RecursionError, OverflowError) as error:
        reason = f"its transform record is not readable: {error}"
        raise DumpError(Path(path), reason) from None
    if len(sides) != 4 or min(sides) < 1 or sides[0] * sides[1] > MAX_PIXELS:
        raise DumpError(Path(path), f"its transform record has impossible sizes {sides}")
    return record
