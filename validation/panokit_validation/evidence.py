"""Distances that the diagnosis judges hypotheses by, and signs that need no replay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.agreement import estimate_shift, whole_shift

__all__ = [
    "head_noise",
    "is_half_precision",
    "joint_step",
    "looks_like_a_photo",
    "map_difference",
    "noise_to_signal",
    "of_another_network",
    "row_padding",
    "same_colors",
    "same_scene",
    "saturation",
    "unrelated_heads",
]

MOST_PADDING = 4096
"""Values behind a row that are looked for; pages of memory have so many bytes."""
LEAST_ROWS = 3
"""So many rows must lie where they should."""

LEAST_LEVELS, MOST_LEVELS = 4, 256
"""Fewer values of a head are multiples of anything by chance; more do not fit into 8 bits."""
SAMPLE = 4096

FloatArray = NDArray[np.float32]
Channels = Mapping[int, int] | None


def noise_to_signal(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Mean squared difference over the variance of ``expected``: 0 is identical, 1 unrelated.

    Being relative it weighs a fault of values 0..1 like one of values 0..255. 1e6 at most.
    """
    difference = actual.astype(np.float32) - expected.astype(np.float32)
    with np.errstate(over="ignore"):  # floats read as another type may be of any size
        power = float(np.mean(np.square(difference), dtype=np.float64))
    variance = float(np.var(expected, dtype=np.float64))
    if power == 0:
        return 0.0
    return min(1e6, power / variance) if variance > 0 else 1e6


def head_noise(
    actual: Mapping[str, FloatArray], expected: Mapping[str, FloatArray]
) -> dict[str, float]:
    """:func:`noise_to_signal` of every head that ``actual`` holds."""
    return {name: noise_to_signal(values, expected[name]) for name, values in actual.items()}


MOST_STEPS = 32
"""Pixels that a guess of a movement is walked at most."""


def movement(actual: NDArray[Any], expected: NDArray[Any]) -> tuple[int, int]:
    """How many pixels down and right a picture ``[H,W,3]`` lies from where ``expected`` has it,
    whatever the order of its channels; (0, 0) if no movement by up to a third takes half of the
    difference away. Guessed by phase correlation and by plain correlation (which smooth pictures
    need), then walked downhill."""
    a, e = (v.astype(np.float32).mean(-1) for v in (actual, expected))
    limit = min(a.shape) // 3
    (dy, dx), _ = estimate_shift(a, e, limit)
    guesses = {(round(dy), round(dx)), whole_shift(a, e, limit, phase=False)}
    found = [_downhill(a, e, guess, limit) for guess in guesses]
    best = min(found, key=lambda yx: _left_over(a, e, yx))
    return best if _left_over(a, e, best) < 0.5 * _left_over(a, e, (0, 0)) else (0, 0)


def _downhill(a: FloatArray, e: FloatArray, start: tuple[int, int], limit: int) -> tuple[int, int]:
    """From a guess, by single pixels, to where nothing around is better, within ±``limit``."""
    here, known = start, {start: _left_over(a, e, start)}
    for _ in range(MOST_STEPS):
        y, x = here
        around = [(y + j, x + i) for j in (-1, 0, 1) for i in (-1, 0, 1)]
        around = [yx for yx in around if max(map(abs, yx)) <= limit]
        for yx in around:
            if yx not in known:
                known[yx] = _left_over(a, e, yx)
        best = min(around, key=lambda yx: (known[yx], yx != here))
        if best == here:
            break
        here = best
    return here


def _left_over(a: FloatArray, e: FloatArray, moved: tuple[int, int]) -> float:
    """The mean squared difference once ``e`` has moved, black where it came from."""
    (dy, dx), (h, w) = moved, e.shape
    shifted = np.zeros_like(e)
    shifted[max(0, dy) : h + min(0, dy), max(0, dx) : w + min(0, dx)] = e[
        max(0, -dy) : h - max(0, dy), max(0, -dx) : w - max(0, dx)
    ]
    return float(np.square(a - shifted).mean())


def row_padding(actual: NDArray[Any], expected: NDArray[Any]) -> int | None:
    """How many values lie behind each row of the buffer that ``actual`` ``[h,…]`` was copied from
    as if there were none, as ``expected`` shows; below 0 if they were stepped over and none were
    there. None if its rows do not lie so. What the padding holds does not matter.
    """
    a, e = (v.reshape(len(v), -1).astype(np.float32) for v in (actual, expected))
    if a.shape != e.shape or len(e) < 8:
        return None
    forth, back = _stride_error(a, e), _stride_error(e, a)
    here = forth[0]
    best = min((float(forth[p]), p) for p in range(1, len(forth)))
    other = min((float(back[p]), -p) for p in range(1, len(back)))
    error, padding = min(best, other)
    return padding if error < 0.2 and error < 0.5 * here else None


def _stride_error(buffer: FloatArray, rows: FloatArray) -> FloatArray:
    """By padding 0, 1, …: the mean squared difference between rows and what lies in the buffer
    where they would, over the rows' variance; infinity where too few rows fit."""
    h, length = rows.shape
    flat = buffer.reshape(-1)
    paddings = np.arange(min(MOST_PADDING, (flat.size - length) // LEAST_ROWS - length) + 1)
    if len(paddings) < 2:
        return np.full(2, np.inf, np.float32)
    columns = np.unique(np.linspace(min(1, length - 1), length - 1, 96).astype(np.intp))
    first = np.arange(1, min(h, 2 * LEAST_ROWS))  # all that fit where much lies between
    looked_at = np.unique([*first, *np.linspace(1, h - 1, 40).astype(np.intp)])
    total = np.zeros(len(paddings))
    power, count = np.zeros(len(paddings)), np.zeros(len(paddings), np.intp)
    mean = rows.mean()
    for y in looked_at:
        fits = paddings[paddings <= (flat.size - length) // y - length]
        if not len(fits):
            break
        read = flat[(y * (length + fits))[:, None] + columns]
        total[: len(fits)] += np.square(read - rows[y, columns]).sum(1)
        power[: len(fits)] += float(np.square(rows[y, columns] - mean).sum())
        count[: len(fits)] += 1
    least = 0.05 * float(rows.var()) * len(columns) * np.maximum(count, 1)
    error = total / np.maximum(np.maximum(power, least), 1e-12)
    return np.where(count >= LEAST_ROWS, error, np.inf).astype(np.float32)


def map_difference(
    actual: NDArray[np.integer[Any]],
    expected: NDArray[np.integer[Any]],
    channels: tuple[Channels, Channels] = (None, None),
) -> float:
    """Share of pixels whose segment is not matched (IoU above one half), 0..1.

    Ids need not agree. Where both maps tell their segments' channels, segments match only within
    one. Ids are small numbers from 0 (void).
    """
    if actual.shape != expected.shape:
        return 1.0
    n, m = int(actual.max()) + 1, int(expected.max()) + 1
    index = actual.astype(np.intp).ravel() * m + expected.ravel()
    joint = np.bincount(index, minlength=n * m).reshape(n, m)
    union = joint.sum(1)[:, None] + joint.sum(0)[None, :] - joint
    match = joint * 2 > union
    match[0, :] = match[:, 0] = False
    own, theirs = channels
    if own is not None and theirs is not None:
        a = np.array([own.get(i, -1) for i in range(n)])
        b = np.array([theirs.get(i, -2) for i in range(m)])
        match &= a[:, None] == b[None, :]
    match[0, 0] = True  # void in both
    return 1 - float(joint[match].sum()) / actual.size


def is_half_precision(values: NDArray[Any]) -> bool:
    """Whether floats carry no more than half precision's eleven bits."""
    if values.dtype == np.float16:
        return True
    if values.dtype != np.float32 or np.abs(values).max() > 65504:
        return False
    return bool((values == values.astype(np.float16)).mean() > 0.999)


def saturation(values: FloatArray, expected: FloatArray) -> float | None:
    """The magnitude at which values are cut off, or None: several lie exactly there, and
    ``expected`` goes on beyond it."""
    limit = float(np.abs(values).max())
    at_limit = np.abs(values) >= limit * (1 - 1e-6)
    beyond = np.abs(expected) > limit * 1.001
    if limit == 0 or at_limit.sum() < 4 or (at_limit & beyond).sum() < 0.9 * at_limit.sum():
        return None
    return limit


def joint_step(heads: Mapping[str, NDArray[Any]]) -> float | None:
    """The step that all values of all heads are multiples of, if 8 bits hold them: the heads were
    quantised together, or read wrongly. None for integers, single heads, and heads with steps of
    their own."""
    if len(heads) < 2 or any(v.dtype.kind != "f" for v in heads.values()):
        return None
    if any(len(np.unique(v.reshape(-1)[:SAMPLE])) > MOST_LEVELS for v in heads.values()):
        return None  # what most float heads show at once
    levels = [np.unique(v).astype(np.float64) for v in heads.values()]
    if any(not LEAST_LEVELS <= len(v) <= MOST_LEVELS for v in levels):
        return None
    every = np.unique(np.concatenate(levels))
    gaps = np.diff(every)
    step = float(gaps[gaps > 1e-4 * np.abs(every).max()].min(initial=np.inf))
    if not np.isfinite(step) or every[-1] - every[0] > 256.5 * step:
        return None
    for own in levels:
        if np.abs(own / step - np.rint(own / step)).max() > 0.02:
            return None
    return step


def looks_like_a_photo(values_hwc: FloatArray) -> bool:
    """Whether values are those of a natural picture: 0..255, contrast, and smooth."""
    if values_hwc.min() < -0.5 or values_hwc.max() > 255.5 or values_hwc.std() < 8:
        return False
    return _smoothness(values_hwc.mean(-1)) > 0.8


def _smoothness(plane: FloatArray) -> float:
    """The lower of the correlations between neighbours, down and across."""
    return min(_correlation(plane[1:], plane[:-1]), _correlation(plane[:, 1:], plane[:, :-1]))


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    x, y = a.astype(np.float64) - a.mean(), b.astype(np.float64) - b.mean()
    norm = float(np.sqrt(np.square(x).sum() * np.square(y).sum()))
    return float((x * y).sum()) / norm if norm > 0 else 0.0


def same_scene(values_hwc: FloatArray, picture_hwc: NDArray[Any]) -> float:
    """How strongly two pictures show the same thing, moved or zoomed: the highest correlation of
    their details over shifts and scales from 1/2 to 2. Black margins are left out."""
    a = _details(_trimmed(values_hwc))
    picture = _trimmed(picture_hwc)
    return max(_peak(a, _details(picture, 2 ** (step / 12))) for step in range(-12, 13))


def same_colors(values_hwc: FloatArray, picture_hwc: NDArray[Any]) -> float:
    """The share of pixels that two pictures have in common when only colours count, 0..1."""
    shares = []
    for picture in (values_hwc, picture_hwc):
        codes = np.clip(_trimmed(picture), 0, 255).astype(np.intp) // 43  # six steps a channel
        index = (codes[..., 0] * 6 + codes[..., 1]) * 6 + codes[..., 2]
        shares.append(np.bincount(index.ravel(), minlength=216) / index.size)
    return float(np.minimum(*shares).sum())


def _trimmed(picture_hwc: NDArray[Any]) -> NDArray[Any]:
    """The picture without the black rows and columns at its ends."""
    lit = picture_hwc.max(-1) > 8
    rows, cols = np.flatnonzero(lit.any(1)), np.flatnonzero(lit.any(0))
    if len(rows) < 16 or len(cols) < 16:
        return picture_hwc
    return picture_hwc[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]


def _details(picture_hwc: NDArray[Any], scale: float = 1.0) -> FloatArray:
    """A small grey picture less its blur, over its local contrast: every place counts alike."""
    from PIL import Image, ImageFilter

    grey = Image.fromarray(np.clip(np.round(picture_hwc.mean(-1)), 0, 255).astype(np.uint8))
    w, h = (max(12, round(v * scale / 3)) for v in grey.size)
    small = grey.resize((w, h), Image.Resampling.BILINEAR)
    detail: FloatArray = np.asarray(small).astype(np.float32)
    detail = detail - np.asarray(small.filter(ImageFilter.GaussianBlur(2.5))).astype(np.float32)
    power = Image.fromarray(np.clip(np.square(detail), 0, 255).astype(np.uint8))
    contrast = np.asarray(power.filter(ImageFilter.GaussianBlur(5))).astype(np.float32)
    detail = np.asarray(detail / np.sqrt(contrast + 4), np.float32)
    return np.asarray(detail - detail.mean())


def _peak(a: FloatArray, b: FloatArray) -> float:
    """The highest correlation of ``b`` laid anywhere over ``a``, by Fourier transform."""
    shape = (a.shape[0] + b.shape[0], a.shape[1] + b.shape[1])

    def across(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(
            np.fft.irfft2(np.fft.rfft2(x, shape) * np.conj(np.fft.rfft2(y, shape)), shape)
        )

    ones_a, ones_b = np.ones_like(a), np.ones_like(b)
    power = across(np.square(a), ones_b) * across(ones_a, np.square(b))
    overlap = across(ones_a, ones_b)
    enough = overlap > 0.4 * min(a.size, b.size)
    product = across(a, b)
    score = np.where(enough & (power > 1e-3), product / np.sqrt(np.maximum(power, 1e-3)), 0)
    return float(np.abs(score).max())  # a negative counts: an inverted picture is the same scene


_UNRELATED = {"semantic": (2.0, 0.5), "center": (2.0, 0.75), "offset": (8.0, 0.7)}
"""By which factor the spread of a head may differ from photo to photo, and how far two photos'
heads correlate by chance: centres are rare everywhere, and offsets point inwards."""


def of_another_network(
    actual: Mapping[str, FloatArray], expected: Mapping[str, FloatArray]
) -> bool:
    """Whether heads are those of another network that saw the same: each as spread and as smooth as
    the expected one and like it, in every channel a little otherwise, and not by a factor."""
    for name, a in actual.items():
        b = expected[name]
        ratio = float(a.std() / max(float(b.std()), 1e-9))
        if not 0.4 < ratio < 2.5 or not 0.3 < _correlation(a, b) < 0.998:
            return False
        for channel in range(a.shape[-1]):
            own, other = a[..., channel], b[..., channel]
            if other.std() < 0.02 * b.std():
                continue
            if _correlation(own, other) > 0.9999 or _smoothness(own) < 0.6 * _smoothness(other):
                return False
        strongest = int(b.std((0, 1)).argmax())
        if _shift(a[..., strongest], b[..., strongest]) > 1:
            return False
    return bool(actual)


def _shift(a: FloatArray, b: FloatArray) -> int:
    """By how many cells, in rows or columns, the one lies beside the other where they are alike the
    most; they wrap round."""
    spectra = [np.fft.rfft2(plane - plane.mean()) for plane in (a, b)]
    likeness = np.fft.irfft2(spectra[0] * spectra[1].conj(), a.shape)
    at = np.unravel_index(int(likeness.argmax()), a.shape)
    return int(max(min(int(i), n - int(i)) for i, n in zip(at, likeness.shape, strict=True)))


def unrelated_heads(actual: Mapping[str, FloatArray], expected: Mapping[str, FloatArray]) -> bool:
    """Whether heads are those of a network that saw something else: spread and smooth as the
    expected ones are, but hardly correlated with them."""
    for name, a in actual.items():
        b, (factor, chance) = expected[name], _UNRELATED[name]
        ratio = float(a.std() / max(float(b.std()), 1e-9))
        if not 1 / factor < ratio < factor:
            return False
        if abs(_correlation(a - a.mean((0, 1)), b - b.mean((0, 1)))) > chance:
            return False
        strongest = int(a.std((0, 1)).argmax())
        if _smoothness(a[..., strongest]) < 0.8:
            return False
    if "semantic" not in actual:
        return True
    shares = []
    for heads in (actual, expected):  # the same classes in other places are the same scene
        classes = heads["semantic"].argmax(-1).ravel()
        count = heads["semantic"].shape[-1]
        shares.append(np.bincount(classes, minlength=count) / classes.size)
    return float(np.minimum(*shares).sum()) < 0.8
