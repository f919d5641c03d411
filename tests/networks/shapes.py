"""Resizes, paddings, slices, orders and sums: what layers are glued together with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks.parts import WIDTH, Apply, Kind, kind

__all__ = ["SHAPES"]

SHAPES: dict[str, Kind] = {}


def _up(**options: object) -> nn.Module:
    """Half the size, and up again."""

    def run(x: Tensor) -> Tensor:
        return F.interpolate(F.avg_pool2d(x, 2), **options)  # type: ignore[arg-type]

    return Apply(run)


@kind(SHAPES)
def nearest_by_factor() -> nn.Module:
    return _up(scale_factor=2, mode="nearest")


@kind(SHAPES)
def nearest_to_size() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        return F.interpolate(F.interpolate(x, size=(5, 7)), size=(16, 16))

    return Apply(run)


@kind(SHAPES)
def nearest_exact() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        small = F.interpolate(x, size=(7, 5), mode="nearest-exact")
        return F.interpolate(small, size=(16, 16), mode="nearest-exact")

    return Apply(run)


@kind(SHAPES)
def bilinear_by_factor() -> nn.Module:
    return _up(scale_factor=2.0, mode="bilinear", align_corners=False)


@kind(SHAPES)
def bilinear_to_size() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        small = F.interpolate(x, size=(7, 11), mode="bilinear", align_corners=False)
        return F.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=False)

    return Apply(run)


@kind(SHAPES)
def bilinear_corners() -> nn.Module:
    return _up(size=(16, 16), mode="bilinear", align_corners=True)


@kind(SHAPES)
def bilinear_by_fraction() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        small = F.interpolate(
            x, scale_factor=0.7, mode="bilinear", recompute_scale_factor=True, align_corners=False
        )
        return F.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False)

    return Apply(run)


@kind(SHAPES)
def bicubic() -> nn.Module:
    return _up(scale_factor=2.0, mode="bicubic", align_corners=False)


@kind(SHAPES)
def bicubic_corners() -> nn.Module:
    return _up(size=(16, 16), mode="bicubic", align_corners=True)


@kind(SHAPES)
def antialiased() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        small = F.interpolate(x, size=(6, 6), mode="bilinear", antialias=True)
        return F.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False)

    return Apply(run)


@kind(SHAPES)
def area_resize() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        return F.interpolate(F.interpolate(x, size=(4, 8), mode="area"), size=(16, 16))

    return Apply(run)


@kind(SHAPES)
def resize_to_another_map() -> nn.Module:
    """The size of a tensor of another branch, computed from shapes."""

    def run(x: Tensor) -> Tensor:
        small = F.max_pool2d(x, 3, 2, 1)
        size = [small.shape[2] * 2, int(small.shape[3] * 2)]
        return x + F.interpolate(small, size=size, mode="bilinear", align_corners=False)

    return Apply(run)


@kind(SHAPES)
def pixel_shuffle() -> nn.Module:
    down = nn.Conv2d(WIDTH, 32, 3, stride=2, padding=1)
    return nn.Sequential(down, nn.PixelShuffle(2))


@kind(SHAPES)
def pixel_unshuffle() -> nn.Module:
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(32, 32, 1), nn.PixelShuffle(2))


class Focus(nn.Module):
    """YOLO: every other pixel as channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * WIDTH, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
        return F.interpolate(self.conv(torch.cat(parts, 1)), scale_factor=2)


@kind(SHAPES)
def strided_slices() -> nn.Module:
    return Focus()


@kind(SHAPES)
def space_to_depth_by_hand() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
        y = y.reshape(n, c * 4, h // 2, w // 2) * 1.5
        y = y.view(n, 2, 2, c, h // 2, w // 2).permute(0, 3, 4, 1, 5, 2)
        return y.reshape(n, c, h, w)

    return Apply(run)


@kind(SHAPES)
def channel_shuffle() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.size()
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)

    return Apply(run)


@kind(SHAPES)
def channel_shuffle_layer() -> nn.Module:
    return nn.Sequential(nn.ChannelShuffle(4), nn.Conv2d(WIDTH, 8, 3, padding=1, groups=2))


@kind(SHAPES)
def padding_modes() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        parts = [
            F.pad(x, (1, 2, 3, 1), mode="reflect")[:, :, :16, :16],
            F.pad(x, (1, 2, 3, 1), mode="replicate")[:, :, 1:17, 1:17],
            F.pad(x, (2, 1, 1, 3), value=0.5)[:, :, -16:, -16:],
        ]
        return torch.cat(parts, 1)

    return Apply(run)


@kind(SHAPES)
def padding_circular() -> nn.Module:
    return Apply(lambda x: F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="circular"), 3, 1))


@kind(SHAPES)
def padding_negative() -> nn.Module:
    """A crop, and channels padded."""
    return Apply(lambda x: F.pad(F.pad(x, (-1, -2, -3, 0)), (1, 2, 0, 3, 1, 2)))


@kind(SHAPES)
def roll() -> nn.Module:
    return Apply(lambda x: torch.roll(x, (3, -2), (2, 3)) - torch.roll(x, 1, 1))


@kind(SHAPES)
def flips() -> nn.Module:
    return Apply(lambda x: x.flip(3) - 2 * x.flip([1, 2]) + torch.rot90(x, 1, (2, 3)))


@kind(SHAPES)
def repeats() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        small = F.avg_pool2d(x, 2)
        twice = small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return torch.cat([twice, small.repeat(1, 1, 2, 2), torch.tile(x[:, :1], (1, 3, 1, 1))], 1)

    return Apply(run)


@kind(SHAPES)
def upsample_by_expanding() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        n, c, h, w = x[:, :, ::2, ::2].shape
        y = x[:, :, ::2, ::2, None].expand(n, c, h, w, 2).reshape(n, c, h, 2 * w)
        return y.unsqueeze(3).expand(-1, -1, -1, 2, -1).reshape(n, c, 2 * h, 2 * w)

    return Apply(run)


@kind(SHAPES)
def stacks_and_splits() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        a, b, *rest = x.split([1, 2, 2, 3], dim=1)
        c, d = torch.chunk(x, 2, dim=2)
        e = torch.stack([c, d], dim=3).flatten(2, 3)
        f = torch.hstack([a, *rest]) + sum(b.unbind(1)).unsqueeze(1)
        return torch.cat([e, f], 1)

    return Apply(run)


@kind(SHAPES)
def slices() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        middle = x[:, 1:-1, 2:-2, :]
        odd = x.narrow(1, 1, 6).select(1, 2)[:, None]
        return F.pad(middle, (0, 0, 2, 2)) + odd + x[:, -1:, :, [3]] + x[:, ::3][:, :1]

    return Apply(run)


@kind(SHAPES)
def picks() -> nn.Module:
    """Channels by a list and by an index buffer."""

    class Picks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("order", torch.tensor([3, 1, 7, 0]))

        def forward(self, x: Tensor) -> Tensor:
            picked = torch.index_select(x, 1, self.get_buffer("order"))
            return torch.cat([picked, x[:, [2, 5]], x[:, self.get_buffer("order")]], 1)

    return Picks()


@kind(SHAPES)
def assigned_slices() -> nn.Module:
    """Temporal shift: slices of a fresh tensor are written to."""

    def run(x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        out[:, :2, :-1] = x[:, :2, 1:]
        out[:, 2:4, 1:] = x[:, 2:4, :-1]
        out[:, 4:] = x[:, 4:]
        return out

    return Apply(run)


@kind(SHAPES)
def gather() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        best = x.flatten(2).argmax(2, keepdim=True)
        peak = torch.gather(x.flatten(2), 2, best)
        return x - peak.unsqueeze(-1)

    return Apply(run)


@kind(SHAPES)
def top_k() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        x = x + torch.arange(WIDTH).view(1, -1, 1, 1) / 9  # without ties, whose order is open
        values, indices = torch.topk(x, 3, dim=1)
        return torch.cat([values, indices.float() / 8], 1)

    return Apply(run)


@kind(SHAPES)
def sort() -> nn.Module:
    return Apply(lambda x: torch.sort(x, dim=1, descending=True).values)


@kind(SHAPES)
def classes_as_one_hot() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        return F.one_hot(x.argmax(1), WIDTH).permute(0, 3, 1, 2).float() * x

    return Apply(run)


@kind(SHAPES)
def choices() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        y = torch.where(x > 0.5, x, x * 0.1)
        y = y.masked_fill(x < 0.1, -1.0) + (x >= 1).float() - (x == 0).to(x.dtype)
        return torch.where((x > 0.2) & ~(x > 0.9) | (x != x), y, y.new_zeros(()))

    return Apply(run)


@kind(SHAPES)
def reductions() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        y = x.amax((2, 3), keepdim=True) - x.amin(1, keepdim=True) + x.mean(dim=[2], keepdim=True)
        y = y + x.sum(3, keepdim=True) / 16 + x.max(dim=1, keepdim=True)[0]
        return y + x.min(dim=2, keepdim=True).values + x.norm(dim=1, keepdim=True)

    return Apply(run)


@kind(SHAPES)
def reductions_of_products() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        y = torch.logsumexp(x, dim=1, keepdim=True) + (x / 2 + 0.5).prod(dim=1, keepdim=True)
        return x + y + x.abs().sum(1, keepdim=True).log1p()

    return Apply(run)


@kind(SHAPES)
def running_sums() -> nn.Module:
    return Apply(lambda x: torch.cumsum(x, dim=2) / 16 + x.cumsum(3) / 8)


@kind(SHAPES)
def arithmetic() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        y = (x + 1).pow(1.7) + (x + 0.3).rsqrt() + torch.exp(-x) + (x + 1).log() + x**3
        y = y + torch.clamp(x, 0.1, 0.8) + torch.maximum(x, 1 - x) + 2 / (x + 1)
        return y + x.sign() + torch.sqrt(x) + x.neg().abs() + torch.reciprocal(x + 2)

    return Apply(run)


@kind(SHAPES)
def rounding() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        x = 3 * x + 0.21
        y = x.floor() + x.ceil() * 2 + x.round() + x.trunc() + x.frac()
        return (
            y
            + torch.remainder(x, 0.7)
            + torch.fmod(x, 0.9)
            + torch.div(x, 0.4, rounding_mode="floor")
        )

    return Apply(run)


@kind(SHAPES)
def clamps_of_tensors() -> nn.Module:
    """A bound per channel."""

    class Bounds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.top = nn.Parameter(torch.rand(WIDTH, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return torch.clamp(x, max=self.top) + torch.lerp(x, -x, 0.3) + torch.addcmul(x, x, x)

    return Bounds()


@kind(SHAPES)
def products() -> nn.Module:
    """bmm, baddbmm, outer products, einsum of three kinds."""

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        flat = x.flatten(2)
        gram = torch.bmm(flat, flat.transpose(1, 2)) / 64
        y = torch.baddbmm(flat, gram, flat).view(n, c, h, w)
        y = y + torch.einsum("nchw,ncd->ndhw", x, gram)
        return y + torch.einsum("nch,ncw->nchw", x.mean(3), x.mean(2))

    return Apply(run)


@kind(SHAPES)
def distances() -> nn.Module:
    """How far every pixel is from learned centres."""

    class Far(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.centres = nn.Parameter(torch.randn(6, WIDTH))

        def forward(self, x: Tensor) -> Tensor:
            n, c, h, w = x.shape
            points = x.permute(0, 2, 3, 1).reshape(-1, c)
            return torch.cdist(points, self.centres).view(n, h, w, 6).permute(0, 3, 1, 2)

    return Far()


@kind(SHAPES)
def meshgrid() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        grid = torch.stack((columns, rows), 0).float().to(x.device)[None] / max(h, w)
        return torch.cat([x, grid.expand(x.shape[0], -1, -1, -1)], 1)

    return Apply(run)


@kind(SHAPES)
def grid_sample() -> nn.Module:
    class Sample(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flow = nn.Conv2d(WIDTH, 2, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            theta = torch.tensor([[[0.9, 0.1, 0.05], [-0.1, 1.1, 0.0]]])
            theta = theta.expand(x.shape[0], -1, -1)
            grid = F.affine_grid(theta, list(x.shape), align_corners=False)
            grid = grid + 0.2 * torch.tanh(self.flow(x)).permute(0, 2, 3, 1)
            return F.grid_sample(x, grid, mode="bilinear", align_corners=False)

    return Sample()


@kind(SHAPES)
def grid_sample_border() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        step = torch.linspace(-1.2, 1.1, 16)
        rows, columns = torch.meshgrid(step, step, indexing="ij")
        grid = torch.stack([columns, rows], -1).expand(x.shape[0], -1, -1, -1)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=True)

    return Apply(run)


@kind(SHAPES)
def scatter() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        best = x.argmax(1, keepdim=True)
        return torch.zeros_like(x).scatter(1, best, 1.0) + x

    return Apply(run)


@kind(SHAPES)
def embedding_of_classes() -> nn.Module:
    class Embed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(WIDTH, 6)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.table(x.argmax(1))).permute(0, 3, 1, 2)

    return Embed()


@kind(SHAPES)
def fourier() -> nn.Module:
    """FFC: a spectrum of complex numbers."""

    def run(x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(x, norm="ortho")
        return torch.fft.irfft2(spectrum * 0.5, s=x.shape[-2:], norm="ortho")

    return Apply(run)


class Haar(nn.Module):
    """Wavelets by strided slices and fixed filters."""

    def __init__(self) -> None:
        super().__init__()
        a = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
        filters = (a / 2).view(4, 1, 2, 2).repeat(WIDTH, 1, 1, 1)
        self.register_buffer("filters", filters)

    def forward(self, x: Tensor) -> Tensor:
        filters = self.get_buffer("filters")
        bands = F.conv2d(x, filters, stride=2, groups=WIDTH)
        return F.conv_transpose2d(bands * 0.8, filters, stride=2, groups=WIDTH)


@kind(SHAPES)
def wavelets() -> nn.Module:
    return Haar()


@kind(SHAPES)
def recurrent_rows() -> nn.Module:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(WIDTH, 6, batch_first=True, bidirectional=True)

        def forward(self, x: Tensor) -> Tensor:
            n, c, h, w = x.shape
            y, _ = self.gru(x.permute(0, 2, 3, 1).reshape(n * h, w, c))
            return torch.as_tensor(y).view(n, h, w, -1).permute(0, 3, 1, 2)

    return Rows()


@kind(SHAPES)
def other_number_types() -> nn.Module:
    """Half precision, whole numbers and float64 on the way."""

    def run(x: Tensor) -> Tensor:
        steps = (x * 10).to(torch.int64).float() / 10
        return steps + (x.double() * 0.5).float() + x.long().clamp(max=3).to(x) + x.int() // 2

    return Apply(run)
