"""Torch → ONNX by torch's exporter.

Fixed shapes, images and heads NCHW in float32 (the network's own layout), one file without
external data. What the exporter adds for debugging (it names files of the machine) is taken out,
so that the same weights give the same bytes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from panokit._quiet import hushed, quiet
from panokit.bundle import TensorSpec
from panokit.errors import ArgumentError, ExportError, MissingExtraError
from panokit_converters.contract import ContractSpec, TupleHeads, run_heads
from panokit_converters.interface import HEADS, INPUT, INPUT_TYPES, InputType
from panokit_converters.model_info import ModelInfo
from panokit_converters.program.attempts import (
    argument,
    first_that_works,
    has_rewrite,
    resizes_unevenly,
)
from panokit_converters.program.blame import explained
from panokit_converters.program.capture import export_program, flat_module, operator_name

__all__ = ["OPSET", "convert_onnx", "finish_onnx", "onnx_operators", "onnx_specs"]

log = logging.getLogger(__name__)

OPSET = 22
IR_VERSION = 10


def convert_onnx(
    module: nn.Module, size_wh: tuple[int, int], heads: Sequence[str] = HEADS
) -> bytes:
    """A float32 ONNX file of ``module`` (eval mode, returns named ``heads``) for one image of
    ``size_wh``."""
    width, height = size_wh
    image = torch.zeros(1, 3, height, width)
    run_heads(module, image, heads)
    onnx = _tool()
    with explained("ONNX", "torch", module, size_wh, _probe, heads):
        program = first_that_works(
            module,
            size_wh,
            _wants_rewritten,
            lambda version: _export(version, (image,), heads),
            heads,
        )
    if program is None:
        raise ExportError("ONNX", "torch exported nothing")
    model = program.model_proto
    _strip(model)
    model.ir_version = IR_VERSION
    with quiet(log):
        onnx.checker.check_model(model, full_check=True)
    return _serialize(model)


def _export(module: nn.Module, inputs: tuple[Tensor, ...], heads: Sequence[str]) -> Any:
    with quiet(log), hushed(logging.getLogger("torch.onnx")), torch.no_grad():
        return torch.onnx.export(
            TupleHeads(module, heads).eval() if heads else module,
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT] if heads else None,
            output_names=list(heads) or None,
            verbose=False,
        )


def _probe(module: nn.Module, examples: tuple[Tensor, ...]) -> None:
    flat = flat_module(export_program(module, examples), has_rewrite)
    _export(flat, examples, ())


def _wants_rewritten(node: fx.Node) -> bool:
    """What comes out of torch's exporter as something else."""
    name = operator_name(node)
    if name == "max_pool2d":
        return any(d != 1 for d in argument(node, 4, [1]))
    if name == "scaled_dot_product_attention":
        return len(node.meta["val"].shape) != 4
    return name in ("rrelu", "adaptive_max_pool2d") or resizes_unevenly(node)


def finish_onnx(content: bytes, info: ModelInfo, kind: InputType = "native") -> bytes:
    """The file with its description, labels and taxonomy inside, and the wanted type of input
    (``uint8`` puts a cast before the first operator; ``native`` is float32)."""
    if kind not in INPUT_TYPES:
        raise ArgumentError(
            "input", f"input is {kind!r}; expected one of: {', '.join(INPUT_TYPES)}"
        )
    onnx = _tool()
    model = onnx.load_model_from_string(content)
    _strip(model)
    if kind == "uint8":
        _take_bytes(onnx, model)
    model.producer_name, model.producer_version = "panokit", info.version
    model.graph.name = "panoptic"
    model.doc_string = info.description
    for output in model.graph.output:
        output.doc_string = info.head_descriptions.get(output.name, "")
    onnx.helper.set_model_props(
        model,
        {
            "name": info.name,
            "author": info.author,
            "license": info.licence,
            "version": info.version,
            "labels": json.dumps(info.labels, ensure_ascii=False),
            "taxonomy": json.dumps(info.taxonomy.to_json(), ensure_ascii=False),
            "stride": str(info.stride),
        },
    )
    return _serialize(model)


def onnx_specs(
    contract: ContractSpec, kind: InputType = "native"
) -> tuple[TensorSpec, dict[str, TensorSpec]]:
    """The input and the heads of a file written here, all NCHW."""
    width, height = contract.size_wh
    dtype = "uint8" if kind == "uint8" else "float32"
    image = TensorSpec(INPUT, (1, 3, height, width), dtype, "nchw")
    return image, contract.tensors()


def onnx_operators(content: bytes) -> dict[str, int]:
    """How often each operator occurs, by name; ones outside the standard set as ``domain:name``."""
    counts: dict[str, int] = {}
    for node in _tool().load_model_from_string(content).graph.node:
        name = f"{node.domain}:{node.op_type}" if node.domain else node.op_type
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def _take_bytes(onnx: Any, model: Any) -> None:
    """uint8 comes in and is cast to what the first operators take."""
    graph = model.graph
    (image,) = graph.input
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == INPUT:
                node.input[index] = f"{INPUT}_float32"
    cast = onnx.helper.make_node(
        "Cast", [INPUT], [f"{INPUT}_float32"], name="cast_image", to=onnx.TensorProto.FLOAT
    )
    graph.node.insert(0, cast)
    image.type.tensor_type.elem_type = onnx.TensorProto.UINT8


def _strip(model: Any) -> None:
    """Takes out what only debugging needs; stack traces hold paths of this machine."""
    graph = model.graph
    del model.metadata_props[:]
    del graph.metadata_props[:]
    del graph.value_info[:]
    model.doc_string = graph.doc_string = ""
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]


def _serialize(model: Any) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


def _tool() -> Any:
    try:
        with quiet(log):
            import onnx
            import onnxscript  # noqa: F401 - torch's exporter is made of it
    except ImportError as error:
        if error.name in ("onnx", "onnxscript"):
            raise MissingExtraError("exporting to ONNX", "export") from None
        raise
    return onnx
