"""Operators that treat every element alike: arithmetic, activations, comparisons, types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from panokit_converters.coreml_interpreter.call import Call, Function
from panokit_converters.coreml_interpreter.constexpr import along
from panokit_converters.coreml_interpreter.values import Array, Fault, NotRun

__all__ = ["ELEMENTWISE", "sigmoid"]


def _unary(function: Callable[[Array], Any]) -> Function:
    return lambda call: function(call.tensor("x"))


def _binary(function: Callable[[Array, Array], Any]) -> Function:
    def run(call: Call) -> Array:
        x, y = call.tensor("x"), call.tensor("y")
        call.announce(np.broadcast_shapes(x.shape, y.shape))
        return np.asarray(function(x, y))

    return run


def _shifted(function: Callable[[Array], Any], epsilon: float) -> Function:
    """A function of x + epsilon, so that it has a value at 0."""
    return lambda call: np.asarray(
        function(call.tensor("x") + np.float32(call.number("epsilon", epsilon)))
    )


# Arithmetic


def _quotient(x: Array, y: Array) -> Array:
    """Of whole numbers, the whole part."""
    result = np.true_divide(x, y)
    return np.trunc(result).astype(x.dtype) if x.dtype.kind in "iu" else np.asarray(result)


def _inverse_root(x: Array) -> Array:
    return np.asarray(1 / np.sqrt(x))


def sigmoid(x: Array) -> Array:
    """1 / (1 + e⁻ˣ)."""
    return np.asarray(1 / (1 + np.exp(-x)))


def _erf(x: Array) -> Array:
    """The error function, to 1.2e-7: Chebyshev fit of erfc in Numerical Recipes, section 6.2."""
    size = np.abs(x.astype(np.float64))
    t = 1 / (1 + 0.5 * size)
    series = (-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807,
              -1.13520398, 1.48851587, -0.82215223, 0.17087277)  # fmt: skip
    exponent = np.polynomial.polynomial.polyval(t, series) - size * size
    return np.asarray(np.sign(x) * (1 - t * np.exp(exponent))).astype(x.dtype)


# Activations


def _clip(call: Call) -> Array:
    return np.clip(call.tensor("x"), call.number("alpha"), call.number("beta"))


def _leaky_relu(call: Call) -> Array:
    x = call.tensor("x")
    return np.where(x >= 0, x, x * call.number("alpha", 0.01)).astype(x.dtype)


def _prelu(call: Call) -> Array:
    """A slope per channel (axis 1)."""
    x = call.tensor("x")
    return np.where(x >= 0, x, x * along(call.tensor("alpha"), 1, x))


def _elu(call: Call) -> Array:
    x = call.tensor("x")
    return np.where(x >= 0, x, np.expm1(np.minimum(x, 0)) * call.number("alpha", 1.0))


def _gelu(call: Call) -> Array:
    x = call.tensor("x")
    mode = call.text("mode", "EXACT")
    if mode == "EXACT":
        return np.asarray(0.5 * x * (1 + _erf(x / np.float32(np.sqrt(2)))))
    if mode == "TANH_APPROXIMATION":
        inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)
        return np.asarray(0.5 * x * (1 + np.tanh(inner)))
    if mode == "SIGMOID_APPROXIMATION":
        return np.asarray(x * sigmoid(np.float32(1.702) * x))
    raise NotRun(f"the mode {mode!r} of gelu is not known here")


def _softplus(x: Array) -> Array:
    """log(1 + eˣ), without overflow."""
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _softplus_parametric(call: Call) -> Array:
    """alpha·log(1 + e^(beta·x)), both per channel (axis 1)."""
    x = call.tensor("x")
    alpha, beta = (along(call.tensor(name), 1, x) for name in ("alpha", "beta"))
    return np.asarray(alpha * _softplus(beta * x))


def _scaled_tanh(call: Call) -> Array:
    x = call.tensor("x")
    return np.asarray(call.number("alpha", 1.0) * np.tanh(x * call.number("beta", 1.0)))


def _linear_activation(call: Call) -> Array:
    x = call.tensor("x")
    return np.asarray(x * call.number("alpha") + call.number("beta", 0.0))


def _clamped_relu(call: Call) -> Array:
    """min(beta, x or alpha·x)."""
    x = call.tensor("x")
    sloped = np.where(x >= 0, x, x * call.number("alpha"))
    return np.asarray(np.minimum(sloped, x.dtype.type(call.number("beta"))))


def _threshold(call: Call) -> Array:
    """max(x, alpha)."""
    x = call.tensor("x")
    return np.asarray(np.maximum(x, x.dtype.type(call.number("alpha"))))


def _thresholded_relu(call: Call) -> Array:
    x = call.tensor("x")
    return np.where(x >= call.number("alpha", 1.0), x, x.dtype.type(0))


def _sigmoid_hard(call: Call) -> Array:
    """min(max(alpha·x + beta, 0), 1)."""
    x = call.tensor("x")
    return np.clip(x * call.number("alpha", 0.2) + call.number("beta", 0.5), 0, 1)


def _softmax(call: Call) -> Array:
    x = call.tensor("x")
    axis = call.axis("axis", x.ndim, -1)
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


# Choices and types


def _select(call: Call) -> Array:
    """``a`` where ``cond`` is true, else ``b``."""
    cond, a, b = (call.tensor(name) for name in ("cond", "a", "b"))
    call.announce(np.broadcast_shapes(cond.shape, a.shape, b.shape))
    return np.where(cond.astype(bool), a, b)


def _cast(call: Call) -> Array:
    """To the type of the result; fractions are cut off on the way to integers."""
    x = call.tensor("x")
    names = {"int8", "uint8", "int16", "uint16", "int32", "fp16", "fp32", "bool"}
    wanted, declared = call.text("dtype"), call.results[0]
    if wanted not in names or wanted != declared.element:
        raise Fault(f"a cast to {wanted!r} whose result is declared as {declared.element}")
    return x.astype(declared.dtype)


def _quantize(call: Call) -> Array:
    """clip(round(input / scale) + zero_point), halves to even."""
    x = call.tensor("input")
    limits = np.iinfo(call.results[0].dtype)
    steps = np.rint(x / _steps(call, "scale", x)) + _steps(call, "zero_point", x)
    return np.asarray(np.clip(steps, limits.min, limits.max)).astype(limits.dtype)


def _dequantize(call: Call) -> Array:
    """(input - zero_point)·scale."""
    x = call.raw("input").astype(np.float32)
    return np.asarray((x - _steps(call, "zero_point", x)) * _steps(call, "scale", x))


def _steps(call: Call, name: str, x: Array) -> Array:
    if not call.has(name):
        return np.zeros((1,) * x.ndim, np.float32)
    values = call.tensor(name).astype(np.float32)
    return along(values, call.axis("axis", x.ndim, 0), x)


ELEMENTWISE: dict[str, Function] = {
    "abs": _unary(np.abs),
    "acos": _unary(np.arccos),
    "acosh": _unary(np.arccosh),
    "add": _binary(np.add),
    "asin": _unary(np.arcsin),
    "asinh": _unary(np.arcsinh),
    "atan": _unary(np.arctan),
    "atanh": _unary(np.arctanh),
    "cast": _cast,
    "ceil": _unary(np.ceil),
    "clamped_relu": _clamped_relu,
    "clip": _clip,
    "cos": _unary(np.cos),
    "cosh": _unary(np.cosh),
    "dequantize": _dequantize,
    "elu": _elu,
    "equal": _binary(np.equal),
    "erf": _unary(_erf),
    "exp": _unary(np.exp),
    "exp2": _unary(np.exp2),
    "floor": _unary(np.floor),
    "floor_div": _binary(np.floor_divide),
    "gelu": _gelu,
    "greater": _binary(np.greater),
    "greater_equal": _binary(np.greater_equal),
    "identity": _unary(np.copy),
    "inverse": _shifted(np.reciprocal, 1e-4),
    "leaky_relu": _leaky_relu,
    "less": _binary(np.less),
    "less_equal": _binary(np.less_equal),
    "linear_activation": _linear_activation,
    "log": _shifted(np.log, 1e-45),
    "logical_and": _binary(np.logical_and),
    "logical_not": _unary(np.logical_not),
    "logical_or": _binary(np.logical_or),
    "logical_xor": _binary(np.logical_xor),
    "maximum": _binary(np.maximum),
    "minimum": _binary(np.minimum),
    "mod": _binary(np.mod),
    "mul": _binary(np.multiply),
    "not_equal": _binary(np.not_equal),
    "pow": _binary(np.power),
    "prelu": _prelu,
    "quantize": _quantize,
    "real_div": _binary(_quotient),
    "relu": _unary(lambda x: np.maximum(x, 0)),
    "relu6": _unary(lambda x: np.clip(x, 0, 6)),
    "round": _unary(np.rint),
    "rsqrt": _shifted(_inverse_root, 1e-12),
    "scaled_tanh": _scaled_tanh,
    "select": _select,
    "sigmoid": _unary(sigmoid),
    "sigmoid_hard": _sigmoid_hard,
    "sign": _unary(np.sign),
    "silu": _unary(lambda x: x * sigmoid(x)),
    "sin": _unary(np.sin),
    "sinh": _unary(np.sinh),
    "softmax": _softmax,
    "softplus": _unary(_softplus),
    "softplus_parametric": _softplus_parametric,
    "softsign": _unary(lambda x: x / (1 + np.abs(x))),
    "sqrt": _unary(np.sqrt),
    "square": _unary(np.square),
    "sub": _binary(np.subtract),
    "tan": _unary(np.tan),
    "tanh": _unary(np.tanh),
    "threshold": _threshold,
    "thresholded_relu": _thresholded_relu,
}
