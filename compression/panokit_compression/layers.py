"""The layers of a TFLite file: names, weights and multiply-accumulates.

A layer is an operator with constant weights. Its name is the path of the torch module it came
from, as the converter recorded it (``ModuleList`` and ``Sequential`` containers that a forward
method loops over leave no trace in it), or the name of its weights in files of other converters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from panokit.errors import ArgumentError
from panokit.tflite.read import PATH_MARK, TfliteOperator, TfliteSubgraph, TfliteTensor, read_tflite

__all__ = [
    "FoundOperator",
    "TfliteLayer",
    "layer_name",
    "match_layers",
    "operator_of_error",
    "tflite_layers",
    "tflite_macs",
]

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")

# What a contract is put around a user's module as, which it holds as ``network``.
CONTRACT = ".ContractModule_"
# "package.module.Class_attribute" in the converter's tensor names; a class may begin with "_".
_COMPONENT = re.compile(r"^_*[^_]+_(.+)$")


@dataclass(frozen=True)
class TfliteLayer:
    """One layer.

    ``scope`` is what ai-edge-quantizer knows the operator by; ``weight_shape`` as stored
    (``[out,kh,kw,in]``, depthwise ``[1,kh,kw,C]``); ``macs`` for one image; ``weight_bytes`` as
    stored, without scales.
    """

    name: str
    operator: str
    scope: str
    weight_shape: tuple[int, ...]
    macs: int
    weight_bytes: int

    @property
    def weights(self) -> int:
        """How many weights there are."""
        return math.prod(self.weight_shape)


def tflite_layers(tflite: bytes) -> list[TfliteLayer]:
    """The layers of a file in order of execution; names are unique."""
    graph = read_tflite(tflite).main
    weights = _constants(graph)
    layers: list[TfliteLayer] = []
    taken: set[str] = set()
    for operator in graph.operators:
        weight = weights.get(operator.inputs[1]) if operator.name in WEIGHTED else None
        if weight is None or weight.data is None:
            continue
        layers.append(
            TfliteLayer(
                name=_unique(layer_name(weight.name), taken),
                operator=operator.name,
                scope=_scope(graph, operator),
                weight_shape=weight.shape,
                macs=_macs(operator.name, weight.shape, graph.tensors[operator.outputs[0]].shape),
                weight_bytes=weight.data.size,
            )
        )
    return layers


def tflite_macs(tflite: bytes) -> int:
    """Multiply-accumulates of all layers for one image."""
    return sum(layer.macs for layer in tflite_layers(tflite))


def match_layers(names: Iterable[str], patterns: Iterable[str], what: str) -> list[str]:
    """The names that any pattern matches at their start; ``ArgumentError`` for a pattern that
    matches none, because a misspelt one would silently protect nothing."""
    names = list(names)
    found: set[str] = set()
    for pattern in patterns:
        hits = [n for n in names if re.match(pattern, n)]
        if not hits:
            expected = f"patterns of layer names such as {', '.join(names[:4])}"
            raise ArgumentError(what, f"{what}: {pattern!r} matches no layer; expected {expected}")
        found.update(hits)
    return [n for n in names if n in found]


def layer_name(tensor_name: str) -> str:
    """``a.b.Class_x/c.d.Class_y;1`` → ``x.y``; the wrapper around the network is left out."""
    for source in tensor_name.split(";"):  # several, where the converter joined operators
        path = source.split("/")
        named = (_COMPONENT.match(component.rpartition(".")[2]) for component in path)
        parts = [m.group(1) for m in named if m]
        if parts and parts[0] == "module":
            parts = parts[1:]
        if parts[:1] == ["network"] and any(CONTRACT in component for component in path):
            parts = parts[1:]
        if parts:
            return ".".join(parts).replace(PATH_MARK, ".")
    return tensor_name


@dataclass(frozen=True)
class FoundOperator:
    """An operator: its kind, the layer it belongs to, and what ai-edge-quantizer knows it by."""

    layer: str
    operator: str
    scope: str


def operator_of_error(tflite: bytes, message: str) -> FoundOperator | None:
    """What an error of LiteRT or its tools is about, as far as its message tells: ``Node number 9
    (BROADCAST_TO)``, the name of a tensor, or that of an operator."""
    graph = read_tflite(tflite).main
    number = re.search(r"[Nn]ode number (\d+)", message)
    if number and int(number[1]) < len(graph.operators):
        return _found(graph, graph.operators[int(number[1])])
    for operator in graph.operators:
        names = [graph.tensors[i].name for i in (*operator.outputs, *operator.inputs) if i >= 0]
        if any(len(name) > 3 and name in message for name in names):
            return _found(graph, operator)
    for operator in sorted(graph.operators, key=lambda o: -len(o.name)):
        if operator.name in message:
            return _found(graph, operator)
    return None


def _found(graph: TfliteSubgraph, operator: TfliteOperator) -> FoundOperator:
    name = graph.tensors[operator.outputs[0]].name if operator.outputs else ""
    layer = layer_name(name)
    if layer == name:  # of no module's own: the network's forward does it
        layer = "the network itself"
    return FoundOperator(layer, operator.name, _scope(graph, operator))


def _unique(name: str, taken: set[str]) -> str:
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}#{number}"
    taken.add(candidate)
    return candidate


def _constants(graph: TfliteSubgraph) -> dict[int, TfliteTensor]:
    """Tensor index → the constant behind it, through DEQUANTIZE of stored weights."""
    found = {tensor.index: tensor for tensor in graph.tensors if tensor.data is not None}
    for operator in graph.operators:
        if operator.name == "DEQUANTIZE" and operator.inputs[0] in found:
            found[operator.outputs[0]] = found[operator.inputs[0]]
    return found


def _scope(graph: TfliteSubgraph, operator: TfliteOperator) -> str:
    return "".join(f"{graph.tensors[index].name};" for index in operator.outputs)


def _macs(kind: str, weight: tuple[int, ...], output: tuple[int, ...]) -> int:
    if kind == "DEPTHWISE_CONV_2D":
        return math.prod(output) * weight[1] * weight[2]
    return math.prod(output) * math.prod(weight[1:])
