"""What a TFLite file must keep so that LiteRT can be handed it.

LiteRT checks little: an index or a shape that is wrong ends the process instead of raising. Here
every tensor is bounded, and so is all that is needed together; constants have the bytes that their
shape needs, operators stand in the order they run and never write into constants, and each keeps
its rule (:mod:`panokit.tflite.rules`). An operator without a rule is refused, unless the user says
that the files are trusted (``panokit --trust``).
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

from panokit.errors import BundleError
from panokit.tflite.flatbuffer import FlatbufferError
from panokit.tflite.read import (
    TfliteFile,
    TfliteOperator,
    TfliteSubgraph,
    TfliteTensor,
    read_tflite,
)
from panokit.tflite.rules import check_operator

__all__ = ["check_tflite", "check_tflite_bytes", "is_trusted", "trust_files"]

TRUST = "PANOKIT_TRUST"
"""Environment variable, which child processes and threads see too."""

MAX_FILE_BYTES = 2_000_000_000
MAX_TENSOR_BYTES = 1 << 30
MAX_AT_ONCE = 3 << 29  # bytes of computed tensors that are needed at one time
MAX_RANK = 8
MAX_WORK = 10**12  # multiplications of a graph

_INTEGERS = {"int8", "uint8", "int16", "int32", "int64", "int4", "uint4", "int2"}
_CONTROL = {"IF", "WHILE", "CALL", "CALL_ONCE", "DELEGATE"}


def trust_files(trusted: bool = True) -> None:
    """Let model files through whose operators have no rule here. For files of one's own: one that
    is damaged or hostile may then end the process."""
    os.environ[TRUST] = "1" if trusted else ""


def is_trusted() -> bool:
    """Whether model files are let through whatever their operators are."""
    return os.environ.get(TRUST) == "1"


def check_tflite(path: str | os.PathLike[str], *, to_run: bool = True) -> TfliteFile:
    """Read and check the file at ``path``; ``BundleError`` says what is wrong with it. One that is
    only looked at (not ``to_run``) may hold operators without a rule."""
    path = Path(path)
    if not path.is_file():
        raise BundleError(path, "no such TFLite file")
    size = path.stat().st_size
    if not 8 <= size <= MAX_FILE_BYTES:
        raise BundleError(path, f"expected 8 to {MAX_FILE_BYTES} bytes, got {size}")
    with path.open("rb") as file:
        # Constants stay views of the map, which lives as long as they do.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return check_tflite_bytes(data, path, to_run=to_run)


def check_tflite_bytes(
    data: Any, where: str | Path = "TFLite file", *, to_run: bool = True
) -> TfliteFile:
    """As :func:`check_tflite`, of a file's content; ``where`` names it in errors."""
    try:
        found = read_tflite(data)
        for graph in found.subgraphs:
            _check_graph(graph, to_run and not is_trusted())
    except FlatbufferError as error:
        reason = f"is damaged or not made for LiteRT: {error}"
        do = "get the file again or export it anew (`panokit --trust …` runs files of your own)"
        raise BundleError(where, f"{reason}; {do}") from None
    return found


def _check_graph(graph: TfliteSubgraph, by_rule: bool) -> None:
    for tensor in graph.tensors:
        _check_tensor(tensor)
    known = {t.index for t in graph.tensors if t.data is not None}
    for index in graph.inputs:
        if index in known:
            raise FlatbufferError(f"input {index} of the graph is a constant, or comes twice")
        known.add(index)
    work = sum(_check_operator(op, graph, known, by_rule) for op in graph.operators)
    if work > MAX_WORK:
        raise FlatbufferError(f"it takes {work:.2g} multiplications, the limit is {MAX_WORK:.2g}")
    for index in graph.outputs:
        if index not in known:
            raise FlatbufferError(f"output {index} of the graph is computed by no operator")
    if not graph.inputs or not graph.outputs:
        raise FlatbufferError("a graph without input or output")
    if (most := _most_at_once(graph)) > MAX_AT_ONCE:
        raise FlatbufferError(f"it needs {most} bytes at one time, the limit is {MAX_AT_ONCE}")


def _check_tensor(tensor: TfliteTensor) -> None:
    what = f"tensor {tensor.index} ({tensor.name[-60:]!r})"
    if len(tensor.shape) > MAX_RANK or min(tensor.shape, default=1) < 1:
        raise FlatbufferError(f"{what}: expected up to {MAX_RANK} sizes from 1, {tensor.shape}")
    if tensor.bytes > MAX_TENSOR_BYTES:
        raise FlatbufferError(f"{what}: {tensor.bytes} bytes, the limit is {MAX_TENSOR_BYTES}")
    if tensor.data is not None and tensor.data.size != tensor.bytes:
        reason = f"{tensor.shape} of {tensor.dtype} needs {tensor.bytes} bytes"
        raise FlatbufferError(f"{what}: {reason}, it has {tensor.data.size}")
    count = len(tensor.scale)
    if not count:
        return
    per_axis = 0 <= tensor.axis < len(tensor.shape) and tensor.shape[tensor.axis]
    if count not in (1, per_axis) or len(tensor.zero_point) != count:
        reason = f"{count} scales and {len(tensor.zero_point)} zero points"
        raise FlatbufferError(f"{what}: {reason} for the axis {tensor.axis} of {tensor.shape}")
    if not (np.isfinite(tensor.scale).all() and (tensor.scale > 0).all()):
        raise FlatbufferError(f"{what}: a scale that is not above zero")
    if tensor.dtype not in _INTEGERS:
        raise FlatbufferError(f"{what}: {tensor.dtype} with a scale")
    low, high = _range(tensor)
    if (tensor.zero_point < low).any() or (tensor.zero_point > high).any():
        raise FlatbufferError(f"{what}: a zero point outside of {low}..{high}")


def _range(tensor: TfliteTensor) -> tuple[int, int]:
    bits = min(tensor.bits, 32)
    if tensor.dtype.startswith("u"):
        return 0, (1 << bits) - 1
    return -(1 << bits - 1), (1 << bits - 1) - 1


def _check_operator(
    operator: TfliteOperator, graph: TfliteSubgraph, known: set[int], by_rule: bool
) -> int:
    """How many multiplications the operator takes; what it computes is ``known`` afterwards."""
    what = f"operator {operator.index} ({operator.name})"
    if operator.name in _CONTROL:
        raise FlatbufferError(f"{what}: control flow, which phones' delegates do not run")
    for index in operator.inputs:
        if index >= 0 and index not in known:
            raise FlatbufferError(f"{what}: takes tensor {index} before it is computed")
    for index in operator.outputs:
        if index in known:
            raise FlatbufferError(f"{what}: writes tensor {index}, which has a value already")
        known.add(index)
    if not operator.outputs:
        raise FlatbufferError(f"{what}: has no result")
    if not by_rule:
        return 0
    given = [graph.tensors[i] if i >= 0 else None for i in operator.inputs]
    try:
        return check_operator(operator, given, [graph.tensors[i] for i in operator.outputs])
    except FlatbufferError as error:
        raise FlatbufferError(f"{what}: {error}") from None


def _most_at_once(graph: TfliteSubgraph) -> int:
    """Bytes of the computed tensors that are needed at one time, at the most."""
    last = {i: number for number, op in enumerate(graph.operators) for i in op.inputs if i >= 0}
    last |= dict.fromkeys(graph.outputs, len(graph.operators))
    live = {i: graph.tensors[i].bytes for i in graph.inputs}
    now = most = sum(live.values())
    for number, op in enumerate(graph.operators):
        for index in op.outputs:
            live[index] = graph.tensors[index].bytes
            now += live[index]
        most = max(most, now)
        for index in {*op.inputs, *op.outputs}:
            if index in live and last.get(index, -1) <= number:
                now -= live.pop(index)
    return most
