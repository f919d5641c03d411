"""Artifacts, manifest and golden vectors to a bundle folder, whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panokit._files import replacing_folder, write_json
from panokit._reading import is_sidecar
from panokit.bundle import (
    MANIFEST,
    Artifact,
    Bundle,
    Manifest,
    TensorSpec,
    VectorFile,
    hash_path,
    path_bytes,
)
from panokit.dump import FORMAT
from panokit.errors import ArgumentError, ExportError
from panokit.photo import Photo
from panokit.preprocessing import preprocess
from panokit.runtime import dequantize

__all__ = ["MIN_VECTORS", "BundlePart", "RawHeads", "write_bundle"]

MIN_VECTORS = 3

RawHeads = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class BundlePart:
    """One artifact on its way into a bundle.

    ``source`` is a file or folder to copy to ``file``; ``raw`` holds for each photo, by name, the
    heads ``[h,w,C]`` as the artifact gives them (quantised ones stay so), none of one that nothing
    here can run (``quality["not_checked"]`` says why); ``origin`` says what
    computed them, a runtime's name; ``quality`` is what is measured of it, for the manifest.
    """

    name: str
    format: str
    file: str
    source: Path
    precision: str
    input: TensorSpec
    outputs: dict[str, TensorSpec]
    origin: str
    raw: Mapping[str, RawHeads]
    minimum_os: str = ""
    tools: dict[str, str] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)


def write_bundle(
    path: Path, manifest: Manifest, parts: Sequence[BundlePart], photos: Mapping[str, Photo]
) -> Bundle:
    """Write ``path`` (``NAME.panokit``) and open it again, which checks it.

    ``manifest`` comes without artifacts and vectors; they are made from ``parts``, whose quality
    is entered as well. Each part gets
    one golden vector per photo of its ``raw``, at least three, and those photos lie beside them as
    PNG. An existing bundle is replaced
    only when the new one is complete; a folder that is no bundle is refused.
    """
    if path.suffix != ".panokit":
        raise ArgumentError("out", f"out is {str(path)!r}; expected a path that ends in .panokit")
    if path.exists() and not (path / MANIFEST).is_file() and not _is_empty(path):
        raise ExportError(path, "exists and is no bundle; choose another name or remove it")
    _check_parts(parts)
    with replacing_folder(path) as folder:
        artifacts: list[Artifact] = []
        vectors: list[VectorFile] = []
        used = {name for part in parts for name in part.raw}
        places = {n: _write_photo(folder, n, p) for n, p in photos.items() if n in used}
        for part in parts:
            artifact = _place(folder, part)
            artifacts.append(artifact)
            for name, raw in part.raw.items():
                vector = _write_vector(
                    folder, manifest, artifact, part.origin, photos[name], name, raw
                )
                file, sha256 = places[name]
                vectors.append(replace(vector, photo=file, photo_sha256=sha256))
        measured = {part.name: part.quality for part in parts if part.quality}
        quality = {**manifest.quality, "artifacts": measured} if measured else manifest.quality
        whole = replace(
            manifest, artifacts=tuple(artifacts), vectors=tuple(vectors), quality=quality
        )
        write_json(folder / MANIFEST, whole.to_json())
        Bundle.open(folder)
    return Bundle.open(path, verify=False)  # hashed a moment ago, before the rename


def _is_empty(path: Path) -> bool:
    return path.is_dir() and all(is_sidecar(p.name) for p in path.iterdir())


def _check_parts(parts: Sequence[BundlePart]) -> None:
    if not parts:
        raise ArgumentError("parts", "a bundle needs at least one artifact, and there is none")
    for what in ("name", "file"):
        values = [getattr(part, what) for part in parts]
        if len(set(values)) != len(values):
            raise ArgumentError(
                f"artifact {what}s", f"artifact {what}s are {values!r}; expected them to differ"
            )
    for part in parts:
        unchecked = "not_checked" in part.quality and not part.raw
        if len(part.raw) < MIN_VECTORS and not unchecked:
            expected = f"heads of at least {MIN_VECTORS} photos for golden vectors"
            raise ArgumentError(
                f"artifact {part.name}",
                f"artifact {part.name} comes with {len(part.raw)} of them; expected {expected}",
            )


def _place(folder: Path, part: BundlePart) -> Artifact:
    target = folder / part.file
    if part.source.is_dir():
        shutil.copytree(part.source, target)
    else:
        shutil.copyfile(part.source, target)
    return Artifact(
        name=part.name,
        format=part.format,
        file=part.file,
        sha256=hash_path(target),
        bytes=path_bytes(target),
        precision=part.precision,
        input=part.input,
        outputs=part.outputs,
        minimum_os=part.minimum_os,
        tools=part.tools,
    )


def _write_photo(folder: Path, name: str, photo: Photo) -> tuple[str, str]:
    """A photo beside its vectors, and its hash."""
    file = f"vectors/{name}.png"
    (folder / file).parent.mkdir(exist_ok=True)
    Image.fromarray(photo.rgb_hwc).save(folder / file)
    return file, hash_path(folder / file)


def _write_vector(
    folder: Path,
    manifest: Manifest,
    artifact: Artifact,
    origin: str,
    photo: Photo,
    name: str,
    raw: RawHeads,
) -> VectorFile:
    image, transform = preprocess(photo, manifest.preprocessing)
    settings = manifest.postprocessing
    heads = settings.read_heads(dequantize(raw, artifact.outputs))
    decoded = settings.decode(heads, manifest.taxonomy, transform)
    ids = decoded.ids.astype(np.uint8 if len(decoded.segments) < 256 else np.int32)
    tensors = {"input": image, **{n: raw[n] for n in settings.head_names()}, "panoptic": ids}
    metadata = {
        "format": FORMAT,  # a golden vector is a device dump without the photo
        "artifact": artifact.name,
        "artifact_sha256": artifact.sha256,
        "runtime": origin,
        "photo": name,
        "layout": "hwc",
        "transform": json.dumps(transform.to_json()),
    }
    file = f"vectors/{artifact.name}.{name}.safetensors"
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes(safetensors_bytes(tensors, metadata))
    return VectorFile(artifact.name, file, hash_path(folder / file), origin)


def safetensors_bytes(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file, the same bytes for the same content.

    The library's own writer puts the metadata in an order that changes from run to run, which
    would change a bundle's hashes for no reason.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    blobs: list[bytes] = []
    at = 0
    # Wide types first: then every tensor is aligned to its own size, as readers expect.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    for name, values in ordered:
        little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        blob = little.tobytes()
        header[name] = {
            "dtype": _SAFETENSORS_TYPES[values.dtype.name],
            "shape": list(values.shape),
            "data_offsets": [at, at + len(blob)],
        }
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(blobs)


_SAFETENSORS_TYPES = {
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "float16": "F16",
    "float32": "F32",
}
