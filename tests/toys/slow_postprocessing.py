"""The normative postprocessing again, in plain loops: slow and obviously right.

Written from the text in docs/port.md alone; shares no code with the reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import Heads, PostprocessConfig
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import Taxonomy

F = np.float32


def taps(n_in: int, n_out: int, i: int) -> tuple[int, int, np.float32]:
    at = (i + 0.5) * (n_in / n_out) - 0.5
    at = min(max(at, 0.0), n_in - 1.0)
    low = math.floor(at)
    return low, min(low + 1, n_in - 1), F(at - low)


def sample(values: NDArray[np.float32], out_hw: tuple[int, int], y: int, x: int) -> np.float32:
    """One value of a plane ``[h,w]``, resized: along x first, then y."""
    h, w = values.shape
    if (h, w) == out_hw:
        return values[y, x]
    x0, x1, fx = taps(w, out_hw[1], x)
    y0, y1, fy = taps(h, out_hw[0], y)
    upper = F(values[y0, x0] + F(F(values[y0, x1] - values[y0, x0]) * fx))
    lower = F(values[y1, x0] + F(F(values[y1, x1] - values[y1, x0]) * fx))
    return F(upper + F(F(lower - upper) * fy))


def inside(transform: TransformRecord, y2: int, x2: int, n: int, m: int) -> bool:
    """Whether the centre of cell (y, x) of an n × m grid lies on the photo; y2 = 2y + 1."""
    (w_in, h_in), (cw, ch) = transform.input_wh, transform.content_wh
    in_y = transform.top * 2 * n <= y2 * h_in < (transform.top + ch) * 2 * n
    in_x = transform.left * 2 * m <= x2 * w_in < (transform.left + cw) * 2 * m
    return in_y and in_x


@dataclass
class SlowResult:
    """The id map, (id, channel, area, score) of every segment, and the intermediates by the names
    that ``postprocess(explain=True)`` gives them."""

    ids: NDArray[np.int32]
    segments: list[tuple[int, int, int, float]]
    explain: dict[str, NDArray[Any]]


def slow_postprocess(
    heads: Heads, taxonomy: Taxonomy, transform: TransformRecord, config: PostprocessConfig
) -> SlowResult:
    """The whole decoding; an overflow to infinity is part of it (votes that lie far out)."""
    with np.errstate(over="ignore"):
        return _decode(heads, taxonomy, transform, config)


def _decode(
    heads: Heads, taxonomy: Taxonomy, transform: TransformRecord, config: PostprocessConfig
) -> SlowResult:
    (w_in, h_in) = transform.input_wh
    h, w, channels = heads.semantic.shape
    grid = (h_in, w_in) if config.grid == "input" else (h, w)
    step_y, step_x = F(h_in / grid[0]), F(w_in / grid[1])

    logits = np.zeros((*grid, channels), np.float32)
    classes = np.full(grid, -1)
    for y in range(grid[0]):
        for x in range(grid[1]):
            for c in range(channels):
                logits[y, x, c] = sample(heads.semantic[:, :, c], grid, y, x)
            if inside(transform, 2 * y + 1, 2 * x + 1, *grid):
                best = 0
                for c in range(1, channels):
                    if logits[y, x, c] > logits[y, x, best]:
                        best = c
                classes[y, x] = best

    score = np.zeros((h, w), np.float32)
    for y in range(h):
        for x in range(w):
            v = min(max(float(heads.center[y, x]), -700.0), 700.0)
            score[y, x] = F(1.0 / (1.0 + np.exp(np.float64(-v))))
    found: list[tuple[np.float32, int]] = []
    r = config.window // 2
    for y in range(h):
        for x in range(w):
            s = score[y, x]
            if s < F(config.threshold) or not inside(transform, 2 * y + 1, 2 * x + 1, h, w):
                continue
            beaten = False
            for v in range(max(0, y - r), min(h, y + r + 1)):
                for u in range(max(0, x - r), min(w, x + r + 1)):
                    other, earlier = score[v, u], v * w + u < y * w + x
                    beaten |= bool(other > s or (other == s and earlier))
            if not beaten:
                found.append((s, y * w + x))
    found.sort(key=lambda item: (-item[0], item[1]))
    found = found[: config.top_k]
    cy = [F(F(i // w + 0.5) * F(h_in / h)) for _, i in found]
    cx = [F(F(i % w + 0.5) * F(w_in / w)) for _, i in found]

    votes = np.full(grid, -1)
    offset = np.zeros((*grid, 2), np.float32)
    for y in range(grid[0]):
        for x in range(grid[1]):
            for axis in range(2):
                offset[y, x, axis] = sample(heads.offset[:, :, axis], grid, y, x)
            c = classes[y, x]
            if c < 0 or not taxonomy.categories[c].is_thing or not found:
                continue
            py = F(F(F(y + 0.5) * step_y) + offset[y, x, 0])
            px = F(F(F(x + 0.5) * step_x) + offset[y, x, 1])
            nearest, least = 0, F(np.inf)
            for k in range(len(found)):
                dy, dx = F(py - cy[k]), F(px - cx[k])
                distance = F(F(dy * dy) + F(dx * dx))
                if distance < least:
                    nearest, least = k, distance
            votes[y, x] = nearest

    ids = np.zeros(grid, np.int32)
    segments: list[tuple[int, int, int, float]] = []

    def probability(mask: NDArray[np.bool_], channel: int) -> float:
        total = 0.0
        for v in logits[mask].astype(np.float64):
            e = np.exp(v - v.max())
            total += float(e[channel] / e.sum())
        return total / int(mask.sum())

    for k in range(len(found)):
        mask = votes == k
        area = int(mask.sum())
        if area == 0 or area < config.min_thing_area:
            continue
        counts = {c: int((classes[mask] == c).sum()) for c in range(channels)}
        top = min(counts, key=lambda c: (-counts[c], taxonomy.categories[c].id))
        value = float(found[k][0]) * probability(mask, top)
        if value < config.min_thing_score:
            continue
        ids[mask] = len(segments) + 1
        segments.append((len(segments) + 1, top, area, value))
    stuff = [c for c in range(channels) if not taxonomy.categories[c].is_thing]
    for c in sorted(stuff, key=lambda c: taxonomy.categories[c].id):
        mask = classes == c
        area = int(mask.sum())
        if area == 0 or area < config.min_stuff_area:
            continue
        ids[mask] = len(segments) + 1
        segments.append((len(segments) + 1, c, area, probability(mask, c)))
    explain = {
        "semantic": logits,
        "offset": offset,
        "class_map": classes,
        "scores": score,
        "centers": np.array([divmod(i, w) for _, i in found]).reshape(-1, 2),
        "center_scores": np.array([s for s, _ in found], np.float32),
        "votes": votes,
    }
    return SlowResult(ids, segments, explain)
