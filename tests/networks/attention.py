"""Attention of all sorts, and what transformers are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks.parts import WIDTH, Apply, Kind, kind

__all__ = ["ATTENTION"]

ATTENTION: dict[str, Kind] = {}


class Tokens(nn.Module):
    """A layer over positions: ``[N,C,h,w]`` → ``[N,h·w,C]`` and back."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = torch.as_tensor(self.layer(x.flatten(2).transpose(1, 2)))
        return tokens.transpose(1, 2).reshape(n, c, h, w)


class SelfAttention(nn.Module):
    """torch's own multi-head attention."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.attention(x, x, x, need_weights=False)[0]) + x


@kind(ATTENTION)
def multi_head_attention() -> nn.Module:
    return Tokens(SelfAttention())


class Weighted(nn.Module):
    """torch's attention, asked for its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        found, weights = self.attention(x, x, x)
        return torch.as_tensor(found) + torch.as_tensor(weights).sum(-1, keepdim=True)


@kind(ATTENTION)
def multi_head_attention_weights() -> nn.Module:
    return Tokens(Weighted())


class Heads(nn.Module):
    """Attention written out, the number of positions computed from the shape."""

    def __init__(self, kind: str, heads: int = 2) -> None:
        super().__init__()
        self.kind, self.heads = kind, heads
        self.qkv = nn.Conv2d(WIDTH, 3 * WIDTH, 1)
        self.project = nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        parts = self.qkv(x).reshape(n, 3, self.heads, c // self.heads, h * w)
        q, k, v = (p.transpose(-2, -1) for p in parts.unbind(1))  # [N,heads,h·w,d]
        if self.kind == "sdpa":
            y = F.scaled_dot_product_attention(q, k, v)
        elif self.kind == "linear":
            q, k = F.elu(q) + 1, F.elu(k) + 1
            y = q @ (k.transpose(-2, -1) @ v) / (q @ k.sum(-2).unsqueeze(-1))
        elif self.kind == "channels":  # XCiT
            q, k = F.normalize(q, dim=-2), F.normalize(k, dim=-2)
            y = v @ (q.transpose(-2, -1) @ k).softmax(-1)
        elif self.kind == "einsum":
            scores = torch.einsum("bhid,bhjd->bhij", q, k) * q.shape[-1] ** -0.5
            y = torch.einsum("bhij,bhjd->bhid", scores.softmax(-1), v)
        else:
            y = ((q @ k.mT) / q.shape[-1] ** 0.5).softmax(-1) @ v
        return x + torch.as_tensor(self.project(y.transpose(-2, -1).reshape(n, c, h, w)))


@kind(ATTENTION)
def attention_by_hand() -> nn.Module:
    return Heads("hand")


@kind(ATTENTION)
def scaled_dot_product() -> nn.Module:
    return Heads("sdpa")


@kind(ATTENTION)
def linear_attention() -> nn.Module:
    return Heads("linear")


@kind(ATTENTION)
def channel_attention_xcit() -> nn.Module:
    return Heads("channels")


@kind(ATTENTION)
def attention_by_einsum() -> nn.Module:
    return Heads("einsum")


class Viewed(nn.Module):
    """As detectors have it: one view of the convolution, cut by ``chunk``."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(WIDTH, 3 * WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.size()
        q, k, v = self.qkv(x).view(b, 2, c // 2 * 3, h * w).chunk(3, dim=2)
        weights = (q.transpose(-2, -1) @ k * (c // 2) ** -0.5).softmax(dim=-1)
        return x + (v @ weights.transpose(-2, -1)).view(b, c, h, w)


@kind(ATTENTION)
def attention_by_views() -> nn.Module:
    return Viewed()


class Window(nn.Module):
    """Swin: windows of 4, shifted ones with a mask, a bias by relative position."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH)
        self.table = nn.Parameter(torch.randn(49, 2) / 4)
        at = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")).flatten(1)
        relative = (at[:, :, None] - at[:, None, :]).permute(1, 2, 0) + 3
        self.register_buffer("index", relative[..., 0] * 7 + relative[..., 1])
        region = torch.zeros(16, 16)
        cuts = (slice(0, -4), slice(-4, -2), slice(-2, None))
        for number, (r, c) in enumerate((r, c) for r in cuts for c in cuts):
            region[r, c] = number
        windows = region.view(4, 4, 4, 4).permute(0, 2, 1, 3).reshape(16, 16)
        apart = windows[:, None, :] != windows[:, :, None]
        self.register_buffer("mask", torch.zeros(16, 16, 16).masked_fill(apart, -100.0))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = self.norm(x.permute(0, 2, 3, 1))
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), dims=(1, 2))
        y = y.view(n, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        q, k, v = self.qkv(y).reshape(-1, 16, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        scores = q * (c // 2) ** -0.5 @ k.transpose(-2, -1)
        bias = self.table[self.get_buffer("index").view(-1)].view(16, 16, 2)
        scores = scores + bias.permute(2, 0, 1).unsqueeze(0)
        if self.shift:
            mask = self.get_buffer("mask").unsqueeze(1).unsqueeze(0)
            scores = scores.view(n, 16, 2, 16, 16) + mask
            scores = scores.view(-1, 2, 16, 16)
        y = self.project((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, 16, c))
        y = y.view(n, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), dims=(1, 2))
        return x + y.permute(0, 3, 1, 2)


@kind(ATTENTION)
def window_attention() -> nn.Module:
    return Window(0)


@kind(ATTENTION)
def shifted_window_attention() -> nn.Module:
    return Window(2)


class Axial(nn.Module):
    """Rows first, then columns."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.columns = SelfAttention(), SelfAttention()

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = self.rows(x.permute(0, 2, 3, 1).reshape(n * h, w, c)).view(n, h, w, c)
        y = y.permute(0, 2, 1, 3).reshape(n * w, h, c)
        return torch.as_tensor(self.columns(y)).view(n, w, h, c).permute(0, 3, 2, 1)


@kind(ATTENTION)
def axial_attention() -> nn.Module:
    return Axial()


class Queries(nn.Module):
    """Learned queries look at the map, and the map at them (Mask2Former, Perceiver)."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Embedding(6, WIDTH)
        self.look = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        queries = self.queries.weight.unsqueeze(0).repeat(x.shape[0], 1, 1)
        found = self.norm(queries + self.look(queries, tokens, tokens)[0])
        return torch.einsum("bqc,bchw->bqhw", found, x)


@kind(ATTENTION)
def cross_attention_of_queries() -> nn.Module:
    return Queries()


class Reduced(nn.Module):
    """PVT and SegFormer: keys and values of a smaller map."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(WIDTH, WIDTH, 4, stride=4)
        self.norm = nn.LayerNorm(WIDTH)
        self.q, self.kv = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q = self.q(x.flatten(2).transpose(1, 2)).reshape(b, h * w, 2, c // 2).transpose(1, 2)
        small = self.norm(self.reduce(x).reshape(b, c, -1).permute(0, 2, 1))
        k, v = self.kv(small).reshape(b, -1, 2, 2, c // 2).permute(2, 0, 3, 1, 4)
        y = ((q @ k.transpose(-2, -1)) * (c // 2) ** -0.5).softmax(-1) @ v
        return x + y.transpose(1, 2).reshape(b, h, w, c).permute(0, 3, 1, 2)


@kind(ATTENTION)
def reduced_attention() -> nn.Module:
    return Reduced()


class NonLocal(nn.Module):
    """Non-local block (Wang et al.), by batched matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.theta, self.phi = nn.Conv2d(WIDTH, 4, 1), nn.Conv2d(WIDTH, 4, 1)
        self.g, self.out = nn.Conv2d(WIDTH, 4, 1), nn.Conv2d(4, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        b = x.size(0)
        theta = self.theta(x).view(b, 4, -1).permute(0, 2, 1)
        scores = F.softmax(torch.bmm(theta, self.phi(x).view(b, 4, -1)), dim=-1)
        y = torch.bmm(scores, self.g(x).view(b, 4, -1).permute(0, 2, 1)).permute(0, 2, 1)
        return x + torch.as_tensor(self.out(y.contiguous().view(b, 4, *x.size()[2:])))


@kind(ATTENTION)
def non_local_block() -> nn.Module:
    return NonLocal()


class External(nn.Module):
    """External attention: two linear memories, normed twice."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.values = nn.Conv1d(WIDTH, 12, 1, bias=False), nn.Conv1d(12, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        weights = self.keys(x.view(b, c, h * w)).softmax(-1)
        weights = weights / (1e-9 + weights.sum(1, keepdim=True))
        return torch.as_tensor(self.values(weights)).view(b, c, h, w)


@kind(ATTENTION)
def external_attention() -> nn.Module:
    return External()


class Masked(nn.Module):
    """A causal mask, filled in with minus infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        later = torch.triu(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool), diagonal=1)
        scores = (q @ k.transpose(1, 2)).masked_fill(later, float("-inf"))
        return torch.as_tensor(scores.softmax(-1) @ v)


@kind(ATTENTION)
def masked_attention() -> nn.Module:
    return Tokens(Masked())


class Rotary(nn.Module):
    """Rotary position embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        angles = torch.arange(256)[:, None] * 100.0 ** (-torch.arange(0, WIDTH, 2) / WIDTH)
        self.register_buffer("cos", angles.cos().repeat_interleave(2, -1), persistent=False)
        self.register_buffer("sin", angles.sin().repeat_interleave(2, -1), persistent=False)

    def turn(self, x: Tensor) -> Tensor:
        turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
        return x * self.get_buffer("cos") + turned * self.get_buffer("sin")

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return F.scaled_dot_product_attention(self.turn(q), self.turn(k), v)


@kind(ATTENTION)
def rotary_attention() -> nn.Module:
    return Tokens(Rotary())


class ViT(nn.Module):
    """Patches, a class token, learned positions, one block."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(WIDTH, 16, 2, stride=2)
        self.token = nn.Parameter(torch.randn(1, 1, 16) / 4)
        self.positions = nn.Parameter(torch.randn(1, 65, 16) / 4)
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1) + self.positions
        y = self.norm1(tokens)
        tokens = tokens + self.attention(y, y, y, need_weights=False)[0]
        tokens = tokens + self.mlp(self.norm2(tokens))
        y = tokens[:, 1:].transpose(1, 2).reshape(x.shape[0], 16, 8, 8)
        return F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)


@kind(ATTENTION)
def vision_transformer_block() -> nn.Module:
    return ViT()


@kind(ATTENTION)
def encoder_layer() -> nn.Module:
    return Tokens(nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True))


@kind(ATTENTION)
def encoder_of_layers() -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True, norm_first=True)
    return Tokens(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


class Decoder(nn.Module):
    """torch's decoder layer; the batch comes second."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(WIDTH, 2, 16)
        self.queries = nn.Parameter(torch.randn(5, 1, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).permute(2, 0, 1)
        found = self.layer(self.queries.expand(-1, x.shape[0], -1), tokens)
        return torch.matmul(found.transpose(0, 1), x.flatten(2)).view(x.shape[0], 5, 16, 16)


@kind(ATTENTION)
def decoder_layer() -> nn.Module:
    return Decoder()


class Mixer(nn.Module):
    """MLP-Mixer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.tokens = nn.Sequential(nn.Linear(256, 32), nn.GELU(), nn.Linear(32, 256))
        self.channels = nn.Sequential(nn.Linear(WIDTH, 16), nn.GELU(), nn.Linear(16, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + torch.as_tensor(self.channels(self.norm2(x)))


@kind(ATTENTION)
def mlp_mixer() -> nn.Module:
    return Tokens(Mixer())


class SpatialGate(nn.Module):
    """gMLP."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 16), nn.Linear(8, WIDTH)
        self.norm, self.mix = nn.LayerNorm(8), nn.Conv1d(256, 256, 1)

    def forward(self, x: Tensor) -> Tensor:
        u, v = F.gelu(self.up(x)).chunk(2, -1)
        return x + torch.as_tensor(self.down(u * self.mix(self.norm(v))))


@kind(ATTENTION)
def gated_mlp() -> nn.Module:
    return Tokens(SpatialGate())


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(WIDTH, WIDTH, 7, padding=3, groups=WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.up, self.down = nn.Linear(WIDTH, 32), nn.Linear(32, WIDTH)
        self.scale = nn.Parameter(torch.rand(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(F.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


@kind(ATTENTION)
def convnext_block() -> nn.Module:
    return ConvNeXt()


@kind(ATTENTION)
def pooling_instead_of_attention() -> nn.Module:
    """PoolFormer."""
    return Apply(lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) - x)


class Grid(nn.Module):
    """MaxViT: attention over a grid of far positions."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = SelfAttention()

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.reshape(n, c, 4, h // 4, 4, w // 4).permute(0, 3, 5, 2, 4, 1).reshape(-1, 16, c)
        y = self.attention(y).view(n, h // 4, w // 4, 4, 4, c)
        return torch.as_tensor(y).permute(0, 5, 3, 1, 4, 2).reshape(n, c, h, w)


@kind(ATTENTION)
def grid_attention() -> nn.Module:
    return Grid()


class Positions(nn.Module):
    """Learned positions resized to the map, sines computed on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.learned = nn.Parameter(torch.randn(1, WIDTH, 7, 7))

    def forward(self, x: Tensor) -> Tensor:
        _, c, h, w = x.shape
        learned = F.interpolate(self.learned, size=(h, w), mode="bilinear", align_corners=False)
        rows = torch.arange(h, dtype=torch.float32, device=x.device)[:, None]
        steps = 10.0 ** (torch.arange(0, c, 2, dtype=torch.float32) / c)
        sines = torch.stack([(rows / steps).sin(), (rows / steps).cos()], 2).flatten(1)
        return x + learned + sines.t().reshape(1, c, h, 1)


@kind(ATTENTION)
def position_embeddings() -> nn.Module:
    return Positions()


class Talking(nn.Module):
    """Talking heads, and a cosine similarity with a learned temperature (Swin v2)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.talk = nn.Linear(2, 2)
        self.logit = nn.Parameter(torch.full((2, 1, 1), 1.5))

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        scores = scores * self.logit.clamp(max=4.6).exp()
        scores = self.talk(scores.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c)


@kind(ATTENTION)
def talking_heads() -> nn.Module:
    return Tokens(Talking())
