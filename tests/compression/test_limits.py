"""Files that would end the process: ranges that kernels can compute with, and a trial elsewhere."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from panokit.errors import ExportError
from panokit.tflite.read import read_tflite
from panokit_compression import CalibrationSet, Recipe
from panokit_compression.layers import operator_of_error, tflite_layers
from panokit_compression.limits import LARGEST_FACTOR, fit_ranges, oddness
from panokit_compression.quantize import quantize, quantize_noted
from panokit_compression.recipes import Quantize
from panokit_compression.survival import Trial, try_elsewhere
from tests.compression.test_quantize import heads_of

# The package's function of that name hides the module.
QUANTIZING = sys.modules["panokit_compression.quantize"]
PLAIN = Recipe("plain", (Quantize("int8", 16, "min_max"),))


def outputs(tflite: bytes, kind: str) -> list[str]:
    graph = read_tflite(tflite).main
    return [graph.tensors[o.outputs[0]].name for o in graph.operators if o.name == kind]


def ends(low: float, high: float) -> dict[str, Any]:
    return {"min": np.full(1, low, np.float32), "max": np.full(1, high, np.float32)}


def test_a_dead_layer_gets_the_narrowest_range_that_kernels_take(float_tflite: bytes) -> None:
    graph = read_tflite(float_tflite).main
    operator = next(o for o in graph.operators if o.name == "CONV_2D")
    before, after = (graph.tensors[i].name for i in (operator.inputs[0], operator.outputs[0]))
    weight = graph.tensors[operator.inputs[1]].data
    assert weight is not None
    largest = float(np.abs(weight.view(np.float32)).max())
    found = fit_ranges(float_tflite, {before: ends(0, 255), after: ends(0, 0)})
    step = float(found[after]["max"][0]) / 255
    assert 1.0 * largest / 127 / step == pytest.approx(LARGEST_FACTOR, rel=1e-3)
    assert found[before]["max"][0] == 255


def test_ranges_of_a_sound_network_stay_as_they_are(float_tflite: bytes) -> None:
    names = [t.name for t in read_tflite(float_tflite).main.tensors if t.data is None]
    given = {name: ends(-3, 6) for name in names}
    found = fit_ranges(float_tflite, given)
    for name in names:
        assert float(found[name]["min"][0]) == -3
        assert float(found[name]["max"][0]) == 6


def test_a_summand_that_is_nothing_beside_the_other(float_tflite: bytes) -> None:
    graph = read_tflite(float_tflite).main
    operator = next(o for o in graph.operators if o.name == "ADD")
    one, other = (graph.tensors[i].name for i in operator.inputs)
    total = graph.tensors[operator.outputs[0]].name
    found = fit_ranges(float_tflite, {one: ends(0, 0), other: ends(0, 51.2), total: ends(0, 51.2)})
    assert found[one]["max"][0] == pytest.approx(0.1, rel=1e-3)  # 1/512 of it


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_name_the_layer(float_tflite: bytes, value: float) -> None:
    name = outputs(float_tflite, "CONV_2D")[1]
    with pytest.raises(ExportError, match=r"(deep|lateral|semantic|center|offset).*CONV_2D"):
        fit_ranges(float_tflite, {name: ends(0, value)})


def test_a_dead_layer_in_a_whole_file(
    float_tflite: bytes, calibration: CalibrationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first convolution gives nothing: without care, LiteRT ends the process."""
    content = bytearray(float_tflite)
    graph = read_tflite(content).main
    operator = next(o for o in graph.operators if o.name == "CONV_2D")
    bias = graph.tensors[operator.inputs[2]].data
    assert bias is not None
    bias.view(np.float32)[:] = -1e4
    dead = bytes(content)
    wanted = heads_of(dead, calibration)[0]
    made = quantize(dead, PLAIN, calibration)
    assert try_elsewhere(made) == Trial()
    for name, head in heads_of(made, calibration)[0].items():
        np.testing.assert_allclose(head, wanted[name], atol=0.06 * np.abs(wanted[name]).max())
    monkeypatch.setattr(QUANTIZING, "fit_ranges", lambda file, found: found)
    careless = quantize(dead, PLAIN, calibration)
    assert max(oddness(careless).values()) > max(oddness(made).values())
    assert try_elsewhere(careless).fatal


def test_a_process_that_dies_is_not_this_one(
    float_tflite: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert try_elsewhere(float_tflite) == Trial()
    assert "RuntimeError" in try_elsewhere(b"no such file").error or (
        "ValueError" in try_elsewhere(b"no such file").error
    )
    monkeypatch.setattr("panokit_compression.survival._CHILD", "import os; os.abort()")
    assert try_elsewhere(float_tflite).fatal
    monkeypatch.setattr("panokit._trial.sys.executable", "/no/python")
    assert try_elsewhere(float_tflite) == Trial()


def test_the_layer_that_ends_the_process_stays_in_float(
    float_tflite: bytes, calibration: CalibrationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = next(layer for layer in tflite_layers(float_tflite) if layer.name == "lateral")

    def trial(tflite: bytes) -> Trial:
        graph = read_tflite(tflite).main
        weights = next(t for t in graph.tensors if "lateral" in t.name and len(t.shape) == 4
                       and t.data is not None)  # fmt: skip
        return Trial(died=weights.dtype == "int8")

    monkeypatch.setattr(QUANTIZING, "try_elsewhere", trial)
    made = quantize_noted(float_tflite, PLAIN, calibration)
    (note,) = made.notes
    assert note.startswith(f"{killer.name}: stays in float32")
    heads_of(made.content, calibration)
    monkeypatch.setattr(QUANTIZING, "try_elsewhere", lambda tflite: Trial(died=True))
    with pytest.raises(ExportError, match=r"cannot live with.*float16"):
        quantize_noted(float_tflite, PLAIN, calibration)


def test_an_operator_that_litert_refuses_stays_in_float(
    float_tflite: bytes, calibration: CalibrationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trial(tflite: bytes) -> Trial:
        graph = read_tflite(tflite).main
        for number, operator in enumerate(graph.operators):
            kinds = [graph.tensors[i].dtype for i in operator.inputs if i >= 0]
            if operator.name == "ADD" and "int8" in kinds:
                return Trial(
                    error=f"RuntimeError: no.Node number {number} (ADD) failed to prepare."
                )
        return Trial()

    monkeypatch.setattr(QUANTIZING, "try_elsewhere", trial)
    made = quantize_noted(float_tflite, PLAIN, calibration)
    (note,) = made.notes
    assert "ADD stays in float32" in note
    heads_of(made.content, calibration)


@pytest.mark.parametrize(
    ("message", "operator"),
    [
        ("kernels/add.cc:1 x != y.Node number 4 (ADD) failed to prepare.", None),
        ("Unsupported op: RESIZE_BILINEAR", "RESIZE_BILINEAR"),
        ("it rains", ""),
    ],
)
def test_errors_are_traced_to_operators(
    float_tflite: bytes, message: str, operator: str | None
) -> None:
    found = operator_of_error(float_tflite, message)
    if operator is None:
        operator = read_tflite(float_tflite).main.operators[4].name
    assert (found.operator if found else "") == operator


def test_errors_of_the_tools_become_sentences(
    float_tflite: bytes, calibration: CalibrationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ai_edge_quantizer.calibrator import Calibrator

    def fails(*arguments: object, **options: object) -> None:
        raise RuntimeError("kernels/conv.cc: no.Node number 1 (CONV_2D) failed to prepare.")

    monkeypatch.setattr(Calibrator, "calibrate", fails)
    with pytest.raises(ExportError, match=r"cannot be run \(RuntimeError: .*keep the layer"):
        quantize(float_tflite, PLAIN, calibration)
