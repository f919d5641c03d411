"""All kinds of small networks, by name."""

from __future__ import annotations

from tests.networks.attention import ATTENTION
from tests.networks.blocks import BLOCKS
from tests.networks.convolutions import CONVOLUTIONS
from tests.networks.norms import NORMS
from tests.networks.parts import Kind
from tests.networks.shapes import SHAPES
from tests.networks.ways import WAYS

__all__ = ["GROUPS", "KINDS"]

GROUPS: dict[str, dict[str, Kind]] = {
    "Convolutions and pools": CONVOLUTIONS,
    "Norms and activations": NORMS,
    "Attention and transformers": ATTENTION,
    "Resizes, slices, sums": SHAPES,
    "Blocks and decoders": BLOCKS,
    "Ways of writing": WAYS,
}
KINDS: dict[str, Kind] = {name: build for group in GROUPS.values() for name, build in group.items()}
