"""What a diagnosis says: causes, findings at each stage, and when a hypothesis counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from panokit.errors import ArgumentError

__all__ = ["UNKNOWN", "Cause", "Diagnosis", "DiagnosisConfig", "Finding"]

UNKNOWN = "unknown"


@dataclass(frozen=True)
class DiagnosisConfig:
    """When stages differ, and when a hypothesis counts.

    ``input_max_abs`` and ``input_mean_abs`` in 8-bit steps. ``head_sqnr_db`` for quantised and
    ``float_head_sqnr_db`` for float artifacts; for quantised ones twice the difference between the
    runtime's two sets of kernels on this photo is allowed as well. ``map_share`` 0..1 of the
    pixels: given the device's heads, and ``replayed_map_share`` where the heads had to be computed.
    ``explains`` 0..1: the least share of a difference for which a cause is named,
    ``map_explains`` the same for maps. ``pair_gain``: two faults are named instead of one only if
    they leave at most this part of what the one leaves. ``beam``: first faults of pairs that are
    tried.
    """

    input_max_abs: float = 2.0
    input_mean_abs: float = 0.25
    head_sqnr_db: float = 25.0
    float_head_sqnr_db: float = 35.0
    map_share: float = 0.002
    replayed_map_share: float = 0.005
    explains: float = 0.95
    map_explains: float = 0.7
    pair_gain: float = 0.25
    beam: int = 5

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not np.isfinite(value) or value < 0:
                raise ArgumentError(name, f"{name} is {value!r}; expected a finite number from 0")
        if not (self.explains <= 1 and self.map_explains <= 1):
            raise ArgumentError(
                "explains",
                f"explains and map_explains are {(self.explains, self.map_explains)}; "
                "expected numbers from 0 to 1",
            )


@dataclass(frozen=True)
class Cause:
    """What may have gone wrong.

    ``name`` is one of the bank's, or ``"unknown"``; ``variant`` its form; ``stage`` the dump's
    stage that shows it. ``explained`` 0..1 is the share of that stage's difference; causes that
    act ``together`` share one figure. ``certain`` marks causes that rest on a fact such as a hash.
    ``alarm`` is False for what is worth knowing and needs no mending. ``considered`` marks what was
    tried and explains less than what was concluded.
    """

    name: str
    stage: str
    title: str
    advice: str
    explained: float
    variant: str = ""
    together: tuple[str, ...] = ()
    certain: bool = False
    alarm: bool = True
    considered: bool = False

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {**asdict(self), "explained": round(self.explained, 4), "together": [*self.together]}


@dataclass(frozen=True)
class Finding:
    """One stage that differs: the cause (several if they act together), what else was
    ``considered``, best first, and the stage's ``difference`` (noise to signal of tensors, share
    of differing pixels of maps)."""

    stage: str
    difference: float
    causes: tuple[Cause, ...]
    considered: tuple[Cause, ...] = ()

    @property
    def alarm(self) -> bool:
        """Whether something has to be mended."""
        return any(c.alarm for c in self.causes)


@dataclass(frozen=True)
class Diagnosis:
    """All findings of one dump, in the order of the pipeline; none if the dump agrees."""

    photo: str
    findings: tuple[Finding, ...] = ()

    @property
    def alarm(self) -> bool:
        """Whether any stage differs by more than rounding."""
        return any(f.alarm for f in self.findings)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """Best first: what was concluded at each stage in the order of the pipeline, then what
        else was considered, then what needs no mending."""
        concluded = [c for f in self.findings for c in f.causes]
        alarms = [c for c in concluded if c.alarm]
        notes = [c for c in concluded if not c.alarm]
        seen = {(c.name, c.stage) for c in concluded}
        rest: list[Cause] = []
        if not any(c.name == UNKNOWN for c in concluded):
            candidates = [c for f in self.findings for c in f.considered]
            for cause in sorted(candidates, key=lambda c: -c.explained):
                if (cause.name, cause.stage) not in seen:
                    seen.add((cause.name, cause.stage))
                    rest.append(replace(cause, considered=True))
        return (*alarms, *rest, *notes)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "photo": self.photo,
            "alarm": self.alarm,
            "causes": [c.to_json() for c in self.causes],
            "findings": [
                {
                    "stage": f.stage,
                    "difference": round(f.difference, 8),
                    "causes": [c.to_json() for c in f.causes],
                    "considered": [c.to_json() for c in f.considered],
                }
                for f in self.findings
            ],
        }
