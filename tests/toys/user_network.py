"""A user's own module: nothing of ours in it, other layers, other names, batch norms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIZE = 64


class TinyPanoptic(nn.Module):
    """Encoder of plain convolutions, transposed nothing, concatenation, heads of one trunk."""

    def __init__(self, classes: int = 3, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(5)

        def block(inside: int, out: int, stride: int = 1) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inside, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()
            )

        self.first, self.second = block(3, width, 2), block(width, 2 * width, 2)
        self.deep = nn.Sequential(block(2 * width, 2 * width), block(2 * width, 2 * width))
        self.trunk = block(4 * width, 2 * width)
        self.classes = nn.Conv2d(2 * width, classes, 1)
        self.where = nn.Conv2d(2 * width, 3, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.second(self.first(image / 255 - 0.5))
        x = self.trunk(torch.cat([x, self.deep(x)], 1))
        where = self.where(x)
        return {
            "semantic": self.classes(x),
            "center": where[:, :1],
            "offset": where[:, 1:] * 8,
        }


class NoOffset(TinyPanoptic):
    """Breaks the head contract: a head is missing."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        heads = super().forward(image)
        del heads["offset"]
        return heads


def build() -> nn.Module:
    """What ``--module`` of the command line names."""
    return TinyPanoptic()


def build_incomplete() -> nn.Module:
    """A module that lacks a head."""
    return NoOffset()
