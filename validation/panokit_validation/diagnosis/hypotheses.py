"""Ranking hypotheses: single faults first, pairs of them only where one does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from panokit.errors import ArgumentError
from panokit_validation.diagnosis.cause import UNKNOWN, Cause, DiagnosisConfig, Finding
from panokit_validation.faults.app import App
from panokit_validation.faults.bank import FAULTS
from panokit_validation.faults.model import Fault, Step, Variant

__all__ = [
    "INPUT_STEPS",
    "Injected",
    "Score",
    "Scored",
    "conclude",
    "hypotheses",
    "stale",
    "unknown",
]

INPUT_STEPS = (Step.ORIENTATION, Step.COLOR, Step.LAYOUT, Step.TENSOR)
"""Steps before the network."""

Injected = tuple[Fault, Variant]
PROMISING = 0.02
"""The share that one fault of a pair has to explain by itself."""
FITTING = 0.6
"""The least share that a fault explains that leaves only rounding."""


@dataclass(frozen=True)
class Score:
    """``residual``: the distance that a hypothesis leaves; ``fits``: that is only rounding."""

    residual: float
    fits: bool


@dataclass(frozen=True)
class Scored:
    """A hypothesis and its score."""

    injected: tuple[Injected, ...]
    score: Score


Judge = Callable[[App], Score]


def hypotheses(steps: Iterable[Step], quantised: bool) -> list[Injected]:
    """Every variant of every fault at these steps that the artifact can have."""
    wanted = set(steps)
    return [
        (fault, variant)
        for fault in FAULTS.values()
        if fault.step in wanted and fault.replayed and fault.occurs_on(quantised)
        for variant in fault.variants
    ]


def conclude(
    stage: str,
    base: float,
    singles: Sequence[Injected],
    judge: Judge,
    config: DiagnosisConfig,
    least: float,
    unrelated: Callable[[], Finding | None] = lambda: None,
    beam: int | None = None,
    cheap: int = 0,
) -> Finding:
    """What explains a stage that lies ``base`` from the reference; ``least`` share is needed.

    A pair is judged only where no single fault fits, and needs half of what a single fault may
    leave unexplained, because so many pairs are tried. ``unrelated`` is asked for another
    explanation before that, if no single fault explains half. ``beam`` replaces the config's where
    a replay is dear. The first ``cheap`` faults are all judged, the others only until one explains
    everything.
    """
    scored: list[Scored] = []
    for number, single in enumerate(singles, 1):
        scored.append(Scored((single,), judge(App.of([single]))))
        exact = any(s.score == Score(0.0, True) for s in scored)
        if exact and number >= cheap:
            break  # the very same numbers: nothing can explain it better
    # What changes nothing on this photo explains nothing.
    scored = [s for s in scored if abs(s.score.residual - base) > 1e-9 * base]
    scored.sort(key=lambda s: (not s.score.fits, s.score.residual))
    best = scored[0] if scored else None
    if best is None or _explained(best, base) < 0.5:
        finding = unrelated()
        if finding is not None:
            return finding
    if best is not None and not best.score.fits:
        promising = [s for s in scored if _explained(s, base) > PROMISING]
        pairs = _pairs(promising, singles, judge, beam or config.beam)
        pair = min(pairs, key=lambda s: s.score.residual, default=None)
        gain = config.pair_gain * best.score.residual
        if pair is not None and (pair.score.fits or pair.score.residual <= gain):
            share = _explained(pair, base)
            if pair.score.fits or share >= (1 + least) / 2:
                return _finding(stage, base, pair, scored)
    # What leaves only rounding counts even if rounding is a good part of a small difference.
    if best is not None:
        least = min(least, *(fault.enough for fault, _ in best.injected))
    if best is None or _explained(best, base) < (FITTING if best.score.fits else least):
        return unknown(stage, base, [c for s in scored[:3] for c in _causes(stage, base, s)])
    return _finding(stage, base, best, scored)


def _pairs(
    scored: Sequence[Scored], singles: Sequence[Injected], judge: Judge, beam: int
) -> list[Scored]:
    """Pairs of a promising fault with any other."""
    found: list[Scored] = []
    tried: set[frozenset[tuple[str, str]]] = set()
    for first in _leaders(scored, beam):
        for second in singles:
            pair = (first, second)
            key = frozenset((f.name, v.label) for f, v in pair)
            if len(key) < 2 or key in tried:
                continue
            tried.add(key)
            try:
                app = App.of(pair)
            except ArgumentError:  # both change the same thing
                continue
            score = judge(app)
            found.append(Scored(app.causes, score))
            if score.fits and score.residual == 0:
                return found
    return found


def _leaders(scored: Sequence[Scored], count: int) -> list[Injected]:
    """The best variants, one of each fault."""
    leaders: dict[str, Injected] = {}
    for s in scored:
        leaders.setdefault(s.injected[0][0].name, s.injected[0])
    return list(leaders.values())[:count]


def _explained(scored: Scored, base: float) -> float:
    return max(0.0, 1 - scored.score.residual / base) if base > 0 else 0.0


def _causes(stage: str, base: float, scored: Scored) -> tuple[Cause, ...]:
    names = [f.name for f, _ in scored.injected]
    return tuple(
        Cause(
            name=fault.name,
            stage=stage,
            title=fault.title,
            advice=fault.advice,
            explained=_explained(scored, base),
            variant=variant.label,
            together=tuple(n for n in names if n != fault.name),
        )
        for fault, variant in scored.injected
    )


def _finding(stage: str, base: float, chosen: Scored, scored: Sequence[Scored]) -> Finding:
    """The conclusion, and other faults that explain part of it."""
    causes = _causes(stage, base, chosen)
    named = {c.name for c in causes}
    considered: dict[str, Cause] = {}
    for other in scored:
        (cause,) = _causes(stage, base, other)
        if cause.name not in named and cause.explained > 0:
            considered.setdefault(cause.name, cause)
    return Finding(stage, base, causes, tuple(considered.values())[:4])


def unknown(stage: str, base: float, considered: Sequence[Cause] = ()) -> Finding:
    """Nothing in the bank explains it."""
    best = max((c.explained for c in considered), default=0.0)
    cause = Cause(
        name=UNKNOWN,
        stage=stage,
        title="no fault of the bank explains the difference",
        advice="Compare this stage's tensor with the reference by eye; the report shows both.",
        explained=best,
    )
    return Finding(stage, base, (cause,), tuple(considered))


def stale(
    stage: str, base: float, explained: float, name: str = "", *, certain: bool = False
) -> Finding:
    """The finding that a stage belongs to another photo (``name``, if that is known)."""
    fault = FAULTS["stale-photo"]
    cause = Cause(fault.name, stage, fault.title, fault.advice, explained, name, certain=certain)
    return Finding(stage, base, (cause,))
