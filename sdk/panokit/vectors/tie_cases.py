"""Cases of ties, plateaus, centres and votes, each with one answer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from panokit.vectors.cases import (
    DOG,
    ONLY_STUFF,
    ONLY_THINGS,
    PERSON,
    ROAD,
    SKY,
    DecodeCase,
    config,
    full_frame,
    heads,
    noise,
)  # fmt: skip

__all__ = ["tie_cases"]


def tie_cases() -> Iterator[DecodeCase]:
    """All of them."""
    yield from _class_ties()
    yield from _plateaus()
    yield from _top_k()
    yield from _thresholds()
    yield from _votes()
    yield from _areas()


def _people(h: int, w: int | None = None) -> dict[str, np.ndarray]:
    """Heads that see a person everywhere."""
    raw = heads(h, w)
    raw["semantic"][..., PERSON] = 4
    return raw


def _class_ties() -> Iterator[DecodeCase]:
    raw = heads(4)
    raw["center"][1, 1] = 2
    about = "All logits are equal: the first channel wins everywhere."
    yield DecodeCase("class-tie-all", about, raw, full_frame(4), config())
    raw = heads(4)
    raw["semantic"][..., SKY] = raw["semantic"][..., ROAD] = 1.5
    about = "Channels 1 and 3 tie: the lower channel, though its category id is the higher."
    yield DecodeCase("class-tie-stuff", about, raw, full_frame(4), config())
    raw = heads(4)
    raw["semantic"][:, :2, SKY] = raw["semantic"][:, 2:, ROAD] = 2
    about = "Between two cells the resized logits of two channels tie half way."
    yield DecodeCase("class-tie-resized", about, raw, full_frame(4, stride=3), config(grid="input"))
    raw = heads(4)
    raw["semantic"][..., SKY] = -0.0
    raw["semantic"][..., PERSON] = raw["semantic"][..., DOG] = -1
    about = "Minus zero equals zero: channel 1 before channel 3."
    yield DecodeCase("class-tie-minus-zero", about, raw, full_frame(4), config())
    raw = heads(4)
    raw["semantic"][:2, :, PERSON] = raw["semantic"][2:, :, DOG] = 5
    raw["center"][1, 1] = 3
    about = "Half the voters say person (id 5), half dog (id 3): the lower id, a dog of 16 cells."
    yield DecodeCase("instance-class-tie", about, raw, full_frame(4), config())
    raw = heads(4)
    raw["semantic"][:3, :, PERSON] = raw["semantic"][3:, :, DOG] = 5
    raw["center"][1, 1] = 3
    about = "Twelve voters say person, four dog: one person of 16 cells."
    yield DecodeCase("instance-class-majority", about, raw, full_frame(4), config())


def _plateaus() -> Iterator[DecodeCase]:
    spots = {
        "block": (slice(2, 4), slice(2, 4)),
        "row": (slice(3, 4), slice(1, 7)),
        "column": (slice(1, 7), slice(3, 4)),
        "everywhere": (slice(None), slice(None)),
        "last-corner": (slice(6, 8), slice(6, 8)),
    }
    for name, spot in spots.items():
        for window in (3, 5):
            raw = _people(8)
            raw["center"][spot] = 1
            about = "Equal cells: one that has an equal earlier one in its window is no centre."
            parameters = config(window=window)
            yield DecodeCase(f"plateau-{name}-{window}", about, raw, full_frame(8), parameters)
    raw = _people(8)
    for i in range(2, 6):
        raw["center"][i, 7 - i] = 1
    about = "Equal cells on the falling diagonal: each has the one above to the right before it."
    yield DecodeCase("plateau-diagonal", about, raw, full_frame(8), config())
    raw = _people(8)
    raw["center"][2:5, 2:5] = 1
    raw["center"][3, 3] = 1 + 2.0**-20
    about = "A cell that is higher by less than a rounding of its score: after the sigmoid a tie."
    yield DecodeCase("plateau-after-sigmoid", about, raw, full_frame(8), config())
    raw = _people(6)
    raw["center"][1, 1], raw["center"][4, 4] = 30, 50
    about = "Two saturated logits: both scores are 1, raster order decides."
    yield DecodeCase("centre-saturated", about, raw, full_frame(6), config())
    raw = _people(6)
    raw["center"][2, 2] = 2
    about = "A window of one cell suppresses nothing."
    parameters = config(window=1, threshold=0.0, top_k=5)
    yield DecodeCase("window-one", about, raw, full_frame(6), parameters)
    raw = _people(6)
    raw["center"][0, 0], raw["center"][5, 5] = 2, 1
    about = "A window larger than the head leaves one centre."
    yield DecodeCase("window-huge", about, raw, full_frame(6), config(window=15))


def _top_k() -> Iterator[DecodeCase]:
    def corners(values: tuple[float, ...]) -> dict[str, np.ndarray]:
        raw = _people(8)
        for (y, x), value in zip(((0, 0), (0, 7), (7, 0), (7, 7)), values, strict=True):
            raw["center"][y, x] = value
        return raw

    for k in (1, 2, 3, 4, 5):
        about = f"Four centres of different scores, top_k {k}: exactly the best {min(k, 4)} stay."
        raw = corners((0.5, 2, 1, 3))
        yield DecodeCase(f"top-k-{k}-of-4", about, raw, full_frame(8), config(top_k=k))
    for k in (1, 2, 3):
        about = f"Four centres that tie, top_k {k}: the first {k} in raster order stay."
        raw = corners((1, 1, 1, 1))
        yield DecodeCase(f"top-k-{k}-of-4-tied", about, raw, full_frame(8), config(top_k=k))
    about = "The K-th place is shared by two: the earlier cell stays, none is lost."
    raw = corners((1, 3, 2, 1))
    yield DecodeCase("top-k-shared-last", about, raw, full_frame(8), config(top_k=3))


def _thresholds() -> Iterator[DecodeCase]:
    raw = _people(4)
    about = "No cell reaches the threshold: things are void."
    yield DecodeCase("no-centre", about, raw, full_frame(4), config())
    raw = _people(4)
    raw["semantic"][2:, :, ROAD] = 9
    about = "No centre: things are void, stuff stays."
    yield DecodeCase("no-centre-stuff", about, raw, full_frame(4), config())
    raw = _people(4)
    raw["center"][1, 2] = 0
    about = "A score equal to the threshold counts."
    yield DecodeCase("threshold-met", about, raw, full_frame(4), config(threshold=0.5))
    raw = _people(4)
    raw["center"][1, 2] = -(2.0**-20)
    about = "A score just below the threshold does not."
    yield DecodeCase("threshold-missed", about, raw, full_frame(4), config(threshold=0.5))
    raw = _people(4)
    raw["center"][:] = noise(90, (4, 4, 1))
    about = "Threshold 0: every local maximum counts."
    yield DecodeCase("threshold-zero", about, raw, full_frame(4), config(threshold=0.0))
    raw = _people(4)
    raw["center"][0, 0], raw["center"][3, 3] = 40, 10
    about = "Threshold 1: only a score that rounds to 1."
    yield DecodeCase("threshold-one", about, raw, full_frame(4), config(threshold=1.0))


def _votes() -> Iterator[DecodeCase]:
    raw = _people(5)
    raw["center"][2, 0], raw["center"][2, 4] = 1, 2
    about = "The middle column is as far from both centres: the better one."
    yield DecodeCase("vote-tie", about, raw, full_frame(5), config())
    raw = _people(5)
    for y, x in ((0, 0), (0, 4), (4, 0), (4, 4)):
        raw["center"][y, x] = 1
    about = "Four centres of equal score and distance: the first in raster order."
    yield DecodeCase("vote-tie-four", about, raw, full_frame(5), config())
    raw = _people(5)
    raw["center"][2, 0], raw["center"][2, 4] = 2, 1
    raw["offset"][2, 0] = 0, 20
    raw["offset"][4, 4] = -1000, -1000
    about = "Offsets are (dy, dx) in input pixels; one points across, one far out of the frame."
    yield DecodeCase("vote-offset", about, raw, full_frame(5), config())
    raw = _people(4)
    raw["center"][0, 3], raw["center"][3, 0] = 1, 2
    raw["offset"][:2] = 2.0**100
    about = "Distances overflow to infinity, which ties: the best centre."
    yield DecodeCase("vote-overflow", about, raw, full_frame(4), config())
    raw = heads(6)
    raw["semantic"][..., SKY] = 2
    raw["semantic"][:, :2, PERSON] = 5
    raw["center"][2, 0], raw["center"][2, 5] = 1, 3
    about = "The best centre gets no vote: it is no segment, and ids stay dense."
    yield DecodeCase("centre-without-votes", about, raw, full_frame(6), config())
    raw = heads(6)
    raw["semantic"][..., SKY] = 2
    raw["center"][2, 2] = 3
    about = "A centre, but no thing pixel."
    yield DecodeCase("centre-on-stuff", about, raw, full_frame(6), config())


def _areas() -> Iterator[DecodeCase]:
    def scene() -> dict[str, np.ndarray]:
        raw = heads(6)
        raw["semantic"][..., ROAD] = 1
        raw["semantic"][:1, :, SKY] = 5  # 6 cells
        raw["semantic"][4:, :2, PERSON] = 5  # 4 cells
        raw["center"][4, 0] = 2
        return raw

    for least in (4, 5):
        about = f"A person of 4 cells, least area {least}."
        parameters = config(min_thing_area=least)
        yield DecodeCase(f"min-thing-area-{least}", about, scene(), full_frame(6), parameters)
    for least in (6, 7):
        about = f"Sky of 6 cells, least area {least}; ids of stuff go by category id."
        parameters = config(min_stuff_area=least)
        yield DecodeCase(f"min-stuff-area-{least}", about, scene(), full_frame(6), parameters)
    for score in (0.8, 0.9):  # the centre's 0.88 times its pixels' mean probability of 0.97
        about = f"A person of score 0.85, least score {score}."
        parameters = config(min_thing_score=score)
        yield DecodeCase(f"min-thing-score-{score}", about, scene(), full_frame(6), parameters)
    about = "Everything is too small."
    parameters = config(min_thing_area=99, min_stuff_area=99)
    yield DecodeCase("all-too-small", about, scene(), full_frame(6), parameters)
    raw = {k: v[..., :2] for k, v in scene().items()}
    raw["semantic"] = scene()["semantic"][..., [SKY, ROAD]]
    about = "A taxonomy without things: centres mean nothing."
    yield DecodeCase("only-stuff", about, raw, full_frame(6), config(), ONLY_STUFF)
    raw = scene() | {"semantic": scene()["semantic"][..., [PERSON, DOG]]}
    about = "A taxonomy without stuff."
    yield DecodeCase("only-things", about, raw, full_frame(6), config(), ONLY_THINGS)
