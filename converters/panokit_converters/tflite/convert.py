"""Torch → TFLite by litert-torch.

The file takes NHWC images and gives NHWC heads: the layout of every mobile kernel, so that no
transposition is left in the graph. Outputs are named by a signature; match them by name, never by
position.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.graph import CodeGen

from panokit._quiet import hushed, quiet
from panokit.errors import MissingExtraError
from panokit.tflite.read import PATH_MARK
from panokit_converters.contract import run_heads
from panokit_converters.interface import HEADS, INPUT
from panokit_converters.program.attempts import (
    argument,
    asks_for_places,
    first_that_works,
    has_rewrite,
    resizes_unevenly,
)
from panokit_converters.program.blame import explained
from panokit_converters.program.capture import export_program, flat_module, operator_name
from panokit_converters.tflite.inspect import loads, tflite_operators
from panokit_converters.tflite.layout import without_transposes

__all__ = ["convert_tflite"]

log = logging.getLogger(__name__)


class NhwcHeads(nn.Module):
    """A module with named heads, channels last: ``[N,H,W,3]`` → pictures ``[N,h,w,C]``, and what is
    no picture as it is."""

    def __init__(self, module: nn.Module, names: Sequence[str] = HEADS) -> None:
        super().__init__()
        self.module, self.names = module, sorted(names)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        heads = self.module(image.permute(0, 3, 1, 2))
        # Sorted, as the signature will be: the order in the file then does not depend on ours.
        return {
            name: heads[name].permute(0, 2, 3, 1) if heads[name].ndim == 4 else heads[name]
            for name in self.names
        }


# The converter writes this path into the names of tensors; artifacts must not change with files.
NhwcHeads.__module__ = "panokit_converters.tflite"


def convert_tflite(
    module: nn.Module, size_wh: tuple[int, int], heads: Sequence[str] = HEADS
) -> bytes:
    """A float32 TFLite file of ``module`` (eval mode, returns named ``heads``) for one image of
    ``size_wh``.

    The same weights give the same bytes. Takes a quarter of a minute; for other precisions
    quantize the file.
    """
    width, height = size_wh
    run_heads(module, torch.zeros(1, 3, height, width), heads)
    with explained("TFLite", "litert-torch", module, size_wh, _probe, heads):
        return first_that_works(
            module,
            size_wh,
            _wants_rewritten,
            lambda version: _converted(version, size_wh, heads),
            heads,
        )


def _converted(module: nn.Module, size_wh: tuple[int, int], heads: Sequence[str]) -> bytes:
    width, height = size_wh
    image = torch.zeros(1, height, width, 3)
    whole = NhwcHeads(_with_whole_names(module), heads).eval()
    content = _convert(whole, sample_kwargs={INPUT: image})
    if strange := [n for n in tflite_operators(content) if n.startswith("STABLEHLO")]:
        # Inner language of the compiler, which hardly any runtime has.
        raise NotImplementedError(f"{', '.join(strange)} are left in the file")
    content = without_transposes(content)
    loads(content)
    return content


def _with_whole_names(module: nn.Module) -> nn.Module:
    """A traced module whose layers are its own children, under their whole paths (``block:0`` for
    ``block.0``): it calls them itself, past their containers, and the converter writes down no more
    than a layer's own name."""
    if not isinstance(module, fx.GraphModule) or type(module.graph._codegen) is not CodeGen:
        return module
    if any(PATH_MARK in str(node.target) for node in module.graph.nodes):
        return module
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    root: dict[str, Any] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            layer = module.get_submodule(str(node.target))
            node.target = str(node.target).replace(".", PATH_MARK)
            root[node.target] = layer
        elif node.op == "get_attr":
            owner, _, name = str(node.target).rpartition(".")
            value = getattr(module.get_submodule(owner), name)
            node.target = f"constant_{len(root)}"  # beside the layers, not inside one of them
            root[node.target] = value
    return fx.GraphModule(root, graph, type(module).__name__).eval()


def _convert(module: nn.Module, *args: Any, **kwargs: Any) -> bytes:
    convert = _converter()
    # What fails may be tried in another form: torch's own log of it is not for the user.
    torch_log = logging.getLogger("torch._subclasses.fake_tensor")
    with quiet(log), hushed(torch_log, logging.CRITICAL), _without_progress():
        return bytes(convert(module, *args, **kwargs).model_content())


def _probe(module: nn.Module, examples: tuple[Tensor, ...]) -> None:
    flat = flat_module(export_program(module, examples), has_rewrite)
    content = _convert(flat, examples)
    if any(name.startswith("STABLEHLO") for name in tflite_operators(content)):
        raise NotImplementedError("an operator that runtimes do not have")
    loads(content)


def _wants_rewritten(node: fx.Node) -> bool:
    """What litert-torch converts to something else, or to what runtimes do not have."""
    name = operator_name(node)
    if name in _UNKNOWN:
        return True
    if name == "matmul":  # a product with a vector is taken for one of fewer axes
        shapes = [source.meta["val"].shape for source in node.all_input_nodes]
        return any(len(shape) > 3 and 1 in shape[-2:] for shape in shapes)
    if name == "conv_transpose2d":
        return any(argument(node, 5, [0])) or any(d != 1 for d in argument(node, 7, [1]))
    if name == "max_pool2d":
        return any(d != 1 for d in argument(node, 4, [1]))
    if name == "flip":
        return len(argument(node, 1, [])) > 1
    if name in ("slice_scatter", "select_scatter", "copy"):  # it would pad truth values
        return bool(node.meta["val"].dtype == torch.bool)
    return resizes_unevenly(node) or asks_for_places(node)


# What litert-torch has no form of, leaves in the compiler's language, or lays out wrongly.
_UNKNOWN = {
    "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa", "adaptive_max_pool2d", "avg_pool3d",
    "col2im", "im2col", "max_unpool2d", "one_hot", "repeat", "rrelu", "scatter", "tile", "unfold",
}  # fmt: skip


def _converter() -> Any:
    try:
        with quiet(log):
            import litert_torch
    except ImportError as error:
        if error.name == "litert_torch":
            raise MissingExtraError("exporting to TFLite", "export") from None
        raise
    return litert_torch.convert


@contextmanager
def _without_progress() -> Iterator[None]:
    """litert-torch draws its progress unless this variable says no."""
    name = "LITERT_TORCH_SHOW_PROGRESS"
    before = os.environ.get(name)
    os.environ[name] = "n"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
