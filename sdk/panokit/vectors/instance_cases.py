"""Cases of the contract ``instances``: detections, suppression, masks and their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import INSTANCE_PRESETS, InstancesConfig
from panokit.decoding.kernels import resize_planes
from panokit.preprocessing import Fit, letterbox
from panokit.vectors.cases import (
    DOG,
    MANY,
    ONLY_THINGS,
    PERSON,
    ContractCase,
    noise,
    raw_bits,
    whole_input,
)  # fmt: skip

__all__ = ["COLUMNS", "instance_cases", "noisy_instances"]

Array = NDArray[np.float32]
Box = tuple[float, float, float, float]
Found = tuple[Box, tuple[float, ...], tuple[float, ...]]
"""A detection of a made scene: corners, class scores, coefficients."""

COLUMNS = (PERSON, DOG)
CLASSES: tuple[Literal["probabilities", "sigmoid", "softmax"], ...] = (
    "probabilities", "sigmoid", "softmax",
)  # fmt: skip
YOLO = replace(INSTANCE_PRESETS["yolo-seg"], columns=COLUMNS)
ROWS = replace(INSTANCE_PRESETS["yolo-seg-end2end"], columns=COLUMNS)
DETR = replace(INSTANCE_PRESETS["rf-detr-seg"], columns=COLUMNS)
SIDE = 16


def instance_cases() -> Iterator[ContractCase]:
    """All of them."""
    yield from _scores()
    yield from _nan()
    yield from _suppression()
    yield from _rounding()
    yield from _masks()
    yield from _rows()
    yield from _pairs()
    yield from _boxes()
    yield from _tables()
    yield from _grids()
    yield from _noise()
    yield from _errors()


def _joined(found: Sequence[Found], prototypes: Array | None = None) -> dict[str, Array]:
    """Heads ``detections`` with centres and sizes; one prototype of ones without others."""
    rows = []
    for (x0, y0, x1, y1), scores, coefficients in found:
        rows.append(((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, *scores, *coefficients))
    ones = np.ones((SIDE, SIDE, 1), np.float32)
    grid = ones if prototypes is None else prototypes
    return {"detections": np.array(rows, np.float32), "prototypes": grid}


def _rows_of(found: Sequence[tuple[Box, float, float]], ones: int = SIDE) -> dict[str, Array]:
    """Heads of finished detections: corners, score, class column, and one coefficient of 1."""
    rows = [(*box, score, column, 1.0) for box, score, column in found]
    grid = np.ones((ones, ones, 1), np.float32)
    return {"detections": np.array(rows, np.float32), "prototypes": grid}


def _case(
    name: str, about: str, raw: dict[str, Any], settings: InstancesConfig = YOLO, **more: Any
) -> ContractCase:
    more.setdefault("transform", whole_input(SIDE, SIDE))
    return ContractCase(name, about, raw, settings=settings, **more)


A: Box = (0, 0, 8, 8)
B: Box = (8, 4, 16, 12)


def _scores() -> Iterator[ContractCase]:
    for name, score in (("met", 0.3), ("above", 0.30000004)):
        raw = _joined([(A, (score, 0), (1,)), (B, (0, 0.9), (1,))])
        about = "A score is compared with the threshold as float32; equal is not above."
        yield _case(f"i21-score-{name}", about, raw, replace(YOLO, threshold=0.3))
    raw = _joined([(A, (0.25, 0), (1,)), (B, (0, 0.9), (1,))])
    yield _case("i21-score-quarter", "A score of exactly 0.25 is dropped.", raw)
    raw = _joined([(A, (0.9, 0.9), (1,)), (B, (0.5, 0.5), (1,))])
    about = "Classes tie: the lower column, though its category id is the higher."
    yield _case("i23-class-tie", about, raw)
    raw = _joined([(A, (0.1, 0.2), (1,)), (B, (0.0, -1.0), (1,))])
    yield _case("i24-none", "No detection: an empty map.", raw)
    raw = {k: v[:0] if k == "detections" else v for k, v in raw.items()}
    yield _case("i24-no-anchors", "A head without anchors: an empty map.", raw)
    found: list[Found] = [((i, 0, i + 1, 8), (0.5, 0), (1,)) for i in range(12)]
    about = "Equal scores, top_k 7: the first seven anchors."
    yield _case("top-k-tied", about, _joined(found), replace(YOLO, top_k=7))
    raw = _joined([((i % 16, 0, i % 16 + 1, 1), (0.5, 0), (1,)) for i in range(101)])
    about = "101 equal scores, top 100: the anchors in order."
    yield _case("i32-top-100", about, raw, replace(YOLO, top_k=100, nms=None))
    about = "Better scores first; equals by anchor, whatever their column."
    pairs = [(0.5, 0), (0, 0.5), (0.75, 0), (0, 0.5), (0, 0.75), (0.25, 0.5)]
    found = [((2 * i, 0, 2 * i + 2, 8), pair, (1,)) for i, pair in enumerate(pairs)]
    yield _case("order", about, _joined(found))
    yield _case("max-count", "At most four instances.", _joined(found), replace(YOLO, max_count=4))
    settings = replace(YOLO, objectness=True, threshold=0.5)
    found = [
        (A, (0.5, 1.0, 0), (1,)), (B, (0.75, 0.5, 0.625), (1,)),
        ((0, 8, 8, 16), (0.75, 0, 0.75), (1,)), ((8, 0, 16, 4), (0.6, 0.9, 0), (1,)),
    ]  # fmt: skip
    about = "Objectness equal to the threshold; a product below it; two above."
    yield _case("objectness", about, _joined(found), settings)
    found = [(A, (0.5, 1.5, 0), (1,)), (B, (0.75, 1.5, 0), (1,))]
    about = "An objectness equal to the threshold drops the anchor, whatever the product."
    yield _case("objectness-met", about, _joined(found), settings)
    found = [(A, (1.5, 0.4, 0), (1,)), (B, (0.4, 1.5, 0), (1,))]
    about = "The objectness alone must be above the threshold as well."
    yield _case("objectness-alone", about, _joined(found), settings)
    for kind in CLASSES[1:]:
        found = [(A, (0, -900), (1,)), (B, (2, 2), (1,)), ((0, 8, 8, 16), (-1, 3), (1,))]
        about = f"Class logits ({kind}): one of exactly one half, and a tie."
        settings = replace(YOLO, classes=kind, threshold=0.5)
        yield _case(f"logits-{kind}", about, _joined(found), settings)
    found = [(A, (40, 40 - 2.0**-18), (1,)), (B, (40 - 2.0**-18, 40), (1,))]
    about = "Logits that differ are equal after the sigmoid: the lower column."
    yield _case("class-tie-after-sigmoid", about, _joined(found), replace(YOLO, classes="sigmoid"))
    for side in ("first", "last"):
        scores = (5, 3, 2) if side == "first" else (3, 2, 5)
        settings = replace(YOLO, classes="softmax", background=side, threshold=0.1)
        about = f"The background, the {side} column, takes its share and is never chosen."
        yield _case(f"i31-background-{side}", about, _joined([(A, scores, (1,))]), settings)


def _nan() -> Iterator[ContractCase]:
    scene: list[Found] = [(A, (0.9, np.nan), (1,)), (B, (0.8, 0.1), (1,))]
    for kind in CLASSES:
        about = f"A NaN among the scores ({kind}) drops the anchor and no other."
        settings = replace(YOLO, classes=kind)
        yield _case(f"i28-nan-{kind}", about, _joined(scene), settings)
        about = f"Of pairs ({kind}) a NaN drops what it is part of."
        settings = replace(settings, choice="pairs")
        yield _case(f"i28-nan-pairs-{kind}", about, _joined(scene), settings)
    found: list[Found] = [(A, (np.nan, 0.9, 0), (1,)), (B, (0.9, 0.8, 0.1), (1,))]
    about = "A NaN objectness drops the anchor."
    yield _case("i28-nan-objectness", about, _joined(found), replace(YOLO, objectness=True))
    raw = _rows_of([(A, 0.9, np.nan), (B, np.nan, 0), ((0, 8, 8, 16), 0.8, 1)])
    about = "Rows: a NaN label, a NaN score, and a good one."
    yield _case("i28-nan-rows", about, raw, ROWS)
    about = "A NaN in the background's column, which is never chosen."
    raw = _joined([(A, (0.9, 0.1, np.nan), (1,))])
    yield _case("nan-background", about, raw, replace(YOLO, background="last"))


def _suppression() -> Iterator[ContractCase]:
    tall: Box = (0, 0, 10, 1)
    for name, part, limit in (
        ("met-7-of-10", (0, 0, 7, 1), 0.7), ("met-half", (0, 0, 5, 1), 0.5),
        ("above-8-of-10", (0, 0, 8, 1), 0.7), ("below-6-of-10", (0, 0, 6, 1), 0.7),
        ("met-6-of-10", (0, 0, 6, 1), 0.6),
        ("zero-limit", (9.5, 0, 12, 1), 0.0), ("one-limit", tall, 1.0),
    ):  # fmt: skip
        raw = _joined([(tall, (0.9, 0), (1,)), (part, (0.8, 0), (1,))])
        about = f"Boxes against a limit of {limit}: equal is not above, in float32."
        yield _case(f"i21-iou-{name}", about, raw, replace(YOLO, nms=limit))
    raw = _joined([(A, (0.9, 0), (1,)), (A, (0.9, 0), (1,))])
    yield _case("i22-equal", "Equal boxes and scores: the lower anchor stays.", raw)
    raw = _joined([(A, (0.9, 0), (1,)), (A, (0, 0.9), (1,))])
    about = "Equal boxes and scores of other classes: both stay, the second is hidden."
    yield _case("i22-other-class", about, raw)
    about = "The same without regard to classes: one stays."
    yield _case("i22-other-class-joint", about, raw, replace(YOLO, class_wise=False))
    about = "Two columns of one class are not one column: both stay."
    yield _case("columns-of-one-class", about, raw, replace(YOLO, columns=(DOG, DOG)))
    chain = [((0, 0, 8, 8), 0.9), ((1, 0, 9, 8), 0.8), ((2, 0, 10, 8), 0.7)]
    raw = _joined([(box, (score, 0), (1,)) for box, score in chain])
    about = "A detection that is dropped drops no other: the first and the third stay."
    yield _case("chain", about, raw)
    about = "No suppression: all stay."
    yield _case("no-suppression", about, raw, replace(YOLO, nms=None))
    about = "No suppression, two at most."
    yield _case("no-suppression-max", about, raw, replace(YOLO, nms=None, max_count=2))
    point: Box = (4, 4, 4, 4)
    raw = _joined([(point, (0.9, 0), (1,)), (point, (0.8, 0), (1,)), (A, (0.7, 0), (1,))])
    about = "Boxes without size do not drop each other: 0 / 0 is above nothing."
    yield _case("i26-zero-area", about, raw)
    raw = _joined([((8, 8, 0, 0), (0.9, 0), (1,)), (A, (0.8, 0), (1,)), (A, (0.7, 0), (1,))])
    about = "A box of negative sides has an area and no mask."
    yield _case("negative-sides", about, raw)
    wide: Box = (-1e9, -1e9, 1e9, 1e9)
    raw = _joined([(wide, (0.9, 0), (1,)), (wide, (0.8, 0), (1,)), (A, (0.7, 0), (1,))])
    raw["detections"][:2, :4] = 0, 0, 1e9, 1e9
    about = "Boxes of the largest size."
    yield _case("huge-boxes", about, raw)


def _rounding() -> Iterator[ContractCase]:
    """What only float32 decides: numbers of 24 bits, at the limit."""
    split = replace(INSTANCE_PRESETS["yolo-seg-split"], columns=COLUMNS)
    shares = ((7, 10, 0.7), (3, 5, 0.6), (1, 3, 1 / 3), (9, 10, 0.9))
    for i, (part, whole, limit) in enumerate(shares):
        for form in ("corners", "center"):
            count = 40
            side = (raw_bits(5600 + 10 * i, (count, 2), 24) / 2.0**24 + 1).astype(np.float32)
            start = (raw_bits(5604 + 10 * i, (count, 2), 24) / 2.0**19).astype(np.float32)
            long, short = side * np.float32(whole), side * np.float32(part)
            long[:, 1] = short[:, 1] = side[:, 1]
            pairs = np.stack([long, short], 1)  # two boxes from one corner, of equal heights
            corner = np.repeat(start, 2, 0)
            size = pairs.reshape(-1, 2)
            ends = [corner, corner + size] if form == "corners" else [corner + size / 2, size]
            ends = [np.where(np.arange(2 * count)[:, None] % 4 < 2, e, e[:, ::-1]) for e in ends]
            # Each pair has scores of its own, so that the pairs follow each other.
            scores = np.zeros((2 * count, 2), np.float32)
            scores[np.arange(2 * count), np.arange(2 * count) // 2 % 2] = (
                1 - np.arange(2 * count) / 256
            )
            raw = {
                "boxes": np.concatenate(ends, 1).astype(np.float32), "scores": scores,
                "coefficients": np.ones((2 * count, 1), np.float32),
                "prototypes": np.ones((8, 8, 1), np.float32),
            }  # fmt: skip
            about = f"Boxes of 24 bits ({form}) whose IoU is {part}/{whole} but for roundings."
            settings = replace(split, box="corners" if form == "corners" else "center", nms=limit)
            name = f"i21-iou-rounded-{part}-of-{whole}-{form}"
            yield _case(name, about, raw, settings, transform=whole_input(64, 64))
    columns, rows = np.arange(6) * (39 / 5), np.arange(8) * (26 / 7)
    found: list[Found] = [
        ((columns[i], rows[j], columns[i + 1], rows[j + 2]), (0.9 - (6 * i + j) / 64, 0), (1,))
        for i in range(5)
        for j in range(6)
    ]
    raw = _joined(found, np.ones((7, 5, 1), np.float32))
    about = "Boxes on the borders of cells that are no whole pixels: which cells are cut off."
    settings = replace(YOLO, crop="before", nms=None)
    yield _case("crop-before-borders", about, raw, settings, transform=whole_input(39, 26))
    sizes = raw_bits(5660, (12, 4), 24) / 2.0**23
    raw = {
        "boxes": sizes.astype(np.float32), "scores": np.full((12, 2), 0.5, np.float32),
        "coefficients": np.ones((12, 1), np.float32), "prototypes": np.ones((4, 6, 1), np.float32),
    }  # fmt: skip
    raw["scores"][:, 1] += np.float32(0.25)
    about = "Distances of 24 bits, and strides that are no powers of two."
    settings = replace(split, strides=(6, 12), nms=None)
    count = 4 * 2 + 2 * 1
    raw = {k: v[:count] if k != "prototypes" else v for k, v in raw.items()}
    yield _case("distances-rounded", about, raw, settings, transform=whole_input(24, 12))
    shared = raw_bits(5670, (12, 4), 24) / 2.0**24
    raw = raw | {"boxes": shared[:count].astype(np.float32)}
    about = "Shares of 24 bits of an input whose sides are no powers of two."
    settings = replace(split, box="center", box_unit="input", nms=None)
    yield _case("shares-rounded", about, raw, settings, transform=whole_input(23, 11))
    for i in range(16):
        cells = (raw_bits(5700 + 2 * i, (3, 4, 1), 24) - 2**23) / 2.0**22
        mask: Array = (cells / 2.0 ** raw_bits(5701 + 2 * i, (3, 4, 1), 2)).astype(np.float32)
        whole_mask = resize_planes(mask, (11, 13), slice(0, 11), slice(0, 13))[0]
        at = (2 * i - 1) % 11, (5 * i + 3) % 13
        least = float(whole_mask[at])
        if i % 2:
            least = float(np.nextafter(whole_mask[at], np.float32(-9)))
        how = "just passes" if i % 2 else "equals"
        about = f"A mask threshold that the resized value at {at} {how}."
        raw = _direct([A], [(3, -9)], mask)
        yield _case(f"mask-resize-rounded-{i}", about, raw, replace(DETR, mask_threshold=least),
                    transform=whole_input(13, 11))  # fmt: skip
    raw = _direct([A, B], [(3, -9), (2, -9)])
    raw["masks"][..., 0], raw["masks"][..., 1] = 0.6, 0.60000008
    about = "A mask value equal to the threshold in float32 is not above it."
    yield _case("mask-threshold-rounded", about, raw, replace(DETR, mask_threshold=0.6))


def _masks() -> Iterator[ContractCase]:
    for name, value in (("zero", 0.0), ("minus-zero", -0.0), ("tiny", 2.0**-120)):
        raw = _joined([(A, (0.9, 0), (1,)), (B, (0.8, 0), (-1,))])
        raw["prototypes"][:4] = value
        about = f"Mask values of {name.replace('-', ' ')}: only what is above 0 is inside."
        yield _case(f"i25-mask-{name}", about, raw)
    opposite = np.stack([np.full((SIDE, SIDE), v, np.float32) for v in (1, -1)], -1)
    raw = _joined([(A, (0.9, 0), (1, 1)), (B, (0.8, 0), (2, 1))], opposite)
    about = "Prototypes that cancel to 0 for one, and not for the other."
    yield _case("i25-mask-cancels", about, raw)
    settings = replace(YOLO, activation="sigmoid", mask_threshold=0.5)
    raw = _joined([(A, (0.9, 0), (0,)), (B, (0.8, 0), (1,))])
    about = "After a sigmoid one half is not above 0.5."
    yield _case("mask-sigmoid-half", about, raw, settings)
    boxes: tuple[Box, ...] = (
        (2.5, 2.5, 5, 5), (9, 9, 9, 14), (10.2, 10, 10.8, 14), (12, 12, 13, 13),
    )  # fmt: skip
    raw = _joined([(box, (0.9 - k / 8, 0), (1,)) for k, box in enumerate(boxes)])
    about = "A box of 2.5..5.0 has columns 3 and 4; one without width, one between two, one pixel."
    yield _case("i26-columns", about, raw)
    boxes = (-4, -4, 3, 3), (13, 13, 40, 40), (20, 20, 30, 30), (-9, 4, -1, 8)
    raw = _joined([(box, (0.9 - k / 8, 0), (1,)) for k, box in enumerate(boxes)])
    about = "Boxes that reach out of the input, and two outside of it."
    yield _case("outside", about, raw)
    grid = noise(3000, (4, 4, 3), 1)
    found: list[Found] = [
        ((1.5, 2, 9.25, 11), (0.9, 0), (1, 0.5, -0.25)), ((6, 5, 15, 15.5), (0, 0.8), (-1, 1, 1)),
        ((0, 0, 16, 16), (0.7, 0), (0.25, -1, 0.75)), ((3, 3, 5, 5), (0, 0.6), (1, 1, 1)),
    ]  # fmt: skip
    for crop in ("after", "before", "none"):
        for kind in ("none", "sigmoid"):
            settings = replace(YOLO, crop=crop, activation=kind,
                               mask_threshold=0.5 if kind == "sigmoid" else 0.0)  # fmt: skip
            about = f"Masks of 4x4 cells on 16x16 pixels, cut {crop}, activation {kind}."
            if crop == "none":
                about = f"Masks of 4x4 cells on 16x16 pixels, not cut, activation {kind}."
            yield _case(f"crop-{crop}-{kind}", about, _joined(found, grid), settings)
    for value in (-0.5, 0.25):
        about = f"Mask threshold {value}."
        settings = replace(YOLO, crop="before", mask_threshold=value)
        yield _case(f"mask-threshold-{value}", about, _joined(found, grid), settings)
    for least in (64, 65):
        raw = _joined([(A, (0.9, 0), (1,)), (B, (0, 0.8), (1,))])
        about = f"Masks of 64 pixels, least area {least}."
        yield _case(f"min-area-{least}", about, raw, replace(YOLO, min_area=least))
    raw = _joined([(A, (0.9, 0), (1,)), ((2, 2, 6, 6), (0, 0.8), (1,)), (B, (0, 0.7), (1,))])
    about = "An instance that is hidden has no id; ids stay dense."
    yield _case("i36-hidden", about, raw)


def _rows() -> Iterator[ContractCase]:
    raw = _rows_of([(A, 0.9, 0), (B, 0.8, 1), ((0, 0, 16, 16), 0, 0), ((1, 1, 9, 9), 0, 1)])
    yield _case("i29-filled-rows", "Rows of score 0 that hold boxes are ignored.", raw, ROWS)
    raw = _rows_of([(A, 0.9, 0), ((0, 0, 0, 0), 0, 0), ((0, 0, 0, 0), 0, 0)])
    yield _case("i29-zero-rows", "Rows of zeros are ignored.", raw, ROWS)
    raw = _rows_of([(A, 0.8, 0), (A, 0.9, 0), (B, 0.8, 1)])
    about = "Rows are ordered by score, and not suppressed again."
    yield _case("rows-order", about, raw, ROWS)
    raw = _rows_of([(A, 0.9, 0.5), (B, 0.8, 0.49), ((0, 8, 8, 16), 0.7, -0.5)])
    about = "Labels go to the nearest whole number, halves up."
    yield _case("rows-label-rounding", about, raw, ROWS)
    raw = _rows_of([(A, 0.9, 0), (B, 0.1, 7), ((0, 8, 8, 16), 0.25, -3)])
    about = "A label that is no class, of a row below the threshold, is ignored."
    yield _case("rows-label-unseen", about, raw, ROWS)
    raw = _rows_of([(A, 0.9, 0), (B, 0.8, 1)])
    raw["detections"][:, :4] /= 16
    settings = replace(ROWS, box_unit="input")
    yield _case("rows-shares", "Boxes as shares of the input.", raw, settings)
    raw = {"detections": noise(3100, (38, 6)), "prototypes": np.ones((4, 4, 1), np.float32)}
    raw["detections"][:, :4] = np.abs(raw["detections"][:, :4]) * 8
    about = "38 anchors of 6 numbers are raw: box, one class, one coefficient."
    yield _case("i27-raw-of-six", about, raw, replace(YOLO, columns=(DOG,)))


def _direct(boxes: Sequence[Box], scores: Any, masks: Array | None = None) -> dict[str, Array]:
    """Heads with a mask for each query; boxes as centres and sizes in shares of the input."""
    corners = np.array(boxes, np.float32) / SIDE
    centers = (corners[:, :2] + corners[:, 2:]) / 2
    given = np.concatenate([centers, corners[:, 2:] - corners[:, :2]], 1)
    if masks is None:
        masks = np.full((SIDE, SIDE, len(boxes)), -1, np.float32)
        for k, (x0, y0, x1, y1) in enumerate(boxes):
            masks[int(y0) : int(y1), int(x0) : int(x1), k] = 1
    return {"boxes": given, "scores": np.array(scores, np.float32), "masks": masks}


def _pairs() -> Iterator[ContractCase]:
    raw = _direct([A, B], [(3, 2), (-1, 1)])
    about = "One query with two classes is two detections; the second is hidden."
    yield _case("i30-two-classes", about, raw, DETR)
    raw = _direct([A, B], [(2, 2), (2, 2)])
    about = "Four equal scores: by query, then by column."
    yield _case("i30-tied", about, raw, DETR)
    yield _case("i30-tied-top-3", "The first three.", raw, replace(DETR, top_k=3))
    raw = _direct([A, B, (0, 8, 8, 16)], [(0, -9), (2.0**-20, -9), (-(2.0**-20), -9)])
    about = "A logit of 0 is a score of exactly one half and dropped; just above it stays."
    yield _case("i21-logit-zero", about, raw, DETR)
    raw = _direct([A, B], [(4, 3, -9), (-9, 2, 5)])
    about = "A slot without a class is a detection of none: counted, and left out."
    yield _case("i31-slot-0-unused", about, raw, replace(DETR, columns=(-1, PERSON, DOG)))
    about = "The last slot is the background: never a detection."
    yield _case("i31-last-slot", about, raw, replace(DETR, background="last"))
    raw = _direct([A, B], [(3, -9), (2, -9)])
    raw["masks"][:4] = 0
    about = "Direct masks: a logit of 0 is outside."
    yield _case("i25-direct-zero", about, raw, DETR)
    raw = _direct([A, B], [(3, -9), (2, -9)], noise(3200, (4, 4, 2), 1))
    about = "Direct masks are not cut to their boxes."
    yield _case("direct-not-cut", about, raw, DETR)
    about = "Direct masks that are cut after the resize."
    yield _case("direct-cut", about, raw, replace(DETR, crop="after"))
    settings = replace(DETR, choice="best", threshold=0.25, nms=0.5)
    yield _case("direct-best", "Direct masks, one class for each.", raw, settings)


def _boxes() -> Iterator[ContractCase]:
    split = replace(INSTANCE_PRESETS["yolo-seg-split"], columns=COLUMNS)
    for name, strides, (w, h) in (
        ("one-stride", (8,), (32, 16)), ("two-strides", (8, 16), (32, 48)),
        ("three-strides", (8, 16, 32), (64, 32)), ("odd-strides", (6, 3), (18, 12)),
    ):  # fmt: skip
        count = sum((w // s) * (h // s) for s in strides)
        raw = {
            "boxes": np.abs(noise(3300, (count, 4), 1)) + np.float32(0.25),
            "scores": raw_bits(3310, (count, 2), 4).astype(np.float32) / 16,
            "coefficients": noise(3320, (count, 2)), "prototypes": noise(3330, (h // 4, w // 4, 2)),
        }  # fmt: skip
        about = f"Distances from cells' centres, strides {strides}, an input of {w}x{h}."
        settings = replace(split, strides=strides, threshold=0.6)
        yield _case(f"distances-{name}", about, raw, settings, transform=whole_input(w, h))
    for form in ("center", "corners"):
        for unit in ("pixels", "input"):
            boxes = raw_bits(3340, (24, 4), 6).astype(np.float32) / 4
            if form == "corners":
                boxes[:, 2:] = boxes[:, :2] + boxes[:, 2:] / 2 + np.float32(1)
            if unit == "input":
                boxes = boxes / 16
            raw = {
                "boxes": boxes, "scores": raw_bits(3350, (24, 2), 6).astype(np.float32) / 64,
                "coefficients": noise(3360, (24, 3)), "prototypes": noise(3370, (5, 6, 3)),
            }  # fmt: skip
            settings = replace(split, box=form, box_unit=unit)
            about = f"Boxes as {form}, unit {unit}, tensors of their own; an input of 24x20."
            transform = letterbox((30, 21), (24, 20))
            yield _case(f"boxes-{form}-{unit}", about, raw, settings, transform=transform)
    found: list[Found] = [((0.1, 0.2, 7.7, 9.3), (0.9, 0), (1,)), (B, (0, 0.8), (1,))]
    about = "A batch axis of 1 changes nothing."
    yield _case("batch-axis", about, {k: v[None] for k, v in _joined(found).items()})
    yield _case("batch-axis-none", "The same without it.", _joined(found))


def _tables() -> Iterator[ContractCase]:
    found: list[Found] = [
        (A, (0.9, 0, 0), (1,)), (B, (0, 0.8, 0), (1,)), ((0, 8, 8, 16), (0, 0, 0.7), (1,)),
        ((9, 0, 16, 4), (0.5, 0.6, 0), (1,)),
    ]  # fmt: skip
    about = "A table of columns: one has no class, and its detections take part in the choice."
    yield _case("columns", about, _joined(found), replace(YOLO, columns=(DOG, -1, PERSON)))
    about = "No table: the taxonomy's things come first."
    raw = _joined([(box, scores[:2], c) for box, scores, c in found])
    yield _case("columns-in-order", about, raw, replace(YOLO, columns=()), taxonomy=ONLY_THINGS)
    raw = noisy_instances(3400, YOLO, (24, 20), 30, columns=13)
    about = "13 classes of 26."
    settings = replace(YOLO, columns=tuple(range(24, -1, -2)), threshold=0.8)
    yield _case("many-classes", about, raw, settings, taxonomy=MANY, transform=whole_input(24, 20))


def noisy_instances(
    seed: int, settings: InstancesConfig, input_wh: tuple[int, int], count: int, columns: int = 2,
    prototypes: int = 3, tied: bool = False,
) -> dict[str, Array]:  # fmt: skip
    """Heads of noise as ``settings`` reads them: boxes in the input, masks of a quarter of it."""
    w, h = input_wh
    if settings.box == "distances":
        count = sum((w // s) * (h // s) for s in settings.strides)
    half = raw_bits(seed, (count, 2), 5) + 8  # sixteenths of a pixel, times 8
    center = raw_bits(seed + 1, (count, 2), 10) * np.array([w, h]) / 1024
    boxes = np.concatenate([center, half / 2], 1)
    if settings.box == "corners":
        boxes = np.concatenate([center - half / 4, center + half / 4], 1)
    elif settings.box == "distances":
        boxes = half[:, [0, 1, 1, 0]] / 16
    if tied:
        boxes = np.round(boxes / 4) * 4 + 2
    if settings.box_unit == "input":
        boxes = boxes / np.array([w, h, w, h])
    scores: NDArray[Any] = raw_bits(seed + 2, (count, columns), 3 if tied else 10) / (
        8 if tied else 1024
    )
    if settings.classes != "probabilities":
        scores = scores * 8 - 5
    background = int(settings.background != "none")
    grid = noise(seed + 3, (max(1, h // 4), max(1, w // 4), prototypes))
    mixed = noise(seed + 4, (count, prototypes))
    if settings.masks == "direct":
        masks = noise(seed + 5, (max(1, h // 4), max(1, w // 4), count))
        raw = {"boxes": boxes, "scores": scores, "masks": masks}
    elif settings.tensors == "split":
        raw = {"boxes": boxes, "scores": scores, "coefficients": mixed, "prototypes": grid}
    else:
        parts = [boxes, scores, mixed]
        if settings.tensors == "rows":
            label = scores.argmax(1)[:, None]
            parts = [boxes, scores.max(1, keepdims=True), label, mixed]
        if settings.objectness:
            parts.insert(1, 1 - raw_bits(seed + 6, (count, 1), 4) / 32)
        if background:
            parts.insert(2, np.zeros((count, 1)))
        raw = {"detections": np.concatenate(parts, 1), "prototypes": grid}
    return {k: v.astype(np.float32) for k, v in raw.items()}


def _grids() -> Iterator[ContractCase]:
    sizes = {
        "one-cell": (1, 1, 16, 16), "one-row": (1, 7, 28, 8), "one-column": (6, 1, 8, 24),
        "odd": (5, 7, 29, 18), "finer-than-input": (20, 24, 12, 10), "one-pixel": (3, 3, 1, 1),
    }  # fmt: skip
    for i, (name, (h, w, width, height)) in enumerate(sizes.items()):
        for crop in ("after", "before"):
            settings = replace(YOLO, crop=crop)
            raw = noisy_instances(3500 + 20 * i, settings, (width, height), 16)
            raw["prototypes"] = noise(3510 + 20 * i, (h, w, 3)) + np.float32(0.5)
            about = f"{h}x{w} prototypes over an input of {width}x{height}, cut {crop}."
            transform = letterbox((2 * width - 1, 2 * height), (width, height))
            yield _case(f"{name}-{crop}", about, raw, settings, transform=transform)
    places: dict[str, Fit] = {
        "padded": "letterbox", "top-left": "top-left", "stretched": "stretch",
    }  # fmt: skip
    for i, (name, fit) in enumerate(places.items()):
        for photo in ((30, 17), (11, 40)):
            raw = noisy_instances(3700 + 20 * i, YOLO, (32, 24), 24)
            about = f"A photo of {photo[0]}x{photo[1]} in an input of 32x24, {name}."
            transform = letterbox(photo, (32, 24), fit=fit)
            yield _case(f"place-{name}-{photo[0]}", about, raw, transform=transform)
    raw = _joined([((0, 0, 16, 3), (0.9, 0), (1,)), ((0, 2, 16, 6), (0, 0.8), (1,))])
    about = "A detection in the padding alone, and one that reaches into it."
    yield _case("padding", about, raw, transform=letterbox((32, 16), (16, 16)))


def _noise() -> Iterator[ContractCase]:
    photos = ((50, 26), (64, 32)), ((31, 50), (32, 64)), ((9, 9), (64, 64))
    for i, (name, preset) in enumerate(INSTANCE_PRESETS.items()):
        settings = replace(preset, columns=COLUMNS)
        for j, (photo, size) in enumerate(photos):
            for tied in (False, True):
                raw = noisy_instances(4000 + 100 * i + 20 * j, settings, size, 48, tied=tied)
                about = f"Noise by the settings of {name}, a photo of {photo[0]}x{photo[1]}."
                transform = letterbox(photo, size)
                kind = "tied" if tied else "plain"
                yield _case(f"preset-{name}-{j}-{kind}", about, raw, settings,
                            transform=transform)  # fmt: skip
    raw = noisy_instances(4900, YOLO, (32, 24), 24)
    raw["detections"][:, 6:] *= np.float32(2.0**44)
    raw["prototypes"] *= np.float32(2.0**44)
    transform = letterbox((40, 30), (32, 24))
    yield _case("huge-masks", "Coefficients and prototypes of a large magnitude.", raw,
                transform=transform)  # fmt: skip
    raw = noisy_instances(4920, DETR, (32, 24), 24)
    raw = {k: v if k == "boxes" else v * np.float32(2.0**122) for k, v in raw.items()}
    yield _case("huge-direct", "Scores and direct masks of a large magnitude.", raw, DETR,
                transform=transform)  # fmt: skip


def _errors() -> Iterator[ContractCase]:
    split = replace(INSTANCE_PRESETS["yolo-seg-split"], columns=COLUMNS, strides=(8,))
    bad: dict[str, tuple[InstancesConfig, str, tuple[int, ...], float]] = {
        "nan-box": (YOLO, "detections", (3, 2), np.nan),
        "huge-box": (YOLO, "detections", (1, 0), 2e9),
        "inf-score": (YOLO, "detections", (2, 5), np.inf),
        "inf-coefficient": (YOLO, "detections", (4, 7), -np.inf),
        "huge-coefficient": (YOLO, "detections", (4, 6), 2e15),
        "nan-prototype": (YOLO, "prototypes", (1, 2, 1), np.nan),
        "huge-prototype": (YOLO, "prototypes", (0, 0, 2), -2e15),
        "nan-split-box": (split, "boxes", (5, 3), np.nan),
        "inf-split-score": (split, "scores", (0, 1), np.inf),
        "nan-mask": (DETR, "masks", (2, 3, 4), np.nan),
        "huge-mask": (DETR, "masks", (0, 1, 0), 2e38),
        "label-too-high": (ROWS, "detections", (0, 5), 2.0),
        "label-negative": (ROWS, "detections", (0, 5), -0.75),
        "inf-label": (ROWS, "detections", (3, 5), np.inf),
    }
    for name, (settings, head, at, value) in bad.items():
        raw = noisy_instances(4950, settings, (32, 16), 12)
        if settings is ROWS:
            raw["detections"][0, 4] = 1
        raw[head][at] = value
        about = f"An error that names a head and a position: {head!r} is wrong at {at}."
        yield _case(f"error-{name}", about, raw, settings, transform=whole_input(32, 16))
    uneven = replace(split, strides=(10,))
    raw = noisy_instances(4970, uneven, (30, 16), 3)
    about = "An error that names head 'boxes': the stride divides one side of the input alone."
    yield _case("error-uneven-stride", about, raw, uneven, transform=whole_input(30, 16))
    shapes: dict[str, tuple[InstancesConfig, str, tuple[int, ...]]] = {
        "batch-of-two": (YOLO, "detections", (2, 12, 9)),
        "batch-of-two-prototypes": (YOLO, "prototypes", (2, 4, 8, 3)),
        "few-numbers": (YOLO, "detections", (12, 7)),
        "other-classes": (YOLO, "detections", (12, 10)),
        "row-numbers": (ROWS, "detections", (12, 10)),
        "other-anchors": (split, "coefficients", (7, 3)),
        "other-scores": (split, "scores", (7, 2)),
        "other-prototypes": (split, "prototypes", (4, 8, 2)),
        "anchors-of-no-grid": (replace(split, strides=(16,)), "boxes", (8, 4)),
        "stride-of-no-grid": (replace(split, strides=(7,)), "boxes", (8, 4)),
        "box-numbers": (split, "boxes", (8, 5)),
        "score-columns": (split, "scores", (8, 3)),
        "other-masks": (DETR, "masks", (4, 8, 11)),
        "axes": (DETR, "masks", (4, 8)),
        "no-prototypes": (split, "prototypes", (4, 8, 0)),
    }
    for name, (settings, head, shape) in shapes.items():
        known = replace(settings, strides=(8,)) if settings.box == "distances" else settings
        raw = noisy_instances(4960, known, (32, 16), 12)
        raw[head] = np.ones(shape, np.float32)
        about = f"An error that names a head: {head!r} has the shape {shape}."
        yield _case(f"error-{name}", about, raw, settings, transform=whole_input(32, 16))
