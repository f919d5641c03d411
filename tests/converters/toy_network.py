"""A network of the head contract that is converted in seconds, and photos to run it on."""

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
