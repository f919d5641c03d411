"""How close tensors are to their reference: one pair looked at closely, or figures summed up over
any number of photos."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.errors import ArgumentError

__all__ = [
    "INFINITE_DB",
    "AgreementMeter",
    "HeadAgreement",
    "TensorAgreement",
    "compare_tensors",
    "decibel",
    "estimate_shift",
    "whole_shift",
]

INFINITE_DB = 200.0
"""Stands for infinite decibels, which JSON does not have."""

SHIFT_LIMIT = 8
"""The largest shift that is looked for, in cells."""

_SHIFT_CHANNELS = 3
_SHIFT_DB = 60
_LEAST_GAIN = 0.1


@dataclass(frozen=True)
class HeadAgreement:
    """Agreement of a tensor with its reference over all photos.

    ``max_abs`` and ``mean_abs`` of the difference in the tensor's unit; ``sqnr_db`` = 10·log10 of
    the reference's power over the difference's (±200 stand for infinity); ``cosine`` -1..1.
    """

    sqnr_db: float
    max_abs: float
    mean_abs: float
    cosine: float

    def to_json(self) -> dict[str, float]:
        """A JSON-ready dict, figures rounded to what they are good for."""
        return {k: round(v, 2 if k == "sqnr_db" else 6) for k, v in asdict(self).items()}


class AgreementMeter:
    """Takes pairs of tensors one after the other; memory does not grow with their number.

    ::

        meter = AgreementMeter()
        for … : meter.update(reference, candidate)
        meter.compute().sqnr_db
    """

    def __init__(self) -> None:
        self._signal = self._noise = self._power = self._product = 0.0
        self._largest = self._absolute = 0.0
        self._count = 0

    def update(self, reference: NDArray[Any], candidate: NDArray[Any]) -> None:
        """Add a pair of one shape, of any real types; sums are in float64."""
        if reference.shape != candidate.shape or reference.size == 0:
            expected = f"of the reference's shape {reference.shape}, not empty"
            raise ArgumentError(
                "candidate",
                f"candidate has the shape {candidate.shape}; expected an array {expected}",
            )
        r = reference.astype(np.float64).ravel()
        c = candidate.astype(np.float64).ravel()
        noise = c - r
        self._signal += float(r @ r)
        self._noise += float(noise @ noise)
        self._power += float(c @ c)
        self._product += float(r @ c)
        np.abs(noise, out=noise)
        self._largest = max(self._largest, float(noise.max()))
        self._absolute += float(noise.sum())
        self._count += r.size

    @property
    def count(self) -> int:
        """How many numbers were compared."""
        return self._count

    def compute(self) -> HeadAgreement:
        """The figures of everything given so far."""
        if not self._count:
            raise ArgumentError("pairs", "there are no pairs of tensors; expected at least one")
        scale = math.sqrt(self._signal * self._power)
        cosine = self._product / scale if scale > 0 else float(self._noise == 0)
        return HeadAgreement(
            sqnr_db=decibel(self._signal, self._noise),
            max_abs=self._largest,
            mean_abs=self._absolute / self._count,
            cosine=max(-1.0, min(1.0, cosine)),
        )


def decibel(signal: float, noise: float) -> float:
    """10·log10 of ``signal`` over ``noise`` (both powers), within ±:data:`INFINITE_DB`."""
    if noise == 0:
        return INFINITE_DB
    if signal == 0 or not math.isfinite(noise):
        return -INFINITE_DB
    return max(-INFINITE_DB, min(INFINITE_DB, 10 * math.log10(signal / noise)))


@dataclass(frozen=True)
class TensorAgreement:
    """Agreement of a tensor with its reference.

    In the tensor's unit: ``max_abs`` and ``mean_abs`` of the difference, its mean with sign
    ``bias`` (actual - reference), and the quantiles ``p50``, ``p90``, ``p99``, ``p999`` of its
    magnitude. ``sqnr_db`` = 10·log10 of the reference's power over the difference's; ``psnr_db`` =
    10·log10 of ``data_range``² over the mean squared difference (±200 stand for infinity);
    ``cosine`` -1..1. ``outside`` 0..1: share of elements that differ by more than ``tolerance``.
    ``shift_yx``: by how many cells (down, right) the actual tensor seems moved, and ``shift_gain``
    0..1: which share of the squared difference that movement takes away (see
    :func:`estimate_shift`).
    """

    max_abs: float
    mean_abs: float
    bias: float
    p50: float
    p90: float
    p99: float
    p999: float
    sqnr_db: float
    psnr_db: float
    cosine: float
    outside: float
    tolerance: float
    data_range: float
    shift_yx: tuple[float, float] = (0.0, 0.0)
    shift_gain: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        data: dict[str, Any] = {
            k: round(v, 6) for k, v in asdict(self).items() if isinstance(v, float)
        }
        data["shift_yx"] = [round(v, 3) for v in self.shift_yx]
        return data


def compare_tensors(
    actual: NDArray[Any],
    reference: NDArray[Any],
    *,
    tolerance: float = 0.0,
    data_range: float | None = None,
    shift: bool = True,
) -> TensorAgreement:
    """Compare two tensors of one shape (any real type; sums in float64).

    ``tolerance``: what ``outside`` counts beyond, in the tensor's unit. ``data_range``: the peak
    of the PSNR; without it the reference's maximum less its minimum. Tensors ``[H,W]`` and
    ``[H,W,C]`` get a shift estimate if they differ (at less than 60 dB) and ``shift`` is True.
    """
    if actual.shape != reference.shape:
        raise ArgumentError(
            "actual",
            f"actual has the shape {actual.shape}; expected the reference's, {reference.shape}",
        )
    if actual.size == 0:
        raise ArgumentError(
            "actual", f"actual has the shape {actual.shape}; expected at least one element"
        )
    b = reference.astype(np.float64).ravel()
    tolerance = float(tolerance)
    data_range = float(b.max() - b.min() if data_range is None else data_range)
    if np.array_equal(actual, reference):
        zero, best = 0.0, INFINITE_DB
        return TensorAgreement(
            zero, zero, zero, zero, zero, zero, zero, best, best, 1.0, zero, tolerance, data_range
        )
    a = actual.astype(np.float64).ravel()
    difference = a - b
    magnitude = np.abs(difference)
    noise, power = _dot(difference, difference), _dot(b, b)
    norm = float(np.sqrt(_dot(a, a)) * np.sqrt(power))
    moved, gain = (0.0, 0.0), 0.0
    sqnr = decibel(power, noise)
    if shift and actual.ndim in (2, 3) and sqnr < _SHIFT_DB:
        moved, gain = estimate_shift(actual, reference)
    p50, p90, p99, p999 = _quantiles(magnitude, (0.5, 0.9, 0.99, 0.999))
    return TensorAgreement(
        max_abs=float(magnitude.max()),
        mean_abs=float(magnitude.mean()),
        bias=float(difference.mean()),
        p50=p50,
        p90=p90,
        p99=p99,
        p999=p999,
        sqnr_db=sqnr,
        psnr_db=decibel(data_range * data_range, noise / len(a)),
        cosine=float(np.clip(_dot(a, b) / norm, -1, 1)) if norm > 0 else float(noise == 0),
        outside=float((magnitude > tolerance).mean()),
        tolerance=tolerance,
        data_range=data_range,
        shift_yx=moved,
        shift_gain=gain,
    )


def estimate_shift(
    actual: NDArray[Any], reference: NDArray[Any], limit: int = SHIFT_LIMIT
) -> tuple[tuple[float, float], float]:
    """The movement (down, right), in cells, that turns the reference best into ``actual``; both are
    ``[h,w]`` or ``[h,w,C]``.

    The whole cells come from phase correlation within ±``limit``, the rest from one least-squares
    step on the gradient (Lucas and Kanade, 1981), of the channels that vary most. The second value
    is the share 0..1 of the squared difference that the movement takes away; where it is below a
    tenth the movement is (0, 0).
    """
    a, b = _varied_channels(actual, reference)
    h, w = a.shape[:2]
    edge = min(limit, (h - 3) // 2, (w - 3) // 2)
    if edge < 1:
        return (0.0, 0.0), 0.0
    inner = (slice(edge, h - edge), slice(edge, w - edge))
    before = float(np.square(a[inner] - b[inner], dtype=np.float64).sum())
    if before == 0:
        return (0.0, 0.0), 0.0
    best = ((0.0, 0.0), before)
    # One plane is enough for whole cells: the sum of the channels.
    for dy, dx in {(0, 0), whole_shift(a.sum(-1), b.sum(-1), edge)}:
        moved = np.roll(b, (dy, dx), (0, 1)) if dy or dx else b
        (ty, tx), after = _fraction(a, moved, inner)
        if after < best[1]:
            best = ((dy + ty, dx + tx), after)
    gain = 1.0 - best[1] / before
    return (best[0], gain) if gain >= _LEAST_GAIN else ((0.0, 0.0), max(0.0, gain))


def _varied_channels(
    actual: NDArray[Any], reference: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both as float32 ``[H,W,c]``, with the few channels in which the reference varies most."""
    a, b = (v.astype(np.float32).reshape(*v.shape[:2], -1) for v in (actual, reference))
    if b.shape[2] > _SHIFT_CHANNELS:
        chosen = np.sort(np.argsort(-b.var((0, 1)), kind="stable")[:_SHIFT_CHANNELS])
        a, b = a[..., chosen], b[..., chosen]
    return a, b


def whole_shift(
    a: NDArray[np.float32], b: NDArray[np.float32], limit: int, *, phase: bool = True
) -> tuple[int, int]:
    """The movement (down, right), in whole cells within ±``limit``, at which plane ``b`` ``[h,w]``
    goes together best with ``a``: by phase correlation, or by plain correlation, which very smooth
    planes need."""
    cross = np.fft.rfft2(a - a.mean())
    cross *= np.conj(np.fft.rfft2(b - b.mean()))
    if phase:
        cross /= np.abs(cross) + 1e-6 * (np.abs(cross).max() + 1e-30)
    surface = np.fft.irfft2(cross, s=a.shape)
    steps = np.arange(-limit, limit + 1)
    near = surface[steps[:, None], steps]  # negative indices wrap round, as shifts do
    dy, dx = np.unravel_index(int(near.argmax()), near.shape)
    return int(steps[dy]), int(steps[dx])


def _fraction(
    a: NDArray[np.float32], b: NDArray[np.float32], inner: tuple[slice, slice]
) -> tuple[tuple[float, float], float]:
    """The rest of a movement within ±1 cell, and the squared difference that is left."""
    (ys, xs), (h, w) = inner, b.shape[:2]
    top, left = ys.start, xs.start
    gy = (b[top + 1 : h - top + 1, xs] - b[top - 1 : h - top - 1, xs]).ravel() / 2
    gx = (b[ys, left + 1 : w - left + 1] - b[ys, left - 1 : w - left - 1]).ravel() / 2
    d = (a[inner] - b[inner]).ravel()
    across = _dot(gy, gx)
    matrix = np.array([[_dot(gy, gy), across], [across, _dot(gx, gx)]])
    if np.linalg.det(matrix) <= 1e-9 * np.trace(matrix) ** 2:
        return (0.0, 0.0), _dot(d, d)
    ty, tx = np.clip(np.linalg.solve(matrix, [-_dot(gy, d), -_dot(gx, d)]), -1, 1)
    rest = d + np.float32(ty) * gy + np.float32(tx) * gx
    return (float(ty), float(tx)), _dot(rest, rest)


def _dot(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The inner product in float64, without BLAS, whose threads cost more than they save here."""
    return float(np.einsum("i,i->", a, b, dtype=np.float64))


def _quantiles(values: NDArray[np.float64], at: tuple[float, ...]) -> list[float]:
    """Order statistics (the smallest value that at least that share does not exceed)."""
    ranks = [max(0, int(np.ceil(q * len(values))) - 1) for q in at]
    return [float(v) for v in np.partition(values, ranks)[ranks]]
