"""Torch → Core AI asset (``.aimodel``, iOS 27) by coreai-torch. Experimental: its tools are a beta.

The asset takes a float32 image NCHW and gives float32 heads NCHW; ``half`` computes in float16
between them. Core AI's own runtime executes it, on Linux too.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from panokit._quiet import quiet
from panokit.bundle import Artifact, TensorSpec
from panokit.errors import BundleError, MissingExtraError
from panokit.runtime import quantize_image
from panokit_converters.contract import ContractSpec, TupleHeads
from panokit_converters.interface import INPUT
from panokit_converters.model_info import ModelInfo
from panokit_converters.program.blame import explained

__all__ = ["MINIMUM_OS", "CoreAiRuntime", "coreai_specs", "write_coreai"]

log = logging.getLogger(__name__)

MINIMUM_OS = "iOS 27, macOS 27"
_ENTRY = "main"


class _HalfHeads(nn.Module):
    """Heads computed in float16, from and to float32."""

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.module, self.names = copy.deepcopy(module).half(), tuple(names)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        heads = self.module(image.half())
        return tuple(heads[name].float() for name in self.names)


def write_coreai(
    module: nn.Module,
    contract: ContractSpec,
    info: ModelInfo,
    path: Path,
    *,
    half: bool = False,
) -> None:
    """Write ``module`` (head contract, eval mode) as the folder ``path`` (``….aimodel``).

    The same weights give the same bytes: date and stack traces are left out, metadata is sorted.
    """
    width, height = contract.size_wh
    names = contract.names
    wrapped = (_HalfHeads(module, names) if half else TupleHeads(module, names)).eval()
    image = torch.zeros(1, 3, height, width)
    with (
        explained("Core AI", "coreai-torch", module, contract.size_wh, _probe, names),
        quiet(log),
        torch.no_grad(),
    ):
        asset = _converted(wrapped, (image,), [INPUT], names).save_asset(path)
        asset.update_metadata(lambda metadata: _describe(metadata, info))
    metadata = path / "metadata.json"
    data = json.loads(metadata.read_text(encoding="utf-8"))
    text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False)
    metadata.write_text(text + "\n", encoding="utf-8")


def _converted(
    module: nn.Module, examples: tuple[Tensor, ...], inputs: Sequence[str], outputs: Sequence[str]
) -> Any:
    tool = _tool()
    program = torch.export.export(module, args=examples)
    program = program.run_decompositions(tool.get_decomp_table())
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # would name files of this machine
    converter = tool.TorchConverter().add_exported_program(
        program, input_names=list(inputs), output_names=list(outputs), entrypoint_name=_ENTRY
    )
    return converter.to_coreai()


def _probe(module: nn.Module, examples: tuple[Tensor, ...]) -> None:
    with quiet(log), torch.no_grad():
        _converted(module, examples, [f"x{i}" for i in range(len(examples))], ["y"])


def coreai_specs(contract: ContractSpec) -> tuple[TensorSpec, dict[str, TensorSpec]]:
    """The input and the heads of an asset written here: float32, whatever it computes in."""
    width, height = contract.size_wh
    image = TensorSpec(INPUT, (1, 3, height, width), "float32", "nchw")
    return image, contract.tensors()


class CoreAiRuntime:
    """An asset in Core AI's runtime; :meth:`run` is that of :class:`panokit.runtime.Runtime`.

    The asset is compiled anew for every image: enough to check it, not to serve.
    """

    name = "coreai"

    def __init__(self, path: Path, artifact: Artifact) -> None:
        _tool()
        self.path, self.artifact = path, artifact

    def run(self, image_hwc: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Raw heads by name, ``[C,h,w]``, from an image uint8 ``[H,W,3]`` RGB."""
        image = quantize_image(image_hwc, self.artifact.input)
        try:
            outputs = asyncio.run(self._run(image))
        except RuntimeError as error:
            raise BundleError(self.path, f"Core AI cannot run it: {error}") from None
        return {head: outputs[spec.name][0] for head, spec in self.artifact.outputs.items()}

    async def _run(self, image: NDArray[Any]) -> dict[str, NDArray[Any]]:
        from coreai.authoring import AIModelAsset
        from coreai.runtime import NDArray as CoreAiArray

        async with AIModelAsset.load(self.path.resolve()).executable() as model:
            function = model.load_function(_ENTRY)
            outputs = await function({self.artifact.input.name: CoreAiArray(image)})
            return {name: np.array(values.numpy()) for name, values in outputs.items()}


def _describe(metadata: Any, info: ModelInfo) -> None:
    metadata.author = info.author
    metadata.license = info.licence
    metadata.model_description = info.description
    metadata.creation_date = None
    for key, value in (
        ("panokit.version", info.version),
        ("panokit.labels", info.labels),
        ("panokit.taxonomy", info.taxonomy.to_json()),
        ("panokit.stride", info.stride),
    ):
        metadata.set_custom(key, value)


def _tool() -> Any:
    try:
        with quiet(log):
            import coreai_torch
    except ImportError as error:
        if (error.name or "").split(".")[0] in ("coreai_torch", "coreai"):
            raise MissingExtraError("exporting to Core AI", "coreai") from None
        raise
    return coreai_torch
