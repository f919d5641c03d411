"""Torch → Core ML package (ML Program) by coremltools.

The package takes an RGB image as it is (scale 1, no bias: normalisation is in the graph) and
computes in float16 unless told otherwise. Writing works on any system; running one needs an Apple
one, or the interpreter of this package.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, fx, nn

from panokit._quiet import hushed, quiet
from panokit.bundle import TensorSpec
from panokit.errors import ExportError, MissingExtraError, PanokitError
from panokit_converters.contract import ContractSpec, TupleHeads
from panokit_converters.interface import INPUT
from panokit_converters.model_info import ModelInfo
from panokit_converters.program.attempts import argument, asks_for_places
from panokit_converters.program.blame import explained
from panokit_converters.program.capture import (
    capture,
    export_program,
    flat_module,
    operator_name,
)

__all__ = [
    "DENSE",
    "CoreMlModel",
    "WeightStorage",
    "compress_coreml",
    "convert_coreml",
    "coreml_specs",
    "save_coreml",
    "write_coreml",
]

log = logging.getLogger(__name__)


class WeightStorage(Protocol):
    """How a package stores its weights, and the type that it computes in."""

    @property
    def compute(self) -> str:
        """``"float16"`` or ``"float32"``: of activations and of dense weights."""

    @property
    def needs_ios18(self) -> bool:
        """Whether iOS 16 could not load it."""

    def compress(self, ct: Any, model: Any) -> Any:
        """``model`` (an ``MLModel``) with its weights stored so; ``ct`` is coremltools."""


@dataclass(frozen=True)
class _Dense:
    """Weights as they are."""

    compute: str = "float16"
    needs_ios18: bool = False

    def compress(self, ct: Any, model: Any) -> Any:
        return model


DENSE = _Dense()
"""float16 throughout, nothing compressed."""


@dataclass(frozen=True)
class CoreMlModel:
    """An ML Program in memory; ``model`` is coremltools' ``MLModel``."""

    model: Any


def write_coreml(
    module: nn.Module,
    contract: ContractSpec,
    info: ModelInfo,
    path: Path,
    storage: WeightStorage = DENSE,
) -> None:
    """Write ``module`` (head contract, eval mode) as the folder ``path`` (``….mlpackage``).

    Converts, compresses and saves. ``storage`` says how weights are stored.
    """
    model = compress_coreml(convert_coreml(module, contract, storage), storage)
    save_coreml(model, contract, info, path)


def convert_coreml(
    module: nn.Module, contract: ContractSpec, storage: WeightStorage = DENSE
) -> CoreMlModel:
    """``module`` (head contract, eval mode) as an ML Program for one RGB image.

    Weights are dense, in the type that ``storage`` computes in.
    """
    width, height = contract.size_wh
    with _tool() as ct, quiet(log), torch.no_grad():
        image = ct.ImageType(
            name=INPUT,
            shape=(1, 3, height, width),
            scale=1.0,
            color_layout=ct.colorlayout.RGB,
        )
        with explained("Core ML", "coremltools", module, contract.size_wh, _probe, contract.names):
            pixels = (torch.zeros(1, 3, height, width),)
            if any(isinstance(layer, torch.jit.ScriptModule) for layer in module.modules()):
                # torch.export has no form of scripts; frozen they are as flat.
                whole = TupleHeads(module, contract.names).eval()
                traced = torch.jit.freeze(_traced(whole, pixels))
            else:
                program = capture(module, contract.size_wh, contract.names)
                flat = flat_module(program, _wants_rewritten)
                traced = _traced(flat, pixels)
            return CoreMlModel(_convert(ct, traced, [image], contract.names, storage))


def _traced(module: nn.Module, examples: tuple[Tensor, ...]) -> Any:
    """As TorchScript, of which coremltools knows most operators."""
    trace: Any = torch.jit.trace  # without types of its own
    return trace(module, examples, check_trace=False)


def _convert(
    ct: Any, traced: Any, inputs: Sequence[Any], outputs: Sequence[str], storage: WeightStorage
) -> Any:
    """Of a flat module all sizes are constants already, so that nothing is computed with shapes."""
    from coremltools.converters.mil import Builder

    Builder.name_count.clear()  # a refused conversion leaves its numbers, which would be in names
    half = storage.compute == "float16"
    with _numbers_of_arrays():
        return ct.convert(
            traced,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS18 if storage.needs_ios18 else ct.target.iOS16,
            inputs=list(inputs),
            outputs=[ct.TensorType(name=name) for name in outputs] or None,
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            skip_model_load=True,
        )


@contextmanager
def _numbers_of_arrays() -> Iterator[None]:
    """While a module is converted, coremltools makes a number of an array of one element.

    Its frontend keeps a number as such an array and calls ``int`` and ``bool`` on it, which NumPy
    refuses from 2.4 on (apple/coremltools#2633). All of it goes through one function, ``_cast``.
    """
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.frontend.torch import ops

    theirs = ops._cast

    def cast(context: Any, node: Any, kind: Any, name: str) -> None:
        value = context[node.inputs[0]]
        known = None if value is None else value.val
        if isinstance(known, np.ndarray) and known.ndim and known.size == 1:
            context.add(Builder.const(val=kind(known.reshape(())), name=node.name), node.name)
        else:
            theirs(context, node, kind, name)

    ops._cast = cast
    try:
        yield
    finally:
        ops._cast = theirs


def _probe(module: nn.Module, examples: tuple[Tensor, ...]) -> None:
    with _tool() as ct:
        inputs = [ct.TensorType(name=f"x{i}", shape=tuple(x.shape), dtype=_NUMPY[x.dtype])
                  for i, x in enumerate(examples)]  # fmt: skip
        typed = _Typed(module, [x.dtype for x in examples])
        given = tuple(x.float() if x.dtype == torch.bool else x for x in examples)
        flat = flat_module(export_program(typed, given), _wants_rewritten)
        _convert(ct, _traced(flat, given), inputs, (), DENSE)


class _Typed(nn.Module):
    """A module whose truth values come as numbers, for Core ML takes no others."""

    def __init__(self, module: nn.Module, dtypes: Sequence[torch.dtype]) -> None:
        super().__init__()
        self.module, self.dtypes = module, dtypes

    def forward(self, *inputs: Tensor) -> Any:
        return self.module(*(x.to(dtype) for x, dtype in zip(inputs, self.dtypes, strict=True)))


def _wants_rewritten(node: fx.Node) -> bool:
    """What coremltools has no form of, or a wrong one."""
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY

    name = operator_name(node)
    if (
        name in _WRONG
        or asks_for_places(node)
        or str(node.target) in ("aten.clamp.Tensor", "aten.masked_fill.Tensor")
    ):
        return True
    if name == "pad":
        return "circular" in node.args or min(argument(node, 1, [0])) < 0
    if name == "max_pool2d":
        return any(d != 1 for d in argument(node, 4, [1]))
    if name == "instance_norm":
        return node.args[5] is False  # coremltools takes the image's own statistics
    if name in _TRACED:
        return False
    return _TORCH_OPS_REGISTRY.get_func(name) is None


_NUMPY = {torch.float32: np.float32, torch.int64: np.int32, torch.int32: np.int32,
          torch.bool: np.float32, torch.float16: np.float16}  # fmt: skip
# What torch.jit.trace makes something else of that coremltools knows.
_TRACED = {"conv_transpose2d", "conv_transpose1d", "conv_transpose3d", "getitem"}
# What coremltools converts to something else, or only in some cases.
_WRONG = {
    "_native_batch_norm_legit_no_training", "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa",
    "affine_grid_generator", "avg_pool3d", "col2im", "copy", "hardtanh", "masked_fill", "new_full",
    "new_ones", "new_zeros", "rms_norm", "select_scatter", "slice_scatter",
}  # fmt: skip


def compress_coreml(model: CoreMlModel, storage: WeightStorage) -> CoreMlModel:
    """The program with its weights stored as ``storage`` says."""
    with _tool() as ct, quiet(log), torch.no_grad():
        try:
            return CoreMlModel(storage.compress(ct, model.model))
        except PanokitError:
            raise
        except Exception as error:  # of any kind: weights of a shape that it has no form for
            reason = f"coremltools cannot store the weights so ({type(error).__name__}: {error})"
            raise ExportError("Core ML", reason) from error


def save_coreml(model: CoreMlModel, contract: ContractSpec, info: ModelInfo, path: Path) -> None:
    """Write the program as the folder ``path`` (``….mlpackage``), with its description, labels and
    taxonomy. The same weights give the same bytes: the conversion date is left out, identifiers
    come from names."""
    with _tool(), quiet(log), torch.no_grad():
        _describe(model.model, contract, info)
        model.model.save(str(path))
    _make_reproducible(path)


def coreml_specs(
    contract: ContractSpec, storage: WeightStorage = DENSE
) -> tuple[TensorSpec, dict[str, TensorSpec]]:
    """The input (an image) and the heads (of the storage's compute type, NCHW) of a package."""
    dtype = storage.compute
    width, height = contract.size_wh
    image = TensorSpec(INPUT, (1, height, width, 3), "uint8", "image")
    return image, contract.tensors(dtype)


def _describe(model: Any, contract: ContractSpec, info: ModelInfo) -> None:
    model.author = info.author
    model.license = info.licence
    model.version = info.version
    model.short_description = info.description
    model.input_description[INPUT] = f"{info.input_description(contract.size_wh)}" + (
        f" In Vision: {info.vision_option}." if info.vision_option else ""
    )
    for name in contract.names:
        model.output_description[name] = info.head_descriptions.get(name, "")
    colors = ["#{:02x}{:02x}{:02x}".format(*category.color) for category in info.taxonomy]
    model.user_defined_metadata.update(
        {
            # The key under which Apple's segmentation models keep their labels.
            "com.apple.coreml.model.preview.params": _json(
                {"labels": info.labels, "colors": colors}
            ),
            "panokit.labels": _json(info.labels),
            "panokit.taxonomy": _json(info.taxonomy.to_json()),
            "panokit.stride": str(contract.stride),
        }
    )
    model.user_defined_metadata.pop("com.github.apple.coremltools.conversion_date", None)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _make_reproducible(path: Path) -> None:
    """Random identifiers of the package become ones made of the items' names."""
    manifest = path / "Manifest.json"
    data = json.loads(manifest.read_text(encoding="utf-8"))
    entries = data["itemInfoEntries"]
    renamed = {
        old: str(uuid.uuid5(uuid.NAMESPACE_URL, f"panokit:{entry['path']}"))
        for old, entry in entries.items()
    }
    data["itemInfoEntries"] = dict(sorted((renamed[k], v) for k, v in entries.items()))
    data["rootModelIdentifier"] = renamed[data["rootModelIdentifier"]]
    manifest.write_text(json.dumps(data, indent=4) + "\n", encoding="utf-8")
    _rewrite_specification(path)
    for file in path.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)


def _rewrite_specification(path: Path) -> None:
    """Protobuf maps have no order of their own; written again they have that of their keys."""
    from coremltools.proto import Model_pb2

    file = path / "Data" / "com.apple.CoreML" / "model.mlmodel"
    specification = Model_pb2.Model()
    specification.ParseFromString(file.read_bytes())
    file.write_bytes(specification.SerializeToString(deterministic=True))


@contextmanager
def _tool() -> Iterator[Any]:
    """coremltools without its word on the versions of torch and scikit-learn."""
    with hushed(logging.getLogger("coremltools"), logging.CRITICAL):
        try:
            with quiet(log):
                import coremltools
        except ImportError as error:
            if error.name == "coremltools":
                raise MissingExtraError("exporting to Core ML", "export") from None
            raise
        yield coremltools
