"""Cases of the contract ``semantic``: ties, labels, corner rules and tables of columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from panokit.decoding import SemanticConfig
from panokit.decoding.kernels import resize_planes
from panokit.preprocessing import Fit, letterbox
from panokit.vectors.cases import (
    DOG,
    MANY,
    ONLY_PERSON,
    ONLY_STUFF,
    PERSON,
    ROAD,
    SKY,
    ContractCase,
    noise,
    raw_bits,
    whole_input,
)  # fmt: skip

__all__ = ["semantic_cases"]

Array = NDArray[Any]
Kind = Literal["logits", "probabilities", "labels"]

LOGITS = SemanticConfig()
LABELS = SemanticConfig(input="labels")
PROBABILITIES = SemanticConfig(input="probabilities")


def semantic_cases() -> Iterator[ContractCase]:
    """All of them."""
    yield from _ties()
    yield from _thresholds()
    yield from _rounding()
    yield from _labels()
    yield from _tables()
    yield from _grids()
    yield from _values()
    yield from _errors()


def _case(
    name: str, about: str, head: Array, settings: SemanticConfig = LOGITS, **more: Any
) -> ContractCase:
    """A case of one head; without a transform the input has the head's size."""
    if "transform" not in more:
        more["transform"] = whole_input(head.shape[1], head.shape[0])
    return ContractCase(name, about, {"semantic": head}, settings=settings, **more)


def _zeros(h: int = 4, w: int = 6) -> Array:
    return np.zeros((h, w, 4), np.float32)


def _ties() -> Iterator[ContractCase]:
    yield _case("s33-all-equal", "All logits are equal: the lowest column everywhere.", _zeros())
    head = _zeros()
    head[..., SKY] = head[..., ROAD] = 1.5
    about = "Columns 1 and 3 tie: the lower column, though its category id is the higher."
    yield _case("s33-tie", about, head)
    head = _zeros()
    head[:, :3, SKY] = head[:, 3:, ROAD] = 2
    about = "Between two cells the resized logits of two classes tie half way."
    for align in (False, True):
        settings = replace(LOGITS, align_corners=align)
        size = (18, 12) if not align else (11, 7)
        yield _case(f"s33-tie-resized-{'corners' if align else 'pixels'}", about, head, settings,
                    transform=whole_input(*size))  # fmt: skip
    head = _zeros()
    head[..., SKY], head[..., PERSON], head[..., DOG] = -0.0, -1, -1
    about = "Minus zero equals zero: column 1 before column 3."
    yield _case("s33-tie-minus-zero", about, head)
    head = np.full((4, 6, 4), 0.25, np.float32)
    about = "Equal probabilities: the lowest column, of score 0.25."
    yield _case("s33-tie-probabilities", about, head, PROBABILITIES)
    head = _zeros()
    head[0, :, PERSON], head[1, :, SKY], head[2, :, DOG], head[3, :, ROAD] = 5, 5, 5, 5
    about = "Each class is one segment, things too; ids go by category id."
    yield _case("ids-by-category", about, head)
    for least in (6, 7):
        about = f"Classes of 6 pixels, least area {least}."
        yield _case(f"min-area-{least}", about, head, replace(LOGITS, min_area=least))


def _thresholds() -> Iterator[ContractCase]:
    head = np.array([[[0.5], [0.49999997], [0.7], [0.2]]], np.float32)
    one = {"taxonomy": ONLY_PERSON}
    about = "One channel tells an object from the rest: 0.5 is enough, what is next below is void."
    half = replace(PROBABILITIES, threshold=0.5)
    yield _case("threshold-met", about, head, half, **one)
    about = "0.7 rounded to float32 is met by itself, though it lies below the number in float64."
    yield _case("threshold-rounded", about, head, replace(half, threshold=0.7), **one)
    about = "One channel, resized: the border lies where the resized value is 0.5."
    yield _case("threshold-resized", about, head, half, transform=whole_input(16, 4), **one)
    head = noise(5040, (4, 6, 4), 2)
    about = "Logits: the highest of all classes must reach 1; others are void, and not unmapped."
    settings = replace(LOGITS, threshold=1.0, columns=(0, -1, 2, 3))
    yield _case("threshold-logits", about, head, settings)


def _rounding() -> Iterator[ContractCase]:
    """Every row has a pixel where a constant class ties with one that was resized: any rounding
    left out of ``a + (b - a)·f`` decides otherwise."""
    for axis in ("x", "y"):
        for first in (True, False):
            count = 210
            cells = (raw_bits(5020, (count, 2), 24) - 2**23) / 2.0**21
            given: NDArray[np.float32] = (cells / 2.0 ** raw_bits(5021, (count, 2), 3)).astype(
                np.float32
            )
            wide = resize_planes(given[..., None], (count, 7), slice(0, count), slice(0, 7))[0]
            tied = wide[np.arange(count), np.arange(count) % 3 + 2]
            head = np.full((count, 2, 4), -99, np.float32)
            head[..., PERSON if first else SKY] = given
            head[..., SKY if first else PERSON] = tied[:, None]
            size = (7, count)
            if axis == "y":
                head, size = np.ascontiguousarray(head.transpose(1, 0, 2)), (count, 7)
            about = (
                f"Logits of 24 bits, resized along {axis}, tie with constants: roundings decide."
            )
            name = f"s33-tie-rounded-{axis}-{'first' if first else 'second'}"
            yield _case(name, about, head, transform=whole_input(*size))


def _labels() -> Iterator[ContractCase]:
    picture = raw_bits(5000, (4, 6), 2)
    types: dict[str, Any] = {"uint8": np.uint8, "int32": np.int32, "int64": np.int64,
                             "float32": np.float32}  # fmt: skip
    for name, kind in types.items():
        about = f"Labels of the type {name}."
        yield _case(f"s33-labels-{name}", about, picture.astype(kind), LABELS)
    small = picture.astype(np.int32)
    forms = {"batch": small[None], "channel": small[..., None], "both": small[None, ..., None]}
    for name, head in forms.items():
        about = f"Labels with axes of one: {head.shape}."
        yield _case(f"labels-axes-{name}", about, head, LABELS, transform=whole_input(6, 4))
    near = np.array([[0.9, 1.1, 2.9999998], [0.5, 1.5, -0.25], [2.4999998, 0, 3.4999998]])
    about = "Labels that a scale made: the nearest whole number, halves up."
    yield _case("labels-rounded", about, near.astype(np.float32), LABELS)
    wild = np.array([[0, 1, -1, 255], [2, 4, 3, -(2**31)], [2**31 - 1, 4, 4, 3]])
    about = "Labels that are no column are void and reported with their number of pixels."
    yield _case("s34-labels-outside", about, wild, LABELS)
    sizes = {"larger": (18, 13), "smaller": (4, 3), "same": (6, 4), "pixel": (1, 1),
             "times-two": (12, 8)}  # fmt: skip
    for name, (w, h) in sizes.items():
        for align in (False, True):
            settings = replace(LABELS, align_corners=align)
            about = f"Labels go to the nearest cell of 4x6, never mixed; an input of {w}x{h}."
            rule = "corners" if align else "pixels"
            yield _case(f"s33-nearest-{name}-{rule}", about, small, settings,
                        transform=letterbox((2 * w, 2 * h + 1), (w, h)))  # fmt: skip
    row = raw_bits(5010, (1, 1), 2).astype(np.int32)
    for align in (False, True):
        yield _case(f"labels-one-cell-{int(align)}", "One label for all pixels.", row,
                    replace(LABELS, align_corners=align), transform=whole_input(7, 5))  # fmt: skip


def _tables() -> Iterator[ContractCase]:
    columns = (ROAD, -1, SKY, -1, PERSON, SKY)
    head = noise(5100, (5, 7, 6), 2)
    about = "A table of columns: two without a class (void, reported), two of one class."
    settings = replace(LOGITS, columns=columns)
    yield _case("s34-columns", about, head, settings)
    transform = letterbox((30, 14), (21, 15))
    yield _case("s34-columns-resized", about, head, settings, transform=transform)
    about = "Labels with a table: columns without a class, and numbers beyond it."
    labels = raw_bits(5110, (5, 7), 3).astype(np.int32)
    yield _case("s34-columns-labels", about, labels, replace(LABELS, columns=columns))
    about = "No column has a class: an empty map."
    yield _case("s34-columns-none", about, head, replace(LOGITS, columns=(-1,) * 6))
    about = "The least area counts a class, not a column."
    yield _case("columns-min-area", about, head, replace(settings, min_area=8))
    yield _case("only-stuff", "A taxonomy without things.", noise(5120, (5, 7, 2), 2),
                taxonomy=ONLY_STUFF)  # fmt: skip
    yield _case("many-classes", "26 classes.", noise(5130, (6, 8, 26), 2), taxonomy=MANY,
                transform=letterbox((50, 30), (32, 24)))  # fmt: skip
    wide = noise(5140, (3, 4, 300), 2)
    about = "300 columns: more than a byte counts."
    settings = replace(LOGITS, columns=tuple(c % 26 for c in range(300)))
    yield _case("many-columns", about, wide, settings, taxonomy=MANY, transform=whole_input(9, 7))


def _grids() -> Iterator[ContractCase]:
    sizes = {
        "one-cell": (1, 1, 8, 8), "one-row": (1, 6, 24, 4), "one-column": (6, 1, 4, 24),
        "odd": (5, 7, 29, 18), "corner-aligned": (5, 5, 33, 33), "larger-than-input": (9, 11, 5, 4),
        "one-pixel": (3, 3, 1, 1), "same": (6, 8, 8, 6),
        "same-width": (6, 8, 8, 13), "same-height": (6, 8, 19, 6),
    }  # fmt: skip
    kinds: tuple[Kind, ...] = ("logits", "probabilities")
    for i, (name, (h, w, width, height)) in enumerate(sizes.items()):
        for kind in kinds:
            for align in (False, True):
                head = noise(5200 + 10 * i, (h, w, 4), 2)
                if kind == "probabilities":
                    head = raw_bits(5200 + 10 * i, (h, w, 4), 8).astype(np.float32) / 256
                settings = SemanticConfig(input=kind, align_corners=align)
                rule = "corners" if align else "pixels"
                about = f"{h}x{w} cells of {kind} over an input of {width}x{height}, by {rule}."
                transform = letterbox((2 * width - 1, 2 * height), (width, height))
                yield _case(f"{name}-{kind}-{rule}", about, head, settings, transform=transform)
    places: dict[str, Fit] = {
        "padded": "letterbox", "top-left": "top-left", "stretched": "stretch",
    }  # fmt: skip
    for i, (name, fit) in enumerate(places.items()):
        for photo in ((30, 17), (11, 40), (96, 1)):
            about = f"A photo of {photo[0]}x{photo[1]} in an input of 32x24, {name}."
            transform = letterbox(photo, (32, 24), fit=fit)
            head = noise(5300 + 10 * i, (6, 8, 4), 2)
            yield _case(f"place-{name}-{photo[0]}", about, head, transform=transform)
            labels = raw_bits(5305 + 10 * i, (6, 8), 2).astype(np.int32)
            name_of = f"place-labels-{name}-{photo[0]}"
            yield _case(name_of, about, labels, LABELS, transform=transform)
    head = _zeros(8, 8)
    head[..., SKY] = 1
    head[:2, :, PERSON] = head[6:, :, DOG] = 9
    about = "Classes in the padding alone are none."
    yield _case("padding", about, head, transform=letterbox((16, 8), (8, 8)))


def _values() -> Iterator[ContractCase]:
    transform = letterbox((44, 30), (32, 24))
    scales = {"saturated": 1024.0, "huge": 2.0**120}
    for i, (name, scale) in enumerate(scales.items()):
        head = (noise(5400 + 10 * i, (6, 8, 4), 2) * scale).astype(np.float32)
        yield _case(f"noise-{name}", f"Noise, {name}.", head, transform=transform)
    head = np.round(noise(5420, (6, 8, 4), 2)).astype(np.float32)
    for align in (False, True):
        settings = replace(LOGITS, align_corners=align)
        yield _case(f"noise-tied-{int(align)}", "Noise with many ties.", head, settings,
                    transform=transform)  # fmt: skip
    yield _case("batch-axis", "A batch axis of 1 changes nothing.", head[None],
                transform=transform)  # fmt: skip
    head = np.full((2, 3, 4), -1e38, np.float32)
    head[0, 0, ROAD], head[1, 2, DOG] = 1e38, 1e38
    about = "Logits of the largest magnitude, resized."
    yield _case("largest", about, head, transform=whole_input(9, 6))
    halves: Array = noise(5430, (6, 8, 4), 2).astype(np.float16)
    yield _case("halves", "Logits as half floats give them.", halves.astype(np.float32))


def _errors() -> Iterator[ContractCase]:
    bad = {"nan": ((1, 2, 3), np.nan), "inf": ((0, 4, 0), np.inf), "huge": ((3, 5, 1), -2e38)}
    for name, (at, value) in bad.items():
        head = noise(5500, (4, 6, 4))
        head[at] = value
        about = f"An error that names head 'semantic' and position {at}."
        yield _case(f"error-{name}", about, head)
    for name, label in (("nan", np.nan), ("inf", np.inf), ("huge", 3e9)):
        labels = np.zeros((4, 6), np.float32)
        labels[2, 3] = label
        about = "An error that names the position of a label that is none: (2, 3)."
        yield _case(f"error-label-{name}", about, labels, LABELS)
    wide = np.zeros((1, 4, 6), np.int64)
    wide[0, 1, 5] = 2**31
    about = "A label of more than 32 bits, at (1, 5)."
    yield _case("error-label-bits", about, wide, LABELS, transform=whole_input(6, 4))
    shapes: dict[str, tuple[SemanticConfig, Array]] = {
        "batch-of-two": (LOGITS, np.zeros((2, 4, 6, 4), np.float32)),
        "labels-batch-of-two": (LABELS, np.zeros((2, 4, 6), np.int32)),
        "other-classes": (LOGITS, np.zeros((4, 6, 5), np.float32)),
        "labels-of-channels": (LABELS, np.zeros((1, 4, 6, 3), np.int32)),
        "logits-of-two-axes": (LOGITS, np.zeros((4, 6), np.float32)),
        "no-rows": (LOGITS, np.zeros((0, 6, 4), np.float32)),
    }
    for name, (settings, head) in shapes.items():
        about = f"An error: the shape {head.shape}."
        yield _case(f"error-{name}", about, head, settings, transform=whole_input(6, 4))
