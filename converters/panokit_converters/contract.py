"""What a torch module must take and return to be exported, and whether it does.

``forward(image)`` with float32 ``[N,3,H,W]``, RGB, 0..255, returns a mapping from the names of its
contract's heads to tensors: pictures ``[N,C,h,w]``, rows ``[N,n,k]`` (queries, anchors), labels
``[N,h,w]``. Of ``center-offset`` these are ``semantic`` ``[N,C,h,w]`` logits, ``center``
``[N,1,h,w]`` logits and ``offset`` ``[N,2,h,w]`` (dy, dx) in input pixels, where h = H/stride and
w = W/stride. Modules that return something else are made such by :mod:`panokit_converters.adapt`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from panokit.bundle import TensorSpec
from panokit.decoding import DecodingSettings, PostprocessConfig
from panokit.errors import ArgumentError, HeadError
from panokit.taxonomy import Taxonomy
from panokit_converters.interface import HEADS

__all__ = [
    "ContractSpec",
    "HeadSpec",
    "NamedHeads",
    "TupleHeads",
    "check_contract",
    "finest_stride",
    "head_arrays",
    "run_heads",
]

_WHOLE = (torch.int32, torch.int64)


@dataclass(frozen=True)
class HeadSpec:
    """A head as the module gives it: ``shape`` without the batch axis, ``(C, h, w)`` of a picture,
    ``(n, k)`` of rows or labels, ``(n,)`` of a vector; ``dtype`` ``"float32"``, or ``"int32"`` of
    labels."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def is_picture(self) -> bool:
        """Whether it has channels, rows and columns."""
        return len(self.shape) == 3

    @property
    def channels_last(self) -> tuple[int, ...]:
        """The shape as contracts state it."""
        return (*self.shape[1:], self.shape[0]) if self.is_picture else self.shape

    def tensor(self, name: str, dtype: str = "float32") -> TensorSpec:
        """The tensor of a file that keeps the module's layout; floats are of ``dtype``."""
        kind = dtype if self.dtype == "float32" else self.dtype
        layout = {1: "vector", 2: "rows", 3: "nchw"}[len(self.shape)]
        return TensorSpec(name, (1, *self.shape), kind, layout)


@dataclass(frozen=True)
class ContractSpec:
    """What a module was found to do: ``size_wh`` of its input in pixels, its heads, and ``stride``,
    the input pixels a cell of the finest."""

    size_wh: tuple[int, int]
    heads: dict[str, HeadSpec]
    stride: int

    def shape(self, head: str) -> tuple[int, ...]:
        """Channels, height and width of a head, or rows and numbers."""
        return self.heads[head].shape

    @property
    def names(self) -> tuple[str, ...]:
        """The heads, in the contract's order."""
        return tuple(self.heads)

    def tensors(self, dtype: str = "float32") -> dict[str, TensorSpec]:
        """The outputs of a file that keeps the module's layout."""
        return {name: spec.tensor(name, dtype) for name, spec in self.heads.items()}


class TupleHeads(nn.Module):
    """A module whose named heads come as a tuple in the order of ``names``."""

    def __init__(self, module: nn.Module, names: Sequence[str] = HEADS) -> None:
        super().__init__()
        self.module, self.names = module, tuple(names)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        heads = self.module(image)
        return tuple(heads[name] for name in self.names)


class NamedHeads(nn.Module):
    """A module whose heads come as a tuple in the order of ``names``, with names again."""

    def __init__(self, module: nn.Module, names: Sequence[str] = HEADS) -> None:
        super().__init__()
        self.module, self.names = module, tuple(names)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.names, self.module(image), strict=True))


def check_contract(
    module: nn.Module,
    size_wh: tuple[int, int],
    classes: int | Taxonomy | None = None,
    settings: DecodingSettings | None = None,
) -> ContractSpec:
    """Run ``module`` on a grey and a random image, ``size_wh`` pixels wide and high, and check
    every promise of the contract.

    ``classes`` is the taxonomy, or its number of categories, if known; contracts other than
    center-offset need the taxonomy. ``settings`` say which contract it is. ``HeadError`` names the
    head and what is wrong with it; ``ArgumentError`` is for a module that cannot be run at all.
    """
    if module.training:
        raise ArgumentError("module", "the module is in train mode; call .eval() first")
    settings = settings or PostprocessConfig()
    generator = torch.Generator().manual_seed(0)
    w, h = size_wh
    images = torch.cat(
        [
            torch.full((1, 3, h, w), 127.0),
            torch.randint(0, 256, (1, 3, h, w), generator=generator).float(),
        ]
    )
    names = settings.head_names()
    heads = run_heads(module, images, names)
    if isinstance(settings, PostprocessConfig):
        count = len(classes) if isinstance(classes, Taxonomy) else classes
        contract = _center_offset(heads, size_wh, count)
    else:
        contract = _other(heads, size_wh)
    for name in names:
        wanted = _WHOLE if heads[name].dtype in _WHOLE and heads[name].ndim < 4 else ()
        if heads[name].dtype not in (torch.float32, *wanted):
            raise HeadError(name, f"expected float32, got {heads[name].dtype}")
        if not torch.isfinite(heads[name]).all():
            raise HeadError(name, "expected finite numbers, got NaN or infinity")
    if isinstance(classes, Taxonomy) and not isinstance(settings, PostprocessConfig):
        shapes = {name: spec.channels_last for name, spec in contract.heads.items()}
        try:
            settings.check_shapes(shapes, size_wh, contract.stride, classes)
        except ArgumentError as error:
            raise ArgumentError("module", f"the module's {error}") from None
    alone = run_heads(module, images[1:], names)
    for name in names:
        scale = float(heads[name].abs().max()) + 1e-6
        if float((alone[name] - heads[name][1:]).abs().max()) > 1e-3 * scale:
            reason = "depends on the other images of the batch"
            raise HeadError(name, f"{reason}; a batch norm in train mode does that")
    return contract


def run_heads(module: nn.Module, images: Tensor, names: Sequence[str] = HEADS) -> dict[str, Tensor]:
    """The named heads of ``images`` ``[N,3,H,W]``; ``HeadError`` says which is missing."""
    output = run_module(module, images)
    if not isinstance(output, Mapping):
        got = type(output).__name__
        raise HeadError(names[0], f"expected a dict with {', '.join(names)}, got a {got}")
    ranks = (4,) if tuple(names) == HEADS else (2, 3, 4)
    for name in names:
        if name not in output:
            raise HeadError(name, f"is missing; the module returns {sorted(map(str, output))}")
        if not isinstance(output[name], Tensor) or output[name].ndim not in ranks:
            found = getattr(output[name], "shape", type(output[name]).__name__)
            expected = "[N,C,h,w]" if ranks == (4,) else "[N,C,h,w], [N,n,k] or [N,n]"
            raise HeadError(name, f"expected a tensor {expected}, got {found}")
    return {name: output[name] for name in names}


def head_arrays(heads: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """The heads of one image as contracts state them: pictures ``[h,w,C]``, rows as they are."""
    return {
        name: np.moveaxis(head[0].numpy(), 0, -1).copy() if head.ndim == 4 else head[0].numpy()
        for name, head in heads.items()
    }


def run_module(module: nn.Module, images: Tensor) -> Any:
    """Whatever the module returns for ``images``; ``ArgumentError`` if it fails."""
    try:
        with torch.inference_mode():
            return module(images)
    except (RuntimeError, TypeError, ValueError) as error:
        expected = f"one that takes float32 images of shape {tuple(images.shape)}"
        raise ArgumentError(
            "module", f"the module fails with {type(error).__name__}: {error}; expected {expected}"
        ) from None


def finest_stride(shapes: Mapping[str, tuple[int, ...]], size_wh: tuple[int, int]) -> int:
    """Input pixels per cell of the finest picture among heads ``(rows, columns, channels)``, at
    least 1."""
    widths = [shape[1] for shape in shapes.values() if len(shape) == 3]
    return max(1, round(size_wh[0] / max(widths))) if widths else 1


def _other(heads: Mapping[str, Tensor], size_wh: tuple[int, int]) -> ContractSpec:
    """The heads of a contract whose settings check the shapes."""
    for name, head in heads.items():
        if head.shape[0] != 2:
            got = f"got {tuple(head.shape)}"
            raise HeadError(name, f"expected a batch axis of 2 for two images, {got}")
    specs = {
        name: HeadSpec(tuple(head.shape[1:]), "int32" if head.dtype in _WHOLE else "float32")
        for name, head in heads.items()
    }
    shapes = {name: spec.channels_last for name, spec in specs.items()}
    return ContractSpec(size_wh, specs, finest_stride(shapes, size_wh))


def _center_offset(
    heads: Mapping[str, Tensor], size_wh: tuple[int, int], classes: int | None
) -> ContractSpec:
    (w, h), found = size_wh, heads["semantic"]
    stride = _stride(size_wh, found)
    channels = {"semantic": classes or int(found.shape[1]), "center": 1, "offset": 2}
    specs = {n: HeadSpec((channels[n], h // stride, w // stride)) for n in HEADS}
    for name, spec in specs.items():
        expected = (2, *spec.shape)
        if tuple(heads[name].shape) != expected:
            reason = f"expected shape {expected} for two images of {w}x{h}"
            raise HeadError(name, f"{reason}, got {tuple(heads[name].shape)}")
    return ContractSpec(size_wh, specs, stride)


def _stride(size_wh: tuple[int, int], semantic: Tensor) -> int:
    (w, h), (rows, cols) = size_wh, (int(semantic.shape[2]), int(semantic.shape[3]))
    stride = max(1, h // max(1, rows))
    if rows * stride != h or cols * stride != w:
        expected = f"a whole fraction of the input's {h} rows and {w} columns"
        raise HeadError("semantic", f"expected {expected}, got {rows} rows and {cols} columns")
    return stride
