"""Folding: the same network with fewer operators."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from panokit.errors import ArgumentError
from panokit.photo import Photo
from panokit.preprocessing import PreprocessConfig, preprocess
from panokit_network.backbone import Conv
from panokit_network.deploy import count_macs, count_parameters, fuse
from panokit_network.model import HEAD_NAMES, NetworkConfig, PanopticNetwork

# float32 rounding through 80 layers, relative to the largest value of the head
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def network() -> PanopticNetwork:
    """Random weights, and batch norms as uneven as trained ones."""
    torch.manual_seed(0)
    network = PanopticNetwork().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.2, 3)
            nn.init.uniform_(module.weight, 0.3, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Over all heads, relative to each head's largest value."""
    return max(float((a[n] - b[n]).abs().max() / a[n].abs().max()) for n in HEAD_NAMES)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(torch.zeros(1, 3, 96, 96), id="black"),
        # white next to the padding: a fold that mishandles the border shows here
        pytest.param(torch.full((1, 3, 96, 96), 255.0), id="white"),
        pytest.param(torch.arange(2 * 3 * 96 * 64).reshape(2, 3, 96, 64) % 256.0, id="batch"),
    ],
)
def test_fused_network_computes_the_same(network: PanopticNetwork, image: Tensor) -> None:
    with torch.inference_mode():
        assert largest_difference(network(image), fuse(network)(image)) < TOLERANCE


@pytest.mark.parametrize("kernel", [3, 5])
def test_a_stride_2_layer_trains_on_what_it_pads_in_use(kernel: int) -> None:
    torch.manual_seed(0)
    layer = Conv(4, 4, kernel, stride=2, groups=4).train()
    image = torch.rand(2, 4, 12, 8) - 0.5
    before, after = (0, 1) if kernel == 3 else (1, 2)
    plain = layer.conv(nn.functional.pad(image, (before, after, before, after)))
    assert plain.shape == (2, 4, 6, 4)
    want = nn.functional.relu6(nn.functional.batch_norm(plain, None, None, training=True, eps=1e-3))
    torch.testing.assert_close(layer(image), want)
    assert isinstance(layer.bn, nn.BatchNorm2d)
    mean = 0.01 * plain.mean((0, 2, 3))  # statistics are of the layer's own outputs alone
    torch.testing.assert_close(layer.bn.running_mean, mean)


@pytest.mark.parametrize("bf16", [False, True])
def test_training_with_folded_norms_is_training_in_eval_mode(
    network: PanopticNetwork, bf16: bool
) -> None:
    image = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(1)) * 255
    gradients: list[dict[str, Tensor]] = []
    for folds in (False, True):
        copied = copy.deepcopy(network).train()
        for module in copied.modules():
            if isinstance(module, Conv):
                module.bn.eval()
                module.folds = folds
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            heads = copied(image)
        sum(h.float().square().mean() for h in heads.values()).backward()
        gradients.append({n: p.grad for n, p in copied.named_parameters() if p.grad is not None})
    plain, folded = gradients
    assert plain.keys() == folded.keys() == {n for n, _ in network.named_parameters()}
    for name, gradient in plain.items():
        norm = float(gradient.norm()) + 1e-6
        # bf16 rounds the same sums in another order through 80 layers
        assert float((gradient - folded[name]).norm()) / norm < (0.35 if bf16 else 2e-3), name


def test_fused_network_computes_the_same_on_real_photos(
    network: PanopticNetwork, photo_set: Path
) -> None:
    paths = sorted((photo_set / "images" / "coco_person").glob("*.jpg"))[:3]
    fused = fuse(network)
    for path in paths:
        array, _ = preprocess(Photo.open(path), PreprocessConfig((160, 160)))
        image = torch.from_numpy(np.array(array)).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            assert largest_difference(network(image), fused(image)) < TOLERANCE


def test_fuse_leaves_the_original_alone(network: PanopticNetwork) -> None:
    before = copy.deepcopy(network.state_dict())
    fused = fuse(network)
    after = network.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert before.keys() == after.keys()
    first = fused.get_submodule("backbone.stem.conv")
    assert isinstance(first, nn.Conv2d)
    with torch.no_grad():
        first.weight.zero_()
    assert network.backbone.stem.conv.weight.abs().max() > 0


def test_no_batch_norm_and_no_normalisation_is_left(network: PanopticNetwork) -> None:
    fused = fuse(network.train())
    network.eval()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    assert isinstance(fused.normalize, nn.Identity)
    assert not fused.training
    assert not any(p.requires_grad for p in fused.parameters())


def test_size_of_the_shipped_network(network: PanopticNetwork) -> None:
    fused = fuse(network)
    assert count_parameters(fused) <= 4.5e6
    assert count_macs(fused, 320) <= 1.8e9
    # four times the pixels, four times the work
    assert count_macs(fused, 128) == 4 * count_macs(fused, 64)


def test_a_smaller_configuration_fuses_too() -> None:
    config = NetworkConfig(classes=3, pyramid_width=16, semantic_width=16, instance_width=8)
    network = PanopticNetwork(config).eval()
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.inference_mode():
        assert largest_difference(network(image), fuse(network)(image)) < TOLERANCE


def test_macs_by_hand() -> None:
    # 8x8 → stride 2 → 4x4 outputs of 5 channels, each from 3·3·3; then 5·1·3·3 depthwise, same size
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU6(), nn.Conv2d(5, 5, 3, padding=1, groups=5)
    )
    assert count_macs(net, 8) == 16 * 5 * 27 + 16 * 5 * 9
    assert net.training  # as it was
    assert count_parameters(net) == 5 * 27 + 5 + 5 * 9 + 5


def test_macs_refuse_an_impossible_size() -> None:
    with pytest.raises(ArgumentError, match=r"size is .*; expected at least 1"):
        count_macs(nn.Conv2d(3, 1, 1), 0)
