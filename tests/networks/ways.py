"""Ways of writing a network down, whatever its layers are."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tests.networks.parts import WIDTH, Apply, Kind, kind, norm_act

__all__ = ["WAYS"]

WAYS: dict[str, Kind] = {}


class Asserts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = norm_act(WIDTH, 8)

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 4, f"expected four axes, got {x.dim()}"
        assert x.shape[2] % 4 == 0
        if x.shape[1] != WIDTH:
            raise ValueError("other channels")
        torch._assert(x.shape[3] > 1, "too narrow")
        return torch.as_tensor(self.conv(x))


@kind(WAYS)
def asserts_on_shapes() -> nn.Module:
    return Asserts()


class Loops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = norm_act(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        steps = int(math.log2(x.shape[-1])) - 2
        while steps > 0:
            x = self.conv(x) + x / (x.shape[1] ** 0.5)
            steps -= 1
        return x


@kind(WAYS)
def loops_on_shapes() -> nn.Module:
    return Loops()


class Shared(nn.Module):
    """One convolution for two maps, with a norm of its own for each; one norm for two."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in range(2))
        self.norm = nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.norms[0](self.conv(x)))
        b = F.relu(self.norms[1](self.conv(F.max_pool2d(x, 2))))
        return torch.cat([self.norm(a), F.interpolate(self.norm(b), scale_factor=2)], 1)


@kind(WAYS)
def shared_layers() -> nn.Module:
    return Shared()


class Tied(nn.Module):
    """An autoencoder whose decoder has the encoder's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(WIDTH, 6, 2, stride=2)
        self.up = nn.ConvTranspose2d(6, WIDTH, 2, stride=2)
        self.up.weight = self.down.weight
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(F.relu(self.down(x))).permute(0, 2, 3, 1)
        return torch.as_tensor(self.second(self.first(y))).permute(0, 3, 1, 2)


@kind(WAYS)
def tied_weights() -> nn.Module:
    return Tied()


class Buffers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.rand(1, WIDTH, 1, 1))
        self.register_buffer("scale", torch.tensor(1.7), persistent=False)
        self.table = torch.rand(WIDTH, 1, 1)  # a plain attribute
        self.register_buffer("none", None)

    def forward(self, x: Tensor) -> Tensor:
        y = (x - self.get_buffer("mean")) * self.get_buffer("scale") + self.table
        return y if self.none is None else y * 2


@kind(WAYS)
def buffers_of_all_sorts() -> nn.Module:
    return Buffers()


class ComputedWeights(nn.Module):
    """A weight that is the product of two."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(12, 3)), nn.Parameter(torch.randn(3, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.a @ self.b).view(12, WIDTH, 1, 1)
        return F.conv2d(x, weight / weight.norm())


@kind(WAYS)
def computed_weights() -> nn.Module:
    return ComputedWeights()


class Doubled(nn.Module):
    """A parametrization of the user's own."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5 + x.flip(-1) * 0.5


@kind(WAYS)
def parametrized_weights() -> nn.Module:
    conv = nn.Conv2d(WIDTH, 12, 3, padding=1)
    torch.nn.utils.parametrize.register_parametrization(conv, "weight", Doubled())
    return conv


@kind(WAYS)
def data_parallel() -> nn.Module:
    return nn.DataParallel(norm_act(WIDTH, 8))


@kind(WAYS)
def compiled() -> nn.Module:
    module: nn.Module = torch.compile(norm_act(WIDTH, 8), backend="eager")  # type: ignore[assignment]
    return module


@kind(WAYS)
def scripted() -> nn.Module:
    module: nn.Module = torch.jit.script(norm_act(WIDTH, 8))
    return module


class Choosing(nn.Module):
    """Branches on what does not change: training, an option, the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.deep, self.extra = True, nn.Conv2d(WIDTH, 1, 1)
        self.drop, self.conv = nn.Dropout2d(0.3), norm_act(WIDTH, 8)

    def forward(self, x: Tensor, scale: float = 2.0, *, more: bool = True) -> Tensor:
        if self.training:
            return x + torch.as_tensor(self.extra(x))
        y = self.drop(self.conv(x)) * scale if more else x
        y = F.dropout(y, 0.5, self.training)
        return y if self.deep and x.shape[2] >= 8 else x


@kind(WAYS)
def branches_on_options() -> nn.Module:
    return Choosing()


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = norm_act(WIDTH, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(checkpoint(self.conv, x, use_reentrant=False))


@kind(WAYS)
def checkpointed() -> nn.Module:
    return Checkpointed()


class Containers(nn.Module):
    """Lists, dicts, ordered dicts and parameter lists; maps travel by name."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            OrderedDict([("one", nn.Conv2d(WIDTH, 8, 3, padding=1)), ("two", nn.ReLU())])
        )
        self.named = nn.ModuleDict({"a": nn.Conv2d(8, 8, 1), "b": nn.Conv2d(8, 8, 1)})
        self.gains = nn.ParameterList(nn.Parameter(torch.rand(8, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.steps
        x = two(one(x))
        maps = {name: layer(x) for name, layer in self.named.items()}
        return sum(gain * maps[name] for gain, name in zip(self.gains, sorted(maps), strict=True))


@kind(WAYS)
def containers() -> nn.Module:
    return Containers()


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y += x
        y.mul_(0.5).add_(1).clamp_(min=0)
        y[:, 0] *= 2
        return F.relu_(y).sub_(0.1)


@kind(WAYS)
def in_place() -> nn.Module:
    return InPlace()


class ShapeArithmetic(nn.Module):
    """Sizes that are computed, asked for and packed in every way."""

    def forward(self, x: Tensor) -> Tensor:
        b, c = x.size()[:2]
        n = torch.numel(x) // (b * c)
        h = int(n**0.5)
        y = x.view(b, -1, n).reshape(torch.Size([b, c, h, n // h]))
        y = y.unflatten(1, (2, -1)).flatten(1, 2)
        y = y.view(*x.shape[:2], x.shape[-2] * x.shape[-1]).view_as(x)
        y = y.reshape(b, c, h * 2, -1).reshape(x.size())
        return y / math.sqrt(x.size(1)) + x.new_ones(1, c, 1, 1) * (x.shape[2] + x.shape[3]) / 64


@kind(WAYS)
def shape_arithmetic() -> nn.Module:
    return ShapeArithmetic()


class Without(nn.Module):
    """Gradients off and mixed precision asked for, as at test time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = norm_act(WIDTH, 8)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return torch.as_tensor(self.conv(x.contiguous(memory_format=torch.channels_last)))


@kind(WAYS)
def contexts() -> nn.Module:
    return Without()


class DeepSupervision(nn.Module):
    """Layers that eval never runs, hooks, and a frozen branch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.auxiliary = norm_act(WIDTH, 8), nn.Conv2d(8, 4, 1)
        self.conv.register_forward_hook(lambda _, __, out: out * 1.5)
        for parameter in self.conv.parameters():
            parameter.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.conv(x)).detach().clone()


@kind(WAYS)
def hooks_and_unused_layers() -> nn.Module:
    return DeepSupervision()


class Nested(nn.Module):
    """Depth: the layer that matters lies four modules down."""

    def __init__(self, depth: int = 4) -> None:
        super().__init__()
        self.block = Nested(depth - 1) if depth else nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.block(x)) + 0.5 * x


@kind(WAYS)
def nested_modules() -> nn.Module:
    return Nested()


@kind(WAYS)
def constants_made_on_the_way() -> nn.Module:
    def run(x: Tensor) -> Tensor:
        eye = torch.eye(WIDTH, dtype=x.dtype, device=x.device) * 0.5
        mask = torch.ones_like(x[:1, :1]).tril() + torch.full((16, 16), 0.1)
        return torch.einsum("nchw,cd->ndhw", x, eye + torch.tensor(0.1)) * mask

    return Apply(run)
