"""A query network: the same pyramid, then a transformer whose queries find the segments.

In the manner of EoMT (Kerssies et al., https://arxiv.org/abs/2503.19108): query tokens go through
plain transformer blocks together with the image's tokens, here those of a convolutional pyramid at
stride 16. Each query then tells a class and, as a product with the pixels' features, a mask. Of the
contract ``mask-queries``; nothing in it is masked, sampled or sorted.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panokit.errors import ArgumentError
from panokit_network.model import MAX_BLOCKS, MAX_WIDTH, NetworkConfig, PanopticNetwork

__all__ = ["QueryConfig", "QueryNetwork", "camera_queries"]


@dataclass(frozen=True)
class QueryConfig:
    """Sizes: ``queries`` of them (the first ones are the stuff classes', one each), ``width`` of a
    token in ``attention_heads`` parts, ``blocks``, ``hidden`` numbers inside a block's perceptron,
    ``mask_width`` channels of the pixels' features, and the ``side`` of the grid of tokens that the
    position embedding is trained at."""

    queries: int = 50
    width: int = 192
    attention_heads: int = 3
    blocks: int = 4
    hidden: int = 384
    mask_width: int = 96
    side: int = 20

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            value, most = getattr(self, name), MAX_BLOCKS if name == "blocks" else MAX_WIDTH
            if not 1 <= value <= most:
                raise ArgumentError(name, f"{name} is {value!r}; expected 1 to {most}")
        if self.width % self.attention_heads:
            expected = f"a number that divides width ({self.width})"
            given = f"attention_heads is {self.attention_heads!r}"
            raise ArgumentError("attention_heads", f"{given}; expected {expected}")


class Block(nn.Module):
    """Attention over all tokens, then a perceptron; each normalised before and added after."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        parts = self.qkv(self.norm1(x)).reshape(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)  # each [N,heads,tokens,width/heads]
        mixed = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, tokens, width))
        out: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return out


class QueryNetwork(PanopticNetwork):
    """Image float32 ``[N,3,H,W]``, RGB, 0..255, H and W multiples of 32 → classes and masks.

    Returns a dict with ``classes`` ``[N,Q,C+1]`` logits, the last column "no object", and ``masks``
    ``[N,Q,H/4,W/4]`` logits; while training also ``earlier_classes`` and ``earlier_masks``, what
    the queries said one block before. ``inherited``: the parameters that it has in common with a
    :class:`PanopticNetwork`.
    """

    def __init__(
        self, network: NetworkConfig | None = None, queries: QueryConfig | None = None
    ) -> None:
        super().__init__(network)
        self.query_config = q = queries or QueryConfig()
        for name in ("semantic_head", "center_body", "center_head", "offset_body", "offset_head"):
            delattr(self, name)
        self.inherited = frozenset(name for name, _ in self.named_parameters())
        c, d = self.config, q.width
        self.token_input = nn.Conv2d(c.pyramid_width, d, 1)
        self.positions = nn.Parameter(0.02 * torch.randn(1, d, q.side, q.side))
        self.queries = nn.Parameter(0.02 * torch.randn(1, q.queries, d))
        self.blocks = nn.ModuleList(Block(d, q.attention_heads, q.hidden) for _ in range(q.blocks))
        self.norm = nn.LayerNorm(d)
        self.class_head = nn.Linear(d, c.classes + 1)
        self.mask_head = nn.Sequential(
            nn.Linear(d, d), nn.GELU(), nn.Linear(d, d), nn.GELU(), nn.Linear(d, q.mask_width)
        )
        self.token_pixels = nn.Conv2d(d, q.mask_width, 1)
        self.branch_pixels = nn.Conv2d(c.semantic_width + c.instance_width, q.mask_width, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x16, s, i = self.branches(image)
        tokens = self._tokens(x16)
        n, q, (rows, cols) = len(tokens), self.query_config.queries, x16.shape[2:]
        x = torch.cat([self.queries.expand(n, -1, -1), tokens], 1)
        earlier = x
        for block in self.blocks:
            earlier, x = x, block(x)
        grid = x[:, q:].transpose(1, 2).reshape(n, -1, rows, cols)
        context = F.interpolate(self.token_pixels(grid), scale_factor=4.0, mode="bilinear")
        pixels = self.branch_pixels(torch.cat([s, i], 1)) + context  # [N,mask_width,H/4,W/4]
        classes, masks = self._answer(x[:, :q], pixels)
        if not self.training:
            return {"classes": classes, "masks": masks}
        before, masks_before = self._answer(earlier[:, :q], pixels)
        return {
            "classes": classes,
            "masks": masks,
            "earlier_classes": before,
            "earlier_masks": masks_before,
        }

    def _tokens(self, x16: Tensor) -> Tensor:
        """The image's tokens ``[N,H/16·W/16,d]``, each with its place."""
        places: Tensor = self.positions
        if places.shape[2:] != x16.shape[2:]:
            places = F.interpolate(places, x16.shape[2:], mode="bicubic", align_corners=False)
        tokens: Tensor = self.token_input(x16) + places
        return tokens.flatten(2).transpose(1, 2)

    def _answer(self, queries: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        n, m, h, w = pixels.shape
        queries = self.norm(queries)
        masks = self.mask_head(queries) @ pixels.reshape(n, m, h * w)  # [N,Q,H/4·W/4]
        return self.class_head(queries), masks.reshape(n, -1, h, w)


def camera_queries() -> QueryNetwork:
    """The query network of the camera taxonomy, untrained: for ``--module``."""
    return QueryNetwork().eval()
