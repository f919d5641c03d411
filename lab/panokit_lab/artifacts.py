"""One recipe in one format, made in three stages: the one maker of artifacts.

::

    convert    FloatArtifact         the network in the format, in float; panokit_converters
    compress   CompressedArtifact    as the recipe says; panokit_compression
    describe   DescribedArtifact     on disk, with labels and the wanted input; panokit_converters

A format is one class with these three methods. A :class:`Maker` runs them, and converts once for
all recipes where the format allows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from panokit import __version__
from panokit.bundle import Artifact, TensorSpec, hash_path, path_bytes
from panokit.errors import ExportError
from panokit.runtime import LiteRtRuntime, OnnxRuntime, Runtime
from panokit_compression import CalibrationSet, Recipe
from panokit_compression.calibration import enough
from panokit_compression.coreml import LEAST_WEIGHTS, CoreMlForm, coreml_form, fit_storage
from panokit_compression.grids import PaletteGrid
from panokit_compression.onnx import quantize_onnx_noted
from panokit_compression.quantize import quantize_noted
from panokit_compression.recipes import LinearWeights as Linear
from panokit_compression.recipes import Palettize, Quantize, Sparsify
from panokit_compression.rounding import GridOf, round_module
from panokit_converters.contract import ContractSpec
from panokit_converters.coreai import MINIMUM_OS as COREAI_MINIMUM_OS
from panokit_converters.coreai import CoreAiRuntime, coreai_specs, write_coreai
from panokit_converters.coreml import (
    CoreMlModel,
    compress_coreml,
    convert_coreml,
    coreml_specs,
    save_coreml,
)
from panokit_converters.interface import InputType
from panokit_converters.model_info import ModelInfo
from panokit_converters.onnx import convert_onnx, finish_onnx, onnx_specs
from panokit_converters.runners import CoreMlInterpreter
from panokit_converters.tflite.convert import convert_tflite
from panokit_converters.tflite.inputs import with_input
from panokit_converters.tflite.inspect import odd_operators, tflite_specs
from panokit_converters.tflite.metadata import with_metadata
from panokit_network.source import NetworkSource

__all__ = [
    "FORMATS",
    "CompressedArtifact",
    "DescribedArtifact",
    "FloatArtifact",
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


Notes = tuple[str, ...]
Content = bytes | CoreMlModel | nn.Module
"""A TFLite or ONNX file, a Core ML program, or (Core AI) the module itself."""


@dataclass(frozen=True)
class FloatArtifact:
    """The network in ``format``, converted for ``recipe`` and not compressed."""

    format: str
    recipe: Recipe
    content: Content


@dataclass(frozen=True)
class CompressedArtifact:
    """The same with its numbers stored as ``recipe`` says; ``notes`` say for which layers that was
    not possible, and why."""

    format: str
    recipe: Recipe
    content: Content
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DescribedArtifact:
    """An artifact on disk: ``path``, what a manifest says about it, and ``notes`` on layers that
    could not be stored as the recipe says."""

    path: Path
    artifact: Artifact
    notes: tuple[str, ...] = ()


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
        return CoreAiRuntime(path, artifact)
    return CoreMlInterpreter(path, artifact)


@dataclass(frozen=True)
class Maker:
    """Makes artifacts of one network in ``folder``; conversions are kept for the next recipe.

    ``module`` keeps the head contract (``contract``), its batch norms folded. ``info`` is what
    artifacts say about themselves; ``input`` the type of image that TFLite and ONNX files take;
    ``calibration`` what ranges are measured on. ``converted`` is the network's float TFLite file
    where it was converted before.
    """

    module: nn.Module
    contract: ContractSpec
    info: ModelInfo
    folder: Path
    input: InputType = "native"
    calibration: CalibrationSet | None = None
    converted: bytes | None = None

    @classmethod
    def of(
        cls,
        network: NetworkSource,
        contract: ContractSpec,
        name: str,
        folder: Path,
        *,
        input: InputType = "native",
        calibration: CalibrationSet | None = None,
        converted: bytes | None = None,
    ) -> Maker:
        """A maker for ``network``, which keeps ``contract``. Artifacts name it ``name``."""
        info = ModelInfo(
            name,
            network.taxonomy,
            network.licence,
            __version__,
            contract.stride,
            preprocessing=network.preprocessing,
            contract=network.postprocessing.contract,
        )
        module = network.with_folded().module
        return cls(module, contract, info, folder, input, calibration, converted)

    def make(self, format: str, recipe: Recipe, file: str = "") -> DescribedArtifact:
        """The artifact of ``recipe`` in ``format``, named ``file`` or after both;
        :func:`why_not` must be None."""
        return self.describe(self.compress(self.convert(format, recipe)), file)

    def convert(self, format: str, recipe: Recipe) -> FloatArtifact:
        """The network in ``format``, in float, ready for what ``recipe`` does to it."""
        return FloatArtifact(format, recipe, _FORMATS[format].convert(self, recipe))

    def compress(self, made: FloatArtifact) -> CompressedArtifact:
        """The artifact with its numbers stored as the recipe says."""
        content, notes = _FORMATS[made.format].compress(self, made.content, made.recipe)
        return CompressedArtifact(made.format, made.recipe, content, notes)

    def describe(self, made: CompressedArtifact, file: str = "") -> DescribedArtifact:
        """Write the artifact with everything that it says about itself."""
        name = artifact_name(made.format, made.recipe)
        pattern = _FILE_NAMES[made.format].format(name.removeprefix(f"{made.format}-"))
        path = self.folder / (file or _PLAIN_NAMES.get(name, pattern))
        facts = _FORMATS[made.format].describe(self, made.content, made.recipe, path)
        artifact = Artifact(
            name=name,
            format=made.format,
            file=path.name,
            sha256=hash_path(path),
            bytes=path_bytes(path),
            precision=facts.precision,
            input=facts.image,
            outputs=facts.heads,
            minimum_os=facts.minimum_os,
            tools=_versions("torch", *_TOOLS[made.format]),
        )
        return DescribedArtifact(path, artifact, made.notes)

    @cached_property
    def float_tflite(self) -> bytes:
        """The network as a float TFLite file."""
        return self.converted or convert_tflite(
            self.module, self.contract.size_wh, self.contract.names
        )

    @cached_property
    def float_onnx(self) -> bytes:
        """The network as a float ONNX file."""
        return convert_onnx(self.module, self.contract.size_wh, self.contract.names)


@dataclass(frozen=True)
class _Facts:
    """What a manifest says that only the format knows."""

    precision: str
    image: TensorSpec
    heads: dict[str, TensorSpec]
    minimum_os: str = ""


C = TypeVar("C")


class _Format(Protocol[C]):
    """The three stages of a format, whose content is a ``C``."""

    def convert(self, maker: Maker, recipe: Recipe) -> C: ...

    def compress(self, maker: Maker, content: C, recipe: Recipe) -> tuple[C, Notes]: ...

    def describe(self, maker: Maker, content: C, recipe: Recipe, path: Path) -> _Facts: ...


class _TfLite:
    """Converted once, quantized as a file."""

    def convert(self, maker: Maker, recipe: Recipe) -> bytes:
        return maker.float_tflite

    def compress(self, maker: Maker, content: bytes, recipe: Recipe) -> tuple[bytes, Notes]:
        made = quantize_noted(content, recipe, maker.calibration)
        return made.content, made.notes

    def describe(self, maker: Maker, content: bytes, recipe: Recipe, path: Path) -> _Facts:
        content = with_metadata(with_input(content, maker.input), maker.info)
        if foreign := [name for name in odd_operators(content) if name.startswith("CUSTOM:")]:
            expected = "expected operators that every runtime has"
            raise ExportError(path.name, f"{expected}, got {', '.join(foreign)}")
        path.write_bytes(content)
        return _Facts(recipe.precision, *tflite_specs(content, maker.contract.names))


class _CoreMl:
    """Converted for each recipe: the type it computes in is chosen there."""

    def convert(self, maker: Maker, recipe: Recipe) -> CoreMlModel:
        form = _form(recipe)
        return convert_coreml(_module_for(maker, form, recipe), maker.contract, form)

    def compress(
        self, maker: Maker, content: CoreMlModel, recipe: Recipe
    ) -> tuple[CoreMlModel, Notes]:
        return compress_coreml(content, _form(recipe)), ()

    def describe(self, maker: Maker, content: CoreMlModel, recipe: Recipe, path: Path) -> _Facts:
        form = _form(recipe)
        save_coreml(content, maker.contract, maker.info, path)
        image, heads = coreml_specs(maker.contract, form)
        return _Facts(form.precision, image, heads, form.minimum_os)


class _Onnx:
    """Converted once, quantized as a file."""

    def convert(self, maker: Maker, recipe: Recipe) -> bytes:
        return maker.float_onnx

    def compress(self, maker: Maker, content: bytes, recipe: Recipe) -> tuple[bytes, Notes]:
        made = quantize_onnx_noted(content, recipe.precision, maker.calibration)
        return made.content, made.notes

    def describe(self, maker: Maker, content: bytes, recipe: Recipe, path: Path) -> _Facts:
        path.write_bytes(finish_onnx(content, maker.info, maker.input))
        return _Facts(recipe.precision, *onnx_specs(maker.contract, maker.input))


class _CoreAi:
    """coreai-torch converts and writes in one go; nothing is compressed."""

    def convert(self, maker: Maker, recipe: Recipe) -> nn.Module:
        return maker.module

    def compress(self, maker: Maker, content: nn.Module, recipe: Recipe) -> tuple[nn.Module, Notes]:
        return content, ()

    def describe(self, maker: Maker, content: nn.Module, recipe: Recipe, path: Path) -> _Facts:
        half = recipe.precision == "float16"
        write_coreai(content, maker.contract, maker.info, path, half=half)
        image, heads = coreai_specs(maker.contract)
        return _Facts(recipe.precision, image, heads, COREAI_MINIMUM_OS)


_FORMATS: dict[str, _Format[Any]] = {
    "tflite": _TfLite(),
    "coreml": _CoreMl(),
    "onnx": _Onnx(),
    "coreai": _CoreAi(),
}


def _form(recipe: Recipe) -> CoreMlForm:
    form = coreml_form(recipe)
    if form is None:
        raise ExportError(artifact_name("coreml", recipe), why_not("coreml", recipe) or "")
    return form


def _module_for(maker: Maker, form: CoreMlForm, recipe: Recipe) -> nn.Module:
    """coremltools rounds weights to the nearest value. Where the recipe wants more care, they lie
    on its grid or palette before it sees them."""
    stored, step = form.weights, recipe.step(Quantize)
    if isinstance(stored, Palettize) and stored.rounding == "compensated":
        photos = enough(maker.calibration, stored.calibration_photos, recipe.name)
        return round_module(maker.module, maker.float_tflite, photos, palettes_for(stored))[0]
    if maker.calibration is None or form.sparsity:
        return maker.module
    on_grid = isinstance(stored, Linear) and stored.bits == 8
    if on_grid and step is not None and step.rounding == "compensated":
        return round_module(maker.module, maker.float_tflite, maker.calibration)[0]
    return maker.module


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
