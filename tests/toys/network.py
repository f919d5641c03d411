"""Networks of the head contract that are converted in seconds, and photos to run them on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panokit.photo import Photo

CLASSES = 4


class ToyNetwork(nn.Module):
    """Stride 4, ``CLASSES`` classes: dense, depthwise and pointwise convolutions, a resize."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.depthwise = nn.Conv2d(8, 8, 3, stride=2, groups=8)
        self.down = nn.Conv2d(8, 8, 3, stride=2, groups=8)
        self.deep = nn.Conv2d(8, 16, 1)
        self.lateral = nn.Conv2d(8, 16, 1)
        self.semantic = nn.Conv2d(16, classes, 1)
        self.center = nn.Conv2d(16, 1, 1)
        self.offset = nn.Conv2d(16, 2, 1)
        with torch.no_grad():
            self.stem.weight /= 128  # 0..255 come in
            self.offset.weight *= 20

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = F.relu6(self.stem(F.pad(image, (0, 1, 0, 1))))
        x = F.relu6(self.depthwise(F.pad(x, (0, 1, 0, 1))))
        deep = F.relu6(self.deep(self.down(F.pad(x, (0, 1, 0, 1)))))
        up = F.interpolate(deep, scale_factor=2.0, mode="bilinear", align_corners=False)
        y = F.relu6(self.lateral(x)) + up
        return {"semantic": self.semantic(y), "center": self.center(y), "offset": self.offset(y)}


class MobileNetV3Like(nn.Module):
    """Somebody else's network: batch norms, hard-swish, 5×5 depthwise, squeeze-excite, symmetric
    padding, concatenation. Stride 4."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.stem = _conv(3, 8, 3, stride=2, act=nn.Hardswish())
        self.expand = _conv(8, 24, 1, act=nn.Hardswish())
        self.depthwise = _conv(24, 24, 5, stride=2, groups=24, act=nn.Hardswish())
        self.excite = SqueezeExcite(24)
        self.project = _conv(24, 16, 1)
        self.deep = _conv(16, 16, 3, stride=2, act=nn.ReLU())
        self.join = _conv(32, 24, 1, act=nn.Hardswish())
        self.semantic = nn.Conv2d(24, classes, 1)
        self.center = nn.Conv2d(24, 1, 1)
        self.offset = nn.Conv2d(24, 2, 1)
        _liven(self)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(image / 127.5 - 1)
        x = self.project(self.excite(self.depthwise(self.expand(x))))
        up = F.interpolate(self.deep(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        y = self.join(torch.cat([x, up], dim=1))
        offset = 20 * self.offset(y)
        return {"semantic": self.semantic(y), "center": self.center(y), "offset": offset}


class SqueezeExcite(nn.Module):
    """Channels weighed by what their means say (Hu et al., https://arxiv.org/abs/1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, 8, 1)
        self.expand = nn.Conv2d(8, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = F.adaptive_avg_pool2d(x, 1)
        return x * F.hardsigmoid(self.expand(F.relu(self.reduce(mean))))


class TinyUNet(nn.Module):
    """Another one: leaky ReLU, max pooling, a dilated convolution, nearest-neighbour upsampling,
    a sigmoid gate and skips. Stride 2.

    Maps of random weights can hang on one centre that two cells claim almost alike; with this
    seed they do not.
    """

    def __init__(self, classes: int = CLASSES, seed: int = 5) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.down1 = _conv(3, 8, 3, act=nn.LeakyReLU(0.1))
        self.down2 = _conv(8, 16, 3, act=nn.LeakyReLU(0.1))
        self.middle = _conv(16, 16, 3, dilation=2, act=nn.LeakyReLU(0.1))
        self.gate = nn.Conv2d(16, 16, 1)
        self.up = _conv(32, 16, 3, act=nn.LeakyReLU(0.1))
        self.heads = nn.Conv2d(16, classes + 3, 1)
        self.classes = classes
        _liven(self)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = F.max_pool2d(self.down1(image / 255), 2)  # stride 2
        y = self.middle(F.max_pool2d(self.down2(x), 2))  # stride 4
        y = y * torch.sigmoid(self.gate(y))
        skip = self.down2(x)
        y = self.up(torch.cat([skip, F.interpolate(y, scale_factor=2.0)], dim=1))
        heads = self.heads(y)
        semantic, center, offset = heads.split([self.classes, 1, 2], dim=1)
        return {"semantic": semantic, "center": center, "offset": 10 * offset}


def _conv(
    inputs: int,
    outputs: int,
    size: int,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    act: nn.Module | None = None,
) -> nn.Sequential:
    """Convolution, batch norm, activation, padded alike on all sides."""
    padding = dilation * (size // 2)
    conv = nn.Conv2d(inputs, outputs, size, stride, padding, dilation, groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), act or nn.Identity())


def _liven(network: nn.Module) -> None:
    """Batch norms with statistics, as after training, and signals that do not die out."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.weight, 1, 2)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.2, 0.6)


def toy_photos(count: int, size_wh: tuple[int, int] = (48, 40)) -> dict[str, Photo]:
    """Photos with a gradient, a bright box and some noise, each different, by name."""
    w, h = size_wh
    photos: dict[str, Photo] = {}
    for index in range(count):
        rng = np.random.default_rng(index)
        ramp = np.linspace(0, 200, w)[None, :, None] * rng.uniform(0.3, 1, 3)
        image = np.broadcast_to(ramp, (h, w, 3)).copy()
        top, left = rng.integers(0, h // 2), rng.integers(0, w // 2)
        image[top : top + h // 3, left : left + w // 3] = rng.uniform(0, 255, 3)
        image += rng.normal(0, 8, image.shape)
        photos[f"toy{index}"] = Photo.from_array(np.clip(image, 0, 255).astype(np.uint8))
    return photos
