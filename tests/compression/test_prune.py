"""Pruning: groups stay whole, heads keep their channels, what matters stays."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from panokit.errors import ArgumentError
from panokit_compression.channels import find_families
from panokit_compression.prune import prune, sparse_masks, sparsify
from panokit_compression.recipes import Prune, Sparsify
from panokit_compression.structure import Structure
from panokit_network.deploy import count_macs
from panokit_network.widths import apply_widths, record_widths
from tests.toys.network import ToyNetwork
from tests.toys.user_network import TinyPanoptic

IMAGES = [torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255] * 2


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
def test_share_of_macs_is_reached_and_the_heads_stay(importance: str) -> None:
    module = TinyPanoptic().eval()
    step = Prune(0.5, importance, rounds=2, multiple_of=4)  # type: ignore[arg-type]
    found = prune(module, step, 64, IMAGES, lambda text: None)
    assert found.macs == count_macs(module, 64) <= 0.5 * found.macs_before
    assert found.parameters == sum(p.numel() for p in module.parameters())
    assert (module.classes.out_channels, module.where.out_channels) == (3, 3)
    heads = module.eval()(torch.zeros(1, 3, 64, 64))
    assert {n: h.shape[1] for n, h in heads.items()} == {"semantic": 3, "center": 1, "offset": 2}
    widths = [m.out_channels for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert all(w % 4 == 0 for w in widths if w != 3)


def conv(layer: nn.Sequential) -> nn.Conv2d:
    """The convolution that a layer begins with."""
    first = layer[0]
    assert isinstance(first, nn.Conv2d)
    return first


def test_depthwise_layers_go_with_the_layer_before() -> None:
    module = ToyNetwork().eval()
    prune(module, Prune(0.7, "magnitude", multiple_of=1), 32, (), lambda text: None)
    assert module.depthwise.groups == module.depthwise.in_channels == module.stem.out_channels
    assert module.deep.out_channels == module.lateral.out_channels  # they are added


def test_protected_layers_keep_their_channels() -> None:
    module = TinyPanoptic().eval()
    step = Prune(0.6, "magnitude", protected=("first",), multiple_of=1)
    prune(module, step, 64, (), lambda text: None)
    assert conv(module.first).out_channels == 16
    assert conv(module.second).out_channels < 32


def test_heads_are_found_behind_slices_and_products() -> None:
    module = TinyPanoptic().eval()
    families, _ = find_families(Structure.of(module), module, torch.zeros(1, 3, 64, 64))
    made = {axis for family in families for axis in family.axes}
    assert made
    assert not made & {("classes.weight", 0), ("where.weight", 0)}


def test_taylor_keeps_the_channels_that_matter() -> None:
    """Half of the first layer's channels are cut off behind; only those may go."""
    module = TinyPanoptic().eval()
    dead = torch.arange(16) % 2 == 1
    with torch.no_grad():
        conv(module.second).weight[:, dead] = 0
        # large, so that magnitude would keep them
        conv(module.first).weight[dead] *= 10
    before = module(IMAGES[0])["semantic"]
    step = Prune(0.95, "taylor", rounds=1, largest_cut=0.5, multiple_of=1,
                 protected=("second", "deep", "trunk"))  # fmt: skip
    prune(module, step, 64, IMAGES, lambda text: None)
    assert conv(module.first).out_channels < 16
    torch.testing.assert_close(module.eval()(IMAGES[0])["semantic"], before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
@pytest.mark.parametrize(("largest_cut", "multiple_of"), [(0.5, 1), (0.4, 4)])
def test_no_layer_loses_more_than_the_largest_cut(
    importance: str, largest_cut: float, multiple_of: int
) -> None:
    module = TinyPanoptic()
    widths = {
        n: m.out_channels for n, m in module.named_modules() if isinstance(m, torch.nn.Conv2d)
    }
    step = Prune(0.6, importance, (), 1, largest_cut, multiple_of)  # type: ignore[arg-type]
    prune(module, step, 64, IMAGES, lambda text: None)
    shares = {n: m.out_channels / widths[n] for n, m in module.named_modules() if n in widths}
    assert min(shares.values()) >= 1 - largest_cut
    assert min(shares.values()) < 0.75


@pytest.mark.parametrize(
    ("step", "message"),
    [
        pytest.param(Prune(0.05, largest_cut=0.2), "is the least", id="too-much"),
        pytest.param(Prune(0.5, protected=("nose",)), "protected", id="no-such-layer"),
        pytest.param(Prune(0.5, "taylor"), "Taylor importance", id="no-images"),
    ],
)
def test_what_cannot_be_is_said(step: Prune, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        prune(TinyPanoptic().eval(), step, 64, (), lambda text: None)


def test_sparsify_takes_the_smallest_of_each_large_layer() -> None:
    module = TinyPanoptic().eval()
    before = conv(module.trunk).weight.detach().clone()
    small = module.classes.weight.detach().clone()
    masks = sparsify(module, Sparsify(0.75))
    after = conv(module.trunk).weight
    zeros = torch.eq(after, 0)
    assert int(zeros.sum()) == -(-before.numel() * 3 // 4)
    assert before[zeros].abs().max() <= before[~zeros].abs().min()
    torch.testing.assert_close(after[~zeros], before[~zeros])
    torch.testing.assert_close(module.classes.weight, small)  # few weights: left whole
    assert sparse_masks(module).keys() == masks.keys()


def test_widths_round_trip_and_are_not_trusted() -> None:
    module = TinyPanoptic().eval()
    prune(module, Prune(0.5, multiple_of=2), 64, (), lambda text: None)
    widths = record_widths(module)
    fresh = TinyPanoptic().eval()
    apply_widths(fresh, widths)
    fresh.load_state_dict(module.state_dict())
    x = torch.rand(1, 3, 64, 64) * 255
    torch.testing.assert_close(fresh(x)["offset"], module(x)["offset"])
    for bad, message in (
        ({"first.0": {"in": 3, "out": 10**9, "groups": 1}}, "at most the module's own"),
        ({"nose": {"in": 3, "out": 8, "groups": 1}}, "of the module"),
        ({"first.0": {"in": 3, "out": 8, "groups": 2}}, "multiples of the groups"),
        ({"first.0": {"in": 3, "out": "8", "groups": 1}}, "whole numbers"),
    ):
        with pytest.raises(ArgumentError, match=message):
            apply_widths(TinyPanoptic(), bad)  # type: ignore[arg-type]
