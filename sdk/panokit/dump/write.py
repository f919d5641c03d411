"""Writing dumps: safetensors, npz, or raw numbers beside JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from panokit._files import replacing, write_bytes, write_json
from panokit._safetensors import in_order
from panokit._text import encodable
from panokit.dump.model import FORMAT, Dump, check_names
from panokit.errors import ArgumentError

__all__ = ["write_dump"]


def write_dump(dump: Dump, path: str | os.PathLike[str]) -> Path:
    """Write a dump through a temporary name, in the form that the name's end tells.

    ``.safetensors`` (the one to prefer), ``.npz``, or ``.dump.json``, which puts the numbers of all
    tensors into ``NAME.bin`` beside it.
    """
    path = Path(path)
    check_names(list(dump.tensors))
    metadata = {"format": FORMAT, **{k: encodable(str(v)) for k, v in dump.metadata.items()}}
    if dump.transform is not None:
        metadata["transform"] = json.dumps(dump.transform.to_json())
    tensors = {k: _little(v) for k, v in dump.tensors.items()}
    if path.name.endswith(".safetensors"):
        write_bytes(path, in_order(save(tensors, metadata)))
    elif path.name.endswith(".npz"):
        named: dict[str, Any] = {**tensors, "metadata": np.array(json.dumps(metadata))}
        with replacing(path) as partial:
            np.savez(partial, allow_pickle=False, **named)
    elif path.name.endswith(".dump.json"):
        _write_raw(path, tensors, metadata)
    else:
        expected = "a name ending in .safetensors, .npz or .dump.json"
        raise ArgumentError("path", f"path is {str(path)!r}; expected {expected}")
    return path


def _write_raw(path: Path, tensors: dict[str, NDArray[Any]], metadata: dict[str, str]) -> None:
    numbers = path.with_name(path.name.removesuffix(".dump.json") + ".bin")
    listed, offset = {}, 0
    with replacing(numbers) as partial, partial.open("wb") as file:
        for name, values in tensors.items():
            listed[name] = {
                "dtype": values.dtype.name,
                "shape": list(values.shape),
                "file": numbers.name,
                "offset": offset,
            }
            offset += file.write(values.tobytes())
    write_json(
        path,
        {"format": FORMAT, "byte_order": "little", "metadata": metadata, "tensors": listed},
    )


def _little(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
