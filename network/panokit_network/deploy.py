"""From the trained network to the one that is shipped: batch norms and normalisation folded in.

Folding is exact arithmetic, not an approximation; what remains are convolutions with a bias,
ReLU6, additions and bilinear resizes.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from panokit.errors import ArgumentError
from panokit.preprocessing import Size, sides
from panokit_network.backbone import Conv
from panokit_network.model import Normalize, PanopticNetwork

log = logging.getLogger(__name__)

_NORMS = (nn.BatchNorm2d,)
_CONVS = (nn.Conv2d, nn.ConvTranspose2d)

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
    """A copy of any ``module`` (eval mode) with batch norms folded into its convolutions, where
    that is safe; ``module`` itself where nothing can be folded.

    A norm is folded if its convolution is called there and nowhere else, nobody else reads that
    result, and no other layer shares the weights. A module that torch.fx cannot trace stays as it
    is. What was folded is run beside the module as given, on noise; if they differ, the module as
    given stays.
    """
    if not any(isinstance(m, _NORMS) for m in module.modules()):
        return module
    try:
        graph = fx.symbolic_trace(copy.deepcopy(module).eval())
        folded = _fold_pairs(graph)
        same = folded and _agree(module, graph)
    except Exception as error:  # tracing runs the user's code, which may raise anything
        log.info("batch norms stay: %s: %s", type(error).__name__, error)
        return module
    return graph if same else module


def _fold_pairs(graph: fx.GraphModule) -> int:
    """Fold every batch norm that stands alone behind a convolution; how many there were."""
    layers = dict(graph.named_modules())
    calls = Counter(str(n.target) for n in graph.graph.nodes if n.op == "call_module")
    owners = Counter(id(p) for m in layers.values() for p in m.parameters(recurse=False))
    count = 0
    for node in list(graph.graph.nodes):
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module":
            continue
        norm, conv = layers[str(node.target)], layers[str(source.target)]
        alone = calls[str(node.target)] == calls[str(source.target)] == 1 and len(source.users) == 1
        own = owners[id(conv.weight)] == 1 if isinstance(conv, _CONVS) else False
        if not (isinstance(norm, _NORMS) and alone and own and norm.running_mean is not None):
            continue
        fused = fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, nn.ConvTranspose2d))
        parent, _, name = str(source.target).rpartition(".")
        setattr(layers[parent], name, fused)
        node.replace_all_uses_with(source)
        graph.graph.erase_node(node)
        count += 1
    graph.graph.lint()
    graph.recompile()
    graph.delete_all_unused_submodules()
    return count


@torch.no_grad()
def _agree(module: nn.Module, folded: nn.Module) -> bool:
    """Whether both give the same heads for noise, to float32's rounding."""
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    ours, theirs = module.eval()(noise), folded(noise)
    for name in theirs:
        error = (ours[name] - theirs[name]).double().square().sum()
        power = ours[name].double().square().sum()
        if not error <= 1e-8 * power:  # 80 dB; NaN is no agreement either
            return False
    return True


def count_parameters(module: nn.Module) -> int:
    """How many numbers are stored: parameters, without the statistics of batch norms."""
    return sum(p.numel() for p in module.parameters())


def count_macs(module: nn.Module, size: Size) -> int:
    """Multiply-accumulates of the convolutions and linear layers for one image of ``size``.

    Resizes, additions and activations are not counted, as is usual.
    """
    width, height = sides(size)
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
            module.eval()(torch.zeros(1, 3, height, width))
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
