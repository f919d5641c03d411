"""The operators and tensors of a TFLite, Core ML or ONNX file, in one vocabulary, without running
it. What the interpreter of this package does not know is read all the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from panokit.errors import ArgumentError, BundleError, ExportError, MissingExtraError
from panokit.tflite.check import check_tflite
from panokit.tflite.read import TfliteSubgraph
from panokit_converters.coreml_interpreter.package import open_package
from panokit_converters.coreml_interpreter.values import Fault, read_type

__all__ = ["LINTABLE", "Graph", "GraphOperator", "GraphTensor", "read_graph"]

LINTABLE = ("tflite", "coreml", "onnx")

# Common words for what the formats call differently.
_WORDS = {
    "upsample_bilinear": "resize_bilinear", "resize": "resize_bilinear", "topk_v2": "topk",
    "arg_max": "argmax", "arg_min": "argmin", "reduce_argmax": "argmax", "reduce_argmin": "argmin",
    "reduce_mean": "mean", "globalaveragepool": "mean", "average_pool_2d": "avg_pool",
    "averagepool": "avg_pool", "reduce_sum": "sum", "reducesum": "sum", "reducemean": "mean",
    "hardswish": "hard_swish", "conv_2d": "conv", "depthwise_conv_2d": "depthwise",
    "logsumexp": "logsumexp", "reduce_log_sum_exp": "logsumexp", "reducelogsumexp": "logsumexp",
    "nonzero": "non_zero", "nonmaxsuppression": "non_max_suppression",
    "non_max_suppression_v4": "non_max_suppression",
    "non_max_suppression_v5": "non_max_suppression", "quantizelinear": "quantize",
    "dequantizelinear": "dequantize", "gathernd": "gather_nd", "padv2": "pad",
    "mirror_pad": "pad", "logistic": "sigmoid",
}  # fmt: skip


@dataclass(frozen=True)
class GraphTensor:
    """A tensor; a size of None is known only when it runs. ``channels`` is the axis of channels."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    channel_axis: int

    @property
    def channels(self) -> int | None:
        """How many channels an image has."""
        return self.shape[self.channel_axis] if len(self.shape) == 4 else None

    @property
    def pixels(self) -> int | None:
        """Rows times columns of an image."""
        if len(self.shape) != 4:
            return None
        sizes = [s for i, s in enumerate(self.shape) if i not in (0, self.channel_axis % 4)]
        return None if None in sizes else (sizes[0] or 0) * (sizes[1] or 0)


@dataclass(frozen=True)
class GraphOperator:
    """An operator: ``kind`` is the common word, ``type`` the format's own. ``inputs`` are the
    computed ones."""

    kind: str
    type: str
    place: str
    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.place} {self.type}"


@dataclass(frozen=True)
class Graph:
    """All operators in order; ``inputs`` and ``outputs`` of the whole."""

    format: str
    path: Path
    operators: tuple[GraphOperator, ...]
    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]

    def tensors(self) -> Iterator[tuple[str, GraphTensor]]:
        """Every tensor that is computed or given, with where it comes from."""
        for tensor in self.inputs:
            yield f"input {tensor.name!r}", tensor
        for operator in self.operators:
            for tensor in operator.outputs:
                yield str(operator), tensor

    def consumers(self, tensor: GraphTensor) -> list[GraphOperator]:
        """Who takes a tensor."""
        return [o for o in self.operators if any(i.name == tensor.name for i in o.inputs)]


def read_graph(path: Path) -> Graph:
    """Read a ``.tflite``, ``.mlpackage`` or ``.onnx``; ``BundleError`` if it is damaged."""
    readers = {".tflite": _read_tflite, ".mlpackage": _read_coreml, ".onnx": _read_onnx}
    if path.suffix not in readers:
        raise ArgumentError(
            "artifact",
            f"artifact {path.name!r} cannot be read; expected one of: {', '.join(readers)}",
        )
    return readers[path.suffix](path)


def _word(name: str) -> str:
    lower = name.lower()
    return _WORDS.get(lower, lower)


def _read_tflite(path: Path) -> Graph:
    found = check_tflite(path, to_run=False)
    main = found.main
    operators = []
    for graph, op in found.all_operators():
        options = dict(op.options)
        if op.name.startswith("RESIZE"):
            options["sampling"] = (
                "align_corners" if options["align_corners"]
                else "half_pixel" if options["half_pixel_centers"] else "asymmetric"
            )  # fmt: skip
        if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D") and len(op.inputs) > 2:
            options["bias"] = graph.tensors[op.inputs[2]] if op.inputs[2] >= 0 else None
        given = [i for i in op.inputs if i >= 0 and graph.tensors[i].data is None]
        weights = not given and op.name == "DEQUANTIZE"
        if weights:
            continue  # float16 weights, made dense when the file is loaded
        operators.append(
            GraphOperator(
                kind="custom" if op.name.startswith("CUSTOM") else _word(op.name),
                type=op.name,
                place=f"operator {op.index}",
                inputs=tuple(_tflite_tensor(graph, i) for i in given),
                outputs=tuple(_tflite_tensor(graph, i) for i in op.outputs),
                options=options,
            )
        )
    inputs = tuple(_tflite_tensor(main, i) for i in main.inputs)
    outputs = tuple(_tflite_tensor(main, i) for i in main.outputs)
    return Graph("tflite", path, tuple(operators), inputs, outputs)


def _tflite_tensor(graph: TfliteSubgraph, index: int) -> GraphTensor:
    tensor = graph.tensors[index]
    shape: tuple[int | None, ...] = tensor.shape
    if tensor.dynamic:
        shape = tuple(None if size == 1 else size for size in tensor.shape)
    return GraphTensor(f"{index}", shape, tensor.dtype, -1)


_SAMPLING = {"UNALIGN_CORNERS": "half_pixel", "DEFAULT": "asymmetric"}


def _read_coreml(path: Path) -> Graph:
    try:
        model = open_package(path).model
        return _mil_graph(path, model)
    except ExportError as error:
        raise BundleError(error.path, error.reason) from None
    except (Fault, AttributeError, TypeError, KeyError, StopIteration) as error:
        raise BundleError(path, f"holds no ML Program that can be read: {error}") from None


def _mil_graph(path: Path, model: Mapping[str, Any]) -> Graph:
    description = model.get("description", {})
    name = description.get("defaultFunctionName", "") or "main"
    function = model.get("mlProgram", {}).get("functions", {}).get(name, {})
    blocks = function.get("block_specializations", {})
    block = blocks.get(function.get("opset", ""), {})
    if not block:
        raise Fault("no block of operators")
    tensors: dict[str, GraphTensor] = {}
    texts: dict[str, str] = {}
    flags: dict[str, bool] = {}
    for declared in function.get("inputs", []):
        tensors[declared["name"]] = _mil_tensor(declared)
    inputs = tuple(tensors.values())
    operators = []
    for index, message in enumerate(block.get("operations", [])):
        kind = message.get("type", "")
        made = [_mil_tensor(out) for out in message.get("outputs", [])]
        if kind == "const":
            value = message.get("attributes", {}).get("val", {}).get("immediateValue", {})
            tensor = value.get("tensor", {})
            if "strings" in tensor and made:
                texts[made[0].name] = "".join(tensor["strings"].get("values", []))
            if "bools" in tensor and made:
                flags[made[0].name] = any(tensor["bools"].get("values", []))
            continue
        if kind.startswith("constexpr"):
            continue
        names = {
            operand: [b.get("name", "") for b in argument.get("arguments", [])]
            for operand, argument in message.get("inputs", {}).items()
        }
        given = [tensors[n] for ns in names.values() for n in ns if n in tensors]
        options: dict[str, Any] = {}
        if kind == "upsample_bilinear":
            corners = flags.get("".join(names.get("align_corners", [])), True)
            options["sampling"] = "align_corners" if corners else "half_pixel"
        elif kind == "resize_bilinear":
            mode = texts.get("".join(names.get("sampling_mode", [])), "DEFAULT")
            options["sampling"] = _SAMPLING.get(mode, "align_corners")
        tensors |= {tensor.name: tensor for tensor in made}
        custom = kind == "custom_layer" or "." in kind
        operators.append(
            GraphOperator(
                kind="custom" if custom else _word(kind),
                type=kind,
                place=f"{name}[{index}]",
                inputs=tuple(given),
                outputs=tuple(made),
                options=options,
            )
        )
    outputs = tuple(tensors[n] for n in block.get("outputs", []) if n in tensors)
    return Graph("coreml", path, tuple(operators), inputs, outputs)


def _mil_tensor(declared: Mapping[str, Any]) -> GraphTensor:
    kind = read_type(declared.get("type", {}))
    return GraphTensor(declared.get("name", ""), kind.shape, kind.dtype, 1)


def _read_onnx(path: Path) -> Graph:
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("linting ONNX files", "export") from None
    try:
        model = onnx.load(str(path), load_external_data=False)
        model = onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # protobuf and onnx raise many kinds
        raise BundleError(path, f"is no ONNX file that can be read: {error}") from None
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    tensors = {
        value.name: _onnx_tensor(onnx, value)
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    operators = []
    for index, node in enumerate(graph.node):
        if node.op_type == "Constant":
            constants.update(node.output)
            continue
        options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Resize":
            mode = options.get("coordinate_transformation_mode", b"half_pixel").decode()
            options["sampling"] = "half_pixel" if mode.endswith("half_pixel") else mode
        custom = node.domain not in ("", "ai.onnx")
        kind = _word(node.op_type)
        if kind == "conv" and options.get("group", 1) > 1:
            kind = "depthwise"
        unknown = ((), "float32")
        operators.append(
            GraphOperator(
                kind="custom" if custom else kind,
                type=f"{node.domain}.{node.op_type}" if custom else node.op_type,
                place=f"node {index}",
                inputs=tuple(
                    tensors.get(n, GraphTensor(n, *unknown, 1))
                    for n in node.input
                    if n and n not in constants
                ),
                outputs=tuple(tensors.get(n, GraphTensor(n, *unknown, 1)) for n in node.output),
                options=options,
            )
        )
    inputs = tuple(tensors[v.name] for v in graph.input if v.name not in constants)
    return Graph(
        "onnx", path, tuple(operators), inputs, tuple(tensors[v.name] for v in graph.output)
    )


def _onnx_tensor(onnx: Any, value: Any) -> GraphTensor:
    kind = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    except KeyError:
        dtype = "unknown"
    return GraphTensor(value.name, shape, dtype, 1)
