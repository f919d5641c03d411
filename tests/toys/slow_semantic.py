"""The decoding of classes (``semantic``) again, in plain loops: slow and obviously right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import SemanticConfig
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import Taxonomy

F = np.float32


def position(n_in: int, n_out: int, i: int, aligned: bool) -> float:
    """Where pixel ``i`` of ``n_out`` lies among ``n_in`` cells, counted in cell numbers."""
    if aligned:
        return i * ((n_in - 1) / (n_out - 1)) if n_out > 1 else 0.0
    return min(max((i + 0.5) * (n_in / n_out) - 0.5, 0.0), n_in - 1.0)


def bilinear(
    plane: NDArray[np.float32], out_hw: tuple[int, int], y: int, x: int, aligned: bool = False
) -> np.float32:
    """One value of a plane ``[h,w]`` resized to ``out_hw``: along x first, then y."""
    h, w = plane.shape
    if (h, w) == out_hw:
        return plane[y, x]
    at_y, at_x = position(h, out_hw[0], y, aligned), position(w, out_hw[1], x, aligned)
    y0, x0 = min(math.floor(at_y), h - 1), min(math.floor(at_x), w - 1)
    y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
    fy, fx = F(at_y - y0), F(at_x - x0)
    upper = F(plane[y0, x0] + F(F(plane[y0, x1] - plane[y0, x0]) * fx))
    lower = F(plane[y1, x0] + F(F(plane[y1, x1] - plane[y1, x0]) * fx))
    return F(upper + F(F(lower - upper) * fy))


def nearest(n_in: int, n_out: int, i: int, aligned: bool) -> int:
    if aligned:
        at = Fraction(i * (n_in - 1), n_out - 1) if n_out > 1 else Fraction(0)
        return math.floor(at + Fraction(1, 2))
    return math.floor(Fraction(2 * i + 1, 2) * Fraction(n_in, n_out))


@dataclass
class SlowSemantic:
    """``channel`` and ``column`` ``[H,W]`` (-1 = void, padding), ``probability`` ``[H,W]``, ``ids``
    ``[H,W]``, and (id, channel, area, score) of every segment."""

    channel: NDArray[np.int32]
    column: NDArray[np.int32]
    probability: NDArray[np.float64]
    ids: NDArray[np.int32]
    segments: list[tuple[int, int, int, float]]


def slow_semantic(
    semantic: NDArray[Any],
    taxonomy: Taxonomy,
    transform: TransformRecord,
    config: SemanticConfig,
) -> SlowSemantic:
    w_in, h_in = transform.input_wh
    cw, ch = transform.content_wh
    columns = config.columns or tuple(range(len(taxonomy)))
    channel = np.full((h_in, w_in), -1, np.int32)
    column = np.full((h_in, w_in), -1, np.int32)
    probability = np.zeros((h_in, w_in))
    for y in range(transform.top, transform.top + ch):
        for x in range(transform.left, transform.left + cw):
            if config.input == "labels":
                row = nearest(semantic.shape[0], h_in, y, config.align_corners)
                col = nearest(semantic.shape[1], w_in, x, config.align_corners)
                best, p = int(semantic[row, col]), 1.0
            else:
                values = [
                    bilinear(semantic[:, :, c], (h_in, w_in), y, x, config.align_corners)
                    for c in range(semantic.shape[2])
                ]
                best = 0
                for c, value in enumerate(values):
                    if value > values[best]:
                        best = c
                p = float(values[best])
                if config.input == "logits":
                    p = 1 / sum(math.exp(float(v) - float(values[best])) for v in values)
                if config.threshold is not None and values[best] < F(config.threshold):
                    column[y, x], probability[y, x] = best, p
                    continue
            column[y, x], probability[y, x] = best, p
            channel[y, x] = columns[best] if 0 <= best < len(columns) else -1
    ids = np.zeros((h_in, w_in), np.int32)
    segments: list[tuple[int, int, int, float]] = []
    for category in sorted(taxonomy, key=lambda c: c.id):
        c = taxonomy.channel(category.id)
        pixels = [(y, x) for y in range(h_in) for x in range(w_in) if channel[y, x] == c]
        if not pixels or len(pixels) < config.min_area:
            continue
        for at in pixels:
            ids[at] = len(segments) + 1
        score = sum(float(probability[at]) for at in pixels) / len(pixels)
        segments.append((len(segments) + 1, c, len(pixels), score))
    return SlowSemantic(channel, column, probability, ids, segments)
