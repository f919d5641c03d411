"""What operators are rewritten into computes the same, and none is left."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panokit._quiet import quiet
from panokit_converters.program.attempts import has_rewrite
from panokit_converters.program.capture import export_program, flat_module, operators_of

log = logging.getLogger(__name__)

X = torch.randn(1, 4, 9, 7, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.randn(4, 3, 3, 2, generator=torch.Generator().manual_seed(1))
CENTRES = torch.randn(5, 7, generator=torch.Generator().manual_seed(2))
BIAS = torch.arange(6.0)

Function = Callable[[Tensor], Any]


def _written(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 1:3, ::2] = x[:, :2, ::2] * 2
    y[:, :, 4] = 1.0
    y[..., 2:5] += x[..., :3]
    return y


def _unpooled(x: Tensor) -> Tensor:
    even = x[:, :, :8, :6]
    pooled, at = F.max_pool2d(even, 2, return_indices=True)
    return F.max_unpool2d(pooled, at, [2, 2])


def _places(x: Tensor) -> Tensor:
    values, at = F.max_pool2d(x, 3, 2, 1, return_indices=True)
    return values + at / 10


def _attended(x: Tensor, **options: Any) -> Tensor:
    return F.scaled_dot_product_attention(x, x * 2, x - 1, **options)


def _resized(**options: Any) -> Function:
    return lambda x: F.interpolate(x, **options)


FUNCTIONS: dict[str, Function] = {
    "bicubic_to_size": _resized(size=(5, 16), mode="bicubic", align_corners=True),
    "bicubic_by_factor": _resized(scale_factor=1.7, mode="bicubic", align_corners=False),
    "bilinear_by_factor": _resized(scale_factor=(2.3, 1.5), mode="bilinear", align_corners=False),
    "bilinear_to_size": _resized(size=(20, 3), mode="bilinear", align_corners=True),
    "bilinear_antialiased": _resized(size=(4, 9), mode="bilinear", antialias=True),
    "bicubic_antialiased": _resized(size=(4, 9), mode="bicubic", antialias=True),
    "nearest_to_size": _resized(size=(14, 16)),
    "nearest_by_factor": _resized(scale_factor=1.6),
    "nearest_exact": _resized(size=(14, 3), mode="nearest-exact"),
    "adaptive_average": lambda x: F.adaptive_avg_pool2d(x, (4, 3)),
    "adaptive_maximum": lambda x: F.adaptive_max_pool2d(x, (4, 3)),
    "maximum": lambda x: F.max_pool2d(x, 3, 2, 1),
    "maximum_dilated": lambda x: F.max_pool2d(x, (3, 2), (1, 2), (1, 0), (2, 3)),
    "maximum_rounded_up": lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True),
    "average_of_volumes": lambda x: F.avg_pool3d(x.unsqueeze(1), (3, 1, 1), 1, (1, 0, 0)),
    "local_response_norm": lambda x: F.local_response_norm(x, 3),
    "unpooled": _unpooled,
    "places": _places,
    "unfolded": lambda x: F.unfold(x, (3, 2), dilation=(1, 2), padding=(1, 0), stride=(2, 1)),
    "folded": lambda x: F.fold(F.unfold(x, 3, padding=1, stride=2), (9, 7), 3, 1, 1, 2),
    "windows": lambda x: x.unfold(2, 4, 2).unfold(3, 3, 2),
    "transposed": lambda x: F.conv_transpose2d(x, WEIGHT, stride=(2, 3), padding=(1, 0)),
    "transposed_grouped": lambda x: F.conv_transpose2d(
        x, WEIGHT, BIAS, stride=2, padding=1, output_padding=1, groups=2, dilation=(2, 1)
    ),
    "transposed_cut": lambda x: F.conv_transpose2d(x, WEIGHT, padding=(2, 1), dilation=1),
    "padded": lambda x: F.pad(x, (1, 0, 2, 3), value=-1.5),
    "padded_circular": lambda x: F.pad(x, (2, 1, 0, 3), mode="circular"),
    "padded_reflecting": lambda x: F.pad(x, (2, 1, 0, 3), mode="reflect"),
    "padded_replicating": lambda x: F.pad(x, (2, 1, 0, 3), mode="replicate"),
    "cropped": lambda x: F.pad(x, (-1, -2, 3, -4)),
    "written_slices": _written,
    "product": lambda x: x.prod(1, keepdim=True) + x.prod(3).unsqueeze(-1),
    "distances": lambda x: torch.cdist(x, CENTRES),
    "distances_of_blocks": lambda x: torch.cdist(x, CENTRES, p=1),
    "running_sum": lambda x: x.cumsum(1) + x.cumsum(-1),
    "attention": lambda x: _attended(x, is_causal=True),
    "attention_scaled": lambda x: _attended(x[0], scale=0.3),
    "attention_masked": lambda x: _attended(x, attn_mask=torch.ones(9, 9, dtype=torch.bool).tril()),
    "celu": lambda x: F.celu(x, 0.6),
    "log_sigmoid": lambda x: F.logsigmoid(40 * x),
    "randomized_relu": lambda x: F.rrelu(x, 0.1, 0.4),
    "hard_tanh": lambda x: F.hardtanh(x, -1, 2),
    "whole_parts": lambda x: x.trunc() + x.frac() + torch.fmod(x, 0.7) + torch.remainder(x, 0.7),
    "parts_of_tensors": lambda x: torch.fmod(x, x.abs() + 1) + torch.remainder(x, x.abs() + 1),
    "between": lambda x: torch.lerp(x, -x, 0.3) + torch.lerp(x, x * 2, x.sigmoid()),
    "with_products": lambda x: torch.addcmul(x, x, x, value=0.5) + torch.addcdiv(x, x, x.exp()),
    "bounds": lambda x: x.clamp(min=x.mean(), max=x.abs().mean((2, 3), keepdim=True)),
    "logic": lambda x: torch.where(((x > 0) | (x < -1)) & ~(x > 1) ^ (x > 2), x, -x),
    "filled": lambda x: x.masked_fill(x > 0.2, float("-1e4")),
    "norm_by_root": lambda x: F.rms_norm(x, (7,), torch.arange(7.0)),
    "flipped": lambda x: x.flip((1, 3)),
    "turned": lambda x: torch.rot90(x, 1, (2, 3)).transpose(2, 3) + torch.rot90(x, 2, (2, 3)),
    "sorted": lambda x: x.sort(1).values - x.sort(3, descending=True).values,
    "scattered": lambda x: torch.zeros_like(x).scatter(1, x.argmax(1, keepdim=True), 2.5),
    "scattered_values": lambda x: x.scatter(1, x.argmin(1, keepdim=True), x.amax(1, keepdim=True)),
    "shuffled": lambda x: F.channel_shuffle(x, 2),
    "sampled": lambda x: F.grid_sample(
        x, torch.linspace(-1.3, 1.2, 24).view(1, 4, 3, 2), align_corners=False
    ),
    "sampled_border": lambda x: F.grid_sample(
        x, torch.linspace(-1.3, 1.2, 24).view(1, 4, 3, 2), "nearest", "border", True
    ),
    "vectors": lambda x: x @ x[:, :, :1].mT + x[:, :, :1] @ x.mT @ x[..., :1],
    "repeated": lambda x: x.repeat(2, 1, 1, 3, 1).sum(0) + torch.tile(x, (3, 1)),
    "constants": lambda x: x + x.new_zeros(()) + x.new_ones(1, 4, 1, 1) + x.new_full((7,), 2.5),
    "one_hot": lambda x: F.one_hot(x.argmax(1), 4),
    "dot": lambda x: x * torch.dot(x.flatten(), x.flatten() * 2),
}


class Whole(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def check(module: nn.Module) -> None:
    program = export_program(module.eval(), (X,))
    with quiet(log):
        given = operators_of(program.run_decompositions({}).graph)
    assert any(has_rewrite(node) for node in given), given
    flat = flat_module(program, has_rewrite)
    left = {str(node.target) for node in operators_of(flat.graph) if has_rewrite(node)}
    # A padding that only adds is what the rewrite of a padding is made of; so is a product.
    assert left <= {"aten.pad.default", "aten.matmul.default"}
    with torch.no_grad():
        torch.testing.assert_close(flat(X), module(X), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_computes_the_same(name: str) -> None:
    check(Whole(FUNCTIONS[name]))


def test_norms_with_statistics() -> None:
    for norm in (nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False),
                 nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
                 nn.InstanceNorm2d(4)):  # fmt: skip
        for value in (*norm.parameters(), *norm.buffers()):
            if value.is_floating_point():
                nn.init.uniform_(value, 0.3, 1.2)
        check(norm)
