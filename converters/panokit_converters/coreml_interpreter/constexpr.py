"""Compressed weights → dense ones, as a device does it when it loads the program.

Two generations: iOS 16 keeps packed bytes, a flat table and the shape; iOS 18 has types below 8
bits (the shape is the tensor's own) and scales and tables per block. They share names and are told
apart by the operand ``shape``. Arithmetic is in the type of the scale, as coremltools does it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from panokit_converters.coreml_interpreter.call import Call
from panokit_converters.coreml_interpreter.values import Array, Fault, NotRun, unpack_bits

__all__ = ["CONSTEXPRS"]


def affine_dequantize(call: Call) -> Array:
    """iOS 16: scale·(quantized_data - zero_point), both scalars or vectors along ``axis``."""
    data = call.raw("quantized_data")
    axis = call.axis("axis", data.ndim)
    scale = along(call.raw("scale"), axis, data)
    zero = along(call.raw("zero_point"), axis, data)
    call.announce(data.shape)
    return np.asarray((data.astype(scale.dtype) - zero.astype(scale.dtype)) * scale)


def blockwise_shift_scale(call: Call) -> Array:
    """iOS 18: scale·(data - offset), one scale and offset per block of ``data``."""
    data, scale = call.raw("data"), call.raw("scale")
    call.announce(data.shape)
    return _shift_scale(data, scale, call.raw("offset") if call.has("offset") else None)


def lut_to_dense(call: Call) -> Array:
    """Indices into a table (palette), one for all (iOS 16) or one per block (iOS 18)."""
    if not call.has("shape"):
        return _palettes(call)
    table = call.raw("lut")
    bits = table.size.bit_length() - 1
    if table.ndim != 1 or table.size != 1 << bits or not 1 <= bits <= 8:
        raise Fault(f"a palette of the shape {table.shape} instead of [2], [4], … or [256]")
    shape = call.announce(call.integers("shape"))
    indices = unpack_bits(call.raw("indices"), bits, prod(shape))
    return table[indices].reshape(shape)


def sparse_to_dense(call: Call) -> Array:
    """Zeros, but ``nonzero_data`` where the mask has a 1, in raster order."""
    values, mask = call.raw("nonzero_data"), call.raw("mask")
    if call.has("shape"):
        shape = call.announce(call.integers("shape"))
        mask = unpack_bits(mask, 1, prod(shape)).reshape(shape)
    call.announce(mask.shape)
    return _scatter(values, mask)


def sparse_blockwise_shift_scale(call: Call) -> tuple[Array, Array]:
    """iOS 18: the mask as it is, and the nonzero values scaled by the block they lie in."""
    mask, scale = call.raw("data_mask"), call.raw("scale")
    call.announce(mask.shape)
    dense = _scatter(call.raw("nonzero_data"), mask)
    offset = call.raw("offset") if call.has("offset") else None
    return mask, _shift_scale(dense, scale, offset)[mask != 0]


def lut_to_sparse(call: Call) -> tuple[Array, Array]:
    """iOS 18: the mask as it is, and the nonzero values looked up in the palette of their block."""
    mask, table = call.raw("indices_mask"), call.raw("lut")
    call.announce(mask.shape)
    if table.ndim < 1 or table.shape[-1] != 1:
        raise NotRun("a sparse palette of vectors, which is not run here")
    dense = _scatter(call.raw("indices_nonzero_data"), mask)
    return mask, _look_up(dense, table)[..., 0][mask != 0]


def cast(call: Call) -> Array:
    """A stored float16 tensor as float32."""
    return call.tensor("source_val")


def along(vector: Array, axis: int, data: Array) -> Array:
    """A scalar, or a vector along one axis of ``data``, shaped to be multiplied with it."""
    if vector.ndim == 0 or vector.size == 1:
        return vector.reshape((1,) * data.ndim)
    if vector.ndim != 1 or vector.size != data.shape[axis]:
        raise Fault(
            f"a vector of the shape {vector.shape} along the axis {axis} of {list(data.shape)}"
        )
    return vector.reshape([-1 if i == axis else 1 for i in range(data.ndim)])


def _palettes(call: Call) -> Array:
    indices, table = call.raw("indices"), call.raw("lut")
    if table.ndim != indices.ndim + 2:
        raise Fault(f"palettes of rank {table.ndim} for indices of rank {indices.ndim}")
    length = table.shape[-1]
    axis = call.axis("vector_axis", indices.ndim, 0 if length == 1 else None)
    shape = list(indices.shape)
    shape[axis] *= length
    call.announce(shape)
    found = _look_up(indices, table)  # [*indices, length]
    # The vector of an index is laid out along its axis, right behind the index' own place.
    return np.moveaxis(found, -1, axis + 1).reshape(shape)


def _look_up(indices: Array, table: Array) -> Array:
    """``[*indices.shape, length]``; ``table`` is ``[*blocks, entries, length]``."""
    if table.ndim != indices.ndim + 2 or indices.max(initial=0) >= table.shape[-2]:
        raise Fault(f"indices up to {indices.max(initial=0)} into palettes {list(table.shape)}")
    blocks = np.ix_(*_blocks(indices.shape, table.shape[:-2]))
    picked: Array = table[(*blocks, indices)]
    return picked


def _shift_scale(data: Array, scale: Array, offset: Array | None) -> Array:
    blocks = np.ix_(*_blocks(data.shape, scale.shape))
    moved = data.astype(scale.dtype)
    if offset is not None:
        if offset.shape != scale.shape:
            raise Fault(f"offsets {list(offset.shape)} for scales {list(scale.shape)}")
        moved = moved - offset[blocks].astype(scale.dtype)
    result: Array = moved * scale[blocks]
    return result


def _blocks(shape: tuple[int, ...], blocks: tuple[int, ...]) -> list[Array]:
    """For each axis, the block every position lies in; blocks divide the axis evenly."""
    if len(shape) != len(blocks) or any(
        count < 1 or size % count for size, count in zip(shape, blocks, strict=True)
    ):
        raise Fault(f"{list(blocks)} blocks of a tensor {list(shape)}")
    return [
        np.arange(size) // max(size // count, 1) for size, count in zip(shape, blocks, strict=True)
    ]


def _scatter(values: Array, mask: Array) -> Array:
    chosen = mask != 0
    if values.ndim != 1 or values.size != np.count_nonzero(chosen):
        raise Fault(f"{values.size} values for a mask with {np.count_nonzero(chosen)} ones")
    dense = np.zeros(mask.shape, values.dtype)
    dense[chosen] = values
    return dense


CONSTEXPRS: dict[str, Callable[[Call], Array | tuple[Array, ...]]] = {
    "constexpr_affine_dequantize": affine_dequantize,
    "constexpr_blockwise_shift_scale": blockwise_shift_scale,
    "constexpr_lut_to_dense": lut_to_dense,
    "constexpr_sparse_to_dense": sparse_to_dense,
    "constexpr_sparse_blockwise_shift_scale": sparse_blockwise_shift_scale,
    "constexpr_lut_to_sparse": lut_to_sparse,
    "constexpr_cast": cast,
}
