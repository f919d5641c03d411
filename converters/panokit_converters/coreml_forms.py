"""How a Core ML package stores its weights: what of a recipe Core ML can do, and doing it.

The weights are compressed in the converted program, by ``coremltools.optimize.coreml``; they are
made dense again when an app loads the package, or as it runs. Activations stay float.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from panokit.errors import ArgumentError
from panokit_compression.recipes import LinearWeights, Palettize, Quantize, Recipe, Sparsify

__all__ = ["CoreMlForm", "coreml_form"]

Stored = LinearWeights | Palettize | None

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
            raise ArgumentError("compute", "float16 or float32", self.compute)
        if not 0 <= self.sparsity < 1:
            raise ArgumentError("sparsity", "from 0 to below 1", self.sparsity)

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
            linear = optimize.OpLinearQuantizerConfig(**self._linear())
            config = optimize.OptimizationConfig(linear)
            model = optimize.linear_quantize_weights(model, config, **joint)
        elif isinstance(self.weights, Palettize):
            palettizer = optimize.OpPalettizerConfig(**self._palette())
            config = optimize.OptimizationConfig(palettizer)
            model = optimize.palettize_weights(model, config, **joint)
        return model

    def _linear(self) -> dict[str, Any]:
        if not isinstance(self.weights, LinearWeights):
            return {}
        options: dict[str, Any] = {
            "mode": "linear_symmetric",
            "dtype": f"int{self.weights.bits}",
            "granularity": self.weights.granularity,
        }
        if self.weights.granularity == "per_block":
            options["block_size"] = self.weights.block_size
        return options

    def _palette(self) -> dict[str, Any]:
        if not isinstance(self.weights, Palettize):
            return {}
        options: dict[str, Any] = {
            "mode": "kmeans",
            "nbits": self.weights.bits,
            "granularity": self.weights.granularity,
        }
        if self.weights.granularity == "per_grouped_channel":
            options["group_size"] = self.weights.group_size
        return options


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
