"""Running any artifact of a bundle here, Core ML and Core AI included.

On macOS a Core ML package is run by Core ML itself, through coremltools; elsewhere by the
interpreter of this package, which computes what the program says. TFLite and ONNX files are run
by the SDK's runtimes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panokit.bundle import Artifact, Bundle
from panokit.errors import ArgumentError, BundleError, ExportError, MissingExtraError
from panokit.runtime import Runtime, dequantize, open_runtime
from panokit_converters.coreml_interpreter import CoreMLProgram, NotRunHereError

__all__ = [
    "CoreMlInterpreter",
    "CoreMlPredictor",
    "NotRunHereError",
    "channels_last",
    "open_artifact",
    "real_heads",
]

Array = NDArray[Any]


class CoreMlInterpreter:
    """A Core ML package in the interpreter: some seconds per photo, on any system.

    What the interpreter has no form of is a ``NotRunHereError``, when it is opened or run.
    :meth:`run` is that of :class:`panokit.runtime.Runtime`; heads are ``[C,h,w]``, the layout that
    the artifact's specs state.
    """

    name = "coreml-interpreter"

    def __init__(self, path: Path, artifact: Artifact) -> None:
        self.artifact = artifact
        try:
            self.program = CoreMLProgram.open(path)
        except NotRunHereError:
            raise  # nothing is wrong with the file
        except ExportError as error:  # a file that came from outside, not one being exported
            raise BundleError(error.path, error.reason) from None
        described = {"input": ([artifact.input.name], self.program.inputs),
                     "output": (sorted(s.name for s in artifact.outputs.values()),
                                self.program.outputs)}  # fmt: skip
        for what, (names, features) in described.items():
            found = sorted(feature.name for feature in features)
            if found != names:
                reason = f"expected {what}s {names} as in the manifest, got {found}"
                raise BundleError(path, reason)

    def run(self, image_hwc: NDArray[np.uint8]) -> dict[str, Array]:
        """Raw heads by name, without the batch axis, from an image uint8 ``[H,W,3]`` RGB."""
        try:
            outputs = self.program.run({self.artifact.input.name: image_hwc})
        except NotRunHereError:
            raise
        except ExportError as error:
            raise BundleError(error.path, error.reason) from None
        return _heads(outputs, self.artifact)


class CoreMlPredictor:
    """A Core ML package run by Core ML itself; macOS only.

    ``compute_units`` is a name of ``coremltools.ComputeUnit``. Interface as
    :class:`CoreMlInterpreter`.
    """

    name = "coreml"

    def __init__(
        self,
        path: Path,
        artifact: Artifact,
        compute_units: Literal["ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"] = "ALL",
    ) -> None:
        try:
            import coremltools
        except ImportError as error:
            if error.name == "coremltools":
                raise MissingExtraError("running Core ML packages on macOS", "export") from None
            raise
        self.artifact = artifact
        self.name = f"coreml-{compute_units.lower().replace('_', '-')}"
        units = getattr(coremltools.ComputeUnit, compute_units)
        try:
            self._model: Any = coremltools.models.MLModel(str(path), compute_units=units)
        except (RuntimeError, ValueError, OSError) as error:
            raise BundleError(path, f"Core ML cannot load it: {error}") from None

    def run(self, image_hwc: NDArray[np.uint8]) -> dict[str, Array]:
        """As :meth:`CoreMlInterpreter.run`."""
        outputs = self._model.predict({self.artifact.input.name: Image.fromarray(image_hwc)})
        return _heads({n: np.asarray(v) for n, v in outputs.items()}, self.artifact)


def _heads(outputs: Mapping[str, Array], artifact: Artifact) -> dict[str, Array]:
    heads: dict[str, Array] = {}
    for head, spec in artifact.outputs.items():
        values = outputs[spec.name]
        if tuple(values.shape) != tuple(spec.shape):
            expected = f"expected {spec.name!r} of shape {spec.shape} as in the manifest"
            raise BundleError(artifact.file, f"{expected}, got {values.shape}")
        # Core ML itself hands float16 results out as float32.
        heads[head] = values[0].astype(spec.dtype)
    return heads


def open_artifact(bundle: Bundle, artifact: Artifact, threads: int = 2) -> Runtime:
    """The runtime that runs ``artifact`` on this system; ``ArgumentError`` if there is none."""
    if artifact.format == "coreai":
        try:
            from panokit_converters.coreai import CoreAiRuntime
        except ImportError:
            raise MissingExtraError("running Core AI artifacts", "coreai") from None
        return CoreAiRuntime(bundle.path(artifact), artifact)
    if artifact.format != "coreml":
        return open_runtime(bundle, artifact, threads)
    if artifact.input.layout != "image":
        expected = "a package that takes an image"
        raise ArgumentError(
            "artifact",
            f"artifact {artifact.name} takes {artifact.input.layout}; expected {expected}",
        )
    kind = CoreMlPredictor if sys.platform == "darwin" else CoreMlInterpreter
    return kind(bundle.path(artifact), artifact)


def real_heads(raw: Mapping[str, Array], artifact: Artifact) -> dict[str, NDArray[np.float32]]:
    """Dequantised float32 heads ``[h,w,C]``, whatever the artifact's layout and type."""
    return channels_last(dequantize(raw, artifact.outputs), artifact)


def channels_last(heads: Mapping[str, Array], artifact: Artifact) -> dict[str, Array]:
    """Heads of an artifact, values untouched, as ``[h,w,C]``."""
    return {
        name: np.ascontiguousarray(np.moveaxis(values, 0, -1))
        if artifact.outputs[name].is_channels_first
        else values
        for name, values in heads.items()
    }
