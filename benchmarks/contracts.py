"""Decoding of other contracts beside Transformers' own code, and beside a plain decode of YOLO-seg
as apps write it, on the same heads in one run, in turns; one thread each. Ratios count."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import (
    INSTANCE_PRESETS,
    MASK_QUERY_PRESETS,
    InstanceHeads,
    Instances,
    MaskQueries,
    QueryHeads,
    Semantic,
    SemanticHeads,
)
from panokit.preprocessing import letterbox
from panokit.taxonomy import Category, Taxonomy

QUERIES, CLASSES, SIDE = 100, 133, 640
PHOTO_WH = (640, 480)
RUNS = 7


def taxonomy(classes: int, things: int) -> Taxonomy:
    """A taxonomy of so many classes, things first."""
    return Taxonomy(
        "toy",
        tuple(
            Category(id=i + 1, name=f"class-{i}", is_thing=i < things, color=(i % 256, 0, 0))
            for i in range(classes)
        ),
    )


def query_heads(seed: int = 0, kept: int = 18) -> tuple[NDArray[Any], NDArray[Any]]:
    """Class logits ``[Q,K]`` and masks ``[h,w,Q]`` as a trained network gives: some queries have a
    class and a place of their own, the others say nothing."""
    rng = np.random.default_rng(seed)
    n = SIDE // 4
    y, x = np.mgrid[:n, :n].astype(np.float32)
    masks = np.full((n, n, QUERIES), -8, np.float32)
    masks += rng.normal(0, 1, masks.shape).astype(np.float32)
    classes = rng.normal(0, 0.5, (QUERIES, CLASSES + 1)).astype(np.float32)
    classes[:, -1] += 9
    across = int(np.ceil(kept**0.5))
    step = n / across
    for place, q in enumerate(rng.permutation(QUERIES)[:kept].tolist()):
        row, column = divmod(place, across)
        away = np.maximum(abs(y - (row + 0.5) * step), abs(x - (column + 0.5) * step))
        masks[..., q] += np.clip(2 * (step / 2 - away) + 8, 0, 16)
        classes[q, rng.integers(CLASSES)] += 16
    return classes, masks


def yolo_heads(seed: int = 0, objects: int = 20) -> tuple[NDArray[Any], NDArray[Any]]:
    """Anchors ``[A,4+80+32]`` and prototypes ``[h,w,32]``, some anchors for each object."""
    rng = np.random.default_rng(seed)
    anchors = sum((SIDE // s) ** 2 for s in (8, 16, 32))
    raw = np.zeros((anchors, 4 + 80 + 32), np.float32)
    raw[:, :2] = rng.uniform(0, SIDE, (anchors, 2))
    raw[:, 2:4] = 20
    raw[:, 4:84] = rng.uniform(0, 0.05, (anchors, 80))
    raw[:, 84:] = rng.normal(0, 1, (anchors, 32))
    for _ in range(objects):
        box = np.concatenate([rng.uniform(80, SIDE - 80, 2), rng.uniform(40, 220, 2)])
        column, coefficients = rng.integers(80), rng.normal(0, 1, 32)
        for anchor in rng.integers(0, anchors, 8):
            raw[anchor, :4] = box + rng.normal(0, 2, 4)
            raw[anchor, 4 + column] = rng.uniform(0.5, 0.95)
            raw[anchor, 84:] = coefficients + rng.normal(0, 0.05, 32)
    prototypes = rng.normal(0, 1, (SIDE // 4, SIDE // 4, 32)).astype(np.float32)
    return raw, prototypes


def plain_yolo(raw: NDArray[Any], prototypes: NDArray[Any]) -> int:
    """YOLO-seg as apps decode it: NumPy for boxes, torch for masks, every mask on the whole
    input."""
    import torch
    from torch.nn import functional as F

    scores = raw[:, 4:84]
    best = scores.argmax(1)
    score = scores[np.arange(len(raw)), best]
    kept = np.flatnonzero(score > 0.25)
    xy, wh = raw[kept, :2], raw[kept, 2:4]
    boxes = np.concatenate([xy - wh / 2, xy + wh / 2], 1) + best[kept, None] * 7680.0
    order = kept_boxes(boxes, score[kept], 0.7)
    chosen = kept[order][:300]
    mixed = torch.tensor(raw[chosen, 84:]) @ torch.tensor(prototypes.reshape(-1, 32)).T
    n = prototypes.shape[0]
    masks = F.interpolate(mixed.view(1, -1, n, n), (SIDE, SIDE), mode="bilinear")[0]
    inside = torch.tensor(boxes[order][:300] - best[chosen, None] * 7680.0, dtype=torch.float32)
    x, y = torch.arange(SIDE)[None, None], torch.arange(SIDE)[None, :, None]
    x0, y0, x1, y1 = (inside[:, i, None, None] for i in range(4))
    cut = (masks > 0) & (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    ids = torch.zeros((SIDE, SIDE), dtype=torch.int32)
    for k in range(len(cut)):
        ids[cut[k] & (ids == 0)] = k + 1
    return int(ids.max())


def kept_boxes(boxes: NDArray[Any], scores: NDArray[Any], limit: float) -> NDArray[np.intp]:
    """Suppression of boxes (x0, y0, x1, y1), the best first."""
    order = np.argsort(-scores)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    found = []
    while len(order):
        i, order = order[0], order[1:]
        found.append(i)
        low, high = (
            np.maximum(boxes[i, :2], boxes[order, :2]),
            np.minimum(boxes[i, 2:], boxes[order, 2:]),
        )
        common = np.clip(high - low, 0, None).prod(1)
        order = order[common / (area[i] + area[order] - common) <= limit]
    return np.array(found)


def transformers_calls(classes: NDArray[Any], masks: NDArray[Any]) -> dict[str, Callable[[], Any]]:
    """Transformers' post-processing of these heads, by preset."""
    import torch
    from transformers import models

    outputs = SimpleNamespace(
        class_queries_logits=torch.tensor(classes)[None],
        masks_queries_logits=torch.tensor(masks.transpose(2, 0, 1).copy())[None],
    )
    stuff, size = set(range(80, CLASSES)), PHOTO_WH[::-1]
    calls: dict[str, Callable[[], Any]] = {}
    for name, kind in (("mask2former", "Mask2Former"), ("maskformer", "MaskFormer")):
        module = getattr(getattr(models, name), f"image_processing_pil_{name}")
        processor = getattr(module, f"{kind}ImageProcessorPil")()
        calls[f"transformers-{name}"] = partial(
            processor.post_process_panoptic_segmentation, outputs,
            label_ids_to_fuse=stuff, target_sizes=[size],
        )  # fmt: skip
    eomt = models.eomt.image_processing_pil_eomt.EomtImageProcessorPil()
    calls["transformers-eomt"] = partial(
        eomt.post_process_panoptic_segmentation, outputs, [size], stuff_classes=sorted(stuff),
        size={"shortest_edge": SIDE, "longest_edge": SIDE},
    )  # fmt: skip
    return calls


def in_turns(ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[float, float]:
    """Median milliseconds of both, called in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for run in range(RUNS + 1):
        for call, found in zip((ours, theirs), times, strict=True):
            started = time.perf_counter()
            call()
            if run:  # the first warms up
                found.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times[0]), 1e3 * statistics.median(times[1])


def compare_semantic() -> None:
    """Classes of each pixel, beside Transformers' post-processing of SegFormer."""
    import torch
    from transformers import SegformerImageProcessorPil

    logits = np.random.default_rng(0).normal(0, 1, (SIDE // 4, SIDE // 4, CLASSES))
    logits = logits.astype(np.float32)
    processor = SegformerImageProcessorPil()
    outputs = SimpleNamespace(logits=torch.tensor(logits.transpose(2, 0, 1).copy())[None])
    transform = letterbox((SIDE, SIDE), (SIDE, SIDE), fit="stretch")
    ours = Semantic(taxonomy(CLASSES, 80), transform)
    heads = SemanticHeads(logits)
    theirs = partial(
        processor.post_process_semantic_segmentation, outputs, target_sizes=[(SIDE, SIDE)]
    )
    same = np.mean(ours.classes(heads).column == theirs()[0].numpy())
    a, b = in_turns(partial(ours.decode, heads), theirs)
    print(f"semantic: {same:.4%} equal, {a:.0f} ms, Transformers {b:.0f} ms: {b / a:.1f} x")


def main() -> None:
    """Print both times and their ratio."""
    import torch

    torch.set_num_threads(1)
    classes, masks = query_heads()
    heads, names = QueryHeads(classes, masks), taxonomy(CLASSES, 80)
    for name, theirs in transformers_calls(classes, masks).items():
        fit = "top-left" if name.endswith("eomt") else "stretch"
        transform = letterbox(PHOTO_WH, (SIDE, SIDE), fit=fit)  # type: ignore[arg-type]
        config = replace(MASK_QUERY_PRESETS[name], grid="photo")
        decoder = MaskQueries(names, transform, config)
        segments = len(decoder.decode(heads).segments)
        a, b = in_turns(partial(decoder.decode, heads), theirs)
        print(f"{name}: {segments} segments, {a:.0f} ms, Transformers {b:.0f} ms: {b / a:.1f} x")
    raw, prototypes = yolo_heads()
    yolo = Instances(
        taxonomy(80, 80),
        letterbox((SIDE, SIDE), (SIDE, SIDE)),
        replace(INSTANCE_PRESETS["yolo-seg"], anchors_last=False),
    )

    def ours() -> Any:
        arrays = {"detections": raw, "prototypes": prototypes}
        return yolo.decode(InstanceHeads.from_arrays(arrays, settings=yolo.settings))

    compare_semantic()
    a, b = in_turns(ours, partial(plain_yolo, raw, prototypes))
    print(f"yolo-seg: {len(ours().segments)} objects, {a:.1f} ms, plain {b:.1f} ms: {b / a:.1f} x")


if __name__ == "__main__":
    main()
