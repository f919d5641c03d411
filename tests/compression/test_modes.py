"""Layers of a TFLite file, clipped ranges, and precisions beyond int8."""

from __future__ import annotations

import numpy as np
import pytest

from panokit.errors import ArgumentError
from panokit_compression import load_recipe, quantize
from panokit_compression.calibration import CalibrationSet
from panokit_compression.layers import layer_name, match_layers, tflite_layers, tflite_macs
from panokit_compression.ranges import clip, clipped_ranges
from panokit_compression.recipes import Quantize, Recipe
from panokit_converters.tflite.inspect import tflite_operators, tflite_specs
from panokit_network.deploy import count_macs
from tests.compression.test_quantize import agreement, heads_of
from tests.toys.network import ToyNetwork

SIZE = 32


def test_layers_carry_the_modules_names(float_tflite: bytes) -> None:
    layers = {layer.name: layer for layer in tflite_layers(float_tflite)}
    assert set(layers) == {
        "stem", "depthwise", "down", "deep", "lateral", "semantic", "center", "offset"
    }  # fmt: skip
    assert layers["depthwise"].operator == "DEPTHWISE_CONV_2D"
    assert layers["deep"].weights == 8 * 16
    assert layers["deep"].weight_bytes == 8 * 16 * 4


@pytest.mark.parametrize("recipe", ["float32", "float16", "int8-weights", "int4-weights"])
def test_macs_are_those_of_torch(float_tflite: bytes, recipe: str) -> None:
    content = quantize(float_tflite, load_recipe(recipe))
    assert tflite_macs(content) == count_macs(ToyNetwork(), SIZE)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a_b.c.Wrapper/my.Net_module/x.y.Block_body/torch.Conv2d_conv;1", "body.conv"),
        ("p.Wrapper/p._Hidden_head;", "head"),
        ("p.Wrapper/p.Net_module;;p.Wrapper/p.Net_module/torch.Conv2d_offset;1", "offset"),
        ("conv1/kernel", "conv1/kernel"),
        ("p.Wrapper/my.Net_module/my.Body_network/torch.Conv2d_stem;", "network.stem"),
        ("p.Wrapper/a.adapt.ContractModule_module/my.Net_network/torch.Conv2d_stem;1", "stem"),
        ("p.Wrapper/torch.Conv2d_deep:0:1;", "deep.0.1"),
    ],
)
def test_layer_names(name: str, expected: str) -> None:
    assert layer_name(name) == expected


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    assert match_layers(["stem", "body.0", "body.1"], ("body",), "keep") == ["body.0", "body.1"]
    with pytest.raises(ArgumentError, match="such as stem"):
        match_layers(["stem", "body.0"], ("bdoy",), "keep")


@pytest.mark.parametrize(
    ("recipe", "least_db", "image"),
    [
        pytest.param("int8-weights", 35, "float32", id="int8-weights"),
        pytest.param("int4-weights", 8, "float32", id="int4-weights"),
        pytest.param("int8-dynamic", 30, "float32", id="int8-dynamic"),
    ],
)
def test_precisions_without_calibration(
    float_tflite: bytes, calibration: CalibrationSet, recipe: str, least_db: float, image: str
) -> None:
    content = quantize(float_tflite, load_recipe(recipe))
    assert tflite_specs(content)[0].dtype == image
    found = agreement(float_tflite, content, calibration)
    assert min(h.sqnr_db for h in found.heads.values()) > least_db


def test_wide_activations_rescue(float_tflite: bytes, calibration: CalibrationSet) -> None:
    from panokit.runtime import quantize_image

    recipe = Recipe("w8a16", (Quantize("int16x8", 16, "min_max", "compensated"),))
    content = quantize(float_tflite, recipe, calibration)
    image, heads = tflite_specs(content)
    assert {image.dtype, *(h.dtype for h in heads.values())} == {"int16"}
    white = quantize_image(np.full((SIZE, SIZE, 3), 255, np.uint8), image)
    assert white.max() == 32767


@pytest.mark.parametrize(("precision", "extra"), [("float32", "DEQUANTIZE"), ("int16x8", "")])
def test_kept_layers(
    float_tflite: bytes, calibration: CalibrationSet, precision: str, extra: str
) -> None:
    plain = Quantize("int8", 16, "min_max")
    mixed = Quantize("int8", 16, "min_max", keep=("deep$",), keep_precision=precision)  # type: ignore[arg-type]
    before = quantize(float_tflite, Recipe("a", (plain,)), calibration)
    after = quantize(float_tflite, Recipe("b", (mixed,)), calibration)
    added = set(tflite_operators(after)) - set(tflite_operators(before))
    assert added == {"QUANTIZE", *([extra] if extra else [])}
    types = {layer.name: layer.weight_bytes / layer.weights for layer in tflite_layers(after)}
    assert types["deep"] == (4 if precision == "float32" else 1)
    assert types["lateral"] == 1


@pytest.mark.parametrize("how", ["percentile", "mse"])
def test_ranges_that_are_too_wide_are_clipped_to_the_values(
    float_tflite: bytes, calibration: CalibrationSet, how: str
) -> None:
    values = np.stack([h["center"] for h in heads_of(float_tflite, calibration)])
    name = "serving_default_center_output"
    wide = {name: {"min": np.full((1, 1, 1, 1), -50.0), "max": np.full((1, 1, 1, 1), 50.0)}}
    found = clipped_ranges(float_tflite, wide, calibration, how, 8)[name]
    low, high = float(found["min"].squeeze()), float(found["max"].squeeze())
    assert found["min"].shape == (1, 1, 1, 1)
    if how == "percentile":  # to the values themselves, within a bin of the histogram
        assert low == pytest.approx(min(0.0, values.min()), abs=0.06)
        assert high == pytest.approx(max(0.0, values.max()), abs=0.06)
    else:  # to a finer grid; which of them is a matter of where the bins lie on it
        assert (-low, high) <= (30, 30)


@pytest.mark.parametrize("ranges", ["percentile", "mse"])
def test_clipped_ranges_quantize_as_well(
    float_tflite: bytes, calibration: CalibrationSet, ranges: str
) -> None:
    step = Quantize("int8", 16, ranges)  # type: ignore[arg-type]
    content = quantize(float_tflite, Recipe("b", (step,)), calibration)
    found = agreement(float_tflite, content, calibration)
    assert min(h.sqnr_db for h in found.heads.values()) > 20


def test_clipping_by_hand() -> None:
    # 9,999 values in 0..1 and one at 10: a ten-thousandth is beyond 1.
    counts = np.zeros(1000, np.int64)
    counts[:100] = 99.99
    counts[0], counts[-1] = 9999 - counts[1:].sum(), 1
    low, high = clip(counts, 0.0, 10.0, "percentile", 8)
    assert (low, high) == (0.0, pytest.approx(1.0, abs=0.011))
    # One outlier among so many is worth clipping for 4 bits...
    assert clip(counts, 0.0, 10.0, "mse", 4)[1] < 10
    # ...but nothing is to be gained with evenly spread values.
    assert clip(np.ones(1000, np.int64), 0.0, 10.0, "mse", 8) == (0.0, 10.0)


def test_weights_alone_can_be_rounded_with_compensation(
    float_tflite: bytes, calibration: CalibrationSet
) -> None:
    better = Recipe("a", (Quantize("int8-weights", 16, rounding="compensated"),))
    plain_recipe = Recipe("b", (Quantize("int8-weights"),))
    plain = agreement(float_tflite, quantize(float_tflite, plain_recipe), calibration)
    found = agreement(float_tflite, quantize(float_tflite, better, calibration), calibration)
    assert sum(found.heads[h].sqnr_db - plain.heads[h].sqnr_db for h in found.heads) > 0
    with pytest.raises(ArgumentError, match="at least 16"):
        quantize(float_tflite, better)
