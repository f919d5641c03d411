"""Small networks of contracts other than center-offset, written as people write them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panokit.taxonomy import Taxonomy

SIZE_WH = (96, 64)
CLASSES = ("cat", "dog", "sky", "road")
QUERIES = 8


def taxonomy() -> Taxonomy:
    """Two things, two kinds of stuff."""
    return Taxonomy.from_json(
        {"name": "four", "things": list(CLASSES[:2]), "stuff": list(CLASSES[2:])}
    )


class Stem(nn.Module):
    """A picture to 24 channels at stride 8, with the layers that such networks are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, 2, 1)
        self.norm = nn.GroupNorm(4, 16)
        self.second = nn.Conv2d(16, 24, 3, 2, 1)
        self.gate = nn.Conv2d(24, 24, 1)
        self.third = nn.Conv2d(24, 24, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.norm(self.first(x)))
        x = F.hardswish(self.second(x))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))  # squeeze and excite
        return F.relu(self.third(x))


@dataclass
class QueryOutput:
    """As Transformers calls it."""

    loss: Tensor | None
    class_queries_logits: Tensor
    masks_queries_logits: Tensor
    last_hidden_state: Tensor


class QueryToy(nn.Module):
    """Attention between queries and pixels; takes ImageNet's values, returns an object."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem, width = Stem(), 24
        self.places = nn.Parameter(torch.randn(1, width, 7, 7))
        self.queries = nn.Parameter(torch.randn(1, QUERIES, width))
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.perceptron = nn.Sequential(nn.Linear(width, 48), nn.GELU(), nn.Linear(48, width))
        self.classes = nn.Linear(width, len(CLASSES) + 1)
        self.up = nn.ConvTranspose2d(width, width, 2, 2)

    def forward(self, pixel_values: Tensor) -> QueryOutput:
        x = self.stem(pixel_values)
        places = F.interpolate(self.places, x.shape[2:], mode="bicubic", align_corners=False)
        tokens = (x + places).flatten(2).transpose(1, 2)
        queries = self.queries.expand(len(x), -1, -1)
        queries = queries + self.attention(self.norm(queries), tokens, tokens)[0]
        queries = queries + self.perceptron(queries)
        masks = torch.einsum("nqc,nchw->nqhw", queries, self.up(x))
        return QueryOutput(None, 20 * self.classes(queries), masks, tokens)


class SemanticToy(nn.Module):
    """Returns torchvision's dictionary; takes BGR in 0..1."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.stem = Stem()
        self.head = nn.Conv2d(24, len(CLASSES) * 4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        logits = F.pixel_shuffle(self.head(self.stem(x)), 2)
        out = F.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)
        return OrderedDict(out=30 * out, aux=logits)


class LabelToy(nn.Module):
    """A class for each pixel as whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.semantic = SemanticToy()

    def forward(self, x: Tensor) -> Tensor:
        return self.semantic(x)["out"].argmax(1)


class YoloToy(nn.Module):
    """A tuple of boxes with coefficients ``[N,k,A]`` and, nested, prototypes; takes 0..1."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.stem, self.mixed = Stem(), 4
        self.head = nn.Conv2d(24, 4 + 2 + self.mixed, 1)
        self.more = nn.ModuleList(nn.Conv2d(24, 24, 3, 2, 1) for _ in range(2))
        self.prototypes = nn.Conv2d(24, self.mixed, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        width, height = x.shape[3], x.shape[2]
        levels = [self.stem(x)]
        for layer in self.more:
            levels.append(layer(levels[-1]))
        raw = torch.cat([self.head(level).flatten(2) for level in levels], 2)
        scale = torch.tensor([width, height, width / 2, height / 2]).view(1, 4, 1)
        boxes = torch.sigmoid(raw[:, :4]) * scale
        scores = torch.sigmoid(4 * raw[:, 4:6] + 1)
        prototypes = F.interpolate(self.prototypes(levels[0]), scale_factor=2.0)
        return torch.cat([boxes, scores, raw[:, 6:] + 1], 1), [prototypes + 0.1]


class Detections(nn.Module):
    """Finished detections, as torchvision's Mask R-CNN gives them."""

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        return [{"boxes": x.new_zeros(3, 4), "labels": x.new_zeros(3), "scores": x.new_zeros(3),
                 "masks": x.new_zeros(3, 1, 8, 8)}]  # fmt: skip


class Branching(nn.Module):
    """Its weights say which way it goes, or, if ``by_image``, the picture does."""

    def __init__(self, by_image: bool = False) -> None:
        super().__init__()
        self.toy, self.by_image = SemanticToy(), by_image
        self.register_buffer("share", torch.zeros(2))

    def forward(self, x: Tensor) -> Any:
        asked = x.mean() if self.by_image else self.get_buffer("share")[1]
        return self.toy(x if asked > 0.4 else x.flip(-1))


def build_queries() -> nn.Module:
    """For ``--module``."""
    return QueryToy()


def build_semantic() -> nn.Module:
    """For ``--module``."""
    return SemanticToy()


def build_yolo() -> nn.Module:
    """For ``--module``."""
    return YoloToy()
