"""Recipes: what is done to a float network, as data.

The recipes that come with the package are the JSON files beside this module; the name of a file
is the name of its recipe. A path to a JSON file of one's own works wherever a name does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from panokit._reading import parse_json
from panokit.config import read_settings
from panokit.errors import ArgumentError
from panokit_compression.recipes.steps import (
    MIN_CALIBRATION_PHOTOS,
    Finetune,
    LinearWeights,
    Palettize,
    Precision,
    Prune,
    Qat,
    Quantize,
    Ranges,
    Rounding,
    Sparsify,
    Step,
    step_from_json,
    step_to_json,
)

__all__ = [
    "MIN_CALIBRATION_PHOTOS",
    "Finetune",
    "LinearWeights",
    "Palettize",
    "Precision",
    "Prune",
    "Qat",
    "Quantize",
    "Ranges",
    "Recipe",
    "Rounding",
    "Sparsify",
    "Step",
    "load_recipe",
    "recipe_names",
]

NETWORK_STEPS = (Prune, Sparsify, Finetune, Qat)
COREML_STEPS = (Palettize, LinearWeights)

S = TypeVar("S", Prune, Sparsify, Finetune, Qat, Quantize, Palettize, LinearWeights)


@dataclass(frozen=True)
class Recipe:
    """What is done to a float network: ``steps`` in order, none for the network as it is.

    Network steps come first; then at most one :class:`Quantize` (for TFLite) and at most one
    :class:`Palettize` or :class:`LinearWeights` (for Core ML). What contradicts itself is refused
    when the recipe is made.
    """

    name: str
    steps: tuple[Step, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or set(self.name) & set("/\\,\0"):
            raise ArgumentError(
                "recipe name",
                f"recipe name is {self.name!r}; expected text without slashes and commas",
            )
        if not isinstance(self.description, str):
            raise ArgumentError(
                "recipe description", f"recipe description is {self.description!r}; expected text"
            )
        if not isinstance(self.steps, tuple) or not all(isinstance(s, Step) for s in self.steps):
            raise ArgumentError(
                "recipe steps", f"recipe steps are {self.steps!r}; expected a tuple of steps"
            )
        _check_order(self)
        _check_sense(self)

    def step(self, kind: type[S]) -> S | None:
        """The last step of a kind; None without one."""
        found = [s for s in self.steps if isinstance(s, kind)]
        return found[-1] if found else None

    @property
    def network_steps(self) -> tuple[Step, ...]:
        """The steps that change the torch network."""
        return tuple(s for s in self.steps if isinstance(s, NETWORK_STEPS))

    @property
    def precision(self) -> Precision:
        """Precision of the TFLite file."""
        quantize = self.step(Quantize)
        return quantize.precision if quantize else "float32"

    @property
    def calibration_photos(self) -> int:
        """How many photos ranges and layers' inputs are measured on; 0 if none are needed."""
        steps = (self.step(Quantize), self.step(Palettize))
        return max((s.calibration_photos for s in steps if s), default=0)

    @property
    def needs_calibration(self) -> bool:
        """Whether something must be measured on photos."""
        return self.calibration_photos > 0

    @property
    def formats(self) -> tuple[str, ...]:
        """What the recipe says how to store: ``tflite``, ``coreml`` or both."""
        tflite = self.step(Quantize) is not None
        coreml = any(isinstance(s, COREML_STEPS) for s in self.steps)
        if coreml and not tflite:
            return ("coreml",)
        if tflite and not coreml and self.precision != "float16":
            return ("tflite",)
        return ("tflite", "coreml")

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        return {
            "name": self.name,
            "description": self.description,
            "steps": [step_to_json(s) for s in self.steps],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """Read what :meth:`to_json` wrote; unknown names are an error."""
        if not isinstance(data, Mapping):
            raise ArgumentError("recipe", f"the recipe is {data!r}; expected a JSON object")
        rest = dict(data)
        steps = rest.pop("steps", [])
        if not isinstance(steps, list):
            raise ArgumentError("recipe", f"recipe.steps is {steps!r}; expected a list of steps")
        recipe = read_settings(cls, rest, "recipe")
        return replace(recipe, steps=tuple(step_from_json(s) for s in steps))


def _check_order(recipe: Recipe) -> None:
    """Network steps first; storage steps once each."""
    kinds = [s.kind for s in recipe.steps]
    stored = False
    for step in recipe.steps:
        if isinstance(step, NETWORK_STEPS) and stored:
            expected = f"network steps before storage steps; {step.kind} comes too late"
            raise ArgumentError(
                "recipe steps", f"the recipe has the steps {kinds}; expected {expected}"
            )
        stored |= not isinstance(step, NETWORK_STEPS)
    for kind in ("qat", "sparsify", "quantize"):
        if kinds.count(kind) > 1:
            raise ArgumentError(
                "recipe steps", f"the recipe has the steps {kinds}; expected at most one {kind}"
            )
    if sum(isinstance(s, COREML_STEPS) for s in recipe.steps) > 1:
        raise ArgumentError(
            "recipe steps",
            f"the recipe has the steps {kinds}; "
            "expected one of palettize and linear_weights, not both",
        )
    for before, step in pairwise(recipe.network_steps):
        if isinstance(before, Prune) and isinstance(step, Finetune) and step.freeze_statistics:
            expected = "false right after prune, which leaves batch norms of another network"
            raise ArgumentError(
                "finetune freeze_statistics",
                "finetune freeze_statistics is true right after prune; "
                "expected false there, as the batch norms are still those of another network",
            )
    network = [s.kind for s in recipe.network_steps]
    if "qat" in network and network[-1] != "qat":
        raise ArgumentError(
            "recipe steps", f"the recipe has the steps {kinds}; qat has to be the last network step"
        )
    if "sparsify" in network and "prune" in network[network.index("sparsify") :]:
        expected = "with prune before sparsify: removing channels undoes the share of zeros"
        raise ArgumentError(
            "recipe steps",
            f"the recipe has the steps {kinds}; "
            "prune has to come before sparsify, as removing channels undoes the share of zeros",
        )


def _check_sense(recipe: Recipe) -> None:
    """Steps that cannot go together."""
    quantize, kinds = recipe.step(Quantize), [s.kind for s in recipe.steps]
    if recipe.step(Qat):
        if quantize and quantize.precision != "int8":
            expected = "int8 after qat, which trains for int8"
            raise ArgumentError(
                "quantize precision",
                f"quantize precision is {quantize.precision!r}; expected {expected}",
            )
        if quantize and quantize.rounding != "nearest":
            expected = "'nearest' after qat: the weights were trained for it"
            raise ArgumentError(
                "rounding", f"rounding is {quantize.rounding!r}; expected {expected}"
            )
        if quantize and quantize.keep:
            raise ArgumentError(
                "keep",
                f"keep is {quantize.keep!r}; expected none after qat, which quantizes all layers",
            )
        if recipe.step(Palettize):
            raise ArgumentError(
                "recipe steps",
                f"the recipe has the steps {kinds}; "
                "palettize cannot follow qat, which trains for an even grid",
            )
        linear = recipe.step(LinearWeights)
        if linear and (linear.bits, linear.granularity) != (8, "per_channel"):
            raise ArgumentError(
                "linear_weights",
                f"linear_weights is {linear!r}; expected 8 bits per_channel after qat",
            )
        if recipe.step(Sparsify):
            raise ArgumentError(
                "recipe steps",
                f"the recipe has the steps {kinds}; "
                "sparsify cannot come before qat, which would fill the zeros again",
            )
    palettize = recipe.step(Palettize)
    if recipe.step(Sparsify) and palettize and palettize.rounding == "compensated":
        expected = "'nearest' for sparse weights, whose zeros it would move"
        raise ArgumentError(
            "palettize rounding",
            f"palettize rounding is {palettize.rounding!r}; expected {expected}",
        )
    linear = recipe.step(LinearWeights)
    if recipe.step(Sparsify) and linear and linear.granularity == "per_block":
        raise ArgumentError(
            "linear_weights granularity",
            f"linear_weights granularity is {linear.granularity!r}; "
            "expected per_channel or per_tensor for sparse weights",
        )


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    files = resources.files(__name__).iterdir()
    return sorted(f.name.removesuffix(".json") for f in files if f.name.endswith(".json"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe by name, or from a JSON file (a path that ends in ``.json``)."""
    text = str(name_or_path)
    if text.endswith(".json"):
        path = Path(text)
        if not path.is_file():
            raise ArgumentError(
                "recipe", f"there is no recipe file {text!r}; expected a JSON file that exists"
            )
        content = path.read_bytes()
    elif text in recipe_names():
        content = (resources.files(__name__) / f"{text}.json").read_bytes()
    else:
        raise ArgumentError.unknown("recipe", text, (*recipe_names(), "a path to a JSON file"))
    try:
        data = parse_json(content, strict=True)
    except ValueError as error:
        raise ArgumentError("recipe", f"the recipe {text} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ArgumentError("recipe", f"the recipe is {data!r}; expected a JSON object")
    return Recipe.from_json(data)
