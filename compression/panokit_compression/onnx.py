"""A float ONNX file in, one of another precision out, by onnxruntime's tools."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from panokit._quiet import hushed, quiet
from panokit.errors import ArgumentError, MissingExtraError
from panokit_compression.calibration import CalibrationSet

__all__ = ["quantize_onnx"]

log = logging.getLogger(__name__)


def quantize_onnx(
    float_onnx: bytes, precision: str, calibration: CalibrationSet | None = None
) -> bytes:
    """The file in another precision: ``float32`` (itself), ``float16`` or ``int8``.

    float16 keeps float32 borders. int8 is onnxruntime's static quantization (QDQ, weights per
    channel, widest ranges over the ``calibration`` images); heads come out as float32. The image is
    the file's only input, float32 ``[1,3,H,W]``.
    """
    if precision == "float32":
        return float_onnx
    onnx = _tool()
    if precision == "float16":
        with quiet(log):
            from onnxruntime.transformers.float16 import convert_float_to_float16

            converted = convert_float_to_float16(
                onnx.load_model_from_string(float_onnx), keep_io_types=True
            )
        return bytes(converted.SerializeToString(deterministic=True))
    if precision != "int8":
        raise ArgumentError(
            "ONNX precision", f"ONNX precision is {precision!r}; expected float32, float16 or int8"
        )
    if calibration is None:
        raise ArgumentError(
            "calibration", "an int8 ONNX file needs calibration images, and none are given"
        )
    (image,) = onnx.load_model_from_string(float_onnx).graph.input
    return _quantize_static(float_onnx, _Images(image.name, calibration))


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


def _quantize_static(float_onnx: bytes, images: _Images) -> bytes:
    with quiet(log), tempfile.TemporaryDirectory(prefix="panokit-onnx-") as folder:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(float_onnx)
        with hushed(logging.root):  # it advises through the root logger
            quantize_static(
                source,
                target,
                images,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
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
