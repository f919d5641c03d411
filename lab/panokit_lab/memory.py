"""Peak activation memory of a TFLite file, planned as TFLite plans its arena.

Every computed tensor lives from the operator that makes it to the last one that reads it. TFLite
places the largest first, each at the lowest offset that is free for its whole life (Pisarchyk and
Lee, https://arxiv.org/abs/2001.03288), aligned to 64 bytes; the arena is the highest end. Scratch
memory of kernels is not in the file and not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from panokit.tflite.read import read_tflite

__all__ = ["Tenant", "arena_bytes", "plan_arena"]

ALIGNMENT = 64


@dataclass(frozen=True)
class Tenant:
    """One tensor in memory: bytes, and the first and last operator it lives through."""

    bytes: int
    first: int
    last: int


def arena_bytes(tflite: bytes) -> int:
    """Bytes of the activation arena of a file (its first subgraph)."""
    return plan_arena(_tenants(tflite))


def plan_arena(tenants: list[Tenant]) -> int:
    """The arena that holds all tenants, largest placed first."""
    placed: list[tuple[int, int, Tenant]] = []  # offset, end
    for tenant in sorted(tenants, key=lambda t: -t.bytes):
        size = -(-tenant.bytes // ALIGNMENT) * ALIGNMENT
        offset = 0
        for start, end, other in sorted(placed, key=lambda p: p[0]):
            if other.last < tenant.first or tenant.last < other.first:
                continue
            if start - offset >= size:
                break
            offset = max(offset, end)
        placed.append((offset, offset + size, tenant))
    return max((end for _, end, _ in placed), default=0)


def _tenants(tflite: bytes) -> list[Tenant]:
    graph = read_tflite(tflite).main
    made = dict.fromkeys(graph.inputs, 0)
    used = dict.fromkeys(graph.outputs, len(graph.operators))
    for operator in graph.operators:
        for index in operator.outputs:
            made.setdefault(index, operator.index)
        for index in operator.inputs:
            used[index] = max(used.get(index, operator.index), operator.index)
    # A stored weight that is made float when the file is loaded is no activation.
    unpacked = {
        operator.outputs[0]
        for operator in graph.operators
        if operator.name == "DEQUANTIZE" and graph.tensors[operator.inputs[0]].data is not None
    }
    return [
        Tenant(graph.tensors[index].bytes, first, used.get(index, first))
        for index, first in made.items()
        if index not in unpacked
    ]
