"""Transpositions that the converter leaves behind: moved past paddings until they cancel.

litert-torch turns a network to NHWC operator by operator and stops at a padding whose input goes
elsewhere as well. What remains is TRANSPOSE → PAD → TRANSPOSE, two passes over memory for nothing.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit_converters.tflite.file import pack_tflite, schema_module, unpack_tflite

__all__ = ["without_transposes"]


def without_transposes(tflite: bytes) -> bytes:
    """The same network with fewer TRANSPOSE operators; the file itself if there is none to spare.

    A padding after a transposition is done before it, with its axes renamed; then transpositions
    that undo one another are taken out. Results stay the same to the bit.
    """
    graph = _Graph(unpack_tflite(tflite))
    changed = False
    while graph.step():
        changed = True
    if not changed:
        return tflite
    graph.drop_unused_tensors()
    return pack_tflite(graph.model)


class _Graph:
    """The main graph of a model, with what the rewriting asks of it."""

    def __init__(self, model: Any) -> None:
        self.model, self.graph = model, model.subgraphs[0]
        operators = schema_module().BuiltinOperator
        self._codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
        self._transpose, self._pad = operators.TRANSPOSE, operators.PAD

    def step(self) -> bool:
        """One rewriting; False when none is left."""
        for operator in self.graph.operators:
            axes = self._axes(operator)
            if axes is None:
                continue
            output = int(operator.outputs[0])
            if not self._users(output) and output not in self.graph.outputs:
                self._remove(operator)
                return True
            for user in self._users(output):
                if self._cancel(operator, axes, user) or self._pass_padding(operator, axes, user):
                    return True
        return False

    def drop_unused_tensors(self) -> None:
        """Tensors that no operator touches any more; the others are numbered anew."""
        graph, entries = self.graph, []
        for signature in self.model.signatureDefs or ():
            entries += [*signature.inputs, *signature.outputs]
        used = {int(i) for i in (*graph.inputs, *graph.outputs)} | {e.tensorIndex for e in entries}
        for operator in graph.operators:
            used |= {int(i) for i in (*operator.inputs, *operator.outputs)}
        kept = sorted(used - {-1})
        number = {old: new for new, old in enumerate(kept)} | {-1: -1}  # -1: an operand left out
        graph.tensors = [graph.tensors[i] for i in kept]
        for holder in (graph, *graph.operators):
            holder.inputs = np.array([number[int(i)] for i in holder.inputs], np.int32)
            holder.outputs = np.array([number[int(i)] for i in holder.outputs], np.int32)
        for entry in entries:
            entry.tensorIndex = number[entry.tensorIndex]

    def _cancel(self, first: Any, axes: list[int], second: Any) -> bool:
        """Two transpositions that undo one another: users of the second take the first's input."""
        then = self._axes(second)
        if then is None or [axes[i] for i in then] != sorted(axes):
            return False
        source, result = int(first.inputs[0]), int(second.outputs[0])
        if result in self.graph.outputs:  # its name and place are part of the signature
            return False
        for user in self._users(result):
            user.inputs = np.array([source if i == result else i for i in user.inputs], np.int32)
        self._remove(second)
        return True

    def _pass_padding(self, first: Any, axes: list[int], second: Any) -> bool:
        """pad(transpose(x)) becomes transpose(pad(x))."""
        if self._code(second) != self._pad:
            return False
        amounts = self._constant(int(second.inputs[1]))
        if amounts is None or amounts.shape != (len(axes), 2):
            return False
        old = self.graph.tensors[int(second.outputs[0])]
        padded, shape = np.empty_like(amounts), np.empty_like(old.shape)
        for place, axis in enumerate(axes):
            padded[axis], shape[axis] = amounts[place], old.shape[place]
        target = self._add_like(old, shape)
        amount = self._add_constant(self.graph.tensors[int(second.inputs[1])], padded)
        before, after = copy.copy(second), copy.copy(first)
        before.inputs = np.array([first.inputs[0], amount], np.int32)
        before.outputs = np.array([target], np.int32)
        after.inputs = np.array([target, first.inputs[1]], np.int32)
        after.outputs = second.outputs
        at = next(i for i, o in enumerate(self.graph.operators) if o is second)
        self.graph.operators[at : at + 1] = [before, after]
        return True

    def _code(self, operator: Any) -> int:
        return int(self._codes[operator.opcodeIndex])

    def _axes(self, operator: Any) -> list[int] | None:
        """The order of axes of a transposition; None for other operators."""
        if self._code(operator) != self._transpose:
            return None
        axes = self._constant(int(operator.inputs[1]))
        return None if axes is None else [int(i) for i in axes]

    def _users(self, tensor: int) -> list[Any]:
        return [o for o in self.graph.operators if tensor in o.inputs]

    def _remove(self, operator: Any) -> None:
        self.graph.operators = [o for o in self.graph.operators if o is not operator]

    def _constant(self, index: int) -> NDArray[Any] | None:
        tensor = self.graph.tensors[index]
        types = schema_module().TensorType
        kinds = {types.INT32: "<i4", types.INT64: "<i8"}
        data = self.model.buffers[tensor.buffer].data
        if tensor.type not in kinds or data is None or not len(data):
            return None
        values = np.frombuffer(np.asarray(data, np.uint8).tobytes(), kinds[tensor.type])
        return values.reshape(tensor.shape).copy()

    def _add_like(self, tensor: Any, shape: NDArray[Any]) -> int:
        added = copy.copy(tensor)
        added.shape, added.shapeSignature = shape, None
        added.name = tensor.name + b"_nhwc"
        self.graph.tensors.append(added)
        return len(self.graph.tensors) - 1

    def _add_constant(self, like: Any, values: NDArray[Any]) -> int:
        buffer = schema_module().BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        added = copy.copy(like)
        added.buffer, added.name = len(self.model.buffers) - 1, like.name + b"_nhwc"
        self.graph.tensors.append(added)
        return len(self.graph.tensors) - 1
