"""Compressed weights: the interpreter against coremltools' own decompression, and by hand."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from panokit._quiet import quiet
from panokit_converters.coreml_interpreter import CoreMLProgram, TensorType
from panokit_converters.coreml_interpreter.call import Call
from panokit_converters.coreml_interpreter.constexpr import CONSTEXPRS
from panokit_converters.coreml_interpreter.values import Fault, unpack_bits
from tests.converters.test_coreml_interpreter import convert, noise

log = logging.getLogger(__name__)


def _tiny() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1),
        nn.ReLU6(),
        nn.Conv2d(32, 32, 3, padding=1, groups=32),
        nn.ReLU6(),
        nn.Conv2d(32, 24, 1),
    )


Compress = Callable[[Any, Any], Any]


def _linear(**options: Any) -> Compress:
    def compress(cto: Any, model: Any) -> Any:
        op = cto.OpLinearQuantizerConfig(weight_threshold=100, **options)
        return cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=op))

    return compress


def _palette(**options: Any) -> Compress:
    def compress(cto: Any, model: Any) -> Any:
        op = cto.OpPalettizerConfig(weight_threshold=100, num_kmeans_workers=1, **options)
        return cto.palettize_weights(model, cto.OptimizationConfig(global_config=op))

    return compress


def _sparse(cto: Any, model: Any) -> Any:
    op = cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=100)
    return cto.prune_weights(model, cto.OptimizationConfig(global_config=op))


def _sparse_int8(cto: Any, model: Any) -> Any:
    op = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=100)
    config = cto.OptimizationConfig(global_config=op)
    return cto.linear_quantize_weights(_sparse(cto, model), config, joint_compression=True)


def _sparse_palette(cto: Any, model: Any) -> Any:
    op = cto.OpPalettizerConfig(nbits=4, weight_threshold=100, num_kmeans_workers=1)
    config = cto.OptimizationConfig(global_config=op)
    return cto.palettize_weights(_sparse(cto, model), config, joint_compression=True)


_INT4 = {"dtype": "int4", "granularity": "per_block", "block_size": 8}
_GROUPED = {"granularity": "per_grouped_channel", "group_size": 8}
_AFFINE, _SHIFT = "constexpr_affine_dequantize", "constexpr_blockwise_shift_scale"
_LUT, _TO_DENSE = "constexpr_lut_to_dense", "constexpr_sparse_to_dense"

# name: target, how it is compressed, an operator that must be in the program
CASES: dict[str, tuple[str, Compress, str]] = {
    "int8": ("iOS16", _linear(mode="linear_symmetric"), _AFFINE),
    "int8_with_zero_point": ("iOS16", _linear(mode="linear"), _AFFINE),
    "int8_ios18": ("iOS18", _linear(mode="linear"), _SHIFT),
    "int4_blocks": ("iOS18", _linear(mode="linear_symmetric", **_INT4), _SHIFT),
    "int4_blocks_with_offset": ("iOS18", _linear(mode="linear", **_INT4), _SHIFT),
    "palette_8": ("iOS16", _palette(mode="kmeans", nbits=8), _LUT),
    "palette_6": ("iOS16", _palette(mode="kmeans", nbits=6), _LUT),
    "palette_4": ("iOS16", _palette(mode="uniform", nbits=4), _LUT),
    "palette_1": ("iOS16", _palette(mode="uniform", nbits=1), _LUT),
    "palette_6_ios18": ("iOS18", _palette(mode="uniform", nbits=6), _LUT),
    "palette_3_ios18": ("iOS18", _palette(mode="uniform", nbits=3), _LUT),
    "palette_4_grouped": ("iOS18", _palette(mode="kmeans", nbits=4, **_GROUPED), _LUT),
    "palette_of_vectors": ("iOS18", _palette(mode="kmeans", nbits=4, cluster_dim=2), _LUT),
    "sparse": ("iOS16", _sparse, _TO_DENSE),
    "sparse_ios18": ("iOS18", _sparse, _TO_DENSE),
    "sparse_int8": ("iOS18", _sparse_int8, "constexpr_sparse_blockwise_shift_scale"),
    "sparse_palette": ("iOS18", _sparse_palette, "constexpr_lut_to_sparse"),
}


# What phones run is float16; float32 is checked for one of each kind.
RUNS = [(name, "FLOAT16") for name in CASES]
RUNS += [(name, "FLOAT32") for name in ("int8", "int4_blocks", "palette_4", "sparse_int8")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "precision"), RUNS)
def test_agrees_with_coremltools(name: str, precision: str, tmp_path: Path) -> None:
    target, compress, operator = CASES[name]
    dense_path = tmp_path / "dense.mlpackage"

    def squeeze(model: Any) -> Any:
        import coremltools.optimize.coreml as cto

        small = compress(cto, model)
        cto.decompress_weights(small).save(str(dense_path))
        return small

    with quiet(log):
        path = convert(
            _tiny(), tmp_path / "small.mlpackage", (1, 3, 16, 16), precision, target, squeeze
        )
    small, dense = CoreMLProgram.open(path), CoreMLProgram.open(dense_path)
    assert operator in {o.type for o in small.operators}
    assert not any(o.type.startswith("constexpr") for o in dense.operators)
    x = noise((1, 3, 16, 16))
    np.testing.assert_array_equal(small.run({"x": x})["y"], dense.run({"x": x})["y"])


def test_quantized_activations_are_run(tmp_path: Path) -> None:
    """quantize and dequantize round to the grid: y is x on a grid of 0.1, cut at ±12.7 or so."""

    def program(mb: Any, x: Any) -> Any:
        q = mb.quantize(input=x, scale=np.float32(0.1), zero_point=np.int8(-3), output_dtype="int8")
        return mb.dequantize(input=q, scale=np.float32(0.1), zero_point=np.int8(-3), name="y")

    with quiet(log):
        import coremltools as ct
        from coremltools.converters.mil import Builder as mb

        spec = [mb.TensorSpec(shape=(1, 1, 1, 6))]
        built = mb.program(input_specs=spec, opset_version=ct.target.iOS17)(
            lambda x: program(mb, x)
        )
        model = ct.convert(
            built, compute_precision=ct.precision.FLOAT32, skip_model_load=True,
            minimum_deployment_target=ct.target.iOS17,
        )  # fmt: skip
        model.save(str(tmp_path / "q.mlpackage"))
    opened = CoreMLProgram.open(tmp_path / "q.mlpackage")
    assert {"quantize", "dequantize"} <= {o.type for o in opened.operators}
    x = np.array([0.0, 0.24, -0.26, 100, -100, 1], np.float32).reshape(1, 1, 1, 6)
    # int8 ends at 127 and -128: (127 + 3)·0.1 and (-128 + 3)·0.1.
    wanted = [0.0, 0.2, -0.3, 13.0, -12.5, 1.0]
    np.testing.assert_allclose(opened.run({"x": x})["y"].ravel(), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("bits", "packed", "wanted"),
    [
        (1, [0b1100], [0, 0, 1, 1, 0]),
        (2, [0b01101100, 0b11], [0, 3, 2, 1, 3]),
        (4, [0x21, 0x03], [1, 2, 3]),
        (6, [0b01_000001, 0b1111_0000, 0b000000_10], [1, 1, 47, 0]),
        (8, [7, 200], [7, 200]),
    ],
)
def test_packed_numbers_begin_at_the_least_bit(
    bits: int, packed: list[int], wanted: list[int]
) -> None:
    got = unpack_bits(np.array(packed, np.uint8), bits, len(wanted))
    assert got.tolist() == wanted


def _run(kind: str, declared: tuple[int, ...], /, **operands: Any) -> Any:
    wrapped = {name: (np.asarray(value),) for name, value in operands.items()}
    return CONSTEXPRS[kind](Call(wrapped, (TensorType("fp32", declared),)))


def test_blocks_by_hand() -> None:
    """Two blocks of two along axis 1."""
    got = _run(
        _SHIFT, (1, 4), data=np.array([[1, 2, 3, 4]], np.int8),
        scale=np.array([[10, 100]], np.float32), offset=np.array([[1, 2]], np.int8),
    )  # fmt: skip
    assert got.tolist() == [[0, 10, 100, 200]]


def test_palettes_of_vectors_by_hand() -> None:
    """Index 1 stands for the column (3, 4), laid along axis 0."""
    table = np.array([[1, 2], [3, 4]], np.float32).reshape(1, 1, 2, 2)
    got = _run(
        _LUT, (4, 2), indices=np.array([[0, 1], [1, 0]], np.uint8), lut=table,
        vector_axis=np.int32(0),
    )  # fmt: skip
    assert got.tolist() == [[1, 3], [2, 4], [3, 1], [4, 2]]


@pytest.mark.parametrize(
    ("kind", "operands", "match"),
    [
        (_LUT, {"indices": [9], "lut": np.zeros(3), "shape": [2]}, "palette"),
        (_TO_DENSE, {"nonzero_data": [1.0], "mask": np.ones((1, 2), np.uint8)}, "2 ones"),
        (_SHIFT, {"data": np.zeros((1, 2)), "scale": np.zeros((1, 3))}, "blocks"),
        (_AFFINE, {"quantized_data": [[1, 2]], "axis": 1, "scale": [1.0, 2, 3]}, "vector"),
        (_AFFINE, {"quantized_data": [[1, 2]], "axis": 2, "scale": [1.0]}, "axis 2"),
    ],
)
def test_what_does_not_fit_is_refused(kind: str, operands: dict[str, Any], match: str) -> None:
    with pytest.raises(Fault, match=match):
        _run(kind, (1, 2), **operands)
