"""Weights from any file that a training loop leaves, and what a file is that holds none.

A file is looked at before it is opened: safetensors, or a torch checkpoint. Of a pickle only what
builds tensors and plain values is let through; nothing in it is run. Weights may lie deeper in the
content (``{"epoch": 3, "state_dict": …}``).
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from panokit.errors import DataError

__all__ = ["MAX_FILE_BYTES", "Checkpoint", "StateDict", "read_checkpoint", "read_safetensors"]

StateDict = dict[str, Tensor]

MAX_FILE_BYTES = 4_000_000_000
MAX_DEPTH = 4
# Averaged weights first: they are what was measured, where a file holds both.
_PREFERRED = ("ema", "averaged", "state_dict", "model", "net", "weights", "module", "params")
_NO_WEIGHTS = ("optim", "scheduler", "scaler", "rng", "grad")
# Beside weights, training loops store figures, options and paths; building these runs nothing.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    collections.defaultdict,
    dict,
    np.dtype,
    np.ndarray,
    pathlib.Path,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
    *(getattr(np.dtypes, name) for name in np.dtypes.__all__),
]
_SAVE_WEIGHTS = "save the weights alone: torch.save(module.state_dict(), …) or safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: ``states`` are its weights by name, one mapping for each place where there
    are some (``""``, ``"state_dict"``, ``"ema.module"`` …), the likeliest first; ``metadata`` the
    texts that a safetensors file carries."""

    path: Path
    states: dict[str, StateDict]
    metadata: dict[str, str] = field(default_factory=dict)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """The weights in a safetensors file or a torch checkpoint, on the CPU.

    ``DataError`` says what a file is that is neither, or what is wrong with it.
    """
    path = Path(path)
    head = _first_bytes(path)
    if _is_safetensors(head):
        state, metadata = read_safetensors(path)
        return Checkpoint(path, {"": state}, metadata)
    if head.startswith(b"PK\x03\x04"):
        _check_archive(path)
    elif not head.startswith(b"\x80"):
        raise DataError(path, f"expected weights, but it is {_what_it_is(path, head)}")
    content = _load_pickle(path)
    states = dict(_states(content))
    if not states:
        raise DataError(path, f"expected weights by name, but it holds {_describe(content)}")
    return Checkpoint(path, states)


def read_safetensors(path: str | Path) -> tuple[StateDict, dict[str, str]]:
    """The tensors of a safetensors file, and its metadata; ``DataError`` says what another file
    is."""
    path = Path(path)
    head = _first_bytes(path)
    if not _is_safetensors(head):
        raise DataError(path, f"expected a safetensors file, but it is {_what_it_is(path, head)}")
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        if "incomplete" in str(error).lower():
            raise DataError(path, "is incomplete: it ends before its last tensor; copy or "
                            "download it again") from None  # fmt: skip
        raise DataError(path, f"expected a safetensors file, but {error}") from None


def _first_bytes(path: Path) -> bytes:
    """The beginning of a file, which must be one and not too large."""
    if path.is_dir():
        raise DataError(path, "is a folder; expected a weight file in it")
    if not path.is_file():
        raise DataError(path, "no such weight file")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise DataError(path, f"has {size} bytes; expected at most {MAX_FILE_BYTES}")
    if not size:
        raise DataError(path, "is empty; copy or download it again")
    with path.open("rb") as file:
        return file.read(1024)


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32


_KINDS: tuple[tuple[bytes, int, str], ...] = (
    (b"\x89HDF\r\n", 0, "an HDF5 file (of Keras, say)"),
    (b"TFL3", 4, "a TFLite model, which is exported already"),
    (b"GGUF", 0, "a GGUF file"),
    (b"\x93NUMPY", 0, "a NumPy array"),
    (b"\x1f\x8b", 0, "a gzip archive; unpack it first"),
    (b"BZh", 0, "a bzip2 archive; unpack it first"),
    (b"\xfd7zXZ", 0, "an xz archive; unpack it first"),
    (b"7z\xbc\xaf", 0, "a 7-Zip archive; unpack it first"),
    (b"Rar!", 0, "a RAR archive; unpack it first"),
    (b"ustar", 257, "a tar archive; unpack it first"),
    (b"\x89PNG", 0, "an image"),
    (b"\xff\xd8\xff", 0, "an image"),
    (b"%PDF", 0, "a PDF document"),
    (b"\x7fELF", 0, "a program"),
)


def _what_it_is(path: Path, head: bytes) -> str:
    """A file that holds no weights, in words."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"version https://git-lfs"):
        size = re.search(rb"size (\d+)", text)
        told = f" to a file of {int(size[1])} bytes" if size else ""
        return f"a Git LFS pointer{told}, not the file itself; fetch it with `git lfs pull`"
    lower = text[:200].lower()
    if lower.startswith((b"<!doctype html", b"<html")) or b"<html" in lower:
        return (
            "an HTML page (a login or error page that was saved in its place?); download it again"
        )
    if text.startswith(b"<"):
        return "an XML text (an error message of a server?); download it again"
    if text.startswith(b"{"):
        if path.name.endswith(".index.json"):
            return "the index of weights in several files; join them into one first"
        return "a JSON text"
    for magic, at, words in _KINDS:
        if head[at : at + len(magic)] == magic:
            return words
    if path.suffix == ".onnx" or b"pytorch" in head[:64] or b"onnx" in head[:64]:
        return "an ONNX model, which is exported already"
    if not any(head):
        return "a file of zeros (a download that was cut off?)"
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return "of a kind that is not known here; expected safetensors or a torch checkpoint"
    return f"a text that begins {head[:40].decode(errors='replace')!r}"


def _check_archive(path: Path) -> None:
    """A zip archive must be a torch checkpoint, and whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        reason = "is incomplete: an archive without its end; copy or download it again"
        raise DataError(path, reason) from None
    names = [info.filename for info in infos]
    total = sum(info.file_size for info in infos)
    if total > MAX_FILE_BYTES:
        raise DataError(path, f"unpacks to {total} bytes; expected at most {MAX_FILE_BYTES}")
    parts = {part for name in names for part in name.split("/")[:2]}
    if "constants.pkl" in parts or any("/code/" in name for name in names):
        raise DataError(
            path,
            "expected weights, but it is a TorchScript archive (a scripted or traced network); "
            "save torch.jit.load(…).state_dict() to a file and give that",
        )
    if (
        any(name.endswith((".json", "archive_format")) for name in names)
        and "data.pkl" not in parts
    ):
        raise DataError(
            path,
            "expected weights, but it is an archive of another kind (a program of torch.export, or "
            "a Keras model); save its state_dict() to a file and give that",
        )
    if "data.pkl" not in parts:
        npz = all(name.endswith(".npy") for name in names) and names
        kind = "NumPy arrays (.npz)" if npz else "a zip archive without weights"
        raise DataError(path, f"expected weights, but it is {kind}")


def _load_pickle(path: Path) -> Any:
    """The content of a torch checkpoint; nothing but tensors and plain values is built."""
    try:
        allowed = torch.serialization.safe_globals([*_HARMLESS, *_numpy_builders()])
        with allowed, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of other protocols, which are refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, KeyError, EOFError,
            AttributeError, IndexError, OSError, AssertionError, MemoryError,
            UnicodeDecodeError) as error:  # fmt: skip
        raise DataError(path, _pickle_trouble(str(error))) from None


def _numpy_builders() -> list[Any]:
    """What NumPy's own numbers and arrays are rebuilt with, under the names of old and new ones."""
    from numpy._core import multiarray

    scalar, reconstruct = multiarray.scalar, multiarray._reconstruct
    old = "numpy.core.multiarray"
    return [scalar, reconstruct, (scalar, f"{old}.scalar"), (reconstruct, f"{old}._reconstruct")]


def _pickle_trouble(message: str) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", message) or re.search(
        r"unsupported.* ([\w.]+\.\w+)", message
    )
    if found:
        return (
            f"expected weights alone, but this pickle wants to run code ({found[1]}), which may do "
            f"anything; nothing was run. Where it was trained, {_SAVE_WEIGHTS}"
        )
    if "weights_only" in message.lower() or "weights only" in message.lower():
        return (
            "expected weights alone, but this pickle holds other things, which may run code; "
            f"nothing was run. Where it was trained, {_SAVE_WEIGHTS}"
        )
    if "central directory" in message or "Ran out of input" in message or "EOF" in message:
        return "is incomplete; copy or download it again"
    first = message.strip().splitlines()[0][:160] if message.strip() else "it cannot be read"
    return f"expected a torch checkpoint, but {first}"


def _states(content: Any) -> Iterator[tuple[str, StateDict]]:
    """Every mapping of names to tensors, with its place in ``content``; the likeliest first."""
    found = list(_search(content, (), 0))
    found.sort(key=lambda item: (_rank(item[0]), len(item[0])))
    for place, state in found:
        yield ".".join(place), state


def _search(
    value: Any, place: tuple[str, ...], depth: int
) -> Iterator[tuple[tuple[str, ...], StateDict]]:
    if isinstance(value, torch.nn.Module):  # cannot come out of a pickle of weights alone
        return
    if not isinstance(value, Mapping) or depth > MAX_DEPTH:
        return
    tensors = {str(k): v for k, v in value.items() if isinstance(v, Tensor)}
    nested = {str(k): v for k, v in value.items() if isinstance(v, Mapping)}
    if tensors and len(tensors) >= len(value) - len(nested) - 2:
        yield place, tensors
    for name, inner in nested.items():
        if not any(word in name.lower() for word in _NO_WEIGHTS):
            yield from _search(inner, (*place, name), depth + 1)


def _rank(place: tuple[str, ...]) -> int:
    """Place of a name in the order of preference."""
    joined = ".".join(place).lower()
    for rank, word in enumerate(_PREFERRED):
        if word in joined:
            return rank
    return len(_PREFERRED)


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        keys = ", ".join(repr(str(key)) for key in list(content)[:5])
        return f"{{{keys}{', …' if len(content) > 5 else ''}}} without tensors by name"
    return f"a {type(content).__name__}"
