"""What every network of the matrix is made of: a stem, the layer that it is about, three heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    """A network of the head contract around parts that stand side by side; stride 4.

    ``semantic`` holds ``CLASSES`` channels of each part, in their order.
    """

    def __init__(self, builds: Mapping[str, Kind]) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.stem = nn.Conv2d(3, WIDTH, 3, stride=4, padding=1)
        self.parts = nn.ModuleDict()
        self.semantic, self.center, self.offset = (nn.ModuleDict() for _ in range(3))
        with torch.no_grad():
            for name, build in builds.items():
                torch.manual_seed(7)  # a part is the same in every company
                self.parts[name] = part = build()
                liven(part)
                width = int(part.eval()(torch.zeros(1, WIDTH, SIDE // 4, SIDE // 4)).shape[1])
                self.semantic[name] = nn.Conv2d(width, CLASSES, 1)
                self.center[name], self.offset[name] = (
                    nn.Conv2d(width, 1, 1),
                    nn.Conv2d(width, 2, 1),
                )

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = F.relu(self.stem(image / 127.5 - 1))
        semantic: list[Tensor] = []
        center, offset = x[:, :1] * 0, x[:, :2] * 0
        for name, part in self.parts.items():
            y = part(x)
            semantic.append(self.semantic[name](y))
            center = center + self.center[name](y)
            offset = offset + 8 * self.offset[name](y)
        return {"semantic": torch.cat(semantic, 1), "center": center, "offset": offset}


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
