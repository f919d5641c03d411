"""Quantization-aware training: the network learns weights that survive int8.

Fake quantization comes from PyTorch's export-mode flow (torchao PT2E) in the layout of LiteRT:
weights int8 per channel and symmetric, activations int8 per tensor. What comes out is an ordinary
float module whose weights were trained to lie well on the int8 grid: the TFLite quantizer makes
the int8 file from it (and keeps resizes in int8, which PT2E's own export does not), coremltools
the Core ML package.
"""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from panokit._quiet import quiet
from panokit.errors import ArgumentError, MissingExtraError
from panokit.preprocessing import sides
from panokit_compression.distil import OnStep, Stream, train_on
from panokit_compression.recipes import Qat

__all__ = ["train_quantized"]

log = logging.getLogger(__name__)


def train_quantized(
    module: nn.Module,
    teacher: nn.Module,
    stream: Stream,
    step: Qat,
    folder: Path,
    *,
    things: Tensor | None = None,
    class_weight: Tensor | None = None,
    on_step: OnStep | None = None,
) -> nn.Module:
    """A copy of ``module`` (batch norms folded, eval mode) with weights trained for int8.

    The last part of the run (after ``step.freeze_after``) keeps the activation ranges as they
    are, so that weights settle on a grid that stands still.
    """
    prepared = _prepare(module, step)
    tools = _tools()

    def freeze(number: int, total: int) -> None:
        frozen = number >= step.freeze_after * total
        prepared.apply(tools.disable_observer if frozen else tools.enable_observer)

    train_on(
        prepared,
        teacher,
        stream,
        step,
        folder,
        things=things,
        class_weight=class_weight,
        average=False,  # an average of ranges and weights is on no grid
        bf16=False,
        train_mode=tools.move_exported_model_to_train,
        on_step=on_step,
        on_number=freeze,
    )
    learned = prepared.state_dict()
    trained = copy.deepcopy(module)
    state = {name: learned[name].detach().clone() for name in trained.state_dict()}
    trained.load_state_dict(state)
    return trained.eval().requires_grad_(False)


def _prepare(module: nn.Module, step: Qat) -> Any:
    """The exported module with fake quantization in it."""
    tools = _tools()
    if norms := [n for n, m in module.named_modules() if isinstance(m, nn.BatchNorm2d)]:
        raise ArgumentError(
            "module",
            f"the module has batch norms ({norms[:3]}); fold them into the convolutions first",
        )
    width, height = sides(step.size)
    example = torch.zeros(step.batch, 3, height, width)
    module = copy.deepcopy(module).eval().requires_grad_(True)
    with quiet(log):
        exported = torch.export.export(module, (example,), strict=False).module()
        _use_float_scalars(exported)
        quantizer = tools.quantizer()
        # Batch norms are folded already; looking for them fails with this version of PyTorch,
        # which exports modules only and gets functions as the patterns to look for.
        quantizer.STATIC_QAT_ONLY_OPS = []
        quantizer.set_global(tools.quantization_config(is_per_channel=True, is_qat=True))
        prepared = tools.prepare_qat_pt2e(exported, quantizer)
    _quantize_after_relu6(prepared)
    return prepared


def _use_float_scalars(exported: Any) -> None:
    """``x * 8`` becomes ``x * 8.0``: the tool makes tensors of scalars and quantizes float ones
    only."""
    arithmetic = ("aten.mul", "aten.add", "aten.sub", "aten.div")
    for node in exported.graph.nodes:
        if node.op == "call_function" and str(node.target).startswith(arithmetic):
            node.args = tuple(float(a) if type(a) is int else a for a in node.args)
    exported.recompile()


def _quantize_after_relu6(prepared: Any) -> None:
    """Move fake quantization from between a convolution and its ReLU6 to after both: they are one
    operator on the device, and in between values go beyond 6 and would widen the range."""
    modules = dict(prepared.named_modules(remove_duplicate=False))  # some have two names
    for node in list(prepared.graph.nodes):
        if node.op != "call_module" or not hasattr(modules[node.target], "fake_quant_enabled"):
            continue
        users = list(node.users)
        if len(users) != 1 or not str(users[0].target).startswith("aten.relu6"):
            continue
        relu6 = users[0]
        relu6.args = (node.args[0], *relu6.args[1:])
        with prepared.graph.inserting_after(relu6):
            moved = prepared.graph.call_module(node.target, (relu6,))
        relu6.replace_all_uses_with(moved, lambda user, moved=moved: user is not moved)
        prepared.graph.erase_node(node)
    prepared.recompile()


class _Tools:
    """What is used of torchao and of LiteRT's quantizer for it."""

    def __init__(self) -> None:
        from litert_torch.quantize.pt2e_quantizer import (
            PT2EQuantizer,
            get_symmetric_quantization_config,
        )
        from torchao.quantization.pt2e import (
            disable_observer,
            enable_observer,
            move_exported_model_to_train,
        )
        from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

        self.quantizer: Any = PT2EQuantizer
        self.quantization_config: Any = get_symmetric_quantization_config
        self.prepare_qat_pt2e: Any = prepare_qat_pt2e
        self.disable_observer: Any = disable_observer
        self.enable_observer: Any = enable_observer
        self.move_exported_model_to_train: Any = move_exported_model_to_train


def _tools() -> _Tools:
    try:
        with quiet(log):
            return _Tools()
    except ImportError as error:
        if (error.name or "").split(".")[0] in ("torchao", "litert_torch"):
            raise MissingExtraError("quantization-aware training", "export") from None
        raise
