"""What a training run is made of. Frozen, refuses impossible values, round-trips through JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from panokit.config import read_settings, read_settings_file, write_settings
from panokit.errors import ArgumentError
from panokit.preprocessing import Size, sides
from panokit_network.model import NetworkConfig
from panokit_network.queries import QueryConfig
from panokit_network.training.augment import AugmentConfig
from panokit_network.training.losses import LossConfig
from panokit_network.training.targets import TargetConfig

__all__ = ["Phase", "TrainConfig"]


# Settings that weight files of earlier versions still tell of; they mean nothing any more.
_RETIRED = frozenset({"teacher_classes", "teacher_weight", "teacher_zero_weight"})


@dataclass(frozen=True)
class Phase:
    """A stretch of training at one image size, of ``samples`` photos in steps of ``batch``.

    ``freeze_blocks`` backbone blocks (and the stem) keep their weights and statistics: with
    ImageNet weights the first ones are good as they are and cost the most. With
    ``freeze_statistics`` every batch norm keeps its statistics, which is faster and suits the end
    of a training.
    """

    size: Size
    batch: int
    samples: int
    freeze_blocks: int = 0
    freeze_statistics: bool = False

    def __post_init__(self) -> None:
        sides(self.size, 32, "phase size")
        for name in ("batch", "samples"):
            if getattr(self, name) < 1:
                raise ArgumentError(
                    f"phase {name}", f"phase {name} is {getattr(self, name)!r}; expected at least 1"
                )
        if not 0 <= self.freeze_blocks <= 16:
            raise ArgumentError(
                "phase freeze_blocks",
                f"phase freeze_blocks is {self.freeze_blocks!r}; expected a number from 0 to 16",
            )

    @property
    def steps(self) -> int:
        """Optimizer steps of the phase."""
        return -(-self.samples // self.batch)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides how a run goes, but not where its data lies.

    The learning rate warms up, stays, and falls along a half cosine over the last
    ``cooldown_samples``; with a flat middle a run can be extended without starting over.
    """

    phases: tuple[Phase, ...] = (
        Phase(192, 32, 600_000, freeze_blocks=3),
        Phase(256, 24, 250_000),
        Phase(320, 16, 150_000),
    )
    learning_rate: float = 2e-3  # AdamW's, at its highest
    backbone_rate: float = 0.3  # the backbone's learning rate, relative
    pyramid_rate: float = 1.0  # that of a query network's pyramid
    weight_decay: float = 0.02  # AdamW's
    warmup_samples: int = 8_000  # over which the rate grows from nothing
    cooldown_samples: int = 150_000
    clip_norm: float = 5.0  # largest norm of a step's gradient
    ema_decay: float = 0.9993  # of the averaged weights, a step
    dropout: float = 0.0  # of the feature channels before the heads
    seed: int = 0  # of what is drawn and how it is shaken
    bf16: bool = True
    class_weight_power: float = 0.35  # class weight ~ pixel frequency ** -power
    rare_photo_share: float = 0.04  # classes in fewer photos than this are seen more often
    source_weights: dict[str, float] = field(default_factory=dict)  # relative; 1 if not named
    network: NetworkConfig = field(default_factory=NetworkConfig)
    queries: QueryConfig | None = None  # a query network instead of center-offset
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    targets: TargetConfig = field(default_factory=TargetConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    validate_every: int = 12_000  # samples
    save_every: int = 6_000  # samples
    record_every: int = 20  # steps between lines of metrics.jsonl

    def __post_init__(self) -> None:
        if not self.phases:
            raise ArgumentError("phases", "there are no phases; expected at least one")
        positive: tuple[str, ...] = ("learning_rate", "backbone_rate", "pyramid_rate", "clip_norm")
        positive += ("validate_every", "save_every", "record_every")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ArgumentError(
                    name, f"{name} is {getattr(self, name)!r}; expected a number above 0"
                )
        if not 0 <= self.ema_decay < 1:
            raise ArgumentError(
                "ema_decay", f"ema_decay is {self.ema_decay!r}; expected a number from 0 to below 1"
            )
        if not 0 <= self.dropout < 1:
            raise ArgumentError(
                "dropout", f"dropout is {self.dropout!r}; expected a number from 0 to below 1"
            )
        if any(w < 0 for w in self.source_weights.values()):
            raise ArgumentError(
                "source_weights",
                f"source_weights are {self.source_weights!r}; expected numbers of at least 0",
            )

    @property
    def total_samples(self) -> int:
        """Samples over all phases, whole batches."""
        return sum(p.steps * p.batch for p in self.phases)

    @property
    def total_steps(self) -> int:
        """Optimizer steps over all phases."""
        return sum(p.steps for p in self.phases)

    def at(self, step: int) -> tuple[Phase, int]:
        """The phase of a step and the number of samples seen before it."""
        samples = 0
        for phase in self.phases:
            if step < phase.steps:
                return phase, samples + step * phase.batch
            step -= phase.steps
            samples += phase.steps * phase.batch
        raise ArgumentError("step", f"step is {step!r}; expected a number below {self.total_steps}")

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict that :meth:`from_json` reads back."""
        return write_settings(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainConfig:
        """Read a config; unknown names and impossible values raise ``ArgumentError``."""
        return read_settings(cls, data, "config", _RETIRED)

    @classmethod
    def load(cls, path: str | Path) -> TrainConfig:
        """Read a config file (JSON); fields left out keep their defaults."""
        return read_settings_file(cls, path, "config", _RETIRED)
