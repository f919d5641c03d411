"""What distinguishes an operator from its counterpart: options, weights, and how results differ."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit_converters.interface import INPUT
from panokit_converters.trace import Trace, TracedOperator

__all__ = ["Difference", "diagnose"]

Array = NDArray[Any]
FloatArray = NDArray[np.float64]

_SLOPE = 0.15  # a gain this far from 1 is no rounding
_STRAIGHT = 0.98  # correlation from which on a gain is believed
_SATURATED = 0.02


@dataclass(frozen=True)
class Difference:
    """One thing that differs, in a sentence. ``static``: seen in the file, not in the results;
    ``channel``: the one output channel it is about."""

    text: str
    static: bool = True
    channel: int | None = None


def diagnose(
    op: TracedOperator,
    twin: TracedOperator,
    candidate: Trace,
    reference: Trace,
    floor_db: float = 60.0,
) -> list[Difference]:
    """What may explain that ``op`` computes something else than its counterpart ``twin``."""
    found = _options(op, twin) if op.kind == twin.kind else []
    found += _swapped_image(op, candidate, reference)
    # Quantised weights are as noisy as the floor allows; a fault is far beyond.
    tolerance = 10 ** (-max(floor_db - 9.0, 3.0) / 20)
    if op.weights is not None and twin.weights is not None:
        found += _weights(op.weights, twin.weights, tolerance)
        found += _bias(op, twin, tolerance)
    found += [Difference(note, static=False) for note in op.notes if note not in twin.notes]
    if not found:
        found += _results(op, twin, candidate, reference)
    return found


def _options(op: TracedOperator, twin: TracedOperator) -> list[Difference]:
    words = {
        "align_corners": "corners on corners (align_corners)",
        "half_pixel": "half-pixel centres",
        "asymmetric": "neither half-pixel centres nor align_corners",
        "offset_corners": "offset corners",
    }
    found = []
    for name in sorted(set(op.options) & set(twin.options)):
        mine, theirs = op.options[name], twin.options[name]
        if mine == theirs:
            continue
        if name == "sampling":
            text = f"looks like align_corners: it samples with {words[mine]}, "
            if "align_corners" not in (mine, theirs):
                text = f"it samples with {words[mine]}, "
            found.append(Difference(f"{text}the reference with {words[theirs]}"))
        else:
            found.append(Difference(f"its {name} is {mine}, the reference's {theirs}"))
    return found


def _swapped_image(op: TracedOperator, candidate: Trace, reference: Trace) -> list[Difference]:
    """The program may see another channel order than the one the image was given in."""
    if INPUT not in op.inputs:
        return []
    ours, theirs = candidate.values[INPUT], reference.values[INPUT]
    if np.array_equal(ours, theirs):
        return []
    if np.array_equal(ours, theirs[..., ::-1]):
        return [Difference("its input channels are swapped: it sees BGR, the reference RGB")]
    return [Difference("it does not see the same image as the reference")]


def _weights(mine: Array, theirs: Array, tolerance: float) -> list[Difference]:
    """``[O,…,I]`` each."""
    if mine.shape != theirs.shape:
        return [Difference(f"its weights are {mine.shape}, the reference's {theirs.shape}")]
    a = mine.reshape(len(mine), -1).astype(np.float64)
    b = theirs.reshape(len(theirs), -1).astype(np.float64)
    power, error = (b * b).sum(1), ((a - b) ** 2).sum(1)
    # Channels without weight to speak of are left to their bias.
    bad = np.flatnonzero((error > np.maximum(tolerance**2, 1e-12) * power) & _matters(power))
    if not bad.size:
        return []
    order = _input_order(mine, theirs, error.sum())
    if order is not None:
        return [
            Difference(f"its input channels are swapped: order {order} instead of {sorted(order)}")
        ]
    if len(bad) > max(4, len(a) // 4):
        loss = 10 * np.log10(power.sum() / error.sum())
        text = f"its weights differ in {len(bad)} of {len(a)} channels ({loss:.0f} dB)"
        return [Difference(text)]
    return [_weight_channel(int(k), a[k], b[k]) for k in bad[np.argsort(-error[bad])][:3]]


def _matters(power: FloatArray) -> NDArray[np.bool_]:
    return np.asarray(power > 1e-6 * power.max())


def _weight_channel(channel: int, a: FloatArray, b: FloatArray) -> Difference:
    what = f"output channel {channel}: "
    if not a.any():
        return Difference(f"{what}its weights are zero", channel=channel)
    gain = float(a @ b / (b @ b))
    straight = float(a @ b / np.sqrt((a @ a) * (b @ b)))
    if straight > _STRAIGHT and abs(gain - 1) > _SLOPE:
        text = f"its weights are {gain:.2f} times the reference's: a wrong scale"
        return Difference(what + text, channel=channel)
    return Difference(f"{what}its weights differ (correlation {straight:.2f})", channel=channel)


def _input_order(mine: Array, theirs: Array, error: float) -> list[int] | None:
    """The order of input channels that makes the weights agree, if it is not the given one."""
    channels = mine.shape[-1]
    if not 2 <= channels <= 4:
        return None
    for order in permutations(range(channels)):
        moved = theirs[..., list(order)].astype(np.float64)
        if float(((mine - moved) ** 2).sum()) < 0.1 * error:
            return list(order)
    return None


def _bias(op: TracedOperator, twin: TracedOperator, tolerance: float) -> list[Difference]:
    if op.bias is None or twin.bias is None or op.bias.shape != twin.bias.shape:
        return []
    a, b = op.bias.astype(np.float64), twin.bias.astype(np.float64)
    spread = max(float(np.abs(b).max()), 1e-12)
    bad = np.flatnonzero(np.abs(a - b) > max(tolerance, 0.02) * spread)
    if not bad.size:
        return []
    k = int(bad[np.argmax(np.abs(a - b)[bad])])
    more = f" (and {bad.size - 1} more)" if bad.size > 1 else ""
    text = f"output channel {k}: its bias is {a[k]:.4g}, the reference's {b[k]:.4g}{more}"
    return [Difference(text, channel=k)]


def _results(
    op: TracedOperator, twin: TracedOperator, candidate: Trace, reference: Trace
) -> list[Difference]:
    """How the result differs, where the file itself shows no reason."""
    c = candidate.values[op.output].astype(np.float64)
    r = reference.values[twin.output].astype(np.float64)
    if not np.isfinite(c).all():
        return [Difference("its result is not finite", static=False)]
    power = float((r * r).sum())
    if power == 0:
        return []
    found = []
    gain = float((c * r).sum()) / power
    straight = gain * np.sqrt(power / max(float((c * c).sum()), 1e-30))
    if straight > _STRAIGHT and abs(gain - 1) > _SLOPE:
        text = f"its result is {gain:.2f} times the reference's: a wrong scale"
        found.append(Difference(text, static=False))
    ends = (c == c.max()) | (c == c.min())
    beyond = ends & ((r > c.max() + 1e-6) | (r < c.min() - 1e-6))
    share = float(beyond.mean())
    if share > _SATURATED:
        text = (
            f"{100 * share:.0f} % of its result are cut off at {c.min():.3g}..{c.max():.3g}, "
            f"the reference has {r.min():.3g}..{r.max():.3g}: a scale that is too small"
        )
        found.append(Difference(text, static=False))
    return found
