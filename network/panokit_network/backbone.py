"""Backbones: the feature extractors, four strides out.

Both are made of inverted residuals with ReLU6 and without squeeze-excite: exactly the operators
that int8 accelerators and fp16 units handle well. Stride-2 convolutions pad bottom and right only
("same" padding of TensorFlow), which TFLite expresses without a PAD operator.

- ``efficientnet-lite0`` (Tan and Le, https://arxiv.org/abs/1905.11946, and the TensorFlow
  "EfficientNet-lite" release).
- ``mobilenet-v2`` (Sandler et al., https://arxiv.org/abs/1801.04381), with the two maps that an SSD
  detector reads (the expansion of the block that leaves stride 16, and a last 1280 channels at
  stride 32) beside those of the blocks, so that it can begin as a detector's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panokit.errors import ArgumentError

__all__ = ["BACKBONES", "Backbone", "Conv", "InvertedResidual", "check_imagenet"]

BATCH_NORM_EPS = 1e-3  # the value the ImageNet weights were trained with
BATCH_NORM_MOMENTUM = 0.01


@dataclass(frozen=True)
class _Stage:
    kernel: int
    stride: int
    expand: int
    out: int
    repeat: int


@dataclass(frozen=True)
class _Kind:
    """``taps``: the last block of each output stride, counted over all blocks; ``expansions``:
    blocks whose expansion goes along with the tap before it; ``top``: channels of a last 1×1
    convolution that goes along with the last tap (0: none)."""

    stages: tuple[_Stage, ...]
    taps: tuple[int, int, int, int]
    expansions: tuple[int, ...] = ()
    top: int = 0


_KINDS = {
    "efficientnet-lite0": _Kind(
        (
            _Stage(kernel=3, stride=1, expand=1, out=16, repeat=1),
            _Stage(kernel=3, stride=2, expand=6, out=24, repeat=2),
            _Stage(kernel=5, stride=2, expand=6, out=40, repeat=2),
            _Stage(kernel=3, stride=2, expand=6, out=80, repeat=3),
            _Stage(kernel=5, stride=1, expand=6, out=112, repeat=3),
            _Stage(kernel=5, stride=2, expand=6, out=192, repeat=4),
            _Stage(kernel=3, stride=1, expand=6, out=320, repeat=1),
        ),
        taps=(2, 4, 10, 15),
    ),
    "mobilenet-v2": _Kind(
        (
            _Stage(kernel=3, stride=1, expand=1, out=16, repeat=1),
            _Stage(kernel=3, stride=2, expand=6, out=24, repeat=2),
            _Stage(kernel=3, stride=2, expand=6, out=32, repeat=3),
            _Stage(kernel=3, stride=2, expand=6, out=64, repeat=4),
            _Stage(kernel=3, stride=1, expand=6, out=96, repeat=3),
            _Stage(kernel=3, stride=2, expand=6, out=160, repeat=3),
            _Stage(kernel=3, stride=1, expand=6, out=320, repeat=1),
        ),
        taps=(2, 5, 12, 16),
        expansions=(13,),
        top=1280,
    ),
}
BACKBONES = tuple(_KINDS)
"""The backbones by name."""


def check_imagenet(name: str) -> None:
    """``ArgumentError`` if a backbone has no published ImageNet weights to begin with."""
    if name != "efficientnet-lite0":
        expected = "--init or --backbone with a weight file, or --no-imagenet"
        raise ArgumentError(
            "backbone", f"there are no ImageNet weights of {name}; expected {expected}"
        )


class _DepthwiseFp32Gradient(torch.autograd.Function):
    """A depthwise convolution whose weight gradient is computed in float32.

    oneDNN's bf16 weight gradient of a 5×5 depthwise convolution is several times slower than
    the float32 one on CPUs, so that one product leaves bf16.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = (stride, padding)
        return F.conv2d(x, weight, bias, stride, padding, 1, x.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0]
        x, weight = ctx.saved_tensors
        stride, padding = ctx.geometry

        def run(g: Tensor, x: Tensor, w: Tensor, mask: list[bool]) -> Any:
            return torch.ops.aten.convolution_backward(
                g, x, w, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], x.shape[1], mask
            )

        grad_x = run(grad, x, weight, [True, False, False])[0]
        grad_w = run(grad.float(), x.float(), weight.float(), [False, True, False])[1]
        grad_b = grad.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return grad_x, grad_w.to(weight.dtype), grad_b, None, None


class Conv(nn.Module):
    """Convolution → batch norm → optional ReLU6, with the padding devices like.

    Stride 1 pads ``dilation * (kernel // 2)`` on each side; stride 2 pads so that an even input
    gives exactly half the size, the odd pixel at the bottom and right. A batch norm is present
    until :func:`panokit_network.deploy.fuse` folds it into the convolution.

    ``folds``: the batch norm's statistics stand still, and training computes with weights that
    the norm is folded into. The result is that of the norm in eval mode; its passes over the
    activations, a quarter of a step's time, are saved.
    """

    folds: bool = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2) if stride == 1 else 0
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=False
        )
        self.bn: nn.Module = nn.BatchNorm2d(
            out_channels, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM
        )
        self.act: nn.Module = nn.ReLU6() if relu else nn.Identity()
        total = kernel - 2  # what "same" padding needs in sum for an even size and stride 2
        self.same_pad = (total // 2, total - total // 2) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        implicit = self.same_pad is not None and (self.training or self.folds)
        if self.same_pad is not None and not implicit:
            before, after = self.same_pad
            x = F.pad(x, (before, after, before, after))
        out: Tensor = self.act(self.normalized(x, implicit))
        return out

    def normalized(self, x: Tensor, implicit: bool = False) -> Tensor:
        """Convolution and batch norm, nothing else.

        ``implicit``: pad for stride 2 without a padded copy of the input. The convolution pads two
        more on all sides, and the first row and column, which start two too early, are left out.
        """
        conv = self.conv
        weight, bias, folded = self._weight()
        pad = int(conv.padding[0])
        if implicit and self.same_pad is not None:
            pad = self.same_pad[0] + 2
        slow_gradient = conv.groups > 1 and conv.kernel_size[0] == 5 and self.training
        slow_gradient = slow_gradient and conv.weight.requires_grad
        if slow_gradient and torch.is_autocast_enabled("cpu"):
            low = torch.bfloat16
            small = None if bias is None else bias.to(low)
            y: Tensor = _DepthwiseFp32Gradient.apply(  # type: ignore[no-untyped-call]
                x.to(low), weight.to(low), small, conv.stride[0], pad
            )
        elif folded or implicit:
            y = F.conv2d(x, weight, bias, conv.stride, pad, conv.dilation, conv.groups)
        else:
            y = conv(x)  # the layer itself, which hooks and converters see
        if implicit:
            y = y[:, :, 1:, 1:]
        out: Tensor = y if folded else self.bn(y)
        return out

    def _weight(self) -> tuple[Tensor, Tensor | None, bool]:
        """Weight and bias to convolve with, and whether the batch norm is in them."""
        conv, bn = self.conv, self.bn
        if not self.folds or not isinstance(bn, nn.BatchNorm2d):
            return conv.weight, conv.bias, False
        mean, variance = bn.running_mean, bn.running_var
        if mean is None or variance is None:
            return conv.weight, conv.bias, False
        scale = bn.weight * torch.rsqrt(variance + bn.eps)  # [out]
        return conv.weight * scale[:, None, None, None], bn.bias - mean * scale, True


class InvertedResidual(nn.Module):
    """Expand 1×1 → depthwise k×k → project 1×1, with a shortcut where the shape allows it."""

    def __init__(self, in_channels: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        hidden = in_channels * stage.expand
        self.expand = Conv(in_channels, hidden) if stage.expand != 1 else nn.Identity()
        self.depthwise = Conv(hidden, hidden, stage.kernel, stride, groups=hidden)
        self.project = Conv(hidden, stage.out, relu=False)
        self.shortcut = stride == 1 and in_channels == stage.out

    def forward(self, x: Tensor) -> Tensor:
        return self.after_expansion(self.expand(x), x)

    def after_expansion(self, expanded: Tensor, x: Tensor) -> Tensor:
        """The rest of the block, given ``self.expand(x)``."""
        y: Tensor = self.project(self.depthwise(expanded))
        return x + y if self.shortcut else y


class Backbone(nn.Module):
    """Features at strides 4, 8, 16 and 32, of ``channels``; ``name`` is one of ``BACKBONES``."""

    def __init__(self, name: str = "efficientnet-lite0") -> None:
        super().__init__()
        self.name, self.kind = name, _KINDS[name]
        self.stem = Conv(3, 32, kernel=3, stride=2)
        blocks: list[InvertedResidual] = []
        channels, found = 32, list[int]()
        for stage in self.kind.stages:
            for nth in range(stage.repeat):
                index, stride = len(blocks), stage.stride if nth == 0 else 1
                blocks.append(InvertedResidual(channels, stage, stride))
                if index in self.kind.expansions:
                    found[-1] += channels * stage.expand
                channels = stage.out
                if index in self.kind.taps:
                    found.append(channels)
        self.blocks = nn.ModuleList(blocks)
        self.top: nn.Module = Conv(channels, self.kind.top) if self.kind.top else nn.Identity()
        self.channels = (found[0], found[1], found[2], found[3] + self.kind.top)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.from_stem(self.stem(x))

    def from_stem(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The blocks after the stem; ``x`` is its output ``[N,32,H/2,W/2]``."""
        taps: list[Tensor] = []
        for index, module in enumerate(self.blocks):
            block = cast(InvertedResidual, module)
            expanded = block.expand(x)
            if index in self.kind.expansions:
                taps[-1] = torch.cat([taps[-1], expanded], 1)
            x = block.after_expansion(expanded, x)
            if index in self.kind.taps:
                taps.append(x)
        if self.kind.top:
            taps[-1] = torch.cat([taps[-1], self.top(x)], 1)
        return taps[0], taps[1], taps[2], taps[3]

    def load_imagenet(self, state: dict[str, Tensor]) -> None:
        """Load the ImageNet weights published for ``efficientnet-lite-pytorch``.

        ``state`` is that package's state dict; its classifier is left out, and every remaining
        name must match (``KeyError`` or ``RuntimeError`` otherwise). Other backbones than
        ``efficientnet-lite0`` have no such weights: ``ArgumentError``.
        """
        check_imagenet(self.name)
        self.load_state_dict({ours: state[theirs] for ours, theirs in self._names().items()})

    def _names(self) -> dict[str, str]:
        fields = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        names = {"stem.conv.weight": "_conv_stem.weight"}
        names |= {f"stem.bn.{f}": f"_bn0.{f}" for f in fields}
        for i in range(len(self.blocks)):
            convs = [("expand", "_expand_conv", "_bn0")] if i else []
            convs += [
                ("depthwise", "_depthwise_conv", "_bn1"),
                ("project", "_project_conv", "_bn2"),
            ]
            for ours, conv, bn in convs:
                names[f"blocks.{i}.{ours}.conv.weight"] = f"_blocks.{i}.{conv}.weight"
                for f in fields:
                    names[f"blocks.{i}.{ours}.bn.{f}"] = f"_blocks.{i}.{bn}.{f}"
        return names
