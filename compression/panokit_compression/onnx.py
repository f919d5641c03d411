"""A float ONNX file in, one of another precision out, by onnxruntime's tools."""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit._quiet import hushed, quiet
from panokit.errors import ArgumentError, ExportError, MissingExtraError
from panokit_compression.calibration import CalibrationSet
from panokit_compression.noted import NotedFile

__all__ = ["quantize_onnx", "quantize_onnx_noted"]

log = logging.getLogger(__name__)

Ranges = dict[str, list[dict[str, Any]]]


def quantize_onnx(
    float_onnx: bytes, precision: str, calibration: CalibrationSet | None = None
) -> bytes:
    """As :func:`quantize_onnx_noted`, the file alone."""
    return quantize_onnx_noted(float_onnx, precision, calibration).content


def quantize_onnx_noted(
    float_onnx: bytes, precision: str, calibration: CalibrationSet | None = None
) -> NotedFile:
    """The file in another precision: ``float32`` (itself), ``float16`` or ``int8``.

    float16 keeps float32 borders. int8 is onnxruntime's static quantization (QDQ, weights per
    channel, widest ranges over the ``calibration`` images); heads come out as float32. The image is
    the file's only input, float32 ``[1,3,H,W]``. Operators that the tool cannot quantize stay in
    float, and a note says so; ``ExportError`` names the layer if that does not help.
    """
    if precision == "float32":
        return NotedFile(float_onnx)
    onnx = _tool()
    if precision == "float16":
        return NotedFile(_to_float16(onnx, float_onnx))
    if precision != "int8":
        raise ArgumentError(
            "ONNX precision", f"ONNX precision is {precision!r}; expected float32, float16 or int8"
        )
    if calibration is None:
        raise ArgumentError(
            "calibration", "an int8 ONNX file needs calibration images, and none are given"
        )
    return _quantize_int8(onnx, float_onnx, calibration)


def _to_float16(onnx: Any, float_onnx: bytes) -> bytes:
    with quiet(log):
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = onnx.load_model_from_string(float_onnx)
        try:
            converted = convert_float_to_float16(model, keep_io_types=True)
        except Exception as error:  # the tool raises whatever its own code runs into
            reason = f"{type(error).__name__}: {_first_line(error)}"
            raise ExportError(
                "ONNX float16", f"onnxruntime cannot convert it ({reason}); export it as float32"
            ) from error
    return bytes(converted.SerializeToString(deterministic=True))


class _Images:
    """Calibration images as onnxruntime's quantizer asks for them, one after the other."""

    def __init__(self, name: str, calibration: CalibrationSet) -> None:
        self._name = name
        self._images: Iterator[Any] = iter(calibration.images)

    def get_next(self) -> dict[str, Any] | None:
        image = next(self._images, None)
        if image is None:
            return None
        return {self._name: np.ascontiguousarray(np.moveaxis(image, -1, 0)[None], np.float32)}


@dataclass(frozen=True)
class _Values:
    """What one image makes of every tensor of a file; ``still`` are the tensors that are zero on
    all images."""

    values: dict[str, NDArray[Any]]
    still: set[str]

    @classmethod
    def of(cls, model: Any, images: _Images) -> _Values:
        """Run ``model`` (not changed) on the images, operator by operator as it is written."""
        import onnxruntime

        known = {output.name for output in model.graph.output}
        names = [n for node in model.graph.node for n in node.output if n and n not in known]
        open_ = copy.deepcopy(model)
        for name in names:
            open_.graph.output.add().name = name
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(
            open_.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        found = session.run([*names, *known], images.get_next())
        values = dict(zip([*names, *known], found, strict=True))
        still = {n for n, v in values.items() if v.dtype == np.float32 and not v.any()}
        while still and (image := images.get_next()) is not None:
            order = sorted(still)
            seen = dict(zip(order, session.run(order, image), strict=True))
            still = {n for n in order if not seen[n].any()}
        return cls(values, still)

    def check_finite(self, model: Any) -> None:
        """``ExportError`` names the first layer that gives NaN or infinity."""
        for node in model.graph.node:
            for name in node.output:
                value = self.values.get(name)
                if value is None or value.dtype.kind != "f" or np.isfinite(value).all():
                    continue
                raise ExportError(
                    _place(model, node),
                    f"{node.op_type} gives NaN or infinity on the calibration photos; expected "
                    "finite numbers: look for a division by zero, a logarithm of zero or an "
                    "exponential before it",
                )

    def describe(self, onnx: Any, model: Any) -> None:
        """Write type and shape of every tensor into ``model``. (The quantizer asks for them, and
        shape inference does not know all operators.)"""
        del model.graph.value_info[:]
        outputs = {output.name for output in model.graph.output}
        for name, value in self.values.items():
            if name not in outputs and isinstance(value, np.ndarray):
                kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
                info = onnx.helper.make_tensor_value_info(name, kind, value.shape)
                model.graph.value_info.append(info)


def _quantize_int8(onnx: Any, float_onnx: bytes, calibration: CalibrationSet) -> NotedFile:
    model = onnx.load_model_from_string(float_onnx)
    (image,) = model.graph.input
    with quiet(log):
        values = _Values.of(model, _Images(image.name, calibration))
    values.check_finite(model)
    values.describe(onnx, model)
    ranges = _ranges_of_still(onnx, model, values.still)
    kept = {node.name: why for node in model.graph.node if (why := _unfit(model, node))}
    try:
        content = _quantize_static(model, _Images(image.name, calibration), list(kept), ranges)
    except Exception as error:  # the tool raises whatever its own code runs into
        log.debug("quantizing all operators failed", exc_info=True)
        content, more = _without_one_kind(model, image.name, calibration, list(kept), error)
        kept |= more
    return NotedFile(content, tuple(
        f"{_place(model, node)}: {node.op_type} stays in float32: {kept[node.name]}"
        for node in model.graph.node if node.name in kept
    ))  # fmt: skip


def _ranges_of_still(onnx: Any, model: Any, still: set[str]) -> Ranges:
    """Ranges for tensors that are always zero. (The tool gives them a step of 1 to either side. It
    takes a ReLU before them to be done by the range, and it is not; and the biases behind them,
    whose steps are multiples of that 1, are rounded away.)"""
    constants = {weight.name: weight for weight in model.graph.initializer}
    zero = {"rmin": np.float32(0), "rmax": np.float32(1)}
    found: Ranges = {name: [zero] for name in sorted(still)}
    for node in model.graph.node:
        if len(node.input) < 3 or node.input[0] not in still:
            continue
        if any(name not in constants for name in node.input[1:3]):
            continue
        weight, bias = (
            float(np.abs(onnx.numpy_helper.to_array(constants[name])).max(initial=0))
            for name in node.input[1:3]
        )
        if weight and bias:  # so that the largest bias is 2²² steps
            largest = np.float32(255 * 127 * bias / (weight * 2**22))
            found[node.input[0]] = [{"rmin": np.float32(0), "rmax": largest}]
    return found


def _unfit(model: Any, node: Any) -> str:
    """Why an operator cannot be quantized; empty if it can."""
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    if node.op_type == "ConvTranspose" and groups > 1:
        return "onnxruntime has one scale for each channel of a group only"
    return ""


def _without_one_kind(
    model: Any, image: str, calibration: CalibrationSet, kept: list[str], error: Exception
) -> tuple[bytes, dict[str, str]]:
    """The file with one kind of operator left in float, the first that helps, and why for each
    operator of it."""
    reason = f"the quantizer fails on it ({type(error).__name__}: {_first_line(error)})"
    named = [n for n in model.graph.node if any(t and t in str(error) for t in _tensors(n))]
    kinds = dict.fromkeys(node.op_type for node in (*named, *model.graph.node))
    for kind in kinds:
        found = {n.name: reason for n in model.graph.node if n.op_type == kind}
        try:
            images = _Images(image, calibration)
            return _quantize_static(model, images, [*kept, *found]), found
        except Exception:  # then another kind is the cause
            log.debug("leaving %s in float does not help", kind)
    at = named[0] if named else model.graph.node[0]
    raise ExportError(
        _place(model, at),
        f"onnxruntime cannot quantize {at.op_type} ({type(error).__name__}: "
        f"{_first_line(error)}); export ONNX as float32 or float16, or int8 as TFLite",
    ) from error


def _tensors(node: Any) -> list[str]:
    return [*node.output, *node.input]


def _place(model: Any, node: Any) -> str:
    """Where in the user's module an operator belongs: its weight's layer, or the nearest layer
    before it."""
    weights = {weight.name for weight in model.graph.initializer}
    makers = {name: other for other in model.graph.node for name in other.output}
    waiting, seen = [node], set()
    while waiting:
        at = waiting.pop(0)
        for name in at.input:
            layer, _, key = name.rpartition(".")
            if name in weights and layer and key in ("weight", "bias"):
                found = layer.removeprefix("module.")
                return found if at is node else f"behind {found}"
        for name in at.input:
            if name in makers and name not in seen:
                seen.add(name)
                waiting.append(makers[name])
    return str(node.name)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]


def _quantize_static(
    model: Any, images: _Images, kept: list[str], ranges: Ranges | None = None
) -> bytes:
    with quiet(log), tempfile.TemporaryDirectory(prefix="panokit-onnx-") as folder:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        target = Path(folder) / "int8.onnx"
        with hushed(logging.root):  # it advises through the root logger
            quantize_static(
                copy.deepcopy(model),  # it writes into what it is given
                target,
                images,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=kept,
                extra_options={"TensorQuantOverrides": ranges} if ranges else None,
            )
        return target.read_bytes()


def _tool() -> Any:
    try:
        with quiet(log):
            import onnx
            import onnxruntime  # noqa: F401 - its tools quantize
    except ImportError as error:
        if error.name in ("onnx", "onnxruntime"):
            raise MissingExtraError("quantizing ONNX files", "export") from None
        raise
    return onnx
