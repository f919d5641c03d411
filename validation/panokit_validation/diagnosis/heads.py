"""The heads of a dump, given the device's input, or the photo if the dump has no input."""

from __future__ import annotations

from panokit_validation import evidence
from panokit_validation.device import real_heads
from panokit_validation.diagnosis.cause import UNKNOWN, Cause, Finding
from panokit_validation.diagnosis.hypotheses import (
    INPUT_STEPS,
    Injected,
    Score,
    conclude,
    hypotheses,
    stale,
)
from panokit_validation.diagnosis.replay import RealHeads, Replay
from panokit_validation.faults.app import App
from panokit_validation.faults.bank import FAULTS
from panokit_validation.faults.buffers import to_multiple
from panokit_validation.faults.heads import HeadSet, reread_rows
from panokit_validation.faults.model import Step, Variant

__all__ = ["explain_heads"]


class _Judge:
    """Scores hypotheses in units of what rounding may do to each head."""

    def __init__(self, x: Replay) -> None:
        self.x, self.device = x, x.device_heads
        fast = x.run(x.app)[0]
        self.references: list[RealHeads] = [fast]
        decibels = x.config.head_sqnr_db if x.quantised else x.config.float_head_sqnr_db
        self.tolerance = dict.fromkeys(self.device, 10 ** (-decibels / 10))
        noise = evidence.head_noise(self.device, fast)
        plain = x.device(fast=False)
        if x.quantised and plain.own_kernels and not self._within(noise):
            # Quantised sums round differently in other kernels; how much tells this photo.
            self.references.append(x.run(x.app, fast=False)[0])
            spread = evidence.head_noise(self.references[1], fast)
            for name in self.tolerance:
                self.tolerance[name] = max(self.tolerance[name], 2 * spread[name])

    def _within(self, noise: dict[str, float]) -> bool:
        return all(v <= self.tolerance[n] for n, v in noise.items())

    def of(self, heads: RealHeads) -> Score:
        """The score of expected heads."""
        noise = evidence.head_noise(self.device, heads)
        weighed = [v / self.tolerance[n] for n, v in noise.items()]
        return Score(sum(weighed) / len(weighed), self._within(noise))

    def none(self) -> Score:
        """The score of an app without faults."""
        return min((self.of(h) for h in self.references), key=lambda s: s.residual)

    def app(self, app: App) -> Score:
        """The score of a hypothesis: the better of the two kernels where both have been run."""
        scores = []
        replayed = app.having(*(s for s in Step if s not in (Step.HEADS, Step.DECODE)))
        for fast in (True, False)[: 1 if replayed else len(self.references)]:
            heads = self.x.run(app if replayed else self.x.app, fast)[0]
            read = app.heads(HeadSet(self.x.dump.tensors, heads, self.x.artifact.outputs)).real
            scores.append(self.of(dict(read)))
        return min(scores, key=lambda s: s.residual)


def explain_heads(x: Replay) -> Finding | None:
    """What explains the heads; None if they agree and hold no sign of half precision."""
    judge = _Judge(x)
    base = judge.none()
    difference = max(evidence.head_noise(x.device_heads, judge.references[0]).values())
    if base.fits:
        joined = _joined(x, difference)
        return joined or _half_precision(x, judge, difference, alarm=False)
    steps = [Step.NETWORK, Step.HEADS]
    if x.values is None:
        steps += INPUT_STEPS
    singles = [*hypotheses(steps, x.quantised), *_saturated(x, judge), *_sheared(x, judge)]
    singles = [s for s in singles if s[0].name != "fp16-rounding"]
    beam = None if x.values is not None else 2
    finding = conclude(
        "heads", base.residual, singles, judge.app, x.config, x.config.explains, beam=beam
    )
    finding = Finding("heads", difference, finding.causes, finding.considered)
    if finding.causes[0].name != UNKNOWN:
        return finding
    other = _joined(x, difference) or _other_artifact(x, judge, base.residual, difference)
    if other is not None:
        return other
    if difference < 1e-3:
        half = _half_precision(x, judge, difference, alarm=True)
        if half is not None:
            return half
    if evidence.unrelated_heads(x.device_heads, judge.references[0]):
        return stale("heads", difference, 1.0)
    if x.values is not None and evidence.of_another_network(x.device_heads, judge.references[0]):
        fault = FAULTS["other-artifact"]
        cause = Cause(fault.name, "heads", fault.title, fault.advice, 1.0, "concluded")
        return Finding("heads", difference, (cause,), finding.considered)
    return finding


def _joined(x: Replay, difference: float) -> Finding | None:
    """One scale of all heads, as their numbers show it."""
    step = evidence.joint_step(x.device_heads)
    if step is None:
        return None
    fault = FAULTS["head-joined-scale"]
    title = f"{fault.title}: all values are multiples of {step:.4g}"
    cause = Cause(fault.name, "heads", title, fault.advice, 1.0, certain=True)
    return Finding("heads", difference, (cause,))


def _saturated(x: Replay, judge: _Judge) -> list[Injected]:
    """The cut-off that the heads themselves show."""
    limits = {
        name: limit
        for name, values in x.device_heads.items()
        if (limit := evidence.saturation(values, judge.references[0][name])) is not None
    }
    if not limits:
        return []

    def change(heads: HeadSet) -> RealHeads:
        return {
            n: v.clip(-limits[n], limits[n]) if n in limits else v for n, v in heads.real.items()
        }

    return [(FAULTS["fp16-overflow"], Variant("observed", change))]


def _sheared(x: Replay, judge: _Judge) -> list[Injected]:
    """Another row stride, as the heads themselves show it."""
    paddings = {
        name: padding
        for name, values in x.device_heads.items()
        if (padding := evidence.row_padding(values, judge.references[0][name])) is not None
    }
    fault = FAULTS["head-row-stride"]
    return [
        (fault, Variant("observed", reread_rows(each, x.device_heads)))
        for each in _completed(paddings, x.device_heads)
    ]


def _completed(paddings: dict[str, int], heads: RealHeads) -> list[dict[str, int]]:
    """What was observed; and with it what the others then have that hold too few rows to show it,
    where rows begin at multiples of a power of two."""
    if not paddings:
        return []
    rows = {name: values.shape[1] * values.shape[2] for name, values in heads.items()}
    options = [paddings]
    for of in (2**n for n in range(2, 13)):
        if all(to_multiple(rows[name], of) == p for name, p in paddings.items()):
            others = {name: p for name, row in rows.items() if (p := to_multiple(row, of))}
            options += [others] if others not in options else []
    return options


def _half_precision(x: Replay, judge: _Judge, difference: float, *, alarm: bool) -> Finding | None:
    """A note that the heads carry half precision where the artifact's own carry more."""
    halved = [n for n, v in x.device_heads.items() if evidence.is_half_precision(v)]
    # A quantised head may fit half precision by chance of its scale.
    halved = [n for n in halved if not evidence.is_half_precision(judge.references[0][n])]
    if not halved or len(halved) < len(x.device_heads):
        return None
    fault = FAULTS["fp16-rounding"]
    cause = Cause(fault.name, "heads", fault.title, fault.advice, 1.0, certain=True, alarm=alarm)
    return Finding("heads", difference, (cause,))


def _other_artifact(x: Replay, judge: _Judge, base: float, difference: float) -> Finding | None:
    """Another artifact of the bundle, for dumps that do not tell their hash."""
    values = x.values if x.values is not None else x.picture(x.app)[0]
    for artifact in x.others_of_bundle():
        score = judge.of(real_heads(x.device(artifact).run(values), artifact))
        if score.residual < (1 - x.config.explains) * base:
            fault = FAULTS["other-artifact"]
            explained = 1 - score.residual / base
            cause = Cause(fault.name, "heads", fault.title, fault.advice, explained, artifact.name)
            return Finding("heads", difference, (cause,))
    return None
