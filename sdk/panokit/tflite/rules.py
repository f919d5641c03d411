"""The operators that may run, and what each of them must keep.

LiteRT's kernels check little: operands that are left out, a type or a scale that a kernel takes for
granted, or an index outside of its tensor end the process. So every operator that converters and
quantizers emit has a rule here with its operands, types and shapes, and one without a rule is
refused. Sizes, axes and orders must be constants: what is computed cannot be checked. Indices may
be computed where the kernels themselves look at them (those of gather and scatter do).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from panokit.tflite.flatbuffer import FlatbufferError
from panokit.tflite.read import TfliteOperator, TfliteTensor

__all__ = ["RULES", "Given", "Rule", "check_operator"]

MAX_KERNEL = 1 << 16
MAX_BROADCAST_RANK = 4  # of operands of different shapes; what all kernels know

Given = Sequence[TfliteTensor | None]  # None is an operand that is left out
Shape = tuple[int, ...]

FLOAT = frozenset({"float32"})
QUANTIZED = frozenset({"int8", "uint8", "int16"})
BYTES = frozenset({"int8", "uint8"})
WHOLE = frozenset({"int32", "int64"})
NUMBERS = FLOAT | QUANTIZED | WHOLE
ANY = NUMBERS | {"bool"}
WEIGHTS = BYTES | {"int4"}


@dataclass(frozen=True)
class Rule:
    """What an operator must keep.

    ``least`` and ``most`` operands (those up to ``least`` are there, others may be left out), the
    ``types`` of the ``first`` operand, ``check`` for shapes and all else, which gives back the
    multiplications that the operator takes. ``results`` is their number; None for any.
    """

    least: int
    most: int
    types: frozenset[str]
    check: Callable[[TfliteOperator, Given, Sequence[TfliteTensor]], int]
    results: int | None = 1
    first: int = 0


def check_operator(operator: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    """How many multiplications an operator takes; ``FlatbufferError`` says what is wrong."""
    rule = RULES.get(operator.name)
    if rule is None:
        raise FlatbufferError("is none of the operators that are known to be safe")
    if not rule.least <= len(given) <= rule.most:
        raise FlatbufferError(
            f"has {len(given)} operands instead of {_between(rule.least, rule.most)}"
        )
    if any(tensor is None for tensor in given[: rule.least]):
        raise FlatbufferError("an operand that it needs is left out")
    if not results or rule.results not in (None, len(results)):
        raise FlatbufferError(f"has {len(results)} results instead of {rule.results}")
    first = _there(given, rule.first)
    if first.dtype not in rule.types:
        known = ", ".join(sorted(rule.types))
        raise FlatbufferError(f"takes {first.dtype}; known to be safe are {known}")
    return rule.check(operator, given, results)


def _between(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"


def _there(given: Given, index: int) -> TfliteTensor:
    tensor = given[index] if index < len(given) else None
    if tensor is None:
        raise FlatbufferError("an operand that it needs is left out")
    return tensor


def _optional(given: Given, index: int) -> TfliteTensor | None:
    return given[index] if index < len(given) else None


# ---- what rules are made of


def _expect(result: TfliteTensor, shape: Iterable[int]) -> None:
    computed = tuple(shape)
    if result.shape != computed:
        raise FlatbufferError(f"computes the shape {computed}, but declares {result.shape}")


def _rank(tensor: TfliteTensor, least: int, most: int | None = None) -> None:
    most = least if most is None else most
    if not least <= len(tensor.shape) <= most:
        raise FlatbufferError(f"expected {_between(least, most)} axes, got {tensor.shape}")


def _type(tensor: TfliteTensor, *allowed: str) -> None:
    if tensor.dtype not in allowed:
        raise FlatbufferError(
            f"tensor {tensor.index} is {tensor.dtype}; expected {' or '.join(allowed)}"
        )


def _one_scale(*tensors: TfliteTensor) -> None:
    """Quantised tensors with one scale, as kernels that compute take for granted."""
    for tensor in tensors:
        if tensor.dtype in QUANTIZED and tensor.scale.size != 1:
            raise FlatbufferError(f"tensor {tensor.index} is {tensor.dtype} without one scale")


def _alike(*tensors: TfliteTensor) -> None:
    """Tensors of one type."""
    kinds = {tensor.dtype for tensor in tensors}
    if len(kinds) > 1:
        raise FlatbufferError(f"mixes the types {', '.join(sorted(kinds))}")


def _whole(tensor: TfliteTensor | None, count: int | None = None) -> list[int]:
    """The numbers of a constant operand."""
    if tensor is None or tensor.data is None:
        raise FlatbufferError("a list of whole numbers that is not a constant")
    if tensor.dtype not in WHOLE:
        raise FlatbufferError(f"an operand of {tensor.dtype} instead of whole numbers")
    numbers = [int(n) for n in np.frombuffer(tensor.data, tensor.dtype)]
    if count is not None and len(numbers) != count:
        raise FlatbufferError(f"an operand of {len(numbers)} numbers instead of {count}")
    return numbers


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise FlatbufferError(f"the axis {axis} of {rank}")
    return axis % rank


def _broadcast_shape(*tensors: TfliteTensor, most: int = MAX_BROADCAST_RANK) -> Shape:
    shapes = [tensor.shape for tensor in tensors]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise FlatbufferError(f"the shapes {shapes} do not fit together") from None
    if len(set(shapes)) > 1 and len(shape) > most:
        raise FlatbufferError(f"different shapes of more than {most} axes: {shapes}")
    return shape


def _out(size: int, kernel: int, stride: int, spread: int, padding: int) -> int:
    if min(stride, spread, kernel) < 1 or max(stride, spread, kernel) > MAX_KERNEL:
        raise FlatbufferError(f"kernel {kernel}, stride {stride}, dilation {spread}")
    if padding not in (0, 1):
        raise FlatbufferError(f"no padding is {padding}")
    reach = (kernel - 1) * spread + 1
    cells = -(-size // stride) if padding == 0 else (size - reach) // stride + 1
    if cells < 1:
        raise FlatbufferError(f"a kernel that reaches {reach} over {size} positions")
    return cells


def _weighted(
    image: TfliteTensor, weight: TfliteTensor, bias: TfliteTensor | None, result: TfliteTensor,
    filters: int, axis: int,
) -> None:  # fmt: skip
    """Types and scales of a layer; its weights have one, or one for each filter along ``axis``."""
    _alike(image, result)
    if image.dtype == "float32":
        _type(weight, "float32", *WEIGHTS)
        if bias is not None:
            _type(bias, "float32")
    else:
        _type(weight, *(WEIGHTS if image.dtype != "uint8" else {"uint8"}))
        if weight.dtype == "uint8" and image.dtype != "uint8":
            raise FlatbufferError(f"weights of uint8 for an image of {image.dtype}")
        _one_scale(image, result)
        if bias is not None:
            _type(bias, "int32", *(["int64"] if image.dtype == "int16" else []))
    if weight.dtype in WEIGHTS:
        if weight.scale.size not in (1, filters):
            raise FlatbufferError(f"{weight.scale.size} scales for {filters} filters")
        if weight.scale.size > 1 and weight.axis != axis:
            raise FlatbufferError(f"scales along the axis {weight.axis} of its weights")
    if bias is not None and (bias.shape[-1:] != (filters,) or prod(bias.shape) != filters):
        raise FlatbufferError(f"a bias {bias.shape} for {filters} filters")


# ---- layers with weights


def _conv(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, weight, result = _there(given, 0), _there(given, 1), results[0]
    for tensor in (image, weight, result):
        _rank(tensor, 4)
    depthwise = op.name == "DEPTHWISE_CONV_2D"
    filters = weight.shape[3] if depthwise else weight.shape[0]
    channels = image.shape[3]
    if depthwise:
        factor = op.options["depth_multiplier"]
        if weight.shape[0] != 1 or factor < 1 or channels * factor != filters:
            raise FlatbufferError(f"{channels} channels times {factor} for weights {weight.shape}")
    elif channels % weight.shape[3] or filters % (channels // weight.shape[3]):
        raise FlatbufferError(f"{channels} channels for weights {weight.shape}")
    _weighted(image, weight, _optional(given, 2), result, filters, 3 if depthwise else 0)
    sizes = [
        _out(image.shape[1 + k], weight.shape[1 + k], op.options[f"stride_{s}"],
             op.options[f"dilation_{s}"], op.options["padding"])
        for k, s in enumerate("hw")
    ]  # fmt: skip
    _expect(result, (image.shape[0], *sizes, filters))
    return image.shape[0] * prod(weight.shape) * sizes[0] * sizes[1]


def _conv_3d(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, weight, result = _there(given, 0), _there(given, 1), results[0]
    bias = _optional(given, 2)
    for tensor in (image, weight, result):
        _rank(tensor, 5)
    _alike(image, weight, result, *([bias] if bias is not None else []))
    filters = weight.shape[4]
    if weight.shape[3] != image.shape[4] or (bias is not None and bias.shape != (filters,)):
        raise FlatbufferError(f"an image {image.shape} for weights {weight.shape}")
    sizes = [
        _out(image.shape[1 + k], weight.shape[k], op.options[f"stride_{s}"],
             op.options[f"dilation_{s}"], op.options["padding"])
        for k, s in enumerate("dhw")
    ]  # fmt: skip
    _expect(result, (image.shape[0], *sizes, filters))
    return image.shape[0] * prod(weight.shape) * prod(sizes)


def _transposed_conv(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    weight, image, result = _there(given, 1), _there(given, 2), results[0]
    for tensor in (weight, image, result):
        _rank(tensor, 4)
    _expect(result, _whole(given[0], 4))
    filters, rows, columns, channels = weight.shape
    if (image.shape[3], image.shape[0]) != (channels, result.shape[0]):
        raise FlatbufferError(f"an image {image.shape} for weights {weight.shape}")
    _weighted(image, weight, _optional(given, 3), result, filters, 0)
    for k, kernel, side in ((1, rows, "h"), (2, columns, "w")):
        stride, padding = op.options[f"stride_{side}"], op.options["padding"]
        if _out(result.shape[k], kernel, stride, 1, padding) != image.shape[k]:
            raise FlatbufferError(f"{image.shape} to {result.shape} by strides of {stride}")
    if result.shape[3] != filters:
        raise FlatbufferError(f"{filters} filters for {result.shape}")
    return prod(weight.shape) * image.shape[1] * image.shape[2] * image.shape[0]


def _fully_connected(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, weight, result = _there(given, 0), _there(given, 1), results[0]
    _rank(weight, 2)
    filters, inputs = weight.shape
    if op.options["weights_format"]:
        raise FlatbufferError("weights in an order that is not run here")
    if not image.shape or prod(image.shape) % inputs:
        raise FlatbufferError(f"{image.shape} for weights {weight.shape}")
    _weighted(image, weight, _optional(given, 2), result, filters, 0)
    rows = prod(image.shape) // inputs
    if op.options["keep_num_dims"]:
        if image.shape[-1] != inputs:
            raise FlatbufferError(f"{image.shape} for weights {weight.shape}")
        _expect(result, (*image.shape[:-1], filters))
    elif result.shape[-1:] != (filters,) or prod(result.shape) != rows * filters:
        raise FlatbufferError(f"computes {rows} x {filters} numbers, but declares {result.shape}")
    return rows * filters * inputs


def _batch_matmul(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    left, right, result = _there(given, 0), _there(given, 1), results[0]
    _rank(left, 2, 5)
    _rank(right, 2, 5)
    _alike(left, right, result)
    _one_scale(left, right, result)
    *batch, rows, inside = left.shape
    *others, inside2, columns = right.shape
    if op.options["adj_x"]:
        rows, inside = inside, rows
    if op.options["adj_y"]:
        inside2, columns = columns, inside2
    if inside != inside2:
        raise FlatbufferError(f"matrices {left.shape} and {right.shape}")
    try:
        stack = np.broadcast_shapes(tuple(batch), tuple(others))
    except ValueError:
        raise FlatbufferError(f"matrices {left.shape} and {right.shape}") from None
    _expect(result, (*stack, rows, columns))
    return prod(stack) * rows * columns * inside


# ---- one value at a time


def _pool(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, result, o = _there(given, 0), results[0], op.options
    _rank(image, 4)
    _alike(image, result)
    _one_scale(image, result)
    n, h, w, c = image.shape
    rows = _out(h, o["filter_h"], o["stride_h"], 1, o["padding"])
    columns = _out(w, o["filter_w"], o["stride_w"], 1, o["padding"])
    _expect(result, (n, rows, columns, c))
    return int(prod(result.shape) * o["filter_h"] * o["filter_w"])


def _resize(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, result = _there(given, 0), results[0]
    _rank(image, 4)
    _alike(image, result)
    if op.options["align_corners"] and op.options["half_pixel_centers"]:
        raise FlatbufferError("both align_corners and half_pixel_centers are set")
    n, _, _, c = image.shape
    _expect(result, (n, *_whole(given[1], 2), c))
    return 4 * prod(result.shape)


def _same(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    """One number from one number, computed: quantised ones need their scales."""
    image, result = _there(given, 0), results[0]
    if not image.shape:
        raise FlatbufferError("a single number without axes")
    _alike(image, result)
    _one_scale(image, result)
    _expect(result, image.shape)
    return prod(result.shape)


def _copied(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    """One number for one number, of the same type, whatever it means."""
    image, result = _there(given, 0), results[0]
    _alike(image, result)
    _expect(result, image.shape)
    return 0


def _normalized(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    _rank(_there(given, 0), 1, 4)
    return _same(op, given, results)


def _prelu(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, alpha, result = _there(given, 0), _there(given, 1), results[0]
    _alike(image, alpha, result)
    _one_scale(image, alpha, result)
    _expect(result, image.shape)
    if _broadcast_shape(image, alpha) != image.shape:
        raise FlatbufferError(f"slopes {alpha.shape} for {image.shape}")
    return prod(result.shape)


def _quantize(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, result = _there(given, 0), results[0]
    _type(result, *QUANTIZED)
    if result.scale.size != 1 or (image.dtype != "float32" and image.scale.size != 1):
        raise FlatbufferError("from or to whole numbers without one scale")
    _expect(result, image.shape)
    return prod(result.shape)


def _dequantize(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, result = _there(given, 0), results[0]
    _type(result, "float32")
    if image.dtype != "float16" and not image.scale.size:
        raise FlatbufferError(f"tensor {image.index} is {image.dtype} without a scale")
    _expect(result, image.shape)
    return prod(result.shape)


def _cast(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, result = _there(given, 0), results[0]
    _type(result, "float32", "int32", "int64", "uint8", "int8", "int16", "bool")
    _expect(result, image.shape)
    return prod(result.shape)


# ---- two values at a time


def _arithmetic(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    left, right, result = _there(given, 0), _there(given, 1), results[0]
    _alike(left, right, result)
    _one_scale(left, right, result)
    _expect(result, _broadcast_shape(left, right, most=6))
    return prod(result.shape)


def _extreme(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    left, right, result = _there(given, 0), _there(given, 1), results[0]
    _alike(left, right, result)
    most = 5 if op.name == "DIV" else MAX_BROADCAST_RANK
    _expect(result, _broadcast_shape(left, right, most=most))
    return prod(result.shape)


def _division(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    """Of whole numbers only by constants that cannot end the process: not 0, and not -1."""
    left, right = _there(given, 0), _there(given, 1)
    if left.dtype != "float32" and {0, -1} & set(_whole(right)):
        raise FlatbufferError("whole numbers divided by 0 or -1")
    return _extreme(op, given, results)


def _comparison(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    left, right, result = _there(given, 0), _there(given, 1), results[0]
    _alike(left, right)
    _one_scale(left, right)
    _type(result, "bool")
    _expect(result, _broadcast_shape(left, right))
    return prod(result.shape)


def _select(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    which, left, right = (_there(given, k) for k in range(3))
    _alike(left, right, results[0])
    _type(left, *ANY)
    if op.name == "SELECT" and not which.shape == left.shape == right.shape:
        raise FlatbufferError(f"a choice {which.shape} between {left.shape} and {right.shape}")
    _expect(results[0], _broadcast_shape(which, left, right))
    return prod(results[0].shape)


def _sum_of_many(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    tensors = [_there(given, k) for k in range(len(given))]
    _alike(*tensors, results[0])
    for tensor in tensors:
        _expect(results[0], tensor.shape)
    return len(tensors) * prod(results[0].shape)


# ---- along axes


def _reduce(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, result = _there(given, 0), results[0]
    _alike(image, result)
    if op.name in ("MEAN", "SUM"):
        _one_scale(image, result)
    rank = len(image.shape)
    gone = {_axis(a, rank) for a in _whole(given[1])}
    kept = op.options["keep_dims"]
    shape = [1 if k in gone else s for k, s in enumerate(image.shape) if kept or k not in gone]
    _expect(result, shape)
    return prod(image.shape)


def _arg(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, result = _there(given, 0), results[0]
    (axis,) = _whole(given[1], 1)
    axis = _axis(axis, len(image.shape))
    _type(result, "int32", "int64")
    _expect(result, image.shape[:axis] + image.shape[axis + 1 :])
    return prod(image.shape)


def _top(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, (values, indices) = _there(given, 0), results
    (count,) = _whole(given[1], 1)
    if not image.shape or not 1 <= count <= image.shape[-1]:
        raise FlatbufferError(f"the {count} largest of {image.shape}")
    _alike(image, values)
    _type(indices, "int32")
    for result in results:
        _expect(result, (*image.shape[:-1], count))
    return prod(image.shape)


def _suppression(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    """How many are kept must be written in the file: the results are as long."""
    boxes, scores = _there(given, 0), _there(given, 1)
    (count,) = _whole(given[2], 1)
    _rank(boxes, 2, 2)
    n = boxes.shape[0]
    _expect(boxes, (n, 4))
    _expect(scores, (n,))
    for limit in given[3:]:
        if limit is None or limit.shape not in ((), (1,)):
            raise FlatbufferError("expected single numbers as limits")
        _type(limit, "float32")
    _type(scores, "float32")
    if not 1 <= count <= n:
        raise FlatbufferError(f"{count} of {n} boxes")
    wanted = [("int32", (count,)), ("int32", ())]
    if op.name == "NON_MAX_SUPPRESSION_V5":
        wanted.insert(1, ("float32", (count,)))
    for result, (dtype, shape) in zip(results, wanted, strict=True):
        _type(result, dtype)
        _expect(result, shape)
    return n * count


def _cumulated(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    (axis,) = _whole(given[1], 1)
    _axis(axis, len(_there(given, 0).shape))
    return _copied(op, given, results)


# ---- moving values


def _reshape(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, result = _there(given, 0), results[0]
    _alike(image, result)
    if prod(image.shape) != prod(result.shape):
        raise FlatbufferError(f"{image.shape} to {result.shape}")
    wanted = _optional(given, 1)
    if wanted is not None:
        shape = _whole(wanted)
        fits = len(shape) == len(result.shape) and all(
            s in (-1, r) for s, r in zip(shape, result.shape, strict=True)
        )
        if not fits or shape.count(-1) > 1:
            raise FlatbufferError(f"to {shape}, but declares {result.shape}")
    return 0


def _axes_of_one(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, result = _there(given, 0), results[0]
    _alike(image, result)
    if op.name == "EXPAND_DIMS":
        (axis,) = _whole(given[1], 1)
        axis = _axis(axis, len(image.shape) + 1)
        _expect(result, (*image.shape[:axis], 1, *image.shape[axis:]))
    elif [s for s in image.shape if s != 1] != [s for s in result.shape if s != 1]:
        raise FlatbufferError(f"{image.shape} to {result.shape}")
    return 0


def _transpose(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image = _there(given, 0)
    _rank(image, 1, 6)
    _alike(image, results[0])
    order = _whole(given[1], len(image.shape))
    if sorted(order) != list(range(len(image.shape))):
        raise FlatbufferError(f"the order {order} of {len(image.shape)} axes")
    _expect(results[0], (image.shape[k] for k in order))
    return 0


def _pad(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, result = _there(given, 0), results[0]
    _rank(image, 1, 5)
    _alike(image, result)
    pads = _whole(given[1], 2 * len(image.shape))
    if min(pads) < 0:
        raise FlatbufferError("its padding is below zero")
    if op.name == "PADV2":
        value = _there(given, 2)
        _alike(value, image)
        if prod(value.shape) != 1:
            raise FlatbufferError(f"a value {value.shape} to pad with")
    if op.name == "MIRROR_PAD":
        most = [s - 1 + op.options["mode"] for s in image.shape]
        if op.options["mode"] not in (0, 1) or any(
            max(pads[2 * k : 2 * k + 2]) > m for k, m in enumerate(most)
        ):
            raise FlatbufferError(f"a mirrored border of {pads} around {image.shape}")
    _expect(result, (s + pads[2 * k] + pads[2 * k + 1] for k, s in enumerate(image.shape)))
    return 0


def _concatenation(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    tensors = [_there(given, k) for k in range(len(given))]
    _alike(*tensors, results[0])
    first = tensors[0].shape
    axis = _axis(op.options["axis"], len(first))
    total = 0
    for tensor in tensors:
        if tensor.shape[:axis] + tensor.shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            raise FlatbufferError(f"the shapes {first} and {tensor.shape} do not fit together")
        total += tensor.shape[axis]
    _expect(results[0], (*first[:axis], total, *first[axis + 1 :]))
    return 0


def _slice(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image = _there(given, 0)
    _rank(image, 1, 5)
    _alike(image, results[0])
    begins, sizes = (_whole(given[k], len(image.shape)) for k in (1, 2))
    shape = []
    for begin, size, side in zip(begins, sizes, image.shape, strict=True):
        size = side - begin if size == -1 else size
        if begin < 0 or size < 1 or begin + size > side:
            raise FlatbufferError(f"from {begins}, {sizes} long, out of {image.shape}")
        shape.append(size)
    _expect(results[0], shape)
    return 0


def _strided_slice(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, o = _there(given, 0), op.options
    rank = len(image.shape)
    _rank(image, 1, 5)
    _alike(image, results[0])
    if o["ellipsis_mask"] or o["new_axis_mask"] or o["offset"]:
        raise FlatbufferError("an ellipsis or a new axis in a slice, not run here")
    begins, ends, steps = (_whole(given[k]) for k in (1, 2, 3))
    if not len(begins) == len(ends) == len(steps) <= rank or 0 in steps:
        raise FlatbufferError(f"from {begins} to {ends} by {steps} out of {image.shape}")
    shape: list[int] = []
    for k, side in enumerate(image.shape):
        if k >= len(begins):
            shape.append(side)
            continue
        begin = None if o["begin_mask"] >> k & 1 else begins[k]
        end = None if o["end_mask"] >> k & 1 else ends[k]
        if o["shrink_axis_mask"] >> k & 1:
            if begin is None or not -side <= begin < side or steps[k] != 1:
                raise FlatbufferError(f"the position {begin} of {side}")
            continue
        count = len(range(side)[begin : end : steps[k]])
        if not count:
            raise FlatbufferError(f"nothing of {side}, from {begin} to {end} by {steps[k]}")
        shape.append(count)
    _expect(results[0], shape)
    return 0


def _split(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    at = 1 if op.name == "SPLIT" else 0
    image = _there(given, at)
    (axis,) = _whole(given[0 if op.name == "SPLIT" else 2], 1)
    axis = _axis(axis, len(image.shape))
    if op.options["num_splits"] != len(results):
        raise FlatbufferError(f"{op.options['num_splits']} parts, but {len(results)} results")
    side = image.shape[axis]
    if op.name == "SPLIT":
        if side % len(results):
            raise FlatbufferError(f"{side} in {len(results)} equal parts")
        sizes = [side // len(results)] * len(results)
    else:
        sizes = _whole(given[1], len(results))
        if sizes.count(-1) == 1:
            sizes[sizes.index(-1)] = side - (sum(sizes) + 1)
        if min(sizes) < 1 or sum(sizes) != side:
            raise FlatbufferError(f"{side} in parts of {sizes}")
    for result, size in zip(results, sizes, strict=True):
        _alike(image, result)
        _expect(result, (*image.shape[:axis], size, *image.shape[axis + 1 :]))
    return 0


def _pack(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    tensors = [_there(given, k) for k in range(len(given))]
    _alike(*tensors, results[0])
    if op.options["values_count"] != len(tensors) or len({t.shape for t in tensors}) > 1:
        raise FlatbufferError(f"{len(tensors)} operands of {sorted({t.shape for t in tensors})}")
    shape = tensors[0].shape
    axis = _axis(op.options["axis"], len(shape) + 1)
    _expect(results[0], (*shape[:axis], len(tensors), *shape[axis:]))
    return 0


def _unpack(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image = _there(given, 0)
    axis = _axis(op.options["axis"], len(image.shape))
    if not op.options["num"] == len(results) == image.shape[axis]:
        raise FlatbufferError(f"{image.shape} into {len(results)} along axis {axis}")
    for result in results:
        _alike(image, result)
        _expect(result, image.shape[:axis] + image.shape[axis + 1 :])
    return 0


def _gather(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, indices = _there(given, 0), _there(given, 1)
    _alike(image, results[0])
    axis = _axis(op.options["axis"], len(image.shape))
    if op.options["batch_dims"]:
        raise FlatbufferError("indices of their own for each of a batch, not run here")
    side = image.shape[axis]
    _type(indices, *WHOLE)
    if indices.data is not None and any(not 0 <= n < side for n in _whole(indices)):
        raise FlatbufferError(f"an index outside of the {side} along axis {axis}")
    _expect(results[0], (*image.shape[:axis], *indices.shape, *image.shape[axis + 1 :]))
    return 0


def _gather_nd(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, indices = _there(given, 0), _there(given, 1)
    _alike(image, results[0])
    depth = indices.shape[-1] if indices.shape else 0
    if not 1 <= depth <= len(image.shape):
        raise FlatbufferError(f"indices {indices.shape} into {image.shape}")
    _type(indices, *WHOLE)
    if indices.data is not None:
        numbers = np.array(_whole(indices)).reshape(-1, depth)
        if (numbers < 0).any() or (numbers >= image.shape[:depth]).any():
            raise FlatbufferError(f"an index outside of {image.shape[:depth]}")
    _expect(results[0], (*indices.shape[:-1], *image.shape[depth:]))
    return 0


def _one_hot(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    indices, on, off = _there(given, 0), _there(given, 2), _there(given, 3)
    _alike(on, off, results[0])
    _type(on, *ANY)
    if prod(on.shape) != 1 or prod(off.shape) != 1:
        raise FlatbufferError(f"values {on.shape} and {off.shape} instead of one number each")
    (depth,) = _whole(given[1], 1)
    if depth < 1:
        raise FlatbufferError(f"a depth of {depth}")
    rank = len(indices.shape) + 1
    axis = _axis(op.options["axis"], rank)
    _expect(results[0], (*indices.shape[:axis], depth, *indices.shape[axis:]))
    return 0


def _embedding(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    rows, table = _there(given, 0), _there(given, 1)
    _rank(rows, 1)
    _rank(table, 2, 5)
    _alike(table, results[0])
    _type(table, "float32")
    _expect(results[0], (*rows.shape, *table.shape[1:]))
    return 0


def _scatter_nd(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    indices, values = _there(given, 0), _there(given, 1)
    _type(values, "float32", "int8", "uint8", "int32", "int64")
    _alike(values, results[0])
    shape = tuple(_whole(given[2]))
    _expect(results[0], shape)
    depth = indices.shape[-1] if indices.shape else 0
    if not 1 <= depth <= len(shape):
        raise FlatbufferError(f"indices {indices.shape} into {shape}")
    if values.shape != (*indices.shape[:-1], *shape[depth:]):
        raise FlatbufferError(f"values {values.shape} for indices {indices.shape} into {shape}")
    return 0


def _update(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, part, where = (_there(given, k) for k in range(3))
    _alike(image, part, results[0])
    _type(where, *WHOLE)
    fits = len(part.shape) == len(image.shape) == prod(where.shape) and all(
        a <= b for a, b in zip(part.shape, image.shape, strict=True)
    )
    if not fits or len(where.shape) != 1:
        raise FlatbufferError(f"{part.shape} into {image.shape} at {where.shape}")
    _expect(results[0], image.shape)
    return 0


def _tile(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image = _there(given, 0)
    _alike(image, results[0])
    times = _whole(given[1], len(image.shape))
    if min(times, default=0) < 1:
        raise FlatbufferError(f"{times} times {image.shape}")
    _expect(results[0], (s * n for s, n in zip(image.shape, times, strict=True)))
    return 0


def _broadcast_to(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image = _there(given, 0)
    _alike(image, results[0])
    shape = tuple(_whole(given[1]))
    try:
        fits = min(shape, default=0) >= 1 and np.broadcast_shapes(image.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise FlatbufferError(f"{image.shape} to {shape}")
    _expect(results[0], shape)
    return 0


def _reverse(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    rank = len(_there(given, 0).shape)
    axes = [_axis(a, rank) for a in _whole(given[1])]
    if not axes or len(set(axes)) != len(axes):
        raise FlatbufferError(f"the axes {axes}")
    return _copied(op, given, results)


def _blocks(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    image, block = _there(given, 0), op.options["block_size"]
    _rank(image, 4)
    _alike(image, results[0])
    n, h, w, c = image.shape
    if not 1 <= block <= MAX_KERNEL:
        raise FlatbufferError(f"blocks of {block}")
    if op.name == "DEPTH_TO_SPACE":
        if c % (block * block):
            raise FlatbufferError(f"{c} channels in blocks of {block}")
        _expect(results[0], (n, h * block, w * block, c // (block * block)))
    else:
        if h % block or w % block:
            raise FlatbufferError(f"{image.shape} in blocks of {block}")
        _expect(results[0], (n, h // block, w // block, c * block * block))
    return 0


def _batches(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    """Space to batch and back, as dilated convolutions of TensorFlow are written."""
    image = _there(given, 0)
    _rank(image, 4)
    _alike(image, results[0])
    blocks, borders = _whole(given[1], 2), _whole(given[2], 4)
    if min(blocks) < 1 or min(borders) < 0:
        raise FlatbufferError(f"blocks of {blocks} and borders of {borders}")
    n, h, w, c = image.shape
    border = borders[0] + borders[1], borders[2] + borders[3]
    count = blocks[0] * blocks[1]
    if op.name == "SPACE_TO_BATCH_ND":
        sides = h + border[0], w + border[1]
        if sides[0] % blocks[0] or sides[1] % blocks[1]:
            raise FlatbufferError(f"{sides} in blocks of {blocks}")
        _expect(results[0], (n * count, sides[0] // blocks[0], sides[1] // blocks[1], c))
    else:
        sides = h * blocks[0] - border[0], w * blocks[1] - border[1]
        if n % count or min(sides) < 1:
            raise FlatbufferError(f"{image.shape} of blocks of {blocks}, cropped by {borders}")
        _expect(results[0], (n // count, *sides, c))
    return 0


def _shape_of(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    _type(results[0], *WHOLE)
    _expect(results[0], (len(_there(given, 0).shape),))
    return 0


def _fill(op: TfliteOperator, given: Given, results: Sequence[TfliteTensor]) -> int:
    value = _there(given, 1)
    _alike(value, results[0])
    _type(value, *ANY)
    if prod(value.shape) != 1 or value.shape:
        raise FlatbufferError(f"a value {value.shape} to fill with")
    _expect(results[0], _whole(given[0]))
    return 0


_COMPUTED = FLOAT | QUANTIZED

# Operator → what it must keep.
RULES: dict[str, Rule] = {
    "CONV_2D": Rule(2, 3, _COMPUTED, _conv),
    "DEPTHWISE_CONV_2D": Rule(3, 3, _COMPUTED, _conv),  # its kernels read a bias, there or not
    "CONV_3D": Rule(2, 3, FLOAT, _conv_3d),
    "TRANSPOSE_CONV": Rule(3, 4, _COMPUTED, _transposed_conv, first=2),
    "FULLY_CONNECTED": Rule(2, 3, _COMPUTED, _fully_connected),
    "BATCH_MATMUL": Rule(2, 2, FLOAT | {"int8", "int16"}, _batch_matmul),
    "AVERAGE_POOL_2D": Rule(1, 1, _COMPUTED, _pool),
    "MAX_POOL_2D": Rule(1, 1, _COMPUTED, _pool),
    "RESIZE_BILINEAR": Rule(2, 2, _COMPUTED, _resize),
    "RESIZE_NEAREST_NEIGHBOR": Rule(2, 2, _COMPUTED, _resize),
    "SOFTMAX": Rule(1, 1, _COMPUTED, _same),
    "LOG_SOFTMAX": Rule(1, 1, FLOAT | BYTES, _same),
    "HARD_SWISH": Rule(1, 1, FLOAT | BYTES, _same),
    "GELU": Rule(1, 1, FLOAT | BYTES, _same),
    "ELU": Rule(1, 1, FLOAT | {"int8"}, _same),
    "L2_NORMALIZATION": Rule(1, 1, FLOAT | BYTES, _normalized),
    "PRELU": Rule(2, 2, FLOAT | BYTES, _prelu),
    **dict.fromkeys(
        ("RELU", "RELU6", "RELU_N1_TO_1", "LOGISTIC", "TANH", "LEAKY_RELU"),
        Rule(1, 1, _COMPUTED, _same),
    ),
    **dict.fromkeys(("ABS", "EXP", "RSQRT"), Rule(1, 1, FLOAT | {"int8", "int16"}, _same)),
    **dict.fromkeys(
        ("RELU_0_TO_1", "SQRT", "SQUARE", "FLOOR", "CEIL", "ROUND", "LOG", "SIN", "COS"),
        Rule(1, 1, FLOAT, _same),
    ),
    "SIGN": Rule(1, 1, FLOAT | {"int32"}, _same),
    "ATAN2": Rule(2, 2, FLOAT, _extreme),
    "NEG": Rule(1, 1, FLOAT | WHOLE, _copied),
    "LOGICAL_NOT": Rule(1, 1, frozenset({"bool"}), _copied),
    "ZEROS_LIKE": Rule(1, 1, FLOAT | WHOLE, _copied),
    "QUANTIZE": Rule(1, 1, _COMPUTED, _quantize),
    "DEQUANTIZE": Rule(1, 1, QUANTIZED | {"float16", "int4"}, _dequantize),
    "CAST": Rule(1, 1, ANY, _cast),
    **dict.fromkeys(("ADD", "SUB", "MUL"), Rule(2, 2, NUMBERS, _arithmetic)),
    "SQUARED_DIFFERENCE": Rule(2, 2, FLOAT | {"int8", "int32"}, _arithmetic),
    "MAXIMUM": Rule(2, 2, NUMBERS, _extreme),
    "MINIMUM": Rule(2, 2, NUMBERS, _extreme),
    "POW": Rule(2, 2, FLOAT, _extreme),
    **dict.fromkeys(("DIV", "FLOOR_DIV", "FLOOR_MOD"), Rule(2, 2, FLOAT | {"int32"}, _division)),
    **dict.fromkeys(
        ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"),
        Rule(2, 2, FLOAT | BYTES | WHOLE, _comparison),
    ),
    "LOGICAL_AND": Rule(2, 2, frozenset({"bool"}), _extreme),
    "LOGICAL_OR": Rule(2, 2, frozenset({"bool"}), _extreme),
    "SELECT": Rule(3, 3, frozenset({"bool"}), _select),
    "SELECT_V2": Rule(3, 3, frozenset({"bool"}), _select),
    "ADD_N": Rule(1, 64, FLOAT | {"int32"}, _sum_of_many),
    "MEAN": Rule(2, 2, NUMBERS, _reduce),
    "SUM": Rule(2, 2, FLOAT | BYTES | WHOLE, _reduce),
    **dict.fromkeys(("REDUCE_MAX", "REDUCE_MIN"), Rule(2, 2, NUMBERS, _reduce)),
    "REDUCE_PROD": Rule(2, 2, FLOAT | WHOLE, _reduce),
    **dict.fromkeys(("REDUCE_ANY", "REDUCE_ALL"), Rule(2, 2, frozenset({"bool"}), _reduce)),
    "ARG_MAX": Rule(2, 2, FLOAT | BYTES | {"int32"}, _arg),
    "ARG_MIN": Rule(2, 2, FLOAT | BYTES | {"int32"}, _arg),
    "TOPK_V2": Rule(2, 2, FLOAT | BYTES | WHOLE, _top, results=2),
    "NON_MAX_SUPPRESSION_V4": Rule(5, 5, frozenset({"float32"}), _suppression, results=2),
    "NON_MAX_SUPPRESSION_V5": Rule(6, 6, frozenset({"float32"}), _suppression, results=3),
    "CUMSUM": Rule(2, 2, FLOAT | WHOLE, _cumulated),
    "RESHAPE": Rule(1, 2, ANY, _reshape),
    "SQUEEZE": Rule(1, 1, ANY, _axes_of_one),
    "EXPAND_DIMS": Rule(2, 2, ANY, _axes_of_one),
    "TRANSPOSE": Rule(2, 2, ANY, _transpose),
    "PAD": Rule(2, 2, NUMBERS, _pad),
    "PADV2": Rule(3, 3, NUMBERS, _pad),
    "MIRROR_PAD": Rule(2, 2, NUMBERS, _pad),
    "CONCATENATION": Rule(1, 1024, ANY, _concatenation),
    "SLICE": Rule(3, 3, ANY, _slice),
    "STRIDED_SLICE": Rule(4, 4, ANY, _strided_slice),
    "SPLIT": Rule(2, 2, NUMBERS, _split, results=None, first=1),
    "SPLIT_V": Rule(3, 3, NUMBERS, _split, results=None),
    "PACK": Rule(1, 1024, ANY, _pack),
    "UNPACK": Rule(1, 1, ANY, _unpack, results=None),
    "GATHER": Rule(2, 2, ANY, _gather),
    "GATHER_ND": Rule(2, 2, ANY, _gather_nd),
    "ONE_HOT": Rule(4, 4, WHOLE, _one_hot),
    "EMBEDDING_LOOKUP": Rule(2, 2, frozenset({"int32"}), _embedding),
    "SCATTER_ND": Rule(3, 3, WHOLE, _scatter_nd),
    "DYNAMIC_UPDATE_SLICE": Rule(3, 3, ANY, _update),
    "TILE": Rule(2, 2, ANY, _tile),
    "BROADCAST_TO": Rule(2, 2, ANY, _broadcast_to),
    "REVERSE_V2": Rule(2, 2, ANY, _reverse),
    "DEPTH_TO_SPACE": Rule(1, 1, NUMBERS, _blocks),
    "SPACE_TO_DEPTH": Rule(1, 1, NUMBERS, _blocks),
    "SPACE_TO_BATCH_ND": Rule(3, 3, NUMBERS, _batches),
    "BATCH_TO_SPACE_ND": Rule(3, 3, NUMBERS, _batches),
    "SHAPE": Rule(1, 1, ANY, _shape_of),
    "FILL": Rule(2, 2, WHOLE, _fill),
}
