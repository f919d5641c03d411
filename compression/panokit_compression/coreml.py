"""How a Core ML package stores its weights: what of a recipe Core ML can do, and doing it.

The weights are compressed in the converted program, by ``coremltools.optimize.coreml``; they are
made dense again when an app loads the package, or as it runs. Activations stay float.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError
from panokit_compression.recipes import LinearWeights, Palettize, Quantize, Recipe, Sparsify

__all__ = ["LEAST_WEIGHTS", "CoreMlForm", "coreml_form", "fit_storage"]

Stored = LinearWeights | Palettize | None

GROUPED = ("per_grouped_channel", "per_block")
LEAST_WEIGHTS = 2048  # smaller tensors stay in float16: they hardly count

_WEIGHTS_OF_PRECISION: dict[str, Stored] = {
    "float32": None,
    "float16": None,
    "int8": LinearWeights(8, "per_channel"),
    "int8-weights": LinearWeights(8, "per_channel"),
}


@dataclass(frozen=True)
class CoreMlForm:
    """``compute`` is the type of activations (and of weights that are not compressed);
    ``sparsity`` 0..1 the share of zeros in every large weight, smallest first; ``weights`` how the
    others are stored."""

    compute: Literal["float16", "float32"] = "float16"
    sparsity: float = 0.0
    weights: Stored = None

    def __post_init__(self) -> None:
        if self.compute not in ("float16", "float32"):
            raise ArgumentError(
                "compute", f"compute is {self.compute!r}; expected float16 or float32"
            )
        if not 0 <= self.sparsity < 1:
            raise ArgumentError(
                "sparsity", f"sparsity is {self.sparsity!r}; expected a number from 0 to below 1"
            )

    @property
    def precision(self) -> str:
        """A name for the manifest, ``"float16"`` or ``"sparse50-palette4"`` say."""
        parts = [f"sparse{round(100 * self.sparsity)}"] if self.sparsity else []
        if isinstance(self.weights, Palettize):
            parts.append(f"palette{self.weights.bits}")
        elif isinstance(self.weights, LinearWeights):
            parts.append(f"int{self.weights.bits}-weights")
        return "-".join(parts) or self.compute

    @property
    def needs_ios18(self) -> bool:
        """Blocks, groups, four-bit grids and joint storage came with iOS 18; the rest with 16."""
        weights = self.weights
        if weights is None:
            return False
        if self.sparsity or weights.granularity in ("per_block", "per_grouped_channel"):
            return True
        return isinstance(weights, LinearWeights) and weights.bits < 8

    @property
    def minimum_os(self) -> str:
        """The oldest systems that load it."""
        return "iOS 18, macOS 15" if self.needs_ios18 else "iOS 16, macOS 13"

    def compress(self, ct: Any, model: Any) -> Any:
        """``model`` (an ``MLModel``) with its weights stored so; ``ct`` is coremltools."""
        optimize = ct.optimize.coreml
        joint: dict[str, Any] = {}
        if self.sparsity:
            pruner = optimize.OpMagnitudePrunerConfig(target_sparsity=self.sparsity)
            config = optimize.OptimizationConfig(pruner)
            # The layers of the network step, no more: its zeros, where it has been done.
            least = Sparsify.smallest_layer
            for name, found in optimize.get_weights_metadata(model, 0).items():
                depthwise = found.val.ndim == 4 and found.val.shape[1] == 1
                if depthwise or found.val.size < least:
                    config.set_op_name(name, None)
            model = optimize.prune_weights(model, config)
            joint = {"joint_compression": True}
        if isinstance(self.weights, LinearWeights):
            config = self._fitted(optimize, model, self.weights)
            model = optimize.linear_quantize_weights(model, config, **joint)
        elif isinstance(self.weights, Palettize):
            config = self._fitted(optimize, model, self.weights)
            model = optimize.palettize_weights(model, config, **joint)
        return model

    def _fitted(self, optimize: Any, model: Any, asked: LinearWeights | Palettize) -> Any:
        """The configuration; with groups or blocks, each layer its own. (coremltools leaves a layer
        in float16 if the size asked for does not divide its channels.)"""
        config = optimize.OptimizationConfig(_storage(optimize, asked))
        chosen = isinstance(asked, Palettize) and asked.rounding == "compensated"
        if (asked.granularity in GROUPED or chosen) and not self.sparsity:
            for name, found in optimize.get_weights_metadata(model, LEAST_WEIGHTS).items():
                transposed = any(op.op_type == "conv_transpose" for op in found.child_ops)
                fitted = fit_storage(asked, found.val.shape, transposed)
                keep = chosen and _on_palette(found.val, fitted)
                config.set_op_name(name, _storage(optimize, fitted, keep))
        return config


def fit_storage(
    asked: LinearWeights | Palettize, shape: tuple[int, ...], transposed: bool = False
) -> LinearWeights | Palettize:
    """``asked`` with groups or blocks that divide the channels of a weight of ``shape``
    ``[out, in, ...]`` (``[in, out, ...]`` if ``transposed``); itself without groups and blocks.

    The largest that does and is at most as large. Where that is less than half of it, groups
    become one palette for the tensor, and blocks one scale per channel. Depthwise layers have no
    input channels to make blocks of: one scale per channel, on eight bits.
    """
    if asked.granularity not in GROUPED:
        return asked
    if len(shape) < 2:
        return Palettize(asked.bits) if isinstance(asked, Palettize) else LinearWeights(8)
    inputs, outputs = (shape[0], shape[1]) if transposed else (shape[1], shape[0])
    if isinstance(asked, Palettize):
        size = _divisor(outputs, asked.group_size)
        if 2 * size < asked.group_size and size < outputs:
            return replace(asked, granularity="per_tensor", group_size=0)
        return replace(asked, group_size=size)
    if inputs == 1:
        return LinearWeights(8)
    size = _divisor(inputs, asked.block_size)
    if 2 * size < asked.block_size and size < inputs:
        return LinearWeights(asked.bits)
    return replace(asked, block_size=size)


def _divisor(number: int, most: int) -> int:
    """The largest divisor of ``number`` that is at most ``most``."""
    return max(d for d in range(1, min(number, most) + 1) if number % d == 0)


def _on_palette(values: NDArray[Any], asked: LinearWeights | Palettize) -> bool:
    """Whether weights ``[out, ...]`` have no more values than their palettes hold."""
    if not isinstance(asked, Palettize):
        return False
    size = asked.group_size or len(values)
    groups = (values[at : at + size] for at in range(0, len(values), size))
    return all(len(np.unique(group)) <= 2**asked.bits for group in groups)


def _storage(optimize: Any, weights: LinearWeights | Palettize, keep: bool = False) -> Any:
    """``weights`` in coremltools' words; ``keep`` the values that are there as the palette."""
    size: dict[str, int] = {}
    if isinstance(weights, LinearWeights):
        if weights.granularity == "per_block":
            size = {"block_size": weights.block_size}
        return optimize.OpLinearQuantizerConfig(
            mode="linear_symmetric",
            dtype=f"int{weights.bits}",
            granularity=weights.granularity,
            weight_threshold=LEAST_WEIGHTS,
            **size,
        )
    if weights.granularity == "per_grouped_channel":
        size = {"group_size": weights.group_size}
    how: dict[str, Any] = {"mode": "kmeans", "nbits": weights.bits}
    if keep:
        how = {"mode": "unique"}
    return optimize.OpPalettizerConfig(
        **how,
        granularity=weights.granularity,
        weight_threshold=LEAST_WEIGHTS,
        **size,
    )


def coreml_form(recipe: Recipe) -> CoreMlForm | None:
    """What of ``recipe`` a Core ML package can be; None if nothing.

    A recipe without storage steps is float32. int8 for TFLite becomes int8 weights with float16
    activations. Four-bit, dynamic and 16x8 TFLite recipes have no counterpart.
    """
    sparsify = recipe.step(Sparsify)
    sparsity = sparsify.amount if sparsify else 0.0
    weights = recipe.step(Palettize) or recipe.step(LinearWeights)
    if weights is None:
        if recipe.precision not in _WEIGHTS_OF_PRECISION:
            return None
        weights = _WEIGHTS_OF_PRECISION[recipe.precision]
    plain = weights is None and not sparsity and recipe.step(Quantize) is None
    return CoreMlForm("float32" if plain else "float16", sparsity, weights)
