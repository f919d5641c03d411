"""Every operator of the Core ML interpreter against torch, through the programs that hold it."""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from panokit_converters.coreml_interpreter.call import Call
from panokit_converters.coreml_interpreter.operators import OPERATORS
from panokit_converters.coreml_interpreter.values import Fault, TensorType

Array = NDArray[Any]
_ELEMENTS = {"float32": "fp32", "int32": "int32", "bool": "bool"}


def run(operator: str, shape: tuple[int, ...], dtype: str = "float32", /, **operands: Any) -> Array:
    """One operator alone; a list of arrays is an operand that takes several."""
    given = {name: _values(value) for name, value in operands.items()}
    result = OPERATORS[operator](Call(given, (TensorType(_ELEMENTS[dtype], shape),)))
    (only,) = result if isinstance(result, tuple) else (result,)
    assert only.shape == shape
    assert only.dtype == dtype or only.dtype.kind == np.dtype(dtype).kind == "f"
    return only


def _values(value: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return tuple(value)
    array = np.asarray(value)
    return (array.astype({"f": np.float32, "i": np.int32, "b": bool}[array.dtype.kind]),)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def close(got: Array, wanted: Tensor) -> None:
    np.testing.assert_allclose(got, wanted.numpy(), rtol=2e-5, atol=2e-5)


X = noise(2, 4, 6, 5)
POSITIVE = X.abs() + 0.2
INSIDE = torch.tanh(X) * 0.9
SHAPE = tuple(X.shape)

Case = tuple[Tensor, dict[str, Any], Tensor]
UNARY: dict[str, Case] = {
    "acos": (INSIDE, {}, INSIDE.acos()),
    "acosh": (POSITIVE + 1, {}, (POSITIVE + 1).acosh()),
    "asin": (INSIDE, {}, INSIDE.asin()),
    "asinh": (X, {}, X.asinh()),
    "atan": (X, {}, X.atan()),
    "atanh": (INSIDE, {}, INSIDE.atanh()),
    "ceil": (X, {}, X.ceil()),
    "clamped_relu": (X, {"alpha": 0.2, "beta": 0.6}, F.leaky_relu(X, 0.2).clamp(max=0.6)),
    "cos": (X, {}, X.cos()),
    "cosh": (X, {}, X.cosh()),
    "elu": (X, {"alpha": 0.7}, F.elu(X, 0.7)),
    "erf": (3 * X, {}, (3 * X).erf()),
    "exp2": (X, {}, X.exp2()),
    "floor": (X, {}, X.floor()),
    "gelu": (X, {"mode": "EXACT"}, F.gelu(X)),
    "inverse": (POSITIVE, {"epsilon": 0.0}, 1 / POSITIVE),
    "leaky_relu": (X, {"alpha": 0.1}, F.leaky_relu(X, 0.1)),
    "linear_activation": (X, {"alpha": 2.0, "beta": -1.0}, 2 * X - 1),
    "log": (POSITIVE, {}, POSITIVE.log()),
    "round": (X, {}, X.round()),
    "rsqrt": (POSITIVE, {}, POSITIVE.rsqrt()),
    "scaled_tanh": (X, {"alpha": 1.5, "beta": 0.5}, 1.5 * torch.tanh(0.5 * X)),
    "sigmoid": (X, {}, X.sigmoid()),
    "sigmoid_hard": (4 * X, {"alpha": 1 / 6, "beta": 0.5}, F.hardsigmoid(4 * X)),
    "sign": (X, {}, X.sign()),
    "silu": (X, {}, F.silu(X)),
    "sin": (X, {}, X.sin()),
    "sinh": (X, {}, X.sinh()),
    "softmax": (X, {"axis": -3}, X.softmax(1)),
    "softplus": (30 * X, {}, F.softplus(30 * X)),
    "softplus_parametric": (
        X, {"alpha": [0.5] * 4, "beta": [2.0] * 4}, 0.5 * F.softplus(2 * X, threshold=90),
    ),
    "softsign": (X, {}, F.softsign(X)),
    "tan": (INSIDE, {}, INSIDE.tan()),
    "threshold": (X, {"alpha": 0.3}, X.clamp(min=0.3)),
    "thresholded_relu": (X, {"alpha": 0.3}, torch.where(X >= 0.3, X, 0.0)),
    "instance_norm": (X, {"gamma": [1, 2, 3, 4.0], "beta": [0, 1, 0, 1.0], "epsilon": 1e-5},
                      F.instance_norm(X, weight=torch.tensor([1, 2, 3, 4.0]),
                                      bias=torch.tensor([0, 1, 0, 1.0]))),
    "layer_norm": (X, {"axes": [-2, -1], "epsilon": 1e-5}, F.layer_norm(X, (6, 5))),
    "l2_norm": (X, {"epsilon": 0.0}, F.normalize(X.flatten(1), dim=1).view(SHAPE)),
    "local_response_norm": (
        X, {"size": 3, "alpha": 0.4, "beta": 0.75, "k": 1.0}, F.local_response_norm(X, 3, 0.4),
    ),
    "cumsum": (X, {"axis": 2}, X.cumsum(2)),
    "reverse": (X, {"axes": [1, 3]}, X.flip((1, 3))),
    "band_part": (X, {"lower": 0, "upper": -1}, X.triu()),
}  # fmt: skip


@pytest.mark.parametrize("operator", UNARY)
def test_of_one_tensor(operator: str) -> None:
    x, operands, wanted = UNARY[operator]
    close(run(operator, SHAPE, x=x.numpy(), **operands), wanted)


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("TANH_APPROXIMATION", F.gelu(X, approximate="tanh")),
     ("SIGMOID_APPROXIMATION", X * torch.sigmoid(1.702 * X))],
)  # fmt: skip
def test_other_forms_of_gelu(mode: str, wanted: Tensor) -> None:
    close(run("gelu", SHAPE, x=X.numpy(), mode=mode), wanted)


def test_softplus_does_not_overflow() -> None:
    assert run("softplus", (2,), x=[1000.0, -1000.0]).tolist() == [1000.0, 0.0]


Y = noise(4, 1, 5, seed=1)
PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "equal": torch.eq, "greater": torch.gt, "greater_equal": torch.ge, "less": torch.lt,
    "less_equal": torch.le, "not_equal": torch.ne, "maximum": torch.maximum,
    "minimum": torch.minimum, "mod": torch.remainder, "real_div": torch.div,
    "floor_div": lambda x, y: torch.div(x, y, rounding_mode="floor"),
}  # fmt: skip


@pytest.mark.parametrize("operator", PAIRS)
def test_of_two_tensors(operator: str) -> None:
    wanted = PAIRS[operator](X, Y)
    dtype = "bool" if wanted.dtype == torch.bool else "float32"
    got = run(operator, SHAPE, dtype, x=X.numpy(), y=Y.numpy())
    np.testing.assert_allclose(got, wanted.numpy(), rtol=2e-5, atol=2e-5)


def test_truth_values_and_choices() -> None:
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert run("logical_and", (4,), "bool", x=a, y=b).tolist() == [True, False, False, False]
    assert run("logical_or", (4,), "bool", x=a, y=b).tolist() == [True, True, True, False]
    assert run("logical_xor", (4,), "bool", x=a, y=b).tolist() == [False, True, True, False]
    assert run("logical_not", (4,), "bool", x=a).tolist() == [False, False, True, True]
    assert run("select", (4,), cond=a, a=1.5, b=-2.0).tolist() == [1.5, 1.5, -2.0, -2.0]


def test_whole_numbers_stay_whole() -> None:
    x, y = np.array([7, -7]), np.array([2, 2])
    assert run("real_div", (2,), "int32", x=x, y=y).tolist() == [3, -3]
    assert run("floor_div", (2,), "int32", x=x, y=y).tolist() == [3, -4]
    assert run("mod", (2,), "int32", x=x, y=y).tolist() == [1, 1]


REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "reduce_l1_norm": lambda x: x.abs().sum((1, 3)),
    "reduce_l2_norm": lambda x: x.square().sum((1, 3)).sqrt(),
    "reduce_log_sum": lambda x: x.sum((1, 3)).log(),
    "reduce_log_sum_exp": lambda x: x.logsumexp((1, 3)),
    "reduce_max": lambda x: x.amax((1, 3)),
    "reduce_mean": lambda x: x.mean((1, 3)),
    "reduce_min": lambda x: x.amin((1, 3)),
    "reduce_prod": lambda x: x.prod(3).prod(1),
    "reduce_sum": lambda x: x.sum((1, 3)),
    "reduce_sum_square": lambda x: x.square().sum((1, 3)),
}


@pytest.mark.parametrize("operator", REDUCTIONS)
def test_reductions(operator: str) -> None:
    wanted = REDUCTIONS[operator](POSITIVE)
    operands = {"x": POSITIVE.numpy(), "axes": [1, -1]}
    close(run(operator, (2, 6), **operands, keep_dims=False), wanted)
    close(run(operator, (2, 1, 6, 1), **operands, keep_dims=True), wanted.view(2, 1, 6, 1))


def test_places_of_extremes() -> None:
    x = X.numpy()
    most, least = X.argmax(1), X.argmin(3, keepdim=True)
    got = run("reduce_argmax", (2, 6, 5), "int32", x=x, axis=1, keep_dims=False)
    np.testing.assert_array_equal(got, most.numpy())
    got = run("reduce_argmin", (2, 4, 6, 1), "int32", x=x, axis=3, keep_dims=True)
    np.testing.assert_array_equal(got, least.numpy())


def test_products() -> None:
    q, k, v = noise(2, 3, 5, 4), noise(2, 3, 7, 4, seed=1), noise(2, 3, 7, 6, seed=2)
    parts = {"query": q.numpy(), "key": k.numpy(), "value": v.numpy()}
    close(run("scaled_dot_product_attention", (2, 3, 5, 6), **parts),
          F.scaled_dot_product_attention(q, k, v))  # fmt: skip
    mask = torch.ones(5, 7, dtype=torch.bool).tril()
    close(run("scaled_dot_product_attention", (2, 3, 5, 6), **parts, attn_mask=mask.numpy()),
          F.scaled_dot_product_attention(q, k, v, mask))  # fmt: skip
    added = noise(5, 7, seed=3)
    close(run("scaled_dot_product_attention", (2, 3, 5, 6), **parts, attn_mask=added.numpy()),
          F.scaled_dot_product_attention(q, k, v, added))  # fmt: skip
    got = run("einsum", (2, 3, 6, 5), values=[q.numpy(), v[..., :4, :].numpy()],
              equation="nchw,ncwd->ncdh")  # fmt: skip
    close(got, torch.einsum("nchw,ncwd->ncdh", q, v[..., :4, :]))


def test_gathers() -> None:
    x = X.numpy()
    at = np.array([[3, 0, -1], [1, 1, 2]])
    close(run("gather", (2, 2, 3, 6, 5), x=x, indices=at, axis=1), X[:, at])
    batched = torch.stack([X[i][torch.from_numpy(at)[i]] for i in range(2)])
    close(run("gather", (2, 3, 6, 5), x=x, indices=at, axis=1, batch_dims=1), batched)
    along = X.argsort(2)[:, :, :4]
    got = run("gather_along_axis", (2, 4, 4, 5), x=x, indices=along.numpy(), axis=2)
    close(got, X.gather(2, along))
    places = np.array([[0, 1], [1, -1]])
    close(run("gather_nd", (2, 6, 5), x=x, indices=places), X[[0, 1], [1, -1]])
    places = np.array([[[1], [3]], [[0], [2]]])
    wanted = torch.stack([X[0][[1, 3]], X[1][[0, 2]]])
    close(run("gather_nd", (2, 2, 6, 5), x=x, indices=places, batch_dims=1), wanted)
    with pytest.raises(Fault, match="positions from 4 to 4 on an axis of 4"):
        run("gather", (2, 1, 6, 5), x=x, indices=[4], axis=1)


def test_scatters() -> None:
    data, updates = noise(3, 4), noise(3, 4, seed=1)
    at = torch.tensor([[0, 2, 1, 1], [1, 1, 0, 2], [2, 2, 2, 0]])
    names = {"data": data.numpy(), "updates": updates.numpy()}
    got = run("scatter_along_axis", (3, 4), **names, indices=at.numpy(), axis=0, mode="add")
    close(got, data.scatter_add(0, at, updates))
    got = run("scatter", (3, 4), **names, indices=[1, 1, 2], axis=0, mode="add")
    close(got, data.index_add(0, torch.tensor([1, 1, 2]), updates))
    got = run("scatter", (3, 4), **names, indices=[2, 0, 1], axis=0, mode="update")
    close(got, updates[[1, 2, 0]])
    places = np.array([[0, 1], [2, 3]])
    got = run("scatter_nd", (3, 4), data=data.numpy(), indices=places, updates=[5.0, 6.0],
              mode="update")  # fmt: skip
    wanted = data.clone()
    wanted[0, 1], wanted[2, 3] = 5, 6
    close(got, wanted)
    got = run("slice_update", (3, 4), x=data.numpy(), update=np.zeros((2, 2), np.float32),
              begin=[1, 0], end=[3, 4], stride=[1, 2])  # fmt: skip
    wanted = data.clone()
    wanted[1:, ::2] = 0
    close(got, wanted)
    with pytest.raises(Fault, match="the mode 'xor' of a scatter"):
        run("scatter", (3, 4), **names, indices=[0, 1, 2], axis=0, mode="xor")


def test_orders() -> None:
    x = X.numpy()
    got = run("argsort", SHAPE, "int32", x=x, axis=2, ascending=True)
    np.testing.assert_array_equal(got, X.argsort(2).numpy())
    got = run("argsort", SHAPE, "int32", x=x, axis=1, ascending=False)
    np.testing.assert_array_equal(got, X.argsort(1, descending=True).numpy())
    kinds = (TensorType("fp32", (2, 4, 2, 5)), TensorType("int32", (2, 4, 2, 5)))
    operands = {"x": (x,), "k": (np.int32(2),), "axis": (np.int32(2),)}
    values, at = OPERATORS["topk"](Call({k: tuple(map(np.asarray, v))
                                         for k, v in operands.items()}, kinds))  # fmt: skip
    wanted = X.topk(2, 2)
    np.testing.assert_array_equal(values, wanted.values.numpy())
    np.testing.assert_array_equal(at, wanted.indices.numpy())
    got = run("one_hot", (3, 4), x=x, indices=[2, 0, 3], one_hot_vector_size=4)
    close(got, F.one_hot(torch.tensor([2, 0, 3]), 4).float())
    got = run("non_zero", (2, 2), "int32", x=np.array([[0, 1.0], [2.0, 0]]))
    assert got.tolist() == [[0, 1], [1, 0]]


def test_cumsum_backwards_and_without_the_last() -> None:
    x = [1.0, 2.0, 4.0]
    assert run("cumsum", (3,), x=x, axis=0, exclusive=True).tolist() == [0, 1, 3]
    assert run("cumsum", (3,), x=x, axis=0, reverse=True).tolist() == [7, 6, 4]


def test_made_of_nothing() -> None:
    assert run("fill", (2, 3), shape=[2, 3], value=1.5).tolist() == [[1.5] * 3] * 2
    assert run("fill_like", (4,), ref_tensor=[0.0] * 4, value=2.0).tolist() == [2.0] * 4
    assert run("range_1d", (3,), "int32", start=1, end=7, step=2).tolist() == [1, 3, 5]
    assert run("shape", (4,), "int32", x=X.numpy()).tolist() == list(SHAPE)
    with pytest.raises(Fault, match="step is 0"):
        run("range_1d", (3,), "int32", start=1, end=7, step=0)


def test_moves() -> None:
    x = X.numpy()
    close(run("tile", (2, 8, 6, 15), x=x, reps=[1, 2, 1, 3]), X.repeat(1, 2, 1, 3))
    close(run("stack", (2, 4, 2, 6, 5), values=[x, 2 * x], axis=2), torch.stack([X, 2 * X], 2))
    got = run("concat", (2, 8, 6, 5), values=[x, 2 * x], axis=1, interleave=True)
    close(got, torch.stack([X, 2 * X], 2).flatten(1, 2))
    close(run("flatten2d", (8, 30), x=x, axis=2), X.flatten(0, 1).flatten(1))
    got = run("sliding_windows", (2, 4, 2, 3, 5), x=x, axis=2, size=3, stride=2)
    close(got, X.unfold(2, 3, 2).permute(0, 1, 2, 4, 3))
    got = run("crop", (2, 4, 3, 4), x=x, crop_height=[1, 2], crop_width=[0, 1])
    close(got, X[:, :, 1:4, :4])
    even = X[:, :, :, :4]
    close(run("pixel_shuffle", (2, 1, 12, 8), x=even.numpy(), upscale_factor=2),
          F.pixel_shuffle(even, 2))  # fmt: skip
    close(run("pixel_unshuffle", (2, 16, 3, 2), x=even.numpy(), downscale_factor=2),
          F.pixel_unshuffle(even, 2))  # fmt: skip


def test_blocks_and_channels_follow_the_other_order() -> None:
    """The position in the block counts slowest, unlike in a pixel shuffle."""
    x = torch.arange(16.0).view(1, 4, 2, 2)
    deep = run("depth_to_space", (1, 1, 4, 4), x=x.numpy(), block_size=2)
    assert deep[0, 0].tolist()[0] == [0, 4, 1, 5]
    np.testing.assert_array_equal(
        run("space_to_depth", (1, 4, 2, 2), x=deep, block_size=2), x.numpy()
    )
    two = torch.arange(16.0).view(1, 8, 1, 2)
    got = run("depth_to_space", (1, 2, 2, 4), x=two.numpy(), block_size=2)
    assert got[0, 0].tolist() == [[0, 4, 1, 5], [8, 12, 9, 13]]
    back = run("space_to_batch", (4, 1, 2, 2), x=deep, block_shape=[2, 2],
               paddings=np.zeros((2, 2), np.int32))  # fmt: skip
    np.testing.assert_array_equal(back[:, 0], x[0].numpy())
    again = run("batch_to_space", (1, 1, 4, 3), x=back, block_shape=[2, 2],
                crops=np.array([[0, 0], [1, 0]]))  # fmt: skip
    np.testing.assert_array_equal(again, deep[..., 1:])


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(4, 6, 2, stride=2),
        nn.ConvTranspose2d(4, 6, (3, 4), stride=(2, 1), padding=(1, 2), groups=2, bias=False),
        nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, groups=4),
        nn.ConvTranspose2d(4, 6, 3, stride=1, dilation=2, padding=2),
    ],
    ids=["plain", "grouped", "depthwise", "dilated"],
)
def test_transposed_convolutions(layer: nn.ConvTranspose2d) -> None:
    with torch.no_grad():
        wanted = layer(X)
    down, right = (int(amount) for amount in layer.padding)
    operands: dict[str, Any] = {
        "x": X.numpy(),
        "weight": layer.weight.detach().numpy(),
        "strides": list(layer.stride),
        "dilations": list(layer.dilation),
        "pad": [down, down, right, right],
        "pad_type": "custom",
        "groups": layer.groups,
    }
    if layer.bias is not None:
        operands["bias"] = layer.bias.detach().numpy()
    close(run("conv_transpose", tuple(wanted.shape), **operands), wanted)


def test_transposed_convolution_of_a_row_and_of_a_given_size() -> None:
    x, weight = noise(1, 2, 5), noise(2, 3, 3, seed=1)
    wanted = F.conv_transpose1d(x, weight, stride=2, padding=1, output_padding=1)
    got = run("conv_transpose", (1, 3, 10), x=x.numpy(), weight=weight.numpy(), strides=[2],
              pad=[1, 1], pad_type="custom", output_shape=[1, 3, 10])  # fmt: skip
    close(got, wanted)
    same = run("conv_transpose", (1, 3, 10), x=x.numpy(), weight=weight.numpy(), strides=[2],
               pad_type="same")  # fmt: skip
    close(same, F.conv_transpose1d(x, weight, stride=2)[..., :10])


def test_convolution_of_a_volume() -> None:
    x, weight = noise(1, 4, 5, 6, 7), noise(6, 2, 3, 1, 2, seed=1)
    wanted = F.conv3d(x, weight, torch.arange(6.0), (2, 1, 1), (1, 0, 1), (1, 1, 2), 2)
    got = run("conv", tuple(wanted.shape), x=x.numpy(), weight=weight.numpy(),
              bias=np.arange(6.0), strides=[2, 1, 1], dilations=[1, 1, 2], groups=2,
              pad=[1, 1, 0, 0, 1, 1], pad_type="custom")  # fmt: skip
    close(got, wanted)


@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("size", [(7, 8), (9, 10)])
def test_pools_that_round_up(size: tuple[int, int], pad: int) -> None:
    x = noise(1, 2, *size)
    options: dict[str, Any] = {"kernel_sizes": [3, 3], "strides": [2, 2], "pad_type": "custom",
                               "pad": [pad] * 4, "ceil_mode": True}  # fmt: skip
    wanted = F.max_pool2d(x, 3, 2, pad, ceil_mode=True)
    close(run("max_pool", tuple(wanted.shape), x=x.numpy(), **options), wanted)
    for without in (False, True):
        wanted = F.avg_pool2d(x, 3, 2, pad, True, not without)
        got = run("avg_pool", tuple(wanted.shape), x=x.numpy(), **options,
                  exclude_padding_from_average=without)  # fmt: skip
        close(got, wanted)


def test_pools_of_a_row_and_of_squares() -> None:
    x = noise(1, 2, 9)
    options: dict[str, Any] = {"kernel_sizes": [3], "strides": [2], "pad_type": "valid"}
    close(run("max_pool", (1, 2, 4), x=x.numpy(), **options), F.max_pool1d(x, 3, 2))
    got = run("l2_pool", (1, 2, 4), x=x.numpy(), **options)
    close(got, F.lp_pool1d(x, 2, 3, 2))


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_sampling_at_computed_places(mode: str, padding: str, corners: bool) -> None:
    grid = 1.6 * torch.sin(noise(2, 3, 7, 2, seed=4) * pi)
    wanted = F.grid_sample(X, grid, mode, padding, corners)
    name = {"zeros": "constant", "border": "border", "reflection": "reflection"}[padding]
    got = run("resample", tuple(wanted.shape), x=X.numpy(), coordinates=grid.numpy(),
              sampling_mode=mode, padding_mode=name, padding_value=0.0, align_corners=corners,
              coordinates_mode="normalized_minus_one_to_one")  # fmt: skip
    close(got, wanted)


def test_resize_of_ios_17() -> None:
    operands: dict[str, Any] = {"x": X.numpy(), "shape": [1, 4, 9, 11], "resized_dims": 2}
    got = run("resize", (2, 4, 9, 11), **operands, interpolation_mode="LINEAR",
              sampling_mode="UNALIGN_CORNERS")  # fmt: skip
    close(got, F.interpolate(X, size=(9, 11), mode="bilinear", align_corners=False))
    got = run("resize", (2, 4, 9, 11), **operands, interpolation_mode="NEAREST_NEIGHBOR")
    close(got, F.interpolate(X, size=(9, 11)))


def test_every_operator_is_known_by_one_name() -> None:
    """What these tests and those of programs run is all there is."""
    source = Path(__file__).read_text(encoding="utf-8")
    programs = Path(__file__).with_name("test_coreml_interpreter.py").read_text(encoding="utf-8")
    elsewhere = {"conv", "linear", "batch_norm", "upsample_bilinear", "resize_bilinear", "cast",
                 "upsample_nearest_neighbor", "resize_nearest_neighbor", "pad", "split", "square",
                 "transpose", "expand_dims", "squeeze", "slice_by_index", "slice_by_size", "relu6",
                 "reshape", "matmul", "quantize", "dequantize", "identity", "prelu", "clip",
                 "add", "sub", "mul", "pow", "exp", "abs", "relu", "sqrt", "tanh",
                 "reshape_like"}  # fmt: skip
    missing = [name for name in OPERATORS
               if f'"{name}"' not in source + programs and name not in elsewhere]  # fmt: skip
    assert missing == []
