"""One recipe in one format: the file, what it takes and gives, and how it is run here.

A :class:`Maker` converts once per format and makes every recipe's artifact from that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path

import torch
from torch import nn

from panokit import __version__
from panokit.bundle import Artifact, TensorSpec, hash_path, path_bytes
from panokit.errors import ExportError
from panokit.runtime import LiteRtRuntime, OnnxRuntime, Runtime
from panokit_compression import CalibrationSet, Recipe, quantize
from panokit_compression.calibration import enough
from panokit_compression.coreml import LEAST_WEIGHTS, CoreMlForm, coreml_form, fit_storage
from panokit_compression.grids import PaletteGrid
from panokit_compression.onnx import quantize_onnx
from panokit_compression.recipes import LinearWeights as Linear
from panokit_compression.recipes import Palettize, Quantize, Sparsify
from panokit_compression.rounding import GridOf, round_module
from panokit_converters.contract import HeadContract
from panokit_converters.coreml import coreml_specs, write_coreml
from panokit_converters.onnx import convert_onnx, finish_onnx, onnx_specs
from panokit_converters.tflite import convert_tflite, odd_operators, tflite_specs
from panokit_converters.tflite_file import InputType, with_input
from panokit_converters.tflite_metadata import ModelInfo, with_metadata

__all__ = [
    "FORMATS",
    "Made",
    "Maker",
    "artifact_name",
    "artifact_runtime",
    "palettes_for",
    "why_not",
]

FORMATS = ("tflite", "coreml", "onnx", "coreai")

_ONNX_PRECISIONS = ("float32", "float16", "int8")
# The files that an app looks for first, by what is most used there.
_PLAIN_NAMES = {
    "tflite-int8": "model.tflite",
    "coreml-float16": "Model.mlpackage",
    "onnx-float32": "model.onnx",
    "coreai-float32": "Model.aimodel",
}
_FILE_NAMES = {
    "tflite": "model-{}.tflite",
    "coreml": "Model-{}.mlpackage",
    "onnx": "model-{}.onnx",
    "coreai": "Model-{}.aimodel",
}
_TOOLS = {
    "tflite": ("litert-torch", "litert-converter", "ai-edge-quantizer", "ai-edge-litert"),
    "coreml": ("coremltools",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "coreai": ("coreai-torch", "coreai-core"),
}


@dataclass(frozen=True)
class Made:
    """An artifact on disk: ``path``, and what a manifest says about it."""

    path: Path
    artifact: Artifact


def artifact_name(format: str, recipe: Recipe) -> str:
    """``tflite-int8``, say; a recipe's name that begins with the format says it once."""
    return f"{format}-{recipe.name.removeprefix(f'{format}-')}"


def why_not(format: str, recipe: Recipe, steps_done: tuple[str, ...] = ()) -> str | None:
    """Why ``recipe`` has no artifact in ``format``; None if it has one.

    ``steps_done`` are the kinds of network steps that the weights have been through.
    """
    stored_for_coreml = recipe.step(Palettize) or recipe.step(Linear)
    if format == "coreml":
        return None if coreml_form(recipe) else f"Core ML has no form of {recipe.precision}"
    if stored_for_coreml and recipe.step(Quantize) is None:
        return f"its weights are stored as only Core ML can ({stored_for_coreml.kind})"
    if recipe.step(Sparsify) and "sparsify" not in steps_done:
        return "only Core ML stores sparse weights"
    if format == "onnx" and recipe.precision not in _ONNX_PRECISIONS:
        return f"ONNX is written in {', '.join(_ONNX_PRECISIONS)} only"
    if format == "coreai" and recipe.precision not in ("float32", "float16"):
        return "Core AI is written in float32 and float16 only"
    return None


def artifact_runtime(path: Path, artifact: Artifact) -> Runtime:
    """What runs an artifact that is not in a bundle yet. Core ML packages go through the
    interpreter here, so that a bundle does not depend on the machine that made it."""
    if artifact.format == "tflite":
        return LiteRtRuntime(path, artifact)
    if artifact.format == "onnx":
        return OnnxRuntime(path, artifact)
    if artifact.format == "coreai":
        from panokit_converters.coreai import CoreAiRuntime

        return CoreAiRuntime(path, artifact)
    from panokit_converters.runners import CoreMlInterpreter

    return CoreMlInterpreter(path, artifact)


@dataclass(frozen=True)
class Maker:
    """Makes artifacts of one network in ``folder``; conversions are kept for the next recipe.

    ``float_tflite`` is the network's float TFLite file where it was converted before.
    """

    module: nn.Module
    contract: HeadContract
    info: ModelInfo
    folder: Path
    input: InputType = "native"
    calibration: CalibrationSet | None = None
    float_tflite: bytes | None = None

    def make(self, format: str, recipe: Recipe, file: str = "") -> Made:
        """The artifact of ``recipe`` in ``format``, named ``file`` or after both;
        :func:`why_not` must be None."""
        makers: dict[str, Callable[[Path, Recipe], _Facts]] = {
            "tflite": self._tflite,
            "coreml": self._coreml,
            "onnx": self._onnx,
            "coreai": self._coreai,
        }
        name = artifact_name(format, recipe)
        pattern = _FILE_NAMES[format].format(name.removeprefix(f"{format}-"))
        path = self.folder / (file or _PLAIN_NAMES.get(name, pattern))
        facts = makers[format](path, recipe)
        artifact = Artifact(
            name=name,
            format=format,
            file=path.name,
            sha256=hash_path(path),
            bytes=path_bytes(path),
            precision=facts.precision,
            input=facts.image,
            outputs=facts.heads,
            minimum_os=facts.minimum_os,
            tools=_versions("torch", *_TOOLS[format]),
        )
        return Made(path, artifact)

    @cached_property
    def _float_tflite(self) -> bytes:
        return self.float_tflite or convert_tflite(self.module, self.contract.size_wh)

    @cached_property
    def _float_onnx(self) -> bytes:
        return convert_onnx(self.module, self.contract.size_wh)

    def _tflite(self, path: Path, recipe: Recipe) -> _Facts:
        content = quantize(self._float_tflite, recipe, self.calibration)
        content = with_metadata(with_input(content, self.input), self.info)
        if foreign := [name for name in odd_operators(content) if name.startswith("CUSTOM:")]:
            expected = "expected operators that every runtime has"
            raise ExportError(path.name, f"{expected}, got {', '.join(foreign)}")
        path.write_bytes(content)
        return _Facts(recipe.precision, *tflite_specs(content))

    def _coreml(self, path: Path, recipe: Recipe) -> _Facts:
        form = coreml_form(recipe)
        if form is None:
            raise ExportError(path.name, why_not("coreml", recipe) or "")
        write_coreml(self._module_for(form, recipe), self.contract, self.info, path, form)
        image, heads = coreml_specs(self.contract, form)
        return _Facts(form.precision, image, heads, form.minimum_os)

    def _module_for(self, form: CoreMlForm, recipe: Recipe) -> nn.Module:
        """coremltools rounds weights to the nearest value; where the recipe wants more care,
        they lie on its grid or palette before it sees them."""
        stored, step = form.weights, recipe.step(Quantize)
        if isinstance(stored, Palettize) and stored.rounding == "compensated":
            photos = enough(self.calibration, stored.calibration_photos, recipe.name)
            return round_module(self.module, self._float_tflite, photos, palettes_for(stored))[0]
        if self.calibration is None or form.sparsity:
            return self.module
        on_grid = isinstance(stored, Linear) and stored.bits == 8
        if on_grid and step is not None and step.rounding == "compensated":
            return round_module(self.module, self._float_tflite, self.calibration)[0]
        return self.module

    def _onnx(self, path: Path, recipe: Recipe) -> _Facts:
        content = quantize_onnx(self._float_onnx, recipe.precision, self.calibration)
        path.write_bytes(finish_onnx(content, self.info, self.input))
        return _Facts(recipe.precision, *onnx_specs(self.contract, self.input))

    def _coreai(self, path: Path, recipe: Recipe) -> _Facts:
        from panokit_converters.coreai import MINIMUM_OS, coreai_specs, write_coreai

        half = recipe.precision == "float16"
        write_coreai(self.module, self.contract, self.info, path, half=half)
        image, heads = coreai_specs(self.contract)
        return _Facts(recipe.precision, image, heads, MINIMUM_OS)


@dataclass(frozen=True)
class _Facts:
    precision: str
    image: TensorSpec
    heads: dict[str, TensorSpec]
    minimum_os: str = ""


def palettes_for(asked: Palettize) -> GridOf:
    """The palettes of a layer by the shape of its weights; small ones stay in float."""

    def grid_of(shape: tuple[int, ...]) -> PaletteGrid | None:
        if prod(shape) <= LEAST_WEIGHTS:
            return None
        fitted = fit_storage(asked, shape)
        return PaletteGrid(asked.bits, fitted.group_size if isinstance(fitted, Palettize) else 0)

    return grid_of


def _versions(*packages: str) -> dict[str, str]:
    found: dict[str, str] = {"panokit": __version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found | ({"torch": torch.__version__} if "torch" in packages else {})
