"""What every operator of an artifact computes for one image, in one vocabulary for all formats.

A trace is a list of operators in the order they run, with their inputs, options, weights and
float32 results, channels last. What converters write in different ways is brought to one form: an
activation that stands alone becomes part of its convolution; paddings, transpositions, casts and
(de)quantisations vanish.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.bundle import Artifact, Bundle
from panokit.errors import ArgumentError, BundleError, ExportError
from panokit.runtime import quantize_image
from panokit.tflite.check import check_tflite
from panokit.tflite.read import PATH_MARK, TfliteOperator, TfliteSubgraph, TfliteTensor
from panokit_converters.coreml_interpreter import CoreMLProgram, Operator
from panokit_converters.interface import INPUT

__all__ = [
    "TRACEABLE",
    "Trace",
    "TracedOperator",
    "short_name",
    "trace_artifact",
    "trace_coreml",
    "trace_tflite",
]

Array = NDArray[Any]
TRACEABLE = ("tflite", "coreml")


@dataclass(frozen=True)
class TracedOperator:
    """One operator. ``kind`` is the common word (``conv``, ``depthwise``, ``resize_bilinear``, …),
    ``type`` the format's own; ``place`` and ``name`` say where it is in the file.

    ``inputs`` and ``output`` are keys of :attr:`Trace.values`; ``weights`` float32
    ``[O,kh,kw,I]`` (I = 1 if depthwise) and ``bias`` ``[O]``, dequantised; ``scale`` is that of a
    quantised output; ``notes`` are sentences about what the file alone shows to be wrong.
    """

    kind: str
    type: str
    place: str
    name: str
    inputs: tuple[str, ...]
    output: str
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None
    scale: float | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.place} {self.type} {short_name(self.name)!r}"


@dataclass(frozen=True)
class Trace:
    """Operators in the order they run, and tensors by key: float32, ``[h,w,C]`` where they are
    images; :data:`INPUT` is the key of the image."""

    artifact: str
    operators: tuple[TracedOperator, ...]
    values: Mapping[str, NDArray[np.float32]]


def short_name(name: str, length: int = 60) -> str:
    """The telling end of the long path that converters write as a tensor's name."""
    parts = [p.rsplit(".", 1)[-1] for p in name.split("/") if p]
    kept = [p for p in parts[-4:] if not p.startswith("Conv2d_") or PATH_MARK in p]
    text = "/".join(p.removeprefix("Conv2d_").replace(PATH_MARK, ".") for p in kept)
    return (text or name).strip(";")[-length:]


def trace_artifact(bundle: Bundle, artifact: Artifact, image_hwc: NDArray[np.uint8]) -> Trace:
    """Trace an artifact of a bundle, TFLite or Core ML, on an input ``[H,W,3]`` of 0..255."""
    path = bundle.path(artifact)
    if artifact.format == "tflite":
        given = quantize_image(image_hwc, artifact.input, bundle.manifest.preprocessing)
        return trace_tflite(path, image_hwc, artifact.name, given)
    if artifact.format == "coreml":
        return trace_coreml(path, image_hwc, artifact.name)
    raise ArgumentError(
        "artifact", f"the artifact has the format {artifact.format!r}; expected tflite or coreml"
    )


# --- TFLite -----------------------------------------------------------------------------------

_TFLITE_KINDS = {
    "CONV_2D": "conv", "DEPTHWISE_CONV_2D": "depthwise", "CONCATENATION": "concat",
    "AVERAGE_POOL_2D": "avg_pool", "MAX_POOL_2D": "max_pool", "LOGISTIC": "sigmoid",
    "FULLY_CONNECTED": "linear", "RESIZE_NEAREST_NEIGHBOR": "resize_nearest",
    "HARD_SWISH": "hard_swish",
}  # fmt: skip


def trace_tflite(
    path: str | Path,
    image_hwc: NDArray[np.uint8],
    name: str = "",
    given: NDArray[Any] | None = None,
) -> Trace:
    """Trace a TFLite file of one image input with LiteRT's own kernels (no delegate). ``given`` is
    the input tensor where it is more than the image's bytes: scaled, of another order."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    graph = check_tflite(path).main
    try:
        interpreter = Interpreter(
            model_path=str(path),
            num_threads=2,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
        (source,) = graph.inputs
        image = _tflite_input(graph.tensors[source], image_hwc) if given is None else given
        interpreter.set_tensor(source, image)
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        raise BundleError(Path(path), f"LiteRT cannot run it: {error}") from None
    constants = {t.index: t for t in graph.tensors if t.data is not None}
    dense: dict[int, Array] = {}
    keys = {source: INPUT}
    values = {INPUT: image_hwc.astype(np.float32)}
    operators: list[TracedOperator] = []
    for op in graph.operators:
        result = op.outputs[0]
        if op.name in ("DEQUANTIZE", "QUANTIZE", "CAST") and op.inputs[0] in keys:
            keys[result] = keys[op.inputs[0]]
            continue
        if all(i < 0 or i in constants or i in dense for i in op.inputs):
            dense[result] = _real(graph.tensors[result], interpreter.get_tensor(result))
            continue
        key = f"t{result}"
        keys[result] = key
        values[key] = _image(_real(graph.tensors[result], interpreter.get_tensor(result)))
        operators.append(_tflite_operator(op, graph, keys, dense))
    return _simplified(Trace(name or Path(path).name, tuple(operators), values))


def _tflite_input(tensor: TfliteTensor, image_hwc: NDArray[np.uint8]) -> Array:
    height, width, channels = image_hwc.shape
    if tensor.shape == (1, channels, height, width) != (1, *image_hwc.shape):
        image_hwc = np.moveaxis(image_hwc, -1, 0)
    if tensor.shape != (1, *image_hwc.shape):
        raise ArgumentError(
            "image_hwc", f"image_hwc has the shape {image_hwc.shape}; expected {tensor.shape[1:]}"
        )
    if not tensor.scale.size:
        return image_hwc[None].astype(tensor.dtype)
    info = np.iinfo(tensor.dtype)
    q = np.round(image_hwc / tensor.scale[0]) + tensor.zero_point[0]
    return np.asarray(np.clip(q, info.min, info.max).astype(tensor.dtype)[None])


def _real(tensor: TfliteTensor, values: Array) -> NDArray[np.float32]:
    """Real values of a tensor: dequantised if it is quantised."""
    if not tensor.scale.size or not np.issubdtype(values.dtype, np.integer):
        return values.astype(np.float32)
    shape = [1] * values.ndim
    if tensor.scale.size > 1:
        shape[tensor.axis] = -1
    zero = tensor.zero_point.reshape(shape).astype(np.float32)
    return np.asarray((values.astype(np.float32) - zero) * tensor.scale.reshape(shape), np.float32)


def _constant(
    index: int, graph: TfliteSubgraph, dense: Mapping[int, Array]
) -> NDArray[np.float32] | None:
    """A constant operand as float32; None if it is left out, computed, or of a packed type."""
    if index in dense:
        return dense[index]
    tensor = graph.tensors[index] if index >= 0 else None
    if tensor is None or tensor.data is None:
        return None
    if tensor.dtype == "int4":
        low = (tensor.data & 15).astype(np.int8)
        high = (tensor.data >> 4).astype(np.int8)
        flat = np.stack([low, high], 1).ravel()[: int(np.prod(tensor.shape))]
        return _real(tensor, ((flat ^ 8) - 8).reshape(tensor.shape))
    if tensor.dtype not in ("float32", "float16", "int8", "uint8", "int16", "int32", "int64"):
        return None
    return _real(tensor, np.frombuffer(tensor.data, tensor.dtype).reshape(tensor.shape))


def _tflite_operator(
    op: TfliteOperator,
    graph: TfliteSubgraph,
    keys: Mapping[int, str],
    dense: Mapping[int, Array],
) -> TracedOperator:
    result = graph.tensors[op.outputs[0]]
    options: dict[str, Any] = {"activation": op.activation}
    weights = bias = None
    if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        weights = _constant(op.inputs[1], graph, dense)
        if op.name == "DEPTHWISE_CONV_2D" and weights is not None:
            weights = weights.transpose(3, 1, 2, 0)
        bias = _constant(op.inputs[2], graph, dense) if len(op.inputs) > 2 else None
        if "stride_h" in op.options:
            options["stride"] = (op.options["stride_h"], op.options["stride_w"])
    if op.name.startswith("RESIZE"):
        options["sampling"] = (
            "align_corners" if op.options["align_corners"]
            else "half_pixel" if op.options["half_pixel_centers"] else "asymmetric"
        )  # fmt: skip
    notes = _cut_off_bias(graph.tensors[op.inputs[2]]) if bias is not None else ()
    return TracedOperator(
        kind=_TFLITE_KINDS.get(op.name, op.name.lower()),
        type=op.name,
        place=f"operator {op.index}",
        name=result.name,
        inputs=tuple(keys[i] for i in op.inputs if i in keys),
        output=f"t{op.outputs[0]}",
        options=options,
        weights=weights,
        bias=bias,
        scale=float(result.scale[0]) if result.scale.size == 1 else None,
        notes=notes,
    )


def _cut_off_bias(bias: TfliteTensor) -> tuple[str, ...]:
    """A bias has the scale input·weight: tiny weights make it too large for 32 bits."""
    if bias.dtype != "int32" or bias.data is None:
        return ()
    numbers = np.frombuffer(bias.data, np.int32).astype(np.int64)
    channels = np.flatnonzero(np.abs(numbers) >= (1 << 31) - 1).tolist()
    if not channels:
        return ()
    listed = ", ".join(map(str, channels[:5])) + ("…" if len(channels) > 5 else "")
    return (f"the bias of channel {listed} is cut off at the end of int32: its weights' scale is "
            "too small for it",)  # fmt: skip


# --- Core ML ----------------------------------------------------------------------------------

_MIL_KINDS = {
    "upsample_bilinear": "resize_bilinear", "upsample_nearest_neighbor": "resize_nearest",
    "resize_nearest_neighbor": "resize_nearest", "reduce_mean": "mean",
}  # fmt: skip
_MIL_SAMPLING = {
    "UNALIGN_CORNERS": "half_pixel", "DEFAULT": "asymmetric", "ALIGN_CORNERS": "align_corners",
    "STRICT_ALIGN_CORNERS": "align_corners", "OFFSET_CORNERS": "offset_corners",
}  # fmt: skip


def trace_coreml(path: str | Path, image_hwc: NDArray[np.uint8], name: str = "") -> Trace:
    """Trace a Core ML package of one image input with the interpreter."""
    try:
        program = CoreMLProgram.open(path)
        (feature,) = program.inputs
        computed = program.run({feature.name: image_hwc}, keep="all")
    except ExportError as error:
        raise BundleError(error.path, error.reason) from None
    keys = {feature.name: INPUT}
    seen = image_hwc[..., ::-1] if feature.color == "bgr" else image_hwc
    values = {INPUT: seen.astype(np.float32)}
    operators: list[TracedOperator] = []
    for op, operands in program.wiring():
        inputs = tuple(keys[p] for ps in operands.values() for p in ps if isinstance(p, str))
        result = op.outputs[0]
        if op.type in ("cast", "quantize", "dequantize") and len(inputs) == 1:
            keys[result] = inputs[0]
            continue
        keys.update({output: output for output in op.outputs})
        values |= {out: _image(computed[out].astype(np.float32), nchw=True) for out in op.outputs}
        operators.append(_mil_operator(op, operands, inputs))
    return _simplified(Trace(name or Path(path).name, tuple(operators), values))


def _mil_operator(
    op: Operator, operands: Mapping[str, tuple[str | Array, ...]], inputs: tuple[str, ...]
) -> TracedOperator:
    def constant(name: str) -> Array | None:
        part = operands.get(name, ("",))[0]
        return None if isinstance(part, str) else part

    kind = _MIL_KINDS.get(op.type, op.type)
    options: dict[str, Any] = {"activation": "NONE"}
    weights, bias = constant("weight"), constant("bias")
    if op.type == "conv" and weights is not None:
        groups = int(_number(constant("groups"), 1))
        kind = "depthwise" if groups > 1 and weights.shape[1] == 1 else "conv"
        strides = constant("strides")
        options["stride"] = tuple(int(s) for s in strides) if strides is not None else (1, 1)
        if weights.ndim == 4:
            weights = weights.transpose(0, 2, 3, 1)
    if op.type == "upsample_bilinear":
        corners = bool(_number(constant("align_corners"), 1))
        options["sampling"] = "align_corners" if corners else "half_pixel"
    elif op.type == "resize_bilinear":
        mode = constant("sampling_mode")
        options["sampling"] = _MIL_SAMPLING[str(mode) if mode is not None else "DEFAULT"]
    if op.type == "clip":
        low, high = _number(constant("alpha"), -np.inf), _number(constant("beta"), np.inf)
        kind = {(0.0, 6.0): "relu6", (-1.0, 1.0): "relu_n1_to_1"}.get((low, high), "clip")
    return TracedOperator(
        kind=kind,
        type=op.type,
        place=f"{op.location}",
        name=op.name,
        inputs=inputs,
        output=op.outputs[0],
        options=options,
        weights=None if weights is None else weights.astype(np.float32),
        bias=None if bias is None else bias.astype(np.float32),
    )


def _number(value: Array | None, default: float) -> float:
    return default if value is None else float(value.reshape(-1)[0])


def _image(values: Array, nchw: bool = False) -> NDArray[np.float32]:
    """Without the batch axis, channels last."""
    if values.ndim == 4 and values.shape[0] == 1:
        values = np.moveaxis(values[0], 0, -1) if nchw else values[0]
    return np.asarray(values, np.float32)


# --- One form for both ------------------------------------------------------------------------

_ACTIVATIONS = {"relu", "relu6", "relu_n1_to_1"}
_TAKES_ACTIVATION = {"conv", "depthwise", "add", "mul", "sub", "linear", "concat"}


def _simplified(trace: Trace) -> Trace:
    """Activations join the operator before them; paddings and transpositions vanish."""
    uses: dict[str, int] = {}
    for op in trace.operators:
        for key in op.inputs:
            uses[key] = uses.get(key, 0) + 1
    alias: dict[str, str] = {}
    kept: list[TracedOperator] = []
    place: dict[str, int] = {}  # output → position in kept
    for op in trace.operators:
        op = replace(op, inputs=tuple(alias.get(key, key) for key in op.inputs))
        source = op.inputs[0] if len(op.inputs) == 1 else ""
        before = kept[place[source]] if source in place else None
        if (
            op.kind in _ACTIVATIONS and before is not None and uses[source] == 1
            and before.kind in _TAKES_ACTIVATION and before.options["activation"] == "NONE"
        ):  # fmt: skip
            merged = {**before.options, "activation": op.kind.upper()}
            kept[place[source]] = replace(before, output=op.output, options=merged)
            place[op.output] = place[source]
            continue
        if op.kind in ("pad", "padv2", "transpose") and source:
            # Whether it was right shows in the result of what comes behind it.
            alias[op.output] = source
            continue
        place[op.output] = len(kept)
        kept.append(op)
    return Trace(trace.artifact, tuple(kept), trace.values)
