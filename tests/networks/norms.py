"""Normalisations and activations."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks.parts import WIDTH, Apply, Kind, kind

__all__ = ["NORMS"]

NORMS: dict[str, Kind] = {}


@kind(NORMS)
def batch_norm_first() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.Conv2d(WIDTH, 8, 3, padding=1))


@kind(NORMS)
def batch_norm_without_gain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(WIDTH, 8, 1), nn.BatchNorm2d(8, affine=False))


@kind(NORMS)
def group_norm() -> nn.Module:
    return nn.Sequential(nn.Conv2d(WIDTH, 12, 3, padding=1), nn.GroupNorm(4, 12), nn.SiLU())


@kind(NORMS)
def group_norm_one_group() -> nn.Module:
    return nn.GroupNorm(1, WIDTH)


@kind(NORMS)
def instance_norm() -> nn.Module:
    return nn.InstanceNorm2d(WIDTH, affine=True)


@kind(NORMS)
def instance_norm_without_gain() -> nn.Module:
    return nn.InstanceNorm2d(WIDTH)


@kind(NORMS)
def instance_norm_with_statistics() -> nn.Module:
    return nn.InstanceNorm2d(WIDTH, affine=True, track_running_stats=True)


class ChannelsLast(nn.Module):
    """A layer over channels."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.layer(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


@kind(NORMS)
def layer_norm() -> nn.Module:
    return ChannelsLast(nn.LayerNorm(WIDTH))


@kind(NORMS)
def layer_norm_of_maps() -> nn.Module:
    return nn.LayerNorm([WIDTH, 16, 16])


@kind(NORMS)
def layer_norm_by_hand() -> nn.Module:
    """Channels first, as ConvNeXt has it."""

    class Norm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.rand(WIDTH) + 0.5)

        def forward(self, x: Tensor) -> Tensor:
            mean = x.mean(1, keepdim=True)
            variance = (x - mean).pow(2).mean(1, keepdim=True)
            return self.gain[:, None, None] * (x - mean) / torch.sqrt(variance + 1e-6)

    return Norm()


@kind(NORMS)
def rms_norm() -> nn.Module:
    return ChannelsLast(nn.RMSNorm(WIDTH))


@kind(NORMS)
def local_response_norm() -> nn.Module:
    return nn.LocalResponseNorm(3)


@kind(NORMS)
def length_norm() -> nn.Module:
    return Apply(lambda x: F.normalize(x, dim=1) * 3)


class GlobalResponse(nn.Module):
    """ConvNeXt v2."""

    def forward(self, x: Tensor) -> Tensor:
        length = torch.norm(x, p=2, dim=(2, 3), keepdim=True)
        return x * length / (length.mean(dim=1, keepdim=True) + 1e-6) + x


@kind(NORMS)
def global_response_norm() -> nn.Module:
    return GlobalResponse()


@kind(NORMS)
def statistics() -> nn.Module:
    """Style: mean and deviation of the map move it."""

    def style(x: Tensor) -> Tensor:
        mean, deviation = x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True)
        variance = torch.var(x, dim=1, keepdim=True, correction=0)
        return (x - mean) / (deviation + 0.1) + variance

    return Apply(style)


@kind(NORMS)
def weight_norm() -> nn.Module:
    conv = nn.Conv2d(WIDTH, 12, 3, padding=1)
    return nn.utils.parametrizations.weight_norm(conv)


@kind(NORMS)
def weight_norm_of_old() -> nn.Module:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        normed: nn.Module = nn.utils.weight_norm(nn.Conv2d(WIDTH, 12, 3, padding=1))
        return normed


@kind(NORMS)
def spectral_norm() -> nn.Module:
    conv = nn.Conv2d(WIDTH, 12, 3, padding=1)
    return nn.utils.parametrizations.spectral_norm(conv)


class Frozen(nn.Module):
    """Batch norm out of buffers, as detectors freeze it."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("gain", "shift", "mean", "variance"):
            self.register_buffer(name, torch.rand(WIDTH) + 0.3)

    def forward(self, x: Tensor) -> Tensor:
        gain = self.get_buffer("gain") * (self.get_buffer("variance") + 1e-5).rsqrt()
        shift = self.get_buffer("shift") - self.get_buffer("mean") * gain
        return x * gain.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


@kind(NORMS)
def batch_norm_frozen() -> nn.Module:
    return Frozen()


def _activation(layer: nn.Module) -> nn.Module:
    """Of numbers on both sides of zero."""
    return nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1), Apply(lambda x: 6 * x), layer)


@kind(NORMS)
def relu6() -> nn.Module:
    return _activation(nn.ReLU6())


@kind(NORMS)
def leaky_relu() -> nn.Module:
    return _activation(nn.LeakyReLU(0.1))


@kind(NORMS)
def prelu() -> nn.Module:
    return _activation(nn.PReLU(WIDTH))


@kind(NORMS)
def prelu_one_slope() -> nn.Module:
    return _activation(nn.PReLU())


@kind(NORMS)
def elu() -> nn.Module:
    return _activation(nn.ELU(0.7))


@kind(NORMS)
def selu() -> nn.Module:
    return _activation(nn.SELU())


@kind(NORMS)
def celu() -> nn.Module:
    return _activation(nn.CELU(0.6))


@kind(NORMS)
def gelu() -> nn.Module:
    return _activation(nn.GELU())


@kind(NORMS)
def gelu_by_tanh() -> nn.Module:
    return _activation(nn.GELU(approximate="tanh"))


@kind(NORMS)
def silu() -> nn.Module:
    return _activation(nn.SiLU())


@kind(NORMS)
def mish() -> nn.Module:
    return _activation(nn.Mish())


@kind(NORMS)
def softplus() -> nn.Module:
    return _activation(nn.Softplus())


@kind(NORMS)
def softplus_sharp() -> nn.Module:
    return _activation(nn.Softplus(beta=2, threshold=5))


@kind(NORMS)
def hard_swish() -> nn.Module:
    return _activation(nn.Hardswish())


@kind(NORMS)
def hard_sigmoid() -> nn.Module:
    return _activation(nn.Hardsigmoid())


@kind(NORMS)
def hard_tanh() -> nn.Module:
    return _activation(nn.Hardtanh(-1.5, 2))


@kind(NORMS)
def soft_sign() -> nn.Module:
    return _activation(nn.Softsign())


@kind(NORMS)
def log_sigmoid() -> nn.Module:
    return _activation(nn.LogSigmoid())


@kind(NORMS)
def threshold() -> nn.Module:
    return _activation(nn.Threshold(0.3, -1.0))


@kind(NORMS)
def shrinking() -> nn.Module:
    return _activation(nn.Sequential(nn.Softshrink(0.2), nn.Tanhshrink()))


@kind(NORMS)
def hard_shrink() -> nn.Module:
    return _activation(nn.Hardshrink(0.4))


@kind(NORMS)
def randomized_relu() -> nn.Module:
    return _activation(nn.RReLU())


@kind(NORMS)
def gated_linear_unit() -> nn.Module:
    return _activation(nn.GLU(dim=1))


@kind(NORMS)
def gate_by_halves() -> nn.Module:
    """SimpleGate and SwiGLU."""

    def gate(x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        return torch.cat([a * b, F.silu(a) * b], 1)

    return _activation(Apply(gate))


@kind(NORMS)
def maxout() -> nn.Module:
    return _activation(Apply(lambda x: x.view(x.shape[0], 4, 2, 16, 16).max(2).values))


@kind(NORMS)
def softmax_of_channels() -> nn.Module:
    return _activation(nn.Softmax2d())


@kind(NORMS)
def log_softmax() -> nn.Module:
    return _activation(nn.LogSoftmax(dim=1))


@kind(NORMS)
def squared_relu() -> nn.Module:
    return _activation(Apply(lambda x: F.relu(x).square()))


@kind(NORMS)
def sine() -> nn.Module:
    """Snake."""
    return _activation(Apply(lambda x: x + torch.sin(x).pow(2) + torch.cos(x)))


@kind(NORMS)
def error_function() -> nn.Module:
    return _activation(Apply(lambda x: torch.erf(x) + torch.atan(x)))
