"""The head contract: what a torch module must take and return to be exported.

``forward(image)`` with float32 ``[N,3,H,W]``, RGB, 0..255, returns a mapping with ``semantic``
``[N,C,h,w]`` logits, ``center`` ``[N,1,h,w]`` logits and ``offset`` ``[N,2,h,w]`` (dy, dx) in
input pixels, where h = H/stride and w = W/stride.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from panokit.errors import ArgumentError, HeadError
from panokit_converters.interface import HEADS

__all__ = ["ContractSpec", "NamedHeads", "TupleHeads", "check_contract", "run_heads"]


@dataclass(frozen=True)
class ContractSpec:
    """What a module was found to do: input size, number of classes and head stride in pixels."""

    size_wh: tuple[int, int]
    classes: int
    stride: int

    def shape(self, head: str) -> tuple[int, int, int]:
        """Channels, height and width of a head."""
        channels = {"semantic": self.classes, "center": 1, "offset": 2}[head]
        return channels, self.size_wh[1] // self.stride, self.size_wh[0] // self.stride


class TupleHeads(nn.Module):
    """A module of the head contract whose heads come as a tuple in the order of ``HEADS``."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        heads = self.module(image)
        return tuple(heads[name] for name in HEADS)


class NamedHeads(nn.Module):
    """A module whose heads come as a tuple in the order of ``HEADS``, as one of the contract."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return dict(zip(HEADS, self.module(image), strict=True))


def check_contract(
    module: nn.Module, size_wh: tuple[int, int], classes: int | None = None
) -> ContractSpec:
    """Run ``module`` on a grey and a random image and check every promise of the contract.

    ``classes`` is the number of categories of the taxonomy, if known. ``HeadError`` names the
    head and what is wrong with it; ``ArgumentError`` is for a module that cannot be run at all.
    """
    if module.training:
        raise ArgumentError("module", "the module is in train mode; call .eval() first")
    generator = torch.Generator().manual_seed(0)
    w, h = size_wh
    images = torch.cat(
        [
            torch.full((1, 3, h, w), 127.0),
            torch.randint(0, 256, (1, 3, h, w), generator=generator).float(),
        ]
    )
    heads = run_heads(module, images)
    found = heads["semantic"]
    stride = _stride(size_wh, found)
    contract = ContractSpec(size_wh, classes or int(found.shape[1]), stride)
    for name in HEADS:
        expected = (2, *contract.shape(name))
        if tuple(heads[name].shape) != expected:
            reason = f"expected shape {expected} for two images of {w}x{h}"
            raise HeadError(name, f"{reason}, got {tuple(heads[name].shape)}")
        if heads[name].dtype != torch.float32:
            raise HeadError(name, f"expected float32, got {heads[name].dtype}")
        if not torch.isfinite(heads[name]).all():
            raise HeadError(name, "expected finite numbers, got NaN or infinity")
    alone = run_heads(module, images[1:])
    for name in HEADS:
        scale = float(heads[name].abs().max()) + 1e-6
        if float((alone[name] - heads[name][1:]).abs().max()) > 1e-3 * scale:
            reason = "depends on the other images of the batch"
            raise HeadError(name, f"{reason}; a batch norm in train mode does that")
    return contract


def run_heads(module: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The three heads of ``images`` ``[N,3,H,W]``; ``HeadError`` says which is missing."""
    try:
        with torch.inference_mode():
            output: Any = module(images)
    except (RuntimeError, TypeError, ValueError) as error:
        expected = f"one that takes float32 images of shape {tuple(images.shape)}"
        raise ArgumentError(
            "module", f"the module fails with {type(error).__name__}: {error}; expected {expected}"
        ) from None
    if not isinstance(output, Mapping):
        got = type(output).__name__
        raise HeadError("semantic", f"expected a dict with {', '.join(HEADS)}, got a {got}")
    for name in HEADS:
        if name not in output:
            raise HeadError(name, f"is missing; the module returns {sorted(map(str, output))}")
        if not isinstance(output[name], Tensor) or output[name].ndim != 4:
            found = getattr(output[name], "shape", type(output[name]).__name__)
            raise HeadError(name, f"expected a tensor [N,C,h,w], got {found}")
    return {name: output[name] for name in HEADS}


def _stride(size_wh: tuple[int, int], semantic: Tensor) -> int:
    (w, h), (rows, cols) = size_wh, (int(semantic.shape[2]), int(semantic.shape[3]))
    stride = max(1, h // max(1, rows))
    if rows * stride != h or cols * stride != w:
        expected = f"a whole fraction of the input's {h} rows and {w} columns"
        raise HeadError("semantic", f"expected {expected}, got {rows} rows and {cols} columns")
    return stride
