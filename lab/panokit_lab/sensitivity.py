"""Which layer costs how much when it is quantized, and which to keep in higher precision.

Each layer alone is quantized, the rest stays float: what it does to the heads is its cost, as
signal-to-noise ratio per head. The costliest are also judged by PQ. Automatic mixed precision then
quantizes everything and takes the costliest layers back, the fewest that hold a PQ budget.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from panokit._files import make_folder, write_json
from panokit.bundle import Artifact
from panokit.errors import ArgumentError, PanokitError
from panokit.runtime import Runtime
from panokit_compression.layers import tflite_layers
from panokit_compression.quantize import quantize
from panokit_compression.recipes import Quantize, Recipe
from panokit_converters.tflite.inspect import tflite_specs
from panokit_lab.artifacts import artifact_runtime
from panokit_lab.pipeline import (
    compress_network,
    float_tflite,
    manifest_for,
    reference_heads,
)
from panokit_lab.plots import plot_layers
from panokit_lab.quality import head_sqnr, quality_figures
from panokit_lab.setup import SQNR_IMAGES, ExperimentSetup

__all__ = ["LayerCost", "Sensitivity", "fewest_kept", "measure_sensitivity"]

log = logging.getLogger(__name__)
REASON = "reason"  # in place of heads, of a layer that cannot be quantized
Progress = Callable[[str], None]


@dataclass(frozen=True)
class LayerCost:
    """One layer quantized alone: SQNR per head in dB, and PQ where it was measured. ``reason`` says
    why it cannot be quantized at all, and there is no SQNR then."""

    name: str
    sqnr_db: dict[str, float]
    pq: float | None = None
    reason: str = ""

    @property
    def worst_db(self) -> float:
        """The head that suffers most; minus infinity for a layer that cannot be quantized."""
        return min(self.sqnr_db.values(), default=-math.inf)


@dataclass(frozen=True)
class Sensitivity:
    """Layers, costliest first; PQ of the float and of the fully quantized file, and of the mixed
    one with the layers ``kept``; ``photos`` says what PQ was measured on."""

    recipe: str
    layers: tuple[LayerCost, ...]
    pq_float: float
    pq_quantized: float
    pq_mixed: float
    kept: tuple[str, ...]
    keep_precision: str
    budget: float
    photos: str

    @property
    def title(self) -> str:
        """For tables and plots."""
        return f"{self.recipe}: one layer quantized at a time ({self.photos})"

    @property
    def summary(self) -> str:
        """In one sentence."""
        return (
            f"PQ float {self.pq_float:.2f}, all quantized {self.pq_quantized:.2f}, "
            f"{len(self.kept)} layers in {self.keep_precision} {self.pq_mixed:.2f} "
            f"(budget {self.budget:g} below float: "
            f"{'held' if self.pq_mixed >= self.pq_float - self.budget else 'not reachable'})"
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return asdict(self)


def measure_sensitivity(
    setup: ExperimentSetup,
    recipe: Recipe,
    out: Path,
    budget: float = 0.5,
    keep_precision: Literal["float32", "int16x8"] = "float32",
    top: int = 8,
    say: Progress = log.info,
) -> Sensitivity:
    """Measure all layers for ``recipe`` and choose which to keep.

    Writes ``sensitivity.json``, ``sensitivity.png`` and the recipe that was found,
    ``NAME-mixed.json``, to ``out``. Layers that were measured before are not measured again.
    """
    step = recipe.step(Quantize)
    if step is None or not step.quantizes_activations or step.keep:
        raise ArgumentError(
            "recipe",
            f"recipe {recipe.name!r} does not fit; "
            "expected one that quantizes activations and keeps no layer",
        )
    if budget < 0:
        raise ArgumentError("budget", f"budget is {budget!r}; expected 0 or more PQ points")
    if setup.split is None:
        raise ArgumentError("split", "there is no split to measure PQ on: give labelled data")
    judge = _Judge(setup, recipe, step, say)
    costs = _layer_costs(judge, out / "sensitivity-layers.json", say)
    pq_float = judge.pq(judge.float_content)
    pq_all = judge.pq(judge.quantized(()))
    measured = tuple(
        replace(cost, pq=judge.pq(judge.quantized_alone(cost.name)))
        if number < top and not cost.reason
        else cost
        for number, cost in enumerate(costs)
    )
    kept, pq_mixed = fewest_kept(
        [c.name for c in costs],
        lambda names: judge.pq(judge.quantized(names, keep_precision)),
        pq_float - budget,
        pq_all,
    )
    found = Sensitivity(recipe.name, measured, pq_float, pq_all, pq_mixed, kept,
                        keep_precision, budget, judge.photos)  # fmt: skip
    write_json(out / "sensitivity.json", found.to_json())
    mixed = judge.recipe_keeping(kept, keep_precision)
    write_json(out / f"{mixed.name}.json", mixed.to_json())
    shown = [cost for cost in measured if not cost.reason][:40]
    plot_layers([c.name for c in shown], [c.worst_db for c in shown], out / "sensitivity.png",
                found.title)  # fmt: skip
    return found


def fewest_kept(
    names: list[str], pq_keeping: Callable[[tuple[str, ...]], float], goal: float, pq_none: float
) -> tuple[tuple[str, ...], float]:
    """The shortest beginning of ``names`` (costliest first) that reaches ``goal``, and its PQ.

    Doubles the number until the goal is reached, then halves the gap: some ten measurements for a
    hundred layers. PQ need not grow steadily with the number; the result reaches the goal, one
    layer less was not found to. If nothing does, the best that was measured.
    """
    if pq_none >= goal:
        return (), pq_none
    tried: dict[int, float] = {0: pq_none}

    def reaches(count: int) -> bool:
        if count not in tried:
            tried[count] = pq_keeping(tuple(names[:count]))
        return tried[count] >= goal

    count = 1
    while count < len(names) and not reaches(count):
        count *= 2
    high = min(count, len(names))
    if not reaches(high):
        best = max(tried, key=lambda c: (tried[c], -c))
        return tuple(names[:best]), tried[best]
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return tuple(names[:high]), tried[high]


class _Judge:
    """Quantizes with some layers kept and measures heads and PQ."""

    def __init__(
        self, setup: ExperimentSetup, recipe: Recipe, step: Quantize, say: Progress
    ) -> None:
        self.setup, self.step, self.say = setup, step, say
        self.base = Recipe(recipe.name, recipe.steps, recipe.description)
        network = compress_network(setup, setup.source.checked(), recipe, say)
        self.float_content = float_tflite(setup, network.with_folded())
        self.layers = [layer.name for layer in tflite_layers(self.float_content)]
        self.images = setup.images(SQNR_IMAGES)
        self.reference = reference_heads(setup, self.images)
        self.photos = ""
        self.folder = make_folder(setup.cache / "sensitivity")

    def recipe_keeping(
        self, names: tuple[str, ...], precision: Literal["float32", "int16x8"] = "float32"
    ) -> Recipe:
        """The recipe with these layers, and no others, kept."""
        patterns = tuple(f"{re.escape(name)}$" for name in names)
        step = replace(self.step, keep=patterns,
                       keep_precision=precision if names else "float32")  # fmt: skip
        others = tuple(s for s in self.base.steps if not isinstance(s, Quantize))
        return Recipe(f"{self.base.name}-mixed", (*others, step), self.base.description)

    def quantized(
        self, names: tuple[str, ...], precision: Literal["float32", "int16x8"] = "float32"
    ) -> bytes:
        """The file with ``names`` kept in higher precision."""
        recipe = self.recipe_keeping(names, precision)
        return quantize(self.float_content, recipe, self.setup.calibration)

    def quantized_alone(self, name: str) -> bytes:
        """The file with all layers but one kept in float."""
        return self.quantized(tuple(n for n in self.layers if n != name))

    def sqnr(self, content: bytes) -> dict[str, float]:
        """SQNR of each head against the uncompressed network."""
        runtime, artifact = self._runtime(content)
        return head_sqnr(self.reference, runtime, artifact, self.images)

    def pq(self, content: bytes) -> float:
        """PQ on the split."""
        runtime, artifact = self._runtime(content)
        if self.setup.split is None:
            raise ArgumentError("split", "there is no split to measure PQ on: give labelled data")
        found = quality_figures(manifest_for(self.setup, artifact), artifact, runtime,
                                self.setup.split, self.setup.cache / "splits")  # fmt: skip
        self.photos = f"PQ on {found.split}"
        return found.pq or 0.0

    def _runtime(self, content: bytes) -> tuple[Runtime, Artifact]:
        path = self.folder / "candidate.tflite"
        path.write_bytes(content)
        image, heads = tflite_specs(content)
        artifact = Artifact("candidate", "tflite", path.name, "", len(content), "mixed", image,
                            heads)  # fmt: skip
        return artifact_runtime(path, artifact), artifact


def sensitivity_key(setup: ExperimentSetup, recipe: Recipe) -> str:
    """What layer costs depend on: weights, input size, calibration photos, and all the recipe says.
    Costs that were measured with another key are not used again."""
    photos = setup.calibration.digest() if setup.calibration else None
    content = [setup.source.digest(), setup.size_wh, photos, recipe.to_json()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


def _layer_costs(judge: _Judge, kept: Path, say: Progress) -> list[LayerCost]:
    """Costs of all layers, costliest first; measured ones are kept in a file as they come."""
    key = sensitivity_key(judge.setup, judge.base)
    known: dict[str, Any] = {}
    if kept.is_file():
        stored = json.loads(kept.read_text(encoding="utf-8"))
        known = stored["layers"] if stored.get("key") == key else {}
    # Weights rounded with their errors compensated would be computed anew for every layer.
    judge_step, judge.step = judge.step, replace(judge.step, rounding="nearest")
    for number, name in enumerate(judge.layers):
        if name not in known:
            say(f"layer {number + 1} of {len(judge.layers)}: {name}")
            try:
                known[name] = judge.sqnr(judge.quantized_alone(name))
            except PanokitError as error:  # the others can still be measured
                known[name] = {REASON: str(error)}
            write_json(kept, {"key": key, "layers": known})
    judge.step = judge_step
    costs = [
        LayerCost(name, {}, reason=known[name][REASON])
        if REASON in known[name]
        else LayerCost(name, known[name])
        for name in judge.layers
    ]
    return sorted(costs, key=lambda cost: cost.worst_db)
