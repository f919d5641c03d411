"""The steps that a recipe is made of, each a frozen dataclass that refuses impossible values.

::

    network steps      Prune, Sparsify, Finetune, Qat      change the torch network
    storage steps      Quantize                            how a TFLite file stores and computes
                       Palettize, LinearWeights            how a Core ML package stores weights
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from panokit.config import read_settings, write_settings
from panokit.errors import ArgumentError
from panokit.preprocessing import Size, sides

__all__ = [
    "MIN_CALIBRATION_PHOTOS",
    "STEP_KINDS",
    "Finetune",
    "LinearWeights",
    "Palettize",
    "Precision",
    "Prune",
    "Qat",
    "Quantize",
    "Ranges",
    "Rounding",
    "Sparsify",
    "Step",
    "step_from_json",
]

Precision = Literal[
    "float32", "float16", "int8", "int16x8", "int8-weights", "int4-weights", "int8-dynamic"
]
"""How an artifact stores and computes; ``int16x8`` is int8 weights with int16 activations."""

Ranges = Literal["none", "min_max", "mean", "percentile", "mse"]
Rounding = Literal["nearest", "compensated"]
Importance = Literal["magnitude", "taylor"]

LARGEST_SIDE = 4096  # pixels of an input
MIN_CALIBRATION_PHOTOS = 16
CALIBRATED: tuple[Precision, ...] = ("int8", "int16x8")


@dataclass(frozen=True)
class Prune:
    """Remove whole channels, in groups that belong together (depthwise, shortcuts, sums).

    ``macs`` is the share of multiply-accumulates to keep, above 0 and below 1. ``importance`` of
    a channel: ``magnitude`` of its weights, or ``taylor``, weight times gradient on calibration
    photos (Molchanov et al., https://arxiv.org/abs/1906.10771). ``protected`` are patterns
    (regular expressions, matched at the start of module names) of layers whose outputs keep all
    channels; the heads always do. ``rounds`` steps of pruning; ``largest_cut`` is the largest
    share of channels that any one group may lose; what is left of it is a ``multiple_of`` so many.
    """

    kind: ClassVar[str] = "prune"
    macs: float = 0.5
    importance: Importance = "magnitude"
    protected: tuple[str, ...] = ()
    rounds: int = 8
    largest_cut: float = 0.7
    multiple_of: int = 8

    def __post_init__(self) -> None:
        _choice(self, "importance", Importance)
        _between(self, "macs", 0, 1)
        _between(self, "largest_cut", 0, 1)
        _whole(self, "rounds", 1, 100)
        _whole(self, "multiple_of", 1, 64)
        _patterns(self, "protected")


@dataclass(frozen=True)
class Sparsify:
    """Set the smallest weights of every layer to zero (a later finetune keeps them zero); layers
    of fewer weights than ``smallest_layer`` and depthwise ones stay whole.

    ``amount`` is the share of zeros, above 0 and below 1. A Core ML package stores them as a
    bit mask and saves the space; a TFLite file does not.
    """

    kind: ClassVar[str] = "sparsify"
    smallest_layer: ClassVar[int] = 2048
    amount: float = 0.5

    def __post_init__(self) -> None:
        _between(self, "amount", 0, 1)


@dataclass(frozen=True)
class Finetune:
    """Train on, with the network as it was before any step as the teacher.

    ``samples`` photos are seen in batches of ``batch`` at ``size`` pixels. ``distil`` is the
    share (0..1) of the loss that compares the heads with the teacher's; the rest comes from
    labels, which needs labelled data. ``learning_rate`` is AdamW's, which warms up and falls along
    a half cosine.
    ``freeze_statistics`` folds batch norms into the convolutions first: a third faster, for
    networks whose statistics are right already, and only at low rates (a pruned network fell apart
    at 8e-4).
    """

    kind: ClassVar[str] = "finetune"
    samples: int = 40_000
    size: Size = 192
    batch: int = 16
    learning_rate: float = 1e-3
    distil: float = 0.5
    freeze_statistics: bool = False

    def __post_init__(self) -> None:
        _training(self)
        if not _is_number(self.distil) or not 0 <= self.distil <= 1:
            raise ArgumentError(
                "finetune distil",
                f"finetune distil is {self.distil!r}; expected from 0 (labels only) to 1",
            )
        if not isinstance(self.freeze_statistics, bool):
            expected = "true or false"
            raise ArgumentError(
                "finetune freeze_statistics",
                f"finetune freeze_statistics is {self.freeze_statistics!r}; expected {expected}",
            )


@dataclass(frozen=True)
class Qat:
    """Quantization-aware training: fake int8 weights and activations while training on, with
    the float network as the teacher (Jacob et al., https://arxiv.org/abs/1712.05877).

    ``samples``, ``size``, ``batch``, ``learning_rate`` and ``distil`` are those of
    :class:`Finetune`. ``freeze_after`` (0..1) is the share of the samples after which ranges stay
    as they are.
    """

    kind: ClassVar[str] = "qat"
    samples: int = 20_000
    size: Size = 192
    batch: int = 16
    learning_rate: float = 2e-4
    distil: float = 0.7
    freeze_after: float = 0.6

    def __post_init__(self) -> None:
        _training(self)
        _between(self, "freeze_after", 0, 1)
        if not _is_number(self.distil) or not 0 <= self.distil <= 1:
            raise ArgumentError(
                "qat distil", f"qat distil is {self.distil!r}; expected from 0 (labels only) to 1"
            )


@dataclass(frozen=True)
class Quantize:
    """How the TFLite file stores weights and computes.

    ``precision``: ``int8`` and ``int16x8`` quantize activations, input and heads as well and need
    ``calibration_photos`` to measure ``ranges`` on: the widest (``min_max``), the ``mean`` of each
    photo's ends, the 99.99th ``percentile``, or the clipping with the least squared error
    (``mse``). ``rounding`` of weights to the grid: to the nearest value, or so that errors
    compensate (``rounding.py``), which needs photos as well. ``keep`` names layers (patterns as
    in :class:`Prune`) that stay in ``keep_precision``.
    """

    kind: ClassVar[str] = "quantize"
    precision: Precision = "int8"
    calibration_photos: int = 0
    ranges: Ranges = "none"
    rounding: Rounding = "nearest"
    keep: tuple[str, ...] = ()
    keep_precision: Literal["float32", "int16x8"] = "float32"

    def __post_init__(self) -> None:
        for name, kind in (("precision", Precision), ("ranges", Ranges), ("rounding", Rounding)):
            _choice(self, name, kind)
        _choice(self, "keep_precision", Literal["float32", "int16x8"])
        _whole(self, "calibration_photos", 0, 100_000)
        _patterns(self, "keep")
        if self.needs_calibration and self.calibration_photos < MIN_CALIBRATION_PHOTOS:
            expected = f"at least {MIN_CALIBRATION_PHOTOS} for {self.precision}"
            raise ArgumentError(
                "calibration_photos",
                f"calibration_photos are {self.calibration_photos!r}; expected {expected}",
            )
        if self.quantizes_activations and self.ranges == "none":
            raise ArgumentError(
                "ranges", f"ranges is 'none'; {self.precision} needs measured ranges"
            )
        if self.rounding == "compensated" and not self._on_even_grid:
            raise ArgumentError(
                "rounding",
                f"rounding is {self.rounding!r}; expected 'nearest' for {self.precision}",
            )
        photos_and_ranges = (self.calibration_photos > 0, self.ranges != "none")
        if not self.quantizes_activations and photos_and_ranges != (self.needs_calibration, False):
            expected = f"without calibration settings for {self.precision}"
            raise ArgumentError(
                "recipe",
                f"quantize has calibration settings; {self.precision} takes none",
            )
        if self.keep and self.precision in ("float32", "float16"):
            raise ArgumentError("keep", f"keep is {self.keep!r}; {self.precision} keeps no layers")
        if self.keep_precision == "int16x8" and (not self.keep or self.precision != "int8"):
            expected = "'float32' unless precision is int8 and layers are kept"
            raise ArgumentError(
                "keep_precision", f"keep_precision is {self.keep_precision!r}; expected {expected}"
            )

    @property
    def quantizes_activations(self) -> bool:
        """Whether activation ranges must be measured."""
        return self.precision in CALIBRATED

    @property
    def needs_calibration(self) -> bool:
        """Whether photos are needed: for activation ranges, or to compensate rounding."""
        return self.quantizes_activations or self.rounding == "compensated"

    @property
    def _on_even_grid(self) -> bool:
        return self.quantizes_activations or self.precision in ("int8-weights", "int4-weights")


@dataclass(frozen=True)
class Palettize:
    """Core ML: each weight is one of 2^``bits`` values found by k-means.

    One palette per tensor, or one per ``group_size`` output channels (``per_grouped_channel``,
    from iOS 18 on). With ``rounding`` compensated, palettes and choices are made so that layers'
    outputs change least on ``calibration_photos`` (``rounding.py``).
    """

    kind: ClassVar[str] = "palettize"
    bits: int = 8
    granularity: Literal["per_tensor", "per_grouped_channel"] = "per_tensor"
    group_size: int = 0
    rounding: Rounding = "nearest"
    calibration_photos: int = 0

    def __post_init__(self) -> None:
        if self.bits not in (8, 6, 4, 3, 2, 1) or isinstance(self.bits, bool):
            raise ArgumentError(
                "palettize bits",
                f"palettize bits is {self.bits!r}; expected one of 8, 6, 4, 3, 2, 1",
            )
        _choice(self, "granularity", Literal["per_tensor", "per_grouped_channel"])
        _whole(self, "group_size", 0, 4096)
        if (self.granularity == "per_grouped_channel") != (self.group_size > 0):
            expected = "above 0 with per_grouped_channel and 0 with per_tensor"
            raise ArgumentError(
                "palettize group_size",
                f"palettize group_size is {self.group_size!r}; expected {expected}",
            )
        _choice(self, "rounding", Rounding)
        _whole(self, "calibration_photos", 0, 100_000)
        least = MIN_CALIBRATION_PHOTOS if self.rounding == "compensated" else 0
        if self.calibration_photos < least or (self.calibration_photos > 0) != (least > 0):
            expected = f"at least {least} for compensated rounding" if least else "0 for nearest"
            raise ArgumentError(
                "palettize calibration_photos",
                f"palettize calibration_photos are {self.calibration_photos!r}; "
                f"expected {expected}",
            )


@dataclass(frozen=True)
class LinearWeights:
    """Core ML: weights on an even grid of ``bits`` (8 or 4), activations in float16.

    ``per_block`` (``block_size`` input channels share a scale) needs iOS 18; so do 4 bits.
    """

    kind: ClassVar[str] = "linear_weights"
    bits: int = 8
    granularity: Literal["per_tensor", "per_channel", "per_block"] = "per_channel"
    block_size: int = 0

    def __post_init__(self) -> None:
        if self.bits not in (8, 4) or isinstance(self.bits, bool):
            raise ArgumentError(
                "linear_weights bits", f"linear_weights bits is {self.bits!r}; expected 8 or 4"
            )
        _choice(self, "granularity", Literal["per_tensor", "per_channel", "per_block"])
        _whole(self, "block_size", 0, 4096)
        if (self.granularity == "per_block") != (self.block_size > 0):
            expected = "above 0 with per_block and 0 otherwise"
            raise ArgumentError(
                "linear_weights block_size",
                f"linear_weights block_size is {self.block_size!r}; expected {expected}",
            )


Step = Prune | Sparsify | Finetune | Qat | Quantize | Palettize | LinearWeights

STEP_KINDS: dict[str, type[Step]] = {kind.kind: kind for kind in get_args(Step)}
"""Step classes by the ``kind`` that JSON names them with."""


def step_to_json(step: Step) -> dict[str, Any]:
    """A JSON-ready dict that :func:`step_from_json` reads back."""
    return {"kind": step.kind, **write_settings(step)}


def step_from_json(data: Any) -> Step:
    """Read what :func:`step_to_json` wrote; unknown kinds and names are errors."""
    if not isinstance(data, dict):
        raise ArgumentError("recipe step", f"recipe step is {data!r}; expected a JSON object")
    kind: Any = STEP_KINDS.get(str(data.get("kind", "")))
    if kind is None:
        raise ArgumentError(
            "step kind",
            f"step kind is {data.get('kind')!r}; expected one of: {', '.join(STEP_KINDS)}",
        )
    values = {k: v for k, v in data.items() if k != "kind"}
    step: Step = read_settings(kind, values, f"{kind.kind} step")
    return step


def _choice(step: Any, name: str, kind: Any) -> None:
    if getattr(step, name) not in get_args(kind):
        raise ArgumentError(
            name, f"{name} is {getattr(step, name)!r}; expected one of: {', '.join(get_args(kind))}"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _between(step: Any, name: str, low: float, high: float) -> None:
    value = getattr(step, name)
    if not _is_number(value) or not low < value < high:
        raise ArgumentError(
            f"{step.kind} {name}",
            f"{step.kind} {name} is {value!r}; expected a number above {low} and below {high}",
        )


def _whole(step: Any, name: str, low: int, high: int) -> None:
    value = getattr(step, name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentError(name, f"{name} is {value!r}; expected a whole number")
    if not low <= value <= high:
        raise ArgumentError(
            f"{step.kind} {name}", f"{step.kind} {name} is {value!r}; expected from {low} to {high}"
        )


def _patterns(step: Any, name: str) -> None:
    value = getattr(step, name)
    if not isinstance(value, tuple) or not all(isinstance(v, str) and v for v in value):
        raise ArgumentError(
            f"{step.kind} {name}", f"{step.kind} {name} is {value!r}; expected a list of patterns"
        )
    for pattern in value:
        try:
            re.compile(pattern)
        except re.error as error:
            reason = f"regular expressions ({error})"
            raise ArgumentError(
                f"{step.kind} {name}", f"{step.kind} {name} is {pattern!r}; expected {reason}"
            ) from None


def _training(step: Any) -> None:
    _whole(step, "samples", 1, 100_000_000)
    _whole(step, "batch", 1, 4096)
    if max(sides(step.size, 32, f"{step.kind} size")) > LARGEST_SIDE:
        raise ArgumentError(
            f"{step.kind} size",
            f"{step.kind} size is {step.size!r}; expected at most {LARGEST_SIDE} pixels a side",
        )
    _between(step, "learning_rate", 0, 1)
