"""What every network of the matrix is made of: a stem, the layer that it is about, three heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CLASSES", "SIDE", "WIDTH", "Apply", "Kind", "Net", "kind", "norm_act"]

SIDE = 64  # of the image
WIDTH = 8  # channels before the layer that a network is about
CLASSES = 4

Kind = Callable[[], nn.Module]
"""Makes the part that a network is about: ``[N,8,16,16]`` → ``[N,any,16,16]``."""


def kind(group: dict[str, Kind]) -> Callable[[Kind], Kind]:
    """Puts a function into a group, by its name."""

    def put(function: Kind) -> Kind:
        assert function.__name__ not in group
        group[function.__name__] = function
        return function

    return put


class Apply(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Net(nn.Module):
    """A network of the head contract around a part; stride 4."""

    def __init__(self, build: Kind) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.stem = nn.Conv2d(3, WIDTH, 3, stride=4, padding=1)
        self.part = build()
        with torch.no_grad():
            liven(self)
            width = int(self.part.eval()(torch.zeros(1, WIDTH, SIDE // 4, SIDE // 4)).shape[1])
        self.semantic = nn.Conv2d(width, CLASSES, 1)
        self.center = nn.Conv2d(width, 1, 1)
        self.offset = nn.Conv2d(width, 2, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.part(F.relu(self.stem(image / 127.5 - 1)))
        offset = 8 * self.offset(x)
        return {"semantic": self.semantic(x), "center": self.center(x), "offset": offset}


def liven(network: nn.Module) -> None:
    """Norms as after training: with statistics and gains of their own."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            assert module.running_var is not None
            nn.init.uniform_(module.running_var, 0.3, 0.9)
        for name in ("weight", "bias"):
            value = getattr(module, name, None)
            if "Norm" in type(module).__name__ and isinstance(value, nn.Parameter):
                nn.init.uniform_(value, 0.5, 1.5)


def norm_act(inside: int, out: int, size: int = 3, **options: Any) -> nn.Sequential:
    """Convolution of the same size, batch norm, ReLU."""
    options.setdefault("padding", options.get("dilation", 1) * (size // 2))
    conv = nn.Conv2d(inside, out, size, bias=False, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())
