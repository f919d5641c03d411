"""Peak activation memory of a TFLite file, planned as TFLite plans its arena.

Every computed tensor lives from the operator that makes it to the last one that reads it. TFLite
places the largest first, each at the lowest offset that is free for its whole life (Pisarchyk and
Lee, https://arxiv.org/abs/2001.03288), aligned to 64 bytes; the arena is the highest end. Scratch
memory of kernels is not in the file and not counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["Tenant", "arena_bytes", "plan_arena"]

ALIGNMENT = 64
_TYPE_BYTES = {0: 4.0, 1: 2.0, 2: 4.0, 3: 1.0, 4: 8.0, 6: 1.0, 7: 2.0, 9: 1.0, 17: 0.5}


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
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(tflite, 0)
    graph = model.Subgraphs(0)
    count = graph.OperatorsLength()
    made = {graph.Inputs(i): 0 for i in range(graph.InputsLength())}
    used = {graph.Outputs(i): count for i in range(graph.OutputsLength())}
    for k in range(count):
        operator = graph.Operators(k)
        for i in range(operator.OutputsLength()):
            made.setdefault(operator.Outputs(i), k)
        for i in range(operator.InputsLength()):
            index = operator.Inputs(i)
            used[index] = max(used.get(index, k), k)
    # A stored weight that is made float when the file is loaded is no activation.
    unpacked = _unpacked(model, graph)
    return [
        Tenant(_bytes(graph.Tensors(index)), first, used.get(index, first))
        for index, first in made.items()
        if index >= 0 and index not in unpacked
    ]


def _unpacked(model: Any, graph: Any) -> set[int]:
    from ai_edge_litert import schema_py_generated as schema

    found: set[int] = set()
    for k in range(graph.OperatorsLength()):
        operator = graph.Operators(k)
        code = model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
        if code == schema.BuiltinOperator.DEQUANTIZE:
            buffer = model.Buffers(graph.Tensors(operator.Inputs(0)).Buffer())
            if buffer.DataLength() or buffer.Size():
                found.add(operator.Outputs(0))
    return found


def _bytes(tensor: Any) -> int:
    shape = [int(tensor.Shape(i)) for i in range(tensor.ShapeLength())]
    return math.ceil(math.prod(shape) * _TYPE_BYTES.get(int(tensor.Type()), 4.0))
