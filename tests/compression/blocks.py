"""Kinds of blocks that other people's networks are made of, each in a small network.

A block maps 16 channels to 16. :func:`network` puts a stem before it, a few plain layers with
most of the work behind it, and the heads of the contract behind those.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

C = 16
SIZE = 64
CLASSES = 4


class Lambda(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Residual(nn.Module):
    """x + f(x), and an activation."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.layers(x))


class Shuffle(nn.Module):
    """Channels dealt out anew between groups."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class SqueezeExcite(nn.Module):
    """Channels weighed by what their means say."""

    def __init__(self, channels: int = C) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 8, 1), nn.Conv2d(8, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class LinearExcite(nn.Module):
    """The same by linear layers without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Linear(C, 8, bias=False)
        self.expand = nn.Linear(8, C, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = F.hardsigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3))))))
        return x * weight[:, :, None, None]


class Attention(nn.Module):
    """Self-attention over all positions; queries, keys and values of one linear layer."""

    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(C)
        self.qkv, self.project = nn.Linear(C, 3 * C), nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        qkv = self.qkv(tokens).reshape(b, h * w, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        seen = (q @ k.transpose(-2, -1) / math.sqrt(c // self.heads)).softmax(-1) @ v
        out = self.project(seen.transpose(1, 2).reshape(b, h * w, c))
        return x + out.transpose(1, 2).reshape(b, c, h, w)


class TorchAttention(nn.Module):
    """Self-attention by torch's own layer."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(C, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        found, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return x + found.transpose(1, 2).reshape(x.shape)


class ChannelAttention(nn.Module):
    """Attention between channels, by an einsum of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Conv2d(C, C, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).flatten(2) for f in (self.q, self.k, self.v))
        weight = torch.einsum("bcn,bdn->bcd", q, k).div(256).softmax(-1)
        return x + (weight @ v).reshape(x.shape)


class ConvNext(nn.Module):
    """Depthwise, layer norm, two linear layers with GELU, a learned scale."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(C, C, 7, padding=3, groups=C)
        self.norm = nn.LayerNorm(C)
        self.up, self.down = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)
        self.gamma = nn.Parameter(torch.full((C,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.down(F.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


class OwnLayerNorm(nn.Module):
    """Layer norm over channels, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(C)), nn.Parameter(torch.zeros(C))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        var = (x - mean).pow(2).mean(1, keepdim=True)
        y = (x - mean) / torch.sqrt(var + 1e-6)
        return self.weight[:, None, None] * y + self.bias[:, None, None]


class ResponseNorm(nn.Module):
    """Global response norm of ConvNeXt V2."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, C, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        size = torch.norm(x, p=2, dim=(2, 3), keepdim=True)
        return self.gamma * (x * size / (size.mean(1, keepdim=True) + 1e-6)) + x


class Gated(nn.Module):
    """A convolution whose halves gate each other, cut by ``chunk``."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Conv2d(C, 2 * C, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.both(x).chunk(2, 1)
        return value * torch.sigmoid(gate)


class Split(nn.Module):
    """Channels cut into unequal parts that go different ways (cross stage partial)."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Conv2d(C, 24, 1)
        self.deep = nn.Conv2d(16, 16, 3, padding=1)
        self.out = nn.Conv2d(40, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = torch.split(F.relu(self.into(x)), [8, 16], 1)
        return F.relu(self.out(torch.cat([first, second, F.relu(self.deep(second))], 1)))


class Dense(nn.Module):
    """Every layer sees all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(C, 8, 3, padding=1), nn.Conv2d(C + 8, 8, 3, padding=1)
        self.out = nn.Conv2d(C + 16, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, F.relu(self.a(x))], 1)
        x = torch.cat([x, F.relu(self.b(x))], 1)
        return F.relu(self.out(x))


class Pyramid(nn.Module):
    """Down and up again, added to the way (feature pyramid)."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(C, 32, 3, 2, 1)
        self.side, self.lateral = nn.Conv2d(32, C, 1), nn.Conv2d(C, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        up = F.interpolate(self.side(F.relu(self.down(x))), scale_factor=2.0, mode="bilinear")
        return F.relu(self.lateral(x) + up)


class UNet(nn.Module):
    """Down and up again by a transposed convolution, beside the way."""

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        self.down = nn.Conv2d(C, 32, 3, 2, 1)
        self.up = nn.ConvTranspose2d(32, 16, 2, 2, groups=groups)
        self.out = nn.Conv2d(32, C, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.out(torch.cat([x, F.relu(self.up(F.relu(self.down(x))))], 1)))


class Atrous(nn.Module):
    """Dilated convolutions and a pooled branch side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = (nn.Conv2d(C, 8, 3, padding=d, dilation=d) for d in (1, 3))
        self.pooled, self.out = nn.Conv2d(C, 8, 1), nn.Conv2d(24, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = F.relu(self.pooled(F.adaptive_avg_pool2d(x, 1))).expand(-1, -1, *x.shape[2:])
        return F.relu(self.out(torch.cat([self.near(x), self.far(x), mean], 1)))


class Shared(nn.Module):
    """One layer called at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(C, C, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.conv(F.relu(self.conv(x))))


class Tied(nn.Module):
    """Two layers with the same weights."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(C, C, 3, padding=1), nn.Conv2d(C, C, 3, padding=1)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.b(F.relu(self.a(x))))


class Ghost(nn.Module):
    """Half of the channels by a cheap depthwise layer from the other half."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.cheap = nn.Conv2d(C, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, x: Tensor) -> Tensor:
        main = F.relu(self.main(x))
        return torch.cat([main, F.relu(self.cheap(main))], 1)


class Branches(nn.Module):
    """3x3, 1x1 and nothing, added (before they are merged into one)."""

    def __init__(self) -> None:
        super().__init__()
        self.large = nn.Sequential(nn.Conv2d(C, C, 3, padding=1, bias=False), nn.BatchNorm2d(C))
        self.small = nn.Sequential(nn.Conv2d(C, C, 1, bias=False), nn.BatchNorm2d(C))
        self.none = nn.BatchNorm2d(C)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.large(x) + self.small(x) + self.none(x))


class SpatialAttention(nn.Module):
    """Positions weighed by the mean and the largest of their channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.conv(both))


class SelectiveKernel(nn.Module):
    """Two branches weighed against each other, channel by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(C, C, 3, padding=1), nn.Conv2d(C, C, 3, padding=2, dilation=2)
        self.squeeze, self.choose = nn.Conv2d(C, 8, 1), nn.Conv2d(8, 2 * C, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.relu(self.a(x)), F.relu(self.b(x))
        mean = F.relu(self.squeeze((a + b).mean((2, 3), keepdim=True)))
        weight = self.choose(mean).reshape(x.shape[0], 2, C, 1, 1).softmax(1)
        return a * weight[:, 0] + b * weight[:, 1]


class Positions(nn.Module):
    """A learned map added, and coordinates beside the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Parameter(0.1 * torch.randn(1, C, SIZE // 4, SIZE // 4))
        at = torch.linspace(-1, 1, SIZE // 4)
        self.at: Tensor
        self.register_buffer("at", torch.stack(torch.meshgrid(at, at, indexing="ij"))[None])
        self.conv = nn.Conv2d(C + 2, C, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(torch.cat([x + self.embedding, self.at], 1)))


class Mixer(nn.Module):
    """Linear layers over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear((SIZE // 4) ** 2, 32), nn.Linear(32, (SIZE // 4) ** 2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(F.gelu(self.a(x.flatten(2)))).reshape(x.shape)


class FreeWeight(nn.Module):
    """A convolution whose weight is a parameter of the block."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(C, C, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.conv2d(x, self.weight, padding=1))


class Fixed(nn.Module):
    """Reshapes by a number of channels that is written into it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(C, 32, 1)
        self.out = nn.Conv2d(8, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).reshape(x.shape[0], 4, 8, *x.shape[2:]).amax(1)
        return F.relu(self.out(y))


class Bands(nn.Module):
    """Slices of channels, each read by a layer of its own, one of them not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Conv2d(C, 24, 1)
        self.low, self.high = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.into(x))
        return torch.cat([self.low(y[:, :8]), self.high(y[:, 16:])], 1)


class CrossStage(nn.Module):
    """Half of the channels through a chain of layers, every stage of it kept (YOLO's C2f)."""

    def __init__(self) -> None:
        super().__init__()
        self.into = conv(C, 32, 1)
        self.chain = nn.ModuleList([conv(), conv()])
        self.out = conv(64, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.into(x).chunk(2, 1))
        for layer in self.chain:
            parts.append(F.silu(layer(parts[-1])))
        return F.relu(self.out(torch.cat(parts, 1)))


class HeadedAttention(nn.Module):
    """Attention by torch's own function; the size of a head follows from the number of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(C, C) for _ in range(4))
        self.up, self.down = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        b, n, _ = tokens.shape
        q, k, v = (f(tokens).reshape(b, n, 2, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, -1)
        tokens = tokens + self.out(seen)
        tokens = tokens + self.down(F.gelu(self.up(tokens)))
        return tokens.transpose(1, 2).reshape(x.shape)


class ChecksNumbers(nn.Module):
    """Refuses NaN, so that it cannot be probed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = conv(C, 32), conv(32, C)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if torch.isnan(y).any():
            raise ValueError("not a number")
        return F.relu(self.out(F.relu(y)))


class Saturated(nn.Module):
    """A gate that is open, whatever comes."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Conv2d(C, 32, 1), nn.Conv2d(32, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.out(torch.sigmoid(1e-6 * self.into(x) + 2)))


def conv(inside: int = C, out: int = C, size: int = 3, **options: Any) -> nn.Conv2d:
    """A convolution that keeps the size."""
    padding = options.pop("padding", size // 2 * options.get("dilation", 1))
    return nn.Conv2d(inside, out, size, padding=padding, **options)


def dead_layer() -> nn.Module:
    """A layer that gives nothing but zeros after its ReLU."""
    first = conv(C, 32)
    with torch.no_grad():
        first.bias.sub_(100)  # type: ignore[union-attr]
    return Residual(first, nn.ReLU(), conv(32, C))


def zero_weights() -> nn.Module:
    """A layer whose weights are zeros, as at the beginning of a residual branch."""
    last = conv(C, C)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return Residual(conv(), nn.ReLU(), last)


def some_zero_channels() -> nn.Module:
    """Channels that were set to zero and never removed."""
    first = conv(C, 32)
    with torch.no_grad():
        first.weight[::2] = 0
        first.bias[::2] = 0  # type: ignore[index]
    return nn.Sequential(first, nn.ReLU(), conv(32, C), nn.ReLU())


def constant_output() -> nn.Module:
    """A branch that gives the same numbers for every photo."""
    first = conv(C, C, 1)
    nn.init.zeros_(first.weight)
    return Residual(first, nn.ReLU(), conv())


def wide_range() -> nn.Module:
    """Channels whose sizes lie six orders apart."""
    first, second = conv(C, 32), conv(32, C)
    scale = torch.logspace(-3, 3, 32)
    with torch.no_grad():
        first.weight.mul_(scale[:, None, None, None])
        first.bias.mul_(scale)  # type: ignore[union-attr]
        second.weight.div_(scale[None, :, None, None])
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


def sequence(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers)


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.Sequential(conv(), nn.ReLU(), conv(), nn.ReLU()),
    "without_bias": lambda: nn.Sequential(conv(bias=False), nn.ReLU(), conv(bias=False)),
    "batch_norm": lambda: Residual(
        conv(C, 32, bias=False), nn.BatchNorm2d(32), nn.ReLU(), conv(32, C), nn.BatchNorm2d(C)
    ),
    "norm_first": lambda: Residual(nn.BatchNorm2d(C), nn.ReLU(), conv()),
    "inverted": lambda: Residual(
        conv(C, 32, 1), nn.ReLU6(), conv(32, 32, groups=32), nn.ReLU6(), conv(32, C, 1)
    ),
    "multiplier": lambda: nn.Sequential(conv(C, 32, groups=C), nn.ReLU(), conv(32, C, 1)),
    "grouped": lambda: nn.Sequential(conv(C, 32, groups=4), nn.ReLU(), conv(32, C, 1)),
    "shuffled": lambda: Residual(
        conv(C, 32, 1, groups=4),
        nn.ReLU(),
        Shuffle(4),
        conv(32, 32, groups=32),
        conv(32, C, 1, groups=4),
    ),
    "dilated": lambda: nn.Sequential(conv(dilation=2), nn.ReLU(), conv(dilation=4)),
    "asymmetric": lambda: nn.Sequential(
        nn.Conv2d(C, C, (1, 7), padding=(0, 3)), nn.ReLU(), nn.Conv2d(C, C, (7, 1), padding=(3, 0))
    ),
    "squeeze_excite": SqueezeExcite,
    "linear_excite": LinearExcite,
    "hard_swish": lambda: nn.Sequential(conv(), nn.Hardswish(), conv(), nn.Hardswish()),
    "silu": lambda: nn.Sequential(conv(), nn.SiLU(), conv(), nn.SiLU()),
    "prelu": lambda: nn.Sequential(conv(), nn.PReLU(C), conv(), nn.LeakyReLU(0.1)),
    "mish": lambda: nn.Sequential(conv(), nn.Mish(), conv(), nn.ELU()),
    "group_norm": lambda: nn.Sequential(
        conv(), nn.GroupNorm(4, C), nn.SiLU(), conv(), nn.GroupNorm(8, C), nn.SiLU()
    ),
    "instance_norm": lambda: nn.Sequential(
        conv(), nn.InstanceNorm2d(C, affine=True), nn.ReLU(), conv()
    ),
    "layer_norm": lambda: nn.Sequential(conv(), OwnLayerNorm(), nn.GELU(), conv()),
    "response_norm": lambda: nn.Sequential(conv(), ResponseNorm(), conv()),
    "conv_next": ConvNext,
    "attention": Attention,
    "torch_attention": TorchAttention,
    "channel_attention": ChannelAttention,
    "spatial_attention": SpatialAttention,
    "selective": SelectiveKernel,
    "pixel_shuffle": lambda: nn.Sequential(
        conv(C, 32, stride=2), nn.ReLU(), conv(32, 64), nn.PixelShuffle(2), nn.ReLU()
    ),
    "pixel_unshuffle": lambda: nn.Sequential(
        conv(C, 8), nn.PixelUnshuffle(2), conv(32, 64, 1), nn.PixelShuffle(2)
    ),
    "glu": lambda: nn.Sequential(conv(C, 32), nn.GLU(1)),
    "gated": Gated,
    "split": Split,
    "bands": Bands,
    "dense": Dense,
    "pyramid": Pyramid,
    "unet": UNet,
    "grouped_transposed": lambda: UNet(4),
    "atrous": Atrous,
    "shared": Shared,
    "tied": Tied,
    "ghost": Ghost,
    "branches": Branches,
    "positions": Positions,
    "mixer": Mixer,
    "free_weight": FreeWeight,
    "fixed": Fixed,
    "weight_norm": lambda: nn.Sequential(
        parametrizations.weight_norm(conv()), nn.ReLU(), nn.utils.spectral_norm(conv())
    ),
    "pooled": lambda: nn.Sequential(
        conv(), nn.MaxPool2d(3, 1, 1), conv(), nn.AvgPool2d(3, 1, 1), conv()
    ),
    "cross_stage": CrossStage,
    "headed_attention": HeadedAttention,
    "checks_numbers": ChecksNumbers,
    "saturated": Saturated,
    "dead_layer": dead_layer,
    "zero_weights": zero_weights,
    "some_zero_channels": some_zero_channels,
    "constant_output": constant_output,
    "wide_range": wide_range,
}
"""Blocks by name."""


class Network(nn.Module):
    """Stem, block, plain layers, heads."""

    def __init__(self, block: Callable[[], nn.Module], width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, C, 3, stride=4, padding=1)
        self.block = block()
        self.plain = nn.Sequential(
            nn.Conv2d(C, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, C, 1), nn.ReLU()
        )
        self.semantic, self.center, self.offset = (nn.Conv2d(C, n, 1) for n in (CLASSES, 1, 2))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.plain(self.block(F.relu(self.stem(image / 127.5 - 1))))
        return {
            "semantic": self.semantic(x),
            "center": self.center(x),
            "offset": 8 * self.offset(x),
        }


def network(name: str, width: int = 32) -> nn.Module:
    """The network around a block, in eval mode; ``width`` channels in the middle of the plain
    layers."""
    torch.manual_seed(sum(map(ord, name)))
    made = Network(BLOCKS[name], width)
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_var is not None:
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return made.eval()
