"""A bundle: one folder with everything an app needs, and the proof that it is unchanged.

``NAME.panokit/`` holds ``manifest.json``, the artifacts, golden vectors and a report. A bundle is
data: opening one reads JSON and hashes files; nothing in it is ever executed or unpickled.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from panokit._reading import is_sidecar, read_json
from panokit._text import encodable, has_controls
from panokit.config import read_settings, write_settings
from panokit.decoding import DecodingSettings, PostprocessConfig
from panokit.errors import ArgumentError, BundleError, PanokitError
from panokit.preprocessing import PreprocessConfig
from panokit.taxonomy import Taxonomy

__all__ = [
    "MANIFEST",
    "SCHEMA_VERSION",
    "Artifact",
    "Bundle",
    "Manifest",
    "TensorSpec",
    "VectorFile",
    "hash_path",
    "is_plain",
    "shipped_bundle_path",
]

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4_000_000
MAX_ARTIFACT_BYTES = 2_000_000_000


MAX_SIDE = 65_536
MAX_TEXT = 200
DTYPES = ("uint8", "int8", "int16", "float16", "float32", "int32", "int64")
FLAT_LAYOUTS = ("rows", "columns", "vector")
LAYOUTS = ("nhwc", "nchw", "image", *FLAT_LAYOUTS)
BITS = {"int8": 8, "int16": 16}
SMALLEST_SCALE = 1e-12


def _check_text(what: str, text: str) -> None:
    """A name for people and files: not empty, not endless, without characters that steer."""
    if not 1 <= len(text) <= MAX_TEXT or has_controls(text):
        expected = f"text of 1 to {MAX_TEXT} characters without control characters"
        raise ArgumentError(what, f"{what} is {text[:60]!r}; expected {expected}")


def is_plain(dtype: str, scale: float | None) -> bool:
    """Whether a tensor's integers stand for themselves: labels, or a photo's bytes."""
    return dtype in ("int32", "int64") or (dtype == "uint8" and scale is None)


@dataclass(frozen=True)
class TensorSpec:
    """One tensor at an artifact's border. ``name`` is the one inside the artifact; ``shape`` has
    the batch axis; ``layout`` is ``"nhwc"``, ``"nchw"``, ``"image"`` (a platform image), or, of a
    tensor that is no picture, ``"rows"`` (``[1,n,k]``), ``"columns"`` (``[1,k,n]``, such as the
    anchors of YOLO) or ``"vector"`` (``[1,n]``); ``dtype`` a NumPy name. Integers mean
    real = (q - zero_point)·scale; floats have None."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    scale: float | None = None
    zero_point: int | None = None

    @property
    def is_channels_first(self) -> bool:
        """Whether the channels are the first axis after the batch."""
        return self.layout in ("nchw", "columns")

    @property
    def channels_last(self) -> tuple[int, ...]:
        """The shape without the batch axis, channels last."""
        sides = self.shape[1:]
        return (*sides[1:], sides[0]) if self.is_channels_first else sides

    def __post_init__(self) -> None:
        what = f"tensor {self.name!r:.60}"
        _check_text("tensor name", self.name)
        good = all(isinstance(n, int) and 1 <= n <= MAX_SIDE for n in self.shape)
        axes = {"rows": 3, "columns": 3, "vector": 2}.get(self.layout, 4)
        if len(self.shape) != axes or not good:
            number = {2: "one size", 3: "two sizes", 4: "three sizes"}[axes]
            expected = f"a batch and {number} from 1 to {MAX_SIDE}"
            raise ArgumentError("shape", f"{what}: shape is {self.shape!r}; expected {expected}")
        for name, known in (("dtype", DTYPES), ("layout", LAYOUTS)):
            if getattr(self, name) not in known:
                given = f"{what}: {name} is {getattr(self, name)!r}"
                raise ArgumentError(name, f"{given}; expected one of: {', '.join(known)}")
        self._check_quantization(what)

    def _check_quantization(self, what: str) -> None:
        if self.dtype.startswith("float"):
            if self.scale is not None or self.zero_point is not None:
                raise ArgumentError("scale", f"{what} is {self.dtype}; expected no scale then")
            return
        plain = self.dtype in ("uint8", "int32", "int64")
        if plain and self.scale is None and self.zero_point is None:
            return  # camera bytes, a platform's image, or labels: they are what they are
        scale = self.scale
        if scale is None or not SMALLEST_SCALE <= scale <= 1 / SMALLEST_SCALE:
            expected = f"{self.dtype} with a number above zero"
            raise ArgumentError("scale", f"{what}: scale is {scale!r}; expected {expected}")
        low, high = (0, 255) if self.dtype == "uint8" else (-(1 << BITS[self.dtype] - 1), 0)
        high = high or -low - 1
        if self.zero_point is None or not low <= self.zero_point <= high:
            expected = f"a whole number from {low} to {high} for {self.dtype}"
            given = f"{what}: zero_point is {self.zero_point!r}"
            raise ArgumentError("zero_point", f"{given}; expected {expected}")


@dataclass(frozen=True)
class Artifact:
    """One runnable model of a bundle.

    ``format`` is ``"tflite"``, ``"coreml"`` or ``"onnx"``; ``file`` is relative to the bundle (a
    folder for Core ML) and ``bytes`` large; ``precision`` e.g. ``"float32"``, ``"int8"``;
    ``outputs`` maps the heads to tensors; ``sha256`` is that of :func:`hash_path`.
    """

    name: str
    format: str
    file: str
    sha256: str
    bytes: int
    precision: str
    input: TensorSpec
    outputs: dict[str, TensorSpec]
    minimum_os: str = ""
    tools: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class VectorFile:
    """One golden vector: a dump of what ``artifact`` computes, by ``origin`` (a runtime).

    ``photo`` is the photo that its input was made from, if that lies in the bundle: an upright PNG
    in sRGB, so that preprocessing can be tested too; ``photo_sha256`` that of the file.
    """

    artifact: str
    file: str
    sha256: str
    origin: str
    photo: str = ""
    photo_sha256: str = ""


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` says. ``stride``: input pixels a cell of the finest head;
    ``schema_version``: of the file, this program writes the newest."""

    name: str
    taxonomy: Taxonomy
    preprocessing: PreprocessConfig
    postprocessing: DecodingSettings
    stride: int
    artifacts: tuple[Artifact, ...]
    vectors: tuple[VectorFile, ...] = ()
    recipe: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    licence: dict[str, str] = field(default_factory=dict)
    weights_sha256: str = ""
    schema_version: int = SCHEMA_VERSION

    def _check(self) -> None:
        """``ArgumentError`` for what no bundle of ours says: names, sizes and tensors that do not
        belong together."""
        _check_text("name", self.name)
        if not 1 <= self.stride <= 256:
            raise ArgumentError("stride", f"stride is {self.stride!r}; expected 1 to 256")
        for artifact in self.artifacts:
            for name in ("name", "file", "precision"):
                _check_text(f"artifact {name}", getattr(artifact, name))
            if artifact.bytes < 0:
                raise ArgumentError("bytes", f"bytes is {artifact.bytes!r}; expected 0 or more")
            self._check_shapes(artifact)
        for vector in self.vectors:
            for name in ("artifact", "file", "origin"):
                _check_text(f"vector {name}", getattr(vector, name))
            if vector.photo:
                _check_text("vector photo", vector.photo)

    def _check_shapes(self, artifact: Artifact) -> None:
        """The tensors of an artifact are those of this input size, stride and taxonomy."""
        heads = self.postprocessing.head_names()
        missing = [n for n in heads if n not in artifact.outputs]
        if missing:
            names = ", ".join(missing)
            raise ArgumentError("outputs", f"artifact {artifact.name!r} has no outputs {names}")
        width, height = self.preprocessing.size_wh
        spec = artifact.input
        if spec.layout in FLAT_LAYOUTS or spec.channels_last != (height, width, 3):
            given = f"{artifact.name}, input: shape is {spec.shape} ({spec.layout})"
            expected = f"a picture of {width} x {height} pixels and 3 channels"
            raise ArgumentError("shape", f"{given}; expected {expected}")
        shapes = {name: artifact.outputs[name].channels_last for name in heads}
        try:
            self.postprocessing.check_shapes(shapes, (width, height), self.stride, self.taxonomy)
        except ArgumentError as error:
            raise ArgumentError(error.name, f"{artifact.name}: {error}") from None

    @property
    def center_offset(self) -> PostprocessConfig:
        """The decoding parameters of contract ``center-offset``; ``ArgumentError`` if the bundle is
        of another."""
        settings = self.postprocessing
        if not isinstance(settings, PostprocessConfig):
            what = f"the bundle's contract is {settings.contract!r}"
            raise ArgumentError("bundle", f"{what}; this works for 'center-offset' only")
        return settings

    def artifact(self, name: str | None = None) -> Artifact:
        """An artifact by name; without one the first that runs everywhere: TFLite before ONNX,
        int8 before others."""
        if name is None:
            runnable = [a for a in self.artifacts if a.format in ("tflite", "onnx")]
            runnable.sort(key=lambda a: (a.format != "tflite", a.precision != "int8"))
            if runnable:
                return runnable[0]
        for artifact in self.artifacts:
            if artifact.name == name:
                return artifact
        raise ArgumentError.unknown("artifact", name, (a.name for a in self.artifacts))

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        return write_settings(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        """Read a manifest; names that this version does not know are left out. Raises
        ``ArgumentError`` for what is missing or of a wrong type."""
        known = {f.name for f in fields(cls)}
        found = read_settings(cls, {k: v for k, v in data.items() if k in known}, "manifest")
        found._check()
        return found


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder and manifest."""

    root: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None, *, verify: bool = True) -> Bundle:
        """Open the bundle at ``path`` (the shipped one without it).

        Every listed file must exist inside the folder with the stated size and hash; otherwise
        ``BundleError`` names the file. ``verify=False`` skips the hashes, not the other checks.
        """
        root = Path(path) if path is not None else shipped_bundle_path()
        manifest = _read_manifest(root)
        listed: list[tuple[str, str, int | None]] = [
            (a.file, a.sha256, a.bytes) for a in manifest.artifacts
        ]
        listed += [(v.file, v.sha256, None) for v in manifest.vectors]
        photos = {v.photo: v.photo_sha256 for v in manifest.vectors if v.photo}
        listed += [(file, sha256, None) for file, sha256 in photos.items()]
        for name, sha256, size in listed:
            _check_file(root, name, sha256, size, verify)
        return cls(root, manifest)

    def path(self, artifact: Artifact) -> Path:
        """Where an artifact lies."""
        return self.root / artifact.file


def shipped_bundle_path() -> Path:
    """The bundle that comes with the package."""
    return Path(str(resources.files("panokit") / "assets" / "camera.panokit"))


def hash_path(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, or of a folder: of its files' relative names, sizes and contents. What
    systems put into folders (``.DS_Store``) does not count."""
    path = Path(path)
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file_path in _own_files(path):
        relative = encodable(file_path.relative_to(path).as_posix())
        digest.update(f"{relative}\0{file_path.stat().st_size}\0".encode())
        digest.update(bytes.fromhex(hash_path(file_path)))
    return digest.hexdigest()


def path_bytes(path: str | os.PathLike[str]) -> int:
    """Size of a file, or the sum over a folder as :func:`hash_path` sees it, in bytes."""
    path = Path(path)
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in _own_files(path))


def _own_files(folder: Path) -> list[Path]:
    """The files of a folder and its subfolders, sorted, without those that a system put there."""
    found = (p for p in folder.rglob("*") if p.is_file())
    return sorted(p for p in found if not is_sidecar(p.relative_to(folder)))


def _read_manifest(root: Path) -> Manifest:
    if not root.is_dir():
        what = "is a file, expected a bundle folder" if root.exists() else "no such bundle folder"
        raise BundleError(root, what)
    path = root / MANIFEST
    if not path.is_file():
        raise BundleError(root, f"is no Panokit bundle: it has no {MANIFEST}")
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(path, f"expected at most {MAX_MANIFEST_BYTES} bytes")
    try:
        data = read_json(path, strict=True)
    except (ValueError, OSError) as error:
        raise BundleError(path, f"expected JSON, but {error}") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        reason = f"expected schema_version {SCHEMA_VERSION}, got {version!r}"
        raise BundleError(path, f"{reason}; it was made by another version of Panokit, or foreign")
    try:
        return Manifest.from_json(data)
    except PanokitError as error:
        raise BundleError(path, str(error)) from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise BundleError(path, f"a field is missing or of a wrong type: {error!r}") from None


def _check_file(root: Path, name: str, sha256: str, size: int | None, verify: bool) -> None:
    relative = Path(name)
    if not name or relative.is_absolute() or ".." in relative.parts or "\\" in name:
        raise BundleError(root / MANIFEST, f"expected a path inside the bundle, got {name!r}")
    path = root / relative
    try:
        path.stat()
    except (OSError, ValueError) as error:  # also a name that is too long, or none
        how = "missing" if isinstance(error, FileNotFoundError) else f"no file: {error}"
        raise BundleError(path, f"is listed in the manifest but {how}") from None
    inside = path.resolve().is_relative_to(root.resolve())
    if not inside or (path.is_dir() and any(p.is_symlink() for p in path.rglob("*"))):
        raise BundleError(path, "leads out of the bundle through a link")
    if not (path.is_file() or path.is_dir()):
        raise BundleError(path, "is a pipe or a device; expected a file")
    actual = path_bytes(path)
    if actual > MAX_ARTIFACT_BYTES or (size is not None and actual != size):
        expected = size if size is not None else f"at most {MAX_ARTIFACT_BYTES}"
        raise BundleError(path, f"expected {expected} bytes, got {actual}: truncated or changed")
    if verify and hash_path(path) != sha256:
        raise BundleError(
            path, "does not match its SHA-256 in the manifest: damaged or tampered with"
        )
