"""Every kind of block is pruned rightly, or left alone with a word."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from panokit.errors import ArgumentError
from panokit_compression.channels import Channel, Family, find_families
from panokit_compression.prune import prune
from panokit_compression.recipes import Prune
from panokit_compression.structure import Structure
from panokit_network.plain import plain_module
from panokit_network.widths import apply_widths, record_widths
from tests.compression.blocks import BLOCKS, SIZE, network
from tests.toys.shares import some

IMAGE = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)) * 255
# Norms over channels see fewer of them: what is left is no more what it was.
OVER_CHANNELS = (nn.GroupNorm, nn.LayerNorm)

# Blocks of which no channel can go, and the layer that says why.
LEFT_ALONE = {
    "attention": "block.qkv",
    "channel_attention": "block.q",
    "fixed": "block.conv",
    "layer_norm": "block.0",
    "mixer": "block.b",
    "response_norm": "block.0",
    "selective": "block.a",
    "spatial_attention": "stem",
    "split": "block.into",
    "torch_attention": "stem",
    "positions": "stem",
    "free_weight": "stem",
    "conv_next": "stem",
    "bands": "block.into",
    "headed_attention": "block.q",
    "checks_numbers": "block.conv",
}


def given(name: str) -> nn.Module:
    """The network as a recipe gets it; the same every time."""
    return copy.deepcopy(plain_module(network(name)))


@torch.no_grad()
def heads(module: nn.Module) -> dict[str, Tensor]:
    found: dict[str, Tensor] = module.eval()(IMAGE)
    return found


@torch.no_grad()
def silence(module: nn.Module) -> None:
    """Set every third channel of every family to zero, with all that goes with it."""
    structure = Structure.of(module)
    families, _ = find_families(structure, module, IMAGE)
    for family in families:
        for channel in family.channels[::3]:
            for (tensor, dim), indices in channel.slots.items():
                parameter = structure.parameter(tensor)
                if parameter is not None:
                    parameter.index_fill_(dim, torch.tensor(indices), 0.0)


@pytest.mark.parametrize("name", some(BLOCKS, 6))
def test_channels_that_say_nothing_go_and_nothing_else_changes(name: str) -> None:
    module = given(name)
    silence(module)
    before = heads(module)
    found = prune(module, Prune(0.93, multiple_of=1), SIZE, (), lambda text: None)
    assert found.macs <= 0.93 * found.macs_before
    after = heads(module)
    if any(isinstance(m, OVER_CHANNELS) for m in module.modules()):
        assert all(torch.isfinite(head).all() for head in after.values())
        return
    for head, expected in before.items():
        scale = float(expected.abs().max())
        torch.testing.assert_close(after[head], expected, atol=1e-4 * scale, rtol=1e-4, msg=head)


@pytest.mark.slow
@pytest.mark.parametrize("name", some(BLOCKS, 20))
def test_a_pruned_network_reloads_into_a_fresh_one(name: str) -> None:
    module = given(name)
    found = prune(module, Prune(0.7, multiple_of=2), SIZE, (), lambda text: None)
    assert found.macs <= 0.7 * found.macs_before
    fresh = given(name)
    apply_widths(fresh, record_widths(module))
    fresh.load_state_dict(module.state_dict())
    expected = heads(module)
    for head, ours in heads(fresh).items():
        torch.testing.assert_close(ours, expected[head])
    said = [sentence.partition(":")[0] for sentence in found.left_alone]
    if name in LEFT_ALONE:
        assert LEFT_ALONE[name] in said
    else:
        assert not said


def width(module: nn.Module, name: str, key: str = "out_channels") -> int:
    return int(getattr(module.get_submodule(name), key))


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        pytest.param(
            "pixel_shuffle",
            lambda m: width(m, "block.2") == 4 * width(m, "plain.0", "in_channels"),
            id="four-for-one",
        ),
        pytest.param(
            "glu", lambda m: width(m, "block.0") == 2 * width(m, "plain.0", "in_channels"),
            id="two-for-one",
        ),
        pytest.param(
            "gated", lambda m: width(m, "block.both") == 2 * width(m, "plain.0", "in_channels"),
            id="chunks",
        ),
        pytest.param(
            "multiplier",
            lambda m: width(m, "block.0") == 2 * width(m, "stem")
            and width(m, "block.0", "groups") == width(m, "stem"),
            id="multiplier",
        ),
        pytest.param(
            "grouped", lambda m: width(m, "block.0", "groups") == 4 and width(m, "block.0") < 32,
            id="groups-stay",
        ),
        pytest.param(
            "dense",
            lambda m: width(m, "block.out", "in_channels")
            == width(m, "stem") + width(m, "block.a") + width(m, "block.b"),
            id="concatenated",
        ),
        pytest.param(
            "grouped_transposed",
            lambda m: width(m, "block.out", "in_channels")
            == width(m, "stem") + width(m, "block.up"),
            id="transposed",
        ),
        pytest.param(
            "cross_stage",
            lambda m: width(m, "block.into") == 2 * width(m, "block.chain.0", "in_channels") < 32,
            id="both-halves",
        ),
        pytest.param("tied", lambda m: m.block.a.weight is m.block.b.weight, id="still-tied"),
        pytest.param(
            "conv_next",
            lambda m: width(m, "block.up", "out_features")
            == width(m, "block.down", "in_features") < 64,
            id="hidden",
        ),
    ],
)  # fmt: skip
def test_widths_fit_each_other(name: str, holds: Callable[[nn.Module], bool]) -> None:
    module = given(name)
    prune(module, Prune(0.45, multiple_of=1, largest_cut=0.8), SIZE, (), lambda text: None)
    assert holds(module)


@pytest.mark.parametrize("name", ["glu", "pixel_shuffle", "dense", "shuffled", "branches"])
def test_what_is_connected_wrongly_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Families without their last axis, as of an operator that nobody knows."""

    def wrong(*arguments: object) -> tuple[list[Family], dict[str, str]]:
        families, reasons = find_families(*arguments)  # type: ignore[arg-type]
        broken = []
        for family in families:
            lost = next(a for a in reversed(family.axes) if a != family.root and a[0].endswith("t"))
            channels = tuple(
                Channel({a: i for a, i in channel.slots.items() if a != lost})
                for channel in family.channels
            )
            broken.append(Family(family.root, family.layer, channels))
        return broken, reasons

    monkeypatch.setattr("panokit_compression.pruner.find_families", wrong)
    module = given(name)
    before = heads(module)
    with pytest.raises(ArgumentError, match=r"left alone are .*(fewer channels|something else)"):
        prune(module, Prune(0.7, multiple_of=1), SIZE, (), lambda text: None)
    for head, after in heads(module).items():
        torch.testing.assert_close(after, before[head], rtol=0, atol=0)


def test_what_cannot_be_reached_names_the_layers() -> None:
    with pytest.raises(ArgumentError, match=r"least.*left alone are block\.conv: fewer channels"):
        prune(given("fixed"), Prune(0.05, multiple_of=1), SIZE, (), lambda text: None)
