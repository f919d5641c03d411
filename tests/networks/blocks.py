"""Blocks and decoders that people build networks of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks.parts import WIDTH, Kind, kind, norm_act

__all__ = ["BLOCKS"]

BLOCKS: dict[str, Kind] = {}


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int = WIDTH) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, 4), nn.ReLU(inplace=True), nn.Linear(4, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        n, c, _, _ = x.size()
        gate = self.fc(F.adaptive_avg_pool2d(x, 1).view(n, c)).view(n, c, 1, 1)
        return x * gate.expand_as(x)


@kind(BLOCKS)
def squeeze_excite() -> nn.Module:
    return SqueezeExcite()


class Eca(nn.Module):
    """Efficient channel attention."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = x.mean((2, 3), keepdim=True)
        y = self.conv(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * torch.sigmoid(y)


@kind(BLOCKS)
def efficient_channel_attention() -> nn.Module:
    return Eca()


class Cbam(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(WIDTH, 4, 1), nn.ReLU(), nn.Conv2d(4, WIDTH, 1))
        self.space = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        pools = self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1))
        x = x * torch.sigmoid(pools)
        maps = torch.cat([torch.mean(x, 1, keepdim=True), torch.max(x, 1, keepdim=True)[0]], 1)
        return x * torch.sigmoid(self.space(maps))


@kind(BLOCKS)
def channel_and_spatial_attention() -> nn.Module:
    return Cbam()


class Coordinate(nn.Module):
    """Coordinate attention: means of rows and of columns."""

    def __init__(self) -> None:
        super().__init__()
        self.join = norm_act(WIDTH, WIDTH, 1)
        self.rows, self.columns = nn.Conv2d(WIDTH, WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, _, h, w = x.shape
        rows = F.adaptive_avg_pool2d(x, (h, 1))
        columns = F.adaptive_avg_pool2d(x, (1, w)).permute(0, 1, 3, 2)
        y = self.join(torch.cat([rows, columns], 2))
        rows, columns = torch.split(y, [h, w], 2)
        return x * self.rows(rows).sigmoid() * self.columns(columns.permute(0, 1, 3, 2)).sigmoid()


@kind(BLOCKS)
def coordinate_attention() -> nn.Module:
    return Coordinate()


class GlobalContext(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mask = nn.Conv2d(WIDTH, 1, 1)
        self.add = nn.Sequential(
            nn.Conv2d(WIDTH, 4, 1), nn.LayerNorm([4, 1, 1]), nn.ReLU(), nn.Conv2d(4, WIDTH, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        weights = self.mask(x).view(n, 1, h * w).softmax(2).unsqueeze(-1)
        context = torch.matmul(x.view(n, c, h * w).unsqueeze(1), weights).view(n, c, 1, 1)
        return x + torch.as_tensor(self.add(context))


@kind(BLOCKS)
def global_context() -> nn.Module:
    return GlobalContext()


class SelectiveKernel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ways = nn.ModuleList([norm_act(WIDTH, 8, dilation=d) for d in (1, 2)])
        self.squeeze, self.choose = nn.Linear(8, 4), nn.Linear(4, 16)

    def forward(self, x: Tensor) -> Tensor:
        ways = torch.stack([way(x) for way in self.ways], 1)
        mean = ways.sum(1).mean((-2, -1))
        weights = self.choose(F.relu(self.squeeze(mean))).view(-1, 2, 8, 1, 1).softmax(1)
        return (ways * weights).sum(dim=1)


@kind(BLOCKS)
def selective_kernel() -> nn.Module:
    return SelectiveKernel()


class SplitAttention(nn.Module):
    """ResNeSt, two radices."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = norm_act(WIDTH, 16, groups=2)
        self.fc1, self.fc2 = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        parts = torch.split(x, x.shape[1] // 2, dim=1)
        gap = F.adaptive_avg_pool2d(parts[0] + parts[1], 1)
        weights = self.fc2(F.relu(self.fc1(gap))).view(x.shape[0], 1, 2, -1).transpose(1, 2)
        weights = F.softmax(weights, dim=1).reshape(x.shape[0], -1, 1, 1)
        first, second = weights.split(8, 1)
        return first * parts[0] + second * parts[1]


@kind(BLOCKS)
def split_attention() -> nn.Module:
    return SplitAttention()


class Residual(nn.Module):
    def __init__(self, body: nn.Module, act: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.act = body, act or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.act(x + self.body(x)))


@kind(BLOCKS)
def bottleneck() -> nn.Module:
    return Residual(
        nn.Sequential(
            norm_act(WIDTH, 4, 1), norm_act(4, 4), nn.Conv2d(4, WIDTH, 1), nn.BatchNorm2d(WIDTH)
        ),
        nn.ReLU(inplace=True),
    )


@kind(BLOCKS)
def inverted_residual() -> nn.Module:
    return Residual(
        nn.Sequential(
            norm_act(WIDTH, 24, 1),
            norm_act(24, 24, groups=24),
            SqueezeExcite(24),
            nn.Conv2d(24, WIDTH, 1),
            nn.BatchNorm2d(WIDTH),
        )
    )


@kind(BLOCKS)
def fused_inverted_residual() -> nn.Module:
    return Residual(nn.Sequential(norm_act(WIDTH, 24), nn.Conv2d(24, WIDTH, 1)))


class Ghost(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.cheap = norm_act(WIDTH, 6, 1), norm_act(6, 6, groups=6)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        return torch.cat([first, self.cheap(first)], dim=1)[:, :10]


@kind(BLOCKS)
def ghost_module() -> nn.Module:
    return Ghost()


class ShuffleUnit(nn.Module):
    """ShuffleNet v2."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(norm_act(4, 4, 1), norm_act(4, 4, groups=4), norm_act(4, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        y = torch.cat((a, self.branch(b)), dim=1)
        n, c, h, w = y.shape
        y = torch.transpose(y.view(n, 2, c // 2, h, w), 1, 2).contiguous()
        return y.view(n, -1, h, w)


@kind(BLOCKS)
def shuffle_unit() -> nn.Module:
    return ShuffleUnit()


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, 4, 3, padding=1, bias=False))
            for c in (WIDTH, WIDTH + 4, WIDTH + 8)
        )

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)))
        return torch.cat(found, 1)


@kind(BLOCKS)
def dense_block() -> nn.Module:
    return Dense()


class Res2Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(norm_act(2, 2) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(torch.split(x, 2, 1))
        out = [parts[0]]
        for conv, part in zip(self.convs, parts[1:], strict=True):
            out.append(conv(part + out[-1]))
        return torch.cat(out, 1)


@kind(BLOCKS)
def res2net_block() -> nn.Module:
    return Res2Net()


class Csp(nn.Module):
    """C2f of YOLO."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = norm_act(WIDTH, 8, 1), norm_act(16, 8, 1)
        self.blocks = nn.ModuleList(Residual(norm_act(4, 4)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.first(x).chunk(2, 1))
        y.extend(block(y[-1]) for block in self.blocks)
        return torch.as_tensor(self.last(torch.cat(y, 1)))


@kind(BLOCKS)
def cross_stage_partial() -> nn.Module:
    return Csp()


class Sppf(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool, self.out = nn.MaxPool2d(5, 1, 2), norm_act(4 * WIDTH, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = [x]
        for _ in range(3):
            y.append(self.pool(y[-1]))
        return torch.as_tensor(self.out(torch.cat(y, 1)))


@kind(BLOCKS)
def spatial_pyramid_of_pools() -> nn.Module:
    return Sppf()


class Aspp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ways = nn.ModuleList(
            [norm_act(WIDTH, 4, 1), *(norm_act(WIDTH, 4, dilation=d) for d in (2, 4, 6))]
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), norm_act(WIDTH, 4, 1))
        self.join = norm_act(20, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.interpolate(self.pool(x), size=x.shape[-2:], mode="bilinear")
        ways = [*(way(x) for way in self.ways), pooled]
        return torch.as_tensor(self.join(torch.cat(ways, dim=1)))


@kind(BLOCKS)
def atrous_pyramid() -> nn.Module:
    return Aspp()


class Ppm(nn.Module):
    """PSPNet: the bins do not divide the map."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), norm_act(WIDTH, 4, 1))
            for bins in (1, 2, 3, 6)
        )

    def forward(self, x: Tensor) -> Tensor:
        size = (x.size(2), x.size(3))
        up = [F.interpolate(s(x), size, mode="bilinear", align_corners=True) for s in self.stages]
        return torch.cat([x, *up], 1)


@kind(BLOCKS)
def pooled_pyramid() -> nn.Module:
    return Ppm()


class Encoder(nn.Module):
    """Three maps, each half the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = (norm_act(8, 8, stride=2) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.down1(x)
        return x, y, self.down2(y)


class Fpn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.lateral = nn.ModuleDict({f"p{i}": nn.Conv2d(8, 8, 1) for i in range(3)})

    def forward(self, x: Tensor) -> Tensor:
        maps = self.encoder(x)
        y = self.lateral["p2"](maps[2])
        for i in (1, 0):
            up = F.interpolate(y, size=maps[i].shape[-2:], mode="nearest")
            y = self.lateral[f"p{i}"](maps[i]) + up
        return torch.as_tensor(y)


@kind(BLOCKS)
def feature_pyramid() -> nn.Module:
    return Fpn()


class BiFpn(nn.Module):
    """Weighted sums whose weights are normalised on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.weights = nn.Parameter(torch.rand(4, 3))
        self.convs = nn.ModuleList(norm_act(8, 8) for _ in range(4))

    def join(self, step: int, *maps: Tensor) -> Tensor:
        weights = F.relu(self.weights[step, : len(maps)])
        weights = weights / (weights.sum() + 1e-4)
        total = torch.zeros_like(maps[0])
        for i, map in enumerate(maps):
            total = total + weights[i] * map
        return torch.as_tensor(self.convs[step](F.silu(total)))

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self.encoder(x)
        middle = self.join(0, b, F.interpolate(c, scale_factor=2))
        top = self.join(1, a, F.interpolate(middle, scale_factor=2))
        middle = self.join(2, b, middle, F.max_pool2d(top, 3, 2, 1))
        deep = self.join(3, c, F.max_pool2d(middle, 3, 2, 1))
        return top + F.interpolate(deep, scale_factor=4)


@kind(BLOCKS)
def weighted_feature_pyramid() -> nn.Module:
    return BiFpn()


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle = norm_act(WIDTH, 12), norm_act(12, 16)
        self.up, self.join = nn.ConvTranspose2d(16, 12, 2, 2), norm_act(24, 8)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        up = self.up(self.middle(F.max_pool2d(skip, 2)))
        missing = skip.size(2) - up.size(2)
        up = F.pad(up, [missing // 2, missing - missing // 2, missing // 2, missing - missing // 2])
        return torch.as_tensor(self.join(torch.cat([skip, up], 1)))


@kind(BLOCKS)
def unet() -> nn.Module:
    return UNet()


class AttentionGate(nn.Module):
    """Attention U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.skip, self.gate, self.psi = (nn.Conv2d(8, n, 1) for n in (6, 6, 1))
        self.psi = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b, _ = self.encoder(x)
        up = F.interpolate(self.gate(b), a.shape[2:], mode="bilinear", align_corners=False)
        return a * torch.sigmoid(self.psi(F.relu(self.skip(a) + up)))


@kind(BLOCKS)
def attention_gate() -> nn.Module:
    return AttentionGate()


class HrNet(nn.Module):
    """Two resolutions, fused both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12))
        self.up = nn.Sequential(
            nn.Conv2d(12, 8, 1, bias=False), nn.BatchNorm2d(8), nn.Upsample(scale_factor=2)
        )

    def forward(self, x: Tensor) -> Tensor:
        low = F.relu(self.down(x))
        return torch.cat([F.relu(x + self.up(low)), F.interpolate(low, scale_factor=2.0)], 1)


@kind(BLOCKS)
def high_resolution_fusion() -> nn.Module:
    return HrNet()


class RepVgg(nn.Module):
    """Three branches of one convolution, as in training."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.point = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.same = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.wide(x) + self.point(x) + self.same(x))


@kind(BLOCKS)
def branches_of_repvgg() -> nn.Module:
    return RepVgg()


class Gated(nn.Module):
    """Gated convolution and highway."""

    def __init__(self) -> None:
        super().__init__()
        self.feature, self.gate = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(x))
        return F.elu(self.feature(x)) * gate + x * (1 - gate)


@kind(BLOCKS)
def gated_convolution() -> nn.Module:
    return Gated()


class Carafe(nn.Module):
    """Upsampling by kernels that depend on the content."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.kernel = nn.AvgPool2d(2), nn.Conv2d(WIDTH, 9 * 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        n, c, h, w = x.shape
        kernel = F.pixel_shuffle(self.kernel(x), 2).softmax(1)  # [n,9,2h,2w]
        windows = F.unfold(x, 3, padding=1).view(n, c * 9, h, w)
        windows = F.interpolate(windows, scale_factor=2, mode="nearest").view(n, c, 9, 2 * h, 2 * w)
        return (windows * kernel.unsqueeze(1)).sum(2)


@kind(BLOCKS)
def content_aware_upsampling() -> nn.Module:
    return Carafe()


class Aligned(nn.Module):
    """SFNet: a flow that is predicted warps the deeper map."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = nn.Conv2d(2 * WIDTH, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        low = F.avg_pool2d(x, 2)
        up = F.interpolate(low, (h, w), mode="bilinear", align_corners=True)
        flow = self.flow(torch.cat([x, up], 1)).permute(0, 2, 3, 1)
        norm = torch.tensor([[[[w, h]]]]).type_as(x)
        rows = torch.linspace(-1.0, 1.0, h).view(-1, 1).repeat(1, w)
        columns = torch.linspace(-1.0, 1.0, w).repeat(h, 1)
        grid = torch.cat((columns.unsqueeze(2), rows.unsqueeze(2)), 2)
        grid = grid.repeat(n, 1, 1, 1).type_as(x) + flow / norm
        return x + F.grid_sample(low, grid, align_corners=True)


@kind(BLOCKS)
def flow_alignment() -> nn.Module:
    return Aligned()
