"""What a TFLite file that was made here holds: tensors, operators, what XNNPACK takes over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from panokit.bundle import TensorSpec
from panokit.errors import ExportError
from panokit_converters.interface import HEADS, INPUT
from panokit_converters.tflite.file import schema_module

__all__ = [
    "loads",
    "odd_operators",
    "tflite_operators",
    "tflite_specs",
    "xnnpack_share",
]


def tflite_specs(
    tflite: bytes, heads: Sequence[str] = HEADS
) -> tuple[TensorSpec, dict[str, TensorSpec]]:
    """The input and the ``heads`` of a file that was made here, with their quantization, as the
    file itself states."""
    runner = _runner(tflite)
    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    if set(inputs) != {INPUT} or set(outputs) != set(heads):
        expected = f"expected {INPUT} → {', '.join(heads)}"
        raise ExportError("TFLite", f"{expected}, got {sorted(inputs)} → {sorted(outputs)}")
    return _spec(INPUT, inputs[INPUT]), {name: _spec(name, outputs[name]) for name in heads}


def tflite_operators(tflite: bytes) -> dict[str, int]:
    """How often each operator occurs, by its TFLite name; custom ones as ``CUSTOM:name``."""
    schema = schema_module()
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    model = schema.Model.GetRootAs(tflite, 0)
    counts: dict[str, int] = {}
    for g in range(model.SubgraphsLength()):
        graph = model.Subgraphs(g)
        for k in range(graph.OperatorsLength()):
            code = model.OperatorCodes(graph.Operators(k).OpcodeIndex())
            name = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            if name == "CUSTOM":
                name = f"CUSTOM:{(code.CustomCode() or b'').decode()}"
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def odd_operators(tflite: bytes) -> dict[str, int]:
    """The operators of a file that are not plain: custom, Flex and StableHLO ones, which not every
    runtime has, and those that a converter leaves where layouts did not meet."""
    odd = ("CUSTOM:", "STABLEHLO", "GATHER_ND")
    return {
        name: count
        for name, count in tflite_operators(tflite).items()
        if name.startswith(odd) or name == "TRANSPOSE"
    }


def loads(tflite: bytes) -> None:
    """``ExportError`` if LiteRT does not take the file, or cannot run it on zeros."""
    interpreter = _interpreter(tflite)
    try:
        interpreter.allocate_tensors()
        interpreter.invoke()
    except RuntimeError as error:
        raise ExportError("TFLite", f"LiteRT cannot run the file: {error}") from None


def xnnpack_share(tflite: bytes) -> float:
    """The share of the file's operators that XNNPACK takes over here, 0..1."""
    interpreter = _interpreter(tflite)
    interpreter.allocate_tensors()
    operators: list[dict[str, Any]] = interpreter._get_ops_details()
    # The list keeps the operators that a delegate has replaced. Walking back from the outputs,
    # through the delegate wherever it makes a tensor, meets only those that really run.
    maker: dict[int, dict[str, Any]] = {}
    for operator in operators:  # delegates are listed last, so they win
        maker |= {int(index): operator for index in operator["outputs"]}
    total = sum(operator["op_name"] != "DELEGATE" for operator in operators)
    waiting = [int(detail["index"]) for detail in interpreter.get_output_details()]
    seen: set[int] = set()
    running: set[int] = set()
    while waiting:
        index = waiting.pop()
        if index in seen or index not in maker:
            continue
        seen.add(index)
        operator = maker[index]
        if operator["op_name"] != "DELEGATE":
            running.add(int(operator["index"]))
        waiting += [int(i) for i in operator["inputs"]]
    return 1 - len(running) / total if total else 0.0


def _spec(name: str, detail: dict[str, Any]) -> TensorSpec:
    dtype = np.dtype(detail["dtype"])
    scale, zero_point = detail["quantization"]
    labels = dtype.name in ("int32", "int64")
    integer = np.issubdtype(dtype, np.integer) and not labels
    if integer and not scale > 0:
        raise ExportError("TFLite", f"tensor {name!r} is {dtype.name} but has no scale")
    return TensorSpec(
        name=name,
        shape=tuple(int(v) for v in detail["shape"]),
        dtype=dtype.name,
        layout={2: "vector", 3: "rows"}.get(len(detail["shape"]), "nhwc"),
        scale=float(scale) if integer else None,
        zero_point=int(zero_point) if integer else None,
    )


def _interpreter(tflite: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        return Interpreter(model_content=tflite, num_threads=2)
    except ValueError as error:
        raise ExportError("TFLite", f"LiteRT cannot load the file: {error}") from None


def _runner(tflite: bytes) -> Any:
    interpreter = _interpreter(tflite)
    signatures = list(interpreter.get_signature_list())
    if len(signatures) != 1:
        raise ExportError("TFLite", f"expected one signature, got {signatures}")
    return interpreter.get_signature_runner(signatures[0])
