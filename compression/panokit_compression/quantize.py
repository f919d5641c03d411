"""A float TFLite file in, a quantized one out, by recipe.

Converting from torch is slow and quantizing is quick, so one float file serves every recipe.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from panokit._quiet import quiet
from panokit.errors import ArgumentError, ExportError, MissingExtraError, PanokitError
from panokit.tflite.rules import RULES
from panokit_compression.biases import make_room_for_biases
from panokit_compression.calibration import CalibrationSet, enough
from panokit_compression.grids import INT4, INT8
from panokit_compression.layers import match_layers, operator_of_error, tflite_layers
from panokit_compression.limits import fit_ranges, oddness, with_finite_constants
from panokit_compression.noted import NotedFile
from panokit_compression.ranges import COUNT, Statistics, clipped_ranges, mean_update
from panokit_compression.recipes import Quantize, Recipe
from panokit_compression.rounding import round_weights
from panokit_compression.survival import try_elsewhere

__all__ = ["quantize", "quantize_noted"]

log = logging.getLogger(__name__)

# Calibration adds numbers up in an order that depends on the threads; one order, one artifact.
CALIBRATION_THREADS = 1
MOST_KEPT = 16  # operators that LiteRT refuses one after the other
MOST_SUSPECTS = 16  # layers that are tried in float, one after the other


def quantize(
    float_tflite: bytes, recipe: Recipe, calibration: CalibrationSet | None = None
) -> bytes:
    """Apply the :class:`Quantize` step of ``recipe`` to a float TFLite file (its content, not its
    path); a recipe without one leaves it as it is.

    int8, int16x8 and compensated rounding need ``calibration`` inputs of the file's input size.
    The int8 file takes the pixels themselves: its input has scale 1 and zero point -128, so that
    q = pixel - 128. The same arguments give the same bytes. ``ExportError`` names the layer and
    the operator that the tools cannot quantize.
    """
    return _quantize(float_tflite, recipe, calibration).content


def quantize_noted(
    float_tflite: bytes, recipe: Recipe, calibration: CalibrationSet | None = None
) -> NotedFile:
    """As :func:`quantize`, with notes on layers that were not treated as the recipe says.

    The file is loaded and run in another process first. An operator that LiteRT does not take in
    integers, or whose integers end that process, stays in float32, with a note; ``ExportError`` if
    that does not help.
    """
    step = recipe.step(Quantize)
    if step is None or step.precision == "float32":
        return NotedFile(float_tflite)
    kept: dict[str, str] = {}
    for _ in range(MOST_KEPT):
        made = _quantize(float_tflite, recipe, calibration, tuple(kept))
        trial = try_elsewhere(made.content)
        if trial.fatal:
            break
        found = operator_of_error(made.content, trial.error) if trial.error else None
        if found is None or found.scope in kept:
            # What is left is an error that the caller's own run will meet and name.
            return NotedFile(made.content, (*made.notes, *kept.values()))
        reason = f"LiteRT does not take it in integers ({trial.error[-160:]})"
        kept[found.scope] = f"{found.layer}: {found.operator} stays in float32: {reason}"
    return _without_killer(float_tflite, recipe, calibration, kept)


def _without_killer(
    float_tflite: bytes,
    recipe: Recipe,
    calibration: CalibrationSet | None,
    kept: Mapping[str, str],
) -> NotedFile:
    """The file with the layer in float32 whose integers end the process."""
    made = _quantize(float_tflite, recipe, calibration, tuple(kept))
    odd = oddness(made.content)
    layers = sorted(tflite_layers(float_tflite), key=lambda x: -odd.get(x.scope, 0.0))
    for layer in layers[:MOST_SUSPECTS]:
        made = _quantize(float_tflite, recipe, calibration, (*kept, layer.scope))
        if not try_elsewhere(made.content).fatal:
            note = f"{layer.name}: stays in float32: LiteRT cannot live with its integers"
            return NotedFile(made.content, (*made.notes, *kept.values(), note))
    raise ExportError(
        layers[0].name if layers else "TFLite",
        f"LiteRT cannot live with the integers of the {recipe.precision} file (it ends the process "
        "or refuses them), and this layer's numbers are the oddest; keep layers in float32 (keep "
        "in a recipe), or use float16",
    )


def _quantize(
    float_tflite: bytes,
    recipe: Recipe,
    calibration: CalibrationSet | None,
    kept: tuple[str, ...] = (),
) -> NotedFile:
    """``kept`` are operators that stay in float32 beside those of the recipe, by the tool's name
    for them."""
    step = recipe.step(Quantize) or Quantize("float32")
    if step.precision == "float32":
        return NotedFile(float_tflite)
    steps = _with_kept(_tool_steps(step), step, float_tflite, kept)
    if not step.needs_calibration:
        return NotedFile(_apply(float_tflite, steps, None))
    calibration = _checked(calibration, step, recipe.name, float_tflite)
    statistics = None
    if step.quantizes_activations:
        measured = _measure(float_tflite, steps, step, calibration)
        finite = with_finite_constants(float_tflite, measured)
        if finite != float_tflite:
            float_tflite = finite
            measured = _measure(float_tflite, steps, step, calibration)
        statistics = fit_ranges(float_tflite, measured)
    notes: tuple[str, ...] = ()
    if step.rounding == "compensated":
        four = step.precision == "int4-weights"  # of dense convolutions
        rounded = round_weights(
            float_tflite,
            calibration,
            lambda shape: INT4 if four and len(shape) == 4 and shape[1] > 1 else INT8,
        )
        float_tflite, notes = rounded.content, rounded.notes
    if step.precision == "int8" and statistics is not None:
        float_tflite = make_room_for_biases(float_tflite, statistics)
    return NotedFile(_apply(float_tflite, steps, statistics), notes)


@contextmanager
def _errors_named(tflite: bytes, doing: str) -> Iterator[None]:
    """An error of the tools becomes a sentence that names the layer and the operator."""
    try:
        yield
    except PanokitError:
        raise
    except Exception as error:  # the tools raise whatever their own code runs into
        lines = str(error).strip().splitlines() or [""]
        found = operator_of_error(tflite, str(error))
        what = f"{found.operator if found else 'an operator'} cannot be {doing}"
        way = "keep the layer in float32 (keep in a recipe), use float16, or write it otherwise"
        raise ExportError(
            found.layer if found else "TFLite",
            f"{what} ({type(error).__name__}: {lines[0][:200]}); {way}",
        ) from error


def _checked(
    calibration: CalibrationSet | None, step: Quantize, name: str, float_tflite: bytes
) -> CalibrationSet:
    """As much of the calibration set as the step asks for, if it is large enough and of the file's
    input size."""
    calibration = enough(calibration, step.calibration_photos, name)
    _, _, _, shape = _input_of(float_tflite)
    if calibration.images[0].shape != shape[1:]:
        expected = f"images of the file's input size {shape[1:]}"
        raise ArgumentError(
            "calibration",
            f"the calibration images have the shape {calibration.images[0].shape}; "
            f"expected {expected}",
        )
    return calibration


def _tool_steps(step: Quantize) -> Any:
    """The step in the tool's own words, for all layers alike."""
    aeq = _tool()
    manager = aeq.recipe_manager.RecipeManager()
    every: dict[str, Any] = {"regex": ".*", "operation_name": "*"}
    # Kernels of products of matrices know one scale for all of a constant.
    products: dict[str, Any] = {"regex": ".*", "operation_name": "BATCH_MATMUL"}
    one_scale = aeq.qtyping.QuantGranularity.TENSORWISE
    if step.precision == "float16":
        manager.add_quantization_config(
            **every, op_config=_float16_config(aeq), algorithm_key="float_casting"
        )
    elif step.precision in ("int8-weights", "int4-weights"):
        manager.add_weight_only_config(**every, num_bits=8)
        if step.precision == "int4-weights":  # depthwise kernels know no 4 bits; they stay int8
            manager.add_weight_only_config(regex=".*", operation_name="CONV_2D", num_bits=4)
    elif step.precision == "int8-dynamic":
        manager.add_dynamic_config(**every, num_bits=8)
        # Hybrid ones end the process where a constant comes first.
        manager.add_quantization_config(**products, algorithm_key="no_quantize")
    else:
        bits = {"activation_num_bits": _activation_bits(step), "weight_num_bits": 8}
        manager.add_static_config(**every, **bits)
        manager.add_static_config(**products, **bits, weight_granularity=one_scale)
        if step.precision == "int16x8":
            for name in _not_of_16_bits(aeq):
                manager.add_quantization_config(
                    regex=".*", operation_name=name, algorithm_key="no_quantize"
                )
    return manager.get_quantization_recipe()


def _not_of_16_bits(aeq: _Tool) -> list[str]:
    """Operators that LiteRT computes with 8 bits and not with 16: they stay in float32."""
    known = {operation.value for operation in aeq.qtyping.TFLOperationName}
    return [
        n for n, r in RULES.items() if n in known and "int8" in r.types and "int16" not in r.types
    ]


def _with_kept(steps: Any, step: Quantize, float_tflite: bytes, more: tuple[str, ...] = ()) -> Any:
    """``steps`` with the kept layers told apart, by the exact names of their outputs; and with
    ``more`` operators in float32."""
    if not step.keep and not more:
        return steps
    aeq = _tool()
    manager = aeq.recipe_manager.RecipeManager()
    manager.load_quantization_recipe(steps)
    layers = {layer.name: layer for layer in tflite_layers(float_tflite)}
    for scope in more:
        manager.add_quantization_config(
            regex=f"^{re.escape(scope)}$", operation_name="*", algorithm_key="no_quantize"
        )
    for name in match_layers(layers, step.keep, "keep"):
        regex = f"^{re.escape(layers[name].scope)}$"
        if step.keep_precision == "int16x8":
            manager.add_static_config(
                regex=regex, operation_name="*", activation_num_bits=16, weight_num_bits=8
            )
        else:
            manager.add_quantization_config(
                regex=regex, operation_name="*", algorithm_key="no_quantize"
            )
    return manager.get_quantization_recipe()


def _float16_config(aeq: _Tool) -> Any:
    return aeq.qtyping.OpQuantizationConfig(
        weight_tensor_config=aeq.qtyping.TensorQuantizationConfig(
            num_bits=16, dtype=aeq.qtyping.TensorDataType.FLOAT
        ),
        compute_precision=aeq.qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )


def _activation_bits(step: Quantize) -> int:
    return 16 if step.precision == "int16x8" else 8


def _measure(
    float_tflite: bytes, steps: Any, step: Quantize, calibration: CalibrationSet
) -> Statistics:
    """The range of every activation over the calibration inputs."""
    aeq = _tool()
    signature, input_name, input_tensor, _ = _input_of(float_tflite)
    update = mean_update if step.ranges == "mean" else aeq.qsv_utils.min_max_update
    manager = aeq.recipe_manager.RecipeManager()
    manager.load_quantization_recipe(steps)
    with quiet(log), _errors_named(float_tflite, "run"):
        calibrator = aeq.calibrator.Calibrator(
            float_tflite, num_threads=CALIBRATION_THREADS, qsv_update_func=update
        )
        inputs = [{input_name: x} for x in calibration.inputs()]
        calibrator.calibrate({signature: inputs}, manager)
    statistics: Statistics = calibrator.get_model_qsvs()
    for found in statistics.values():
        found.pop(COUNT, None)
    if step.ranges in ("percentile", "mse"):
        bits = _activation_bits(step)
        statistics = clipped_ranges(float_tflite, statistics, calibration, step.ranges, bits)
    if step.precision == "int8" and input_tensor in statistics:
        # Pixels are 0..255 whatever the photos were; this makes the input's scale exactly 1.
        # (It has no range where the first layer stays in float.)
        shape = np.shape(statistics[input_tensor]["min"])
        statistics[input_tensor] = {
            "min": np.zeros(shape, np.float32),
            "max": np.full(shape, 255, np.float32),
        }
    return statistics


def _apply(float_tflite: bytes, steps: Any, statistics: Statistics | None) -> bytes:
    aeq = _tool()
    with quiet(log), _errors_named(float_tflite, "quantized"):
        quantizer = aeq.quantizer.Quantizer(float_tflite, steps)
        result = quantizer.quantize(
            statistics, enable_progress_bar=False, enable_progress_report=False
        )
    return bytes(result.quantized_model)


def _input_of(tflite: bytes) -> tuple[str, str, str, tuple[int, ...]]:
    """Signature, the input's name in it, the name of its tensor and its shape."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=tflite)
    signatures = interpreter.get_signature_list()
    if len(signatures) != 1:
        raise ArgumentError(
            "float_tflite",
            f"the TFLite file has the signatures {sorted(signatures)}; expected one signature",
        )
    signature = next(iter(signatures))
    details = interpreter.get_signature_runner(signature).get_input_details()
    if len(details) != 1:
        raise ArgumentError(
            "float_tflite", f"the TFLite file has the inputs {sorted(details)}; expected one input"
        )
    name, detail = next(iter(details.items()))
    return signature, name, str(detail["name"]), tuple(int(v) for v in detail["shape"])


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
