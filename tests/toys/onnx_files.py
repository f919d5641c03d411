"""ONNX files of networks that always answer the same, whatever their contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_onnx(
    path: Path,
    outputs: Mapping[str, NDArray[Any]],
    size_wh: tuple[int, int],
    layout: str = "nchw",
    shape: Sequence[Any] | None = None,
    metadata: Mapping[str, str] | None = None,
    brightness: Mapping[str, float] | None = None,
) -> Path:
    """A network with one picture as input that gives these arrays, each plus ``brightness`` (by
    output) times the mean of the input. ``shape`` replaces the input's."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    width, height = size_wh
    own = [1, 3, height, width] if layout == "nchw" else [1, height, width, 3]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, list(shape or own))
    nodes = [helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0)]
    constants, infos = [], []
    for name, values in outputs.items():
        factor = np.array((brightness or {}).get(name, 0.0), np.float32)
        constants += [
            numpy_helper.from_array(np.asarray(values), f"{name}.values"),
            numpy_helper.from_array(factor, f"{name}.factor"),
        ]
        whole = np.issubdtype(np.asarray(values).dtype, np.integer)
        kind = TensorProto.INT64 if whole else TensorProto.FLOAT
        nodes.append(helper.make_node("Mul", ["mean", f"{name}.factor"], [f"{name}.light"]))
        light = f"{name}.light"
        if whole:
            nodes.append(helper.make_node("Cast", [light], [f"{name}.whole"], to=kind))
            light = f"{name}.whole"
        nodes.append(helper.make_node("Add", [f"{name}.values", light], [name]))
        infos.append(helper.make_tensor_value_info(name, kind, list(np.shape(values))))
    graph = helper.make_graph(nodes, "toy", [image], infos, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
