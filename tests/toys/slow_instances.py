"""The decoding of instances and their merge with classes again, in plain loops over pixels: slow
and obviously right. Reads the network's tensors by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import InstancesConfig, MergeConfig
from panokit.preprocessing import TransformRecord
from panokit.taxonomy import Taxonomy
from tests.toys.slow_semantic import bilinear

F = np.float32
Arrays = Mapping[str, NDArray[np.float32]]
Box = tuple[np.float32, np.float32, np.float32, np.float32]


@dataclass
class SlowInstance:
    """An instance: ``mask`` bool ``[H,W]`` on the input."""

    index: int
    column: int
    channel: int
    score: np.float32
    box: Box
    mask: NDArray[np.bool_]


@dataclass
class SlowResult:
    """Anchors before and after the suppression, the instances, the map, and (id, channel, area,
    score) of every segment."""

    detections: list[tuple[int, int]]
    kept: list[tuple[int, int]]
    instances: list[SlowInstance]
    ids: NDArray[np.int32]
    segments: list[tuple[int, int, int, float]]


def probability(x: np.float32) -> np.float32:
    return F(1.0 / (1.0 + math.exp(-min(max(float(x), -700.0), 700.0))))


@dataclass
class Reader:
    """The numbers of one anchor, wherever they lie."""

    anchors: int
    classes: int
    prototypes: int
    box: Callable[[int], list[np.float32]]
    objectness: Callable[[int], np.float32]
    score: Callable[[int, int], np.float32]
    coefficient: Callable[[int, int], np.float32]
    label: Callable[[int], np.float32]


def reader(arrays: Arrays, layout: str, config: InstancesConfig) -> Reader:
    def at(name: str, anchor: int, k: int) -> np.float32:
        tensor = arrays[name][0]
        return tensor[k, anchor] if config.anchors_last else tensor[anchor, k]

    def sizes(name: str) -> tuple[int, int]:
        shape = arrays[name].shape[1:]
        return (shape[1], shape[0]) if config.anchors_last else (shape[0], shape[1])

    m = 0
    if config.masks == "prototypes":
        m = arrays["prototypes"].shape[3 if layout == "nhwc" else 1]
    if config.tensors == "split":
        return Reader(
            *sizes("scores"),
            m,
            lambda a: [at("boxes", a, k) for k in range(4)],
            lambda a: F(1),
            lambda a, c: at("scores", a, c),
            lambda a, k: at("coefficients", a, k),
            lambda a: F(0),
        )
    anchors, numbers = sizes("detections")
    first = 5 if config.objectness else 4
    return Reader(
        anchors,
        1 if config.tensors == "rows" else numbers - first - m,
        m,
        lambda a: [at("detections", a, k) for k in range(4)],
        lambda a: at("detections", a, 4) if config.objectness else F(1),
        lambda a, c: at("detections", a, first + c),
        lambda a, k: at("detections", a, numbers - m + k),
        lambda a: at("detections", a, 5),
    )


def class_scores(read: Reader, a: int, config: InstancesConfig) -> list[np.float32]:
    values = [read.score(a, c) for c in range(read.classes)]
    if config.classes == "sigmoid":
        values = [v if np.isnan(v) else probability(v) for v in values]
    elif config.classes == "softmax":
        e = [math.exp(float(v) - max(float(u) for u in values)) for v in values]
        values = [F(v / sum(e)) for v in e]
    if config.background == "first":
        values = values[1:]
    elif config.background == "last":
        values = values[:-1]
    return [F(v * read.objectness(a)) for v in values]


def corners(read: Reader, a: int, transform: TransformRecord, config: InstancesConfig) -> Box:
    w, h = transform.input_wh
    p, q, r, s = read.box(a)
    if config.box == "distances":
        i = a
        for stride in config.strides:
            cells = (h // stride) * (w // stride)
            if i < cells:
                break
            i -= cells
        x, y = F(i % (w // stride) + 0.5), F(i // (w // stride) + 0.5)
        t = F(stride)
        return F(F(x - p) * t), F(F(y - q) * t), F(F(x + r) * t), F(F(y + s) * t)
    if config.box_unit == "input":
        p, q, r, s = F(p * F(w)), F(q * F(h)), F(r * F(w)), F(s * F(h))
    if config.box == "corners":
        return p, q, r, s
    return F(p - F(r / 2)), F(q - F(s / 2)), F(p + F(r / 2)), F(q + F(s / 2))


def overlaps(a: Box, b: Box, most: np.float32) -> bool:
    w = max(F(min(a[2], b[2]) - max(a[0], b[0])), F(0))
    h = max(F(min(a[3], b[3]) - max(a[1], b[1])), F(0))
    shared = F(w * h)
    areas = [F(F(o[2] - o[0]) * F(o[3] - o[1])) for o in (a, b)]
    union = F(F(areas[0] + areas[1]) - shared)
    if union == 0:
        return bool(shared > 0)
    return bool(F(shared / union) > most)


def mask_of(
    arrays: Arrays,
    layout: str,
    read: Reader,
    a: int,
    box: Box,
    transform: TransformRecord,
    config: InstancesConfig,
) -> NDArray[np.bool_]:
    (w_in, h_in), (cw, ch) = transform.input_wh, transform.content_wh
    tensor = arrays["prototypes" if config.masks == "prototypes" else "masks"][0]
    h, w = tensor.shape[:2] if layout == "nhwc" else tensor.shape[1:]
    plane = np.zeros((h, w), np.float32)
    for y in range(h):
        for x in range(w):
            cell = tensor[y, x] if layout == "nhwc" else tensor[:, y, x]
            if config.masks == "direct":
                value = cell[a]
            else:
                value = F(
                    sum(float(cell[k]) * float(read.coefficient(a, k)) for k in range(len(cell)))
                )
            if config.activation == "sigmoid":
                value = probability(value)
            if config.crop == "before":
                fx, fy = F(w / w_in), F(h / h_in)
                in_x = F(box[0] * fx) <= x < F(box[2] * fx)
                in_y = F(box[1] * fy) <= y < F(box[3] * fy)
                value = value if in_x and in_y else F(0)
            plane[y, x] = value
    mask = np.zeros((h_in, w_in), bool)
    for y in range(transform.top, transform.top + ch):
        for x in range(transform.left, transform.left + cw):
            outside = not (box[0] <= x < box[2] and box[1] <= y < box[3])
            if config.crop == "after" and outside:
                continue
            mask[y, x] = bilinear(plane, (h_in, w_in), y, x) > F(config.mask_threshold)
    return mask


def slow_instances(
    arrays: Arrays,
    layout: str,
    taxonomy: Taxonomy,
    transform: TransformRecord,
    config: InstancesConfig,
) -> SlowResult:
    read = reader(arrays, layout, config)
    columns = config.columns or tuple(range(len(taxonomy)))
    found: list[tuple[np.float32, int, int]] = []
    for a in range(read.anchors):
        if config.objectness and not read.objectness(a) > F(config.threshold):
            continue
        scores = class_scores(read, a, config)
        if config.tensors == "rows":
            if scores[0] > F(config.threshold) and not np.isnan(read.label(a)):
                found.append((scores[0], a, math.floor(float(read.label(a)) + 0.5)))
            continue
        pairs = [c for c in range(len(scores)) if scores[c] > F(config.threshold)]
        if config.choice == "best":
            if any(np.isnan(v) for v in scores):
                continue
            best = max(range(len(scores)), key=lambda c: (scores[c], -c))
            pairs = [best] if best in pairs else []
        found += [(scores[c], a, c) for c in pairs]
    found.sort(key=lambda d: (-d[0], d[1], d[2]))
    found = found[: read.anchors if config.top_k is None else config.top_k]

    kept: list[tuple[np.float32, int, int, Box]] = []
    for score, a, c in found:
        box = corners(read, a, transform, config)
        beaten = config.nms is not None and any(
            (c == other[2] or not config.class_wise) and overlaps(other[3], box, F(config.nms))
            for other in kept
        )
        if not beaten:
            kept.append((score, a, c, box))
    kept = kept[: config.max_count]

    instances = []
    for score, a, c, box in kept:
        if columns[c] < 0:
            continue
        mask = mask_of(arrays, layout, read, a, box, transform, config)
        if mask.sum() >= max(1, config.min_area):
            instances.append(SlowInstance(a, c, columns[c], score, box, mask))
    ids, segments = slow_paint(instances, transform, range(len(instances)), 1.0)
    return SlowResult(
        [(a, c) for _, a, c in found], [(a, c) for _, a, c, _ in kept], instances, ids, segments
    )


def slow_paint(
    instances: list[SlowInstance],
    transform: TransformRecord,
    order: range | list[int],
    overlap: float,
) -> tuple[NDArray[np.int32], list[tuple[int, int, int, float]]]:
    ids = np.zeros(transform.input_wh[::-1], np.int32)
    segments: list[tuple[int, int, int, float]] = []
    for k in order:
        mask = instances[k].mask
        pixels = [(y, x) for y, x in np.ndindex(*mask.shape) if mask[y, x]]
        free = [at for at in pixels if ids[at] == 0]
        if not free or (len(pixels) - len(free)) / len(pixels) > overlap:
            continue
        segments.append(
            (len(segments) + 1, instances[k].channel, len(free), float(instances[k].score))
        )
        for at in free:
            ids[at] = len(segments)
    return ids, segments


def slow_merge(
    instances: list[SlowInstance],
    channel: NDArray[np.int32],
    probability: NDArray[np.float64],
    taxonomy: Taxonomy,
    transform: TransformRecord,
    config: MergeConfig,
) -> tuple[NDArray[np.int32], list[tuple[int, int, int, float]]]:
    """``channel`` and ``probability`` ``[H,W]`` on the whole input, -1 = void."""
    order = [k for k in range(len(instances)) if instances[k].score >= F(config.threshold)]
    if config.order == "score":
        order.sort(key=lambda k: (-instances[k].score, k))
    ids, segments = slow_paint(instances, transform, order, config.overlap)
    (w0, h0), (w, h) = transform.photo_wh, transform.content_wh
    things = ids.copy()
    for category in sorted(taxonomy, key=lambda c: c.id):
        c = taxonomy.channel(category.id)
        pixels = [
            (y, x)
            for y, x in np.ndindex(*ids.shape)
            if channel[y, x] == c and things[y, x] == 0 and not category.is_thing
        ]
        size = len(pixels)
        if config.area_grid == "photo":
            large = size * w0 * h0 >= config.min_stuff_area * w * h
        else:
            large = size >= config.min_stuff_area
        if not pixels or not large:
            continue
        for at in pixels:
            ids[at] = len(segments) + 1
        score = sum(float(probability[at]) for at in pixels) / size
        segments.append((len(segments) + 1, c, size, score))
    return ids, segments
