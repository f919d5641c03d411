"""Convolutions, pools and what unfolds windows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks.parts import WIDTH, Apply, Kind, kind, norm_act

__all__ = ["CONVOLUTIONS"]

CONVOLUTIONS: dict[str, Kind] = {}


@kind(CONVOLUTIONS)
def convolution() -> nn.Module:
    return norm_act(WIDTH, 12)


@kind(CONVOLUTIONS)
def convolution_dilated() -> nn.Module:
    return norm_act(WIDTH, 12, dilation=3)


@kind(CONVOLUTIONS)
def convolution_grouped() -> nn.Module:
    return norm_act(WIDTH, 12, groups=4)


@kind(CONVOLUTIONS)
def depthwise_separable() -> nn.Module:
    return nn.Sequential(norm_act(WIDTH, WIDTH, 5, groups=WIDTH), norm_act(WIDTH, 12, 1))


@kind(CONVOLUTIONS)
def depthwise_multiplier() -> nn.Module:
    return nn.Conv2d(WIDTH, 3 * WIDTH, 3, padding=1, groups=WIDTH)


@kind(CONVOLUTIONS)
def convolution_by_rows_and_columns() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(WIDTH, 8, (1, 7), padding=(0, 3)), nn.Conv2d(8, 8, (7, 1), padding=(3, 0))
    )


@kind(CONVOLUTIONS)
def convolution_same_even() -> nn.Module:
    return nn.Conv2d(WIDTH, 12, 4, padding="same")


@kind(CONVOLUTIONS)
def convolution_reflecting() -> nn.Module:
    return nn.Conv2d(WIDTH, 12, 3, padding=1, padding_mode="reflect")


@kind(CONVOLUTIONS)
def convolution_circular() -> nn.Module:
    return nn.Conv2d(WIDTH, 12, 3, padding=1, padding_mode="circular")


@kind(CONVOLUTIONS)
def convolution_large_kernel() -> nn.Module:
    return nn.Conv2d(WIDTH, WIDTH, 13, padding=6, groups=WIDTH)


class DownUp(nn.Module):
    """Stride 2 down, and up again by ``up``."""

    def __init__(self, up: nn.Module) -> None:
        super().__init__()
        self.down = nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.up = up

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.as_tensor(self.up(F.relu(self.down(x))))


@kind(CONVOLUTIONS)
def transposed_convolution() -> nn.Module:
    return DownUp(nn.ConvTranspose2d(WIDTH, WIDTH, 2, stride=2))


@kind(CONVOLUTIONS)
def transposed_convolution_padded() -> nn.Module:
    return DownUp(nn.ConvTranspose2d(WIDTH, WIDTH, 4, stride=2, padding=1, bias=False))


@kind(CONVOLUTIONS)
def transposed_convolution_output_padding() -> nn.Module:
    return DownUp(nn.ConvTranspose2d(WIDTH, WIDTH, 3, 2, 1, output_padding=1))


@kind(CONVOLUTIONS)
def transposed_convolution_grouped() -> nn.Module:
    return DownUp(nn.ConvTranspose2d(WIDTH, WIDTH, 4, stride=2, padding=1, groups=2))


@kind(CONVOLUTIONS)
def transposed_convolution_depthwise() -> nn.Module:
    return DownUp(nn.ConvTranspose2d(WIDTH, WIDTH, 4, stride=2, padding=1, groups=WIDTH))


@kind(CONVOLUTIONS)
def transposed_convolution_dilated() -> nn.Module:
    return DownUp(nn.ConvTranspose2d(WIDTH, WIDTH, 3, 2, 2, output_padding=1, dilation=2))


@kind(CONVOLUTIONS)
def transposed_convolution_uneven() -> nn.Module:
    return DownUp(nn.ConvTranspose2d(WIDTH, WIDTH, (2, 4), stride=2, padding=(0, 1)))


@kind(CONVOLUTIONS)
def transposed_convolution_stride_1() -> nn.Module:
    return nn.ConvTranspose2d(WIDTH, 12, 3, padding=1)


@kind(CONVOLUTIONS)
def convolution_of_rows() -> nn.Module:
    """One-dimensional, over all positions."""
    conv = nn.Conv1d(WIDTH, 8, 5, padding=2)
    return Rows(conv)


class Rows(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        return torch.as_tensor(self.layer(x.flatten(2))).view(n, -1, h, w)


@kind(CONVOLUTIONS)
def convolution_of_volumes() -> nn.Module:
    """Channels as depth of a volume."""

    class Volume(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(1, 2, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.conv(x.unsqueeze(1))).flatten(1, 2)

    return Volume()


class Computed(nn.Module):
    """The filters depend on the image (CondConv)."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.Parameter(torch.randn(3, WIDTH, WIDTH, 3, 3) / 8)
        self.route = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        gates = torch.sigmoid(self.route(x.mean((2, 3)))).view(n, 3, 1, 1, 1, 1)
        weight = (gates * self.experts).sum(1).view(n * c, c, 3, 3)
        # Every image has filters of its own: they are groups of one image.
        return F.conv2d(x.reshape(1, n * c, h, w), weight, padding=1, groups=n).view(n, c, h, w)


@kind(CONVOLUTIONS)
def convolution_with_computed_filters() -> nn.Module:
    return Computed()


class Standardized(nn.Conv2d):
    """Weight standardization."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


@kind(CONVOLUTIONS)
def weight_standardized() -> nn.Module:
    return nn.Sequential(Standardized(WIDTH, 12, 3, padding=1), nn.GroupNorm(3, 12))


class Coordinates(nn.Module):
    """CoordConv: where a pixel is, as two channels more."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH + 2, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        rows = torch.linspace(-1, 1, h, device=x.device).view(1, 1, h, 1).expand(n, 1, h, w)
        columns = torch.linspace(-1, 1, w, device=x.device).view(1, 1, 1, w).expand(n, 1, h, w)
        return torch.as_tensor(self.conv(torch.cat([x, rows, columns], 1)))


@kind(CONVOLUTIONS)
def coordinate_channels() -> nn.Module:
    return Coordinates()


class Partial(nn.Module):
    """FasterNet: only the first channels are convolved."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        first, rest = torch.split(x, [2, x.shape[1] - 2], dim=1)
        return torch.cat([self.conv(first), rest], 1)


@kind(CONVOLUTIONS)
def convolution_of_some_channels() -> nn.Module:
    return Partial()


class Octave(nn.Module):
    """Two resolutions that exchange."""

    def __init__(self) -> None:
        super().__init__()
        self.hh, self.hl = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.lh, self.ll = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        high, low = x[:, :4], F.avg_pool2d(x[:, 4:], 2)
        up = self.hh(high) + F.interpolate(self.lh(low), scale_factor=2, mode="nearest")
        down = self.ll(low) + self.hl(F.avg_pool2d(high, 2))
        return torch.cat([up, F.interpolate(down, scale_factor=2, mode="nearest")], 1)


@kind(CONVOLUTIONS)
def octave_convolution() -> nn.Module:
    return Octave()


@kind(CONVOLUTIONS)
def unfold_and_fold() -> nn.Module:
    def windows(x: Tensor) -> Tensor:
        columns = F.unfold(x, 3, padding=1)
        return F.fold(columns * columns.sigmoid(), (16, 16), 3, padding=1) / 9

    return Apply(windows)


@kind(CONVOLUTIONS)
def unfold_by_slices() -> nn.Module:
    """Windows by ``Tensor.unfold``, summed."""
    return Apply(lambda x: F.pad(x, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1).amax((4, 5)))


class Involution(nn.Module):
    """A kernel of its own for every position."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Conv2d(WIDTH, 2 * 9, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        kernel = self.kernel(x).view(n, 2, 1, 9, h, w)
        windows = F.unfold(x, 3, padding=1).view(n, 2, c // 2, 9, h, w)
        return (kernel * windows).sum(3).view(n, c, h, w)


@kind(CONVOLUTIONS)
def involution() -> nn.Module:
    return Involution()


@kind(CONVOLUTIONS)
def max_pool_ceil() -> nn.Module:
    up = nn.Upsample(size=(16, 16))
    return nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), up)


@kind(CONVOLUTIONS)
def max_pool_same_size() -> nn.Module:
    return nn.MaxPool2d(5, 1, padding=2)


@kind(CONVOLUTIONS)
def max_pool_dilated() -> nn.Module:
    return nn.Sequential(nn.MaxPool2d(3, 1, padding=1, dilation=2), nn.Upsample(size=(16, 16)))


@kind(CONVOLUTIONS)
def average_pool_without_padding() -> nn.Module:
    return nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)


@kind(CONVOLUTIONS)
def average_pool_ceil() -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(3, 2, ceil_mode=True), nn.Upsample(size=(16, 16)))


@kind(CONVOLUTIONS)
def adaptive_pools() -> nn.Module:
    def pools(x: Tensor) -> Tensor:
        parts = [F.adaptive_avg_pool2d(x, s) for s in (1, 2, 4)] + [F.adaptive_max_pool2d(x, 1)]
        return torch.cat([x, *(F.interpolate(p, size=x.shape[2:]) for p in parts)], 1)

    return Apply(pools)


@kind(CONVOLUTIONS)
def adaptive_pools_uneven() -> nn.Module:
    """Windows of different sizes."""

    def pools(x: Tensor) -> Tensor:
        parts = [F.adaptive_avg_pool2d(x, s) for s in (3, 6)] + [F.adaptive_max_pool2d(x, (3, 5))]
        return torch.cat([x, *(F.interpolate(p, size=x.shape[2:]) for p in parts)], 1)

    return Apply(pools)


@kind(CONVOLUTIONS)
def power_average_pool() -> nn.Module:
    return nn.Sequential(nn.LPPool2d(2, 2), nn.Upsample(scale_factor=2))


@kind(CONVOLUTIONS)
def pool_and_unpool() -> nn.Module:
    """SegNet: maxima go back to where they came from."""

    def segnet(x: Tensor) -> Tensor:
        pooled, indices = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(pooled, indices, [2, 2])

    return Apply(segnet)


class Blur(nn.Module):
    """Anti-aliased downsampling with fixed filters."""

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("filter", (row[:, None] * row / 16).repeat(WIDTH, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        filters = self.get_buffer("filter")
        y = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), filters, stride=2, groups=x.shape[1])
        return F.interpolate(y, scale_factor=2.0, mode="bilinear")


@kind(CONVOLUTIONS)
def blur_pool() -> nn.Module:
    return Blur()
