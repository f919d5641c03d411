"""The decoding of queries once more, pixel by pixel in plain loops: the twin that the fast one is
held against. It shares no code with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import MaskQueriesConfig
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import Taxonomy

f32 = np.float32


def _position(i: int, n_in: int, n_out: int, corners: bool) -> float:
    if corners:
        return i * (n_in - 1) / (n_out - 1) if n_out > 1 else 0.0
    return (i + 0.5) * (n_in / n_out) - 0.5


def _taps(at: float, first: int, last: int) -> tuple[int, int, Any]:
    at = min(max(at, first), last)
    low = math.floor(at)
    return low, min(low + 1, last), f32(at - low)


def _sample(plane: NDArray[Any], row: tuple[int, int, Any], col: tuple[int, int, Any]) -> Any:
    (y0, y1, fy), (x0, x1, fx) = row, col
    upper = plane[y0, x0] + (plane[y0, x1] - plane[y0, x0]) * fx
    lower = plane[y1, x0] + (plane[y1, x1] - plane[y1, x0]) * fx
    return upper + (lower - upper) * fy


def _activated(values: list[Any], kind: str) -> list[Any]:
    """Of one pixel, over all queries."""
    if kind == "sigmoid":
        return [f32(1 / (1 + math.exp(-min(max(float(v), -700), 700)))) for v in values]
    top = max(float(v) for v in values)
    e = [math.exp(float(v) - top) for v in values]
    # The sum of an array, in the order in which NumPy takes it.
    total = float(np.array(e)[:, None].sum(0)[0])
    return [f32(v / total) for v in e]


def _mixed(
    plane: NDArray[Any], axis: int, start: int, length: int, n_out: int, size: int
) -> NDArray[Any]:
    """One axis of a plane to ``n_out`` pixels: means of cells where that is fewer, else between
    two."""
    n = plane.shape[axis]
    cells = (length / n_out) * (n / size)
    lines = []
    for i in range(n_out):
        center = ((i + 0.5) * (length / n_out) + start) * (n / size)
        if cells <= 1:
            low, high, f = _taps(center - 0.5, 0, n - 1)
            a, b = plane.take(low, axis), plane.take(high, axis)
            lines.append(a + (b - a) * f)
            continue
        weights = [max(0.0, 1 - abs(j + 0.5 - center) / cells) for j in range(n)]
        mixed = np.zeros(plane.shape[1 - axis])
        for j, weight in enumerate(weights):
            mixed += plane.take(j, axis).astype(np.float64) * (weight / sum(weights))
        lines.append(mixed.astype(np.float32))
    return np.stack(lines, axis)


def mask_probabilities(
    masks: NDArray[Any], transform: TransformRecord, config: MaskQueriesConfig
) -> NDArray[Any]:
    """Probabilities ``[Q,rows,cols]`` on the photo's part of the decode grid."""
    planes = [masks[:, :, q] for q in range(masks.shape[2])]
    w_in, h_in = transform.input_wh
    corners = config.align_corners and w_in % 2 == 1
    if config.mask_grid != "head":
        w, h = (w_in, h_in) if config.mask_grid == "input" else config.mask_grid
        resized = []
        for plane in planes:
            out = np.empty((h, w), np.float32)
            for y in range(h):
                row = _taps(_position(y, plane.shape[0], h, corners), 0, plane.shape[0] - 1)
                for x in range(w):
                    col = _taps(_position(x, plane.shape[1], w, corners), 0, plane.shape[1] - 1)
                    out[y, x] = _sample(plane, row, col)
            resized.append(out)
        planes = resized
    if not config.activate_last:
        stacked = np.array(planes)
        for y in range(stacked.shape[1]):
            for x in range(stacked.shape[2]):
                stacked[:, y, x] = _activated(list(stacked[:, y, x]), config.activation)
        planes = list(stacked)
    left, top, (cw, ch) = transform.left, transform.top, transform.content_wh
    ow, oh = transform.photo_wh if config.grid == "photo" else (cw, ch)
    gh, gw = planes[0].shape
    result = np.empty((len(planes), oh, ow), np.float32)
    if config.antialias and ((ch / oh) * (gh / h_in) > 1 or (cw / ow) * (gw / w_in) > 1):
        planes = [_mixed(p, 1, left, cw, ow, w_in) for p in planes]
        planes = [_mixed(p, 0, top, ch, oh, h_in) for p in planes]
        return np.array(planes)
    for y in range(oh):
        for x in range(ow):
            if config.crop_first:
                row = _taps(top + _position(y, ch, oh, corners), top, top + ch - 1)
                col = _taps(left + _position(x, cw, ow, corners), left, left + cw - 1)
            else:
                row = _taps(((y + 0.5) * (ch / oh) + top) * (gh / h_in) - 0.5, 0, gh - 1)
                col = _taps(((x + 0.5) * (cw / ow) + left) * (gw / w_in) - 0.5, 0, gw - 1)
            values = [_sample(plane, row, col) for plane in planes]
            result[:, y, x] = (
                _activated(values, config.activation) if config.activate_last else values
            )
    return result


def decode(
    classes: NDArray[Any],
    masks: NDArray[Any],
    taxonomy: Taxonomy,
    transform: TransformRecord,
    config: MaskQueriesConfig,
) -> tuple[NDArray[Any], dict[int, tuple[int, int]]]:
    """Ids ``[rows,cols]`` on the photo's part of the grid; of each segment channel and area."""
    p = mask_probabilities(masks, transform, config)
    kept: list[tuple[int, int, Any]] = []  # query, channel, score
    for q, row in enumerate(classes):
        if config.classes == "labels":
            label, score = math.floor(float(row[0]) + 0.5), f32(row[1])
            if not 0 <= label < (len(config.columns) or len(taxonomy)):
                continue
            channel = config.columns[label] if config.columns else label
            if score > f32(config.threshold):
                kept.append((q, channel, score))
            continue
        if any(math.isnan(float(v)) for v in row):
            continue
        if config.classes == "softmax":
            e = np.exp(row.astype(np.float64) - float(row.max()))
            scores = [f32(v) for v in e / e.sum()]
        elif config.classes == "sigmoid":
            scores = [f32(1 / (1 + math.exp(-float(v)))) for v in row]
        else:
            scores = list(row)
        if config.owner == "first" and config.no_object:
            scores = scores[:-1]
        best = max(range(len(scores)), key=lambda c: (scores[c], -c))
        if config.no_object and best == len(row) - 1:
            continue
        channel = config.columns[best] if config.columns else best
        least = config.threshold
        is_stuff = channel < 0 or not taxonomy.thing_mask[channel]
        if is_stuff and config.stuff_threshold is not None:
            least = config.stuff_threshold
        if scores[best] > f32(least):
            kept.append((q, channel, scores[best]))
    if config.order == "score":
        kept.sort(key=lambda query: -query[2])
    rows, cols = p.shape[1:]
    limit = f32(config.mask_threshold)
    rank = np.full((rows, cols), -1)
    inside = np.zeros((rows, cols), bool)
    held, order = [0] * len(kept), list(range(len(kept)))
    if config.owner == "best":
        for y in range(rows):
            for x in range(cols):
                best, top = -1, f32(-1)
                for k, (q, _, score) in enumerate(kept):
                    strength = score * p[q, y, x]
                    value = strength if config.weighted else p[q, y, x]
                    if value > limit or (value == limit and config.mask_rule == "at-least"):
                        held[k] += 1
                    if strength > top:
                        best, top = k, strength
                if best >= 0:
                    q, _, score = kept[best]
                    value = top if config.weighted else p[q, y, x]
                    met = config.mask_rule == "at-least"
                    rank[y, x], inside[y, x] = best, bool(value > limit or (met and value == limit))
    else:
        means = []
        for k, (q, _, score) in enumerate(kept):
            mask = p[q] > limit
            held[k] = int(mask.sum())
            means.append(
                score * f32(np.where(mask, p[q], 0).sum(dtype=np.float64) / max(held[k], 1))
            )
        order.sort(key=lambda k: -means[k])
    ids = np.zeros((rows, cols), int)
    segments: dict[int, tuple[int, int]] = {}
    stuff: dict[int, int] = {}
    for k in order:
        q, channel, _ = kept[k]
        mine = (p[q] > limit) & (rank < 0) if config.owner == "first" else rank == k
        owned = int(mine.sum())
        if not owned or not held[k] or not _enough(owned, held[k], config):
            continue
        if config.owner == "first":
            rank[mine] = k
        painted = mine & inside if config.painted == "inside" and config.owner == "best" else mine
        area = int(painted.sum())
        if channel < 0 or not area:
            continue
        is_thing = bool(taxonomy.thing_mask[channel])
        if area < (config.min_thing_area if is_thing else config.min_stuff_area):
            continue
        if not is_thing and channel in stuff:
            at = stuff[channel]
        else:
            at = len(segments) + 1
            segments[at] = (channel, 0)
            if not is_thing:
                stuff[channel] = at
        segments[at] = (channel, segments[at][1] + area)
        ids[painted] = at
    return ids, segments


def _enough(owned: int, held: int, config: MaskQueriesConfig) -> bool:
    if config.overlap_rule == "at-least":
        return not owned / held < config.overlap
    if config.overlap_rule == "ratio-above":
        return float(f32(owned) / f32(held)) > config.overlap
    return bool(f32(owned) > f32(held) * f32(config.overlap))
