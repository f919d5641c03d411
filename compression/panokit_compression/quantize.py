"""A float TFLite file in, a quantized one out, by recipe.

Converting from torch is slow and quantizing is quick, so one float file serves every recipe.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from panokit.errors import ArgumentError, MissingExtraError
from panokit_compression.calibration import CalibrationSet
from panokit_compression.quiet import quiet
from panokit_compression.recipes import Quantize, Recipe

__all__ = ["quantize"]

log = logging.getLogger(__name__)

# Calibration adds numbers up in an order that depends on the threads; one order, one artifact.
CALIBRATION_THREADS = 1

Statistics = dict[str, dict[str, Any]]

_COUNT = "photos"  # how many photos a mean has seen; not one of the tool's own keys


def quantize(
    float_tflite: bytes, recipe: Recipe, calibration: CalibrationSet | None = None
) -> bytes:
    """Apply ``recipe`` to a float TFLite file (its content, not its path).

    int8 needs ``calibration`` inputs of the file's input size. The int8 file takes the pixels
    themselves: its input has scale 1 and zero point -128, so that q = pixel - 128. The same
    arguments give the same bytes.
    """
    step = recipe.step(Quantize) or Quantize("float32")
    if step.precision == "float32":
        return float_tflite
    if step.precision == "float16":
        return _apply(float_tflite, _float16_steps(), None)
    if calibration is None or len(calibration) < recipe.calibration_photos:
        got = 0 if calibration is None else len(calibration)
        expected = f"a set of at least {recipe.calibration_photos} inputs for {recipe.name}"
        raise ArgumentError("calibration", expected, f"{got} of them")
    steps = _int8_steps()
    statistics = _calibrate(float_tflite, steps, step, calibration)
    if step.rounding == "compensated":
        from panokit_compression.rounding import round_weights

        float_tflite = round_weights(float_tflite, calibration)
    return _apply(float_tflite, steps, statistics)


def _int8_steps() -> Any:
    aeq = _tool()
    manager = aeq.recipe_manager.RecipeManager()
    manager.add_static_config(
        regex=".*", operation_name="*", activation_num_bits=8, weight_num_bits=8
    )
    return manager.get_quantization_recipe()


def _float16_steps() -> Any:
    aeq = _tool()
    manager = aeq.recipe_manager.RecipeManager()
    manager.add_quantization_config(
        regex=".*",
        operation_name="*",
        op_config=aeq.qtyping.OpQuantizationConfig(
            weight_tensor_config=aeq.qtyping.TensorQuantizationConfig(
                num_bits=16, dtype=aeq.qtyping.TensorDataType.FLOAT
            ),
            compute_precision=aeq.qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        algorithm_key="float_casting",
    )
    return manager.get_quantization_recipe()


def _calibrate(
    float_tflite: bytes, steps: Any, step: Quantize, calibration: CalibrationSet
) -> Statistics:
    """The range of every activation over the calibration inputs."""
    aeq = _tool()
    signature, input_name, input_tensor = _input_of(float_tflite)
    updates = {"min_max": aeq.qsv_utils.min_max_update, "mean": _mean_update}
    manager = aeq.recipe_manager.RecipeManager()
    manager.load_quantization_recipe(steps)
    with quiet(log):
        calibrator = aeq.calibrator.Calibrator(
            float_tflite, num_threads=CALIBRATION_THREADS, qsv_update_func=updates[step.ranges]
        )
        inputs = [{input_name: x} for x in calibration.inputs()]
        calibrator.calibrate({signature: inputs}, manager)
    statistics: Statistics = calibrator.get_model_qsvs()
    for found in statistics.values():
        found.pop(_COUNT, None)
    if input_tensor not in statistics:
        raise ArgumentError("calibration", "to reach the input", sorted(statistics)[:3])
    # Pixels are 0..255 whatever the photos were; this makes the input's scale exactly 1.
    shape = np.shape(statistics[input_tensor]["min"])
    statistics[input_tensor] = {
        "min": np.zeros(shape, np.float32),
        "max": np.full(shape, 255, np.float32),
    }
    return statistics


def _mean_update(merged: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The mean of both ends over the photos. (The tool's own moving average depends on their
    order and gives the first photo most of the weight.)"""
    if not merged:
        return dict(new)
    count = merged.get(_COUNT, 1)
    ends = {k: (merged[k] * count + new[k]) / (count + 1) for k in ("min", "max")}
    return {**ends, _COUNT: count + 1}


def _apply(float_tflite: bytes, steps: Any, statistics: Statistics | None) -> bytes:
    aeq = _tool()
    with quiet(log):
        quantizer = aeq.quantizer.Quantizer(float_tflite, steps)
        result = quantizer.quantize(
            statistics, enable_progress_bar=False, enable_progress_report=False
        )
    return bytes(result.quantized_model)


def _input_of(tflite: bytes) -> tuple[str, str, str]:
    """Signature, the input's name in it, and the name of its tensor."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=tflite)
    signatures = interpreter.get_signature_list()
    if len(signatures) != 1:
        raise ArgumentError("float_tflite", "a file with one signature", sorted(signatures))
    signature = next(iter(signatures))
    details = interpreter.get_signature_runner(signature).get_input_details()
    if len(details) != 1:
        raise ArgumentError("float_tflite", "a file with one input", sorted(details))
    name, detail = next(iter(details.items()))
    return signature, name, str(detail["name"])


class _Tool:
    """The parts of ai-edge-quantizer that are used, imported once and quietly."""

    def __init__(self) -> None:
        from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe_manager
        from ai_edge_quantizer.utils import qsv_utils

        self.calibrator: Any = calibrator
        self.qtyping: Any = qtyping
        self.quantizer: Any = quantizer
        self.recipe_manager: Any = recipe_manager
        self.qsv_utils: Any = qsv_utils


def _tool() -> _Tool:
    try:
        with quiet(log):
            return _Tool()
    except ImportError as error:
        if (error.name or "").split(".")[0] in ("ai_edge_quantizer", "ai_edge_litert"):
            raise MissingExtraError("quantizing", "export") from None
        raise
