"""Which operator is the first whose result leaves the tolerance, and what is wrong with it.

Both artifacts run on one image and every tensor is kept (:mod:`panokit_converters.trace`).
Operators are matched along the graph: what computes the same kind of thing from matched inputs is
the same operator, whatever it is called. Then the noise of each result is held against the noise
of its inputs: quantisation makes a little everywhere, a fault makes much in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.agreement import INFINITE_DB, decibel
from panokit_converters.diagnose import Difference, diagnose
from panokit_converters.interface import INPUT
from panokit_converters.trace import Trace, TracedOperator, short_name

__all__ = ["BisectResult", "Finding", "OperatorAgreement", "bisect_traces", "match"]

# Noise that an operator may add of its own (SQNR in dB), by the candidate's precision.
_FLOORS_DB = {
    "float32": 80.0,
    "float16": 50.0,
    "int16x8": 35.0,
    "int8": 25.0,
    "int8-weights": 25.0,
    "int8-dynamic": 25.0,
    "palette8": 25.0,
}
_LOW_BITS_DB = 12.0

MAX_LOSS_DB = 9.0
"""An operator that loses more than this against its worst input (or the floor) is a suspect."""


SAME_RESULT_DB = 20.0
"""From here on two results are the same tensor, if nothing else says which is which."""


@dataclass(frozen=True)
class OperatorAgreement:
    """One matched operator: SQNR of its result and of its worst input in dB; what a sound operator
    would make of that input's noise (``expected_db``: a convolution that takes differences loses
    signal, but no noise); the ``channel`` that differs most, by its own signal, and its SQNR."""

    operator: TracedOperator
    reference: TracedOperator
    sqnr_db: float
    input_sqnr_db: float
    expected_db: float
    channel: int
    channel_sqnr_db: float

    @property
    def loss_db(self) -> float:
        """How much the operator itself loses."""
        return self.expected_db - self.sqnr_db

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "operator": self.operator.place,
            "type": self.operator.type,
            "name": short_name(self.operator.name),
            "sqnr_db": round(self.sqnr_db, 2),
            "input_sqnr_db": round(self.input_sqnr_db, 2),
            "expected_db": round(self.expected_db, 2),
            "channel": self.channel,
            "channel_sqnr_db": round(self.channel_sqnr_db, 2),
        }


@dataclass(frozen=True)
class Finding:
    """The first operator that is wrong, and in sentences what looks wrong about it."""

    agreement: OperatorAgreement
    causes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {**self.agreement.to_json(), "causes": list(self.causes), "text": str(self)}

    def __str__(self) -> str:
        op = self.agreement.operator
        name = short_name(op.name)
        text = (
            f"{op.place} {op.type} {name!r} differs: {self.agreement.sqnr_db:.1f} dB, "
            f"its inputs {self.agreement.input_sqnr_db:.1f} dB"
        )
        return f"{text}: {'; '.join(self.causes)}" if self.causes else text


@dataclass(frozen=True)
class BisectResult:
    """All matched operators in the order they run, and those that are wrong; the noise that one
    passes on is not held against the next."""

    artifact: str
    reference: str
    operators: tuple[OperatorAgreement, ...]
    unmatched: tuple[TracedOperator, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def first(self) -> Finding | None:
        """The first operator that is wrong; None if none is."""
        return self.findings[0] if self.findings else None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "artifact": self.artifact,
            "reference": self.reference,
            "matched": len(self.operators),
            "unmatched": [str(op) for op in self.unmatched],
            "first_bad": None if self.first is None else self.first.to_json(),
            "findings": [finding.to_json() for finding in self.findings],
            "operators": [op.to_json() for op in self.operators],
        }


def bisect_traces(
    candidate: Trace,
    reference: Trace,
    precision: str = "float32",
    reference_precision: str = "float32",
) -> BisectResult:
    """Compare two traces of one image; ``precision`` is the candidate's."""
    pairs = match(candidate, reference)
    floor = min(_FLOORS_DB.get(p, _LOW_BITS_DB) for p in (precision, reference_precision))
    noise = {INPUT: INFINITE_DB}  # one image: what a program makes of it is its own doing
    compared: list[OperatorAgreement] = []
    findings: list[Finding] = []
    for op, twin in pairs:
        if twin is None:
            noise[op.output] = min((noise.get(k, INFINITE_DB) for k in op.inputs), default=0.0)
            continue
        found = _compare(op, twin, candidate, reference, noise, floor)
        compared.append(found)
        noise[op.output] = found.sqnr_db
        finding = _judge(found, candidate, reference, floor)
        if finding is not None:
            findings.append(finding)
    findings = [f for f in findings if not _recovers(f, candidate, noise, compared)]
    unmatched = tuple(op for op, twin in pairs if twin is None)
    return BisectResult(
        candidate.artifact, reference.artifact, tuple(compared), unmatched, tuple(findings)
    )


def match(candidate: Trace, reference: Trace) -> list[tuple[TracedOperator, TracedOperator | None]]:
    """The candidate's operators in order, each with the reference's or None.

    An operator's twin computes the same kind of thing from matched inputs. Converters also write
    one operator as several (a hard-swish as three): there the twin is what has the same result.
    """
    keys = {INPUT: INPUT}
    free = list(reference.operators)
    pairs: list[tuple[TracedOperator, TracedOperator | None]] = []
    for op in candidate.operators:
        twin = _twin(op, keys, free, candidate, reference)
        pairs.append((op, twin))
        if twin is not None:
            free.remove(twin)
            keys[op.output] = twin.output
    return pairs


def _twin(
    op: TracedOperator,
    keys: Mapping[str, str],
    free: list[TracedOperator],
    candidate: Trace,
    reference: Trace,
) -> TracedOperator | None:
    value = candidate.values[op.output]
    alike = [twin for twin in free if reference.values[twin.output].shape == value.shape]
    kind = [twin for twin in alike if twin.kind == op.kind]
    inputs = sorted(keys.get(key, "?") for key in op.inputs)
    same = [twin for twin in kind if sorted(twin.inputs) == inputs]
    if same:
        return max(same, key=lambda t: _likeness(op, t, candidate, reference))
    near = [(_sqnr(reference.values[t.output], value), i, t) for i, t in enumerate(alike)]
    if near and max(near)[0] >= SAME_RESULT_DB:
        return max(near)[2]
    # A convolution behind something unknown: the next of its size, as converters keep the order.
    if op.weights is not None and "?" in inputs:
        return next((t for t in kind if t.weights is not None
                     and t.weights.shape == op.weights.shape), None)  # fmt: skip
    return None


def _likeness(
    op: TracedOperator, twin: TracedOperator, candidate: Trace, reference: Trace
) -> float:
    """To choose among siblings, which compute the same kind of thing from the same inputs."""
    a, b = candidate.values[op.output].ravel(), reference.values[twin.output].ravel()
    if op.weights is not None and twin.weights is not None:
        if op.weights.shape != twin.weights.shape:
            return -2.0
        a, b = op.weights.ravel(), twin.weights.ravel()
    scale = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(a @ b) / scale if scale else 0.0


def _compare(
    op: TracedOperator,
    twin: TracedOperator,
    candidate: Trace,
    reference: Trace,
    noise: Mapping[str, float],
    floor: float,
) -> OperatorAgreement:
    r = reference.values[twin.output].astype(np.float64)
    c = candidate.values[op.output].astype(np.float64)
    r, c = r.reshape(-1, r.shape[-1]), c.reshape(-1, c.shape[-1])  # [pixels, C]
    signal, wrong = (r * r).sum(0), ((c - r) ** 2).sum(0)
    # A channel counts as much as its signal is worth: nothing is lost with a dead one.
    weight = np.minimum(wrong, signal)
    channel = int(np.argmax(weight))
    before = min((noise.get(key, INFINITE_DB) for key in op.inputs), default=INFINITE_DB)
    passed_on = _passed_on(op, twin, candidate, reference)
    expected = min(before, floor, decibel(float(signal.sum()), passed_on * len(r)))
    return OperatorAgreement(
        operator=op,
        reference=twin,
        sqnr_db=decibel(float(signal.sum()), float(wrong.sum())),
        input_sqnr_db=before,
        expected_db=expected,
        channel=channel,
        channel_sqnr_db=decibel(float(signal[channel]), float(wrong[channel])),
    )


def _passed_on(
    op: TracedOperator, twin: TracedOperator, candidate: Trace, reference: Trace
) -> float:
    """Noise power per position that a convolution makes of its input's noise and of rounding its
    result: each weight passes its channel's noise on, as if the noises knew nothing of each other.
    """
    if twin.weights is None or twin.weights.ndim != 4 or len(op.inputs) != 1:
        return 0.0
    ours, theirs = candidate.values[op.inputs[0]], reference.values[twin.inputs[0]]
    if ours.shape != theirs.shape or op.inputs[0] == INPUT:
        return 0.0
    noise = ((ours.astype(np.float64) - theirs) ** 2).reshape(-1, ours.shape[-1]).mean(0)  # [I]
    gain = (twin.weights.astype(np.float64) ** 2).sum((1, 2))  # [O,I], depthwise [O,1]
    if twin.kind == "depthwise":
        factor = max(1, len(gain) // max(1, len(noise)))
        passed = float((gain[:, 0] * np.repeat(noise, factor)[: len(gain)]).sum())
    elif gain.shape[1] == len(noise):
        passed = float((gain @ noise).sum())
    else:
        return 0.0
    return passed + len(gain) * (op.scale or 0.0) ** 2 / 12


def _judge(
    found: OperatorAgreement, candidate: Trace, reference: Trace, floor: float
) -> Finding | None:
    differences = diagnose(found.operator, found.reference, candidate, reference, floor)
    static = [d for d in differences if d.static]
    there = min([found.sqnr_db, *(_channel_sqnr(found, candidate, reference, d) for d in static)])
    # What the file itself shows to be wrong needs to be no worse than rounding; anything else must
    # stand out from it.
    if found.loss_db <= MAX_LOSS_DB and not (static and there < floor):
        return None
    return Finding(found, tuple(d.text for d in differences))


def _recovers(
    finding: Finding,
    candidate: Trace,
    noise: Mapping[str, float],
    compared: Sequence[OperatorAgreement],
) -> bool:
    """Whether what takes the result is right all the same: then the two files share out the work
    in different ways (a hard-sigmoid's "+ 3" may lie in the bias before it), and nothing is wrong.
    """
    matched = {found.operator.output for found in compared}
    reached, after = {finding.agreement.operator.output}, []
    for op in candidate.operators:
        if not reached & set(op.inputs):
            continue
        if op.output in matched:
            after.append(noise[op.output])
        else:
            reached.add(op.output)
    return bool(after) and min(after) >= finding.agreement.sqnr_db + SAME_RESULT_DB


def _channel_sqnr(
    found: OperatorAgreement, candidate: Trace, reference: Trace, difference: Difference
) -> float:
    """SQNR of the one channel that a difference is about."""
    if difference.channel is None:
        return found.sqnr_db
    r = reference.values[found.reference.output][..., difference.channel]
    return _sqnr(r, candidate.values[found.operator.output][..., difference.channel])


def _sqnr(reference: NDArray[Any], candidate: NDArray[Any]) -> float:
    r, c = reference.astype(np.float64), candidate.astype(np.float64)
    return decibel(float((r * r).sum()), float(((c - r) ** 2).sum()))
