"""Quantizing one float file by several recipes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from panokit.errors import ArgumentError
from panokit.runtime import dequantize
from panokit_compression import CalibrationSet, load_recipe, quantize
from panokit_compression.ranges import mean_update
from panokit_compression.recipes import Quantize, Recipe
from panokit_compression.rounding import round_weights
from panokit_converters.agreement import Agreement, compare_heads
from panokit_converters.tflite.inspect import tflite_operators, tflite_specs, xnnpack_share

SIZE = 32
# The widest ranges, so that nothing is clipped and the figures below are of rounding alone; the
# toy photos differ so much that a mean of their ranges clips many of them.
STEP = Quantize("int8", calibration_photos=16, ranges="min_max", rounding="compensated")
INT8 = Recipe("int8", (STEP,))


def int8_but(**changes: Any) -> Recipe:
    return Recipe("int8", (dataclasses.replace(STEP, **changes),))


@pytest.fixture(scope="module")
def int8_tflite(float_tflite: bytes, calibration: CalibrationSet) -> bytes:
    return quantize(float_tflite, INT8, calibration)


def heads_of(tflite: bytes, calibration: CalibrationSet) -> list[dict[str, np.ndarray]]:
    """Real-valued heads of every calibration image."""
    from ai_edge_litert.interpreter import Interpreter

    image_spec, head_specs = tflite_specs(tflite)
    runner = Interpreter(model_content=tflite).get_signature_runner()
    out = []
    for image in calibration.images:
        x = image[None].astype(np.float32)
        if image_spec.dtype == "int8":
            x = (image[None].astype(np.int16) - 128).astype(np.int8)
        raw = runner(image=x)
        out.append(dequantize({n: raw[n][0] for n in head_specs}, head_specs))
    return out


def agreement(reference: bytes, candidate: bytes, calibration: CalibrationSet) -> Agreement:
    pairs = zip(heads_of(reference, calibration), heads_of(candidate, calibration), strict=True)
    return compare_heads(pairs)


def test_float32_is_the_file_itself(float_tflite: bytes) -> None:
    assert quantize(float_tflite, load_recipe("float32")) is float_tflite


def test_float16_keeps_float_borders_and_is_smaller(
    float_tflite: bytes, calibration: CalibrationSet
) -> None:
    half = quantize(float_tflite, load_recipe("float16"))
    image, heads = tflite_specs(half)
    assert {image.dtype, *(h.dtype for h in heads.values())} == {"float32"}
    found = agreement(float_tflite, half, calibration)
    assert min(h.sqnr_db for h in found.heads.values()) > 40


def test_int8_takes_pixels_and_gives_int8(int8_tflite: bytes) -> None:
    image, heads = tflite_specs(int8_tflite)
    assert (image.dtype, image.scale, image.zero_point) == ("int8", 1.0, -128)
    assert {h.dtype for h in heads.values()} == {"int8"}
    assert all(h.scale and h.zero_point is not None for h in heads.values())


def test_int8_keeps_the_operators_and_runs_in_xnnpack(
    float_tflite: bytes, int8_tflite: bytes
) -> None:
    # The same operators as the float file: nothing quantized there and back in between.
    assert tflite_operators(int8_tflite) == tflite_operators(float_tflite)
    assert xnnpack_share(int8_tflite) == 1


def test_int8_agrees_with_float(
    float_tflite: bytes, int8_tflite: bytes, calibration: CalibrationSet
) -> None:
    found = agreement(float_tflite, int8_tflite, calibration)
    assert min(h.sqnr_db for h in found.heads.values()) > 25


def test_mean_ranges_are_finer_and_clip_the_outliers(
    float_tflite: bytes, int8_tflite: bytes, calibration: CalibrationSet
) -> None:
    mean = quantize(float_tflite, int8_but(ranges="mean"), calibration)
    for head, spec in tflite_specs(mean)[1].items():
        widest = tflite_specs(int8_tflite)[1][head]
        assert spec.scale is not None
        assert widest.scale is not None
        assert spec.scale < widest.scale
    found = agreement(float_tflite, mean, calibration)
    assert min(h.cosine for h in found.heads.values()) > 0.98


def test_compensated_rounding_beats_rounding_to_nearest(
    float_tflite: bytes, int8_tflite: bytes, calibration: CalibrationSet
) -> None:
    nearest = quantize(float_tflite, int8_but(rounding="nearest"), calibration)
    better = agreement(float_tflite, int8_tflite, calibration)
    plain = agreement(float_tflite, nearest, calibration)
    total = {n: better.heads[n].sqnr_db - plain.heads[n].sqnr_db for n in better.heads}
    assert sum(total.values()) > 0, total


def test_rounded_weights_lie_on_the_quantizers_own_grid(
    float_tflite: bytes, calibration: CalibrationSet
) -> None:
    # Were the grids different, quantizing would round a second time, for the worse.
    from panokit_compression.moments import layers_of

    rounded = bytearray(round_weights(float_tflite, calibration).content)
    before, after = layers_of(bytearray(float_tflite)), layers_of(rounded)
    assert len(after) == 8
    for old, new in zip(before, after, strict=True):
        axes = (0, 1, 2) if new.depthwise else (1, 2, 3)
        step = np.abs(old.weight).max(axes, keepdims=True) / 127
        ratio = new.weight / step
        np.testing.assert_allclose(ratio, np.round(ratio), atol=2e-4)
        np.testing.assert_allclose(
            np.abs(new.weight).max(axes), np.abs(old.weight).max(axes), rtol=1e-6
        )


def test_mean_of_ranges_does_not_depend_on_order() -> None:
    ends = [{"min": np.float64(a), "max": np.float64(b)} for a, b in ((-1, 2), (-3, 4), (-8, 12))]
    for order in ((0, 1, 2), (2, 0, 1)):
        merged: dict = {}
        for index in order:
            merged = mean_update(merged, ends[index])
        assert (merged["min"], merged["max"]) == pytest.approx((-4, 6))


def test_the_same_arguments_give_the_same_bytes(
    float_tflite: bytes, int8_tflite: bytes, calibration: CalibrationSet
) -> None:
    assert quantize(float_tflite, INT8, calibration) == int8_tflite


def test_int8_without_photos_is_refused(float_tflite: bytes) -> None:
    with pytest.raises(ArgumentError, match="at least 16 inputs for int8"):
        quantize(float_tflite, INT8)
