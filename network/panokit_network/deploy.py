"""From the trained network to the one that is shipped: batch norms and normalisation folded in.

Folding is exact arithmetic, not an approximation; what remains are convolutions with a bias,
ReLU6, additions and bilinear resizes.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.fx.experimental import optimization

from panokit.errors import ArgumentError
from panokit_network.backbone import Conv
from panokit_network.model import Normalize, PanopticNetwork

__all__ = ["count_macs", "count_parameters", "fold_batch_norms", "fuse"]


def fuse(network: PanopticNetwork) -> nn.Module:
    """A copy of ``network`` in eval mode without batch norms and without a normalisation step.

    Same input (float32 ``[N,3,H,W]``, RGB, 0..255) and same heads, up to float32 rounding.
    ``network`` itself is left as it is.
    """
    fused = copy.deepcopy(network).eval().requires_grad_(False)
    for module in fused.modules():
        if isinstance(module, Conv) and isinstance(module.bn, nn.BatchNorm2d):
            _fold_batch_norm(module)
    if isinstance(fused.normalize, Normalize):
        # The image is padded with raw black before it is normalised, so that the padding passes
        # through the same affine map as the pixels and the fold holds at the edges as well.
        _fold_normalize(fused.backbone.stem.conv, fused.normalize)
        fused.normalize = nn.Identity()
    return fused


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """A copy of any ``module`` with its batch norms folded into its convolutions; itself if it has
    none. ``ArgumentError`` if it cannot be traced."""
    if not any(isinstance(m, nn.BatchNorm2d) for m in module.modules()):
        return module
    try:
        return optimization.fuse(copy.deepcopy(module).eval())
    except Exception as error:  # tracing runs the user's code, which may raise anything
        expected = (
            "one whose batch norms can be folded by torch.fx; fold them yourself, "
            "or keep them with NetworkSource.from_module(…, folded=True)"
        )
        raise ArgumentError(
            "module",
            f"the module cannot be traced ({type(error).__name__}: {error}); expected {expected}",
        ) from None


def count_parameters(module: nn.Module) -> int:
    """How many numbers are stored: parameters, without the statistics of batch norms."""
    return sum(p.numel() for p in module.parameters())


def count_macs(module: nn.Module, size: int) -> int:
    """Multiply-accumulates of the convolutions and linear layers for one ``size``×``size`` image.

    Resizes, additions and activations are not counted, as is usual.
    """
    if size < 1:
        raise ArgumentError("size", f"size is {size!r}; expected at least 1")
    macs = 0

    def count(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        if isinstance(layer, nn.Conv2d):
            # Each output number takes one filter: in/groups · kh · kw products.
            macs += output[0].numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            macs += output[0].numel() * layer.in_features

    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, 3, size, size))
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    return macs


def _fold_batch_norm(block: Conv) -> None:
    """y = gamma·(conv(x) - mean)/sqrt(var + eps) + beta, written as one convolution."""
    bn, conv = block.bn, block.conv
    if not isinstance(bn, nn.BatchNorm2d) or bn.running_mean is None or bn.running_var is None:
        raise ArgumentError(
            "network",
            f"batch norm {bn!r} has no running statistics; expected batch norms that have them",
        )
    # float64, because sqrt and the products would otherwise cost a digit that int8 ranges show.
    scale = bn.weight.double() / torch.sqrt(bn.running_var.double() + bn.eps)  # [out]
    weight = conv.weight.double() * scale[:, None, None, None]  # [out,in/groups,kh,kw]
    bias = bn.bias.double() - bn.running_mean.double() * scale  # [out]
    if conv.bias is not None:
        bias = bias + conv.bias.double() * scale
    conv.weight = _frozen(weight)
    conv.bias = _frozen(bias)
    block.bn = nn.Identity()


def _fold_normalize(conv: nn.Conv2d, normalize: Normalize) -> None:
    """conv((x - mean)·scale) + b = (scale·w)*x + (b - mean·scale·sum w)."""
    weight = conv.weight.double() * normalize.scale  # [out,3,kh,kw]
    shift = normalize.mean * weight.sum(dim=(1, 2, 3))  # [out]
    bias = conv.bias.double() if conv.bias is not None else torch.zeros_like(shift)
    conv.weight = _frozen(weight)
    conv.bias = _frozen(bias - shift)


def _frozen(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.float().contiguous(), requires_grad=False)
